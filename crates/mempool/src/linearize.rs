//! The best order of a cluster: transactions that depend on each other, sorted and cut into chunks so that no other
//! order collects fees faster at any point.
//!
//! Exact, not heuristic. For a set with overall rate r, weigh each transaction `fee - r * size`. The heaviest subset
//! that holds all its own ancestors (a maximum closure, found by a minimum cut) is what belongs first: it and the rest
//! are divided in turn. When no subset weighs more than nothing, no part of the set beats the whole; it falls into the
//! smallest parts that pay as well, which are the strongly connected components of what the cut's flow leaves over.
//!
//! Ties are broken as Core breaks them, so that both show, announce and mine in one order whatever came first.

use crate::feerate::FeeFrac;
use std::cmp::Ordering;
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

/// Orders the transactions and cuts them into chunks of falling rate. Of what is equal otherwise, what comes first in the
/// list comes first.
pub(crate) fn linearize(nodes: &[Node]) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for component in components(nodes) {
        match component.len() {
            1 => chunks.extend(cut(nodes, component)),
            2..=EXACT_LIMIT => chunks.extend(in_order(nodes, best_parts(nodes, component))),
            _ => chunks.extend(cut(nodes, component)),
        }
    }
    // Stable, so the chunks of a component, whose rates fall, keep their order.
    chunks.sort_by(|a, b| b.rate.cmp_rate(&a.rate));
    chunks
}

/// What is mined together, of connected transactions which are given in some order with parents first. In no order.
fn best_parts(nodes: &[Node], component: Vec<usize>) -> Vec<Vec<usize>> {
    let mut parts = Vec::new();
    let mut pending = vec![component];
    while let Some(set) = pending.pop() {
        match best_closure(nodes, &set) {
            Closure::Better(inside) => {
                let (first, rest): (Vec<_>, Vec<_>) = set.into_iter().partition(|&node| inside[node]);
                pending.push(rest);
                pending.push(first);
            }
            Closure::Parts(equal) => parts.extend(equal),
        }
    }
    parts
}

/// Core's order of chunks and of transactions in them: after what they depend on, best rate first, then the smallest, then
/// the first in the list, where the last of a chunk counts.
fn in_order(nodes: &[Node], parts: Vec<Vec<usize>>) -> Vec<Chunk> {
    let mut part_of = vec![usize::MAX; nodes.len()];
    for (part, members) in parts.iter().enumerate() {
        for &node in members {
            part_of[node] = part;
        }
    }
    let rates: Vec<FeeFrac> = parts
        .iter()
        .map(|part| part.iter().fold(FeeFrac::default(), |sum, &node| sum.plus(nodes[node].rate)))
        .collect();
    let parts_above: Vec<Vec<usize>> = (parts.iter().enumerate())
        .map(|(part, members)| {
            let above = members.iter().flat_map(|&node| &nodes[node].parents).map(|&parent| part_of[parent]);
            above.filter(|&above| above != part && above != usize::MAX).collect()
        })
        .collect();
    let order = best_ready(
        &(0..parts.len()).collect::<Vec<_>>(),
        |part| &parts_above[part],
        |a, b| {
            let last = |part: usize| parts[part].iter().max();
            by_rate_and_size(&rates[a], &rates[b]).then_with(|| last(a).cmp(&last(b)))
        },
    );
    let chunk = |part: usize| {
        let members = best_ready(
            &parts[part],
            |node| &nodes[node].parents,
            |a, b| by_rate_and_size(&nodes[a].rate, &nodes[b].rate).then(a.cmp(&b)),
        );
        Chunk { rate: rates[part], members }
    };
    order.into_iter().map(chunk).collect()
}

/// Best rate first, then the smallest.
fn by_rate_and_size(a: &FeeFrac, b: &FeeFrac) -> Ordering {
    b.cmp_rate(a).then(a.size.cmp(&b.size))
}

/// Sorts so that everything comes after what is above it among them, and of what may come, the least comes first.
fn best_ready<'a>(
    items: &[usize],
    above: impl Fn(usize) -> &'a Vec<usize>,
    compare: impl Fn(usize, usize) -> Ordering,
) -> Vec<usize> {
    let mut left = items.to_vec();
    let mut is_left = vec![false; items.iter().max().map_or(0, |greatest| greatest + 1)];
    for &item in items {
        is_left[item] = true;
    }
    let mut sorted = Vec::with_capacity(items.len());
    while !left.is_empty() {
        let waits = |item: usize| above(item).iter().any(|&one| is_left.get(one).copied().unwrap_or(false));
        let ready = left.iter().enumerate().filter(|&(_, &item)| !waits(item));
        // Nothing is above itself, so that something is always ready.
        let Some((at, _)) = ready.min_by(|&(_, &a), &(_, &b)| compare(a, b)) else { break };
        let item = left.swap_remove(at);
        is_left[item] = false;
        sorted.push(item);
    }
    sorted
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

/// How a set divides.
enum Closure {
    /// The part that holds its own ancestors within the set and pays better than the set as a whole, by the largest
    /// margin: true at the places that are in it.
    Better(Vec<bool>),
    /// There is none: the smallest parts, each paying as well as the whole.
    Parts(Vec<Vec<usize>>),
}

fn best_closure(nodes: &[Node], set: &[usize]) -> Closure {
    if let [_] = set {
        return Closure::Parts(vec![set.to_vec()]);
    }
    let whole = set.iter().fold(FeeFrac::default(), |sum, &node| sum.plus(nodes[node].rate));
    let mut flow = Flow::new(nodes.len() + 2);
    let (source, sink) = (nodes.len(), nodes.len() + 1);
    let mut in_set = vec![false; nodes.len()];
    for &node in set {
        in_set[node] = true;
    }
    let mut unlimited = 1;
    for &node in set {
        let rate = nodes[node].rate;
        let weight = i128::from(rate.fee) * i128::from(whole.size) - i128::from(whole.fee) * i128::from(rate.size);
        match weight {
            1.. => {
                unlimited += weight;
                flow.add(source, node, weight);
            }
            ..0 => flow.add(node, sink, -weight),
            0 => {}
        }
    }
    for &node in set {
        for &parent in nodes[node].parents.iter().filter(|&&parent| in_set[parent]) {
            flow.add(node, parent, unlimited);
        }
    }
    flow.saturate(source, sink);
    let inside = flow.reachable(source);
    let taken = set.iter().filter(|&&node| inside[node]).count();
    if (1..set.len()).contains(&taken) { Closure::Better(inside) } else { Closure::Parts(flow.strong_components(set)) }
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

    /// The strongly connected components of `set` over arcs with room left.
    fn strong_components(&self, set: &[usize]) -> Vec<Vec<usize>> {
        let within: Vec<Vec<bool>> = set.iter().map(|&from| self.reachable_within(from, set)).collect();
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for (at, &node) in set.iter().enumerate() {
            let together = |part: &&mut Vec<usize>| {
                let first = set.iter().position(|other| *other == part[0]);
                first.is_some_and(|first| within[at][part[0]] && within[first][node])
            };
            match parts.iter_mut().find(together) {
                Some(part) => part.push(node),
                None => parts.push(vec![node]),
            }
        }
        parts
    }

    /// What can be reached from a vertex over arcs with room left, by vertices of `set` alone.
    fn reachable_within(&self, from: usize, set: &[usize]) -> Vec<bool> {
        let mut allowed = vec![false; self.leaving.len()];
        for &vertex in set {
            allowed[vertex] = true;
        }
        let mut seen = vec![false; self.leaving.len()];
        seen[from] = true;
        let mut pending = vec![from];
        while let Some(vertex) = pending.pop() {
            for &arc in &self.leaving[vertex] {
                let to = self.to[arc];
                if self.capacity[arc] > 0 && allowed[to] && !seen[to] {
                    seen[to] = true;
                    pending.push(to);
                }
            }
        }
        seen
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
        fn no_part_of_a_chunk_pays_as_well_as_the_whole(nodes in graph(6)) {
            for chunk in linearize(&nodes) {
                for part in 1u32..(1 << chunk.members.len()) - 1 {
                    let members: Vec<usize> =
                        chunk.members.iter().enumerate().filter(|(bit, _)| part >> bit & 1 == 1).map(|(_, &node)| node).collect();
                    let closed = members.iter().flat_map(|&node| &nodes[node].parents).all(|parent| {
                        members.contains(parent) || !chunk.members.contains(parent)
                    });
                    let rate = members.iter().fold(FeeFrac::default(), |sum, &node| sum.plus(nodes[node].rate));
                    prop_assert!(!closed || rate.cmp_rate(&chunk.rate).is_lt());
                }
            }
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
