-- The queue. Times are Unix milliseconds; codes are those of src/job (State::code, Reason::code, Priority::level).
--
-- A queued job is in exactly one of `ready`, `delayed` and `lease`, and its `job.state` stays 0 while it is leased:
-- a lease is a row beside it, so that leasing writes a few bytes instead of the whole record. The record is
-- written a second time at settlement, with values as wide as the first ones: a record that does not change its
-- size is overwritten where it lies.

CREATE TABLE lane (
    id       INTEGER PRIMARY KEY,
    host     TEXT NOT NULL,             -- '' for none
    resolver TEXT NOT NULL,             -- '' for none
    kind     TEXT NOT NULL,
    UNIQUE (host, resolver, kind)
) STRICT;

CREATE TABLE job (
    id              INTEGER PRIMARY KEY,  -- from counter 'job': never used again
    state           INTEGER NOT NULL,     -- 0 queued (or leased), 1 done, 2 skipped, 3 error
    epoch           INTEGER NOT NULL,     -- of the last change; the lease in force has the next
    attempts        INTEGER NOT NULL,     -- of the present allowance, without the one being made
    attempts_total  INTEGER NOT NULL,
    losses          INTEGER NOT NULL,
    reason          INTEGER,
    changed_at_ms   INTEGER NOT NULL,
    elapsed         INTEGER NOT NULL,     -- 2^23: no attempt counted yet; else 2^23 + 1 + milliseconds: always four bytes
    enqueued_at_ms  INTEGER NOT NULL,
    at_ms           INTEGER,              -- its key in `delayed`, if it is there; otherwise of the past
    priority        INTEGER NOT NULL,
    lane            INTEGER NOT NULL,
    max_attempts    INTEGER,
    timeout_seconds INTEGER,
    artifact_id     TEXT NOT NULL,
    retry           TEXT,
    tags            TEXT,                 -- a JSON array
    payload         TEXT NOT NULL
) STRICT;

-- What `list --state error` and `retry-failed` walk. Done jobs are the many, and are not in it.
CREATE INDEX job_failed ON job (state) WHERE state >= 2;

-- Which row has an id: 48 bits of its hash. Not unique: whoever looks an id up compares the text in the job row.
-- A table and not an index of `job`, so that a batch is written in the order of the hashes, whatever the order of
-- the rows: a page is then fetched once for all of the batch that falls into it.
CREATE TABLE seen (
    hash INTEGER NOT NULL,
    job  INTEGER NOT NULL,
    PRIMARY KEY (hash, job)
) STRICT, WITHOUT ROWID;

CREATE TABLE ready (
    priority INTEGER NOT NULL,
    lane     INTEGER NOT NULL,
    job      INTEGER NOT NULL,
    PRIMARY KEY (priority, lane, job)
) STRICT, WITHOUT ROWID;

CREATE TABLE delayed (
    class INTEGER NOT NULL,               -- 0 its own run_at, 1 a retry or a deferral
    at_ms INTEGER NOT NULL,
    job   INTEGER NOT NULL,
    PRIMARY KEY (class, at_ms, job)
) STRICT, WITHOUT ROWID;

CREATE TABLE lease (
    job   INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,               -- job.epoch + 1
    owner INTEGER NOT NULL,
    lane  INTEGER NOT NULL
) STRICT;

CREATE TABLE result (
    job      INTEGER PRIMARY KEY,
    message  TEXT NOT NULL,
    detail   TEXT,
    previous TEXT                         -- detail of the last time it ended done, unless that is `detail` itself
) STRICT;

CREATE TABLE attempt (
    job           INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    outcome       TEXT NOT NULL,
    reason        INTEGER,
    message       TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    elapsed_ms    INTEGER NOT NULL,
    PRIMARY KEY (job, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoint (
    job  INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

-- Ids that must not come back: 128 bits of their hash.
CREATE TABLE pruned (
    hash BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE owner (
    row              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT NOT NULL,
    beat             INTEGER NOT NULL,
    registered_at_ms INTEGER NOT NULL,
    retired          INTEGER NOT NULL
) STRICT;

-- Counts, kept up by every transaction; leased jobs count as queued here, and `lease` is subtracted on reading.
CREATE TABLE tally (
    dimension INTEGER NOT NULL,           -- 0 all, 1 kind, 2 host, 3 resolver, 4 reason
    key       TEXT NOT NULL,              -- '' for none
    queued    INTEGER NOT NULL,
    done      INTEGER NOT NULL,
    skipped   INTEGER NOT NULL,
    error     INTEGER NOT NULL,
    PRIMARY KEY (dimension, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO counter VALUES ('job', 1);
