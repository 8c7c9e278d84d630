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
    took = time.perf_counter() - began
    if any(statuses):
        sys.exit(f"{commands[0]} failed")
    return took


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
        took = together(workers, **options) - start
        left = self.server.psql("graphile", "SELECT count(*) FROM graphile_worker._private_jobs").stdout.strip()
        if left != "0":
            sys.exit(f"graphile-worker left {left} tasks")
        return enqueued, took


class Ours:
    """The example of `cairn-jobs`, measured the same way. A task stays as a row with its result."""

    def __init__(self, program, root, server=None):
        self.program, self.root, self.server = program, root, server

    def database(self):
        if self.server:
            return self.server.fresh("cairn")
        for file in glob.glob(f"{self.root}/cairn.db*"):
            os.unlink(file)
        return f"sqlite://{self.root}/cairn.db"

    def run(self, tasks, processes):
        """Seconds that `tasks` take into the queue, and out of it, by so many processes."""
        url = self.database()
        workers = [[self.program, url, "work"]] * processes
        start = together(workers)
        enqueued = seconds([self.program, url, "enqueue", str(tasks)])
        took = together(workers) - start
        if self.server and (done := self.server.count("cairn")) != tasks:
            sys.exit(f"{done} of {tasks} tasks are completed")
        return enqueued, took

    def waiting(self, tasks, processes, milliseconds):
        """Tasks a second where each task only waits so long."""
        url = self.database()
        seconds([self.program, url, "enqueue", str(tasks)])
        return tasks / together([[self.program, url, "work", str(2**64 - 1), str(milliseconds)]] * processes)

    def deep(self, queued, tasks):
        """Tasks a second out of a queue that has `queued` more of them all the time."""
        url = self.database()
        start = together([[self.program, url, "work", "0"]])
        seconds([self.program, url, "enqueue", str(queued + tasks)])
        if self.server:
            self.server.settle()
        return tasks / (together([[self.program, url, "work", str(tasks)]]) - start)


def ratio(ours, root, server):
    graphile = Graphile(root, server)
    print(f"graphile-worker {graphile.version}; {TASKS:,} tasks that do nothing, the median of {ROUNDS} rounds in turns")
    kinds = {f"graphile-worker, {n} processes, local queue {size:,}": (graphile.run, (n, size)) for n, size in CONFIGURATIONS}
    kinds |= {f"cairn, {n} processes": (ours.run, (n,)) for n in PROCESSES}
    rates = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, (run, arguments) in kinds.items():
            enqueued, took = run(TASKS, *arguments)
            rates[name].append((TASKS / enqueued, TASKS / took, TASKS / (enqueued + took)))
    print(f"{'tasks a second':45} {'enqueued':>10} {'done':>10} {'both':>10}")
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in rates.items()}
    for name, row in medians.items():
        print(f"{name:45} " + " ".join(f"{rate:10,.0f}" for rate in row))
    for column, what in ((1, "done"), (2, "enqueued and done")):
        best = [max(row[column] for name, row in medians.items() if name.startswith(kind)) for kind in ("cairn", "graphile")]
        print(f"ratio of the best, {what}: {best[0] / best[1]:.2f}")


def workers(ours):
    print("worker processes: tasks a second where a task does nothing, and where each of 24 at once waits 20 ms")
    for processes in (1, 2, 4, 8):
        rate = statistics.median(TASKS / ours.run(TASKS, processes)[1] for _ in range(ROUNDS))
        waiting = ours.waiting(1200 * processes, processes, 20)
        print(f"{processes:10} {rate:10,.0f} {waiting:10,.0f}")


def depth(ours):
    print("tasks queued all the while: tasks a second by one process")
    for queued in (1_000, 10_000, 100_000, 1_000_000):
        rate = statistics.median(ours.deep(queued, 50_000) for _ in range(ROUNDS))
        print(f"{queued:10,} {rate:10,.0f}")


def main():
    if len(sys.argv) != 3 or sys.argv[2] not in ("ratio", "workers", "depth", "sqlite"):
        sys.exit(__doc__)
    program, what = os.path.abspath(sys.argv[1]), sys.argv[2]
    model = next((line.split(": ")[1] for line in open("/proc/cpuinfo") if line.startswith("model name")), "?").strip()
    print(f"{os.cpu_count()} cores, {model}, {platform.release()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)  # the server's user has to find its directory
        if what == "sqlite":
            ours = Ours(program, root)
            workers(ours)
            depth(ours)
            return
        server = Postgres(f"{root}/postgres")
        try:
            print(server.psql("postgres", "SHOW server_version").stdout.strip().join(("PostgreSQL ", ", ")) + f"{server.SETTINGS}")
            ours = Ours(program, root, server)
            {"ratio": lambda: ratio(ours, root, server), "workers": lambda: workers(ours), "depth": lambda: depth(ours)}[what]()
        finally:
            server.stop()


main()
