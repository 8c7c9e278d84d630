//! Trees that put many digests under one.

use super::{Op, OtsError};
use sha2::{Digest, Sha256};

/// `sha256(left || right)`: the step of every tree here.
pub fn cat_sha256(left: &[u8], right: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(left).chain_update(right).finalize().into()
}

/// What a digest becomes before it goes into a tree with others, and the operations that make it so. The nonce keeps
/// those who hold a neighbour's proof from testing guesses about this digest.
pub fn nonced(digest: &[u8], nonce: [u8; 16]) -> ([u8; 32], [Op; 2]) {
    (cat_sha256(digest, &nonce), [Op::Append(nonce.to_vec()), Op::Sha256])
}

/// A Merkle tree by python-opentimestamps' rule: neighbours are paired, and one that is left over goes up as it is.
#[derive(Debug, Clone)]
pub struct MerkleTree {
    /// From the leaves to the tip; never empty, nor is any level, and the last has one.
    levels: Vec<Vec<[u8; 32]>>,
}

impl MerkleTree {
    /// The tree over `leaves`.
    ///
    /// # Errors
    /// There are none.
    pub fn new(leaves: Vec<[u8; 32]>) -> Result<Self, OtsError> {
        if leaves.is_empty() {
            return Err(OtsError::NoLeaves);
        }
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let next = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => cat_sha256(left, right),
                    odd => odd[0],
                })
                .collect();
            levels.push(next);
        }
        Ok(Self { levels })
    }

    /// What commits to all leaves.
    pub fn tip(&self) -> [u8; 32] {
        self.levels[self.levels.len() - 1][0]
    }

    /// The leaves.
    pub fn leaves(&self) -> &[[u8; 32]] {
        &self.levels[0]
    }

    /// The operations that lead from a leaf to the tip.
    ///
    /// # Errors
    /// There is no such leaf.
    pub fn path(&self, leaf: usize) -> Result<Vec<Op>, OtsError> {
        if leaf >= self.leaves().len() {
            return Err(OtsError::NotInTree);
        }
        let mut path = Vec::new();
        let mut index = leaf;
        for level in &self.levels {
            if let Some(neighbour) = level.get(index ^ 1) {
                let neighbour = neighbour.to_vec();
                path.push(if index.is_multiple_of(2) { Op::Append(neighbour) } else { Op::Prepend(neighbour) });
                path.push(Op::Sha256);
            }
            index /= 2;
        }
        Ok(path)
    }
}

/// The operations that lead from a message inside a transaction to the Merkle root of its block, as
/// python-opentimestamps' `make_timestamp_from_block` builds them.
///
/// `transaction` is serialised without witnesses, `txids` are all of the block's in their internal byte order, and `index`
/// is the transaction's place among them.
///
/// # Errors
/// The message is not in the transaction, or the transaction not at `index`.
pub fn block_ops(message: &[u8], transaction: &[u8], txids: &[[u8; 32]], index: usize) -> Result<Vec<Op>, OtsError> {
    let txid: [u8; 32] = Sha256::digest(Sha256::digest(transaction)).into();
    if message.is_empty() || txids.get(index) != Some(&txid) {
        return Err(OtsError::NotInTree);
    }
    let start = transaction.windows(message.len()).position(|part| part == message).ok_or(OtsError::NotInTree)?;
    let (before, after) = (&transaction[..start], &transaction[start + message.len()..]);

    let mut ops = Vec::new();
    ops.extend((!before.is_empty()).then(|| Op::Prepend(before.to_vec())));
    ops.extend((!after.is_empty()).then(|| Op::Append(after.to_vec())));
    ops.extend([Op::Sha256, Op::Sha256]);

    let mut level = txids.to_vec();
    let mut index = index;
    while level.len() > 1 {
        // Bitcoin's own rule: one that is left over is paired with itself.
        let neighbour = level.get(index ^ 1).unwrap_or(&level[index]).to_vec();
        ops.push(if index.is_multiple_of(2) { Op::Append(neighbour) } else { Op::Prepend(neighbour) });
        ops.extend([Op::Sha256, Op::Sha256]);
        level = level
            .chunks(2)
            .map(|pair| Sha256::digest(cat_sha256(&pair[0], pair.get(1).unwrap_or(&pair[0]))).into())
            .collect();
        index /= 2;
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(message: &[u8], ops: &[Op]) -> Vec<u8> {
        ops.iter().fold(message.to_vec(), |message, op| op.apply(&message).unwrap())
    }

    #[test]
    fn every_leaf_leads_to_the_tip() {
        for count in 1..=70u8 {
            let leaves: Vec<[u8; 32]> = (0..count).map(|i| [i; 32]).collect();
            let tree = MerkleTree::new(leaves.clone()).unwrap();
            for (index, leaf) in leaves.iter().enumerate() {
                assert_eq!(run(leaf, &tree.path(index).unwrap()), tree.tip(), "leaf {index} of {count}");
            }
            assert_eq!(tree.path(leaves.len()), Err(OtsError::NotInTree));
        }
        assert_eq!(MerkleTree::new(vec![]).unwrap_err(), OtsError::NoLeaves);
    }

    #[test]
    fn a_single_leaf_is_the_tip() {
        let tree = MerkleTree::new(vec![[9; 32]]).unwrap();
        assert_eq!((tree.tip(), tree.path(0).unwrap()), ([9; 32], vec![]));
    }

    #[test]
    fn a_transaction_leads_to_the_merkle_root_that_bitcoin_computes() {
        use bitcoin::hashes::Hash;
        let transaction = b"before the message after";
        let txid: [u8; 32] = Sha256::digest(Sha256::digest(transaction)).into();
        for count in 1..=20usize {
            for index in 0..count {
                let mut txids: Vec<[u8; 32]> = (0..count).map(|i| [i as u8; 32]).collect();
                txids[index] = txid;
                let hashes = txids.iter().map(|id| bitcoin::hashes::sha256d::Hash::from_byte_array(*id));
                let root = bitcoin::merkle_tree::calculate_root(hashes).unwrap();
                let ops = block_ops(b"message", transaction, &txids, index).unwrap();
                assert_eq!(run(b"message", &ops), root.to_byte_array(), "transaction {index} of {count}");
            }
        }
        assert_eq!(block_ops(b"massage", transaction, &[txid], 0), Err(OtsError::NotInTree));
        assert_eq!(block_ops(b"message", transaction, &[[0; 32]], 0), Err(OtsError::NotInTree));
    }
}
