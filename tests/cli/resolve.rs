//! `orch resolve`, with a server on this machine in the place of every service.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Place, Ran};
use crate::run::origin::{Answer, Origin, PDF};
use crate::support::until;

const OPEN: &str = "10.1234/open";
const CLOSED: &str = "10.1234/closed";

/// A place whose resolvers are these, asked at the origin, and whose person can be reached.
pub(super) fn place_of(origin: &Origin, resolvers: &[&str], more: &str) -> Place {
    let place = Place::new();
    let sections: String = resolvers
        .iter()
        .map(|name| {
            let base = origin.url(&format!("/{name}"));
            format!("[resolvers.{name}]\nenabled = true\nbase_url = \"{base}\"\n")
        })
        .collect();
    let fetch = format!(
        "[fetch]\ncontact_email = \"harvest@orch-demo.dev\"\nallow_private_addresses = true\nresolvers = {}\n",
        json!(resolvers)
    );
    place.write("orch.toml", format!("{fetch}{sections}{more}"));
    place
}

pub(super) fn unpaywall(doi: &str, pdf: Option<&str>) -> Answer {
    let location = pdf.map(|url| {
        json!({"url_for_pdf": url, "license": "cc-by", "version": "publishedVersion", "host_type": "publisher"})
    });
    let record = json!({"doi": doi, "is_oa": pdf.is_some(), "best_oa_location": location, "oa_locations": []});
    Answer { headers: "Content-Type: application/json\r\n", ..Answer::ok(record.to_string()) }
}

/// One service that knows one work, and one that knows none.
fn services(path: &str) -> Answer {
    match path {
        _ if path.starts_with("/unpaywall/10.1234/open") => {
            unpaywall(OPEN, Some("https://publisher.example/open.pdf"))
        }
        _ if path.starts_with("/unpaywall/10.1234/closed") => unpaywall(CLOSED, None),
        _ if path.starts_with("/crossref/") => Answer {
            status: 404,
            headers: "Content-Type: text/plain\r\n",
            body: b"Resource not found.".to_vec(),
        },
        _ => Answer::of(500, ""),
    }
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_resolver_is_shown_with_what_it_says_and_nothing_is_fetched() {
    let origin = Origin::start(|path, _| services(path));
    let place = place_of(&origin, &["unpaywall", "crossref"], "");
    let table = place.ok("resolve https://doi.org/10.1234/OPEN").out;
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["doi:10.1234/open"]);
    assert_eq!(rows[1], ["resolver", "said", "url", "licence", "version", "evidence", "ms"]);
    assert_eq!(
        rows[2][..5],
        ["unpaywall", "found", "https://publisher.example/open.pdf", "cc-by", "publishedVersion"]
    );
    assert_eq!(rows[2][5], "best_oa_location");
    assert_eq!(rows[3][..2], ["crossref", "absent"]);
    assert!(!table.contains('\u{1b}'), "no colours in a pipe");
    assert!(!place.path("state").exists() && !place.path("artifacts").exists());
}

#[test]
fn json_is_one_object_a_line() {
    let origin = Origin::start(|path, _| services(path));
    let place = place_of(&origin, &["line", "unpaywall", "crossref"], "");
    let said = lines(&place.ok("resolve 10.1234/open doi:10.1234/closed --format json"));
    assert_eq!(
        (&said[0]["id"], &said[1]["id"]),
        (&"doi:10.1234/open".into(), &"doi:10.1234/closed".into())
    );
    let resolvers = said[0]["resolvers"].as_array().unwrap();
    let in_short: Vec<_> = resolvers.iter().map(|it| (&it["resolver"], &it["said"])).collect();
    assert_eq!(
        in_short,
        [
            (&"line".into(), &"nothing to ask".into()),
            (&"unpaywall".into(), &"found".into()),
            (&"crossref".into(), &"absent".into())
        ]
    );
    let candidate = &resolvers[1]["candidates"][0];
    assert_eq!(candidate["url"], "https://publisher.example/open.pdf");
    assert_eq!(
        (&candidate["leads"], &candidate["host_type"]),
        (&"file".into(), &"publisher".into())
    );
    assert!(resolvers[2]["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert!(resolvers[1]["elapsed_ms"].is_u64());
}

#[test]
fn a_clear_no_is_an_answer_and_silence_beside_nothing_found_is_none() {
    let origin = Origin::start(|path, _| services(path));
    let place = place_of(&origin, &["unpaywall", "crossref", "doaj"], "");
    place.ok("resolve 10.1234/closed --resolver unpaywall --resolver crossref");
    let ran = place.run("resolve 10.1234/closed").code(3).says(&["for 1 of 1 nothing was found"]);
    assert!(ran.out.contains("doaj") && ran.out.contains("broken"), "{}", ran.out);
    place.ok("resolve 10.1234/open");
}

#[test]
fn ids_come_from_standard_input_one_a_line() {
    let origin = Origin::start(|path, _| services(path));
    let place = place_of(&origin, &["unpaywall"], "");
    let ids =
        place.write("ids.txt", "# remark\n10.1234/open\n\n  https://doi.org/10.1234/closed \n");
    let mut command = place.command("resolve - --format json");
    command.stdin(std::fs::File::open(ids).unwrap());
    let said = lines(&Ran::of(&mut command).code(0));
    let ids: Vec<&Value> = said.iter().map(|line| &line["id"]).collect();
    assert_eq!(ids, ["doi:10.1234/open", "doi:10.1234/closed"]);
}

#[test]
fn what_cannot_be_asked_is_refused_before_anybody_is_asked() {
    let origin = Origin::start(|path, _| services(path));
    let place = place_of(&origin, &["unpaywall"], "");
    place.run("resolve 10.1234/open nonsense").code(2).says(&["\"nonsense\" is no DOI", "hint: "]);
    place.run("resolve").code(2);
    place
        .run("resolve 10.1234/open --resolver unpaywal")
        .code(2)
        .says(&["did you mean \"unpaywall\"?"]);
    place
        .run("resolve 10.1234/open --resolver crossref")
        .code(2)
        .says(&["--resolver crossref: it is not in fetch.resolvers", "orch config check"]);
    place.write("orch.toml", "[fetch]\nresolvers = [\"unpaywall\"]\n");
    place.run("resolve 10.1234/open").code(2).says(&["no resolver is on"]);
    assert_eq!(origin.asked("/unpaywall/10.1234/open?email=harvest%40orch-demo.dev"), 0);
}

#[test]
fn the_limits_of_a_run_hold_here_too() {
    let times: std::sync::Arc<std::sync::Mutex<Vec<Instant>>> = std::sync::Arc::default();
    let origin = Origin::start({
        let times = std::sync::Arc::clone(&times);
        move |path, _| {
            times.lock().unwrap().push(Instant::now());
            services(path)
        }
    });
    let place = place_of(&origin, &["unpaywall"], "rate = \"1/s\"\n");
    place.ok("resolve 10.1234/open 10.1234/closed");
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 2);
    // A lower bound, which no slow machine breaks: both requests take their way here after their permit.
    assert!(times[1] - times[0] > Duration::from_millis(500), "{:?}", times[1] - times[0]);
}

#[test]
fn a_signal_ends_the_waiting_in_good_order() {
    let origin = Origin::start(|path, _| services(path));
    let place = place_of(&origin, &["unpaywall"], "rate = \"1/h\"\nburst = 2\n");
    let asking = place.start("resolve 10.1234/open 10.1234/closed 10.1234/third --format json");
    // What came of the first is said before the second is asked about.
    until("the second question", || {
        origin.asked("/unpaywall/10.1234/closed?email=harvest%40orch-demo.dev") > 0
    });
    asking.signal(Signal::INT);
    let ran = asking.end().code(130);
    assert!(ran.out.lines().count() >= 1, "what was said before is shown: {}", ran.out);
    assert_eq!(lines(&ran)[0]["id"], "doi:10.1234/open");
}

#[test]
fn a_signal_ends_a_question_that_nobody_answers() {
    let origin = Origin::start(|_, _| {
        loop {
            std::thread::park();
        }
    });
    let place = place_of(&origin, &["unpaywall"], "");
    // No timeout is to end it before the signal does.
    let patient =
        place.read("orch.toml").replace("[fetch]\n", "[fetch]\nread_timeout_seconds = 86400\n");
    place.write("orch.toml", patient);
    let asking = place.start("resolve 10.1234/open");
    until("the question", || {
        origin.asked("/unpaywall/10.1234/open?email=harvest%40orch-demo.dev") > 0
    });
    asking.signal(Signal::TERM);
    let ran = asking.end().code(143);
    assert_eq!(ran.out, "", "nobody said anything");
}

/// arXiv's files have well-known addresses: that one is named says nothing of whether the service answers.
#[test]
fn what_is_known_without_asking_does_not_hide_that_nobody_answers() {
    let origin = Origin::start(|_, _| Answer::of(500, ""));
    let place = place_of(&origin, &["arxiv"], "");
    let said = lines(&place.ok("resolve arXiv:1605.08386 --format json"));
    let arxiv = &said[0]["resolvers"][0];
    assert_eq!(arxiv["said"], "found");
    assert!(arxiv["message"].as_str().unwrap().starts_with("broken: "), "{arxiv}");
    let report = place.ok("doctor --format json").json();
    let checks = report["checks"].as_array().unwrap();
    let arxiv = checks.iter().find(|it| it["check"] == "arxiv").unwrap();
    assert_eq!(arxiv["status"], "warn", "{arxiv}");
}

/// What is shown would be fetched: the URLs of the line come first, and need no question.
#[test]
fn a_url_is_a_candidate_by_itself() {
    let origin = Origin::start(|_, _| Answer::ok(PDF));
    let place = place_of(&origin, &["line"], "");
    let said = lines(&place.ok(&format!("resolve {} --format json", origin.url("/a.pdf"))));
    assert_eq!(said[0]["resolvers"][0]["candidates"][0]["url"], origin.url("/a.pdf"));
    assert_eq!(origin.asked("/a.pdf"), 0);
}
