//! Opening a directory: new, cleanly closed, or left by a process that was killed at any instant.
//!
//! The block files are the journal. The database holds the block index and the coins as of its last batch; whatever
//! the files hold beyond that is taken in again, torn records at their end are cut, and the best chain is activated from
//! the block that the coins belong to. That block may be on a branch that lost meanwhile: undo data leads back from it.

use crate::activate::best_header;
use crate::append::Appender;
use crate::chain::{Chain, View};
use crate::coins::CoinCache;
use crate::db::{Db, Set};
use crate::error::ChainError;
use crate::files::{BlockFiles, Kind};
use crate::filterindex::FilterCache;
use crate::index::{Id, Index, NONE, status};
use crate::lock::{DirLock, check_format};
use crate::prune::has_pruned;
use crate::verify::{DEFAULT_CHECK_BLOCKS, DEFAULT_CHECK_LEVEL};
use crate::writer::Writer;
use crate::{ChainConfig, Observer, ProgressFn};
use bitcoin::consensus::serialize;
use cairn_consensus::params::Params;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, RwLock};

impl Chain {
    /// Opens (creating, recovering after a kill without being told) the chain in a directory.
    ///
    /// The observer hears of what happens after this returns, not of blocks that recovery connects again.
    pub fn open(config: ChainConfig, observer: Observer) -> Result<Chain, ChainError> {
        Self::open_with_progress(config, observer, Box::new(|_| {}))
    }

    /// [`Chain::open`], telling how far it is where it takes long.
    pub fn open_with_progress(
        config: ChainConfig,
        observer: Observer,
        progress: ProgressFn,
    ) -> Result<Chain, ChainError> {
        let ChainConfig { dir, params, coin_cache_bytes, txindex, blockfilterindex, reindex, prune } = config;
        let lock = DirLock::acquire(&dir)?;
        check_format(&dir, &params)?;
        let files = BlockFiles::open(dir.join("blocks"), params.magic, &params.genesis)?;
        let chainstate = dir.join("chainstate");
        if reindex {
            check_complete(&files)?;
            tracing::warn!("the block index and the coins are made anew from the block files");
            Db::remove(&chainstate)?;
        }
        let (db, mut index, ends) = Db::open(&chainstate)?;
        let mut appender = Appender::new(ends);
        let genesis = params.genesis_hash;
        if index.len() == 0 {
            if !reindex && files.last(Kind::Block)?.is_some() {
                check_complete(&files)?;
                tracing::warn!("the block index is missing: it and the coins are made anew from the block files");
            }
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
        writer.progress = Some(progress);
        index.snapshot = known_snapshot(&db, &index, &params)?;
        link(&mut writer, &mut index);
        let best_header = best_header(&index);
        let chain = Chain {
            dir,
            params,
            coin_cache_bytes,
            txindex,
            blockfilterindex,
            prune,
            observer,
            writer: Mutex::new(writer),
            view: RwLock::new(View {
                index,
                active: vec![0],
                best_header,
                coins: CoinCache::new(txindex),
                filters: FilterCache::default(),
            }),
            size: AtomicU64::new(0),
            files,
            db,
            pool: OnceLock::new(),
            _lock: lock,
        };
        chain.recover()?;
        // As Core at its start: an index that does not match the files is refused before anybody builds on it.
        chain.verify(DEFAULT_CHECK_LEVEL, DEFAULT_CHECK_BLOCKS)?;
        Ok(chain)
    }

    fn recover(&self) -> Result<(), ChainError> {
        let mut writer = self.writer()?;
        self.db.forget_loading()?;
        self.find_tip_of_coins()?;
        writer.background = self.background()?;
        self.settle_transaction_index(&writer)?;
        self.settle_filter_index(&writer)?;
        let found = self.import(&mut writer)?;
        writer.appender.cut(&self.files)?;
        if found > 0 {
            tracing::info!(blocks = found, "took in blocks that were not in the index yet");
        }
        self.delete_pruned(&writer)?;
        if self.read().index.node(0).tx_count == 0 {
            let genesis = self.params.genesis.clone();
            let at = writer.appender.append_block(&self.files, &serialize(&genesis))?;
            self.receive_transactions(&mut writer, 0, &genesis, at);
            writer.dirty.insert(0);
        }
        if found > 0 || !writer.dirty.is_empty() {
            // From here on a start after a kill need not look for these blocks again.
            writer.flush_index(self)?;
        }
        self.change().index.node_mut(0).raise_validity(status::VALID_SCRIPTS);
        let before = self.tip();
        // A block may have been invalidated after its coins were written.
        while self.tip().status.failed {
            self.disconnect_tip(&mut writer)?;
            writer.flush_if_due(self)?;
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
        self.advance_background(&mut writer)?;
        writer.flush_if_due(self)?;
        self.prune_to_target(&mut writer)?;
        self.size.store(writer.appender.size(), Ordering::Relaxed);
        writer.announce = true;
        writer.progress = None;
        Ok(())
    }

    /// Makes the block that the coins in the database belong to the tip. Where it cannot be undone (its data, or that
    /// of an ancestor, is gone) the coins are made anew from the genesis block.
    fn find_tip_of_coins(&self) -> Result<(), ChainError> {
        let marker = self.db.marker(Set::Active)?;
        let mut view = self.change();
        let path = marker.map_or(Some(vec![0]), |hash| {
            let index = &view.index;
            // Coins cannot be made anew where the first blocks are pruned, or are not here yet below a snapshot: then they are taken as they are.
            let pruned = has_pruned(index) || index.snapshot.is_some();
            let mut path = Vec::new();
            let mut at = index.id(&hash);
            while let Some(id) = at {
                let node = index.node(id);
                let whole = node.has(status::HAVE_DATA) && (id == 0 || node.has(status::HAVE_UNDO));
                if !whole && !pruned {
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
                self.db.clear_coins()?;
            }
        }
        Ok(())
    }
}

/// The snapshot that the coins come from and that is not validated yet.
fn known_snapshot(db: &Db, index: &Index, params: &Params) -> Result<Option<(Id, u64)>, ChainError> {
    let Some(base) = db.snapshot()? else { return Ok(None) };
    let known = params.assume_utxo.iter().find(|known| known.block_hash == base);
    let known = known.ok_or_else(|| ChainError::Snapshot {
        what: format!(
            "the coins come from one at block {base} that is not validated yet, and that neither the network's parameters \
             nor the configuration name any more: name it again"
        ),
    })?;
    let id =
        index.id(&base).ok_or_else(|| ChainError::Corrupt { what: format!("the block index (no block {base})") })?;
    Ok(Some((id, known.chain_tx_count)))
}

/// An index cannot be made anew without the first blocks.
fn check_complete(files: &BlockFiles) -> Result<(), ChainError> {
    let first = files.path(Kind::Block, 0);
    if files.last(Kind::Block)?.is_some() && files.len(Kind::Block, 0)?.is_none() {
        return Err(ChainError::Incomplete { file: first });
    }
    Ok(())
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
            _ if node.tx_count == 0 => {}
            Some(before) => node.chain_tx_count = before + u64::from(node.tx_count),
            None => {
                node.sequence = 0;
                writer.unlinked.entry(parent).or_default().push(id);
            }
        }
        if let Some((base, count)) = index.snapshot
            && base == id
        {
            index.node_mut(id).chain_tx_count = count;
        }
    }
}
