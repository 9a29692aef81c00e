//! Asking a host for its robots.txt before it is asked for anything else.
//!
//! Must never take silence for consent: a robots.txt that cannot be had forbids everything, for the time being. But what stands
//! in the way of the very host (no address, no connection, a bad certificate, a private network, hours to wait) is told as
//! that: it stands in the way of the file as well.

use ureq::http::header;
use url::Url;

use super::Net;
use super::client::Request;
use super::detour::{Detour, Detours};
use super::download;
use super::exchange::{self, Open, Unanswered};
use super::payload;
use super::resolve::{Ask, key_of_file};
use super::service::{Beyond, Interrupted, read_up_to};
use super::verdict::Fault;
use crate::handler::Context;
use crate::job::{Key, LimitKey};

/// How much of a robots.txt is read; rules beyond 500 KiB need not be (RFC 9309, section 2.5).
const MAX_BYTES: u64 = 512 * 1_024;
/// The most redirects to it; it asks for at least five (RFC 9309, section 2.3.1.2).
const MAX_HOPS: usize = 6;

/// Gets the robots.txt at `url` and learns its rules, for whoever asks under keys like `key`.
///
/// # Errors
/// [`Interrupted`]: nothing was learned.
pub(super) fn ask(
    net: &Net,
    context: &mut Context<'_>,
    key: &Key,
    url: &Url,
) -> Result<(), Interrupted> {
    let ask = Ask { accept: "text/plain, */*;q=0.1", ..Ask::json(url.clone()) };
    let began_as = Detours::name(&ask);
    let Detour { ask: Ask { url: mut next, accept, .. }, hops } = net.detours.take(&began_as, ask);
    for hops in hops..=MAX_HOPS {
        let Some(own) = key_of_file(&next, key.resolver.as_deref()) else {
            return learn(net, context, url, 0, &[]);
        };
        let mut request = Request::get(&next);
        request.accept = accept;
        let Open { response, hold } = match exchange::ask(net, context, &own, &request) {
            Ok(open) => open,
            Err(Unanswered::Wait(key)) => {
                if hops > 0 {
                    let ask = Ask { accept, ..Ask::json(next) };
                    net.detours.keep(began_as, Detour { ask, hops });
                }
                return Err(Interrupted::Wait(key));
            }
            Err(Unanswered::ToldToWait(..)) => return learn(net, context, url, 429, &[]),
            Err(Unanswered::GivenUp(verdict) | Unanswered::Fault(Fault::Candidate(verdict))) => {
                if next.host() == url.host() {
                    return Err(Interrupted::Attempt(verdict.into()));
                }
                return learn(net, context, url, 0, &[]);
            }
            Err(Unanswered::Fault(fault)) => return Err(Interrupted::Attempt(fault)),
        };
        let status = response.status();
        let location = download::text_of(response.headers(), header::LOCATION)
            .filter(|_| status.is_redirection());
        let body = read_up_to(MAX_BYTES, Beyond::LeaveOut, response, context);
        let joined = location.and_then(|location| next.join(location.trim()).ok());
        if let Some(joined) = joined.and_then(|joined| payload::askable(joined).ok()) {
            hold.end(context);
            next = joined;
            continue;
        }
        let learned = match body {
            Ok(body) => learn(net, context, url, status.as_u16(), &body),
            Err(Fault::Candidate(_)) => learn(net, context, url, 0, &[]),
            Err(fault) => Err(Interrupted::Attempt(fault)),
        };
        // A crawl delay counts from the end of this very answer.
        hold.end(context);
        return learned;
    }
    // One that leads round in circles is one that is not there (RFC 9309, section 2.3.1.2).
    learn(net, context, url, 404, &[])
}

fn learn(
    net: &Net,
    context: &Context<'_>,
    url: &Url,
    status: u16,
    body: &[u8],
) -> Result<(), Interrupted> {
    let delay = net.robots.learn(url, status, body, context.mono());
    let host = Key::new(None, url.host_str()).ok().and_then(|key| key.host);
    if let (Some(delay), Some(host)) = (delay, host) {
        context.slow_down(&LimitKey::Host(host), delay);
    }
    Ok(())
}
