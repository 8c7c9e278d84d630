//! PgBouncer in transaction mode before a private PostgreSQL.

use super::{
    PostgresServer, as_postgres, database_name,
    process::{Process, wait_until},
    psql,
};
use std::path::Path;

/// A pooler with few connections to the server, for all its databases; stopped when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    directory: tempfile::TempDir,
    binaries: std::path::PathBuf,
    _process: Process,
}

impl PgBouncer {
    /// Starts it before `server`; `None`, said loudly, where the machine has no PgBouncer.
    ///
    /// # Panics
    /// If there is one that does not start.
    #[must_use]
    pub fn start(server: &PostgresServer) -> Option<Self> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().map(Path::new).find(|path| path.exists());
        let Some(program) = program else {
            eprintln!("SKIPPED: no pgbouncer: nothing was tested through it");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("cairn-pgbouncer").tempdir().expect("a directory");
        let path = directory.path();
        // Two connections: transactions of one client run on both.
        let configuration = format!(
            "[databases]\n* = host={} user=postgres\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {}\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 200\n",
            server.socket().display(),
            path.display()
        );
        std::fs::write(path.join("pgbouncer.ini"), configuration).expect("written");
        super::give_to_postgres(path).expect("given");
        let process = Process::start(as_postgres(program).arg("pgbouncer.ini"), path);
        let bouncer = Self { binaries: server.binaries.clone(), _process: process, directory };
        wait_until("PgBouncer answers", || {
            let port = "dbname=postgres port=6432";
            psql(&bouncer.binaries, bouncer.directory.path(), port, "SELECT 1")
                .is_ok_and(|output| output.status.success())
        });
        Some(bouncer)
    }

    /// The URL of a database of the server through the pooler, by its own URL.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let socket = self.directory.path().display();
        format!("postgres://postgres@localhost:6432/{}?host={socket}", database_name(database))
    }
}
