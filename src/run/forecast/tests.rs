//! Forecasts against what can be reckoned by hand.

use proptest::prelude::*;

use super::*;
use crate::job::{Key, Kind};
use crate::limit::Rate;

fn lane(id: i64, resolver: Option<&str>, host: Option<&str>) -> Arc<Lane> {
    let key = Key::new(resolver, host).unwrap();
    Arc::new(Lane { id: LaneId(id), kind: Kind::fetch(), key, tag: None })
}

fn load(lane: Arc<Lane>, jobs: u64, mean_ms: u64) -> Load {
    Load { priority: Priority::Normal, lane, jobs, mean: Duration::from_millis(mean_ms) }
}

fn host(id: i64, jobs: u64, mean_ms: u64) -> Load {
    load(lane(id, None, Some(&format!("h{id}.org"))), jobs, mean_ms)
}

fn plan(loads: Vec<Load>, per_host: u32, workers: usize) -> Plan {
    let limits = Limits { max_per_host: Some(per_host), ..Limits::default() };
    Plan { loads, limits, workers, schedule: Schedule::default() }
}

fn limited(mut plan: Plan, key: LimitKey, most: Option<u32>, rate: Option<&str>) -> Plan {
    let rate = rate.map(|rate| rate.parse::<Rate>().unwrap());
    plan.limits.by_key.insert(key, KeyLimits { max_concurrent: most, rate });
    plan
}

fn host_key(id: i64) -> LimitKey {
    LimitKey::Host(format!("h{id}.org").into())
}

#[track_caller]
fn check(plan: &Plan, makespan_ms: u64, bottleneck: &Bottleneck) -> Forecast {
    let forecast = forecast(plan).unwrap();
    assert_eq!(forecast.makespan, Duration::from_millis(makespan_ms));
    assert_eq!(forecast.bottleneck, *bottleneck);
    forecast
}

#[test]
fn nothing_to_do_takes_no_time() {
    let forecast = check(&plan(vec![], 4, 8), 0, &Bottleneck::Nothing);
    assert_eq!((forecast.jobs, forecast.keys.len()), (0, 0));
}

#[test]
fn a_full_host_decides_and_a_higher_limit_shortens_it() {
    let loads = || vec![host(1, 100, 1_000), host(2, 20, 1_000)];
    let forecast = check(&plan(loads(), 4, 8), 25_000, &Bottleneck::Key(host_key(1)));
    assert_eq!(forecast.keys[0].key, host_key(1));
    assert_eq!(forecast.keys[0].least, Duration::from_secs(25));
    assert!((forecast.keys[0].utilisation - 1.0).abs() < 1e-9);
    assert!((forecast.keys[1].utilisation - 0.2).abs() < 1e-9);

    let wider = limited(plan(loads(), 4, 8), host_key(1), Some(10), None);
    check(&wider, 15_000, &Bottleneck::Workers);
}

#[test]
fn workers_decide_where_no_key_does() {
    let free = load(lane(1, None, None), 80, 500);
    check(&plan(vec![free], 4, 8), 5_000, &Bottleneck::Workers);
}

#[test]
fn a_rate_decides_and_its_burst_counts_once() {
    let loads = vec![host(1, 110, 10)];
    let rated = limited(plan(loads, 4, 8), host_key(1), Some(4), Some("10/s"));
    // Ten at once, a hundred more in ten seconds, and the last one's own time.
    check(&rated, 10_010, &Bottleneck::Key(host_key(1)));
}

#[test]
fn a_lone_slot_with_a_rate_waits_from_the_end_of_each() {
    let lone = limited(plan(vec![host(1, 11, 2_000)], 4, 8), host_key(1), Some(1), Some("1/3s"));
    check(&lone, 11 * 2_000 + 10 * 3_000, &Bottleneck::Key(host_key(1)));
}

#[test]
fn hosts_behind_one_resolver_share_its_limit() {
    let behind = |id: i64, name: &str| load(lane(id, Some("r"), Some(name)), 10, 1_000);
    let loads = vec![behind(1, "a.org"), behind(2, "b.org")];
    let resolver = LimitKey::Resolver("r".into());
    let shared = limited(plan(loads, 4, 8), resolver.clone(), Some(2), None);
    check(&shared, 10_000, &Bottleneck::Key(resolver));
}

#[test]
fn more_lanes_than_the_frontier_knows_at_once_are_all_done() {
    let loads: Vec<Load> = (1..=6_000).map(|id| host(id, 2, 100)).collect();
    let forecast = check(&plan(loads, 1, 100), 12_000, &Bottleneck::Workers);
    assert_eq!((forecast.jobs, forecast.keys.len()), (12_000, MOST_KEYS));
}

#[test]
fn hosts_that_limit_nobody_are_not_told_apart() {
    let behind = |id: i64, jobs: u64| {
        load(lane(id, Some("r"), Some(&format!("h{id}.org"))), jobs, id as u64)
    };
    let limits = limited(plan(vec![], 2, 8), LimitKey::Resolver("r".into()), Some(3), None).limits;
    let few = merged(vec![behind(1, 2), behind(2, 9), behind(3, 2), host(4, 1, 5)], &limits);
    let told: Vec<_> = few
        .iter()
        .map(|load| (load.lane.key.to_string(), load.jobs, load.mean.as_millis()))
        .collect();
    let expected = [("r", 4, 2), ("r at h2.org", 9, 2), ("-", 1, 5)];
    assert_eq!(told, expected.map(|(key, jobs, ms)| (key.to_owned(), jobs, ms)));
}

#[test]
fn millions_are_scaled_down_and_come_to_the_same() {
    // A hundred hosts, one of them with a fifth of all: 400,000 · 100 ms ÷ 4.
    let mut loads: Vec<Load> = (2..=101).map(|id| host(id, 16_000, 100)).collect();
    loads.push(host(1, 400_000, 100));
    let forecast = forecast(&plan(loads, 4, 404)).unwrap();
    assert_eq!((forecast.jobs, forecast.scale), (2_000_000, 10));
    assert_eq!(forecast.bottleneck, Bottleneck::Key(host_key(1)));
    let off = forecast.makespan.as_secs_f64() / 10_000.0;
    assert!((1.0..1.01).contains(&off), "{:?}", forecast.makespan);
}

#[test]
fn what_a_lane_has_too_few_of_to_be_scaled_is_not_forgotten() {
    let loads: Vec<Load> = (1..=300_000)
        .map(|id| load(lane(id, Some("r"), Some(&format!("h{}.org", id % 1_000))), 1, 0))
        .collect();
    let resolver = LimitKey::Resolver("r".into());
    let rated = limited(plan(loads, 1_000, 8), resolver.clone(), None, Some("100/s"));
    let forecast = forecast(&rated).unwrap();
    assert_eq!(forecast.scale, 2);
    let off = forecast.makespan.as_secs_f64() / 3_000.0;
    assert!((0.99..1.01).contains(&off), "{:?}", forecast.makespan);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No plan is done in less than its bounds, and none of these in twice as long: nothing idles while something may start.
    #[test]
    fn a_forecast_keeps_near_its_bounds(
        loads in prop::collection::vec((1_u64..60, 1_u64..500), 1..12),
        per_host in 1_u32..5,
        workers in 1_usize..16,
    ) {
        let loads: Vec<Load> =
            loads.into_iter().zip(1..).map(|((jobs, ms), id)| host(id, jobs, ms)).collect();
        let longest = loads.iter().map(|load| load.mean).max().unwrap();
        let all = loads.iter().map(|load| load.jobs).sum::<u64>();
        let forecast = forecast(&plan(loads, per_host, workers)).unwrap();
        prop_assert_eq!(forecast.jobs, all);
        let bound = forecast.keys[0].least.max(forecast.workers_least);
        prop_assert!(forecast.makespan >= bound);
        // Graham: a greedy schedule is at most the sum of both bounds, and one job, away.
        let most = forecast.keys[0].least + forecast.workers_least + longest;
        prop_assert!(forecast.makespan <= most, "{:?} of {:?}", forecast.makespan, most);
    }
}
