//! Digests a second that become durable: `cargo bench -p cairn-stamp --bench journal -- [MILLIONS] [DIRECTORY]`.
//!
//! Beside it, a bare loop of write and fsync of the same bytes in the same directory: what the disk itself allows.

use cairn_stamp::{Calendar, CalendarConfig, Digests};
use cairn_store::{Store, StoreOptions};
use std::{
    io::Write as _,
    time::{Duration, Instant},
};

const TASKS: usize = 64;
const SECONDS: u64 = 5;
const IN_REQUEST: usize = 65_536;

fn digest(number: u64) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(number.to_le_bytes()).into()
}

fn bare(directory: &std::path::Path, bytes: usize) -> f64 {
    let mut file = std::fs::File::create(directory.join("bare")).expect("creates a file");
    let data = vec![7u8; bytes];
    let start = Instant::now();
    let mut writes = 0u32;
    while start.elapsed() < Duration::from_secs(2) {
        file.write_all(&data).and_then(|()| file.sync_data()).expect("writes");
        writes += 1;
    }
    f64::from(writes) / start.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let millions: u64 = arguments.next().map_or(10, |text| text.parse().expect("millions of digests, a number"));
    let directory = match arguments.next() {
        Some(path) => tempfile::tempdir_in(path),
        None => tempfile::tempdir(),
    }
    .expect("a directory");
    let url = format!("sqlite://{}", directory.path().join("bench.db").display());
    let store = Store::open(&url, &StoreOptions::default()).await.expect("opens");
    let config = CalendarConfig { uri: "http://127.0.0.1:8080".into(), confirmations: 1 };
    let calendar = Calendar::start(store, config).await.expect("starts");

    println!(
        "{} cores, SQLite in {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        directory.path().display()
    );
    println!("bare write and fsync of {} bytes: {:.0}/s", TASKS * 32, bare(directory.path(), TASKS * 32));
    println!("bare write and fsync of {} bytes: {:.0}/s", IN_REQUEST * 32, bare(directory.path(), IN_REQUEST * 32));

    let until = Instant::now() + Duration::from_secs(SECONDS);
    let tasks: Vec<_> = (0..TASKS as u64)
        .map(|task| {
            let calendar = calendar.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < until {
                    let start = Instant::now();
                    calendar.submit(&digest(task << 40 | times.len() as u64)).await.expect("accepted");
                    times.push(start.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("ends"));
    }
    times.sort_unstable();
    println!(
        "single submits of {TASKS} tasks: {:.0}/s, p50 {:?}, p99 {:?}",
        times.len() as f64 / SECONDS as f64,
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );

    let start = Instant::now();
    let total = millions * 1_000_000;
    let mut sent = 0;
    let mut making = Duration::ZERO;
    while sent < total {
        let make = Instant::now();
        let mut digests = Digests::new();
        for number in sent..(sent + IN_REQUEST as u64).min(total) {
            digests.push(&digest(1 << 60 | number));
        }
        making += make.elapsed();
        sent += calendar.submit_bulk(digests).await.expect("accepted").count as u64;
    }
    let took = start.elapsed() - making;
    println!(
        "bulk: {sent} digests in {took:.1?}: {:.0}/s (without the {making:.1?} of making them)",
        sent as f64 / took.as_secs_f64()
    );
    let lookup = Instant::now();
    for number in 0..100 {
        let status = calendar.status(&digest(1 << 60 | (number * total / 100))).await.expect("looks up");
        assert!(status.is_some(), "digest {number} is found");
    }
    println!("look-up by digest among {sent}: {:.2?}", lookup.elapsed() / 100);
    calendar.stop().await;
}
