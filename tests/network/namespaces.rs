//! Thirty nodes in network namespaces of their own: a line of them, cut in two and healed, and one that is away for long.
//!
//! Needs root and `ip`. Where the kernel has `netem`, links have latency and lose packets.

use crate::harness::{Cairn, Server, spawn};
use crate::nodes::{has_tip, one_tip};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::process::{Command, Stdio};

/// Nodes in the line.
const NODES: usize = 30;
/// The port that all listen on, each in its own namespace.
const P2P: u16 = 18444;

/// Namespaces, their links and two switches between them; removed when it goes out of scope.
struct Fabric {
    /// Of the names of all that is made.
    prefix: String,
    /// Second byte of the addresses by which the test reaches the nodes.
    net: u8,
    made: Vec<String>,
}

/// Runs `ip` with commands, one a line; what it complained about.
fn ip(commands: &str) -> Result<(), String> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("ip: {error}"))?;
    child.stdin.take().expect("piped").write_all(commands.as_bytes()).map_err(|error| error.to_string())?;
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Runs a program in a namespace; what it complained about.
fn within(namespace: &str, program: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(["netns", "exec", namespace]).args(program).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

impl Fabric {
    /// Switches, and a way from here to the nodes; says why where that is not possible.
    fn new() -> Result<Fabric, String> {
        let id = std::process::id();
        let prefix = format!("cairn{id}");
        let net = 200 + u8::try_from(id % 50).expect("below 50");
        let mut fabric = Fabric { prefix, net, made: Vec::new() };
        let hub = fabric.add_namespace("hub")?;
        let Fabric { prefix, net, .. } = &fabric;
        ip(&format!("link add {prefix} type veth peer name up netns {hub}\naddr add 10.{net}.0.1/16 dev {prefix}\n"))?;
        ip(&format!("link set {prefix} up\n"))?;
        // One switch for the test, and two for the nodes, of which the second is used while they are cut off.
        for switch in ["test", "one", "two"] {
            within(&hub, &["ip", "link", "add", switch, "type", "bridge"])?;
            within(&hub, &["ip", "link", "set", switch, "up"])?;
        }
        within(&hub, &["ip", "link", "set", "up", "master", "test", "up"])?;
        Ok(fabric)
    }

    fn add_namespace(&mut self, name: &str) -> Result<String, String> {
        let name = format!("{}-{name}", self.prefix);
        ip(&format!("netns add {name}\n"))?;
        self.made.push(name.clone());
        Ok(name)
    }

    fn hub(&self) -> &str {
        &self.made[0]
    }

    fn namespace(&self, node: usize) -> &str {
        &self.made[node + 1]
    }

    /// A namespace for the next node, and a server to run in it. Its links have latency and loss where that is possible.
    fn add_node(&mut self, data: &std::path::Path) -> Result<Server, String> {
        let number = self.made.len();
        let namespace = self.add_namespace(&number.to_string())?;
        let (hub, net) = (self.hub().to_owned(), self.net);
        ip(&format!(
            "link add t{number} netns {hub} type veth peer name test netns {namespace}\n\
             link add n{number} netns {hub} type veth peer name net netns {namespace}\n"
        ))?;
        within(&hub, &["ip", "link", "set", &format!("t{number}"), "master", "test", "up"])?;
        within(&hub, &["ip", "link", "set", &format!("n{number}"), "master", "one", "up"])?;
        let (test, peers) = (Ipv4Addr::new(10, net, 1, number as u8), Ipv4Addr::new(10, 99, 0, number as u8));
        for (link, address) in [("test", format!("{test}/16")), ("net", format!("{peers}/24"))] {
            within(&namespace, &["ip", "addr", "add", &address, "dev", link])?;
            within(&namespace, &["ip", "link", "set", link, "up"])?;
        }
        let netem = ["tc", "qdisc", "add", "dev", "net", "root", "netem", "delay", "15ms", "5ms", "loss", "1%"];
        if let Err(error) = within(&namespace, &netem)
            && number == 1
        {
            eprintln!("SKIPPED: latency and loss, since netem is missing: {}", error.trim());
        }
        let server = Server::new(data);
        Ok(Server { http: 8080, rpc: 18443, host: IpAddr::V4(test), p2p: (peers, P2P).into(), ..server })
    }

    /// Starts a node in its namespace, connected with others.
    fn start(&self, number: usize, node: &Server, peers: &[&Server]) -> Cairn {
        let peers: Vec<String> = peers.iter().map(|peer| peer.p2p.to_string()).collect();
        let arguments: Vec<&str> = peers.iter().flat_map(|peer| ["--connect", peer]).collect();
        let plain = node.node_command(&arguments);
        let mut command = Command::new("ip");
        // It becomes the node, so that its process is ours to stop.
        command.args(["netns", "exec", self.namespace(number)]).arg(plain.get_program()).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        node.answering(spawn(command), "/api/health")
    }

    /// Puts nodes on a switch: those on another one cannot be reached, and nobody tells them.
    fn switch(&self, nodes: Range<usize>, switch: &str) {
        for node in nodes {
            within(self.hub(), &["ip", "link", "set", &format!("n{}", node + 1), "master", switch]).expect("a link");
        }
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        for namespace in &self.made {
            let _ = ip(&format!("netns del {namespace}\n"));
        }
        // It goes with its other end, where the hub has it.
        let _ = ip(&format!("link del {}\n", self.prefix));
    }
}

#[test]
fn a_line_of_thirty_nodes_agrees_after_it_was_cut() {
    let mut fabric = match Fabric::new() {
        Ok(fabric) => fabric,
        Err(error) => return eprintln!("SKIPPED: network namespaces are not possible here: {}", error.trim()),
    };
    let dir = tempfile::tempdir().unwrap();
    let data = |number: usize| dir.path().join(number.to_string());
    let nodes: Vec<Server> = (0..NODES).map(|number| fabric.add_node(&data(number)).unwrap()).collect();
    let running: Vec<Cairn> = (0..NODES)
        .map(|number| {
            fabric.start(number, &nodes[number], &nodes[number.saturating_sub(1)..number].iter().collect::<Vec<_>>())
        })
        .collect();
    let all: Vec<&Server> = nodes.iter().collect();
    let (first, last) = (all[0], all[NODES - 1]);

    first.mine(10);
    one_tip("from one end to the other", &all);
    last.mine(1);
    one_tip("and back", &all);

    // Cut in the middle: each half goes on alone.
    let (left, right) = all.split_at(NODES / 2);
    fabric.switch(NODES / 2..NODES, "two");
    left[3].mine_branch(5, 1);
    right[11].mine_branch(8, 2);
    one_tip("the left half", left);
    one_tip("the right half", right);
    assert_ne!(left[0].tip(), right[0].tip());
    fabric.switch(NODES / 2..NODES, "one");
    let next = right[0].mine(1);
    one_tip("healed", &all);
    assert_eq!(first.tip(), next[0], "the longer branch");

    // One is away for longer than a pruned node would keep blocks for it.
    fabric.switch(NODES - 1..NODES, "two");
    first.mine(360);
    one_tip("those that are left", &all[..NODES - 1]);
    assert_eq!(last.tip(), next[0]);
    fabric.switch(NODES - 1..NODES, "one");
    let newest = first.mine(1);
    has_tip(last, &newest[0]);
    one_tip("all of them", &all);
    drop(running);
}
