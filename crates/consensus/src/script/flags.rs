//! Which rules a script is held to.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};
use std::str::FromStr;

/// Which rules apply: Core's `SCRIPT_VERIFY_*` bits (and their positions).
///
/// Every flag only removes valid scripts: what passes under `A | B` passes under `A`. As in Core, [`Self::WITNESS`] is
/// meaningful only together with [`Self::P2SH`], and [`Self::CLEANSTACK`] only together with both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ScriptFlags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)+) => {
        impl ScriptFlags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)+

            /// Every single flag and its name, in the order of the bits.
            pub const NAMES: &[(&str, Self)] = &[$((stringify!($name), Self::$name),)+];
            /// All flags at once.
            pub const ALL: Self = Self($(1 << $bit)|+);
        }
    };
}

flags! {
    /// Evaluate the redeem scripts of P2SH outputs (BIP 16).
    P2SH = 0;
    /// Policy: signatures strictly DER with a defined hash type, public keys compressed or uncompressed.
    STRICTENC = 1;
    /// Signatures strictly DER (BIP 66).
    DERSIG = 2;
    /// Policy: the signature's S is at most half the order (BIP 62 rule 5).
    LOW_S = 3;
    /// The dummy that CHECKMULTISIG consumes is empty (BIP 147).
    NULLDUMMY = 4;
    /// scriptSig has push operations only (BIP 62 rule 2).
    SIGPUSHONLY = 5;
    /// Policy: pushes and numbers have their shortest form (BIP 62 rules 3 and 4).
    MINIMALDATA = 6;
    /// Policy: executed NOPs that are reserved for upgrades fail.
    DISCOURAGE_UPGRADABLE_NOPS = 7;
    /// Policy: exactly one stack element remains (BIP 62 rule 6).
    CLEANSTACK = 8;
    /// CHECKLOCKTIMEVERIFY (BIP 65).
    CHECKLOCKTIMEVERIFY = 9;
    /// CHECKSEQUENCEVERIFY (BIP 112).
    CHECKSEQUENCEVERIFY = 10;
    /// Segregated witness (BIP 141 and BIP 143).
    WITNESS = 11;
    /// Policy: witness versions without rules fail.
    DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM = 12;
    /// Policy: the argument of IF and NOTIF in witness v0 is empty or exactly 0x01.
    MINIMALIF = 13;
    /// Policy: the signatures of a failed CHECKSIG or CHECKMULTISIG are empty (BIP 146).
    NULLFAIL = 14;
    /// Policy: public keys in witness v0 scripts are compressed.
    WITNESS_PUBKEYTYPE = 15;
    /// Policy: CODESEPARATOR and FindAndDelete fail scripts without witness.
    CONST_SCRIPTCODE = 16;
    /// Taproot and Tapscript (BIP 341 and BIP 342).
    TAPROOT = 17;
    /// Policy: unknown Taproot leaf versions fail.
    DISCOURAGE_UPGRADABLE_TAPROOT_VERSION = 18;
    /// Policy: OP_SUCCESSx fails.
    DISCOURAGE_OP_SUCCESS = 19;
    /// Policy: unknown public key versions in Tapscript fail.
    DISCOURAGE_UPGRADABLE_PUBKEYTYPE = 20;
}

impl ScriptFlags {
    /// No flag: the rules of the genesis block.
    pub const NONE: Self = Self(0);

    /// Core's `MANDATORY_SCRIPT_VERIFY_FLAGS`: the consensus rules of the chain's tip.
    pub const MANDATORY: Self = Self::union(&[
        Self::P2SH,
        Self::DERSIG,
        Self::NULLDUMMY,
        Self::CHECKLOCKTIMEVERIFY,
        Self::CHECKSEQUENCEVERIFY,
        Self::WITNESS,
        Self::TAPROOT,
    ]);

    /// Core's `STANDARD_SCRIPT_VERIFY_FLAGS`: what transactions must keep to be relayed.
    pub const STANDARD: Self = Self::union(&[
        Self::MANDATORY,
        Self::STRICTENC,
        Self::MINIMALDATA,
        Self::DISCOURAGE_UPGRADABLE_NOPS,
        Self::CLEANSTACK,
        Self::MINIMALIF,
        Self::NULLFAIL,
        Self::LOW_S,
        Self::DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM,
        Self::WITNESS_PUBKEYTYPE,
        Self::CONST_SCRIPTCODE,
        Self::DISCOURAGE_UPGRADABLE_TAPROOT_VERSION,
        Self::DISCOURAGE_OP_SUCCESS,
        Self::DISCOURAGE_UPGRADABLE_PUBKEYTYPE,
    ]);

    /// All flags of a list.
    pub(crate) const fn union(mut flags: &[Self]) -> Self {
        let mut bits = 0;
        while let [first, rest @ ..] = flags {
            bits |= first.0;
            flags = rest;
        }
        Self(bits)
    }

    /// The raw bits, as Core numbers them.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Flags from raw bits; bits without a meaning are dropped.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for ScriptFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for ScriptFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for ScriptFlags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The flags of the left side without those of the right.
impl Sub for ScriptFlags {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Names joined by commas, or `NONE`.
impl fmt::Display for ScriptFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("NONE");
        }
        let mut separator = "";
        for (name, _) in Self::NAMES.iter().filter(|(_, flag)| self.contains(*flag)) {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for ScriptFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScriptFlags({self})")
    }
}

/// A name that is no script flag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown script flag {0:?}; use the names of Core's SCRIPT_VERIFY_ flags without that prefix, joined by commas"
)]
pub struct UnknownScriptFlag(pub String);

/// Parses names joined by commas; empty and `NONE` mean no flag.
impl FromStr for ScriptFlags {
    type Err = UnknownScriptFlag;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.is_empty() || s == "NONE" {
            return Ok(Self::NONE);
        }
        s.split(',').try_fold(Self::NONE, |flags, word| match Self::NAMES.iter().find(|(name, _)| *name == word) {
            Some((_, flag)) => Ok(flags | *flag),
            None => Err(UnknownScriptFlag(word.to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for bits in [0, 1, ScriptFlags::MANDATORY.bits(), ScriptFlags::STANDARD.bits(), ScriptFlags::ALL.bits()] {
            let flags = ScriptFlags::from_bits(bits);
            assert_eq!(flags.to_string().parse(), Ok(flags));
        }
        assert_eq!("P2SH,NO_SUCH".parse::<ScriptFlags>(), Err(UnknownScriptFlag("NO_SUCH".into())));
    }

    #[test]
    fn flags_are_sets() {
        let (a, b, c) = (ScriptFlags::P2SH, ScriptFlags::WITNESS, ScriptFlags::TAPROOT);
        assert_eq!(((a | b) | (b | c), (a | b) & (b | c), (a | b) - (b | c)), (a | b | c, b, a));
        let mut both = a;
        both |= b;
        both |= b;
        assert_eq!(both, a | b);
        assert!((a | b).contains(b) && a.contains(ScriptFlags::NONE) && !a.contains(a | b));
        assert!((a | b).intersects(b | c) && !a.intersects(b | c) && !a.intersects(ScriptFlags::NONE));
        assert_eq!((ScriptFlags::from_bits(a.bits()), ScriptFlags::from_bits(u32::MAX)), (a, ScriptFlags::ALL));
        assert_eq!(
            ("".parse(), "NONE".parse(), "P2SH,P2SH".parse()),
            (Ok(ScriptFlags::NONE), Ok(ScriptFlags::NONE), Ok(a))
        );
        assert_eq!((ScriptFlags::NONE.to_string(), (a | b).to_string()), ("NONE".into(), "P2SH,WITNESS".into()));
    }

    #[test]
    fn bits_are_cores() {
        assert_eq!(ScriptFlags::ALL.bits(), (1 << 21) - 1);
        for (position, (_, flag)) in ScriptFlags::NAMES.iter().enumerate() {
            assert_eq!(flag.bits(), 1 << position);
        }
        // Every flag but SIGPUSHONLY is standard.
        assert_eq!(ScriptFlags::ALL - ScriptFlags::STANDARD, ScriptFlags::SIGPUSHONLY);
    }
}
