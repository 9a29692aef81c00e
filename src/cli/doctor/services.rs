//! Asks each resolver that is on one question, and says why the others are off.

use std::ffi::OsString;

use serde_json::json;

use super::{Finding, Report};
use crate::cli::asking::Asking;
use crate::cli::error::CliError;
use crate::cli::session::Session;
use crate::handler::{Consultation, Off, OffReason};
use crate::job::{JobSpec, Kind, Scheme};

/// A work to ask a service about.
struct Question {
    resolver: &'static str,
    scheme: Scheme,
    id: &'static str,
    /// Whether it would be news if the service knew no copy of it.
    has_copy: bool,
}

const fn question(resolver: &'static str, scheme: Scheme, id: &'static str) -> Question {
    Question { resolver, scheme, id, has_copy: true }
}

/// The same, of a work of which the service need not keep a copy: that it answers is enough.
const fn any_answer(resolver: &'static str, scheme: Scheme, id: &'static str) -> Question {
    Question { resolver, scheme, id, has_copy: false }
}

/// An article of PLOS ONE, open since the day it was published, which every index of articles has.
const PLOS_ONE: &str = "10.1371/journal.pone.0214986";
/// A deposit of 2015.
const ZENODO: &str = "10.5281/zenodo.28518";

/// One for each resolver that asks a service; the others ask nobody who has to be there.
const QUESTIONS: [Question; 15] = [
    question("arxiv", Scheme::Arxiv, "1605.08386"),
    question("pmc", Scheme::Doi, PLOS_ONE),
    question("unpaywall", Scheme::Doi, PLOS_ONE),
    question("openalex", Scheme::Doi, PLOS_ONE),
    question("crossref", Scheme::Doi, PLOS_ONE),
    question("europe_pmc", Scheme::Doi, PLOS_ONE),
    any_answer("core", Scheme::Doi, PLOS_ONE),
    question("doaj", Scheme::Doi, PLOS_ONE),
    any_answer("semantic_scholar", Scheme::Doi, PLOS_ONE),
    any_answer("zenodo", Scheme::Doi, ZENODO),
    any_answer("datacite", Scheme::Doi, ZENODO),
    any_answer("hal", Scheme::Doi, PLOS_ONE),
    any_answer("osf", Scheme::Doi, "10.31219/osf.io/preprint"),
    any_answer("openaire", Scheme::Doi, PLOS_ONE),
    any_answer("figshare", Scheme::Doi, "10.6084/m9.figshare.1286826"),
];

/// What each resolver says, in order; asked are only those that are on, and not when `offline`.
///
/// # Errors
/// [`CliError`] when a line cannot be written.
pub(super) fn check(
    session: &mut Session,
    environment: &[(OsString, OsString)],
    offline: bool,
    report: &mut Report,
) -> Result<(), CliError> {
    let asking = match Asking::start(session, environment) {
        Ok(asking) => asking,
        Err(error) => {
            return report.tell(&mut session.out, Finding::of_error("resolvers", &error));
        }
    };
    let done = ask_all(session, &asking, offline, report);
    report.stopped = asking.end();
    done
}

fn ask_all(
    session: &mut Session,
    asking: &Asking,
    offline: bool,
    report: &mut Report,
) -> Result<(), CliError> {
    for off in asking.off() {
        report.tell(&mut session.out, off_finding(off))?;
    }
    for name in asking.names() {
        let Some(question) = QUESTIONS.iter().find(|question| question.resolver == name) else {
            report.tell(&mut session.out, Finding::ok(name, "on; has no question of its own"))?;
            continue;
        };
        if offline {
            report.tell(&mut session.out, Finding::ok(name, "on; not asked"))?;
            continue;
        }
        let Some(answer) = asking.ask(&question.spec()?, name) else { return Ok(()) };
        report.tell(&mut session.out, answered(question, &answer))?;
    }
    Ok(())
}

impl Question {
    fn spec(&self) -> Result<JobSpec, CliError> {
        let id = format!("{}:{}", self.scheme.prefix(), self.id);
        let payload = json!({ self.scheme.field(): self.id }).to_string();
        Ok(JobSpec::new(&id, Kind::fetch().as_str())?.with_payload(payload))
    }
}

/// That somebody chose to have it off is as it should be; that something lacks is for them to know.
fn off_finding(off: &Off) -> Finding {
    match off.why {
        OffReason::Disabled | OffReason::NotListed => {
            Finding::ok(off.resolver, format!("off: {}", off.why))
        }
        OffReason::NoContact => {
            let to_do = "set fetch.contact_email to your address";
            Finding::warn(off.resolver, "off: it needs an e-mail address", to_do)
        }
        OffReason::NoKey => Finding::warn(
            off.resolver,
            "off: it needs a key",
            format!(
                "set ORCH_RESOLVERS__{}__API_KEY, or resolvers.{}.enabled: true to ask without, false if it is to be off",
                off.resolver.to_uppercase(),
                off.resolver
            ),
        ),
    }
}

fn answered(question: &Question, answer: &Consultation) -> Finding {
    let Consultation { resolver, said, message, elapsed_ms, candidates } = answer;
    let id = question.id;
    match *said {
        "found" if !message.is_empty() => Finding::warn(
            resolver,
            format!("does not answer for {id}: {message}"),
            format!("look at `orch resolve --resolver {resolver} {id}`"),
        ),
        "found" => Finding::ok(
            resolver,
            format!("knows {} of {id}, {elapsed_ms} ms", copies(candidates.len())),
        ),
        "absent" if question.has_copy => Finding::warn(
            resolver,
            format!("knows no copy of {id}, and should: {message}"),
            format!(
                "look at `orch resolve --resolver {resolver} {id}`; a newer orch may know it better"
            ),
        ),
        "absent" | "nothing to ask" => Finding::ok(resolver, format!("answers, {elapsed_ms} ms")),
        "busy" => Finding::warn(
            resolver,
            format!("has no time for us: {message}"),
            format!("lower resolvers.{resolver}.rate if that is so often"),
        ),
        "refused" => Finding::fail(
            resolver,
            format!("will not talk to us: {message}"),
            format!("check resolvers.{resolver}.api_key and fetch.contact_email, or switch it off"),
        ),
        _ => Finding::fail(
            resolver,
            message.clone(),
            format!(
                "check the network, fetch.proxy and resolvers.{resolver}.base_url, or switch it off"
            ),
        ),
    }
}

fn copies(count: usize) -> String {
    if count == 1 { "1 copy".to_owned() } else { format!("{count} copies") }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::config::RESOLVERS;

    #[test]
    fn every_resolver_that_asks_a_service_has_a_question_of_its_scheme() {
        for name in RESOLVERS {
            let asks = !["line", "landing_page", "wayback"].contains(&name);
            let question = QUESTIONS.iter().find(|question| question.resolver == name);
            assert_eq!(question.is_some(), asks, "{name}");
            if let Some(question) = question {
                assert_eq!(question.scheme.parse(question.id).unwrap().normal, question.id);
                question.spec().unwrap();
            }
        }
    }

    #[test]
    fn only_what_keeps_a_service_from_being_used_is_a_failure() {
        let status = |said, question: &Question| {
            let message = String::new();
            let candidates = Vec::new();
            let resolver = question.resolver;
            answered(question, &Consultation { resolver, said, message, elapsed_ms: 1, candidates })
                .status
        };
        let (article, any) = (&QUESTIONS[2], &QUESTIONS[6]);
        assert_eq!(status("found", article), Status::Ok);
        let candidate = crate::handler::Named {
            url: "https://arxiv.org/pdf/1605.08386".to_owned(),
            leads: "file",
            licence: None,
            version: None,
            host_type: None,
            evidence: String::new(),
        };
        let by_itself = Consultation {
            resolver: "arxiv",
            said: "found",
            message: "broken: the service answered 500".to_owned(),
            elapsed_ms: 1,
            candidates: vec![candidate],
        };
        assert_eq!(
            answered(&QUESTIONS[0], &by_itself).status,
            Status::Warn,
            "it was not the service that knew"
        );
        assert_eq!(status("absent", article), Status::Warn);
        assert_eq!(status("absent", any), Status::Ok);
        assert_eq!(status("busy", article), Status::Warn);
        assert_eq!(status("broken", any), Status::Fail);
        assert_eq!(status("refused", any), Status::Fail);
    }
}
