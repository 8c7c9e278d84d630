//! A connection's bytes: v1 framing and BIP 324 encryption.
