//! Limits over all processes: who divides, who gets what, who hears of what, and what becomes of it when somebody ends.
//!
//! What a share is worth is proven in [`crate::share`]; here is proven that a store keeps it, and tells it to whom it concerns.

use std::collections::BTreeMap;

use super::Subject;
use super::bell::rings;
use super::scene::{Process, START, TERMS, hosted, job};
use crate::job::{JobSpec, Key, LimitKey, Mono};
use crate::queue::store::{Counts, Declared, KeyView, MAX_CHANGES_TOLD, RecoverTerms, Turn};
use crate::share::{
    Claim, KeyAnswer, KeyChange, KeyEvent, KeyLimits, KeyNews, KeyReply, KeyReport, Policy, Rate,
    Told,
};

fn host(name: &str) -> LimitKey {
    LimitKey::Host(name.into())
}

fn resolver(name: &str) -> LimitKey {
    LimitKey::Resolver(name.into())
}

/// The key of most checks.
fn key() -> LimitKey {
    host("a.example")
}

/// News at `ms` of a process that was told of everything up to `known`.
fn news(ms: u64, known: i64, claim: Claim, reports: Vec<KeyReport>) -> KeyNews {
    KeyNews { now: Mono::from_ms(ms), known, claim, policy: Policy::default(), reports }
}

/// Has so many slots of the key, in use, and wants so many more.
fn report(slots: u32, wanted: u32) -> KeyReport {
    KeyReport { running: slots, slots, wanted, ..KeyReport::of(key()) }
}

/// So many slots of every host, and nothing else.
fn per_host(max: u32) -> Declared {
    Declared { per_host: Some(max), by_key: Vec::new(), process: Some(7) }
}

/// Two slots of the key, and a token a second, of which five may be spent at once.
fn rated() -> Declared {
    let rate = Rate::parse("1/s").unwrap().with_burst(5);
    let limits = KeyLimits { max_concurrent: Some(2), rate: Some(rate) };
    Declared { by_key: vec![(key(), limits)], ..Declared::default() }
}

/// Recovering at a monotonic time.
fn at_ms(ms: u64) -> RecoverTerms {
    RecoverTerms { mono: Mono::from_ms(ms), ..TERMS }
}

/// What is said of one key, once.
fn answer(reply: &KeyReply, key: &LimitKey) -> KeyAnswer {
    let mut found = reply.answers.iter().filter(|answer| answer.key == *key);
    let answer = found.next().unwrap_or_else(|| panic!("{key} is not in {reply:?}"));
    assert!(found.next().is_none(), "{key} is answered once: {reply:?}");
    answer.clone()
}

impl Process {
    /// A process that declared its limits.
    fn start_with(subject: &mut dyn Subject, declared: &Declared) -> Process {
        let mut process = Process::start(subject);
        process.store.declare(&process.owner, declared).unwrap();
        process
    }

    /// A turn with these news only.
    fn say(&mut self, news: &KeyNews) -> Option<KeyReply> {
        let turn = Turn {
            owner: &self.owner,
            now: self.now,
            settle: &[],
            lease: &[],
            max_payload_bytes: usize::MAX,
            keys: Some(news),
        };
        self.store.turn(&turn).unwrap().keys
    }

    /// A turn with a claim only; the process is told of nothing older.
    fn claim(&mut self, claim: Claim) -> KeyReply {
        self.say(&news(0, i64::MAX, claim, Vec::new())).unwrap()
    }

    /// A turn with one report; what is said of its key.
    fn report(&mut self, ms: u64, report: KeyReport) -> KeyAnswer {
        let key = report.key.clone();
        let reply = self.say(&news(ms, i64::MAX, Claim::Keep, vec![report])).unwrap();
        answer(&reply, &key)
    }

    /// What has changed since `known`: reply and keys.
    fn hear(&mut self, ms: u64, known: i64) -> (KeyReply, Vec<LimitKey>) {
        let reply = self.say(&news(ms, known, Claim::Keep, Vec::new())).unwrap();
        let keys = reply.answers.iter().map(|answer| answer.key.clone()).collect();
        (reply, keys)
    }

    fn set(&mut self, key: &LimitKey, max: u32) -> KeyView {
        let change = KeyChange { max_concurrent: Some(Some(max)), ..KeyChange::default() };
        self.store.set_key(key, &change).unwrap()
    }

    /// All keys, page by page.
    fn all_keys(&mut self) -> Vec<KeyView> {
        let mut all: Vec<KeyView> = Vec::new();
        loop {
            let after = all.last().map(|view| view.key.clone());
            let page = self.store.keys(after.as_ref(), 2).unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }
}

/// Who is alone may divide by itself, and is told when that has ended.
pub fn the_only_owner_may_become_the_sole_one(subject: &mut dyn Subject) {
    let mut first = Process::start(subject);
    let reply = first.claim(Claim::Keep);
    assert!((reply.is_sole, reply.is_alone) == (false, true), "nobody is made so unasked");
    let reply = first.claim(Claim::Close);
    assert!((reply.is_sole, reply.is_alone) == (true, true));
    let mut second = Process::start(subject);
    let reply = second.claim(Claim::Close);
    assert!((reply.is_sole, reply.is_alone) == (false, false), "another lives");
    let reply = first.claim(Claim::Keep);
    assert!((reply.is_sole, reply.is_alone) == (true, false), "until it says so");
    let reply = first.claim(Claim::Open);
    assert!((reply.is_sole, reply.is_alone) == (false, false));
    let reply = first.claim(Claim::Close);
    assert!((reply.is_sole, reply.is_alone) == (false, false));
    second.store.retire(&second.owner, START).unwrap();
    assert!(first.claim(Claim::Close).is_sole, "alone again");
}

/// Its wants are kept all the same, and served once the sole one has opened up.
pub fn nothing_is_granted_while_another_is_sole(subject: &mut dyn Subject) {
    let mut sole = Process::start_with(subject, &per_host(4));
    sole.claim(Claim::Close);
    let mut other = Process::start_with(subject, &per_host(4));
    for ms in [0, 200, 60_000] {
        let tokens_wanted = 1;
        let answer = other.report(ms, KeyReport { tokens_wanted, ..report(0, 2) });
        assert_eq!((answer.slots, answer.tokens), (0, 0));
    }
    let holders = other.store.key(&key()).unwrap().holders;
    assert_eq!(holders.len(), 1);
    assert_eq!((holders[0].share.slots, holders[0].share.wanted), (0, 2));
    sole.claim(Claim::Open);
    assert_eq!(other.report(60_100, report(0, 2)).slots, 2);
}

/// What runs when it opens up has its slots; the others divide the rest.
pub fn a_sole_owner_that_opens_up_keeps_what_runs(subject: &mut dyn Subject) {
    let mut sole = Process::start_with(subject, &per_host(4));
    sole.claim(Claim::Close);
    sole.report(0, report(3, 0));
    let view = sole.store.key(&key()).unwrap();
    assert_eq!((view.holders.len(), view.holders[0].share.running), (1, 3), "for people");
    let mut other = Process::start_with(subject, &per_host(4));
    let reply = sole.say(&news(100, 0, Claim::Open, vec![report(3, 0)])).unwrap();
    assert_eq!(answer(&reply, &key()).slots, 3);
    assert_eq!(other.report(200, report(0, 4)).slots, 1);
}

/// Whoever came first comes down to its part, and the other gets the rest; never more than there is.
pub fn two_owners_divide_a_cap(subject: &mut dyn Subject) {
    let mut first = Process::start(subject);
    let mut second = Process::start(subject);
    for (n, cap, part) in [(0, 1, 0), (1, 2, 1), (2, 4, 2)] {
        let key = host(&format!("{cap}.example"));
        let limits = KeyLimits { max_concurrent: Some(cap), rate: None };
        let declared = Declared { by_key: vec![(key.clone(), limits)], ..Declared::default() };
        first.store.declare(&first.owner, &declared).unwrap();
        let report = |slots, wanted| KeyReport { key: key.clone(), ..report(slots, wanted) };
        let ms = n * 10_000;
        assert_eq!(first.report(ms, report(0, 9)).slots, cap, "all that there is");
        assert_eq!(second.report(ms + 10, report(0, 9)).slots, 0, "of {cap}, none is left");
        let (reply, _) = first.hear(ms + 20, i64::MAX);
        let told = answer(&reply, &key);
        assert_eq!((told.slots, told.keep), (cap, Some(part)), "of {cap}");
        assert_eq!(first.report(ms + 30, report(part, 0)).slots, part);
        assert_eq!(second.report(ms + 40, report(0, 9)).slots, cap - part, "of {cap}");
        let holders = second.store.key(&key).unwrap().holders;
        assert_eq!(holders.iter().map(|holder| holder.share.slots).sum::<u32>(), cap);
    }
}

/// With its lease: a slot is a row with an owner.
pub fn a_dead_owners_share_comes_back(subject: &mut dyn Subject) {
    let mut doomed = Process::start_with(subject, &per_host(2));
    let mut other = Process::start_with(subject, &per_host(2));
    assert_eq!(doomed.report(0, report(0, 2)).slots, 2);
    assert_eq!(other.report(10, report(0, 2)).slots, 0);
    doomed.die(subject);
    assert_eq!(other.report(20, report(0, 2)).slots, 0, "until somebody looks");
    assert_eq!(other.recover(at_ms(30)).owners.len(), 1);
    assert_eq!(other.report(40, report(0, 2)).slots, 2);
    assert!(other.claim(Claim::Close).is_sole);
}

/// And that of one that ended in good order, at once.
pub fn a_retired_owners_share_comes_back(subject: &mut dyn Subject) {
    let mut ending = Process::start_with(subject, &per_host(2));
    let mut other = Process::start_with(subject, &per_host(2));
    assert_eq!(ending.report(0, report(0, 2)).slots, 2);
    ending.store.retire(&ending.owner, START).unwrap();
    assert_eq!(other.report(10, report(0, 2)).slots, 2);
    assert_eq!(other.store.key(&key()).unwrap().holders.len(), 1);
}

/// It may have been buried while it was stopped: it is told nothing, and what it says counts for nothing.
pub fn an_owner_that_was_buried_has_no_share(subject: &mut dyn Subject) {
    let mut stopped = Process::start_with(subject, &per_host(2));
    let mut other = Process::start_with(subject, &per_host(2));
    assert_eq!(stopped.report(0, report(0, 2)).slots, 2);
    other.recover(at_ms(0));
    assert_eq!(other.recover(at_ms(600_000)).owners.len(), 1);
    assert_eq!(other.report(600_010, report(0, 2)).slots, 2);
    let before = other.all_keys();
    let said = news(600_020, 0, Claim::Close, vec![report(2, 2)]);
    assert_eq!(stopped.say(&said), None);
    stopped.store.declare(&stopped.owner, &per_host(1)).unwrap();
    assert_eq!(other.all_keys(), before);
}

/// One who was told of it is not told again; who made it knows it from its own answer.
pub fn a_changed_record_reaches_everybody_once(subject: &mut dyn Subject) {
    let mut first = Process::start_with(subject, &per_host(4));
    let mut second = Process::start_with(subject, &per_host(4));
    let quiet = KeyReport::of(host("quiet.example"));
    let told =
        KeyEvent::Told(Told { asked_at: Mono::from_ms(50), now: Mono::from_ms(100), after: None });
    let slow_down = KeyReport { events: vec![told], ..KeyReport::of(key()) };
    let reply = first.say(&news(100, 0, Claim::Keep, vec![quiet, slow_down])).unwrap();
    assert_eq!(reply.answers.len(), 2, "each once: {reply:?}");
    assert!(answer(&reply, &key()).record.hold.is_some());
    let (again, keys) = first.hear(110, reply.version);
    assert_eq!((again.version, keys), (reply.version, Vec::new()));

    let (heard, keys) = second.hear(120, 0);
    assert_eq!((keys, heard.more), (vec![key()], false), "of what changed only");
    assert!(heard.answers[0].record.hold.is_some());
    let (again, keys) = second.hear(130, heard.version);
    assert_eq!((again.version, keys), (heard.version, Vec::new()));
    assert_eq!(second.hear(140, 0).1, [key()], "one who has forgotten is told again");
}

/// In the order in which they were made, and none is left out.
pub fn many_changes_are_told_in_pages(subject: &mut dyn Subject) {
    let mut person = Process::start(subject);
    let mut runner = Process::start(subject);
    let changed = MAX_CHANGES_TOLD + 3;
    let mut hosts: Vec<LimitKey> = (0..changed).map(|n| host(&format!("{n}.example"))).collect();
    for key in &hosts {
        person.set(key, 1);
    }
    let (page, mut keys) = runner.hear(0, 0);
    assert!(page.more);
    assert_eq!(keys.len(), MAX_CHANGES_TOLD);
    let (rest, others) = runner.hear(10, page.version);
    assert_eq!((rest.more, others.len()), (false, 3));
    keys.extend(others);
    hosts.sort();
    keys.sort();
    assert_eq!(keys, hosts);
    person.set(&hosts[7], 2);
    let (last, keys) = runner.hear(20, rest.version);
    assert_eq!((keys, last.more), (vec![hosts[7].clone()], false));
}

/// A page ends where it ends, whatever the teller changed in the same turn.
pub fn an_own_change_hides_no_others(subject: &mut dyn Subject) {
    let mut person = Process::start(subject);
    let mut runner = Process::start(subject);
    for n in 0..=MAX_CHANGES_TOLD {
        person.set(&host(&format!("{n}.example")), 1);
    }
    let delay = KeyEvent::CrawlDelay(std::time::Duration::from_secs(3));
    let slow = KeyReport { events: vec![delay], ..KeyReport::of(key()) };
    let page = runner.say(&news(0, 0, Claim::Keep, vec![slow])).unwrap();
    assert!(page.more);
    answer(&page, &key());
    let (rest, keys) = runner.hear(10, page.version);
    assert!(keys.contains(&host(&format!("{MAX_CHANGES_TOLD}.example"))), "{keys:?}");
    assert!(!rest.more);
}

/// At the next turn of everybody; and it stays when nobody is there.
pub fn what_a_person_sets_reaches_everybody(subject: &mut dyn Subject) {
    let mut runner = Process::start_with(subject, &per_host(4));
    let version = runner.hear(0, 0).0.version;
    let view = runner.set(&key(), 1);
    assert_eq!(view.record.set.max_concurrent, Some(1));
    let (reply, keys) = runner.hear(10, version);
    assert_eq!(keys, [key()]);
    assert_eq!(reply.answers[0].record, view.record);
    assert_eq!(runner.report(20, report(0, 9)).slots, 1);

    let pause = KeyChange { paused: Some(true), ..KeyChange::default() };
    runner.store.set_key(&key(), &pause).unwrap();
    let (reply, _) = runner.hear(30, reply.version);
    assert!(reply.answers[0].record.paused);
    assert_eq!(reply.answers[0].record.set.max_concurrent, Some(1), "the rest stays");
    let nothing = runner.store.set_key(&key(), &KeyChange::default()).unwrap();
    assert_eq!(nothing.record, reply.answers[0].record);
    runner.store.retire(&runner.owner, START).unwrap();
    let mut later = Process::start(subject);
    assert!(later.hear(40, 0).0.answers[0].record.paused);
}

/// Of hosts that are named by nobody, of one that somebody names, and of resolvers; it ends with its owner.
pub fn the_strictest_declared_limit_holds(subject: &mut dyn Subject) {
    let named = |max| KeyLimits { max_concurrent: Some(max), rate: None };
    let rate = Rate::parse("1/s").unwrap();
    let mut first = Process::start_with(
        subject,
        &Declared {
            per_host: Some(4),
            by_key: vec![
                (host("wide.example"), named(8)),
                (resolver("r"), named(3)),
                (host("rated.example"), KeyLimits { max_concurrent: None, rate: Some(rate) }),
            ],
            process: Some(17),
        },
    );
    let configured = |process: &mut Process, key: &LimitKey| {
        let configured = process.store.key(key).unwrap().configured;
        (configured.limits.max_concurrent, configured.is_fixed)
    };
    assert_eq!(configured(&mut first, &host("any.example")), (Some(4), false));
    assert_eq!(configured(&mut first, &host("wide.example")), (Some(8), true));
    assert_eq!(configured(&mut first, &resolver("r")), (Some(3), true));
    assert_eq!(configured(&mut first, &resolver("other")), (None, false));
    let rated = first.store.key(&host("rated.example")).unwrap().configured;
    assert_eq!((rated.limits.rate, rated.is_fixed), (Some(rate), false));
    assert_eq!(rated.limits.max_concurrent, Some(4));

    let limits = vec![(host("a.example"), named(1)), (resolver("r"), named(9))];
    let stricter = Declared { per_host: Some(6), by_key: limits, process: None };
    let mut second = Process::start_with(subject, &stricter);
    assert_eq!(configured(&mut first, &key()), (Some(1), true));
    assert_eq!(configured(&mut first, &host("any.example")), (Some(4), false));
    assert_eq!(configured(&mut first, &host("wide.example")), (Some(6), true));
    assert_eq!(configured(&mut first, &resolver("r")), (Some(3), true));
    assert_eq!(second.report(0, report(0, 9)).slots, 1);

    second.store.declare(&second.owner, &per_host(5)).unwrap();
    assert_eq!(configured(&mut first, &key()), (Some(4), false), "in place of what was there");
    second.store.retire(&second.owner, START).unwrap();
    assert_eq!(configured(&mut first, &host("wide.example")), (Some(8), true));
}

/// Who has more than is allowed now hears of it in its next turn, though nobody waits.
pub fn a_stricter_declaration_reaches_who_has_a_share(subject: &mut dyn Subject) {
    let mut first = Process::start_with(subject, &per_host(4));
    assert_eq!(first.report(0, report(0, 4)).slots, 4);
    assert_eq!(first.hear(10, i64::MAX).1, [], "nothing is new");
    let _second = Process::start_with(subject, &per_host(1));
    let (reply, keys) = first.hear(20, i64::MAX);
    assert_eq!(keys, [key()]);
    assert_eq!(reply.answers[0].configured.limits.max_concurrent, Some(1));
    assert_eq!(first.hear(30, i64::MAX).1, [], "once");
}

/// Nobody knows what the sole one has spent since it said so last: all that may have been there.
pub fn buckets_are_empty_after_the_sole_owner_died(subject: &mut dyn Subject) {
    let mut sole = Process::start_with(subject, &rated());
    sole.claim(Claim::Close);
    let mut other = Process::start_with(subject, &rated());
    sole.die(subject);
    assert_eq!(other.recover(at_ms(10_000)).owners.len(), 1);
    let want = |tokens| KeyReport { tokens, tokens_wanted: 9, ..report(0, 1) };
    let answer = other.report(10_000, want(0));
    assert_eq!((answer.slots, answer.tokens), (1, 0));
    assert_eq!(answer.next_token, Some(Mono::from_ms(11_000)));
    let slot = KeyReport { slots: 1, wanted: 0, ..want(0) };
    assert_eq!(other.report(12_000, slot).tokens, 2);
}

/// Neither does anybody of one that had slots of a key with a rate, or tokens in hand.
pub fn a_dead_owners_tokens_are_spent(subject: &mut dyn Subject) {
    let mut doomed = Process::start_with(subject, &rated());
    let mut other = Process::start_with(subject, &rated());
    let want = KeyReport { tokens_wanted: 2, ..report(0, 1) };
    let answer = doomed.report(0, want.clone());
    assert_eq!((answer.slots, answer.tokens), (1, 2), "of five");
    doomed.die(subject);
    other.recover(at_ms(10_000));
    let answer = other.report(10_000, want);
    assert_eq!((answer.slots, answer.tokens), (1, 0));
    assert_eq!(answer.next_token, Some(Mono::from_ms(11_000)));
}

/// Whoever waits for a token knows when it comes, and does not ask again before; whoever has some in hand hears of it all the same.
pub fn tokens_in_a_hand_are_asked_for(subject: &mut dyn Subject) {
    let rate = Rate::parse("1/s").unwrap().with_burst(5);
    let limits = KeyLimits { max_concurrent: None, rate: Some(rate) };
    let declared = Declared { by_key: vec![(key(), limits)], ..Declared::default() };
    let mut holder = Process::start_with(subject, &declared);
    let mut waiting = Process::start_with(subject, &declared);
    let want = |tokens_wanted| KeyReport { tokens_wanted, ..KeyReport::of(key()) };
    assert_eq!(holder.report(0, want(5)).tokens, 5);
    assert_eq!(waiting.report(10, want(1)).tokens, 0);
    let (reply, _) = holder.hear(700, i64::MAX);
    let told = answer(&reply, &key());
    assert_eq!((told.tokens, told.tokens_awaited), (5, true));
    let back = KeyReport { tokens: 2, tokens_back: 3, ..KeyReport::of(key()) };
    assert_eq!(holder.report(710, back).tokens, 2);
    assert_eq!(waiting.report(720, want(1)).tokens, 1);
}

/// Hosts first, by name; what has jobs, a record or a share; with its counts and who holds it.
pub fn keys_are_listed_in_pages(subject: &mut dyn Subject) {
    let mut process = Process::start_with(subject, &per_host(4));
    let under = |id: &str, resolver: Option<&str>, host: &str| JobSpec {
        key: Key::new(resolver, Some(host)).unwrap(),
        ..job(id)
    };
    process.insert(&[
        under("1", None, "b.example"),
        under("2", Some("r"), "b.example"),
        under("3", Some("q"), "c.example"),
        job("4"),
    ]);
    process.ended(hosted("5", "done.example"), super::scene::done());
    process.set(&resolver("set"), 2);
    process.set(&host("set.example"), 2);
    process.report(0, report(0, 1));
    let leased = process.want(crate::job::Priority::Normal, &super::scene::at_host("b.example"), 1);
    process.turn(&[], &[leased.unwrap()]);

    let views = process.all_keys();
    let names: Vec<String> = views.iter().map(|view| view.key.to_string()).collect();
    let expected =
        ["a.example", "b.example", "c.example", "set.example", "q", "r", "set"].map(str::to_owned);
    assert_eq!(names, expected);
    assert!(matches!(views[4].key, LimitKey::Resolver(_)));
    let views: BTreeMap<LimitKey, KeyView> =
        views.into_iter().map(|view| (view.key.clone(), view)).collect();
    let counts = Counts { queued: 1, in_progress: 1, ..Counts::default() };
    assert_eq!(views[&host("b.example")].counts, counts);
    assert_eq!(views[&resolver("r")].counts, Counts { queued: 1, ..Counts::default() });
    let holders = &views[&key()].holders;
    assert_eq!((holders.len(), &holders[0].owner), (1, &process.owner.id));
    assert_eq!((holders[0].process, holders[0].share.slots), (Some(7), 1));
    assert_eq!(holders[0].directory, process.owner.directory);
    assert_eq!(process.store.key(&host("done.example")).unwrap().counts.done, 1);
    let unknown = process.store.key(&host("unknown.example")).unwrap();
    assert_eq!((unknown.counts, unknown.holders), (Counts::default(), Vec::new()));
    for view in views.values() {
        assert_eq!(process.store.key(&view.key).unwrap(), *view, "one says what all say");
    }
}

/// Once everybody who lives must have heard of it: after ten minutes, or twenty; what is worth knowing is kept.
pub fn records_at_rest_are_forgotten(subject: &mut dyn Subject) {
    let forget = KeyChange { max_concurrent: Some(None), ..KeyChange::default() };
    let mut process = Process::start(subject);
    process.set(&host("kept.example"), 1);
    process.set(&key(), 1);
    process.store.set_key(&key(), &forget).unwrap();
    assert_eq!(process.all_keys().len(), 2);
    process.recover(at_ms(0));
    assert_eq!(process.all_keys().len(), 2, "the only one may not have heard of it");

    let mut other = Process::start(subject);
    process.set(&key(), 1);
    process.store.set_key(&key(), &forget).unwrap();
    let beat = |process: &mut Process| process.store.beat(&process.owner).unwrap();
    for (ms, left) in [(1_000, 2), (599_999, 2), (600_000, 2), (1_200_000, 1)] {
        beat(&mut other);
        process.recover(at_ms(ms));
        assert_eq!(process.all_keys().len(), left, "at {ms} ms");
    }
}

/// Somebody came or went, wants or gives something, or a person changed something. Stores without a bell pass.
pub fn the_bell_rings_for_shares(subject: &mut dyn Subject) {
    /// Far longer than any store needs; only a failure waits so long.
    const PATIENCE_SECONDS: i64 = 20;
    let mut first = Process::start_with(subject, &per_host(1));
    let Some(bell) = first.store.bell(&first.owner).unwrap() else { return };
    let expect = |what: &str| assert!(rings(&bell, PATIENCE_SECONDS), "{what}");
    rings(&bell, 0);
    let mut second = Process::start(subject);
    expect("somebody came");
    second.store.declare(&second.owner, &per_host(1)).unwrap();
    expect("somebody declared limits");
    first.report(0, report(0, 1));
    rings(&bell, 0);
    second.report(10, report(0, 1));
    expect("somebody wants a slot of ours");
    first.report(20, report(0, 0));
    second.report(30, report(0, 1));
    first.report(40, report(0, 1));
    rings(&bell, 0);
    second.report(50, report(0, 0));
    expect("a slot that we wait for is back");
    second.set(&key(), 3);
    expect("a person set a limit");
    second.die(subject);
    rings(&bell, 0);
    assert_eq!(
        first.store.fork().unwrap().recover(Some(&first.owner), TERMS).unwrap().owners.len(),
        1
    );
    expect("somebody is gone");
}
