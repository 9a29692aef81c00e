//! Who gets what, and who is told to give it back.

use super::*;

/// A key and its shares, and a time that its owners report at.
struct Table {
    record: KeyRecord,
    shares: Shares,
    scene: Scene,
}

fn table(configured: Configured) -> Table {
    let (policy, now) = (policy(), sec(100));
    let scene = Scene { configured, policy, now, void_at: None, sole: Sole::Nobody };
    Table { record: KeyRecord::default(), shares: Shares::new(), scene }
}

/// `cap` at once, and a rate.
fn rated(cap: Option<u32>, text: &str) -> Table {
    let limits = KeyLimits { max_concurrent: cap, rate: Some(rate(text)) };
    table(Configured { limits, is_fixed: true })
}

fn has(slots: u32) -> KeyReport {
    KeyReport { slots, ..KeyReport::of(host()) }
}

fn wants(wanted: u32) -> KeyReport {
    KeyReport { wanted, ..has(0) }
}

impl Table {
    fn tell(&mut self, me: i64, report: &KeyReport) -> (KeyAnswer, Divided) {
        divide(&mut self.record, &mut self.shares, me, report, &self.scene)
    }

    #[track_caller]
    fn check(&mut self, me: i64, report: &KeyReport, slots: u32, keep: Option<u32>, ring: &[i64]) {
        let (answer, divided) = self.tell(me, report);
        assert_eq!((answer.slots, answer.keep), (slots, keep));
        assert_eq!(divided.ring, ring);
    }

    fn keep(&self, me: i64) -> Option<u32> {
        state_of(&host(), &self.record, &self.shares, me, &self.scene).keep
    }

    fn pass_ms(&mut self, ms: u64) {
        self.scene.now = self.scene.now.plus(Duration::from_millis(ms));
    }
}

#[test]
fn who_wants_slots_gets_what_is_free_and_holders_are_asked_for_the_rest() {
    let mut table = table(fixed(4));
    table.check(1, &wants(4), 4, None, &[]);
    table.check(2, &wants(4), 0, None, &[1]);
    assert_eq!(table.keep(1), Some(2));
    table.check(1, &has(2), 2, None, &[2]);
    table.check(2, &wants(4), 2, None, &[]);
    assert_eq!((table.keep(1), table.keep(2)), (None, None));
}

#[test]
fn a_slot_given_back_is_kept_for_who_waits_longest_for_one_period() {
    let mut table = table(fixed(1));
    table.check(1, &wants(1), 1, None, &[]);
    table.check(3, &wants(1), 0, None, &[1]);
    table.pass_ms(10);
    table.check(2, &wants(1), 0, None, &[1]);
    table.check(1, &has(0), 0, None, &[3]);
    table.check(2, &wants(1), 0, None, &[]);
    table.pass_ms(200);
    table.check(2, &wants(1), 1, Some(0), &[]);
    assert_eq!(table.shares[&3].waiting_since, Some(sec(100)));
}

#[test]
fn a_want_that_was_not_said_again_counts_for_nothing() {
    let mut table = table(fixed(4));
    table.tell(1, &wants(4));
    table.tell(2, &wants(4));
    table.pass_ms(400);
    assert_eq!(table.keep(1), Some(2));
    table.pass_ms(1);
    assert_eq!(table.keep(1), None);
    table.check(1, &KeyReport { wanted: 2, ..has(2) }, 4, None, &[]);
    table.tell(2, &wants(0));
    assert!(!table.shares.contains_key(&2), "a share of nothing is none");
}

#[test]
fn a_cap_that_fell_admits_nobody_until_enough_are_back() {
    let mut table = table(fixed(4));
    table.tell(1, &wants(2));
    table.tell(2, &wants(2));
    let change = KeyChange { max_concurrent: Some(Some(3)), ..KeyChange::default() };
    table.record.change(&change);
    assert_eq!((table.keep(1), table.keep(2)), (Some(0), Some(0)));
    table.check(2, &KeyReport { wanted: 1, ..has(2) }, 2, Some(0), &[1]);
    table.check(1, &has(1), 1, None, &[]);
    assert_eq!(table.keep(2), None);
}

#[test]
fn what_runs_has_a_slot_whatever_was_granted() {
    let mut table = table(fixed(2));
    table.tell(1, &KeyReport { running: 2, ..has(5) });
    assert_eq!(table.shares[&1].slots, 2);
    table.check(2, &wants(1), 0, None, &[1]);
}

#[test]
fn while_another_is_sole_nothing_is_granted() {
    let mut table = table(fixed(4));
    table.scene.sole = Sole::Other;
    table.check(2, &wants(3), 0, None, &[]);
    assert_eq!(table.shares[&2].wanted, 3);
    table.scene.sole = Sole::WasMe;
    table.check(1, &KeyReport { running: 3, wanted: 1, ..has(3) }, 3, Some(2), &[]);
    table.scene.sole = Sole::Nobody;
    table.check(2, &wants(3), 1, None, &[]);
}

#[test]
fn a_holder_is_rung_once_in_a_share_period_however_often_it_is_asked() {
    let mut table = table(fixed(2));
    table.check(1, &wants(2), 2, None, &[]);
    table.check(2, &wants(2), 0, None, &[1]);
    table.check(2, &wants(2), 0, None, &[]);
    table.scene.now = table.scene.now.plus(SHARE_PERIOD);
    table.check(2, &wants(2), 0, None, &[1]);
}

#[test]
fn what_the_sole_one_runs_is_its_share_and_nothing_is_arbitrated() {
    let mut table = table(fixed(1));
    let tell = |table: &mut Table, running| {
        let report = KeyReport { running, ..KeyReport::of(host()) };
        told_by_sole(&mut table.record, &mut table.shares, 1, &report, &table.scene)
    };
    let (answer, divided) = tell(&mut table, 3);
    assert_eq!((answer.slots, answer.keep, divided), (3, None, Divided::default()));
    assert_eq!(table.shares[&1].running, 3);
    tell(&mut table, 0);
    assert!(table.shares.is_empty());
}

#[test]
fn events_are_news_to_others_when_they_change_how_the_key_stands() {
    let mut table = table(at_most(4));
    let now = table.scene.now;
    let (failed, overloaded) =
        (KeyEvent::Failed { asked_at: now, now }, KeyEvent::Overloaded { asked_at: now, now });
    for (events, changed) in [(vec![failed; 4], false), (vec![failed], true), (vec![], false)] {
        let (answer, divided) = table.tell(1, &KeyReport { events, ..has(0) });
        assert_eq!(divided.changed, changed);
        assert_eq!(answer.record, table.record);
    }
    assert!(table.tell(1, &KeyReport { events: vec![overloaded], ..has(0) }).1.changed);
}

#[test]
fn an_open_breaker_takes_every_slot_back_and_a_half_open_one_gives_a_single_one() {
    let mut table = table(fixed(4));
    table.tell(1, &wants(2));
    table.tell(2, &wants(2));
    let now = table.scene.now;
    let events = vec![KeyEvent::Failed { asked_at: now, now }; 5];
    table.check(1, &KeyReport { events, ..has(2) }, 2, Some(0), &[]);
    assert_eq!(table.keep(2), Some(0));
    table.check(1, &has(0), 0, None, &[]);
    table.pass_ms(60_000);
    table.check(1, &wants(1), 0, None, &[2]);
    table.check(2, &has(0), 0, None, &[1]);
    table.check(1, &wants(1), 1, None, &[]);
    table.check(2, &wants(1), 0, None, &[1]);
}

#[test]
fn tokens_are_what_the_bucket_has_and_come_back_unspent() {
    let mut table = rated(None, "2/s");
    let asks = |tokens, tokens_back, tokens_wanted| KeyReport {
        tokens,
        tokens_back,
        tokens_wanted,
        ..KeyReport::of(host())
    };
    let tokens = |(answer, _): (KeyAnswer, Divided)| (answer.tokens, answer.next_token);
    assert_eq!(tokens(table.tell(1, &asks(0, 0, 5))), (2, Some(ms(100_500))));
    // What is in hand does not grow again: not even a second later.
    table.pass_ms(1_000);
    assert_eq!(tokens(table.tell(2, &asks(0, 0, 1))), (0, Some(ms(101_500))));
    assert!(state_of(&host(), &table.record, &table.shares, 1, &table.scene).tokens_awaited);
    let (answer, divided) = table.tell(1, &asks(1, 1, 0));
    assert_eq!((answer.tokens, answer.tokens_awaited, divided.ring), (1, false, vec![2]));
    assert_eq!(tokens(table.tell(2, &asks(0, 0, 1))).0, 1);
    // Spent at once, told half a second later: as much has grown since.
    table.pass_ms(500);
    let spent = KeyReport { spent_at: Some(sec(101)), ..asks(0, 0, 1) };
    assert_eq!(tokens(table.tell(2, &spent)).0, 1);
}

#[test]
fn where_one_runs_at_a_time_the_interval_counts_from_its_end() {
    let mut table = rated(Some(1), "1/3s");
    let start = KeyReport { wanted: 1, tokens_wanted: 1, ..KeyReport::of(host()) };
    let (answer, _) = table.tell(1, &start);
    assert_eq!((answer.slots, answer.tokens), (1, 1));
    table.pass_ms(9_000);
    let ended_at = Some(sec(108));
    let spent_at = Some(sec(100));
    let (answer, _) = table.tell(1, &KeyReport { ended_at, spent_at, tokens_wanted: 1, ..has(1) });
    assert_eq!((answer.tokens, answer.next_token), (0, Some(sec(111))));
    // The token goes with the slot to whoever has waited longer.
    table.tell(2, &start);
    assert_eq!(table.keep(1), None, "of what use is a slot without a token");
    table.pass_ms(2_000);
    let (answer, _) = table.tell(1, &KeyReport { tokens_wanted: 1, ..has(1) });
    assert_eq!((answer.tokens, answer.keep), (1, None), "it has waited longest");
    let (answer, _) = table.tell(1, &KeyReport { tokens: 1, ..has(0) });
    assert_eq!((answer.slots, answer.tokens), (0, 0));
    let (answer, _) = table.tell(2, &start);
    assert_eq!((answer.slots, answer.tokens), (1, 1));
}

#[test]
fn where_the_sole_one_was_found_dead_every_bucket_is_empty() {
    let mut table = rated(None, "2/s");
    table.scene.void_at = Some(ms(99_500));
    let (answer, _) = table.tell(1, &KeyReport { tokens_wanted: 2, ..KeyReport::of(host()) });
    assert_eq!((answer.tokens, answer.next_token), (1, Some(ms(100_500))));
}

#[test]
fn the_sole_one_brings_its_bucket() {
    let mut table = rated(Some(4), "2/s");
    table.scene.sole = Sole::WasMe;
    let bucket = Some(Bucket::empty(rate("2/s"), sec(100)));
    let (answer, _) = table.tell(1, &KeyReport { bucket, running: 1, ..has(1) });
    assert_eq!((answer.record.bucket, answer.next_token), (bucket, Some(ms(100_500))));
}
