//! A streaming replica of a private PostgreSQL.

use super::{PostgresServer, as_postgres, database_name, process::wait_until, psql, serve};
use std::{
    path::{Path, PathBuf},
    process::Child,
};

/// A replica in a directory of its own; stopped and deleted when dropped.
#[derive(Debug)]
pub struct PostgresReplica {
    directory: tempfile::TempDir,
    binaries: PathBuf,
    server: Option<Child>,
}

impl PostgresReplica {
    /// Copies `server` as it is (`pg_basebackup`), and follows it.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(server: &PostgresServer) -> Self {
        let directory = tempfile::Builder::new().prefix("cairn-pg").tempdir().expect("a directory");
        let socket = directory.path().join("socket");
        std::fs::create_dir(&socket).expect("made");
        super::give_to_postgres(directory.path()).expect("given");
        let copied = as_postgres(&server.binaries.join("pg_basebackup"))
            .args(["--username=postgres", "--checkpoint=fast", "--no-sync", "-R", "-D"])
            .arg(directory.path().join("data"))
            .arg("-h")
            .arg(server.socket())
            .output()
            .expect("pg_basebackup runs");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let mut replica = Self { directory, binaries: server.binaries.clone(), server: None };
        replica.restart();
        replica
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The URL of a database of the server at its replica, by its own URL.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let socket = self.path("socket");
        format!("postgres://postgres@localhost/{}?host={}", database_name(database), socket.display())
    }

    /// Stops it.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            super::quit(&mut server);
        }
    }

    /// Starts it where it was.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.stop();
        let server = serve(&self.binaries, &self.path("data"), &self.path("socket"), &self.path("log"));
        self.server = Some(server.expect("it starts"));
        wait_until("the replica answers", || self.run("SELECT 1"));
    }

    /// Keeps what the server sends without showing it: the replica lags from here on.
    ///
    /// # Panics
    /// If it does not do so.
    pub fn pause_replay(&self) {
        assert!(self.run("SELECT pg_wal_replay_pause()"), "it pauses");
        wait_until("it has paused", || self.query("SELECT pg_get_wal_replay_pause_state()") == "paused\n");
    }

    /// Shows all that was kept.
    ///
    /// # Panics
    /// If it does not do so.
    pub fn resume_replay(&self) {
        assert!(self.run("SELECT pg_wal_replay_resume()"), "it goes on");
    }

    /// Makes it a server of its own, as a failover does.
    ///
    /// # Panics
    /// If it does not do so.
    pub fn promote(&self) {
        assert!(self.run("SELECT pg_promote()"), "it is promoted");
    }

    fn run(&self, sql: &str) -> bool {
        psql(&self.binaries, Path::new(&self.path("socket")), "postgres", sql)
            .is_ok_and(|output| output.status.success())
    }

    fn query(&self, sql: &str) -> String {
        let output = psql(&self.binaries, &self.path("socket"), "postgres", sql).expect("psql runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for PostgresReplica {
    fn drop(&mut self) {
        self.stop();
    }
}
