//! How records are written, and read by those who know more or less.

use super::*;

#[track_caller]
fn check(record: KeyRecord, text: &str) {
    assert_eq!(serde_json::to_string(&record).unwrap(), text);
    assert_eq!(serde_json::from_str::<KeyRecord>(text).unwrap(), record);
}

#[test]
fn a_record_reads_back_and_what_is_at_rest_is_left_out() {
    check(KeyRecord::default(), "{}");
    check(
        KeyRecord {
            paused: true,
            crawl_delay: Some(Duration::from_secs(3)),
            ..KeyRecord::default()
        },
        r#"{"paused":true,"crawl_delay_ns":3000000000}"#,
    );
    let set = KeyLimits { max_concurrent: Some(0), rate: Some(rate("1/3s")) };
    check(
        KeyRecord { set, ..KeyRecord::default() },
        r#"{"set":{"max_concurrent":0,"rate":{"count":1,"per_ns":3000000000,"burst":1}}}"#,
    );
    let hold = Some(Hold { began: ms(1), until: ms(2), events: 3 });
    check(
        KeyRecord { hold, trouble_since: Some(ms(1)), ..KeyRecord::default() },
        r#"{"hold":{"began_ns":1000000,"until_ns":2000000,"events":3},"trouble_since_ns":1000000}"#,
    );
    let adaptive = Adaptive { limit: Some(2), run: 1, stepped_at: ms(1), usual_us: 5, samples: 6 };
    check(
        KeyRecord { adaptive, ..KeyRecord::default() },
        r#"{"adaptive":{"limit":2,"run":1,"stepped_at_ns":1000000,"usual_us":5,"samples":6}}"#,
    );
}

#[test]
fn a_breaker_reads_back_in_every_state() {
    let breaker = |state| KeyRecord {
        breaker: Breaker { failures: 0, failed_at: ms(0), state, since: ms(1) },
        ..KeyRecord::default()
    };
    check(breaker(BreakerState::Closed), r#"{"breaker":{"since_ns":1000000}}"#);
    check(
        breaker(BreakerState::Open { until: ms(2) }),
        r#"{"breaker":{"until_ns":2000000,"since_ns":1000000}}"#,
    );
    check(
        breaker(BreakerState::HalfOpen { successes: 0 }),
        r#"{"breaker":{"successes":0,"since_ns":1000000}}"#,
    );
    let failures = Breaker { failures: 4, failed_at: ms(1), ..Breaker::default() };
    check(
        KeyRecord { breaker: failures, ..KeyRecord::default() },
        r#"{"breaker":{"failures":4,"failed_at_ns":1000000}}"#,
    );
}

#[test]
fn a_bucket_reads_back_whatever_its_level() {
    let huge = Rate { count: u32::MAX, per: Duration::from_hours(24 * 366), burst: u32::MAX };
    let mut bucket = Bucket::full(huge);
    assert!(bucket.take());
    bucket.grow(ms(1));
    for bucket in [bucket, Bucket::empty(rate("1/3s"), ms(7)), Bucket::full(rate("20/s"))] {
        let record = KeyRecord { bucket: Some(bucket), ..KeyRecord::default() };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<KeyRecord>(&text).unwrap(), record, "{text}");
    }
    let bucket = Some(Bucket::full(rate("1/s")));
    check(
        KeyRecord { bucket, ..KeyRecord::default() },
        r#"{"bucket":{"count":1,"per_ns":1000000000,"burst":1,"level":"1000000000"}}"#,
    );
}

#[test]
fn a_text_of_another_version_is_read_as_far_as_it_goes() {
    for (text, expected) in [
        (r#"{"of_tomorrow":{"a":[1]},"paused":true}"#, true),
        (r#"{"paused":true,"breaker":{"colour":"red"},"adaptive":{},"set":{"more":1}}"#, true),
        (r#"{"breaker":{}}"#, false),
    ] {
        let expected = KeyRecord { paused: expected, ..KeyRecord::default() };
        assert_eq!(serde_json::from_str::<KeyRecord>(text).unwrap(), expected, "{text}");
    }
    let overfull = r#"{"bucket":{"count":1,"burst":2,"level":"99999999999999999999999"}}"#;
    let record: KeyRecord = serde_json::from_str(overfull).unwrap();
    assert_eq!(record.bucket, Some(Bucket::full(rate("1/s").with_burst(2))));
    assert!(serde_json::from_str::<KeyRecord>(r#"{"bucket":{"level":"much"}}"#).is_err());
}
