//! One request, under its permit: the only way any part of the fetcher asks anybody.
//!
//! ```text
//!   private address? cancelled? host given up?  ->  permit (or wait)  ->  ask  ->  told to slow down?  ->  an open answer
//! ```
//!
//! Must never ask without a permit for the very host that is asked, nor a host that asked to be left alone or is down; nor
//! return a permit before the gate knows what became of its request (see [`signs`](super::signs)): whoever comes next is let in by that.

use std::time::Duration;

use ureq::Body;
use ureq::http::{HeaderMap, Response, header};

use super::Net;
use super::address;
use super::classify;
use super::client::Request;
use super::download;
use super::resolve::key_of_file;
use super::retry_after;
use super::scope::Scope;
use super::signs::Asked;
use super::verdict::{Fault, Verdict};
use super::wall;
use crate::handler::{CancelReason, Context, given_up};
use crate::job::{ErrorReason, Key, Mono, SkipReason};
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
    scope: Scope,
    permit: Permit,
    asked: Asked,
    /// When its head came, of an answer that is a proper one if its body ends well.
    headed_at: Option<Mono>,
}

impl Hold {
    /// The body has ended, or is given up: only now has the host one request less.
    pub(super) fn end(self, context: &Context<'_>) {
        if let Some(headed_at) = self.headed_at {
            self.asked.ended(headed_at, self.scope.has_timed_out(), context);
        }
        drop(self.scope);
        context.end(self.permit);
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// There is no permit: wait in line for this key.
    Wait(Key),
    /// The server asked to be left alone, and is: wait in line for this key. The answer's message.
    ToldToWait(Key, Verdict),
    /// The key has had no success for so long, or will have none for so long, that nobody waits for it any more.
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

/// Asks once for a file, a page or rules, under `key`.
///
/// # Errors
/// [`Unanswered`]; every status but `429` and `503` with `Retry-After` is an answer.
pub(super) fn ask(
    net: &Net,
    context: &mut Context<'_>,
    key: &Key,
    request: &Request<'_>,
) -> Result<Open, Unanswered> {
    let owner = key_of_file(request.url, None).and_then(|own| own.resolver);
    let is_own = owner.is_some() && owner == key.resolver;
    ask_under(net, context, (key, is_own), request)
}

/// Asks the service of this name once.
///
/// # Errors
/// [`Unanswered`], as of [`ask`].
pub(super) fn ask_service(
    net: &Net,
    context: &mut Context<'_>,
    name: &str,
    request: &Request<'_>,
) -> Result<Open, Unanswered> {
    let key = Key::new(Some(name), request.url.host_str())
        .map_err(|error| Verdict::lasting(ErrorReason::BadPayload, error))?;
    ask_under(net, context, (&key, true), request)
}

fn ask_under(
    net: &Net,
    context: &mut Context<'_>,
    (key, speaks_for_resolver): (&Key, bool),
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
    let asked = Asked::now(key, speaks_for_resolver, context);
    let (response, scope) = match net.client.ask(request, context) {
        Ok(open) => open,
        Err(why) => {
            asked.unanswered(&why, context);
            context.end(permit);
            return Err(classify::before_body(why, url).into());
        }
    };
    let status = response.status();
    let headed_at = asked.headed(status, context);
    let after_ms = retry_after_ms(response.headers(), context);
    let open = Open { response, hold: Hold { scope, permit, asked, headed_at } };
    if status == 429 || (status == 503 && after_ms.is_some()) {
        return Err(told_to_wait(open, key, after_ms, context));
    }
    if status == 503 {
        // It does not say until when: a moment, and longer each time.
        open.hold.asked.told(None, context);
    }
    Ok(open)
}

/// An answer that says to slow down, unless it only wants to see a human.
fn told_to_wait(
    Open { response, hold }: Open,
    key: &Key,
    after_ms: Option<u64>,
    context: &Context<'_>,
) -> Unanswered {
    let status = response.status();
    let page = download::drain(response.into_body());
    if status == 503 && wall::is_challenge(&page) {
        hold.end(context);
        return classify::status(status, None, context.wall(), &page).into();
    }
    let until = hold.asked.told(after_ms.map(Duration::from_millis), context);
    hold.end(context);
    tracing::info!(
        host = key.host.as_deref(),
        status = status.as_u16(),
        seconds = until.map(|until| whole_seconds(until.since(context.mono()))),
        "told to slow down: nobody asks this host until then"
    );
    if let Err(given_up) = check_given_up(context, key) {
        return given_up;
    }
    let verdict = classify::status(status, after_ms, context.wall(), &page);
    Unanswered::ToldToWait(key.clone(), verdict)
}

fn check_given_up(context: &Context<'_>, key: &Key) -> Result<(), Unanswered> {
    let Some(given_up) = context.given_up(key) else { return Ok(()) };
    let (reason, message) = given_up::told(&given_up, context.mono(), context.wall());
    Err(Unanswered::GivenUp(Verdict::lasting(reason, message)))
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
