//! One step of a conversation with a service: its request, redirects and all, and its whole answer.
//!
//! Must never write a request down, nor send a key to another host than the service's own.

use std::time::Duration;

use ureq::Body;
use ureq::http::{HeaderName, Response, StatusCode, header};

use super::Net;
use super::classify;
use super::client::Request;
use super::detour::{Detour, Detours};
use super::download;
use super::exchange::{self, Open, Unanswered};
use super::payload;
use super::resolve::{ApiKey, Ask, No, NoKind, Reply, Resolver, Said, Step, Work};
use super::scope;
use super::source::{Encoding, Source};
use super::verdict::{Fault, Verdict};
use crate::handler::{CancelReason, Context};
use crate::job::{ErrorReason, Key, Reason};

/// The largest answer of a service that is read.
const MAX_REPLY_BYTES: u64 = 8 * 1_024 * 1_024;
/// The most answers of one conversation: an archive is asked twice for each of three URLs, everybody else less.
pub(super) const MAX_STEPS: u32 = 12;
/// A shorter text is no secret.
const MIN_SECRET_BYTES: usize = 6;
/// How long an answer may take from its head to its end.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);
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
        Err(Unanswered::GivenUp(verdict)) if verdict.is_rate_limit() => {
            let no = No::new(NoKind::Busy, verdict.message);
            return Ok(Stepped::No(no, ErrorReason::RateLimited));
        }
        Err(Unanswered::GivenUp(verdict) | Unanswered::Fault(Fault::Candidate(verdict))) => {
            return Ok(broken(verdict));
        }
        Err(Unanswered::Fault(fault)) => return Err(Interrupted::Attempt(fault)),
    };
    let content_type = answer.content_type.to_ascii_lowercase();
    let reply =
        Reply { status: answer.status.as_u16(), content_type: &content_type, body: &answer.body };
    Ok(match resolver.read(work, step, &reply) {
        Ok(said) => Stepped::Said(said),
        Err(no) => Stepped::No(without_secrets(net, no), ErrorReason::HttpStatus),
    })
}

/// The same no without our key and address, which some services repeat in what they complain of.
fn without_secrets(net: &Net, mut no: No) -> No {
    let keys = net.settings.resolvers.iter().filter_map(|own| own.api_key.as_ref());
    let secrets = keys.map(ApiKey::reveal).chain(net.settings.contact_email.as_deref());
    // No service gives shorter keys, and a shorter text may stand in any sentence.
    for secret in secrets.filter(|secret| secret.len() >= MIN_SECRET_BYTES) {
        if no.message.contains(secret) {
            no.message = no.message.replace(secret, "…").into();
        }
    }
    no
}

/// It has more to say than anybody listens to.
pub(super) fn too_long() -> Stepped {
    let no = No::broken(format_args!("it was asked {MAX_STEPS} times and had more to say"));
    Stepped::No(no, ErrorReason::HttpStatus)
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
}

fn call(net: &Net, context: &mut Context<'_>, name: &str, ask: Ask) -> Result<Answer, Unanswered> {
    let began_as = Detours::name(&ask);
    let Detour { mut ask, hops } = net.detours.take(&began_as, ask);
    for hops in hops..=MAX_HOPS {
        let mut request = Request::get(&ask.url);
        request.accept = ask.accept;
        request.json = ask.json.as_deref();
        if let Some((header, secret)) = &ask.secret {
            request.headers.push((HeaderName::from_static(header), secret.reveal().to_owned()));
        }
        let open = exchange::ask_service(net, context, name, &request);
        if matches!(open, Err(Unanswered::Wait(_) | Unanswered::ToldToWait(..))) && hops > 0 {
            net.detours.keep(began_as.clone(), Detour { ask: ask.clone(), hops });
        }
        let Open { response, hold } = open?;
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
        let body = read_up_to(MAX_REPLY_BYTES, Beyond::Refuse, response, context);
        hold.end(context);
        return Ok(Answer { status, content_type, body: body? });
    }
    let message = format!("more than {MAX_HOPS} redirects");
    Err(Verdict::lasting(ErrorReason::Redirect, message).into())
}

/// Goes on to where a redirect points.
fn follow(ask: &mut Ask, status: StatusCode, location: &str) -> Result<(), Verdict> {
    let refuse = |why: String| Verdict::lasting(ErrorReason::Redirect, why);
    let next = ask.url.join(location.trim()).map_err(|error| refuse(error.to_string()))?;
    let next = payload::askable(next).map_err(refuse)?;
    if next.origin() != ask.url.origin() {
        ask.secret = None;
    }
    if !matches!(status.as_u16(), 307 | 308) {
        ask.json = None;
    }
    ask.url = next;
    Ok(())
}

/// What to do about a body that is larger than is read.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Beyond {
    Refuse,
    LeaveOut,
}

/// A body up to `max_bytes`, whole within [`LONGEST_ANSWER`]: answers of services are small.
pub(super) fn read_up_to(
    max_bytes: u64,
    beyond: Beyond,
    response: Response<Body>,
    context: &Context<'_>,
) -> Result<Vec<u8>, Fault> {
    let encoding = Encoding::of(response.headers());
    let mut source = Source::new(response.into_body(), encoding);
    let began = context.mono();
    let mut body = Vec::new();
    let mut chunk = [0; 16 * 1_024];
    loop {
        if context.remaining().is_zero() {
            return Err(CancelReason::Deadline.outcome().into());
        }
        if context.mono().since(began) > LONGEST_ANSWER {
            scope::note_timeout();
            let message = format!("an answer that took over {} s", LONGEST_ANSWER.as_secs());
            return Err(Verdict::passing(ErrorReason::Timeout, message).into());
        }
        let bytes = body.len() as u64;
        match source.read(&mut chunk).map_err(|error| classify::within_body(error, bytes))? {
            0 => return Ok(body),
            read => body.extend_from_slice(&chunk[..read]),
        }
        let bytes = body.len() as u64;
        if bytes > max_bytes && beyond == Beyond::LeaveOut {
            return Ok(body);
        }
        if bytes > max_bytes || source.is_bomb(bytes) {
            let message = format!("an answer of more than {max_bytes} bytes");
            return Err(Verdict::lasting(ErrorReason::TooLarge, message).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_no_other_place_and_a_post_is_repeated_only_where_it_is_to_be() {
        let ask = Ask::json(url::Url::parse("https://h.test/a/b?x").unwrap())
            .with_json("{}")
            .with_key("authorization", "Bearer ", Some(&ApiKey::new("secret")));
        for (status, location, url, keeps_key, keeps_post) in [
            (301, "/c", "https://h.test/c", true, false),
            (307, "c?y", "https://h.test/a/c?y", true, true),
            (308, "https://h.test:443/c", "https://h.test/c", true, true),
            (308, "https://h.test:8443/c", "https://h.test:8443/c", false, true),
            (308, "http://h.test/c", "http://h.test/c", false, true),
            (302, "//other.test/c", "https://other.test/c", false, false),
        ] {
            let mut ask = ask.clone();
            let status = StatusCode::from_u16(status).unwrap();
            follow(&mut ask, status, location).unwrap();
            assert_eq!(ask.url.as_str(), url);
            assert_eq!(
                (ask.secret.is_some(), ask.json.is_some()),
                (keeps_key, keeps_post),
                "{url}"
            );
            // And once gone it does not come back.
            if !keeps_key {
                follow(&mut ask, status, "https://h.test/").unwrap();
                assert!(ask.secret.is_none());
            }
        }
        for bad in ["", "ftp://h/", "http://"] {
            let mut ask = ask.clone();
            let followed = follow(&mut ask, StatusCode::FOUND, bad);
            assert!(followed.is_err() || ask.url.host_str() == Some("h.test"), "{bad}");
        }
    }
}
