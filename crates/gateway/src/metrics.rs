//! `/metrics`: Prometheus' text format.

use crate::admin::is_healthy;
use crate::backend::Backend;
use crate::core::Core;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    /// One sample a backend.
    fn each(&mut self, backends: &[Arc<Backend>], name: &str, kind: &str, help: &str, value: impl Fn(&Backend) -> u64) {
        self.family(name, kind, help);
        for backend in backends {
            self.sample(name, &label(backend), value(backend));
        }
    }
}

fn label(backend: &Backend) -> String {
    format!("backend=\"{}\"", backend.address)
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The page.
pub(crate) fn render(core: &Core, now: Instant) -> String {
    let (totals, backends) = (&core.totals, core.pool.all());
    let mut page = Page(String::with_capacity(8192));
    page.one("cairn_gateway_requests_total", "counter", "Requests of clients", load(&totals.requests));
    page.family("cairn_gateway_responses_total", "counter", "Answers to clients by the class of their status");
    for (class, count) in CLASSES.iter().zip(&totals.responses) {
        page.sample("cairn_gateway_responses_total", &format!("class=\"{class}\""), load(count));
    }
    let counters = [
        ("aborted", "Clients that went before their answer", &totals.aborted),
        ("refused", "Heads of requests that were malformed, too long or too slow", &totals.refused),
        ("retries", "Requests that were repeated", &totals.retries),
        ("unavailable", "Requests for which no backend was healthy", &totals.unavailable),
        ("rate_limited", "Requests over their client's limit", &totals.limited),
        ("connections", "Connections of clients", &totals.connections),
        ("connections_shed", "Idle connections of clients that had to make room", &totals.shed),
    ];
    for (name, help, counter) in counters {
        page.one(&format!("cairn_gateway_{name}_total"), "counter", help, load(counter));
    }
    page.one("cairn_gateway_open_connections", "gauge", "Connections of clients that are open", load(&core.open));
    page.family("cairn_gateway_strategy", "gauge", "1 for the strategy in force");
    for strategy in crate::strategy::Strategy::ALL {
        let active = u8::from(strategy == core.pool.chooser.strategy());
        page.sample("cairn_gateway_strategy", &format!("strategy=\"{strategy}\""), active);
    }

    let all = &backends;
    let name = "cairn_gateway_backend_up";
    page.each(all, name, "gauge", "1 where a backend gets requests", |backend| backend.is_up(now).into());
    let name = "cairn_gateway_backend_healthy";
    page.each(all, name, "gauge", "1 where a backend passes its checks", |backend| is_healthy(backend).into());
    let name = "cairn_gateway_backend_active_requests";
    page.each(all, name, "gauge", "Requests of a backend that are open", |backend| backend.active().into());
    let name = "cairn_gateway_backend_weight";
    page.each(all, name, "gauge", "Weight of a backend", |backend| backend.weight().into());
    let name = "cairn_gateway_backend_requests_total";
    page.each(all, name, "counter", "Requests to a backend", |backend| load(&backend.counters.requests));
    let name = "cairn_gateway_backend_errors_total";
    let help = "Requests that a backend did not answer properly";
    page.each(all, name, "counter", help, |backend| load(&backend.counters.errors));
    let name = "cairn_gateway_backend_retries_total";
    let help = "Requests of a backend that were repeated";
    page.each(all, name, "counter", help, |backend| load(&backend.counters.retries));
    let name = "cairn_gateway_backend_connections_total";
    page.each(all, name, "counter", "Connections to a backend", |backend| load(&backend.counters.connections));
    let name = "cairn_gateway_backend_failed_checks_total";
    page.each(all, name, "counter", "Checks that a backend failed", |backend| load(&backend.counters.failed_checks));
    let name = "cairn_gateway_backend_ejections_total";
    page.each(all, name, "counter", "Ejections of a backend", |backend| load(&backend.counters.ejections));
    page.family(
        "cairn_gateway_backend_responses_total",
        "counter",
        "Answers of a backend by the class of their status",
    );
    for backend in backends.iter() {
        for (class, count) in CLASSES.iter().zip(&backend.counters.responses) {
            page.sample(
                "cairn_gateway_backend_responses_total",
                &format!("{},class=\"{class}\"", label(backend)),
                load(count),
            );
        }
    }
    let name = "cairn_gateway_backend_response_seconds";
    page.family(name, "histogram", "Time from a request to the head of a backend's answer");
    for backend in backends.iter() {
        let (label, latency) = (label(backend), backend.counters.latency.cumulative());
        for (bound, count) in &latency.buckets {
            page.sample(&format!("{name}_bucket"), &format!("{label},le=\"{bound}\""), count);
        }
        page.sample(&format!("{name}_bucket"), &format!("{label},le=\"+Inf\""), latency.count);
        page.sample(&format!("{name}_sum"), &label, latency.sum);
        page.sample(&format!("{name}_count"), &label, latency.count);
    }
    page.0
}
