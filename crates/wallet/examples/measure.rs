//! Measures following the chain: `cargo run --release -p cairn-wallet --example measure -- BLOCKS REWARD_EVERY`.
//!
//! Blocks are made on the fly, so that the memory is the wallet's and not the chain's.

use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, Witness, absolute, block, constants::genesis_block, script::Builder, transaction,
};
use cairn_store::{Store, StoreOptions};
use cairn_wallet::{ChainSource, PaymentRequest, SendError, SourceError, Wallet};
use std::{collections::HashMap, sync::Arc, time::Instant};

struct Chain {
    hashes: Vec<BlockHash>,
    heights: HashMap<BlockHash, u32>,
    script: ScriptBuf,
    every: u32,
}

impl Chain {
    fn block(&self, height: u32, prev_blockhash: BlockHash) -> Block {
        let ours = height.is_multiple_of(self.every);
        let coinbase = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: Builder::new().push_int(i64::from(height)).push_int(0).into_script(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[[0; 32]]),
            }],
            output: vec![TxOut {
                value: Amount::from_sat(5_000_000_000),
                script_pubkey: if ours { self.script.clone() } else { ScriptBuf::new_op_return([1; 32]) },
            }],
        };
        let header = block::Header {
            version: block::Version::TWO,
            prev_blockhash,
            merkle_root: TxMerkleNode::from_raw_hash(coinbase.compute_txid().to_raw_hash()),
            time: 1_600_000_000 + height,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        };
        Block { header, txdata: vec![coinbase] }
    }
}

impl ChainSource for Chain {
    fn tip(&self) -> Result<(u32, BlockHash), SourceError> {
        let tip = self.hashes.len() - 1;
        Ok((u32::try_from(tip).map_err(|e| SourceError(e.to_string()))?, self.hashes[tip]))
    }

    fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, SourceError> {
        Ok(self.hashes.get(height as usize).copied())
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, SourceError> {
        let Some(&height) = self.heights.get(hash) else { return Ok(None) };
        Ok(Some(Arc::new(self.block(height, self.hashes[height as usize - 1]))))
    }

    fn send(&self, _: &Transaction) -> Result<(), SendError> {
        Ok(())
    }

    fn in_mempool(&self, _: &Txid) -> Result<bool, SourceError> {
        Ok(false)
    }

    fn min_fee_rate(&self) -> Result<u64, SourceError> {
        Ok(1_000)
    }
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("?").trim().to_owned()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let blocks: u32 = arguments.next().ok_or("usage: measure BLOCKS REWARD_EVERY")?.parse()?;
    let every: u32 = arguments.next().ok_or("usage: measure BLOCKS REWARD_EVERY")?.parse()?;
    let directory = tempfile::tempdir()?;
    let url = format!("sqlite://{}", directory.path().join("cairn.db").display());
    let store = Store::open(&url, &StoreOptions::default()).await?;
    let (wallet, _) = Wallet::open_or_create(&store, "default", Network::Regtest, None).await?;
    let mut chain = Chain {
        hashes: vec![genesis_block(Network::Regtest).block_hash()],
        heights: HashMap::new(),
        script: wallet.reward_address()?.script_pubkey(),
        every,
    };
    for height in 1..=blocks {
        let hash = chain.block(height, chain.hashes[height as usize - 1]).block_hash();
        chain.heights.insert(hash, height);
        chain.hashes.push(hash);
    }
    println!("{blocks} blocks, a reward of ours in every {every}; resident before: {}", memory());
    let chain: Arc<dyn ChainSource> = Arc::new(chain);
    let start = Instant::now();
    wallet.sync(&chain, |_, _| {}).await?;
    println!("sync {:?}; resident {}", start.elapsed(), memory());
    let start = Instant::now();
    let balance = wallet.balance().await?;
    println!("balance {:?}: {} + {} immature", start.elapsed(), balance.confirmed, balance.immature);
    if balance.confirmed > Amount::ZERO {
        let request = PaymentRequest { op_return: &[1; 32], fee_rate: 1_000, replaces: None, after: None };
        let start = Instant::now();
        let built = wallet.build_stamp(request).await?;
        println!("build a stamp {:?}", start.elapsed());
        let start = Instant::now();
        wallet.record_payment(&built).await?;
        println!("record it {:?}", start.elapsed());
    }
    drop(wallet);
    let start = Instant::now();
    let (wallet, _) = Wallet::open_or_create(&store, "default", Network::Regtest, None).await?;
    println!("open {:?}", start.elapsed());
    let start = Instant::now();
    wallet.sync(&chain, |_, _| {}).await?;
    println!("first sync after opening {:?}; resident {}", start.elapsed(), memory());
    let mut size = 0;
    for entry in std::fs::read_dir(directory.path())? {
        size += entry?.metadata()?.len();
    }
    println!("database and its log {} KiB", size / 1024);
    Ok(())
}
