//! The BIP 39 words, and their encryption at rest with age (scrypt).

use crate::WalletError;
use age::{
    DecryptError,
    scrypt::{Identity, Recipient},
    secrecy::{ExposeSecret, SecretString},
};
use bip39::{Language, Mnemonic};
use bitcoin::secp256k1::rand::{RngCore, rngs::OsRng};
use zeroize::Zeroizing;

/// Row kind of words that anybody who reads the database can read.
const PLAIN: &str = "plain";
/// Row kind of an age file.
const AGE: &str = "age";
/// log2 of scrypt's N: 256 MiB and about a second once at a start, what the age tool uses. Not measured on the machine, as the
/// library would: a busy machine would choose too little.
const WORK_FACTOR: u8 = 18;
/// Largest work that opening a wallet takes upon itself.
const MAX_WORK_FACTOR: u8 = 22;

/// A passphrase. Erased from memory when dropped, and never shown.
#[derive(Clone)]
pub struct Passphrase {
    secret: SecretString,
    work_factor: u8,
}

impl Passphrase {
    /// A passphrase.
    ///
    /// # Errors
    /// [`WalletError::PassphraseEmpty`].
    pub fn new(passphrase: String) -> Result<Self, WalletError> {
        if passphrase.is_empty() {
            return Err(WalletError::PassphraseEmpty);
        }
        Ok(Self { secret: SecretString::from(passphrase), work_factor: WORK_FACTOR })
    }

    /// With another cost of encryption: log2 of scrypt's N, 1 to 22. Low ones are for tests.
    #[must_use]
    pub fn with_work_factor(mut self, work_factor: u8) -> Self {
        self.work_factor = work_factor.clamp(1, MAX_WORK_FACTOR);
        self
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// Twelve words that all keys follow from. Erased from memory when dropped; `Debug` does not show them.
#[derive(Clone)]
pub struct RecoveryPhrase(Mnemonic);

impl RecoveryPhrase {
    /// New words from 128 bits of the operating system's randomness.
    ///
    /// # Panics
    /// If the operating system has no randomness.
    pub(crate) fn generate() -> Self {
        let mut entropy = Zeroizing::new([0u8; 16]);
        OsRng.fill_bytes(&mut *entropy);
        Self(Mnemonic::from_entropy_in(Language::English, &*entropy).expect("16 bytes are a length that BIP 39 has"))
    }

    /// Words that were written down.
    ///
    /// # Errors
    /// [`WalletError::Words`].
    pub fn parse(words: &str) -> Result<Self, WalletError> {
        let mnemonic = Mnemonic::parse_in(Language::English, words).map_err(|e| WalletError::Words(e.to_string()))?;
        Ok(Self(mnemonic))
    }

    /// The words, to be shown once.
    #[must_use]
    pub fn words(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string())
    }

    /// BIP 39's seed, without its extra passphrase: any wallet restores from the words alone.
    pub(crate) fn seed(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.to_seed_normalized(""))
    }
}

impl std::fmt::Debug for RecoveryPhrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryPhrase(…)")
    }
}

/// The words as a row keeps them: (kind, bytes). Slow with a passphrase.
pub(crate) fn seal(
    phrase: &RecoveryPhrase,
    passphrase: Option<&Passphrase>,
) -> Result<(&'static str, Vec<u8>), WalletError> {
    let words = phrase.words();
    let Some(passphrase) = passphrase else { return Ok((PLAIN, words.as_bytes().to_vec())) };
    // The recipient takes its own copy, which erases itself as well.
    let mut recipient = Recipient::new(SecretString::from(passphrase.secret.expose_secret()));
    recipient.set_work_factor(passphrase.work_factor);
    let sealed = age::encrypt(&recipient, words.as_bytes()).map_err(|e| WalletError::Encryption(e.to_string()))?;
    Ok((AGE, sealed))
}

/// The words of a row. Slow with a passphrase.
pub(crate) fn open(
    wallet: &str,
    kind: &str,
    secret: &[u8],
    passphrase: Option<&Passphrase>,
) -> Result<RecoveryPhrase, WalletError> {
    let damaged = |what: String| WalletError::Damaged { wallet: wallet.to_owned(), what };
    let words = match (kind, passphrase) {
        (PLAIN, None) => Zeroizing::new(secret.to_vec()),
        (PLAIN, Some(_)) => return Err(WalletError::NotEncrypted(wallet.to_owned())),
        (AGE, None) => return Err(WalletError::PassphraseMissing(wallet.to_owned())),
        (AGE, Some(passphrase)) => {
            let mut identity = Identity::new(SecretString::from(passphrase.secret.expose_secret()));
            identity.set_max_work_factor(MAX_WORK_FACTOR);
            Zeroizing::new(age::decrypt(&identity, secret).map_err(|error| match error {
                // The key that the passphrase gives does not open the file's key.
                DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
                    WalletError::PassphraseWrong(wallet.to_owned())
                }
                error => damaged(error.to_string()),
            })?)
        }
        (kind, _) => return Err(damaged(format!("unknown kind of secret {kind:?}"))),
    };
    let words = std::str::from_utf8(&words).map_err(|_| damaged("its words are no text".into()))?;
    RecoveryPhrase::parse(words).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_bip_39s() {
        // (entropy, words, seed without a passphrase)
        for (entropy, words, seed) in [
            (
                [0x00; 16],
                "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
                "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1\
                 9a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4",
            ),
            (
                [0x7f; 16],
                "legal winner thank year wave sausage worth useful legal winner thank yellow",
                "878386efb78845b3355bd15ea4d39ef97d179cb712b77d5c12b6be415fffeffe\
                 5f377ba02bf3f8544ab800b955e51fbff09828f682052a20faa6addbbddfb096",
            ),
        ] {
            let phrase = RecoveryPhrase::parse(words).unwrap();
            assert_eq!(phrase.0.to_entropy(), entropy);
            let hex: String = phrase.seed().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, seed);
        }
    }

    #[test]
    fn phrases_differ() {
        assert_ne!(RecoveryPhrase::generate().words(), RecoveryPhrase::generate().words());
    }
}
