//! The walk over a job's candidates: each along its redirects, until one gives a verified file.
//!
//! Every request, also every hop of a redirect, is made under a permit for its own host. When there is
//! none the attempt ends deferred, with what it learned, and its worker is free; the permit of a
//! request is returned as soon as its body has ended.

use ureq::http::{Response, StatusCode, header};
use ureq::{Body, http};
use url::Url;

use super::address;
use super::classify;
use super::client::Request;
use super::download::{self, Download, Expected, Offer, Received, Receiver};
use super::progress::{Progress, Trail};
use super::retry_after;
use super::verdict::{Fault, Tried, Verdict, shown};
use super::{FetchHandler, manifest};
use crate::handler::{CancelReason, Context, Ran};
use crate::job::{ErrorReason, Key, Note, Outcome, Reason, SkipReason, WallMs};
use crate::limit::Permit;

/// How often in one attempt a body that breaks off is gone on with.
const MAX_RESUMES: usize = 2;

/// A candidate that gave a file.
#[derive(Debug)]
pub(super) struct Found {
    /// The candidate.
    pub(super) url: Url,
    /// What answered, after redirects.
    pub(super) final_url: Url,
    /// The file.
    pub(super) download: Box<Download>,
}

/// One attempt's walk.
pub(super) struct Walk<'w, 'c, 'j> {
    /// The client and the settings.
    pub(super) handler: &'w FetchHandler,
    /// The job.
    pub(super) context: &'c mut Context<'j>,
    /// Where bytes go.
    pub(super) receiver: Receiver<'w>,
    /// What is known already.
    pub(super) progress: Progress,
}

/// What one request came to.
enum Answer {
    Whole(Box<Download>),
    Empty,
    Cut(Verdict),
    Redirect(String),
}

impl Walk<'_, '_, '_> {
    /// Walks.
    ///
    /// # Errors
    /// What the attempt comes to when no candidate gave a file.
    pub(super) fn run(&mut self, candidates: &[Url]) -> Result<Found, Ran> {
        for url in candidates {
            if self.progress.has_verdict(url) {
                continue;
            }
            match self.walk(url) {
                Ok(found) => return Ok(found),
                Err(Fault::Attempt(outcome)) => return Err(Ran::Finished(*outcome)),
                Err(Fault::Machine(fault)) => return Err(Ran::GaveUp(fault)),
                Err(Fault::Candidate(verdict)) => self.progress.add([Tried::new(url, verdict)]),
            }
        }
        Err(self.conclude().into())
    }

    fn walk(&mut self, candidate: &Url) -> Result<Found, Fault> {
        let mut trail = self.progress.take_trail(candidate);
        let mut resumes = 0;
        loop {
            match self.request(&trail)? {
                Answer::Whole(download) => {
                    let (url, final_url) = (candidate.clone(), trail.next);
                    return Ok(Found { url, final_url, download });
                }
                Answer::Redirect(location) => {
                    trail.follow(&location, self.handler.settings.max_redirects)?;
                }
                Answer::Cut(_) if self.progress.partial.is_some() && resumes < MAX_RESUMES => {
                    resumes += 1;
                }
                Answer::Cut(verdict) => return Err(verdict.into()),
                Answer::Empty if !trail.was_empty => trail.was_empty = true,
                Answer::Empty => {
                    let message = "an empty body, twice";
                    return Err(Verdict::lasting(ErrorReason::UnexpectedContent, message).into());
                }
            }
        }
    }

    fn request(&mut self, trail: &Trail) -> Result<Answer, Fault> {
        let url = &trail.next;
        if !self.handler.settings.allow_private_addresses {
            address::check_host(url)
                .map_err(|refused| Verdict::skipped(SkipReason::PrivateAddress, refused))?;
        }
        if let Some(reason) = self.context.cancel().reason() {
            return Err(reason.outcome().into());
        }
        let host = url.host_str().unwrap_or_default();
        if let Some(verdict) = self.progress.told_to_wait(host) {
            return Err(verdict.into());
        }
        let permit = self.admit(trail)?;
        let partial = self.progress.partial.take().filter(|partial| partial.is_of(url));
        let mut request = Request::get(url);
        if let Some(partial) = &partial {
            request.headers = Receiver::resume_headers(partial);
        }
        let (response, scope) = match self.handler.client.ask(&request, self.context) {
            Ok(answered) => answered,
            Err(error) => {
                self.progress.partial = partial;
                return Err(classify::before_body(error, url));
            }
        };
        let expected = Expected::default();
        let answer =
            self.answer(response, &Offer { url, expected: &expected, resumed: partial.as_ref() });
        if let Err(Fault::Candidate(verdict)) = &answer
            && verdict.is_rate_limit()
        {
            self.progress.note_told_to_wait(host, verdict);
        }
        // The body has ended, or is given up: only now has the host one request less.
        drop(scope);
        drop(permit);
        answer
    }

    /// A permit for the next request of the trail; none to be had defers the attempt.
    fn admit(&mut self, trail: &Trail) -> Result<Permit, Fault> {
        let own = &self.context.job().lane.key;
        let key = Key::new(own.resolver.as_deref(), trail.next.host_str());
        let key = key.map_err(|error| Verdict::lasting(ErrorReason::BadPayload, error))?;
        self.context.admit(&key).map_err(|_| {
            let checkpoint = self.progress.deferred(trail);
            Outcome::Defer { key, not_before: None, checkpoint }.into()
        })
    }

    fn answer(&mut self, response: Response<Body>, offer: &Offer<'_>) -> Result<Answer, Fault> {
        let status = response.status();
        let location = is_redirect(status)
            .then(|| download::text_of(response.headers(), header::LOCATION).unwrap_or_default());
        if let Some(location) = location {
            download::drain(response.into_body());
            return Ok(Answer::Redirect(location));
        }
        // 203: a proxy on the way has touched the answer; the bytes decide.
        let is_body = matches!(status.as_u16(), 200 | 203)
            || (offer.resumed.is_some() && matches!(status.as_u16(), 206 | 416));
        if is_body {
            return match self.receiver.receive(response, offer, self.context)? {
                Received::Whole(download) => Ok(Answer::Whole(download)),
                Received::Empty => Ok(Answer::Empty),
                Received::Page { kept: Some(download), .. } => Ok(Answer::Whole(download)),
                Received::Page { verdict, .. } => Err(verdict.into()),
                Received::Cut { verdict, partial } => {
                    self.progress.partial = partial;
                    if self.context.remaining().is_zero() {
                        return Err(CancelReason::Deadline.outcome().into());
                    }
                    Ok(Answer::Cut(verdict))
                }
            };
        }
        let now = self.context.wall();
        let retry_after_ms = retry_after_ms(response.headers(), now);
        let page = download::drain(response.into_body());
        Err(classify::status(status, retry_after_ms, now, &page).into())
    }

    /// What the attempt comes to when every candidate has its verdict.
    fn conclude(&mut self) -> Outcome {
        let detail = manifest::tried_to_json(&self.progress.tried);
        let tried = &self.progress.tried;
        let passing = || tried.iter().filter(|tried| tried.verdict.passing);
        let limited = passing().rfind(|tried| tried.verdict.is_rate_limit());
        if let Some(last) = limited.or_else(|| passing().next_back()) {
            let wait_until = passing().filter_map(|tried| tried.verdict.not_before_ms).max();
            let now = self.context.wall();
            let after_ms = wait_until.map(|at| WallMs(at).since_ms(now));
            let (reason, note) = (error_of(last), note(last, detail));
            return Outcome::Retry { reason, note, after_ms, checkpoint: self.progress.retried() };
        }
        // That another candidate is simply not there tells less than why one that is was refused.
        let errors =
            || tried.iter().filter(|tried| matches!(tried.verdict.reason, Reason::Error(_)));
        let telling = errors().rfind(|tried| !tried.verdict.is_absence());
        match telling.or_else(|| errors().next_back()).or(tried.last()) {
            Some(last) => match last.verdict.reason {
                Reason::Skipped(reason) => Outcome::Skipped { reason, note: note(last, detail) },
                _ => Outcome::Fail { reason: error_of(last), note: note(last, detail) },
            },
            None => Outcome::skipped(SkipReason::NoOpenCopy, "no candidate is left to try"),
        }
    }
}

fn error_of(tried: &Tried) -> ErrorReason {
    match tried.verdict.reason {
        Reason::Error(reason) => reason,
        // Skipped candidates never pass and are told apart before.
        Reason::Done(_) | Reason::Skipped(_) => ErrorReason::Internal,
    }
}

fn note(tried: &Tried, detail: String) -> Note {
    Note::new(format!("{}: {}", tried.url, tried.verdict.message)).with_detail(detail)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 300..=303 | 307 | 308)
}

fn retry_after_ms(headers: &http::HeaderMap, now: WallMs) -> Option<u64> {
    let text = download::text_of(headers, header::RETRY_AFTER)?;
    retry_after::parse_ms(&text, now)
}

/// A note on where a file came from.
pub(super) fn told(found: &Found) -> String {
    format!("{} bytes from {}", found.download.inspected.bytes, shown(&found.final_url))
}
