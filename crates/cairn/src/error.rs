//! What a command can fail with: one sentence and one remedy, and the exit code that scripts rely on.

use std::fmt;

/// Exit codes of every command.
pub(crate) mod exit {
    /// Done.
    pub(crate) const DONE: u8 = 0;
    /// Failed, or the input is malformed.
    pub(crate) const FAILED: u8 = 1;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 2;
    /// Verification says no.
    pub(crate) const SAYS_NO: u8 = 3;
    /// It cannot be said yet: pending, or nobody to ask.
    pub(crate) const CANNOT_SAY: u8 = 4;
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct CliError {
    /// Exit code, one of [`exit`].
    pub(crate) code: u8,
    /// What went wrong, one sentence without a full stop.
    pub(crate) message: String,
    /// What to do about it, if anything can be done.
    pub(crate) remedy: Option<String>,
}

impl CliError {
    /// The command failed.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self { code: exit::FAILED, message: message.to_string(), remedy: None }
    }

    /// The command was used wrongly.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { code: exit::USAGE, message: message.to_string(), remedy: None }
    }

    /// Adds what to do about it.
    pub(crate) fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remedy {
            Some(remedy) => write!(f, "{}: {remedy}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for CliError {}
