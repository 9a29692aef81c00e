//! The kinds of jobs this program knows.

use crate::handler::{Context, Exec, Handler, Noop, Ran, Registry, fetch_first_key};
use crate::job::{ErrorReason, JobSpec, Key, Outcome, SpecError};

/// What intake needs of fetching: where its jobs stand in line. The real handler makes directories and threads, and
/// belongs to a run.
struct FetchPlace;

impl Handler for FetchPlace {
    fn first_key(&self, spec: &JobSpec) -> Key {
        fetch_first_key(spec)
    }

    fn run(&self, _context: &mut Context<'_>) -> Ran {
        Outcome::fail(ErrorReason::Internal, "started by a command that runs no jobs").into()
    }
}

/// For commands that put jobs in line and run none: all kinds, whether or not a run may start them.
///
/// # Errors
/// [`SpecError::Kind`] when a name is no name of a kind.
pub(super) fn for_intake() -> Result<Registry, SpecError> {
    let mut registry = Registry::new();
    registry.register("noop", Noop)?;
    registry.register("exec", Exec)?;
    registry.register("fetch", FetchPlace)?;
    Ok(registry)
}
