//! Mutations at random of blocks that spend coins of every kind, counted by reason.

use crate::catalogue;
use crate::coins::{Coin, KINDS, Purse, VALUE, World};
use crate::scripts;
use crate::spends::Case;
use crate::verify::random_spend;
use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{Amount, Block, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxOut, Witness};
use cairn_chain::testing::{block_after, mine, seal};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

/// Core's engine checks its whole index after each block of regtest, which takes longer the more it has seen.
const BLOCKS_IN_A_WORLD: usize = 250;

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// A valid block of a few transactions that spend coins of random kinds, and each other's outputs.
fn valid(world: &mut World, dice: &mut StdRng) -> Block {
    let mut transactions: Vec<Transaction> = Vec::new();
    let mut coins: Vec<Coin> = world.coins.clone();
    for _ in 0..dice.random_range(1..5) {
        let mut inputs = Vec::new();
        for _ in 0..dice.random_range(1..4) {
            let at = dice.random_range(0..coins.len());
            inputs.push(coins.swap_remove(at));
        }
        let worth: u64 = inputs.iter().map(|coin| coin.output.value.to_sat()).sum();
        let count = dice.random_range(1..4u64);
        let kinds: Vec<_> = (0..count).map(|_| *KINDS.choose(dice).expect("kinds")).collect();
        let value = Amount::from_sat((worth / count).saturating_sub(dice.random_range(0..100)));
        let outputs = kinds.iter().map(|kind| TxOut { value, script_pubkey: world.purse.script_pubkey(*kind) });
        let outputs: Vec<TxOut> = outputs.collect();
        let tx = world.purse.pay(&inputs, outputs.clone());
        let txid = tx.compute_txid();
        let made = (0..).zip(kinds).zip(outputs);
        coins.extend(made.map(|((vout, kind), output)| Coin { outpoint: OutPoint { txid, vout }, kind, output }));
        transactions.push(tx);
    }
    world.block(transactions)
}

fn bytes(dice: &mut StdRng, most: usize) -> Vec<u8> {
    let length = dice.random_range(0..=most);
    (0..length).map(|_| dice.random()).collect()
}

/// Changes one byte, adds one or takes one away.
fn spoil(dice: &mut StdRng, bytes: &mut Vec<u8>) {
    let at = dice.random_range(0..=bytes.len());
    match dice.random_range(0..4) {
        0 => bytes.insert(at, dice.random()),
        1 if at < bytes.len() => drop(bytes.remove(at)),
        2 if at < bytes.len() => bytes[at] = dice.random(),
        _ if at < bytes.len() => bytes[at] ^= 1 << dice.random_range(0..8),
        _ => bytes.push(dice.random()),
    }
}

pub(crate) fn mutate_script(dice: &mut StdRng, script: &mut ScriptBuf) {
    let mut bytes = script.to_bytes();
    spoil(dice, &mut bytes);
    *script = bytes.into();
}

pub(crate) fn mutate_witness(dice: &mut StdRng, witness: &mut Witness) {
    let mut items = witness.to_vec();
    match dice.random_range(0..6) {
        0 => items.push(bytes(dice, 80)),
        1 => drop(items.pop()),
        2 => items.insert(0, bytes(dice, 2)),
        _ if !items.is_empty() => {
            let at = dice.random_range(0..items.len());
            spoil(dice, &mut items[at]);
        }
        _ => items.push(Vec::new()),
    }
    *witness = Witness::from_slice(&items);
}

fn mutate_transaction(dice: &mut StdRng, tx: &mut Transaction, height: u32, time: u32) {
    let input = dice.random_range(0..tx.input.len().max(1));
    let output = dice.random_range(0..tx.output.len().max(1));
    match dice.random_range(0..14) {
        0 => tx.version = TxVersion(dice.random_range(-1..4)),
        1 => {
            let near =
                [height, height + 1, height - 1, time, time + 600, time - 600, 499_999_999, 500_000_000, u32::MAX];
            tx.lock_time = LockTime::from_consensus(*near.choose(dice).expect("times"));
        }
        2 | 3 if input < tx.input.len() => mutate_witness(dice, &mut tx.input[input].witness),
        4 if input < tx.input.len() => mutate_script(dice, &mut tx.input[input].script_sig),
        5 if input < tx.input.len() => {
            let near = [0, 1, 2, 110, 0x40_0000, 0x40_0001, 0x40_00ff, 0x8000_0000, u32::MAX - 1, u32::MAX];
            tx.input[input].sequence = Sequence(*near.choose(dice).expect("sequences"));
        }
        6 if input < tx.input.len() => tx.input[input].previous_output.vout ^= 1 << dice.random_range(0..4),
        7 if input < tx.input.len() => {
            let again = tx.input[input].clone();
            tx.input.push(again);
        }
        8 if input < tx.input.len() => drop(tx.input.remove(input)),
        9 if output < tx.output.len() => {
            let near = [0, 1, VALUE, 10 * VALUE, 5_000_000_000, 2_100_000_000_000_000, 2_100_000_000_000_001, u64::MAX];
            tx.output[output].value = Amount::from_sat(*near.choose(dice).expect("values"));
        }
        10 if output < tx.output.len() => mutate_script(dice, &mut tx.output[output].script_pubkey),
        11 if output < tx.output.len() => {
            let again = tx.output[output].clone();
            tx.output.push(again);
        }
        12 if output < tx.output.len() => drop(tx.output.remove(output)),
        _ => tx.input.reverse(),
    }
}

fn mutate(dice: &mut StdRng, block: &mut Block, height: u32) {
    let time = block.header.time;
    let at = dice.random_range(0..block.txdata.len().max(1));
    match dice.random_range(0..20) {
        0 => block.header.version = Version::from_consensus(dice.random_range(-1..6)),
        1 => block.header.time = time.wrapping_add(dice.random_range(0..20_000)).wrapping_sub(10_000),
        2 => block.header.bits = CompactTarget::from_consensus(0x207f_ffff ^ 1 << dice.random_range(0..8)),
        3 if at < block.txdata.len() => drop(block.txdata.remove(at)),
        4 if at < block.txdata.len() => {
            let again = block.txdata[at].clone();
            block.txdata.push(again);
        }
        5 if at < block.txdata.len() => {
            let other = dice.random_range(0..block.txdata.len());
            block.txdata.swap(at, other);
        }
        6 if !block.txdata.is_empty() => mutate_transaction(dice, &mut block.txdata[0], height, time),
        _ if at < block.txdata.len() => mutate_transaction(dice, &mut block.txdata[at], height, time),
        _ => {}
    }
}

/// Commitment, root and work, as far as what is left has a place for them.
fn mend(block: &mut Block) {
    let sealable = block.txdata.first().is_some_and(|tx| !tx.output.is_empty());
    if sealable {
        seal(block);
    } else {
        block.header.merkle_root = block.compute_merkle_root().unwrap_or(block.header.merkle_root);
        mine(&mut block.header);
    }
}

/// What is to be seen: each reason of the catalogue and of the scripts, and where they are.
struct Reasons(BTreeMap<String, Vec<Source>>);

#[derive(Debug, Clone, Copy)]
enum Source {
    Catalogue(usize),
    Script(usize),
}

impl Reasons {
    fn new(cases: &[Case]) -> Self {
        let catalogue = catalogue::reasons().into_iter().map(str::to_owned).enumerate();
        let catalogue = catalogue.map(|(at, reason)| (reason, Source::Catalogue(at)));
        let scripts = cases.iter().enumerate();
        let scripts = scripts.filter_map(|(at, case)| Some((case.reason()?, Source::Script(at))));
        let mut sources: BTreeMap<String, Vec<Source>> = BTreeMap::new();
        for (reason, source) in catalogue.chain(scripts) {
            sources.entry(reason).or_default().push(source);
        }
        Self(sources)
    }

    /// Any of the sources of any reason.
    fn choose(&self, dice: &mut StdRng) -> Source {
        let at = dice.random_range(0..self.0.len());
        let sources = self.0.values().nth(at).expect("in range");
        *sources.choose(dice).expect("no reason is without a source")
    }
}

/// A block that pays a coin to a script, and spends that.
fn with_spend(
    world: &mut World,
    dice: &mut StdRng,
    output: TxOut,
    spend: impl FnOnce(OutPoint) -> Transaction,
) -> Block {
    let coin = world.coins.choose(dice).expect("coins are left").clone();
    let parent = world.purse.pay(&[coin], vec![output]);
    let child = spend(OutPoint { txid: parent.compute_txid(), vout: 0 });
    world.block(vec![parent, child])
}

/// A mutant whose root, commitment and work are good, unless they are what is mutated.
fn mended(
    world: &mut World,
    dice: &mut StdRng,
    reasons: &Reasons,
    cases: &[Case],
    secp: &Secp256k1<VerifyOnly>,
) -> Block {
    let height = world.pair.ours.tip().height + 1;
    match dice.random_range(0..9) {
        0..3 => match reasons.choose(dice) {
            Source::Catalogue(at) => catalogue::mutant(world, at),
            Source::Script(at) => {
                let case = &cases[at];
                let output = TxOut { value: Amount::from_sat(VALUE), script_pubkey: case.script_pubkey() };
                let purse = Purse::new();
                with_spend(world, dice, output, |place| case.spend(&purse, place))
            }
        },
        3 => {
            let (mut tx, output) = random_spend(dice, secp);
            with_spend(world, dice, output, |place| {
                tx.input[0].previous_output = place;
                tx
            })
        }
        _ => {
            let mut block = valid(world, dice);
            for _ in 0..dice.random_range(1..3) {
                mutate(dice, &mut block, height);
            }
            if block.header.target().to_be_bytes()[0] >= 0x40 {
                mend(&mut block);
            }
            block
        }
    }
}

/// A block with some bits changed, as far as both read it.
fn spoilt(world: &mut World, dice: &mut StdRng) -> Option<Block> {
    let mut bytes = serialize(&valid(world, dice));
    for _ in 0..dice.random_range(1..4) {
        let at = dice.random_range(0..bytes.len());
        bytes[at] ^= 1 << dice.random_range(0..8);
    }
    let theirs = bitcoinkernel::Block::new(&bytes).is_ok();
    // What has no transactions, or too much of something, is read by one and not by the other; both refuse it.
    let ours = deserialize::<Block>(&bytes);
    assert!(ours.is_err() || theirs, "Core does not read what we read: {bytes:02x?}");
    ours.ok()
}

#[test]
fn random_mutants_are_judged_alike() {
    let count = number("CAIRN_ORACLE_BLOCKS", 3_000);
    let seed = number("CAIRN_ORACLE_SEED", 20_261_123);
    println!("CAIRN_ORACLE_BLOCKS={count} CAIRN_ORACLE_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let (cases, secp) = (scripts::cases(), Secp256k1::verification_only());
    let expected = Reasons::new(&cases);
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let (mut made_good, mut world, mut given) = (0, World::new(), 0);
    for _ in 0..count {
        if given == BLOCKS_IN_A_WORLD || world.coins.len() < 40 {
            (world, given) = (World::new(), 0);
        }
        let block = if dice.random_range(0..10) > 0 {
            made_good += 1;
            Some(mended(&mut world, &mut dice, &expected, &cases, &secp))
        } else {
            spoilt(&mut world, &mut dice)
        };
        // A transaction with outputs and no inputs has no encoding that Core reads: its marker stands where their number would.
        let block = block.filter(|block| block.txdata.iter().all(|tx| !tx.input.is_empty() || tx.output.is_empty()));
        let Some(block) = block else {
            *found.entry("not a block".into()).or_default() += 1;
            continue;
        };
        let mut give = |world: &World, block: &Block| {
            given += 1;
            let refused = world.pair.give_with_several_faults(block);
            *found.entry(refused.clone().unwrap_or_else(|| "valid".into())).or_default() += 1;
            refused
        };
        if give(&world, &block).is_none() {
            // Its coins are spent now.
            let spent: Vec<_> = block.txdata.iter().flat_map(|tx| &tx.input).map(|i| i.previous_output).collect();
            world.coins.retain(|coin| !spent.contains(&coin.outpoint));
        } else {
            // What was refused is no better the second time, nor is what comes after it.
            match dice.random_range(0..20) {
                0 => drop(give(&world, &block)),
                1 => {
                    let height = world.pair.ours.tip().height + 2;
                    drop(give(&world, &block_after(&block.header, height, 0, Vec::new())));
                }
                _ => {}
            }
        }
    }
    for (reason, count) in &found {
        println!("{count:8} {reason}");
    }
    println!("{count} mutants, {made_good} of them made good again, {} reasons, no disagreement", found.len());
    if count >= 3_000 {
        assert!(made_good * 10 >= count * 8, "{made_good}");
        let others = ["valid", "not a block", "duplicate-invalid", "bad-prevblk"];
        for reason in expected.0.keys().map(String::as_str).chain(others) {
            assert!(found.contains_key(reason), "no block was refused for {reason}");
        }
    }
}
