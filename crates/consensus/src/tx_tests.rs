//! Each rule of a transaction has its reason.

use super::*;
use bitcoin::{ScriptBuf, Sequence, TxIn, Txid, Witness, absolute::LockTime, hashes::Hash, transaction::Version};

fn input(n: u32) -> TxIn {
    TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array([7; 32]), vout: n },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    }
}

fn output(sat: u64) -> TxOut {
    TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::new() }
}

fn tx(inputs: Vec<TxIn>, outputs: Vec<TxOut>) -> Transaction {
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: inputs, output: outputs }
}

fn reason(tx: &Transaction) -> String {
    check_transaction(tx).expect_err("refused").reason.into_owned()
}

#[test]
fn each_rule_has_its_reason() {
    check_transaction(&tx(vec![input(0)], vec![output(MAX_MONEY)])).expect("valid");
    assert_eq!(reason(&tx(vec![], vec![output(0)])), "bad-txns-vin-empty");
    assert_eq!(reason(&tx(vec![input(0)], vec![])), "bad-txns-vout-empty");
    // An input of 41 bytes, two lengths of 1, version and lock time of 4, a value of 8 and the script's length of 5.
    let big = |script| tx(vec![input(0)], vec![TxOut { script_pubkey: vec![0; script].into(), ..output(0) }]);
    assert_eq!(big(999_936).base_size(), 1_000_000);
    check_transaction(&big(999_936)).expect("a million bytes exactly");
    assert_eq!(reason(&big(999_937)), "bad-txns-oversize");
    assert_eq!(reason(&tx(vec![input(0)], vec![output(u64::MAX)])), "bad-txns-vout-negative");
    assert_eq!(reason(&tx(vec![input(0)], vec![output(1 << 63)])), "bad-txns-vout-negative");
    assert_eq!(MAX_MONEY, 2_100_000_000_000_000);
    for sat in [MAX_MONEY + 1, i64::MAX as u64] {
        assert_eq!(reason(&tx(vec![input(0)], vec![output(sat)])), "bad-txns-vout-toolarge");
    }
    assert_eq!(reason(&tx(vec![input(0)], vec![output(MAX_MONEY), output(1)])), "bad-txns-txouttotal-toolarge");
    for inputs in [2, FEW_INPUTS as u32, FEW_INPUTS as u32 + 1, 100] {
        let mut inputs: Vec<_> = (0..inputs).map(input).collect();
        check_transaction(&tx(inputs.clone(), vec![output(0)])).expect("valid");
        inputs.push(input(0));
        assert_eq!(reason(&tx(inputs, vec![output(0)])), "bad-txns-inputs-duplicate");
    }
    let null = TxIn { previous_output: OutPoint::null(), ..input(0) };
    assert_eq!(reason(&tx(vec![input(0), null.clone()], vec![output(0)])), "bad-txns-prevout-null");
    for (length, valid) in [(1, false), (2, true), (100, true), (101, false)] {
        let coinbase = TxIn { script_sig: vec![0; length].into(), ..null.clone() };
        let checked = check_transaction(&tx(vec![coinbase], vec![output(0)]));
        assert_eq!(checked.is_ok(), valid, "{length}");
        assert!(checked.map_or_else(|r| r.reason == "bad-cb-length", |()| true));
    }
}

#[test]
fn lock_times_are_heights_or_times() {
    let mut tx = tx(vec![input(0)], vec![output(0)]);
    tx.input[0].sequence = Sequence::ZERO;
    for (lock, height, time, is_final) in [
        (0, 0, 0, true),
        (10, 10, 0, false),
        (10, 11, 0, true),
        (LOCKTIME_THRESHOLD - 1, LOCKTIME_THRESHOLD - 1, u32::MAX, false),
        (LOCKTIME_THRESHOLD, u32::MAX, LOCKTIME_THRESHOLD, false),
        (LOCKTIME_THRESHOLD, 0, LOCKTIME_THRESHOLD + 1, true),
    ] {
        tx.lock_time = LockTime::from_consensus(lock);
        assert_eq!(is_final_tx(&tx, height, time), is_final, "{lock} {height} {time}");
    }
    tx.lock_time = LockTime::from_consensus(10);
    tx.input[0].sequence = Sequence::MAX;
    assert!(is_final_tx(&tx, 1, 1), "final inputs switch the lock time off");
}

struct Times;
impl AncestorTimes for Times {
    fn median_time_past(&self, height: u32) -> u32 {
        1_000_000 + height * 600
    }
}

#[test]
fn relative_lock_times_count_from_the_coin() {
    let mut tx = tx(vec![input(0), input(1)], vec![output(0)]);
    let locks = |tx: &Transaction| sequence_locks(tx, &[100, 50], &Times);
    let none = SequenceLocks { min_height: -1, min_time: -1 };
    assert_eq!(locks(&tx), none, "the disable flag is set in final sequences");
    tx.input[0].sequence = Sequence(10);
    assert_eq!(locks(&tx), SequenceLocks { min_height: 109, min_time: -1 });
    assert!(!locks(&tx).allow(109, 0) && locks(&tx).allow(110, 0));
    tx.input[1].sequence = Sequence(1 << 22 | 3);
    let time = 1_000_000 + 49 * 600 + 3 * 512 - 1;
    assert_eq!(locks(&tx), SequenceLocks { min_height: 109, min_time: time });
    assert!(!locks(&tx).allow(110, time as u32) && locks(&tx).allow(110, time as u32 + 1));
    tx.version = Version::ONE;
    assert_eq!(locks(&tx), none, "BIP 68 is for version 2 and up");
    tx.version = Version(-1);
    assert_ne!(locks(&tx), none, "versions are unsigned");
}

#[test]
fn inputs_are_mature_in_range_and_enough() {
    let coin = |sat, height, coinbase| Coin { output: output(sat), height, coinbase };
    let pays = |sat| tx(vec![input(0)], vec![output(sat)]);
    assert_eq!(check_tx_inputs(&pays(90), &[coin(100, 1, false)], 2).expect("valid").to_sat(), 10);
    check_tx_inputs(&pays(90), &[coin(100, 1, true)], 101).expect("mature");
    let refused = |tx: &Transaction, coins: &[Coin], height| check_tx_inputs(tx, coins, height).expect_err("refused");
    let early = refused(&pays(90), &[coin(100, 1, true)], 100);
    assert_eq!(
        (early.kind, early.to_string().as_str()),
        (TxRejectKind::PrematureSpend, "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 99")
    );
    let range = refused(&pays(1), &[coin(MAX_MONEY, 1, false), coin(1, 1, false)], 9);
    assert_eq!(range.reason, "bad-txns-inputvalues-outofrange");
    let all = check_tx_inputs(&pays(1), &[coin(MAX_MONEY - 1, 1, false), coin(1, 1, false)], 9).expect("all there is");
    assert_eq!(all.to_sat(), MAX_MONEY - 1);
    for too_much in [MAX_MONEY + 1, u64::MAX] {
        let range = refused(&pays(1), &[coin(1, 1, false), coin(too_much, 1, false)], 9);
        assert_eq!(range.reason, "bad-txns-inputvalues-outofrange");
    }
    let below = refused(&pays(250_000_000), &[coin(100_000_000, 1, false)], 9);
    assert_eq!(below.to_string(), "bad-txns-in-belowout, value in (1.00) < value out (2.50)");
    for (sat, text) in [(123, "0.00000123"), (1_000_000_000, "10.00"), (12_345_000_000, "123.45"), (10, "0.0000001")] {
        assert_eq!(money(sat), text);
    }
}

#[test]
fn sigop_cost_counts_all_three_kinds() {
    // OP_CHECKSIG in an output counts four; in a redeem script four; in a witness program one.
    let mut spender = tx(vec![input(0)], vec![TxOut { script_pubkey: vec![0xac].into(), ..output(0) }]);
    let plain = output(0);
    assert_eq!(transaction_sigop_cost(&spender, &[plain], ScriptFlags::MANDATORY), 4);
    let p2wpkh = TxOut { script_pubkey: [&[0u8, 20][..], &[1; 20]].concat().into(), ..output(0) };
    assert_eq!(transaction_sigop_cost(&spender, std::slice::from_ref(&p2wpkh), ScriptFlags::MANDATORY), 5);
    assert_eq!(transaction_sigop_cost(&spender, &[p2wpkh], ScriptFlags::NONE), 4);
    let p2sh = TxOut { script_pubkey: [&[0xa9u8, 20][..], &[1; 20], &[0x87]].concat().into(), ..output(0) };
    spender.input[0].script_sig = vec![1, 0xac].into();
    assert_eq!(transaction_sigop_cost(&spender, std::slice::from_ref(&p2sh), ScriptFlags::MANDATORY), 8);
    assert_eq!(transaction_sigop_cost(&spender, &[p2sh], ScriptFlags::NONE), 4);
}
