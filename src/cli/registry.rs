//! The kinds of jobs this program knows.

use crate::handler::{Exec, Noop, Registry};
use crate::job::{ErrorReason, Outcome, SpecError};

/// For commands that put jobs in line and run none: all kinds, whether or not a run may start them.
///
/// # Errors
/// [`SpecError::Kind`] when a name is no name of a kind.
pub(super) fn for_intake() -> Result<Registry, SpecError> {
    let mut registry = Registry::new();
    registry.register("noop", Noop)?;
    registry.register("exec", Exec)?;
    registry.register_fn("fetch", |_| {
        Outcome::fail(ErrorReason::Internal, "this registry is for intake: it runs nothing")
    })?;
    Ok(registry)
}
