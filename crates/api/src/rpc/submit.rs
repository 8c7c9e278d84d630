//! Methods that offer transactions to the mempool.

use super::args::{Arg, Args, Kind, as_str};
use super::asm::{has_valid_ops, is_unspendable};
use super::error::{RpcError, RpcResult, code, fail};
use super::rawtransaction::decode_transaction;
use super::render::{amount, object, satoshi};
use super::{Context, Method};
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use cairn_consensus::error::{TxReject, TxRejectKind};
use cairn_mempool::{
    Accepted, MAX_PACKAGE_COUNT, PackageRejectKind, PackageResult, PackageTxResult, is_child_with_parents_tree,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Core's `DEFAULT_MAX_RAW_TX_FEE_RATE`: 0.10 BTC for 1,000 vbytes.
const DEFAULT_MAX_FEE_RATE: Amount = Amount::from_sat(10_000_000);

const MAX_FEE_RATE: Arg = Arg::optional(
    "maxfeerate",
    Kind::Amount,
    "0.10",
    "Reject transactions whose fee rate is higher than the specified value, expressed in BTC/kvB. Fee rates larger than \
     1BTC/kvB are rejected. Set to 0 to accept any fee rate.",
);
const MAX_BURN_AMOUNT: Arg = Arg::optional(
    "maxburnamount",
    Kind::Amount,
    "0.00",
    "Reject transactions with provably unspendable outputs (e.g. 'datacarrier' outputs that use the OP_RETURN opcode) \
     greater than the specified value, expressed in BTC.",
);

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "rawtransactions",
        name: "sendrawtransaction",
        args: &[
            Arg::required("hexstring", Kind::Str, "The hex string of the raw transaction"),
            MAX_FEE_RATE,
            MAX_BURN_AMOUNT,
        ],
        about: "Submit a raw transaction (serialized, hex-encoded) to the network.",
        result: "\"hex\"    (string) The transaction hash in hex",
        differences: "no `-privatebroadcast`",
        run: sendrawtransaction,
    },
    Method {
        category: "rawtransactions",
        name: "testmempoolaccept",
        args: &[
            Arg::required("rawtxs", Kind::Arr("\"rawtx\""), "An array of hex strings of raw transactions."),
            MAX_FEE_RATE,
        ],
        about: "Returns result of mempool acceptance tests indicating if raw transaction(s) (serialized, hex-encoded) would \
                be accepted by mempool.\n\n\
                If multiple transactions are passed in, parents must come before children and package policies apply: the \
                transactions cannot conflict with any mempool transactions or each other.\n\n\
                If one transaction fails, other transactions may not be fully validated (the 'allowed' key will be blank).",
        result: "[ { \"txid\", \"wtxid\", \"package-error\", \"allowed\", \"vsize\", \"fees\": { \"base\", \"effective-feerate\", \"effective-includes\" }, \
                 \"reject-reason\", \"reject-details\" } ]",
        differences: "",
        run: testmempoolaccept,
    },
    Method {
        category: "rawtransactions",
        name: "submitpackage",
        args: &[
            Arg::required(
                "package",
                Kind::Arr("\"rawtx\""),
                "An array of raw transactions: a transaction with (some, all, or none of) its unconfirmed parents, \
                 topologically sorted, with the child being the last element. None of the parents may depend on each other.",
            ),
            MAX_FEE_RATE,
            MAX_BURN_AMOUNT,
        ],
        about: "Submit a package of raw transactions (serialized, hex-encoded) to local node.\n\
                The package will be validated according to consensus and mempool policy rules. If any transaction passes, it \
                will be accepted to mempool.",
        result: "{ \"package_msg\", \"tx-results\": { \"wtxid\": { \"txid\", \"other-wtxid\", \"vsize\", \"fees\": { \"base\", \
                 \"effective-feerate\", \"effective-includes\" }, \"error\" } }, \"replaced-transactions\" }",
        differences: "",
        run: submitpackage,
    },
];

/// Core's `CFeeRate::GetFee`: rounded up.
fn fee_at(rate: Amount, vsize: u64) -> u64 {
    rate.to_sat().saturating_mul(vsize).div_ceil(1000)
}

/// A mempool rejection as `sendrawtransaction` reports it.
fn send_error(reject: &TxReject) -> RpcError {
    match reject.kind {
        TxRejectKind::MissingInputs => RpcError::new(code::VERIFY_ERROR, reject.to_string()),
        _ => RpcError::new(code::VERIFY_REJECTED, reject.to_string()),
    }
}

fn sendrawtransaction(context: &Context, args: &Args<'_>) -> RpcResult {
    let max_burn = args.amount_or(2, Amount::ZERO)?;
    let Some(tx) = decode_transaction(args.str(0)?, true, true) else {
        return fail(code::DESERIALIZATION_ERROR, "TX decode failed. Make sure the tx has at least one input.");
    };
    check_burn(&tx, max_burn)?;
    let max_fee = fee_at(args.fee_rate_or(1, DEFAULT_MAX_FEE_RATE)?, tx.vsize() as u64);
    let node = &context.node;
    let txid = tx.compute_txid();
    for vout in 0..tx.output.len() {
        let outpoint = OutPoint::new(txid, u32::try_from(vout).unwrap_or(u32::MAX));
        if node.chain.coin(&outpoint).map_err(|error| super::blockchain::internal(&error))?.is_some() {
            return fail(code::VERIFY_ALREADY_IN_UTXO_SET, "Transaction outputs already in utxo set");
        }
    }
    if node.mempool.contains(&txid) {
        node.announce_again(&txid);
    } else {
        if max_fee > 0 {
            let tested = node.mempool.test_accept(&tx, u64::from(node.now())).map_err(|reject| send_error(&reject))?;
            if tested.fee.to_sat() > max_fee {
                return fail(code::VERIFY_ERROR, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)");
            }
        }
        node.submit_transaction(tx).map_err(|reject| send_error(&reject))?;
    }
    Ok(txid.to_string().into())
}

fn check_burn(tx: &Transaction, max_burn: Amount) -> Result<(), RpcError> {
    let burns = |script: &bitcoin::Script| is_unspendable(script) || !has_valid_ops(script);
    if tx.output.iter().any(|output| burns(&output.script_pubkey) && output.value > max_burn) {
        return fail(code::VERIFY_ERROR, "Unspendable output exceeds maximum configured by user (maxburnamount)");
    }
    Ok(())
}

/// An array of raw transactions, if they are not too many.
fn raw_transactions<'a>(args: &Args<'a>) -> Result<&'a [Value], RpcError> {
    let raw = args.array(0)?;
    if (1..=MAX_PACKAGE_COUNT).contains(&raw.len()) {
        return Ok(raw);
    }
    fail(code::INVALID_PARAMETER, format!("Array must contain between 1 and {MAX_PACKAGE_COUNT} transactions."))
}

fn decode_one(raw: &Value) -> Result<Arc<Transaction>, RpcError> {
    let text = as_str(raw)?;
    match decode_transaction(text, true, true) {
        Some(tx) => Ok(Arc::new(tx)),
        None => fail(
            code::DESERIALIZATION_ERROR,
            format!("TX decode failed: {text} Make sure the tx has at least one input."),
        ),
    }
}

fn testmempoolaccept(context: &Context, args: &Args<'_>) -> RpcResult {
    let raw = raw_transactions(args)?;
    let max_fee_rate = args.fee_rate_or(1, DEFAULT_MAX_FEE_RATE)?;
    let txs = raw.iter().map(decode_one).collect::<Result<Vec<_>, _>>()?;
    let (mempool, now) = (&context.node.mempool, u64::from(context.node.now()));
    let result = match txs.as_slice() {
        [tx] => {
            let result = mempool.test_accept(tx, now).map_or_else(PackageTxResult::Rejected, PackageTxResult::Accepted);
            PackageResult { failure: None, transactions: BTreeMap::from([(tx.compute_wtxid(), result)]) }
        }
        several => mempool.test_accept_package(several, now),
    };
    let mut exit_early = false;
    let shown = txs.iter().map(|tx| {
        let wtxid = tx.compute_wtxid();
        let mut out = object([("txid", tx.compute_txid().to_string().into()), ("wtxid", wtxid.to_string().into())]);
        if let Some(failure) = result.failure.as_ref().filter(|failure| failure.kind == PackageRejectKind::Policy) {
            out.insert("package-error".into(), failure.to_string().into());
        }
        if !exit_early {
            match result.transactions.get(&wtxid) {
                Some(PackageTxResult::Accepted(accepted)) => exit_early = !allow(&mut out, accepted, max_fee_rate),
                Some(PackageTxResult::Rejected(reject)) => refuse(&mut out, reject),
                // Not looked at. In a test nothing is left out for being here already.
                _ => {}
            }
        }
        Value::Object(out)
    });
    Ok(shown.collect())
}

/// Writes an accepted transaction's result; false when its fee is more than the caller allows.
fn allow(out: &mut Map<String, Value>, accepted: &Accepted, max_fee_rate: Amount) -> bool {
    let max_fee = fee_at(max_fee_rate, accepted.vsize);
    if max_fee > 0 && accepted.fee.to_sat() > max_fee {
        out.insert("allowed".into(), false.into());
        out.insert("reject-reason".into(), "max-fee-exceeded".into());
        return false;
    }
    out.insert("allowed".into(), true.into());
    out.insert("vsize".into(), accepted.vsize.into());
    out.insert("fees".into(), fees(accepted));
    true
}

fn fees(accepted: &Accepted) -> Value {
    let includes: Vec<String> = accepted.effective_includes.iter().map(ToString::to_string).collect();
    let fees = object([
        ("base", amount(accepted.fee)),
        ("effective-feerate", satoshi(accepted.effective_rate)),
        ("effective-includes", includes.into()),
    ]);
    fees.into()
}

fn refuse(out: &mut Map<String, Value>, reject: &TxReject) {
    out.insert("allowed".into(), false.into());
    if reject.kind == TxRejectKind::MissingInputs {
        out.insert("reject-reason".into(), "missing-inputs".into());
    } else {
        out.insert("reject-reason".into(), reject.reason.to_string().into());
        out.insert("reject-details".into(), reject.to_string().into());
    }
}

fn submitpackage(context: &Context, args: &Args<'_>) -> RpcResult {
    let raw = raw_transactions(args)?;
    let max_fee_rate = args.fee_rate_or(1, DEFAULT_MAX_FEE_RATE)?.to_sat();
    let max_burn = args.amount_or(2, Amount::ZERO)?;
    let mut txs = Vec::with_capacity(raw.len());
    for item in raw {
        let tx = decode_one(item)?;
        check_burn(&tx, max_burn)?;
        txs.push(tx);
    }
    if txs.len() > 1 && !is_child_with_parents_tree(&txs) {
        return fail(
            code::VERIFY_ERROR,
            "package topology disallowed. not child-with-parents or parents depend on each other.",
        );
    }
    let result = context.node.submit_package(&txs, Some(max_fee_rate).filter(|&rate| rate > 0));
    let mut replaced: BTreeSet<Txid> = BTreeSet::new();
    let mut shown = Map::new();
    for tx in &txs {
        let wtxid = tx.compute_wtxid();
        let mut out = object([("txid", tx.compute_txid().to_string().into())]);
        match result.transactions.get(&wtxid) {
            None => {
                out.insert("error".into(), "package-not-validated".into());
            }
            Some(PackageTxResult::DifferentWitness(other)) => {
                out.insert("other-wtxid".into(), other.to_string().into());
            }
            Some(PackageTxResult::Rejected(reject)) => {
                out.insert("error".into(), reject.to_string().into());
            }
            Some(PackageTxResult::InMempool { vsize, fee }) => {
                out.insert("vsize".into(), (*vsize).into());
                out.insert("fees".into(), json!({"base": amount(*fee)}));
            }
            Some(PackageTxResult::Accepted(accepted)) => {
                out.insert("vsize".into(), accepted.vsize.into());
                out.insert("fees".into(), fees(accepted));
                replaced.extend(&accepted.replaced);
            }
        }
        shown.insert(wtxid.to_string(), out.into());
    }
    let message = result.failure.as_ref().map_or_else(|| "success".to_owned(), ToString::to_string);
    let replaced: Vec<String> = replaced.iter().map(ToString::to_string).collect();
    Ok(object([
        ("package_msg", message.into()),
        ("tx-results", shown.into()),
        ("replaced-transactions", replaced.into()),
    ])
    .into())
}
