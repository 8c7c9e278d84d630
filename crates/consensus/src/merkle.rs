//! Merkle trees over transaction ids (Core's `consensus/merkle.cpp`).

use bitcoin::hashes::{Hash, HashEngine, sha256d};

/// A node of the tree.
pub type Node = [u8; 32];

fn parent(left: &Node, right: &Node) -> Node {
    let mut engine = sha256d::Hash::engine();
    engine.input(left);
    engine.input(right);
    sha256d::Hash::from_engine(engine).to_byte_array()
}

/// Reduces one level in place; an odd last node is paired with itself.
fn reduce(level: &mut Vec<Node>) {
    let half = level.len().div_ceil(2);
    for i in 0..half {
        let right = level.get(2 * i + 1).unwrap_or(&level[2 * i]);
        level[i] = parent(&level[2 * i], right);
    }
    level.truncate(half);
}

/// The root, and whether two equal neighbours were paired somewhere: then another list of leaves has the same root
/// (CVE-2012-2459). Without leaves the root is zero.
pub fn merkle_root(mut leaves: Vec<Node>) -> (Node, bool) {
    let mut mutated = false;
    while leaves.len() > 1 {
        mutated |= leaves.chunks_exact(2).any(|pair| pair[0] == pair[1]);
        reduce(&mut leaves);
    }
    (leaves.first().copied().unwrap_or_default(), mutated)
}

/// The siblings from the leaf at `index` up to the root; `None` if there is no such leaf.
pub fn merkle_branch(mut leaves: Vec<Node>, index: usize) -> Option<Vec<Node>> {
    if index >= leaves.len() {
        return None;
    }
    let mut branch = Vec::new();
    let mut place = index;
    while leaves.len() > 1 {
        branch.push(*leaves.get(place ^ 1).unwrap_or(&leaves[place]));
        reduce(&mut leaves);
        place /= 2;
    }
    Some(branch)
}

/// The root that a leaf at `index` and its branch lead to.
pub fn root_from_branch(leaf: Node, branch: &[Node], index: usize) -> Node {
    branch.iter().enumerate().fold(leaf, |node, (level, sibling)| {
        if index.checked_shr(level as u32).unwrap_or(0) & 1 == 0 {
            parent(&node, sibling)
        } else {
            parent(sibling, &node)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Core's old algorithm, kept in its merkle_tests.cpp for comparison: the whole tree in one vector.
    fn old_root(leaves: &[Node]) -> (Node, bool) {
        let mut tree = leaves.to_vec();
        let (mut size, mut offset, mut mutated) = (leaves.len(), 0, false);
        while size > 1 {
            for i in (0..size).step_by(2) {
                let other = (i + 1).min(size - 1);
                if other == i + 1 && other + 1 == size && tree[offset + i] == tree[offset + other] {
                    mutated = true;
                }
                let node = parent(&tree[offset + i], &tree[offset + other]);
                tree.push(node);
            }
            offset += size;
            size = size.div_ceil(2);
        }
        (tree.last().copied().unwrap_or_default(), mutated)
    }

    fn leaves(count: usize) -> Vec<Node> {
        (0..count).map(|i| sha256d::Hash::hash(&i.to_le_bytes()).to_byte_array()).collect()
    }

    #[test]
    fn repeating_the_end_of_the_list_keeps_the_root_and_is_noticed() {
        for count in 1..200usize {
            let honest = leaves(count);
            let (root, mutated) = merkle_root(honest.clone());
            assert!(!mutated);
            assert_eq!((root, false), old_root(&honest));
            // The last 2^k leaves may be repeated where the level above has an odd end.
            for k in 0..8 {
                let width = 1usize << k;
                if count % width != 0 || (count / width).is_multiple_of(2) || count / width == 1 && count != width {
                    continue;
                }
                let mut forged = honest.clone();
                forged.extend_from_slice(&honest[count - width..]);
                let (forged_root, mutated) = merkle_root(forged);
                if forged_root == root {
                    assert!(mutated, "{count} leaves, last {width} repeated");
                }
            }
        }
        let mut pair = leaves(3);
        pair.push(pair[2]);
        assert_eq!(merkle_root(pair.clone()), (merkle_root(leaves(3)).0, true));
    }

    proptest! {
        #[test]
        fn every_leaf_has_a_branch_to_the_root(count in 1usize..300, pick: prop::sample::Index) {
            let leaves = leaves(count);
            let index = pick.index(count);
            let branch = merkle_branch(leaves.clone(), index).expect("the leaf is there");
            prop_assert_eq!(root_from_branch(leaves[index], &branch, index), merkle_root(leaves.clone()).0);
            prop_assert_eq!(merkle_branch(leaves, count), None);
        }
    }
}
