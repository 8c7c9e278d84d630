//! Mutations at random of blocks that spend coins of every kind, counted by reason.

use crate::coins::{Coin, KINDS, VALUE, World};
use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{Amount, Block, CompactTarget, ScriptBuf, Sequence, Transaction, TxOut, Witness};
use cairn_chain::testing::{mine, seal};
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
        coins.extend(made.map(|((vout, kind), output)| Coin {
            outpoint: bitcoin::OutPoint { txid, vout },
            kind,
            output,
        }));
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

#[test]
fn random_mutants_are_judged_alike() {
    let count = number("CAIRN_ORACLE_BLOCKS", 3_000);
    let seed = number("CAIRN_ORACLE_SEED", 20_261_123);
    println!("CAIRN_ORACLE_BLOCKS={count} CAIRN_ORACLE_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let (mut mended, mut world, mut given) = (0, World::new(), 0);
    for n in 0..count {
        if given == BLOCKS_IN_A_WORLD {
            (world, given) = (World::new(), 0);
        }
        let mut block = valid(&mut world, &mut dice);
        let tip = world.pair.ours.tip();
        if dice.random_range(0..10) > 0 {
            for _ in 0..dice.random_range(1..3) {
                mutate(&mut dice, &mut block, tip.height + 1);
            }
            if block.header.target().to_be_bytes()[0] >= 0x40 {
                mend(&mut block);
                mended += 1;
            }
        } else {
            let mut bytes = serialize(&block);
            for _ in 0..dice.random_range(1..4) {
                let at = dice.random_range(0..bytes.len());
                bytes[at] ^= 1 << dice.random_range(0..8);
            }
            let theirs = bitcoinkernel::Block::new(&bytes).is_ok();
            match deserialize::<Block>(&bytes) {
                Ok(read) if theirs => block = read,
                // What has no transactions, or too much of something, is read by one and not by the other; both refuse it.
                read => {
                    assert!(read.is_err() || theirs, "block {n}: Core does not read what we read");
                    *reasons.entry("not a block".into()).or_default() += 1;
                    continue;
                }
            }
        }
        if block.txdata.iter().any(|tx| tx.input.is_empty()) {
            // Such a transaction has no encoding that Core reads: its marker stands where the number of inputs would.
            *reasons.entry("not a block".into()).or_default() += 1;
            continue;
        }
        given += 1;
        let refused = world.pair.give_with_several_faults(&block);
        if refused.is_none() {
            // Its coins are spent now.
            let spent: Vec<_> = block.txdata.iter().flat_map(|tx| &tx.input).map(|i| i.previous_output).collect();
            world.coins.retain(|coin| !spent.contains(&coin.outpoint));
            if world.coins.len() < 40 {
                (world, given) = (World::new(), 0);
            }
        }
        *reasons.entry(refused.unwrap_or_else(|| "valid".into())).or_default() += 1;
    }
    for (reason, count) in &reasons {
        println!("{count:8} {reason}");
    }
    println!("{count} blocks, {mended} of them made good again, no disagreement");
    if count >= 3_000 {
        assert!(mended * 10 >= count * 8, "{mended}");
        for reason in [
            "valid",
            "bad-txnmrklroot",
            "bad-txns-inputs-missingorspent",
            "bad-txns-inputs-duplicate",
            "bad-txns-in-belowout",
            "bad-txns-vout-toolarge",
            "bad-txns-vout-negative",
            "bad-txns-nonfinal",
            "bad-cb-missing",
            "bad-cb-multiple",
            "bad-cb-height",
            "bad-cb-amount",
            "time-too-old",
            "high-hash",
            "block-script-verify-flag-failed (Invalid Schnorr signature)",
            "block-script-verify-flag-failed (Witness program hash mismatch)",
        ] {
            assert!(reasons.contains_key(reason), "no block was refused for {reason}");
        }
    }
}
