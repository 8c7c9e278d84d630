//! The mempool over a restart: read in the background once the chain is open, written when the node stops.

use crate::{Clock, Node};
use cairn_mempool::{ImportOptions, Imported, Mempool, PersistError, set_aside};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Core's name of the file, in the network's directory.
const FILE: &str = "mempool.dat";

/// The file, and the thread that reads it at the start.
pub(crate) struct Persistence {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    loader: Mutex<Option<JoinHandle<()>>>,
}

impl Persistence {
    /// Begins to read what the last run left, if that is wanted and there is anything.
    pub(crate) fn start(dir: &Path, mempool: &Arc<Mempool>) -> Self {
        let path = dir.join(FILE);
        let stop = Arc::new(AtomicBool::new(false));
        let mut loader = None;
        if mempool.config().persist && path.exists() {
            let (mempool, path, stop) = (mempool.clone(), path.clone(), stop.clone());
            let read = move || read(&mempool, &path, &stop);
            match std::thread::Builder::new().name("mempool-load".into()).spawn(read) {
                Ok(thread) => loader = Some(thread),
                // The file stays, and is not written over: the mempool does not count as loaded.
                Err(error) => {
                    tracing::warn!(%error, "the thread that reads the mempool did not start: restart the node")
                }
            }
        } else {
            mempool.set_loaded();
        }
        Self { path, stop, loader: Mutex::new(loader) }
    }

    /// Ends reading, and writes the mempool if that is wanted and all of the last file was read.
    pub(crate) fn stop(&self, mempool: &Mempool) {
        self.end_reading();
        if mempool.config().persist
            && mempool.is_loaded()
            && let Err(error) = mempool.dump(&self.path)
        {
            tracing::warn!(%error, "the mempool was not saved");
        }
    }

    fn end_reading(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.loader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Persistence {
    fn drop(&mut self) {
        // Whoever opens the directory next finds nobody in it.
        self.end_reading();
    }
}

fn read(mempool: &Mempool, path: &Path, stop: &AtomicBool) {
    let stopped = || stop.load(Ordering::Relaxed);
    match mempool.load(path, ImportOptions::RESTART, u64::from(Clock::default().unix_time()), &stopped) {
        Ok(imported) => tracing::info!(?imported, "read the mempool"),
        Err(PersistError::Interrupted) => return,
        Err(error @ PersistError::Damaged { .. }) => match set_aside(path) {
            Ok(kept) => tracing::warn!(
                %error,
                kept = %kept.display(),
                "the mempool file is damaged: what could be read of it is in use; look at the copy or delete it"
            ),
            Err(failure) => tracing::warn!(%error, %failure, "the mempool file is damaged: move it away"),
        },
        Err(error) => tracing::warn!(%error, "the mempool file was not read: it will be written over"),
    }
    mempool.set_loaded();
}

impl Node {
    /// Writes the mempool to its file, durably; gives the file.
    ///
    /// # Errors
    /// The file system refused.
    pub fn save_mempool(&self) -> Result<&Path, PersistError> {
        self.mempool.dump(&self.persistence.path)?;
        Ok(&self.persistence.path)
    }

    /// Takes what may come of the transactions in a file that somebody made.
    ///
    /// # Errors
    /// There is no such file, it is damaged, or the node stops. What was read before stays.
    pub fn import_mempool(&self, path: &Path, options: ImportOptions) -> Result<Imported, PersistError> {
        self.mempool.load(path, options, u64::from(self.now()), &|| self.stopping.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeConfig;
    use bitcoin::consensus::encode::deserialize;
    use bitcoin::hashes::{Hash as _, sha256};
    use bitcoin::script::Builder;
    use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WScriptHash, Witness};

    /// Pay-to-witness-script-hash of `OP_TRUE`.
    fn script() -> ScriptBuf {
        ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(sha256::Hash::hash(&[0x51]).to_byte_array()))
    }

    fn open(dir: &Path, persist: bool) -> Arc<Node> {
        let mut config = NodeConfig { coin_cache_bytes: 1 << 20, ..NodeConfig::new(dir.to_owned(), Network::Regtest) };
        config.mempool.persist = persist;
        Node::open(config).unwrap()
    }

    /// Waits for the thread that reads, which ends by itself.
    fn loaded(node: &Node) {
        while !node.mempool.is_loaded() {
            std::thread::yield_now();
        }
    }

    /// A transaction in the mempool of a node that has mined for it.
    fn send(node: &Node) -> Transaction {
        let hash = node.generate(101, &script(), &mut |_| {}).unwrap()[0];
        let reward = node.chain.block(&hash).unwrap().unwrap().txdata[0].clone();
        let tx = Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::new(reward.compute_txid(), 0),
                script_sig: Builder::new().into_script(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[[0x51]]),
            }],
            output: vec![TxOut { value: reward.output[0].value - Amount::from_sat(1000), script_pubkey: script() }],
        };
        node.submit_transaction(tx.clone()).unwrap();
        tx
    }

    #[test]
    fn a_restart_keeps_the_mempool() {
        let dir = tempfile::tempdir().unwrap();
        let node = open(dir.path(), true);
        assert!(node.mempool.is_loaded(), "there was nothing to read");
        let txid = send(&node).compute_txid();
        node.mempool.prioritise(txid, 3).unwrap();
        let entry = node.mempool.get(&txid).unwrap();
        node.stop().unwrap();
        drop(node);

        let node = open(dir.path(), true);
        loaded(&node);
        let again = node.mempool.get(&txid).unwrap();
        assert_eq!((again.time, again.modified_fee, again.unbroadcast), (entry.time, 1003, true));
        drop(node);

        let node = open(dir.path(), false);
        assert!(node.mempool.is_loaded() && node.mempool.get(&txid).is_none(), "not wanted, not read");
        node.stop().unwrap();
        drop(node);
        let node = open(dir.path(), true);
        loaded(&node);
        assert!(node.mempool.get(&txid).is_some(), "not wanted, not written over");
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_node_starts_with_what_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let node = open(dir.path(), true);
        let txid = send(&node).compute_txid();
        node.stop().unwrap();
        drop(node);
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(deserialize::<u64>(&bytes[..8]).unwrap(), 2, "the version");
        bytes.pop();
        std::fs::write(&path, &bytes).unwrap();

        let node = open(dir.path(), true);
        loaded(&node);
        assert!(node.mempool.get(&txid).is_some());
        assert!(!path.exists());
        assert_eq!(std::fs::read(dir.path().join("mempool.dat.bak")).unwrap(), bytes);
        node.stop().unwrap();
        assert!(path.exists());
    }
}
