//! [`TokenBucket`]: exact to the nanosecond, whatever the rate.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{Rate, TokenBucket};
use crate::job::Mono;

fn ns(ns: u64) -> Mono {
    Mono(Duration::from_nanos(ns))
}

fn rate(text: &str) -> Rate {
    Rate::parse(text).unwrap()
}

fn rate_of(count: u32, per_ns: u64, burst: u32) -> Rate {
    Rate { count, per: Duration::from_nanos(per_ns), burst }
}

/// Takes until refused; how many, and until when.
fn drain(bucket: &TokenBucket, now: Mono) -> (u32, Mono) {
    let mut taken = 0;
    loop {
        assert!(taken < 10_000, "the burst has no end");
        match bucket.try_take(now) {
            Ok(()) => taken += 1,
            Err(until) => return (taken, until),
        }
    }
}

#[test]
fn a_new_bucket_is_full_and_then_keeps_its_rate() {
    let bucket = TokenBucket::new(rate("20/s").with_burst(3));
    let start = Mono::from_ms(5_000);
    assert_eq!(drain(&bucket, start), (3, Mono::from_ms(5_050)));
    assert_eq!(drain(&bucket, Mono::from_ms(5_049)), (0, Mono::from_ms(5_050)));
    assert_eq!(drain(&bucket, Mono::from_ms(5_125)), (2, Mono::from_ms(5_150)));
}

#[test]
fn a_pause_saves_up_no_more_than_the_burst() {
    let bucket = TokenBucket::new(rate("1/3s").with_burst(2));
    drain(&bucket, Mono::default());
    assert_eq!(drain(&bucket, Mono::from_ms(3_600_000)), (2, Mono::from_ms(3_603_000)));
    assert_eq!(bucket.available(Mono(Duration::MAX)), 2);
}

#[test]
fn a_token_is_there_at_the_time_it_was_promised_for_and_not_before() {
    let bucket = TokenBucket::new(rate("7/s").with_burst(1));
    drain(&bucket, ns(0));
    // A seventh of a second is no whole number of nanoseconds.
    assert_eq!(bucket.next_token(ns(0)), ns(142_857_143));
    assert!(bucket.try_take(ns(142_857_142)).is_err());
    assert_eq!(bucket.available(ns(142_857_143)), 1);
    assert_eq!(bucket.next_token(ns(142_857_143)), ns(142_857_143));
    assert!(bucket.try_take(ns(142_857_143)).is_ok());
}

#[test]
fn a_time_that_goes_backwards_grows_nothing_twice() {
    let bucket = TokenBucket::new(rate("1/s"));
    drain(&bucket, Mono::from_ms(10_000));
    for ms in [9_000, 10_000, 0, 10_999] {
        assert_eq!(bucket.try_take(Mono::from_ms(ms)), Err(Mono::from_ms(11_000)), "{ms}");
    }
    assert!(bucket.try_take(Mono::from_ms(11_000)).is_ok());
    assert_eq!(bucket.try_take(Mono::from_ms(500)), Err(Mono::from_ms(12_000)));
}

#[test]
fn a_refund_returns_one_token_and_names_those_who_were_refused_since_one_was_there() {
    let bucket = TokenBucket::new(rate("1/s"));
    let now = Mono::from_ms(0);
    assert!(!bucket.refund(), "nobody was refused");
    assert_eq!(drain(&bucket, now).0, 1, "a refund does not pile up over the burst");
    assert!(bucket.refund());
    assert_eq!(drain(&bucket, now).0, 1);
    assert!(bucket.try_take(Mono::from_ms(1_000)).is_ok());
    assert!(!bucket.refund(), "their time had come before");
}

#[test]
fn a_new_rate_keeps_what_tokens_there_are() {
    let bucket = TokenBucket::new(rate("10/s"));
    let now = Mono::from_ms(0);
    for _ in 0..4 {
        bucket.try_take(now).unwrap();
    }
    assert!(!bucket.set(rate("1/h").with_burst(5)), "nobody was refused");
    assert_eq!(bucket.available(now), 5);
    assert!(!bucket.set(rate("20/s")));
    assert_eq!(drain(&bucket, now), (5, Mono::from_ms(50)));
    // What took half of its time at 20/s takes the rest of a whole second at 1/s.
    let half = ns(25_000_000);
    assert_eq!(bucket.next_token(half), Mono::from_ms(50));
    assert!(bucket.set(rate("1/s")), "somebody was refused and waits for the wrong time");
    assert_eq!(bucket.next_token(half), Mono::from_ms(1_000));
}

#[test]
fn a_lifted_rate_lets_everybody_pass() {
    let bucket = TokenBucket::new(rate("1/day"));
    drain(&bucket, ns(0));
    assert!(bucket.lift());
    assert!((0..1_000).all(|_| bucket.try_take(ns(0)).is_ok()));
}

#[test]
fn no_rate_makes_it_divide_by_zero_or_overflow() {
    let ends = [0, 1, u32::MAX];
    for (count, burst) in ends.into_iter().flat_map(|count| ends.map(|burst| (count, burst))) {
        for per in [Duration::ZERO, Duration::from_nanos(1), Duration::from_hours(1), Duration::MAX]
        {
            let bucket = TokenBucket::new(Rate { count, per, burst });
            for now in [Mono::default(), Mono(Duration::MAX), ns(1)] {
                assert!(bucket.available(now) <= burst.max(1));
                let _ = (bucket.try_take(now), bucket.next_token(now), bucket.refund());
                let _ = (bucket.set(rate("1/s")), bucket.set(Rate { count, per, burst }));
            }
        }
    }
    let never = TokenBucket::new(rate_of(0, 1, 0));
    assert_eq!(drain(&never, ns(7)), (1, Mono(Duration::MAX)));
}

/// What a caller does next.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes, in nanoseconds.
    Pass(u64),
    /// A take whose caller asked the time so many nanoseconds ago.
    Take { late_ns: u64 },
    /// The last take is undone.
    Refund,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..3_000_000_000_u64).prop_map(Step::Pass),
        2 => (0..1_000_u64).prop_map(Step::Pass),
        6 => prop_oneof![Just(0), 0..2_000_000_000_u64].prop_map(|late_ns| Step::Take { late_ns }),
        1 => Just(Step::Refund),
    ]
}

fn any_rate() -> impl Strategy<Value = Rate> {
    let per_ns = prop_oneof![1..1_000_u64, 1..10_000_000_000_u64];
    (prop_oneof![1..10_u32, 1..=u32::MAX], per_ns, prop_oneof![1..5_u32, 1..1_000_u32])
        .prop_map(|(count, per_ns, burst)| rate_of(count, per_ns, burst))
}

proptest! {
    #[test]
    fn no_interval_sees_more_than_burst_plus_rate_times_its_length(
        rate in any_rate(),
        steps in prop::collection::vec(any_step(), 1..120),
    ) {
        let bucket = TokenBucket::new(rate);
        // Times are those the bucket is told: of what nobody told it, it cannot know.
        let (mut now, mut told, mut taken_at) = (0_u64, 0, Vec::new());
        for step in steps {
            match step {
                Step::Pass(ns) => now += ns,
                Step::Take { late_ns } => {
                    let then = now.saturating_sub(late_ns);
                    told = then.max(told);
                    if bucket.try_take(ns(then)).is_ok() {
                        taken_at.push(told);
                    }
                }
                Step::Refund => {
                    if taken_at.pop().is_some() {
                        let _ = bucket.refund();
                    }
                }
            }
        }
        for (first, from) in taken_at.iter().enumerate() {
            for (last, to) in taken_at.iter().enumerate().skip(first) {
                let over_burst = (last - first + 1).saturating_sub(rate.burst as usize) as u128;
                let grown = u128::from(rate.count) * u128::from(to - from);
                prop_assert!(over_burst * rate.per.as_nanos() <= grown, "{from}..={to} of {taken_at:?}");
            }
        }
    }

    #[test]
    fn whoever_comes_when_told_loses_not_a_nanosecond(
        count in 1..1_000_u32,
        per_ns in 1_000..10_000_000_000_u64,
        burst in 1..4_u32,
        starts in 1..200_u32,
    ) {
        let bucket = TokenBucket::new(rate_of(count, per_ns, burst));
        let (taken, mut now) = drain(&bucket, ns(0));
        prop_assert_eq!(taken, burst);
        for _ in 1..starts {
            prop_assert!(bucket.try_take(now).is_ok());
            now = bucket.next_token(now);
        }
        // The n-th comes at the first nanosecond by which n have grown; but a bucket that holds one token cannot hold, beside
        // it, what the rest of its nanosecond grew.
        let exact_ns = (u64::from(starts) * per_ns).div_ceil(count.into());
        let held_ns = if burst == 1 { u64::from(starts) - 1 } else { 0 };
        prop_assert!((exact_ns..=exact_ns + held_ns).contains(&(now.0.as_nanos() as u64)));
    }
}
