//! The cache in memory, in the table of both databases, and on Redis, alone and in a cluster.

use bytes::Bytes;
use cairn_store::cache::{Cache, CacheOptions, Layer, LayerStatistics};
use cairn_store::testing::{PgBouncer, PostgresServer, RedisCluster, RedisServer, sqlite_url};
use cairn_store::{Redis, RedisState, Store, StoreOptions};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);

fn in_memory(bytes: u64) -> Cache {
    Cache::new(&CacheOptions { memory_bytes: bytes, ..CacheOptions::default() }, None, None)
}

async fn layer(cache: &Cache, layer: Layer) -> LayerStatistics {
    let statistics = cache.statistics().await;
    *statistics.layers.iter().find(|found| found.layer == layer).expect("it is there")
}

#[tokio::test]
async fn a_value_is_kept_until_it_expires() {
    let cache = in_memory(1 << 20);
    assert_eq!(cache.get("key").await, None);
    cache.put("key", Bytes::from_static(b"value"), HOUR).await;
    assert_eq!(cache.get("key").await.as_deref(), Some(&b"value"[..]));
    cache.put("short", Bytes::from_static(b"value"), Duration::from_millis(20)).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(cache.get("short").await, None);
    let computed = cache.get_or_compute("short", HOUR, async { Ok::<_, Infallible>(Bytes::from_static(b"anew")) });
    assert_eq!(computed.await.unwrap(), &b"anew"[..]);
    cache.put("never", Bytes::from_static(b"value"), Duration::ZERO).await;
    assert_eq!(cache.get("never").await, None);
    cache.put("forever", Bytes::from_static(b"value"), Duration::MAX).await;
    assert_eq!(cache.get("forever").await.as_deref(), Some(&b"value"[..]));
    let memory = layer(&cache, Layer::Memory).await;
    assert_eq!((memory.hits, memory.misses, memory.entries), (2, 4, 3));
}

#[tokio::test]
async fn it_never_holds_more_bytes_than_it_may() {
    let cache = in_memory(1 << 20);
    assert_eq!(layer(&cache, Layer::Memory).await.bytes, 0);
    for key in 0..5000 {
        cache.put(&key.to_string(), Bytes::from(vec![0; 1000]), HOUR).await;
        assert!(layer(&cache, Layer::Memory).await.bytes <= 1 << 20);
    }
    let memory = layer(&cache, Layer::Memory).await;
    assert!(memory.entries > 500, "{memory:?}");
    assert_eq!(memory.entries + memory.evictions, 5000, "{memory:?}");
    cache.put("large", Bytes::from(vec![0; (1 << 20) + 1]), HOUR).await;
    assert_eq!(cache.get("large").await, None);
    cache.clear().await.unwrap();
    let memory = layer(&cache, Layer::Memory).await;
    assert_eq!((memory.entries, memory.bytes), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_ask_at_once_one_computes() {
    let cache = in_memory(1 << 20);
    let computed = Arc::new(AtomicU32::new(0));
    let asking = (0..100).map(|_| {
        let (cache, computed) = (cache.clone(), computed.clone());
        tokio::spawn(async move {
            let compute = async {
                computed.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, Infallible>(Bytes::from_static(b"value"))
            };
            cache.get_or_compute("key", HOUR, compute).await.unwrap()
        })
    });
    for asking in asking.collect::<Vec<_>>() {
        assert_eq!(asking.await.unwrap(), &b"value"[..]);
    }
    assert_eq!(computed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn where_one_fails_or_goes_away_the_next_one_tries() {
    let cache = in_memory(1 << 20);
    let failed = cache.get_or_compute("key", HOUR, async { Err::<Bytes, _>("no") }).await;
    assert_eq!(failed, Err("no"));
    let left = cache.get_or_compute("key", HOUR, std::future::pending::<Result<Bytes, &str>>());
    assert!(tokio::time::timeout(Duration::from_millis(20), left).await.is_err());
    let value = cache.get_or_compute("key", HOUR, async { Ok::<_, &str>(Bytes::from_static(b"value")) }).await;
    assert_eq!(value.as_deref(), Ok(&b"value"[..]));
}

/// What every shared layer does: two processes, each with its own memory.
async fn is_shared(ours: &Cache, theirs: &Cache, which: Layer) {
    let binary: Bytes = (0..=255u8).collect::<Vec<_>>().into();
    ours.put("key with \"spaces\" and ü", binary.clone(), HOUR).await;
    ours.put("short", Bytes::from_static(b"value"), Duration::from_millis(1)).await;
    ours.put("empty", Bytes::new(), HOUR).await;
    ours.flush().await;
    assert_eq!(theirs.get("key with \"spaces\" and ü").await, Some(binary.clone()));
    assert_eq!(theirs.get("empty").await, Some(Bytes::new()));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(theirs.get("short").await, None);
    // From its own memory now.
    let shared = layer(theirs, which).await;
    assert_eq!(theirs.get("key with \"spaces\" and ü").await, Some(binary));
    assert_eq!(layer(theirs, which).await.hits, shared.hits);
    assert_eq!((shared.hits, shared.misses), (2, 1));
    assert!(shared.entries >= 2 && shared.bytes > 256, "{shared:?}");
    assert_eq!(theirs.hits(), [(Layer::Memory, 1), (which, 2)]);

    let never = async { Err::<Bytes, _>("it is there") };
    assert!(theirs.get_or_compute("empty", HOUR, never).await.is_ok());
    let compute = async { Ok::<_, Infallible>(Bytes::from_static(b"computed")) };
    assert_eq!(ours.get_or_compute("new", HOUR, compute).await.unwrap(), &b"computed"[..]);
    ours.flush().await;
    assert_eq!(theirs.get("new").await.as_deref(), Some(&b"computed"[..]));

    ours.clear().await.unwrap();
    assert_eq!(ours.get("new").await, None);
    let deadline = Instant::now() + Duration::from_secs(30);
    while theirs.get("new").await.is_some() {
        assert!(Instant::now() < deadline, "the other process forgets it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(theirs.get("empty").await, None);
    theirs.put("again", Bytes::from_static(b"value"), HOUR).await;
    theirs.flush().await;
    assert_eq!(ours.get("again").await.as_deref(), Some(&b"value"[..]));
}

async fn on_store(url: &str, options: &CacheOptions) -> (Store, Cache) {
    let store = Store::open(url, &StoreOptions::default()).await.expect("opens");
    (store.clone(), Cache::new(options, None, Some(store)))
}

async fn the_table_is_shared(url: &str) {
    let (_, ours) = on_store(url, &CacheOptions::default()).await;
    let (_, theirs) = on_store(url, &CacheOptions::default()).await;
    is_shared(&ours, &theirs, Layer::Table).await;
}

async fn the_table_is_kept_small(url: &str) {
    let options = CacheOptions { table_bytes: 600_000, ..CacheOptions::default() };
    let (_, cache) = on_store(url, &options).await;
    for key in 0..400u64 {
        let ttl = Duration::from_millis(if key < 200 { 1 } else { 3_600_000 });
        cache.put(&key.to_string(), Bytes::from(vec![0; 1000]), ttl).await;
    }
    cache.flush().await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    // Who writes deletes what has expired.
    cache.put("one more", Bytes::new(), HOUR).await;
    cache.flush().await;
    let table = layer(&cache, Layer::Table).await;
    assert_eq!((table.entries, table.evictions), (201, 0));
    assert!((200_000..300_000).contains(&table.bytes), "{table:?}");

    let (_, other) = on_store(url, &CacheOptions { table_bytes: 100_000, ..options }).await;
    other.put("last", Bytes::from_static(b"value"), HOUR * 2).await;
    other.flush().await;
    let table = layer(&other, Layer::Table).await;
    assert!((90_000..=100_000).contains(&table.bytes) && table.evictions > 0, "{table:?}");
    let (_, fresh) = on_store(url, &options).await;
    assert_eq!(fresh.get("last").await.as_deref(), Some(&b"value"[..]), "it expires last");
}

async fn a_database_that_is_gone_is_done_without(url: &str) {
    let (store, cache) = on_store(url, &CacheOptions::default()).await;
    store.close().await;
    let compute = async { Ok::<_, Infallible>(Bytes::from_static(b"value")) };
    assert_eq!(cache.get_or_compute("key", HOUR, compute).await.unwrap(), &b"value"[..]);
    cache.flush().await;
    assert_eq!(cache.get("key").await.as_deref(), Some(&b"value"[..]));
    assert_eq!(cache.statistics().await.layers.len(), 1);
    assert!(cache.clear().await.is_err());
    assert_eq!(cache.get("key").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    for (at, case) in ["shared", "small", "gone"].into_iter().enumerate() {
        let directory = directory.path().join(at.to_string());
        std::fs::create_dir(&directory).unwrap();
        let url = sqlite_url(&directory);
        match case {
            "shared" => the_table_is_shared(&url).await,
            "small" => the_table_is_kept_small(&url).await,
            _ => a_database_that_is_gone_is_done_without(&url).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres() {
    let Some(server) = PostgresServer::start() else { return };
    the_table_is_shared(&server.database()).await;
    the_table_is_kept_small(&server.database()).await;
    a_database_that_is_gone_is_done_without(&server.database()).await;
    let Some(bouncer) = PgBouncer::start(&server) else { return };
    the_table_is_shared(&bouncer.url(&server.database())).await;
    the_table_is_kept_small(&bouncer.url(&server.database())).await;
}

#[tokio::test]
async fn operators_can_query_and_index_the_table() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.database();
    let (_, cache) = on_store(&url, &CacheOptions::default()).await;
    cache.put("sha256:abc", Bytes::from_static(b"value"), HOUR).await;
    cache.flush().await;
    // As the scaling guide prints it.
    let index = "CREATE INDEX CONCURRENTLY idx_cache_key_expires ON cache_entries(cache_key, expires_at);";
    assert_eq!(server.query(&url, index), "");
    let rows = "SELECT cache_key, size, expires_at - created_at BETWEEN 3000000 AND 3600000 FROM cache_entries";
    assert_eq!(server.query(&url, rows), "sha256:abc|15|t\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis() {
    let Some(mut server) = RedisServer::start() else { return };
    let cache = || Cache::new(&CacheOptions::default(), Some(Redis::open(&server.url()).unwrap()), None);
    let (ours, theirs) = (cache(), cache());
    is_shared(&ours, &theirs, Layer::Redis).await;
    assert_eq!(ours.statistics().await.redis, Some(RedisState::Up));

    server.stop();
    let compute = || async { Ok::<_, Infallible>(Bytes::from_static(b"value")) };
    for key in ["a", "b", "a"] {
        assert_eq!(ours.get_or_compute(key, HOUR, compute()).await.unwrap(), &b"value"[..]);
    }
    let statistics = ours.statistics().await;
    assert!(matches!(statistics.redis, Some(RedisState::Away(_))), "{statistics:?}");
    assert_eq!(statistics.layers.len(), 1);
    assert!(ours.clear().await.is_err());

    server.restart();
    let deadline = Instant::now() + Duration::from_secs(60);
    while ours.clear().await.is_err() {
        assert!(Instant::now() < deadline, "it is back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ours.put("back", Bytes::from_static(b"value"), HOUR).await;
    assert_eq!(server.cli(&["EXISTS", "cairn:cache:1:back"]).trim(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_value_of_ours_in_redis_is_none() {
    let Some(server) = RedisServer::start() else { return };
    let cache = Cache::new(&CacheOptions::default(), Some(Redis::open(&server.url()).unwrap()), None);
    for (command, key) in [("SET", "short"), ("SET", "longer text"), ("LPUSH", "list")] {
        let _ = server.cli(&[command, &format!("cairn:cache:0:{key}"), key]);
        assert_eq!(server.cli(&["EXISTS", &format!("cairn:cache:0:{key}")]).trim(), "1");
    }
    assert_eq!(cache.get("short").await, None);
    assert_eq!(cache.get("list").await, None);
    // Any eight bytes are a time, and these are text of the far future.
    assert_eq!(cache.get("longer text").await.as_deref(), Some(&b"ext"[..]));
    let _ = server.cli(&["SET", "cairn:cache:generation", "no number"]);
    let other = Cache::new(&CacheOptions::default(), Some(Redis::open(&server.url()).unwrap()), None);
    let compute = async { Ok::<_, Infallible>(Bytes::from_static(b"value")) };
    assert_eq!(other.get_or_compute("key", HOUR, compute).await.unwrap(), &b"value"[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_of_redis() {
    let Some(cluster) = RedisCluster::start() else { return };
    let cache = || Cache::new(&CacheOptions::default(), Some(Redis::open(&cluster.url()).unwrap()), None);
    is_shared(&cache(), &cache(), Layer::Redis).await;
}
