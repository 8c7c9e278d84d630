//! What is asked often reads an index that holds nothing else, however many tasks there are: by the databases' own word.

use super::{claim, finish, workers};
use crate::testing::{PostgresServer, sqlite_url};
use crate::value::{Value, args};
use crate::{Dialect, Store, StoreOptions, Transaction};

/// Ended tasks, some that are due and a few that run.
const FILL: &str = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000) \
     INSERT INTO tasks (id, type, status, queue, priority, created_at, run_at, max_attempts, payload, worker, claim) \
     SELECT 'id' || (100000 + n), 'type', CASE WHEN n < 16000 THEN 'completed' WHEN n < 19900 THEN 'queued' \
     ELSE 'running' END, 'q', 1, n, n, 5, '{}', CASE WHEN n < 19900 THEN NULL ELSE 'w' END, n FROM n";

async fn plan(transaction: &mut Transaction, sql: &str, args: Vec<Value>) -> String {
    let explain = match transaction.dialect() {
        Dialect::Sqlite => "EXPLAIN QUERY PLAN ",
        Dialect::Postgres => "EXPLAIN ",
    };
    // A statement's text has to last as long as the program; those of this test are few.
    let sql: &'static str = Box::leak((explain.to_owned() + sql).into_boxed_str());
    let column = if transaction.dialect() == Dialect::Sqlite { 3 } else { 0 };
    let rows = transaction.fetch_all(sql, args).await.unwrap();
    rows.iter().map(|row| row.get::<String>(column).unwrap() + "\n").collect()
}

/// A transaction that sees them, and is undone.
async fn filled(url: &str) -> Transaction {
    let store = Store::open(url, &StoreOptions::default()).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    transaction.execute(FILL, Vec::new()).await.unwrap();
    transaction
}

fn texts(count: usize) -> Value {
    Value::Texts((0..count).map(|number| Some(format!("id{number}"))).collect())
}

#[tokio::test]
async fn postgres_reads_no_more_than_it_must() {
    let Some(server) = PostgresServer::start() else { return };
    let mut transaction = filled(&server.database()).await;
    for analyzed in [false, true] {
        if analyzed {
            transaction.execute("ANALYZE tasks", Vec::new()).await.unwrap();
        }
        let claiming = args![
            "w",
            "q",
            1000i64,
            0i64,
            Value::Ints(vec![i64::MIN, 5, 6, 7]),
            Value::Texts(["", "a", "b", "c"].map(|id| Some(id.to_owned())).to_vec()),
        ];
        let completing = |count| vec![texts(count), Value::Ints(vec![1; count]), texts(count), texts(count)];
        let of = [
            ("claim", plan(&mut transaction, claim::CLAIM_POSTGRES, claiming).await, "tasks_due"),
            ("next", plan(&mut transaction, claim::NEXT_POSTGRES, args!["q", 1i64]).await, "tasks_due"),
            ("count", plan(&mut transaction, claim::RUNNING, args!["q"]).await, "tasks_running"),
            ("complete", plan(&mut transaction, finish::COMPLETE_POSTGRES, completing(2000)).await, "tasks_pkey"),
            ("complete one", plan(&mut transaction, finish::COMPLETE_POSTGRES, completing(1)).await, "tasks_pkey"),
            ("lost", plan(&mut transaction, workers::ANY_LOST_POSTGRES, Vec::new()).await, "tasks_running"),
        ];
        for (what, plan, index) in of {
            assert!(plan.contains(index) && !plan.contains("Seq Scan on tasks"), "{what}, {analyzed}:\n{plan}");
            assert!(
                what == "lost" || what == "count" || !plan.contains("tasks_running"),
                "{what}, {analyzed}:\n{plan}"
            );
        }
    }
}

#[tokio::test]
async fn sqlite_reads_no_more_than_it_must() {
    let directory = tempfile::tempdir().unwrap();
    let mut transaction = filled(&sqlite_url(directory.path())).await;
    for analyzed in [false, true] {
        if analyzed {
            transaction.execute("ANALYZE tasks", Vec::new()).await.unwrap();
        }
        let claiming = args!["w", "q", 1000i64, 0i64, 1i64];
        let of = [
            (
                "claim",
                plan(&mut transaction, claim::CLAIM_SQLITE, claiming).await,
                "tasks_due (queue=? AND priority=? AND",
            ),
            (
                "next",
                plan(&mut transaction, claim::NEXT_SQLITE, args!["q", 1i64]).await,
                "tasks_due (queue=? AND priority=?)",
            ),
            ("count", plan(&mut transaction, claim::RUNNING, args!["q"]).await, "tasks_running (queue=?)"),
            ("lost", plan(&mut transaction, workers::ANY_LOST_SQLITE, Vec::new()).await, "tasks_running"),
        ];
        for (what, plan, index) in of {
            assert!(plan.contains(index), "{what}, {analyzed}:\n{plan}");
            assert!(!plan.lines().any(|line| line == "SCAN tasks"), "{what}, {analyzed}:\n{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{what} is sorted, {analyzed}:\n{plan}");
        }
    }
}
