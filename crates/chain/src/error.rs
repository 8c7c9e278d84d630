//! Errors of this room, each with its remedy.

use bitcoin::BlockHash;
use cairn_consensus::error::BlockReject;
use std::io;
use std::path::{Path, PathBuf};

/// Errors of this room, each with its remedy. Only [`ChainError::Rejected`] says anything about a block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The block or header breaks a rule.
    #[error("{0}")]
    Rejected(#[from] BlockReject),
    /// Another process holds the data directory.
    #[error("data directory {dir} is in use by process {pid}: stop it, or choose another with --data-dir")]
    Locked {
        /// Directory.
        dir: PathBuf,
        /// Holder's process id and its command, such as `4711 (cairn up)`, or "unknown".
        pid: String,
    },
    /// The directory belongs to another network.
    #[error("data directory {dir} belongs to {found}, not to {expected}: choose another with --data-dir")]
    WrongNetwork {
        /// Directory.
        dir: PathBuf,
        /// Network and genesis that the directory was made for.
        found: String,
        /// Network and genesis that were asked for.
        expected: String,
    },
    /// A newer program wrote the directory.
    #[error(
        "data directory {dir} has format {found}, this program knows up to {known}: \
         use the newer program that wrote it, or choose another with --data-dir"
    )]
    NewerVersion {
        /// Directory.
        dir: PathBuf,
        /// Format found.
        found: u32,
        /// Newest format known.
        known: u32,
    },
    /// The path is a file or something else.
    #[error("{dir} is not a directory: choose another with --data-dir")]
    NotADirectory {
        /// The path.
        dir: PathBuf,
    },
    /// Nothing can be written there.
    #[error(
        "data directory {dir} cannot be written ({source}): make it writable for this user, or choose another with --data-dir"
    )]
    ReadOnly {
        /// Directory.
        dir: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// No room is left on the file system (or in the quota).
    #[error("no space left to write {path}: free some space on its file system and try again")]
    DiskFull {
        /// File being written.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// Cause.
        source: io::Error,
    },
    /// Stored bytes are not what was written.
    #[error(
        "{what} is damaged: start once with --reindex, which keeps every block that is whole, or restore the data directory \
         from a backup"
    )]
    Corrupt {
        /// What, with its path.
        what: String,
    },
    /// The key of the block files is gone, and the files do not tell it.
    #[error(
        "{key} is missing or damaged, and {file} does not begin with the network's genesis block, by which the key could be \
         found: put the key's 8 bytes back from a backup, or delete the data directory to synchronise again"
    )]
    KeyLost {
        /// The key's file.
        key: PathBuf,
        /// The file that was asked.
        file: PathBuf,
    },
    /// The first block files are gone, as where blocks were pruned.
    #[error(
        "{file} is not there, and without the first blocks the index cannot be made from the block files: put it back (or the \
         database in chainstate/) from a backup, or delete the data directory to synchronise again"
    )]
    Incomplete {
        /// The first file.
        file: PathBuf,
    },
    /// The database of coins and index failed.
    #[error(
        "database {path}: {source}: if it is damaged, start once with --reindex, which makes it anew from the block files"
    )]
    Database {
        /// Its file.
        path: PathBuf,
        /// Cause.
        source: Box<redb::Error>,
    },
    /// An earlier write failed, so that what is on disk is uncertain; nothing more is written.
    #[error("the chain stopped writing after a failure ({cause}): mend its cause and start again")]
    Poisoned {
        /// The failure.
        cause: String,
    },
    /// The block, or one after it, is needed and was deleted to save space.
    #[error("block {hash} cannot be undone or connected: its data, or that of a later block, was pruned")]
    Pruned {
        /// The block.
        hash: BlockHash,
    },
    /// The filter of a block is missing, and the block, or what it spent, was deleted to save space.
    #[error(
        "the block filter index lacks block {hash}, which was pruned: start without --blockfilterindex, or delete the data \
         directory to synchronise again"
    )]
    FilterPruned {
        /// The block.
        hash: BlockHash,
    },
    /// No such block.
    #[error("Block not found: {0}")]
    UnknownBlock(BlockHash),
    /// A snapshot of the coins cannot be used.
    #[error("snapshot: {what}")]
    Snapshot {
        /// Why.
        what: String,
    },
    /// A file that would be written is there already.
    #[error("{path} already exists: move it out of the way first, or choose another name")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Somebody asked to stop.
    #[error("stopped before it was done, as was asked")]
    Interrupted,
    /// The genesis block is valid by definition.
    #[error("the genesis block cannot be invalidated")]
    Genesis,
}

impl ChainError {
    /// An I/O failure while doing something with `path`; a full disk is told apart.
    pub(crate) fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned(), source }
            }
            _ => Self::Io { what: format!("cannot {doing} {}", path.display()), source },
        }
    }

    /// A failure of the database at `path`.
    pub(crate) fn database(path: &Path, error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::Io(source) => Self::io("access", path, source),
            error => Self::Database { path: path.to_owned(), source: Box::new(error) },
        }
    }
}
