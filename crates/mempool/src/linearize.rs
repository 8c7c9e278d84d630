//! The best order of a cluster: transactions that depend on each other, sorted and cut into chunks so that no other
//! order collects fees faster at any point.
//!
//! Exact, not heuristic. For a set with overall rate r, weigh each transaction `fee - r * size`. The heaviest subset
//! that holds all its own ancestors (a maximum closure, found by a minimum cut) is what belongs first: it and the rest
//! are ordered in turn. When no subset weighs more than nothing, the set is a chunk: no part of it beats the whole.

use crate::feerate::FeeFrac;
use std::collections::VecDeque;

/// Up to so many connected transactions the order is exact. More only come together when a reorganisation returns a
/// parent of several clusters; they are trimmed before anything is selected.
const EXACT_LIMIT: usize = crate::pool::CLUSTER_COUNT_LIMIT;

/// One transaction of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Fee over sigop-adjusted weight.
    pub(crate) rate: FeeFrac,
    /// Places of the direct parents in the same list.
    pub(crate) parents: Vec<usize>,
}

/// Transactions that are mined together, and what they pay together.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) rate: FeeFrac,
    /// Places in the list that was given, parents first.
    pub(crate) members: Vec<usize>,
}

/// Orders the transactions and cuts them into chunks of falling rate.
pub(crate) fn linearize(nodes: &[Node]) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for component in components(nodes) {
        let order = if component.len() > EXACT_LIMIT { component } else { best_order(nodes, component) };
        chunks.extend(cut(nodes, order));
    }
    // Stable, so the chunks of a component, whose rates fall, keep their order.
    chunks.sort_by(|a, b| b.rate.cmp_rate(&a.rate));
    chunks
}

/// The best order of connected transactions, which are given in some order with parents first.
fn best_order(nodes: &[Node], component: Vec<usize>) -> Vec<usize> {
    let mut order = Vec::with_capacity(component.len());
    let mut pending = vec![component];
    while let Some(set) = pending.pop() {
        let best = if set.len() > 1 { best_closure(nodes, &set) } else { None };
        match best {
            None => order.extend(set),
            Some(inside) => {
                let (first, rest): (Vec<_>, Vec<_>) = set.into_iter().partition(|&node| inside[node]);
                pending.push(rest);
                pending.push(first);
            }
        }
    }
    order
}

/// The connected parts, each with parents before children.
fn components(nodes: &[Node]) -> Vec<Vec<usize>> {
    // Each node leads to the least of its part: merging follows the leads.
    let mut lead: Vec<usize> = (0..nodes.len()).collect();
    fn least(lead: &mut [usize], mut node: usize) -> usize {
        while lead[node] != node {
            lead[node] = lead[lead[node]];
            node = lead[node];
        }
        node
    }
    for (place, node) in nodes.iter().enumerate() {
        for &parent in &node.parents {
            let (a, b) = (least(&mut lead, place), least(&mut lead, parent));
            lead[a.max(b)] = a.min(b);
        }
    }
    let mut parts: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for place in topological(nodes) {
        parts[least(&mut lead, place)].push(place);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Cuts an order into chunks: what pays more than what comes before it is mined together with it.
fn cut(nodes: &[Node], order: Vec<usize>) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for node in order {
        let mut chunk = Chunk { rate: nodes[node].rate, members: vec![node] };
        while let Some(before) = chunks.pop_if(|before| before.rate.cmp_rate(&chunk.rate).is_lt()) {
            let mut members = before.members;
            members.append(&mut chunk.members);
            chunk = Chunk { rate: before.rate.plus(chunk.rate), members };
        }
        chunks.push(chunk);
    }
    chunks
}

/// All nodes, parents before children.
fn topological(nodes: &[Node]) -> Vec<usize> {
    let mut children = vec![Vec::new(); nodes.len()];
    let mut missing: Vec<usize> = nodes.iter().map(|node| node.parents.len()).collect();
    for (place, node) in nodes.iter().enumerate() {
        for &parent in &node.parents {
            children[parent].push(place);
        }
    }
    let mut ready: VecDeque<usize> = (0..nodes.len()).filter(|&place| missing[place] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(place) = ready.pop_front() {
        order.push(place);
        for &child in &children[place] {
            missing[child] -= 1;
            if missing[child] == 0 {
                ready.push_back(child);
            }
        }
    }
    order
}

/// The part of `set` that holds its own ancestors within `set` and pays better than `set` as a whole, by the largest
/// margin; `None` if there is none.
fn best_closure(nodes: &[Node], set: &[usize]) -> Option<Vec<bool>> {
    let whole = set.iter().fold(FeeFrac::default(), |sum, &node| sum.plus(nodes[node].rate));
    let mut flow = Flow::new(nodes.len() + 2);
    let (source, sink) = (nodes.len(), nodes.len() + 1);
    let mut in_set = vec![false; nodes.len()];
    for &node in set {
        in_set[node] = true;
    }
    let (mut positive, mut unlimited) = (false, 1);
    for &node in set {
        let rate = nodes[node].rate;
        let weight = i128::from(rate.fee) * i128::from(whole.size) - i128::from(whole.fee) * i128::from(rate.size);
        match weight {
            1.. => {
                positive = true;
                unlimited += weight;
                flow.add(source, node, weight);
            }
            ..0 => flow.add(node, sink, -weight),
            0 => {}
        }
    }
    if !positive {
        return None;
    }
    for &node in set {
        for &parent in nodes[node].parents.iter().filter(|&&parent| in_set[parent]) {
            flow.add(node, parent, unlimited);
        }
    }
    flow.saturate(source, sink);
    let inside = flow.reachable(source);
    let taken = set.iter().filter(|&&node| inside[node]).count();
    (1..set.len()).contains(&taken).then_some(inside)
}

/// Maximum flow (Dinic's algorithm).
struct Flow {
    /// Arcs leaving each vertex; an arc and its reverse are neighbours: `arc ^ 1`.
    leaving: Vec<Vec<usize>>,
    to: Vec<usize>,
    capacity: Vec<i128>,
}

impl Flow {
    fn new(vertices: usize) -> Self {
        Self { leaving: vec![Vec::new(); vertices], to: Vec::new(), capacity: Vec::new() }
    }

    fn add(&mut self, from: usize, to: usize, capacity: i128) {
        for (from, to, capacity) in [(from, to, capacity), (to, from, 0)] {
            self.leaving[from].push(self.to.len());
            self.to.push(to);
            self.capacity.push(capacity);
        }
    }

    fn saturate(&mut self, source: usize, sink: usize) {
        loop {
            let levels = self.levels(source);
            if levels[sink] == usize::MAX {
                return;
            }
            let mut next = vec![0; self.leaving.len()];
            while self.augment(source, sink, &levels, &mut next) {}
        }
    }

    /// Distance of each vertex from the source over arcs with room left.
    fn levels(&self, source: usize) -> Vec<usize> {
        let mut levels = vec![usize::MAX; self.leaving.len()];
        levels[source] = 0;
        let mut queue = VecDeque::from([source]);
        while let Some(vertex) = queue.pop_front() {
            for &arc in &self.leaving[vertex] {
                let to = self.to[arc];
                if self.capacity[arc] > 0 && levels[to] == usize::MAX {
                    levels[to] = levels[vertex] + 1;
                    queue.push_back(to);
                }
            }
        }
        levels
    }

    /// Sends flow along one shortest path; false when there is none left.
    fn augment(&mut self, source: usize, sink: usize, levels: &[usize], next: &mut [usize]) -> bool {
        let mut path: Vec<usize> = Vec::new();
        let mut at = source;
        while at != sink {
            match self.leaving[at].get(next[at]) {
                Some(&arc) if self.capacity[arc] > 0 && levels[self.to[arc]] == levels[at] + 1 => {
                    path.push(arc);
                    at = self.to[arc];
                }
                Some(_) => next[at] += 1,
                None => {
                    let Some(arc) = path.pop() else { return false };
                    at = self.to[arc ^ 1];
                    next[at] += 1;
                }
            }
        }
        let amount = path.iter().map(|&arc| self.capacity[arc]).min().unwrap_or(0);
        for arc in path {
            self.capacity[arc] -= amount;
            self.capacity[arc ^ 1] += amount;
        }
        true
    }

    fn reachable(&self, source: usize) -> Vec<bool> {
        self.levels(source).into_iter().map(|level| level != usize::MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feerate::compare_diagrams;
    use proptest::prelude::*;

    fn node(fee: i64, size: u64, parents: &[usize]) -> Node {
        Node { rate: FeeFrac::new(fee, size), parents: parents.to_vec() }
    }

    fn members(chunks: &[Chunk]) -> Vec<Vec<usize>> {
        chunks.iter().map(|chunk| chunk.members.clone()).collect()
    }

    #[test]
    fn a_child_pays_for_its_parent() {
        assert_eq!(members(&linearize(&[node(1, 10, &[]), node(9, 10, &[0])])), [vec![0, 1]]);
    }

    #[test]
    fn a_cheap_child_waits_alone() {
        assert_eq!(members(&linearize(&[node(9, 10, &[]), node(1, 10, &[0])])), [vec![0], vec![1]]);
    }

    #[test]
    fn two_children_pay_for_one_parent_together() {
        // Neither child lifts the parent above the unrelated transaction; both together do.
        let nodes = [node(0, 10, &[]), node(12, 10, &[0]), node(12, 10, &[0]), node(3, 10, &[1])];
        assert_eq!(members(&linearize(&nodes)), [vec![0, 1, 2], vec![3]]);
    }

    #[test]
    fn equal_rates_stay_separate_chunks() {
        assert_eq!(members(&linearize(&[node(5, 10, &[]), node(5, 10, &[0])])), [vec![0], vec![1]]);
    }

    /// The best diagram by trying every topological order.
    fn every_order(nodes: &[Node], order: &mut Vec<usize>, visit: &mut impl FnMut(&[usize])) {
        if order.len() == nodes.len() {
            return visit(order);
        }
        for place in 0..nodes.len() {
            if !order.contains(&place) && nodes[place].parents.iter().all(|parent| order.contains(parent)) {
                order.push(place);
                every_order(nodes, order, visit);
                order.pop();
            }
        }
    }

    fn graph(most: usize) -> impl Strategy<Value = Vec<Node>> {
        prop::collection::vec((-10i64..40, 1u64..20, any::<u32>()), 1..=most).prop_map(|list| {
            let place = |(place, (fee, size, edges)): (usize, (i64, u64, u32))| {
                let parents: Vec<usize> = (0..place).filter(|bit| edges >> (2 * bit % 32) & 3 == 0).collect();
                node(fee, size, &parents)
            };
            list.into_iter().enumerate().map(place).collect()
        })
    }

    proptest! {
        #[test]
        fn no_order_is_better_anywhere(nodes in graph(6)) {
            let chunks = linearize(&nodes);
            let ours: Vec<FeeFrac> = chunks.iter().map(|chunk| chunk.rate).collect();
            let mut beaten = false;
            every_order(&nodes, &mut Vec::new(), &mut |order| {
                let other: Vec<FeeFrac> = cut(&nodes, order.to_vec()).iter().map(|chunk| chunk.rate).collect();
                beaten |= !matches!(compare_diagrams(&ours, &other), Some(order) if order.is_ge());
            });
            prop_assert!(!beaten);
        }

        #[test]
        fn every_transaction_once_parents_first_rates_falling(nodes in graph(64)) {
            let chunks = linearize(&nodes);
            let order: Vec<usize> = chunks.iter().flat_map(|chunk| chunk.members.clone()).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..nodes.len()).collect::<Vec<_>>());
            for (at, &place) in order.iter().enumerate() {
                prop_assert!(nodes[place].parents.iter().all(|parent| order[..at].contains(parent)));
            }
            prop_assert!(chunks.windows(2).all(|pair| pair[0].rate.cmp_rate(&pair[1].rate).is_ge()));
        }
    }
}
