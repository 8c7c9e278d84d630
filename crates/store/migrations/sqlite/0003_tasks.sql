-- Work for workers. Times are milliseconds since 1970.
CREATE TABLE tasks (
    id           TEXT PRIMARY KEY, -- UUIDv7: ordered by creation
    type         TEXT NOT NULL,
    status       TEXT NOT NULL,      -- queued, running, completed, failed (tried again at run_at), discarded
    queue        TEXT NOT NULL,
    priority     BIGINT NOT NULL,    -- 0, the first, to 3
    created_at   BIGINT NOT NULL,
    run_at       BIGINT NOT NULL,    -- not before
    started_at   BIGINT,             -- of the last try
    finished_at  BIGINT,
    attempts     BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL,
    worker       TEXT,               -- that has it
    claim        BIGINT,             -- a random number of its claim, while a worker has it: who acknowledges must name it
    unique_key   TEXT,
    key_kept     BIGINT NOT NULL DEFAULT 0, -- 1: the key is taken while the row is there; 0: while the task goes on
    payload      TEXT NOT NULL,      -- JSON
    input        BLOB,
    input_kept   BIGINT NOT NULL DEFAULT 0,
    result       TEXT,               -- JSON
    errors       TEXT                -- JSON: the last ones, each with attempt, at and error
);
CREATE INDEX tasks_due ON tasks (queue, priority, run_at, id) WHERE status IN ('queued', 'failed');
CREATE INDEX tasks_running ON tasks (queue, worker) WHERE status = 'running';
CREATE INDEX tasks_discarded ON tasks (id) WHERE status = 'discarded';
CREATE UNIQUE INDEX tasks_unique ON tasks (unique_key) WHERE unique_key IS NOT NULL AND status <> 'discarded';

-- Processes that hold tasks. What is claimed by none of these is lost and claimed anew.
CREATE TABLE workers (
    name       TEXT PRIMARY KEY,
    host       TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Queues that somebody has set something of.
CREATE TABLE queues (
    name        TEXT PRIMARY KEY,
    paused      BIGINT NOT NULL DEFAULT 0,
    concurrency BIGINT               -- tasks at once over all workers; NULL: as many as workers take
);

-- Tasks by the clock.
CREATE TABLE schedules (
    name     TEXT PRIMARY KEY,
    cron     TEXT NOT NULL,
    next_at  BIGINT NOT NULL
);
