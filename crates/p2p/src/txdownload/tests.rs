//! What is asked for and what is done with what comes, case by case and under any sequence of messages.

use super::*;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Witness, absolute, transaction};
use cairn_consensus::error::TxRejectKind;
use proptest::prelude::*;
use rand::SeedableRng;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

/// A mempool that takes what it is told to.
#[derive(Debug, Default, Clone)]
struct Mempool(Rc<RefCell<HashSet<GenTxid>>>);

impl Mempool {
    fn add(&self, tx: &RelayTx) {
        self.0.borrow_mut().extend([GenTxid::Txid(tx.txid), GenTxid::Wtxid(tx.wtxid)]);
    }
}

impl TxMempool for Mempool {
    fn have_tx(&self, gtxid: &GenTxid) -> bool {
        self.0.borrow().contains(gtxid)
    }
}

const NOW: Time = Duration::from_secs(1_000_000);
const PREFERRED: TxDownloadConnectionInfo =
    TxDownloadConnectionInfo { preferred: true, relay_permissions: false, wtxid_relay: true };
const INBOUND: TxDownloadConnectionInfo = TxDownloadConnectionInfo { preferred: false, ..PREFERRED };

fn manager(peers: &[(u64, TxDownloadConnectionInfo)]) -> (TxDownloadManager<Mempool>, Mempool) {
    let mempool = Mempool::default();
    let mut manager = TxDownloadManager::new(mempool.clone(), StdRng::seed_from_u64(1));
    peers.iter().for_each(|(n, info)| manager.connected_peer(PeerId(*n), *info));
    (manager, mempool)
}

fn peer(n: u64) -> PeerId {
    PeerId(n)
}

/// A transaction that spends outputs, told apart by its number.
fn spending(parents: &[OutPoint], n: u64, witness: Option<u8>) -> RelayTx {
    let input = parents.iter().map(|previous_output| TxIn {
        previous_output: *previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: witness.map_or_else(Witness::new, |byte| Witness::from_slice(&[[byte]])),
    });
    let output = TxOut { value: Amount::from_sat(n), script_pubkey: ScriptBuf::new() };
    RelayTx::new(Arc::new(Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: input.collect(),
        output: vec![output; 2],
    }))
}

/// A transaction with witnesses that spends what nobody knows.
fn tx(n: u64) -> RelayTx {
    spending(&[OutPoint { txid: Txid::from_byte_array([n as u8; 32]), vout: n as u32 }], n, Some(1))
}

fn child_of(parent: &RelayTx, n: u64) -> RelayTx {
    spending(&[OutPoint { txid: parent.txid, vout: 0 }], n, Some(2))
}

fn wtxid(tx: &RelayTx) -> GenTxid {
    GenTxid::Wtxid(tx.wtxid)
}

fn txid(tx: &RelayTx) -> GenTxid {
    GenTxid::Txid(tx.txid)
}

fn refusal(kind: TxRejectKind, reason: &'static str) -> TxReject {
    TxReject { kind, reason: reason.into(), debug: String::new() }
}

fn missing() -> TxReject {
    refusal(TxRejectKind::MissingInputs, "bad-txns-inputs-missingorspent")
}

fn too_cheap() -> TxReject {
    refusal(TxRejectKind::Reconsiderable, "min relay fee not met")
}

fn not_standard() -> TxReject {
    refusal(TxRejectKind::NotStandard, "dust")
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn delays_add_up() {
    let txid_relay = TxDownloadConnectionInfo { wtxid_relay: false, ..PREFERRED };
    for (others, info, id, delay) in [
        (vec![], PREFERRED, wtxid(&tx(1)), 0),
        (vec![], INBOUND, wtxid(&tx(1)), 2),
        (vec![], txid_relay, txid(&tx(1)), 0),
        (vec![(2, PREFERRED)], txid_relay, txid(&tx(1)), 2),
        (vec![(2, PREFERRED)], TxDownloadConnectionInfo { preferred: false, ..txid_relay }, txid(&tx(1)), 4),
    ] {
        let (mut manager, _) = manager(&others);
        manager.connected_peer(peer(1), info);
        assert!(!manager.add_tx_announcement(peer(1), id, NOW));
        let early = seconds(delay).saturating_sub(Duration::from_micros(1));
        assert_eq!(manager.get_requests_to_send(peer(1), NOW + early).len(), usize::from(delay == 0));
        if delay > 0 {
            assert_eq!(manager.get_requests_to_send(peer(1), NOW + seconds(delay)), [id]);
        }
        assert!(manager.get_requests_to_send(peer(1), NOW + seconds(delay)).is_empty());
    }
}

/// One announcement beyond the requests that a peer has to answer waits longer; one beyond all announcements is
/// ignored. With `relay` permission there is no bound.
#[test]
fn a_peer_with_much_to_answer_is_asked_later_and_then_not_at_all() {
    for relay_permissions in [false, true] {
        let (mut manager, _) = manager(&[(1, TxDownloadConnectionInfo { relay_permissions, ..PREFERRED })]);
        let id = |n: u64| {
            let mut bytes = [7; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            GenTxid::Wtxid(Wtxid::from_byte_array(bytes))
        };
        let in_flight = MAX_PEER_TX_REQUEST_IN_FLIGHT as u64;
        for n in 0..in_flight {
            manager.add_tx_announcement(peer(1), id(n), NOW);
        }
        assert_eq!(manager.get_requests_to_send(peer(1), NOW).len(), MAX_PEER_TX_REQUEST_IN_FLIGHT);
        manager.add_tx_announcement(peer(1), id(in_flight), NOW);
        let at_once = manager.get_requests_to_send(peer(1), NOW);
        assert_eq!(at_once.len(), usize::from(relay_permissions));
        let later = manager.get_requests_to_send(peer(1), NOW + seconds(2));
        assert_eq!(at_once.len() + later.len(), 1);

        let all = MAX_PEER_TX_ANNOUNCEMENTS as u64;
        (0..=all).for_each(|n| assert!(!manager.add_tx_announcement(peer(1), id(n), NOW)));
        assert_eq!(manager.txrequest.count(peer(1)), MAX_PEER_TX_ANNOUNCEMENTS + usize::from(relay_permissions));
        // An orphan needs its parent asked for, so that it is not kept either.
        manager.mempool_rejected_tx(&tx(1), &missing(), peer(1), true, NOW);
        assert_eq!(manager.orphanage.have_tx(&tx(1).wtxid), relay_permissions);
        manager.disconnected_peer(peer(1));
        assert!(manager.check_is_empty());
    }
}

#[test]
fn another_peer_is_asked_after_a_minute_or_a_notfound() {
    for notfound in [false, true] {
        let (mut manager, _) = manager(&[(1, PREFERRED), (2, INBOUND)]);
        let id = wtxid(&tx(1));
        manager.add_tx_announcement(peer(1), id, NOW);
        manager.add_tx_announcement(peer(2), id, NOW);
        assert_eq!(manager.get_requests_to_send(peer(1), NOW), [id]);
        assert!(manager.get_requests_to_send(peer(2), NOW + seconds(59)).is_empty());
        let at = if notfound { seconds(59) } else { GETDATA_TX_INTERVAL };
        if notfound {
            manager.received_notfound(peer(1), &[id]);
        }
        assert_eq!(manager.get_requests_to_send(peer(2), NOW + at), [id]);
        assert!(manager.get_requests_to_send(peer(1), NOW + at).is_empty());
    }
}

#[test]
fn what_is_known_is_not_asked_for() {
    let (mut manager, mempool) = manager(&[(1, PREFERRED)]);
    let (pooled, refused, cheap, confirmed) = (tx(1), tx(2), tx(3), tx(4));
    mempool.add(&pooled);
    manager.mempool_rejected_tx(&refused, &not_standard(), peer(1), true, NOW);
    manager.mempool_rejected_tx(&cheap, &too_cheap(), peer(1), true, NOW);
    manager.block_connected(&[confirmed.tx.as_ref().clone()]);
    for (tx, by_wtxid, by_txid) in [
        (&pooled, true, true),
        (&refused, true, false),
        (&cheap, true, false),
        (&confirmed, true, true),
        (&tx(5), false, false),
    ] {
        assert_eq!(manager.add_tx_announcement(peer(1), wtxid(tx), NOW), by_wtxid);
        assert_eq!(manager.add_tx_announcement(peer(1), txid(tx), NOW), by_txid);
    }
    manager.disconnected_peer(peer(1));

    // A new tip makes what was refused worth asking for; a tip less, what was confirmed.
    manager.connected_peer(peer(1), PREFERRED);
    manager.active_tip_change();
    manager.block_disconnected();
    for tx in [&refused, &cheap, &confirmed] {
        assert!(!manager.add_tx_announcement(peer(1), wtxid(tx), NOW));
    }
}

#[test]
fn what_came_meanwhile_is_not_asked_for() {
    let (mut manager, mempool) = manager(&[(1, PREFERRED)]);
    manager.add_tx_announcement(peer(1), wtxid(&tx(1)), NOW);
    mempool.add(&tx(1));
    assert!(manager.get_requests_to_send(peer(1), NOW).is_empty());
    assert_eq!(manager.txrequest.size(), 0);
}

/// Core's table of what each refusal leaves in the filters (`txdownload_tests`).
#[test]
fn refusals_are_remembered_by_the_ids_that_they_say_something_of() {
    let stripped = refusal(TxRejectKind::WitnessStripped, "mempool-script-verify-flag-failed (Witness required)");
    let inputs = refusal(TxRejectKind::NotStandard, "bad-txns-nonstandard-inputs");
    let internal = refusal(TxRejectKind::Internal, "coins-unreadable");
    // Whether the wtxid is known, the txid is, and only until a package comes; whether it is kept for compact blocks.
    for (reject, by_wtxid, by_txid, reconsiderable, extra) in [
        (not_standard(), true, false, false, true),
        (inputs, true, true, false, true),
        (too_cheap(), false, false, true, true),
        (stripped, false, false, false, false),
        (internal, false, false, false, false),
    ] {
        let (mut manager, _) = manager(&[(1, PREFERRED)]);
        let tx = tx(1);
        let todo = manager.mempool_rejected_tx(&tx, &reject, peer(1), true, NOW);
        assert_eq!(todo.should_add_extra_compact_tx, extra, "{reject}");
        assert!(todo.unique_parents.is_empty() && todo.package_to_validate.is_none());
        assert_eq!(manager.already_have_tx(&wtxid(&tx), false), by_wtxid, "{reject}");
        assert_eq!(manager.already_have_tx(&txid(&tx), false), by_txid, "{reject}");
        assert_eq!(manager.already_have_tx(&wtxid(&tx), true), by_wtxid || reconsiderable, "{reject}");
        assert_eq!(manager.received_tx(peer(1), &tx).0, !by_wtxid && !reconsiderable, "{reject}");
    }
}

#[test]
fn an_orphans_parents_are_asked_of_all_who_announced_it() {
    let (mut manager, mempool) = manager(&[(1, PREFERRED), (2, PREFERRED), (3, INBOUND)]);
    let (here, first, second) = (tx(1), tx(2), tx(3));
    mempool.add(&here);
    let outputs = [&here, &first, &second].map(|tx| OutPoint { txid: tx.txid, vout: 0 });
    let orphan = spending(&outputs, 9, Some(3));
    manager.add_tx_announcement(peer(1), wtxid(&orphan), NOW);
    manager.add_tx_announcement(peer(2), wtxid(&orphan), NOW);
    manager.get_requests_to_send(peer(1), NOW);
    assert_eq!(manager.received_tx(peer(1), &orphan), (true, None));
    let todo = manager.mempool_rejected_tx(&orphan, &missing(), peer(1), true, NOW);
    let missing_parents: BTreeSet<Txid> = [first.txid, second.txid].into();
    assert_eq!(todo.unique_parents.iter().copied().collect::<BTreeSet<_>>(), missing_parents);
    assert!(todo.should_add_extra_compact_tx);
    // One who announces it afterwards is a candidate too.
    assert!(manager.add_tx_announcement(peer(3), wtxid(&orphan), NOW));
    let announcers = manager.get_orphan_transactions().remove(0).announcers;
    assert_eq!(announcers, [1, 2, 3].map(peer));

    // By txid, so that it waits for those who announce wtxids.
    assert!([1, 2, 3].iter().all(|n| manager.get_requests_to_send(peer(*n), NOW).is_empty()));
    let mut asked: BTreeSet<GenTxid> = BTreeSet::new();
    for n in [1, 2] {
        asked.extend(manager.get_requests_to_send(peer(n), NOW + TXID_RELAY_DELAY));
    }
    assert_eq!(asked, missing_parents.into_iter().map(GenTxid::Txid).collect());
    manager.disconnected_peer(peer(1));
    manager.disconnected_peer(peer(2));
    assert_eq!(manager.get_requests_to_send(peer(3), NOW + seconds(4)).len(), 2);

    // With a parent comes its turn.
    manager.mempool_accepted_tx(&first);
    assert!(manager.have_more_work(peer(3)));
    assert_eq!(manager.get_tx_to_reconsider(peer(3)).map(|tx| tx.wtxid), Some(orphan.wtxid));
    assert!(!manager.have_more_work(peer(3)));
    manager.mempool_rejected_tx(&orphan, &missing(), peer(3), false, NOW);
    assert!(manager.orphanage.have_tx(&orphan.wtxid));
    manager.mempool_accepted_tx(&second);
    assert!(manager.have_more_work(peer(3)));
    manager.mempool_accepted_tx(&orphan);
    assert!(!manager.have_more_work(peer(3)) && manager.get_orphan_transactions().is_empty());
}

#[test]
fn an_orphan_of_refused_parents_is_refused_by_both_ids() {
    // Without witnesses, so that they are remembered by the id that their child names.
    let [cheap, cheap_too, refused] =
        [1, 2, 3].map(|n| spending(&[OutPoint { txid: tx(7).txid, vout: n }], u64::from(n), None));
    for (parents, kept) in [
        (vec![&cheap], true),
        (vec![&cheap, &tx(9)], true),
        (vec![&cheap, &cheap_too], false),
        (vec![&refused], false),
        (vec![&tx(9), &refused], false),
    ] {
        let (mut manager, _) = manager(&[(1, PREFERRED)]);
        manager.mempool_rejected_tx(&cheap, &too_cheap(), peer(1), true, NOW);
        manager.mempool_rejected_tx(&cheap_too, &too_cheap(), peer(1), true, NOW);
        manager.mempool_rejected_tx(&refused, &not_standard(), peer(1), true, NOW);
        let outputs: Vec<OutPoint> = parents.iter().map(|tx| OutPoint { txid: tx.txid, vout: 0 }).collect();
        let orphan = spending(&outputs, 9, Some(1));
        let todo = manager.mempool_rejected_tx(&orphan, &missing(), peer(1), true, NOW);
        assert_eq!(manager.orphanage.have_tx(&orphan.wtxid), kept);
        assert_eq!(todo.unique_parents.len(), if kept { parents.len() } else { 0 });
        assert_eq!(manager.already_have_tx(&txid(&orphan), false), !kept);
    }
}

/// A parent that came with another child since does not count.
#[test]
fn an_orphan_may_pay_for_one_parent_besides_those_that_are_here() {
    let parents = [1, 2].map(|n| spending(&[OutPoint { txid: tx(7).txid, vout: n }], u64::from(n), None));
    let orphan = spending(&[0, 1].map(|n| OutPoint { txid: parents[n].txid, vout: 0 }), 9, Some(1));
    for here in [false, true] {
        let (mut manager, mempool) = manager(&[(1, PREFERRED)]);
        for parent in &parents {
            manager.mempool_rejected_tx(parent, &too_cheap(), peer(1), true, NOW);
        }
        if here {
            mempool.add(&parents[0]);
        }
        let todo = manager.mempool_rejected_tx(&orphan, &missing(), peer(1), true, NOW);
        assert_eq!(manager.orphanage.have_tx(&orphan.wtxid), here);
        assert_eq!(todo.unique_parents, if here { vec![parents[1].txid] } else { vec![] });
    }
}

#[test]
fn an_orphan_is_kept_for_compact_blocks_once_and_never_if_it_was_refused() {
    let (mut manager, _) = manager(&[(1, PREFERRED), (2, PREFERRED)]);
    let orphan = child_of(&tx(1), 1);
    for (from, first_time, extra) in [(1, false, false), (1, true, true), (2, true, false)] {
        let todo = manager.mempool_rejected_tx(&orphan, &missing(), peer(from), first_time, NOW);
        assert_eq!(todo.should_add_extra_compact_tx, extra);
        assert_eq!(manager.orphanage.have_tx_from_peer(&orphan.wtxid, peer(from)), first_time);
    }
    manager.mempool_rejected_tx(&orphan, &not_standard(), peer(1), false, NOW);
    manager.mempool_rejected_tx(&orphan, &missing(), peer(1), true, NOW);
    assert!(!manager.orphanage.have_tx(&orphan.wtxid));
}

#[test]
fn a_parent_is_not_tried_with_a_child_that_no_witness_helps() {
    let (mut manager, _) = manager(&[(1, PREFERRED)]);
    let parent = tx(1);
    let output = [OutPoint { txid: parent.txid, vout: 0 }];
    manager.mempool_rejected_tx(&spending(&output, 5, Some(1)), &missing(), peer(1), true, NOW);
    let inputs = refusal(TxRejectKind::NotStandard, "bad-txns-nonstandard-inputs");
    manager.mempool_rejected_tx(&spending(&output, 5, Some(2)), &inputs, peer(1), true, NOW);
    let todo = manager.mempool_rejected_tx(&parent, &too_cheap(), peer(1), true, NOW);
    assert_eq!(todo.package_to_validate, None);
}

#[test]
fn a_parent_that_pays_too_little_is_tried_with_each_child_of_its_sender_once_latest_first() {
    let (mut manager, _) = manager(&[(1, PREFERRED), (2, PREFERRED)]);
    let parent = tx(1);
    let children = [child_of(&parent, 1), child_of(&parent, 2)];
    let foreign = child_of(&parent, 3);
    for child in &children {
        manager.mempool_rejected_tx(child, &missing(), peer(1), true, NOW);
    }
    manager.mempool_rejected_tx(&foreign, &missing(), peer(2), true, NOW);
    assert_eq!(manager.received_tx(peer(1), &parent), (true, None));
    let todo = manager.mempool_rejected_tx(&parent, &too_cheap(), peer(1), true, NOW);
    let tried = |package: Option<PackageToValidate>| {
        package.map(|package| {
            assert_eq!((package.txns[0].wtxid, package.senders), (parent.wtxid, [peer(1); 2]));
            package.txns[1].wtxid
        })
    };
    assert_eq!(tried(todo.package_to_validate), Some(children[1].wtxid));
    manager.mempool_rejected_package(&[parent.clone(), children[1].clone()]);
    let (validate, package) = manager.received_tx(peer(1), &parent);
    assert!(!validate);
    assert_eq!(tried(package), Some(children[0].wtxid));
    manager.mempool_rejected_package(&[children[0].clone(), parent.clone()]);
    assert_eq!(manager.received_tx(peer(1), &parent), (false, None));
    let (_, package) = manager.received_tx(peer(2), &parent);
    assert_eq!(package.map(|package| package.txns[1].wtxid), Some(foreign.wtxid));
}

#[test]
fn a_block_removes_orphans_and_requests() {
    let (mut manager, _) = manager(&[(1, PREFERRED)]);
    let orphan = child_of(&tx(1), 1);
    manager.mempool_rejected_tx(&orphan, &missing(), peer(1), true, NOW);
    manager.add_tx_announcement(peer(1), wtxid(&tx(2)), NOW);
    manager.block_connected(&[tx(1), orphan, tx(2)].map(|tx| tx.tx.as_ref().clone()));
    assert!(manager.check_is_empty_for(peer(1)));
    assert_eq!(manager.txrequest.size(), 0);
}

#[test]
fn an_orphan_with_other_witnesses_does_not_keep_a_transaction_out() {
    let (mut manager, _) = manager(&[(1, PREFERRED), (2, PREFERRED)]);
    let output = [OutPoint { txid: tx(1).txid, vout: 0 }];
    let (malleated, true_one) = (spending(&output, 5, Some(8)), spending(&output, 5, Some(9)));
    assert_eq!(malleated.txid, true_one.txid);
    manager.mempool_rejected_tx(&malleated, &missing(), peer(1), true, NOW);
    assert!(!manager.add_tx_announcement(peer(2), txid(&true_one), NOW));
    assert!(!manager.add_tx_announcement(peer(2), wtxid(&true_one), NOW));
    assert_eq!(manager.received_tx(peer(2), &true_one), (true, None));
    // Without witnesses its txid is its wtxid.
    let plain = spending(&output, 6, None);
    manager.mempool_rejected_tx(&plain, &missing(), peer(1), true, NOW);
    assert!(manager.add_tx_announcement(peer(2), txid(&plain), NOW));
}

#[derive(Debug, Clone)]
enum Event {
    Wait(u64),
    Connect { peer: u64, info: u8 },
    Disconnect(u64),
    Inv { peer: u64, tx: usize, by_wtxid: bool },
    Poll(u64),
    Tx { peer: u64, tx: usize, verdict: u8 },
    NotFound { peer: u64, tx: usize },
    Reconsider { peer: u64, verdict: u8 },
    Block(usize),
    Undo,
    Tip,
}

fn event(txs: usize) -> impl Strategy<Value = Event> {
    let (peer, tx) = (0u64..4, 0..txs);
    prop_oneof![
        1 => (0u64..70).prop_map(Event::Wait),
        1 => (peer.clone(), 0u8..8).prop_map(|(peer, info)| Event::Connect { peer, info }),
        1 => peer.clone().prop_map(Event::Disconnect),
        4 => (peer.clone(), tx.clone(), any::<bool>())
            .prop_map(|(peer, tx, by_wtxid)| Event::Inv { peer, tx, by_wtxid }),
        3 => peer.clone().prop_map(Event::Poll),
        5 => (peer.clone(), tx.clone(), any::<u8>()).prop_map(|(peer, tx, verdict)| Event::Tx { peer, tx, verdict }),
        1 => (peer.clone(), tx.clone()).prop_map(|(peer, tx)| Event::NotFound { peer, tx }),
        2 => (peer, any::<u8>()).prop_map(|(peer, verdict)| Event::Reconsider { peer, verdict }),
        1 => tx.prop_map(Event::Block),
        1 => Just(Event::Undo),
        1 => Just(Event::Tip),
    ]
}

/// Transactions in families of a parent, its children and their child, some with other witnesses.
fn family() -> Vec<RelayTx> {
    let mut family = Vec::new();
    for n in 0..4u64 {
        let parent = tx(n + 1);
        let children = [child_of(&parent, 1), child_of(&parent, 2)];
        let outputs = [&children[0], &children[1]].map(|tx| OutPoint { txid: tx.txid, vout: 1 });
        let last = [spending(&outputs, n, None), spending(&outputs, n, Some(1)), spending(&outputs, n, Some(2))];
        family.extend([parent].into_iter().chain(children).chain(last));
    }
    family
}

/// What the mempool says of a transaction, and what that leads to; returns whether it took it.
fn validate(
    manager: &mut TxDownloadManager<Mempool>,
    mempool: &Mempool,
    tx: &RelayTx,
    from: PeerId,
    verdict: u8,
    first: bool,
    now: Time,
) {
    let reject = match verdict % 6 {
        0 => {
            mempool.add(tx);
            manager.mempool_accepted_tx(tx);
            assert!(!manager.orphanage.have_tx(&tx.wtxid));
            assert!(manager.already_have_tx(&wtxid(tx), false));
            return;
        }
        1 => not_standard(),
        2 => too_cheap(),
        3 => refusal(TxRejectKind::WitnessStripped, "mempool-script-verify-flag-failed (x)"),
        4 => refusal(TxRejectKind::NotStandard, "bad-txns-nonstandard-inputs"),
        _ => missing(),
    };
    let todo = manager.mempool_rejected_tx(tx, &reject, from, first, now);
    assert!(reject.kind == TxRejectKind::MissingInputs || todo.unique_parents.is_empty());
    assert!(reject.kind == TxRejectKind::MissingInputs || !manager.orphanage.have_tx(&tx.wtxid));
    if let Some(package) = todo.package_to_validate {
        assert!(first && reject == too_cheap());
        assert_eq!(package.txns[0].wtxid, tx.wtxid);
        assert!(unique_parents(&package.txns[1].tx).contains(&tx.txid));
        manager.mempool_rejected_package(&package.txns);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// As Core's fuzz target `txdownloadman`.
    #[test]
    fn any_sequence_of_messages_asks_for_nothing_known_and_leaves_nothing_behind(
        events in prop::collection::vec(event(24), 1..150)
    ) {
        let family = family();
        let (mut manager, mempool) = manager(&[]);
        let mut now = NOW;
        for event in events {
            match event {
                Event::Wait(delay) => now += seconds(delay),
                Event::Connect { peer: n, info } => manager.connected_peer(peer(n), TxDownloadConnectionInfo {
                    preferred: info & 1 == 1,
                    relay_permissions: info & 2 == 2,
                    wtxid_relay: info & 4 == 4,
                }),
                Event::Disconnect(n) => {
                    manager.disconnected_peer(peer(n));
                    assert!(manager.check_is_empty_for(peer(n)));
                }
                Event::Inv { peer: n, tx, by_wtxid } => {
                    let id = if by_wtxid { wtxid(&family[tx]) } else { txid(&family[tx]) };
                    let known = manager.already_have_tx(&id, true);
                    assert_eq!(manager.add_tx_announcement(peer(n), id, now), known);
                }
                Event::Poll(n) => {
                    for id in manager.get_requests_to_send(peer(n), now) {
                        assert!(!manager.already_have_tx(&id, false));
                        assert!(manager.peers.contains_key(&peer(n)));
                        assert!(manager.txrequest.count_in_flight(peer(n)) > 0);
                    }
                }
                Event::Tx { peer: n, tx, verdict } => {
                    let (should_validate, package) = manager.received_tx(peer(n), &family[tx]);
                    assert_eq!(should_validate, !manager.already_have_tx(&wtxid(&family[tx]), true));
                    match package {
                        Some(package) => {
                            assert!(!should_validate);
                            assert!(package.txns.iter().all(|tx| !manager.already_have_tx(&wtxid(tx), false)
                                || manager.orphanage.have_tx(&tx.wtxid)));
                            manager.mempool_rejected_package(&package.txns);
                        }
                        None if should_validate => {
                            validate(&mut manager, &mempool, &family[tx], peer(n), verdict, true, now);
                        }
                        None => {}
                    }
                }
                Event::NotFound { peer: n, tx } => {
                    manager.received_notfound(peer(n), &[wtxid(&family[tx]), txid(&family[tx])]);
                }
                Event::Reconsider { peer: n, verdict } => {
                    let had = manager.have_more_work(peer(n));
                    let orphan = manager.get_tx_to_reconsider(peer(n));
                    assert_eq!(orphan.is_some(), had);
                    if let Some(orphan) = orphan {
                        validate(&mut manager, &mempool, &orphan, peer(n), verdict, false, now);
                    }
                }
                Event::Block(tx) => {
                    manager.block_connected(&[family[tx].tx.as_ref().clone()]);
                    assert!(manager.already_have_tx(&wtxid(&family[tx]), false));
                    assert!(!manager.orphanage.have_tx(&family[tx].wtxid));
                }
                Event::Undo => manager.block_disconnected(),
                Event::Tip => manager.active_tip_change(),
            }
        }
        (0..4).for_each(|n| manager.disconnected_peer(peer(n)));
        assert!(manager.check_is_empty());
    }
}
