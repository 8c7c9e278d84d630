//! Following the chain: batches of blocks are searched for what is ours and recorded together with the checkpoint.

use crate::{
    ChainSource, SourceError, Wallet, WalletError,
    keys::{Keychain, Keys},
};
use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, Transaction, Txid, consensus, hashes::Hash};
use cairn_store::wallet::{Advance, FoundTransaction, NewCoin, ScriptRow, WalletRow};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Blocks that are recorded together: what a kill at the worst moment makes us search again.
const BATCH_BLOCKS: u32 = 2000;
/// A batch ends with the block that brings this many transactions of ours.
const BATCH_FOUND: usize = 2000;
/// Unused addresses beyond the last known one that are looked for (BIP 44's gap limit).
const LOOKAHEAD: u32 = 20;

/// What blocks are searched for.
#[derive(Default)]
pub(crate) struct Watch {
    /// The wallet's row that this belongs to; another process may have moved on since.
    loaded: Option<State>,
    /// Scripts given out, and `LOOKAHEAD` beyond.
    scripts: HashMap<ScriptBuf, (Keychain, u32)>,
    /// First index beyond `scripts`, by keychain.
    derived: [u32; 2],
    /// Short hashes of unspent coins: a tenth of the memory of the outpoints. A false match costs one look-up.
    coins: HashSet<u64>,
}

/// What of a wallet's row says whether it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    tip: (u32, [u8; 32]),
    next: [u32; 2],
}

impl State {
    fn of(row: &WalletRow) -> Self {
        Self { tip: (row.tip_height, row.tip_hash), next: [row.external_next, row.internal_next] }
    }
}

/// Transaction ids are uniform already.
fn short(outpoint: &OutPoint) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&outpoint.txid.as_byte_array()[..8]);
    u64::from_le_bytes(bytes) ^ u64::from(outpoint.vout).rotate_left(40)
}

impl Watch {
    fn derive_to(&mut self, keys: &Keys, keychain: Keychain, end: u32) -> Result<(), WalletError> {
        let slot = keychain.number() as usize;
        while self.derived[slot] < end.min(crate::keys::MAX_INDEX) {
            let index = self.derived[slot];
            self.scripts.insert(keys.script(keychain, index)?, (keychain, index));
            self.derived[slot] = index + 1;
        }
        Ok(())
    }

    /// What of a transaction is of interest.
    fn find(&mut self, tx: &Transaction, height: u32, time: u32) -> Option<FoundTransaction> {
        let coinbase = tx.is_coinbase();
        let spends: Vec<_> = tx
            .input
            .iter()
            .filter(|input| !coinbase && self.coins.contains(&short(&input.previous_output)))
            .map(|input| (input.previous_output.txid.to_byte_array(), input.previous_output.vout))
            .collect();
        let coins: Vec<_> = (0..)
            .zip(&tx.output)
            .filter_map(|(vout, output)| {
                let &(keychain, index) = self.scripts.get(&output.script_pubkey)?;
                Some(NewCoin { vout, keychain: keychain.number(), index, amount: output.value.to_sat() })
            })
            // A coin of nothing cannot pay for being spent: rewards after the last halving would only fill the database.
            .filter(|coin| coin.amount > 0)
            .collect();
        if spends.is_empty() && coins.is_empty() {
            return None;
        }
        let txid = tx.compute_txid();
        self.coins.extend(coins.iter().map(|coin| short(&OutPoint::new(txid, coin.vout))));
        Some(FoundTransaction {
            txid: txid.to_byte_array(),
            raw: (!coinbase).then(|| consensus::serialize(tx)),
            height,
            time,
            coinbase,
            spends,
            inputs: tx.input.len(),
            output_value: tx.output.iter().map(|output| output.value.to_sat()).sum(),
            coins,
        })
    }

    /// Searches a block; scripts found in use bring new ones to look for.
    fn search(
        &mut self,
        keys: &Keys,
        block: &Block,
        height: u32,
        advance: &mut Advance,
        next: &mut [u32; 2],
    ) -> Result<(), WalletError> {
        for tx in &block.txdata {
            let Some(found) = self.find(tx, height, block.header.time) else { continue };
            for coin in &found.coins {
                let keychain = Keychain::from_number(coin.keychain);
                let slot = coin.keychain as usize;
                while next[slot] <= coin.index {
                    let index = next[slot];
                    let script = keys.script(keychain, index)?.into_bytes();
                    advance.scripts.push(ScriptRow { keychain: coin.keychain, index, script });
                    next[slot] = index + 1;
                }
                self.derive_to(keys, keychain, next[slot].saturating_add(LOOKAHEAD))?;
            }
            advance.found.push(found);
        }
        Ok(())
    }
}

/// How a batch ended.
enum Batch {
    /// Blocks to record.
    Advance(Box<Advance>, u32),
    /// The wallet is at the tip.
    AtTip(u32),
    /// The checkpoint is not in the active chain (any more).
    Fork,
}

/// Reads blocks from `state`'s tip on. Blocking.
fn read_batch(watch: &mut Watch, keys: &Keys, source: &dyn ChainSource, state: State) -> Result<Batch, WalletError> {
    let (from, from_hash) = state.tip;
    let (tip, _) = source.tip()?;
    if source.block_hash(from)?.map(|hash| hash.to_byte_array()) != Some(from_hash) {
        return Ok(Batch::Fork);
    }
    let mut advance = Advance { from: state.tip, to: state.tip, ..Advance::default() };
    let mut next = state.next;
    for height in from + 1..=tip.min(from.saturating_add(BATCH_BLOCKS)) {
        // A chain that is reorganised while we read it ends the batch; the next one finds the fork.
        let Some(hash) = source.block_hash(height)? else { break };
        let block = source
            .block(&hash)?
            .ok_or_else(|| SourceError(format!("it has no block {hash} at height {height}, which it announced")))?;
        if block.header.prev_blockhash.to_byte_array() != advance.to.1 {
            break;
        }
        watch.search(keys, &block, height, &mut advance, &mut next)?;
        advance.to = (height, hash.to_byte_array());
        if Advance::is_checkpoint(height, tip) {
            advance.checkpoints.push(advance.to);
        }
        if advance.found.len() >= BATCH_FOUND {
            break;
        }
    }
    if advance.to == advance.from {
        return Ok(if tip <= from { Batch::AtTip(from) } else { Batch::Fork });
    }
    if advance.checkpoints.last() != Some(&advance.to) {
        advance.checkpoints.push(advance.to);
    }
    watch.loaded = Some(State { tip: advance.to, next });
    Ok(Batch::Advance(Box::new(advance), tip))
}

impl Wallet {
    /// Follows the chain to its tip, through reorganisations; returns the height. `progress` is told (height, tip) after
    /// each batch that was recorded; a kill loses at most one batch of searching.
    ///
    /// # Errors
    /// [`WalletError::OtherChain`] where the node's chain is not the wallet's; the node or the database does not answer.
    pub async fn sync(
        &self,
        source: &Arc<dyn ChainSource>,
        mut progress: impl FnMut(u32, u32) + Send,
    ) -> Result<u32, WalletError> {
        // One synchronisation at a time: the others find nothing left to do.
        let mut guard = self.inner.watch.clone().lock_owned().await;
        loop {
            let row = self.row().await?;
            let state = State::of(&row);
            if guard.loaded != Some(state) {
                *guard = self.load_watch(state).await?;
            }
            let (inner, source) = (self.inner.clone(), source.clone());
            let batch;
            (guard, batch) = tokio::task::spawn_blocking({
                let source = source.clone();
                move || {
                    // What a failure left half searched is loaded again.
                    guard.loaded = None;
                    let batch = read_batch(&mut guard, &inner.keys, &*source, state);
                    (guard, batch)
                }
            })
            .await?;
            match batch? {
                Batch::AtTip(height) => {
                    guard.loaded = Some(state);
                    return Ok(height);
                }
                Batch::Fork => self.rewind(&source, state).await?,
                Batch::Advance(advance, tip) => {
                    let searched = guard.loaded.take();
                    let mut transaction = self.inner.store.begin().await?;
                    if transaction.advance_wallet(self.name(), &advance).await? {
                        transaction.commit().await?;
                        guard.loaded = searched;
                        progress(advance.to.0, tip);
                    }
                }
            }
        }
    }

    /// Undoes the blocks that are not in the active chain any more.
    async fn rewind(&self, source: &Arc<dyn ChainSource>, state: State) -> Result<(), WalletError> {
        let checkpoints = self.inner.store.wallet_checkpoints(self.name()).await?;
        let source = source.clone();
        let fork = tokio::task::spawn_blocking(move || {
            for (height, hash) in checkpoints {
                if source.block_hash(height)?.map(|hash| hash.to_byte_array()) == Some(hash) {
                    return Ok(Some((height, hash)));
                }
            }
            Ok::<_, SourceError>(None)
        })
        .await??
        .ok_or(WalletError::OtherChain)?;
        if fork == state.tip {
            // The chain changed while we read it, and is ours again.
            return Ok(());
        }
        let mut transaction = self.inner.store.begin().await?;
        if transaction.rewind_wallet(self.name(), state.tip, fork).await? {
            transaction.commit().await?;
            let (height, hash) = (fork.0, BlockHash::from_byte_array(fork.1));
            tracing::info!(wallet = self.name(), from = state.tip.0, height, %hash, "chain reorganised: blocks undone");
        }
        Ok(())
    }

    async fn load_watch(&self, state: State) -> Result<Watch, WalletError> {
        let scripts = self.inner.store.wallet_scripts(self.name()).await?;
        let coins = self.inner.store.wallet_watched(self.name()).await?;
        let mut watch = Watch {
            loaded: Some(state),
            coins: coins
                .into_iter()
                .map(|(txid, vout)| short(&OutPoint::new(Txid::from_byte_array(txid), vout)))
                .collect(),
            ..Watch::default()
        };
        for row in scripts {
            let keychain = Keychain::from_number(row.keychain);
            watch.scripts.insert(ScriptBuf::from_bytes(row.script), (keychain, row.index));
        }
        watch.derived = state.next;
        watch.derive_to(&self.inner.keys, Keychain::External, state.next[0].saturating_add(LOOKAHEAD))?;
        watch.derive_to(&self.inner.keys, Keychain::Internal, state.next[1].saturating_add(LOOKAHEAD))?;
        Ok(watch)
    }
}
