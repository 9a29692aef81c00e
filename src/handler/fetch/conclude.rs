//! What an attempt comes to when no candidate gave a file.
//!
//! ```text
//!   some candidate may do better later               retry, for its reason
//!   some resolver may do better later                retry, for what became of the candidates there were, else for its reason
//!   candidates there were, all finally refused       error, with the last telling reason; that one was not asked tells most
//!   ... all of them not to be asked (robots, ...)    skipped, for that reason
//!   none, and a resolver will not talk to us         error: it is not known whether there is one
//!   none, and every resolver said so                 skipped, no_open_copy
//! ```

use std::time::Duration;

use super::progress::Stage;
use super::resolve::{No, NoKind};
use super::story;
use super::verdict::Tried;
use super::walk::Walk;
use crate::job::{ErrorReason, Note, Outcome, Reason, SkipReason, WallMs};

/// The longest that anything is waited for: a robots.txt that is not to be had.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Says it.
pub(super) fn conclude(walk: &mut Walk<'_, '_, '_>) -> Outcome {
    let detail = story::told(&walk.asked(), &walk.progress.tried);
    let observed = walk.observed(None);
    let now = walk.context.wall();
    let ending = ending(&walk.progress.tried, walk.progress.stages());
    let note = Note::new(ending.message()).with_detail(detail).with_observed(observed);
    match ending {
        Ending::Retry { reason, wait_until, .. } => {
            // What is not to be had for longer has no such verdict: it is the clock that has stepped.
            let longest = walk.net.settings.give_up.max(LONGEST_WAIT);
            let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
            let after_ms = wait_until.map(|at| at.since_ms(now).min(longest_ms));
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
    passing(tried)
        .or_else(|| unanswered(tried, stages))
        .or_else(|| refused(tried))
        .or_else(|| not_to_be_asked(tried))
        .or_else(|| unknown(stages))
        .unwrap_or_else(|| nothing(tried, stages))
}

/// Some candidate may do better later.
fn passing(tried: &[Tried]) -> Option<Ending> {
    let passing = || tried.iter().filter(|tried| tried.verdict.passing);
    let limited = passing().rfind(|tried| tried.verdict.is_rate_limit());
    let wait_until = passing().filter_map(|tried| tried.verdict.not_before_ms).max().map(WallMs);
    let last = limited.or_else(|| passing().next_back())?;
    Some(Ending::Retry { reason: error_of(last), message: told(last), wait_until })
}

/// Some resolver may do better later. If it never does, what became of the candidates there were is what the job ends with.
fn unanswered(tried: &[Tried], stages: &[Stage]) -> Option<Ending> {
    let (stage, no) = noes(stages).rfind(|(_, no)| no.kind.is_passing())?;
    let said = format!("{}: {}", stage.name, no.message);
    if let Some(Ending::Fail { reason, message }) = refused(tried) {
        let message = format!("{message}; and {said}");
        return Some(Ending::Retry { reason, message, wait_until: None });
    }
    let reason = match stage.reason {
        Some(Reason::Error(reason)) => reason,
        _ => ErrorReason::HttpStatus,
    };
    Some(Ending::Retry { reason, message: said, wait_until: None })
}

/// There were candidates, and none of them will do. One that was not asked, for its host is down or wants to be left alone, may
/// still be the one, and whoever reads this can have it asked again. That another one is simply not there tells less than
/// why one that is was refused, and that a page led on to it nothing at all.
fn refused(tried: &[Tried]) -> Option<Ending> {
    let errors = || {
        let files = tried.iter().filter(|tried| !tried.page && !tried.verdict.leads_on);
        let no_url = Reason::Error(ErrorReason::BadPayload);
        let files = files.filter(move |tried| tried.verdict.reason != no_url);
        files.filter(|tried| matches!(tried.verdict.reason, Reason::Error(_)))
    };
    let not_asked = errors().rfind(|tried| tried.verdict.is_given_up());
    let telling = || errors().rfind(|tried| !tried.verdict.is_absence());
    let last = not_asked.or_else(telling).or_else(|| errors().next_back())?;
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
    let unasked = tried.iter().rfind(|tried| !tried.page);
    if let (true, Some(last)) = (names.is_empty() && page.is_none(), unasked) {
        return Ending::Fail { reason: error_of(last), message: told(last) };
    }
    let message = match (names.is_empty(), page) {
        (false, _) => format!("no open copy is known to {}", names.join(", ")),
        (true, Some(page)) => told(page),
        (true, None) if stages.iter().any(|stage| stage.found > 0) => {
            "only pages about the work are known, and no resolver in use reads them".to_owned()
        }
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

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::resolve::Candidate;
    use super::super::verdict::Verdict;
    use super::*;

    fn tried(verdict: Verdict) -> Tried {
        Tried::new(&Url::parse("http://h.test/a").unwrap(), verdict)
    }

    fn page(verdict: Verdict) -> Tried {
        let page = Candidate::page("http://h.test/a", "").unwrap();
        tried(verdict).by("landing_page", &page)
    }

    fn said(kind: NoKind) -> Stage {
        let reason = Some(Reason::Error(ErrorReason::Timeout)).filter(|_| kind == NoKind::Busy);
        Stage { name: "s".into(), no: Some(No::new(kind, "said")), reason, ..Stage::default() }
    }

    fn in_short(tried: &[Tried], stages: &[Stage]) -> String {
        match ending(tried, stages) {
            Ending::Retry { reason, .. } => format!("retry {}", reason.name()),
            Ending::Fail { reason, .. } => format!("fail {}", reason.name()),
            Ending::Skip { reason, .. } => format!("skip {}", reason.name()),
        }
    }

    #[test]
    fn what_became_of_candidates_and_what_resolvers_said_make_the_ending() {
        use ErrorReason::{
            BadPayload, HostDown, HttpStatus, RateLimited, Timeout, UnexpectedContent, Wall,
        };
        let gone = || tried(Verdict::lasting(HttpStatus, "404").with_status(404));
        let wall = || tried(Verdict::lasting(Wall, "a wall"));
        let slow = || tried(Verdict::passing(Timeout, "slow"));
        let busy = || tried(Verdict::passing(RateLimited, "busy"));
        let given_up = || tried(Verdict::lasting(RateLimited, "not asked"));
        let down = || tried(Verdict::lasting(HostDown, "not asked"));
        let robots = || tried(Verdict::skipped(SkipReason::Robots, "forbidden"));
        let private = || tried(Verdict::skipped(SkipReason::PrivateAddress, "private"));
        let no_url = || tried(Verdict::lasting(BadPayload, "no URL"));
        let leading = || tried(Verdict::lasting(UnexpectedContent, "a page").leading_on());
        let shut = || page(Verdict::lasting(HttpStatus, "403").with_status(403));
        let slow_page = || page(Verdict::passing(Timeout, "slow"));
        let hidden = || page(Verdict::skipped(SkipReason::Robots, "forbidden"));
        let (absent, broken, refused) =
            (|| said(NoKind::Absent), || said(NoKind::Broken), || said(NoKind::Refused));
        for (tried, stages, expected) in [
            (vec![], vec![absent()], "skip no_open_copy"),
            (vec![], vec![], "skip no_open_copy"),
            (vec![], vec![absent(), said(NoKind::Busy), absent()], "retry timeout"),
            (vec![], vec![broken(), refused()], "retry http_status"),
            (vec![], vec![refused(), absent()], "fail http_status"),
            (vec![slow(), gone()], vec![absent()], "retry timeout"),
            (vec![busy(), slow(), wall()], vec![], "retry rate_limited"),
            (vec![slow_page()], vec![absent()], "retry timeout"),
            (vec![gone()], vec![absent()], "fail http_status"),
            (vec![wall(), gone()], vec![absent()], "fail wall"),
            (vec![wall(), given_up()], vec![absent()], "fail rate_limited"),
            (vec![given_up(), wall(), gone()], vec![absent()], "fail rate_limited"),
            (vec![down(), gone(), wall()], vec![absent()], "fail host_down"),
            (vec![given_up(), down()], vec![], "fail host_down"),
            (vec![down()], vec![broken()], "retry host_down"),
            (vec![down(), slow()], vec![], "retry timeout"),
            (vec![wall(), gone(), robots(), no_url()], vec![refused()], "fail wall"),
            (vec![wall()], vec![broken()], "retry wall"),
            (vec![no_url()], vec![broken()], "retry http_status"),
            (vec![robots()], vec![absent()], "skip robots"),
            (vec![robots(), private()], vec![refused()], "skip private_address"),
            (vec![robots()], vec![broken()], "retry http_status"),
            (vec![hidden(), robots()], vec![absent()], "skip robots"),
            (vec![hidden()], vec![absent()], "skip robots"),
            (vec![shut()], vec![absent()], "skip no_open_copy"),
            (vec![shut()], vec![], "skip no_open_copy"),
            (vec![no_url()], vec![], "fail bad_payload"),
            (vec![no_url()], vec![absent()], "skip no_open_copy"),
            (vec![no_url(), shut()], vec![], "skip no_open_copy"),
            (vec![leading(), gone()], vec![absent()], "fail http_status"),
            (vec![leading(), robots()], vec![], "skip robots"),
            (vec![leading()], vec![], "fail unexpected_content"),
        ] {
            assert_eq!(in_short(&tried, &stages), expected, "{tried:?} {stages:?}");
        }
    }

    #[test]
    fn an_ending_is_told_so_that_a_person_knows_what_to_do() {
        let stage = |found| Stage { name: "s".into(), found, ..Stage::default() };
        assert!(ending(&[], &[stage(1)]).message().contains("only pages"));
        assert!(ending(&[], &[stage(0)]).message().contains("nobody could be asked"));
        let wall = tried(Verdict::lasting(ErrorReason::Wall, "a wall"));
        let message = ending(&[wall], &[said(NoKind::Broken)]).message();
        assert_eq!(message, "http://h.test/a: a wall; and s: said");
    }
}
