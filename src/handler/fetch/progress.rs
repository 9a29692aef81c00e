//! What an attempt has learned, so that the next one need not ask again: the job's checkpoint.
//!
//! Must always fit [`MAX_CHECKPOINT_BYTES`]: a verdict is bounded, there are at most
//! [`MAX_CANDIDATES`](super::payload::MAX_CANDIDATES) of them, and of the URLs a chain of redirects
//! passed only short names are kept.

use serde::{Deserialize, Serialize};
use url::Url;

use super::download::Partial;
use super::payload;
use super::verdict::{Tried, UrlId, Verdict, shown};
use crate::job::{ErrorReason, Leased, MAX_CHECKPOINT_BYTES, WallMs};

/// What is known of a job's candidates.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Attempts made before the present allowance. When a person grants a fresh one (`retry-failed`),
    /// this differs, and the verdicts of the old one are void.
    allowance: u32,
    /// Verdicts, in the order in which they were reached.
    pub(super) tried: Vec<Tried>,
    /// Hosts that asked to be left alone in this attempt, and until when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told_to_wait: Vec<(UrlId, Option<i64>)>,
    /// The candidate that was being walked when the attempt was deferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    trail: Option<Trail>,
    /// What was kept of a body that broke off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partial: Option<Partial>,
}

/// Where a walk along redirects stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trail {
    /// Which candidate it began at.
    candidate: UrlId,
    /// What is to be asked next.
    pub(super) next: Url,
    /// What was asked, each once.
    visited: Vec<UrlId>,
    /// Whether the present URL has answered with an empty body once already.
    pub(super) was_empty: bool,
}

impl Progress {
    /// What an earlier attempt at this job left; nothing when there is none or it cannot be read.
    pub(super) fn of(job: &Leased) -> Progress {
        let allowance = job.attempts_total.saturating_sub(job.attempt);
        job.checkpoint
            .as_deref()
            .and_then(|bytes| serde_json::from_slice::<Progress>(bytes).ok())
            .filter(|kept| kept.allowance == allowance)
            .unwrap_or(Progress { allowance, ..Progress::default() })
    }

    /// Whether there is a verdict on this candidate already.
    pub(super) fn has_verdict(&self, candidate: &Url) -> bool {
        let id = UrlId::of(candidate);
        self.tried.iter().any(|tried| tried.id == id)
    }

    /// Adds verdicts that are not there yet.
    pub(super) fn add(&mut self, tried: impl IntoIterator<Item = Tried>) {
        for one in tried {
            if !self.tried.iter().any(|known| known.id == one.id) {
                self.tried.push(one);
            }
        }
    }

    /// Notes that this host asked to be left alone.
    pub(super) fn note_told_to_wait(&mut self, host: &str, verdict: &Verdict) {
        self.told_to_wait.push((UrlId::digest(host), verdict.not_before_ms));
    }

    /// The verdict on whatever else this host has, when it asked to be left alone.
    pub(super) fn told_to_wait(&self, host: &str) -> Option<Verdict> {
        let host_id = UrlId::digest(host);
        let (_, until) = self.told_to_wait.iter().find(|(told, _)| *told == host_id)?;
        let message = format!("not asked: {host} wants to be left alone");
        let verdict = Verdict::passing(ErrorReason::RateLimited, message);
        Some(verdict.not_before(until.map(WallMs)))
    }

    /// The walk that was interrupted at this candidate, or a new one.
    pub(super) fn take_trail(&mut self, candidate: &Url) -> Trail {
        let id = UrlId::of(candidate);
        self.trail.take_if(|trail| trail.candidate == id).unwrap_or_else(|| Trail {
            candidate: id.clone(),
            next: candidate.clone(),
            visited: vec![id],
            was_empty: false,
        })
    }

    /// The checkpoint of an attempt that goes on along `trail` when there is a permit.
    pub(super) fn deferred(&mut self, trail: &Trail) -> Option<Vec<u8>> {
        self.trail = Some(trail.clone());
        self.encode()
    }

    /// The checkpoint of an attempt that is over: only lasting verdicts are worth keeping.
    pub(super) fn retried(&mut self) -> Option<Vec<u8>> {
        self.trail = None;
        self.told_to_wait.clear();
        self.tried.retain(|tried| !tried.verdict.passing);
        self.encode()
    }

    fn encode(&self) -> Option<Vec<u8>> {
        // It fits by its bounds (tested); if ever not, the next attempt begins anew.
        serde_json::to_vec(self).ok().filter(|bytes| bytes.len() <= MAX_CHECKPOINT_BYTES)
    }
}

impl Trail {
    /// Goes on to where a redirect points. The text may be relative, unencoded, or not a URL at all.
    ///
    /// # Errors
    /// A verdict, when it leads nowhere, in a circle, or further than `max_redirects`.
    pub(super) fn follow(&mut self, location: &str, max_redirects: u32) -> Result<(), Verdict> {
        let refuse = |why: String| Verdict::lasting(ErrorReason::Redirect, why);
        if location.trim().is_empty() {
            return Err(refuse("a redirect that does not say where to".to_owned()));
        }
        let joined = self.next.join(location.trim());
        let next = joined.map_err(|error| format!("a redirect to what is no URL: {error}"));
        let next = next.and_then(payload::askable).map_err(refuse)?;
        let id = UrlId::of(&next);
        if self.visited.contains(&id) {
            return Err(refuse(format!("redirects in a circle, back to {}", shown(&next))));
        }
        if self.visited.len() > max_redirects as usize {
            return Err(refuse(format!("more than {max_redirects} redirects")));
        }
        self.visited.push(id);
        self.next = next;
        self.was_empty = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::job::{ArtifactId, Epoch, JobRow, Key, Kind, Lane, LaneId, LeaseToken, Priority};

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn job(attempt: u32, attempts_total: u32, checkpoint: Option<Vec<u8>>) -> Leased {
        Leased {
            token: LeaseToken { job: JobRow(1), epoch: Epoch(1) },
            artifact_id: ArtifactId::new("a").unwrap(),
            lane: Arc::new(Lane { id: LaneId(1), kind: Kind::fetch(), key: Key::default() }),
            priority: Priority::default(),
            attempt,
            attempts_total,
            losses: 0,
            max_attempts: None,
            timeout_seconds: None,
            retry: None,
            payload: "{}".to_owned(),
            checkpoint,
            previous: None,
        }
    }

    fn gone(text: &str) -> Tried {
        let verdict = Verdict::lasting(ErrorReason::HttpStatus, "404 Not Found").with_status(404);
        Tried::new(&url(text), verdict)
    }

    #[test]
    fn a_deferred_walk_goes_on_where_it_was() {
        let mut progress = Progress::of(&job(1, 1, None));
        progress.add([gone("http://a/")]);
        let mut trail = progress.take_trail(&url("http://b/"));
        trail.follow("http://c/x", 20).unwrap();
        let kept = progress.deferred(&trail);

        let mut resumed = Progress::of(&job(1, 1, kept));
        assert!(resumed.has_verdict(&url("http://a/")));
        assert_eq!(resumed.take_trail(&url("http://b/")), trail);
        // Taken once; and never by another candidate.
        assert_eq!(resumed.take_trail(&url("http://b/")).next, url("http://b/"));
    }

    #[test]
    fn a_retry_keeps_what_lasts_and_a_fresh_allowance_nothing() {
        let mut progress = Progress::of(&job(1, 1, None));
        let busy = Verdict::passing(ErrorReason::Timeout, "slow").not_before(Some(WallMs(1)));
        progress.add([gone("http://a/"), Tried::new(&url("http://b/"), busy)]);
        let kept = progress.retried();

        let second = Progress::of(&job(2, 2, kept.clone()));
        assert!(second.has_verdict(&url("http://a/")) && !second.has_verdict(&url("http://b/")));
        // retry-failed: attempts count from one again, the total goes on.
        assert!(Progress::of(&job(1, 4, kept)).tried.is_empty());
        assert!(Progress::of(&job(1, 1, Some(b"{not json".to_vec()))).tried.is_empty());
    }

    #[test]
    fn redirects_are_followed_leniently() {
        for (location, expected) in [
            ("/x", "http://h/x"),
            ("y?z#f", "http://h/a/y?z"),
            ("//other/x", "http://other/x"),
            (" https://other/a b/\u{e9} ", "https://other/a%20b/%C3%A9"),
            ("?q=1", "http://h/a/b?q=1"),
        ] {
            let mut trail = Progress::default().take_trail(&url("http://h/a/b"));
            trail.follow(location, 20).unwrap();
            assert_eq!(trail.next.as_str(), expected, "{location:?}");
        }
        for bad in ["", " ", "ftp://h/x", "javascript:alert(1)", "http://", "data:,x", "/a/b"] {
            let mut trail = Progress::default().take_trail(&url("http://h/a/b"));
            assert!(trail.follow(bad, 20).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_twentieth_redirect_is_followed_and_the_next_is_not() {
        let mut trail = Progress::default().take_trail(&url("http://h/0"));
        for n in 1..=20 {
            trail.follow(&format!("/{n}"), 20).unwrap();
        }
        assert!(trail.follow("/21", 20).is_err());
    }

    #[test]
    fn the_largest_progress_fits_a_checkpoint() {
        let mut progress = Progress::default();
        let host = ["h".repeat(60), "h".repeat(60), "h".repeat(60), "h".repeat(60)].join(".");
        for n in 0..payload::MAX_CANDIDATES {
            let long = url(&format!("http://{host}/{n}/{}", "x".repeat(900)));
            let verdict = Verdict::passing(ErrorReason::UnexpectedContent, "\"".repeat(900));
            let verdict = verdict.with_status(599).not_before(Some(WallMs(i64::MIN)));
            progress.note_told_to_wait(&host, &verdict);
            progress.add([Tried::new(&long, verdict)]);
        }
        let mut trail = progress.take_trail(&url("http://h/"));
        for n in 0..20 {
            // Backslashes stay as they are in a query, and are doubled in JSON.
            trail.follow(&format!("/{n}?{}", "\\".repeat(8_100)), 20).unwrap();
        }
        assert_eq!(progress.tried.len(), payload::MAX_CANDIDATES);
        assert!(progress.deferred(&trail).is_some());
    }
}
