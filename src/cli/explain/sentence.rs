//! The sentence: from where a job stands, and how its keys stand, to why it is not running.
//!
//! Must never ask a store or the time. Every state has its sentence, and each says what to do where there is something to do.

use std::cmp::Reverse;

use crate::cli::duration;
use crate::cli::hosts::holders::{self, Liveness, Processes};
use crate::cli::hosts::standing::{Moment, Obstacle, Stand, Terrain, given_up_name, holding};
use crate::cli::output::thousands;
use crate::job::{LimitKey, Reason, State, WallMs};
use crate::queue::store::{AttemptView, Counted, JobView, KeyView, Place};

/// What there is to go by.
pub(super) struct Facts<'a> {
    /// Where the job stands.
    pub(super) place: &'a Place,
    /// The last of its story.
    pub(super) last: Option<&'a AttemptView>,
    /// How its keys stand.
    pub(super) keys: &'a [KeyView],
    /// By what they are judged.
    pub(super) terrain: Terrain<'a>,
    /// Whether a run from here would start it.
    pub(super) may_start: MayStart,
    /// Attempts it is allowed.
    pub(super) max_attempts: u32,
}

/// Whether a run from here starts jobs of some kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayStart {
    /// It does.
    Yes,
    /// It does with `--allow-exec`.
    IfAllowed,
    /// It does not know the kind.
    Unknown,
}

/// Why a job is not running.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Explanation {
    /// Its name in JSON.
    pub(super) why: &'static str,
    /// For people.
    pub(super) sentence: String,
    /// When that ends, where it is known.
    pub(super) until: Option<WallMs>,
    /// Jobs ahead of it, where it is in line.
    pub(super) ahead: Option<Counted>,
    /// How long until it is expected to start, in milliseconds.
    pub(super) expected_start_ms: Option<u64>,
}

impl Explanation {
    fn new(why: &'static str, sentence: String) -> Explanation {
        Explanation { why, sentence, until: None, ahead: None, expected_start_ms: None }
    }
}

/// Why the job is not running.
pub(super) fn explain(facts: &Facts<'_>, processes: &mut Processes) -> Explanation {
    let job = &facts.place.job;
    match job.state {
        State::Done | State::Skipped | State::Error => finished(job, facts.terrain.now),
        State::InProgress => running(facts, processes),
        State::Queued => {
            let mut explanation = match job.not_before {
                Some(at) => delayed(facts, at),
                None => ready(facts, processes),
            };
            let hindered = hindrance(facts);
            if let Some((why, words)) = hindered {
                explanation.sentence = format!("{}; {words}", explanation.sentence);
                // What only a person can change comes before what time brings.
                if job.not_before.is_none() {
                    explanation.why = why;
                    explanation.expected_start_ms = None;
                }
            }
            explanation
        }
    }
}

/// `reason: message`, as far as there is one.
fn because(reason: Option<Reason>, message: &str) -> String {
    match (reason, message) {
        (Some(reason), "") => reason.to_string(),
        (Some(reason), message) => format!("{reason}: {message}"),
        (None, message) => message.to_owned(),
    }
}

fn attempts(count: u32) -> String {
    match count {
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    }
}

fn finished(job: &JobView, now: Moment) -> Explanation {
    let ago = duration::words(now.wall.since_ms(job.changed_at));
    let because = because(job.reason, &job.message);
    let again = |reason: Option<Reason>| {
        reason.map_or_else(
            || "`orch queue retry-failed`".to_owned(),
            |reason| format!("`orch queue retry-failed --reason {reason}`"),
        )
    };
    match job.state {
        State::Error => Explanation::new(
            "error",
            format!(
                "error: {because}, after {}, {ago} ago; {} gives it another chance",
                attempts(job.attempts_total),
                again(job.reason)
            ),
        ),
        State::Skipped => Explanation::new(
            "skipped",
            format!("skipped, {ago} ago: {because}; {} tries it again", again(job.reason)),
        ),
        _ => Explanation::new("done", format!("done, {ago} ago: {because}")),
    }
}

fn running(facts: &Facts<'_>, processes: &mut Processes) -> Explanation {
    let job = &facts.place.job;
    let Some((owner, process)) = &facts.place.leased_by else {
        return Explanation::new("running", "running".to_owned());
    };
    let liveness = processes.of(*process);
    let who = holders::words(owner, *process, liveness);
    if let (Liveness::Stopped, Some(process)) = (liveness, process) {
        let sentence = format!(
            "in the hands of process {who}, which does nothing: `kill -CONT {process}` lets it go on"
        );
        return Explanation::new("process_stopped", sentence);
    }
    let nth = format!("attempt {} of {}", job.attempts.max(1), facts.max_attempts);
    // A process leases some jobs ahead: they are its own, and start when one before them ends.
    let jobs_leased: u64 = facts.keys.iter().map(|view| view.counts.in_progress).max().unwrap_or(0);
    let stands: Vec<Stand<'_>> = facts.keys.iter().map(|view| facts.terrain.stand(view)).collect();
    let is_full =
        stands.iter().any(|stand| stand.is_full() && u64::from(stand.running) < jobs_leased);
    let what = if is_full { "running, or next in line," } else { "running" };
    Explanation::new("running", format!("{what} on process {who}, {nth}"))
}

/// Queued, and its time has not come.
fn delayed(facts: &Facts<'_>, at: WallMs) -> Explanation {
    let (job, now) = (&facts.place.job, facts.terrain.now);
    let left_ms = at.since_ms(now.wall);
    let clock = now.wall_clock(at);
    let within = match left_ms {
        0 => "its time has come".to_owned(),
        left_ms => format!("in {}", duration::words(left_ms)),
    };
    let last = facts
        .last
        .filter(|_| job.reason.is_some() || job.attempts_total > 0 || facts.last_is("deferred"));
    let (why, sentence) = match last.map(|last| &*last.outcome) {
        Some("deferred") => {
            let key = &job.key;
            (
                "deferred",
                format!(
                    "put off until {clock} ({within}): it waits for {key}, and loses no attempt"
                ),
            )
        }
        Some(_) if job.attempts > 0 => {
            let (nth, most) = (job.attempts + 1, facts.max_attempts);
            let after = because(job.reason, &job.message);
            ("retry", format!("retry {nth} of {most} at {clock} ({within}) after {after}"))
        }
        _ => ("run_at", format!("waits for its own time, run_at {clock} ({within})")),
    };
    let mut explanation = Explanation::new(why, sentence);
    explanation.until = Some(at);
    explanation.expected_start_ms = Some(left_ms).filter(|_| facts.terrain.is_run);
    explanation
}

impl Facts<'_> {
    fn last_is(&self, outcome: &str) -> bool {
        self.last.is_some_and(|last| &*last.outcome == outcome)
    }
}

/// What keeps it from starting whatever its keys say: nobody runs the queue, or nobody may start its kind.
fn hindrance(facts: &Facts<'_>) -> Option<(&'static str, String)> {
    let kind = &facts.place.job.kind;
    match facts.may_start {
        MayStart::Unknown => Some((
            "kind",
            format!(
                "`orch queue run` does not know its kind, {kind}: the program that made it has to run it"
            ),
        )),
        MayStart::IfAllowed => Some((
            "kind",
            format!("it is of kind {kind}, which only `orch queue run --allow-exec` starts"),
        )),
        MayStart::Yes if !facts.terrain.is_run => {
            Some(("nobody_runs", "nobody is running this queue: `orch queue run`".to_owned()))
        }
        MayStart::Yes => None,
    }
}

/// Queued, and its time has come: it waits for a key, or for its turn.
fn ready(facts: &Facts<'_>, processes: &mut Processes) -> Explanation {
    let (now, ahead) = (facts.terrain.now, facts.place.ahead);
    let waits = facts
        .keys
        .iter()
        .map(|view| facts.terrain.stand(view))
        .map(|stand| Waits { expected_ms: expected_ms(&stand, now, ahead.count), stand })
        .max_by_key(Waits::weight);
    let Some(Waits { stand, expected_ms }) = waits else {
        let mut explanation =
            Explanation::new("in_line", format!("ready, {}", ahead_words(ahead, "")));
        explanation.ahead = Some(ahead);
        return explanation;
    };
    let mut parts: Vec<String> = hindered_by(&stand, now);
    parts.extend(stopped_holders(stand.view, processes));
    parts.push(ahead_words(ahead, " there"));
    let starts = !matches!(stand.obstacle, Some(Obstacle::GivenUp { .. } | Obstacle::Paused));
    let expected_ms = expected_ms.filter(|_| starts);
    parts.extend(expected_ms.map(|ms| match ms {
        0..1_000 => "expected to start at once".to_owned(),
        ms => format!("expected to start in about {}", duration::words(ms)),
    }));
    let on = key_words(&stand.view.key);
    let obstacle = stand.obstacle;
    Explanation {
        why: obstacle.map_or("in_line", Obstacle::name),
        sentence: format!("waiting for {on}: {}", parts.join(", ")),
        until: obstacle.and_then(Obstacle::until).map(|at| now.wall_at(at)),
        ahead: Some(ahead),
        expected_start_ms: expected_ms,
    }
}

/// One of the keys it needs.
struct Waits<'a> {
    stand: Stand<'a>,
    expected_ms: Option<u64>,
}

impl Waits<'_> {
    /// The weightier, the more it is this key that the job waits for.
    fn weight(&self) -> (Reverse<u8>, u64) {
        let order = match self.stand.obstacle {
            Some(Obstacle::Paused) => 0,
            Some(Obstacle::GivenUp { .. }) => 1,
            Some(Obstacle::Held { .. } | Obstacle::Down { .. }) => 2,
            Some(Obstacle::HalfOpen { .. }) => 3,
            Some(Obstacle::Full | Obstacle::NoToken { .. }) => 4,
            None => 5,
        };
        (Reverse(order), self.expected_ms.unwrap_or(0))
    }
}

/// What stands in its way at one key, in words.
fn hindered_by(stand: &Stand<'_>, now: Moment) -> Vec<String> {
    let name = match &stand.view.key {
        LimitKey::Host(name) => name.to_string(),
        LimitKey::Resolver(name) => format!("{name} --resolver"),
    };
    let running = format!("{} running", stand.running_words());
    match stand.obstacle {
        Some(Obstacle::Paused) => {
            vec![format!("a person paused it (`orch queue hosts resume {name}`)")]
        }
        Some(Obstacle::GivenUp { why, until }) => vec![format!(
            "it is given up until {}, and its jobs end with {} as they come up (`orch queue hosts resume {name}` asks it again now)",
            now.clock(until),
            given_up_name(why),
        )],
        Some(Obstacle::Full) => {
            let token = stand.next_token.map(|next| Obstacle::NoToken { next }.words(now));
            std::iter::once(running).chain(token).collect()
        }
        Some(obstacle @ Obstacle::NoToken { .. }) => vec![running, obstacle.words(now)],
        Some(obstacle) => vec![obstacle.words(now)],
        None => vec![running],
    }
}

/// Slots that nobody gives back for now.
fn stopped_holders(view: &KeyView, processes: &mut Processes) -> Option<String> {
    let stopped: Vec<String> = holding(view)
        .filter(|holder| processes.of(holder.process) == Liveness::Stopped)
        .map(|holder| holders::words(&holder.owner, holder.process, Liveness::Stopped))
        .collect();
    (!stopped.is_empty()).then(|| format!("held by {}", stopped.join(", ")))
}

fn ahead_words(ahead: Counted, there: &str) -> String {
    let about = if ahead.is_exact { "" } else { "about " };
    match ahead.count {
        0 => format!("nobody ahead of it{there}"),
        1 => format!("{about}1 job ahead of it{there}"),
        count => format!("{about}{} jobs ahead of it{there}", thousands(count)),
    }
}

fn key_words(key: &LimitKey) -> String {
    match key {
        LimitKey::Host(name) => name.to_string(),
        LimitKey::Resolver(name) => format!("the resolver {name}"),
    }
}

/// How long until it is expected to start as far as this key goes, in milliseconds: what stands in the way, and then those ahead of it,
/// as fast as the key has let jobs pass so far. `None` where that is not known.
fn expected_ms(stand: &Stand<'_>, now: Moment, ahead: u64) -> Option<u64> {
    let obstacle_ms = match stand.obstacle {
        Some(Obstacle::Paused) => return None,
        Some(obstacle) => obstacle.until().map_or(0, |until| now.until_ms(until)),
        None => 0,
    };
    let next_token_ms = stand.next_token.map_or(0, |at| now.until_ms(at));
    let full = u64::from(stand.is_full());
    let in_line_ms = match (ahead + full, stand.jobs_per_second()) {
        (0, _) => 0,
        (before, Some(speed)) => (before as f64 / speed * 1_000.0) as u64,
        (_, None) => return None,
    };
    Some(obstacle_ms.max(next_token_ms).saturating_add(in_line_ms))
}
