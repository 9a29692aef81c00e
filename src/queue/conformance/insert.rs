//! Jobs come in, once each.

use super::Subject;
use super::scene::{
    Process, START, TERMS, again, at_host, done, failed, hosted, ids, job, skipped,
};
use crate::job::{
    Change, ErrorReason, JobSpec, Key, Kind, Preset, Priority, SkipReason, State, WallMs,
};
use crate::queue::store::{Inserted, OnDuplicate, Settled};

const LATER: WallMs = WallMs(START.0 + 60_000);

/// A job with every field set to something.
fn elaborate(id: &str) -> JobSpec {
    JobSpec {
        kind: Kind::new("exec").unwrap(),
        priority: Priority::Low,
        max_attempts: Some(7),
        timeout_seconds: Some(90),
        retry: Some(Preset::Quick.policy()),
        key: Key::new(Some("arxiv"), Some("arxiv.org")).unwrap(),
        tags: vec!["b".to_owned(), "a, \"c\"".to_owned(), String::new()],
        ..job(id).with_payload("{\"n\": 1.0,  \"Ä\":\"\\u0000\"}")
    }
}

fn insert(process: &mut Process, spec: &JobSpec, on_duplicate: OnDuplicate) -> Inserted {
    process.store.insert(std::slice::from_ref(spec), on_duplicate, process.now).unwrap()[0]
}

/// A new row holds every field of its spec, byte for byte, and nothing else yet.
pub fn new_jobs_are_queued_as_they_came(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let delayed = JobSpec { run_at: Some(LATER), ..job("delayed") };
    let past = JobSpec { run_at: Some(WallMs(START.0 - 1)), ..job("past") };
    let now = JobSpec { run_at: Some(START), ..job("now") };
    let answers = process.insert(&[elaborate("full"), delayed, past, now]);
    assert_eq!(answers, [Inserted::New; 4]);

    let (spec, view) = (elaborate("full"), process.view("full"));
    assert_eq!((&view.kind, &view.key), (&spec.kind, &spec.key));
    assert_eq!((view.state, view.priority), (State::Queued, Priority::Low));
    assert_eq!((view.max_attempts, view.timeout_seconds), (Some(7), Some(90)));
    assert_eq!(view.retry, spec.retry);
    assert_eq!((&view.tags, &view.payload), (&spec.tags, &spec.payload));
    assert_eq!((view.attempts, view.attempts_total, view.losses), (0, 0, 0));
    assert_eq!((view.reason, view.message.as_str(), view.detail), (None, "", None));
    assert_eq!((view.enqueued_at, view.changed_at), (START, START));
    assert_eq!((view.not_before, view.elapsed_ms), (None, None));

    assert_eq!(process.view("delayed").not_before, Some(LATER));
    assert_eq!(process.view("past").not_before, None);
    assert_eq!(process.view("now").not_before, None);
    assert_eq!(process.everything().len(), 4);
    assert!(process.insert(&[]).is_empty());
}

/// By default a second job of the same id is answered and forgotten, whatever state the first is in.
pub fn a_duplicate_changes_nothing(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.ended(job("done"), done());
    process.insert(&[job("leased")]);
    let leased = process.lease_only();
    process.insert(&[job("queued")]);
    let before = process.everything();
    process.now = LATER;
    for id in ["done", "leased", "queued"] {
        let other = JobSpec { run_at: Some(LATER.plus_ms(1)), ..elaborate(id) };
        assert_eq!(insert(&mut process, &other, OnDuplicate::Skip), Inserted::Duplicate);
    }
    assert_eq!(process.everything(), before);
    assert_eq!(process.settle(leased.token, done()), Settled::Accepted(State::Done));
}

/// Later specs of a batch see the earlier ones.
pub fn one_id_twice_in_a_batch_is_as_two_calls(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let first = |id| job(id).with_payload("{\"n\":1}");
    let second = |id| job(id).with_payload("{\"n\":2}");
    let mut both = |id, on_duplicate| {
        let answers = process.store.insert(&[first(id), second(id)], on_duplicate, START).unwrap();
        (answers, process.view(id).payload)
    };
    use Inserted::{Duplicate, New, Updated};
    assert_eq!(both("a", OnDuplicate::Skip), (vec![New, Duplicate], "{\"n\":1}".to_owned()));
    assert_eq!(both("b", OnDuplicate::Update), (vec![New, Updated], "{\"n\":2}".to_owned()));
    assert_eq!(both("c", OnDuplicate::Requeue), (vec![New, Updated], "{\"n\":2}".to_owned()));
    assert_eq!(process.everything().len(), 3);
}

/// All of a waiting job but its id, row and birthday is replaced, in either mode.
pub fn an_update_replaces_all_of_a_job_that_has_not_started(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    for (id, mode) in [("a", OnDuplicate::Update), ("b", OnDuplicate::Requeue)] {
        process.now = START;
        process.insert(&[hosted(id, "old.example")]);
        let old = process.view(id);
        process.now = LATER;
        let spec = elaborate(id);
        assert_eq!(insert(&mut process, &spec, mode), Inserted::Updated);
        let new = process.view(id);
        assert_eq!((&new.kind, &new.key, new.priority), (&spec.kind, &spec.key, spec.priority));
        assert_eq!((new.max_attempts, new.timeout_seconds), (Some(7), Some(90)));
        assert_eq!((new.retry, &new.tags, &new.payload), (spec.retry, &spec.tags, &spec.payload));
        assert_eq!((new.row, new.enqueued_at, new.changed_at), (old.row, START, LATER));
        assert!(new.epoch > old.epoch);
        let ready = process.ready_lanes();
        assert!(ready.iter().all(|ready| ready.lane.key == spec.key), "{ready:?}");
    }
    process.everything();
}

/// A waiting job can be put off, and brought forward again.
pub fn an_update_sets_a_new_time(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a")]);
    let later = JobSpec { run_at: Some(LATER), ..job("a") };
    assert_eq!(insert(&mut process, &later, OnDuplicate::Update), Inserted::Updated);
    assert_eq!(process.view("a").not_before, Some(LATER));
    assert!(process.ready_lanes().is_empty());
    assert_eq!(process.turn(&[], &[]).next_due, Some(LATER));
    assert_eq!(insert(&mut process, &job("a"), OnDuplicate::Update), Inserted::Updated);
    assert_eq!(process.view("a").not_before, None);
    assert_eq!(process.turn(&[], &[]).next_due, None);
    assert_eq!(process.lease_only().artifact_id.as_str(), "a");
}

/// Leased, tried, lost or finished: an update is too late.
pub fn an_update_leaves_a_started_job_as_it_is(subject: &mut dyn Subject) {
    let mut doomed = Process::start(subject);
    doomed.insert(&[job("lost")]);
    doomed.lease_only();
    doomed.die(subject);
    let mut process = Process::start(subject);
    assert_eq!(process.recover(TERMS).requeued, 1);
    process.ended(job("done"), done());
    process.ended(job("skipped"), skipped(SkipReason::Robots));
    process.ended(job("error"), failed(ErrorReason::Tls));
    process.insert(&[hosted("tried", "a.example"), hosted("leased", "a.example")]);
    let want = process.want(Priority::Normal, &at_host("a.example"), 2).unwrap();
    let leased = process.turn(&[], &[want]).leased;
    assert_eq!(ids(&leased), ["tried", "leased"]);
    process.settle(leased[0].token, again(START));
    let before = process.everything();
    for id in ["lost", "done", "skipped", "error", "tried", "leased"] {
        let answer = insert(&mut process, &elaborate(id), OnDuplicate::Update);
        assert_eq!(answer, Inserted::Duplicate, "{id}");
    }
    assert_eq!(process.everything(), before);
}

/// What a deferred job learned about its payload is void when that is replaced, and so is its wait.
pub fn an_update_drops_what_was_learned_about_the_old_payload(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a")]);
    let token = process.lease_only().token;
    let change = Change::Defer {
        key: at_host("b.example"),
        not_before: Some(LATER),
        checkpoint: Some(b"learned".to_vec()),
    };
    process.settle(token, change);
    assert_eq!(insert(&mut process, &job("a"), OnDuplicate::Update), Inserted::Updated);
    let leased = process.lease_only();
    assert_eq!((leased.checkpoint.clone(), &leased.lane.key), (None, &Key::default()));
}

/// A finished job starts over, with what the new spec says; its total of attempts stays on record.
pub fn a_requeue_runs_a_finished_job_again(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.ended(job("done"), done());
    process.ended(job("skipped"), skipped(SkipReason::Robots));
    process.ended(job("error"), failed(ErrorReason::Tls));
    process.now = LATER;
    for id in ["done", "skipped", "error"] {
        let (old, story) = (process.view(id), process.story(id));
        let spec = JobSpec { run_at: Some(START), ..elaborate(id) };
        assert_eq!(insert(&mut process, &spec, OnDuplicate::Requeue), Inserted::Requeued, "{id}");
        let new = process.view(id);
        assert_eq!((new.state, new.row), (State::Queued, old.row));
        assert_eq!((new.attempts, new.attempts_total, new.losses), (0, 1, 0));
        assert_eq!((new.reason, new.message.as_str(), new.detail), (None, "", None));
        assert_eq!((new.not_before, new.elapsed_ms), (None, None));
        assert_eq!((new.enqueued_at, new.changed_at), (START, LATER));
        assert_eq!((&new.payload, &new.key, &new.kind), (&spec.payload, &spec.key, &spec.kind));
        assert!(new.epoch > old.epoch);
        assert_eq!(process.story(id), story);
        let leased = process.lease_only();
        assert_eq!((leased.attempt, leased.attempts_total), (1, 2));
    }
    process.everything();
}

/// Only a finished job is run again; one that is under way is left to end by itself.
pub fn a_requeue_leaves_a_started_job_as_it_is(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("tried")]);
    let token = process.lease_only().token;
    process.settle(token, again(LATER));
    process.insert(&[job("leased")]);
    process.lease_only();
    let before = process.everything();
    for id in ["tried", "leased"] {
        let answer = insert(&mut process, &elaborate(id), OnDuplicate::Requeue);
        assert_eq!(answer, Inserted::Duplicate, "{id}");
    }
    assert_eq!(process.everything(), before);
}

/// Its row is its place in line, and that stays.
pub fn a_job_keeps_its_place_when_it_is_updated_or_requeued(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.ended(job("requeued"), done());
    process.insert(&[job("updated"), job("last")]);
    assert_eq!(insert(&mut process, &job("updated"), OnDuplicate::Update), Inserted::Updated);
    assert_eq!(insert(&mut process, &job("requeued"), OnDuplicate::Requeue), Inserted::Requeued);
    assert_eq!(ids(&process.lease(9)), ["requeued", "updated", "last"]);
}
