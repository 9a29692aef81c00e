//! The kinds of jobs this program knows.

use std::ffi::OsString;
use std::time::Duration;

use super::error::CliError;
use crate::config::Settings;
use crate::handler::{
    Context, Exec, FetchHandler, FetchSettings, Handler, Noop, ProxySettings, Ran, Registry,
    fetch_first_key,
};
use crate::job::{ErrorReason, JobSpec, Key, Outcome, SpecError};

/// Places fetch jobs in line; makes no output directory and runs nothing.
struct FetchIntake;

impl Handler for FetchIntake {
    fn first_key(&self, spec: &JobSpec) -> Key {
        fetch_first_key(spec)
    }

    fn run(&self, _context: &mut Context<'_>) -> Ran {
        Outcome::fail(ErrorReason::Internal, "this registry is for intake: it runs nothing").into()
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
    registry.register("fetch", FetchIntake)?;
    Ok(registry)
}

/// For a run: the kinds it may start.
///
/// # Errors
/// [`CliError::Fetch`] when the output directory or the HTTP client cannot be had.
pub(super) fn for_run(
    settings: &Settings,
    environment: &[(OsString, OsString)],
) -> Result<Registry, CliError> {
    let mut registry = Registry::new();
    registry.register("noop", Noop)?;
    registry.register("fetch", FetchHandler::new(fetch_settings(settings, environment))?)?;
    if settings.exec.allow {
        registry.register("exec", Exec)?;
    }
    Ok(registry)
}

fn fetch_settings(settings: &Settings, environment: &[(OsString, OsString)]) -> FetchSettings {
    let fetch = &settings.fetch;
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    let variable = |names: [&str; 2]| {
        let value = |name| environment.iter().find(|(key, _)| key == name)?.1.to_str();
        names.into_iter().find_map(value).map(str::to_owned)
    };
    let no_proxy = variable(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    let proxy = match &fetch.proxy {
        Some(proxy) => ProxySettings::everywhere(proxy),
        None => ProxySettings {
            http: variable(["HTTP_PROXY", "http_proxy"]),
            https: variable(["HTTPS_PROXY", "https_proxy"]),
            no_proxy,
        },
    };
    let defaults = FetchSettings::default();
    FetchSettings {
        out: fetch.out.clone(),
        user_agent: fetch.user_agent.clone().unwrap_or(defaults.user_agent),
        contact_email: fetch.contact_email.clone(),
        connect_timeout: seconds(fetch.connect_timeout_seconds),
        read_timeout: seconds(fetch.read_timeout_seconds),
        max_bytes: fetch.max_bytes,
        max_redirects: defaults.max_redirects,
        allow_private_addresses: fetch.allow_private_addresses,
        proxy,
        ca_file: fetch.ca_file.clone(),
        connections_per_host: settings.orchestrator.max_workers,
    }
}
