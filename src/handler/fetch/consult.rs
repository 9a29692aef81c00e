//! Asking resolvers without fetching: what `orch resolve` and `orch doctor` show.
//!
//! The same requests under the same limits as a job's. Must never download what it finds, nor make the output directory.

use std::sync::Arc;
use std::time::Duration;

use super::resolve::{Active, Candidate, Leads, NoKind, Work};
use super::service::{self, Interrupted, MAX_STEPS, Stepped};
use super::verdict::Fault;
use super::{FetchSettings, FetchSetupError, Net, Off, dns, payload::Payload};
use crate::clock::Clock;
use crate::handler::{Cancel, Completion, Context, ContextParts};
use crate::job::{Epoch, JobRow, JobSpec, Key, Lane, LaneId, LeaseToken, Leased, Priority};
use crate::limit::{Gate, WaitReason};

/// How long one resolver may take in all.
const LONGEST: Duration = Duration::from_secs(600);
/// What is said of one that takes longer.
const BUSY: &str = "its limits, or what it asked for, leave no room for a question now";
/// What is said of one that does not answer.
const DOWN: &str = "it has failed again and again, and is left alone for a while";

/// Asks resolvers.
pub struct Finder {
    net: Net,
}

/// What one resolver said of one work.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Consultation {
    /// Its name.
    pub resolver: &'static str,
    /// `found`, `absent`, `busy`, `broken`, `refused`, or `nothing to ask` when the work has no identifier it knows.
    pub said: &'static str,
    /// One sentence; empty where candidates say it all. Of a `found` it is the no that came after them, its kind before it.
    pub message: String,
    /// How long its answers took, waiting in line included, in milliseconds.
    pub elapsed_ms: u64,
    /// What it named, best first.
    pub candidates: Vec<Named>,
}

/// A candidate, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Named {
    /// Where.
    pub url: String,
    /// `file`, or `page` for a page that may lead to one.
    pub leads: &'static str,
    /// Its licence.
    pub licence: Option<String>,
    /// Which version of the text.
    pub version: Option<&'static str>,
    /// `publisher` or `repository`.
    pub host_type: Option<&'static str>,
    /// Where in the answer it stood.
    pub evidence: String,
}

impl Finder {
    /// A finder with these settings.
    ///
    /// # Errors
    /// [`FetchSetupError`] when a setting cannot be used.
    pub fn new(settings: FetchSettings) -> Result<Finder, FetchSetupError> {
        Ok(Finder { net: Net::new(settings, dns::ask_system)? })
    }

    /// The resolvers it asks, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.net.plan.active().iter().map(|active| active.name)
    }

    /// Those it does not, and why.
    #[must_use]
    pub fn off(&self) -> &[Off] {
        self.net.plan.off()
    }

    /// What the resolver `name` says of the work that `spec` is about. Waits its turn under the limits of `gate`. `None` when
    /// there is no such resolver in use, or `cancel` was raised.
    #[must_use]
    pub fn ask(
        &self,
        spec: &JobSpec,
        name: &str,
        gate: &Gate,
        clock: &dyn Clock,
        cancel: &Arc<Cancel>,
    ) -> Option<Consultation> {
        let active = self.net.plan.active().iter().find(|active| active.name == name)?;
        let payload: Payload = serde_json::from_str(&spec.payload).unwrap_or_default();
        let work = payload.wanted().work;
        let job = leased(spec);
        let parts = ContextParts {
            job: &job,
            cancel,
            gate,
            clock,
            permit: None,
            deadline: clock.mono().plus(LONGEST),
            worker: 0,
            owner_directory: None,
            completion: Box::new(|| Completion::new(drop)),
        };
        let began = clock.mono();
        let mut asking =
            Asking { net: &self.net, context: Context::new(parts), gate, clock, cancel };
        let (candidates, no) = asking.converse(active, &work)?;
        let elapsed_ms = u64::try_from(clock.mono().since(began).as_millis()).unwrap_or(u64::MAX);
        let (said, message) = match no {
            // Candidates that need no call say nothing of whether the service answers.
            Some((kind, message)) if !candidates.is_empty() => {
                ("found", format!("{kind}: {message}"))
            }
            _ if !candidates.is_empty() => ("found", String::new()),
            Some((kind, message)) => (kind, message),
            None => ("nothing to ask", String::new()),
        };
        let candidates = candidates.iter().map(Named::from).collect();
        Some(Consultation { resolver: active.name, said, message, elapsed_ms, candidates })
    }
}

impl From<&Candidate> for Named {
    fn from(candidate: &Candidate) -> Named {
        Named {
            url: candidate.url.to_string(),
            leads: if candidate.leads == Leads::Page { "page" } else { "file" },
            licence: candidate.licence.as_deref().map(str::to_owned),
            version: candidate.version.map(super::resolve::Version::name),
            host_type: candidate.host_type.map(super::resolve::HostType::name),
            evidence: candidate.evidence.to_string(),
        }
    }
}

struct Asking<'a> {
    net: &'a Net,
    context: Context<'a>,
    gate: &'a Gate,
    clock: &'a dyn Clock,
    cancel: &'a Arc<Cancel>,
}

type Answered = (Vec<Candidate>, Option<(&'static str, String)>);

impl Asking<'_> {
    fn converse(&mut self, active: &Active, work: &Work) -> Option<Answered> {
        let mut candidates = active.resolver.known(work);
        let mut step = Default::default();
        let mut answers = 0;
        while answers < MAX_STEPS {
            let resolver = (active.name, &*active.resolver);
            match service::step(self.net, &mut self.context, resolver, work, &step) {
                Ok(Stepped::NothingToAsk) => return Some((candidates, None)),
                Ok(Stepped::No(no, _)) => {
                    return Some((candidates, Some((no.kind.name(), no.message.into()))));
                }
                Ok(Stepped::Said(said)) => {
                    answers += 1;
                    candidates.extend(said.found);
                    match said.next {
                        Some(next) => step = next,
                        None => return Some((candidates, None)),
                    }
                }
                Err(Interrupted::Wait(key) | Interrupted::ToldToWait(key)) => {
                    if let Err(no) = self.wait_for(&key)? {
                        return Some((candidates, Some(no)));
                    }
                }
                Err(Interrupted::Attempt(Fault::Attempt(_) | Fault::Machine(_))) => {
                    // Without a signal it is the time that is over.
                    let is_late = self.cancel.reason().is_none();
                    let no = (NoKind::Busy.name(), BUSY.to_owned());
                    return is_late.then_some((candidates, Some(no)));
                }
                Err(Interrupted::Attempt(Fault::Candidate(verdict))) => {
                    let no = (NoKind::Broken.name(), verdict.message);
                    return Some((candidates, Some(no)));
                }
            }
        }
        let message = format!("it was asked {MAX_STEPS} times and had more to say");
        Some((candidates, Some((NoKind::Broken.name(), message))))
    }

    /// Waits for the time at which there may be a permit; an error, with what is said of it, when that comes too late. `None` when
    /// cancelled meanwhile.
    fn wait_for(&self, key: &Key) -> Option<Result<(), (&'static str, String)>> {
        let now = self.clock.mono();
        let busy = || Some(Err((NoKind::Busy.name(), BUSY.to_owned())));
        match self.gate.try_admit(key, now) {
            Ok(permit) => permit.refund(),
            Err(wait) if wait.reason == WaitReason::Open => {
                // Somebody sits there and wants to know how it stands now.
                return Some(Err((NoKind::Broken.name(), DOWN.to_owned())));
            }
            Err(wait) => {
                // Nobody else asks under this gate: only time stands in the way, or a limit of none at all.
                let Some(until) = wait.until.map(|until| until.since(now)) else { return busy() };
                // Our own rates are waited for, however slow: a person set them. A server that asks for longer is busy.
                if wait.reason == WaitReason::Held && until >= self.context.remaining() {
                    return busy();
                }
                if self.cancel.wait(until).is_some() {
                    return None;
                }
            }
        }
        Some(Ok(()))
    }
}

/// A job that is in no queue.
fn leased(spec: &JobSpec) -> Leased {
    let lane = Lane { id: LaneId(0), kind: spec.kind.clone(), key: Key::default(), tag: None };
    Leased {
        token: LeaseToken { job: JobRow(0), epoch: Epoch(0) },
        artifact_id: spec.artifact_id.clone(),
        enqueued_at: crate::job::WallMs(0),
        lane: Arc::new(lane),
        priority: Priority::default(),
        attempt: 1,
        attempts_total: 1,
        losses: 0,
        max_attempts: None,
        timeout_seconds: None,
        retry: None,
        payload: spec.payload.clone(),
        checkpoint: None,
        previous: None,
    }
}
