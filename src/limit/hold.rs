//! Keys whose server said to slow down (429 and 503, with or without `Retry-After`), and until when nobody asks them.
//!
//! Must never shorten a wait that was given, take two steps for one event, tell anybody (time ends a hold: whoever is
//! refused is told when), or cost more than a look at one number while nothing is held.

use std::time::Duration;

use crate::job::{Key, LimitKey, Mono};
use crate::share::WhyGivenUp;

use super::by_key::{ByKey, parts};
use super::gate::{Wait, WaitReason};
use super::sync::{AtomicUsize, Mutex, Ordering};

/// How long the first event holds a key when the server named no time; it doubles with each further one.
const FIRST_STEP: Duration = Duration::from_secs(1);
const LONGEST_STEP: Duration = Duration::from_secs(60);
/// The most keys held at once; of more, the one that ends soonest is let go.
pub(super) const MAX_HELD: usize = 4_096;

/// What an answer that says "slow down" said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// When its request had been sent.
    pub asked_at: Mono,
    /// When it came.
    pub now: Mono,
    /// Its `Retry-After` (RFC 9110, section 10.2.3), counted from `now`; zero is as none.
    pub after: Option<Duration>,
}

/// A key that is not worth waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Which.
    pub on: LimitKey,
    /// Until when nobody asks it.
    pub until: Mono,
    /// Why.
    pub why: WhyGivenUp,
}

/// What holds say of a [`Key`].
#[derive(Debug)]
pub(super) enum Standing {
    /// Nothing holds it.
    Open,
    /// A part of it is held, and worth waiting for.
    Held(Wait),
    /// A part of it is held for too long, or has been too often.
    GivenUp(GivenUp),
}

/// The keys that are held.
pub(super) struct Holds {
    /// What is held for longer than this, or again and again since, is given up.
    give_up: Duration,
    /// How many entries the table has: with none, nobody takes its lock.
    count: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    holds: ByKey<Hold>,
    /// The latest time anybody came with.
    seen: Mono,
    /// No entry is to be forgotten before.
    sweep_at: Mono,
}

/// One key that was told to slow down.
struct Hold {
    /// When the event that holds it began: an answer to a request that was sent before tells of the same one.
    began: Mono,
    until: Mono,
    /// The events since the last proper answer; `None` when one came during the hold.
    series: Option<Series>,
}

#[derive(Clone, Copy)]
struct Series {
    since: Mono,
    /// At least 1.
    events: u32,
}

impl Holds {
    pub(super) fn new(give_up: Duration) -> Holds {
        Holds { give_up, count: AtomicUsize::new(0), table: Mutex::new(Table::default()) }
    }

    /// See [`super::Gate::hold`].
    pub(super) fn hold(&self, key: &LimitKey, told: Told) -> Mono {
        let mut table = self.table.lock();
        table.pass_to(told.now, self.give_up);
        let (until, expiry) = match table.holds.get_mut(key.into()) {
            Some(hold) => {
                hold.extend(told);
                (hold.until, hold.expiry(self.give_up))
            }
            None => {
                let hold = Hold::new(told);
                let ends = (hold.until, hold.expiry(self.give_up));
                table.holds.insert(key.into(), hold);
                table.shrink_to(MAX_HELD);
                ends
            }
        };
        table.sweep_at = table.sweep_at.min(expiry);
        self.recount(&table);
        until
    }

    /// See [`super::Gate::answered`].
    pub(super) fn answered(&self, key: &LimitKey) {
        if self.is_empty() {
            return;
        }
        let mut table = self.table.lock();
        let seen = table.seen;
        let Some(hold) = table.holds.get_mut(key.into()) else { return };
        hold.series = None;
        // A hold in force stays in force: the answer may be to a request from before it.
        let until = hold.until;
        if until <= seen {
            table.holds.remove(key.into());
        }
        table.sweep_at = table.sweep_at.min(until);
        self.recount(&table);
    }

    /// How `key` stands at `now`. A part that is given up counts more than one that is only held: nobody will ask.
    pub(super) fn standing(&self, key: &Key, now: Mono) -> Standing {
        if key.is_free() || self.is_empty() {
            return Standing::Open;
        }
        let mut table = self.table.lock();
        if table.pass_to(now, self.give_up) {
            self.recount(&table);
        }
        let mut standing = Standing::Open;
        for part in parts(key).into_iter().flatten() {
            let Some(hold) = table.holds.get(part).filter(|hold| hold.until > now) else {
                continue;
            };
            if hold.is_given_up(now, self.give_up) {
                return Standing::GivenUp(GivenUp {
                    on: part.to_limit_key(),
                    until: hold.until,
                    why: WhyGivenUp::RateLimited,
                });
            }
            if matches!(standing, Standing::Open) {
                let until = Some(hold.worth_trying_at(self.give_up));
                let (on, reason) = (part.to_limit_key(), WaitReason::Held);
                standing = Standing::Held(Wait { on, reason, until });
            }
        }
        standing
    }

    /// Every key held at `now`, in no order, with its end.
    pub(super) fn held(&self, now: Mono) -> Vec<(LimitKey, Mono)> {
        let table = self.table.lock();
        let held = table.holds.iter().filter(|(_, hold)| hold.until > now);
        held.map(|(part, hold)| (part.to_limit_key(), hold.until)).collect()
    }

    /// How many keys are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Under the table's lock: whoever has seen a hold given sees that there is one.
    fn recount(&self, table: &Table) {
        self.count.store(table.holds.len(), Ordering::Release);
    }
}

impl Table {
    /// Time has come to `now`: forgets what is over. Returns whether it looked.
    fn pass_to(&mut self, now: Mono, give_up: Duration) -> bool {
        self.seen = self.seen.max(now);
        if now < self.sweep_at || self.holds.len() == 0 {
            return false;
        }
        self.holds.retain(|hold| hold.expiry(give_up) > now);
        let next = self.holds.iter().map(|(_, hold)| hold.expiry(give_up)).min();
        self.sweep_at = next.unwrap_or(Mono(Duration::MAX));
        true
    }

    fn shrink_to(&mut self, most: usize) {
        if self.holds.len() <= most {
            return;
        }
        let soonest = self.holds.iter().min_by_key(|(_, hold)| hold.until);
        if let Some(soonest) = soonest.map(|(part, _)| part.to_limit_key()) {
            self.holds.remove((&soonest).into());
        }
    }
}

impl Hold {
    fn new(told: Told) -> Hold {
        let series = Series { since: told.now, events: 1 };
        Hold { began: told.now, until: told.now.plus(told.wait(1)), series: Some(series) }
    }

    /// Takes in a further answer of the kind.
    fn extend(&mut self, told: Told) {
        if told.asked_at > self.began {
            let series = self.series.get_or_insert(Series { since: told.now, events: 0 });
            series.events = series.events.saturating_add(1);
            self.began = told.now;
        }
        let events = self.series.map_or(1, |series| series.events);
        self.until = self.until.max(told.now.plus(told.wait(events)));
    }

    /// While it is held: whether it is for too long, or has been again and again for too long.
    fn is_given_up(&self, now: Mono, give_up: Duration) -> bool {
        self.until.since(now) > give_up
            || self.series_too_long_at(give_up).is_some_and(|at| at <= now)
    }

    /// When somebody who waits for it should try: at its end, or when it is given up before.
    fn worth_trying_at(&self, give_up: Duration) -> Mono {
        self.series_too_long_at(give_up).map_or(self.until, |at| at.min(self.until))
    }

    fn series_too_long_at(&self, give_up: Duration) -> Option<Mono> {
        self.series.map(|series| series.since.plus(give_up))
    }

    /// When it is forgotten: at its end if it was answered, else when nobody has tried for long.
    fn expiry(&self, give_up: Duration) -> Mono {
        match self.series {
            None => self.until,
            Some(_) => self.until.plus(give_up),
        }
    }
}

impl Told {
    /// What the server said, or the step of this many events.
    fn wait(&self, events: u32) -> Duration {
        let step = || {
            let doubled = 1_u32.checked_shl(events.saturating_sub(1)).unwrap_or(u32::MAX);
            FIRST_STEP.saturating_mul(doubled).min(LONGEST_STEP)
        };
        self.after.filter(|after| !after.is_zero()).unwrap_or_else(step)
    }
}
