//! The kinds of jobs this program knows.

use std::ffi::OsString;

use super::error::CliError;
use super::run;
use crate::config::Settings;
use crate::handler::{
    Context, Exec, FetchHandler, FetchPlan, FetchSettings, FetchSetupError, Handler, Noop, Ran,
    Registry,
};
use crate::job::{ErrorReason, JobSpec, Key, Observation, Outcome};

/// Places fetch jobs in line; makes no output directory and runs nothing.
struct FetchIntake(FetchPlan);

impl Handler for FetchIntake {
    fn first_key(&self, spec: &JobSpec) -> Key {
        self.0.first_key(spec)
    }

    fn run(&self, _context: &mut Context<'_>) -> Ran {
        Outcome::fail(ErrorReason::Internal, "this registry is for intake: it runs nothing").into()
    }
}

/// For commands that put jobs in line and run none: all kinds, whether or not a run may start them.
///
/// # Errors
/// [`CliError::Fetch`] when a resolver is set to what cannot be used.
pub(super) fn for_intake(settings: &Settings) -> Result<Registry, CliError> {
    let mut registry = Registry::new();
    // Proxies are no matter here: nobody is asked.
    let plan = FetchPlan::new(&run::fetch_settings(settings, &[]));
    let plan = plan.map_err(FetchSetupError::from)?;
    registry.register("noop", Noop)?;
    registry.register("exec", Exec)?;
    registry.register("fetch", FetchIntake(plan))?;
    Ok(registry)
}

/// For a run: the kinds it may start. `learned` is what resolvers have yielded so far.
///
/// # Errors
/// [`CliError::Fetch`] when the output directory or the HTTP client cannot be had.
pub(super) fn for_run(
    settings: &Settings,
    environment: &[(OsString, OsString)],
    learned: Vec<Observation>,
) -> Result<Registry, CliError> {
    let mut registry = Registry::new();
    registry.register("noop", Noop)?;
    let fetch = FetchSettings { learned, ..run::fetch_settings(settings, environment) };
    registry.register("fetch", FetchHandler::new(fetch)?)?;
    if settings.exec.allow {
        registry.register("exec", Exec)?;
    }
    Ok(registry)
}
