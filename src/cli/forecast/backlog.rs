//! What is left, as a forecast wants it: loads with how long their jobs take, and limits as they are now.
//!
//! Must never scan jobs: it goes by the ready jobs of each lane, and by what is counted for each key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::hosts::standing::{Terrain, mean_seconds};
use crate::job::{Key, Kind, Lane, LaneId, LimitKey, Priority};
use crate::limit::{KeyLimits, Limits};
use crate::queue::store::{Counts, KeyView, LaneBacklog, Pace};
use crate::run::forecast::{Load, limits_of};
use crate::share::{Adaptive, Breaker, KeyRecord};

/// How long a job takes where nothing is known of any.
const UNKNOWN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, PartialEq)]
pub(super) struct Backlog {
    pub(super) loads: Vec<Load>,
    pub(super) limits: Limits,
    /// Jobs that were not ready and are counted as if they were.
    pub(super) not_ready: u64,
    /// Jobs left out because their host or resolver is paused.
    pub(super) paused: u64,
    /// Jobs left out because a run from here does not start their kind.
    pub(super) of_other_kinds: u64,
    /// Whether it is known of any job how long it took.
    pub(super) knows_durations: bool,
}

/// What is kept of each key.
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_key: HashMap<LimitKey, Known>,
    /// Those whose limits are not those of the configuration.
    changed: Vec<(LimitKey, KeyLimits)>,
    hosts: Pace,
    resolvers: Pace,
}

#[derive(Debug)]
struct Known {
    unfinished: u64,
    mean: Option<Duration>,
    paused: bool,
}

impl Keys {
    /// Takes in how a key stands. What will pass by itself is left out: holds, breakers, what it has been seen to bear.
    pub(super) fn add(&mut self, view: &KeyView, terrain: &Terrain<'_>) {
        let lasting = KeyRecord {
            hold: None,
            breaker: Breaker::default(),
            adaptive: Adaptive::default(),
            trouble_since: None,
            ..view.record
        };
        let terms = lasting.terms(&terrain.configured(&view.key), terrain.now.mono);
        let limits = KeyLimits { max_concurrent: terms.max_concurrent, rate: terms.rate };
        if limits != limits_of(terrain.limits, &view.key) {
            self.changed.push((view.key.clone(), limits));
        }
        let all = match view.key {
            LimitKey::Host(_) => &mut self.hosts,
            LimitKey::Resolver(_) => &mut self.resolvers,
        };
        all.attempts += view.pace.attempts;
        all.elapsed_ms += view.pace.elapsed_ms;
        let known = Known {
            unfinished: view.counts.queued + view.counts.in_progress,
            mean: mean_seconds(view).map(Duration::from_secs_f64),
            paused: view.record.paused,
        };
        self.by_key.insert(view.key.clone(), known);
    }

    fn overall(&self) -> Option<Duration> {
        let pace = if self.hosts.attempts > 0 { self.hosts } else { self.resolvers };
        let ms = (pace.attempts > 0).then(|| pace.elapsed_ms as f64 / pace.attempts as f64 + 0.5);
        ms.map(|ms| Duration::from_secs_f64(ms / 1_000.0))
    }

    /// How long a job under that key takes: as those of its host did, else those of its resolver, else all.
    fn mean(&self, key: &Key, overall: Duration) -> Duration {
        let mean = |key: LimitKey| self.by_key.get(&key).and_then(|known| known.mean);
        let host = key.host.clone().map(LimitKey::Host).and_then(mean);
        host.or_else(|| key.resolver.clone().map(LimitKey::Resolver).and_then(mean))
            .unwrap_or(overall)
    }

    fn is_paused(&self, key: &Key) -> bool {
        key.limits().any(|key| self.by_key.get(&key).is_some_and(|known| known.paused))
    }
}

/// Puts it all together. `may_start` are the kinds that count.
pub(super) fn gather(
    lanes: Vec<LaneBacklog>,
    keys: &Keys,
    counts: &Counts,
    limits: &Limits,
    may_start: impl Fn(&Kind) -> bool,
) -> Backlog {
    let mut limits = limits.clone();
    limits.by_key.extend(keys.changed.iter().cloned());
    let ready: u64 = lanes.iter().map(|lane| lane.ready).sum();
    let not_ready = (counts.queued + counts.in_progress).saturating_sub(ready);
    let (lanes, mut backlog) = (
        with_not_ready(lanes, keys, not_ready),
        Backlog {
            loads: Vec::new(),
            limits,
            not_ready,
            paused: 0,
            of_other_kinds: 0,
            knows_durations: keys.overall().is_some(),
        },
    );
    let overall = keys.overall().unwrap_or(UNKNOWN);
    for LaneBacklog { priority, lane, ready } in lanes {
        if keys.is_paused(&lane.key) {
            backlog.paused += ready;
        } else if !may_start(&lane.kind) {
            backlog.of_other_kinds += ready;
        } else {
            let mean = keys.mean(&lane.key, overall);
            backlog.loads.push(Load { priority, lane, jobs: ready, mean });
        }
    }
    backlog
}

/// Adds the jobs that are not ready to the lanes that they are most likely in: in which they are is not counted, under which host and
/// resolver they are is.
fn with_not_ready(lanes: Vec<LaneBacklog>, keys: &Keys, not_ready: u64) -> Vec<LaneBacklog> {
    let mut places = Places::of(lanes);
    let mut left = not_ready;
    let mut in_order: Vec<&LimitKey> = keys.by_key.keys().collect();
    // Hosts before resolvers, for a job under both is one job.
    in_order.sort_unstable_by_key(|key| (matches!(key, LimitKey::Resolver(_)), *key));
    for key in in_order {
        let unfinished = keys.by_key.get(key).map_or(0, |known| known.unfinished);
        let ready = places.ready.get(key).copied().unwrap_or(0);
        let missing = unfinished.saturating_sub(ready).min(left);
        left -= missing;
        places.add(Some(key), missing);
    }
    places.add(None, left);
    places.lanes
}

/// Lanes, and what is in them by key.
struct Places {
    lanes: Vec<LaneBacklog>,
    ready: HashMap<LimitKey, u64>,
    /// The lane with the most jobs under each key; `None`: of those without a key.
    largest: HashMap<Option<LimitKey>, usize>,
    made: i64,
}

impl Places {
    fn of(lanes: Vec<LaneBacklog>) -> Places {
        let mut places = Places { lanes, ready: HashMap::new(), largest: HashMap::new(), made: 0 };
        for index in 0..places.lanes.len() {
            places.note(index);
        }
        places
    }

    fn note(&mut self, index: usize) {
        let Some(LaneBacklog { lane, ready, .. }) = self.lanes.get(index) else { return };
        let mut keys: Vec<Option<LimitKey>> = lane.key.limits().map(Some).collect();
        if keys.is_empty() {
            keys.push(None);
        }
        for key in keys {
            let largest = self.largest.get(&key).and_then(|index| self.lanes.get(*index));
            if largest.is_none_or(|largest| largest.ready < *ready) {
                self.largest.insert(key.clone(), index);
            }
            if let Some(key) = key {
                *self.ready.entry(key).or_default() += ready;
            }
        }
    }

    /// So many more under `key`: in its largest lane, or in one that is made up for them.
    fn add(&mut self, key: Option<&LimitKey>, jobs: u64) {
        if jobs == 0 {
            return;
        }
        let largest = self.largest.get(&key.cloned()).copied();
        if let Some(lane) = largest.and_then(|index| self.lanes.get_mut(index)) {
            lane.ready += jobs;
            for key in lane.lane.key.limits() {
                *self.ready.entry(key).or_default() += jobs;
            }
            return;
        }
        // Stores number their lanes from 1.
        self.made -= 1;
        let key = match key {
            Some(LimitKey::Host(name)) => Key { host: Some(name.clone()), resolver: None },
            Some(LimitKey::Resolver(name)) => Key { resolver: Some(name.clone()), host: None },
            None => Key::default(),
        };
        let lane = Lane { id: LaneId(self.made), kind: Kind::fetch(), key, tag: None };
        let priority = Priority::Normal;
        self.lanes.push(LaneBacklog { priority, lane: Arc::new(lane), ready: jobs });
        self.note(self.lanes.len() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::hosts::standing::Moment;
    use crate::job::{Mono, WallMs};
    use crate::share::{Configured, Rate};

    fn host(name: &str) -> LimitKey {
        LimitKey::Host(name.into())
    }

    fn resolver(name: &str) -> LimitKey {
        LimitKey::Resolver(name.into())
    }

    fn view(key: LimitKey, queued: u64, attempts: u64, elapsed_ms: u64) -> KeyView {
        KeyView {
            key,
            record: KeyRecord::default(),
            configured: Configured::default(),
            holders: Vec::new(),
            counts: Counts { queued, ..Counts::default() },
            pace: Pace { attempts, elapsed_ms },
        }
    }

    fn lane(id: i64, kind: &str, of: Option<&str>, at: Option<&str>, ready: u64) -> LaneBacklog {
        let (kind, key) = (Kind::new(kind).unwrap(), Key::new(of, at).unwrap());
        let lane = Arc::new(Lane { id: LaneId(id), kind, key, tag: None });
        LaneBacklog { priority: Priority::Normal, lane, ready }
    }

    fn known(views: &[KeyView]) -> Keys {
        let limits = Limits { max_per_host: Some(4), ..Limits::default() };
        let now = Moment { mono: Mono::from_ms(1_000), wall: WallMs(0) };
        let mut keys = Keys::default();
        views
            .iter()
            .for_each(|view| keys.add(view, &Terrain { now, limits: &limits, is_run: false }));
        keys
    }

    fn gathered(lanes: Vec<LaneBacklog>, views: &[KeyView], queued: u64) -> Backlog {
        let counts = Counts { queued, ..Counts::default() };
        let limits = Limits { max_per_host: Some(4), ..Limits::default() };
        gather(lanes, &known(views), &counts, &limits, |kind| kind.as_str() != "exec")
    }

    fn jobs(backlog: &Backlog) -> Vec<(String, u64)> {
        backlog.loads.iter().map(|load| (load.lane.key.to_string(), load.jobs)).collect()
    }

    #[test]
    fn a_job_takes_as_long_as_those_of_its_host_did_or_its_resolver_or_all() {
        let views = [
            view(host("a.org"), 1, 10, 20_000),
            view(host("b.org"), 1, 0, 0),
            view(resolver("r"), 1, 4, 2_000),
        ];
        let lanes = vec![
            lane(1, "noop", Some("r"), Some("a.org"), 1),
            lane(2, "noop", Some("r"), Some("b.org"), 1),
            lane(3, "noop", None, Some("b.org"), 1),
            lane(4, "noop", None, None, 1),
        ];
        let backlog = gathered(lanes, &views, 4);
        let us: Vec<u128> = backlog.loads.iter().map(|load| load.mean.as_micros()).collect();
        assert_eq!(us, [2_000_500, 500_500, 2_000_500, 2_000_500]);
        assert!(backlog.knows_durations);

        let unknown = gathered(vec![lane(1, "noop", None, None, 1)], &[], 1);
        assert_eq!(unknown.loads[0].mean, UNKNOWN);
        assert!(!unknown.knows_durations);
    }

    #[test]
    fn jobs_that_are_not_ready_are_added_where_they_are_counted_and_each_once() {
        let views = [
            view(host("a.org"), 10, 0, 0),
            view(host("b.org"), 5, 0, 0),
            view(resolver("r"), 12, 0, 0),
        ];
        let lanes =
            vec![lane(1, "noop", Some("r"), Some("a.org"), 4), lane(2, "noop", None, None, 1)];
        // Six more at a.org, through r as it seems; five at b.org; two at r alone; three without a key.
        let backlog = gathered(lanes, &views, 4 + 1 + 6 + 5 + 2 + 3);
        let expected = [("r at a.org", 12), ("-", 4), ("b.org", 5)];
        assert_eq!(jobs(&backlog), expected.map(|(key, jobs)| (key.to_owned(), jobs)));
        assert_eq!(backlog.not_ready, 16);
    }

    #[test]
    fn what_no_run_would_start_is_left_out() {
        let paused = KeyRecord { paused: true, ..KeyRecord::default() };
        let views = [
            KeyView { record: paused, ..view(host("a.org"), 7, 0, 0) },
            view(host("b.org"), 2, 0, 0),
        ];
        let lanes =
            vec![lane(1, "noop", None, Some("a.org"), 7), lane(2, "exec", None, Some("b.org"), 2)];
        let backlog = gathered(lanes, &views, 9);
        assert_eq!((jobs(&backlog), backlog.paused, backlog.of_other_kinds), (vec![], 7, 2));
    }

    #[test]
    fn what_a_person_set_holds_in_the_forecast_too() {
        let rate = Rate::parse("1/3s").unwrap();
        let set = KeyLimits { max_concurrent: Some(1), rate: Some(rate) };
        let record = KeyRecord { set, ..KeyRecord::default() };
        let views =
            [KeyView { record, ..view(host("a.org"), 1, 0, 0) }, view(host("b.org"), 1, 0, 0)];
        let limits = gathered(Vec::new(), &views, 2).limits;
        assert_eq!(limits.by_key.get(&host("a.org")), Some(&set));
        assert_eq!(limits.by_key.get(&host("b.org")), None);
    }
}
