//! Limits of several processes on one queue, held against an origin that counts: 50 hosts with caps 1 to 4, some with a rate,
//! every tenth answer of each a 429; one process is killed in the midst.

use std::time::Duration;

use rustix::process::Signal;

use super::crowd::{Crowd, Host, asked_though_told, given_twice, most_at_once, running_at};
use super::origin::{Answer, Asked, Origin, Seen};
use crate::support::until;

const HOSTS: usize = 50;
const WORKERS: usize = 24;
/// The victim could use every slot there is.
const VICTIMS_WORKERS: usize = 125;
/// The process that is killed.
const VICTIM: &str = "orch-b";
/// How soon others must use what a dead process had.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(2);
/// How soon after an answer every process must know that it said to slow down: a share period, and what a machine that does
/// much else at the time takes to wake somebody.
const KNOWN_WITHIN: Duration = Duration::from_millis(500);

/// Jobs of each host: `ORCH_TEST_LIMITS`, or as many as take some ten seconds.
fn jobs_per_host(default: usize) -> usize {
    std::env::var("ORCH_TEST_LIMITS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn hosts() -> Vec<Host> {
    let host = |n: usize| Host {
        rate: n.is_multiple_of(5).then_some((8, 3)),
        ..Host::of(&format!("h{n:02}.test"), 1 + n % 4)
    };
    (0..HOSTS).map(host).collect()
}

/// Takes 5 to 50 ms; every tenth of a host's answers tells to slow down, with and without saying until when.
fn answer(asked: &Asked) -> Answer {
    let after = Duration::from_millis(5 + (asked.before as u64 * 7919) % 46);
    if asked.before % 10 != 9 {
        return Answer { status: 200, headers: "Content-Type: application/pdf\r\n", after };
    }
    let headers = ["", "Retry-After: 0\r\n", "Retry-After: 1\r\n"][asked.before / 10 % 3];
    Answer { status: 429, headers, after }
}

fn crowd(jobs_per_host: usize) -> Crowd {
    let crowd = Crowd::new(Origin::start(answer), hosts());
    crowd.import(jobs_per_host);
    crowd
}

fn given(seen: &[Seen]) -> usize {
    seen.iter().filter(|one| one.status == 200).count()
}

#[track_caller]
fn check(crowd: &Crowd, jobs: usize, killed: Option<&str>) -> Vec<Seen> {
    crowd.assert_all_done(jobs);
    let seen = crowd.origin.seen();
    let told = seen.iter().filter(|one| one.status == 429).count();
    let (impolite, latest) = asked_though_told(&seen, KNOWN_WITHIN);
    eprintln!(
        "{jobs} jobs: {} requests in {:.1} s, {told} told to slow down, the last word of it after {} ms",
        seen.len(),
        seen.last().unwrap().begin.as_secs_f64(),
        latest.as_millis()
    );
    let broken = crowd.broken(&seen);
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(told >= jobs / 20, "the origin did not say what it was to say");
    assert!(impolite.is_empty(), "asked though they had said to slow down: {impolite:#?}");
    let twice = given_twice(&seen, killed);
    assert!(twice.is_empty(), "given twice: {twice:?}");
    let filled = |host: &&Host| {
        let seen: Vec<&Seen> = seen.iter().filter(|one| one.asked.host == host.name).collect();
        host.cap > 1 && most_at_once(&seen).0 == host.cap
    };
    let filled = crowd.hosts.iter().filter(filled).count();
    assert!(filled >= HOSTS / 10, "only {filled} hosts were ever asked as much as they allow");
    seen
}

#[test]
fn one_process_keeps_every_limit_of_fifty_hosts() {
    let per_host = jobs_per_host(20);
    let crowd = crowd(per_host);
    crowd.start("orch-a", WORKERS).end().code(0);
    check(&crowd, HOSTS * per_host, None);
}

#[test]
fn three_processes_keep_every_limit_together_and_use_what_a_killed_one_had() {
    let per_host = jobs_per_host(30);
    let (crowd, jobs) = (crowd(per_host), HOSTS * per_host);
    // It begins alone, and others join it.
    let first = crowd.start("orch-a", WORKERS);
    crowd.origin.until("the first to get going", |seen| given(seen) >= jobs / 20);
    let (victim, last) = (crowd.start(VICTIM, VICTIMS_WORKERS), crowd.start("orch-c", WORKERS));
    let is_at_work = |seen: &[Seen], client: &str| {
        seen.iter().filter(|one| one.asked.client == client && one.status == 200).count() >= 10
    };
    crowd.origin.until("all three to be at work", |seen| {
        is_at_work(seen, VICTIM) && is_at_work(seen, "orch-c")
    });
    // It gets no answers any more, so that when it dies it is sure to hold whole hosts.
    crowd.origin.freeze(VICTIM, true);
    until("the victim to hold whole hosts", || {
        let done = given(&crowd.origin.seen());
        assert!(done < jobs * 3 / 4, "the others were done before the victim held whole hosts");
        held_by_victim(&crowd, crowd.origin.now()).len() >= 5
    });
    let killed_at = crowd.origin.now();
    let held = held_by_victim(&crowd, killed_at);
    victim.signal(Signal::KILL);
    assert_eq!(victim.end().signal, Some(9), "it was over before it was killed");
    for process in [first, last] {
        process.end().code(0);
    }

    let seen = check(&crowd, jobs, Some(VICTIM));
    let db = rusqlite::Connection::open(crowd.place.database()).unwrap();
    let sql = "SELECT count(*) FROM progress WHERE losses > 0";
    let lost: usize = db.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(lost >= held.len(), "the kill hit {lost} jobs only");
    let mut slowest = Duration::ZERO;
    for host in &held {
        let others = seen.iter().filter(|one| one.asked.host == host.name);
        let next = others.filter(|one| one.asked.client != VICTIM && one.begin > killed_at);
        let after = next.map(|one| one.begin - killed_at).min();
        let after = after.unwrap_or_else(|| panic!("{} was never asked again", host.name));
        // Of the tokens that died with their owner nobody knows whether they were spent.
        let token = host.rate.map_or(Duration::ZERO, |(rate, _)| Duration::from_secs(1) / rate);
        assert!(after <= TAKEN_OVER_WITHIN + token, "{} stood still for {after:?}", host.name);
        slowest = slowest.max(after);
    }
    eprintln!(
        "{} hosts were the victim's alone, {lost} jobs lost: all asked again within {} ms",
        held.len(),
        slowest.as_millis()
    );
}

/// The hosts of which every slot is the victim's, and that nobody was told to leave alone for now.
fn held_by_victim(crowd: &Crowd, now: Duration) -> Vec<&Host> {
    let seen = crowd.origin.seen();
    let running = running_at(&seen, now);
    let is_held = |host: &&Host| {
        let here = running.get(&*host.name).map(Vec::as_slice).unwrap_or_default();
        let told = seen.iter().any(|one| {
            let is_fresh = one.end.is_some_and(|end| end + Duration::from_millis(1_200) > now);
            one.asked.host == host.name && one.status == 429 && is_fresh
        });
        here.len() == host.cap && here.iter().all(|one| one.asked.client == VICTIM) && !told
    };
    crowd.hosts.iter().filter(is_held).collect()
}
