//! The tree of block headers in memory: an arena whose ids are handed out parents first.

use crate::files::FilePos;
use crate::{BlockEntry, BlockStatus};
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode, Work};
use cairn_consensus::pow::target_from_compact;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// A block's place in the arena. A parent's is lower than its children's.
pub(crate) type Id = u32;
/// Parent of the genesis block.
pub(crate) const NONE: Id = u32::MAX;

/// Core's `BlockStatus` bits.
pub(crate) mod status {
    /// Header valid, parents known.
    pub(crate) const VALID_TREE: u8 = 2;
    /// Its transactions are sane; data received.
    pub(crate) const VALID_TRANSACTIONS: u8 = 3;
    /// Coins and scripts checked.
    pub(crate) const VALID_SCRIPTS: u8 = 5;
    /// The three bits above are one number.
    pub(crate) const VALID_MASK: u8 = 7;
    /// Data is in `blkNNNNN.dat`.
    pub(crate) const HAVE_DATA: u8 = 8;
    /// Undo data is in `revNNNNN.dat`.
    pub(crate) const HAVE_UNDO: u8 = 16;
    /// It or a block that it builds on is invalid.
    pub(crate) const FAILED: u8 = 32;
}

/// Work of a chain in half the bits of [`Work`]: there are as many nodes as headers, and nobody has made 2^128 hashes.
type ChainWork = u128;

/// The work in a node's width. More than that is no real chain's.
fn narrow(work: Work) -> ChainWork {
    let bytes = work.to_be_bytes();
    let (high, low) = bytes.split_at(16);
    if high.iter().any(|&byte| byte != 0) {
        return ChainWork::MAX;
    }
    ChainWork::from_be_bytes(low.try_into().expect("sixteen of thirty-two bytes"))
}

fn widen(work: ChainWork) -> Work {
    let mut bytes = [0; 32];
    bytes[16..].copy_from_slice(&work.to_be_bytes());
    Work::from_be_bytes(bytes)
}

/// One header and what is known of its block.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) hash: BlockHash,
    pub(crate) parent: Id,
    /// An ancestor further back, for `ancestor` in logarithmic time.
    skip: Id,
    pub(crate) height: u32,
    version: Version,
    merkle_root: TxMerkleNode,
    pub(crate) time: u32,
    pub(crate) bits: CompactTarget,
    nonce: u32,
    pub(crate) chain_work: ChainWork,
    pub(crate) median_time_past: u32,
    pub(crate) status: u8,
    pub(crate) tx_count: u32,
    /// 0 until the data of the block and of all its ancestors is here.
    pub(crate) chain_tx_count: u64,
    /// Order in which blocks became connectable; 0 until then.
    pub(crate) sequence: u32,
    pub(crate) file: u32,
    pub(crate) data_pos: u32,
    pub(crate) undo_pos: u32,
}

impl Node {
    pub(crate) fn has(&self, bit: u8) -> bool {
        self.status & bit != 0
    }
    pub(crate) fn validity(&self) -> u8 {
        self.status & status::VALID_MASK
    }
    pub(crate) fn raise_validity(&mut self, to: u8) {
        if self.validity() < to {
            self.status = (self.status & !status::VALID_MASK) | to;
        }
    }
    pub(crate) fn data(&self) -> Option<FilePos> {
        self.has(status::HAVE_DATA).then_some(FilePos { file: self.file, pos: self.data_pos })
    }
    /// Its data was here once and was deleted to save space.
    pub(crate) fn is_pruned(&self) -> bool {
        self.tx_count > 0 && !self.has(status::HAVE_DATA)
    }
    pub(crate) fn undo(&self) -> Option<FilePos> {
        self.has(status::HAVE_UNDO).then_some(FilePos { file: self.file, pos: self.undo_pos })
    }
    /// The block was connected, and its undo data is at `undo_pos`.
    pub(crate) fn connected(&mut self, undo_pos: u32) {
        self.raise_validity(status::VALID_SCRIPTS);
        self.status |= status::HAVE_UNDO;
        self.undo_pos = undo_pos;
    }
    /// The block's data is not here any more.
    pub(crate) fn forget_data(&mut self) {
        self.status &= !(status::HAVE_DATA | status::HAVE_UNDO | status::VALID_MASK);
        self.status |= status::VALID_TREE;
        (self.tx_count, self.sequence) = (0, 0);
    }
    /// Core's `CBlockIndexWorkComparator` as a key: more work, then earlier connectable, wins.
    pub(crate) fn rank(&self, id: Id) -> Rank {
        (self.chain_work, std::cmp::Reverse(self.sequence), std::cmp::Reverse(id))
    }
}

/// Orders candidates for the tip, the best last.
pub(crate) type Rank = (ChainWork, std::cmp::Reverse<u32>, std::cmp::Reverse<Id>);

/// The tree.
#[derive(Debug, Default)]
pub(crate) struct Index {
    nodes: Vec<Node>,
    /// Ids by the hash that their node has, so that no hash is kept twice.
    by_hash: HashTable<Id>,
    hasher: RandomState,
    /// The block of a snapshot that is not validated yet, and the number of transactions up to it: the data of its
    /// ancestors need not be here.
    pub(crate) snapshot: Option<(Id, u64)>,
    /// Work of the last target computed: it seldom changes from block to block.
    last_work: Option<(CompactTarget, ChainWork)>,
}

impl Index {
    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, blocks: usize) {
        self.nodes.reserve_exact(blocks);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.by_hash.reserve(blocks, |&id| hasher.hash_one(nodes[id as usize].hash));
    }
    pub(crate) fn len(&self) -> u32 {
        self.nodes.len() as u32
    }
    pub(crate) fn id(&self, hash: &BlockHash) -> Option<Id> {
        self.by_hash.find(self.hasher.hash_one(hash), |&id| self.node(id).hash == *hash).copied()
    }
    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }
    pub(crate) fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }
    /// All ids, parents first.
    pub(crate) fn ids(&self) -> std::ops::Range<Id> {
        0..self.len()
    }
    pub(crate) fn parent(&self, id: Id) -> Option<Id> {
        Some(self.node(id).parent).filter(|&parent| parent != NONE)
    }

    pub(crate) fn header(&self, id: Id) -> Header {
        let node = self.node(id);
        Header {
            version: node.version,
            prev_blockhash: self.parent(id).map_or_else(BlockHash::all_zeros, |parent| self.node(parent).hash),
            merkle_root: node.merkle_root,
            time: node.time,
            bits: node.bits,
            nonce: node.nonce,
        }
    }

    pub(crate) fn entry(&self, id: Id) -> BlockEntry {
        let node = self.node(id);
        BlockEntry {
            hash: node.hash,
            height: node.height,
            header: self.header(id),
            chain_work: widen(node.chain_work),
            median_time_past: node.median_time_past,
            tx_count: node.tx_count,
            chain_tx_count: node.chain_tx_count,
            status: BlockStatus {
                has_data: node.has(status::HAVE_DATA),
                valid_scripts: node.validity() >= status::VALID_SCRIPTS,
                failed: node.has(status::FAILED),
            },
        }
    }

    /// Adds a header whose parent is here (or the genesis block, whose parent is `NONE`) and which is not here yet.
    pub(crate) fn insert(&mut self, header: &Header, hash: BlockHash, parent: Id) -> Id {
        let id = self.len();
        let height = if parent == NONE { 0 } else { self.node(parent).height + 1 };
        let work = match self.last_work {
            Some((bits, work)) if bits == header.bits => work,
            _ => narrow(header.work()),
        };
        self.last_work = Some((header.bits, work));
        let chain_work = if parent == NONE { work } else { self.node(parent).chain_work.saturating_add(work) };
        let skip = if parent == NONE { NONE } else { self.ancestor(parent, skip_height(height)).unwrap_or(NONE) };
        self.nodes.push(Node {
            hash,
            parent,
            skip,
            height,
            version: header.version,
            merkle_root: header.merkle_root,
            time: header.time,
            bits: header.bits,
            nonce: header.nonce,
            chain_work,
            median_time_past: 0,
            status: status::VALID_TREE,
            tx_count: 0,
            chain_tx_count: 0,
            sequence: 0,
            file: 0,
            data_pos: 0,
            undo_pos: 0,
        });
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.by_hash.insert_unique(hasher.hash_one(hash), id, |&id| hasher.hash_one(nodes[id as usize].hash));
        self.nodes[id as usize].median_time_past = self.median_time_past(id);
        id
    }

    fn median_time_past(&self, id: Id) -> u32 {
        let mut times = [0; 11];
        let mut count = 0;
        let mut at = id;
        while count < times.len() && at != NONE {
            let node = self.node(at);
            times[count] = node.time;
            count += 1;
            at = node.parent;
        }
        let times = &mut times[..count];
        times.sort_unstable();
        times[count / 2]
    }

    /// The ancestor of `id` (or itself) at `height`.
    pub(crate) fn ancestor(&self, id: Id, height: u32) -> Option<Id> {
        let mut at = id;
        let mut node = self.node(at);
        if height > node.height {
            return None;
        }
        while node.height > height {
            // As Core: take the skip unless the parent's skip gets closer.
            let skip = skip_height(node.height);
            let parent_skip = skip_height(node.height - 1);
            let take = node.skip != NONE
                && (skip == height || (skip > height && !(parent_skip + 2 < skip && parent_skip >= height)));
            at = if take { node.skip } else { node.parent };
            node = self.node(at);
        }
        Some(at)
    }

    /// Whether a block is or builds on the snapshot's block, if there is such a snapshot.
    pub(crate) fn follows_snapshot(&self, id: Id) -> bool {
        self.snapshot.is_none_or(|(base, _)| self.ancestor(id, self.node(base).height) == Some(base))
    }

    /// The last block that two blocks have in common.
    pub(crate) fn fork(&self, a: Id, b: Id) -> Id {
        let height = self.node(a).height.min(self.node(b).height);
        let (mut a, mut b) = (
            self.ancestor(a, height).expect("the height is not above either"),
            self.ancestor(b, height).expect("the height is not above either"),
        );
        while a != b {
            let (node_a, node_b) = (self.node(a), self.node(b));
            (a, b) = if node_a.skip != node_b.skip && node_a.skip != NONE && node_b.skip != NONE {
                (node_a.skip, node_b.skip)
            } else {
                (node_a.parent, node_b.parent)
            };
        }
        a
    }

    /// A record that [`Index::restore`] reads. Fixed size, little endian.
    pub(crate) fn record(&self, id: Id) -> [u8; RECORD] {
        let node = self.node(id);
        let mut record = [0; RECORD];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            record[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(node.hash.as_byte_array());
        put(&node.parent.to_le_bytes());
        put(&node.version.to_consensus().to_le_bytes());
        put(node.merkle_root.as_byte_array());
        for number in [
            node.time,
            node.bits.to_consensus(),
            node.nonce,
            node.tx_count,
            node.sequence,
            node.file,
            node.data_pos,
            node.undo_pos,
        ] {
            put(&number.to_le_bytes());
        }
        put(&[node.status]);
        record
    }

    /// Adds the next block from its record; `None` if the record cannot be one. As in Core, the header must have the hash
    /// and the work that it claims.
    pub(crate) fn restore(&mut self, record: &[u8]) -> Option<Id> {
        let record: &[u8; RECORD] = record.try_into().ok()?;
        let number = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"));
        let hash = BlockHash::from_slice(&record[..32]).ok()?;
        let parent = number(32);
        if (parent == NONE) != self.nodes.is_empty() || (parent != NONE && parent >= self.len()) {
            return None;
        }
        let header = Header {
            version: Version::from_consensus(number(36) as i32),
            prev_blockhash: if parent == NONE { BlockHash::all_zeros() } else { self.node(parent).hash },
            merkle_root: TxMerkleNode::from_slice(&record[40..72]).ok()?,
            time: number(72),
            bits: CompactTarget::from_consensus(number(76)),
            nonce: number(80),
        };
        let has_work = target_from_compact(header.bits.to_consensus()).is_some_and(|target| target.is_met_by(hash));
        if header.block_hash() != hash || !has_work || number(88) > MAX_SEQUENCE {
            return None;
        }
        let id = self.insert(&header, hash, parent);
        let before = if parent == NONE { Some(0) } else { Some(self.node(parent).chain_tx_count).filter(|&n| n > 0) };
        let node = &mut self.nodes[id as usize];
        node.tx_count = number(84);
        node.sequence = number(88);
        node.file = number(92);
        node.data_pos = number(96);
        node.undo_pos = number(100);
        node.status = record[104];
        if let (Some(before), true) = (before, node.tx_count > 0) {
            node.chain_tx_count = before + u64::from(node.tx_count);
        }
        Some(id)
    }
}

/// No number of arrival reaches it: it is damage, and counting on from it would end.
const MAX_SEQUENCE: u32 = u32::MAX / 2;

/// Bytes of a block's record.
pub(crate) const RECORD: usize = 105;

/// Core's `GetSkipHeight`.
fn skip_height(height: u32) -> u32 {
    let without_lowest_one = |n: u32| n & n.wrapping_sub(1);
    match height {
        0 | 1 => 0,
        odd if odd & 1 == 1 => without_lowest_one(without_lowest_one(odd - 1)) + 1,
        even => without_lowest_one(even),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mine;
    use proptest::prelude::*;

    fn grow(parents: &[u32]) -> Index {
        let mut index = Index::default();
        for (n, &pick) in parents.iter().enumerate() {
            let parent = if n == 0 { NONE } else { n as u32 - 1 - pick % (n as u32).min(4) };
            let mut header = Header {
                version: Version::ONE,
                prev_blockhash: if n == 0 { BlockHash::all_zeros() } else { index.node(parent).hash },
                merkle_root: TxMerkleNode::from_byte_array([n as u8; 32]),
                time: 1000 + n as u32 * 7 % 50,
                bits: CompactTarget::from_consensus(0x207f_ffff),
                nonce: n as u32,
            };
            mine(&mut header);
            index.insert(&header, header.block_hash(), parent);
        }
        index
    }

    #[test]
    fn work_keeps_its_order_in_half_the_bits() {
        let work = |bits| CompactTarget::from_consensus(bits);
        let of = |bits| bitcoin::Target::from_compact(work(bits)).to_work();
        // Regtest's, the genesis block's, and that of a target of 2^137.
        for bits in [0x207f_ffff, 0x1d00_ffff, 0x1400_0002] {
            assert_eq!(widen(narrow(of(bits))), of(bits));
        }
        assert_eq!(narrow(of(0x0300_0001)), ChainWork::MAX, "more than 2^128 hashes");
    }

    #[test]
    fn a_node_is_small() {
        // A thousand nodes of 900,000 headers each have one of these for every header.
        assert!(size_of::<Node>() <= 144, "{} bytes", size_of::<Node>());
    }

    proptest! {
        #[test]
        fn ancestors_and_forks_are_those_of_a_plain_walk(parents in prop::collection::vec(any::<u32>(), 2..400), a: u32, b: u32) {
            let index = grow(&parents);
            let (a, b) = (a % index.len(), b % index.len());
            let walk = |mut id: Id| {
                let mut path = vec![id];
                while let Some(parent) = index.parent(id) {
                    id = parent;
                    path.push(id);
                }
                path.reverse();
                path
            };
            let (path_a, path_b) = (walk(a), walk(b));
            for (height, &id) in path_a.iter().enumerate() {
                prop_assert_eq!(index.ancestor(a, height as u32), Some(id));
            }
            prop_assert_eq!(index.ancestor(a, path_a.len() as u32), None);
            let common = path_a.iter().zip(&path_b).take_while(|(x, y)| x == y).last().map(|(x, _)| *x);
            prop_assert_eq!(Some(index.fork(a, b)), common);
        }

        #[test]
        fn records_restore_the_tree(parents in prop::collection::vec(any::<u32>(), 2..100)) {
            let mut index = grow(&parents);
            for id in index.ids() {
                let node = index.node_mut(id);
                node.status |= status::HAVE_DATA;
                (node.tx_count, node.sequence, node.file, node.data_pos, node.undo_pos) = (id + 1, id, 2, 3, 4);
            }
            let mut restored = Index::default();
            for id in index.ids() {
                prop_assert_eq!(restored.restore(&index.record(id)), Some(id));
            }
            for id in index.ids() {
                prop_assert_eq!(restored.record(id), index.record(id));
                prop_assert_eq!(restored.header(id), index.header(id));
                prop_assert_eq!(restored.node(id).chain_work, index.node(id).chain_work);
                prop_assert!(restored.node(id).chain_tx_count > 0);
            }
            prop_assert_eq!(restored.restore(&[0; 3]), None);
        }

        /// Hash, parent and the rest of the header come first in it.
        #[test]
        fn a_record_whose_header_rotted_is_refused(at in 0..84usize, bit in 0..8u8) {
            let index = grow(&[0; 5]);
            let mut restored = Index::default();
            for id in 0..4 {
                restored.restore(&index.record(id)).expect("whole");
            }
            let mut record = index.record(4);
            record[at] ^= 1u8 << bit;
            prop_assert_eq!(restored.restore(&record), None);
        }

        #[test]
        fn a_record_with_an_impossible_number_of_arrival_is_refused(above in MAX_SEQUENCE + 1..) {
            let mut index = grow(&[0; 2]);
            index.node_mut(0).sequence = above;
            prop_assert_eq!(Index::default().restore(&index.record(0)), None);
        }
    }
}
