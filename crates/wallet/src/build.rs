//! Payments and stamping transactions: chosen, built and signed, but not recorded.
//!
//! Building changes nothing: what was built and dropped never was. The one who pays records
//! [`BuiltTransaction::changes`] in the database transaction that records why (`Transaction::append_wallet_changes`), which
//! takes the coins; whoever built with the same coins meanwhile gets a conflict and builds again.

use crate::{
    PaymentRequest, Previous, Wallet, WalletError,
    keys::{Keychain, Spent},
    wallet::mature_height,
};
use bdk_wallet::{
    Utxo, WeightedUtxo,
    coin_selection::{CoinSelectionAlgorithm, DefaultCoinSelectionAlgorithm, Excess},
};
use bitcoin::{
    Amount, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Weight, Witness, absolute,
    hashes::Hash,
    psbt,
    script::PushBytesBuf,
    secp256k1::rand::{Rng, seq::SliceRandom, thread_rng},
    transaction::Version,
};
use cairn_store::wallet::{Coin, NewCoin, Payment, UNCONFIRMED, WalletRow};
use std::time::{SystemTime, UNIX_EPOCH};

/// Signals replaceability (BIP 125) and lets a lock time work.
const SEQUENCE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
/// Satoshi for 1,000 vbytes that a replacement pays for its own relay (BIP 125, rule 4). Core's default up to version 29: the
/// later 100 would be refused by peers that run those.
const INCREMENTAL_RELAY: u64 = 1_000;
/// Coins that a payment chooses among: the largest.
const CANDIDATES: u32 = 500;
/// Inputs that a stamp may need where coins are tiny. A proof carries the transaction without its witness, and verifiers
/// refuse more than 4,096 bytes: at 41 bytes an input this leaves room for the rest.
const MAX_STAMP_INPUTS: u32 = 90;
/// Length of the witness item of a key path spend (BIP 341): a Schnorr signature with the default hash type.
const SIGNATURE: usize = 64;
/// Weight of that witness: item count, length, signature.
const SATISFACTION: Weight = Weight::from_wu(66);
/// No rate above this is meant: 25,000 satoshi a virtual byte, the limit that the `bitcoin` crate has as well.
const MAX_FEE_RATE: u64 = 25_000_000;

/// A signed transaction not yet recorded: record `changes` in the same database transaction that records the payment, then send.
#[derive(Debug, Clone)]
pub struct BuiltTransaction {
    /// Signed.
    pub tx: Transaction,
    /// Fee.
    pub fee: Amount,
    /// Coins it spends.
    pub inputs: Vec<OutPoint>,
    /// What it changes, for `cairn_store::Transaction::append_wallet_changes`.
    pub changes: Option<Vec<u8>>,
}

/// A coin with what signing needs.
#[derive(Debug, Clone)]
struct Candidate {
    outpoint: OutPoint,
    keychain: Keychain,
    index: u32,
    amount: Amount,
}

impl From<&Coin> for Candidate {
    fn from(coin: &Coin) -> Self {
        Self {
            outpoint: OutPoint::new(Txid::from_byte_array(coin.txid), coin.vout),
            keychain: Keychain::from_number(coin.keychain),
            index: coin.index,
            amount: Amount::from_sat(coin.amount),
        }
    }
}

/// Fee of `vsize` virtual bytes at satoshi for 1,000 of them, rounded up.
fn fee_for(vsize: u64, rate: u64) -> u64 {
    vsize.saturating_mul(rate).div_ceil(1_000)
}

fn unsigned(inputs: &[Candidate], output: Vec<TxOut>, lock_time: absolute::LockTime) -> Transaction {
    let input = inputs
        .iter()
        .map(|coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: SEQUENCE,
            witness: Witness::new(),
        })
        .collect();
    Transaction { version: Version::TWO, lock_time, input, output }
}

/// Size once it is signed.
fn signed_vsize(tx: &Transaction) -> u64 {
    let mut tx = tx.clone();
    for input in &mut tx.input {
        input.witness = Witness::from_slice(&[[0; SIGNATURE]]);
    }
    tx.vsize() as u64
}

fn total(coins: &[Candidate]) -> Amount {
    // The database has amounts of real coins, whose sum is below 21 million.
    coins.iter().map(|coin| coin.amount).sum()
}

impl Wallet {
    /// A transaction with one OP_RETURN output and change, which signals that it can be replaced. It spends confirmed coins
    /// only, of no other outstanding transaction, preferably one: the largest, which can pay many raises of the fee.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`], [`WalletError::DataTooLarge`], [`WalletError::NotReplaceable`],
    /// [`WalletError::Behind`].
    pub async fn build_stamp(&self, request: PaymentRequest<'_>) -> Result<BuiltTransaction, WalletError> {
        let PaymentRequest { op_return, fee_rate, replaces, after } = request;
        check_rate(fee_rate)?;
        let too_large = |_| WalletError::DataTooLarge(op_return.len());
        let data = ScriptBuf::new_op_return(PushBytesBuf::try_from(op_return.to_vec()).map_err(too_large)?);
        let data = TxOut { value: Amount::ZERO, script_pubkey: data };
        let row = self.row().await?;
        // Change goes back to one address: the chain of stamps shows that they are one payer's anyway, and neither opening
        // nor restoring the wallet has to go through an address for each stamp.
        let change_script = self.inner.keys.script(Keychain::Internal, 0)?;

        let coins = self.inner.store.wallet_spendable(self.name(), mature_height(&row), MAX_STAMP_INPUTS).await?;
        let mut spare: Vec<_> = coins.iter().map(Candidate::from).collect();
        // A replacement that outgrows its coins takes confirmed ones in addition.
        let mut inputs = match replaces {
            Some(Previous { tx, .. }) => self.coins_of(tx).await?,
            None => match after {
                Some(tx) => self.change_of(tx).await?,
                None => Vec::new(),
            },
        };
        spare.retain(|coin| inputs.iter().all(|input| input.outpoint != coin.outpoint));
        let mut spare = spare.into_iter();
        if inputs.is_empty() {
            inputs.extend(spare.next());
        }
        let dust = change_script.minimal_non_dust();
        loop {
            let with_change = unsigned(
                &inputs,
                vec![data.clone(), TxOut { value: dust, script_pubkey: change_script.clone() }],
                absolute::LockTime::ZERO,
            );
            let fee = stamp_fee(&with_change, fee_rate, replaces);
            let available = total(&inputs);
            if let Some(change) = available.checked_sub(fee).filter(|change| *change >= dust && !inputs.is_empty()) {
                let mut tx = with_change;
                if let Some(output) = tx.output.last_mut() {
                    output.value = change;
                }
                let coin =
                    NewCoin { vout: 1, keychain: Keychain::Internal.number(), index: 0, amount: change.to_sat() };
                return self.finish(tx, &inputs, vec![coin], None, replaces.map(|old| old.tx.compute_txid()));
            }
            match spare.next().filter(|_| inputs.len() < MAX_STAMP_INPUTS as usize) {
                Some(coin) => inputs.push(coin),
                None => return Err(self.insufficient(&row, fee + dust, available).await?),
            }
        }
    }

    /// A payment. `fee_rate` is in satoshi for 1,000 vbytes. Confirmed coins only; change goes to a new address.
    ///
    /// # Errors
    /// [`WalletError::InsufficientFunds`], [`WalletError::NoRecipients`], [`WalletError::Dust`],
    /// [`WalletError::AmountTooLarge`].
    pub async fn build_payment(
        &self,
        recipients: &[(ScriptBuf, Amount)],
        fee_rate: u64,
    ) -> Result<BuiltTransaction, WalletError> {
        check_rate(fee_rate)?;
        if recipients.is_empty() {
            return Err(WalletError::NoRecipients);
        }
        let mut amount = Amount::ZERO;
        for (script, value) in recipients {
            let dust = script.minimal_non_dust();
            if *value < dust {
                return Err(WalletError::Dust { amount: *value, dust });
            }
            let sum = amount.checked_add(*value).filter(|sum| *sum <= Amount::MAX_MONEY);
            amount = sum.ok_or(WalletError::AmountTooLarge)?;
        }
        let row = self.row().await?;
        let coins = self.inner.store.wallet_spendable(self.name(), mature_height(&row), CANDIDATES).await?;
        let candidates: Vec<_> = coins.iter().map(Candidate::from).collect();
        let mut output: Vec<_> =
            recipients.iter().map(|(script, value)| TxOut { value: *value, script_pubkey: script.clone() }).collect();
        let change_index = row.internal_next;
        let change_script = self.inner.keys.script(Keychain::Internal, change_index)?;
        // Anti fee sniping, as Core's wallet does: such a payment is no reason to mine the last block again.
        let lock_time = absolute::LockTime::from_height(row.tip_height).unwrap_or(absolute::LockTime::ZERO);

        // Rounded up: below the rate asked for, a node may refuse it.
        let rate = FeeRate::from_sat_per_kwu(fee_rate.div_ceil(4));
        let empty = unsigned(&[], output.clone(), lock_time);
        // Marker and flag, which a transaction without inputs does not have.
        let base_fee = rate.fee_wu(empty.weight() + Weight::from_wu(2)).ok_or(WalletError::AmountTooLarge)?;
        let target = amount.checked_add(base_fee).ok_or(WalletError::AmountTooLarge)?;
        let optional = candidates.iter().map(|coin| weighted(coin, &self.inner.keys)).collect::<Result<_, _>>()?;
        let selected = DefaultCoinSelectionAlgorithm::default().coin_select(
            Vec::new(),
            optional,
            rate,
            target,
            &change_script,
            &mut thread_rng(),
        );
        let selected = match selected {
            Ok(selected) => selected,
            Err(error) => return Err(self.insufficient(&row, error.needed, error.available).await?),
        };
        let chosen: Vec<_> = selected.selected.iter().map(Utxo::outpoint).collect();
        let mut inputs: Vec<_> = candidates.into_iter().filter(|coin| chosen.contains(&coin.outpoint)).collect();
        inputs.shuffle(&mut thread_rng());
        let mut coins = Vec::new();
        let mut change = None;
        if let Excess::Change { amount, .. } = selected.excess {
            // At a random place: its position must not tell which output is the change.
            let vout = thread_rng().gen_range(0..=output.len());
            output.insert(vout, TxOut { value: amount, script_pubkey: change_script.clone() });
            coins.push(NewCoin {
                vout: u32::try_from(vout).unwrap_or(u32::MAX),
                keychain: Keychain::Internal.number(),
                index: change_index,
                amount: amount.to_sat(),
            });
            change = Some((change_index, change_script.into_bytes()));
        }
        self.finish(unsigned(&inputs, output, lock_time), &inputs, coins, change, None)
    }

    /// Records a payment by itself, where nothing else has to be recorded with it.
    ///
    /// # Errors
    /// [`cairn_store::StoreError::Conflict`] where another payment took one of its coins meanwhile: build it again.
    pub async fn record_payment(&self, built: &BuiltTransaction) -> Result<(), WalletError> {
        let Some(changes) = &built.changes else { return Ok(()) };
        let mut transaction = self.inner.store.begin().await?;
        transaction.append_wallet_changes(self.name(), changes).await?;
        Ok(transaction.commit().await?)
    }

    /// The coins that a transaction of ours spends.
    async fn coins_of(&self, old: &Transaction) -> Result<Vec<Candidate>, WalletError> {
        let old_txid = old.compute_txid();
        let refused = || WalletError::NotReplaceable(old_txid);
        let mut coins = Vec::with_capacity(old.input.len());
        for input in &old.input {
            let OutPoint { txid, vout } = input.previous_output;
            let coin = self.inner.store.wallet_coin(self.name(), txid.as_byte_array(), vout).await?;
            let coin = coin.ok_or_else(refused)?;
            if coin.spender.is_some_and(|spender| spender != old_txid.to_byte_array()) {
                return Err(refused());
            }
            coins.push(Candidate::from(&coin));
        }
        let known = self.inner.store.wallet_transaction(self.name(), old_txid.as_byte_array()).await?;
        if coins.is_empty() || known.is_some_and(|row| row.state == "confirmed") {
            return Err(refused());
        }
        Ok(coins)
    }

    /// The change of an earlier payment, if it can be spent: unspent, and confirmed as the payment is.
    async fn change_of(&self, earlier: &Transaction) -> Result<Vec<Candidate>, WalletError> {
        let txid = earlier.compute_txid();
        for vout in (0..).take(earlier.output.len()) {
            let coin = self.inner.store.wallet_coin(self.name(), txid.as_byte_array(), vout).await?;
            match coin.filter(|coin| coin.spender.is_none()) {
                Some(coin) if coin.height == UNCONFIRMED => return Err(WalletError::Behind(txid)),
                Some(coin) => return Ok(vec![Candidate::from(&coin)]),
                None => {}
            }
        }
        Ok(Vec::new())
    }

    fn finish(
        &self,
        unsigned: Transaction,
        inputs: &[Candidate],
        coins: Vec<NewCoin>,
        change: Option<(u32, Vec<u8>)>,
        replaces: Option<Txid>,
    ) -> Result<BuiltTransaction, WalletError> {
        let mut spent = Vec::with_capacity(inputs.len());
        for coin in inputs {
            let script_pubkey = self.inner.keys.script(coin.keychain, coin.index)?;
            let txout = TxOut { value: coin.amount, script_pubkey };
            spent.push(Spent { keychain: coin.keychain, index: coin.index, txout });
        }
        let paid: Amount = unsigned.output.iter().map(|output| output.value).sum();
        let fee = total(inputs).checked_sub(paid).ok_or(WalletError::AmountTooLarge)?;
        let tx = self.inner.keys.sign(unsigned, &spent)?;
        let payment = Payment {
            txid: tx.compute_txid().to_byte_array(),
            raw: bitcoin::consensus::serialize(&tx),
            fee: fee.to_sat(),
            time: now(),
            spends: inputs.iter().map(|coin| (coin.outpoint.txid.to_byte_array(), coin.outpoint.vout)).collect(),
            coins,
            change,
            replaces: replaces.map(|txid| txid.to_byte_array()),
        };
        Ok(BuiltTransaction {
            fee,
            inputs: inputs.iter().map(|coin| coin.outpoint).collect(),
            changes: Some(payment.encode()?),
            tx,
        })
    }

    /// The error, with how many blocks bring coins.
    async fn insufficient(
        &self,
        row: &WalletRow,
        needed: Amount,
        available: Amount,
    ) -> Result<WalletError, WalletError> {
        // The oldest reward that is too young matures first; without one, a new one takes 100 blocks to.
        let oldest = self.inner.store.wallet_oldest_immature(self.name(), mature_height(row)).await?;
        let blocks = oldest.map_or(101, |height| i64::from(height) - mature_height(row));
        Ok(WalletError::InsufficientFunds { needed, available, blocks: u32::try_from(blocks.max(1)).unwrap_or(101) })
    }
}

fn check_rate(fee_rate: u64) -> Result<(), WalletError> {
    if fee_rate > MAX_FEE_RATE { Err(WalletError::AmountTooLarge) } else { Ok(()) }
}

/// What a stamp pays at least: the rate asked for, and as a replacement what BIP 125's rules 3 and 4 ask for, at a rate above
/// the old one (Core's rule 6).
fn stamp_fee(tx: &Transaction, fee_rate: u64, replaces: Option<Previous<'_>>) -> Amount {
    let vsize = signed_vsize(tx);
    let mut fee = fee_for(vsize, fee_rate);
    if let Some(Previous { tx: old, fee: old_fee }) = replaces {
        let old_vsize = (old.vsize() as u64).max(1);
        let above_rate = old_fee.to_sat().saturating_mul(vsize) / old_vsize + 1;
        fee = fee.max(old_fee.to_sat().saturating_add(fee_for(vsize, INCREMENTAL_RELAY))).max(above_rate);
    }
    Amount::from_sat(fee)
}

/// A coin as BDK's coin selection takes it.
fn weighted(coin: &Candidate, keys: &crate::keys::Keys) -> Result<WeightedUtxo, WalletError> {
    let txout = TxOut { value: coin.amount, script_pubkey: keys.script(coin.keychain, coin.index)? };
    Ok(WeightedUtxo {
        satisfaction_weight: SATISFACTION,
        utxo: Utxo::Foreign {
            outpoint: coin.outpoint,
            sequence: SEQUENCE,
            psbt_input: Box::new(psbt::Input { witness_utxo: Some(txout), ..psbt::Input::default() }),
        },
    })
}

/// Seconds since 1970; 0 where the clock is before that.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
