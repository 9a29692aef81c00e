//! A host that is down, for several processes: how often it is asked all the same, what becomes of its jobs, and how they
//! come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use super::crowd::{Crowd, Host, most_at_once};
use super::origin::{Answer, Origin, Seen};

const HOST: &str = "down.test";
const FAILURES: usize = 3;
const OPEN: Duration = Duration::from_secs(1);
/// How soon every process must know that a breaker has opened.
const KNOWN_WITHIN: Duration = Duration::from_millis(500);

/// A host that hangs up on everybody until it is up, and the jobs there.
fn crowd(jobs: usize, config: &'static str) -> (Crowd, Arc<AtomicBool>) {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let origin = Origin::start(move |_| {
        let status = if up.load(SeqCst) { 200 } else { 0 };
        Answer { status, headers: "", after: Duration::from_millis(5) }
    });
    let crowd = Crowd { config, ..Crowd::new(origin, vec![Host::of(HOST, 2)]) };
    crowd.import(jobs);
    (crowd, is_up)
}

#[test]
fn a_host_that_is_down_is_probed_once_in_a_while_by_all_processes_together() {
    let (crowd, is_up) = crowd(
        24,
        "[breaker]\nfailures = 3\nopen_seconds = 1\nsuccesses = 2\ngive_up_seconds = 900",
    );
    let all = ["orch-a", "orch-b", "orch-c"].map(|client| crowd.start(client));
    let first = crowd.origin.until("the first request", |seen| !seen.is_empty())[0].begin;
    let known = first + KNOWN_WITHIN;
    let is_probe = |one: &&Seen| one.begin > known;
    let seen = crowd.origin.until("three probes", |seen| seen.iter().filter(is_probe).count() >= 3);
    let (probes, before): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(is_probe);
    eprintln!("{} requests before its breaker was open, then {}", before.len(), probes.len());
    assert!(before.len() >= FAILURES);
    // Whoever had not heard of the others' failures may have failed as often itself.
    assert!(before.len() <= 3 * FAILURES, "{before:#?}");
    let apart: Vec<Duration> =
        probes.windows(2).map(|pair| pair[1].begin - pair[0].begin).collect();
    assert!(apart.iter().all(|apart| *apart >= OPEN), "{apart:?}");

    is_up.store(true, SeqCst);
    for process in all {
        process.end().code(0);
    }
    crowd.assert_all_done(24);
    let seen = crowd.origin.seen();
    // Until it has been seen to answer twice, one at a time.
    let answered: Vec<&Seen> = seen.iter().filter(|one| one.status == 200).collect();
    assert_eq!(most_at_once(&answered[..2]).0, 1, "{:#?}", &answered[..2]);
    assert!(crowd.broken(&seen).is_empty());
}

/// How the jobs stand: state and reason of each.
fn ends(crowd: &Crowd) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    crowd.place.export().iter().map(|job| (text(&job["state"]), text(&job["reason"]))).collect()
}

#[track_caller]
fn check_given_up(processes: &[&str]) {
    let (crowd, is_up) =
        crowd(30, "[breaker]\nfailures = 3\nopen_seconds = 1\nsuccesses = 2\ngive_up_seconds = 2");
    let all: Vec<_> = processes.iter().map(|client| crowd.start(client)).collect();
    // Whoever comes last may find nothing left that could have failed under it.
    let codes: Vec<_> = all.into_iter().map(|process| process.end().code).collect();
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 3))), "{codes:?}");
    let ended = ends(&crowd);
    let down = ("error".to_owned(), "host_down".to_owned());
    assert!(ended.iter().all(|end| *end == down), "{ended:?}");
    let asked = crowd.origin.seen().len();
    // Until it opened, and a probe for each second that it was waited for.
    let most = FAILURES * processes.len() + 3;
    assert!((FAILURES..=most).contains(&asked), "{asked} requests, at most {most}");

    is_up.store(true, SeqCst);
    assert_eq!(crowd.place.ok(&format!("queue retry-failed --host {HOST}")).out, "requeued 30\n");
    crowd.start("orch-z").end().code(0);
    crowd.assert_all_done(30);
    assert_eq!(crowd.origin.seen().len(), asked + 30, "asked more than once each");
}

#[test]
fn a_host_that_stays_down_is_given_up_without_a_request_and_comes_back_when_asked_to() {
    check_given_up(&["orch-a"]);
}

#[test]
fn three_processes_give_up_a_host_that_stays_down() {
    check_given_up(&["orch-a", "orch-b", "orch-c"]);
}
