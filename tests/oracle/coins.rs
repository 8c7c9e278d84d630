//! Coins of every kind of output, and transactions that spend them.

use crate::engines::{Pair, now};
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG, OP_CHECKSIGADD, OP_NUMEQUAL};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey, XOnlyPublicKey};
use bitcoin::taproot::{LeafVersion, TapLeafHash, TaprootBuilder, TaprootSpendInfo};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, OutPoint, PublicKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use cairn_chain::testing::{MATURITY, block_after, reward, spend};
use cairn_consensus::sighash::{
    PrecomputedTransactionData, TapscriptSpend, legacy_sighash, segwit_v0_sighash, taproot_sighash,
};

/// What each coin is worth, satoshi.
pub(crate) const VALUE: u64 = 100_000;

/// How an output is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pk,
    Pkh,
    Multisig,
    ShMultisig,
    ShWpkh,
    Wpkh,
    WshMultisig,
    ShWsh,
    TrKey,
    TrChecksig,
    TrChecksigadd,
}

pub(crate) const KINDS: [Kind; 11] = [
    Kind::Pk,
    Kind::Pkh,
    Kind::Multisig,
    Kind::ShMultisig,
    Kind::ShWpkh,
    Kind::Wpkh,
    Kind::WshMultisig,
    Kind::ShWsh,
    Kind::TrKey,
    Kind::TrChecksig,
    Kind::TrChecksigadd,
];

impl Kind {
    pub(crate) fn is_taproot(self) -> bool {
        matches!(self, Kind::TrKey | Kind::TrChecksig | Kind::TrChecksigadd)
    }
}

/// A coin and how to spend it.
#[derive(Debug, Clone)]
pub(crate) struct Coin {
    pub(crate) outpoint: OutPoint,
    pub(crate) kind: Kind,
    pub(crate) output: TxOut,
}

/// Keys, and coins that wait to be spent.
pub(crate) struct Purse {
    secp: Secp256k1<All>,
    keys: [Keypair; 3],
}

impl Purse {
    pub(crate) fn new() -> Self {
        let secp = Secp256k1::new();
        let keys =
            [1u8, 2, 3].map(|n| Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[n; 32]).expect("a key")));
        Self { secp, keys }
    }

    pub(crate) fn key(&self, n: usize) -> PublicKey {
        PublicKey::new(self.keys[n].public_key())
    }

    pub(crate) fn x_only(&self, n: usize) -> XOnlyPublicKey {
        self.keys[n].x_only_public_key().0
    }

    fn multisig(&self) -> ScriptBuf {
        let builder = (0..3).fold(Builder::new().push_int(2), |builder, n| builder.push_key(&self.key(n)));
        builder.push_int(3).push_opcode(OP_CHECKMULTISIG).into_script()
    }

    fn leaf(&self, kind: Kind) -> ScriptBuf {
        match kind {
            Kind::TrChecksigadd => Builder::new()
                .push_x_only_key(&self.x_only(0))
                .push_opcode(OP_CHECKSIG)
                .push_x_only_key(&self.x_only(1))
                .push_opcode(OP_CHECKSIGADD)
                .push_int(2)
                .push_opcode(OP_NUMEQUAL)
                .into_script(),
            _ => Builder::new().push_x_only_key(&self.x_only(0)).push_opcode(OP_CHECKSIG).into_script(),
        }
    }

    fn tree(&self, kind: Kind) -> TaprootSpendInfo {
        let builder = TaprootBuilder::new().add_leaf(1, self.leaf(kind)).expect("depth");
        let other = Builder::new().push_int(1).into_script();
        let builder = builder.add_leaf(1, other).expect("depth");
        builder.finalize(&self.secp, self.x_only(2)).expect("complete")
    }

    pub(crate) fn script_pubkey(&self, kind: Kind) -> ScriptBuf {
        let key = self.key(0);
        let wpkh = || ScriptBuf::new_p2wpkh(&key.wpubkey_hash().expect("compressed"));
        match kind {
            Kind::Pk => ScriptBuf::new_p2pk(&key),
            Kind::Pkh => ScriptBuf::new_p2pkh(&key.pubkey_hash()),
            Kind::Multisig => self.multisig(),
            Kind::ShMultisig => self.multisig().to_p2sh(),
            Kind::ShWpkh => wpkh().to_p2sh(),
            Kind::Wpkh => wpkh(),
            Kind::WshMultisig => self.multisig().to_p2wsh(),
            Kind::ShWsh => self.multisig().to_p2wsh().to_p2sh(),
            Kind::TrKey => ScriptBuf::new_p2tr(&self.secp, self.x_only(0), None),
            Kind::TrChecksig | Kind::TrChecksigadd => ScriptBuf::new_p2tr_tweaked(self.tree(kind).output_key()),
        }
    }

    pub(crate) fn ecdsa(&self, key: usize, hash: [u8; 32], hash_type: u8) -> Vec<u8> {
        let signature = self.secp.sign_ecdsa_low_r(&Message::from_digest(hash), &self.keys[key].secret_key());
        [signature.serialize_der().as_ref(), &[hash_type]].concat()
    }

    pub(crate) fn schnorr(&self, key: usize, hash: [u8; 32], hash_type: u8) -> Vec<u8> {
        self.schnorr_with(&self.keys[key], hash, hash_type)
    }

    /// By the key tweaked without a tree of scripts.
    pub(crate) fn schnorr_tweaked(&self, key: usize, hash: [u8; 32], hash_type: u8) -> Vec<u8> {
        self.schnorr_with(&self.keys[key].tap_tweak(&self.secp, None).to_keypair(), hash, hash_type)
    }

    fn schnorr_with(&self, key: &Keypair, hash: [u8; 32], hash_type: u8) -> Vec<u8> {
        let signature = self.secp.sign_schnorr_no_aux_rand(&Message::from_digest(hash), key);
        let hash_type = [hash_type];
        [&signature.as_ref()[..], if hash_type == [0] { &[][..] } else { &hash_type[..] }].concat()
    }

    /// One transaction that spends coins to an output that anyone can spend, signed.
    pub(crate) fn pay(&self, coins: &[Coin], output: Vec<TxOut>) -> Transaction {
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output,
        };
        self.sign(&mut tx, coins);
        tx
    }

    /// Signs every input anew, everything: ALL, and Taproot's DEFAULT.
    pub(crate) fn sign(&self, tx: &mut Transaction, coins: &[Coin]) {
        self.sign_as(tx, coins, |kind| u8::from(!kind.is_taproot()));
    }

    /// Signs every input anew with the hash type for its kind.
    pub(crate) fn sign_as(&self, tx: &mut Transaction, coins: &[Coin], hash_type: impl Fn(Kind) -> u8) {
        let spent = coins.iter().map(|coin| coin.output.clone()).collect();
        let shared = PrecomputedTransactionData::new(tx, spent);
        for (n, coin) in coins.iter().enumerate() {
            let (script_sig, witness) = self.unlock(tx, n, coin.kind, hash_type(coin.kind), &shared);
            tx.input[n].script_sig = script_sig;
            tx.input[n].witness = witness;
        }
    }

    fn unlock(
        &self,
        tx: &Transaction,
        n: usize,
        kind: Kind,
        hash_type: u8,
        shared: &PrecomputedTransactionData,
    ) -> (ScriptBuf, Witness) {
        let key = self.key(0).to_bytes();
        let multisig = self.multisig();
        let spent = &shared.spent_outputs()[n];
        let legacy = |script: &ScriptBuf| legacy_sighash(tx, n, script.as_bytes(), hash_type.into());
        let version_0 = |script: &ScriptBuf| {
            segwit_v0_sighash(tx, n, script.as_bytes(), spent.value.to_sat(), hash_type.into(), shared)
        };
        let taproot = |tapscript: Option<&TapscriptSpend>| {
            taproot_sighash(tx, n, hash_type, None, tapscript, shared).expect("a type that is defined")
        };
        let unlocked = |items: &[Vec<u8>]| (push(items), Witness::new());
        let witness = |items: &[Vec<u8>]| (ScriptBuf::new(), Witness::from_slice(items));
        match kind {
            Kind::Pk => unlocked(&[self.ecdsa(0, legacy(&spent.script_pubkey), hash_type)]),
            Kind::Pkh => unlocked(&[self.ecdsa(0, legacy(&spent.script_pubkey), hash_type), key]),
            Kind::Multisig | Kind::ShMultisig => {
                let hash = legacy(&multisig);
                let mut items = vec![vec![], self.ecdsa(0, hash, hash_type), self.ecdsa(2, hash, hash_type)];
                if kind == Kind::ShMultisig {
                    items.push(multisig.to_bytes());
                }
                unlocked(&items)
            }
            Kind::ShWpkh | Kind::Wpkh => {
                let hash = version_0(&self.script_pubkey(Kind::Pkh));
                let (_, witness) = witness(&[self.ecdsa(0, hash, hash_type), key]);
                let wrapped = kind == Kind::ShWpkh;
                (if wrapped { push(&[self.script_pubkey(Kind::Wpkh).to_bytes()]) } else { ScriptBuf::new() }, witness)
            }
            Kind::WshMultisig | Kind::ShWsh => {
                let hash = version_0(&multisig);
                let signatures = [0, 1].map(|key| self.ecdsa(key, hash, hash_type));
                let [first, second] = signatures;
                let (_, witness) = witness(&[vec![], first, second, multisig.to_bytes()]);
                let wrapped = kind == Kind::ShWsh;
                (if wrapped { push(&[multisig.to_p2wsh().to_bytes()]) } else { ScriptBuf::new() }, witness)
            }
            Kind::TrKey => witness(&[self.schnorr_tweaked(0, taproot(None), hash_type)]),
            Kind::TrChecksig | Kind::TrChecksigadd => {
                let leaf = self.leaf(kind);
                let leaf_hash = TapLeafHash::from_script(&leaf, LeafVersion::TapScript).to_byte_array();
                let hash = taproot(Some(&TapscriptSpend { leaf_hash, codeseparator_position: u32::MAX }));
                let control = self.tree(kind).control_block(&(leaf.clone(), LeafVersion::TapScript));
                let control = control.expect("the leaf is in the tree").serialize();
                let mut items = Vec::new();
                if kind == Kind::TrChecksigadd {
                    items.push(self.schnorr(1, hash, hash_type));
                }
                items.extend([self.schnorr(0, hash, hash_type), leaf.to_bytes(), control]);
                witness(&items)
            }
        }
    }
}

/// A script that pushes these.
pub(crate) fn push(items: &[Vec<u8>]) -> ScriptBuf {
    let push = |item: &Vec<u8>| PushBytesBuf::try_from(item.clone()).expect("short");
    items.iter().fold(Builder::new(), |builder, item| builder.push_slice(push(item))).into_script()
}

/// A pair whose chain has mature rewards and coins of every kind.
pub(crate) struct World {
    pub(crate) pair: Pair,
    pub(crate) purse: Purse,
    /// Rewards that can be spent, of 50 BTC, to `anyone_can_spend`.
    pub(crate) rewards: Vec<OutPoint>,
    pub(crate) coins: Vec<Coin>,
}

/// How many coins of each kind.
const EACH: usize = 12;

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Vec::new()).0
    }

    /// Also makes outputs of these scripts, and returns where they are.
    pub(crate) fn with(scripts: Vec<ScriptBuf>) -> (Self, Vec<OutPoint>) {
        let pair = Pair::new();
        let purse = Purse::new();
        let mut rewards = Vec::new();
        // The last blocks are of the present, so that both engines' clocks allow what follows.
        let mut parent = pair.ours.tip().header;
        for height in 1..=MATURITY + 8 {
            let mut block = block_after(&parent, height, 0, Vec::new());
            if height == MATURITY {
                block.header.time = now() - 7_200;
                cairn_chain::testing::mine(&mut block.header);
            }
            assert_eq!(pair.give(&block), None);
            parent = block.header;
            if height <= 8 {
                rewards.push(reward(&block));
            }
        }
        let mut funding = spend(&[rewards.remove(0)], &[]);
        let kinds = KINDS.iter().flat_map(|kind| std::iter::repeat_n(*kind, EACH));
        let outputs: Vec<(Kind, TxOut)> = kinds
            .map(|kind| (kind, TxOut { value: Amount::from_sat(VALUE), script_pubkey: purse.script_pubkey(kind) }))
            .collect();
        funding.output = outputs.iter().map(|(_, output)| output.clone()).collect();
        let others = funding.output.len();
        funding
            .output
            .extend(scripts.into_iter().map(|script_pubkey| TxOut { value: Amount::from_sat(VALUE), script_pubkey }));
        let txid = funding.compute_txid();
        let coins = (0..).zip(outputs);
        let coins =
            coins.map(|(vout, (kind, output))| Coin { outpoint: OutPoint { txid, vout }, kind, output }).collect();
        let made = (others..funding.output.len()).map(|vout| OutPoint { txid, vout: vout as u32 }).collect();
        let mut world = Self { pair, purse, rewards, coins };
        let block = world.block(vec![funding]);
        assert_eq!(world.pair.give(&block), None);
        (world, made)
    }

    /// A valid block of these transactions on the tip.
    pub(crate) fn block(&mut self, transactions: Vec<Transaction>) -> Block {
        let tip = self.pair.ours.tip();
        block_after(&tip.header, tip.height + 1, 0, transactions)
    }

    /// Takes a coin of a kind.
    pub(crate) fn take(&mut self, kind: Kind) -> Coin {
        let at = self.coins.iter().position(|coin| coin.kind == kind).expect("a coin of each kind is left");
        self.coins.remove(at)
    }
}

#[test]
fn every_kind_of_coin_is_spent() {
    let mut world = World::new();
    for kind in KINDS {
        let coin = world.take(kind);
        let output =
            TxOut { value: Amount::from_sat(VALUE / 2), script_pubkey: world.purse.script_pubkey(Kind::TrKey) };
        let tx = world.purse.pay(&[coin], vec![output]);
        let block = world.block(vec![tx]);
        assert_eq!(world.pair.give(&block), None, "{kind:?}");
    }
}
