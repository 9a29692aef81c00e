//! What a job is told that comes up under a key which is not worth waiting for. Pure.
//!
//! Must always name the key, until when it is left alone, and what to do then.

use std::time::Duration;

use crate::job::{ErrorReason, LimitKey, Mono, Outcome, WallMs};
use crate::limit::GivenUp;
use crate::share::WhyGivenUp;

/// What a job comes to that can do nothing else; `now` and `wall` are one moment.
pub(crate) fn outcome(given_up: &GivenUp, now: Mono, wall: WallMs) -> Outcome {
    let (reason, message) = told(given_up, now, wall);
    Outcome::fail(reason, message)
}

/// The reason and the sentence; `now` and `wall` are one moment.
pub(crate) fn told(given_up: &GivenUp, now: Mono, wall: WallMs) -> (ErrorReason, String) {
    let GivenUp { on, until, why } = given_up;
    let (reason, is_so, when) = match why {
        WhyGivenUp::RateLimited => {
            (ErrorReason::RateLimited, "wants to be left alone", "after that")
        }
        WhyGivenUp::Down => (ErrorReason::HostDown, "is down, and left alone", "when it is back"),
    };
    let revive = match on {
        LimitKey::Host(host) => format!("--host {host}"),
        LimitKey::Resolver(_) => format!("--reason {}", reason.name()),
    };
    let until = until_text(until.since(now), wall);
    let message =
        format!("not asked: {on} {is_so} {until}; {when}: orch queue retry-failed {revive}");
    (reason, message)
}

/// `until 2026-01-02T03:04:05Z`, never sooner than it is; for a time that no calendar has, in words.
fn until_text(wait: Duration, wall: WallMs) -> String {
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let seconds = wall.plus_ms(wait_ms.saturating_add(1_000)).0.div_euclid(1_000);
    let at = jiff::Timestamp::from_second(seconds).ok();
    at.map_or_else(|| "for ages".to_owned(), |at| format!("until {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-02T03:04:05Z.
    const WALL: WallMs = WallMs(1_767_323_045_000);

    fn check(on: LimitKey, why: WhyGivenUp, wait_ms: u64, expected: (ErrorReason, &str)) {
        let now = Mono::from_ms(500);
        let until = now.plus(Duration::from_millis(wait_ms));
        let (reason, message) = told(&GivenUp { on, until, why }, now, WALL);
        assert_eq!((reason, message.as_str()), expected);
    }

    #[test]
    fn it_names_the_key_until_when_and_what_to_do_then() {
        check(
            LimitKey::Host("arxiv.org".into()),
            WhyGivenUp::RateLimited,
            53_999_999,
            (
                ErrorReason::RateLimited,
                "not asked: arxiv.org wants to be left alone until 2026-01-02T18:04:05Z; after that: \
                 orch queue retry-failed --host arxiv.org",
            ),
        );
        check(
            LimitKey::Resolver("unpaywall".into()),
            WhyGivenUp::Down,
            59_001,
            (
                ErrorReason::HostDown,
                "not asked: unpaywall is down, and left alone until 2026-01-02T03:05:05Z; when it is back: \
                 orch queue retry-failed --reason host_down",
            ),
        );
        let given_up = GivenUp {
            on: LimitKey::Host("h".into()),
            until: Mono(Duration::MAX),
            why: WhyGivenUp::Down,
        };
        assert!(told(&given_up, Mono::default(), WALL).1.contains(" for ages; "));
    }
}
