//! Events of a run as log events.
//!
//! Told of up to 300,000 settled jobs a second: a level that is off costs one comparison, because the
//! fields of a tracing event are made only where somebody listens.

use std::time::Duration;

use parking_lot::Mutex;
use tracing::{debug, info, trace, warn};

use super::ending::Ending;
use super::pace::Pace;
use super::progress;
use super::text::{kind_of, name_of, one_line, rough};
use crate::job::{LimitKey, Mono, Reason, WallMs};
use crate::queue::store::Recovered;
use crate::run::event::{Event, Listener, Progress, Settled, StopPhase};
use crate::share::Transition;

/// The busiest keys are told in so many characters.
const BUSIEST_COLUMNS: usize = 160;

/// Logs what happens. Lines about single jobs have the target `orch::job`, all others `orch::run`.
pub struct LogListener {
    progress: Option<Mutex<Heartbeat>>,
}

/// When the next line about progress is due.
struct Heartbeat {
    every: Duration,
    last: Option<Mono>,
    pace: Pace,
}

impl LogListener {
    /// With `progress_every`, a line on how the run stands that often: for where no live line is shown. Without, retries
    /// are told at debug: the live lines count them.
    #[must_use]
    pub fn new(progress_every: Option<Duration>) -> LogListener {
        let heartbeat = |every| Mutex::new(Heartbeat { every, last: None, pace: Pace::default() });
        LogListener { progress: progress_every.map(heartbeat) }
    }
}

impl Listener for LogListener {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::JobSettled(settled) => job_settled(settled, self.progress.is_none()),
            Event::JobStarted { job, worker } => trace!(
                target: "orch::job",
                artifact_id = job.artifact_id.as_str(),
                job_id = job.token.job.0,
                worker_id = worker,
                attempt = job.attempt,
                "job started"
            ),
            Event::DeadlinePassed { token, artifact_id, worker } => warn!(
                target: "orch::job",
                artifact_id,
                job_id = token.job.0,
                worker_id = worker,
                "job cancelled: its deadline passed"
            ),
            Event::Progress(progress) => {
                if let Some(heartbeat) = &self.progress {
                    heartbeat.lock().tell(progress);
                }
            }
            of_the_run => run_event(of_the_run),
        }
    }

    fn wants_jobs(&self) -> bool {
        tracing::enabled!(target: "orch::job", tracing::Level::WARN)
    }
}

fn run_event(event: &Event<'_>) {
    match event {
        Event::Started { owner, workers } => {
            info!(target: "orch::run", owner, workers, "run started");
        }
        Event::Recovered(recovered) => took_over(recovered),
        Event::WorkerReplaced { stuck, replacement } => warn!(
            target: "orch::run",
            worker_id = stuck,
            replacement,
            "a worker did not return after its job's deadline; another took its place"
        ),
        Event::Breaker { key, transition, until } => breaker(key, *transition, *until),
        Event::OwnerLost { old, new } => warn!(
            target: "orch::run",
            owner = new,
            old_owner = old,
            "this run was taken for dead and its jobs were freed; it goes on under a new id"
        ),
        Event::StoreTrouble { message, again_in } => warn!(
            target: "orch::run",
            again_in_seconds = again_in.as_secs_f64(),
            "the queue cannot be written, to be tried again in {}: {}",
            rough(*again_in),
            one_line(message)
        ),
        Event::LogGrew { bytes } => warn!(
            target: "orch::run",
            bytes,
            "the queue's log (-wal) has grown to {} MiB: some program keeps a transaction on it open; it shrinks once that has ended",
            bytes >> 20
        ),
        Event::Stopping { phase: StopPhase::Draining, running } => info!(
            target: "orch::run",
            running,
            "stopping: nothing new starts, what runs may finish"
        ),
        Event::Stopping { phase: StopPhase::Cancelling, running } => {
            info!(target: "orch::run", running, "stopping: what runs is cancelled");
        }
        Event::Ended => info!(target: "orch::run", "run ended"),
        Event::JobStarted { .. }
        | Event::JobSettled(_)
        | Event::DeadlinePassed { .. }
        | Event::Progress(_) => {}
    }
}

fn breaker(key: &LimitKey, transition: Transition, until: Option<WallMs>) {
    macro_rules! breaker_line {
        ($level:ident, $($words:tt)+) => {
            $level!(
                target: "orch::run",
                key = %key,
                kind = kind_of(key),
                transition = name_of(transition),
                until = until.and_then(rfc3339),
                $($words)+
            )
        };
    }
    match transition {
        Transition::Opened { .. } => {
            let until = until.and_then(clock_time).map(|at| format!(" until {at}"));
            let until = until.unwrap_or_default();
            breaker_line!(
                warn,
                "{key} is down: nobody asks it{until}, for its requests failed again and again"
            );
        }
        Transition::HalfOpened => {
            breaker_line!(info, "{key} is tried again, one request at a time");
        }
        Transition::Closed => breaker_line!(info, "{key} is up again"),
    }
}

fn took_over(recovered: &Recovered) {
    if recovered.owners.is_empty() {
        return;
    }
    let (requeued, crashed) = (recovered.requeued, recovered.crashed);
    warn!(
        target: "orch::run",
        owners = recovered.owners.join(" "),
        requeued,
        crashed,
        handed_back = recovered.handed_back,
        "took over from {} dead run(s): {requeued} jobs queued again, {crashed} ended as crashed",
        recovered.owners.len()
    );
}

/// One line about a job, with what else there is to say of it in brackets.
macro_rules! job_line {
    ($level:ident, $settled:expr, [$($field:ident = $value:expr)?], $($words:tt)+) => {
        $level!(
            target: "orch::job",
            artifact_id = $settled.job.artifact_id.as_str(),
            job_id = $settled.job.token.job.0,
            worker_id = $settled.worker,
            attempt = $settled.job.attempt,
            outcome = Ending::of($settled).name(),
            reason = $settled.reason.map(Reason::name),
            elapsed_ms = milliseconds($settled.elapsed),
            $($field = $value,)?
            $($words)+
        )
    };
}

/// One line about a settled job. Beside live lines, which count retries, a retry is not worth a line of its own.
fn job_settled(settled: &Settled<'_>, beside_live_lines: bool) {
    macro_rules! retry_line {
        ($level:ident) => {
            job_line!(
                $level,
                settled,
                [retry_at = settled.again_at.and_then(rfc3339)],
                "job failed, to be tried again{}",
                said(settled)
            )
        };
    }
    match Ending::of(settled) {
        Ending::Done => job_line!(debug, settled, [], "job done{}", said(settled)),
        Ending::Skipped => job_line!(debug, settled, [], "job skipped{}", said(settled)),
        Ending::Error => job_line!(warn, settled, [], "job failed{}", said(settled)),
        Ending::Retry if beside_live_lines => retry_line!(debug),
        Ending::Retry => retry_line!(info),
        Ending::Deferred => job_line!(
            debug,
            settled,
            [waits_for = settled.deferred_to.map(tracing::field::display)],
            "job waits for another key{}",
            said(settled)
        ),
        Ending::HandedBack => job_line!(debug, settled, [], "job handed back{}", said(settled)),
        Ending::LeaseLost => job_line!(
            warn,
            settled,
            [],
            "lease lost: another run has the job, and this outcome was not written{}",
            said(settled)
        ),
    }
}

/// What the handler said, after a colon; nothing if it said nothing.
fn said(settled: &Settled<'_>) -> String {
    match settled.message {
        "" => String::new(),
        message => format!(": {}", one_line(message)),
    }
}

fn milliseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn rfc3339(time: WallMs) -> Option<String> {
    jiff::Timestamp::from_millisecond(time.0).ok().map(|time| format!("{time:.3}"))
}

/// `03:04:05 UTC`.
fn clock_time(time: WallMs) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(time.0).ok()?;
    Some(time.strftime("%H:%M:%S UTC").to_string())
}

impl Heartbeat {
    /// Takes `progress` in, and logs it if a line is due.
    fn tell(&mut self, progress: &Progress) {
        let reading = self.pace.observe(progress);
        let last = *self.last.get_or_insert(progress.at);
        if progress.at.since(last) < self.every {
            return;
        }
        self.last = Some(progress.at);
        info!(
            target: "orch::run",
            done = progress.done,
            skipped = progress.skipped,
            failed = progress.failed,
            retried = progress.retried,
            running = progress.running,
            held = progress.held,
            queued = progress.queue.queued,
            jobs_per_second = reading.jobs_per_second.map(|rate| (rate * 10.0).round() / 10.0),
            eta_seconds = reading.eta.map(|eta| eta.as_secs()),
            busiest = progress::busiest_line(progress, BUSIEST_COLUMNS),
            "progress"
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixtures::{done, failed, leased, retried};
    use super::super::log::tests::{at, logged, logged_json};
    use super::*;
    use crate::job::{Epoch, JobRow, Key, LeaseToken, State};
    use crate::queue::store::Counts;
    use crate::run::event::Busy;

    /// Tells a listener in a pipe.
    fn tell(event: Event<'_>) {
        LogListener::new(Some(Duration::from_secs(10))).on(&event);
    }

    #[test]
    fn beside_live_lines_a_retry_is_told_at_debug() {
        let job = leased("doi:10.1/a");
        let live = || LogListener::new(None).on(&Event::JobSettled(retried(&job, "timed out")));
        assert_eq!(logged(&at("info"), live), "");
        assert!(logged(&at("debug"), live).contains("DEBUG job failed, to be tried again"));
    }

    #[test]
    fn a_failure_is_a_warning_with_all_its_particulars_at_the_top_level() {
        let job = leased("doi:10.1/a");
        let lines = logged_json("warn", || tell(Event::JobSettled(failed(&job, "HTTP\n404"))));
        assert_eq!(
            lines,
            [json!({
                "timestamp": "2026-01-02T03:04:05.678Z",
                "level": "WARN",
                "message": "job failed: HTTP 404",
                "artifact_id": "doi:10.1/a",
                "job_id": 7,
                "worker_id": 4,
                "attempt": 2,
                "outcome": "error",
                "reason": "http_status",
                "elapsed_ms": 250,
                "target": "orch::job",
            })]
        );
    }

    #[test]
    fn a_failure_in_text_is_one_line() {
        let job = leased("doi:10.1/a");
        let text = logged(&at("info"), || tell(Event::JobSettled(retried(&job, "timed out"))));
        assert_eq!(
            text,
            "2026-01-02T03:04:05.678Z  INFO job failed, to be tried again: timed out \
             artifact_id=\"doi:10.1/a\" job_id=7 worker_id=4 attempt=2 outcome=\"retry\" \
             reason=\"http_status\" elapsed_ms=250 retry_at=\"2026-01-02T03:05:05.000Z\"\n"
        );
    }

    /// The level and message of the one line that `event` makes at `trace`.
    #[track_caller]
    fn check(event: Event<'_>, level: &str, message: &str) {
        let mut lines = logged_json("trace", || tell(event));
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = lines.remove(0);
        assert_eq!((&line["level"], &line["message"]), (&json!(level), &json!(message)));
    }

    #[test]
    fn every_event_has_its_level_and_words() {
        let job = leased("a");
        let key = Key::new(Some("arxiv"), Some("arxiv.org")).unwrap();
        let settled = |settled| Event::JobSettled(settled);
        let queued = || Settled { state: Some(State::Queued), reason: None, ..done(&job) };
        let token = LeaseToken { job: JobRow(7), epoch: Epoch(3) };

        check(Event::Started { owner: "o", workers: 8 }, "INFO", "run started");
        check(Event::JobStarted { job: &job, worker: 1 }, "TRACE", "job started");
        check(settled(done(&job)), "DEBUG", "job done");
        let skipped = Settled { state: Some(State::Skipped), message: "no URL", ..done(&job) };
        check(settled(skipped), "DEBUG", "job skipped: no URL");
        check(settled(Settled { worker: None, ..queued() }), "DEBUG", "job handed back");
        let deferred = Settled { deferred_to: Some(&key), ..queued() };
        check(settled(deferred), "DEBUG", "job waits for another key");
        check(
            settled(Settled { state: None, ..done(&job) }),
            "WARN",
            "lease lost: another run has the job, and this outcome was not written",
        );
        check(
            Event::DeadlinePassed { token, artifact_id: "a", worker: 1 },
            "WARN",
            "job cancelled: its deadline passed",
        );
        check(
            Event::WorkerReplaced { stuck: 1, replacement: 8 },
            "WARN",
            "a worker did not return after its job's deadline; another took its place",
        );
        check(
            Event::OwnerLost { old: "a", new: "b" },
            "WARN",
            "this run was taken for dead and its jobs were freed; it goes on under a new id",
        );
        check(
            Event::StoreTrouble { message: "disk full", again_in: Duration::from_secs(2) },
            "WARN",
            "the queue cannot be written, to be tried again in 2.0 s: disk full",
        );
        check(
            Event::LogGrew { bytes: 300 << 20 },
            "WARN",
            "the queue's log (-wal) has grown to 300 MiB: some program keeps a transaction on it open; it shrinks once that has ended",
        );
        let stopping = |phase| Event::Stopping { phase, running: 3 };
        check(
            stopping(StopPhase::Draining),
            "INFO",
            "stopping: nothing new starts, what runs may finish",
        );
        check(stopping(StopPhase::Cancelling), "INFO", "stopping: what runs is cancelled");
        check(Event::Ended, "INFO", "run ended");
        let owners = vec!["x".into(), "y".into()];
        check(
            Event::Recovered(&Recovered { owners, requeued: 3, crashed: 1, handed_back: 0 }),
            "WARN",
            "took over from 2 dead run(s): 3 jobs queued again, 1 ended as crashed",
        );
    }

    #[test]
    fn a_breaker_says_who_is_down_and_until_when() {
        let host = LimitKey::Host("arxiv.org".into());
        let opened = Transition::Opened { until: Mono::from_ms(67_000) };
        let (now, wall) = (Mono::from_ms(7_000), WallMs(1_767_323_045_000));
        let lines = logged_json("warn", || tell(Event::breaker(&host, opened, now, wall)));
        assert_eq!(
            lines,
            [json!({
                "timestamp": "2026-01-02T03:04:05.678Z",
                "level": "WARN",
                "message": "arxiv.org is down: nobody asks it until 03:05:05 UTC, for its requests failed again and again",
                "key": "arxiv.org",
                "kind": "host",
                "transition": "opened",
                "until": "2026-01-02T03:05:05.000Z",
                "target": "orch::run",
            })]
        );
        let key = LimitKey::Resolver("unpaywall".into());
        let changed = |transition| Event::breaker(&key, transition, now, wall);
        let words = "unpaywall is tried again, one request at a time";
        check(changed(Transition::HalfOpened), "INFO", words);
        check(changed(Transition::Closed), "INFO", "unpaywall is up again");
    }

    #[test]
    fn nothing_taken_over_is_not_worth_a_line() {
        let lines = logged_json("trace", || tell(Event::Recovered(&Recovered::default())));
        assert_eq!(lines, Vec::<Value>::new());
    }

    #[test]
    fn jobs_are_wanted_only_where_their_lines_are_shown() {
        for (level, wanted) in [("off", false), ("error", false), ("warn", true), ("debug", true)] {
            logged(&at(level), || {
                assert_eq!(LogListener::new(None).wants_jobs(), wanted, "{level}");
            });
        }
        logged(&at("debug,orch::job=off"), || {
            assert!(!LogListener::new(None).wants_jobs());
        });
    }

    #[test]
    fn what_is_done_is_silent_at_info() {
        let job = leased("a");
        assert_eq!(logged(&at("info"), || tell(Event::JobSettled(done(&job)))), "");
    }

    fn arxiv() -> Busy {
        let key = LimitKey::Host("arxiv.org".into());
        Busy { key, running: 1, limit: Some(1), held: 311, waiting: None, until: None }
    }

    /// A run that finishes one job every 100 ms, told ten times a second for `seconds`.
    fn told_progress(listener: &LogListener, seconds: u64) -> Vec<Value> {
        logged_json("info", || {
            for tick in 0..=seconds * 10 {
                listener.on(&Event::Progress(&Progress {
                    at: Mono::from_ms(5_000 + tick * 100),
                    done: tick,
                    queue: Counts { done: tick, queued: 1_000 - tick, ..Counts::default() },
                    busiest: vec![arxiv()],
                    ..Progress::default()
                }));
            }
        })
    }

    #[test]
    fn in_a_pipe_progress_is_a_line_every_ten_seconds() {
        let listener = LogListener::new(Some(Duration::from_secs(10)));
        let lines = told_progress(&listener, 25);
        let seen: Vec<_> = lines.iter().map(|line| line["done"].as_u64()).collect();
        assert_eq!(seen, [Some(100), Some(200)]);
        let first = &lines[0];
        assert_eq!(first["level"], "INFO");
        assert_eq!(first["jobs_per_second"], 10.0);
        assert_eq!(first["eta_seconds"], 90);
        assert_eq!(first["queued"], 900);
        assert_eq!(first["message"], "progress");
        assert_eq!(first["busiest"], "arxiv.org 1/1 running, 311 held");
    }

    #[test]
    fn beside_a_live_line_progress_is_not_logged() {
        assert_eq!(told_progress(&LogListener::new(None), 25), Vec::<Value>::new());
    }
}
