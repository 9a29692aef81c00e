//! One request, under its permit: the only way any part of the fetcher asks anybody.
//!
//! ```text
//!   private address? cancelled? host given up?  ->  permit (or wait)  ->  ask  ->  told to slow down?  ->  an open answer
//! ```
//!
//! Must never ask without a permit for the very host that is asked, nor a host that asked to be left alone.

use std::time::Duration;

use ureq::Body;
use ureq::http::{HeaderMap, Response, header};
use url::Url;

use super::Net;
use super::address;
use super::classify;
use super::client::Request;
use super::download;
use super::retry_after;
use super::scope::Scope;
use super::verdict::{Fault, Verdict};
use super::wall;
use crate::handler::{CancelReason, Context};
use crate::job::{ErrorReason, Key, LimitKey, SkipReason};
use crate::limit::Permit;

/// An answer whose body has not been read. While it lives its host has one request more.
pub(super) struct Open {
    /// The answer.
    pub(super) response: Response<Body>,
    /// What keeps its reading cancellable and counted.
    pub(super) hold: Hold,
}

/// What an open answer holds on to until its body has ended.
pub(super) struct Hold {
    _scope: Scope,
    permit: Permit,
}

impl Hold {
    /// The body has ended, or is given up: only now has the host one request less.
    pub(super) fn end(self, context: &Context<'_>) {
        let Hold { _scope: scope, permit } = self;
        drop(scope);
        context.end(permit);
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// There is no permit: wait in line for this key.
    Wait(Key),
    /// The server asked to be left alone, and is: wait in line for this key. The answer's message.
    ToldToWait(Key, Verdict),
    /// The key has had no success for so long that nobody waits for it any more.
    GivenUp(Verdict),
    /// Anything else.
    Fault(Fault),
}

impl From<Fault> for Unanswered {
    fn from(fault: Fault) -> Unanswered {
        Unanswered::Fault(fault)
    }
}

impl From<Verdict> for Unanswered {
    fn from(verdict: Verdict) -> Unanswered {
        Unanswered::Fault(verdict.into())
    }
}

/// Asks once under `key`.
///
/// # Errors
/// [`Unanswered`]; every status but `429` and `503` with `Retry-After` is an answer.
pub(super) fn ask(
    net: &Net,
    context: &mut Context<'_>,
    key: &Key,
    request: &Request<'_>,
) -> Result<Open, Unanswered> {
    let url = request.url;
    if !net.settings.allow_private_addresses {
        address::check_host(url)
            .map_err(|refused| Verdict::skipped(SkipReason::PrivateAddress, refused))?;
    }
    let deadline = context.remaining().is_zero().then_some(CancelReason::Deadline);
    if let Some(reason) = context.cancel().reason().or(deadline) {
        return Err(Fault::from(reason.outcome()).into());
    }
    check_given_up(context, key)?;
    context.leave_permit(key);
    let Ok(permit) = context.admit(key) else { return Err(Unanswered::Wait(key.clone())) };
    let asked_at = context.mono();
    let asked = net.client.ask(request, context);
    let (response, scope) = match asked {
        Ok(open) => open,
        Err(error) => {
            context.end(permit);
            return Err(classify::before_body(error, url).into());
        }
    };
    let hold = Hold { _scope: scope, permit };
    let status = response.status();
    let after_ms = retry_after_ms(response.headers(), context);
    let host = key.host.clone().map(LimitKey::Host);
    let told_to_wait = status == 429 || (status == 503 && after_ms.is_some());
    if !told_to_wait {
        match host {
            // It does not say until when: a moment, and longer each time.
            Some(host) if status == 503 => {
                context.hold(&host, asked_at, None);
            }
            Some(host) if !status.is_server_error() => context.answered(&host, asked_at),
            _ => {}
        }
        return Ok(Open { response, hold });
    }
    let page = download::drain(response.into_body());
    hold.end(context);
    if status == 503 && wall::is_challenge(&page) {
        return Err(classify::status(status, None, context.wall(), &page).into());
    }
    if let Some(host) = host {
        let until = context.hold(&host, asked_at, after_ms.map(Duration::from_millis));
        tracing::info!(
            host = key.host.as_deref(),
            status = status.as_u16(),
            seconds = whole_seconds(until.since(context.mono())),
            "told to slow down: nobody asks this host until then"
        );
    }
    check_given_up(context, key)?;
    let verdict = classify::status(status, after_ms, context.wall(), &page);
    Err(Unanswered::ToldToWait(key.clone(), verdict))
}

fn check_given_up(context: &Context<'_>, key: &Key) -> Result<(), Unanswered> {
    let Some(given_up) = context.given_up(key) else { return Ok(()) };
    let seconds = whole_seconds(given_up.until.since(context.mono()));
    let message = format!("not asked: {} wants to be left alone for {seconds} s more", given_up.on);
    Err(Unanswered::GivenUp(Verdict::lasting(ErrorReason::RateLimited, message)))
}

/// A wait as people read it: never shorter than it is.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// How long the server wants to be left alone, in milliseconds.
pub(super) fn retry_after_ms(headers: &HeaderMap, context: &Context<'_>) -> Option<u64> {
    let text = download::text_of(headers, header::RETRY_AFTER)?;
    retry_after::parse_ms(&text, context.wall())
}

/// The key of a request to a service.
///
/// # Errors
/// A verdict, for a URL without a host that can be counted.
pub(super) fn service_key(name: &str, url: &Url) -> Result<Key, Verdict> {
    Key::new(Some(name), url.host_str())
        .map_err(|error| Verdict::lasting(ErrorReason::BadPayload, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_never_told_shorter_than_it_is() {
        for (wait_ms, expected) in [(0, 0), (1, 1), (1_000, 1), (1_980, 2), (2_000, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(wait_ms)), expected);
        }
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }
}
