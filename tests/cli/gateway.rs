//! `cairn gateway`: in front of API processes, as an operator starts, reloads and stops it.

use crate::harness::{Cairn, Server, agent, eventually, get, get_json, send, signal, spawn};
use std::path::Path;
use std::process::Command;

/// A gateway on the HTTP port of `server`, ready to be started.
fn command(server: &Server, more: &[&str]) -> Command {
    let address = format!("127.0.0.1:{}", server.http);
    let mut command = server.command(&["gateway", "--http", &address]);
    command.args(more);
    command
}

/// A gateway that answers.
fn gateway(server: &Server, more: &[&str]) -> Cairn {
    server.answering(spawn(command(server, more)), "/lb/health/live")
}

/// An API process on the data directory of `server`, ready.
fn api(server: &Server) -> (Server, Cairn) {
    let process = Server::new(&server.data);
    let mut command = process.command(&["api", "--http", &format!("127.0.0.1:{}", process.http)]);
    command.env("CAIRN_WORKER__CONCURRENCY", "0");
    let running = process.ready(spawn(command));
    (process, running)
}

fn address(process: &Server) -> String {
    format!("127.0.0.1:{}", process.http)
}

/// The states of all backends, by address.
fn states(server: &Server) -> Vec<(String, String)> {
    let stats = get_json(&server.url("/lb/stats"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let backends = stats["backends"].as_array().unwrap();
    backends.iter().map(|backend| (text(&backend["address"]), text(&backend["state"]))).collect()
}

#[test]
fn requests_are_balanced_over_api_processes_that_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let ((one, running_one), (two, running_two)) = (api(&server), api(&server));
    let front = Server::new(&server.data);
    let running =
        gateway(&front, &["--backend", &address(&one), "--backend", &address(&two), "--strategy", "least_connections"]);
    assert_eq!(get_json(&front.url("/lb/health"))["healthy"], 2);
    assert_eq!(get_json(&front.url("/lb/stats"))["strategy"], "least_connections");
    for _ in 0..20 {
        assert_eq!(get(&front.url("/api/health/ready")).0, 200);
    }
    running_one.kill();
    for _ in 0..20 {
        assert_eq!(get(&front.url("/api/health/ready")).0, 200, "the other one answers");
    }
    eventually("it is seen to be gone", || states(&front).contains(&(address(&one), "down".into())).then_some(()));
    assert_eq!(running_two.terminate(), Some(0));
    eventually("nobody is left", || (get(&front.url("/lb/health")).0 == 503).then_some(()));
    let (status, body) = get(&front.url("/hashes"));
    assert_eq!(status, 503);
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("the connection was refused") && body.contains(&address(&two)), "{body}");
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn the_file_is_read_anew_on_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let ((one, _one), (two, _two)) = (api(&server), api(&server));
    let front = Server::new(&server.data);
    let file = dir.path().join("gateway.toml");
    let backends =
        |list: &[String], more: &str| std::fs::write(&file, format!("[gateway]\nbackends = {list:?}\n{more}")).unwrap();
    backends(&[address(&one)], "");
    let running = gateway(&front, &["--config", file.to_str().unwrap()]);
    assert_eq!(states(&front), [(address(&one), "up".into())]);
    backends(&[address(&two)], "");
    signal(running.pid(), "HUP");
    eventually("the other one is up, and the first is forgotten", || {
        states(&front).iter().map(|(address, _)| address.clone()).eq([address(&two)]).then_some(())
    });
    backends(&[address(&one)], "no_such_key = 1\n");
    signal(running.pid(), "HUP");
    assert_eq!(get(&front.url("/api/health/live")).0, 200, "a mistake changes nothing");
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn the_strategy_is_switched_with_the_admins_key_for_all_gateways_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let (one, _api) = api(&server);
    let (front, other) = (Server::new(&server.data), Server::new(&server.data));
    let _running = gateway(&front, &["--backend", &address(&one)]);
    let _other = gateway(&other, &["--backend", &address(&one)]);
    let key = std::fs::read_to_string(server.data.join("keys/admin")).unwrap();
    let switch = |key: &str| {
        let request = agent().post(front.url("/lb/strategy")).header("X-API-Key", key);
        send(request.send(r#"{"strategy":"power_of_two"}"#)).0
    };
    assert_eq!(switch("guessed"), 401);
    eventually("they share the database", || {
        (get_json(&front.url("/lb/stats"))["strategy_shared"] == true).then_some(())
    });
    assert_eq!(switch(key.trim()), 200);
    eventually("the other follows", || (get_json(&other.url("/lb/stats"))["strategy"] == "power_of_two").then_some(()));
}

#[test]
fn wrong_settings_end_with_one_sentence_and_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(&dir.path().join("data"));
    let ended = |more: &[&str], environment: &[(&str, &str)]| {
        let output = command(&server, more).envs(environment.iter().copied()).output().expect("the program starts");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, message) = ended(&[], &[]);
    assert!(code == Some(2) && message.contains("no backends") && message.contains("--backend"), "{message}");
    assert_eq!(ended(&["--backend", "nowhere"], &[]).0, Some(2));
    assert_eq!(ended(&["--backend", "a:1", "--strategy", "random"], &[]).0, Some(2));
    let (code, message) = ended(&["--backend", "a:1"], &[("LB_STRATEGY", "random")]);
    assert!(code == Some(2) && message.contains("random"), "{message}");
    let missing = Path::new("/nowhere/cert.pem").display().to_string();
    let tls = [
        ("CAIRN_GATEWAY__TLS_LISTEN", "127.0.0.1:0"),
        ("CAIRN_GATEWAY__TLS_CERTIFICATE", &missing),
        ("CAIRN_GATEWAY__TLS_KEY", &missing),
    ];
    let (code, message) = ended(&["--backend", "127.0.0.1:1"], &tls);
    assert!(code == Some(1) && message.contains(&missing) && message.contains("gateway.tls_certificate"), "{message}");
}
