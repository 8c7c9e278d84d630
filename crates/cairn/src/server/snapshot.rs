//! Beginning with a snapshot of the coins that the command line names.

use cairn_node::Node;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Waits for the snapshot's header and loads it, beside all else.
pub(super) fn begin(node: &Arc<Node>, source: String, stop: CancellationToken) {
    node.await_snapshot();
    let node = node.clone();
    tokio::task::spawn_blocking(move || {
        let go_on = || !stop.is_cancelled();
        match node.start_from_snapshot(&|| open(&source), &go_on) {
            Ok(Some(height)) => {
                eprintln!("began with the snapshot at height {height}; the blocks below it are validated meanwhile")
            }
            Ok(None) => tracing::info!(source, "the chain is beyond the snapshot already"),
            Err(_) if !go_on() => {}
            Err(error) => eprintln!("cairn: {source}: {error}; going on without it, from the first block"),
        }
    });
}

/// Begins to read a file, or what a URL answers.
fn open(source: &str) -> io::Result<Box<dyn Read>> {
    if source.starts_with("http://") || source.starts_with("https://") {
        let response = ureq::get(source).call().map_err(io::Error::other)?;
        return Ok(Box::new(BufReader::new(response.into_body().into_reader())));
    }
    Ok(Box::new(BufReader::new(File::open(source)?)))
}
