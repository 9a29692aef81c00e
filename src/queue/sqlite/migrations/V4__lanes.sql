-- The first tag of a job becomes part of its lane, so that tags can be given weights at any time. Jobs that were here before keep the lanes
-- they are in, without one, and every lane keeps its number.

CREATE TABLE lane_tagged (
    id       INTEGER PRIMARY KEY,
    host     TEXT NOT NULL,             -- '' for none
    resolver TEXT NOT NULL,             -- '' for none
    kind     TEXT NOT NULL,
    tag      TEXT NOT NULL,             -- '' for none
    UNIQUE (host, resolver, kind, tag)
) STRICT;
INSERT INTO lane_tagged (id, host, resolver, kind, tag) SELECT id, host, resolver, kind, '' FROM lane;
DROP TABLE lane;
ALTER TABLE lane_tagged RENAME TO lane;

-- What a job's place in line is counted by. Most lanes are of hosts, and not in it.
CREATE INDEX lane_resolver ON lane (resolver) WHERE resolver <> '';

-- The tags that lanes are told apart by: no more than store.rs, MAX_TAG_LANES. None is ever taken out, as no lane is.
CREATE TABLE lane_tag (
    tag TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- All settled attempts but hand-backs, under kind, host and resolver. They only grow, and outlive the jobs: a row without jobs stays for
-- their sake, as its lane does.
ALTER TABLE tally ADD COLUMN attempts   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tally ADD COLUMN elapsed_ms INTEGER NOT NULL DEFAULT 0;   -- stops at 2^63 - 1
