//! Following the chain.

use crate::{
    chain::{FakeChain, REWARD},
    on_both, wallet,
};
use bitcoin::{Amount, Network, ScriptBuf};
use cairn_wallet::{Balance, RecoveryPhrase, TransactionState, Wallet, WalletError};
use std::sync::atomic::Ordering;

fn foreign() -> ScriptBuf {
    ScriptBuf::new_op_return([7; 20])
}

fn nothing(_: u32, _: u32) {}

#[tokio::test]
async fn rewards_mature_after_a_hundred_blocks() {
    on_both(async |store| {
        let (chain, wallet) = (FakeChain::new(), wallet(&store).await);
        let ours = wallet.reward_address().unwrap().script_pubkey();
        chain.mine(99, &ours);
        assert_eq!(wallet.sync(&chain.source(), nothing).await.unwrap(), 99);
        assert_eq!(wallet.balance().await.unwrap(), Balance { immature: REWARD * 99, ..Balance::default() });
        // With 100 blocks the reward of the first may be in the 101st.
        chain.mine(1, &ours);
        wallet.sync(&chain.source(), nothing).await.unwrap();
        let expected = Balance { immature: REWARD * 99, confirmed: REWARD, ..Balance::default() };
        assert_eq!(wallet.balance().await.unwrap(), expected);
        // Nothing is read twice.
        let reads = chain.reads.load(Ordering::Relaxed);
        wallet.sync(&chain.source(), nothing).await.unwrap();
        assert_eq!(chain.reads.load(Ordering::Relaxed), reads);
    })
    .await;
}

#[tokio::test]
async fn history_comes_in_pages_newest_first() {
    on_both(async |store| {
        let (chain, wallet) = (FakeChain::new(), wallet(&store).await);
        chain.mine(25, &wallet.reward_address().unwrap().script_pubkey());
        wallet.sync(&chain.source(), nothing).await.unwrap();
        let (mut heights, mut cursor) = (Vec::new(), None);
        loop {
            let page = wallet.transactions(cursor, 10).await.unwrap();
            let Some(last) = page.last() else { break };
            let text = last.cursor.to_string();
            cursor = Some(text.parse().unwrap());
            assert_eq!(cursor, Some(last.cursor));
            assert!(page.iter().all(|tx| tx.coinbase && tx.amount.to_sat() == 5_000_000_000));
            heights.extend(page.iter().map(|tx| tx.height.unwrap()));
        }
        assert_eq!(heights, (1..=25).rev().collect::<Vec<_>>());
        assert!("no cursor".parse::<cairn_wallet::wallet::Cursor>().is_err());
    })
    .await;
}

#[tokio::test]
async fn a_reorganisation_takes_rewards_and_gives_them_back() {
    on_both(async |store| {
        let (chain, wallet) = (FakeChain::new(), wallet(&store).await);
        let ours = wallet.reward_address().unwrap().script_pubkey();
        chain.mine(150, &ours);
        wallet.sync(&chain.source(), nothing).await.unwrap();
        let before = wallet.balance().await.unwrap();
        let branch = chain.active();
        for (fork, longer) in [(149, 2), (140, 15), (30, 130), (0, 160)] {
            chain.cut(fork);
            chain.mine(longer, &foreign());
            assert_eq!(wallet.sync(&chain.source(), nothing).await.unwrap(), fork + longer);
            let balance = wallet.balance().await.unwrap();
            assert_eq!(
                balance.confirmed + balance.immature,
                REWARD * u64::from(fork),
                "rewards up to the fork at {fork}"
            );
            let history = wallet.transactions(None, 1000).await.unwrap();
            let orphaned = history.iter().filter(|tx| tx.state == TransactionState::Orphaned).count();
            assert_eq!(orphaned, 150 - fork as usize);

            chain.activate(branch.clone());
            wallet.sync(&chain.source(), nothing).await.unwrap();
            assert_eq!(wallet.balance().await.unwrap(), before);
        }
        // A chain that only lost blocks (invalidateblock).
        chain.cut(120);
        assert_eq!(wallet.sync(&chain.source(), nothing).await.unwrap(), 120);
        assert_eq!(wallet.balance().await.unwrap().confirmed, REWARD * 21);
    })
    .await;
}

#[tokio::test]
async fn a_stop_in_the_middle_loses_nothing() {
    on_both(async |store| {
        let (chain, first) = (FakeChain::new(), wallet(&store).await);
        let ours = first.reward_address().unwrap().script_pubkey();
        chain.mine(60, &ours);
        for answers in [0, 1, 30] {
            chain.answers.store(answers, Ordering::Relaxed);
            let error = first.sync(&chain.source(), nothing).await.unwrap_err();
            assert!(matches!(error, WalletError::Source(_)), "{error}");
            assert_eq!(first.height().await.unwrap(), 0, "a batch is recorded whole or not at all");
        }
        chain.answers.store(u32::MAX, Ordering::Relaxed);
        // The same wallet goes on, and so does one opened again.
        assert_eq!(first.sync(&chain.source(), nothing).await.unwrap(), 60);
        chain.mine(5, &ours);
        assert_eq!(wallet(&store).await.sync(&chain.source(), nothing).await.unwrap(), 65);
        assert_eq!(first.balance().await.unwrap().immature, REWARD * 65);
    })
    .await;
}

#[tokio::test]
async fn two_processes_follow_one_wallet() {
    on_both(async |store| {
        let (chain, a, b) = (FakeChain::new(), wallet(&store).await, wallet(&store).await);
        for round in 1..=20u64 {
            let to = if round % 2 == 0 { a.next_address().await } else { b.next_address().await };
            chain.mine(7, &to.unwrap().script_pubkey());
            if round % 5 == 0 {
                chain.cut(u32::try_from(chain.active().len()).unwrap() - 4);
                chain.mine(3, &b.reward_address().unwrap().script_pubkey());
            }
            let (one, two) = (chain.source(), chain.source());
            let (one, two) = tokio::join!(a.sync(&one, nothing), b.sync(&two, nothing));
            assert_eq!(one.unwrap(), two.unwrap());
            let balance = a.balance().await.unwrap();
            let height = u64::try_from(chain.active().len()).unwrap() - 1;
            assert_eq!(balance.confirmed + balance.immature, REWARD * height, "each reward once");
        }
    })
    .await;
}

#[tokio::test]
async fn a_restored_wallet_finds_its_addresses_within_the_gap() {
    on_both(async |store| {
        let (chain, phrase) = (FakeChain::new(), Wallet::open_or_create(&store, "old", Network::Regtest, None).await);
        let (old, phrase) = phrase.unwrap();
        for _ in 0..3 {
            // Fifteen given out, the last one used.
            let mut last = None;
            for _ in 0..15 {
                last = Some(old.next_address().await.unwrap());
            }
            chain.mine(1, &last.unwrap().script_pubkey());
        }
        let new = Wallet::restore(&store, "new", Network::Regtest, phrase.unwrap(), None).await.unwrap();
        new.sync(&chain.source(), nothing).await.unwrap();
        assert_eq!(new.balance().await.unwrap().immature, REWARD * 3);
        assert_eq!(new.next_address().await.unwrap(), old.next_address().await.unwrap(), "used ones are not given out");
    })
    .await;
}

#[tokio::test]
async fn the_chain_of_another_network_is_refused() {
    on_both(async |store| {
        let chain = FakeChain::new();
        chain.mine(3, &foreign());
        let words =
            RecoveryPhrase::parse("legal winner thank year wave sausage worth useful legal winner thank yellow");
        let signet = Wallet::restore(&store, "signet", Network::Signet, words.unwrap(), None).await.unwrap();
        let error = signet.sync(&chain.source(), nothing).await.unwrap_err();
        assert!(matches!(error, WalletError::OtherChain), "{error}");
        assert_eq!(signet.balance().await.unwrap().confirmed, Amount::ZERO);
    })
    .await;
}
