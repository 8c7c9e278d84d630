//! Hashes over processes that share a database: two of the API, three workers of which one is killed and one is paused for
//! longer than its lease. Every task that was accepted is completed, and what was seen of it stays.

use crate::harness::{Cairn, PATIENCE, Server, eventually, get, get_json, post, signal, spawn};
use cairn_store::leases::LEASE_TIME;
use cairn_store::testing::PostgresServer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Clients at once.
const CLIENTS: usize = 8;

/// The processes of a test over one database.
struct Fleet<'a> {
    data: &'a Path,
    database: Option<String>,
}

impl Fleet<'_> {
    fn start(&self, role: &[&str], listen: &str) -> (Server, Cairn) {
        let server = Server::new(self.data);
        let address = format!("{}:{}", server.host, server.http);
        let mut command = server.command(role);
        command.args([listen, &address]);
        if let Some(url) = &self.database {
            command.env("DATABASE_URL", url);
        }
        let running = server.ready(spawn(command));
        (server, running)
    }

    fn api(&self) -> (Server, Cairn) {
        self.start(&["api"], "--http")
    }

    fn worker(&self) -> (Server, Cairn) {
        self.start(&["worker", "--concurrency", "2", "--drain", "5"], "--metrics")
    }
}

/// Asks for the hash of a number; the task's id, or none where it was not accepted.
fn submit(server: &Server, number: usize) -> Option<String> {
    // Every other one takes a while, so that workers hold some whenever they are killed.
    let (algorithm, body) = match number % 2 {
        0 => ("sha256", json!({"string": number.to_string()})),
        _ => {
            let parameters = json!({"memory_kib": 8192, "iterations": 2, "salt": "c29tZXNhbHQ="});
            ("argon2id", json!({"string": number.to_string(), "parameters": parameters}))
        }
    };
    let (status, answer) =
        post(&server.url(&format!("/hash/{algorithm}")), "application/json", body.to_string().as_bytes());
    if status == 0 || status == 503 {
        return None;
    }
    assert!(status == 202 || status == 200, "{status} {}", String::from_utf8_lossy(&answer));
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    Some(answer["task_id"].as_str().expect("an id").to_owned())
}

fn nothing_accepted_is_lost(database: Option<String>) {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet { data: &dir.path().join("data"), database };
    let (first, second) = (fleet.api(), fleet.api());
    let workers = [fleet.worker(), fleet.worker(), fleet.worker()];
    let accepted: Mutex<HashMap<usize, String>> = Mutex::default();
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (accepted, stop) = (&accepted, &stop);
            let apis = [&first.0, &second.0];
            scope.spawn(move || {
                for number in (client..).step_by(CLIENTS) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Some(id) = submit(apis[number / CLIENTS % 2], number) {
                        accepted.lock().unwrap().insert(number, id);
                    }
                    std::thread::sleep(Duration::from_millis(40));
                }
            });
        }
        let at_least = |count: usize| {
            eventually("tasks come in", || (accepted.lock().unwrap().len() >= count).then_some(()));
        };
        at_least(50);
        let [killed, paused, _lives] = workers;
        killed.1.kill();
        signal(paused.1.pid(), "STOP");
        // For longer than its lease. Where it was stopped in a transaction of SQLite's, nobody writes meanwhile.
        std::thread::sleep(LEASE_TIME + Duration::from_secs(2));
        signal(paused.1.pid(), "CONT");
        at_least(250);
        stop.store(true, Ordering::Relaxed);
        let accepted = || accepted.lock().unwrap().clone();
        let mut seen = HashMap::new();
        for (number, id) in accepted() {
            let task = eventually("the task is done", || {
                let task = get_json(&second.0.url(&format!("/task/{id}?wait=20")));
                (task["status"] == "completed").then_some(task)
            });
            if number % 2 == 0 {
                let expected: String =
                    Sha256::digest(number.to_string()).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(task["result"]["hash"], expected);
            }
            seen.insert(id, task);
        }
        assert_eq!(paused.1.terminate(), Some(0));
        for (id, task) in &seen {
            assert_eq!(get_json(&first.0.url(&format!("/task/{id}"))), *task, "what is done stays as it was seen");
        }
        assert!(started.elapsed() < PATIENCE * 2);
    });
    for status in ["queued", "running", "failed", "discarded"] {
        let page = get_json(&first.0.url(&format!("/hashes?status={status}")));
        assert_eq!(page["items"], json!([]), "{status}");
    }
    assert_eq!(second.1.terminate(), Some(0));
}

#[test]
fn nothing_accepted_is_lost_on_sqlite() {
    nothing_accepted_is_lost(None);
}

#[test]
fn nothing_accepted_is_lost_on_postgres() {
    let Some(server) = PostgresServer::start() else { return };
    nothing_accepted_is_lost(Some(server.database()));
}

/// A worker that is told to stop ends what it can and gives back the rest; another one goes on at once.
#[test]
fn a_worker_that_stops_hands_over() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet { data: &dir.path().join("data"), database: None };
    let api = fleet.api();
    let ids: Vec<String> = (0..40).map(|number| submit(&api.0, number).expect("it answers")).collect();
    let worker = fleet.worker();
    eventually("it works", || {
        let (_, body) = get(&worker.0.url("/metrics"));
        String::from_utf8_lossy(&body).contains("outcome=\"completed\"").then_some(())
    });
    assert_eq!(worker.1.terminate(), Some(0));
    let statuses = get_json(&api.0.url("/hashes?limit=100"));
    let running = statuses["items"].as_array().unwrap().iter().filter(|task| task["status"] == "running").count();
    assert_eq!(running, 0, "{statuses}");
    let _second = fleet.worker();
    for id in ids {
        let task = get_json(&api.0.url(&format!("/task/{id}?wait=30")));
        assert_eq!((&task["status"], &task["attempts"]), (&json!("completed"), &json!(1)), "{task}");
    }
}
