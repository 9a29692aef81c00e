-- A third table of hashes, smaller than the other two and before them: see seen.rs. What was gathered before stays where it is.

CREATE TABLE seen_newest (
    hash INTEGER PRIMARY KEY,
    job  INTEGER NOT NULL
) STRICT;

-- How many rows it has.
INSERT INTO counter VALUES ('seen_newest', 0);
