//! `orch resolve`: what each resolver says of a work. For when something was not found, and somebody wants to know why.
//!
//! Must never download what it finds, nor touch the queue.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::TableFormat;
use super::asking::Asking;
use super::error::{CliError, Exit};
use super::output::{Column, Messages, Output, Table};
use super::session::Session;
use crate::config::resolver_named;
use crate::handler::Consultation;
use crate::job::{Identifier, JobSpec, Kind};

/// How often the line of progress moves.
const TICK: Duration = Duration::from_millis(120);
/// The resolver whose page there is for every DOI, and that therefore says nothing of copies.
const LANDING_PAGE: &str = "landing_page";

/// Show what each resolver says of a work, without downloading
///
/// Asks every resolver that is on, one after the other, under the limits of the configuration. Candidates stand in the order in
/// which a run would try them; a run stops at the first that gives a verified file, this asks everybody.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch resolve 10.1371/journal.pone.0214986
  orch resolve arXiv:0808.0539 PMC2323569 --format json
  orch resolve --resolver unpaywall --resolver crossref https://doi.org/10.1234/abc
  orch queue export --state skipped | jq -r .artifact_id | orch resolve - --format json

JSON, one line per id: {\"id\":…,\"resolvers\":[{\"resolver\":…,\"said\":\"found\"|\"absent\"|\"busy\"|\"broken\"|\"refused\"|
\"nothing to ask\",\"message\":…,\"elapsed_ms\":…,\"candidates\":[{\"url\":…,\"leads\":\"file\"|\"page\",\"licence\":…,\"version\":…,
\"host_type\":…,\"evidence\":…}]}]}

Exit codes: 0 something was found for every id, or everybody says that there is nothing; 3 for some id nothing was found and
somebody was busy, broken or refused; 2 a text is no identifier; 130, 143 a signal.")]
pub struct ResolveArgs {
    /// DOIs, arXiv ids, PMCIDs, PubMed ids or URLs, in any spelling; - reads them from standard input, one a line
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Ask only this resolver; may be given several times
    #[arg(long, value_name = "NAME", value_parser = resolver_named)]
    resolver: Vec<&'static str>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: TableFormat,
}

/// Asks, and says what was said.
///
/// # Errors
/// [`CliError`] when an id is none, or nobody can be asked.
pub(super) fn run(
    session: &mut Session,
    args: &ResolveArgs,
    environment: &[(OsString, OsString)],
) -> Result<Exit, CliError> {
    let specs = specs(&args.ids)?;
    let asking = Asking::start(session, environment)?;
    let names = chosen(&asking, &args.resolver)?;
    let done = each(session, args, &asking, &names, &specs);
    let stopped = asking.end();
    let unanswered = done?;
    if let Some(stopped) = stopped {
        return Ok(stopped);
    }
    if unanswered == 0 {
        return Ok(Exit::Ok);
    }
    let total = specs.len();
    session.out.messages.note(&format!(
        "for {unanswered} of {total} nothing was found, and not everybody gave a clear answer: ask again later"
    ));
    Ok(Exit::Partial)
}

/// Asks about each; for how many nothing is known for certain.
fn each(
    session: &mut Session,
    args: &ResolveArgs,
    asking: &Asking,
    names: &[&'static str],
    specs: &[JobSpec],
) -> Result<usize, CliError> {
    let progress = Progress::new(session.out.messages);
    let mut unanswered = 0;
    for (nth, spec) in specs.iter().enumerate() {
        let mut said = Vec::new();
        for (asked, name) in names.iter().enumerate() {
            progress.show(spec, name, asked, names.len());
            let Some(answer) = asking.ask(spec, name) else { break };
            said.push(answer);
        }
        let whole = said.len() == names.len();
        unanswered += usize::from(whole && is_open(&said));
        if !said.is_empty() {
            progress.aside(|| show(&mut session.out, args, nth, spec, &said))?;
        }
        if !whole {
            break;
        }
    }
    Ok(unanswered)
}

/// What was said of the work that is `nth` of several.
fn show(
    out: &mut Output,
    args: &ResolveArgs,
    nth: usize,
    spec: &JobSpec,
    said: &[Consultation],
) -> Result<(), CliError> {
    match args.format {
        TableFormat::Json => {
            out.json_line(&json!({ "id": spec.artifact_id.as_str(), "resolvers": said }))?;
            out.line("")?;
        }
        TableFormat::Table => {
            let gap = if nth > 0 { "\n" } else { "" };
            out.line(&format!("{gap}{}", spec.artifact_id))?;
            out.table(&table(said, !args.resolver.is_empty()))?;
        }
    }
    out.flush()
}

/// Whether nothing was found, and it is not certain that there is nothing.
fn is_open(said: &[Consultation]) -> bool {
    let is_found = |it: &Consultation| {
        let counts = |leads| leads == "file" || it.resolver != LANDING_PAGE;
        it.candidates.iter().any(|candidate| counts(candidate.leads))
    };
    let is_uncertain = |it: &Consultation| matches!(it.said, "busy" | "broken" | "refused");
    !said.iter().any(is_found) && said.iter().any(is_uncertain)
}

/// One row per candidate or no. Who had nothing to be asked is left out, unless asked for by name.
fn table(said: &[Consultation], all: bool) -> Table {
    let mut table = Table::new(&[
        Column::text("resolver"),
        Column::text("said"),
        Column::text("url"),
        Column::text("licence"),
        Column::text("version"),
        Column::text("evidence"),
        Column::numbers("ms"),
    ]);
    for answer in said {
        let mut ms = answer.elapsed_ms.to_string();
        for candidate in &answer.candidates {
            let said = if candidate.leads == "page" { "found page" } else { "found" };
            table.row(vec![
                answer.resolver.to_owned(),
                said.to_owned(),
                candidate.url.clone(),
                candidate.licence.clone().unwrap_or_default(),
                candidate.version.unwrap_or_default().to_owned(),
                candidate.evidence.clone(),
                std::mem::take(&mut ms),
            ]);
        }
        let is_no = answer.candidates.is_empty() && (all || answer.said != "nothing to ask");
        if is_no || !answer.message.is_empty() {
            let said = if is_no { answer.said } else { "but" };
            let mut cells = vec![answer.resolver.to_owned(), said.to_owned()];
            cells.extend([String::new(), String::new(), String::new()]);
            cells.extend([answer.message.clone(), ms]);
            table.row(cells);
        }
    }
    table
}

/// The resolvers to ask: all that are on, or those that were named, in the order of the configuration.
fn chosen(asking: &Asking, wanted: &[&'static str]) -> Result<Vec<&'static str>, CliError> {
    if let Some(off) = asking.off().iter().find(|off| wanted.contains(&off.resolver)) {
        return Err(CliError::ResolverOff { name: off.resolver, why: off.why });
    }
    let mut names = asking.names();
    names.retain(|name| wanted.is_empty() || wanted.contains(name));
    if names.is_empty() { Err(CliError::NobodyToAsk) } else { Ok(names) }
}

/// The works that were named; all of them are looked at before anybody is asked.
fn specs(ids: &[String]) -> Result<Vec<JobSpec>, CliError> {
    let mut specs = Vec::new();
    for id in ids {
        if id == "-" {
            let read = io::read_to_string(io::stdin().lock());
            let text = read.map_err(|source| CliError::Stdin { source })?;
            let is_remark = |line: &&str| line.is_empty() || line.starts_with('#');
            for line in text.lines().map(str::trim).filter(|line| !is_remark(line)) {
                specs.push(spec(line)?);
            }
        } else {
            specs.push(spec(id)?);
        }
    }
    Ok(specs)
}

fn spec(text: &str) -> Result<JobSpec, CliError> {
    // The ids that jobs derive from a URL begin with its scheme.
    let text = text.strip_prefix("url:").unwrap_or(text);
    let found = Identifier::recognise(text)?;
    let payload = json!({ found.scheme.field(): found.normal }).to_string();
    Ok(JobSpec::new(&found.artifact_id(), Kind::fetch().as_str())?.with_payload(payload))
}

/// Who is being asked, on a terminal.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new(messages: Messages) -> Progress {
        Progress((messages.is_terminal && !messages.quiet).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let bar = ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        }))
    }

    fn show(&self, spec: &JobSpec, name: &str, asked: usize, of: usize) {
        if let Some(bar) = &self.0 {
            bar.set_message(format!("{}: asking {name} ({} of {of})", spec.artifact_id, asked + 1));
        }
    }

    /// Does `print` with the line out of the way.
    fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Named;

    fn answer(resolver: &'static str, said: &'static str, leads: &[&'static str]) -> Consultation {
        let named = |leads: &&'static str| Named {
            url: "https://h/x".to_owned(),
            leads,
            licence: None,
            version: None,
            host_type: None,
            evidence: String::new(),
        };
        let candidates = leads.iter().map(named).collect();
        Consultation { resolver, said, message: String::new(), elapsed_ms: 1, candidates }
    }

    #[test]
    fn only_silence_beside_nothing_found_leaves_the_question_open() {
        let busy = || answer("crossref", "busy", &[]);
        let absent = || answer("unpaywall", "absent", &[]);
        let page_of_doi = || answer(LANDING_PAGE, "found", &["page"]);
        assert!(!is_open(&[absent(), answer("arxiv", "nothing to ask", &[])]));
        assert!(is_open(&[absent(), busy()]));
        assert!(is_open(&[busy(), page_of_doi()]), "there is a page for every DOI");
        assert!(!is_open(&[busy(), answer(LANDING_PAGE, "found", &["file"])]));
        assert!(!is_open(&[busy(), answer("doaj", "found", &["page"])]));
        for said in ["broken", "refused"] {
            assert!(is_open(&[answer("hal", said, &[])]));
        }
    }

    #[test]
    fn an_id_is_taken_in_any_spelling() {
        let check = |text: &str, id: &str, payload: &str| {
            let spec = spec(text).unwrap();
            assert_eq!((spec.artifact_id.as_str(), spec.payload.as_str()), (id, payload));
        };
        check("https://doi.org/10.1234/ABC", "doi:10.1234/abc", r#"{"doi":"10.1234/abc"}"#);
        check("arXiv:2101.00001", "arxiv:2101.00001", r#"{"arxiv_id":"2101.00001"}"#);
        check("pmcid:PMC7", "pmcid:PMC7", r#"{"pmcid":"PMC7"}"#);
        check("url:https://h.org/a", "url:https://h.org/a", r#"{"url":"https://h.org/a"}"#);
        assert_eq!(spec("nonsense").unwrap_err().exit_code(), 2);
    }
}
