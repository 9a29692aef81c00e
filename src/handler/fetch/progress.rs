//! What a job has learned, so that its next attempt, or the rest of this one in another process, need not ask again:
//! the job's checkpoint.
//!
//! Must always fit [`MAX_CHECKPOINT_BYTES`]: everything in it is bounded, and of the URLs a chain of redirects passed only
//! short names are kept. Must never hold a request to a service, which may carry a key: a conversation is kept as its
//! [`Step`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

use super::download::Partial;
use super::jar::{Jar, Kept};
use super::payload;
use super::resolve::{Candidate, No, Step};
use super::verdict::{Tried, UrlId, Verdict, shown};
use crate::job::{ErrorReason, Leased, MAX_CHECKPOINT_BYTES, Observation, Reason, Scheme};

/// The most verdicts kept.
const MAX_TRIED: usize = payload::MAX_CANDIDATES + 16;
/// The most bytes of candidates that services named and nobody has tried yet; what comes after is left out.
const MAX_LEAD_BYTES: usize = 10 * 1_024;
/// The most pages that services named.
const MAX_PAGES: usize = 4;
/// The most pages known to have been read.
const MAX_READ: usize = 32;
/// The longest URL of a page or a failed file that is kept.
const MAX_KEPT_URL_BYTES: usize = 1_000;
/// The longest identifier that a service told and that is kept.
const MAX_IDENTIFIER_BYTES: usize = 256;
/// The most URLs an archive is asked for, in the life of a job.
const MAX_FAILED: usize = 3;

/// What is known of a job's candidates.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    /// Attempts made before the present allowance. When a person grants a fresh one (`retry-failed`), this differs, and
    /// the verdicts of the old one are void.
    allowance: u32,
    /// Attempts made in all when it was written, that one included.
    attempt: u32,
    /// The name of the limit that the line's own URLs count by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<Box<str>>,
    /// How far the resolvers have come, in the order in which they were first asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<Stage>,
    /// Candidates that services named and that may be asked, now or in a later attempt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    leads: Vec<Lead>,
    /// Verdicts, in the order in which they were reached.
    pub(super) tried: Vec<Tried>,
    /// Identifiers of the work that services told, by the prefix of their scheme.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    identifiers: BTreeMap<Box<str>, Box<str>>,
    /// Pages that services named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pages: Vec<Url>,
    /// Pages that were read, under the URLs that answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    read: Vec<UrlId>,
    /// URLs that gave no file, for an archive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Failed>,
    /// The candidate that was being walked when the attempt was deferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    trail: Option<Trail>,
    /// The cookies of this attempt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<Kept>,
    /// Bytes kept of a body that broke off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partial: Option<Partial>,
    /// How often this attempt has waited for a host that said it was busy, or for its robots.txt.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) waits: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How far one resolver has come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Stage {
    /// Its name.
    pub(super) name: Box<str>,
    /// What it is to be asked next; `None`: nothing more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<Step>,
    /// Its no, when that is what the conversation ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) no: Option<No>,
    /// What a job that fails for want of this resolver is told to have failed for.
    #[serde(skip_serializing_if = "Option::is_none", with = "super::verdict::reason_name")]
    pub(super) reason: Option<Reason>,
    /// How many answers it has given in this conversation.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) answers: u32,
    /// How many candidates it has named.
    pub(super) found: u32,
    /// How long its answers took, in milliseconds.
    pub(super) elapsed_ms: u64,
    /// Whether it was asked again because what it had said was no longer true.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) renewed: bool,
    /// Requests made and not yet counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uncounted: Option<Counted>,
}

/// What is counted of a resolver in one attempt: an [`Observation`] in the making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counted {
    pub(super) asked: u32,
    pub(super) found: u32,
    pub(super) fetched: u32,
    pub(super) busy: u32,
    pub(super) broken: u32,
    pub(super) elapsed_ms: u64,
}

/// A candidate that a service named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Lead {
    /// Which one.
    pub(super) by: Box<str>,
    /// The candidate.
    #[serde(flatten)]
    pub(super) candidate: Candidate,
    /// Whether a page named it: such a one is not read for further ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) of_page: bool,
    /// Whether an earlier attempt, or this one before it was deferred, learned of it: it may have expired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_old: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Failed {
    url: Url,
    /// Whether an archive was asked for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    asked: bool,
}

/// Where a walk along redirects stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trail {
    /// Which candidate it began at.
    candidate: UrlId,
    /// What is to be asked next.
    pub(super) next: Url,
    /// What was asked, each once, with the cookies it was asked with.
    visited: Vec<UrlId>,
    /// Whether the present URL has answered with an empty body once already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) was_empty: bool,
    /// Whether a page's own refresh was followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) refreshed: bool,
    /// How often a server said that the file is being prepared.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) polls: u32,
    /// How often a body that broke off was gone on with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) resumes: u32,
    /// Whether an https URL led to an http one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) downgraded: bool,
    /// Whether it was taken up from a checkpoint: where it stands may have expired.
    #[serde(skip)]
    pub(super) is_old: bool,
}

impl Stage {
    fn converse_anew(&mut self) {
        self.step = Some(Step::default());
        self.no = None;
        self.answers = 0;
    }
}

impl Progress {
    /// What an earlier attempt at this job left; nothing when there is none or it cannot be read. Of an earlier allowance
    /// only the bytes that were kept are of use: everybody is asked again.
    pub(super) fn of(job: &Leased) -> Progress {
        let allowance = job.attempts_total.saturating_sub(job.attempt);
        let kept = job.checkpoint.as_deref();
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Progress>(bytes).ok());
        let attempt = job.attempts_total;
        match kept {
            Some(mut kept) if kept.allowance == allowance => {
                if kept.attempt != attempt {
                    // Usually it was told that it was over; not where the deadline came while it was being deferred.
                    kept.end_attempt();
                    kept.attempt = attempt;
                }
                kept.leads.iter_mut().for_each(|lead| lead.is_old = true);
                if let Some(trail) = &mut kept.trail {
                    // Where it begins, it can have expired no more than the candidate.
                    trail.is_old = !trail.visited.is_empty();
                }
                kept
            }
            Some(kept) => {
                let Progress { hint, partial, .. } = kept;
                Progress { allowance, attempt, hint, partial, ..Progress::default() }
            }
            None => Progress { allowance, attempt, ..Progress::default() },
        }
    }

    /// The stage of that resolver, begun if it is not.
    pub(super) fn stage(&mut self, name: &str) -> &mut Stage {
        let at = self.stages.iter().position(|stage| &*stage.name == name);
        let at = at.unwrap_or_else(|| {
            let step = Some(Step::default());
            self.stages.push(Stage { name: name.into(), step, ..Stage::default() });
            self.stages.len() - 1
        });
        &mut self.stages[at]
    }

    /// How far the resolvers have come.
    pub(super) fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Whether there is a verdict on this candidate already.
    pub(super) fn has_verdict(&self, candidate: &Url) -> bool {
        let id = UrlId::of(candidate);
        self.tried.iter().any(|tried| tried.id == id)
    }

    /// The verdict on another candidate than `own` that this URL is the same place as.
    pub(super) fn verdict_on(&self, url: &Url, own: &Url) -> Option<&Verdict> {
        let (id, own) = (UrlId::of(url), UrlId::of(own));
        let same = self.tried.iter().find(|tried| tried.id == id && id != own);
        same.map(|tried| &tried.verdict)
    }

    /// Adds verdicts that are not there yet.
    pub(super) fn add(&mut self, tried: impl IntoIterator<Item = Tried>) {
        for one in tried {
            let is_known = self.tried.iter().any(|known| known.id == one.id);
            if !is_known && self.tried.len() < MAX_TRIED {
                self.tried.push(one);
            }
        }
    }

    /// The next candidate that this resolver named and that has no verdict.
    pub(super) fn next_lead(&self, by: &str) -> Option<&Lead> {
        let mut own = self.leads.iter().filter(|lead| &*lead.by == by);
        own.find(|lead| !self.has_verdict(&lead.candidate.url))
    }

    /// Whether there is room for more verdicts.
    pub(super) fn has_room(&self) -> bool {
        self.tried.len() < MAX_TRIED
    }

    /// Takes in candidates that a resolver named, after those it named before (`first`: before them, as those of a page are);
    /// how many are new.
    pub(super) fn learn(&mut self, leads: Vec<Lead>, first: bool) -> u32 {
        let mut new = Vec::new();
        let mut used: usize = self.leads.iter().map(size).sum();
        for lead in leads {
            let id = UrlId::of(&lead.candidate.url);
            let same = |known: &Lead| UrlId::of(&known.candidate.url) == id;
            if self.has_verdict(&lead.candidate.url)
                || self.leads.iter().chain(&new).any(same)
                || used + size(&lead) > MAX_LEAD_BYTES
            {
                continue;
            }
            used += size(&lead);
            new.push(lead);
        }
        let count = u32::try_from(new.len()).unwrap_or(u32::MAX);
        let at = if first { 0 } else { self.leads.len() };
        self.leads.splice(at..at, new);
        count
    }

    /// Takes in an identifier that a service told, the first of each scheme.
    pub(super) fn learn_identifier(&mut self, scheme: Scheme, text: &str) {
        if text.len() <= MAX_IDENTIFIER_BYTES && scheme.parse(text).is_ok() {
            self.identifiers.entry(scheme.prefix().into()).or_insert_with(|| text.into());
        }
    }

    /// The identifiers that services told.
    pub(super) fn identifiers(&self) -> impl Iterator<Item = (Scheme, &str)> {
        let told = |scheme: Scheme| Some((scheme, &**self.identifiers.get(scheme.prefix())?));
        Scheme::ALL.into_iter().filter_map(told)
    }

    /// Whether a page was read there.
    pub(super) fn has_read(&self, url: &Url) -> bool {
        self.read.contains(&UrlId::of(url))
    }

    /// Notes that a page was read there.
    pub(super) fn note_read(&mut self, url: &Url) {
        let id = UrlId::of(url);
        if self.read.len() < MAX_READ && !self.read.contains(&id) {
            self.read.push(id);
        }
    }

    /// Takes in a page that a service named.
    pub(super) fn learn_page(&mut self, url: Url) {
        let fits = self.pages.len() < MAX_PAGES && url.as_str().len() <= MAX_KEPT_URL_BYTES;
        if fits && !self.pages.contains(&url) {
            self.pages.push(url);
        }
    }

    /// The candidate has a verdict that lasts.
    pub(super) fn drop_lead(&mut self, url: &Url) {
        let id = UrlId::of(url);
        self.leads.retain(|lead| UrlId::of(&lead.candidate.url) != id);
    }

    /// Forgets what this resolver named, and asks it again; once. Whether it will be.
    pub(super) fn renew(&mut self, by: &str) -> bool {
        let stage = self.stage(by);
        if stage.renewed {
            return false;
        }
        stage.renewed = true;
        stage.converse_anew();
        self.leads.retain(|lead| &*lead.by != by);
        // Pages that led on are read once more: it may be they that named it.
        self.read.clear();
        self.tried.retain(|tried| !(tried.verdict.leads_on && tried.is_by(by)));
        true
    }

    /// Notes a URL that an archive may have.
    pub(super) fn note_failed(&mut self, url: &Url) {
        let fits = self.failed.len() < MAX_FAILED && url.as_str().len() <= MAX_KEPT_URL_BYTES;
        let id = UrlId::of(url);
        if fits && !self.failed.iter().any(|failed| UrlId::of(&failed.url) == id) {
            self.failed.push(Failed { url: url.clone(), asked: false });
            self.begin_anew(super::resolve::ARCHIVE);
        }
    }

    /// A resolver that had no more to say is to be asked about something new.
    fn begin_anew(&mut self, name: &str) {
        let ended = |stage: &&mut Stage| &*stage.name == name && stage.step.is_none();
        if let Some(stage) = self.stages.iter_mut().find(ended) {
            stage.converse_anew();
        }
    }

    /// What an archive is to be asked for.
    pub(super) fn failed(&self) -> Vec<Url> {
        self.failed.iter().filter(|failed| !failed.asked).map(|failed| failed.url.clone()).collect()
    }

    /// The archive was asked for all there was.
    pub(super) fn note_archive_asked(&mut self) {
        self.failed.iter_mut().for_each(|failed| failed.asked = true);
    }

    /// The walk that was interrupted at this candidate, or a new one.
    pub(super) fn take_trail(&mut self, candidate: &Url) -> Trail {
        let id = UrlId::of(candidate);
        self.trail.take_if(|trail| trail.candidate == id).unwrap_or_else(|| Trail::new(candidate))
    }

    /// The cookies so far.
    pub(super) fn jar(&self) -> Jar {
        Jar::of(&self.cookies)
    }

    /// The checkpoint of an attempt that goes on, along `trail` if there is one, when there is a permit.
    pub(super) fn deferred(&mut self, trail: Option<&Trail>, jar: &Jar) -> Option<Vec<u8>> {
        self.trail = trail.cloned();
        self.cookies = jar.kept().to_vec();
        self.encode()
    }

    /// The checkpoint of an attempt that is over: only what lasts is worth keeping.
    pub(super) fn retried(&mut self) -> Option<Vec<u8>> {
        self.end_attempt();
        self.encode()
    }

    fn end_attempt(&mut self) {
        self.trail = None;
        self.cookies.clear();
        self.waits = 0;
        self.tried.retain(|tried| !tried.verdict.passing);
        self.stages.retain(|stage| !stage.no.as_ref().is_some_and(|no| no.kind.is_passing()));
    }

    /// What was counted since this was last asked, of a work with this DOI.
    pub(super) fn take_observed(&mut self, doi: Option<&str>) -> Vec<Observation> {
        let stages = self.stages.iter_mut();
        let counted = stages.filter_map(|stage| Some((&stage.name, stage.uncounted.take()?)));
        let observed = counted.map(|(name, counted)| {
            let Counted { asked, found, fetched, busy, broken, elapsed_ms } = counted;
            let about = Observation::of(name, doi);
            Observation { asked, found, fetched, busy, broken, elapsed_ms, ..about }
        });
        observed.collect()
    }

    fn encode(&mut self) -> Option<Vec<u8>> {
        let fits = |bytes: &Vec<u8>| bytes.len() <= MAX_CHECKPOINT_BYTES;
        // It fits by its bounds (tested), words shed first where all of them are used. What is not kept is asked for again, and
        // could be for ever: if ever it does not fit, candidates nobody has tried are the next to go.
        let whole = serde_json::to_vec(self).ok().filter(fits);
        let terse = |progress: &mut Progress| {
            for tried in &mut progress.tried {
                tried.verdict.message.clear();
                tried.evidence = Box::default();
            }
            let noes = progress.stages.iter_mut().filter_map(|stage| stage.no.as_mut());
            noes.for_each(|no| no.message = Box::default());
            serde_json::to_vec(progress).ok().filter(fits)
        };
        let least = |progress: &mut Progress| {
            (progress.leads, progress.cookies) = (Vec::new(), Vec::new());
            serde_json::to_vec(progress).ok().filter(fits)
        };
        whole.or_else(|| terse(self)).or_else(|| least(self))
    }
}

/// What a lead takes of the room there is.
fn size(lead: &Lead) -> usize {
    let candidate = &lead.candidate;
    let texts = [candidate.licence.as_deref(), Some(&*candidate.evidence), Some(&*lead.by)];
    let texts: usize = texts.iter().flatten().map(|text| text.len()).sum();
    200 + candidate.url.as_str().len() + texts
}

impl Trail {
    fn new(candidate: &Url) -> Trail {
        Trail {
            candidate: UrlId::of(candidate),
            next: candidate.clone(),
            visited: Vec::new(),
            was_empty: false,
            refreshed: false,
            polls: 0,
            resumes: 0,
            downgraded: false,
            is_old: false,
        }
    }

    /// Notes that the next URL is asked with these cookies.
    ///
    /// # Errors
    /// A verdict, when it was before.
    pub(super) fn visit(&mut self, cookies: Option<&str>) -> Result<(), Verdict> {
        let id = UrlId::of_request(&self.next, cookies);
        if self.visited.contains(&id) {
            let back = shown(&self.next);
            return Err(refuse(format!("redirects in a circle, back to {back}")));
        }
        self.visited.push(id);
        Ok(())
    }

    /// The last URL may be asked again: its answer told nothing.
    pub(super) fn unvisit(&mut self) {
        self.visited.pop();
    }

    /// Goes on to where a redirect points. The text may be relative, unencoded, or not a URL at all.
    ///
    /// # Errors
    /// A verdict, when it leads nowhere or further than `max_redirects`.
    pub(super) fn follow(&mut self, location: &str, max_redirects: u32) -> Result<(), Verdict> {
        if location.trim().is_empty() {
            return Err(refuse("a redirect that does not say where to".to_owned()));
        }
        let joined = self.next.join(location.trim());
        let next = joined.map_err(|error| format!("a redirect to what is no URL: {error}"));
        let next = next.and_then(payload::askable).map_err(refuse)?;
        if self.visited.len() > max_redirects as usize {
            return Err(refuse(format!("more than {max_redirects} redirects")));
        }
        self.downgraded |= self.next.scheme() == "https" && next.scheme() == "http";
        self.next = next;
        self.was_empty = false;
        Ok(())
    }
}

fn refuse(why: String) -> Verdict {
    Verdict::lasting(ErrorReason::Redirect, why)
}

#[cfg(test)]
mod tests;
