//! `GET /api/v1/events`: what happens, as server-sent events.
//!
//! One task follows the node and the calendar, numbers every event and keeps the last ones, so that a client that
//! reconnects with `Last-Event-ID` misses nothing that is still kept. A client that reads too slowly is told how many
//! events it missed instead of being waited for.

use super::problem::Problem;
use crate::state::AppState;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use cairn_node::NodeEvent;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

/// Events kept for clients that reconnect, and the most that a slow client may lag behind.
const KEPT: usize = 1024;
/// How often a silent stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One event.
#[derive(Debug)]
pub(crate) struct Published {
    id: u64,
    name: &'static str,
    data: Value,
}

/// Numbers events and hands them to whoever listens.
pub(crate) struct EventHub {
    kept: Mutex<Kept>,
    sender: broadcast::Sender<Arc<Published>>,
    clients: Arc<Semaphore>,
}

struct Kept {
    next_id: u64,
    events: VecDeque<Arc<Published>>,
}

impl EventHub {
    /// A hub for at most this many clients. `first_id` is above every id of an earlier run, such as the time in
    /// microseconds, so that a client that reconnects after a restart is not taken for one that is up to date.
    pub(crate) fn new(max_clients: usize, first_id: u64) -> EventHub {
        EventHub {
            kept: Mutex::new(Kept { next_id: first_id, events: VecDeque::with_capacity(KEPT) }),
            sender: broadcast::channel(KEPT).0,
            clients: Arc::new(Semaphore::new(max_clients)),
        }
    }

    /// Numbers, keeps and sends one event.
    pub(crate) fn publish(&self, name: &'static str, data: Value) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Arc::new(Published { id: kept.next_id, name, data });
        kept.next_id += 1;
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        // Sent under the lock, so that ids arrive in order. An error means that nobody listens.
        let _ = self.sender.send(event);
    }

    /// Events after `last`, and the ones to come. The flag says that some in between are no longer kept.
    fn follow(&self, last: Option<u64>) -> (Vec<Arc<Published>>, bool, broadcast::Receiver<Arc<Published>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.sender.subscribe();
        let Some(last) = last else { return (Vec::new(), false, receiver) };
        let oldest = kept.events.front().map_or(kept.next_id, |event| event.id);
        let missed = last.checked_add(1).is_some_and(|next| next < oldest);
        (kept.events.iter().filter(|event| event.id > last).cloned().collect(), missed, receiver)
    }
}

/// A node's event as its name and data.
pub(crate) fn describe(event: &NodeEvent) -> (&'static str, Value) {
    match event {
        NodeEvent::BlockConnected { entry, transactions } => (
            "block_connected",
            json!({
                "hash": entry.hash.to_string(),
                "height": entry.height,
                "time": entry.header.time,
                "previous_hash": entry.header.prev_blockhash.to_string(),
                "tx_count": transactions,
            }),
        ),
        NodeEvent::BlockDisconnected { entry } => {
            ("block_disconnected", json!({"hash": entry.hash.to_string(), "height": entry.height}))
        }
        NodeEvent::ChainStopped { cause } => ("chain_stopped", json!({"cause": cause})),
        NodeEvent::TransactionAccepted { txid } => ("transaction_accepted", json!({"txid": txid.to_string()})),
    }
}

fn render(event: &Published) -> Event {
    // Event names and JSON hold no line breaks, which is all that could go wrong.
    Event::default().id(event.id.to_string()).event(event.name).data(event.data.to_string())
}

fn missed(count: Option<u64>) -> Event {
    let data = json!({"missed": count, "advice": "read the state again: events were lost to this client"});
    Event::default().event("lagged").data(data.to_string())
}

/// Follow what happens.
///
/// Events: `block_connected`, `block_disconnected`, `transaction_accepted`, `stamp`, `chain_stopped` when the disk failed, and
/// `lagged` when this client missed some. Each has an id; send the last one as `Last-Event-ID` to go on from there.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "chain",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The last event that the client has seen")),
    responses(
        (status = 200, description = "Server-sent events", content_type = "text/event-stream"),
        (status = 503, description = "Too many clients", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let Ok(place) = state.events.clients.clone().try_acquire_owned() else {
        return Problem::unavailable("too many clients follow the events already: try again later").into_response();
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let (kept, lost, receiver) = state.events.follow(last);
    let before =
        lost.then(|| missed(None)).into_iter().chain(kept.iter().map(|event| render(event)).collect::<Vec<_>>());
    let after = BroadcastStream::new(receiver).map(|event| match event {
        Ok(event) => render(&event),
        Err(BroadcastStreamRecvError::Lagged(count)) => missed(Some(count)),
    });
    let closing = state.services.closing.clone();
    let events =
        stream::iter(before.collect::<Vec<_>>()).chain(after).take_until(closing.cancelled_owned()).map(move |event| {
            let _held = &place;
            Ok::<_, Infallible>(event)
        });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_goes_on_where_it_was() {
        let hub = EventHub::new(4, 100);
        for n in 0..3 {
            hub.publish("stamp", json!(n));
        }
        let ids = |events: &[Arc<Published>]| events.iter().map(|event| event.id).collect::<Vec<_>>();
        let (kept, lost, mut receiver) = hub.follow(Some(100));
        assert_eq!((ids(&kept), lost), (vec![101, 102], false));
        hub.publish("stamp", json!(3));
        assert_eq!(receiver.recv().await.unwrap().id, 103);
        let (kept, lost, _) = hub.follow(None);
        assert!(kept.is_empty() && !lost);
        // Before the first that is kept, such as from an earlier run.
        let (kept, lost, _) = hub.follow(Some(7));
        assert_eq!((kept.len(), lost), (4, true));
    }

    #[tokio::test]
    async fn only_the_last_events_are_kept() {
        let hub = EventHub::new(4, 0);
        for n in 0..KEPT + 10 {
            hub.publish("stamp", json!(n));
        }
        let (kept, lost, _) = hub.follow(Some(0));
        assert_eq!((kept.len(), lost), (KEPT, true));
    }
}
