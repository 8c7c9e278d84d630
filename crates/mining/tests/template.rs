//! Templates from a mempool on a regtest chain, mined and connected.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction};
use cairn_chain::testing::{self, NOW, spend};
use cairn_chain::{Chain, ChainConfig, ChainError};
use cairn_mempool::{Mempool, MempoolConfig};
use cairn_mining::{MiningError, build_block_with, build_template, mine};
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

static RUN: AtomicBool = AtomicBool::new(false);

struct Net {
    chain: Arc<Chain>,
    pool: Arc<Mempool>,
    _dir: tempfile::TempDir,
}

impl Net {
    fn new(blocks: u32) -> Net {
        let dir = tempfile::tempdir().unwrap();
        let pool: Arc<OnceLock<Arc<Mempool>>> = Arc::default();
        let observed = pool.clone();
        let config =
            ChainConfig { coin_cache_bytes: 8 << 20, ..ChainConfig::new(dir.path().to_owned(), testing::regtest()) };
        let observer = move |event: &_| {
            if let Some(pool) = observed.get() {
                pool.chain_event(event, NOW.into());
            }
        };
        let chain = Arc::new(Chain::open(config, Box::new(observer)).unwrap());
        let made = Arc::new(Mempool::new(MempoolConfig::default(), chain.clone()));
        assert!(pool.set(made.clone()).is_ok());
        testing::grow(&chain, blocks).unwrap();
        Net { chain, pool: made, _dir: dir }
    }

    fn script(&self) -> ScriptBuf {
        testing::anyone_can_spend()
    }

    /// The coinbase's coin of a block.
    fn coin(&self, height: u32) -> (OutPoint, Amount) {
        let block = self.chain.block(&self.chain.entry_at(height).unwrap().hash).unwrap().unwrap();
        (testing::reward(&block), block.txdata[0].output[0].value)
    }

    fn accept(&self, tx: &Transaction) -> bool {
        self.pool.accept(tx.clone(), NOW.into()).is_ok()
    }
}

#[test]
fn a_template_has_what_getblocktemplate_says_of_it() {
    let net = Net::new(150);
    let tip = net.chain.tip();
    let (outpoint, value) = net.coin(1);
    let tx = spend(&[outpoint], &[value - Amount::from_sat(12_345)]);
    assert!(net.accept(&tx));
    let template = build_template(&net.chain, &net.pool, &net.script(), NOW).unwrap();
    let header = template.block.header;
    assert_eq!((template.height, header.prev_blockhash), (151, tip.hash));
    // Regtest halves every 150 blocks; its test deployment has been up for signalling since block 144.
    assert_eq!(template.coinbase_value, Amount::from_sat(25 * 100_000_000 + 12_345));
    assert_eq!(header.version.to_consensus(), 0x3000_0000);
    assert_eq!(header.bits.to_consensus(), 0x207f_ffff);
    assert_eq!((template.min_time, header.time), (tip.median_time_past + 1, NOW));
    assert!(template.block.check_merkle_root() && template.block.check_witness_commitment());
    let coinbase = &template.block.txdata[0];
    assert_eq!(coinbase.output[0].script_pubkey, net.script());
    assert_eq!(coinbase.output[1].script_pubkey, template.witness_commitment);
    assert_eq!((coinbase.lock_time.to_consensus_u32(), coinbase.input[0].sequence.0), (150, 0xffff_fffe));
    assert_eq!(template.entries.len(), 1);
    assert_eq!(*template.entries[0].tx, template.block.txdata[1]);

    // A clock that is behind the chain gets the least time that is allowed.
    let early = build_template(&net.chain, &net.pool, &net.script(), 0);
    assert!(early.is_err() || early.is_ok_and(|early| early.block.header.time == template.min_time));
}

#[test]
fn a_mined_template_connects() {
    let net = Net::new(101);
    let (outpoint, value) = net.coin(1);
    let tx = spend(&[outpoint], &[value - Amount::from_sat(1000)]);
    assert!(net.accept(&tx));
    let mut block = build_template(&net.chain, &net.pool, &net.script(), NOW).unwrap().block;
    assert!(mine(&mut block, &RUN).unwrap() > 0);
    net.chain.process_block(Arc::new(block.clone()), NOW, false).unwrap();
    assert_eq!(net.chain.tip().hash, block.block_hash());
    assert_eq!(net.pool.info().size, 0);
}

#[test]
fn a_chain_grows_from_genesis_by_templates() {
    let net = Net::new(0);
    for height in 1..=20 {
        let mut block = build_template(&net.chain, &net.pool, &net.script(), NOW).unwrap().block;
        mine(&mut block, &RUN).unwrap();
        net.chain.process_block(Arc::new(block), NOW, false).unwrap();
        assert_eq!(net.chain.tip().height, height);
    }
}

#[test]
fn a_block_of_given_transactions_has_exactly_those_and_the_subsidy() {
    let net = Net::new(102);
    let (first, second) = (net.coin(1), net.coin(2));
    let parent = spend(&[first.0], &[first.1 - Amount::from_sat(5000)]);
    let child = spend(&[OutPoint { txid: parent.compute_txid(), vout: 0 }], &[Amount::from_sat(1000)]);
    assert!(net.accept(&spend(&[second.0], &[second.1 - Amount::from_sat(700)])));
    let given = vec![parent.clone(), child.clone()];
    let mut block = build_block_with(&net.chain, given.clone(), &net.script(), NOW).unwrap();
    assert_eq!(block.txdata[1..], given);
    assert_eq!(block.txdata[0].output[0].value, testing::subsidy(103));
    mine(&mut block, &RUN).unwrap();
    net.chain.process_block(Arc::new(block), NOW, false).unwrap();
    assert_eq!(net.pool.info().size, 1);

    let wrong = build_block_with(&net.chain, vec![parent], &net.script(), NOW).unwrap_err();
    let MiningError::Chain(ChainError::Rejected(reason)) = wrong else { panic!("{wrong}") };
    assert_eq!(reason.reason, "bad-txns-inputs-missingorspent");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever the mempool took in whatever shape, the block of it is valid, and nothing that fits is left out.
    #[test]
    fn every_selection_makes_a_valid_block(
        spends in prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 1..4), 1u64..4, 0u64..20_000), 1..40)
    ) {
        let net = Net::new(106);
        let mut coins: Vec<(OutPoint, Amount)> = (1..=6).map(|height| net.coin(height)).collect();
        for (picks, count, fee) in spends {
            let mut inputs: Vec<(OutPoint, Amount)> = picks.iter().map(|pick| *pick.get(&coins)).collect();
            inputs.sort();
            inputs.dedup();
            let value: u64 = inputs.iter().map(|(_, value)| value.to_sat()).sum();
            let each = Amount::from_sat((value - fee) / count);
            let outpoints: Vec<OutPoint> = inputs.iter().map(|(outpoint, _)| *outpoint).collect();
            let tx = spend(&outpoints, &vec![each; count as usize]);
            // Spent coins stay among the picks, so that replacements happen too; refusals are as good as acceptances.
            if net.accept(&tx) {
                let txid = tx.compute_txid();
                coins.extend((0..count as u32).map(|vout| (OutPoint { txid, vout }, each)));
            }
        }
        let mut template = build_template(&net.chain, &net.pool, &net.script(), NOW).unwrap();
        prop_assert_eq!(template.entries.len(), net.pool.info().size);
        let fees: u64 = template.entries.iter().map(|entry| entry.fee.to_sat()).sum();
        prop_assert_eq!(template.coinbase_value, testing::subsidy(107) + Amount::from_sat(fees));
        prop_assert_eq!(fees, net.pool.info().total_fee);
        mine(&mut template.block, &RUN).unwrap();
        net.chain.process_block(Arc::new(template.block), NOW, false).unwrap();
        prop_assert_eq!(net.pool.info().size, 0);
    }
}
