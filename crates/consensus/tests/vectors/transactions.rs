//! tx_valid.json and tx_invalid.json: whole transactions with their flags, as Core's transaction_tests.cpp runs them.

use crate::{Random, asm, core_data, for_each};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, OutPoint, Transaction, TxOut};
use cairn_consensus::script::{ScriptError, ScriptFlags, TransactionSignatureChecker, verify_script};
use cairn_consensus::sighash::PrecomputedTransactionData;
use cairn_consensus::tx::check_transaction;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

struct Case {
    tx: Transaction,
    prevouts: HashMap<OutPoint, TxOut>,
    flags: String,
    text: String,
}

impl Case {
    /// `[[[txid, index, scriptPubKey, amount?]…], transaction, flags]`
    fn new(row: &[Value]) -> Self {
        let text = Value::Array(row.to_vec()).to_string();
        let [Value::Array(inputs), Value::String(tx), Value::String(flags)] = row else { panic!("malformed: {text}") };
        let prevouts = inputs.iter().map(|input| {
            let vout = input[1].as_i64().expect("an index") as u32;
            let outpoint = OutPoint::new(input[0].as_str().and_then(|txid| txid.parse().ok()).expect("a txid"), vout);
            let value = Amount::from_sat(input.get(3).map_or(0, |amount| amount.as_u64().expect("an amount")));
            let script_pubkey = asm::parse(input[2].as_str().expect("a script"));
            (outpoint, TxOut { value, script_pubkey })
        });
        Self {
            tx: deserialize_hex(tx).expect("a transaction"),
            prevouts: prevouts.collect(),
            flags: flags.clone(),
            text,
        }
    }

    fn spent(&self) -> PrecomputedTransactionData {
        let spent = self.tx.input.iter().map(|input| self.prevouts[&input.previous_output].clone()).collect();
        PrecomputedTransactionData::new(&self.tx, spent)
    }

    fn verify(&self, shared: &PrecomputedTransactionData, flags: ScriptFlags) -> Result<(), ScriptError> {
        self.tx.input.iter().enumerate().try_for_each(|(index, input)| {
            let checker = TransactionSignatureChecker::new(&self.tx, index, shared);
            let output = &shared.spent_outputs()[index];
            verify_script(&input.script_sig, &output.script_pubkey, &input.witness, flags, &checker)
        })
    }

    fn expect(
        &self,
        shared: &PrecomputedTransactionData,
        flags: ScriptFlags,
        valid: bool,
        why: &str,
    ) -> Result<(), String> {
        let result = self.verify(shared, flags);
        if result.is_ok() == valid { Ok(()) } else { Err(format!("{why}: {result:?} with {flags} in {}", self.text)) }
    }
}

/// Removes flags that are meaningless without others.
fn trim(mut flags: ScriptFlags) -> ScriptFlags {
    if !flags.contains(ScriptFlags::P2SH) {
        flags = flags - ScriptFlags::WITNESS;
    }
    if !flags.contains(ScriptFlags::WITNESS) {
        flags = flags - ScriptFlags::CLEANSTACK;
    }
    flags
}

/// Adds the flags without which others are meaningless.
fn fill(mut flags: ScriptFlags) -> ScriptFlags {
    if flags.contains(ScriptFlags::CLEANSTACK) {
        flags |= ScriptFlags::WITNESS;
    }
    if flags.contains(ScriptFlags::WITNESS) {
        flags |= ScriptFlags::P2SH;
    }
    flags
}

fn without_one(flags: ScriptFlags) -> BTreeSet<ScriptFlags> {
    ScriptFlags::NAMES.iter().map(|(_, flag)| trim(flags - *flag)).filter(|less| *less != flags).collect()
}

fn not(flags: ScriptFlags) -> ScriptFlags {
    ScriptFlags::ALL - flags
}

#[test]
fn tx_valid() {
    let cases: Vec<Case> = core_data::load_cases("tx_valid.json").iter().map(|row| Case::new(row)).collect();
    assert_eq!(cases.len(), 121);
    for_each(&cases, |index, case| {
        check_transaction(&case.tx).map_err(|reject| format!("{reject} in {}", case.text))?;
        // The file lists the flags to leave out.
        let excluded: ScriptFlags = case.flags.parse().expect("flags");
        assert_eq!(not(excluded), fill(not(excluded)), "{}", case.text);
        let shared = case.spent();
        case.expect(&shared, not(excluded), true, "fails")?;
        let mut random = Random(index as u64);
        for (name, flag) in ScriptFlags::NAMES {
            case.expect(&shared, trim(not(excluded | *flag)), true, name)?;
            case.expect(&shared, trim(not(excluded | random.flags())), true, "fails with fewer flags")?;
        }
        for less in without_one(excluded) {
            case.expect(&shared, not(less), false, "flags are not maximal")?;
        }
        Ok(())
    });
}

#[test]
fn tx_invalid() {
    let cases: Vec<Case> = core_data::load_cases("tx_invalid.json").iter().map(|row| Case::new(row)).collect();
    assert_eq!(cases.len(), 93);
    for_each(&cases, |index, case| {
        if check_transaction(&case.tx).is_err() != (case.flags == "BADTX") {
            return Err(format!("{:?} in {}", check_transaction(&case.tx), case.text));
        }
        if case.flags == "BADTX" {
            return Ok(());
        }
        let flags: ScriptFlags = case.flags.parse().expect("flags");
        assert_eq!(flags, fill(flags), "{}", case.text);
        let shared = case.spent();
        case.expect(&shared, flags, false, "passes")?;
        let mut random = Random(index as u64);
        for (name, flag) in ScriptFlags::NAMES {
            case.expect(&shared, fill(flags | *flag), false, name)?;
            case.expect(&shared, fill(flags | random.flags()), false, "passes with more flags")?;
        }
        for less in without_one(flags) {
            case.expect(&shared, less, true, "flags are not minimal")?;
        }
        Ok(())
    });
}
