//! `orch doctor`.

use serde_json::Value;

use super::resolve::{place_of, unpaywall};
use super::{Place, Ran, noops};
use crate::run::origin::{Answer, Origin};

/// The finding of that name.
fn finding<'r>(report: &'r Value, check: &str) -> &'r Value {
    let checks = report["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|it| it["check"] == check)
        .unwrap_or_else(|| panic!("no {check}: {report:#}"))
}

fn status<'r>(report: &'r Value, check: &str) -> &'r str {
    finding(report, check)["status"].as_str().unwrap()
}

#[test]
fn a_new_place_is_fit_and_is_left_as_it_was() {
    let place = Place::new();
    let ran = place.ok("doctor --offline");
    for check in ["config", "clock", "contact", "queue", "queue disk", "out", "out disk", "proxy"] {
        let lines = ran.out.lines().filter(|line| line[6..].starts_with(&format!("{check} ")));
        assert_eq!(
            lines.count(),
            1 + usize::from(["queue", "out"].contains(&check)),
            "{check}: {}",
            ran.out
        );
    }
    assert!(ran.out.contains("warn  contact"), "{}", ran.out);
    assert!(
        ran.out.contains("warn  unpaywall         off: it needs an e-mail address -> "),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("ok    crossref          on; not asked"), "{}", ran.out);
    assert!(std::fs::read_dir(place.folder()).unwrap().next().is_none(), "nothing was made");
}

#[test]
fn json_has_every_check_with_what_was_found_and_what_to_do() {
    let place = Place::new();
    place.write("orch.toml", "[breaker]\nfailures = 9\n");
    place.write("in.jsonl", noops(3));
    place.ok("queue import in.jsonl");
    let report = place.ok("doctor --offline --format json").json();
    assert_eq!(report["ok"], true);
    assert_eq!(status(&report, "config"), "ok");
    assert!(finding(&report, "config")["found"].as_str().unwrap().contains("orch.toml"));
    let queue = finding(&report, "queue");
    assert_eq!((&queue["status"], &queue["to_do"]), (&"ok".into(), &Value::Null));
    assert!(queue["found"].as_str().unwrap().contains("3 jobs, structure whole"), "{queue}");
}

#[test]
fn each_resolver_is_asked_one_question() {
    let origin = Origin::start(|path, _| match path {
        _ if path.starts_with("/unpaywall/") => {
            unpaywall("10.1371/journal.pone.0214986", Some("https://publisher.example/a.pdf"))
        }
        _ => Answer::of(500, ""),
    });
    let place = place_of(&origin, &["unpaywall"], "");
    let report = place.ok("doctor --format json").json();
    assert_eq!(status(&report, "unpaywall"), "ok");
    assert_eq!(status(&report, "crossref"), "ok", "that it is not listed is nobody's fault");
    let asked = "/unpaywall/10.1371/journal.pone.0214986?email=harvest%40orch-demo.dev";
    assert_eq!(origin.asked(asked), 1);
    place.ok("doctor --offline");
    assert_eq!(origin.asked(asked), 1);

    let place = place_of(&origin, &["unpaywall", "doaj"], "");
    let report = place.run("doctor --format json").code(1).json();
    assert_eq!((&report["ok"], status(&report, "unpaywall")), (&false.into(), "ok"));
    assert_eq!(status(&report, "doaj"), "fail");
    assert!(
        finding(&report, "doaj")["to_do"].as_str().unwrap().contains("resolvers.doaj.base_url")
    );
}

#[test]
fn what_keeps_a_run_from_working_is_a_failure_and_says_what_to_do() {
    let check = |prepare: fn(&Place), name: &str, word: &str| {
        let place = Place::new();
        prepare(&place);
        let report = place.run("doctor --offline --format json").code(1).json();
        let found = finding(&report, name);
        assert_eq!(found["status"], "fail", "{name}: {found}");
        assert!(found["found"].as_str().unwrap().contains(word), "{name}: {found}");
        assert!(found["to_do"].is_string(), "{name}: {found}");
    };
    let no_queue = |place: &Place| {
        drop(place.write("state/workqueue.sqlite", "not a database, but long enough"))
    };
    check(no_queue, "queue", "workqueue.sqlite");
    check(|place| drop(place.write("state", "")), "queue", "state");
    check(|place| drop(place.write("artifacts", "")), "out", "artifacts");
    let no_roots =
        |place: &Place| drop(place.write("orch.toml", "[fetch]\nca_file = \"none.pem\"\n"));
    check(no_roots, "resolvers", "none.pem");
}

#[test]
fn a_proxy_that_is_not_there_is_found_unless_nobody_is_asked() {
    let place = Place::new();
    place.write("orch.toml", "[fetch]\nproxy = \"http://127.0.0.1:1\"\nresolvers = []\n");
    assert_eq!(status(&place.run("doctor --format json").code(1).json(), "proxy"), "fail");
    assert_eq!(status(&place.ok("doctor --offline --format json").json(), "proxy"), "ok");
}

#[test]
fn a_damaged_queue_is_found() {
    let place = Place::new();
    place.write("in.jsonl", noops(2_000));
    place.ok("queue import in.jsonl");
    // The first page of the jobs, as a bad disk would leave it; nobody has the file open then.
    let root: u64 = {
        let db = rusqlite::Connection::open(place.database()).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'job'";
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let mut bytes = std::fs::read(place.database()).unwrap();
    let at = usize::try_from(root - 1).unwrap() * 4_096;
    bytes[at..at + 4_096].fill(0x5a);
    std::fs::write(place.database(), bytes).unwrap();
    let report = place.run("doctor --offline --format json").code(1).json();
    let queue = finding(&report, "queue");
    assert!(queue["found"].as_str().unwrap().contains("damaged"), "{queue}");
}

#[test]
fn a_wrong_configuration_is_told_as_everywhere() {
    let place = Place::new();
    place.write("orch.toml", "[fetch]\ncontact_email = \"test@test.com\"\n");
    for line in ["doctor --offline", "resolve 10.1234/open"] {
        let ran: Ran =
            place.run(line).code(2).says(&["orch.toml:2:17: fetch.contact_email", "placeholder"]);
        assert_eq!(ran.out, "");
    }
}
