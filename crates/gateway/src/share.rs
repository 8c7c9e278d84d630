//! One strategy for all gateways of a database: it is kept there by name, and read every second.

use crate::core::{Core, Sharing};
use crate::strategy::Strategy;
use cairn_store::{Store, StoreError, StoreOptions};
use std::sync::Arc;
use std::time::Duration;

/// Its name among the database's values.
const KEY: &str = "gateway.strategy";
/// Between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

/// The database that gateways share.
#[derive(Debug, Clone)]
pub struct Database {
    /// `sqlite://PATH` or `postgres://…`.
    pub url: String,
    /// How it is opened.
    pub options: StoreOptions,
}

/// Keeps the strategy what the database says, and the database what was asked for here. Does not return.
pub(crate) async fn run(core: Arc<Core>, database: Database) {
    let mut store = None;
    let mut asked = core.switched.subscribe();
    loop {
        match exchange(&core, &database, &mut store).await {
            Ok(()) => core.set_sharing(Sharing::Shared),
            Err(error) => {
                let reason = error.to_string();
                if core.sharing() != Sharing::Unreachable(reason.clone()) {
                    tracing::warn!(reason, "the strategy is not shared");
                }
                core.set_sharing(Sharing::Unreachable(reason));
            }
        }
        let wait = tokio::time::sleep(INTERVAL);
        tokio::select! {
            () = wait => {}
            _ = asked.changed() => {}
        }
    }
}

/// Writes what was asked for here, or reads what was asked for elsewhere.
async fn exchange(core: &Core, database: &Database, store: &mut Option<Store>) -> Result<(), StoreError> {
    let store = match store {
        Some(store) => store,
        None => store.insert(Store::open(&database.url, &database.options).await?),
    };
    let wish = *core.switched.borrow();
    if let Some(strategy) = wish {
        let mut transaction = store.begin().await?;
        transaction.set_meta(KEY, strategy.name().as_bytes()).await?;
        transaction.commit().await?;
        // Unless somebody asked for another one meanwhile.
        core.switched.send_if_modified(|now| if *now == wish { now.take().is_some() } else { false });
        return Ok(());
    }
    let kept = store.meta(KEY).await?;
    let strategy = kept.and_then(|name| std::str::from_utf8(&name).ok()?.parse::<Strategy>().ok());
    if let Some(strategy) = strategy
        && core.switched.borrow().is_none()
        && core.pool.chooser.strategy() != strategy
    {
        tracing::info!(%strategy, "the strategy was switched by another gateway");
        core.pool.chooser.switch(strategy);
    }
    Ok(())
}
