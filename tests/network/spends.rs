//! Transactions that spend what was mined to [`ANYONE`](crate::nodes::ANYONE), and pay to it again.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WScriptHash, Witness};

/// A transaction of a test.
#[derive(Debug, Clone)]
pub(crate) struct Spend(pub(crate) Transaction);

impl Spend {
    /// As `sendrawtransaction` takes it.
    pub(crate) fn hex(&self) -> String {
        serialize_hex(&self.0)
    }

    /// Its id, as JSON-RPC has it.
    pub(crate) fn txid(&self) -> String {
        self.0.compute_txid().to_string()
    }
}

/// OP_TRUE, which the witness shows.
fn witness_script() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

/// The output script of [`ANYONE`](crate::nodes::ANYONE).
pub(crate) fn anyone() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::hash(witness_script().as_bytes()))
}

/// Spends these outputs, and pays these amounts (satoshi). Replaceable (BIP 125).
pub(crate) fn spend(inputs: &[(&str, u32)], amounts: &[u64]) -> Spend {
    with_version(Version::TWO, inputs, amounts)
}

/// [`spend`], restricted until it is confirmed (BIP 431): it may pay nothing where its only child pays for it.
pub(crate) fn truc(inputs: &[(&str, u32)], amounts: &[u64]) -> Spend {
    with_version(Version(3), inputs, amounts)
}

fn with_version(version: Version, inputs: &[(&str, u32)], amounts: &[u64]) -> Spend {
    let input = |&(txid, vout): &(&str, u32)| TxIn {
        previous_output: OutPoint { txid: txid.parse().expect("a transaction's id"), vout },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[witness_script().to_bytes()]),
    };
    let output = |&amount: &u64| TxOut { value: Amount::from_sat(amount), script_pubkey: anyone() };
    Spend(Transaction {
        version,
        lock_time: LockTime::ZERO,
        input: inputs.iter().map(input).collect(),
        output: amounts.iter().map(output).collect(),
    })
}
