//! News of what other processes wrote, so that nobody has to ask all the time.
//!
//! PostgreSQL: `LISTEN` and `NOTIFY`. A notification is sent after the commit and not inside of it: PostgreSQL lets commits
//! that notify pass one at a time, and what is lost with its sender is found by whoever polls, as everybody does now and then.
//! SQLite: every commit writes to the journal's file, which the kernel tells (inotify, Linux).

use crate::{Dialect, Store, StoreError, value::Value};
use sqlx::postgres::{PgListener, PgPoolOptions};
use std::time::Duration;

/// The channel of all notifications.
const CHANNEL: &str = "cairn";
/// How long a notification to ourselves may take before it counts as lost.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// What somebody [announced](Store::announce).
    Announced(String),
    /// Perhaps anything.
    Unknown,
}

/// News, one after the other.
#[derive(Debug)]
pub struct Changes(Source);

#[derive(Debug)]
enum Source {
    Postgres(Box<PgListener>),
    #[cfg(target_os = "linux")]
    Journal(Box<inotify::EventStream<Vec<u8>>>),
}

impl Store {
    /// Listens. `None` where there is no news: the server is behind a pooler that loses them, or the system tells nothing of
    /// files.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn changes(&self) -> Result<Option<Changes>, StoreError> {
        let Some(direct) = self.direct() else { return Ok(self.journal()) };
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let mut listener = PgListener::connect_with(&pool.connect_lazy_with(direct)).await?;
        listener.listen(CHANNEL).await?;
        // A pooler in transaction mode takes LISTEN, and delivers nothing.
        let probe = format!("probe {:032x}", rand::random::<u128>());
        self.announce(&[&probe]).await?;
        let heard = async {
            loop {
                match listener.recv().await {
                    Ok(notification) if notification.payload() == probe => return true,
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
        };
        let heard = tokio::time::timeout(PROBE_TIMEOUT, heard).await.unwrap_or(false);
        Ok(heard.then(|| Changes(Source::Postgres(Box::new(listener)))))
    }

    #[cfg(target_os = "linux")]
    fn journal(&self) -> Option<Changes> {
        let events = inotify::Inotify::init().ok()?;
        events.watches().add(self.journal_file()?, inotify::WatchMask::MODIFY).ok()?;
        Some(Changes(Source::Journal(Box::new(events.into_event_stream(vec![0; 4096]).ok()?))))
    }

    #[cfg(not(target_os = "linux"))]
    fn journal(&self) -> Option<Changes> {
        None
    }

    /// Tells everybody who listens. SQLite's commits tell by themselves.
    ///
    /// # Errors
    /// The database failed.
    pub async fn announce(&self, news: &[&str]) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let news = Value::Texts(news.iter().map(|news| Some((*news).to_owned())).collect());
        let mut transaction = self.begin().await?;
        let sql = "SELECT pg_notify($1, news) FROM unnest($2::text[]) AS news";
        transaction.fetch_all(sql, vec![CHANNEL.into(), news]).await?;
        transaction.commit().await
    }
}

impl Changes {
    /// Waits for the next one.
    ///
    /// # Errors
    /// The connection ended: listen anew, and look what has changed meanwhile.
    pub async fn next(&mut self) -> Result<Change, StoreError> {
        match &mut self.0 {
            Source::Postgres(listener) => match listener.try_recv().await? {
                Some(notification) => Ok(Change::Announced(notification.payload().to_owned())),
                None => Err(StoreError::Unreachable("the connection that listens ended".into())),
            },
            #[cfg(target_os = "linux")]
            Source::Journal(events) => {
                use futures_util::StreamExt as _;
                match events.next().await {
                    Some(Ok(_)) => Ok(Change::Unknown),
                    Some(Err(error)) => Err(StoreError::Unreachable(error.to_string())),
                    None => Err(StoreError::Unreachable("inotify ended".into())),
                }
            }
        }
    }
}
