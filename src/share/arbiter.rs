//! How the slots and tokens of a key are divided among processes.
//!
//! Slots: whoever wants some gets what is free. While others wait, nobody gets more than an even part (rounded up), and whoever has
//! more than one (rounded down: perhaps none) is told to come down to it. A slot that was given back is kept for whoever waits longest
//! with less than its part, for one [`SHARE_PERIOD`]; then anybody may have it, for the one who waits may be stopped.
//!
//! Tokens: what is in the bucket and what processes have in hand is never more than the burst. So over any interval no more
//! requests start than burst + rate · time, whoever starts them.
//!
//! Must never grant a slot that is somebody's, whatever became of the limit, nor a token while one in hand may still be spent.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::{LimitKey, Mono};

use super::{Configured, KeyAnswer, KeyRecord, KeyReport, Policy};

/// The longest that a permit idles between processes: who waits asks again this often, and a slot is kept for so long for whoever
/// waits for it.
pub const SHARE_PERIOD: Duration = Duration::from_millis(200);

/// What one process has of a key, and wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Slots it may use.
    pub slots: u32,
    /// Of them, in use when it last said so; for people.
    pub running: u32,
    /// Tokens in its hand.
    pub tokens: u32,
    /// Slots it wants beyond them.
    pub wanted: u32,
    /// Tokens it wants beyond them.
    pub tokens_wanted: u32,
    /// Since when it wants something and has not got it.
    pub waiting_since: Option<Mono>,
    /// When it last said what it wants.
    pub asked_at: Mono,
}

/// The shares of one key, by the row of their owner.
pub type Shares = BTreeMap<i64, Share>;

/// What a key's shares are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scene {
    /// The strictest of what all live processes were configured with.
    pub configured: Configured,
    /// By what events are applied.
    pub policy: Policy,
    /// The monotonic time of the turn.
    pub now: Mono,
    /// A sole process was found dead then, and nobody knows what it has spent: every bucket that was not touched since is as empty
    /// at that time. `None`: that never happened.
    pub void_at: Option<Mono>,
    /// Who divides by itself.
    pub sole: Sole,
}

/// Whether some process is the sole one, as the process that reports sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sole {
    /// None is.
    #[default]
    Nobody,
    /// The one that reports was, up to this turn ([`super::Claim::Open`]): its slots and tokens are those it says, whatever its share was.
    WasMe,
    /// Another one is: nothing is granted.
    Other,
}

/// What a report changed for others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Divided {
    /// The record has changed in a way that others must learn of: it takes a new version, and all of them are rung.
    pub changed: bool,
    /// Owners to be rung: there is something for them, or something is wanted of them. Never the one that reported.
    pub ring: Vec<i64>,
}

/// Applies the report of `me` to the record and the shares of its key, and grants what can be granted. A share that is nothing is removed.
pub fn divide(
    record: &mut KeyRecord,
    shares: &mut Shares,
    me: i64,
    report: &KeyReport,
    scene: &Scene,
) -> (KeyAnswer, Divided) {
    (state_of(&report.key, record, shares, me, scene), Divided::default())
}

/// Applies the report of `me`, the sole one: events, its bucket, and what runs there as its share, for people. Grants nothing, for
/// it needs nothing.
pub fn told_by_sole(
    record: &mut KeyRecord,
    shares: &mut Shares,
    me: i64,
    report: &KeyReport,
    scene: &Scene,
) -> (KeyAnswer, Divided) {
    (state_of(&report.key, record, shares, me, scene), Divided::default())
}

/// What `me` is to be told of a key it did not report on: how it stands, and how much it may keep.
#[must_use]
pub fn state_of(
    key: &LimitKey,
    record: &KeyRecord,
    shares: &Shares,
    me: i64,
    scene: &Scene,
) -> KeyAnswer {
    let share = shares.get(&me).copied().unwrap_or_default();
    KeyAnswer {
        key: key.clone(),
        record: *record,
        configured: scene.configured,
        slots: share.slots,
        tokens: share.tokens,
        keep: None,
        tokens_awaited: false,
        next_token: None,
    }
}
