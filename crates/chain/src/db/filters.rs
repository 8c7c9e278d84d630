//! Filters of blocks.

use super::Db;
use crate::error::ChainError;
use crate::filterindex::FilterRow;
use crate::index::Id;
use bitcoin::bip158::{FilterHash, FilterHeader};
use bitcoin::hashes::Hash;
use redb::{ReadOnlyTable, ReadableDatabase, TableDefinition, TableError, TableHandle};

/// Key: block's id. Value: hash and header of its filter.
const FILTER_HEADERS: TableDefinition<'_, u32, &[u8; 64]> = TableDefinition::new("filter-headers");
/// Key: block's id. Value: its filter. Apart from the headers, of which many are read at a time.
const FILTERS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("filters");

/// Hash and header of a filter.
pub(crate) type FilterIds = (FilterHash, FilterHeader);

fn ids(value: &[u8; 64]) -> FilterIds {
    let (hash, header) = value.split_at(32);
    let half = |bytes: &[u8]| bytes.try_into().expect("half of 64 bytes");
    (FilterHash::from_byte_array(half(hash)), FilterHeader::from_byte_array(half(header)))
}

impl Db {
    fn filter_headers(&self) -> Result<Option<ReadOnlyTable<u32, &'static [u8; 64]>>, redb::Error> {
        match self.db.begin_read()?.open_table(FILTER_HEADERS) {
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            table => Ok(Some(table?)),
        }
    }

    /// Hashes and headers of the filters of blocks, in their order, `None` where there is none.
    pub(crate) fn filter_ids(&self, blocks: &[Id]) -> Result<Vec<Option<FilterIds>>, ChainError> {
        let read = || -> Result<_, redb::Error> {
            let Some(table) = self.filter_headers()? else { return Ok(vec![None; blocks.len()]) };
            blocks.iter().map(|id| Ok(table.get(id)?.map(|value| ids(value.value())))).collect()
        };
        read().map_err(|error| self.failed(error))
    }

    /// How many of the first of `blocks` have no filter.
    pub(crate) fn count_unfiltered(&self, blocks: impl Iterator<Item = Id>) -> Result<usize, ChainError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.filter_headers()?;
            let mut count = 0;
            for id in blocks {
                if let Some(table) = &table
                    && table.get(id)?.is_some()
                {
                    break;
                }
                count += 1;
            }
            Ok(count)
        };
        read().map_err(|error| self.failed(error))
    }

    /// The filter of a block.
    pub(crate) fn filter(&self, block: Id) -> Result<Option<Vec<u8>>, ChainError> {
        let read = || -> Result<_, redb::Error> {
            let table = match self.db.begin_read()?.open_table(FILTERS) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            Ok(table.get(block)?.map(|value| value.value().to_vec()))
        };
        read().map_err(|error| self.failed(error))
    }

    /// Adds filters of blocks whose headers are in the database already.
    pub(crate) fn add_filters(&self, rows: &[(Id, FilterRow)]) -> Result<(), ChainError> {
        self.change(|txn| write(txn, rows.iter().map(|(id, row)| (*id, row))))
    }

    /// Forgets all filters.
    pub(crate) fn forget_filters(&self) -> Result<(), ChainError> {
        if self.has_table(FILTER_HEADERS.name())? {
            self.change(|txn| {
                txn.delete_table(FILTER_HEADERS)?;
                txn.delete_table(FILTERS)?;
                Ok(())
            })?;
        }
        Ok(())
    }
}

pub(super) fn write<'a>(
    txn: &redb::WriteTransaction,
    rows: impl Iterator<Item = (Id, &'a FilterRow)>,
) -> Result<(), redb::Error> {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    let (mut headers, mut filters) = (txn.open_table(FILTER_HEADERS)?, txn.open_table(FILTERS)?);
    for (id, row) in rows {
        let mut value = [0; 64];
        value[..32].copy_from_slice(row.hash.as_byte_array());
        value[32..].copy_from_slice(row.header.as_byte_array());
        headers.insert(id, &value)?;
        filters.insert(id, row.content.as_slice())?;
    }
    Ok(())
}
