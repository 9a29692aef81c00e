//! `orch doctor`: whether everything that a run needs is there, one line per check.
//!
//! Must never leave anything behind: no queue, no directory and no file stays that was not there before.

mod machine;
mod services;

use std::ffi::OsString;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::args::TableFormat;
use super::error::{CliError, Exit};
use super::output::{Output, printable};
use super::session::Session;

/// Check everything a run needs, and ask each service one question
///
/// Looks at configuration, clock, contact address, queue, output directory, disks and proxy, and asks each resolver that is on
/// about one work that it knows. One line per check: ok, warn or fail, what was found, and what to do. Leaves nothing behind.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch doctor
  orch doctor --offline                        ask nobody
  orch doctor --format json | jq '.checks[] | select(.status != \"ok\")'

JSON: {\"ok\":…,\"checks\":[{\"check\":…,\"status\":\"ok\"|\"warn\"|\"fail\",\"found\":…,\"to_do\":…|null}]}

Exit codes: 0 nothing failed; 1 something did; 2 the configuration is wrong; 130, 143 a signal.")]
pub struct DoctorArgs {
    /// Ask nobody: neither services nor the proxy
    #[arg(long)]
    offline: bool,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: TableFormat,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Ok,
    /// A run works, but not as well as it could.
    Warn,
    /// A run does not work.
    Fail,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    status: Status,
    found: String,
    to_do: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding { check, status: Status::Ok, found: found.into(), to_do: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, to_do: impl Into<String>) -> Finding {
        let to_do = Some(to_do.into());
        Finding { check, status: Status::Warn, found: found.into(), to_do }
    }

    fn fail(check: &'static str, found: impl Into<String>, to_do: impl Into<String>) -> Finding {
        Finding { status: Status::Fail, ..Finding::warn(check, found, to_do) }
    }

    /// What would stop a command stops this check, in the same words.
    fn of_error(check: &'static str, error: &CliError) -> Finding {
        let (found, to_do) = (error.to_string(), error.hint());
        Finding { check, status: Status::Fail, found, to_do }
    }

    /// The system says no to something at `path`.
    fn cannot(check: &'static str, path: &Path, source: std::io::Error) -> Finding {
        let error = CliError::File { action: "write to", path: path.to_owned(), source };
        Finding::of_error(check, &error)
    }
}

/// Says what is found as it is found, or all of it at the end.
struct Report {
    format: TableFormat,
    findings: Vec<Finding>,
    /// How a signal ended the asking.
    stopped: Option<Exit>,
}

impl Report {
    fn tell(&mut self, out: &mut Output, finding: Finding) -> Result<(), CliError> {
        if self.format == TableFormat::Table {
            out.line(&line(&finding))?;
            // Services take their time; whoever reads should see what is known.
            out.flush()?;
        }
        self.findings.push(finding);
        Ok(())
    }

    fn end(&self, out: &mut Output) -> Result<Exit, CliError> {
        let fit = self.findings.iter().all(|finding| finding.status != Status::Fail);
        if self.format == TableFormat::Json {
            out.json(&json!({ "ok": fit, "checks": self.findings }))?;
        }
        Ok(self.stopped.unwrap_or(if fit { Exit::Ok } else { Exit::Unfit }))
    }
}

fn line(finding: &Finding) -> String {
    let status = match finding.status {
        Status::Ok => "ok",
        Status::Warn => "warn",
        Status::Fail => "fail",
    };
    let Finding { check, found, to_do, .. } = finding;
    let to_do = to_do.as_ref().map(|to_do| format!(" -> {to_do}")).unwrap_or_default();
    printable(&format!("{status:<4}  {check:<16}  {found}{to_do}"))
}

/// Checks everything.
///
/// # Errors
/// [`CliError`] when it cannot be said, or a service cannot be asked at all.
pub(super) fn run(
    session: &mut Session,
    args: &DoctorArgs,
    environment: &[(OsString, OsString)],
) -> Result<Exit, CliError> {
    let mut report = Report { format: args.format, findings: Vec::new(), stopped: None };
    let settings = session.settings();
    let mut findings = vec![
        machine::configuration(session.config()),
        machine::clock(session.clock.wall()),
        machine::contact(settings.fetch.contact_email.as_deref()),
    ];
    findings.extend(machine::queue(session));
    findings.extend(machine::out(&settings.fetch.out));
    for finding in findings {
        report.tell(&mut session.out, finding)?;
    }
    for finding in machine::proxies(session, environment, args.offline) {
        report.tell(&mut session.out, finding)?;
    }
    services::check(session, environment, args.offline, &mut report)?;
    report.end(&mut session.out)
}
