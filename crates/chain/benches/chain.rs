//! Times the chain on regtest blocks: `cargo bench -p cairn-chain --bench chain`.
//!
//! It prints how fast blocks without transactions connect, durable and not, how long a directory takes to open, and
//! what the process weighs then.

use cairn_chain::testing::{self, NOW, branch};
use std::time::Instant;

/// Blocks connected.
const BLOCKS: u32 = 2_000;
/// Headers of the large index.
const HEADERS: u32 = 100_000;

type Failure = Box<dyn std::error::Error>;

/// Resident KiB and threads of this process.
fn weight() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("VmRSS:") || line.starts_with("Threads:"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
}

fn main() -> Result<(), Failure> {
    println!("bare process: {}", weight());
    let dir = tempfile::tempdir()?;
    let start = Instant::now();
    let chain = testing::open(dir.path())?;
    println!("new directory: {:.1} ms; {}", start.elapsed().as_secs_f64() * 1e3, weight());
    drop(chain);
    let start = Instant::now();
    let chain = testing::open(dir.path())?;
    println!("existing directory: {:.1} ms; {}", start.elapsed().as_secs_f64() * 1e3, weight());

    let genesis = chain.tip().header;
    let blocks = branch(&genesis, 0, BLOCKS * 2, 0);
    for (durable, blocks) in [false, true].into_iter().zip(blocks.chunks(BLOCKS as usize)) {
        let start = Instant::now();
        for block in blocks {
            chain.process_block(block.clone(), NOW, durable)?;
        }
        let time = start.elapsed().as_secs_f64();
        println!(
            "{BLOCKS} empty blocks, durable {durable}: {:.0} ms, {:.0} µs each",
            time * 1e3,
            time * 1e6 / f64::from(BLOCKS)
        );
    }
    drop(chain);
    let start = Instant::now();
    let chain = testing::open(dir.path())?;
    println!("{} blocks: opened in {:.1} ms; {}", BLOCKS * 2, start.elapsed().as_secs_f64() * 1e3, weight());
    drop(chain);

    let dir = tempfile::tempdir()?;
    let chain = testing::open(dir.path())?;
    let mut headers = Vec::new();
    let like = blocks[0].header;
    let mut previous = genesis;
    for _ in 0..HEADERS {
        let mut header =
            bitcoin::block::Header { prev_blockhash: previous.block_hash(), time: previous.time + 1, ..like };
        testing::mine(&mut header);
        headers.push(header);
        previous = header;
    }
    let start = Instant::now();
    for headers in headers.chunks(2_000) {
        chain.process_headers(headers, NOW)?;
    }
    println!("{HEADERS} headers: taken in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    chain.flush()?;
    drop(chain);
    let start = Instant::now();
    let chain = testing::open(dir.path())?;
    println!("{HEADERS} headers: opened in {:.1} ms; {}", start.elapsed().as_secs_f64() * 1e3, weight());
    drop(chain);
    Ok(())
}
