//! What survives a checkpoint, how redirects are followed, and that all of it fits.

use std::sync::Arc;

use ureq::http::{HeaderMap, header};

use super::*;
use crate::handler::fetch::resolve::NoKind;
use crate::job::{
    ArtifactId, Epoch, JobRow, Key, Kind, Lane, LaneId, LeaseToken, Priority, WallMs,
};

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn job(attempt: u32, attempts_total: u32, checkpoint: Option<Vec<u8>>) -> Leased {
    Leased {
        token: LeaseToken { job: JobRow(1), epoch: Epoch(1) },
        artifact_id: ArtifactId::new("a").unwrap(),
        enqueued_at: crate::job::WallMs(0),
        lane: Arc::new(Lane { id: LaneId(1), kind: Kind::fetch(), key: Key::default(), tag: None }),
        priority: Priority::default(),
        attempt,
        attempts_total,
        losses: 0,
        max_attempts: None,
        timeout_seconds: None,
        retry: None,
        payload: "{}".to_owned(),
        checkpoint,
        previous: None,
    }
}

fn gone(text: &str) -> Tried {
    let verdict = Verdict::lasting(ErrorReason::HttpStatus, "404 Not Found").with_status(404);
    Tried::new(&url(text), verdict)
}

#[test]
fn a_deferred_walk_goes_on_where_it_was() {
    let mut progress = Progress::of(&job(1, 1, None));
    progress.add([gone("http://a/")]);
    let mut trail = progress.take_trail(&url("http://b/"));
    trail.visit(None).unwrap();
    trail.follow("http://c/x", 20).unwrap();
    let kept = progress.deferred(Some(&trail), &Jar::default());

    let mut resumed = Progress::of(&job(1, 1, kept));
    assert!(resumed.has_verdict(&url("http://a/")));
    assert_eq!(resumed.take_trail(&url("http://b/")), Trail { is_old: true, ..trail });
    // Taken once; and never by another candidate.
    assert_eq!(resumed.take_trail(&url("http://b/")).next, url("http://b/"));
}

#[test]
fn a_retry_keeps_what_lasts_and_a_fresh_allowance_nothing() {
    let mut progress = Progress::of(&job(1, 1, None));
    let busy = Verdict::passing(ErrorReason::Timeout, "slow").not_before(Some(WallMs(1)));
    progress.add([gone("http://a/"), Tried::new(&url("http://b/"), busy)]);
    let kept = progress.retried();

    let second = Progress::of(&job(2, 2, kept.clone()));
    assert!(second.has_verdict(&url("http://a/")) && !second.has_verdict(&url("http://b/")));
    // retry-failed: attempts count from one again, the total goes on.
    assert!(Progress::of(&job(1, 4, kept)).tried.is_empty());
    assert!(Progress::of(&job(1, 1, Some(b"{not json".to_vec()))).tried.is_empty());
}

#[test]
fn an_attempt_that_was_over_while_it_was_deferred_leaves_the_next_what_lasts() {
    let mut progress = Progress { waits: 30, ..Progress::of(&job(1, 1, None)) };
    let slow = Tried::new(&url("http://b/"), Verdict::passing(ErrorReason::Timeout, "slow"));
    progress.add([gone("http://a/"), slow]);
    progress.stage("a").no = Some(No::new(NoKind::Busy, "later"));
    let kept = progress.deferred(None, &Jar::default());
    let same = Progress::of(&job(1, 1, kept.clone()));
    assert_eq!((same.tried.len(), same.waits, same.stages().len()), (2, 30, 1));
    let next = Progress::of(&job(2, 2, kept));
    assert_eq!((next.tried.len(), next.waits, next.stages().len()), (1, 0, 0));
}

#[test]
fn redirects_are_followed_leniently() {
    for (location, expected) in [
        ("/x", "http://h/x"),
        ("y?z#f", "http://h/a/y?z"),
        ("//other/x", "http://other/x"),
        (" https://other/a b/\u{e9} ", "https://other/a%20b/%C3%A9"),
        ("?q=1", "http://h/a/b?q=1"),
    ] {
        let mut trail = Progress::default().take_trail(&url("http://h/a/b"));
        trail.follow(location, 20).unwrap();
        assert_eq!(trail.next.as_str(), expected, "{location:?}");
    }
    for bad in ["", " ", "ftp://h/x", "javascript:alert(1)", "http://", "data:,x"] {
        let mut trail = Progress::default().take_trail(&url("http://h/a/b"));
        assert!(trail.follow(bad, 20).is_err(), "{bad:?}");
    }
}

#[test]
fn the_twentieth_redirect_is_followed_and_the_next_is_not() {
    let mut trail = Progress::default().take_trail(&url("http://h/0"));
    for n in 1..=20 {
        trail.visit(None).unwrap();
        trail.follow(&format!("/{n}"), 20).unwrap();
    }
    trail.visit(None).unwrap();
    assert!(trail.follow("/21", 20).is_err());
}

#[test]
fn a_circle_is_one_of_urls_and_cookies() {
    let mut trail = Progress::default().take_trail(&url("http://h/0"));
    trail.visit(None).unwrap();
    trail.follow("/0", 20).unwrap();
    trail.visit(Some("seen=1")).unwrap();
    trail.follow("http://h/0", 20).unwrap();
    assert_eq!(
        trail.visit(Some("seen=1")).unwrap_err().reason,
        Reason::Error(ErrorReason::Redirect)
    );
}

#[test]
fn a_page_may_be_named_by_many_and_is_tried_once() {
    let mut progress = Progress::default();
    let lead = |text: &str| Lead {
        by: "a".into(),
        candidate: Candidate::file(text, "").unwrap(),
        of_page: false,
        is_old: false,
    };
    assert_eq!(progress.learn(vec![lead("http://h/1"), lead("https://h/1/")], false), 1);
    assert_eq!(progress.learn(vec![lead("http://h/0")], true), 1);
    assert_eq!(progress.next_lead("a").unwrap().candidate.url.as_str(), "http://h/0");
    progress.add([gone("http://h/0")]);
    progress.drop_lead(&url("http://h/0"));
    assert_eq!(progress.learn(vec![lead("http://h/0")], true), 0);
    assert!(progress.renew("a") && !progress.renew("a"));
    assert!(progress.next_lead("a").is_none());
    let many = (0..1_000).map(|n| lead(&format!("http://h/{n}/{}", "x".repeat(900)))).collect();
    assert!(progress.learn(many, false) < 12);
}

#[test]
fn a_retry_asks_only_those_again_who_had_no_time() {
    let mut progress = Progress::default();
    progress.stage("a").no = Some(No::absent("nothing"));
    progress.stage("b").no = Some(No::new(NoKind::Busy, "later"));
    let again = Progress::of(&job(2, 2, progress.retried()));
    assert_eq!(again.stages().len(), 1);
    assert_eq!(&*again.stages()[0].name, "a");
}

#[test]
fn the_largest_progress_fits_a_checkpoint() {
    let mut progress = Progress { hint: Some("h".repeat(64).into()), ..Progress::default() };
    let host = ["h".repeat(60), "h".repeat(60), "h".repeat(60), "h".repeat(60)].join(".");
    for n in 0..2 * MAX_TRIED {
        let long = url(&format!("http://{host}/{n}/{}", "x".repeat(700)));
        let verdict = Verdict::passing(ErrorReason::UnexpectedContent, "\"".repeat(900));
        let verdict = verdict.with_status(599).not_before(Some(WallMs(i64::MIN)));
        let words = "\"".repeat(5_000);
        let candidate = Candidate::file(long.as_str(), words.clone()).unwrap();
        let candidate = candidate.with_licence(Some(&words)).in_brief();
        progress.add([Tried::new(&long, verdict).by("semantic_scholar", &candidate)]);
        progress.learn_page(long.clone());
        progress.note_failed(&long);
        let other = url(&format!("http://{host}/other/{n}/{}", "x".repeat(700)));
        let candidate = Candidate { url: other, ..candidate };
        let lead = Lead { by: "semantic_scholar".into(), candidate, of_page: true, is_old: true };
        progress.learn(vec![lead], false);
    }
    for n in 0..18 {
        let stage = progress.stage(&format!("semantic_scholar_{n}"));
        stage.no = Some(No::broken("\"".repeat(900)));
        stage.step = Some(Step::new(9, "x".repeat(200)));
    }
    let mut jar = Jar::default();
    let mut headers = HeaderMap::new();
    for n in 0..16 {
        let cookie = format!("c{n}={}", "\"".repeat(200));
        headers.append(header::SET_COOKIE, cookie.parse().unwrap());
    }
    jar.take(&headers, &url(&format!("http://{host}/")));
    assert!(jar.kept().len() > 5);
    let mut trail = progress.take_trail(&url("http://h/"));
    for n in 0..20 {
        trail.visit(None).unwrap();
        trail.follow(&format!("/{n}?{}", "x".repeat(8_100)), 20).unwrap();
    }
    assert_eq!(progress.tried.len(), MAX_TRIED);
    assert!(progress.deferred(Some(&trail), &jar).is_some());
    assert!(!progress.leads.is_empty(), "it fits with all its candidates");
}
