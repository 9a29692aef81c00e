//! One step of a conversation with a service: its request, redirects and all, and its whole answer.
//!
//! Must never write a request down, nor send a key to another host than the service's own.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use ureq::Body;
use ureq::http::{HeaderName, Response, StatusCode, header};
use url::Url;

use super::Net;
use super::classify;
use super::client::Request;
use super::download;
use super::exchange::{self, Open, Unanswered};
use super::payload;
use super::resolve::{Ask, No, NoKind, Reply, Resolver, Said, Step, Work};
use super::verdict::{Fault, Verdict};
use crate::handler::Context;
use crate::job::{ErrorReason, Key, Outcome, Reason};

/// The largest answer of a service that is read.
const MAX_REPLY_BYTES: u64 = 8 * 1_024 * 1_024;
/// The most redirects of one request to a service.
const MAX_HOPS: usize = 6;

/// What one step came to.
pub(super) enum Stepped {
    /// Nothing was asked: this resolver has nothing to be asked about this work.
    NothingToAsk,
    /// It answered.
    Said(Said),
    /// It said no, or nothing; the reason is what a job is told that fails for want of it.
    No(No, ErrorReason),
}

/// Why a step was not made.
pub(super) enum Interrupted {
    /// Wait in line for this key, and make the step then.
    Wait(Key),
    /// The service asked to be left alone. The same, but a wait of this kind is counted.
    ToldToWait(Key),
    /// The attempt is over.
    Attempt(Fault),
}

/// Asks `resolver`, known as `name`, in this step.
///
/// # Errors
/// [`Interrupted`]: nothing was learned, and the same step is to be made later.
pub(super) fn step(
    net: &Net,
    context: &mut Context<'_>,
    (name, resolver): (&str, &dyn Resolver),
    work: &Work,
    step: &Step,
) -> Result<Stepped, Interrupted> {
    let Some(ask) = resolver.ask(work, step) else { return Ok(Stepped::NothingToAsk) };
    let answer = match call(net, context, name, ask) {
        Ok(answer) => answer,
        Err(Unanswered::Wait(key)) => return Err(Interrupted::Wait(key)),
        Err(Unanswered::ToldToWait(key, _)) => return Err(Interrupted::ToldToWait(key)),
        Err(Unanswered::GivenUp(verdict)) => {
            let no = No::new(NoKind::Busy, verdict.message);
            return Ok(Stepped::No(no, ErrorReason::RateLimited));
        }
        Err(Unanswered::Fault(Fault::Candidate(verdict))) => return Ok(broken(verdict)),
        Err(Unanswered::Fault(fault)) => return Err(Interrupted::Attempt(fault)),
    };
    let content_type = answer.content_type.to_ascii_lowercase();
    let reply = Reply {
        status: answer.status.as_u16(),
        content_type: &content_type,
        body: &answer.body,
        url: &answer.url,
    };
    Ok(match resolver.read(work, step, &reply) {
        Ok(said) => Stepped::Said(said),
        Err(no) => Stepped::No(no, ErrorReason::HttpStatus),
    })
}

/// No answer, or one that broke off.
fn broken(verdict: Verdict) -> Stepped {
    let reason = match verdict.reason {
        Reason::Error(reason) => reason,
        Reason::Done(_) | Reason::Skipped(_) => ErrorReason::Connect,
    };
    Stepped::No(No::broken(verdict.message), reason)
}

/// A whole answer.
struct Answer {
    status: StatusCode,
    content_type: String,
    body: Vec<u8>,
    url: Url,
}

fn call(
    net: &Net,
    context: &mut Context<'_>,
    name: &str,
    mut ask: Ask,
) -> Result<Answer, Unanswered> {
    for _ in 0..=MAX_HOPS {
        let key = exchange::service_key(name, &ask.url)?;
        let mut request = Request::get(&ask.url);
        request.accept = ask.accept;
        request.json = ask.json.as_deref();
        if let Some((header, secret)) = &ask.secret {
            request.headers.push((HeaderName::from_static(header), secret.reveal().to_owned()));
        }
        let Open { response, hold } = exchange::ask(net, context, &key, &request)?;
        let status = response.status();
        let location = status
            .is_redirection()
            .then(|| download::text_of(response.headers(), header::LOCATION))
            .flatten();
        if let Some(location) = location {
            download::drain(response.into_body());
            hold.end(context);
            follow(&mut ask, status, &location)?;
            continue;
        }
        let content_type = download::text_of(response.headers(), header::CONTENT_TYPE);
        let content_type = content_type.unwrap_or_default();
        let body = read_whole(response, context);
        hold.end(context);
        return Ok(Answer { status, content_type, body: body?, url: ask.url });
    }
    let message = format!("more than {MAX_HOPS} redirects");
    Err(Verdict::lasting(ErrorReason::Redirect, message).into())
}

/// Goes on to where a redirect points.
fn follow(ask: &mut Ask, status: StatusCode, location: &str) -> Result<(), Verdict> {
    let refuse = |why: String| Verdict::lasting(ErrorReason::Redirect, why);
    let next = ask.url.join(location.trim()).map_err(|error| refuse(error.to_string()))?;
    let next = payload::askable(next).map_err(refuse)?;
    let same_place = next.host_str() == ask.url.host_str() && next.scheme() == ask.url.scheme();
    if !same_place {
        ask.secret = None;
    }
    if !matches!(status.as_u16(), 307 | 308) {
        ask.json = None;
    }
    ask.url = next;
    Ok(())
}

/// A whole body, bounded.
fn read_whole(response: Response<Body>, context: &Context<'_>) -> Result<Vec<u8>, Fault> {
    let gzip = download::is_gzip(response.headers());
    let reader = response.into_body().into_reader();
    let mut reader: Box<dyn Read> =
        if gzip { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) };
    let mut body = Vec::new();
    let mut chunk = [0; 16 * 1_024];
    loop {
        if context.remaining().is_zero() {
            return Err(crate::handler::CancelReason::Deadline.outcome().into());
        }
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(body),
            Ok(read) => body.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(classify::within_body(error, body.len() as u64)),
        }
        if body.len() as u64 > MAX_REPLY_BYTES {
            let message = format!("an answer of more than {MAX_REPLY_BYTES} bytes");
            return Err(Verdict::lasting(ErrorReason::TooLarge, message).into());
        }
    }
}

/// A small text that a host keeps at `url` (its robots.txt): status 0 when there is no answer.
///
/// # Errors
/// [`Interrupted`].
pub(super) fn small_text(
    net: &Net,
    context: &mut Context<'_>,
    key_of: impl Fn(&Url) -> Option<Key>,
    url: &Url,
) -> Result<(u16, Vec<u8>), Interrupted> {
    let mut next = url.clone();
    for _ in 0..=MAX_HOPS {
        let Some(key) = key_of(&next) else { return Ok((0, Vec::new())) };
        let mut request = Request::get(&next);
        request.accept = "text/plain, */*;q=0.1";
        let Open { response, hold } = match exchange::ask(net, context, &key, &request) {
            Ok(open) => open,
            Err(Unanswered::Wait(key)) => return Err(Interrupted::Wait(key)),
            Err(Unanswered::ToldToWait(..)) => return Ok((429, Vec::new())),
            Err(Unanswered::GivenUp(_) | Unanswered::Fault(Fault::Candidate(_))) => {
                return Ok((0, Vec::new()));
            }
            Err(Unanswered::Fault(fault)) => return Err(Interrupted::Attempt(fault)),
        };
        let status = response.status();
        let location = status
            .is_redirection()
            .then(|| download::text_of(response.headers(), header::LOCATION))
            .flatten();
        let body = download::drain_up_to(response.into_body(), 512 * 1_024);
        hold.end(context);
        let joined = location.and_then(|location| next.join(location.trim()).ok());
        match joined.and_then(|joined| payload::askable(joined).ok()) {
            Some(joined) => next = joined,
            None => return Ok((status.as_u16(), body)),
        }
    }
    // A robots.txt that leads round in circles is one that cannot be had (RFC 9309, section 2.3.1.2).
    Ok((404, Vec::new()))
}

/// What an attempt that must wait in line comes to.
pub(super) fn wait_in_line(
    key: Key,
    not_before: Option<crate::job::WallMs>,
    checkpoint: Option<Vec<u8>>,
) -> Outcome {
    Outcome::Defer { key, not_before, checkpoint }
}
