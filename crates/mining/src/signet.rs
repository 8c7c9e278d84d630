//! Solutions of a signet's blocks (BIP 325): the keys of its challenge, and new challenges.
//!
//! A holder's key is a descriptor whose script is the challenge, with some of its keys private, as Bitcoin Core's wallets
//! import it.

use crate::MiningError;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::ecdsa;
use bitcoin::hashes::Hash;
use bitcoin::psbt::{GetKey, KeyRequest};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey, rand};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, NetworkKind, OutPoint, PrivateKey, PublicKey, Script, ScriptBuf, Sequence,
    Transaction, TxIn, TxMerkleNode, TxOut, Witness, transaction,
};
use cairn_consensus::block::{txids, witness_commitment_output};
use cairn_consensus::signet::{is_solved, set_solution, signet_transactions};
use miniscript::descriptor::{DescriptorPublicKey, KeyMap, KeyMapWrapper};
use miniscript::{Descriptor, ForEachKey};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Keys of a challenge as a bare script: as many as Bitcoin Core's wallets import. More are behind a hash.
const MAX_BARE_KEYS: usize = 3;
/// Most keys of a new challenge: the solution of so many fits what templates leave free for the coinbase.
pub const MAX_KEYS: usize = 15;

/// Why a key cannot sign blocks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignetKeyError {
    /// The text is no descriptor of one script.
    #[error("it is no descriptor with a private key, such as pk(cVpF…): {0}")]
    Malformed(String),
    /// It stands for many scripts.
    #[error("its descriptor stands for many scripts: put the index in place of /*")]
    Ranged,
    /// BIP 325 checks signatures of version 0 only.
    #[error("a Taproot output is no challenge: nobody's signature is asked for")]
    Taproot,
    /// It is of another script.
    #[error("its script is {script}, and the challenge is {challenge}")]
    OtherChallenge {
        /// The descriptor's script, in hex.
        script: String,
        /// The challenge, in hex.
        challenge: String,
    },
    /// The challenge asks for more signatures.
    #[error("{given} of its {of} keys are private, and the challenge asks for more")]
    TooFew {
        /// Private keys.
        given: usize,
        /// All keys.
        of: usize,
    },
}

/// The keys that solve a signet's challenge.
#[derive(Clone)]
pub struct SignetKey {
    descriptor: Descriptor<PublicKey>,
    keys: BTreeMap<PublicKey, PrivateKey>,
    challenge: ScriptBuf,
    secp: Secp256k1<All>,
}

impl fmt::Debug for SignetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignetKey").field("challenge", &self.challenge).finish_non_exhaustive()
    }
}

impl SignetKey {
    /// The keys of a challenge, from descriptors of it: one may have the private keys that another has not.
    ///
    /// # Errors
    /// A descriptor is none, or of another script; or their private keys do not solve the challenge.
    pub fn new<'a>(
        descriptors: impl IntoIterator<Item = &'a str>,
        challenge: &Script,
    ) -> Result<SignetKey, SignetKeyError> {
        let secp = Secp256k1::new();
        let mut known = None;
        let mut keys = BTreeMap::new();
        for text in descriptors {
            let (descriptor, secrets) = parse(text, challenge, &secp)?;
            let secrets = KeyMapWrapper::from(secrets);
            descriptor.for_each_key(|public| {
                if let Ok(Some(key)) = secrets.get_key(KeyRequest::Pubkey(*public), &secp) {
                    keys.insert(*public, key);
                }
                true
            });
            known = Some(descriptor);
        }
        let descriptor = known.ok_or_else(|| SignetKeyError::Malformed("it is empty".into()))?;
        let mut of = 0;
        descriptor.for_each_key(|_| {
            of += 1;
            true
        });
        let given = keys.len();
        let key = SignetKey { descriptor, keys, challenge: challenge.to_owned(), secp };
        let mut block = some_block();
        match key.solve(&mut block) {
            Ok(()) if is_solved(&block, challenge) => Ok(key),
            _ => Err(SignetKeyError::TooFew { given, of }),
        }
    }

    /// Signs a block: its solution is of all but header's merkle root and nonce. The merkle root is another then.
    ///
    /// # Errors
    /// It has no witness commitment.
    pub fn solve(&self, block: &mut Block) -> Result<(), MiningError> {
        let unsigned = |why: &dyn fmt::Display| MiningError::Unsigned(why.to_string());
        if !set_solution(block, Script::new(), &Witness::new()) {
            return Err(unsigned(&"it has no witness commitment"));
        }
        let (_, to_sign) = signet_transactions(block, &txids(block), &self.challenge)
            .ok_or_else(|| unsigned(&"it has no witness commitment"))?;
        let script_code = self.descriptor.script_code().map_err(|error| unsigned(&error))?;
        let mut cache = SighashCache::new(&to_sign);
        let sighash_type = EcdsaSighashType::All;
        let hash = match self.descriptor.desc_type().segwit_version() {
            // BIP 143 of the script code itself; the output that is spent has no value.
            Some(_) => cache
                .p2wsh_signature_hash(0, &script_code, Amount::ZERO, sighash_type)
                .map_err(|error| unsigned(&error))?
                .to_byte_array(),
            None => cache
                .legacy_signature_hash(0, &script_code, sighash_type.to_u32())
                .map_err(|error| unsigned(&error))?
                .to_byte_array(),
        };
        let message = Message::from_digest(hash);
        let signatures: HashMap<PublicKey, ecdsa::Signature> = (self.keys.iter())
            .map(|(public, key)| {
                let signature = self.secp.sign_ecdsa_low_r(&message, &key.inner);
                (*public, ecdsa::Signature { signature, sighash_type })
            })
            .collect();
        let (witness, script_sig) = self.descriptor.get_satisfaction(&signatures).map_err(|error| unsigned(&error))?;
        set_solution(block, &script_sig, &Witness::from_slice(&witness));
        Ok(())
    }
}

/// A descriptor of the challenge, and its private keys.
fn parse(
    text: &str,
    challenge: &Script,
    secp: &Secp256k1<All>,
) -> Result<(Descriptor<PublicKey>, KeyMap), SignetKeyError> {
    // What the parser says of a text may contain the text, and with it a private key.
    let (descriptor, secrets) = Descriptor::<DescriptorPublicKey>::parse_descriptor(secp, text)
        .map_err(|_| SignetKeyError::Malformed("it cannot be parsed".into()))?;
    if matches!(descriptor, Descriptor::Tr(_)) {
        return Err(SignetKeyError::Taproot);
    }
    if descriptor.has_wildcard() || descriptor.is_multipath() {
        return Err(SignetKeyError::Ranged);
    }
    if secrets.is_empty() {
        return Err(SignetKeyError::Malformed("it has public keys only".into()));
    }
    let descriptor = descriptor
        .derived_descriptor(secp, 0)
        .map_err(|_| SignetKeyError::Malformed("its keys cannot be derived".into()))?;
    let script = descriptor.script_pubkey();
    if *script != *challenge {
        return Err(SignetKeyError::OtherChallenge {
            script: script.to_hex_string(),
            challenge: challenge.to_hex_string(),
        });
    }
    Ok((descriptor, secrets))
}

/// Whether blocks need no key: anybody's solve the challenge.
pub fn is_open(challenge: &Script) -> bool {
    is_solved(&some_block(), challenge)
}

/// A block of a coinbase with a witness commitment, to try solutions on.
fn some_block() -> Block {
    let coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(vec![0x51, 0x00]),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }],
    };
    let mut block = Block {
        header: Header {
            version: Version::NO_SOFT_FORK_SIGNALLING,
            prev_blockhash: BlockHash::all_zeros(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: 0,
            bits: CompactTarget::from_consensus(0),
            nonce: 0,
        },
        txdata: vec![coinbase],
    };
    let commitment = witness_commitment_output(&block);
    block.txdata[0].output.push(commitment);
    block
}

/// A challenge that was made, and its keys.
pub struct NewSignet {
    /// The script that blocks must solve.
    pub challenge: ScriptBuf,
    /// What each holder gets.
    pub keys: Vec<NewKey>,
}

/// One holder's key of a challenge that was made.
pub struct NewKey {
    /// The public key.
    pub public: PublicKey,
    /// The private key.
    pub private: PrivateKey,
    /// The challenge's descriptor with this key private, and a checksum.
    pub descriptor: String,
}

/// Numbers of keys of which no challenge is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{required} of {keys} keys is no challenge: give 1 to {MAX_KEYS} keys, and as many or fewer that are required")]
pub struct InvalidThreshold {
    /// Keys.
    pub keys: usize,
    /// How many must sign.
    pub required: usize,
}

/// Makes a challenge that `required` of so many new keys solve.
///
/// One key is `<key> OP_CHECKSIG`, and up to three are a bare multisig, as the public signet's: nothing but the script has
/// to be known to verify it, and Bitcoin Core's wallets import both. They import no bare multisig of more keys, so that
/// those are behind a witness script hash. Taproot is no choice: BIP 325 asks for no signature of it.
///
/// # Errors
/// No challenge is made of such numbers.
pub fn new_signet(keys: usize, required: usize) -> Result<NewSignet, InvalidThreshold> {
    if !(1..=MAX_KEYS).contains(&keys) || !(1..=keys).contains(&required) {
        return Err(InvalidThreshold { keys, required });
    }
    let secp = Secp256k1::new();
    let pairs: Vec<(PrivateKey, PublicKey)> = (0..keys)
        .map(|_| {
            let private = PrivateKey::new(SecretKey::new(&mut rand::thread_rng()), NetworkKind::Test);
            (private, private.public_key(&secp))
        })
        .collect();
    let text = |private: Option<usize>| {
        let names = pairs.iter().enumerate().map(|(n, (secret, public))| match private == Some(n) {
            true => secret.to_wif(),
            false => public.to_string(),
        });
        let names: Vec<String> = names.collect();
        match keys {
            1 => format!("pk({})", names[0]),
            2..=MAX_BARE_KEYS => format!("multi({required},{})", names.join(",")),
            _ => format!("wsh(multi({required},{}))", names.join(",")),
        }
    };
    let parsed = |text: &str| {
        Descriptor::<DescriptorPublicKey>::parse_descriptor(&secp, text).expect("a descriptor of keys that were made")
    };
    let (public, _) = parsed(&text(None));
    let challenge =
        public.derived_descriptor(&secp, 0).expect("keys that were made need no derivation").script_pubkey();
    let keys = (0..keys).map(|n| {
        let (descriptor, secrets) = parsed(&text(Some(n)));
        let (private, public) = pairs[n];
        NewKey { public, private, descriptor: descriptor.to_string_with_secret(&secrets) }
    });
    Ok(NewSignet { challenge, keys: keys.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(descriptors: &[&str], challenge: &Script) -> Result<SignetKey, SignetKeyError> {
        SignetKey::new(descriptors.iter().copied(), challenge)
    }

    fn descriptors(signet: &NewSignet) -> Vec<&str> {
        signet.keys.iter().map(|key| &*key.descriptor).collect()
    }

    #[test]
    fn every_challenge_that_is_made_is_solved_by_so_many_keys_and_no_fewer() {
        for (keys, required) in [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (15, 1), (15, 15)] {
            let signet = new_signet(keys, required).unwrap();
            assert!(!is_open(&signet.challenge));
            let descriptors = descriptors(&signet);
            for first in [0, keys - required] {
                let key = key(&descriptors[first..first + required], &signet.challenge).unwrap();
                let mut block = some_block();
                key.solve(&mut block).unwrap();
                assert!(is_solved(&block, &signet.challenge), "{required} of {keys}");
                key.solve(&mut block).unwrap();
                assert!(is_solved(&block, &signet.challenge), "a solution takes another one's place");
                block.header.time += 1;
                assert!(!is_solved(&block, &signet.challenge), "it is of another time");
            }
            if required > 1 {
                let fewer = key(&descriptors[1..required], &signet.challenge).unwrap_err();
                assert!(
                    matches!(fewer, SignetKeyError::TooFew { given, of } if (given, of) == (required - 1, keys)),
                    "{fewer}"
                );
            }
        }
        for (keys, required) in [(0, 0), (1, 0), (1, 2), (16, 1)] {
            assert_eq!(new_signet(keys, required).err(), Some(InvalidThreshold { keys, required }));
        }
    }

    #[test]
    fn the_largest_solution_fits_beside_a_full_block() {
        let signet = new_signet(MAX_KEYS, MAX_KEYS).unwrap();
        let key = key(&descriptors(&signet), &signet.challenge).unwrap();
        let mut block = some_block();
        key.solve(&mut block).unwrap();
        // An output of the largest standard script, an extra nonce and the height leave less than 200 bytes to add.
        assert!(block.txdata[0].weight().to_wu() + 4 * 200 < crate::template::BLOCK_RESERVED_WEIGHT);
    }

    #[test]
    fn challenges_of_wallets_are_solved() {
        let secp = Secp256k1::new();
        let wif = new_signet(1, 1).unwrap().keys[0].private.to_wif();
        let other = new_signet(1, 1).unwrap().keys[0].public.to_string();
        let master = "tprv8ZgxMBicQKsPd9TeAdPADNnSyH9SSUUbTVeFszDE23Ki6TBB5nCefAdHkK8Fm3qMQR6sHwA56zqRmKmxnHk37JkiFzvncDqoKmPWubu7hDF";
        for text in [
            format!("pkh({wif})"),
            format!("wpkh({wif})"),
            format!("sh(wpkh({wif}))"),
            format!("sh(multi(1,{other},{wif}))"),
            format!("sh(wsh(multi(1,{wif},{other})))"),
            format!("wsh(sortedmulti(1,{wif},{other}))"),
            format!("wpkh({master}/84h/1h/0h/0/0)"),
            format!("wsh(or_d(pk({other}),pk({wif})))"),
        ] {
            let (descriptor, _) = Descriptor::<DescriptorPublicKey>::parse_descriptor(&secp, &text).unwrap();
            let challenge = descriptor.derived_descriptor(&secp, 0).unwrap().script_pubkey();
            let key = key(&[&text], &challenge).unwrap_or_else(|error| panic!("{text}: {error}"));
            let mut block = some_block();
            key.solve(&mut block).unwrap();
            assert!(is_solved(&block, &challenge), "{text}");
        }
    }

    #[test]
    fn keys_that_sign_nothing_are_refused_and_not_repeated() {
        let signet = new_signet(1, 1).unwrap();
        let (wif, public) = (signet.keys[0].private.to_wif(), signet.keys[0].public);
        let challenge = &signet.challenge;
        let refused = |text: &str| key(&[text], challenge).unwrap_err();
        for text in ["", "pk()", &wif, &format!("pk({wif}"), &format!("pk({wif})#aaaaaaaa"), &format!("pk({public})")] {
            let error = refused(text);
            assert!(matches!(error, SignetKeyError::Malformed(_)), "{text}: {error}");
            assert!(!error.to_string().contains(&wif));
        }
        assert!(matches!(key(&[], challenge), Err(SignetKeyError::Malformed(_))));
        assert!(matches!(refused(&format!("tr({wif})")), SignetKeyError::Taproot));
        assert!(matches!(refused(&format!("wpkh({wif})")), SignetKeyError::OtherChallenge { .. }));
        let ranged = "wpkh(tprv8ZgxMBicQKsPd9TeAdPADNnSyH9SSUUbTVeFszDE23Ki6TBB5nCefAdHkK8Fm3qMQR6sHwA56zqRmKmxnHk37JkiFzvncDqoKmPWubu7hDF/0/*)";
        assert!(matches!(refused(ranged), SignetKeyError::Ranged));
        let good = key(&[&signet.keys[0].descriptor], challenge).unwrap();
        assert!(!format!("{good:?}").contains(&wif));
        let mut bare = some_block();
        bare.txdata[0].output.pop();
        assert!(matches!(good.solve(&mut bare), Err(MiningError::Unsigned(_))));
    }

    #[test]
    fn who_needs_no_key() {
        assert!(is_open(Script::from_bytes(&[0x51])));
        let taproot = [&[0x51, 0x20][..], &[2; 32]].concat();
        assert!(is_open(Script::from_bytes(&taproot)), "signatures of Taproot are not asked for");
        assert!(!is_open(Script::from_bytes(&[0x00])));
    }

    #[test]
    fn a_block_is_signed_before_its_proof_of_work() {
        let signet = new_signet(1, 1).unwrap();
        let key = key(&descriptors(&signet), &signet.challenge).unwrap();
        let mut block = some_block();
        block.header.bits = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header.bits;
        let mut solutions = 0;
        let stop = std::sync::atomic::AtomicBool::new(false);
        crate::mine_sealed(&mut block, &stop, |block| {
            solutions += 1;
            key.solve(block)
        })
        .unwrap();
        assert_eq!(solutions, 1);
        assert!(block.check_merkle_root() && is_solved(&block, &signet.challenge));
    }
}
