//! `orch queue run`: settings, queue, handlers, listeners and signals meet, and the queue is run.

mod args;
mod watch;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use super::args::TableFormat;
use super::error::{CliError, Exit};
use super::registry;
use super::session::Session;
use super::signals;
use crate::config::{self, Order, Settings};
use crate::job::KeyError;
use crate::run::frontier::Schedule;
use crate::run::{RunError, RunOptions, RunReport, Runner, StopCause, StopHandle};
use crate::telemetry::{RunSummary, StoppedBy};

pub use args::{PerResolver, PerResolverError, RunArgs, fetch_settings};
use watch::Watch;

/// Runs the queue as `args` say, and prints the summary.
///
/// # Errors
/// [`CliError`] when it cannot begin, or cannot go on.
pub(super) fn run(
    session: &mut Session,
    args: &RunArgs,
    environment: &[(OsString, OsString)],
) -> Result<Exit, CliError> {
    let options = RunOptions {
        drain: args.drain,
        wait_retries: !args.no_wait_retries,
        max_runtime: args.max_runtime,
        ..RunOptions::try_from(session.settings())?
    };
    execute(session, options, args.format, environment)
}

/// Runs the queue, watched on standard error, and prints the summary on standard output.
///
/// # Errors
/// [`CliError`] when it cannot begin, or cannot go on.
pub(super) fn execute(
    session: &mut Session,
    options: RunOptions,
    format: TableFormat,
    environment: &[(OsString, OsString)],
) -> Result<Exit, CliError> {
    let mut queue = session.open_or_create()?;
    let learned = match session.settings().fetch.order {
        Order::Learned => queue.yields()?,
        Order::Fixed => Vec::new(),
    };
    let registry = registry::for_run(session.settings(), environment, learned)?;
    let watch = Watch::start(session, environment)?;
    let waited = options.wait_retries;
    let runner = Runner::new(queue)
        .registry(registry)
        .options(options)
        .clock(Arc::clone(&session.clock))
        .listener(watch.listener());
    let signals = signals::Watching::start(stopping(runner.stop_handle()))
        .map_err(|source| RunError::Thread { what: "the signal thread", source })?;
    let done = runner.run();
    signals.end();
    watch.end(session.out.messages);
    let report = done?;
    let exit = exit_of(&report, waited);
    let summary = summary_of(&report, exit);
    match format {
        TableFormat::Table => session.out.line(&summary.to_table())?,
        TableFormat::Json => session.out.line(&summary.to_json())?,
    }
    Ok(exit)
}

/// The first signal stops in good order, the second at once, the third ends the process.
fn stopping(stop: StopHandle) -> impl Fn(usize, i32) + Send {
    move |nth, signal| match nth {
        0 => stop.stop(StopCause::Signal(signal)),
        1 => stop.stop_now(StopCause::Signal(signal)),
        // Nothing is lost: the queue is as safe as after kill -9.
        _ => signals::die_of(signal),
    }
}

/// See the exit codes in `orch --help`. Work left behind weighs more than jobs that failed.
fn exit_of(report: &RunReport, waited: bool) -> Exit {
    let left = report.left;
    let waits = left.delayed_retry && (!waited || report.stopped.is_some());
    match report.stopped {
        Some(StopCause::Signal(number)) => Exit::Signal(u8::try_from(number).unwrap_or(u8::MAX)),
        _ if left.ready || left.ready_of_other_kinds || waits => Exit::WorkLeft,
        _ if report.failed > 0 => Exit::Partial,
        _ => Exit::Ok,
    }
}

fn summary_of(report: &RunReport, exit: Exit) -> RunSummary {
    RunSummary {
        done: report.done,
        skipped: report.skipped,
        failed: report.failed,
        retried: report.retried,
        lost_leases: report.lost,
        handed_back: report.handed_back,
        elapsed: report.elapsed,
        queue: report.queue,
        waiting_for_run_at: report.left.delayed_run_at,
        running_elsewhere: report.left.leased_elsewhere,
        stopped_by: match (report.stopped, exit) {
            (Some(StopCause::Signal(2)), _) => StoppedBy::Interrupt,
            (Some(StopCause::Signal(_)), _) => StoppedBy::Terminate,
            (Some(StopCause::MaxRuntime | StopCause::Asked), _) => StoppedBy::MaxRuntime,
            (None, Exit::WorkLeft) => StoppedBy::WorkLeft,
            (None, _) => StoppedBy::Drained,
        },
        reasons: report.reasons.iter().map(|(reason, count)| (*reason, *count)).collect(),
        exit_code: exit.code(),
    }
}

impl TryFrom<&Settings> for RunOptions {
    type Error = KeyError;

    fn try_from(settings: &Settings) -> Result<RunOptions, KeyError> {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let own = &settings.orchestrator;
        let retry = settings.retry_terms();
        Ok(RunOptions {
            workers: own.max_workers,
            retry: retry.policy,
            max_job_attempts: own.max_job_attempts,
            max_job_losses: own.max_job_losses,
            job_timeout: seconds(own.job_timeout_seconds),
            shutdown: seconds(own.shutdown_seconds),
            heartbeat: seconds(own.heartbeat_seconds),
            lease_ttl: seconds(own.lease_ttl_seconds),
            limits: settings.gate_limits()?,
            schedule: schedule(&settings.schedule),
            ..RunOptions::default()
        })
    }
}

fn schedule(own: &config::Schedule) -> Schedule {
    let aging = Duration::from_secs(u64::from(own.aging_seconds));
    let weights = own.weights.iter().map(|(tag, weight)| (tag.as_str().into(), *weight));
    Schedule { aging: Some(aging).filter(|aging| !aging.is_zero()), weights: weights.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Flag, Sources};
    use crate::queue::store::Remaining;
    use crate::share::Policy;

    #[test]
    fn the_defaults_of_the_library_are_those_of_the_configuration() {
        let config = Config::load(&Sources::default()).unwrap();
        let mut options = RunOptions::try_from(&config.settings).unwrap();
        // The library knows no services by name: their terms are the configuration's alone.
        options.limits.by_key.clear();
        assert_eq!(options, RunOptions::default());
    }

    #[test]
    fn breaker_and_schedule_are_what_the_configuration_says() {
        let set: [(&[&str], u32); 6] = [
            (&["breaker", "failures"], 2),
            (&["breaker", "open_seconds"], 30),
            (&["breaker", "successes"], 1),
            (&["breaker", "give_up_seconds"], 120),
            (&["schedule", "aging_seconds"], 3_600),
            (&["schedule", "weights", "thesis"], 3),
        ];
        let flags = set.into_iter().map(|(path, value)| Flag::new("--x", path, value)).collect();
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        let options = RunOptions::try_from(&config.settings).unwrap();
        let policy = Policy {
            failures: 2,
            open_for: Duration::from_secs(30),
            successes: 1,
            give_up: Duration::from_secs(120),
        };
        assert_eq!(options.limits.policy, policy);
        let aging = Some(Duration::from_hours(1));
        assert_eq!(options.schedule, Schedule { aging, weights: [("thesis".into(), 3)].into() });
    }

    #[test]
    fn every_end_has_its_code() {
        let code = |stopped, failed, left| {
            exit_of(&RunReport { stopped, failed, left, ..RunReport::default() }, true).code()
        };
        let nothing = Remaining::default();
        let ready = Remaining { ready: true, ..nothing };
        let retries = Remaining { delayed_retry: true, ..nothing };
        let other = Remaining { ready_of_other_kinds: true, ..nothing };
        let later = Remaining { delayed_run_at: true, leased_elsewhere: 3, ..nothing };
        assert_eq!(code(None, 0, nothing), 0);
        assert_eq!(code(None, 0, later), 0);
        assert_eq!(code(None, 2, nothing), 3);
        assert_eq!(code(None, 2, other), 4);
        assert_eq!(code(Some(StopCause::MaxRuntime), 0, ready), 4);
        assert_eq!(code(Some(StopCause::MaxRuntime), 0, retries), 4);
        assert_eq!(code(Some(StopCause::MaxRuntime), 1, nothing), 3);
        assert_eq!(code(Some(StopCause::Signal(2)), 1, ready), 130);
        assert_eq!(code(Some(StopCause::Signal(15)), 0, nothing), 143);
        let unwaited = RunReport { left: retries, ..RunReport::default() };
        assert_eq!(exit_of(&unwaited, false).code(), 4);
    }
}
