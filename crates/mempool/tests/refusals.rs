//! Every reason to refuse a transaction, by Core's own words.

mod common;

use bitcoin::absolute::LockTime;
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_DROP, OP_PUSHNUM_1, OP_RETURN};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Witness, transaction::Version};
use cairn_chain::testing;
use cairn_consensus::error::TxRejectKind;
use cairn_mempool::MempoolConfig;
use common::{Net, TIME, outputs, pay, sequenced, version};

fn carrier(bytes: usize) -> ScriptBuf {
    let data = PushBytesBuf::try_from(vec![0x11; bytes]).unwrap();
    Builder::new().push_opcode(OP_RETURN).push_slice(data).into_script()
}

#[test]
fn what_is_wrong_whatever_it_spends() {
    let net = Net::new();
    let coin = net.coin();
    let good = pay(&[coin], 1000, 1);
    let with = |change: &dyn Fn(&mut Transaction)| {
        let mut tx = good.clone();
        change(&mut tx);
        net.refuses(&tx)
    };
    assert_eq!(with(&|tx| tx.input.clear()), "bad-txns-vin-empty");
    assert_eq!(with(&|tx| tx.output.clear()), "bad-txns-vout-empty");
    assert_eq!(with(&|tx| tx.input.push(tx.input[0].clone())), "bad-txns-inputs-duplicate");
    assert_eq!(with(&|tx| tx.version = Version(0)), "version");
    assert_eq!(with(&|tx| tx.version = Version(4)), "version");
    assert_eq!(with(&|tx| tx.version = Version(-1)), "version");
    assert_eq!(with(&|tx| tx.output = vec![tx.output[0].clone(); 2400]), "tx-size");
    assert_eq!(with(&|tx| tx.input[0].script_sig = ScriptBuf::from(vec![0; 1651])), "scriptsig-size");
    assert_eq!(with(&|tx| tx.input[0].script_sig = ScriptBuf::from(vec![0x61])), "scriptsig-not-pushonly");
    assert_eq!(with(&|tx| tx.output[0].script_pubkey = ScriptBuf::from(vec![0x51])), "scriptpubkey");
    let key = [[2; 33]; 1];
    let multisig = |keys: usize| {
        let pushed = (0..keys).fold(Builder::new().push_opcode(OP_PUSHNUM_1), |script, _| script.push_slice(key[0]));
        pushed.push_int(keys as i64).push_opcode(OP_CHECKMULTISIG).into_script()
    };
    assert_eq!(with(&|tx| tx.output[0].script_pubkey = multisig(4)), "scriptpubkey");
    // The limit on data carriers is that of the whole transaction, which is reached first.
    assert_eq!(with(&|tx| tx.output[0].script_pubkey = carrier(99_996)), "tx-size");
    let dust = TxOut { value: Amount::from_sat(329), script_pubkey: testing::anyone_can_spend() };
    assert_eq!(with(&|tx| tx.output = vec![dust.clone(); 2]), "dust");
    let coinbase = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { script_sig: ScriptBuf::from(vec![0x51, 0x51]), ..TxIn::default() }],
        output: good.output.clone(),
    };
    assert_eq!(net.refuses(&coinbase), "coinbase");
    let small =
        |script: ScriptBuf| with(&|tx| tx.output = vec![TxOut { value: Amount::ZERO, script_pubkey: script.clone() }]);
    assert_eq!(small(carrier(2)), "tx-size-small");
    net.add(&good);
}

#[test]
fn several_data_carriers_share_one_limit_and_64_bytes_are_too_few() {
    let net = Net::new();
    let mut tx = pay(&[net.coin()], 100_000, 3);
    tx.output[1] = TxOut { value: Amount::ZERO, script_pubkey: carrier(80) };
    tx.output[2] = TxOut { value: Amount::ZERO, script_pubkey: carrier(90_000) };
    tx.output[0].value -= Amount::from_sat(10_000);
    net.add(&tx);
    // 65 bytes without witness are the least.
    let mut least = pay(&[net.coin()], 1000, 1);
    least.output[0] = TxOut { value: Amount::ZERO, script_pubkey: carrier(3) };
    assert_eq!(least.base_size(), 65);
    net.add(&least);
}

#[test]
fn what_comes_too_early() {
    let net = Net::new();
    let tip = net.chain.tip();
    let coin = net.coin();
    let locked = |lock: u32| {
        let mut tx = sequenced(pay(&[coin], 1000, 1), 0xffff_fffe);
        tx.lock_time = LockTime::from_consensus(lock);
        tx
    };
    assert_eq!(net.refuses(&locked(tip.height + 1)), "non-final");
    assert_eq!(net.refuses(&locked(tip.median_time_past)), "non-final");
    assert!(net.pool.test_accept(&locked(tip.height), TIME).is_ok());
    assert!(net.pool.test_accept(&locked(tip.median_time_past - 1), TIME).is_ok());

    // The first coinbase is 110 blocks deep: the next block is its 110th after it.
    assert_eq!(net.refuses(&sequenced(pay(&[coin], 1000, 1), 111)), "non-BIP68-final");
    let parent = sequenced(pay(&[coin], 1000, 1), 110);
    net.add(&parent);
    let child = pay(&outputs(&parent), 1000, 1);
    assert_eq!(net.refuses(&sequenced(child.clone(), 1)), "non-BIP68-final");
    assert!(net.pool.test_accept(&sequenced(child, 0), TIME).is_ok());

    let young = net.chain.block(&net.chain.entry_at(12).unwrap().hash).unwrap().unwrap();
    let young = common::Coin { outpoint: testing::reward(&young), value: young.txdata[0].output[0].value };
    let refused = net.refusal(&pay(&[young], 1000, 1));
    assert_eq!(
        (&*refused.reason, refused.kind),
        ("bad-txns-premature-spend-of-coinbase", TxRejectKind::PrematureSpend)
    );
}

#[test]
fn what_is_known_missing_or_worth_too_much() {
    let net = Net::new();
    let tx = pay(&[net.coin()], 1000, 1);
    net.add(&tx);
    assert_eq!(net.refuses(&tx), "txn-already-in-mempool");
    let mut other_witness = tx.clone();
    other_witness.input[0].witness.push([1]);
    assert_eq!(net.refuses(&other_witness), "txn-same-nonwitness-data-in-mempool");
    net.confirm(std::slice::from_ref(&tx));
    assert_eq!(net.refuses(&tx), "txn-already-known");
    let child = pay(&outputs(&tx), 1000, 1);
    let mut orphan = child.clone();
    orphan.input[0].previous_output = OutPoint { txid: child.compute_txid(), vout: 0 };
    let refused = net.refusal(&orphan);
    assert_eq!((&*refused.reason, refused.kind), ("bad-txns-inputs-missingorspent", TxRejectKind::MissingInputs));
    let mut beyond = child.clone();
    beyond.input[0].previous_output.vout = 1;
    assert_eq!(net.refuses(&beyond), "bad-txns-inputs-missingorspent");
    let mut greedy = child;
    greedy.output[0].value += Amount::from_sat(1001);
    assert_eq!(net.refuses(&greedy), "bad-txns-in-belowout");
}

#[test]
fn what_spends_in_ways_that_are_not_standard() {
    let net = Net::new();
    let anchor = ScriptBuf::from(vec![0x51, 0x02, 0x4e, 0x73]);
    let long = Builder::new().push_slice([7; 75]).push_opcode(OP_DROP).push_opcode(OP_PUSHNUM_1).into_script();
    let scripts = [
        ScriptBuf::from(vec![0x51]),
        ScriptBuf::from(vec![0x51, 0x02, 0x4e, 0x74]),
        anchor,
        ScriptBuf::from(vec![0x51]).to_p2sh(),
        ScriptBuf::from(vec![0xac; 16]).to_p2sh(),
        long.to_p2wsh(),
        testing::anyone_can_spend(),
    ];
    let mut funding = pay(&[net.coin()], 0, scripts.len() as u64);
    for (output, script) in funding.output.iter_mut().zip(&scripts) {
        output.script_pubkey = script.clone();
    }
    net.confirm(std::slice::from_ref(&funding));
    let coins = outputs(&funding);
    let spending = |place: usize, script_sig: &[u8], witness: &[&[u8]]| {
        let mut tx = pay(&[coins[place]], 5000, 1);
        tx.input[0].script_sig = ScriptBuf::from(script_sig.to_vec());
        tx.input[0].witness = Witness::from_slice(witness);
        tx
    };
    let refused = |tx: &Transaction| {
        let refused = net.refusal(tx);
        format!("{} {}", refused.reason, refused.debug)
    };
    let nonstandard = "bad-txns-nonstandard-inputs";
    assert_eq!(refused(&spending(0, &[], &[])), format!("{nonstandard} input 0 script unknown"));
    assert_eq!(refused(&spending(1, &[], &[])), format!("{nonstandard} input 0 witness program is undefined"));
    assert_eq!(refused(&spending(3, &[], &[])), format!("{nonstandard} input 0 P2SH redeemscript missing"));
    assert_eq!(
        refused(&spending(3, &[0x50], &[])),
        format!("{nonstandard} p2sh scriptsig malformed (input 0: Opcode missing or not understood)")
    );
    let sixteen: Vec<u8> = [vec![16], vec![0xac; 16]].concat();
    assert_eq!(
        refused(&spending(4, &sixteen, &[])),
        format!("{nonstandard} p2sh redeemscript sigops exceed limit (input 0: 16 > 15)")
    );
    let stuffed = net.refusal(&spending(2, &[], &[&[1]]));
    assert_eq!((&*stuffed.reason, stuffed.kind), ("bad-witness-nonstandard", TxRejectKind::WitnessMutated));
    assert!(net.pool.test_accept(&spending(2, &[], &[]), TIME).is_ok(), "anchors need no witness");
    let items: Vec<&[u8]> = std::iter::repeat_n(&[1u8][..], 101).chain([&[0x51u8][..]]).collect();
    assert_eq!(net.refuses(&spending(6, &[], &items)), "bad-witness-nonstandard");
    assert_eq!(net.refuses(&spending(6, &[], &[&[0; 81], &[0x51]])), "bad-witness-nonstandard");
    assert_eq!(net.refuses(&spending(3, &[1, 0x51], &[&[1]])), "bad-witness-nonstandard");
    assert!(net.pool.test_accept(&spending(5, &[], &[long.as_bytes()]), TIME).is_ok());

    // Scripts that fail: by policy alone, by consensus, and for want of a witness.
    let failed = net.refusal(&spending(6, &[], &[&[1], &[0x51]]));
    assert_eq!(failed.kind, TxRejectKind::NotStandard);
    assert!(failed.reason.starts_with("mempool-script-verify-flag-failed ("), "{failed}");
    let failed = net.refusal(&spending(6, &[], &[&[0x00]]));
    assert_eq!(failed.reason, "mempool-script-verify-flag-failed (Witness program hash mismatch)");
    assert!(failed.debug.starts_with("input 0 of "), "{failed}");
    assert_eq!(net.refusal(&spending(6, &[], &[])).kind, TxRejectKind::WitnessStripped);
}

#[test]
fn bip54_counts_the_operations_that_run() {
    let net = Net::with(MempoolConfig { min_relay_fee_rate: 0, ..MempoolConfig::default() });
    // A bare multisig of 15 keys: 167 of them are more than 2,500 operations.
    let keys = (0..15).fold(Builder::new().push_int(1), |script, _| script.push_slice([2; 33]));
    let script = keys.push_int(15).push_opcode(OP_CHECKMULTISIG).into_script();
    let mut funding = pay(&[net.coin()], 0, 167);
    for output in &mut funding.output {
        output.script_pubkey = script.clone();
    }
    net.confirm(std::slice::from_ref(&funding));
    let mut tx = pay(&outputs(&funding), 100_000, 1);
    for input in &mut tx.input {
        input.witness = Witness::new();
    }
    let refused = net.refusal(&tx);
    assert_eq!(refused.reason, "bad-txns-nonstandard-inputs");
    assert_eq!(refused.debug, "non-witness sigops exceed bip54 limit");
}

#[test]
fn what_costs_too_many_signature_operations() {
    let net = Net::new();
    let script = Builder::new().push_int(1).push_slice([2; 33]).push_int(1).push_opcode(OP_CHECKMULTISIG).into_script();
    let mut tx = pay(&[net.coin()], 1_000_000, 201);
    for output in &mut tx.output {
        output.script_pubkey = script.clone();
    }
    let refused = net.refusal(&tx);
    assert_eq!((&*refused.reason, &*refused.debug), ("bad-txns-too-many-sigops", "16080"));
    let value = tx.output.pop().unwrap().value;
    tx.output[0].value += value;
    let accepted = net.accept(&tx).unwrap();
    assert_eq!(accepted.vsize, 16_000 * 20 / 4, "signature operations count as size");
}

#[test]
fn what_pays_too_little() {
    let net = Net::new();
    let coin = net.coin();
    let vsize = pay(&[coin], 1000, 1).vsize() as u64;
    let least = vsize.div_ceil(10);
    let refused = net.refusal(&pay(&[coin], least - 1, 1));
    assert_eq!((&*refused.reason, refused.kind), ("min relay fee not met", TxRejectKind::Reconsiderable));
    assert_eq!(refused.debug, format!("{} < {least}", least - 1));
    let accepted = net.accept(&pay(&[coin], least, 1)).unwrap();
    assert_eq!((accepted.vsize, accepted.fee.to_sat()), (vsize, least));
}

#[test]
fn dust_is_taken_only_for_nothing_and_only_with_a_child_that_spends_it() {
    let net = Net::with(MempoolConfig { min_relay_fee_rate: 0, ..MempoolConfig::default() });
    let coin = net.coin();
    let dusty = |fee: u64| {
        let mut tx = pay(&[coin], fee, 2);
        let rest = tx.output[1].value - Amount::from_sat(100);
        tx.output[0].value += rest;
        tx.output[1].value = Amount::from_sat(100);
        tx
    };
    let refused = net.refusal(&dusty(1));
    assert_eq!((&*refused.reason, &*refused.debug), ("dust", "tx with dust output must be 0-fee"));
    let parent = dusty(0);
    net.add(&parent);
    let coins = outputs(&parent);
    assert_eq!(net.refuses(&pay(&coins[..1], 1000, 1)), "missing-ephemeral-spends");
    net.add(&pay(&coins, 1000, 1));
}

#[test]
fn version_3_keeps_to_one_parent_and_one_child() {
    let net = Net::new();
    let parent = version(pay(&[net.coin()], 1000, 3), 3);
    net.add(&parent);
    let coins = outputs(&parent);
    let violation = |tx: &Transaction, words: &str| {
        let refused = net.refusal(tx);
        assert_eq!(refused.reason, "TRUC-violation");
        assert!(refused.debug.contains(words), "{refused}");
    };
    violation(&pay(&coins[..1], 1000, 1), "non-version=3 tx");
    violation(&version(pay(&coins[..1], 1000, 40), 3), "version=3 child tx");
    violation(&version(pay(&[net.coin()], 100_000, 250), 3), "is too big");
    let child = version(pay(&coins[..1], 1000, 1), 3);
    net.add(&child);
    violation(&version(pay(&outputs(&child), 1000, 1), 3), "would have too many ancestors");
    let plain = pay(&[net.coin()], 1000, 1);
    net.add(&plain);
    violation(&version(pay(&outputs(&plain), 1000, 1), 3), "cannot spend from non-version=3 tx");
    violation(&version(pay(&[coins[1], outputs(&child)[0]], 1000, 1), 3), "would have too many ancestors");

    // A second child may take the place of the first, by the rules of replacement.
    assert_eq!(net.refuses(&version(pay(&coins[1..2], 1001, 1), 3)), "insufficient fee (including sibling eviction)");
    let sibling = version(pay(&coins[1..2], 3000, 1), 3);
    assert_eq!(net.accept(&sibling).unwrap().replaced, [child.compute_txid()]);
}

#[test]
fn nonstandard_transactions_come_if_the_operator_says_so() {
    let net = Net::with(MempoolConfig { require_standard: false, ..MempoolConfig::default() });
    let mut bare = pay(&[net.coin()], 1000, 2);
    bare.output[0].script_pubkey = ScriptBuf::from(vec![0x51]);
    net.add(&bare);
    let mut odd = pay(&[net.coin()], 1000, 1);
    odd.version = Version(77);
    net.add(&odd);
}
