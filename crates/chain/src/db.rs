//! The embedded database: coins, block index and the other indexes, changed together in atomic durable batches.
//!
//! The engine is redb (`docs/decisions/0002-coin-store.md`).

mod filters;

use crate::append::Ends;
use crate::coins::DirtyCoin;
use crate::compress::{read_coin, write_coin};
use crate::disk;
use crate::error::ChainError;
use crate::filterindex::FilterRow;
use crate::index::{Id, Index, RECORD};
use crate::lock::sync_dir;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, Txid};
use cairn_consensus::coins::Coin;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableError,
    TableHandle,
};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Key: txid, output index (big endian). Value: Core's serialisation of a coin.
pub(crate) const COINS: TableDefinition<'_, &[u8; 36], &[u8]> = TableDefinition::new("coins");
/// The transaction index, if there is one. Key: txid. Value: block's id, offset in the block, length.
pub(crate) const TRANSACTIONS: TableDefinition<'_, &[u8; 32], (u32, u32, u32)> = TableDefinition::new("transactions");
/// While the transaction index is made: as it.
const NEW_TRANSACTIONS: TableDefinition<'_, &[u8; 32], (u32, u32, u32)> = TableDefinition::new("new-transactions");
/// Key: block's id. Value: [`Index::record`].
pub(crate) const BLOCKS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("blocks");
/// Key: file number. Value: where its block and its undo file end.
pub(crate) const FILES: TableDefinition<'_, u32, (u32, u32)> = TableDefinition::new("files");
/// One entry: the block whose coins are in the tables.
pub(crate) const MARKER: TableDefinition<'_, (), &[u8; 32]> = TableDefinition::new("best-block");

/// While a snapshot is not validated yet: the block that it was taken at.
pub(crate) const SNAPSHOT: TableDefinition<'_, (), &[u8; 32]> = TableDefinition::new("snapshot");
/// Coins of a snapshot that is being read.
const LOADING_COINS: TableDefinition<'_, &[u8; 36], &[u8]> = TableDefinition::new("loading-coins");
/// While a snapshot is not validated yet: the coins that follow the blocks from the genesis block on.
const BACKGROUND_COINS: TableDefinition<'_, &[u8; 36], &[u8]> = TableDefinition::new("background-coins");
/// As `MARKER`, of `BACKGROUND_COINS`.
const BACKGROUND_MARKER: TableDefinition<'_, (), &[u8; 32]> = TableDefinition::new("background-best-block");

pub(crate) const FILE_NAME: &str = "chain.redb";
const UNFINISHED_NAME: &str = "chain.redb.new";
/// Pages that the engine keeps, in bytes. The system's page cache does the rest, shared by all nodes of a machine.
const PAGE_CACHE: usize = 4 << 20;
/// The same while a start reads the index, whose pages nobody asks for again.
const START_CACHE: usize = 256 << 10;

/// Where a transaction lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TxPos {
    /// Its block.
    pub(crate) block: Id,
    /// Offset in the block's data, bytes.
    pub(crate) offset: u32,
    /// Length in bytes.
    pub(crate) length: u32,
}

/// One of the two sets of coins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// Those of the active chain.
    Active,
    /// Those that follow the blocks below a snapshot, while it is not validated yet.
    Background,
}

impl Set {
    fn coins(self) -> TableDefinition<'static, &'static [u8; 36], &'static [u8]> {
        if self == Self::Active { COINS } else { BACKGROUND_COINS }
    }
    fn marker(self) -> TableDefinition<'static, (), &'static [u8; 32]> {
        if self == Self::Active { MARKER } else { BACKGROUND_MARKER }
    }
}

/// Changes of one set of coins.
#[derive(Debug)]
pub(crate) struct CoinChanges<'a> {
    pub(crate) set: Set,
    /// Coins to write, `None` deletes; in the order of their keys, which the tree takes fastest.
    pub(crate) coins: Vec<DirtyCoin<'a>>,
    pub(crate) transactions: Vec<(&'a Txid, TxPos)>,
    /// The block that `coins` bring the table to.
    pub(crate) marker: BlockHash,
}

/// Changes to make together.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    pub(crate) blocks: Vec<(Id, [u8; RECORD])>,
    pub(crate) files: &'a [Ends],
    pub(crate) coins: Vec<CoinChanges<'a>>,
    pub(crate) filters: Vec<(Id, &'a FilterRow)>,
}

/// A coin's key and value as the table holds them.
#[cfg(any(test, feature = "testing"))]
pub(crate) type RawCoin = ([u8; 36], Vec<u8>);

/// The database.
pub(crate) struct Db {
    path: PathBuf,
    /// The coins as of the last batch, kept open: opening it costs more than a look-up in it. Before the database, so that
    /// nothing reads in it when it is closed.
    coins: RwLock<OpenCoins>,
    db: Database,
}

/// The coins of both sets.
struct OpenCoins {
    active: CoinTable,
    background: Option<CoinTable>,
}

type CoinTable = ReadOnlyTable<&'static [u8; 36], &'static [u8]>;

impl Db {
    /// Opens or creates it in `dir`. What a start reads only once does not stay in memory.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Index, Vec<Ends>), ChainError> {
        disk::create_dir(dir).map_err(|error| ChainError::io("create", dir, error))?;
        let path = dir.join(FILE_NAME);
        let failed = |error| ChainError::io("create", &path, error);
        if !path.try_exists().map_err(failed)? {
            // The engine does not open what a kill leaves of a database that was being created.
            let unfinished = dir.join(UNFINISHED_NAME);
            disk::remove(&unfinished).map_err(failed)?;
            drop(Self::open_file(unfinished.clone(), START_CACHE)?);
            disk::rename(&unfinished, &path).map_err(failed)?;
            sync_dir(dir)?;
        }
        let starting = Self::open_file(path.clone(), START_CACHE)?;
        let (index, ends) = (starting.load_index()?, starting.load_ends()?);
        drop(starting);
        Ok((Self::open_file(path, PAGE_CACHE)?, index, ends))
    }

    fn open_file(path: PathBuf, cache_bytes: usize) -> Result<Self, ChainError> {
        let (file, _) = disk::open(&path).map_err(|error| ChainError::io("open", &path, error))?;
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        #[cfg(not(any(test, feature = "testing")))]
        let db = builder.create_file(file);
        #[cfg(any(test, feature = "testing"))]
        let db = crate::testing::faults::Watched::new(&path, file).and_then(|file| builder.create_with_backend(file));
        let db = db.map_err(|error| ChainError::database(&path, error))?;
        let coins = create_tables(&db).and_then(|()| open_coins(&db));
        let coins = RwLock::new(coins.map_err(|error| ChainError::database(&path, error))?);
        Ok(Self { path, db, coins })
    }

    /// Deletes it.
    pub(crate) fn remove(dir: &Path) -> Result<(), ChainError> {
        let path = dir.join(FILE_NAME);
        if disk::remove(&path).map_err(|error| ChainError::io("delete", &path, error))? {
            sync_dir(dir)?;
        }
        Ok(())
    }

    fn failed(&self, error: redb::Error) -> ChainError {
        ChainError::database(&self.path, error)
    }

    fn damaged(&self, what: &str) -> ChainError {
        ChainError::Corrupt { what: format!("{what} in {}", self.path.display()) }
    }

    /// A coin, as of the set's marker.
    pub(crate) fn coin(&self, set: Set, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        let read = || -> Result<_, redb::Error> {
            let tables = self.coins.read().unwrap_or_else(PoisonError::into_inner);
            let table = match (set, &tables.background) {
                (Set::Active, _) => &tables.active,
                (Set::Background, Some(table)) => table,
                (Set::Background, None) => return Ok(None),
            };
            Ok(table.get(&coin_key(outpoint))?.map(|value| read_coin(value.value())))
        };
        match read().map_err(|error| self.failed(error))? {
            None => Ok(None),
            Some(Ok(coin)) => Ok(Some(coin)),
            Some(Err(_)) => Err(self.damaged(&format!("coin {outpoint}"))),
        }
    }

    /// Where a transaction was last connected, as of the marker.
    pub(crate) fn transaction(&self, txid: &Txid) -> Result<Option<TxPos>, ChainError> {
        let read = || -> Result<_, redb::Error> {
            let table = match self.db.begin_read()?.open_table(TRANSACTIONS) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            Ok(table.get(txid.as_byte_array())?.map(|value| value.value()))
        };
        let found = read().map_err(|error| self.failed(error))?;
        Ok(found.map(|(block, offset, length)| TxPos { block, offset, length }))
    }

    /// The block whose coins are in the set's table.
    pub(crate) fn marker(&self, set: Set) -> Result<Option<BlockHash>, ChainError> {
        self.block_of(set.marker())
    }

    /// The block of the snapshot that is not validated yet.
    pub(crate) fn snapshot(&self) -> Result<Option<BlockHash>, ChainError> {
        self.block_of(SNAPSHOT)
    }

    fn block_of(
        &self,
        table: TableDefinition<'static, (), &'static [u8; 32]>,
    ) -> Result<Option<BlockHash>, ChainError> {
        let read = || -> Result<_, redb::Error> {
            let table = match self.db.begin_read()?.open_table(table) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            Ok(table.get(())?.map(|value| BlockHash::from_byte_array(*value.value())))
        };
        read().map_err(|error| self.failed(error))
    }

    /// All block headers.
    fn load_index(&self) -> Result<Index, ChainError> {
        let mut index = Index::default();
        let mut whole = true;
        let mut read = || -> Result<_, redb::Error> {
            let table = self.db.begin_read()?.open_table(BLOCKS)?;
            index.reserve(usize::try_from(table.len()?).unwrap_or(0));
            for row in table.iter()? {
                let (id, record) = row?;
                if index.restore(record.value()) != Some(id.value()) {
                    whole = false;
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|error| self.failed(error))?;
        if whole { Ok(index) } else { Err(self.damaged("the block index")) }
    }

    /// Ends of the block and undo files.
    fn load_ends(&self) -> Result<Vec<Ends>, ChainError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.db.begin_read()?.open_table(FILES)?;
            let mut ends = Vec::new();
            for row in table.iter()? {
                let (block, undo) = row?.1.value();
                ends.push(Ends { block, undo });
            }
            Ok(ends)
        };
        read().map_err(|error| self.failed(error))
    }

    /// Makes all of a batch durable, or none of it.
    pub(crate) fn commit(&self, batch: &Batch<'_>) -> Result<(), ChainError> {
        self.change(|txn| write(txn, batch))
    }

    fn change(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), ChainError> {
        let commit = || -> Result<_, redb::Error> {
            let mut txn = self.db.begin_write()?;
            // Opening after a kill then takes no longer for a large chain than for a small one.
            txn.set_quick_repair(true);
            change(&txn)?;
            txn.commit()?;
            open_coins(&self.db)
        };
        let coins = commit().map_err(|error| self.failed(error))?;
        *self.coins.write().unwrap_or_else(PoisonError::into_inner) = coins;
        Ok(())
    }

    /// Forgets the active chain's coins: they are made anew from the blocks.
    pub(crate) fn clear_coins(&self) -> Result<(), ChainError> {
        self.change(|txn| {
            txn.delete_table(COINS)?;
            if txn.delete_table(TRANSACTIONS)? {
                txn.open_table(TRANSACTIONS)?;
            }
            txn.delete_table(MARKER)?;
            txn.open_table(COINS)?;
            txn.open_table(MARKER)?;
            Ok(())
        })
    }

    /// Adds coins, in the order of their keys, to a snapshot that is being read.
    pub(crate) fn load_coins(&self, coins: &[([u8; 36], Coin)]) -> Result<(), ChainError> {
        self.change(|txn| {
            let mut table = txn.open_table(LOADING_COINS)?;
            let mut bytes = Vec::new();
            for (key, coin) in coins {
                bytes.clear();
                write_coin(&mut bytes, coin);
                table.insert(key, bytes.as_slice())?;
            }
            Ok(())
        })
    }

    /// Forgets a snapshot that was being read, if there is one.
    pub(crate) fn forget_loading(&self) -> Result<(), ChainError> {
        if self.has_table(LOADING_COINS.name())? {
            self.change(|txn| Ok(txn.delete_table(LOADING_COINS).map(|_| ())?))?;
        }
        Ok(())
    }

    fn has_table(&self, name: &str) -> Result<bool, ChainError> {
        let find =
            || -> Result<_, redb::Error> { Ok(self.db.begin_read()?.list_tables()?.any(|table| table.name() == name)) };
        find().map_err(|error| self.failed(error))
    }

    /// Whether there is a transaction index.
    pub(crate) fn has_transactions(&self) -> Result<bool, ChainError> {
        self.has_table(TRANSACTIONS.name())
    }

    /// Begins to make the transaction index, or goes on with it.
    pub(crate) fn add_transactions(&self, mut rows: Vec<(Txid, TxPos)>) -> Result<(), ChainError> {
        rows.sort_unstable_by_key(|(txid, _)| *txid);
        self.change(|txn| {
            let mut table = txn.open_table(NEW_TRANSACTIONS)?;
            rows.iter().try_for_each(|(txid, at)| insert_transaction(&mut table, txid, *at))
        })
    }

    /// The transaction index is whole.
    pub(crate) fn finish_transactions(&self) -> Result<(), ChainError> {
        self.change(|txn| {
            drop(txn.open_table(NEW_TRANSACTIONS)?);
            Ok(txn.rename_table(NEW_TRANSACTIONS, TRANSACTIONS)?)
        })
    }

    /// Forgets the transaction index, and what a process that was killed had made of one.
    pub(crate) fn forget_transactions(&self) -> Result<(), ChainError> {
        if self.has_transactions()? || self.has_table(NEW_TRANSACTIONS.name())? {
            self.change(|txn| {
                txn.delete_table(TRANSACTIONS)?;
                txn.delete_table(NEW_TRANSACTIONS)?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The snapshot that was read becomes the active chain's coins, and those go on in the background.
    pub(crate) fn activate_snapshot(&self, base: &BlockHash) -> Result<(), ChainError> {
        self.change(|txn| {
            txn.rename_table(COINS, BACKGROUND_COINS)?;
            txn.rename_table(MARKER, BACKGROUND_MARKER)?;
            drop(txn.open_table(LOADING_COINS)?);
            txn.rename_table(LOADING_COINS, COINS)?;
            txn.open_table(MARKER)?.insert((), base.as_byte_array())?;
            txn.open_table(SNAPSHOT)?.insert((), base.as_byte_array())?;
            Ok(())
        })
    }

    /// The snapshot was right: the coins in the background have done their work.
    pub(crate) fn accept_snapshot(&self) -> Result<(), ChainError> {
        self.change(|txn| {
            txn.delete_table(BACKGROUND_COINS)?;
            txn.delete_table(BACKGROUND_MARKER)?;
            txn.delete_table(SNAPSHOT)?;
            Ok(())
        })
    }

    /// The snapshot was wrong: the coins in the background become the active chain's again.
    pub(crate) fn refuse_snapshot(&self) -> Result<(), ChainError> {
        self.change(|txn| {
            txn.delete_table(COINS)?;
            txn.delete_table(MARKER)?;
            txn.delete_table(SNAPSHOT)?;
            txn.rename_table(BACKGROUND_COINS, COINS)?;
            txn.rename_table(BACKGROUND_MARKER, MARKER)?;
            Ok(())
        })
    }

    /// The coins as of the set's marker, held still whatever is written later.
    pub(crate) fn coin_rows(&self, set: Set) -> Result<CoinRows, ChainError> {
        let open = || -> Result<_, redb::Error> { Ok(self.db.begin_read()?.open_table(set.coins())?) };
        let table = open().map_err(|error| self.failed(error))?;
        Ok(CoinRows { path: self.path.clone(), table })
    }

    /// All coins as of the marker, in the order of their keys.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn all_coins(&self) -> Result<Vec<RawCoin>, ChainError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.db.begin_read()?.open_table(COINS)?;
            let mut coins = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                coins.push((*key.value(), value.value().to_vec()));
            }
            Ok(coins)
        };
        read().map_err(|error| self.failed(error))
    }
}

fn create_tables(db: &Database) -> Result<(), redb::Error> {
    if db.begin_read()?.open_table(MARKER).is_ok() {
        return Ok(());
    }
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    txn.open_table(COINS)?;
    txn.open_table(BLOCKS)?;
    txn.open_table(FILES)?;
    txn.open_table(MARKER)?;
    Ok(txn.commit()?)
}

fn open_coins(db: &Database) -> Result<OpenCoins, redb::Error> {
    let txn = db.begin_read()?;
    let background = match txn.open_table(BACKGROUND_COINS) {
        Err(TableError::TableDoesNotExist(_)) => None,
        table => Some(table?),
    };
    Ok(OpenCoins { active: txn.open_table(COINS)?, background })
}

fn write(txn: &redb::WriteTransaction, batch: &Batch<'_>) -> Result<(), redb::Error> {
    let mut blocks = txn.open_table(BLOCKS)?;
    for (id, record) in &batch.blocks {
        blocks.insert(id, record.as_slice())?;
    }
    let mut files = txn.open_table(FILES)?;
    for (number, ends) in (0..).zip(batch.files) {
        let value = (ends.block, ends.undo);
        if files.get(number)?.map(|old| old.value()) != Some(value) {
            files.insert(number, value)?;
        }
    }
    for changes in &batch.coins {
        let mut coins = txn.open_table(changes.set.coins())?;
        let mut bytes = Vec::new();
        for (key, coin) in &changes.coins {
            match coin {
                Some(coin) => {
                    bytes.clear();
                    coin.write(&mut bytes);
                    coins.insert(key, bytes.as_slice())?;
                }
                None => drop(coins.remove(key)?),
            }
        }
        if !changes.transactions.is_empty() {
            let mut table = txn.open_table(TRANSACTIONS)?;
            changes.transactions.iter().try_for_each(|(txid, at)| insert_transaction(&mut table, txid, *at))?;
        }
        txn.open_table(changes.set.marker())?.insert((), changes.marker.as_byte_array())?;
    }
    filters::write(txn, batch.filters.iter().copied())
}

fn insert_transaction(
    table: &mut redb::Table<'_, &'static [u8; 32], (u32, u32, u32)>,
    txid: &Txid,
    at: TxPos,
) -> Result<(), redb::Error> {
    table.insert(txid.as_byte_array(), (at.block, at.offset, at.length))?;
    Ok(())
}

/// The coins as of one moment.
pub(crate) struct CoinRows {
    path: PathBuf,
    table: CoinTable,
}

impl CoinRows {
    /// Keys and coins, in the order of the keys.
    pub(crate) fn iter(&self) -> Result<impl Iterator<Item = Result<([u8; 36], Coin), ChainError>> + '_, ChainError> {
        let rows = self.table.iter().map_err(|error| ChainError::database(&self.path, error))?;
        Ok(rows.map(|row| {
            let (key, value) = row.map_err(|error| ChainError::database(&self.path, error))?;
            let coin = read_coin(value.value());
            let coin = coin.map_err(|_| ChainError::Corrupt { what: format!("a coin in {}", self.path.display()) })?;
            Ok((*key.value(), coin))
        }))
    }
}

/// Key of a coin.
pub(crate) fn coin_key(outpoint: &OutPoint) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(outpoint.txid.as_byte_array());
    key[32..].copy_from_slice(&outpoint.vout.to_be_bytes());
    key
}
