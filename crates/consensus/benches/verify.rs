//! What the interpreter adds to libsecp256k1 on one core, input by input.
//!
//! Two of the kinds cannot come close to bare signature verification: legacy inputs hash nearly the whole transaction
//! each, and script paths multiply a point to see that the output commits to the script.
//!
//! `cargo bench -p cairn-consensus --bench verify`

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::opcodes::all::OP_CHECKSIG;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey, XOnlyPublicKey, ecdsa, schnorr};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, WPubkeyHash, Witness};
use cairn_consensus::script::{ScriptFlags, TransactionSignatureChecker, tapleaf_hash, verify_script};
use cairn_consensus::sighash::{
    PrecomputedTransactionData, TapscriptSpend, legacy_sighash, segwit_v0_sighash, taproot_sighash,
};
use std::hint::black_box;
use std::time::{Duration, Instant};

const INPUTS: usize = 100;
const ROUNDS: usize = 50;

/// A signed transaction, and what libsecp256k1 has to verify in it.
struct Scenario {
    name: &'static str,
    tx: Transaction,
    spent: Vec<TxOut>,
    signatures: Vec<(Vec<u8>, Vec<u8>, [u8; 32])>,
}

struct Signer {
    secp: Secp256k1<All>,
    keys: Vec<Keypair>,
}

impl Signer {
    fn new() -> Self {
        let secp = Secp256k1::new();
        let keys = (1..=INPUTS as u32).map(|index| {
            let mut secret = [7; 32];
            secret[..4].copy_from_slice(&index.to_be_bytes());
            Keypair::from_secret_key(&secp, &SecretKey::from_slice(&secret).expect("below the order"))
        });
        Self { keys: keys.collect(), secp }
    }

    fn ecdsa(&self, key: usize, sighash: [u8; 32]) -> Vec<u8> {
        let signature = self.secp.sign_ecdsa(&Message::from_digest(sighash), &self.keys[key].secret_key());
        [&signature.serialize_der()[..], &[1]].concat()
    }

    /// Builds the spend of one output a key; `sign` answers with scriptSig and witness, and the signature and its key.
    fn scenario(
        &self,
        name: &'static str,
        output: impl Fn(&Keypair) -> ScriptBuf,
        sign: impl Fn(&Transaction, usize, &PrecomputedTransactionData) -> (ScriptBuf, Witness, Vec<u8>, Vec<u8>, [u8; 32]),
    ) -> Scenario {
        let spent: Vec<_> = self
            .keys
            .iter()
            .map(|key| TxOut { value: Amount::from_sat(100_000), script_pubkey: output(key) })
            .collect();
        let input = |vout| TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([9; 32]), vout),
            sequence: Sequence::MAX,
            ..TxIn::default()
        };
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: (0..INPUTS as u32).map(input).collect(),
            output: vec![spent[0].clone(), spent[1].clone()],
        };
        let unsigned = tx.clone();
        let shared = PrecomputedTransactionData::new(&unsigned, spent.clone());
        let mut signatures = Vec::new();
        for (index, input) in tx.input.iter_mut().enumerate() {
            let (script_sig, witness, signature, key, sighash) = sign(&unsigned, index, &shared);
            input.script_sig = script_sig;
            input.witness = witness;
            signatures.push((signature, key, sighash));
        }
        Scenario { name, tx, spent, signatures }
    }

    fn scenarios(&self) -> Vec<Scenario> {
        let public_key = |key: &Keypair| bitcoin::PublicKey::new(key.public_key());
        let p2pkh = |key: &Keypair| ScriptBuf::new_p2pkh(&public_key(key).pubkey_hash());
        let p2wpkh = |key: &Keypair| ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(&public_key(key).to_bytes()));
        let leaf = |key: &Keypair| {
            Builder::new().push_x_only_key(&key.x_only_public_key().0).push_opcode(OP_CHECKSIG).into_script()
        };
        let tree = |key: &Keypair| {
            let builder = TaprootBuilder::new().add_leaf(0, leaf(key)).expect("one leaf");
            builder.finalize(&self.secp, self.keys[0].x_only_public_key().0).expect("complete")
        };
        vec![
            self.scenario("P2PKH", p2pkh, |tx, index, shared| {
                let key = public_key(&self.keys[index]).to_bytes();
                let sighash = legacy_sighash(tx, index, shared.spent_outputs()[index].script_pubkey.as_bytes(), 1);
                let signature = self.ecdsa(index, sighash);
                let push = |bytes: &Vec<u8>| PushBytesBuf::try_from(bytes.clone()).expect("short");
                let script_sig = Builder::new().push_slice(push(&signature)).push_slice(push(&key)).into_script();
                (script_sig, Witness::new(), signature, key, sighash)
            }),
            self.scenario("P2WPKH", p2wpkh, |tx, index, shared| {
                let key = public_key(&self.keys[index]).to_bytes();
                let code = p2pkh(&self.keys[index]);
                let sighash = segwit_v0_sighash(tx, index, code.as_bytes(), 100_000, 1, shared);
                let signature = self.ecdsa(index, sighash);
                (ScriptBuf::new(), Witness::from_slice(&[&signature, &key]), signature, key, sighash)
            }),
            self.scenario(
                "P2TR key path",
                |key| ScriptBuf::new_p2tr(&self.secp, key.x_only_public_key().0, None),
                |tx, index, shared| {
                    let key = self.keys[index].tap_tweak(&self.secp, None).to_keypair();
                    let sighash = taproot_sighash(tx, index, 0, None, None, shared).expect("the type is defined");
                    let signature = self.secp.sign_schnorr_no_aux_rand(&Message::from_digest(sighash), &key);
                    let signature = signature.serialize().to_vec();
                    let key = key.x_only_public_key().0.serialize().to_vec();
                    (ScriptBuf::new(), Witness::from_slice(&[&signature]), signature, key, sighash)
                },
            ),
            self.scenario(
                "P2TR script path",
                |key| ScriptBuf::new_p2tr_tweaked(tree(key).output_key()),
                |tx, index, shared| {
                    let key = &self.keys[index];
                    let script = leaf(key);
                    let leaf_hash = tapleaf_hash(0xc0, script.as_bytes());
                    let spend = TapscriptSpend { leaf_hash, codeseparator_position: u32::MAX };
                    let sighash = taproot_sighash(tx, index, 0, None, Some(&spend), shared).expect("defined");
                    let signature = self.secp.sign_schnorr_no_aux_rand(&Message::from_digest(sighash), key);
                    let signature = signature.serialize().to_vec();
                    let control = tree(key).control_block(&(script.clone(), LeafVersion::TapScript)).expect("a leaf");
                    let witness = Witness::from_slice(&[&signature, script.as_bytes(), &control.serialize()]);
                    (ScriptBuf::new(), witness, signature, key.x_only_public_key().0.serialize().to_vec(), sighash)
                },
            ),
        ]
    }
}

/// The whole work on a transaction's inputs, as a block's check does it.
fn verify(scenario: &Scenario) {
    let shared = PrecomputedTransactionData::new(&scenario.tx, scenario.spent.clone());
    for (index, input) in scenario.tx.input.iter().enumerate() {
        let checker = TransactionSignatureChecker::new(&scenario.tx, index, &shared);
        let output = &shared.spent_outputs()[index].script_pubkey;
        let result = verify_script(&input.script_sig, output, &input.witness, ScriptFlags::STANDARD, &checker);
        assert_eq!(black_box(result), Ok(()), "{}", scenario.name);
    }
}

/// The least that any node does: parse the key and the signature, and verify.
fn verify_bare(scenario: &Scenario, secp: &Secp256k1<All>) {
    for (signature, key, sighash) in &scenario.signatures {
        let message = Message::from_digest(*sighash);
        let result = if key.len() == 32 {
            let signature = schnorr::Signature::from_slice(signature).expect("64 bytes");
            secp.verify_schnorr(&signature, &message, &XOnlyPublicKey::from_slice(key).expect("on the curve"))
        } else {
            let mut signature = ecdsa::Signature::from_der_lax(&signature[..signature.len() - 1]).expect("DER");
            signature.normalize_s();
            secp.verify_ecdsa(&message, &signature, &PublicKey::from_slice(key).expect("on the curve"))
        };
        assert_eq!(black_box(result), Ok(()), "{}", scenario.name);
    }
}

/// The fastest of several rounds: everything else on the machine only slows down.
fn fastest(mut run: impl FnMut()) -> Duration {
    let timed = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    timed.min().expect("there are rounds") / INPUTS as u32
}

fn main() {
    let signer = Signer::new();
    println!("one transaction of {INPUTS} inputs, one core, fastest of {ROUNDS} rounds, µs an input");
    println!("{:<18}{:>14}{:>14}{:>12}", "", "libsecp256k1", "verify_script", "overhead");
    for scenario in signer.scenarios() {
        let bare = fastest(|| verify_bare(&scenario, &signer.secp)).as_secs_f64() * 1e6;
        let whole = fastest(|| verify(&scenario)).as_secs_f64() * 1e6;
        println!("{:<18}{bare:>14.2}{whole:>14.2}{:>11.1}%", scenario.name, (whole / bare - 1.0) * 100.0);
    }
}
