use super::*;
use crate::clock::Manual;
use crate::job::{Change, ErrorReason, FinalState, Note, SkipReason};
use store::{Settlement, Turn, Want};

fn queue_of(jobs: usize) -> (WorkQueue, Arc<Manual>) {
    let clock = Arc::new(Manual::at(WallMs(1_000_000)));
    let mut queue = WorkQueue::new(Box::new(MemoryStore::new()), clock.clone());
    let specs: Vec<JobSpec> =
        (0..jobs).map(|n| JobSpec::new(&format!("job:{n}"), "noop").unwrap()).collect();
    queue.insert(&specs, OnDuplicate::Skip).unwrap();
    (queue, clock)
}

/// Ends every job: in error, but each tenth skipped.
fn fail_all(queue: &mut WorkQueue) {
    let now = queue.clock().wall();
    let store = queue.store_mut();
    let owner = store.register(now).unwrap();
    let kinds = [crate::job::Kind::new("noop").unwrap()];
    loop {
        let lanes = store.ready_lanes(None, 100, &kinds).unwrap();
        let lease: Vec<Want> = lanes
            .iter()
            .map(|ready| Want {
                priority: ready.priority,
                lane: ready.lane.id,
                count: 500,
                max_losses: u32::MAX,
            })
            .collect();
        let turn = |settle: &[Settlement], lease: &[Want], store: &mut dyn Store| {
            let max_payload_bytes = usize::MAX;
            store
                .turn(&Turn { owner: &owner, now, settle, lease, max_payload_bytes, keys: None })
                .unwrap()
        };
        let leased = turn(&[], &lease, store).leased;
        if leased.is_empty() {
            break;
        }
        let settle: Vec<Settlement> = leased
            .iter()
            .map(|job| {
                let skip = job.artifact_id.as_str().ends_with('0');
                let (state, reason) = if skip {
                    (FinalState::Skipped, Reason::Skipped(SkipReason::NoOpenCopy))
                } else {
                    (FinalState::Error, Reason::Error(ErrorReason::Timeout))
                };
                Settlement {
                    token: job.token,
                    change: Change::Finish {
                        state,
                        reason,
                        note: Note::new("for the test"),
                        checkpoint: None,
                    },
                    started_at: now,
                    elapsed_ms: 1,
                }
            })
            .collect();
        turn(&settle, &[], store);
    }
}

#[test]
fn jobs_come_in_order_over_many_pages() {
    let jobs = 2 * PAGE_JOBS + 1;
    let (mut queue, _) = queue_of(jobs);
    let ids: Vec<String> =
        queue.jobs(Filter::default()).map(|job| job.unwrap().artifact_id.to_string()).collect();
    let expected: Vec<String> = (0..jobs).map(|n| format!("job:{n}")).collect();
    assert_eq!(ids, expected);
}

#[test]
fn enqueue_says_whether_the_id_was_there() {
    let (mut queue, _) = queue_of(1);
    let spec = |id| JobSpec::new(id, "noop").unwrap();
    assert_eq!(queue.enqueue(&spec("job:0")).unwrap(), Inserted::Duplicate);
    assert_eq!(queue.enqueue(&spec("job:new")).unwrap(), Inserted::New);
}

#[test]
fn retry_failed_takes_every_page_or_as_many_as_asked_for() {
    let jobs = 30_000;
    let (mut queue, _) = queue_of(jobs);
    fail_all(&mut queue);
    let (errors, skipped) = (27_000, 3_000);
    let all = RetryFilter::default();
    let tried_less = |n| RetryFilter { max_attempts: Some(n), ..RetryFilter::default() };
    let skips = RetryFilter {
        reason: Some(Reason::Skipped(SkipReason::NoOpenCopy)),
        ..RetryFilter::default()
    };
    assert_eq!(queue.retry_failed(&all, None, true).unwrap(), errors);
    assert_eq!(queue.retry_failed(&all, Some(15_000), true).unwrap(), 15_000);
    assert_eq!(queue.retry_failed(&skips, None, true).unwrap(), skipped);
    assert_eq!(queue.retry_failed(&tried_less(1), None, true).unwrap(), 0);
    assert_eq!(queue.counts().unwrap().error, errors, "a dry run changes nothing");

    assert_eq!(queue.retry_failed(&tried_less(1), None, false).unwrap(), 0);
    assert_eq!(queue.retry_failed(&all, Some(15_000), false).unwrap(), 15_000);
    assert_eq!(queue.retry_failed(&all, None, false).unwrap(), errors - 15_000);
    assert_eq!(queue.retry_failed(&skips, None, false).unwrap(), skipped);
    assert_eq!(queue.counts().unwrap().queued, jobs as u64);
}

#[test]
fn prune_takes_every_page_of_what_is_old_enough() {
    let (mut queue, clock) = queue_of(25_000);
    fail_all(&mut queue);
    let finished_at = clock.wall();
    assert_eq!(queue.prune(finished_at, false).unwrap(), 0);
    assert_eq!(queue.prune(finished_at.plus_ms(1), false).unwrap(), 25_000);
    let spec = JobSpec::new("job:7", "noop").unwrap();
    assert_eq!(queue.enqueue(&spec).unwrap(), Inserted::Pruned);
}
