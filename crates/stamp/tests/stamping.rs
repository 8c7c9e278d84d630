//! From digest to block and back, on a scripted chain: crashes, reorganisations, replacements, fencing, on both databases.

use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid, Witness, absolute, block, hashes::Hash as _, opcodes::all::OP_RETURN, script::Builder, transaction,
};
use cairn_stamp::{
    Calendar, CalendarConfig, Digests, Lookup, StampState, Stamper, StamperConfig, SubmitError,
    ots::{Attestation, Timestamp},
};
use cairn_store::{Store, StoreError, StoreOptions};
use cairn_wallet::{BuiltTransaction, ChainSource, Payer, PaymentRequest, SendError, SourceError, WalletError};
use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A chain of blocks that hold what the test says, with a mempool that knows of conflicts.
#[derive(Default)]
struct Chain {
    active: Vec<BlockHash>,
    blocks: HashMap<BlockHash, Arc<Block>>,
    mempool: Vec<Transaction>,
    /// Coins that are no transaction's output here: always there.
    salt: u32,
    away: bool,
}

impl Chain {
    fn confirmed(&self) -> impl Iterator<Item = &Transaction> {
        self.active.iter().flat_map(|hash| &self.blocks[hash].txdata)
    }

    fn mine(&mut self, transactions: Vec<Transaction>) -> BlockHash {
        self.salt += 1;
        let coinbase = payment(OutPoint::null(), &self.salt.to_le_bytes(), 50);
        let mut txdata = vec![coinbase];
        txdata.extend(transactions);
        let header = block::Header {
            version: block::Version::ONE,
            prev_blockhash: self.active.last().copied().unwrap_or_else(BlockHash::all_zeros),
            merkle_root: TxMerkleNode::all_zeros(),
            time: 1_700_000_000 + self.salt,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: self.salt,
        };
        let mut block = Block { header, txdata };
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        let hash = block.block_hash();
        let spent: HashSet<OutPoint> =
            block.txdata.iter().flat_map(|tx| tx.input.iter().map(|input| input.previous_output)).collect();
        let ids: HashSet<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
        self.mempool.retain(|tx| {
            !ids.contains(&tx.compute_txid()) && !tx.input.iter().any(|input| spent.contains(&input.previous_output))
        });
        self.blocks.insert(hash, Arc::new(block));
        self.active.push(hash);
        hash
    }

    fn mine_mempool(&mut self) {
        let transactions = self.mempool.clone();
        self.mine(transactions);
    }

    /// Undoes blocks without putting anything back: the stamper has to.
    fn undo(&mut self, count: usize) {
        self.active.truncate(self.active.len() - count);
        self.mempool.clear();
    }
}

#[derive(Clone, Default)]
struct World(Arc<Mutex<Chain>>);

fn away() -> SourceError {
    SourceError("the test says so".into())
}

impl ChainSource for World {
    fn tip(&self) -> Result<(u32, BlockHash), SourceError> {
        let chain = self.0.lock().unwrap();
        if chain.away {
            return Err(away());
        }
        Ok((chain.active.len() as u32 - 1, *chain.active.last().unwrap()))
    }
    fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, SourceError> {
        let chain = self.0.lock().unwrap();
        if chain.away { Err(away()) } else { Ok(chain.active.get(height as usize).copied()) }
    }
    fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, SourceError> {
        Ok(self.0.lock().unwrap().blocks.get(hash).cloned())
    }
    fn send(&self, tx: &Transaction) -> Result<(), SendError> {
        let mut chain = self.0.lock().unwrap();
        if chain.away {
            return Err(away().into());
        }
        let txid = tx.compute_txid();
        if chain.confirmed().any(|other| other.compute_txid() == txid) {
            return Err(SendError::AlreadyConfirmed);
        }
        let input = tx.input[0].previous_output;
        let spent = chain.confirmed().any(|other| other.input[0].previous_output == input);
        // Coins of vout 7 are from outside; others have to be in the chain.
        let missing = input.vout != 7 && !chain.confirmed().any(|other| other.compute_txid() == input.txid);
        if spent || missing {
            return Err(SendError::Rejected("bad-txns-inputs-missingorspent".into()));
        }
        chain.mempool.retain(|other| other.input[0].previous_output != input);
        chain.mempool.push(tx.clone());
        Ok(())
    }
    fn in_mempool(&self, txid: &Txid) -> Result<bool, SourceError> {
        Ok(self.0.lock().unwrap().mempool.iter().any(|tx| tx.compute_txid() == *txid))
    }
    fn min_fee_rate(&self) -> Result<u64, SourceError> {
        Ok(1000)
    }
}

fn payment(input: OutPoint, data: &[u8], change: u64) -> Transaction {
    let push = bitcoin::script::PushBytesBuf::try_from(data.to_vec()).unwrap();
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: input,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[vec![1; 64]]),
        }],
        output: vec![
            TxOut { value: Amount::from_sat(change), script_pubkey: ScriptBuf::new() },
            TxOut {
                value: Amount::ZERO,
                script_pubkey: Builder::new().push_opcode(OP_RETURN).push_slice(push).into_script(),
            },
        ],
    }
}

/// Spends the change of the round before, or a coin from outside.
#[derive(Default)]
struct Purse {
    coins: Mutex<u32>,
    empty: Mutex<bool>,
    /// Ends a step inside the transaction that records a payment.
    crash: Mutex<bool>,
    /// Transactions whose coins the wallet does not have any more.
    stuck: Mutex<HashSet<Txid>>,
}

impl Payer for Purse {
    fn build<'a>(
        &'a self,
        request: PaymentRequest<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<BuiltTransaction, WalletError>> + Send + 'a>> {
        Box::pin(async move {
            if *self.empty.lock().unwrap() {
                let (needed, available) = (Amount::from_sat(200), Amount::ZERO);
                return Err(WalletError::InsufficientFunds { needed, available, blocks: 101 });
            }
            if let Some(previous) = request.replaces
                && self.stuck.lock().unwrap().contains(&previous.tx.compute_txid())
            {
                return Err(WalletError::NotReplaceable(previous.tx.compute_txid()));
            }
            let input = match (request.replaces, request.after) {
                (Some(previous), _) => previous.tx.input[0].previous_output,
                (None, Some(after)) => OutPoint { txid: after.compute_txid(), vout: 0 },
                (None, None) => {
                    let mut coins = self.coins.lock().unwrap();
                    *coins += 1;
                    OutPoint { txid: Txid::from_byte_array([*coins as u8; 32]), vout: 7 }
                }
            };
            let fee = Amount::from_sat(request.replaces.map_or(0, |previous| previous.fee.to_sat()) + 200);
            let tx = payment(input, request.op_return, 1_000_000 - fee.to_sat());
            Ok(BuiltTransaction { inputs: vec![input], tx, fee, changes: None })
        })
    }
    fn record<'a>(
        &'a self,
        _: &'a mut cairn_store::Transaction,
        _: &'a BuiltTransaction,
    ) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>> {
        Box::pin(async {
            if *self.crash.lock().unwrap() { Err(StoreError::Full("the test says so".into())) } else { Ok(()) }
        })
    }
    fn discard(&self, _: &BuiltTransaction) {}
}

struct Setup {
    url: String,
    world: World,
    purse: Arc<Purse>,
    calendar: Calendar,
    stamper: Stamper,
}

impl Setup {
    async fn new(url: String) -> Self {
        let world = World::default();
        world.0.lock().unwrap().mine(vec![]);
        Self::with(url, world, Arc::new(Purse::default())).await
    }

    async fn with(url: String, world: World, purse: Arc<Purse>) -> Self {
        let store = Store::open(&url, &StoreOptions::default()).await.unwrap();
        let config = CalendarConfig { uri: "http://127.0.0.1:8080".into(), confirmations: 1 };
        let calendar = Calendar::start(store, config).await.unwrap();
        let stamper = Self::stamper(&calendar, &world, &purse);
        Self { url, world, purse, calendar, stamper }
    }

    fn stamper(calendar: &Calendar, world: &World, purse: &Arc<Purse>) -> Stamper {
        let config = StamperConfig { gather: Duration::ZERO, ..StamperConfig::new(Duration::ZERO) };
        Stamper::new(calendar.clone(), Arc::new(world.clone()), purse.clone(), config)
    }

    /// As after a kill: nothing but the database and the chain is left. The lease is taken away from the dead.
    async fn restart(self) -> Self {
        let Self { url, world, purse, calendar, stamper } = self;
        drop(stamper);
        calendar.stop().await;
        expire(&url).await;
        Self::with(url, world, purse).await
    }

    async fn step(&mut self) {
        assert!(self.stamper.step().await.unwrap(), "we hold the lease");
    }

    fn mine(&self) {
        self.world.0.lock().unwrap().mine_mempool();
    }

    fn mempool(&self) -> Vec<Txid> {
        self.world.0.lock().unwrap().mempool.iter().map(Transaction::compute_txid).collect()
    }

    /// The digest is in exactly one transaction of the active chain, which its proof leads to.
    async fn assert_stamped(&self, digest: &[u8]) -> Txid {
        let status = self.calendar.status(digest).await.unwrap().expect("known");
        let StampState::Confirmed { txid, height, block_hash, .. } = status.state else { panic!("{status:?}") };
        let proof = self.calendar.proof(digest).await.unwrap().expect("known");
        let timestamp = Timestamp::from_bytes(digest, &proof).expect("a proof");
        let (root, attestation, _) = timestamp.attestations().next().expect("attested");
        assert_eq!(*attestation, Attestation::Bitcoin { height: u64::from(height) });
        {
            let chain = self.world.0.lock().unwrap();
            assert_eq!(chain.active[height as usize], block_hash);
            assert_eq!(root[..], chain.blocks[&block_hash].header.merkle_root.to_byte_array());
            assert_eq!(chain.confirmed().filter(|tx| tx.compute_txid() == txid).count(), 1);
        }
        let Lookup::Complete(rest) = self.calendar.timestamp(&status.commitment).await.unwrap() else { panic!() };
        let rest = Timestamp::from_bytes(status.commitment, &rest).unwrap();
        assert_eq!(rest.attestations().next().unwrap().0, root, "both ways lead to the same root");
        txid
    }
}

async fn expire(url: &str) {
    let store = Store::open(url, &StoreOptions::default()).await.unwrap();
    if let Some((holder, ..)) = store.lease_holder("stamper").await.unwrap() {
        store.acquire_lease("stamper", &holder, Duration::ZERO).await.unwrap().expect("the holder's own");
    }
}

fn digest(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(8)
}

async fn a_digest_becomes_a_proof(url: String) {
    let mut setup = Setup::new(url).await;
    let digest = digest(1);
    let bare = setup.calendar.submit(&digest).await.unwrap();
    let timestamp = Timestamp::from_bytes(&digest[..], &bare).unwrap();
    let (commitment, attestation, _) = timestamp.attestations().next().unwrap();
    assert_eq!(*attestation, Attestation::pending("http://127.0.0.1:8080").unwrap());
    assert_eq!(commitment.len(), 44);
    let pending = Lookup::Pending("Pending confirmation in Bitcoin blockchain".into());
    assert_eq!(setup.calendar.timestamp(&commitment).await.unwrap(), pending);
    assert_eq!(setup.calendar.status(&digest).await.unwrap().unwrap().state, StampState::Journaled);
    assert_eq!(setup.calendar.tip().await.unwrap(), None);
    assert_eq!(setup.calendar.stats().await.unwrap().pending, 1);
    let Lookup::NotFound(text) = setup.calendar.timestamp(&digest).await.unwrap() else { panic!() };
    assert!(text.starts_with("Not found") && text.contains("/timestamp/"), "{text}");
    assert_eq!(setup.calendar.timestamp(&[9; 44]).await.unwrap(), Lookup::NotFound("Not found".into()));

    setup.step().await;
    let txid = setup.mempool()[0];
    assert_eq!(setup.calendar.status(&digest).await.unwrap().unwrap().state, StampState::Anchored { txid });
    assert!(setup.calendar.tip().await.unwrap().is_some());
    assert_eq!(setup.calendar.proof(&digest).await.unwrap().unwrap(), bare, "nothing better yet");
    setup.step().await;
    assert_eq!(setup.mempool(), [txid], "no block came: nothing is replaced");

    setup.mine();
    setup.step().await;
    assert_eq!(setup.assert_stamped(&digest).await, txid);
    assert_eq!(setup.calendar.stats().await.unwrap().pending, 0);
    assert!(matches!(setup.calendar.submit(&[0; 65]).await, Err(SubmitError::TooLong)));
    setup.calendar.submit(&[]).await.unwrap();
    setup.calendar.submit(&[5; 64]).await.unwrap();
    setup.step().await;
    setup.mine();
    setup.step().await;
    setup.assert_stamped(&[]).await;
    setup.assert_stamped(&[5; 64]).await;
}

async fn a_block_without_it_has_it_replaced_with_what_came_since(url: String) {
    let mut setup = Setup::new(url).await;
    setup.calendar.submit(&digest(1)).await.unwrap();
    setup.step().await;
    let first = setup.mempool();
    setup.calendar.submit(&digest(2)).await.unwrap();
    setup.step().await;
    assert_eq!(setup.mempool(), first);
    setup.world.0.lock().unwrap().mine(vec![]);
    setup.step().await;
    let second = setup.mempool();
    assert_eq!(second.len(), 1, "they conflict");
    assert_ne!(first, second);
    setup.mine();
    setup.step().await;
    assert_eq!(setup.assert_stamped(&digest(1)).await, second[0]);
    assert_eq!(setup.assert_stamped(&digest(2)).await, second[0]);
}

async fn an_older_version_confirms_and_the_rest_goes_into_the_next_round(url: String) {
    let mut setup = Setup::new(url).await;
    setup.calendar.submit(&digest(1)).await.unwrap();
    setup.step().await;
    let old = setup.world.0.lock().unwrap().mempool.clone();
    setup.calendar.submit(&digest(2)).await.unwrap();
    setup.world.0.lock().unwrap().mine(vec![]);
    setup.step().await;
    setup.world.0.lock().unwrap().mine(old.clone());
    setup.step().await;
    assert_eq!(setup.assert_stamped(&digest(1)).await, old[0].compute_txid());
    assert!(matches!(setup.calendar.status(&digest(2)).await.unwrap().unwrap().state, StampState::Anchored { .. }));
    setup.mine();
    setup.step().await;
    assert_ne!(setup.assert_stamped(&digest(2)).await, old[0].compute_txid());
}

async fn a_reorganisation_takes_the_proof_back_and_sends_again(url: String) {
    let mut setup = Setup::new(url).await;
    setup.calendar.submit(&digest(1)).await.unwrap();
    setup.step().await;
    let txid = setup.mempool();
    setup.mine();
    setup.step().await;
    let commitment = setup.calendar.status(&digest(1)).await.unwrap().unwrap().commitment;
    {
        let mut chain = setup.world.0.lock().unwrap();
        chain.undo(1);
        chain.mine(vec![]);
    }
    setup.step().await;
    assert!(matches!(setup.calendar.timestamp(&commitment).await.unwrap(), Lookup::Pending(_)));
    assert!(!setup.mempool().is_empty(), "sent again: {txid:?}");
    setup.mine();
    setup.step().await;
    setup.assert_stamped(&digest(1)).await;
}

async fn a_reorganisation_to_another_version_takes_the_next_round_away(url: String) {
    let mut setup = Setup::new(url).await;
    setup.calendar.submit(&digest(1)).await.unwrap();
    setup.step().await;
    let old = setup.world.0.lock().unwrap().mempool.clone();
    setup.calendar.submit(&digest(2)).await.unwrap();
    setup.world.0.lock().unwrap().mine(vec![]);
    setup.step().await;
    let new = setup.world.0.lock().unwrap().mempool.clone();
    setup.world.0.lock().unwrap().mine(old);
    setup.step().await;
    // The next round, of digest 2, spends the old version's change. Then the new version confirms instead.
    setup.calendar.submit(&digest(3)).await.unwrap();
    {
        let mut chain = setup.world.0.lock().unwrap();
        chain.undo(1);
        chain.mine(new.clone());
        chain.mine(vec![]);
    }
    for _ in 0..4 {
        // The round that can no longer confirm is refused, and says so.
        drop(setup.stamper.step().await);
        setup.mine();
    }
    setup.step().await;
    assert_eq!(setup.assert_stamped(&digest(1)).await, new[0].compute_txid());
    assert_eq!(setup.assert_stamped(&digest(2)).await, new[0].compute_txid(), "paid once on this chain");
    setup.assert_stamped(&digest(3)).await;
    let paid =
        setup.world.0.lock().unwrap().confirmed().filter(|tx| tx.input[0].previous_output != OutPoint::null()).count();
    assert_eq!(paid, 2);
}

async fn a_version_that_the_wallet_cannot_replace_is_passed_over(url: String) {
    let mut setup = Setup::new(url).await;
    setup.calendar.submit(&digest(1)).await.unwrap();
    setup.step().await;
    setup.world.0.lock().unwrap().mine(vec![]);
    setup.step().await;
    let second = setup.mempool();
    setup.purse.stuck.lock().unwrap().insert(second[0]);
    setup.world.0.lock().unwrap().mine(vec![]);
    setup.step().await;
    let third = setup.world.0.lock().unwrap().mempool.clone();
    assert_ne!(third[0].compute_txid(), second[0]);
    assert_eq!(
        third[0].output[0].value.to_sat(),
        1_000_000 - 600,
        "it pays more than the one that it could not replace"
    );
    setup.mine();
    setup.step().await;
    assert_eq!(setup.assert_stamped(&digest(1)).await, third[0].compute_txid());
}

/// A transaction of somebody else that spends the same coin.
fn rival(tx: &Transaction) -> Transaction {
    payment(tx.input[0].previous_output, b"another's", 5)
}

async fn a_transaction_that_is_built_again_opens_its_round_again(url: String) {
    let mut setup = Setup::new(url).await;
    setup.calendar.submit(&digest(1)).await.unwrap();
    setup.step().await;
    let first = setup.world.0.lock().unwrap().mempool[0].clone();
    setup.world.0.lock().unwrap().mine(vec![rival(&first)]);
    assert!(setup.stamper.step().await.is_err(), "its coin is gone");
    // The round is given up, and before there is another its coin comes back.
    *setup.purse.empty.lock().unwrap() = true;
    setup.world.0.lock().unwrap().mine(vec![]);
    assert!(setup.stamper.step().await.unwrap_err().to_string().contains("coins"));
    {
        let mut chain = setup.world.0.lock().unwrap();
        chain.undo(2);
        for _ in 0..3 {
            chain.mine(vec![]);
        }
    }
    *setup.purse.empty.lock().unwrap() = false;
    *setup.purse.coins.lock().unwrap() -= 1;
    setup.step().await;
    assert_eq!(setup.mempool(), [first.compute_txid()]);
    setup.mine();
    setup.step().await;
    assert_eq!(setup.assert_stamped(&digest(1)).await, first.compute_txid());
}

async fn a_round_whose_digests_came_back_in_blocks_is_sent_no_more(url: String) {
    let mut setup = Setup::new(url).await;
    setup.calendar.submit(&digest(1)).await.unwrap();
    setup.step().await;
    let first = setup.world.0.lock().unwrap().mempool[0].clone();
    setup.mine();
    setup.step().await;
    // Another chain, on which its coin is gone: a second round takes over.
    {
        let mut chain = setup.world.0.lock().unwrap();
        chain.undo(1);
        chain.mine(vec![rival(&first)]);
    }
    drop(setup.stamper.step().await);
    setup.world.0.lock().unwrap().mine(vec![]);
    setup.step().await;
    assert_ne!(setup.mempool(), [first.compute_txid()]);
    assert_eq!(setup.mempool().len(), 1);
    // The first chain again.
    {
        let mut chain = setup.world.0.lock().unwrap();
        chain.undo(2);
        chain.mine(vec![first.clone()]);
        for _ in 0..2 {
            chain.mine(vec![]);
        }
    }
    for _ in 0..3 {
        setup.step().await;
        assert!(setup.mempool().is_empty(), "nothing is left to stamp");
        setup.world.0.lock().unwrap().mine(vec![]);
    }
    assert_eq!(setup.assert_stamped(&digest(1)).await, first.compute_txid());
    for _ in 0..110 {
        setup.world.0.lock().unwrap().mine(vec![]);
    }
    setup.step().await;
    let store = Store::open(&setup.url, &StoreOptions::default()).await.unwrap();
    assert!(store.watched_rounds().await.unwrap().is_empty(), "all are buried");
}

async fn a_fee_above_the_most_is_not_paid(url: String) {
    let mut setup = Setup::new(url).await;
    setup.calendar.submit(&digest(1)).await.unwrap();
    let usual = StamperConfig { gather: Duration::ZERO, ..StamperConfig::new(Duration::ZERO) };
    let config = StamperConfig { max_fee: Amount::from_sat(199), ..usual };
    let mut thrifty = Stamper::new(setup.calendar.clone(), Arc::new(setup.world.clone()), setup.purse.clone(), config);
    let error = thrifty.step().await.unwrap_err().to_string();
    assert!(error.contains("more than the 0.00000199 BTC that it may"), "{error}");
    assert!(setup.mempool().is_empty());
    setup.step().await;
    assert_eq!(setup.mempool().len(), 1);
}

async fn a_crash_anywhere_loses_nothing_and_pays_once(url: String) {
    let mut setup = Setup::new(url).await;
    setup.calendar.submit(&digest(1)).await.unwrap();
    setup = setup.restart().await;
    // Killed while the payment is recorded: nothing was sent.
    *setup.purse.crash.lock().unwrap() = true;
    assert!(setup.stamper.step().await.is_err());
    assert!(setup.mempool().is_empty());
    *setup.purse.crash.lock().unwrap() = false;
    setup = setup.restart().await;
    // Killed between recording and sending: the node was away.
    setup.step().await;
    let sent = setup.mempool();
    setup.world.0.lock().unwrap().mempool.clear();
    setup = setup.restart().await;
    setup.step().await;
    assert_eq!(setup.mempool(), sent, "the same transaction, not another");
    // Blocks that came while nobody looked.
    setup.mine();
    setup.world.0.lock().unwrap().mine(vec![]);
    setup = setup.restart().await;
    setup.step().await;
    assert_eq!(setup.assert_stamped(&digest(1)).await, sent[0]);
    let paid =
        setup.world.0.lock().unwrap().confirmed().filter(|tx| tx.input[0].previous_output != OutPoint::null()).count();
    assert_eq!(paid, 1);
}

async fn a_paused_holder_cannot_write_after_its_successor(url: String) {
    let mut setup = Setup::new(url).await;
    setup.step().await;
    expire(&setup.url).await;
    let other = Setup::with(setup.url.clone(), setup.world.clone(), setup.purse.clone()).await;
    let mut successor = other.stamper;
    assert!(successor.step().await.unwrap());
    setup.calendar.submit(&digest(1)).await.unwrap();
    assert!(!setup.stamper.step().await.unwrap(), "the lease has passed on");
    assert!(setup.mempool().is_empty(), "and nothing was paid");
    assert!(successor.step().await.unwrap());
    assert_eq!(setup.mempool().len(), 1);
}

async fn no_coins_and_no_node_are_told_and_pass(url: String) {
    let mut setup = Setup::new(url).await;
    setup.calendar.submit(&digest(1)).await.unwrap();
    *setup.purse.empty.lock().unwrap() = true;
    let error = setup.stamper.step().await.unwrap_err().to_string();
    assert!(error.contains("mine 101 blocks"), "{error}");
    *setup.purse.empty.lock().unwrap() = false;
    setup.world.0.lock().unwrap().away = true;
    assert!(setup.stamper.step().await.unwrap_err().to_string().contains("node"));
    setup.world.0.lock().unwrap().away = false;
    setup.step().await;
    setup.mine();
    setup.step().await;
    setup.assert_stamped(&digest(1)).await;
}

async fn many_digests_are_found_through_merges(url: String) {
    let mut setup = Setup::new(url).await;
    let many = |from: u32, count: u32| -> Digests {
        let list: Vec<Vec<u8>> = (from..from + count).map(digest).collect();
        list.iter().map(Vec::as_slice).collect()
    };
    for batch in 0..12 {
        let receipt = setup.calendar.submit_bulk(many(batch * 5000, 5000)).await.unwrap();
        assert_eq!((receipt.count, receipt.commitments.len()), (5000, 1));
    }
    setup.calendar.submit(&digest(77)).await.unwrap();
    setup.step().await;
    setup.mine();
    setup.step().await;
    for number in [0, 1, 4999, 5000, 30_000, 59_999] {
        setup.assert_stamped(&digest(number)).await;
    }
    assert_eq!(setup.calendar.status(&digest(60_000)).await.unwrap(), None);
    let twice = setup.calendar.status_all(&digest(77), 10).await.unwrap();
    assert_eq!(twice.len(), 2, "posted twice");
    assert!(twice[0].batch < twice[1].batch, "the earliest first");
}
cairn_store::on_both_databases! {
    a_digest_becomes_a_proof,
    a_block_without_it_has_it_replaced_with_what_came_since,
    an_older_version_confirms_and_the_rest_goes_into_the_next_round,
    a_reorganisation_takes_the_proof_back_and_sends_again,
    a_reorganisation_to_another_version_takes_the_next_round_away,
    a_version_that_the_wallet_cannot_replace_is_passed_over,
    a_transaction_that_is_built_again_opens_its_round_again,
    a_round_whose_digests_came_back_in_blocks_is_sent_no_more,
    a_fee_above_the_most_is_not_paid,
    a_crash_anywhere_loses_nothing_and_pays_once,
    a_paused_holder_cannot_write_after_its_successor,
    no_coins_and_no_node_are_told_and_pass,
    many_digests_are_found_through_merges,
}
