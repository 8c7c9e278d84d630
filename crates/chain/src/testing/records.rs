//! What the chain reads from its files and its database, of any bytes and damaged: for fuzz targets. A check panics
//! where what was read does not come back as it was.

use crate::activate::best_header;
use crate::append::Appender;
use crate::chain::View;
use crate::coins::CoinCache;
use crate::coinset::{CoinHash, Counting};
use crate::compress::{read_coin, write_coin};
use crate::db::{BLOCKS, COINS, FILE_NAME, FILES, MARKER, SNAPSHOT, TRANSACTIONS};
use crate::filterindex::FilterCache;
use crate::index::{Index, NONE, RECORD};
use crate::open::link;
use crate::snapshot::Reader;
use crate::undo::{decode, encode};
use crate::writer::Writer;
use crate::{Chain, ChainError};
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};
use redb::{Database, ReadableTable, ReadableTableMetadata};
use std::path::Path;

/// Reads bytes as a coin of the database.
///
/// # Panics
/// If the coin is written longer than it was, or as another.
pub fn check_coin(bytes: &[u8]) {
    if let Ok(coin) = read_coin(bytes) {
        let mut written = Vec::new();
        write_coin(&mut written, &coin);
        assert!(written.len() <= bytes.len(), "what is written is the shortest form");
        assert_eq!(read_coin(&written), Ok(coin));
    }
}

/// Reads bytes as a block's undo data.
///
/// # Panics
/// If they are written longer than they were, or as others.
pub fn check_undo(bytes: &[u8]) {
    if let Ok(undo) = decode(bytes) {
        let written = encode(&undo);
        assert!(written.len() <= bytes.len(), "what is written is the shortest form");
        assert_eq!(decode(&written), Ok(undo));
    }
}

/// Reads bytes as the records of the block index. If `plausible`, they are made the records of headers that build on each
/// other first, with work and all else from the bytes.
///
/// # Panics
/// If a record that was taken is written as another, or the tree does not hold together.
pub fn check_index(bytes: &[u8], plausible: bool) {
    let mut index = Index::default();
    let mut made = Index::default();
    for record in bytes.chunks_exact(RECORD) {
        let record: [u8; RECORD] = match plausible {
            false => record.try_into().expect("a chunk has a record's size"),
            true => make_record(&mut made, record),
        };
        let Some(id) = index.restore(&record) else { break };
        assert_eq!(index.record(id), record);
        assert_eq!(index.header(id).block_hash(), index.node(id).hash);
    }
    if index.len() == 0 {
        return;
    }
    let mut writer = Writer::new(Appender::default());
    link(&mut writer, &mut index);
    let best = best_header(&index);
    for id in index.ids() {
        let height = index.node(id).height;
        assert_eq!(index.ancestor(id, height), Some(id));
        assert_eq!(index.ancestor(id, 0), Some(0));
        let fork = index.fork(id, best);
        assert_eq!((index.fork(best, id), index.ancestor(id, index.node(fork).height)), (fork, Some(fork)));
        assert!(height == 0 || index.entry(id).chain_work > index.entry(index.node(id).parent).chain_work);
    }
    writer.find_candidates(&View {
        index,
        active: vec![0],
        best_header: best,
        coins: CoinCache::default(),
        filters: FilterCache::default(),
    });
}

/// The record of a header after one that was made before, its numbers from bytes of a record's size.
fn make_record(made: &mut Index, bytes: &[u8]) -> [u8; RECORD] {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let parent = if made.len() == 0 { NONE } else { number(0) % made.len() };
    let mut header = Header {
        version: Version::from_consensus(number(4) as i32),
        prev_blockhash: if parent == NONE { BlockHash::all_zeros() } else { made.node(parent).hash },
        merkle_root: TxMerkleNode::from_byte_array(*bytes[8..].first_chunk().expect("a record is longer")),
        time: number(40),
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: number(44),
    };
    super::mine(&mut header);
    let id = made.insert(&header, header.block_hash(), parent);
    let node = made.node_mut(id);
    (node.tx_count, node.sequence, node.file) = (number(48), number(52), number(56));
    (node.data_pos, node.undo_pos, node.status) = (number(60), number(64), bytes[68]);
    made.record(id)
}

/// `hash_serialized_3` of the coins of a snapshot, as Core prints it; `None` if it cannot be read.
pub fn hash_of_snapshot(chain: &Chain, bytes: &[u8]) -> Option<[u8; 32]> {
    let (_, mut reader) = Reader::begin(bytes, chain.params().magic).ok()?;
    let mut counting = Counting::new(CoinHash::HashSerialized3);
    while let Some((outpoint, coin)) = reader.next().ok()? {
        counting.add(outpoint, &coin);
    }
    let mut hash = counting.finish(chain.tip()).hash?;
    hash.reverse();
    Some(hash)
}

/// Damage to a row of the database.
#[derive(Debug, Clone)]
pub struct RowDamage {
    /// Which table; every number is one.
    pub table: u8,
    /// Which row; every number is one, if the table has rows.
    pub row: usize,
    /// What the row's value is combined with by XOR; it grows if this is longer. The row is deleted if this is empty.
    pub change: Vec<u8>,
}

impl RowDamage {
    fn damaged(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut value = value.to_vec();
        value.resize(value.len().max(self.change.len()), 0);
        value.iter_mut().zip(&self.change).for_each(|(byte, change)| *byte ^= change);
        Some(value).filter(|_| !self.change.is_empty())
    }
}

/// Damages rows of the database of a chain that is not open.
///
/// # Errors
/// Those of reading and writing.
pub fn damage_rows(dir: &Path, damages: &[RowDamage]) -> Result<(), ChainError> {
    let path = dir.join("chainstate").join(FILE_NAME);
    let damage = || -> Result<(), redb::Error> {
        let db = Database::open(&path)?;
        let txn = db.begin_write()?;
        for damage in damages {
            damage_row(&txn, damage)?;
        }
        Ok(txn.commit()?)
    };
    damage().map_err(|error| ChainError::database(&path, error))
}

fn damage_row(txn: &redb::WriteTransaction, damage: &RowDamage) -> Result<(), redb::Error> {
    /// A table, its keys owned and lent, its values as bytes and back.
    macro_rules! damage_in {
        ($table:expr, $own:expr, $lend:expr, $bytes:expr, $value:expr) => {{
            let mut table = txn.open_table($table)?;
            let rows = usize::try_from(table.len()?).unwrap_or(usize::MAX);
            let row = table.iter()?.nth(damage.row % rows.max(1)).transpose()?;
            if let Some((key, bytes)) = row.map(|(key, value)| ($own(key.value()), $bytes(value.value()))) {
                match damage.damaged(&bytes) {
                    Some(bytes) => drop(table.insert($lend(&key), $value(bytes.as_slice()))?),
                    None => drop(table.remove($lend(&key))?),
                }
            }
        }};
    }
    fn number(bytes: &[u8], n: usize) -> u32 {
        u32::from_le_bytes(bytes[4 * n..4 * n + 4].try_into().expect("four bytes for a number"))
    }
    fn bytes(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }
    fn hash(bytes: &[u8]) -> &[u8; 32] {
        bytes.first_chunk().expect("damage makes nothing shorter")
    }
    match damage.table % 6 {
        0 => damage_in!(COINS, |key: &[u8; 36]| *key, |key| key, <[u8]>::to_vec, |value| value),
        1 => damage_in!(
            TRANSACTIONS,
            |key: &[u8; 32]| *key,
            |key| key,
            |value: (u32, u32, u32)| bytes(&[value.0, value.1, value.2]),
            |value| (number(value, 0), number(value, 1), number(value, 2))
        ),
        2 => damage_in!(BLOCKS, |key| key, |key: &u32| *key, <[u8]>::to_vec, |value| value),
        3 => damage_in!(FILES, |key| key, |key: &u32| *key, |value: (u32, u32)| bytes(&[value.0, value.1]), |value| (
            number(value, 0),
            number(value, 1)
        )),
        4 => damage_in!(MARKER, |()| (), |_| (), |value: &[u8; 32]| value.to_vec(), hash),
        _ => {
            let mut table = txn.open_table(SNAPSHOT)?;
            if let Some(bytes) = damage.damaged(&[0; 32]) {
                table.insert((), hash(&bytes))?;
            }
        }
    }
    Ok(())
}
