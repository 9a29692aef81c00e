//! What a process tells the store of its limits in a turn, and what it is told.
//!
//! ```text
//!   a process begins      shared, with no share of anything: nothing may start
//!   Claim::Close          alone on the queue? then it is the sole one: no shares, its own buckets, no row
//!   somebody comes        the reply of the next turn says so (the bell rang): the sole one stops dividing by itself at once
//!                         (its share of each key is what runs there), and says so with Claim::Open and a report for each key
//!                         in use. Until that turn is through nobody else is granted anything
//!   shared                what a key lacks is asked for in reports, and granted in replies. What others wait for is given back
//!   alone again           Claim::Close
//! ```
//!
//! Events are told in both ways, so that the store's records are as good as the processes'.

use crate::job::{LimitKey, Mono};

use super::{Bucket, Configured, KeyEvent, KeyRecord, Policy};

/// What a process says of who divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Claim {
    /// As before.
    #[default]
    Keep,
    /// I do not use keys as I please any more: what runs here is in the reports of this turn.
    Open,
    /// If there is no other owner, I am the sole one from now on: my shares are void.
    Close,
}

/// What a process says in a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyNews {
    /// The monotonic time of the turn.
    pub now: Mono,
    /// The version up to which it has been told of changed records; 0: of none.
    pub known: i64,
    /// See there.
    pub claim: Claim,
    /// By what its events are applied.
    pub policy: Policy,
    /// At most one per key.
    pub reports: Vec<KeyReport>,
}

/// What a process says of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyReport {
    /// Which.
    pub key: LimitKey,
    /// What happened there since the last report, in order.
    pub events: Vec<KeyEvent>,
    /// Requests running under it now, for people.
    pub running: u32,
    /// Of the slots it was granted, those it keeps: never fewer than run.
    pub slots: u32,
    /// The slots it wants beyond them, 0: none (any more).
    pub wanted: u32,
    /// Of the tokens it was granted, those it still has in hand, and keeps.
    pub tokens: u32,
    /// Those it gives back unspent.
    pub tokens_back: u32,
    /// The tokens it wants beyond them.
    pub tokens_wanted: u32,
    /// When the last token was spent since the last report.
    pub spent_at: Option<Mono>,
    /// When a request ended since the last report, where only one may run at a time and there is a rate: the interval counts from there.
    pub ended_at: Option<Mono>,
    /// The bucket of the sole process, as of now: it takes the place of the record's.
    pub bucket: Option<Bucket>,
}

/// What a process is told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeyReply {
    /// Whether it is the sole one, as far as the store has been told.
    pub is_sole: bool,
    /// Whether there is no other owner.
    pub is_alone: bool,
    /// The version of the latest record among the answers, or [`KeyNews::known`]: to be `known` in the next turn.
    pub version: i64,
    /// Whether further records have changed, beyond those that one reply tells of.
    pub more: bool,
    /// What live processes were configured with has changed since it was last told: of a key that nothing limited, and that is not among the
    /// answers, it does not know any more that nothing does.
    pub redeclared: bool,
    /// Of every key reported, every key it has a share of if that has changed, every key whose record has changed since `known`, and every key it has a share of that others wait for. Each once.
    pub answers: Vec<KeyAnswer>,
}

/// What a process is told of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyAnswer {
    /// Which.
    pub key: LimitKey,
    /// What is known of it.
    pub record: KeyRecord,
    /// The strictest of what all live processes were configured with.
    pub configured: Configured,
    /// The slots it has from now on.
    pub slots: u32,
    /// The tokens it has in hand from now on.
    pub tokens: u32,
    /// Others wait for slots, or there are fewer than were given out: so many it may keep.
    pub keep: Option<u32>,
    /// More slots are out than there may be (the limit fell, or the breaker opened): none that comes back is used again.
    pub is_over: bool,
    /// Others want slots, and there are none: those that idle here are of more use there, even of its own part.
    pub idle_awaited: bool,
    /// Others wait for tokens.
    pub tokens_awaited: bool,
    /// When the next token that nobody has in hand will be there, if there is a rate and none is there now.
    pub next_token: Option<Mono>,
}

impl KeyReport {
    /// A report that says nothing of `key` but that nothing runs.
    #[must_use]
    pub fn of(key: LimitKey) -> KeyReport {
        KeyReport {
            key,
            events: Vec::new(),
            running: 0,
            slots: 0,
            wanted: 0,
            tokens: 0,
            tokens_back: 0,
            tokens_wanted: 0,
            spent_at: None,
            ended_at: None,
            bucket: None,
        }
    }
}
