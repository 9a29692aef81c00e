//! How values of the vocabulary are kept in columns, and read back.
//!
//! Reading trusts nothing: a value that no version of orch writes is [`Fault::Corrupt`], never a guess.

use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::fault::{Fault, Worked};
use super::lanes::Lanes;
use crate::job::{
    ArtifactId, Epoch, Jitter, JobRow, LaneId, Priority, Reason, RetryPolicy, State, Strategy,
    WallMs,
};
use crate::queue::store::{AttemptView, JobView};

/// A hash of an artifact id: what `pruned` keeps, and the first 48 bits of it for `seen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IdHash(pub(super) [u8; 16]);

impl IdHash {
    /// The hash of that id.
    pub(super) fn of(id: &ArtifactId) -> IdHash {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&blake3::hash(id.as_str().as_bytes()).as_bytes()[..16]);
        IdHash(bytes)
    }

    /// What `seen` is searched by: 48 bits, because SQLite keeps such a key in seven bytes. Ids that share them
    /// are told apart by their text.
    pub(super) fn seen(self) -> i64 {
        let [a, b, c, d, e, f, ..] = self.0;
        i64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// A number of milliseconds as a column takes it.
pub(super) fn ms_column(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Tags as a JSON array; nothing for none.
pub(super) fn tags_column(tags: &[String]) -> Worked<Option<String>> {
    if tags.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(tags).map(Some).map_err(|e| Fault::Corrupt(e.to_string()))
}

fn tags(column: Option<&str>) -> Worked<Vec<String>> {
    let Some(text) = column else { return Ok(Vec::new()) };
    serde_json::from_str(text).map_err(|_| corrupt("tags", text))
}

/// A retry policy as text: strategy, base, maximum, jitter (`+` milliseconds or `*` fraction), attempts or `-`.
/// Numbers are written so that they read back exactly.
pub(super) fn retry_column(policy: &RetryPolicy) -> String {
    let jitter = match policy.jitter {
        Jitter::UpToMs(ms) => format!("+{ms}"),
        Jitter::Fraction(fraction) => format!("*{fraction}"),
    };
    let attempts = policy.max_attempts.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let RetryPolicy { strategy, base_ms, max_ms, .. } = policy;
    format!("{} {base_ms} {max_ms} {jitter} {attempts}", strategy.name())
}

/// The policy written by [`retry_column`].
pub(super) fn retry(column: Option<&str>) -> Worked<Option<RetryPolicy>> {
    let Some(text) = column else { return Ok(None) };
    parse_retry(text).map(Some).ok_or_else(|| corrupt("retry policy", text))
}

fn parse_retry(text: &str) -> Option<RetryPolicy> {
    let parts: Vec<&str> = text.split(' ').collect();
    let [strategy, base, max, jitter, attempts] = parts.as_slice() else { return None };
    let jitter = match jitter.split_at_checked(1)? {
        ("+", ms) => Jitter::UpToMs(ms.parse().ok()?),
        ("*", fraction) => Jitter::Fraction(fraction.parse().ok()?),
        _ => return None,
    };
    let max_attempts = match *attempts {
        "-" => None,
        n => Some(n.parse().ok()?),
    };
    Some(RetryPolicy {
        strategy: Strategy::from_str(strategy).ok()?,
        base_ms: base.parse().ok()?,
        max_ms: max.parse().ok()?,
        jitter,
        max_attempts,
    })
}

fn corrupt(what: &str, value: impl std::fmt::Display) -> Fault {
    Fault::Corrupt(format!("the {what} {value}"))
}

/// The state kept as `code`.
pub(super) fn state(code: i64) -> Worked<State> {
    let kept = State::from_code(code).filter(|state| *state != State::InProgress);
    kept.ok_or_else(|| corrupt("state", code))
}

/// The reason kept as `code`, if any.
pub(super) fn reason(code: Option<i64>) -> Worked<Option<Reason>> {
    let Some(code) = code else { return Ok(None) };
    Reason::from_code(code).map(Some).ok_or_else(|| corrupt("reason", code))
}

/// The priority kept as `level`.
pub(super) fn priority(level: i64) -> Worked<Priority> {
    let known = u8::try_from(level).ok().and_then(Priority::from_level);
    known.ok_or_else(|| corrupt("priority", level))
}

/// An artifact id that was kept.
pub(super) fn artifact_id(text: &str) -> Worked<ArtifactId> {
    ArtifactId::new(text).map_err(|_| corrupt("artifact id", text))
}

/// A text column, borrowed.
pub(super) fn text<'r>(row: &'r Row<'_>, column: usize) -> Worked<Option<&'r str>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        value => value.as_str().map(Some).map_err(|e| Fault::Corrupt(e.to_string())),
    }
}

/// A text column that is always there.
pub(super) fn owned(row: &Row<'_>, column: usize) -> Worked<String> {
    Ok(text(row, column)?.unwrap_or_default().to_owned())
}

/// A row of [`super::sql::VIEW`].
pub(super) fn view(
    row: &Row<'_>,
    conn: &rusqlite::Connection,
    lanes: &mut Lanes,
) -> Worked<JobView> {
    let lane = lanes.by_id(conn, LaneId(row.get(12)?))?;
    let lease: Option<i64> = row.get(19)?;
    let made_now = u32::from(lease.is_some());
    let delayed: bool = row.get(22)?;
    let not_before: Option<i64> = row.get(10)?;
    Ok(JobView {
        row: JobRow(row.get(0)?),
        artifact_id: artifact_id(text(row, 15)?.unwrap_or_default())?,
        kind: lane.kind.clone(),
        key: lane.key.clone(),
        state: if lease.is_some() { State::InProgress } else { state(row.get(1)?)? },
        priority: priority(row.get(11)?)?,
        epoch: Epoch(lease.map_or_else(|| row.get(2), Ok)?),
        attempts: row.get::<_, u32>(3)? + made_now,
        attempts_total: row.get::<_, u32>(4)? + made_now,
        losses: row.get(5)?,
        reason: reason(row.get(6)?)?,
        message: owned(row, 20)?,
        enqueued_at: WallMs(row.get(9)?),
        changed_at: WallMs(row.get(7)?),
        not_before: not_before.filter(|_| delayed).map(WallMs),
        elapsed_ms: row.get(8)?,
        max_attempts: row.get(13)?,
        timeout_seconds: row.get(14)?,
        retry: retry(text(row, 16)?)?,
        tags: tags(text(row, 17)?)?,
        payload: owned(row, 18)?,
        detail: text(row, 21)?.map(str::to_owned),
    })
}

/// A row of [`super::sql::ATTEMPTS`].
pub(super) fn attempt(row: &Row<'_>) -> Worked<AttemptView> {
    Ok(AttemptView {
        epoch: Epoch(row.get(0)?),
        outcome: owned(row, 1)?.into_boxed_str(),
        reason: reason(row.get(2)?)?,
        message: owned(row, 3)?,
        started_at: WallMs(row.get(4)?),
        elapsed_ms: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert_eq, proptest};

    #[test]
    fn retry_policies_read_back_exactly() {
        let policies = crate::job::Preset::ALL.map(crate::job::Preset::policy);
        let own = RetryPolicy::queue_default(60_000, u64::MAX, 15_000);
        for policy in policies.into_iter().chain([own]) {
            assert_eq!(retry(Some(&retry_column(&policy))).unwrap(), Some(policy));
        }
        for bad in
            ["", "fixed", "fixed 1 2 +3", "fixed 1 2 3 -", "slow 1 2 +3 -", "fixed 1 2 +3 - x"]
        {
            assert!(retry(Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn codes_that_no_version_wrote_are_refused() {
        assert!(state(State::InProgress.code()).is_err(), "never written: a lease is a row");
        assert!(state(9).is_err());
        assert!(reason(Some(0)).is_err());
        assert!(priority(5).is_err());
        assert!(tags(Some("{")).is_err());
        assert!(artifact_id("").is_err());
    }

    proptest! {
        #[test]
        fn a_jitter_fraction_reads_back_to_the_last_bit(fraction in 0.0_f64..1.0) {
            let policy = RetryPolicy {
                jitter: Jitter::Fraction(fraction),
                ..RetryPolicy::queue_default(1, 2, 3)
            };
            prop_assert_eq!(retry(Some(&retry_column(&policy))).unwrap(), Some(policy));
        }

        #[test]
        fn a_hash_to_search_by_has_48_bits(id in "[a-z]{1,20}") {
            let seen = IdHash::of(&ArtifactId::new(&id).unwrap()).seen();
            assert!((0..1_i64 << 48).contains(&seen));
        }
    }
}
