-- What asking a resolver about works under a DOI prefix came to, added up over all attempts whose end was accepted. It
-- outlives the jobs: it is what the order of resolvers is learned from.
--
-- Counts stop at the largest that is kept (2^32 - 1; milliseconds at 2^63 - 1).

CREATE TABLE yield (
    resolver   TEXT NOT NULL,
    prefix     TEXT NOT NULL,             -- '-' for none, and for those beyond the bound
    asked      INTEGER NOT NULL,
    found      INTEGER NOT NULL,
    fetched    INTEGER NOT NULL,
    busy       INTEGER NOT NULL,
    broken     INTEGER NOT NULL,
    elapsed_ms INTEGER NOT NULL,
    PRIMARY KEY (resolver, prefix)
) STRICT, WITHOUT ROWID;

-- How many of its rows have a prefix: there are only so many (store.rs, MAX_YIELDS).
INSERT INTO counter VALUES ('yields', 0);
