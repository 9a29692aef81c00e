//! Every statement of this store, and what each is for.
//!
//! Only text: no statement is put together at run time, so the query plans that the tests look at are those in use.

pub(super) mod keys;

/// Takes the write lock.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";
/// Makes what was written last.
pub(super) const COMMIT: &str = "COMMIT";
/// Undoes it.
pub(super) const ROLLBACK: &str = "ROLLBACK";
/// Carries the log over into the database, beside whoever reads and writes.
pub(super) const CARRY_OVER: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// Carries it over with the write lock.
pub(super) const PRESS: &str = "PRAGMA wal_checkpoint(FULL)";
/// How many pages the database has.
pub(super) const PAGE_COUNT: &str = "PRAGMA page_count";
/// How many bytes each.
pub(super) const PAGE_BYTES: &str = "PRAGMA page_size";
/// What is wrong with its structure: three sentences at most. Reads all of it.
pub(super) const CHECK: &str = "PRAGMA quick_check(3)";

/// A count of the store's own.
pub(super) const COUNTER: &str = "SELECT value FROM counter WHERE name = ?1";
/// Sets it.
pub(super) const SET_COUNTER: &str = "UPDATE counter SET value = ?2 WHERE name = ?1";

/// A new job.
pub(super) const INSERT_JOB: &str = "
    INSERT INTO job (id, enqueued_at_ms, at_ms, priority, lane, max_attempts, timeout_seconds, artifact_id,
                     retry, tags, payload)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
/// Makes new jobs ready, from a row to another, whose time has come.
pub(super) const PLACE_NEW: &str = "
    INSERT INTO ready (priority, lane, job, epoch)
    SELECT priority, lane, id, 0 FROM job WHERE id BETWEEN ?1 AND ?2 AND at_ms IS NULL
    ORDER BY priority, lane, id";
/// Replaces all of a job but its id, row and time of enqueueing.
pub(super) const REPLACE_JOB: &str = "
    UPDATE job SET at_ms = ?2, priority = ?3, lane = ?4, max_attempts = ?5, timeout_seconds = ?6, retry = ?7,
                   tags = ?8, payload = ?9
    WHERE id = ?1";
/// Whether any hash has left the smallest table.
pub(super) const ANY_SEEN: &str =
    "SELECT EXISTS (SELECT 1 FROM seen_lately) OR EXISTS (SELECT 1 FROM seen)";
/// Whether a hash has.
pub(super) const IS_SEEN: &str = "
    SELECT EXISTS (SELECT 1 FROM seen_lately WHERE hash = ?1) OR EXISTS (SELECT 1 FROM seen WHERE hash = ?1)";
/// Gives a hash that has not to a new row, unless another has it.
pub(super) const CLAIM: &str = "INSERT OR IGNORE INTO seen_newest (hash, job) VALUES (?1, ?2)";
/// Gives a hash to a new row as well.
pub(super) const CLAIM_TOO: &str = "INSERT INTO seen_too (hash, job) VALUES (?1, ?2)";
/// The rows that may have an id.
pub(super) const SEEN: &str = "
    SELECT job FROM seen_newest WHERE hash = ?1
    UNION ALL SELECT job FROM seen_lately WHERE hash = ?1
    UNION ALL SELECT job FROM seen WHERE hash = ?1
    UNION ALL SELECT job FROM seen_too WHERE hash = ?1";
/// Takes the hash away from a row.
pub(super) const DELETE_SEEN_NEWEST: &str = "DELETE FROM seen_newest WHERE hash = ?1 AND job = ?2";
pub(super) const DELETE_SEEN_LATELY: &str = "DELETE FROM seen_lately WHERE hash = ?1 AND job = ?2";
pub(super) const DELETE_SEEN: &str = "DELETE FROM seen WHERE hash = ?1 AND job = ?2";
pub(super) const DELETE_SEEN_TOO: &str = "DELETE FROM seen_too WHERE hash = ?1 AND job = ?2";
/// Copies all of the newest hashes to those seen lately.
pub(super) const COPY_NEWEST: &str =
    "INSERT INTO seen_lately (hash, job) SELECT hash, job FROM seen_newest ORDER BY hash";
/// Deletes those copied.
pub(super) const DELETE_NEWEST: &str = "DELETE FROM seen_newest";
/// Copies a slice of the hashes seen lately to where the others are.
pub(super) const COPY_SLICE: &str = "
    INSERT INTO seen (hash, job) SELECT hash, job FROM seen_lately WHERE hash BETWEEN ?1 AND ?2 ORDER BY hash";
/// Deletes the slice copied.
pub(super) const DELETE_SLICE: &str = "DELETE FROM seen_lately WHERE hash BETWEEN ?1 AND ?2";
/// The id of a row.
pub(super) const ARTIFACT_ID: &str = "SELECT artifact_id FROM job WHERE id = ?1";
/// Whether any id was ever pruned.
pub(super) const ANY_PRUNED: &str = "SELECT EXISTS (SELECT 1 FROM pruned)";
/// Whether this id was.
pub(super) const PRUNED: &str = "SELECT EXISTS (SELECT 1 FROM pruned WHERE hash = ?1)";
/// Remembers that it was.
pub(super) const INSERT_PRUNED: &str = "INSERT OR IGNORE INTO pruned (hash) VALUES (?1)";

/// What a change of a job depends on.
pub(super) const PAST: &str = "
    SELECT ifnull(p.state, 0), ifnull(p.epoch, 0), ifnull(p.attempts, 0), ifnull(p.attempts_total, 0),
           ifnull(p.losses, 0), j.priority, ifnull(p.lane, j.lane), ifnull(p.at_ms, j.at_ms), p.reason
    FROM job j LEFT JOIN progress p ON p.job = j.id WHERE j.id = ?1";
/// Gives a job a row of `progress`, if it has none.
pub(super) const BEGIN_PROGRESS: &str = "
    INSERT OR IGNORE INTO progress (job, state, epoch, attempts, attempts_total, losses, changed_at_ms, at_ms, lane)
    SELECT id, 0, 0, 0, 0, 0, enqueued_at_ms, at_ms, lane FROM job WHERE id = ?1";
/// Whether a job is leased.
pub(super) const IS_LEASED: &str = "SELECT EXISTS (SELECT 1 FROM lease WHERE job = ?1)";

/// Makes a job ready.
pub(super) const INSERT_READY: &str =
    "INSERT INTO ready (priority, lane, job, epoch) VALUES (?1, ?2, ?3, ?4)";
/// Takes one job from its lane.
pub(super) const DELETE_READY: &str =
    "DELETE FROM ready WHERE priority = ?1 AND lane = ?2 AND job = ?3";
/// Takes a run of jobs from the head of their lane.
pub(super) const DELETE_READY_UP_TO: &str =
    "DELETE FROM ready WHERE priority = ?1 AND lane = ?2 AND job <= ?3";
/// Delays a job.
pub(super) const INSERT_DELAYED: &str = "
    INSERT INTO delayed (class, at_ms, job, epoch, priority, lane) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
/// Ends the delay of one job.
pub(super) const DELETE_DELAYED: &str =
    "DELETE FROM delayed WHERE class = ?1 AND at_ms = ?2 AND job = ?3";
/// Ends the delay of the jobs that are due first.
pub(super) const DELETE_DELAYED_UP_TO: &str =
    "DELETE FROM delayed WHERE class = ?1 AND (at_ms, job) <= (?2, ?3)";
/// Jobs whose time has come, the earliest first.
pub(super) const DUE: &str = "
    SELECT at_ms, job, epoch, priority, lane
    FROM delayed WHERE class = ?1 AND at_ms <= ?2 ORDER BY at_ms, job LIMIT ?3";
/// The earliest time in a class.
pub(super) const NEXT_DUE: &str =
    "SELECT at_ms FROM delayed WHERE class = ?1 ORDER BY at_ms, job LIMIT 1";

/// The head of a lane, with all that its handlers need.
pub(super) const HEAD: &str = "
    SELECT r.job, r.epoch, j.max_attempts, j.timeout_seconds, j.artifact_id, j.retry, j.payload,
           j.enqueued_at_ms
    FROM ready r CROSS JOIN job j ON j.id = r.job
    WHERE r.priority = ?1 AND r.lane = ?2 ORDER BY r.job LIMIT ?3";
/// Whether a lane has anything ready.
pub(super) const ANY_IN_LANE: &str =
    "SELECT EXISTS (SELECT 1 FROM ready WHERE priority = ?1 AND lane = ?2)";
/// What earlier attempts left, of a job that had some.
pub(super) const LEFT_BEHIND: &str = "
    SELECT state, attempts, attempts_total, losses,
           (SELECT data FROM checkpoint WHERE job = ?1),
           (SELECT previous FROM result WHERE job = ?1)
    FROM progress WHERE job = ?1 AND epoch = ?2";
/// Leases the head of a lane up to a job. One that is leased already ends the whole turn, so the statement by itself need not be undone: no
/// copy is made of what it changes.
pub(super) const LEASE_UP_TO: &str = "
    INSERT OR FAIL INTO lease (job, epoch, owner, lane)
    SELECT job, epoch + 1, ?4, lane FROM ready
    WHERE priority = ?1 AND lane = ?2 AND job <= ?3 ORDER BY job";
/// Leases one job.
pub(super) const LEASE_ONE: &str = "
    INSERT INTO lease (job, epoch, owner, lane) VALUES (?1, ?2, ?3, ?4)";
/// Leases from a job on.
pub(super) const LEASES_FROM: &str =
    "SELECT job, epoch, owner, lane FROM lease WHERE job >= ?1 ORDER BY job";
/// Ends all leases from a job to another.
pub(super) const RELEASE_RUN: &str = "DELETE FROM lease WHERE job BETWEEN ?1 AND ?2";
/// Ends a lease that is in force.
pub(super) const RELEASE: &str = "DELETE FROM lease WHERE job = ?1 AND epoch = ?2 AND owner = ?3";

/// Ends a job in its first lease. Fails when anything has come of it before.
pub(super) const FINISH_FIRST: &str = "
    INSERT INTO progress (job, state, epoch, attempts, attempts_total, losses, reason, changed_at_ms,
                          elapsed_ms, lane)
    VALUES (?1, ?2, 1, 1, 1, 0, ?3, ?4, ?5, ?6)";
/// Ends a job in a later lease. The epoch is its lease's, as in all that follow.
pub(super) const FINISH: &str = "
    UPDATE progress SET state = ?3, epoch = ?2, attempts = attempts + 1, attempts_total = attempts_total + 1,
                        reason = ?4, changed_at_ms = ?5, elapsed_ms = ?6
    WHERE job = ?1 AND state = 0 AND epoch = ?2 - 1";
/// Puts a job back after an attempt that failed.
pub(super) const AGAIN: &str = "
    UPDATE progress SET epoch = ?2, attempts = attempts + 1, attempts_total = attempts_total + 1, reason = ?3,
                        changed_at_ms = ?4, elapsed_ms = ?5, at_ms = ?6
    WHERE job = ?1 AND state = 0 AND epoch = ?2 - 1";
/// Puts a job back under another key.
pub(super) const DEFER: &str = "
    UPDATE progress SET epoch = ?2, changed_at_ms = ?3, lane = ?4, at_ms = ?5
    WHERE job = ?1 AND state = 0 AND epoch = ?2 - 1";
/// Puts a job back as it was.
pub(super) const HAND_BACK: &str =
    "UPDATE progress SET epoch = ?2 WHERE job = ?1 AND state = 0 AND epoch = ?2 - 1";
/// Takes a job from a dead owner: queued again, or ended. The epoch rises past that of the lease.
pub(super) const LOSE: &str = "
    UPDATE progress SET state = ?3, epoch = ?2 + 1, losses = losses + 1, reason = ifnull(?4, reason),
                        changed_at_ms = ?5
    WHERE job = ?1 AND state = 0 AND epoch = ?2 - 1";
/// Takes a job back from an owner that ended in good order.
pub(super) const TAKE_BACK: &str =
    "UPDATE progress SET epoch = ?2 + 1 WHERE job = ?1 AND state = 0 AND epoch = ?2 - 1";
/// Queues a job that is in no place, with a fresh allowance. The epoch is the one it was read with.
pub(super) const REQUEUE: &str = "
    UPDATE progress SET state = 0, epoch = ?2 + 1, attempts = 0, losses = 0, reason = NULL,
                        changed_at_ms = ?4, elapsed_ms = NULL, at_ms = ?5, lane = ?6
    WHERE job = ?1 AND epoch = ?2 AND state = ?3";

/// The particulars of a job that had none.
pub(super) const INSERT_RESULT: &str =
    "INSERT INTO result (job, message, detail) VALUES (?1, ?2, ?3)";
/// The particulars of a job that ended done; those of the last time are of no more use.
pub(super) const REPLACE_RESULT: &str =
    "INSERT OR REPLACE INTO result (job, message, detail) VALUES (?1, ?2, ?3)";
/// The particulars of a failure: those of the last time it ended done stay.
pub(super) const SET_RESULT: &str = "
    INSERT INTO result (job, message, detail) VALUES (?1, ?2, ?3)
    ON CONFLICT (job) DO UPDATE SET message = excluded.message, detail = excluded.detail";
/// Clears the particulars of a failure.
pub(super) const CLEAR_RESULT: &str =
    "UPDATE result SET message = '', detail = NULL WHERE job = ?1";
/// Clears the particulars of a job that ended done, and keeps them for its next attempt.
pub(super) const AGE_RESULT: &str =
    "UPDATE result SET message = '', previous = detail, detail = NULL WHERE job = ?1";
/// Drops all particulars.
pub(super) const DELETE_RESULT: &str = "DELETE FROM result WHERE job = ?1";
/// Keeps what an attempt learned.
pub(super) const SET_CHECKPOINT: &str =
    "INSERT OR REPLACE INTO checkpoint (job, data) VALUES (?1, ?2)";
/// Drops it.
pub(super) const DELETE_CHECKPOINT: &str = "DELETE FROM checkpoint WHERE job = ?1";
/// Tells of an attempt.
pub(super) const INSERT_ATTEMPT: &str = "
    INSERT INTO attempt (job, epoch, outcome, reason, message, started_at_ms, elapsed_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
/// Keeps so many of the last.
pub(super) const TRIM_ATTEMPTS: &str = "
    DELETE FROM attempt WHERE job = ?1 AND epoch <=
        (SELECT epoch FROM attempt WHERE job = ?1 ORDER BY epoch DESC LIMIT 1 OFFSET ?2)";
/// The story, oldest first.
pub(super) const ATTEMPTS: &str = "
    SELECT epoch, outcome, reason, message, started_at_ms, elapsed_ms
    FROM attempt WHERE job = ?1 ORDER BY epoch";
/// Deletes what came of a finished job that is as it was when it was read.
pub(super) const DELETE_PROGRESS: &str =
    "DELETE FROM progress WHERE job = ?1 AND epoch = ?2 AND state = ?3";
/// The ids from a row to another.
pub(super) const ARTIFACT_IDS: &str =
    "SELECT artifact_id FROM job WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
/// Deletes the jobs from a row to another, and their particulars, stories and checkpoints.
pub(super) const DELETE_JOBS: &str = "DELETE FROM job WHERE id BETWEEN ?1 AND ?2";
pub(super) const DELETE_RESULTS: &str = "DELETE FROM result WHERE job BETWEEN ?1 AND ?2";
pub(super) const DELETE_ATTEMPTS: &str = "DELETE FROM attempt WHERE job BETWEEN ?1 AND ?2";
pub(super) const DELETE_CHECKPOINTS: &str = "DELETE FROM checkpoint WHERE job BETWEEN ?1 AND ?2";

/// A lane by its names.
pub(super) const LANE_BY_NAMES: &str =
    "SELECT id FROM lane WHERE host = ?1 AND resolver = ?2 AND kind = ?3 AND tag = ?4";
/// A lane by its number.
pub(super) const LANE_BY_ID: &str = "SELECT host, resolver, kind, tag FROM lane WHERE id = ?1";
/// A new lane.
pub(super) const INSERT_LANE: &str =
    "INSERT INTO lane (host, resolver, kind, tag) VALUES (?1, ?2, ?3, ?4)";
/// The tags that lanes are told apart by: few.
pub(super) const LANE_TAGS: &str = "SELECT tag FROM lane_tag";
/// One more of them.
pub(super) const INSERT_LANE_TAG: &str = "INSERT INTO lane_tag (tag) VALUES (?1)";
/// The lanes of a host.
pub(super) const LANES_OF_HOST: &str = "SELECT id FROM lane WHERE host = ?1";
/// Lanes of a host, or of a resolver, so many at most.
pub(super) const SOME_LANES_OF_HOST: &str = "SELECT id FROM lane WHERE host = ?1 LIMIT ?2";
pub(super) const SOME_LANES_OF_RESOLVER: &str =
    "SELECT id FROM lane WHERE resolver <> '' AND resolver = ?1 LIMIT ?2";
/// The next lane with ready jobs at one priority, and when the job at its head was enqueued.
pub(super) const NEXT_LANE: &str = "
    SELECT r.lane, j.enqueued_at_ms FROM ready r CROSS JOIN job j ON j.id = r.job
    WHERE r.priority = ?1 AND r.lane > ?2 ORDER BY r.lane, r.job LIMIT 1";
/// When the job at the head of a lane was enqueued.
pub(super) const HEAD_ENQUEUED_AT: &str = "
    SELECT j.enqueued_at_ms FROM ready r CROSS JOIN job j ON j.id = r.job
    WHERE r.priority = ?1 AND r.lane = ?2 ORDER BY r.job LIMIT 1";
/// How many jobs of a lane are ready before a row, counted up to a bound.
pub(super) const COUNT_BEFORE: &str = "
    SELECT count(*) FROM (SELECT 1 FROM ready WHERE priority = ?1 AND lane = ?2 AND job < ?3 LIMIT ?4)";
/// How many jobs of a lane are ready after a row, counted up to a bound, and the last that was counted.
pub(super) const COUNT_AFTER: &str = "
    SELECT count(*), max(job)
    FROM (SELECT job FROM ready WHERE priority = ?1 AND lane = ?2 AND job > ?3 ORDER BY job LIMIT ?4)";
/// The first and the last ready job of a lane.
pub(super) const ENDS_OF_LANE: &str = "
    SELECT (SELECT job FROM ready WHERE priority = ?1 AND lane = ?2 ORDER BY job LIMIT 1),
           (SELECT job FROM ready WHERE priority = ?1 AND lane = ?2 ORDER BY job DESC LIMIT 1)";
/// Whether a job is ready.
pub(super) const IS_READY: &str =
    "SELECT EXISTS (SELECT 1 FROM ready WHERE priority = ?1 AND lane = ?2 AND job = ?3)";
/// Who leases a job.
pub(super) const LEASED_BY: &str =
    "SELECT o.id, o.process FROM lease l CROSS JOIN owner o ON o.row = l.owner WHERE l.job = ?1";
/// Whether anything is ready.
pub(super) const ANY_READY: &str = "SELECT EXISTS (SELECT 1 FROM ready)";

/// Adds to one count. A sum of times past 64 bits is a real number, and then the bound is the lesser.
pub(super) const ADD_TALLY: &str = "
    INSERT INTO tally (dimension, key, queued, done, skipped, error, attempts, elapsed_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (dimension, key) DO UPDATE SET
        queued = queued + excluded.queued, done = done + excluded.done,
        skipped = skipped + excluded.skipped, error = error + excluded.error,
        attempts = attempts + excluded.attempts,
        elapsed_ms = min(elapsed_ms + excluded.elapsed_ms, 9223372036854775807)";
/// Drops a count of nothing.
pub(super) const DROP_EMPTY_TALLY: &str = "
    DELETE FROM tally WHERE dimension = ?1 AND key = ?2
        AND queued = 0 AND done = 0 AND skipped = 0 AND error = 0 AND attempts = 0";
/// Counts of a dimension from a name on.
pub(super) const TALLIES: &str = "
    SELECT key, queued, done, skipped, error FROM tally WHERE dimension = ?1 AND key >= ?2 ORDER BY key LIMIT ?3";
/// The jobs queued under one value of a dimension, leased ones among them.
pub(super) const QUEUED_UNDER: &str = "SELECT queued FROM tally WHERE dimension = ?1 AND key = ?2";
/// How attempts under one value of a dimension have gone.
pub(super) const PACE: &str =
    "SELECT attempts, elapsed_ms FROM tally WHERE dimension = ?1 AND key = ?2";
/// How many jobs of each lane are leased.
pub(super) const LEASES_BY_LANE: &str = "SELECT lane, count(*) FROM lease GROUP BY lane";
/// How many leases there are, and how many are one owner's.
pub(super) const COUNT_LEASES: &str = "SELECT count(*), ifnull(sum(owner = ?1), 0) FROM lease";

/// Whether something was observed of a resolver and prefix.
pub(super) const IS_YIELD: &str = "SELECT 1 FROM yield WHERE resolver = ?1 AND prefix = ?2";
/// Adds what was observed. A sum past 64 bits is a real number, and then the bound is the lesser.
pub(super) const ADD_YIELD: &str = "
    INSERT INTO yield (resolver, prefix, asked, found, fetched, busy, broken, elapsed_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (resolver, prefix) DO UPDATE SET
        asked = min(asked + excluded.asked, 4294967295), found = min(found + excluded.found, 4294967295),
        fetched = min(fetched + excluded.fetched, 4294967295), busy = min(busy + excluded.busy, 4294967295),
        broken = min(broken + excluded.broken, 4294967295),
        elapsed_ms = min(elapsed_ms + excluded.elapsed_ms, 9223372036854775807)";
/// All that was observed, in the order of its key.
pub(super) const YIELDS: &str = "
    SELECT resolver, prefix, asked, found, fetched, busy, broken, elapsed_ms
    FROM yield ORDER BY resolver, prefix";

/// A job as people see it.
pub(super) const VIEW: &str = "
    SELECT j.id, ifnull(p.state, 0), ifnull(p.epoch, 0), ifnull(p.attempts, 0), ifnull(p.attempts_total, 0),
           ifnull(p.losses, 0), p.reason, ifnull(p.changed_at_ms, j.enqueued_at_ms), p.elapsed_ms,
           j.enqueued_at_ms, ifnull(p.at_ms, j.at_ms), j.priority, ifnull(p.lane, j.lane), j.max_attempts,
           j.timeout_seconds, j.artifact_id, j.retry, j.tags, j.payload, l.epoch, r.message, r.detail,
           EXISTS (SELECT 1 FROM delayed d
                   WHERE d.class = 0 AND d.at_ms = ifnull(p.at_ms, j.at_ms) AND d.job = j.id)
           OR EXISTS (SELECT 1 FROM delayed d
                      WHERE d.class = 1 AND d.at_ms = ifnull(p.at_ms, j.at_ms) AND d.job = j.id)
    FROM job j
        LEFT JOIN progress p ON p.job = j.id
        LEFT JOIN lease l ON l.job = j.id
        LEFT JOIN result r ON r.job = j.id
    WHERE j.id = ?1";
/// A stretch of all jobs. The four walks answer with the same columns.
pub(super) const WALK_ALL: &str = "
    SELECT j.id, ifnull(p.state, 0), l.job IS NOT NULL, p.reason, ifnull(p.lane, j.lane),
           ifnull(p.attempts_total, 0), ifnull(p.changed_at_ms, j.enqueued_at_ms), ifnull(p.epoch, 0)
    FROM job j LEFT JOIN progress p ON p.job = j.id LEFT JOIN lease l ON l.job = j.id
    WHERE j.id > ?1 ORDER BY j.id LIMIT ?2";
/// A stretch of the leased ones.
pub(super) const WALK_LEASED: &str = "
    SELECT l.job, ifnull(p.state, 0), 1, p.reason, l.lane,
           ifnull(p.attempts_total, 0), ifnull(p.changed_at_ms, 0), ifnull(p.epoch, 0)
    FROM lease l LEFT JOIN progress p ON p.job = l.job WHERE l.job > ?1 ORDER BY l.job LIMIT ?2";
/// A stretch of those that something came of: the finished ones are among them.
pub(super) const WALK_BEGUN: &str = "
    SELECT job, state, 0, reason, lane, attempts_total, changed_at_ms, epoch
    FROM progress WHERE job > ?1 ORDER BY job LIMIT ?2";
/// A stretch of the skipped ones or of those in error.
pub(super) const WALK_FAILED: &str = "
    SELECT job, state, 0, reason, lane, attempts_total, changed_at_ms, epoch
    FROM progress WHERE state >= 2 AND state = ?3 AND job > ?1 ORDER BY job LIMIT ?2";

/// A new owner.
pub(super) const INSERT_OWNER: &str =
    "INSERT INTO owner (id, beat, registered_at_ms, retired) VALUES (?1, 0, ?2, 0)";
/// Every owner.
pub(super) const OWNERS: &str = "SELECT row, id, beat, retired FROM owner";
/// One owner.
pub(super) const OWNER: &str = "SELECT beat, retired FROM owner WHERE row = ?1 AND id = ?2";
/// Raises a heartbeat.
pub(super) const BEAT: &str = "UPDATE owner SET beat = beat + 1 WHERE row = ?1 AND id = ?2";
/// Marks an owner as ended in good order.
pub(super) const RETIRE: &str = "UPDATE owner SET retired = 1 WHERE row = ?1 AND id = ?2";
/// Strikes an owner out.
pub(super) const DELETE_OWNER: &str = "DELETE FROM owner WHERE row = ?1 AND id = ?2";
/// Some leases of an owner.
pub(super) const LEASES_OF: &str = "SELECT job, epoch, lane FROM lease WHERE owner = ?1 LIMIT ?2";
