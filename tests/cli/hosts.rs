//! `queue hosts`: how keys stand, and changing one.

use orch::job::{LimitKey, Mono};
use orch::queue::store::Declared;
use orch::share::{Claim, KeyNews, KeyReport, Policy};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::Place;
use crate::support::until;

fn at_host(id: &str, host: &str) -> Value {
    json!({"id": id, "kind": "noop", "host": host})
}

/// The object of one key.
fn key(place: &Place, name: &str) -> Value {
    let all = place.ok("queue hosts --format json").json();
    let of_name = |key: &&Value| key["name"] == name;
    all.as_array().unwrap().iter().find(of_name).unwrap_or_else(|| panic!("{all:#}")).clone()
}

#[test]
fn every_key_with_jobs_is_listed_the_busiest_first() {
    let place = Place::new();
    place.import(&[
        at_host("a", "few.example"),
        at_host("b", "many.example"),
        at_host("c", "many.example"),
        json!({"id": "d", "kind": "noop", "resolver": "crossref"}),
        json!({"id": "e", "kind": "noop", "host": "arxiv.org", "run_at": "2099-01-01T00:00:00Z"}),
    ]);
    let all = place.ok("queue hosts --format json").json();
    let names: Vec<&str> =
        all.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["many.example", "crossref", "arxiv.org", "few.example"]);
    assert_eq!(all[0]["kind"], "host");
    assert_eq!(all[0]["waiting"], 2);
    assert_eq!(all[0]["counts"]["total"], 2);
    assert_eq!((&all[0]["max_concurrent"], &all[0]["binds"]), (&4.into(), &"configured".into()));
    assert_eq!(all[1]["kind"], "resolver");

    let table = place.ok("queue hosts --limit 2");
    let first: Vec<&str> = table.out.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(first, ["name", "many.example", "resolver:crossref"]);
    table.says(&["note: and 2 more: --all shows them", "no run is in progress"]);
    assert_eq!(place.ok("queue hosts --all").out.lines().count(), 5);
}

#[test]
fn a_queue_without_keys_says_so() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop");
    let none = place.ok("queue hosts");
    assert_eq!(none.out, "");
    none.says(&["no host or resolver has jobs"]);
    assert_eq!(place.ok("queue hosts --format json").json(), json!([]));
    Place::new().run("queue hosts").code(1).says(&["there is no queue", "hint: "]);
}

#[test]
fn a_limit_is_set_and_lifted_with_nobody_running() {
    let place = Place::new();
    place.import(&[at_host("a", "a.example")]);
    let said = place.ok("queue hosts set A.example. --max-concurrent 9 --rate 1/3s").out;
    assert_eq!(said, "a.example: at most 9 at once (set), 1/3s; 0 running, 1 waiting\n");
    let a = key(&place, "a.example");
    assert_eq!(
        (&a["max_concurrent"], &a["binds"], &a["rate"]),
        (&9.into(), &"set".into(), &"1/3s".into())
    );
    assert_eq!(a["set"], json!({"max_concurrent": 9, "rate": "1/3s", "burst": 1}));
    let said = place.ok("queue hosts set a.example --max-concurrent default --rate default").out;
    assert_eq!(said, "a.example: at most 4 at once (configured); 0 running, 1 waiting\n");
}

#[test]
fn what_the_configuration_says_of_a_key_binds_where_it_is_stricter() {
    let place = Place::new();
    place.import(&[at_host("a", "arxiv.org")]);
    let said = place.ok("queue hosts set arxiv.org --max-concurrent 8").out;
    let (now, why) = said.trim_end().split_once('\n').unwrap();
    assert!(now.starts_with("arxiv.org: at most 1 at once (configured), 1/3s; "), "{said}");
    assert_eq!(why, "arxiv.org: 8 at once were set, but 1 hold: the configuration says less");
}

#[test]
fn a_resolver_is_meant_with_its_flag() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop --resolver crossref");
    let said = place.ok("queue hosts set Crossref --resolver --rate 2/s --burst 1").out;
    assert!(said.starts_with("resolver:crossref: ") && said.contains("2/s"), "{said}");
    place
        .ok("queue hosts set crossref --rate 2/s")
        .says(&["no job is under crossref", "--resolver"]);
}

#[test]
fn a_paused_host_starts_nothing_until_it_is_resumed() {
    let place = Place::new();
    place.import(&[at_host("a", "a.example"), at_host("b", "b.example")]);
    let said = place.ok("queue hosts pause a.example").out;
    assert!(said.ends_with("; paused\n"), "{said}");
    assert_eq!(key(&place, "a.example")["why"], "paused");
    let table = place.ok("queue hosts").out;
    assert!(table.lines().nth(1).unwrap().contains("paused"), "troubled ones come first: {table}");
    let said = place.ok("queue hosts resume a.example").out;
    assert!(said.ends_with("; asks again now\n"), "{said}");
    assert_eq!(key(&place, "a.example")["why"], Value::Null);
    place.ok("queue run --drain");
    assert_eq!(place.count("done"), 2);
}

#[test]
fn what_cannot_be_set_is_refused_and_named() {
    let place = Place::new();
    place.import(&[at_host("a", "a.example")]);
    for (line, words) in [
        ("set a.example", "--max-concurrent"),
        ("set a.example --max-concurrent 0", "--max-concurrent"),
        ("set a.example --rate 3", "--rate"),
        ("set a.example --rate 1/s --burst 0", "--burst"),
        ("set a/b --max-concurrent 1", "NAME: \"a/b\" is not a host name"),
        ("pause a@b", "NAME: "),
        ("resume a:b --resolver", "NAME: "),
    ] {
        place.run(&format!("queue hosts {line}")).code(2).says(&[words]);
    }
}

#[test]
fn a_holder_that_is_stopped_is_named() {
    let place = Place::new();
    place.import(&[at_host("a", "a.example")]);
    let sleeper = Sleeper(std::process::Command::new("sleep").arg("600").spawn().unwrap());
    let process = sleeper.0.id();
    let mut queue = place.queue();
    let now = queue.clock().wall();
    let mono = queue.clock().mono();
    let store = queue.store_mut();
    let owner = store.register(now).unwrap();
    let declared = Declared { per_host: Some(4), process: Some(process), ..Declared::default() };
    store.declare(&owner, &declared).unwrap();
    let report = KeyReport { running: 1, ..KeyReport::of(LimitKey::Host("a.example".into())) };
    let report = KeyReport { wanted: 2, ..report };
    take_turn(store, &owner, now, mono, report);
    let id = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    kill_process(id, Signal::STOP).unwrap();
    let stopped = format!("{process} (stopped): ");
    until("the stop to be seen", || place.ok("queue hosts").out.contains(&stopped));
    let holder = key(&place, "a.example")["holders"][0].clone();
    assert_eq!((&holder["process"], &holder["state"]), (&process.into(), &"stopped".into()));
}

/// A process that does nothing, and ends with the test.
struct Sleeper(std::process::Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It may be over.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One turn that says this of a key.
fn take_turn(
    store: &mut dyn orch::queue::store::Store,
    owner: &orch::queue::store::Owner,
    now: orch::job::WallMs,
    mono: Mono,
    report: KeyReport,
) {
    let news = KeyNews {
        now: mono,
        known: 0,
        claim: Claim::Keep,
        policy: Policy::default(),
        reports: vec![report],
    };
    let turn = orch::queue::store::Turn {
        owner,
        now,
        settle: &[],
        lease: &[],
        max_payload_bytes: usize::MAX,
        keys: Some(&news),
    };
    store.turn(&turn).unwrap();
}
