//! Any bytes are a block or they are refused. What is said of a block is said the same way twice, by Cairn and by the
//! `bitcoin` crate; one that connects makes no money, spends only coins that there are, and can be undone.
#![no_main]

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, PubkeyHash, ScriptBuf, TxOut, Txid, block::Header,
};
use cairn_chain::testing::{anyone_can_spend, seal};
use cairn_consensus::block::{
    Checks, WitnessRoot, block_subsidy, block_weight, check_block, check_not_mutated, contextual_check_block, txids,
};
use cairn_consensus::coins::{Coin, CoinView};
use cairn_consensus::connect::{AncestorTimes, ConnectError, Connected, Place, ScriptCheck, connect_block};
use cairn_consensus::error::{BlockReject, BlockRejectKind};
use cairn_consensus::header::{check_header, contextual_check_header};
use cairn_consensus::params::Params;
use cairn_consensus::pow::Ancestors;
use cairn_consensus::signet::signet_transactions;
use cairn_fuzz::{Input, pick};
use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

/// All networks, regtest first: on it work is found at once.
static NETWORKS: LazyLock<Vec<Params>> = LazyLock::new(|| {
    let networks = [Network::Regtest, Network::Bitcoin, Network::Testnet4, Network::Signet];
    networks.into_iter().map(|network| Params::new(network).expect("it has parameters")).collect()
});

/// Headers ten minutes apart, up to a height.
struct Headers<'a>(u32, &'a Header);

impl Ancestors for Headers<'_> {
    fn height(&self) -> u32 {
        self.0
    }
    fn header(&self, height: u32) -> Header {
        Header { time: self.1.time.saturating_add(height.saturating_mul(600)), ..*self.1 }
    }
}

impl AncestorTimes for Headers<'_> {
    fn median_time_past(&self, height: u32) -> u32 {
        Ancestors::median_time_past(&Headers(height, self.1))
    }
}

#[derive(Clone, PartialEq, Debug)]
struct Coins(HashMap<OutPoint, Coin>);

impl CoinView for Coins {
    type Error = Infallible;
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, Infallible> {
        Ok(self.0.get(outpoint).cloned())
    }
}

/// Transaction id of every coin that is there before the block, so that the fuzzer can name them.
const COINS_TXID: [u8; 32] = [9; 32];
/// Where a transaction id begins so, its last byte says which transaction of the block it stands for.
const IN_BLOCK: u8 = 0xee;

impl Coins {
    /// Coins of several heights, each locked by another kind of script.
    fn before(height: u32) -> Self {
        let locks: [fn() -> ScriptBuf; 6] = [
            || ScriptBuf::from_bytes(vec![OP_TRUE.to_u8()]),
            anyone_can_spend,
            || ScriptBuf::from_bytes(vec![OP_TRUE.to_u8()]).to_p2sh(),
            || anyone_can_spend().to_p2sh(),
            || ScriptBuf::new_p2pkh(&PubkeyHash::all_zeros()),
            || ScriptBuf::from_bytes(vec![0x52, 2, 1, 2]),
        ];
        let coin = |n: u32| {
            let value = if n == 23 { Amount::MAX_MONEY } else { Amount::from_sat(u64::from(n) * 100_000_000) };
            let output = TxOut { value, script_pubkey: locks[n as usize % locks.len()]() };
            Coin { output, height: (n * 37) % height, coinbase: n % 4 == 3 }
        };
        let outpoint = |n| OutPoint::new(Txid::from_byte_array(COINS_TXID), n);
        Self((0..24).map(|n| (outpoint(n), coin(n))).collect())
    }

    fn value(&self) -> u128 {
        self.0.values().map(|coin| u128::from(coin.output.value.to_sat())).sum()
    }

    /// Spends and creates. Returns the coins spent, one list a transaction but the first.
    fn apply(&mut self, block: &Block, txids: &[Txid], height: u32) -> Vec<Vec<Coin>> {
        let mut spent = Vec::new();
        for (n, (tx, &txid)) in block.txdata.iter().zip(txids).enumerate() {
            if n > 0 {
                let mut take = |outpoint| self.0.remove(outpoint).expect("a block spends coins that are there");
                spent.push(tx.input.iter().map(|input| take(&input.previous_output)).collect());
            }
            for (vout, output) in (0..).zip(&tx.output) {
                let coin = Coin { output: output.clone(), height, coinbase: n == 0 };
                let old = self.0.insert(OutPoint { txid, vout }, coin);
                assert_eq!(old, None, "a coin was overwritten");
            }
        }
        spent
    }

    fn undo(&mut self, block: &Block, txids: &[Txid], connected: &Connected) {
        for (n, (tx, &txid)) in block.txdata.iter().zip(txids).enumerate().rev() {
            for (vout, _) in (0..).zip(&tx.output) {
                self.0.remove(&OutPoint { txid, vout }).expect("the block created it");
            }
            if n > 0 {
                for (input, coin) in tx.input.iter().zip(&connected.undo.0[n - 1].0) {
                    self.0.insert(input.previous_output, coin.clone());
                }
            }
        }
    }
}

/// Gives inputs that stand for an earlier transaction of the block its id.
fn link(block: &mut Block) {
    for n in 1..block.txdata.len() {
        for input in 0..block.txdata[n].input.len() {
            let bytes = block.txdata[n].input[input].previous_output.txid.to_byte_array();
            if bytes[..31] == [IN_BLOCK; 31] {
                let txid = block.txdata[pick(bytes[31], n)].compute_txid();
                block.txdata[n].input[input].previous_output.txid = txid;
            }
        }
    }
}

/// What only the data, not the header, is condemned for.
fn assert_kind(refused: &BlockReject) {
    let of_the_data = [
        "bad-txnmrklroot",
        "bad-txns-duplicate",
        "bad-witness-nonce-size",
        "bad-witness-merkle-match",
        "unexpected-witness",
    ];
    assert_eq!(refused.kind == BlockRejectKind::Mutated, of_the_data.contains(&&*refused.reason), "{refused}");
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let (shape, height) = (input.u8(), input.u32());
    let Ok(mut block) = deserialize::<Block>(input.rest()) else { return };
    assert_eq!(serialize(&block), input.rest(), "a block has one form");

    let params = &NETWORKS[pick(shape >> 1 & 3, 4)];
    let is_sealed = shape & 1 == 1 && !block.txdata.is_empty() && !block.txdata[0].output.is_empty();
    let previous = Headers(height % 1_000_000, &params.genesis.header);
    let height = previous.0 + 1;
    if shape & 8 != 0 {
        link(&mut block);
    }
    if is_sealed {
        block.header.prev_blockhash = params.genesis_hash;
        block.header.bits = CompactTarget::from_consensus(0x207f_ffff);
        // The last output then commits to the witnesses, as those of the other tests' blocks do.
        seal(&mut block);
    }

    let (ids, witnesses) = (txids(&block), WitnessRoot::of(&block));
    assert_eq!(block_weight(&block) as u64, block.weight().to_wu());
    let _ = signet_transactions(&block, &ids, &anyone_can_spend());
    let _ = contextual_check_header(&block.header, &previous, params, previous.header(previous.0).time);
    let checked = check_block(&block, &ids, params, Checks::ALL);
    match &checked {
        Err(refused) => assert_kind(refused),
        Ok(()) => {
            check_header(&block.header, params).expect("its work was checked");
            assert!(block.check_merkle_root());
        }
    }
    // As a template is tried: more blocks come this far.
    let untied = Checks { proof_of_work: false, merkle_root: false };
    let tried = check_block(&block, &ids, params, untied);
    assert!(tried.is_ok() || checked.is_err());
    if tried.is_err() {
        return;
    }
    let placed = contextual_check_block(&block, witnesses, &previous, params);
    match &placed {
        Err(refused) => assert_kind(refused),
        Ok(()) if height >= params.segwit_height => assert!(block.check_witness_commitment()),
        Ok(()) => {}
    }
    let with_root = Checks { proof_of_work: false, merkle_root: true };
    if check_not_mutated(&block, &ids, witnesses, height, params).is_ok() {
        assert!(check_block(&block, &ids, params, with_root).is_ok());
        assert!(placed.as_ref().err().is_none_or(|refused| refused.kind == BlockRejectKind::Consensus));
    } else {
        assert!(checked.is_err() || placed.is_err());
    }

    let mut coins = Coins::before(height);
    let hash = if shape & 16 == 0 { block.block_hash() } else { BlockHash::all_zeros() };
    let bip34_ancestor = params.bip34_hash.filter(|_| height > params.bip34_height);
    let place = Place { height, hash, bip34_ancestor, ancestors: &previous };
    let block = Arc::new(block);
    let mut checks = Vec::new();
    let connected = match connect_block(&block, &ids, &place, params, &coins, |check| checks.push(check)) {
        Ok(connected) => connected,
        Err(ConnectError::Rejected(refused)) => return assert_eq!(refused.kind, BlockRejectKind::Consensus),
        Err(ConnectError::View(never)) => match never {},
    };
    for check in &checks {
        // Whatever they say, they say it of every input.
        (0..check.inputs()).for_each(|input| drop(check.run(input)));
    }
    assert_eq!(
        checks.iter().map(ScriptCheck::inputs).sum::<usize>(),
        connected.undo.0.iter().map(|tx| tx.0.len()).sum()
    );
    let before = coins.clone();
    let spent = coins.apply(&block, &ids, height);
    let undo: Vec<_> = connected.undo.0.iter().map(|tx| tx.0.clone()).collect();
    assert_eq!(undo, spent, "the undo data are the coins that were spent");
    let fees = u128::from(connected.fees.to_sat());
    let claimed: u128 = block.txdata[0].output.iter().map(|output| u128::from(output.value.to_sat())).sum();
    assert_eq!(before.value() + claimed, coins.value() + fees, "money is only what is spent and what is claimed");
    assert!(claimed <= fees + u128::from(block_subsidy(height, params).to_sat()), "money was made");
    coins.undo(&block, &ids, &connected);
    assert_eq!(coins, before, "undone, everything is as it was");
    let again =
        connect_block(&block, &ids, &place, params, &coins, drop).unwrap_or_else(|_| panic!("it connected before"));
    assert_eq!((again.fees, again.undo), (connected.fees, connected.undo));
});
