//! The transactions and every index over them. Knows no rules and no chain: what to add or remove is decided above.

use crate::feerate::FeeFrac;
use crate::linearize::{Node, linearize};
use bitcoin::{OutPoint, Transaction, Txid, Wtxid};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

/// Most transactions in a cluster (Core's `DEFAULT_CLUSTER_LIMIT`).
pub const CLUSTER_COUNT_LIMIT: usize = 64;
/// Most sigop-adjusted vbytes in a cluster (Core's `DEFAULT_CLUSTER_SIZE_LIMIT_KVB`).
pub const CLUSTER_VSIZE_LIMIT: u64 = 101_000;
/// The same in weight.
pub(crate) const CLUSTER_WEIGHT_LIMIT: u64 = CLUSTER_VSIZE_LIMIT * 4;

/// More than there is money, and little enough that the fees of a cluster can be summed: beyond it an operator's word
/// makes no difference, in satoshi.
const LARGEST_FEE: i64 = 1 << 56;

/// A transaction and what was found out about it when it came.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) tx: Arc<Transaction>,
    pub(crate) wtxid: Wtxid,
    /// Satoshi.
    pub(crate) fee: u64,
    /// The fee with what an operator has added or taken (`prioritisetransaction`), satoshi: what policy and selection
    /// go by.
    pub(crate) modified_fee: i64,
    pub(crate) weight: u64,
    /// Weight, or what its signature operations count for if that is more.
    pub(crate) adjusted_weight: u64,
    pub(crate) sigop_cost: u64,
    /// Seconds since 1970.
    pub(crate) time: u64,
    /// Height of the tip when it came.
    pub(crate) height: u32,
    /// The pool's sequence when it came; zero for what a disconnected block returned, so that it is never younger than
    /// its children.
    pub(crate) sequence: u64,
}

impl Entry {
    /// Sigop-adjusted virtual size.
    pub(crate) fn vsize(&self) -> u64 {
        self.adjusted_weight.div_ceil(4)
    }

    pub(crate) fn rate(&self) -> FeeFrac {
        FeeFrac::new(self.modified_fee.clamp(-LARGEST_FEE, LARGEST_FEE), self.adjusted_weight)
    }
}

/// An entry with its place in the pool.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) entry: Entry,
    pub(crate) parents: BTreeSet<Txid>,
    pub(crate) children: BTreeSet<Txid>,
    cluster: u64,
    usage: usize,
}

/// Transactions connected by spending, in their best order.
#[derive(Debug)]
struct Cluster {
    chunks: Vec<PoolChunk>,
}

/// Transactions that are mined together, and what they pay together.
#[derive(Debug, Clone)]
pub(crate) struct PoolChunk {
    /// Fee over sigop-adjusted weight.
    pub(crate) rate: FeeFrac,
    /// Parents first.
    pub(crate) txids: Vec<Txid>,
    /// Sizes of this chunk and of those before it in its cluster that pay as well.
    equal_rate_size: u64,
    /// The greatest of `txids`.
    greatest: Txid,
}

impl PoolChunk {
    /// Sorts chunks of all clusters as they are mined (Core's `CompareMainTransactions`).
    fn place(&self) -> MiningPlace {
        (Reverse(RateKey(self.rate)), self.equal_rate_size, self.greatest)
    }
}

/// A rate as a key of ordered collections; ties go to the cluster.
#[derive(Debug, Clone, Copy)]
struct RateKey(FeeFrac);

impl PartialEq for RateKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for RateKey {}
impl PartialOrd for RateKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for RateKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp_rate(&other.0)
    }
}

/// A chunk's place in the order of mining: its rate, then what breaks ties.
type MiningPlace = (Reverse<RateKey>, u64, Txid);

/// Transactions, who spends what, clusters, and totals.
#[derive(Debug)]
pub(crate) struct Pool {
    members: HashMap<Txid, Member>,
    by_wtxid: HashMap<Wtxid, Txid>,
    /// Which transaction here spends an output.
    spenders: HashMap<OutPoint, Txid>,
    clusters: HashMap<u64, Cluster>,
    next_cluster: u64,
    /// The place of the last, so the worst, chunk of each cluster; the worst of all is the last.
    worst: BTreeSet<(MiningPlace, u64)>,
    by_time: BTreeSet<(u64, Txid)>,
    /// What operators have added to fees, satoshi, never zero; kept for transactions that are not here too.
    deltas: BTreeMap<Txid, i64>,
    /// Transactions of local origin that no peer has asked for yet.
    unbroadcast: BTreeSet<Txid>,
    total_vsize: u64,
    total_fee: u64,
    usage: usize,
    sequence: u64,
    prioritisations: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            members: HashMap::new(),
            by_wtxid: HashMap::new(),
            spenders: HashMap::new(),
            clusters: HashMap::new(),
            next_cluster: 0,
            worst: BTreeSet::new(),
            by_time: BTreeSet::new(),
            deltas: BTreeMap::new(),
            unbroadcast: BTreeSet::new(),
            total_vsize: 0,
            total_fee: 0,
            usage: 0,
            // Zero is older than everything.
            sequence: 1,
            prioritisations: 0,
        }
    }
}

impl Pool {
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }
    pub(crate) fn total_vsize(&self) -> u64 {
        self.total_vsize
    }
    pub(crate) fn total_fee(&self) -> u64 {
        self.total_fee
    }
    /// Estimated memory in bytes.
    pub(crate) fn usage(&self) -> usize {
        self.usage
    }
    /// Changes with every addition and removal.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }
    /// Changes with everything that may change what is mined next.
    pub(crate) fn updates(&self) -> u64 {
        self.sequence + self.prioritisations
    }
    /// What operators have added to fees, satoshi.
    pub(crate) fn deltas(&self) -> &BTreeMap<Txid, i64> {
        &self.deltas
    }
    pub(crate) fn unbroadcast(&self) -> &BTreeSet<Txid> {
        &self.unbroadcast
    }
    pub(crate) fn get(&self, txid: &Txid) -> Option<&Member> {
        self.members.get(txid)
    }
    pub(crate) fn contains(&self, txid: &Txid) -> bool {
        self.members.contains_key(txid)
    }
    pub(crate) fn txid_of(&self, wtxid: &Wtxid) -> Option<Txid> {
        self.by_wtxid.get(wtxid).copied()
    }
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }
    pub(crate) fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spenders.get(outpoint).copied()
    }
    pub(crate) fn txids(&self) -> impl Iterator<Item = &Txid> {
        self.members.keys()
    }

    /// The parents here of a transaction that may be here or not.
    pub(crate) fn parents_of(&self, tx: &Transaction) -> BTreeSet<Txid> {
        tx.input.iter().map(|input| input.previous_output.txid).filter(|txid| self.contains(txid)).collect()
    }

    /// The children here of a transaction that may be here or not.
    pub(crate) fn children_of(&self, txid: Txid, outputs: usize) -> BTreeSet<Txid> {
        (0..outputs as u32).filter_map(|vout| self.spender(&OutPoint { txid, vout })).collect()
    }

    /// Adds a transaction. It conflicts with nothing here; its children may be here already (after a reorganisation).
    pub(crate) fn insert(&mut self, txid: Txid, entry: Entry) {
        let parents = self.parents_of(&entry.tx);
        let children = self.children_of(txid, entry.tx.output.len());
        for parent in &parents {
            self.members.get_mut(parent).expect("parents_of gives members").children.insert(txid);
        }
        for child in &children {
            self.members.get_mut(child).expect("children_of gives members").parents.insert(txid);
        }
        for input in &entry.tx.input {
            self.spenders.insert(input.previous_output, txid);
        }
        let usage = usage_of(&entry.tx);
        self.total_vsize += entry.vsize();
        self.total_fee += entry.fee;
        self.usage += usage;
        self.sequence += 1;
        self.by_time.insert((entry.time, txid));
        self.by_wtxid.insert(entry.wtxid, txid);
        let mut touched: Vec<Txid> = parents.iter().chain(&children).copied().collect();
        touched.push(txid);
        self.members.insert(txid, Member { entry, parents, children, cluster: u64::MAX, usage });
        self.recluster(touched);
    }

    /// Removes transactions as they are: descendants left behind keep their place (a block confirmed their parents).
    pub(crate) fn remove(&mut self, txids: impl IntoIterator<Item = Txid>) -> Vec<Entry> {
        let mut removed = Vec::new();
        let mut touched = Vec::new();
        for txid in txids {
            let Some(member) = self.members.remove(&txid) else { continue };
            for parent in &member.parents {
                if let Some(parent) = self.members.get_mut(parent) {
                    parent.children.remove(&txid);
                }
            }
            for child in &member.children {
                if let Some(child) = self.members.get_mut(child) {
                    child.parents.remove(&txid);
                }
            }
            for input in &member.entry.tx.input {
                self.spenders.remove(&input.previous_output);
            }
            self.total_vsize -= member.entry.vsize();
            self.total_fee -= member.entry.fee;
            self.usage -= member.usage;
            self.sequence += 1;
            self.by_time.remove(&(member.entry.time, txid));
            self.by_wtxid.remove(&member.entry.wtxid);
            self.unbroadcast.remove(&txid);
            touched.extend(self.dissolve(member.cluster));
            removed.push(member.entry);
        }
        self.recluster(touched);
        removed
    }

    /// A fee as operators have changed it.
    pub(crate) fn modified_fee(&self, txid: &Txid, fee: u64) -> i64 {
        let delta = self.deltas.get(txid).copied().unwrap_or(0);
        i64::try_from(fee).unwrap_or(i64::MAX).saturating_add(delta)
    }

    /// Adds to what operators have added to a fee, whether the transaction is here or not.
    pub(crate) fn prioritise(&mut self, txid: Txid, delta: i64) {
        let sum = self.deltas.get(&txid).copied().unwrap_or(0).saturating_add(delta);
        match sum {
            0 => self.deltas.remove(&txid),
            sum => self.deltas.insert(txid, sum),
        };
        if let Some(member) = self.members.get_mut(&txid) {
            member.entry.modified_fee = member.entry.modified_fee.saturating_add(delta);
            self.prioritisations += 1;
            self.recluster(vec![txid]);
        }
    }

    /// Forgets what operators have added to fees.
    pub(crate) fn clear_prioritisation(&mut self, txid: &Txid) {
        self.deltas.remove(txid);
    }

    /// Remembers that no peer has asked for a transaction that is here.
    pub(crate) fn add_unbroadcast(&mut self, txid: Txid) {
        if self.contains(&txid) {
            self.unbroadcast.insert(txid);
        }
    }

    pub(crate) fn remove_unbroadcast(&mut self, txid: &Txid) {
        self.unbroadcast.remove(txid);
    }

    /// Takes a cluster apart; gives its transactions, of which some may be gone.
    fn dissolve(&mut self, id: u64) -> Vec<Txid> {
        let Some(cluster) = self.clusters.remove(&id) else { return Vec::new() };
        if let Some(last) = cluster.chunks.last() {
            self.worst.remove(&(last.place(), id));
        }
        cluster.chunks.into_iter().flat_map(|chunk| chunk.txids).collect()
    }

    /// Builds the clusters around these transactions anew.
    fn recluster(&mut self, touched: Vec<Txid>) {
        let mut done = HashSet::new();
        for start in touched {
            if done.contains(&start) || !self.contains(&start) {
                continue;
            }
            let component = self.connected(start);
            for txid in &component {
                let old = self.members[txid].cluster;
                self.dissolve(old);
            }
            done.extend(component.iter().copied());
            let chunks = self.chunks_of(&component);
            let id = self.next_cluster;
            self.next_cluster += 1;
            for txid in &component {
                self.members.get_mut(txid).expect("connected gives members").cluster = id;
            }
            if let Some(last) = chunks.last() {
                self.worst.insert((last.place(), id));
            }
            self.clusters.insert(id, Cluster { chunks });
        }
    }

    /// Everything connected to a transaction, itself included.
    fn connected(&self, start: Txid) -> Vec<Txid> {
        let mut seen = HashSet::from([start]);
        let mut found = vec![start];
        let mut at = 0;
        while let Some(member) = found.get(at).map(|txid| &self.members[txid]) {
            found.extend(member.parents.iter().chain(&member.children).copied().filter(|&txid| seen.insert(txid)));
            at += 1;
        }
        found
    }

    fn chunks_of(&self, txids: &[Txid]) -> Vec<PoolChunk> {
        let nodes: Vec<(Txid, FeeFrac, Vec<Txid>)> = txids
            .iter()
            .map(|txid| (*txid, self.members[txid].entry.rate(), self.members[txid].parents.iter().copied().collect()))
            .collect();
        order(&nodes)
    }

    /// All ancestors, without the transaction itself.
    pub(crate) fn ancestors(&self, parents: &BTreeSet<Txid>) -> BTreeSet<Txid> {
        self.walk(parents.iter().copied(), |member| &member.parents)
    }

    /// Transactions and all their descendants.
    pub(crate) fn with_descendants(&self, txids: impl IntoIterator<Item = Txid>) -> BTreeSet<Txid> {
        self.walk(txids, |member| &member.children)
    }

    fn walk(&self, start: impl IntoIterator<Item = Txid>, step: impl Fn(&Member) -> &BTreeSet<Txid>) -> BTreeSet<Txid> {
        let mut pending: Vec<Txid> = start.into_iter().collect();
        let mut found = BTreeSet::new();
        while let Some(txid) = pending.pop() {
            if let Some(member) = self.members.get(&txid)
                && found.insert(txid)
            {
                pending.extend(step(member));
            }
        }
        found
    }

    /// How many clusters these transactions are in.
    pub(crate) fn cluster_count(&self, txids: &BTreeSet<Txid>) -> usize {
        txids
            .iter()
            .filter_map(|txid| self.members.get(txid))
            .map(|member| member.cluster)
            .collect::<HashSet<_>>()
            .len()
    }

    /// What the clusters would be if `removed` left and the candidates came.
    pub(crate) fn staged(&self, candidates: &[Candidate], removed: &BTreeSet<Txid>) -> Staged {
        let clusters: BTreeSet<u64> = (candidates.iter().flat_map(|candidate| &candidate.parents).chain(removed))
            .filter_map(|txid| self.members.get(txid))
            .map(|member| member.cluster)
            .collect();
        let before: Vec<&PoolChunk> = clusters.iter().flat_map(|id| &self.clusters[id].chunks).collect();
        let mut nodes: Vec<(Txid, FeeFrac, Vec<Txid>)> = before
            .iter()
            .flat_map(|chunk| &chunk.txids)
            .filter(|txid| !removed.contains(*txid))
            .map(|txid| (*txid, self.members[txid].entry.rate(), self.members[txid].parents.iter().copied().collect()))
            .collect();
        nodes.extend(candidates.iter().map(|candidate| {
            (candidate.txid, candidate.rate, candidate.parents.difference(removed).copied().collect())
        }));
        let mut before: Vec<FeeFrac> = before.iter().map(|chunk| chunk.rate).collect();
        before.sort_by(|a, b| b.cmp_rate(a));
        Staged { nodes, before }
    }

    /// Chunks of the whole pool, best first, each after the chunks it depends on. Stops when `visit` says so.
    pub(crate) fn best_chunks(&self, mut visit: impl FnMut(&PoolChunk) -> Next) {
        let mut heap: BinaryHeap<_> = (self.clusters.iter())
            .filter_map(|(&id, cluster)| cluster.chunks.first().map(|chunk| Reverse((chunk.place(), id, 0))))
            .collect();
        while let Some(Reverse((_, id, place))) = heap.pop() {
            let chunks = &self.clusters[&id].chunks;
            match visit(&chunks[place]) {
                Next::Stop => return,
                // What comes later in the cluster may depend on what was skipped.
                Next::SkipCluster => continue,
                Next::Go => {
                    if let Some(chunk) = chunks.get(place + 1) {
                        heap.push(Reverse((chunk.place(), id, place + 1)));
                    }
                }
            }
        }
    }

    /// All transactions in the order in which they are mined.
    pub(crate) fn mining_sequence(&self) -> Vec<Txid> {
        let mut txids = Vec::with_capacity(self.len());
        self.best_chunks(|chunk| {
            txids.extend(&chunk.txids);
            Next::Go
        });
        txids
    }

    /// The chunks of a transaction's cluster, best first.
    pub(crate) fn cluster_of(&self, txid: &Txid) -> Option<&[PoolChunk]> {
        self.members.get(txid).map(|member| self.clusters[&member.cluster].chunks.as_slice())
    }

    /// What a transaction is mined together with.
    pub(crate) fn chunk_of(&self, txid: &Txid) -> Option<&PoolChunk> {
        self.cluster_of(txid)?.iter().find(|chunk| chunk.txids.contains(txid))
    }

    /// Where `best_chunks` comes upon a transaction: a key that sorts as it does. Transactions of one place in one cluster
    /// do not exist.
    pub(crate) fn mining_order(&self, txid: &Txid) -> Option<impl Ord + use<>> {
        let mut place = 0;
        for chunk in self.cluster_of(txid)? {
            match chunk.txids.iter().position(|other| other == txid) {
                Some(within) => return Some((chunk.place(), place + within)),
                None => place += chunk.txids.len(),
            }
        }
        None
    }

    /// The chunk that would be mined last.
    pub(crate) fn worst_chunk(&self) -> Option<&PoolChunk> {
        let (_, id) = self.worst.last()?;
        self.clusters[id].chunks.last()
    }

    /// Transactions that came before `time`.
    pub(crate) fn older_than(&self, time: u64) -> Vec<Txid> {
        self.by_time.iter().take_while(|(came, _)| *came < time).map(|(_, txid)| *txid).collect()
    }

    /// What has to go so that every cluster around `start` is within its limits (Core's `TxGraph::Trim`): transactions
    /// are kept best rate first as far as their parents are kept and the cluster that they make is within the limits.
    pub(crate) fn excess(&self, start: impl IntoIterator<Item = Txid>) -> Vec<Txid> {
        let mut seen = HashSet::new();
        let mut excess = Vec::new();
        for txid in start {
            if seen.contains(&txid) || !self.contains(&txid) {
                continue;
            }
            let component = self.connected(txid);
            seen.extend(component.iter().copied());
            let weight: u64 = component.iter().map(|txid| self.members[txid].entry.adjusted_weight).sum();
            if component.len() > CLUSTER_COUNT_LIMIT || weight > CLUSTER_WEIGHT_LIMIT {
                excess.extend(self.trim(&component));
            }
        }
        excess
    }

    fn trim(&self, component: &[Txid]) -> Vec<Txid> {
        let mut missing: HashMap<Txid, usize> =
            component.iter().map(|txid| (*txid, self.members[txid].parents.len())).collect();
        let ready = |txid: Txid| (RateKey(self.members[&txid].entry.rate()), Reverse(txid));
        let mut heap: BinaryHeap<_> =
            missing.iter().filter(|&(_, &count)| count == 0).map(|(&txid, _)| ready(txid)).collect();
        // Groups of kept transactions: each member knows its group, each group its members and weight.
        let mut group_of: HashMap<Txid, usize> = HashMap::new();
        let mut groups: Vec<(Vec<Txid>, u64)> = Vec::new();
        while let Some((_, Reverse(txid))) = heap.pop() {
            let member = &self.members[&txid];
            let joined: BTreeSet<usize> = member.parents.iter().map(|parent| group_of[parent]).collect();
            let count = 1 + joined.iter().map(|&group| groups[group].0.len()).sum::<usize>();
            let weight = member.entry.adjusted_weight + joined.iter().map(|&group| groups[group].1).sum::<u64>();
            if count > CLUSTER_COUNT_LIMIT || weight > CLUSTER_WEIGHT_LIMIT {
                continue;
            }
            let mut kept = vec![txid];
            for group in joined {
                kept.append(&mut groups[group].0);
            }
            for txid in &kept {
                group_of.insert(*txid, groups.len());
            }
            groups.push((kept, weight));
            for child in &member.children {
                if let Some(count) = missing.get_mut(child) {
                    *count -= 1;
                    if *count == 0 {
                        heap.push(ready(*child));
                    }
                }
            }
        }
        component.iter().filter(|&txid| !group_of.contains_key(txid)).copied().collect()
    }
}

/// What `best_chunks` does after a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// On to the next chunk.
    Go,
    /// Nothing more of this cluster.
    SkipCluster,
    /// Nothing more at all.
    Stop,
}

/// A transaction that may come.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) txid: Txid,
    /// Fee over sigop-adjusted weight.
    pub(crate) rate: FeeFrac,
    /// In the pool, or candidates too.
    pub(crate) parents: BTreeSet<Txid>,
}

/// The clusters that a change touches, before and after it.
#[derive(Debug)]
pub(crate) struct Staged {
    /// What there would be afterwards.
    nodes: Vec<(Txid, FeeFrac, Vec<Txid>)>,
    /// Rates of the chunks before, falling.
    pub(crate) before: Vec<FeeFrac>,
}

impl Staged {
    /// Whether every cluster would be within the limits.
    pub(crate) fn within_limits(&self) -> bool {
        let mut neighbours: HashMap<Txid, Vec<Txid>> = HashMap::new();
        let mut sizes = HashMap::new();
        for (txid, rate, parents) in &self.nodes {
            sizes.insert(*txid, rate.size);
            for parent in parents {
                neighbours.entry(*txid).or_default().push(*parent);
                neighbours.entry(*parent).or_default().push(*txid);
            }
        }
        let mut seen = HashSet::new();
        self.nodes.iter().all(|(start, ..)| {
            let (mut count, mut weight) = (0, 0);
            let mut pending = Vec::new();
            pending.extend(seen.insert(*start).then_some(*start));
            while let Some(txid) = pending.pop() {
                count += 1;
                weight += sizes.get(&txid).copied().unwrap_or(0);
                pending.extend(neighbours.get(&txid).into_iter().flatten().copied().filter(|&txid| seen.insert(txid)));
            }
            count <= CLUSTER_COUNT_LIMIT && weight <= CLUSTER_WEIGHT_LIMIT
        })
    }

    /// Rates of the chunks afterwards, falling.
    pub(crate) fn after(&self) -> Vec<FeeFrac> {
        order(&self.nodes).iter().map(|chunk| chunk.rate).collect()
    }
}

/// Linearizes transactions given with their parents, of which some may be elsewhere.
fn order(transactions: &[(Txid, FeeFrac, Vec<Txid>)]) -> Vec<PoolChunk> {
    // Where all else is equal the id decides.
    let mut sorted: Vec<&(Txid, FeeFrac, Vec<Txid>)> = transactions.iter().collect();
    sorted.sort_unstable_by_key(|(txid, ..)| *txid);
    let places: HashMap<Txid, usize> = sorted.iter().enumerate().map(|(place, (txid, ..))| (*txid, place)).collect();
    let nodes: Vec<Node> = sorted
        .iter()
        .map(|(_, rate, parents)| Node {
            rate: *rate,
            parents: parents.iter().filter_map(|parent| places.get(parent).copied()).collect(),
        })
        .collect();
    let mut equal: Option<(FeeFrac, u64)> = None;
    let mut chunks = Vec::new();
    for chunk in linearize(&nodes) {
        let before = equal.filter(|(rate, _)| rate.cmp_rate(&chunk.rate).is_eq()).map_or(0, |(_, size)| size);
        let equal_rate_size = before + chunk.rate.size;
        equal = Some((chunk.rate, equal_rate_size));
        let greatest = chunk.members.iter().max().copied().unwrap_or(0);
        chunks.push(PoolChunk {
            rate: chunk.rate,
            txids: chunk.members.into_iter().map(|place| sorted[place].0).collect(),
            equal_rate_size,
            greatest: sorted[greatest].0,
        });
    }
    chunks
}

/// Estimated memory of a transaction here, indexes included, in bytes.
fn usage_of(tx: &Transaction) -> usize {
    /// What an allocator adds to each allocation.
    const ALLOCATION: usize = 16;
    /// An entry in each map keyed by id, in the order of time, in its cluster, and by the id with witnesses.
    const INDEXES: usize = 6 * (size_of::<Txid>() + 2 * size_of::<usize>());
    let heap = |bytes: usize| if bytes == 0 { 0 } else { bytes + ALLOCATION };
    let inputs: usize = tx
        .input
        .iter()
        .map(|input| {
            let spender = size_of::<OutPoint>() + size_of::<Txid>() + size_of::<usize>();
            // A parent or a child is one entry in an ordered set on either side.
            let edge = 2 * (size_of::<Txid>() + size_of::<usize>());
            size_of_val(input) + heap(input.script_sig.len()) + heap(input.witness.size()) + spender + edge
        })
        .sum();
    let outputs: usize = tx.output.iter().map(|output| size_of_val(output) + heap(output.script_pubkey.len())).sum();
    size_of::<Member>() + size_of::<Transaction>() + INDEXES + 4 * ALLOCATION + inputs + outputs
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
