#!/usr/bin/env python3
"""Tasks through PostgreSQL, beside graphile-worker on the same server in the same run. Results go into BENCHMARKS.md.

    cargo build --release -p cairn-jobs --example queue
    benches/queue.py target/release/examples/queue ratio     # tasks a second, against graphile-worker
    benches/queue.py target/release/examples/queue workers   # with 1, 2, 4, 8 worker processes
    benches/queue.py target/release/examples/queue depth     # with 1,000 to 1,000,000 tasks queued
    benches/queue.py target/release/examples/queue sqlite    # the last two on a SQLite file

Needs PostgreSQL's programs and, for the ratio, node and npm: graphile-worker is installed into the temporary directory from
npm, in the version that the environment variable GRAPHILE_WORKER names or the newest. Its configuration is the one of its own
performance test (local queue, completions in batches), with the number of processes and the size of the local queue that do
best here. Everything is in a temporary directory, talks over a Unix socket, and ends by itself.
"""

import glob
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TASKS = 100_000  # of a measurement
ROUNDS = 3  # of each, in turns; the median counts
CONFIGURATIONS = [(1, 500), (1, 5000), (2, 500), (2, 5000), (4, 500)]  # processes and local queue of graphile-worker
PROCESSES = [1, 2]  # of ours

PRESET = """
module.exports = { worker: {
  connectionString: process.env.DATABASE_URL, concurrentJobs: 24, maxPoolSize: 25,
  localQueue: { size: Number(process.env.LOCAL_QUEUE), refetchDelay: { durationMs: 10 } },
  completeJobBatchDelay: 0, failJobBatchDelay: 0,
} };
"""
TASK = "module.exports = ({ id }) => { if (id === 999) console.log('found 999'); };\n"
ENQUEUE = """
const { Pool } = require('pg');
const pool = new Pool({ connectionString: process.env.DATABASE_URL });
const jobs = [];
for (let id = 0; id < Number(process.argv[2]); id++) jobs.push({ identifier: 'nothing', payload: { id } });
const start = process.hrtime.bigint();
pool.query('select 1 from graphile_worker.add_jobs(array(select json_populate_recordset(null::graphile_worker.job_spec, $1::json)))',
  [JSON.stringify(jobs)])
  .then(() => { console.log(Number(process.hrtime.bigint() - start) / 1e9); return pool.end(); });
"""


class Postgres:
    """A private server, with its default settings but for room in memory and for the log between checkpoints."""

    SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "listen_addresses": "", "max_connections": "200"}

    def __init__(self, root):
        self.socket, data = f"{root}/socket", f"{root}/data"
        self.bin = max(glob.glob("/usr/lib/postgresql/*/bin"), default=None, key=lambda path: int(path.split("/")[4]))
        if self.bin is None:
            sys.exit("no PostgreSQL server on this machine: apt install postgresql")
        os.makedirs(self.socket)
        as_user = []
        if os.getuid() == 0:  # which PostgreSQL refuses to run as
            os.chmod(root, 0o755)
            os.makedirs(data)
            for path in (self.socket, data):
                shutil.chown(path, "postgres")
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        initdb = [f"{self.bin}/initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "-D", data]
        subprocess.run(as_user + initdb, check=True, stdout=subprocess.DEVNULL)
        settings = [part for name, value in self.SETTINGS.items() for part in ("-c", f"{name}={value}")]
        settings += ["-c", f"unix_socket_directories={self.socket}"]
        server = [f"{self.bin}/postgres", "-D", data, *settings]
        self.server = subprocess.Popen(as_user + server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while self.psql("postgres", "SELECT 1", check=False).returncode:
            time.sleep(0.05)

    def psql(self, database, sql, check=True):
        command = [f"{self.bin}/psql", "-h", self.socket, "-U", "postgres", "-d", database, "-qAtc", sql]
        return subprocess.run(command, check=check, capture_output=True, text=True)

    def fresh(self, name):
        """The URL of an empty database. The one of that name before is dropped, and its dirty pages are written now."""
        self.psql("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.psql("postgres", f"CREATE DATABASE {name}")
        self.settle()
        return f"postgres://postgres@localhost/{name}?host={self.socket}"

    def count(self, name):
        """Tasks of ours that are completed."""
        return int(self.psql(name, "SELECT count(*) FROM tasks WHERE status = 'completed'").stdout)

    def settle(self):
        self.psql("postgres", "CHECKPOINT")

    def stop(self):
        self.server.send_signal(signal.SIGINT)
        self.server.wait(60)


def together(commands, **kwargs):
    """Runs all at once to their end: seconds."""
    began = time.perf_counter()
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, **kwargs) for command in commands]
    statuses = [process.wait(600) for process in running]
    if any(statuses):
        sys.exit(f"{commands[0]} failed")
    return time.perf_counter() - began


def seconds(command, **kwargs):
    """What a program prints that measures itself."""
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **kwargs).stdout)


class Graphile:
    """graphile-worker as its own performance test runs it: workers that end when nothing is left, less what an empty queue takes."""

    def __init__(self, root, server):
        self.root, self.server = f"{root}/graphile", server
        os.makedirs(f"{self.root}/tasks")
        for name, text in {"graphile.config.js": PRESET, "tasks/nothing.js": TASK, "enqueue.js": ENQUEUE, "package.json": "{}"}.items():
            pathlib.Path(self.root, name).write_text(text)
        package = "graphile-worker@" + os.environ.get("GRAPHILE_WORKER", "latest")
        subprocess.run(["npm", "install", "--silent", package, "pg"], cwd=self.root, check=True)
        manifest = pathlib.Path(self.root, "node_modules/graphile-worker/package.json")
        self.version = json.loads(manifest.read_text())["version"]

    def run(self, tasks, processes, local_queue):
        url = self.server.fresh("graphile")
        environment = {**os.environ, "DATABASE_URL": url, "LOCAL_QUEUE": str(local_queue), "NO_LOG_SUCCESS": "1"}
        options = {"cwd": self.root, "env": environment}
        cli = ["node", "node_modules/graphile-worker/dist/cli.js"]
        together([[*cli, "--schema-only"]], **options)
        workers = [[*cli, "--once"]] * processes
        start = together(workers, **options)
        enqueued = seconds(["node", "enqueue.js", str(tasks)], **options)
        self.server.settle()
        took = together(workers, **options) - start
        left = self.server.psql("graphile", "SELECT count(*) FROM graphile_worker._private_jobs").stdout.strip()
        if left != "0":
            sys.exit(f"graphile-worker left {left} tasks")
        return enqueued, took


class Ours:
    """The example of `cairn-jobs`, measured the same way. A task stays as a row with its result."""

    def __init__(self, program, server):
        self.program, self.server = program, server

    def run(self, tasks, processes, queued=0, pause="0"):
        url = self.server.fresh("cairn")
        start = together([[self.program, url, "work", "0"]] * processes)
        enqueued = seconds([self.program, url, "enqueue", str(queued + tasks)])
        self.server.settle()
        share = [tasks // processes] * processes
        took = together([[self.program, url, "work", str(part), pause] for part in share]) - start
        done = self.server.count("cairn")
        if done < sum(share):
            sys.exit(f"{done} of {tasks} tasks are completed")
        return enqueued, took
