-- The queue. Times are Unix milliseconds; codes are those of src/job (State::code, Reason::code, Priority::level).
--
-- A job is a row that is written once, when it is enqueued, and a narrow row beside it, from the first time that
-- something came of it. So settling a job writes some thirty bytes, however long the line it came as.
--
-- A queued job is in exactly one of `ready`, `delayed` and `lease`; its state stays 0 while it is leased.

CREATE TABLE lane (
    id       INTEGER PRIMARY KEY,
    host     TEXT NOT NULL,             -- '' for none
    resolver TEXT NOT NULL,             -- '' for none
    kind     TEXT NOT NULL,
    UNIQUE (host, resolver, kind)
) STRICT;

CREATE TABLE job (
    id              INTEGER PRIMARY KEY,  -- from counter 'next_job': never used again
    enqueued_at_ms  INTEGER NOT NULL,
    at_ms           INTEGER,              -- its key in `delayed`, if it came with a run_at that lay ahead
    priority        INTEGER NOT NULL,
    lane            INTEGER NOT NULL,     -- the first; the present one is in `progress`, if that is there
    max_attempts    INTEGER,
    timeout_seconds INTEGER,
    artifact_id     TEXT NOT NULL,
    retry           TEXT,
    tags            TEXT,                 -- a JSON array
    payload         TEXT NOT NULL
) STRICT;

-- What has come of a job. Without a row: queued, epoch 0, nothing yet.
CREATE TABLE progress (
    job            INTEGER PRIMARY KEY,
    state          INTEGER NOT NULL,      -- 0 queued (or leased), 1 done, 2 skipped, 3 error
    epoch          INTEGER NOT NULL,      -- of the last change; the lease in force has the next
    attempts       INTEGER NOT NULL,      -- of the present allowance, without the one being made
    attempts_total INTEGER NOT NULL,
    losses         INTEGER NOT NULL,
    reason         INTEGER,
    changed_at_ms  INTEGER NOT NULL,
    elapsed_ms     INTEGER,
    at_ms          INTEGER,               -- its key in `delayed`, if it is there; otherwise of the past
    lane           INTEGER NOT NULL
) STRICT;

-- What `list --state error` and `retry-failed` walk. Done jobs are the many, and are not in it.
CREATE INDEX progress_failed ON progress (state) WHERE state >= 2;

-- Which row has an id, by 48 bits of its hash; whoever looks an id up compares the text in the job row. Hashes come in no
-- order, so a batch of new ones would touch as many pages of a large table as it has hashes, and rewrite them all. They
-- are gathered in the small table, therefore, and move to the large one in slices of neighbours (see seen.rs).

CREATE TABLE seen_lately (
    hash INTEGER PRIMARY KEY,
    job  INTEGER NOT NULL
) STRICT;

CREATE TABLE seen (
    hash INTEGER PRIMARY KEY,
    job  INTEGER NOT NULL
) STRICT;

-- Further rows of a hash that is another id's already.
CREATE TABLE seen_too (
    hash INTEGER NOT NULL,
    job  INTEGER NOT NULL,
    PRIMARY KEY (hash, job)
) STRICT, WITHOUT ROWID;

CREATE TABLE ready (
    priority INTEGER NOT NULL,
    lane     INTEGER NOT NULL,
    job      INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,            -- the job's, here and in `delayed`; 0: it has no `progress`
    PRIMARY KEY (priority, lane, job)
) STRICT, WITHOUT ROWID;

CREATE TABLE delayed (
    class    INTEGER NOT NULL,            -- 0 its own run_at, 1 a retry or a deferral
    at_ms    INTEGER NOT NULL,
    job      INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    priority INTEGER NOT NULL,            -- where it will be ready
    lane     INTEGER NOT NULL,
    PRIMARY KEY (class, at_ms, job)
) STRICT, WITHOUT ROWID;

CREATE TABLE lease (
    job   INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,               -- the job's + 1
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

-- What this store counts for itself.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO counter VALUES ('next_job', 1), ('seen_lately', 0), ('next_slice', 0);
