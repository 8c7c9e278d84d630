//! Clients that many processes count together, on Redis: one script a request, by Redis' clock.

use super::{
    Decision,
    gcra::{Exact, Moment},
};
use crate::redis::{Failure, Redis};
use ::redis::{ErrorKind, ServerErrorKind, cmd};
use std::fmt::Write as _;

const SCRIPT: &str = include_str!("gcra.lua");

/// The script, and what Redis calls it: the SHA-1 of its text, once it has it.
#[derive(Debug)]
pub(super) struct Shared {
    redis: Redis,
    name: String,
}

/// Whether it passes, Redis' time, and when the allowance is whole.
type Answer = (u8, u64, u64, u32);

impl Shared {
    pub(super) fn new(redis: Redis) -> Self {
        use sha1::Digest as _;
        let name = sha1::Sha1::digest(SCRIPT).iter().fold(String::new(), |mut name, byte| {
            write!(name, "{byte:02x}").expect("a string takes all");
            name
        });
        Self { redis, name }
    }

    /// `None` while Redis is away.
    pub(super) async fn check(&self, scope: &str, client: &str, quota: Exact) -> Option<Decision> {
        let (decision, _) = self.answer(scope, client, quota).await?;
        Some(decision)
    }

    /// Also Redis' time.
    async fn answer(&self, scope: &str, client: &str, quota: Exact) -> Option<(Decision, u64)> {
        if quota.requests == 0 {
            return Some((quota.pass(0, &mut Moment::default()), 0));
        }
        let run = |how: &str, what: &str| {
            let mut command = cmd(how);
            command.arg(what).arg(1).arg(key(scope, client)).arg(quota.requests).arg(quota.window);
            command
        };
        let mut answer = self.redis.call::<Answer>(&run("EVALSHA", &self.name)).await;
        if let Err(Failure::Refused(error)) = &answer
            && error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
        {
            // A Redis that was started anew; it keeps the script from now on.
            answer = self.redis.call(&run("EVAL", SCRIPT)).await;
        }
        match answer {
            Ok((allowed, now, micros, part)) => {
                let whole = Moment { micros, part };
                Some((quota.decision(allowed == 1, now, whole), now))
            }
            Err(Failure::Away) => None,
            Err(Failure::Refused(error)) => {
                tracing::warn!(%error, "Redis refuses to count requests: counting in this process");
                None
            }
        }
    }
}

/// Scopes are ours and hold no colon.
fn key(scope: &str, client: &str) -> String {
    format!("cairn:limit:{scope}:{client}")
}

#[cfg(test)]
mod tests {
    use super::super::gcra::tests::{Bucket, quota};
    use super::*;
    use crate::testing::RedisServer;
    use proptest::{prelude::*, test_runner::TestRunner};

    /// The script reckons as the bucket does, at whatever time Redis says it is.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_script_decides_as_a_bucket_of_tokens() {
        let Some(server) = RedisServer::start() else { return };
        let shared = Shared::new(Redis::open(&server.url()).unwrap());
        let mut runner = TestRunner::new(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() });
        let runtime = tokio::runtime::Handle::current();
        let result = tokio::task::block_in_place(|| {
            runner.run(&(quota(), 1..60usize), |(quota, requests)| {
                let client = format!("{:x}", rand::random::<u128>());
                let mut bucket = None;
                for _ in 0..requests {
                    let (decision, now) =
                        runtime.block_on(shared.answer("test", &client, quota)).expect("Redis answers");
                    prop_assert_eq!(decision, bucket.get_or_insert_with(|| Bucket::full(quota, now)).pass(now));
                }
                Ok(())
            })
        });
        result.unwrap();
    }

    #[tokio::test]
    async fn any_value_that_is_there_gives_an_answer() {
        let Some(server) = RedisServer::start() else { return };
        let redis = Redis::open(&server.url()).unwrap();
        let shared = Shared::new(redis.clone());
        let quota = Exact { requests: 7, window: 60_000_000 };
        for value in [
            "",
            "x",
            "1",
            "9999999999999999 9999999",
            "99999999999999999999999999 0",
            "1 99999999999999999999",
            "-1 -1",
            "1 2 3",
        ] {
            redis.call::<()>(cmd("SET").arg(key("test", "client")).arg(value)).await.unwrap();
            let decision = shared.check("test", "client", quota).await.expect("answers");
            assert!(decision.remaining < 7, "{value:?}");
            assert!(decision.reset <= std::time::Duration::from_secs(60), "{value:?}: {decision:?}");
        }
    }

    #[tokio::test]
    async fn what_is_kept_expires_when_the_allowance_is_whole() {
        let Some(server) = RedisServer::start() else { return };
        let redis = Redis::open(&server.url()).unwrap();
        let shared = Shared::new(redis.clone());
        let quota = Exact { requests: 10, window: 3_600_000_000 };
        shared.check("test", "client", quota).await.expect("answers");
        let left: i64 = redis.call(cmd("PTTL").arg(key("test", "client"))).await.unwrap();
        assert!((300_000..=360_001).contains(&left), "{left}");
    }
}
