//! What people do to a host while several processes ask it, and what they are told of one that is stopped.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::crowd::{Crowd, Host, most_at_once};
use super::origin::{Answer, Asked, Origin, Seen};
use crate::crash::stop_between_transactions;

/// How soon every process must know of a word: a share period, and what a busy machine takes to wake somebody.
const KNOWN_WITHIN: Duration = Duration::from_millis(500);

fn slow(_: &Asked) -> Answer {
    Answer { status: 200, headers: "", after: Duration::from_millis(30) }
}

fn begun(seen: &[Seen], host: &str, after: Duration) -> usize {
    seen.iter().filter(|one| one.asked.host == host && one.begin > after).count()
}

fn of_host<'s>(seen: &'s [Seen], host: &str) -> Vec<&'s Seen> {
    seen.iter().filter(|one| one.asked.host == host).collect()
}

#[test]
fn what_people_say_of_a_host_holds_for_three_processes_at_once() {
    let hosts = vec![Host::of("busy.test", 4), Host::of("other.test", 4)];
    let crowd = Crowd::new(Origin::start(slow), hosts);
    if !crowd.has_hosts_command() {
        return;
    }
    crowd.import(400);
    let all = ["orch-a", "orch-b", "orch-c"].map(|client| crowd.start(client));
    let origin = &crowd.origin;
    origin.until("four at once", |seen| most_at_once(&of_host(seen, "busy.test")).0 == 4);

    crowd.place.ok("queue hosts set busy.test --max-concurrent 1");
    let known = origin.now() + KNOWN_WITHIN;
    let seen = origin.until("ten more", |seen| begun(seen, "busy.test", known) >= 10);
    let since: Vec<&Seen> =
        of_host(&seen, "busy.test").into_iter().filter(|one| one.begin > known).collect();
    assert_eq!(most_at_once(&since).0, 1, "after it was limited to one");

    crowd.place.ok("queue hosts pause busy.test");
    let known = origin.now() + KNOWN_WITHIN;
    let seen = origin.until("ten elsewhere", |seen| begun(seen, "other.test", known) >= 10);
    assert_eq!(begun(&seen, "busy.test", known), 0, "while it was paused");

    crowd.place.ok("queue hosts resume busy.test");
    let resumed = origin.now();
    origin.until("one more", |seen| begun(seen, "busy.test", resumed) >= 1);
    crowd.place.ok("queue hosts set busy.test --max-concurrent 4");
    let set = origin.now();
    origin.until("four at once again", |seen| {
        let since = of_host(seen, "busy.test").into_iter().filter(|one| one.begin > set);
        most_at_once(&since.collect::<Vec<_>>()).0 == 4
    });
    for process in all {
        process.end().code(0);
    }
    crowd.assert_all_done(800);
    let broken = crowd.broken(&origin.seen());
    assert!(broken.is_empty(), "{broken:#?}");
}

/// How `queue hosts` tells of a host.
fn host_row(crowd: &Crowd, name: &str) -> Value {
    let rows = crowd.place.ok("queue hosts --format json").json();
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == name);
    row.unwrap_or_else(|| panic!("no {name} in {rows:#}")).clone()
}

#[test]
fn a_stopped_process_keeps_its_slot_and_is_named_and_goes_on_where_it_was() {
    let hosts = ["lone.test", "first.test", "second.test"].map(|name| Host::of(name, 1));
    let crowd = Crowd::new(Origin::start(slow), hosts.to_vec());
    if !crowd.has_hosts_command() {
        return;
    }
    let origin = &crowd.origin;
    origin.freeze("orch-a", true);
    let job = |host: usize, n: usize| crowd.hosts[host].job(n);
    crowd.place.import(&[job(0, 0), job(0, 1), job(1, 0)]);
    let stopped = crowd.start("orch-a");
    origin.until("its requests", |seen| seen.len() == 2);
    // A second one, so that the first is not the sole one any more when it is stopped.
    crowd.place.import(&[job(2, 0)]);
    let other = crowd.start("orch-b");
    origin.until("the other one to be served", |seen| {
        seen.iter().any(|one| one.asked.client == "orch-b" && one.status == 200)
    });
    stop_between_transactions(&stopped, &crowd.place);
    crowd.place.import(&(1..20).map(|n| job(2, n)).collect::<Vec<_>>());
    origin.until("the other one to go on", |seen| begun(seen, "second.test", Duration::ZERO) >= 20);
    let row = host_row(&crowd, "lone.test");
    let holders = row["holders"].as_array().unwrap();
    assert!(holders.iter().any(|holder| holder["state"] == "stopped"), "{row:#}");
    let told = crowd.place.ok("queue hosts").out;
    let line = told.lines().find(|line| line.contains("lone.test"));
    assert!(line.is_some_and(|line| line.contains("stopped")), "{told}");
    assert_eq!(of_host(&origin.seen(), "lone.test").len(), 1, "its only slot is taken");

    origin.freeze("orch-a", false);
    stopped.signal(Signal::CONT);
    for process in [stopped, other] {
        process.end().code(0);
    }
    crowd.assert_all_done(3 + 20);
    assert!(crowd.broken(&origin.seen()).is_empty());
}
