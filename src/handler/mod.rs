//! The work itself: a handler does one job and says what came of it.
//!
//! A handler must never touch the queue, and never wait for a limit: it asks its [`Context`] for
//! permits and defers when there is none.

mod context;
mod exec;
mod fetch;
pub(crate) mod given_up;
mod noop;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::job::{JobSpec, Key, Kind, Outcome, SpecError};

#[cfg(test)]
pub(crate) use context::testing;
pub use context::{Cancel, CancelReason, Completion, Context, ContextParts, PayloadError};
pub use exec::Exec;
#[cfg(fuzzing)]
pub use fetch::fuzzing;
pub use fetch::{
    ApiKey, ClientError, Consultation, FetchHandler, FetchPlan, FetchSettings, FetchSetupError,
    Finder, Kind as ContentKind, Named, Off, OffReason, Order as ResolverOrder, PlanError,
    ProxySettings, ResolverSettings, resolver_names,
};
pub use noop::Noop;

/// What a handler returns.
#[derive(Debug, PartialEq)]
pub enum Ran {
    /// The attempt is over.
    Finished(Outcome),
    /// Somebody else holds the [`Completion`] and will say; the worker is free.
    Later,
    /// No job can be done on this machine as it is.
    GaveUp(MachineFault),
}

/// Why no job can be done on this machine as it is: its disk is full, say.
///
/// The job is not to blame: it is handed back and no attempt is counted. The run stops in good order and ends
/// with [`crate::run::RunError::Machine`], lest it lead the whole queue into the same trouble.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MachineFault {
    /// One sentence that names the thing and the place.
    pub message: String,
}

impl MachineFault {
    /// The fault in an error of the system at `place`, where it means that there is no room left on its disk.
    #[must_use]
    pub fn of_full_disk(place: &Path, error: &io::Error) -> Option<MachineFault> {
        let full =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let message = || format!("no space left: {}: {error}", place.display());
        full.then(|| MachineFault { message: message() })
    }
}

impl From<Outcome> for Ran {
    fn from(outcome: Outcome) -> Ran {
        Ran::Finished(outcome)
    }
}

impl From<Result<Outcome, MachineFault>> for Ran {
    fn from(ended: Result<Outcome, MachineFault>) -> Ran {
        ended.map_or_else(Ran::GaveUp, Ran::Finished)
    }
}

/// Does the jobs of one kind. Called by many workers at once.
pub trait Handler: Send + Sync {
    /// The key under which a job is first run: what it will ask first. Called when the job is enqueued.
    fn first_key(&self, spec: &JobSpec) -> Key {
        spec.key.clone()
    }

    /// Whether it looks by itself ([`Context::given_up`]) whether the key of a job is worth waiting for, and may have something to
    /// do where it is not: ask somebody else. Otherwise a job that comes up under a key that is given up ends in error, reason
    /// `rate_limited` or `host_down`, without being run.
    fn faces_given_up(&self) -> bool {
        false
    }

    /// One attempt. A panic becomes an error of this job, reason `panic`.
    fn run(&self, context: &mut Context<'_>) -> Ran;
}

/// A handler made of a function: see [`Registry::register_fn`].
struct FnHandler<F>(F);

impl<F> Handler for FnHandler<F>
where
    F: Fn(&mut Context<'_>) -> Outcome + Send + Sync,
{
    fn run(&self, context: &mut Context<'_>) -> Ran {
        Ran::Finished((self.0)(context))
    }
}

/// Which handler does which kind.
#[derive(Clone, Default)]
pub struct Registry {
    handlers: BTreeMap<Kind, Arc<dyn Handler>>,
}

impl Registry {
    /// A registry without handlers.
    #[must_use]
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Lets `handler` do the jobs of `kind`, in place of any other.
    ///
    /// # Errors
    /// [`SpecError::Kind`] when `kind` is no such name.
    pub fn register(
        &mut self,
        kind: &str,
        handler: impl Handler + 'static,
    ) -> Result<(), SpecError> {
        self.handlers.insert(Kind::new(kind)?, Arc::new(handler));
        Ok(())
    }

    /// Lets a function do the jobs of `kind`.
    ///
    /// # Errors
    /// [`SpecError::Kind`] when `kind` is no such name.
    pub fn register_fn<F>(&mut self, kind: &str, run: F) -> Result<(), SpecError>
    where
        F: Fn(&mut Context<'_>) -> Outcome + Send + Sync + 'static,
    {
        self.register(kind, FnHandler(run))
    }

    /// The handler of that kind.
    #[must_use]
    pub fn get(&self, kind: &Kind) -> Option<&Arc<dyn Handler>> {
        self.handlers.get(kind)
    }

    /// Every kind there is a handler for, by name.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.handlers.keys()
    }
}
