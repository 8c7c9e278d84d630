//! The tree of a proof: messages joined by operations, attestations at them.
//!
//! Nodes live in one vector and name each other by index, so that nothing about a proof's depth costs stack. A node does
//! not hold its message, only the message's length, which is what the limits are about; messages are computed on a walk.

use super::{Attestation, MAX_DEPTH, MAX_MESSAGE_LENGTH, MAX_OPERATIONS, Op, OtsError};
use std::sync::Arc;

/// In how many places an answer is merged. A message comes up more than once only in proofs that are made for it.
const MAX_PLACES: usize = 64;

/// A place in a [`Timestamp`]; meaningless in any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

#[derive(Debug, Clone)]
pub(super) struct Node {
    parent: u32,
    /// Length of the message here, at most [`MAX_MESSAGE_LENGTH`].
    length: u16,
    depth: u16,
    /// Sorted, each once.
    pub(super) attestations: Vec<Attestation>,
    /// Sorted by operation, each once.
    pub(super) edges: Vec<(Op, NodeId)>,
}

/// A proof that attestations commit to a message.
///
/// Its limits hold at all times: whatever is in one can be written, as long as every branch ends in an attestation.
#[derive(Debug, Clone)]
pub struct Timestamp {
    message: Vec<u8>,
    nodes: Vec<Node>,
}

impl Timestamp {
    /// A timestamp for `message` that proves nothing yet.
    ///
    /// # Errors
    /// The message is longer than [`MAX_MESSAGE_LENGTH`].
    pub fn new(message: impl Into<Vec<u8>>) -> Result<Self, OtsError> {
        let message = message.into();
        if message.len() > MAX_MESSAGE_LENGTH {
            return Err(OtsError::MessageTooLong(message.len()));
        }
        let length = message.len() as u16;
        let root = Node { parent: 0, length, depth: 0, attestations: Vec::new(), edges: Vec::new() };
        Ok(Self { message, nodes: vec![root] })
    }

    /// A timestamp for a message that goes one way only: operations, then an attestation. What a calendar answers.
    ///
    /// # Errors
    /// A limit is exceeded.
    pub fn chain(
        message: impl Into<Vec<u8>>,
        ops: impl IntoIterator<Item = Op>,
        attestation: Attestation,
    ) -> Result<Self, OtsError> {
        let mut timestamp = Self::new(message)?;
        let end = timestamp.extend(timestamp.root(), ops)?;
        timestamp.attest(end, attestation)?;
        Ok(timestamp)
    }

    /// The message that the timestamp is for.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The place of the message itself.
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// Adds an operation at `node`, or finds it there. Gives the place of its result.
    ///
    /// # Errors
    /// The operation cannot be applied to the message there, or the proof would be too deep or too large.
    pub fn push(&mut self, node: NodeId, op: Op) -> Result<NodeId, OtsError> {
        match self.node(node).edges.binary_search_by(|(existing, _)| existing.cmp(&op)) {
            Ok(found) => Ok(self.node(node).edges[found].1),
            Err(position) => {
                let child = self.new_child(node, &op)?;
                self.node_mut(node).edges.insert(position, (op, child));
                Ok(child)
            }
        }
    }

    /// Adds operations one after the other. Gives the place of the last one's result.
    ///
    /// # Errors
    /// As [`Timestamp::push`].
    pub fn extend(&mut self, node: NodeId, ops: impl IntoIterator<Item = Op>) -> Result<NodeId, OtsError> {
        ops.into_iter().try_fold(node, |node, op| self.push(node, op))
    }

    /// Adds an attestation at `node`; false if it was there already.
    ///
    /// # Errors
    /// The attestation itself is beyond the limits.
    pub fn attest(&mut self, node: NodeId, attestation: Attestation) -> Result<bool, OtsError> {
        attestation.check()?;
        let attestations = &mut self.node_mut(node).attestations;
        match attestations.binary_search(&attestation) {
            Ok(_) => Ok(false),
            Err(position) => {
                attestations.insert(position, attestation);
                Ok(true)
            }
        }
    }

    /// The attestations at `node`, in canonical order.
    pub fn attestations_at(&self, node: NodeId) -> &[Attestation] {
        &self.node(node).attestations
    }

    /// The operations at `node` and the places of their results, in canonical order.
    pub fn ops_at(&self, node: NodeId) -> &[(Op, NodeId)] {
        &self.node(node).edges
    }

    /// The operations that lead from the message to `node`.
    pub fn path(&self, node: NodeId) -> Vec<&Op> {
        let mut path = Vec::with_capacity(usize::from(self.node(node).depth));
        let mut at = node;
        while at != self.root() {
            let parent = NodeId(self.node(at).parent);
            let edge = self.node(parent).edges.iter().find(|(_, child)| *child == at);
            path.push(&edge.expect("every node is reached by an edge of its parent").0);
            at = parent;
        }
        path.reverse();
        path
    }

    /// The message at `node`: the root's, with the operations on the way applied.
    pub fn message_at(&self, node: NodeId) -> Vec<u8> {
        self.path(node).into_iter().fold(self.message.clone(), |message, op| run(op, &message))
    }

    /// Every place with its message: parents first, in canonical order.
    pub fn walk(&self) -> Walk<'_> {
        Walk { timestamp: self, stack: vec![Pending { node: self.root(), step: None }] }
    }

    /// Every attestation, with the message that it attests and its place.
    pub fn attestations(&self) -> impl Iterator<Item = (Arc<[u8]>, &Attestation, NodeId)> {
        self.walk().flat_map(|step| {
            self.node(step.node)
                .attestations
                .iter()
                .map(move |attestation| (step.message.clone(), attestation, step.node))
        })
    }

    /// True if a Bitcoin block attests it, as far as the proof itself says.
    pub fn is_complete(&self) -> bool {
        self.nodes.iter().any(|node| node.attestations.iter().any(Attestation::is_bitcoin))
    }

    /// Adds everything that `other` has. True if anything was new. On an error nothing is changed.
    ///
    /// # Errors
    /// The timestamps are for different messages, or together exceed a limit.
    pub fn merge(&mut self, other: &Self) -> Result<bool, OtsError> {
        if self.message != other.message {
            return Err(OtsError::DifferentMessages);
        }
        let mut merged = self.clone();
        let changed = merged.merge_at(merged.root(), other)?;
        if changed {
            *self = merged;
        }
        Ok(changed)
    }

    /// Adds everything that `other` has wherever its message comes up in this timestamp: how a calendar's answer for a
    /// commitment gets into the proof. True if anything was new. On an error nothing is changed.
    ///
    /// # Errors
    /// The message does not come up, or the timestamps together exceed a limit.
    pub fn merge_anywhere(&mut self, other: &Self) -> Result<bool, OtsError> {
        let places: Vec<NodeId> =
            self.walk().filter(|step| *step.message == *other.message).map(|step| step.node).take(MAX_PLACES).collect();
        if places.is_empty() {
            return Err(OtsError::DifferentMessages);
        }
        let mut merged = self.clone();
        let mut changed = false;
        for place in places {
            changed |= merged.merge_at(place, other)?;
        }
        if changed {
            *self = merged;
        }
        Ok(changed)
    }

    fn merge_at(&mut self, place: NodeId, other: &Self) -> Result<bool, OtsError> {
        let mut changed = false;
        let mut pairs = vec![(place, other.root())];
        while let Some((ours, theirs)) = pairs.pop() {
            let theirs = other.node(theirs);
            let before = self.node(ours).attestations.len();
            let attestations = &mut self.node_mut(ours).attestations;
            attestations.extend_from_slice(&theirs.attestations);
            attestations.sort();
            attestations.dedup();
            changed |= attestations.len() > before;

            // Both lists are sorted: one pass over them, whatever their lengths.
            let mut existing = std::mem::take(&mut self.node_mut(ours).edges).into_iter().peekable();
            let mut edges = Vec::with_capacity(existing.len().max(theirs.edges.len()));
            for (op, their_child) in &theirs.edges {
                while let Some(edge) = existing.next_if(|(our_op, _)| our_op < op) {
                    edges.push(edge);
                }
                let edge = match existing.next_if(|(our_op, _)| our_op == op) {
                    Some(edge) => edge,
                    None => {
                        changed = true;
                        (op.clone(), self.new_child(ours, op)?)
                    }
                };
                pairs.push((edge.1, *their_child));
                edges.push(edge);
            }
            edges.extend(existing);
            self.node_mut(ours).edges = edges;
        }
        Ok(changed)
    }

    /// A node for the result of `op` at `parent`, which gets no edge to it here.
    pub(super) fn new_child(&mut self, parent: NodeId, op: &Op) -> Result<NodeId, OtsError> {
        let from = self.node(parent);
        let length = op.result_length(usize::from(from.length))? as u16;
        if usize::from(from.depth) >= MAX_DEPTH {
            return Err(OtsError::TooDeep);
        }
        // The root is no operation's result.
        if self.nodes.len() > MAX_OPERATIONS {
            return Err(OtsError::TooManyOperations);
        }
        let depth = from.depth + 1;
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node { parent: parent.0, length, depth, attestations: Vec::new(), edges: Vec::new() });
        Ok(id)
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// Forgets nodes that no edge leads to.
    pub(super) fn compact(&mut self) {
        let mut order = vec![0u32];
        let mut next = 0;
        while let Some(id) = order.get(next) {
            order.extend(self.nodes[*id as usize].edges.iter().map(|(_, child)| child.0));
            next += 1;
        }
        if order.len() == self.nodes.len() {
            return;
        }
        let mut new_ids = vec![0u32; self.nodes.len()];
        for (new, old) in order.iter().enumerate() {
            new_ids[*old as usize] = new as u32;
        }
        let mut old_nodes: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        for old in order {
            let mut node = old_nodes[old as usize].take().expect("a tree has each node once");
            node.parent = new_ids[node.parent as usize];
            for (_, child) in &mut node.edges {
                child.0 = new_ids[child.0 as usize];
            }
            self.nodes.push(node);
        }
    }
}

fn run(op: &Op, message: &[u8]) -> Vec<u8> {
    op.apply(message).expect("lengths were checked when the node was made")
}

/// Equal if they have the same message, operations and attestations, in whatever order they were put together.
impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        if self.message != other.message {
            return false;
        }
        let mut pairs = vec![(self.root(), other.root())];
        while let Some((a, b)) = pairs.pop() {
            let (a, b) = (self.node(a), other.node(b));
            if a.attestations != b.attestations || a.edges.len() != b.edges.len() {
                return false;
            }
            for ((op_a, child_a), (op_b, child_b)) in a.edges.iter().zip(&b.edges) {
                if op_a != op_b {
                    return false;
                }
                pairs.push((*child_a, *child_b));
            }
        }
        true
    }
}

impl Eq for Timestamp {}

/// A place that a walk has come to.
#[derive(Debug, Clone)]
pub struct Step {
    /// The place.
    pub node: NodeId,
    /// How many operations lead here.
    pub depth: usize,
    /// The message here.
    pub message: Arc<[u8]>,
}

struct Pending<'a> {
    node: NodeId,
    /// The operation that leads there and the message that it is applied to; nothing for the root.
    step: Option<(&'a Op, Arc<[u8]>)>,
}

/// A walk over every place of a timestamp. Holds no more messages than the proof is deep.
pub struct Walk<'a> {
    timestamp: &'a Timestamp,
    stack: Vec<Pending<'a>>,
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let Pending { node, step } = self.stack.pop()?;
        let message: Arc<[u8]> = match step {
            None => self.timestamp.message.as_slice().into(),
            Some((op, from)) => run(op, &from).into(),
        };
        let found = self.timestamp.node(node);
        let children = found.edges.iter().rev();
        self.stack.extend(children.map(|(op, child)| Pending { node: *child, step: Some((op, message.clone())) }));
        Some(Step { node, depth: usize::from(found.depth), message })
    }
}
