//! `orch demo`: the whole way on this machine alone, through the same commands a person types.
//!
//! Must never use the network beyond 127.0.0.1, nor read or write anybody's configuration or queue.

mod web;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Parser, ValueHint};

use super::args::{Cli, Command};
use super::error::{CliError, Exit};
use super::output::Output;
use super::registry;
use super::session::Session;
use crate::clock::{Clock, System};
use crate::config::{Config, Flag, Sources};
use crate::job::State;
use crate::queue::store::Filter;
use web::Web;

const WORKERS: u32 = 8;

/// See it work: 300 artifacts on six hosts with manners of their own, all on this machine
///
/// Starts a small web of six hosts on loopback (one slow, one flaky, one that limits its rate, one that serves a login
/// page instead of PDFs, one that dies), imports a list of artifacts, drains it with 8 workers, and shows what came of it.
/// Needs no network and no set-up; takes well under a minute.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  orch demo
  orch demo --dir /tmp/orch-demo       keep queue and files there")]
pub struct DemoArgs {
    /// Where the queue and the files go; must not be there yet [default: a new temporary directory]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

/// Runs the demo.
///
/// # Errors
/// [`CliError`] when something that must work does not; jobs that fail are part of it.
pub(super) fn run(out: Output, args: &DemoArgs) -> Result<Exit, CliError> {
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    let web = Web::start(Arc::clone(&clock))
        .map_err(|source| CliError::Thread { what: "the demo's web", source })?;
    let directory = directory(args)?;
    let list = directory.join("artifacts.jsonl");
    write_list(&list)?;
    let config = Config::load(&sources(&directory, &web))?;
    let registry = registry::for_intake(&config.settings)?;
    let mut session = Session::new(out, clock, config, registry);
    introduce(&mut session)?;
    let list = list.display().to_string();
    step(&mut session, "1. import the list", &["queue", "import", &list])?;
    let drained = step(
        &mut session,
        "2. drain it with 8 workers: full hosts hold up nobody, failures are tried again",
        &["queue", "run", "--workers", "8", "--drain"],
    )?;
    if let Exit::Signal(_) = drained {
        return Ok(drained);
    }
    step(
        &mut session,
        "3. what came of it",
        &["queue", "stats", "--by", "host", "--by", "reason"],
    )?;
    if let Some(id) = one_failed(&session)? {
        step(&mut session, "4. the story of one that failed", &["queue", "show", &id])?;
    }
    step(
        &mut session,
        "5. where the files lie",
        &["queue", "list", "--state", "done", "--limit", "3"],
    )?;
    farewell(&mut session, &directory)?;
    Ok(Exit::Ok)
}

fn directory(args: &DemoArgs) -> Result<PathBuf, CliError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::File { action: "create", path, source }
    };
    match &args.dir {
        Some(directory) => {
            std::fs::create_dir(directory).map_err(failed(directory))?;
            Ok(directory.clone())
        }
        None => {
            let parent = std::env::temp_dir();
            let made = tempfile::Builder::new().prefix("orch-demo-").tempdir_in(&parent);
            Ok(made.map_err(failed(&parent))?.keep())
        }
    }
}

fn write_list(path: &Path) -> Result<(), CliError> {
    let failed = |source| CliError::File { action: "write", path: path.to_owned(), source };
    let mut file = std::fs::File::create(path).map_err(failed)?;
    for line in web::artifacts() {
        writeln!(file, "{line}").map_err(failed)?;
    }
    Ok(())
}

/// The defaults, but for where things are, and for retries and hosts that are given up fast enough to watch.
fn sources(directory: &Path, web: &Web) -> Sources {
    let text = |path: PathBuf| path.display().to_string();
    let flag = |path: &[&str], value: toml::Value| Flag::new("orch demo", path, value);
    Sources {
        file: None,
        environment: Vec::new(),
        directory: directory.to_owned(),
        flags: vec![
            flag(&["queue", "path"], text(directory.join("workqueue.sqlite")).into()),
            flag(&["fetch", "out"], text(directory.join("artifacts")).into()),
            flag(&["fetch", "resolvers"], vec!["line"].into()),
            flag(&["fetch", "proxy"], format!("http://{}", web.proxy).into()),
            flag(&["orchestrator", "max_workers"], WORKERS.into()),
            flag(&["orchestrator", "max_job_attempts"], 8.into()),
            flag(&["orchestrator", "retry_backoff_seconds"], 1.into()),
            flag(&["orchestrator", "retry_backoff_max_seconds"], 1.into()),
            flag(&["orchestrator", "jitter_seconds"], 0.into()),
            // Of a host that answers 503 to every first question five in a row are no sign that it is down.
            flag(&["breaker", "failures"], 100.into()),
            flag(&["breaker", "open_seconds"], 1.into()),
            // Not adapted: asked for one at a time, each with a second's wait, its files would take a minute.
            flag(&["limits", "host", "flaky.example", "max_concurrent"], 4.into()),
        ],
    }
}

fn introduce(session: &mut Session) -> Result<(), CliError> {
    let total: usize = web::cast().map(|(_, artifacts, _)| artifacts).sum();
    session
        .out
        .line(&format!("{total} artifacts on six hosts, behind a proxy on this machine:\n"))?;
    for (host, artifacts, does) in web::cast() {
        session.out.line(&format!("  {host:<16} {artifacts:>4}  {does}"))?;
    }
    session.out.line("")
}

/// Says what comes, shows the command, and runs it as if it had been typed.
fn step(session: &mut Session, what: &str, words: &[&str]) -> Result<Exit, CliError> {
    session.out.line(&format!("{what}\n   $ orch {}\n", words.join(" ")))?;
    session.out.flush()?;
    let typed = Cli::try_parse_from(["orch"].iter().chain(words));
    let exit = match typed.map(|cli| cli.command) {
        Ok(Command::Queue(command)) => super::queue(session, &command, &[])?,
        // The words are ours, and a test types them all.
        Ok(_) | Err(_) => Exit::Partial,
    };
    session.out.line("")?;
    session.out.flush()?;
    Ok(exit)
}

fn one_failed(session: &Session) -> Result<Option<String>, CliError> {
    let filter = Filter { state: Some(State::Error), ..Filter::default() };
    let mut queue = session.open_existing()?;
    let first = queue.jobs(filter).last().transpose()?;
    Ok(first.map(|job| job.artifact_id.to_string()))
}

fn farewell(session: &mut Session, directory: &Path) -> Result<(), CliError> {
    let directory = directory.display();
    session.out.line(&format!(
        "The files lie under {directory}/artifacts, the queue is {directory}/workqueue.sqlite.\n\
         Look around:   orch --queue {directory}/workqueue.sqlite queue list --state error\n\
         When done:     rm -r {directory}"
    ))
}
