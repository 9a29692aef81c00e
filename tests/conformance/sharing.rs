//! The limits part of random commands: what the numbers in them stand for, and what is said of it.

use std::time::Duration;

use orch::job::{LimitKey, Mono};
use orch::queue::store::{Declared, KeyView};
use orch::share::{
    Bucket, Claim, KeyChange, KeyEvent, KeyLimits, KeyNews, KeyReply, KeyReport, Policy, Rate, Told,
};

use super::command::{CHANGES, EVENTS, KEYS, LIMITS, Report};

pub(super) fn key(index: usize) -> LimitKey {
    let keys: [LimitKey; KEYS] = [
        LimitKey::Host("a.example".into()),
        LimitKey::Host("b.example".into()),
        LimitKey::Resolver("r".into()),
    ];
    keys[index].clone()
}

/// Two failures open a breaker, so that some are.
fn policy() -> Policy {
    Policy { failures: 2, successes: 2, ..Policy::default() }
}

fn rate(text: &str, burst: u32) -> Rate {
    Rate::parse(text).unwrap().with_burst(burst)
}

fn limits(index: usize) -> KeyLimits {
    let limits: [KeyLimits; LIMITS] = [
        KeyLimits { max_concurrent: Some(2), rate: None },
        KeyLimits { max_concurrent: None, rate: Some(rate("1/s", 3)) },
        KeyLimits { max_concurrent: Some(1), rate: Some(rate("2/s", 1)) },
        KeyLimits { max_concurrent: Some(3), rate: Some(rate("10/s", 5)) },
    ];
    limits[index]
}

fn ago(now: Mono, ms: u64) -> Mono {
    Mono(now.0.saturating_sub(Duration::from_millis(ms)))
}

fn event(index: usize, now: Mono) -> KeyEvent {
    let asked_at = ago(now, 30);
    let told = |after| KeyEvent::Told(Told { asked_at, now, after });
    let events: [KeyEvent; EVENTS] = [
        KeyEvent::Failed { asked_at, now },
        KeyEvent::Answered { asked_at, now },
        KeyEvent::Overloaded { asked_at, now },
        told(None),
        told(Some(Duration::from_secs(2))),
        KeyEvent::CrawlDelay(Duration::from_secs(1)),
    ];
    events[index]
}

pub(super) fn change(index: usize) -> KeyChange {
    let nothing = KeyChange::default();
    let changes: [KeyChange; CHANGES] = [
        KeyChange { max_concurrent: Some(Some(1)), ..nothing },
        KeyChange { max_concurrent: Some(None), ..nothing },
        KeyChange { rate: Some(Some(rate("1/2s", 2))), ..nothing },
        KeyChange { rate: Some(None), paused: Some(false), forgive: true, ..nothing },
        KeyChange { paused: Some(true), ..nothing },
        nothing,
    ];
    changes[index]
}

pub(super) fn declared(per_host: Option<u32>, by_key: &[(usize, usize)]) -> Declared {
    let by_key = by_key.iter().map(|(named, index)| (key(*named), limits(*index)));
    Declared { per_host, by_key: by_key.collect(), process: per_host }
}

/// What a process says; of each key at most once.
pub(super) fn news(now: Mono, known: i64, claim: usize, reports: &[Report]) -> KeyNews {
    let mut news = KeyNews {
        now,
        known,
        claim: [Claim::Keep, Claim::Open, Claim::Close][claim],
        policy: policy(),
        reports: Vec::new(),
    };
    for report in reports {
        if news.reports.iter().all(|known| known.key != key(report.key)) {
            news.reports.push(key_report(now, report));
        }
    }
    news
}

fn key_report(now: Mono, report: &Report) -> KeyReport {
    KeyReport {
        key: key(report.key),
        events: report.events.iter().map(|index| event(*index, now)).collect(),
        running: report.running,
        slots: report.slots,
        wanted: report.wanted,
        tokens: report.tokens,
        tokens_back: report.tokens_back,
        tokens_wanted: report.tokens_wanted,
        spent_at: report.spent.map(|ms| ago(now, ms)),
        ended_at: report.ended.map(|ms| ago(now, ms)),
        bucket: report.bucket.map(|index| match index {
            0 => Bucket::full(rate("1/s", 3)),
            _ => Bucket::empty(rate("2/s", 1), now),
        }),
    }
}

/// What a process was told, but for what stores number.
pub(super) fn say(reply: &KeyReply) -> Vec<String> {
    let mut said: Vec<String> =
        reply.answers.iter().map(|answer| format!("told {answer:?}")).collect();
    said.sort();
    assert!(said.is_sorted_by(|a, b| a < b), "no key is told twice: {said:#?}");
    said.push(format!("{:?}", (reply.is_sole, reply.is_alone, reply.more)));
    said
}

/// How a key stands, with the owners by the number that `number` gives them.
pub(super) fn view(view: &KeyView, number: impl Fn(&str) -> usize) -> String {
    let KeyView { key, record, configured, holders, counts, .. } = view;
    let holders: Vec<_> = holders
        .iter()
        .map(|holder| (number(&holder.owner), holder.process, holder.share))
        .collect();
    format!("{key}: {record:?} {configured:?} {holders:?} {counts:?}")
}
