//! The tracker against a model that is as plain as can be, and its rules one by one.

use super::*;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use std::time::Duration;

const PEERS: usize = 6;
const HASHES: usize = 5;

fn tracker() -> TxRequestTracker {
    TxRequestTracker::new(&mut StdRng::seed_from_u64(1))
}

fn hash(n: usize) -> TxHash {
    [n as u8; 32]
}

fn id(n: usize, is_wtxid: bool) -> GenTxid {
    gen_txid(&hash(n), is_wtxid)
}

fn peer(n: usize) -> PeerId {
    PeerId(n as u64)
}

fn at(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Candidate,
    Requested,
    Completed,
}

/// One announcement of the model.
#[derive(Debug, Clone, Copy)]
struct Known {
    kind: Kind,
    /// When to ask, or when the request expires.
    time: u64,
    sequence: u64,
    preferred: bool,
    is_wtxid: bool,
}

/// All announcements in a table; everything is looked for anew whenever it is asked.
#[derive(Default)]
struct Model {
    table: [[Option<Known>; PEERS]; HASHES],
    sequence: u64,
}

impl Model {
    /// An announcement failed: if no hope is left for its transaction, all are forgotten.
    fn cleanup(&mut self, hash: usize) {
        if self.table[hash].iter().flatten().all(|known| known.kind == Kind::Completed) {
            self.table[hash] = Default::default();
        }
    }

    fn received_inv(&mut self, peer: usize, hash: usize, is_wtxid: bool, preferred: bool, time: u64) {
        if self.table[hash][peer].is_none() {
            let sequence = self.sequence;
            self.table[hash][peer] = Some(Known { kind: Kind::Candidate, time, sequence, preferred, is_wtxid });
            self.sequence += 1;
        }
    }

    fn disconnected(&mut self, peer: usize) {
        for hash in 0..HASHES {
            self.table[hash][peer] = None;
            self.cleanup(hash);
        }
    }

    fn requested(&mut self, peer: usize, hash: usize, expiry: u64) {
        if self.table[hash][peer].is_none_or(|known| known.kind != Kind::Candidate) {
            return;
        }
        for other in self.table[hash].iter_mut().flatten() {
            if other.kind == Kind::Requested {
                other.kind = Kind::Completed;
            }
        }
        let known = self.table[hash][peer].as_mut().expect("it is a candidate");
        (known.kind, known.time) = (Kind::Requested, expiry);
    }

    fn responded(&mut self, peer: usize, hash: usize) {
        if let Some(known) = &mut self.table[hash][peer] {
            known.kind = Kind::Completed;
            self.cleanup(hash);
        }
    }

    fn requestable(&mut self, peer: usize, now: u64, tracker: &TxRequestTracker) -> (Vec<usize>, Vec<(usize, usize)>) {
        let mut expired = Vec::new();
        for hash in 0..HASHES {
            for peer in 0..PEERS {
                if let Some(known) = &mut self.table[hash][peer]
                    && known.kind == Kind::Requested
                    && known.time <= now
                {
                    known.kind = Kind::Completed;
                    expired.push((peer, hash));
                }
            }
            self.cleanup(hash);
        }
        let mut found: Vec<(u64, usize)> = Vec::new();
        for (n, row) in self.table.iter().enumerate() {
            let candidates = row.iter().enumerate().filter_map(|(at, known)| known.map(|known| (at, known)));
            let best = candidates
                .clone()
                .filter(|(_, known)| known.kind == Kind::Candidate && known.time <= now)
                .max_by_key(|(at, known)| tracker.priority(&hash(n), PeerId(*at as u64), known.preferred));
            let busy = candidates.clone().any(|(_, known)| known.kind == Kind::Requested);
            if let Some((at, known)) = best.filter(|(at, _)| !busy && *at == peer) {
                debug_assert_eq!(at, peer);
                found.push((known.sequence, n));
            }
        }
        found.sort();
        (found.into_iter().map(|(_, hash)| hash).collect(), expired)
    }

    fn count(&self, peer: usize, kind: Option<Kind>) -> usize {
        let all = self.table.iter().filter_map(|row| row[peer]);
        all.filter(|known| kind.is_none_or(|kind| known.kind == kind)).count()
    }
}

/// Whether the tracker agrees with the model, and with itself.
fn check(tracker: &TxRequestTracker, model: &Model) {
    for n in 0..PEERS {
        assert_eq!(tracker.count(peer(n)), model.count(n, None));
        assert_eq!(tracker.count_in_flight(peer(n)), model.count(n, Some(Kind::Requested)));
        assert_eq!(tracker.count_candidates(peer(n)), model.count(n, Some(Kind::Candidate)));
    }
    assert_eq!(tracker.size(), (0..PEERS).map(|n| model.count(n, None)).sum::<usize>());
    for n in 0..HASHES {
        let mut candidates = tracker.get_candidate_peers(&hash(n));
        candidates.sort();
        let expected = model.table[n].iter().enumerate();
        let expected = expected.filter(|(_, known)| known.is_some_and(|known| known.kind != Kind::Completed));
        assert_eq!(candidates, expected.map(|(at, _)| peer(at)).collect::<Vec<_>>());
    }

    // Nothing is left in an index of what is not there.
    let all = || tracker.by_hash.iter().flat_map(|(hash, all)| all.iter().map(move |known| (hash, known)));
    assert!(tracker.by_hash.values().all(|all| all.iter().any(|known| known.state != State::Completed)));
    assert!(tracker.by_hash.values().all(|all| all.iter().filter(|known| known.is_selected()).count() <= 1));
    assert_eq!(tracker.waiting.len(), all().filter(|(_, known)| known.is_waiting()).count());
    assert!(tracker.peers.values().all(|info| !info.announced.is_empty()));
    assert_eq!(tracker.peers.values().map(|info| info.announced.len()).sum::<usize>(), tracker.size());
    let best = all().filter(|(_, known)| known.state == State::Best).count();
    assert_eq!(tracker.peers.values().map(|info| info.best.len()).sum::<usize>(), best);
}

#[derive(Debug, Clone)]
enum Operation {
    /// Time goes on, or back a little.
    Wait(i64),
    Inv {
        peer: usize,
        hash: usize,
        is_wtxid: bool,
        preferred: bool,
        delay: u64,
    },
    Disconnect(usize),
    Forget(usize),
    /// Asks for what is requestable and requests each.
    Poll {
        peer: usize,
        request: bool,
        expiry: u64,
    },
    /// A request that nobody advised.
    Request {
        peer: usize,
        hash: usize,
        expiry: u64,
    },
    Response {
        peer: usize,
        hash: usize,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let (peer, hash) = (0..PEERS, 0..HASHES);
    prop_oneof![
        2 => (-3i64..12).prop_map(Operation::Wait),
        6 => (peer.clone(), hash.clone(), any::<bool>(), any::<bool>(), 0u64..8).prop_map(
            |(peer, hash, is_wtxid, preferred, delay)| Operation::Inv { peer, hash, is_wtxid, preferred, delay }
        ),
        1 => peer.clone().prop_map(Operation::Disconnect),
        1 => hash.clone().prop_map(Operation::Forget),
        4 => (peer.clone(), any::<bool>(), 0u64..10)
            .prop_map(|(peer, request, expiry)| Operation::Poll { peer, request, expiry }),
        1 => (peer.clone(), hash.clone(), 0u64..10)
            .prop_map(|(peer, hash, expiry)| Operation::Request { peer, hash, expiry }),
        2 => (peer, hash).prop_map(|(peer, hash)| Operation::Response { peer, hash }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_sequence_of_operations_agrees_with_the_model(operations in prop::collection::vec(operation(), 1..120)) {
        let (mut tracker, mut model, mut now) = (tracker(), Model::default(), 100u64);
        for operation in operations {
            match operation {
                Operation::Wait(seconds) => now = now.saturating_add_signed(seconds),
                Operation::Inv { peer: from, hash: n, is_wtxid, preferred, delay } => {
                    tracker.received_inv(peer(from), id(n, is_wtxid), preferred, at(now + delay));
                    model.received_inv(from, n, is_wtxid, preferred, now + delay);
                }
                Operation::Disconnect(from) => {
                    tracker.disconnected_peer(peer(from));
                    model.disconnected(from);
                }
                Operation::Forget(n) => {
                    tracker.forget_tx_hash(&hash(n));
                    model.table[n] = Default::default();
                }
                Operation::Poll { peer: from, request, expiry } => {
                    let (requestable, mut expired) = tracker.get_requestable(peer(from), at(now));
                    // The model still knows the kind of id of what the tracker has forgotten.
                    let kinds: Vec<Vec<bool>> = (0..HASHES)
                        .map(|n| (0..PEERS).map(|p| model.table[n][p].is_some_and(|known| known.is_wtxid)).collect())
                        .collect();
                    let (expected, expected_expired) = model.requestable(from, now, &tracker);
                    let named: Vec<GenTxid> = expected.iter().map(|n| id(*n, kinds[*n][from])).collect();
                    assert_eq!(requestable, named);
                    let mut expected_expired: Vec<(PeerId, GenTxid)> =
                        expected_expired.iter().map(|(p, n)| (peer(*p), id(*n, kinds[*n][*p]))).collect();
                    expired.sort();
                    expected_expired.sort();
                    assert_eq!(expired, expected_expired);
                    for known in tracker.by_hash.values().flatten() {
                        match known.state {
                            State::Delayed | State::Requested => assert!(known.time > at(now)),
                            State::Ready | State::Best => assert!(known.time <= at(now)),
                            State::Completed => {}
                        }
                    }
                    for n in expected.into_iter().filter(|_| request) {
                        tracker.requested_tx(peer(from), &hash(n), at(now + expiry));
                        model.requested(from, n, now + expiry);
                    }
                }
                Operation::Request { peer: from, hash: n, expiry } => {
                    tracker.requested_tx(peer(from), &hash(n), at(now + expiry));
                    model.requested(from, n, now + expiry);
                }
                Operation::Response { peer: from, hash: n } => {
                    tracker.received_response(peer(from), &hash(n));
                    model.responded(from, n);
                }
            }
            check(&tracker, &model);
        }
        (0..PEERS).for_each(|n| tracker.disconnected_peer(peer(n)));
        check(&tracker, &Model::default());
    }
}

/// What is requestable of a peer.
fn requestable(tracker: &mut TxRequestTracker, from: usize, now: u64) -> Vec<GenTxid> {
    tracker.get_requestable(peer(from), at(now)).0
}

#[test]
fn a_transaction_is_asked_of_one_peer_at_a_time_and_of_the_next_when_that_fails() {
    let mut tracker = tracker();
    (0..3).for_each(|n| tracker.received_inv(peer(n), id(1, true), true, at(10)));
    assert!((0..3).all(|n| requestable(&mut tracker, n, 9).is_empty()));
    let mut asked = Vec::new();
    for round in 0..3u64 {
        let now = 10 + round * 60;
        let chosen: Vec<usize> = (0..3).filter(|n| !requestable(&mut tracker, *n, now).is_empty()).collect();
        assert_eq!(chosen.len(), 1);
        tracker.requested_tx(peer(chosen[0]), &hash(1), at(now + 60));
        assert!((0..3).all(|n| requestable(&mut tracker, n, now + 59).is_empty()));
        asked.push(chosen[0]);
    }
    let (_, expired) = tracker.get_requestable(peer(0), at(10 + 180));
    assert_eq!(expired, [(peer(asked[2]), id(1, true))]);
    asked.sort();
    assert_eq!(asked, [0, 1, 2]);
    assert_eq!(tracker.size(), 0);
}

#[test]
fn preferred_peers_come_first_and_chance_decides_among_equals() {
    let mut chosen = [0; 4];
    for seed in 0..400 {
        let mut tracker = TxRequestTracker::new(&mut StdRng::seed_from_u64(seed));
        (0..4).for_each(|n| tracker.received_inv(peer(n), id(1, true), n >= 2, at(10)));
        let best = (0..4).find(|n| !requestable(&mut tracker, *n, 10).is_empty());
        chosen[best.expect("one of them is asked")] += 1;
    }
    assert_eq!(chosen[..2], [0, 0]);
    assert!(chosen[2] > 150 && chosen[3] > 150, "{chosen:?}");
}

#[test]
fn requests_go_out_in_the_order_of_their_announcement() {
    let mut tracker = tracker();
    for n in [7, 3, 9, 1, 5] {
        tracker.received_inv(peer(0), id(n, n % 3 == 0), false, at(20 - n as u64));
    }
    let expected: Vec<GenTxid> = [7, 3, 9, 1, 5].into_iter().map(|n| id(n, n % 3 == 0)).collect();
    assert_eq!(requestable(&mut tracker, 0, 100), expected);
}

#[test]
fn no_peer_is_asked_twice_however_often_it_announces() {
    let mut tracker = tracker();
    tracker.received_inv(peer(0), id(1, true), true, at(0));
    tracker.received_inv(peer(1), id(1, true), false, at(1000));
    tracker.requested_tx(peer(0), &hash(1), at(60));
    tracker.received_response(peer(0), &hash(1));
    tracker.received_inv(peer(0), id(1, false), true, at(0));
    assert!(requestable(&mut tracker, 0, 999).is_empty());
    assert_eq!(requestable(&mut tracker, 1, 1000), [id(1, true)]);
}
