//! Redis as operators run it: plain, with a password, with TLS, with sentinels, as a cluster; restarted and paused while in use.

use cairn_store::testing::{RedisCluster, RedisSentinel, RedisServer};
use cairn_store::{Quota, RateLimiter, Redis, RedisState};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);
/// Ten requests a day: none comes back while a test runs.
const TEN: Quota = Quota { requests: 10, window: Duration::from_secs(86400) };

async fn until_up(redis: &Redis) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while redis.ping().await.is_err() {
        assert!(Instant::now() < deadline, "{:?}", redis.state());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many of so many requests at once pass.
async fn passing(limiters: &[RateLimiter], client: &'static str, requests: usize) -> usize {
    let checks = (0..requests).map(|at| {
        let limiter = limiters[at % limiters.len()].clone();
        tokio::spawn(async move { limiter.check("test", client, TEN).await.allowed })
    });
    let mut passed = 0;
    for check in checks.collect::<Vec<_>>() {
        passed += usize::from(check.await.unwrap());
    }
    passed
}

/// Three processes count together, as far as Redis can tell.
async fn is_shared(url: &str) {
    let limiters: Vec<_> = (0..3).map(|_| RateLimiter::shared(Redis::open(url).unwrap(), 100)).collect();
    assert_eq!(passing(&limiters, "192.0.2.1", 100).await, 10);
    assert_eq!(passing(&limiters, "192.0.2.1", 10).await, 0);
    assert_eq!(passing(&limiters, "192.0.2.2", 3).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_shared_on_a_server() {
    let Some(server) = RedisServer::start() else { return };
    is_shared(&server.url()).await;
    assert_eq!(server.cli(&["DBSIZE"]).trim(), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_shared_behind_a_password() {
    let Some(server) = RedisServer::with_password() else { return };
    is_shared(&server.url()).await;
    let without = server.url().replace(":p%40ss%2Fword%3F@", "");
    let redis = Redis::open(&without).unwrap();
    let error = redis.ping().await.unwrap_err().to_string();
    assert!(error.contains("uthentication required"), "{error}");
    let wrong = server.url().replace("p%40ss", "secret");
    let error = Redis::open(&wrong).unwrap().ping().await.unwrap_err().to_string();
    assert!(error.contains("WRONGPASS") || error.contains("uthentication"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_shared_over_tls() {
    let Some(server) = RedisServer::with_tls() else { return };
    is_shared(&server.url()).await;
    let url = server.url();
    let untrusted = url.split('?').next().unwrap();
    let error = Redis::open(untrusted).unwrap().ping().await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_shared_in_a_cluster() {
    let Some(cluster) = RedisCluster::start() else { return };
    is_shared(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_is_found_again_after_a_failover() {
    let Some(mut sentinel) = RedisSentinel::start() else { return };
    is_shared(&sentinel.url()).await;
    let redis = Redis::open(&sentinel.url()).unwrap();
    until_up(&redis).await;
    sentinel.kill_master();
    assert!(redis.ping().await.is_err());
    until_up(&redis).await;
    let limiter = RateLimiter::shared(redis, 100);
    assert!(limiter.check("test", "192.0.2.3", TEN).await.allowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_goes_on_without_redis_and_returns_to_it() {
    let Some(mut server) = RedisServer::start() else { return };
    let redis = Redis::open(&server.url()).unwrap();
    let limiter = RateLimiter::shared(redis.clone(), 100);
    assert_eq!(redis.state(), RedisState::Unused);
    assert_eq!(passing(std::slice::from_ref(&limiter), "a", 20).await, 10);
    assert_eq!(redis.state(), RedisState::Up);

    server.stop();
    // Alone, each process allows what the quota says.
    assert_eq!(passing(std::slice::from_ref(&limiter), "a", 20).await, 10);
    assert!(matches!(redis.state(), RedisState::Away(_)));

    server.restart();
    until_up(&redis).await;
    assert_eq!(redis.state(), RedisState::Up);
    // The server is empty, and knows no script either.
    assert_eq!(passing(std::slice::from_ref(&limiter), "a", 20).await, 10);
    assert_eq!(server.cli(&["EXISTS", "cairn:limit:test:a"]).trim(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_delays_a_few_requests_only() {
    let Some(server) = RedisServer::start() else { return };
    let redis = Redis::open(&server.url()).unwrap();
    let limiter = RateLimiter::shared(redis.clone(), 100);
    assert!(limiter.check("test", "a", TEN).await.allowed);
    server.pause();
    let mut slow = 0;
    for at in 0..200 {
        let start = Instant::now();
        let client = at.to_string();
        assert!(limiter.check("test", &client, Quota { requests: 1, window: HOUR }).await.allowed);
        // A call that waits takes half a second.
        slow += usize::from(start.elapsed() >= Duration::from_millis(400));
    }
    assert!(matches!(redis.state(), RedisState::Away(_)));
    assert!((1..20).contains(&slow), "{slow} of 200 were slow");
    server.resume();
    until_up(&redis).await;
}

#[tokio::test]
async fn a_redis_that_was_never_there_is_done_without() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://:secret@{}", listener.local_addr().unwrap());
    drop(listener);
    let redis = Redis::open(&url).unwrap();
    let limiter = RateLimiter::shared(redis.clone(), 100);
    for _ in 0..10 {
        assert!(limiter.check("test", "a", TEN).await.allowed);
    }
    assert!(!limiter.check("test", "a", TEN).await.allowed);
    assert!(!format!("{redis:?} {redis} {:?}", redis.state()).contains("secret"));
}

#[test]
fn another_runtime_may_go_on_where_one_has_ended() {
    let Some(server) = RedisServer::start() else { return };
    let redis = Redis::open(&server.url()).unwrap();
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(until_up(&redis));
    }
}
