//! What `benches/queue.py` measures: tasks that do nothing, into a queue and out of it.
//!
//! `queue URL enqueue COUNT` puts tasks into the queue and prints the seconds that took.
//! `queue URL work [COUNT [MILLISECONDS]]` works until nothing is queued, or until it has done so many; each task takes so long.

use cairn_jobs::{Jobs, NewTask, Worker};
use cairn_store::{Store, StoreOptions};
use serde_json::json;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const QUEUE: &str = "benchmark";
/// Tasks at once where each only waits, as many as graphile-worker is told to run.
const WAITING: usize = 24;
const BATCH: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, otherwise: u64| arguments.get(at).map_or(Ok(otherwise), |text| text.parse());
    let (Some(url), Some(verb)) = (arguments.first(), arguments.get(1)) else {
        return Err("usage: queue URL enqueue COUNT | queue URL work [COUNT [MILLISECONDS]]".into());
    };
    let jobs = Jobs::new(Store::open(url, &StoreOptions::default()).await?);
    match verb.as_str() {
        "enqueue" => enqueue(&jobs, number(2, 0)?).await,
        "work" => work(&jobs, number(2, u64::MAX)?, Duration::from_millis(number(3, 0)?)).await,
        other => Err(format!("{other:?} is neither enqueue nor work").into()),
    }
}

async fn enqueue(jobs: &Jobs, count: u64) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    for first in (0..count).step_by(BATCH as usize) {
        let batch = (first..count.min(first + BATCH)).map(|id| NewTask::new(QUEUE, "nothing", json!({"id": id})));
        jobs.enqueue_all(batch.collect()).await?;
    }
    println!("{}", began.elapsed().as_secs_f64());
    Ok(())
}

async fn work(jobs: &Jobs, count: u64, pause: Duration) -> Result<(), Box<dyn Error>> {
    let done = Arc::new(AtomicU64::new(0));
    let counted = done.clone();
    let worker = Worker::new(jobs.clone());
    let worker = if pause.is_zero() {
        let cores = std::thread::available_parallelism()?.get();
        worker.queue(QUEUE, cores).cpu("nothing", move |claimed| {
            if claimed.payload["id"] == 999 {
                println!("found 999");
            }
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(json!(true).into())
        })
    } else {
        worker.queue(QUEUE, WAITING).io("nothing", move |_, _| {
            let counted = counted.clone();
            async move {
                tokio::time::sleep(pause).await;
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(json!(true).into())
            }
        })
    };
    let worker = worker.start();
    let mut before = 0;
    loop {
        let now = done.load(Ordering::Relaxed);
        // The database is asked only when nothing happens here.
        if now >= count || (now == before && jobs.store().next_due(QUEUE).await?.is_none()) {
            break;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What is claimed is done to its end, unless there was a bound.
    worker.stop(if count == u64::MAX { PATIENCE } else { Duration::ZERO }).await;
    Ok(())
}
