//! The statements about limits over all processes: records, shares, and what was declared.

/// What an owner's turn depends on: its row, what there is one of, and whether there are others.
pub(in crate::queue::sqlite) const MEMBER: &str = "
    SELECT o.sole, o.heard, s.version, s.declared, s.void_at_ns, s.stale,
           (SELECT row FROM owner WHERE sole = 1),
           EXISTS (SELECT 1 FROM owner WHERE row < ?1) OR EXISTS (SELECT 1 FROM owner WHERE row > ?1)
    FROM sharing s CROSS JOIN owner o ON o.row = ?1 WHERE s.one = 1";
/// Makes an owner the sole one, or takes that from it.
pub(in crate::queue::sqlite) const SET_SOLE: &str = "UPDATE owner SET sole = ?2 WHERE row = ?1";
/// Up to which change of what was declared an owner has been told.
pub(in crate::queue::sqlite) const SET_HEARD: &str = "UPDATE owner SET heard = ?2 WHERE row = ?1";
/// The process of an owner that is in force.
pub(in crate::queue::sqlite) const SET_PROCESS: &str =
    "UPDATE owner SET process = ?3 WHERE row = ?1 AND id = ?2 AND retired = 0";
/// Whether an owner is the sole one.
pub(in crate::queue::sqlite) const IS_SOLE: &str = "SELECT sole FROM owner WHERE row = ?1";
/// Whether there are owners but this one.
pub(in crate::queue::sqlite) const ANY_OTHER: &str = "
    SELECT EXISTS (SELECT 1 FROM owner WHERE row < ?1) OR EXISTS (SELECT 1 FROM owner WHERE row > ?1)";

/// The last version given to a record.
pub(in crate::queue::sqlite) const VERSION: &str = "SELECT version FROM sharing WHERE one = 1";
/// Gives another.
pub(in crate::queue::sqlite) const SET_VERSION: &str =
    "UPDATE sharing SET version = ?1 WHERE one = 1";
/// What live owners declared has changed.
pub(in crate::queue::sqlite) const RAISE_DECLARED: &str =
    "UPDATE sharing SET declared = declared + 1 WHERE one = 1";
/// A sole owner was found dead.
pub(in crate::queue::sqlite) const SET_VOID: &str =
    "UPDATE sharing SET void_at_ns = ?1 WHERE one = 1";
/// Notes the start of the machine. Times kept are stale when they are of another.
pub(in crate::queue::sqlite) const SET_BOOT: &str = "
    UPDATE sharing SET stale = stale OR boot <> '', boot = ?1 WHERE one = 1 AND boot <> ?1";
/// Whether the times kept are of another start of the machine.
pub(in crate::queue::sqlite) const IS_STALE: &str = "SELECT stale FROM sharing WHERE one = 1";
/// They are of this start now; the void too, if there was one.
pub(in crate::queue::sqlite) const SET_FRESH: &str = "
    UPDATE sharing SET stale = 0, void_at_ns = iif(void_at_ns IS NULL, NULL, ?1) WHERE one = 1";

/// What is known of a key.
pub(in crate::queue::sqlite) const RECORD: &str = "
    SELECT version, record, wall_ms, mono_ns FROM key_record WHERE dimension = ?1 AND name = ?2";
/// Keeps it.
pub(in crate::queue::sqlite) const PUT_RECORD: &str = "
    INSERT INTO key_record (dimension, name, version, record, wall_ms, mono_ns)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (dimension, name) DO UPDATE SET
        version = excluded.version, record = excluded.record,
        wall_ms = excluded.wall_ms, mono_ns = excluded.mono_ns";
/// Records in the order of their last change that others must hear of.
pub(in crate::queue::sqlite) const CHANGED: &str = "
    SELECT dimension, name, version, record FROM key_record
    WHERE version > 0 AND version > ?1 ORDER BY version LIMIT ?2";
/// A stretch of all records.
pub(in crate::queue::sqlite) const WALK_RECORDS: &str = "
    SELECT dimension, name, version, record, wall_ms, mono_ns FROM key_record
    WHERE (dimension, name) > (?1, ?2) ORDER BY dimension, name LIMIT ?3";
/// Forgets a record that is as it was when it was read; not where somebody has tokens in hand: its bucket is less than full by them.
pub(in crate::queue::sqlite) const DROP_RECORD: &str = "
    DELETE FROM key_record WHERE dimension = ?1 AND name = ?2 AND version = ?3 AND record = ?4
        AND NOT EXISTS (SELECT 1 FROM share s WHERE s.dimension = ?1 AND s.name = ?2 AND s.tokens > 0)";

/// The shares of a key.
pub(in crate::queue::sqlite) const SHARES: &str = "
    SELECT owner, slots, running, tokens, wanted, tokens_wanted, waiting_since_ns, asked_at_ns
    FROM share WHERE dimension = ?1 AND name = ?2 ORDER BY owner";
/// The same with who has them.
pub(in crate::queue::sqlite) const HOLDERS: &str = "
    SELECT s.owner, s.slots, s.running, s.tokens, s.wanted, s.tokens_wanted, s.waiting_since_ns, s.asked_at_ns,
           o.id, o.process
    FROM share s CROSS JOIN owner o ON o.row = s.owner
    WHERE s.dimension = ?1 AND s.name = ?2 ORDER BY s.owner";
/// Keeps a share.
pub(in crate::queue::sqlite) const PUT_SHARE: &str = "
    INSERT INTO share (dimension, name, owner, slots, running, tokens, wanted, tokens_wanted, waiting_since_ns, asked_at_ns)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
    ON CONFLICT (dimension, name, owner) DO UPDATE SET
        slots = excluded.slots, running = excluded.running, tokens = excluded.tokens, wanted = excluded.wanted,
        tokens_wanted = excluded.tokens_wanted, waiting_since_ns = excluded.waiting_since_ns,
        asked_at_ns = excluded.asked_at_ns";
/// Drops a share.
pub(in crate::queue::sqlite) const DROP_SHARE: &str =
    "DELETE FROM share WHERE dimension = ?1 AND name = ?2 AND owner = ?3";
/// The keys that an owner has a share of.
pub(in crate::queue::sqlite) const KEYS_OF: &str =
    "SELECT dimension, name FROM share WHERE owner = ?1";
/// What it has of them.
pub(in crate::queue::sqlite) const SHARES_OF: &str =
    "SELECT dimension, name, slots, tokens, asked_at_ns FROM share WHERE owner = ?1";
/// Drops all shares of an owner.
pub(in crate::queue::sqlite) const DROP_SHARES_OF: &str = "DELETE FROM share WHERE owner = ?1";
/// The keys of which an owner has slots, and others have said lately that they want something. Walks those who wait: they are few.
pub(in crate::queue::sqlite) const SLOTS_AWAITED: &str = "
    SELECT w.dimension, w.name FROM share w
    WHERE (w.wanted > 0 OR w.tokens_wanted > 0) AND w.asked_at_ns >= ?2 AND w.owner <> ?1
        AND EXISTS (SELECT 1 FROM share m
                    WHERE m.dimension = w.dimension AND m.name = w.name AND m.owner = ?1 AND m.slots > 0)";
/// The keys of which an owner has tokens in hand, and others want something. Walks the tokens: they do not stay in a hand for long.
pub(in crate::queue::sqlite) const TOKENS_AWAITED: &str = "
    SELECT m.dimension, m.name FROM share m
    WHERE m.owner = ?1 AND m.tokens > 0
        AND EXISTS (SELECT 1 FROM share w
                    WHERE w.dimension = m.dimension AND w.name = m.name AND w.owner <> ?1
                        AND (w.wanted > 0 OR w.tokens_wanted > 0))";

/// What was declared of a key, and of all hosts where it is one.
pub(in crate::queue::sqlite) const DECLARED: &str = "
    SELECT owner, name = '', max_concurrent, rate_count, rate_per_ns, rate_burst
    FROM declared WHERE dimension = ?1 AND name IN ('', ?2)";
/// Declares one limit; the last word on a key holds.
pub(in crate::queue::sqlite) const DECLARE: &str = "
    INSERT OR REPLACE INTO declared (dimension, name, owner, max_concurrent, rate_count, rate_per_ns, rate_burst)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
/// Takes back all that an owner declared.
pub(in crate::queue::sqlite) const DROP_DECLARED_OF: &str = "DELETE FROM declared WHERE owner = ?1";

/// The next names of a dimension that there is something to be said of; its code in `tally` is `?4`.
pub(in crate::queue::sqlite) const KEY_NAMES: &str = "
    SELECT name FROM key_record WHERE dimension = ?1 AND name > ?2
    UNION SELECT name FROM share WHERE dimension = ?1 AND name > ?2
    UNION SELECT key FROM tally WHERE dimension = ?4 AND key > ?2 AND queued > 0
    ORDER BY name LIMIT ?3";
/// One count of a dimension.
pub(in crate::queue::sqlite) const TALLY: &str =
    "SELECT queued, done, skipped, error FROM tally WHERE dimension = ?1 AND key = ?2";
