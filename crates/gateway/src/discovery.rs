//! Which backends there should be: addresses as given, and every address of every name, resolved again and again.

use crate::config::BackendSpec;
use crate::core::Core;
use crate::pool::Wanted;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long a resolution may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// All addresses of a name.
async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    tokio::net::lookup_host((host, port)).await.map(Iterator::collect).map_err(|error| error.to_string())
}

/// What the names were resolved to.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    /// By host and port, sorted. One that does not resolve any more keeps its addresses: whether they still serve, the
    /// checks tell better than a name server that is out of order.
    resolved: HashMap<(String, u16), Vec<SocketAddr>>,
}

impl Discovery {
    /// Resolves all names and makes the pool what the configuration says.
    pub(crate) async fn refresh(&mut self, core: &Core) {
        let config = core.config();
        let mut lookups = JoinSet::new();
        for BackendSpec { host, port, .. } in config.backends.iter().filter(|spec| spec.address().is_none()).cloned() {
            lookups.spawn(async move {
                let found = tokio::time::timeout(PATIENCE, addresses(&host, port)).await;
                let found = found.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
                (host, port, found)
            });
        }
        while let Some(lookup) = lookups.join_next().await {
            match lookup {
                Ok((host, port, Ok(mut addresses))) if !addresses.is_empty() => {
                    addresses.sort_unstable();
                    addresses.dedup();
                    self.resolved.insert((host, port), addresses);
                }
                Ok((host, _, Ok(_))) => tracing::warn!(host, "a backend's name has no addresses"),
                Ok((host, _, Err(reason))) => tracing::warn!(host, reason, "a backend's name does not resolve"),
                Err(error) => tracing::warn!(%error, "a resolution ended early"),
            }
        }
        self.resolved
            .retain(|(host, port), _| config.backends.iter().any(|spec| spec.host == *host && spec.port == *port));
        core.pool.apply(&self.wanted(&config.backends), Instant::now());
    }

    fn wanted(&self, specs: &[BackendSpec]) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for spec in specs {
            let weight = spec.weight;
            if let Some(address) = spec.address() {
                wanted.push(Wanted { address, weight, name: None });
                continue;
            }
            let found = self.resolved.get(&(spec.host.clone(), spec.port)).into_iter().flatten();
            wanted.extend(found.map(|address| Wanted { address: *address, weight, name: Some(spec.to_string()) }));
        }
        wanted
    }
}
