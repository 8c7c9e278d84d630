//! Opening a directory: new, cleanly closed, or left by a process that was killed at any instant.
//!
//! The block files are the journal. The database holds the block index and the coins as of its last batch; whatever
//! the files hold beyond that is taken in again, torn records at their end are cut, and the best chain is activated from
//! the block that the coins belong to. That block may be on a branch that lost meanwhile: undo data leads back from it.

use crate::activate::best_header;
use crate::chain::{Chain, View};
use crate::coins::CoinCache;
use crate::db::{Batch, Db};
use crate::error::ChainError;
use crate::files::{Appender, BlockFiles, Kind};
use crate::index::{Id, Index, NONE, status};
use crate::lock::{DirLock, check_format};
use crate::writer::Writer;
use crate::{ChainConfig, Observer};
use bitcoin::Block;
use bitcoin::consensus::{deserialize, serialize};
use cairn_consensus::block::{Checks, check_block, txids};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, RwLock};

impl Chain {
    /// Opens (creating, recovering after a kill without being told) the chain in a directory.
    ///
    /// The observer hears of what happens after this returns, not of blocks that recovery connects again.
    pub fn open(config: ChainConfig, observer: Observer) -> Result<Chain, ChainError> {
        let ChainConfig { dir, params, coin_cache_bytes } = config;
        let lock = DirLock::acquire(&dir)?;
        check_format(&dir, &params)?;
        let files = BlockFiles::open(dir.join("blocks"), params.magic, &params.genesis)?;
        let db = Db::open(&dir.join("chainstate"))?;
        let mut index = db.load_index()?;
        let mut appender = Appender::new(db.load_ends()?);
        let genesis = params.genesis_hash;
        if index.len() == 0 {
            index.insert(&params.genesis.header, genesis, NONE);
        } else if index.node(0).hash != genesis {
            return Err(ChainError::WrongNetwork {
                dir,
                found: index.node(0).hash.to_string(),
                expected: genesis.to_string(),
            });
        }
        let dirty = forget_lost_data(&files, &mut appender, &mut index)?;
        let mut writer = Writer::new(appender);
        writer.dirty = dirty;
        link(&mut writer, &mut index);
        let best_header = best_header(&index);
        let chain = Chain {
            dir,
            params,
            coin_cache_bytes,
            observer,
            writer: Mutex::new(writer),
            view: RwLock::new(View { index, active: vec![0], best_header, coins: CoinCache::default() }),
            size: AtomicU64::new(0),
            files,
            db,
            pool: OnceLock::new(),
            _lock: lock,
        };
        chain.recover()?;
        Ok(chain)
    }

    fn recover(&self) -> Result<(), ChainError> {
        let mut writer = self.writer()?;
        self.find_tip_of_coins()?;
        let found = self.read_unindexed(&mut writer)?;
        let cut = writer.appender.cut(&self.files)?;
        if found > 0 || cut > 0 {
            tracing::info!(blocks = found, bytes_cut = cut, "took in blocks that were not in the index yet");
        }
        if !self.read().index.node(0).has(status::HAVE_DATA) {
            let genesis = self.params.genesis.clone();
            let at = writer.appender.append_block(&self.files, &serialize(&genesis))?;
            self.receive_transactions(&mut writer, 0, &genesis, at);
            writer.dirty.insert(0);
        }
        self.change().index.node_mut(0).raise_validity(status::VALID_SCRIPTS);
        let before = self.tip();
        // A block may have been invalidated after its coins were written.
        while self.tip().status.failed {
            self.disconnect_tip(&mut writer)?;
        }
        writer.find_candidates(&self.read());
        match self.activate_best_chain(&mut writer, None) {
            // What can be read is served; the log says what cannot, and it may be given again.
            Ok(_) | Err(ChainError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        let after = self.tip();
        if before.hash != after.hash {
            tracing::info!(from = before.height, to = after.height, "connected blocks again after an unclean stop");
        }
        writer.flush_if_due(self)?;
        self.size.store(writer.appender.size(), Ordering::Relaxed);
        writer.announce = true;
        Ok(())
    }

    /// Makes the block that the coins in the database belong to the tip. Where it cannot be undone (its data, or that
    /// of an ancestor, is gone) the coins are made anew from the genesis block.
    fn find_tip_of_coins(&self) -> Result<(), ChainError> {
        let marker = self.db.marker()?;
        let mut view = self.change();
        let path = marker.map_or(Some(vec![0]), |hash| {
            let index = &view.index;
            let mut path = Vec::new();
            let mut at = index.id(&hash);
            while let Some(id) = at {
                let node = index.node(id);
                if !node.has(status::HAVE_DATA) || (id != 0 && !node.has(status::HAVE_UNDO)) {
                    return None;
                }
                path.push(id);
                at = index.parent(id);
            }
            path.reverse();
            Some(path).filter(|path| !path.is_empty())
        });
        match path {
            Some(path) => view.active = path,
            None => {
                tracing::warn!("block files were damaged: coins are made anew from the blocks that are left");
                self.db.commit(&Batch { clear_coins: true, ..Batch::default() })?;
            }
        }
        Ok(())
    }

    /// Takes in blocks that the files hold beyond what the index knows, up to the first record that is not one.
    fn read_unindexed(&self, writer: &mut Writer) -> Result<u32, ChainError> {
        let mut found = 0;
        let mut file = writer.appender.ends.len().saturating_sub(1);
        loop {
            let start = writer.appender.ends.get(file).map_or(0, |ends| ends.block);
            let Some((at, bytes)) = self.files.scan(file as u32, start)? else {
                // The next file is begun when this one is full, so that it may be whole and the next have more.
                if writer.appender.ends.len() > file && self.files.len(Kind::Block, file as u32 + 1)?.is_some() {
                    file += 1;
                    continue;
                }
                return Ok(found);
            };
            let Some((id, block)) = self.readmit(writer, &bytes) else { return Ok(found) };
            if file == writer.appender.ends.len() {
                writer.appender.ends.push(crate::files::Ends::default());
            }
            writer.appender.ends[file].block = at.pos + bytes.len() as u32;
            writer.unindexed_bytes += bytes.len() as u64;
            if !self.read().index.node(id).has(status::HAVE_DATA) {
                self.receive_transactions(writer, id, &block, at);
                found += 1;
            }
        }
    }

    /// A block as the files hold it, checked as when it first came; `None` if these bytes never were an accepted one.
    fn readmit(&self, writer: &mut Writer, bytes: &[u8]) -> Option<(Id, Block)> {
        let block: Block = deserialize(bytes).ok()?;
        check_block(&block, &txids(&block), &self.params, Checks::ALL).ok()?;
        // It was not from the future when it came.
        let id = self.accept_header(writer, &block.header, block.header.time).ok()?;
        if id != 0 {
            self.check_place(writer, id, &block).ok()?;
        }
        Some((id, block))
    }
}

/// Where files are shorter than when they were last synced (a disk that lied, a user who cut), forgets that the data is
/// here, so that it is asked for again. Returns the blocks changed.
fn forget_lost_data(
    files: &BlockFiles,
    appender: &mut Appender,
    index: &mut Index,
) -> Result<BTreeSet<Id>, ChainError> {
    let mut changed = BTreeSet::new();
    for number in 0..appender.ends.len() {
        let file = number as u32;
        for kind in [Kind::Block, Kind::Undo] {
            let ends = &mut appender.ends[number];
            let end = if kind == Kind::Block { &mut ends.block } else { &mut ends.undo };
            let length = files.len(kind, file)?.unwrap_or(0);
            if length >= u64::from(*end) {
                continue;
            }
            tracing::warn!(file = %files.path(kind, file).display(), length, expected = *end, "the file is cut short");
            let mut whole = 0;
            for id in index.ids() {
                let node = index.node(id);
                let at = if kind == Kind::Block { node.data() } else { node.undo() };
                let Some(at) = at.filter(|at| at.file == file) else { continue };
                if files.has_record(kind, at)? {
                    whole = whole.max(at.pos + files.read(kind, at)?.len() as u32);
                    continue;
                }
                let node = index.node_mut(id);
                match kind {
                    Kind::Block => node.forget_data(),
                    Kind::Undo => node.status &= !status::HAVE_UNDO,
                }
                changed.insert(id);
            }
            *end = whole;
        }
    }
    Ok(changed)
}

/// Recounts which blocks can be connected, and which wait for an ancestor's data.
pub(crate) fn link(writer: &mut Writer, index: &mut Index) {
    writer.unlinked.clear();
    for id in index.ids() {
        let before = index.parent(id).map_or(Some(0), |p| Some(index.node(p).chain_tx_count).filter(|&n| n > 0));
        let parent = index.node(id).parent;
        let node = index.node_mut(id);
        writer.next_sequence = writer.next_sequence.max(node.sequence + 1);
        node.chain_tx_count = 0;
        match before {
            _ if !node.has(status::HAVE_DATA) => {}
            Some(before) => node.chain_tx_count = before + u64::from(node.tx_count),
            None => {
                node.sequence = 0;
                writer.unlinked.entry(parent).or_default().push(id);
            }
        }
    }
}
