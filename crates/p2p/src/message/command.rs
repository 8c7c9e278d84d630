//! Types of messages.

use std::fmt;

/// A message's type, as Core's `m_msg_type`: up to 12 printable ASCII characters, filled up with zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command([u8; Command::LENGTH]);

impl Command {
    /// Bytes of a command on the wire (`MESSAGE_TYPE_SIZE`).
    pub const LENGTH: usize = 12;

    /// The command of this name; none if it is longer than 12 bytes or has other than printable ASCII characters.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; Self::LENGTH];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Self::from_wire(bytes).filter(|command| command.as_str() == name)
    }

    /// The command in a message's header; none if Core's `IsMessageTypeValid` says no.
    pub fn from_wire(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(Self::LENGTH);
        let valid = bytes[..length].iter().all(|byte| (b' '..=b'~').contains(byte))
            && bytes[length..].iter().all(|&byte| byte == 0);
        valid.then_some(Self(bytes))
    }

    /// The bytes for a message's header.
    pub fn to_wire(self) -> [u8; Self::LENGTH] {
        self.0
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(Self::LENGTH);
        str::from_utf8(&self.0[..length]).expect("only ASCII is let in")
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}
