//! Whether a file we hold is still current: asked of who gave it, by what it gave with it.
//!
//! Validators belong to one URL. Must never send them to another one, nor believe a 304 that nobody asked for: of another file
//! it says nothing.

use ureq::http::{HeaderName, header};
use url::Url;

use super::manifest::Manifest;
use super::progress::Lead;
use super::resolve::{Candidate, LINE};
use super::verdict::{Fault, Verdict};
use super::walk::{Answer, Found, Walk, found};
use super::{bare, exists};
use crate::handler::Ran;
use crate::job::{DoneReason, ErrorReason, Note, Outcome};

/// What came of asking.
enum Revalidated {
    /// What we hold is current.
    Current,
    /// There is a new file.
    Changed(Box<Found>),
    /// Nobody can say.
    Unknown(Verdict),
}

/// Asks, where the server gave something to ask by. `Ok` is a newer file, `Err` what the job has come to.
///
/// # Errors
/// What the attempt comes to when it cannot go on now.
pub(super) fn ask(
    walk: &mut Walk<'_, '_, '_>,
    recorded: &Manifest,
) -> Result<Result<Box<Found>, Outcome>, Ran> {
    let detail = walk.context.job().previous.clone().unwrap_or_default();
    let validators = validators(recorded);
    let lead = lead(recorded).filter(|_| !validators.is_empty());
    let Some(lead) = lead else {
        return Ok(Err(exists("the whole file is there already", detail)));
    };
    let not_modified = |detail| {
        let note = Note::new("the server says that what we hold is current").with_detail(detail);
        Outcome::Done { reason: DoneReason::NotModified, note }
    };
    let final_url = recorded.final_url.clone().unwrap_or_else(|| bare(&lead.candidate.url));
    Ok(match validate(walk, &lead, &final_url, &validators)? {
        Revalidated::Current => Err(not_modified(detail)),
        Revalidated::Changed(found) if found.download.inspected.sha256 == recorded.sha256 => {
            Err(not_modified(detail))
        }
        Revalidated::Changed(found) => Ok(found),
        Revalidated::Unknown(verdict) => {
            let message = format!(
                "the whole file is there; whether it is current is not known: {}",
                verdict.message
            );
            Err(exists(message, detail))
        }
    })
}

fn validate(
    walk: &mut Walk<'_, '_, '_>,
    lead: &Lead,
    final_url: &str,
    validators: &[(HeaderName, String)],
) -> Result<Revalidated, Ran> {
    let mut trail = walk.progress.take_trail(&lead.candidate.url);
    let verdict = loop {
        let is_there = bare(&trail.next) == final_url;
        let further = if is_there { validators } else { &[] };
        match walk.request(lead, &mut trail, further) {
            Ok(Answer::NotModified) if is_there => return Ok(Revalidated::Current),
            Ok(Answer::NotModified) => {
                let message = "a 304 that nobody asked for";
                break Verdict::lasting(ErrorReason::HttpStatus, message);
            }
            Ok(Answer::Whole(download)) => {
                return Ok(Revalidated::Changed(Box::new(found(lead, trail, download))));
            }
            Ok(Answer::Again) => {}
            Ok(Answer::Redirect(location)) => {
                match trail.follow(&location, walk.net.settings.max_redirects) {
                    Ok(()) => {}
                    Err(verdict) => break verdict,
                }
            }
            Ok(Answer::Page { verdict, .. }) | Err(Fault::Candidate(verdict)) => break verdict,
            Err(fault) => return Err(walk.ended(fault)),
        }
    };
    Ok(Revalidated::Unknown(verdict))
}

/// The candidate that the file came from.
fn lead(recorded: &Manifest) -> Option<Lead> {
    let url = Url::parse(recorded.url.as_deref()?).ok()?;
    let evidence = recorded.evidence.clone().unwrap_or_default();
    let candidate = Candidate::file(url.as_str(), evidence)?
        .with_licence(recorded.licence.as_deref())
        .with_version(recorded.version.as_deref())
        .with_host_type(recorded.host_type.as_deref());
    let by = recorded.resolver.as_deref().unwrap_or(LINE).into();
    Some(Lead { by, candidate, of_page: true, is_old: false })
}

/// What a server can be asked by (RFC 9110, section 13.1).
fn validators(recorded: &Manifest) -> Vec<(HeaderName, String)> {
    let etag = recorded.etag.clone().map(|etag| (header::IF_NONE_MATCH, etag));
    let date = recorded.last_modified.clone().map(|date| (header::IF_MODIFIED_SINCE, date));
    etag.into_iter().chain(date).collect()
}
