//! Stamps, their replacements, payments.

use crate::{
    chain::{FakeChain, REWARD},
    on_both, wallet,
};
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut};
use cairn_consensus::{
    script::{ScriptFlags, TransactionSignatureChecker, verify_script},
    sighash::PrecomputedTransactionData,
};
use cairn_store::{Store, StoreError};
use cairn_wallet::{Balance, BuiltTransaction, Payer, PaymentRequest, Previous, TransactionState, Wallet, WalletError};
use std::sync::Arc;

fn nothing(_: u32, _: u32) {}

/// A wallet that can spend `coins` rewards.
async fn funded(store: &Store, coins: u32) -> (Arc<FakeChain>, Wallet) {
    let (chain, wallet) = (FakeChain::new(), wallet(store).await);
    chain.mine(99 + coins, &wallet.reward_address().unwrap().script_pubkey());
    wallet.sync(&chain.source(), nothing).await.unwrap();
    (chain, wallet)
}

fn request(data: &[u8], fee_rate: u64) -> PaymentRequest<'_> {
    PaymentRequest { op_return: data, fee_rate, replaces: None, after: None }
}

fn foreign() -> ScriptBuf {
    ScriptBuf::new_op_return([7; 20])
}

/// The outputs that a transaction spends, found in blocks of the chain or among other transactions.
fn spent(tx: &Transaction, ours: &ScriptBuf, others: &[&Transaction]) -> Vec<TxOut> {
    let reward = TxOut { value: REWARD, script_pubkey: ours.clone() };
    tx.input
        .iter()
        .map(|input| {
            let made = others.iter().find(|other| other.compute_txid() == input.previous_output.txid);
            made.map_or_else(|| reward.clone(), |tx| tx.output[input.previous_output.vout as usize].clone())
        })
        .collect()
}

/// Checks every script as a node that relays it would, and the fee.
fn verify(built: &BuiltTransaction, spent: Vec<TxOut>) {
    let tx = &built.tx;
    let value: Amount = spent.iter().map(|output| output.value).sum();
    let shared = PrecomputedTransactionData::new(tx, spent);
    for (n, input) in tx.input.iter().enumerate() {
        let checker = TransactionSignatureChecker::new(tx, n, &shared);
        let script = &shared.spent_outputs()[n].script_pubkey;
        verify_script(&input.script_sig, script, &input.witness, ScriptFlags::STANDARD, &checker).unwrap();
        assert_eq!(input.sequence, Sequence(0xffff_fffd), "signals BIP 125");
        assert_eq!(built.inputs[n], input.previous_output);
    }
    let paid: Amount = tx.output.iter().map(|output| output.value).sum();
    assert_eq!(value - paid, built.fee);
}

async fn record(store: &Store, wallet: &Wallet, built: &BuiltTransaction) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    wallet.record(&mut transaction, built).await?;
    transaction.commit().await
}

#[tokio::test]
async fn a_stamp_is_one_coin_one_commitment_and_change() {
    on_both(async |store| {
        let (chain, wallet) = funded(&store, 2).await;
        let ours = wallet.reward_address().unwrap().script_pubkey();
        let built = wallet.build_stamp(request(&[1; 32], 1_000)).await.unwrap();
        verify(&built, spent(&built.tx, &ours, &[]));
        assert_eq!(built.tx.input.len(), 1);
        assert_eq!(built.tx.output[0], TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return([1; 32]) });
        assert_eq!(built.tx.output.len(), 2);
        assert_eq!(built.fee.to_sat(), built.tx.vsize() as u64, "1 satoshi a virtual byte");

        record(&store, &wallet, &built).await.unwrap();
        let expected = Balance {
            confirmed: REWARD,
            trusted_pending: REWARD - built.fee,
            immature: REWARD * 99,
            ..Balance::default()
        };
        assert_eq!(wallet.balance().await.unwrap(), expected);
        chain.mine_with(&foreign(), vec![built.tx.clone()]);
        wallet.sync(&chain.source(), nothing).await.unwrap();
        let row = wallet.transaction(&built.tx.compute_txid()).await.unwrap().unwrap();
        assert_eq!((row.state, row.fee), (TransactionState::Confirmed, Some(built.fee)));
        assert_eq!(row.amount.to_sat(), -i64::try_from(built.fee.to_sat()).unwrap());
        assert_eq!(row.tx.as_ref(), Some(&built.tx));

        // The next one continues the chain of stamps, as asked.
        let next = PaymentRequest { after: Some(&built.tx), ..request(&[2; 32], 2_500) };
        let next = wallet.build_stamp(next).await.unwrap();
        verify(&next, spent(&next.tx, &ours, &[&built.tx]));
        assert_eq!(next.inputs[0].txid, built.tx.compute_txid());
        assert_eq!(next.fee.to_sat(), (next.tx.vsize() as u64 * 5).div_ceil(2));
    })
    .await;
}

#[tokio::test]
async fn what_was_built_and_dropped_never_was() {
    on_both(async |store| {
        let (_, wallet) = funded(&store, 1).await;
        let before = (wallet.balance().await.unwrap(), store.wallet("default").await.unwrap());
        let first = wallet.build_stamp(request(&[1; 32], 1_000)).await.unwrap();
        let to = [(wallet.reward_address().unwrap().script_pubkey(), Amount::from_sat(1_000_000))];
        drop(wallet.build_payment(&to, 1_000).await.unwrap());
        // Recorded in a transaction that does not commit: as good as dropped.
        let mut transaction = store.begin().await.unwrap();
        wallet.record(&mut transaction, &first).await.unwrap();
        drop(transaction);
        assert_eq!((wallet.balance().await.unwrap(), store.wallet("default").await.unwrap()), before);
        assert_eq!(wallet.transaction(&first.tx.compute_txid()).await.unwrap(), None);
        // The only coin is still there to pay with.
        let second = wallet.build_stamp(request(&[2; 32], 1_000)).await.unwrap();
        assert_eq!(second.inputs, first.inputs);
        record(&store, &wallet, &second).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_recorded_payment_keeps_its_coins_over_restarts_and_processes() {
    on_both(async |store| {
        let (_, first) = funded(&store, 1).await;
        let second = wallet(&store).await;
        let built = first.build_stamp(request(&[1; 32], 1_000)).await.unwrap();
        let rival = second.build_stamp(request(&[2; 32], 1_000)).await.unwrap();
        assert_eq!(built.inputs, rival.inputs, "both saw the one coin");
        record(&store, &first, &built).await.unwrap();
        record(&store, &first, &built).await.unwrap();
        let error = record(&store, &second, &rival).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error}");

        let reopened = wallet(&store).await;
        let error = reopened.build_stamp(request(&[3; 32], 1_000)).await.unwrap_err();
        assert!(matches!(error, WalletError::InsufficientFunds { blocks: 1, .. }), "{error}");
        let row = reopened.transaction(&built.tx.compute_txid()).await.unwrap().unwrap();
        assert_eq!((row.state, row.height), (TransactionState::Pending, None));

        // Given up: the coin is free.
        assert!(reopened.abandon(&built.tx.compute_txid()).await.unwrap());
        assert!(!reopened.abandon(&built.tx.compute_txid()).await.unwrap(), "once");
        let again = reopened.build_stamp(request(&[3; 32], 1_000)).await.unwrap();
        assert_eq!(again.inputs, built.inputs);
        assert_eq!(reopened.balance().await.unwrap().trusted_pending, Amount::ZERO);
    })
    .await;
}

#[tokio::test]
async fn a_replacement_pays_what_bip_125_asks_for() {
    on_both(async |store| {
        let (chain, wallet) = funded(&store, 3).await;
        let ours = wallet.reward_address().unwrap().script_pubkey();
        let mut versions = vec![wallet.build_stamp(request(&[0; 32], 1_000)).await.unwrap()];
        record(&store, &wallet, &versions[0]).await.unwrap();
        for version in 1..=8u8 {
            let old = versions.last().unwrap();
            let replaces = Some(Previous { tx: &old.tx, fee: old.fee });
            // Rates lower and higher than the increment, data shorter and longer than before.
            let data = vec![version; if version % 3 == 0 { 80 } else { 32 }];
            let rate = u64::from(version) * 1_500;
            let built = wallet.build_stamp(PaymentRequest { replaces, ..request(&data, rate) }).await.unwrap();
            verify(&built, spent(&built.tx, &ours, &[]));
            let vsize = built.tx.vsize() as u64;
            assert_eq!(built.inputs, old.inputs, "only one of them can confirm");
            assert!(built.fee.to_sat() >= old.fee.to_sat() + vsize, "rule 4");
            assert!(built.fee.to_sat() * old.tx.vsize() as u64 > old.fee.to_sat() * vsize, "a higher rate");
            assert!(built.fee.to_sat() >= (vsize * rate).div_ceil(1_000), "the rate asked for");
            record(&store, &wallet, &built).await.unwrap();
            versions.push(built);
        }
        let last = versions.last().unwrap();
        let balance = wallet.balance().await.unwrap();
        assert_eq!((balance.confirmed, balance.trusted_pending), (REWARD * 2, REWARD - last.fee));

        // An old version confirms after all: the newest one is over, and its change with it.
        let winner = &versions[3];
        chain.mine_with(&foreign(), vec![winner.tx.clone()]);
        wallet.sync(&chain.source(), nothing).await.unwrap();
        let state = async |n: usize| wallet.transaction(&versions[n].tx.compute_txid()).await.unwrap().unwrap().state;
        assert_eq!(state(3).await, TransactionState::Confirmed);
        assert_eq!(state(8).await, TransactionState::Conflicted);
        assert_eq!(state(0).await, TransactionState::Replaced);
        let balance = wallet.balance().await.unwrap();
        // One reward matured with the block.
        assert_eq!((balance.confirmed, balance.trusted_pending), (REWARD * 4 - winner.fee, Amount::ZERO));

        // The block is undone; the newest version confirms on the other branch.
        chain.cut(102);
        wallet.sync(&chain.source(), nothing).await.unwrap();
        assert_eq!(state(3).await, TransactionState::Pending);
        assert_eq!(wallet.balance().await.unwrap().trusted_pending, REWARD - winner.fee);
        chain.mine_with(&foreign(), vec![last.tx.clone()]);
        wallet.sync(&chain.source(), nothing).await.unwrap();
        assert_eq!(state(8).await, TransactionState::Confirmed);
        assert_eq!(state(3).await, TransactionState::Conflicted);
        assert_eq!(wallet.balance().await.unwrap().confirmed, REWARD * 4 - last.fee);

        // What is confirmed is neither replaced nor given up.
        let replaces = Some(Previous { tx: &last.tx, fee: last.fee });
        let error = wallet.build_stamp(PaymentRequest { replaces, ..request(&[9; 32], 1) }).await.unwrap_err();
        assert!(matches!(error, WalletError::NotReplaceable(_)), "{error}");
        let error = wallet.abandon(&last.tx.compute_txid()).await.unwrap_err();
        assert!(matches!(error, WalletError::Store(StoreError::Conflict(_))), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_reorganisation_that_takes_the_coin_ends_the_payment() {
    on_both(async |store| {
        let (chain, wallet) = funded(&store, 1).await;
        let built = wallet.build_stamp(request(&[1; 32], 1_000)).await.unwrap();
        let stale = wallet.build_stamp(request(&[2; 32], 1_000)).await.unwrap();
        record(&store, &wallet, &built).await.unwrap();
        chain.cut(0);
        chain.mine(101, &foreign());
        wallet.sync(&chain.source(), nothing).await.unwrap();
        let row = wallet.transaction(&built.tx.compute_txid()).await.unwrap().unwrap();
        assert_eq!(row.state, TransactionState::Conflicted);
        assert_eq!(wallet.balance().await.unwrap(), Balance::default());
        let error = record(&store, &wallet, &stale).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_wallet_that_has_not_seen_the_last_stamps_block_builds_no_other() {
    on_both(async |store| {
        let (chain, wallet) = funded(&store, 3).await;
        let first = wallet.build_stamp(request(&[1; 32], 1_000)).await.unwrap();
        record(&store, &wallet, &first).await.unwrap();
        chain.mine_with(&foreign(), vec![first.tx.clone()]);
        let after = Some(&first.tx);
        let error = wallet.build_stamp(PaymentRequest { after, ..request(&[2; 32], 1_000) }).await.unwrap_err();
        assert!(matches!(error, WalletError::Behind(txid) if txid == first.tx.compute_txid()), "{error}");
        wallet.sync(&chain.source(), nothing).await.unwrap();
        let second = wallet.build_stamp(PaymentRequest { after, ..request(&[2; 32], 1_000) }).await.unwrap();
        assert_eq!(second.inputs[0].txid, first.tx.compute_txid(), "it spends the first one's change");
    })
    .await;
}

#[tokio::test]
async fn a_payment_reaches_its_recipients() {
    on_both(async |store| {
        let (chain, wallet) = funded(&store, 3).await;
        let ours = wallet.reward_address().unwrap().script_pubkey();
        let (one, two) =
            (wallet.next_address().await.unwrap(), ScriptBuf::from_bytes([vec![0, 20], vec![5; 20]].concat()));
        let recipients = [(one.script_pubkey(), REWARD), (two.clone(), REWARD + Amount::from_sat(12_345))];
        for rate in [250, 1_000, 1_001, 77_777] {
            let built = wallet.build_payment(&recipients, rate).await.unwrap();
            verify(&built, spent(&built.tx, &ours, &[]));
            for (script, value) in &recipients {
                assert!(built.tx.output.contains(&TxOut { value: *value, script_pubkey: script.clone() }));
            }
            assert_eq!((built.tx.input.len(), built.tx.output.len()), (3, 3));
            let least = (built.tx.vsize() as u64 * rate).div_ceil(1_000);
            assert!((least..least + 10 + least / 50).contains(&built.fee.to_sat()), "{} for {least}", built.fee);
            assert_eq!(built.tx.lock_time.to_consensus_u32(), 102, "anti fee sniping");
        }
        let built = wallet.build_payment(&recipients, 1_000).await.unwrap();
        wallet.record_payment(&built).await.unwrap();
        chain.mine_with(&foreign(), vec![built.tx.clone()]);
        wallet.sync(&chain.source(), nothing).await.unwrap();
        let balance = wallet.balance().await.unwrap();
        let sent = REWARD + Amount::from_sat(12_345) + built.fee;
        assert_eq!(balance.confirmed + balance.immature, REWARD * 102 - sent);
        // Coins of receiving, reward and change addresses together.
        let all = wallet.build_payment(&[(two, REWARD + Amount::from_sat(500_000_000))], 1_000).await.unwrap();
        verify(&all, spent(&all.tx, &ours, &[&built.tx]));
    })
    .await;
}

#[tokio::test]
async fn refusals_say_why() {
    on_both(async |store| {
        let empty = wallet(&store).await;
        let error = empty.build_stamp(request(&[1; 32], 1_000)).await.unwrap_err();
        assert!(matches!(error, WalletError::InsufficientFunds { blocks: 101, .. }), "{error}");
        assert!(error.to_string().contains("mine 101 blocks"), "{error}");
        let (chain, wallet) = funded(&store, 1).await;
        let script = wallet.reward_address().unwrap().script_pubkey();
        let pay = async |amount: Amount, rate| wallet.build_payment(&[(script.clone(), amount)], rate).await;
        assert!(matches!(
            pay(REWARD, 1_000).await,
            Err(WalletError::InsufficientFunds { available: REWARD, blocks: 1, .. })
        ));
        assert!(matches!(pay(Amount::from_sat(329), 1_000).await, Err(WalletError::Dust { .. })));
        assert!(matches!(pay(Amount::MAX_MONEY + Amount::ONE_SAT, 1).await, Err(WalletError::AmountTooLarge)));
        assert!(matches!(pay(Amount::ONE_BTC, u64::MAX).await, Err(WalletError::AmountTooLarge)));
        assert!(matches!(wallet.build_payment(&[], 1_000).await, Err(WalletError::NoRecipients)));
        let error = wallet.build_stamp(request(&[1; 32], u64::MAX)).await.unwrap_err();
        assert!(matches!(error, WalletError::AmountTooLarge), "{error}");
        // A size and rate that the coin cannot pay.
        let error = wallet.build_stamp(request(&[1; 250_000], 25_000_000)).await.unwrap_err();
        assert!(matches!(error, WalletError::InsufficientFunds { available: REWARD, .. }), "{error}");
        // A transaction of others.
        let other = chain.active().len();
        let mut foreign_tx = wallet.build_stamp(request(&[1; 32], 1_000)).await.unwrap().tx;
        foreign_tx.input[0].previous_output.vout = u32::try_from(other).unwrap();
        let replaces = Some(Previous { tx: &foreign_tx, fee: Amount::from_sat(1) });
        let error = wallet.build_stamp(PaymentRequest { replaces, ..request(&[1], 1) }).await.unwrap_err();
        assert!(matches!(error, WalletError::NotReplaceable(_)), "{error}");
    })
    .await;
}
