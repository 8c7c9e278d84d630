//! The shared layer on Redis: one key a value, which Redis deletes when it expires.

use super::Size;
use crate::{Redis, RedisState, StoreError, redis::Failure};
use ::redis::{Value, cmd};
use bytes::{Buf, Bytes};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often the cache was cleared. The number is a part of every key, so that clearing is one command in a cluster too; what
/// has an older one expires.
const GENERATION: &str = "cairn:cache:generation";

#[derive(Debug)]
pub(super) struct OnRedis(Redis);

fn key(key: &str, generation: u64) -> String {
    format!("cairn:cache:{generation}:{key}")
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl OnRedis {
    pub(super) fn new(redis: Redis) -> Self {
        Self(redis)
    }

    pub(super) fn state(&self) -> RedisState {
        self.0.state()
    }

    /// The value, and how long it may be kept on. It begins with the time of its end, so that one command answers both.
    pub(super) async fn get(&self, name: &str, generation: u64) -> Option<(Bytes, Duration)> {
        let mut command = cmd("GET");
        let answer: Option<Vec<u8>> = heard(self.0.call(command.arg(key(name, generation))).await)?;
        let mut value = Bytes::from(answer?);
        let expires = value.try_get_u64().ok()?;
        let left = expires.checked_sub(now_ms()).filter(|left| *left > 0)?;
        Some((value, Duration::from_millis(left)))
    }

    pub(super) async fn put(&self, name: &str, value: &[u8], ttl: Duration, generation: u64) {
        // Redis takes no time longer than that.
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).min(86_400_000 * 36500);
        if ttl == 0 {
            return;
        }
        let stored = [&now_ms().saturating_add(ttl).to_be_bytes(), value].concat();
        let mut command = cmd("SET");
        command.arg(key(name, generation)).arg(stored).arg("PX").arg(ttl);
        heard(self.0.call::<()>(&command).await);
    }

    /// None while Redis is away.
    pub(super) async fn generation(&self) -> Option<u64> {
        let number: Option<u64> = heard(self.0.call(cmd("GET").arg(GENERATION)).await)?;
        Some(number.unwrap_or(0))
    }

    /// The new generation.
    pub(super) async fn clear(&self) -> Result<u64, StoreError> {
        self.0.call(cmd("INCR").arg(GENERATION)).await.map_err(|failure| match failure {
            Failure::Away => StoreError::Redis("it is away".into()),
            Failure::Refused(error) => StoreError::Redis(error.to_string()),
        })
    }

    pub(super) async fn size(&self) -> Option<Size> {
        let entries = heard(self.0.call(&cmd("DBSIZE")).await)?;
        let information: Value = heard(self.0.call(&cmd("INFO")).await)?;
        let mut text = String::new();
        texts(&information, &mut text);
        Some(Size { entries, bytes: sum(&text, "used_memory:"), evictions: sum(&text, "evicted_keys:") })
    }
}

/// One text a server: in a cluster a map of them.
fn texts(value: &Value, text: &mut String) {
    match value {
        Value::BulkString(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
        Value::VerbatimString { text: more, .. } | Value::SimpleString(more) => text.push_str(more),
        Value::Array(values) => values.iter().for_each(|value| texts(value, text)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, value)| texts(value, text)),
        _ => {}
    }
    text.push('\n');
}

fn sum(text: &str, name: &str) -> u64 {
    text.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).fold(0, u64::saturating_add)
}

fn heard<T>(answer: Result<T, Failure>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(Failure::Away) => None,
        Err(Failure::Refused(error)) => {
            tracing::warn!(%error, "Redis refuses to keep values: going on without it");
            None
        }
    }
}
