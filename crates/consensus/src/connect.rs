//! A block against its coins (Core's `ConnectBlock`): what it spends and pays, and which scripts remain to be checked.

use crate::block::block_subsidy;
use crate::coins::{BlockUndo, Coin, CoinView, TxUndo};
use crate::error::{BlockReject, BlockRejectKind};
use crate::params::Params;
use crate::script::{ScriptFlags, TransactionSignatureChecker, verify_script};
use crate::sighash::PrecomputedTransactionData;
use crate::tx::{
    MAX_BLOCK_SIGOPS_COST, MAX_MONEY, WITNESS_SCALE_FACTOR, check_tx_inputs, input_sigop_cost, legacy_sigop_count,
    missing_inputs, sequence_locks,
};
use bitcoin::{Amount, Block, BlockHash, OutPoint, Transaction, Txid};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// From this height on BIP 34 no longer implies BIP 30: some early coinbases carry such heights.
const BIP34_IMPLIES_BIP30_LIMIT: u32 = 1_983_702;

/// Why connecting stopped: the block broke a rule, or the coins could not be read (which condemns nothing).
#[derive(Debug)]
pub enum ConnectError<E> {
    /// A rule is broken.
    Rejected(BlockReject),
    /// The view failed; the block's validity is unknown.
    View(E),
}

impl<E> From<BlockReject> for ConnectError<E> {
    fn from(rejected: BlockReject) -> Self {
        ConnectError::Rejected(rejected)
    }
}

/// One transaction's scripts, self-contained so that any thread may run it.
pub struct ScriptCheck {
    block: Arc<Block>,
    position: usize,
    txid: Txid,
    flags: ScriptFlags,
    shared: PrecomputedTransactionData,
}

impl ScriptCheck {
    /// How many inputs it covers.
    pub fn inputs(&self) -> usize {
        self.tx().input.len()
    }

    /// Checks one input's scripts.
    ///
    /// # Errors
    /// `block-script-verify-flag-failed (…)` with Core's text of the script error.
    ///
    /// # Panics
    /// If there is no such input.
    pub fn run(&self, input: usize) -> Result<(), BlockReject> {
        let tx = self.tx();
        let checker = TransactionSignatureChecker::new(tx, input, &self.shared);
        let spender = &tx.input[input];
        let spent = &self.shared.spent_outputs()[input];
        verify_script(&spender.script_sig, &spent.script_pubkey, &spender.witness, self.flags, &checker).map_err(
            |error| BlockReject {
                kind: BlockRejectKind::Consensus,
                reason: format!("block-script-verify-flag-failed ({error})").into(),
                debug: format!(
                    "input {input} of {} (wtxid {}), spending {}",
                    self.txid,
                    tx.compute_wtxid(),
                    spender.previous_output
                ),
            },
        )
    }

    fn tx(&self) -> &Transaction {
        &self.block.txdata[self.position]
    }
}

/// What a block does once every script check has passed.
#[derive(Debug)]
pub struct Connected {
    /// Coins it spent, for undoing.
    pub undo: BlockUndo,
    /// Fees it collects in satoshi.
    pub fees: Amount,
}

/// Looks up ancestors of the block being connected, for BIP 68.
pub trait AncestorTimes {
    /// Median time past (seconds since 1970) of the ancestor at `height`.
    fn median_time_past(&self, height: u32) -> u32;
}

/// Where a block stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a, A> {
    /// Height of the block.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// Hash of its ancestor at the height of BIP 34's activation, if it is that high: on the chain of the parameters, BIP 30
    /// needs no look-ups.
    pub bip34_ancestor: Option<BlockHash>,
    /// Its ancestors.
    pub ancestors: &'a A,
}

/// Checks a block against the coins. It has passed [`crate::block::check_block`] and its contextual checks; `txids` are those
/// of its transactions. The view is asked once for each coin that the block does not create itself. `check` is given each
/// transaction's scripts as soon as its coins are known, in the block's order, so that they can be checked meanwhile.
///
/// # Errors
/// `bad-txns-BIP30`, those of [`check_tx_inputs`], `bad-txns-accumulated-fee-outofrange`, `bad-txns-nonfinal` (BIP 68),
/// `bad-blk-sigops`, `bad-cb-amount`; or the view's own.
pub fn connect_block<V: CoinView, A: AncestorTimes>(
    block: &Arc<Block>,
    txids: &[Txid],
    place: &Place<'_, A>,
    params: &Params,
    view: &V,
    mut check: impl FnMut(ScriptCheck),
) -> Result<Connected, ConnectError<V::Error>> {
    let height = place.height;
    if enforces_bip30(place, params) {
        for (tx, txid) in block.txdata.iter().zip(txids) {
            for vout in 0..tx.output.len() as u32 {
                if view.coin(&OutPoint::new(*txid, vout)).map_err(ConnectError::View)?.is_some() {
                    return Err(consensus("bad-txns-BIP30", "tried to overwrite transaction").into());
                }
            }
        }
    }

    let flags = params.block_script_flags(height, &place.hash);
    let bip68 = height >= params.csv_height;
    let previous_median_time_past = place.ancestors.median_time_past(height.saturating_sub(1));
    let mut in_block = InBlock { block, height, transactions: HashMap::new(), spent: HashSet::new() };
    let mut connected =
        Connected { undo: BlockUndo(Vec::with_capacity(block.txdata.len().saturating_sub(1))), fees: Amount::ZERO };
    let mut fees = 0u64;
    let mut sigop_cost = 0usize;
    for (position, (tx, &txid)) in block.txdata.iter().zip(txids).enumerate() {
        sigop_cost += legacy_sigop_count(tx) * WITNESS_SCALE_FACTOR;
        if position > 0 {
            let coins = in_block.spend(tx, view)?.ok_or_else(|| of_block(missing_inputs(), txid))?;
            fees += check_tx_inputs(tx, &coins, height).map_err(|rejected| of_block(rejected, txid))?.to_sat();
            if fees > MAX_MONEY {
                return Err(consensus(
                    "bad-txns-accumulated-fee-outofrange",
                    "accumulated fee in the block out of range",
                )
                .into());
            }
            if bip68 {
                let heights: Vec<u32> = coins.iter().map(|coin| coin.height).collect();
                if !sequence_locks(tx, &heights, place.ancestors).allow(height, previous_median_time_past) {
                    let debug = format!("contains a non-BIP68-final transaction {txid}");
                    return Err(consensus("bad-txns-nonfinal", &debug).into());
                }
            }
            for (input, coin) in tx.input.iter().zip(&coins) {
                let script_pubkey = &coin.output.script_pubkey;
                sigop_cost += input_sigop_cost(&input.script_sig, script_pubkey, &input.witness, flags);
            }
            let spent = coins.iter().map(|coin| coin.output.clone()).collect();
            let shared = PrecomputedTransactionData::new(tx, spent);
            check(ScriptCheck { block: block.clone(), position, txid, flags, shared });
            connected.undo.0.push(TxUndo(coins));
        }
        if sigop_cost > MAX_BLOCK_SIGOPS_COST {
            return Err(consensus("bad-blk-sigops", "too many sigops").into());
        }
        in_block.transactions.insert(txid, position);
    }
    connected.fees = Amount::from_sat(fees);
    let limit = fees + block_subsidy(height, params).to_sat();
    let paid = block.txdata.first().map_or(0, |coinbase| {
        coinbase.output.iter().fold(0u64, |total, output| total.saturating_add(output.value.to_sat()))
    });
    if paid > limit {
        let debug = format!("coinbase pays too much (actual={paid} vs limit={limit})");
        return Err(consensus("bad-cb-amount", &debug).into());
    }
    Ok(connected)
}

/// Whether an output can never be spent, so that no coin is kept for it (Core's `CScript::IsUnspendable`).
pub fn is_unspendable(script: &bitcoin::Script) -> bool {
    script.as_bytes().first() == Some(&bitcoin::opcodes::all::OP_RETURN.to_u8())
        || script.len() > crate::script::MAX_SCRIPT_SIZE
}

/// What the transactions of a block before the one in hand created and spent.
struct InBlock<'a> {
    block: &'a Block,
    height: u32,
    /// Positions by transaction.
    transactions: HashMap<Txid, usize>,
    spent: HashSet<OutPoint>,
}

impl InBlock<'_> {
    /// The coins that a transaction spends, in the order of its inputs; `None` if one is missing.
    fn spend<V: CoinView>(&mut self, tx: &Transaction, view: &V) -> Result<Option<Vec<Coin>>, ConnectError<V::Error>> {
        let mut coins = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let outpoint = input.previous_output;
            if !self.spent.insert(outpoint) {
                return Ok(None);
            }
            let coin = match self.created(&outpoint) {
                Some(coin) => Some(coin),
                None => view.coin(&outpoint).map_err(ConnectError::View)?,
            };
            match coin {
                Some(coin) => coins.push(coin),
                None => return Ok(None),
            }
        }
        Ok(Some(coins))
    }

    fn created(&self, outpoint: &OutPoint) -> Option<Coin> {
        let position = *self.transactions.get(&outpoint.txid)?;
        let output = self.block.txdata[position].output.get(outpoint.vout as usize)?;
        let spendable = !is_unspendable(&output.script_pubkey);
        spendable.then(|| Coin { output: output.clone(), height: self.height, coinbase: position == 0 })
    }
}

/// Whether the block must not recreate coins that are unspent (BIP 30).
fn enforces_bip30<A>(place: &Place<'_, A>, params: &Params) -> bool {
    // Where every coinbase commits to its height, none can repeat another's transaction, and so no transaction at all can:
    // it would have to spend what was spent already. Core looks there too, and never finds anything.
    if params.bip34_height <= 1 {
        return false;
    }
    let implied_by_bip34 =
        params.bip34_hash.is_some() && place.bip34_ancestor == params.bip34_hash && place.height > params.bip34_height;
    (!is_bip30_repeat(place.height, &place.hash) && !implied_by_bip34) || place.height >= BIP34_IMPLIES_BIP30_LIMIT
}

/// The two blocks of mainnet that repeat an earlier coinbase.
pub fn is_bip30_repeat(height: u32, hash: &BlockHash) -> bool {
    let repeat = match height {
        91_842 => "00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec",
        91_880 => "00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721",
        _ => return false,
    };
    hash.to_string() == repeat
}

/// The two blocks of mainnet whose coinbases were overwritten by those of [`is_bip30_repeat`]: disconnecting them finds
/// coins missing.
pub fn is_bip30_unspendable(height: u32, hash: &BlockHash) -> bool {
    let overwritten = match height {
        91_722 => "00000000000271a2dc26e7667f8419f2e15416dc6955e5a6c6cdf3f2574dd08e",
        91_812 => "00000000000af0aed4792b1acee3d966af36cf5def14935db8de83d6f9306f2f",
        _ => return false,
    };
    hash.to_string() == overwritten
}

fn consensus(reason: &'static str, debug: &str) -> BlockReject {
    BlockReject { kind: BlockRejectKind::Consensus, reason: reason.into(), debug: debug.into() }
}

/// A transaction's rejection is its block's.
fn of_block(rejected: crate::error::TxReject, txid: Txid) -> BlockReject {
    BlockReject {
        kind: BlockRejectKind::Consensus,
        reason: rejected.reason,
        debug: format!("{} in transaction {txid}", rejected.debug),
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
