//! What an attempt comes to when no candidate gave a file.
//!
//! ```text
//!   some candidate or resolver may do better later   retry, with the most telling of their reasons
//!   candidates there were, all finally refused       error, with the last telling reason
//!   ... all of them not to be asked (robots, ...)    skipped, for that reason
//!   none, and a resolver will not talk to us         error: it is not known whether there is one
//!   none, and every resolver said so                 skipped, no_open_copy
//! ```

use super::progress::Stage;
use super::resolve::{No, NoKind};
use super::story;
use super::verdict::Tried;
use super::walk::Walk;
use crate::job::{ErrorReason, Note, Outcome, Reason, SkipReason, WallMs};

/// Says it.
pub(super) fn conclude(walk: &mut Walk<'_, '_, '_>) -> Outcome {
    let detail = story::told(&walk.asked(), &walk.progress.tried);
    let observed = walk.observed(None);
    let now = walk.context.wall();
    let ending = ending(&walk.progress.tried, walk.progress.stages());
    let note = Note::new(ending.message()).with_detail(detail).with_observed(observed);
    match ending {
        Ending::Retry { reason, wait_until, .. } => {
            let after_ms = wait_until.map(|at| at.since_ms(now));
            let checkpoint = walk.progress.retried();
            Outcome::Retry { reason, note, after_ms, checkpoint }
        }
        Ending::Fail { reason, .. } => Outcome::Fail { reason, note },
        Ending::Skip { reason, .. } => {
            // A job that failed may be tried again by hand, and goes on with it.
            walk.receiver.discard_partial();
            Outcome::Skipped { reason, note }
        }
    }
}

enum Ending {
    Retry { reason: ErrorReason, message: String, wait_until: Option<WallMs> },
    Fail { reason: ErrorReason, message: String },
    Skip { reason: SkipReason, message: String },
}

impl Ending {
    fn message(&self) -> String {
        match self {
            Ending::Retry { message, .. }
            | Ending::Fail { message, .. }
            | Ending::Skip { message, .. } => message.clone(),
        }
    }
}

fn ending(tried: &[Tried], stages: &[Stage]) -> Ending {
    passing(tried, stages)
        .or_else(|| refused(tried))
        .or_else(|| not_to_be_asked(tried))
        .or_else(|| unknown(stages))
        .unwrap_or_else(|| nothing(tried, stages))
}

/// Somebody may do better later.
fn passing(tried: &[Tried], stages: &[Stage]) -> Option<Ending> {
    let passing = || tried.iter().filter(|tried| tried.verdict.passing);
    let limited = passing().rfind(|tried| tried.verdict.is_rate_limit());
    let wait_until = passing().filter_map(|tried| tried.verdict.not_before_ms).max().map(WallMs);
    if let Some(last) = limited.or_else(|| passing().next_back()) {
        return Some(Ending::Retry { reason: error_of(last), message: told(last), wait_until });
    }
    let last = noes(stages).filter(|(_, no)| no.kind.is_passing()).last();
    last.map(|(stage, no)| {
        let reason = match stage.reason {
            Some(Reason::Error(reason)) => reason,
            _ => ErrorReason::HttpStatus,
        };
        let message = format!("{}: {}", stage.name, no.message);
        Ending::Retry { reason, message, wait_until: None }
    })
}

/// There were candidates, and none of them will ever do. That another one is simply not there tells less than why one that is
/// was refused, and that a page led on to it nothing at all.
fn refused(tried: &[Tried]) -> Option<Ending> {
    let errors = || {
        let files = tried.iter().filter(|tried| !tried.page && !tried.verdict.leads_on);
        let not_asked = Reason::Error(ErrorReason::BadPayload);
        let files = files.filter(move |tried| tried.verdict.reason != not_asked);
        files.filter(|tried| matches!(tried.verdict.reason, Reason::Error(_)))
    };
    let telling = errors().rfind(|tried| !tried.verdict.is_absence());
    let last = telling.or_else(|| errors().next_back())?;
    Some(Ending::Fail { reason: error_of(last), message: told(last) })
}

/// What there was is not to be asked for.
fn not_to_be_asked(tried: &[Tried]) -> Option<Ending> {
    let files_first = [false, true];
    files_first.into_iter().find_map(|page| {
        tried.iter().rev().filter(|tried| tried.page == page).find_map(|tried| {
            let Reason::Skipped(reason) = tried.verdict.reason else { return None };
            Some(Ending::Skip { reason, message: told(tried) })
        })
    })
}

/// Somebody will not talk to us: whether there is an open copy is not known.
fn unknown(stages: &[Stage]) -> Option<Ending> {
    let (stage, no) = noes(stages).find(|(_, no)| no.kind == NoKind::Refused)?;
    let message = format!("{} will not talk to us: {}", stage.name, no.message);
    Some(Ending::Fail { reason: ErrorReason::HttpStatus, message })
}

/// Everybody says that there is nothing.
fn nothing(tried: &[Tried], stages: &[Stage]) -> Ending {
    let names: Vec<&str> = noes(stages).map(|(stage, _)| &*stage.name).collect();
    let page = tried.iter().rfind(|tried| tried.page);
    let unasked = tried.iter().rfind(|tried| !tried.page && !tried.verdict.leads_on);
    if let (true, Some(last)) = (names.is_empty() && page.is_none(), unasked) {
        return Ending::Fail { reason: error_of(last), message: told(last) };
    }
    let message = match (names.is_empty(), page) {
        (false, _) => format!("no open copy is known to {}", names.join(", ")),
        (true, Some(page)) => told(page),
        (true, None) => {
            "nobody could be asked: the line gives no URL, and no identifier that a resolver \
            in use knows"
                .to_owned()
        }
    };
    Ending::Skip { reason: SkipReason::NoOpenCopy, message }
}

fn noes(stages: &[Stage]) -> impl DoubleEndedIterator<Item = (&Stage, &No)> {
    stages.iter().filter_map(|stage| Some((stage, stage.no.as_ref()?)))
}

fn error_of(tried: &Tried) -> ErrorReason {
    match tried.verdict.reason {
        Reason::Error(reason) => reason,
        // Skipped candidates never pass and are told apart before.
        Reason::Done(_) | Reason::Skipped(_) => ErrorReason::Internal,
    }
}

fn told(tried: &Tried) -> String {
    format!("{}: {}", tried.url, tried.verdict.message)
}
