//! A script in an output of some kind, and a transaction that spends it.

use crate::coins::{Purse, VALUE, push};
use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{Secp256k1, XOnlyPublicKey};
use bitcoin::taproot::{LeafVersion, TapNodeHash, TaprootBuilder, TaprootSpendInfo};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use cairn_chain::testing::anyone_can_spend;
use cairn_consensus::script::tapleaf_hash;
use cairn_consensus::sighash::{
    PrecomputedTransactionData, TapscriptSpend, legacy_sighash, segwit_v0_sighash, taproot_sighash,
};

/// A public key whose secret is one.
pub(crate) const KEY: [u8; 32] = [
    0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07, 0x02, 0x9b, 0xfc,
    0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98,
];

/// How a script is put into an output and given when it is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The output's script itself.
    Bare,
    /// Pay-to-script-hash.
    Sh,
    /// Version 0 witness script.
    Wsh,
    /// The same in pay-to-script-hash.
    ShWsh,
    /// A tapscript leaf.
    Tap,
    /// The output's script is this; the items are the whole witness, signatures in it are of the key path.
    Program,
    /// The same in pay-to-script-hash.
    ShProgram,
}

/// What a script finds on its stack.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Bytes(Vec<u8>),
    /// A signature of what spends the output.
    Signature(Signed),
}

/// What a signature is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed {
    /// Which of the purse's keys.
    pub(crate) key: usize,
    pub(crate) hash_type: u8,
    /// Where in the script the code begins that is signed; tapscript signs all of it.
    pub(crate) from: usize,
    /// Tapscript: position of the last CODESEPARATOR.
    pub(crate) separator: u32,
    /// Whether it signs the annex, if there is one.
    pub(crate) annex: bool,
}

impl Default for Signed {
    fn default() -> Self {
        Self { key: 0, hash_type: 1, from: 0, separator: u32::MAX, annex: true }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) script: Vec<u8>,
    pub(crate) items: Vec<Item>,
    /// Given instead of what the place asks for.
    pub(crate) script_sig: Option<Vec<u8>>,
    /// Last item of the witness.
    pub(crate) annex: Option<Vec<u8>>,
    /// Tapscript: how deep in the tree, and of which version, the leaf is.
    pub(crate) leaf: (u8, u8),
    pub(crate) version: i32,
    pub(crate) sequence: u32,
    pub(crate) lock_time: u32,
    /// Core's text of the error; none if the spend is valid.
    pub(crate) error: Option<&'static str>,
}

pub(crate) fn case(
    name: &'static str,
    place: Place,
    script: &[u8],
    items: &[&[u8]],
    error: Option<&'static str>,
) -> Case {
    Case {
        name,
        place,
        script: script.to_vec(),
        items: items.iter().map(|item| Item::Bytes(item.to_vec())).collect(),
        script_sig: None,
        annex: None,
        leaf: (0, 0xc0),
        version: 2,
        sequence: 0xffff_fffe,
        lock_time: 0,
        error,
    }
}

impl Case {
    /// Why a block is refused that has the spend.
    pub(crate) fn reason(&self) -> Option<String> {
        self.error.map(|error| format!("block-script-verify-flag-failed ({error})"))
    }

    fn tree(&self) -> (TaprootSpendInfo, LeafVersion) {
        let (depth, version) = self.leaf;
        let version = LeafVersion::from_consensus(version).expect("a leaf version");
        let script = ScriptBuf::from_bytes(self.script.clone());
        let builder = TaprootBuilder::new().add_leaf_with_ver(depth, script, version).expect("depth");
        let tree = (1..=depth).rev().fold(builder, |builder, depth| {
            builder.add_hidden_node(depth, TapNodeHash::assume_hidden([depth; 32])).expect("a place")
        });
        let key = XOnlyPublicKey::from_slice(&KEY).expect("a key");
        (tree.finalize(&Secp256k1::new(), key).expect("complete"), version)
    }

    pub(crate) fn script_pubkey(&self) -> ScriptBuf {
        let script = ScriptBuf::from_bytes(self.script.clone());
        match self.place {
            Place::Bare | Place::Program => script,
            Place::Sh | Place::ShProgram => script.to_p2sh(),
            Place::Wsh => script.to_p2wsh(),
            Place::ShWsh => script.to_p2wsh().to_p2sh(),
            Place::Tap => ScriptBuf::new_p2tr_tweaked(self.tree().0.output_key()),
        }
    }

    /// Spends the output, worth [`VALUE`].
    pub(crate) fn spend(&self, purse: &Purse, previous_output: OutPoint) -> Transaction {
        let mut tx = Transaction {
            version: Version(self.version),
            lock_time: LockTime::from_consensus(self.lock_time),
            input: vec![TxIn {
                previous_output,
                script_sig: ScriptBuf::new(),
                sequence: Sequence(self.sequence),
                witness: Witness::new(),
            }],
            output: vec![TxOut { value: Amount::from_sat(VALUE / 2), script_pubkey: anyone_can_spend() }],
        };
        let given = |item: &Item| match item {
            Item::Bytes(bytes) => bytes.clone(),
            Item::Signature(signed) => self.sign(purse, &tx, signed),
        };
        let mut items: Vec<Vec<u8>> = self.items.iter().map(given).collect();
        let mut script_sig = ScriptBuf::new();
        match self.place {
            Place::Bare => script_sig = push(&std::mem::take(&mut items)),
            Place::Sh => {
                items.push(self.script.clone());
                script_sig = push(&std::mem::take(&mut items));
            }
            Place::Wsh => items.push(self.script.clone()),
            Place::ShWsh => {
                items.push(self.script.clone());
                script_sig = push(&[ScriptBuf::from_bytes(self.script.clone()).to_p2wsh().into_bytes()]);
            }
            Place::Tap => {
                let (tree, version) = self.tree();
                let leaf = ScriptBuf::from_bytes(self.script.clone());
                let control = tree.control_block(&(leaf, version)).expect("the leaf is there");
                items.extend([self.script.clone(), control.serialize()]);
            }
            Place::Program => {}
            Place::ShProgram => script_sig = push(std::slice::from_ref(&self.script)),
        }
        items.extend(self.annex.clone());
        tx.input[0].witness = Witness::from_slice(&items);
        tx.input[0].script_sig = self.script_sig.clone().map_or(script_sig, ScriptBuf::from_bytes);
        tx
    }

    fn sign(&self, purse: &Purse, tx: &Transaction, signed: &Signed) -> Vec<u8> {
        let hash_type = signed.hash_type;
        let spent = TxOut { value: Amount::from_sat(VALUE), script_pubkey: self.script_pubkey() };
        let shared = PrecomputedTransactionData::new(tx, vec![spent]);
        let code = &self.script[signed.from..];
        let annex = self.annex.as_ref().filter(|_| signed.annex);
        let annex = annex.map(|annex| sha256::Hash::hash(&bitcoin::consensus::serialize(annex)).to_byte_array());
        let taproot = |tapscript: Option<&TapscriptSpend>| {
            taproot_sighash(tx, 0, hash_type, annex.as_ref(), tapscript, &shared).expect("a type that is defined")
        };
        match self.place {
            Place::Bare | Place::Sh => {
                purse.ecdsa(signed.key, legacy_sighash(tx, 0, code, hash_type.into()), hash_type)
            }
            Place::Wsh | Place::ShWsh => {
                let hash = segwit_v0_sighash(tx, 0, code, VALUE, hash_type.into(), &shared);
                purse.ecdsa(signed.key, hash, hash_type)
            }
            Place::Tap => {
                let leaf_hash = tapleaf_hash(self.leaf.1, &self.script);
                let spend = TapscriptSpend { leaf_hash, codeseparator_position: signed.separator };
                purse.schnorr(signed.key, taproot(Some(&spend)), hash_type)
            }
            Place::Program | Place::ShProgram => purse.schnorr_tweaked(signed.key, taproot(None), hash_type),
        }
    }
}
