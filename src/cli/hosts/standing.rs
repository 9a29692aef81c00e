//! How a key stands, put together for people: which limit binds, what stands in the way, until when, and who holds its slots.
//!
//! Must never ask the time, a store or the system: it is given what is known. What it says is what a run goes by
//! ([`KeyRecord::terms`], [`KeyRecord::standing`](crate::share::KeyRecord::standing)), never an opinion of its own.

use std::time::Duration;

use crate::cli::duration;
use crate::cli::output::time;
use crate::job::{LimitKey, Mono, WallMs};
use crate::limit::Limits;
use crate::queue::store::{Holder, KeyView};
use crate::share::{
    Binds, BreakerState, Bucket, Configured, KeyLimits, KeyRecord, Rate, Standing, Terms,
    WhyGivenUp, WhyWaiting,
};

/// When it is, by both clocks: records have monotonic times, people do not.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Moment {
    /// Monotonic.
    pub(in crate::cli) mono: Mono,
    /// By the wall.
    pub(in crate::cli) wall: WallMs,
}

/// By what a key is judged, beside what the store knows of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Terrain<'a> {
    /// When it is.
    pub(in crate::cli) now: Moment,
    /// The limits that a run would have with the settings of this process.
    pub(in crate::cli) limits: &'a Limits,
    /// Whether somebody runs this queue. If nobody does, what is configured here is what will hold.
    pub(in crate::cli) is_run: bool,
}

/// What stands in the way of a job under a key, the weightiest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Obstacle {
    /// A person paused it.
    Paused,
    /// It is not worth waiting for: its jobs end as they come up.
    GivenUp {
        /// Why.
        why: WhyGivenUp,
        /// Until when nobody asks it.
        until: Mono,
    },
    /// Its server said to slow down.
    Held {
        /// Until then.
        until: Mono,
    },
    /// Its breaker is open.
    Down {
        /// Since when.
        since: Mono,
        /// When one request will be let through.
        until: Mono,
    },
    /// Its breaker lets one request at a time through.
    HalfOpen {
        /// Since when.
        since: Mono,
    },
    /// Every slot is taken.
    Full,
    /// There is no token.
    NoToken {
        /// When the next will be there.
        next: Mono,
    },
}

/// How one key stands.
#[derive(Debug)]
pub(in crate::cli) struct Stand<'a> {
    /// What is known of it.
    pub(in crate::cli) view: &'a KeyView,
    /// What it was configured with: the strictest of all that run, or what a run from here would have.
    pub(in crate::cli) configured: Configured,
    /// What it comes to.
    pub(in crate::cli) terms: Terms,
    /// Requests running, as far as their processes have said.
    pub(in crate::cli) running: u32,
    /// When the next token will be there, where there is a rate and nobody has a token.
    pub(in crate::cli) next_token: Option<Mono>,
    /// What stands in the way; nothing where there is room.
    pub(in crate::cli) obstacle: Option<Obstacle>,
}

impl Moment {
    /// The wall-clock time of a monotonic one.
    pub(in crate::cli) fn wall_at(self, at: Mono) -> WallMs {
        let (ahead, ago) = (at.since(self.mono), self.mono.since(at));
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        WallMs(self.wall.0.saturating_add(ms(ahead)).saturating_sub(ms(ago)))
    }

    /// How long it is until then, in milliseconds; 0 when it is over.
    pub(in crate::cli) fn until_ms(self, at: Mono) -> u64 {
        u64::try_from(at.since(self.mono).as_millis()).unwrap_or(u64::MAX)
    }

    /// A monotonic time for people: `14:02:11Z`, with its date when that is not today's (UTC).
    pub(in crate::cli) fn clock(self, at: Mono) -> String {
        self.wall_clock(self.wall_at(at))
    }

    /// The same of a wall-clock time.
    pub(in crate::cli) fn wall_clock(self, at: WallMs) -> String {
        let (then, today) = (time(at), time(self.wall));
        match (then.split_once('T'), today.split_once('T')) {
            (Some((day, clock)), Some((today, _))) if day == today => clock.to_owned(),
            _ => then,
        }
    }
}

impl Terrain<'_> {
    /// How `view` stands.
    pub(in crate::cli) fn stand<'a>(&self, view: &'a KeyView) -> Stand<'a> {
        let now = self.now.mono;
        let configured = if self.is_run { view.configured } else { self.configured(&view.key) };
        let terms = view.record.terms(&configured, now);
        let running = view.holders.iter().map(|holder| holder.share.running).sum();
        let next_token = next_token(view, &terms, now);
        let mut stand = Stand { view, configured, terms, running, next_token, obstacle: None };
        stand.obstacle = self.trouble(&view.record).or_else(|| stand.shortage());
        stand
    }

    /// What a run with the settings of this process would hold a key to.
    pub(in crate::cli) fn configured(&self, key: &LimitKey) -> Configured {
        let own = self.limits.by_key.get(key).copied().unwrap_or_default();
        let default = match key {
            LimitKey::Host(_) => self.limits.max_per_host,
            LimitKey::Resolver(_) => None,
        };
        let limits = KeyLimits { max_concurrent: own.max_concurrent.or(default), ..own };
        Configured { limits, is_fixed: own.max_concurrent.is_some() }
    }

    /// What stands in everybody's way.
    fn trouble(&self, record: &KeyRecord) -> Option<Obstacle> {
        let now = self.now.mono;
        let breaker = record.breaker;
        match record.standing(now, &self.limits.policy) {
            Standing::Waits { why: WhyWaiting::Paused, .. } => Some(Obstacle::Paused),
            Standing::Waits { why: WhyWaiting::Held, until } => {
                let end = record.hold.map(|hold| hold.until).or(until);
                end.map(|until| Obstacle::Held { until })
            }
            Standing::Waits { why: WhyWaiting::Open, until } => {
                let end = match breaker.state {
                    BreakerState::Open { until } => Some(until),
                    _ => until,
                };
                end.map(|until| Obstacle::Down { since: breaker.since, until })
            }
            Standing::GivenUp { why, until } => Some(Obstacle::GivenUp { why, until }),
            Standing::Open => match (breaker.state, breaker.state(now)) {
                (BreakerState::Open { until: since }, BreakerState::HalfOpen { .. }) => {
                    Some(Obstacle::HalfOpen { since })
                }
                (_, BreakerState::HalfOpen { .. }) => {
                    Some(Obstacle::HalfOpen { since: breaker.since })
                }
                _ => None,
            },
        }
    }
}

impl Stand<'_> {
    /// What is lacking for one more request.
    fn shortage(&self) -> Option<Obstacle> {
        if self.is_full() {
            return Some(Obstacle::Full);
        }
        self.next_token.map(|next| Obstacle::NoToken { next })
    }

    /// Whether every slot is taken.
    pub(in crate::cli) fn is_full(&self) -> bool {
        self.terms.max_concurrent.is_some_and(|most| self.running >= most)
    }

    /// Whether more than want of slots or tokens stands in the way.
    pub(in crate::cli) fn is_in_trouble(&self) -> bool {
        !matches!(self.obstacle, None | Some(Obstacle::Full | Obstacle::NoToken { .. }))
    }

    /// Jobs under it that are not finished.
    pub(in crate::cli) fn unfinished(&self) -> u64 {
        self.view.counts.queued + self.view.counts.in_progress
    }

    /// How many jobs may pass in a second, by its slots, its rate and how long its attempts have taken so far; `None`: nothing is
    /// known that bounds it.
    pub(in crate::cli) fn jobs_per_second(&self) -> Option<f64> {
        let mean = mean_seconds(self.view);
        let rate = self.terms.rate.map(|rate| f64::from(rate.count) / rate.per.as_secs_f64());
        let slots = match (self.terms.max_concurrent, mean) {
            // The interval counts from the end of one answer to the start of the next request.
            (Some(1), Some(mean)) => Some(1.0 / (mean + rate.map_or(0.0, |rate| 1.0 / rate))),
            (Some(most), Some(mean)) => Some(f64::from(most) / mean),
            _ => None,
        };
        slots.into_iter().chain(rate).reduce(f64::min).filter(|speed| *speed > 0.0)
    }

    /// `1 of 4`, or `3` where nothing limits them.
    pub(in crate::cli) fn running_words(&self) -> String {
        match self.terms.max_concurrent {
            Some(most) => format!("{} of {most}", self.running),
            None => self.running.to_string(),
        }
    }

    /// What stands in the way, in words; `None` when nothing does, or nobody waits.
    pub(in crate::cli) fn why(&self, now: Moment) -> Option<String> {
        let nobody_waits = self.view.counts.queued == 0 && !self.is_in_trouble();
        let obstacle = self.obstacle.filter(|_| !nobody_waits)?;
        let token = self.next_token.map(|at| token_words(now, at));
        Some(match (obstacle, token) {
            (Obstacle::Full, Some(token)) => format!("full, {token}"),
            (obstacle, _) => obstacle.words(now),
        })
    }

    /// What it is limited to, and by what: `at most 1 at once (crawl delay), 1/3s`.
    pub(in crate::cli) fn limit_words(&self) -> String {
        let slots = match self.terms.max_concurrent {
            None => "no limit at once".to_owned(),
            Some(most) => format!("at most {most} at once ({})", binds_words(self.terms.binds)),
        };
        match self.terms.rate {
            None => slots,
            Some(rate) => format!("{slots}, {}", rate_words(rate)),
        }
    }
}

impl Obstacle {
    /// Its name in JSON.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Obstacle::Paused => "paused",
            Obstacle::GivenUp { .. } => "given_up",
            Obstacle::Held { .. } => "held",
            Obstacle::Down { .. } => "open",
            Obstacle::HalfOpen { .. } => "half_open",
            Obstacle::Full => "full",
            Obstacle::NoToken { .. } => "rate",
        }
    }

    /// When it ends, where that is known.
    pub(in crate::cli) fn until(self) -> Option<Mono> {
        match self {
            Obstacle::GivenUp { until, .. }
            | Obstacle::Held { until }
            | Obstacle::Down { until, .. }
            | Obstacle::NoToken { next: until } => Some(until),
            Obstacle::Paused | Obstacle::HalfOpen { .. } | Obstacle::Full => None,
        }
    }

    /// In words.
    pub(in crate::cli) fn words(self, now: Moment) -> String {
        let at = |at: Mono| now.clock(at);
        let within = |at: Mono| duration::words(now.until_ms(at));
        match self {
            Obstacle::Paused => "paused".to_owned(),
            Obstacle::GivenUp { why, until } => {
                format!("given up until {} ({}): its jobs end", at(until), given_up_name(why))
            }
            Obstacle::Held { until } => {
                format!("told to slow down: held until {} ({})", at(until), within(until))
            }
            Obstacle::Down { since, until } => format!(
                "down since {}, asked again at {} (in {})",
                at(since),
                at(until),
                within(until)
            ),
            Obstacle::HalfOpen { since } => {
                format!("half-open since {}: one request at a time", at(since))
            }
            Obstacle::Full => "full".to_owned(),
            Obstacle::NoToken { next } => token_words(now, next),
        }
    }
}

fn token_words(now: Moment, at: Mono) -> String {
    format!("next token in {}", duration::words(now.until_ms(at)))
}

/// The reason that jobs of a key end with that is given up.
pub(in crate::cli) fn given_up_name(why: WhyGivenUp) -> &'static str {
    match why {
        WhyGivenUp::RateLimited => "rate_limited",
        WhyGivenUp::Down => "host_down",
    }
}

/// The name in JSON of what binds; nothing where nothing does.
pub(in crate::cli) fn binds_name(binds: Binds) -> Option<&'static str> {
    match binds {
        Binds::Nothing => None,
        Binds::Configured => Some("configured"),
        Binds::Set => Some("set"),
        Binds::CrawlDelay => Some("crawl_delay"),
        Binds::Adaptive => Some("adaptive"),
        Binds::Breaker => Some("breaker"),
    }
}

/// What binds, for people.
pub(in crate::cli) fn binds_words(binds: Binds) -> &'static str {
    match binds {
        Binds::Nothing => "-",
        Binds::Configured => "configured",
        Binds::Set => "set",
        Binds::CrawlDelay => "crawl delay",
        Binds::Adaptive => "adaptive",
        Binds::Breaker => "breaker",
    }
}

/// A rate and its burst, where that is more than one start.
pub(in crate::cli) fn rate_words(rate: Rate) -> String {
    match rate.burst {
        0 | 1 => rate.to_string(),
        burst => format!("{rate} (burst {burst})"),
    }
}

/// The key's name as people type it: a resolver's says that it is one.
pub(in crate::cli) fn name(key: &LimitKey) -> String {
    match key {
        LimitKey::Host(name) => name.to_string(),
        LimitKey::Resolver(name) => format!("resolver:{name}"),
    }
}

/// Whoever has slots or tokens of a key, or runs something under it.
pub(in crate::cli) fn holding(view: &KeyView) -> impl Iterator<Item = &Holder> {
    let holds = |holder: &&Holder| {
        let share = holder.share;
        share.slots > 0 || share.running > 0 || share.tokens > 0
    };
    view.holders.iter().filter(holds)
}

/// How long an attempt has taken on average, in seconds; `None` when none was made. Attempts are measured in whole milliseconds, cut
/// off: half a one is added.
pub(in crate::cli) fn mean_seconds(view: &KeyView) -> Option<f64> {
    let pace = view.pace;
    (pace.attempts > 0).then(|| (pace.elapsed_ms as f64 / pace.attempts as f64 + 0.5) / 1_000.0)
}

/// When the next token will be there, where a rate holds, the bucket is empty and nobody has a token in hand.
fn next_token(view: &KeyView, terms: &Terms, now: Mono) -> Option<Mono> {
    let rate = terms.rate?;
    let mut bucket: Bucket = view.record.bucket?;
    bucket.adopt(rate);
    bucket.grow(now);
    let in_hand = view.holders.iter().any(|holder| holder.share.tokens > 0);
    (!in_hand && !bucket.has_token()).then(|| bucket.next_token())
}
