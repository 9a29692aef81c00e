//! A key as `hosts` and `explain` put it into JSON: names that scripts may rely on.

use serde::Serialize;

use super::holders::Processes;
use super::standing::{Moment, Stand, binds_name, mean_seconds};
use crate::cli::output::rfc3339;
use crate::job::{LimitKey, Mono};
use crate::queue::store::{Counts, Holder};
use crate::share::{BreakerState, KeyLimits, Rate};

/// How a key stands.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct KeyJson<'a> {
    kind: &'static str,
    name: &'a str,
    running: u32,
    max_concurrent: Option<u32>,
    /// Which limit `max_concurrent` comes from.
    binds: Option<&'static str>,
    rate: Option<String>,
    burst: Option<u32>,
    waiting: u64,
    /// What stands in the way.
    why: Option<&'static str>,
    until: Option<String>,
    wait_ms: Option<u64>,
    next_token_at: Option<String>,
    paused: bool,
    held_until: Option<String>,
    trouble_since: Option<String>,
    crawl_delay_ms: Option<u64>,
    adaptive: Option<u32>,
    breaker: BreakerJson,
    set: LimitsJson,
    configured: LimitsJson,
    counts: CountsJson,
    attempts: u64,
    mean_ms: Option<u64>,
    holders: Vec<HolderJson<'a>>,
}

#[derive(Debug, Serialize)]
struct BreakerJson {
    state: &'static str,
    failures: u32,
    since: Option<String>,
    until: Option<String>,
}

#[derive(Debug, Serialize)]
struct LimitsJson {
    max_concurrent: Option<u32>,
    rate: Option<String>,
    burst: Option<u32>,
}

#[derive(Debug, Serialize)]
struct CountsJson {
    queued: u64,
    in_progress: u64,
    done: u64,
    skipped: u64,
    error: u64,
    total: u64,
}

#[derive(Debug, Serialize)]
struct HolderJson<'a> {
    owner: &'a str,
    process: Option<u32>,
    /// `running`, `stopped`, or `unseen`.
    state: &'static str,
    slots: u32,
    running: u32,
    tokens: u32,
    wanted: u32,
    tokens_wanted: u32,
    waiting_since: Option<String>,
}

impl<'a> KeyJson<'a> {
    pub(in crate::cli) fn new(
        stand: &Stand<'a>,
        now: Moment,
        processes: &mut Processes,
    ) -> KeyJson<'a> {
        let view = stand.view;
        let record = &view.record;
        let (kind, name) = match &view.key {
            LimitKey::Host(name) => ("host", name),
            LimitKey::Resolver(name) => ("resolver", name),
        };
        let at = |at: Mono| rfc3339(now.wall_at(at));
        let until = stand.obstacle.and_then(|obstacle| obstacle.until());
        let held_until = record.hold.map(|hold| hold.until).filter(|until| *until > now.mono);
        let ms = |seconds: f64| (seconds * 1_000.0).round() as u64;
        KeyJson {
            kind,
            name,
            running: stand.running,
            max_concurrent: stand.terms.max_concurrent,
            binds: binds_name(stand.terms.binds),
            rate: stand.terms.rate.map(|rate| rate.to_string()),
            burst: stand.terms.rate.map(|rate| rate.burst),
            waiting: view.counts.queued,
            why: stand.obstacle.map(|obstacle| obstacle.name()),
            until: until.and_then(at),
            wait_ms: until.map(|until| now.until_ms(until)),
            next_token_at: stand.next_token.and_then(at),
            paused: record.paused,
            held_until: held_until.and_then(at),
            trouble_since: record.trouble_since.and_then(at),
            crawl_delay_ms: record
                .crawl_delay
                .map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            adaptive: record.adaptive.limit,
            breaker: BreakerJson::new(stand, now),
            set: LimitsJson::new(record.set),
            configured: LimitsJson::new(stand.configured.limits),
            counts: CountsJson::new(&view.counts),
            attempts: view.pace.attempts,
            mean_ms: mean_seconds(view).map(ms),
            holders: view
                .holders
                .iter()
                .map(|holder| HolderJson::new(holder, now, processes))
                .collect(),
        }
    }
}

impl BreakerJson {
    fn new(stand: &Stand<'_>, now: Moment) -> BreakerJson {
        let breaker = stand.view.record.breaker;
        let at = |at: Mono| rfc3339(now.wall_at(at));
        let (state, since, until) = match (breaker.state, breaker.state(now.mono)) {
            (_, BreakerState::Closed) => ("closed", None, None),
            (_, BreakerState::Open { until }) => ("open", at(breaker.since), at(until)),
            (BreakerState::Open { until: since }, _) => ("half_open", at(since), None),
            _ => ("half_open", at(breaker.since), None),
        };
        BreakerJson { state, failures: breaker.failures, since, until }
    }
}

impl LimitsJson {
    fn new(limits: KeyLimits) -> LimitsJson {
        LimitsJson {
            max_concurrent: limits.max_concurrent,
            rate: limits.rate.map(|rate: Rate| rate.to_string()),
            burst: limits.rate.map(|rate| rate.burst),
        }
    }
}

impl CountsJson {
    fn new(counts: &Counts) -> CountsJson {
        CountsJson {
            queued: counts.queued,
            in_progress: counts.in_progress,
            done: counts.done,
            skipped: counts.skipped,
            error: counts.error,
            total: counts.total(),
        }
    }
}

impl<'a> HolderJson<'a> {
    fn new(holder: &'a Holder, now: Moment, processes: &mut Processes) -> HolderJson<'a> {
        let share = holder.share;
        HolderJson {
            owner: &holder.owner,
            process: holder.process,
            state: processes.of(holder.process).name(),
            slots: share.slots,
            running: share.running,
            tokens: share.tokens,
            wanted: share.wanted,
            tokens_wanted: share.tokens_wanted,
            waiting_since: share.waiting_since.and_then(|at| rfc3339(now.wall_at(at))),
        }
    }
}
