//! script_tests.json: one input each, with the error expected.

use crate::{Random, asm, core_data, for_each};
use bitcoin::absolute::LockTime;
use bitcoin::hex::FromHex;
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Denomination, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use cairn_consensus::script::{ScriptError, ScriptFlags, TransactionSignatureChecker, verify_script};
use cairn_consensus::sighash::PrecomputedTransactionData;
use serde_json::Value;

struct Case {
    witness: Witness,
    amount: Amount,
    script_sig: ScriptBuf,
    script_pubkey: ScriptBuf,
    flags: ScriptFlags,
    expected: String,
    text: String,
}

impl Case {
    /// `[[witness…, amount]?, scriptSig, scriptPubKey, flags, error, comment…]`
    fn new(row: &[Value]) -> Self {
        let text = Value::Array(row.to_vec()).to_string();
        let (witness, row) = match row {
            [Value::Array(witness), rest @ ..] => (witness.as_slice(), rest),
            _ => (&[][..], row),
        };
        let [script_sig, script_pubkey, flags, expected, ..] = row else { panic!("too short: {text}") };
        let string = |value: &Value| value.as_str().expect("a string").to_owned();

        let (mut elements, mut amount, mut taproot_output) = (Vec::<Vec<u8>>::new(), Amount::ZERO, None);
        if let Some((value, stack)) = witness.split_last() {
            // Some are in scientific notation.
            let coins: f64 = value.to_string().parse().expect("a number");
            amount = Amount::from_float_in(coins, Denomination::Bitcoin).expect("an amount");
            for element in stack {
                let element = element.as_str().expect("a string");
                if let Some(script) = element.strip_prefix("#SCRIPT#") {
                    elements.push(asm::parse(script).into_bytes());
                } else if element == "#CONTROLBLOCK#" {
                    let script = ScriptBuf::from_bytes(elements.last().expect("a script before").clone());
                    let (control, output) = taproot(script);
                    elements.push(control);
                    taproot_output = Some(output);
                } else {
                    elements.push(Vec::from_hex(element).expect("hex"));
                }
            }
        }
        let script_pubkey = match script_pubkey.as_str() {
            Some("0x51 0x20 #TAPROOTOUTPUT#") => taproot_output.expect("a control block"),
            _ => asm::parse(&string(script_pubkey)),
        };
        Self {
            witness: Witness::from_slice(&elements),
            amount,
            script_sig: asm::parse(&string(script_sig)),
            script_pubkey,
            flags: string(flags).parse().expect("flags"),
            expected: string(expected),
            text,
        }
    }
}

/// The control block and the output of a tree of one script under the key whose secret is one.
pub(crate) fn taproot(script: ScriptBuf) -> (Vec<u8>, ScriptBuf) {
    let secp = Secp256k1::new();
    let mut secret = [0; 32];
    secret[31] = 1;
    let key = SecretKey::from_slice(&secret).expect("valid").x_only_public_key(&secp).0;
    let builder = TaprootBuilder::new().add_leaf(0, script.clone()).expect("one leaf");
    let spend = builder.finalize(&secp, key).expect("complete");
    let control = spend.control_block(&(script, LeafVersion::TapScript)).expect("the leaf is there");
    (control.serialize(), ScriptBuf::new_p2tr_tweaked(spend.output_key()))
}

/// The transaction that spends an output of `case`, which Core builds in BuildSpendingTransaction.
fn spending(case: &Case) -> (Transaction, PrecomputedTransactionData) {
    let transaction = |input: TxIn, output: TxOut| Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![output],
    };
    let credited = TxOut { value: case.amount, script_pubkey: case.script_pubkey.clone() };
    let credit = transaction(
        TxIn { script_sig: ScriptBuf::from_bytes(vec![0, 0]), sequence: Sequence::MAX, ..TxIn::default() },
        credited.clone(),
    );
    let spend = transaction(
        TxIn {
            previous_output: OutPoint::new(credit.compute_txid(), 0),
            script_sig: case.script_sig.clone(),
            sequence: Sequence::MAX,
            witness: case.witness.clone(),
        },
        TxOut { value: case.amount, script_pubkey: ScriptBuf::new() },
    );
    let shared = PrecomputedTransactionData::new(&spend, vec![credited]);
    (spend, shared)
}

fn check(index: usize, case: &Case) -> Result<(), String> {
    let (tx, shared) = spending(case);
    let checker = TransactionSignatureChecker::new(&tx, 0, &shared);
    let verify = |flags| verify_script(&case.script_sig, &case.script_pubkey, &case.witness, flags, &checker);
    let mut flags = case.flags;
    if flags.contains(ScriptFlags::CLEANSTACK) {
        flags |= ScriptFlags::P2SH | ScriptFlags::WITNESS;
    }
    let name = verify(flags).err().map_or("OK", ScriptError::name);
    if name != case.expected {
        return Err(format!("{name} instead of {} in {}", case.expected, case.text));
    }
    // Fewer flags never fail what passes, more flags never pass what fails.
    let mut random = Random(index as u64);
    for _ in 0..256 {
        let extra = random.flags();
        let combined = if case.expected == "OK" { flags - extra } else { flags | extra };
        let has = |flag| combined.contains(flag);
        if has(ScriptFlags::CLEANSTACK) && !has(ScriptFlags::P2SH | ScriptFlags::WITNESS)
            || has(ScriptFlags::WITNESS) && !has(ScriptFlags::P2SH)
        {
            continue;
        }
        if verify(combined).is_ok() != (case.expected == "OK") {
            return Err(format!("{:?} with {combined} in {}", verify(combined), case.text));
        }
    }
    Ok(())
}

#[test]
fn script_tests() {
    let cases: Vec<Case> = core_data::load_cases("script_tests.json").iter().map(|row| Case::new(row)).collect();
    assert_eq!(cases.len(), 1222);
    for_each(&cases, check);
}

/// Every short name in the file is that of an error of ours, and every name and text is used once.
#[test]
fn names() {
    for case in core_data::load_cases("script_tests.json") {
        let index = if case[0].is_array() { 4 } else { 3 };
        let name = case[index].as_str().expect("a name");
        assert!(name == "OK" || ScriptError::ALL.iter().any(|error| error.name() == name), "{name}");
    }
    let names: std::collections::HashSet<_> = ScriptError::ALL.iter().map(|error| error.name()).collect();
    let texts: std::collections::HashSet<_> = ScriptError::ALL.iter().map(|error| error.to_string()).collect();
    assert_eq!((names.len(), texts.len()), (ScriptError::ALL.len(), ScriptError::ALL.len()));
}
