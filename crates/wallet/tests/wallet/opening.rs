//! Creating, opening, encrypting.

use crate::{on_both, passphrase, wallet};
use bitcoin::Network;
use cairn_wallet::{Passphrase, RecoveryPhrase, Wallet, WalletError};

const BIP86_WORDS: &str =
    "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

#[tokio::test]
async fn addresses_are_those_that_bip_86_publishes() {
    on_both(async |store| {
        let phrase = RecoveryPhrase::parse(BIP86_WORDS).unwrap();
        let wallet = Wallet::restore(&store, "vector", Network::Bitcoin, phrase, None).await.unwrap();
        let first = "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr";
        let second = "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh";
        assert_eq!(wallet.reward_address().unwrap().to_string(), first);
        assert_eq!(wallet.next_address().await.unwrap().to_string(), second);
        let xpub = "xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ";
        let (external, internal) = wallet.descriptors();
        assert!(external.starts_with(&format!("tr([73c5da0a/86'/0'/0']{xpub}/0/*)#")), "{external}");
        assert!(internal.starts_with(&format!("tr([73c5da0a/86'/0'/0']{xpub}/1/*)#")), "{internal}");
        let same = RecoveryPhrase::parse(BIP86_WORDS).unwrap();
        assert!(matches!(
            Wallet::restore(&store, "vector", Network::Bitcoin, same, None).await,
            Err(WalletError::Exists(_))
        ));
    })
    .await;
}

#[tokio::test]
async fn other_networks_have_the_coin_type_of_tests() {
    on_both(async |store| {
        let (descriptor, _) = wallet(&store).await.descriptors();
        assert!(descriptor.contains("/86'/1'/0']tpub"), "{descriptor}");
        let address = wallet(&store).await.reward_address().unwrap();
        assert!(address.to_string().starts_with("bcrt1p"), "{address}");
    })
    .await;
}

#[tokio::test]
async fn words_are_shown_once_and_open_the_same_wallet_elsewhere() {
    on_both(async |store| {
        let (first, phrase) = Wallet::open_or_create(&store, "a", Network::Regtest, None).await.unwrap();
        let phrase = phrase.expect("words of a new wallet");
        assert_eq!(phrase.words().split(' ').count(), 12);
        assert!(!format!("{phrase:?}").contains(phrase.words().split(' ').next().unwrap()));
        let (again, none) = Wallet::open_or_create(&store, "a", Network::Regtest, None).await.unwrap();
        assert!(none.is_none(), "words are shown at creation only");
        assert_eq!(first.descriptors(), again.descriptors());
        let typed = RecoveryPhrase::parse(&phrase.words()).unwrap();
        let other = Wallet::restore(&store, "b", Network::Regtest, typed, None).await.unwrap();
        assert_eq!(first.descriptors(), other.descriptors());
    })
    .await;
}

#[tokio::test]
async fn addresses_are_never_given_out_twice() {
    on_both(async |store| {
        let first = wallet(&store).await;
        let reward = first.reward_address().unwrap();
        let given = first.next_address().await.unwrap();
        assert_ne!(given, reward);
        // Another process, or this one after a restart.
        let second = wallet(&store).await;
        assert_eq!(second.reward_address().unwrap(), reward);
        let next = second.next_address().await.unwrap();
        assert_ne!(next, given);
        assert_eq!(first.addresses().await.unwrap(), vec![reward, given, next]);
    })
    .await;
}

async fn refused(store: &cairn_store::Store, network: Network, passphrase: Option<Passphrase>) -> WalletError {
    Wallet::open_or_create(store, "default", network, passphrase).await.unwrap_err()
}

#[tokio::test]
async fn an_encrypted_wallet_opens_with_its_passphrase_only() {
    on_both(async |store| {
        let regtest = Network::Regtest;
        let (created, phrase) = Wallet::open_or_create(&store, "default", regtest, passphrase("first")).await.unwrap();
        let row = store.wallet("default").await.unwrap().unwrap();
        let first_word = phrase.unwrap().words().split(' ').take(3).collect::<Vec<_>>().join(" ");
        assert!(!String::from_utf8_lossy(&row.secret).contains(&first_word), "the words are not readable");

        assert!(matches!(refused(&store, regtest, None).await, WalletError::PassphraseMissing(_)));
        assert!(matches!(refused(&store, regtest, passphrase("other")).await, WalletError::PassphraseWrong(_)));
        let (opened, _) = Wallet::open_or_create(&store, "default", regtest, passphrase("first")).await.unwrap();
        assert_eq!(opened.descriptors(), created.descriptors());

        // Another passphrase, then none.
        let wrong = opened.set_passphrase(passphrase("other"), None).await.unwrap_err();
        assert!(matches!(wrong, WalletError::PassphraseWrong(_)), "{wrong}");
        opened.set_passphrase(passphrase("first"), passphrase("second")).await.unwrap();
        assert!(matches!(refused(&store, regtest, passphrase("first")).await, WalletError::PassphraseWrong(_)));
        opened.set_passphrase(passphrase("second"), None).await.unwrap();
        assert!(matches!(refused(&store, regtest, passphrase("second")).await, WalletError::NotEncrypted(_)));
        assert_eq!(wallet(&store).await.descriptors(), created.descriptors());
        assert!(matches!(Passphrase::new(String::new()), Err(WalletError::PassphraseEmpty)));
    })
    .await;
}

#[tokio::test]
async fn a_wallet_of_another_network_is_refused() {
    on_both(async |store| {
        wallet(&store).await;
        let error = refused(&store, Network::Signet, None).await;
        assert!(matches!(error, WalletError::OtherNetwork { asked: Network::Signet, .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_damaged_secret_is_told_from_a_wrong_passphrase() {
    on_both(async |store| {
        Wallet::open_or_create(&store, "default", Network::Regtest, passphrase("right")).await.unwrap();
        let sealed = store.wallet("default").await.unwrap().unwrap().secret;
        let other_words = RecoveryPhrase::parse(BIP86_WORDS).unwrap().words().as_bytes().to_vec();
        let mut flipped = sealed.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (kind, secret, with) in [
            ("age", sealed[..40].to_vec(), passphrase("right")),
            ("age", flipped, passphrase("right")),
            ("age", Vec::new(), passphrase("right")),
            ("plain", b"not words at all".to_vec(), None),
            ("plain", vec![0xff; 8], None),
            ("plain", other_words, None),
            ("vault", b"future".to_vec(), None),
        ] {
            let mut transaction = store.begin().await.unwrap();
            let now = transaction.lock_wallet("default").await.unwrap().unwrap().secret;
            assert!(transaction.replace_wallet_secret("default", &now, kind, &secret).await.unwrap());
            transaction.commit().await.unwrap();
            let error = refused(&store, Network::Regtest, with).await;
            assert!(matches!(error, WalletError::Damaged { .. }), "{kind}: {error}");
        }
    })
    .await;
}

#[test]
fn words_with_a_wrong_checksum_are_refused() {
    let words = BIP86_WORDS.replace("about", "abandon");
    assert!(matches!(RecoveryPhrase::parse(&words), Err(WalletError::Words(_))));
    assert!(matches!(RecoveryPhrase::parse(""), Err(WalletError::Words(_))));
}
