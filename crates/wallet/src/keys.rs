//! BIP 86 descriptors, their scripts, and signatures.

use crate::{RecoveryPhrase, WalletError};
use bdk_wallet::{
    KeychainKind,
    descriptor::ExtendedDescriptor,
    miniscript::psbt::PsbtExt,
    template::{Bip86, DescriptorTemplate},
};
use bitcoin::{
    Network, NetworkKind, Psbt, ScriptBuf, Transaction, TxOut, bip32::Xpriv, key::Secp256k1, secp256k1::All,
};

/// Largest index that is not hardened (BIP 32).
pub(crate) const MAX_INDEX: u32 = (1 << 31) - 1;

/// Receiving or change addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Keychain {
    External,
    Internal,
}

impl Keychain {
    /// As a row has it.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::External => 0,
            Self::Internal => 1,
        }
    }

    pub(crate) fn from_number(number: u32) -> Self {
        if number == 0 { Self::External } else { Self::Internal }
    }
}

/// The keys of a wallet.
pub(crate) struct Keys {
    master: Xpriv,
    external: ExtendedDescriptor,
    internal: ExtendedDescriptor,
    secp: Secp256k1<All>,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.master.private_key.non_secure_erase();
    }
}

/// An input to sign: where its key is, and what it spends.
pub(crate) struct Spent {
    pub(crate) keychain: Keychain,
    pub(crate) index: u32,
    pub(crate) txout: TxOut,
}

impl Keys {
    /// `m/86'/0'/0'` on mainnet, `m/86'/1'/0'` elsewhere (BIP 86, BIP 44).
    pub(crate) fn new(phrase: &RecoveryPhrase, network: Network) -> Result<Self, WalletError> {
        let internal_error = |error: String| WalletError::Signing(error);
        let seed = phrase.seed();
        let master = Xpriv::new_master(network, &*seed).map_err(|e| internal_error(e.to_string()))?;
        let kind = NetworkKind::from(network);
        let descriptor = |keychain| {
            let (descriptor, _, _) =
                Bip86(master, keychain).build(kind).map_err(|error| internal_error(error.to_string()))?;
            Ok::<_, WalletError>(descriptor)
        };
        Ok(Self {
            external: descriptor(KeychainKind::External)?,
            internal: descriptor(KeychainKind::Internal)?,
            master,
            secp: Secp256k1::new(),
        })
    }

    pub(crate) fn descriptor(&self, keychain: Keychain) -> &ExtendedDescriptor {
        match keychain {
            Keychain::External => &self.external,
            Keychain::Internal => &self.internal,
        }
    }

    /// The script at an index.
    pub(crate) fn script(&self, keychain: Keychain, index: u32) -> Result<ScriptBuf, WalletError> {
        if index > MAX_INDEX {
            return Err(WalletError::NoAddressesLeft);
        }
        let definite = self
            .descriptor(keychain)
            .at_derivation_index(index)
            .map_err(|error| WalletError::Signing(error.to_string()))?;
        Ok(definite.script_pubkey())
    }

    /// Signs every input with its key (BIP 341 key path, SIGHASH_DEFAULT).
    pub(crate) fn sign(&self, unsigned: Transaction, spent: &[Spent]) -> Result<Transaction, WalletError> {
        let failed = |error: String| WalletError::Signing(error);
        let mut psbt = Psbt::from_unsigned_tx(unsigned).map_err(|e| failed(e.to_string()))?;
        for (n, input) in spent.iter().enumerate() {
            let definite = self
                .descriptor(input.keychain)
                .at_derivation_index(input.index)
                .map_err(|error| failed(error.to_string()))?;
            if let Some(psbt_input) = psbt.inputs.get_mut(n) {
                psbt_input.witness_utxo = Some(input.txout.clone());
            }
            psbt.update_input_with_descriptor(n, &definite).map_err(|error| failed(error.to_string()))?;
        }
        psbt.sign(&self.master, &self.secp).map_err(|(_, errors)| failed(format!("{errors:?}")))?;
        psbt.finalize_mut(&self.secp).map_err(|errors| failed(format!("{errors:?}")))?;
        // The rate was limited where it was asked for; a replacement may have to pay more.
        Ok(psbt.extract_tx_unchecked_fee_rate())
    }
}
