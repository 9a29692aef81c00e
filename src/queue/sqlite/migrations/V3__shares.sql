-- Limits over all processes: what is known of each key, and who has which share of it (src/share). Monotonic times are those of the
-- machine, in nanoseconds since it started, and so the same in all processes that live.
--
-- A key is a dimension (0 host, 1 resolver: never renumbered) and a name.

-- What everybody knows of a key. Of a key without a row there is nothing to know.
CREATE TABLE key_record (
    dimension INTEGER NOT NULL,
    name      TEXT NOT NULL,
    version   INTEGER NOT NULL,           -- from `sharing`, of the last change that others must hear of; 0: of none
    record    TEXT NOT NULL,              -- JSON: KeyRecord in src/share/record.rs
    wall_ms   INTEGER NOT NULL,           -- when a turn wrote it, by both clocks (0: none did): what its times come to after
    mono_ns   INTEGER NOT NULL,           -- the machine has started anew
    PRIMARY KEY (dimension, name)
) STRICT, WITHOUT ROWID;

-- What has changed since a process was last told.
CREATE INDEX key_record_version ON key_record (version) WHERE version > 0;

-- What an owner may use of a key, and wants. It goes with the owner.
CREATE TABLE share (
    dimension        INTEGER NOT NULL,
    name             TEXT NOT NULL,
    owner            INTEGER NOT NULL,
    slots            INTEGER NOT NULL,
    running          INTEGER NOT NULL,
    tokens           INTEGER NOT NULL,
    wanted           INTEGER NOT NULL,
    tokens_wanted    INTEGER NOT NULL,
    waiting_since_ns INTEGER,
    asked_at_ns      INTEGER NOT NULL,
    PRIMARY KEY (dimension, name, owner)
) STRICT, WITHOUT ROWID;

CREATE INDEX share_owner ON share (owner);

-- Who waits, by when it last said so: only those who said so lately count.
CREATE INDEX share_waiting ON share (asked_at_ns) WHERE wanted > 0 OR tokens_wanted > 0;

-- What is in whose hand.
CREATE INDEX share_tokens ON share (owner) WHERE tokens > 0;

-- What an owner's process was configured with. It goes with the owner.
CREATE TABLE declared (
    dimension      INTEGER NOT NULL,
    name           TEXT NOT NULL,         -- '' (of hosts only): every host without a limit of its own
    owner          INTEGER NOT NULL,
    max_concurrent INTEGER,
    rate_count     INTEGER,               -- NULL, as the two after it: no rate
    rate_per_ns    INTEGER,
    rate_burst     INTEGER,
    PRIMARY KEY (dimension, name, owner)
) STRICT, WITHOUT ROWID;

CREATE INDEX declared_owner ON declared (owner);

-- What there is one of. One row.
CREATE TABLE sharing (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    version    INTEGER NOT NULL,          -- the last that was given to a record
    declared   INTEGER NOT NULL,          -- raised by every change of what live owners declared
    void_at_ns INTEGER,                   -- when a sole owner was last found dead, and nobody knew what it had spent
    boot       TEXT NOT NULL,             -- the start of the machine that an owner last registered under; '' for none, or unknown
    stale      INTEGER NOT NULL           -- 1: the times in records are those of an earlier start
) STRICT;

INSERT INTO sharing VALUES (1, 0, 0, NULL, '', 0);

ALTER TABLE owner ADD COLUMN sole INTEGER NOT NULL DEFAULT 0;   -- 1: it is the only owner, and divides every key by itself
ALTER TABLE owner ADD COLUMN heard INTEGER NOT NULL DEFAULT 0;  -- sharing.declared as of when it was last told
ALTER TABLE owner ADD COLUMN process INTEGER;                   -- its process id, for people

CREATE UNIQUE INDEX owner_sole ON owner (sole) WHERE sole = 1;
