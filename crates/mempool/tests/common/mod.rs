//! A regtest chain with a mempool that follows it.
#![allow(dead_code, unreachable_pub, reason = "each test binary includes the whole and uses a part")]

use bitcoin::{Amount, Block, OutPoint, Sequence, Transaction, TxOut, Txid};
use cairn_chain::testing::{self, NOW, spend};
use cairn_chain::{Chain, ChainConfig, ChainEvent};
use cairn_consensus::error::{TxReject, TxRejectKind};
use cairn_mempool::{Accepted, Mempool, MempoolConfig};
use std::sync::{Arc, Mutex, OnceLock};

/// The mempool's clock in tests, seconds since 1970.
pub const TIME: u64 = NOW as u64;

/// An output that anyone can spend.
#[derive(Debug, Clone, Copy)]
pub struct Coin {
    pub outpoint: OutPoint,
    pub value: Amount,
}

pub struct Net {
    pub chain: Arc<Chain>,
    pub pool: Arc<Mempool>,
    /// Mature coinbases.
    pub coins: Mutex<Vec<Coin>>,
    _dir: tempfile::TempDir,
}

impl Net {
    pub fn new() -> Net {
        Net::with(MempoolConfig::default())
    }

    pub fn with(config: MempoolConfig) -> Net {
        Net::watched(config, |_, _| {})
    }

    /// `watch` hears every event after the mempool did.
    pub fn watched(config: MempoolConfig, watch: impl Fn(&Arc<Mempool>, &ChainEvent) + Send + Sync + 'static) -> Net {
        let dir = tempfile::tempdir().unwrap();
        let pool: Arc<OnceLock<Arc<Mempool>>> = Arc::default();
        let observed = pool.clone();
        let chain_config =
            ChainConfig { coin_cache_bytes: 8 << 20, ..ChainConfig::new(dir.path().to_owned(), testing::regtest()) };
        let observer = move |event: &_| {
            if let Some(pool) = observed.get() {
                pool.chain_event(event, TIME);
                watch(pool, event);
            }
        };
        let chain = Arc::new(Chain::open(chain_config, Box::new(observer)).unwrap());
        let made = Arc::new(Mempool::new(config, chain.clone()));
        assert!(pool.set(made.clone()).is_ok());
        let blocks = testing::grow(&chain, 110).unwrap();
        let reward =
            |block: &Arc<Block>| Coin { outpoint: testing::reward(block), value: block.txdata[0].output[0].value };
        // The tenth coinbase has its hundredth confirmation in block 110, so may be in block 111 at the latest.
        let coins = blocks[..11].iter().rev().map(reward).collect();
        Net { chain, pool: made, coins: Mutex::new(coins), _dir: dir }
    }

    /// A mature coinbase that no test has had.
    pub fn coin(&self) -> Coin {
        self.coins.lock().unwrap().pop().expect("a test needs no more coins than there are")
    }

    pub fn accept(&self, tx: &Transaction) -> Result<Accepted, TxReject> {
        self.pool.accept(tx.clone(), TIME)
    }

    /// Accepts; gives the id.
    pub fn add(&self, tx: &Transaction) -> Txid {
        self.accept(tx).unwrap_or_else(|reject| panic!("{reject}"));
        tx.compute_txid()
    }

    /// The reason for which a transaction is refused, the same in a test as in earnest.
    pub fn refuses(&self, tx: &Transaction) -> String {
        self.refusal(tx).reason.into_owned()
    }

    pub fn refusal(&self, tx: &Transaction) -> TxReject {
        let before = self.pool.sequence();
        let tested = self.pool.test_accept(tx, TIME).expect_err("it must be refused");
        let refused = self.accept(tx).expect_err("it must be refused");
        assert_eq!(tested, refused);
        assert_eq!(self.pool.sequence(), before);
        assert_ne!(refused.kind, TxRejectKind::Internal);
        refused
    }

    /// Mines a block on the tip with these transactions.
    pub fn confirm(&self, transactions: &[Transaction]) -> Arc<Block> {
        let tip = self.chain.tip();
        let block = Arc::new(testing::block_after(&tip.header, tip.height + 1, 7, transactions.to_vec()));
        self.chain.process_block(block.clone(), NOW, false).unwrap();
        assert_eq!(self.chain.tip().hash, block.block_hash());
        block
    }

    pub fn has(&self, tx: &Transaction) -> bool {
        self.pool.get(&tx.compute_txid()).is_some()
    }

    pub fn size(&self) -> usize {
        self.pool.info().size
    }

    /// Splits a fresh coinbase into `count` confirmed coins.
    pub fn split(&self, count: u64) -> Vec<Coin> {
        let tx = pay(&[self.coin()], 0, count);
        self.confirm(std::slice::from_ref(&tx));
        outputs(&tx)
    }
}

/// Spends coins to equal outputs, less a fee in satoshi (and what does not divide).
pub fn pay(coins: &[Coin], fee: u64, count: u64) -> Transaction {
    let value: u64 = coins.iter().map(|coin| coin.value.to_sat()).sum();
    let each = (value - fee) / count;
    let mut amounts = vec![Amount::from_sat(each); count as usize];
    amounts[0] += Amount::from_sat(value - fee - each * count);
    spend(&coins.iter().map(|coin| coin.outpoint).collect::<Vec<_>>(), &amounts)
}

/// The coins that a transaction makes.
pub fn outputs(tx: &Transaction) -> Vec<Coin> {
    let txid = tx.compute_txid();
    let coin = |(output, vout): (&TxOut, u32)| Coin { outpoint: OutPoint { txid, vout }, value: output.value };
    tx.output.iter().zip(0..).map(coin).collect()
}

/// With this sequence in every input.
pub fn sequenced(mut tx: Transaction, sequence: u32) -> Transaction {
    for input in &mut tx.input {
        input.sequence = Sequence(sequence);
    }
    tx
}

/// With another version.
pub fn version(mut tx: Transaction, version: i32) -> Transaction {
    tx.version = bitcoin::transaction::Version(version);
    tx
}
