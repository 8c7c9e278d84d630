//! JSON-RPC's answers beside Bitcoin Core's: every field that one has, the other has, of the same type.

use crate::bitcoin_core::Core;
use crate::harness::eventually;
use crate::nodes::Node;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Types by path. What is named by message, and lists' items beyond the first, do not count.
fn shape(value: &Value, path: &str, out: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            if let Some(first) = items.first() {
                shape(first, &format!("{path}[]"), out);
            }
            "array"
        }
        Value::Object(fields) => {
            for (name, field) in fields.iter().filter(|_| !path.ends_with("_per_msg")) {
                shape(field, &format!("{path}.{name}"), out);
            }
            "object"
        }
    };
    out.insert(path.to_owned(), kind);
}

#[test]
fn answers_about_the_network_have_cores_fields() {
    let Some(core) = Core::start(&[]) else { return };
    let (ours, third) = (Node::connected(&[&core]), Node::start(&[]));
    // Core has an outbound peer of its own, as we have.
    core.add_node(&third);
    for node in [&*core, &*ours] {
        eventually("peers that were pinged", || {
            let peers = node.peers();
            let pinged = peers.iter().all(|peer| peer["pingtime"].is_number());
            (!peers.is_empty() && pinged && peers.iter().any(|peer| peer["inbound"] == false)).then_some(())
        });
    }
    let outbound = |node: &crate::harness::Server| {
        let mut peer = node.peers().into_iter().find(|peer| peer["inbound"] == false).expect("an outbound peer");
        // Where a peer sees us it may leave out, and a ping may just be on its way.
        let fields = peer.as_object_mut().expect("an object");
        fields.remove("addrlocal");
        fields.remove("pingwait");
        peer
    };
    compare("getpeerinfo", &outbound(&core), &outbound(&ours));
    for (method, params) in [
        ("getnetworkinfo", json!([])),
        ("getnettotals", json!([])),
        ("getaddrmaninfo", json!([])),
        ("getconnectioncount", json!([])),
    ] {
        let (mut cores, ours) = (core.rpc(method, params.clone()), ours.rpc(method, params));
        // A build that is no release warns.
        if cores.get("warnings").is_some() {
            cores["warnings"] = json!([]);
        }
        compare(method, &cores, &ours);
    }
    compare("getaddednodeinfo", &core.rpc("getaddednodeinfo", json!([])), &ours.rpc("getaddednodeinfo", json!([])));
    for node in [&*core, &*ours] {
        node.rpc("setban", json!(["10.0.0.0/8", "add", 500]));
        node.rpc("addpeeraddress", json!(["1.2.3.4", 8333]));
    }
    compare("listbanned", &core.rpc("listbanned", json!([])), &ours.rpc("listbanned", json!([])));
    compare("getnodeaddresses", &core.rpc("getnodeaddresses", json!([])), &ours.rpc("getnodeaddresses", json!([])));
}

#[track_caller]
fn compare(method: &str, cores: &Value, ours: &Value) {
    let shapes = [cores, ours].map(|value| {
        let mut out = BTreeMap::new();
        shape(value, "", &mut out);
        out
    });
    assert_eq!(shapes[0], shapes[1], "{method}: Core's on the left");
}
