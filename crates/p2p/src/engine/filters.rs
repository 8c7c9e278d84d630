//! Block filters (BIP 157) that peers ask for.

use super::{Engine, PeerId};
use crate::filters::FilterRequest;
use crate::work::{FilterAnswer, Job};
use bitcoin::p2p::ServiceFlags;

impl Engine {
    /// Core's `PrepareBlockFilterRequest`, then its answer, made beside the engine.
    pub(super) fn on_filter_request(&mut self, id: PeerId, request: FilterRequest, answer: FilterAnswer) {
        let offered = self.config.services.has(ServiceFlags::COMPACT_FILTERS);
        let stop = self.chain.entry(&request.stop_hash).filter(|entry| self.may_serve(entry)).map(|entry| entry.height);
        if let Err(refusal) = request.check(offered, stop) {
            self.disconnect(id, &refusal.to_string());
            return;
        }
        self.with(id, |peer| peer.reading = true);
        self.job(Job::Filters { peer: id, request, answer });
    }
}
