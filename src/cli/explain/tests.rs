//! A sentence for every state, on jobs and keys made by hand.

use std::sync::Arc;

use super::sentence::{Explanation, Facts, MayStart, explain};
use super::*;
use crate::cli::hosts::standing::Terrain;
use crate::cli::hosts::tests::{NOW, down, held_by, limits, paused, recorded, spent, told, view};
use crate::job::{DoneReason, WallMs};
use crate::job::{
    Epoch, ErrorReason, JobRow, Key, Lane, LaneId, Priority, Reason, SkipReason, State,
};
use crate::queue::store::{AttemptView, Counted, Counts, Pace};

/// What a test says of a job.
struct Case {
    place: Place,
    last: Option<AttemptView>,
    keys: Vec<KeyView>,
    is_run: bool,
    may_start: MayStart,
}

/// A ready job at a host.
fn queued(keys: Vec<KeyView>, ahead: u64) -> Case {
    let host = keys.first().map(|view| view.key.to_string());
    let key = Key::new(None, host.as_deref()).unwrap();
    let job = JobView {
        row: JobRow(1),
        artifact_id: ArtifactId::new("a").unwrap(),
        kind: Kind::fetch(),
        key: key.clone(),
        state: State::Queued,
        priority: Priority::Normal,
        epoch: Epoch(1),
        attempts: 0,
        attempts_total: 0,
        losses: 0,
        reason: None,
        message: String::new(),
        enqueued_at: NOW.wall,
        changed_at: WallMs(NOW.wall.0 - 720_000),
        not_before: None,
        elapsed_ms: None,
        max_attempts: None,
        timeout_seconds: None,
        retry: None,
        tags: Vec::new(),
        payload: "{}".to_owned(),
        detail: None,
    };
    let lane = Arc::new(Lane { id: LaneId(1), kind: Kind::fetch(), key, tag: None });
    let ahead = Counted { count: ahead, is_exact: true };
    let place = Place { job, lane, leased_by: None, ahead };
    Case { place, last: None, keys, is_run: true, may_start: MayStart::Yes }
}

impl Case {
    fn with(mut self, change: impl FnOnce(&mut Case)) -> Case {
        change(&mut self);
        self
    }

    fn job(mut self, change: impl FnOnce(&mut JobView)) -> Case {
        change(&mut self.place.job);
        self
    }

    /// The last attempt came to that.
    fn after(self, outcome: &str) -> Case {
        let last = AttemptView {
            epoch: Epoch(1),
            outcome: outcome.into(),
            reason: None,
            message: String::new(),
            started_at: NOW.wall,
            elapsed_ms: 5,
        };
        self.with(|case| case.last = Some(last))
    }

    fn explained(&self) -> Explanation {
        let limits = limits();
        let facts = Facts {
            place: &self.place,
            last: self.last.as_ref(),
            keys: &self.keys,
            terrain: Terrain { now: NOW, limits: &limits, is_run: self.is_run },
            may_start: self.may_start,
            max_attempts: 3,
        };
        explain(&facts, &mut Processes::default())
    }

    #[track_caller]
    fn says(&self, why: &str, sentence: &str) {
        let said = self.explained();
        assert_eq!((said.why, said.sentence.as_str()), (why, sentence));
    }
}

fn paced(view: KeyView, mean_ms: u64) -> KeyView {
    KeyView { pace: Pace { attempts: 10, elapsed_ms: mean_ms * 10 }, ..view }
}

fn failed(job: &mut JobView) {
    job.reason = Some(Reason::Error(ErrorReason::HttpStatus));
    job.message = "503 Service Unavailable".to_owned();
    (job.attempts, job.attempts_total) = (1, 1);
}

#[test]
fn a_job_in_line_says_what_it_waits_for_and_how_long() {
    let arxiv = held_by(u32::MAX, 1, recorded("arxiv.org", 312, spent("1/3s", 2_100)));
    queued(vec![arxiv], 311).says(
        "full",
        "waiting for arxiv.org: 1 of 1 running, next token in 2.1 s, 311 jobs ahead of it there, \
         expected to start in about 16 min",
    );
    let said = queued(vec![recorded("arxiv.org", 9, spent("1/3s", 2_000))], 10).explained();
    assert_eq!(said.expected_start_ms, Some(32_000), "a token, and ten of three seconds");
    let roomy = paced(held_by(u32::MAX, 2, view("a.org", 1)), 2_000);
    queued(vec![roomy], 0).says(
        "in_line",
        "waiting for a.org: 2 of 4 running, nobody ahead of it there, expected to start at once",
    );
    queued(vec![view("a.org", 2)], 1)
        .says("in_line", "waiting for a.org: 0 of 4 running, 1 job ahead of it there");
    let many =
        queued(vec![view("a.org", 2)], 123_456).with(|case| case.place.ahead.is_exact = false);
    many.says("in_line", "waiting for a.org: 0 of 4 running, about 123,456 jobs ahead of it there");
    queued(vec![], 12).says("in_line", "ready, 12 jobs ahead of it");
}

#[test]
fn what_stands_in_the_way_of_its_host_is_said() {
    queued(vec![recorded("a.org", 9, paused())], 3).says(
        "paused",
        "waiting for a.org: a person paused it (`orch queue hosts resume a.org`), 3 jobs ahead of it there",
    );
    queued(vec![paced(recorded("a.org", 9, told(131_000)), 4_000)], 9).says(
        "held",
        "waiting for a.org: told to slow down: held until 14:02:11Z (2 min), 9 jobs ahead of it there, \
         expected to start in about 2 min",
    );
    queued(vec![recorded("a.org", 9, down(30_000))], 0).says(
        "open",
        "waiting for a.org: down since 13:59:30Z, asked again at 14:00:30Z (in 30 s), nobody ahead of it there, \
         expected to start in about 30 s",
    );
    queued(vec![recorded("a.org", 9, told(7_200_000))], 0).says(
        "given_up",
        "waiting for a.org: it is given up until 16:00:00Z, and its jobs end with rate_limited as they come up \
         (`orch queue hosts resume a.org` asks it again now), nobody ahead of it there",
    );
}

#[test]
fn of_two_keys_it_waits_for_the_one_that_is_worse() {
    let resolver =
        KeyView { key: LimitKey::Resolver("crossref".into()), ..recorded("a.org", 9, paused()) };
    let why = queued(vec![view("a.org", 9), resolver], 0).explained();
    assert_eq!(why.why, "paused");
    assert!(why.sentence.starts_with("waiting for the resolver crossref: "), "{}", why.sentence);
    assert!(why.sentence.contains("hosts resume crossref --resolver"), "{}", why.sentence);
    let (slow, fast) = (paced(view("a.org", 9), 60_000), paced(view("b.org", 9), 10));
    let why = queued(vec![fast, slow], 100).explained();
    assert!(why.sentence.starts_with("waiting for a.org: "), "{}", why.sentence);
}

#[test]
fn a_job_that_waits_for_its_time_says_for_which() {
    let at = |job: &mut JobView| job.not_before = Some(WallMs(NOW.wall.0 + 131_000));
    let delayed = || queued(vec![view("a.org", 9)], 0).job(at);
    delayed().says("run_at", "waits for its own time, run_at 14:02:11Z (in 2 min)");
    delayed().job(failed).after("retry").says(
        "retry",
        "retry 2 of 3 at 14:02:11Z (in 2 min) after http_status: 503 Service Unavailable",
    );
    delayed().after("deferred").says(
        "deferred",
        "put off until 14:02:11Z (in 2 min): it waits for a.org, and loses no attempt",
    );
    let tomorrow = delayed().job(|job| job.not_before = Some(WallMs(NOW.wall.0 + 86_400_000)));
    tomorrow.says("run_at", "waits for its own time, run_at 2026-02-01T14:00:00Z (in 24 h)");
    let past = delayed().job(|job| job.not_before = Some(NOW.wall));
    past.says("run_at", "waits for its own time, run_at 14:00:00Z (its time has come)");
}

#[test]
fn what_only_a_person_can_change_is_said_first_of_all() {
    let ready = || queued(vec![view("a.org", 9)], 3);
    let nobody = ready().with(|case| case.is_run = false);
    nobody.says(
        "nobody_runs",
        "waiting for a.org: 0 of 4 running, 3 jobs ahead of it there; nobody is running this queue: `orch queue run`",
    );
    let exec = ready().with(|case| case.may_start = MayStart::IfAllowed);
    let exec = exec.explained();
    assert_eq!(exec.why, "kind");
    assert!(exec.sentence.ends_with("only `orch queue run --allow-exec` starts"), "{exec:?}");
    let unknown = ready().with(|case| case.may_start = MayStart::Unknown).explained();
    assert_eq!(unknown.why, "kind");
    assert!(unknown.sentence.contains("does not know its kind"), "{unknown:?}");
}

#[test]
fn a_job_that_runs_says_where() {
    let run = |process: Option<u32>, keys: Vec<KeyView>| {
        queued(keys, 0).job(|job| (job.state, job.attempts) = (State::InProgress, 2)).with(|case| {
            case.place.leased_by = Some(("0193-abc".into(), process));
        })
    };
    run(Some(std::process::id()), vec![])
        .says("running", &format!("running on process {}, attempt 2 of 3", std::process::id()));
    run(None, vec![]).says("running", "running on process 0193-abc, attempt 2 of 3");
    // One runs, and two are leased: this may be the other one.
    let counts = Counts { in_progress: 2, ..Counts::default() };
    let arxiv = KeyView { counts, ..held_by(u32::MAX, 1, view("arxiv.org", 9)) };
    run(None, vec![arxiv])
        .says("running", "running, or next in line, on process 0193-abc, attempt 2 of 3");
}

#[test]
fn a_finished_job_says_how_and_what_to_do() {
    let ended = |state: State, reason: Reason, message: &str| {
        queued(vec![], 0).job(|job| {
            (job.state, job.reason, job.message) = (state, Some(reason), message.to_owned());
            (job.attempts, job.attempts_total) = (3, 3);
        })
    };
    ended(State::Done, Reason::Done(DoneReason::Ok), "").says("done", "done, 12 min ago: ok");
    ended(State::Error, Reason::Error(ErrorReason::Timeout), "no byte in 60 s").says(
        "error",
        "error: timeout: no byte in 60 s, after 3 attempts, 12 min ago; `orch queue retry-failed --reason timeout` \
         gives it another chance",
    );
    ended(State::Skipped, Reason::Skipped(SkipReason::NoOpenCopy), "").says(
        "skipped",
        "skipped, 12 min ago: no_open_copy; `orch queue retry-failed --reason no_open_copy` tries it again",
    );
}
