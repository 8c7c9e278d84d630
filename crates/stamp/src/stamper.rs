//! One transaction a block, however many digests wait: recorded before it is sent, replaced until it is buried.
//!
//! A round is a chain of transactions that replace each other (BIP 125): all spend the same coin, so that only one of them
//! can confirm, and each covers the batches `first..=upto` with `upto` growing. A round's successor spends its change where
//! it can, so that a reorganisation that confirms another version takes the successor away with it.
//!
//! What is known of the chain is what this module has followed it to, in the database: a step first follows the chain, then
//! acts. Every write checks the lease's fence. So a step may be cut short anywhere and done again.

use crate::{
    calendar::{COMMITMENTS_IN_CHUNK, Calendar, CalendarError, STAMPER_LEASE, StampEvent},
    journal::now_ms,
    ots::{Attestation, MerkleTree, OtsError, Timestamp, block_ops},
};
use bitcoin::{Amount, Block, BlockHash, Transaction, Txid, consensus::encode, hashes::Hash as _};
use cairn_store::{
    Lease, Store, StoreError,
    leases::{LEASE_TIME, RENEW_EVERY},
    stamps::{NewVersion, RoundRow, VersionRow},
};
use cairn_wallet::{
    BuiltTransaction, ChainSource, Payer, PaymentRequest, Previous, SendError, SourceError, WalletError,
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// How to stamp.
#[derive(Debug, Clone)]
pub struct StamperConfig {
    /// How long the first digest of a round waits for company.
    pub gather: Duration,
    /// Fee rate of a round's first transaction, satoshi for 1,000 vbytes, if the mempool asks no more.
    pub fee_rate: u64,
    /// Most that one transaction may pay. At this fee it is replaced no more.
    pub max_fee: Amount,
    /// Blocks on top of a transaction after which it is watched no more.
    pub watch_depth: u32,
    /// How often the chain is looked at without being woken.
    pub poll: Duration,
}

impl StamperConfig {
    /// The usual: gathers for a tenth of the block time, a second at most (zero: blocks on demand).
    #[must_use]
    pub fn new(block_time: Duration) -> Self {
        let second = Duration::from_secs(1);
        let gather = if block_time.is_zero() { second / 10 } else { (block_time / 10).min(second) };
        Self { gather, fee_rate: 1000, max_fee: Amount::from_sat(100_000), watch_depth: 100, poll: second }
    }
}

/// Why stamping does not go on. It is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StampError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The wallet cannot pay.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The node does not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The node refused the transaction; it is recorded, and sent again or replaced after the next block.
    #[error("the node refuses the stamping transaction {txid}: {reason}")]
    Refused {
        /// It.
        txid: Txid,
        /// The node's words.
        reason: String,
    },
    /// The fee is above what was allowed.
    #[error("a stamping transaction would cost {fee}, more than the {max} that it may: it waits for lower fees")]
    FeeTooHigh {
        /// Fee.
        fee: Amount,
        /// Most that it may be.
        max: Amount,
    },
    /// The database was used on another chain.
    #[error("the database holds stamps of another chain: use the database of this network, or another one")]
    OtherChain,
    /// What is stored makes no proof.
    #[error("a stamping transaction makes no proof: {0}")]
    Proof(#[from] OtsError),
    /// What is stored cannot be read.
    #[error("a stamping transaction in the database cannot be read ({0}): restore the database from a backup")]
    Damaged(String),
    /// The node knows a block's hash and not the block.
    #[error("the node does not give block {0}: is it pruned?")]
    NoBlock(BlockHash),
    /// A thread failed.
    #[error("a thread of the stamper failed: {0}")]
    Thread(String),
    /// The calendar failed.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
}

/// Turns the journal into transactions. One a process; the one that holds the lease works.
pub struct Stamper {
    calendar: Calendar,
    store: Store,
    chain: Arc<dyn ChainSource>,
    payer: Arc<dyn Payer>,
    config: StamperConfig,
    lease: Option<Lease>,
    renewed: Instant,
    gathering: Option<Instant>,
    wake: Arc<Notify>,
}

impl std::fmt::Debug for Stamper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stamper").field("config", &self.config).field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// Rounds that are watched, with their versions, oldest first.
struct Watched {
    rounds: Vec<(RoundRow, Vec<VersionRow>)>,
    base: i64,
}

impl Watched {
    async fn load(store: &Store) -> Result<Self, StoreError> {
        let base = store.base_seq().await?;
        let mut versions: HashMap<i64, Vec<VersionRow>> = HashMap::new();
        for version in store.watched_versions().await? {
            versions.entry(version.round_id).or_default().push(version);
        }
        let rounds = store.watched_rounds().await?;
        let rounds = rounds.into_iter().map(|round| {
            let versions = versions.remove(&round.id).unwrap_or_default();
            (round, versions)
        });
        Ok(Self { rounds: rounds.collect(), base })
    }

    fn confirmed(&self) -> impl Iterator<Item = &VersionRow> {
        self.rounds.iter().filter_map(|(_, versions)| versions.iter().find(|version| version.block.is_some()))
    }

    /// Rounds of which no version is in a block, though one may come to be and stamp something.
    fn outstanding(&self) -> impl Iterator<Item = &(RoundRow, Vec<VersionRow>)> {
        self.rounds.iter().filter(|(round, versions)| {
            !round.abandoned && versions.iter().all(|v| v.block.is_none()) && !self.is_covered(versions)
        })
    }

    /// Whether all that a round stamps is in blocks without it: a round that was given up came back in a reorganisation
    /// after its successor was sent.
    fn is_covered(&self, versions: &[VersionRow]) -> bool {
        let Some(newest) = versions.last() else { return false };
        let mut ranges: Vec<(i64, i64)> = self.confirmed().map(|v| (v.first_seq, v.upto_seq)).collect();
        ranges.sort_unstable();
        let covered = |next: i64, (first, upto): (i64, i64)| if first <= next { next.max(upto + 1) } else { next };
        let next = ranges.into_iter().fold(newest.first_seq.max(self.base + 1), covered);
        next > newest.upto_seq
    }

    /// The first batches that no block has: first, and last where a later one is in a block.
    fn gap(&self) -> (i64, Option<i64>) {
        let mut ranges: Vec<(i64, i64)> = self.confirmed().map(|v| (v.first_seq, v.upto_seq)).collect();
        ranges.sort_unstable();
        let mut next = self.base + 1;
        for (first, upto) in ranges {
            if first > next {
                return (next, Some(first - 1));
            }
            next = next.max(upto + 1);
        }
        (next, None)
    }
}

/// Every batch up to this `seq` is in a block.
pub(crate) async fn settled_seq(store: &Store) -> Result<i64, StoreError> {
    Ok(Watched::load(store).await?.gap().0 - 1)
}

async fn blocking<T: Send + 'static>(
    chain: &Arc<dyn ChainSource>,
    ask: impl FnOnce(&dyn ChainSource) -> T + Send + 'static,
) -> Result<T, StampError> {
    let chain = chain.clone();
    let thread = tokio::task::spawn_blocking(move || ask(&*chain));
    thread.await.map_err(|error| StampError::Thread(error.to_string()))
}

impl Stamper {
    /// Does nothing yet.
    #[must_use]
    pub fn new(calendar: Calendar, chain: Arc<dyn ChainSource>, payer: Arc<dyn Payer>, config: StamperConfig) -> Self {
        let store = calendar.inner.store.clone();
        let wake = Arc::new(Notify::new());
        Self { calendar, store, chain, payer, config, lease: None, renewed: Instant::now(), gathering: None, wake }
    }

    /// Wakes the stamper when notified: a block came.
    #[must_use]
    pub fn waker(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Stamps until `stop` is true, then gives the lease back. Errors are kept for the calendar's totals and tried again.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0u32;
        while !*stop.borrow() {
            let error = self.step().await.err();
            if let Some(error) = &error {
                tracing::warn!(%error, "stamping does not go on");
            }
            failures = if error.is_some() { (failures + 1).min(5) } else { 0 };
            self.calendar.report(self.lease.is_some(), error.map(|error| error.to_string())).await;
            let mut pause = self.config.poll * 2u32.pow(failures);
            if self.gathering.is_some() && failures == 0 {
                pause = pause.min(self.config.gather.max(Duration::from_millis(10)));
            }
            // The lease has to be renewed even while nothing works.
            let pause = pause.min(RENEW_EVERY);
            let calendar = self.calendar.clone();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
                // What fails is tried again after its pause, however many digests come.
                () = calendar.inner.journaled.notified(), if failures == 0 => {}
                _ = stop.changed() => {}
            }
        }
        if let Some(lease) = self.lease.take()
            && let Err(error) = self.store.release_lease(&lease).await
        {
            tracing::warn!(%error, "the stamper's lease could not be given back; it expires by itself");
        }
        self.calendar.report(false, None).await;
    }

    /// Follows the chain, then does what is due. False while another process holds the lease.
    ///
    /// # Errors
    /// What is in the way. Nothing is half done: the next step goes on.
    pub async fn step(&mut self) -> Result<bool, StampError> {
        if !self.hold_lease().await? {
            return Ok(false);
        }
        let result = self.work().await;
        if matches!(result, Err(StampError::Store(StoreError::LeaseLost(_)))) {
            self.lease = None;
            return Ok(false);
        }
        result.map(|()| true)
    }

    async fn hold_lease(&mut self) -> Result<bool, StampError> {
        if let Some(lease) = &mut self.lease {
            if self.renewed.elapsed() < RENEW_EVERY {
                return Ok(true);
            }
            match self.store.renew_lease(lease, LEASE_TIME).await {
                Ok(()) => {
                    self.renewed = Instant::now();
                    return Ok(true);
                }
                Err(StoreError::LeaseLost(_)) => self.lease = None,
                Err(error) => return Err(error.into()),
            }
        }
        self.lease = self.store.acquire_lease(STAMPER_LEASE, &self.calendar.inner.holder, LEASE_TIME).await?;
        self.renewed = Instant::now();
        Ok(self.lease.is_some())
    }

    fn lease(&self) -> Result<&Lease, StoreError> {
        self.lease.as_ref().ok_or_else(|| StoreError::LeaseLost(STAMPER_LEASE.to_owned()))
    }

    /// A transaction that fails unless the lease is ours.
    async fn fenced(&self) -> Result<cairn_store::Transaction, StoreError> {
        let mut transaction = self.store.begin().await?;
        transaction.check_lease(self.lease()?).await?;
        Ok(transaction)
    }

    async fn work(&mut self) -> Result<(), StampError> {
        while self.store.sequence_batches(10_000).await? > 0 {}
        let tip = self.follow().await?;
        self.bury(tip).await?;
        let refused = self.resend(tip).await?;
        self.stamp(tip).await?;
        refused.map_or(Ok(()), Err)
    }

    /// Brings what the database knows of blocks to the node's tip, which it returns.
    async fn follow(&self) -> Result<u32, StampError> {
        let genesis = blocking(&self.chain, |chain| chain.block_hash(0)).await??;
        let genesis = genesis.ok_or_else(|| SourceError("it has no genesis block".to_owned()))?;
        let known = self.store.meta_or_init("stamp-genesis", genesis.as_ref()).await?;
        if known != genesis.to_byte_array() {
            return Err(StampError::OtherChain);
        }
        let (height, hash) = blocking(&self.chain, |chain| chain.tip()).await??;
        let blocks = self.store.stamp_blocks().await?;
        if blocks.first() == Some(&(height, hash.to_byte_array())) {
            return Ok(height);
        }
        let watched = Watched::load(&self.store).await?;
        if watched.rounds.is_empty() {
            let mut transaction = self.fenced().await?;
            transaction.truncate_stamp_blocks(None).await?;
            transaction.push_stamp_block(height, &hash.to_byte_array(), self.config.watch_depth * 2).await?;
            transaction.commit().await?;
            return Ok(height);
        }
        // The highest block that we and the node agree on.
        let mut fork = None;
        for (height, ours) in &blocks {
            let height = *height;
            let theirs = blocking(&self.chain, move |chain| chain.block_hash(height)).await??;
            if theirs.is_some_and(|theirs| theirs.to_byte_array() == *ours) {
                fork = Some(height);
                break;
            }
        }
        // A reorganisation deeper than what we remember: everything since the first watched transaction is read again.
        let fork = fork.or_else(|| {
            let built = watched.rounds.iter().flat_map(|(_, versions)| versions).map(|v| v.built_height).min();
            let lowest = blocks.last().map_or(u32::MAX, |(lowest, _)| *lowest);
            // A transaction may also be in an earlier block of the new branch than it was built on.
            let known = built.map(|built| built.min(lowest.saturating_sub(1)).min(height));
            known.map(|known| known.saturating_sub(self.config.watch_depth * 2))
        });
        let undone: Vec<&VersionRow> = watched
            .confirmed()
            .filter(|v| v.block.is_some_and(|(height, ..)| fork.is_none_or(|fork| height > fork)))
            .collect();
        if blocks.first().is_some_and(|(height, _)| fork.is_none_or(|fork| *height > fork)) || !undone.is_empty() {
            let mut transaction = self.fenced().await?;
            for version in &undone {
                transaction.unconfirm_version(version.id).await?;
            }
            transaction.truncate_stamp_blocks(fork).await?;
            transaction.commit().await?;
            for version in undone {
                let txid = Txid::from_byte_array(version.txid);
                tracing::info!(%txid, "a stamping transaction's block left the active chain");
                drop(self.calendar.inner.events.send(StampEvent::Reorganised { txid }));
            }
        }
        let versions: HashMap<Txid, VersionRow> = watched
            .rounds
            .into_iter()
            .flat_map(|(_, versions)| versions)
            .map(|version| (Txid::from_byte_array(version.txid), version))
            .collect();
        // Each block must follow the one before, the first one ours: the chain may be reorganised while we read.
        let at_fork = blocks.iter().find(|(height, _)| Some(*height) == fork);
        let mut previous = at_fork.map(|(_, hash)| BlockHash::from_byte_array(*hash));
        for next in fork.map_or(0, |fork| fork + 1)..=height {
            let read = blocking(&self.chain, move |chain| -> Result<_, SourceError> {
                let Some(hash) = chain.block_hash(next)? else { return Ok(None) };
                Ok(Some((hash, chain.block(&hash)?)))
            });
            // The chain became shorter while we read: the next step sees why.
            let Some((hash, block)) = read.await?? else { break };
            let block = block.ok_or(StampError::NoBlock(hash))?;
            if previous.is_some_and(|previous| block.header.prev_blockhash != previous) {
                break;
            }
            previous = Some(hash);
            self.connect(next, hash, &block, &versions).await?;
        }
        Ok(self.store.stamp_tip().await?.map_or(fork.unwrap_or(0), |(height, _)| height))
    }

    async fn connect(
        &self,
        height: u32,
        hash: BlockHash,
        block: &Block,
        versions: &HashMap<Txid, VersionRow>,
    ) -> Result<(), StampError> {
        let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
        let mut transaction = self.fenced().await?;
        let mut events = Vec::new();
        for (index, txid) in txids.iter().enumerate() {
            let Some(version) = versions.get(txid) else { continue };
            let ids: Vec<[u8; 32]> = txids.iter().map(|txid| txid.to_byte_array()).collect();
            let stripped = strip_witness(&block.txdata[index]);
            let ops = block_ops(&version.tip, &stripped, &ids, index)?;
            let attestation = Attestation::Bitcoin { height: u64::from(height) };
            let branch = Timestamp::chain(version.tip, ops, attestation)?.to_bytes()?;
            transaction.confirm_version(version.id, height, &hash.to_byte_array(), block.header.time, branch).await?;
            events.push(StampEvent::Confirmed { txid: *txid, height, block_hash: hash });
            tracing::info!(%txid, height, "a block has the stamping transaction");
        }
        transaction.push_stamp_block(height, &hash.to_byte_array(), self.config.watch_depth * 2).await?;
        transaction.commit().await?;
        for event in events {
            drop(self.calendar.inner.events.send(event));
        }
        Ok(())
    }

    /// Stops watching the oldest rounds, where they are deep enough and nothing before them is open.
    async fn bury(&self, tip: u32) -> Result<(), StampError> {
        let watched = Watched::load(&self.store).await?;
        let mut base = watched.base;
        for (round, versions) in &watched.rounds {
            let deep = |height: u32| tip.saturating_sub(height) >= self.config.watch_depth;
            let upto = match versions.iter().find_map(|version| Some((version.upto_seq, version.block?))) {
                Some((upto, (height, ..))) if deep(height) && round.first_seq <= base + 1 => upto,
                None if (round.abandoned || watched.is_covered(versions))
                    && versions.iter().all(|version| deep(version.built_height)) =>
                {
                    base
                }
                _ => break,
            };
            base = base.max(upto);
            let mut transaction = self.fenced().await?;
            transaction.bury_round(round.id, base).await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    async fn transaction(&self, version: &VersionRow) -> Result<Transaction, StampError> {
        let bytes = self.store.version_transaction(version.id).await?.unwrap_or_default();
        encode::deserialize(&bytes).map_err(|error| StampError::Damaged(error.to_string()))
    }

    async fn send(&self, tx: &Transaction) -> Result<Result<(), SendError>, StampError> {
        let tx = tx.clone();
        blocking(&self.chain, move |chain| chain.send(&tx)).await
    }

    /// Sends again what no mempool has; gives up what can never confirm. A refusal that may pass is returned.
    async fn resend(&self, tip: u32) -> Result<Option<StampError>, StampError> {
        let watched = Watched::load(&self.store).await?;
        let mut last_refusal = None;
        'rounds: for (round, versions) in watched.outstanding() {
            for version in versions.iter().rev() {
                let txid = Txid::from_byte_array(version.txid);
                if blocking(&self.chain, move |chain| chain.in_mempool(&txid)).await?? {
                    self.set_refused(round, None).await?;
                    continue 'rounds;
                }
            }
            let mut refusal = None;
            let mut all_missing = !versions.is_empty();
            // The newest pays most; an older one is better than none.
            for version in versions.iter().rev() {
                let tx = self.transaction(version).await?;
                match self.send(&tx).await? {
                    Ok(()) => {
                        self.set_refused(round, None).await?;
                        continue 'rounds;
                    }
                    // In a block that the next step follows.
                    Err(SendError::AlreadyConfirmed) => continue 'rounds,
                    Err(SendError::Source(error)) => return Err(error.into()),
                    Err(SendError::Rejected(reason)) => {
                        all_missing &= reason.contains("missing-inputs") || reason.contains("missingorspent");
                        let txid = Txid::from_byte_array(version.txid);
                        refusal.get_or_insert(StampError::Refused { txid, reason });
                    }
                }
            }
            if !all_missing {
                last_refusal = refusal;
                continue;
            }
            // Its coin is gone from this chain. Once that is as final as a proof would be, no version can confirm.
            match round.refused_height {
                Some(since) if tip >= since.saturating_add(self.calendar.inner.config.confirmations) => {
                    tracing::warn!(
                        round = round.id,
                        "a round's coin is gone for good: its digests go into the next one"
                    );
                    let mut transaction = self.fenced().await?;
                    transaction.abandon_round(round.id).await?;
                    transaction.commit().await?;
                }
                Some(since) if tip >= since => last_refusal = refusal,
                _ => {
                    self.set_refused(round, Some(tip)).await?;
                    last_refusal = refusal;
                }
            }
        }
        Ok(last_refusal)
    }

    async fn set_refused(&self, round: &RoundRow, height: Option<u32>) -> Result<(), StampError> {
        if round.refused_height != height {
            let mut transaction = self.fenced().await?;
            transaction.set_round_refused(round.id, height).await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Opens a round for what waits, or replaces the transaction that a block came without.
    async fn stamp(&mut self, tip: u32) -> Result<(), StampError> {
        let watched = Watched::load(&self.store).await?;
        let last = self.store.last_seq().await?;
        if let Some((round, versions)) = watched.outstanding().last() {
            self.gathering = None;
            let newest = versions.last();
            // Only a block that came without it is a reason: anything else would be churn.
            if let Some(newest) = newest.filter(|newest| tip > newest.built_height && round.refused_height.is_none()) {
                let upto = round.limit_seq.map_or(last, |limit| limit.min(last)).max(newest.upto_seq);
                return self.replace(round, versions, newest, upto, tip).await;
            }
            return Ok(());
        }
        let (first, limit) = watched.gap();
        let upto = limit.map_or(last, |limit| limit.min(last));
        if upto < first {
            self.gathering = None;
            return Ok(());
        }
        let since = *self.gathering.get_or_insert_with(Instant::now);
        if since.elapsed() < self.config.gather {
            return Ok(());
        }
        let parent = match watched.confirmed().max_by_key(|version| version.block.map(|(height, ..)| height)) {
            Some(version) => Some(self.transaction(version).await?),
            None => None,
        };
        let (tip_hash, roots) = self.tree(first, upto, None).await?;
        let rate = self.fee_rate().await?;
        let request = PaymentRequest { op_return: &tip_hash, fee_rate: rate, replaces: None, after: parent.as_ref() };
        let built = self.payer.build(request).await?;
        if built.fee > self.config.max_fee {
            self.payer.discard(&built);
            return Err(StampError::FeeTooHigh { fee: built.fee, max: self.config.max_fee });
        }
        let txid = built.tx.compute_txid().to_byte_array();
        let record = async {
            let mut transaction = self.fenced().await?;
            // The same coin and the same digests as in a round that was given up make the same transaction again.
            if !transaction.reopen_round_of(&txid).await? {
                let round = transaction.insert_round(first, limit, now_ms()).await?;
                let new = new_version(round, (first, upto), tip_hash, roots, &built, rate, tip);
                transaction.insert_version(new).await?;
            }
            self.payer.record(&mut transaction, &built).await?;
            transaction.commit().await
        };
        if let Err(error) = record.await {
            self.payer.discard(&built);
            return Err(error.into());
        }
        self.gathering = None;
        self.sent(&built.tx, first, upto).await
    }

    async fn replace(
        &self,
        round: &RoundRow,
        versions: &[VersionRow],
        newest: &VersionRow,
        upto: i64,
        tip: u32,
    ) -> Result<(), StampError> {
        // Whichever version the mempools have, the new one must pay more.
        let highest = |of: fn(&VersionRow) -> i64| versions.iter().map(of).max().and_then(|n| u64::try_from(n).ok());
        let fee = Amount::from_sat(highest(|version| version.fee).unwrap_or(0));
        let old_rate = highest(|version| version.fee_rate).unwrap_or(0);
        if fee >= self.config.max_fee {
            tracing::warn!(%fee, "the stamping transaction pays the most that it may: it waits");
            return Ok(());
        }
        let first = newest.first_seq;
        let (tip_hash, roots) = self.tree(first, upto, Some(newest)).await?;
        let rate = self.fee_rate().await?.max(old_rate.saturating_add(1000));
        let built = self.build_replacement(versions, fee, &tip_hash, rate).await?;
        if built.fee > self.config.max_fee {
            self.payer.discard(&built);
            return Ok(());
        }
        let record = async {
            let mut transaction = self.fenced().await?;
            let new = new_version(round.id, (first, upto), tip_hash, roots, &built, rate, tip);
            transaction.insert_version(new).await?;
            self.payer.record(&mut transaction, &built).await?;
            transaction.commit().await
        };
        if let Err(error) = record.await {
            self.payer.discard(&built);
            return Err(error.into());
        }
        self.sent(&built.tx, first, upto).await
    }

    /// A transaction in the place of a round's versions. They share a coin, but the wallet spends the coins of one: the
    /// newest, unless another was in a block that left the chain, or a coin that was added left it.
    async fn build_replacement(
        &self,
        versions: &[VersionRow],
        fee: Amount,
        op_return: &[u8],
        fee_rate: u64,
    ) -> Result<BuiltTransaction, StampError> {
        let mut refused = None;
        for version in versions.iter().rev() {
            let previous = self.transaction(version).await?;
            let replaces = Some(Previous { tx: &previous, fee });
            match self.payer.build(PaymentRequest { op_return, fee_rate, replaces, after: None }).await {
                Err(error @ WalletError::NotReplaceable(_)) => drop(refused.get_or_insert(error)),
                built => return Ok(built?),
            }
        }
        Err(refused.map_or_else(|| StampError::Damaged(format!("a round of {} versions", versions.len())), Into::into))
    }

    async fn sent(&self, tx: &Transaction, first: i64, upto: i64) -> Result<(), StampError> {
        let txid = tx.compute_txid();
        let commitments = u64::try_from(upto - first + 1).unwrap_or(0);
        drop(self.calendar.inner.events.send(StampEvent::Anchored { txid, commitments }));
        match self.send(tx).await? {
            Ok(()) | Err(SendError::AlreadyConfirmed) => {
                tracing::info!(%txid, commitments, "sent the stamping transaction");
                Ok(())
            }
            Err(SendError::Source(error)) => Err(error.into()),
            Err(SendError::Rejected(reason)) => Err(StampError::Refused { txid, reason }),
        }
    }

    async fn fee_rate(&self) -> Result<u64, StampError> {
        Ok(blocking(&self.chain, |chain| chain.min_fee_rate()).await??.max(self.config.fee_rate))
    }

    /// Tip and chunk roots of the tree over the commitments `first..=upto`. Whole chunks of the version before are taken from it.
    async fn tree(
        &self,
        first: i64,
        upto: i64,
        before: Option<&VersionRow>,
    ) -> Result<([u8; 32], Vec<u8>), StampError> {
        let size = COMMITMENTS_IN_CHUNK as i64;
        let mut roots = match before {
            Some(version) => {
                let whole = usize::try_from((version.upto_seq - version.first_seq + 1) / size).unwrap_or(0);
                let (mut roots, _) = self.store.version_proof(version.id).await?.unwrap_or_default();
                roots.truncate(whole * 32);
                roots
            }
            None => Vec::new(),
        };
        let mut from = first + (roots.len() / 32) as i64 * size;
        while from <= upto {
            let last = upto.min(from + size - 1);
            let commitments = self.store.commitments(from, last).await?;
            if commitments.len() as i64 != last - from + 1 {
                return Err(StampError::Damaged(format!("batches {from} to {last} are not all there")));
            }
            let leaves = commitments.iter().map(|commitment| Sha256::digest(commitment).into()).collect();
            roots.extend_from_slice(&MerkleTree::new(leaves)?.tip());
            from = last + 1;
        }
        let tops = roots.chunks_exact(32).map(|root| root.try_into().expect("32 bytes")).collect();
        Ok((MerkleTree::new(tops)?.tip(), roots))
    }
}

fn new_version(
    round_id: i64,
    (first_seq, upto_seq): (i64, i64),
    tip: [u8; 32],
    roots: Vec<u8>,
    built: &BuiltTransaction,
    rate: u64,
    built_height: u32,
) -> NewVersion {
    NewVersion {
        round_id,
        first_seq,
        upto_seq,
        tip,
        roots,
        txid: built.tx.compute_txid().to_byte_array(),
        tx: encode::serialize(&built.tx),
        fee: i64::try_from(built.fee.to_sat()).unwrap_or(i64::MAX),
        fee_rate: i64::try_from(rate).unwrap_or(i64::MAX),
        built_height,
        created_at: now_ms(),
    }
}

/// As the txid hashes it.
fn strip_witness(tx: &Transaction) -> Vec<u8> {
    let mut tx = tx.clone();
    for input in &mut tx.input {
        input.witness.clear();
    }
    encode::serialize(&tx)
}
