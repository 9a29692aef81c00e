//! The walk: resolver by resolver, candidate by candidate, hop by hop, until one gives a verified file.
//!
//! ```text
//!   for each resolver in order:  known candidates -> what it answers, step by step
//!       each candidate:          robots? -> request -> redirect | page with links | file | verdict
//!   nobody had one:              what the job comes to, and why
//! ```
//!
//! It can break off before any request and go on in another process: whatever was learned is in [`Progress`]. When a host or a
//! resolver is full the attempt ends deferred, and its worker is free.

use std::time::Duration;

use ureq::Body;
use ureq::http::{HeaderName, Response, StatusCode, header};
use url::Url;

use super::Net;
use super::address;
use super::classify;
use super::client::Request;
use super::download::{self, Download, Expected, Offer, Received, Receiver};
use super::exchange::{self, Hold, Open, Unanswered};
use super::jar::Jar;
use super::page;
use super::permission;
use super::progress::{Counted, Lead, Progress, Trail};
use super::resolve::{
    ARCHIVE, Active, Candidate, LANDING_PAGE, Leads, No, NoKind, Said, Work, key_of_file,
};
use super::robots::Known;
use super::service::{self, Interrupted, Stepped};
use super::story::Asked;
use super::verdict::{Fault, Tried, Verdict, shown};
use crate::handler::{CancelReason, Context, Ran};
use crate::job::{ErrorReason, Key, Mono, Observation, Outcome, Reason, SkipReason, WallMs};

/// How often one attempt waits for a host that says it is busy, before that counts as a failure.
const MAX_WAITS: u32 = 30;
/// How often a server is asked again that prepares the file, or has too much to do and does not say until when.
const MAX_POLLS: u32 = 3;
/// How long to wait between two such questions, where the server does not say.
const POLL_SECONDS: u64 = 5;
/// The most candidates of one answer that are looked at.
const MAX_NAMED: usize = 64;
/// How often a body that broke off is gone on with in one attempt.
const MAX_RESUMES: u32 = 2;

/// A candidate that gave a file.
#[derive(Debug)]
pub(super) struct Found {
    /// Who named it.
    pub(super) by: Box<str>,
    /// The candidate.
    pub(super) candidate: Candidate,
    /// What answered, after redirects.
    pub(super) final_url: Url,
    /// Whether the way there left https.
    pub(super) downgraded: bool,
    /// The file.
    pub(super) download: Box<Download>,
}

/// One attempt's walk.
pub(super) struct Walk<'w, 'c, 'j> {
    /// The client and the settings.
    pub(super) net: &'w Net,
    /// The job.
    pub(super) context: &'c mut Context<'j>,
    /// Where bytes go.
    pub(super) receiver: Receiver<'w>,
    /// What is wanted.
    pub(super) work: Work,
    /// What is known already.
    pub(super) progress: Progress,
    /// The job's cookies.
    pub(super) jar: Jar,
}

/// What one request for a file came to.
pub(super) enum Answer {
    Whole(Box<Download>),
    Page {
        html: Vec<u8>,
        verdict: Verdict,
        kept: Option<Box<Download>>,
    },
    /// Ask the same URL again.
    Again,
    Redirect(String),
    NotModified,
}

impl Walk<'_, '_, '_> {
    /// Walks.
    ///
    /// # Errors
    /// What the attempt comes to when no candidate gave a file.
    pub(super) fn run(&mut self) -> Result<Found, Ran> {
        let net = self.net;
        let order = net.order_for(&self.work, self.progress.stages());
        let is_last = |one: &Active| matches!(one.name, LANDING_PAGE | ARCHIVE);
        let last = order.iter().rposition(|one| !is_last(one)).map_or(0, |at| at + 1);
        let (first, last) = order.split_at(last);
        // All of them once more, for pages and failures that were learned of after who deals with them had had their turn. Nobody
        // is asked what was asked before.
        for turn in [first, last, &order[..]] {
            let mut rest = turn.iter().copied();
            while let Some(active) = rest.next().or_else(|| self.passed_over(turn)) {
                if let Some(found) = self.work_through(active)? {
                    return Ok(found);
                }
            }
        }
        Err(self.conclude().into())
    }

    /// One of these that there was nothing to ask about, and now is: more has been learned of the work.
    fn passed_over<'a>(&mut self, turn: &[&'a Active]) -> Option<&'a Active> {
        self.see_what_was_learned();
        let mut stages = self.progress.stages().iter().filter(|_| self.progress.has_room());
        stages.find_map(|stage| {
            let active = turn.iter().copied().find(|one| *stage.name == *one.name)?;
            active.resolver.ask(&self.work, stage.step.as_ref()?).map(|_| active)
        })
    }

    /// Everything one resolver has to offer.
    fn work_through(&mut self, active: &Active) -> Result<Option<Found>, Ran> {
        loop {
            self.see_what_was_learned();
            while let Some(lead) = self.next_candidate(active) {
                self.count_known(active.name);
                match self.try_candidate(&lead) {
                    Ok(found) => return Ok(Some(found)),
                    Err(Fault::Candidate(verdict)) => self.note(&lead, verdict),
                    Err(fault) => return Err(self.ended(fault)),
                }
            }
            if !self.progress.has_room() || !self.converse(active)? {
                return Ok(None);
            }
        }
    }

    /// The work as resolvers see it now: also the identifiers, pages and failures that were learned of.
    fn see_what_was_learned(&mut self) {
        for (scheme, text) in self.progress.identifiers() {
            self.work.identify(scheme, text);
        }
        for page in &self.progress.pages {
            if !self.work.pages.contains(page) {
                self.work.pages.push(page.clone());
            }
        }
        self.work.failed = self.progress.failed();
    }

    fn next_candidate(&self, active: &Active) -> Option<Lead> {
        if !self.progress.has_room() {
            // Without its verdict kept, a candidate would be asked again and again.
            return None;
        }
        if let Some(lead) = self.progress.next_lead(active.name) {
            return Some(lead.clone());
        }
        let known = active.resolver.known(&self.work).into_iter();
        let known = known.filter(|one| !self.progress.has_verdict(&one.url));
        let is_read =
            |one: &Candidate| one.leads == Leads::Page && self.progress.has_read(&one.url);
        let mut untried = known.filter(|one| !is_read(one));
        let candidate = untried.next()?;
        Some(Lead { by: active.name.into(), candidate, of_page: false, is_old: false })
    }

    /// Makes one step of the conversation with a resolver; whether there was one to make. One that there is nothing to ask
    /// about stays where it is: more may be learned of the work.
    fn converse(&mut self, active: &Active) -> Result<bool, Ran> {
        let Some(step) = self.progress.stage(active.name).step.clone() else { return Ok(false) };
        let began = self.context.mono();
        let resolver = (active.name, &*active.resolver);
        let stepped = service::step(self.net, self.context, resolver, &self.work, &step);
        let stepped = match stepped {
            Ok(Stepped::NothingToAsk) => return Ok(false),
            Ok(stepped) => stepped,
            Err(Interrupted::Wait(key)) => return Err(self.wait(key, None).into()),
            Err(Interrupted::ToldToWait(key)) => {
                self.progress.waits += 1;
                if self.progress.waits <= MAX_WAITS {
                    return Err(self.wait(key, None).into());
                }
                let message = "it asked to be left alone again and again";
                Stepped::No(No::new(NoKind::Busy, message), ErrorReason::RateLimited)
            }
            Err(Interrupted::Attempt(fault)) => return Err(self.ended(fault)),
        };
        self.take_in(active.name, stepped, began);
        Ok(true)
    }

    fn take_in(&mut self, name: &str, stepped: Stepped, began: Mono) {
        let elapsed_ms = u64::try_from(self.context.mono().since(began).as_millis());
        let elapsed_ms = elapsed_ms.unwrap_or(u64::MAX);
        let (found, learned) = match &stepped {
            Stepped::Said(said) => (self.take_candidates(name, said), &said.learned),
            Stepped::No(no, _) => (0, &no.learned),
            Stepped::NothingToAsk => return,
        };
        for (scheme, text) in learned {
            self.progress.learn_identifier(*scheme, text);
        }
        let counted = self.counted(name);
        counted.asked = 1;
        counted.elapsed_ms += elapsed_ms;
        counted.found = counted.found.max(u32::from(found > 0));
        if let Stepped::No(no, _) = &stepped {
            counted.busy = u32::from(no.kind == NoKind::Busy);
            counted.broken = u32::from(no.kind == NoKind::Broken);
        }
        let stage = self.progress.stage(name);
        stage.elapsed_ms = stage.elapsed_ms.saturating_add(elapsed_ms);
        stage.found += found;
        stage.answers += 1;
        let has_more = matches!(&stepped, Stepped::Said(said) if said.next.is_some());
        let stepped = if has_more && stage.answers >= service::MAX_STEPS {
            service::too_long()
        } else {
            stepped
        };
        match stepped {
            Stepped::Said(said) => stage.step = said.next,
            Stepped::No(no, reason) => {
                stage.reason = Some(Reason::Error(reason));
                // That there is nothing more after some were found is no no.
                stage.no = Some(no).filter(|no| stage.found == 0 || no.kind != NoKind::Absent);
                stage.step = None;
            }
            Stepped::NothingToAsk => {}
        }
        let may_do_better = stage.no.as_ref().is_some_and(|no| no.kind.is_passing());
        if stage.step.is_none() && !may_do_better && name == ARCHIVE {
            self.progress.note_archive_asked();
        }
    }

    /// Takes in what a service named; how many are new.
    fn take_candidates(&mut self, name: &str, said: &Said) -> u32 {
        let named = said.found.iter().take(MAX_NAMED).map(|one| one.clone().in_brief());
        let (pages, files): (Vec<_>, Vec<_>) = named.partition(|one| one.leads == Leads::Page);
        for page in &pages {
            self.progress.learn_page(page.url.clone());
        }
        let lead = |candidate| Lead { by: name.into(), candidate, of_page: false, is_old: false };
        let count = u32::try_from(files.len() + pages.len()).unwrap_or(u32::MAX);
        self.progress.learn(files.into_iter().map(lead).collect(), false);
        count
    }

    /// What is counted of a resolver in this attempt.
    fn counted(&mut self, name: &str) -> &mut Counted {
        self.progress.stage(name).uncounted.get_or_insert_default()
    }

    /// A resolver named a candidate without being asked: that counts as an answer, once.
    fn count_known(&mut self, name: &str) {
        let stage = self.progress.stage(name);
        if stage.found == 0 {
            stage.found = 1;
            let counted = self.counted(name);
            (counted.asked, counted.found) = (1, 1);
        }
    }

    /// A verdict on a candidate.
    fn note(&mut self, lead: &Lead, verdict: Verdict) {
        let url = &lead.candidate.url;
        if !verdict.passing {
            self.progress.drop_lead(url);
        }
        if self.has_expired(lead, &verdict) && self.progress.renew(&lead.by) {
            return;
        }
        if is_for_archive(lead, &verdict, self.context.attempt()) {
            self.progress.note_failed(url);
        }
        self.progress.add([Tried::new(url, verdict).by(&lead.by, &lead.candidate)]);
    }

    /// Whether this was a signed link that was good only for a while.
    fn has_expired(&self, lead: &Lead, verdict: &Verdict) -> bool {
        let may_tell = matches!(verdict.status, Some(400 | 401 | 403 | 410));
        lead.is_old && is_signed(&lead.candidate.url) && may_tell
    }

    fn try_candidate(&mut self, lead: &Lead) -> Result<Found, Fault> {
        let mut trail = self.progress.take_trail(&lead.candidate.url);
        loop {
            let answer = match self.request(lead, &mut trail, &[]) {
                // Where the walk had stopped may have been good only for a while: once more from the start.
                Err(Fault::Candidate(verdict))
                    if trail.is_old && !verdict.passing && verdict.status.is_some() =>
                {
                    trail = self.progress.take_trail(&lead.candidate.url);
                    continue;
                }
                answer => answer?,
            };
            match answer {
                Answer::Whole(download) => return Ok(found(lead, trail, download)),
                Answer::Redirect(location) => {
                    trail.follow(&location, self.net.settings.max_redirects)?;
                    // A DOI leads to the very page that others have named, and was read.
                    let known = self.progress.verdict_on(&trail.next, &lead.candidate.url);
                    if let Some(verdict) = known {
                        return Err(verdict.clone().into());
                    }
                    self.check_unread(lead, &trail.next)?;
                }
                Answer::Again => {}
                Answer::NotModified => {
                    let message = "the server answered 304 though nothing was held";
                    return Err(Verdict::lasting(ErrorReason::HttpStatus, message).into());
                }
                Answer::Page { html, verdict, kept } => {
                    let page = page::read(&html, &trail.next);
                    let refresh = page.refresh.filter(|_| page.files.is_empty());
                    if let Some(refresh) = refresh.filter(|_| !trail.refreshed) {
                        trail.refreshed = true;
                        trail.follow(refresh.as_str(), self.net.settings.max_redirects)?;
                        continue;
                    }
                    self.progress.note_read(&trail.next);
                    let leads = self.learn_from_page(lead, page.files);
                    if let Some(download) = kept.filter(|_| leads == 0 && !is_page(lead)) {
                        return Ok(found(lead, trail, download));
                    }
                    if leads == 0 {
                        return Err(verdict.into());
                    }
                    let message = format!("a page that names {leads} more");
                    let verdict = Verdict::lasting(ErrorReason::UnexpectedContent, message);
                    return Err(verdict.leading_on().into());
                }
            }
        }
    }

    /// Whether this page was not read yet: many ways lead to the same one.
    ///
    /// # Errors
    /// A verdict that says so.
    fn check_unread(&self, lead: &Lead, next: &Url) -> Result<(), Verdict> {
        if is_page(lead) && self.progress.has_read(next) {
            let message = format!("leads to {}, which was read already", shown(next));
            return Err(Verdict::lasting(ErrorReason::UnexpectedContent, message).leading_on());
        }
        Ok(())
    }

    /// Takes in the files that a page in a file's place names; how many are new.
    fn learn_from_page(&mut self, lead: &Lead, files: Vec<Url>) -> u32 {
        if lead.of_page {
            return 0;
        }
        let own = super::verdict::UrlId::of(&lead.candidate.url);
        let files = files.into_iter().filter(|url| super::verdict::UrlId::of(url) != own);
        let leads = files.map(|url| Lead {
            by: lead.by.clone(),
            candidate: Candidate {
                url,
                leads: Leads::File,
                evidence: "named by a page".into(),
                ..lead.candidate.clone()
            },
            of_page: true,
            is_old: false,
        });
        self.progress.learn(leads.collect(), true)
    }

    /// One request of a trail, with these headers beside its own.
    pub(super) fn request(
        &mut self,
        lead: &Lead,
        trail: &mut Trail,
        further: &[(HeaderName, String)],
    ) -> Result<Answer, Fault> {
        let key = self.key(lead, &trail.next)?;
        self.see_robots(trail, &key)?;
        let cookies = self.jar.header(&trail.next);
        let url = trail.next.clone();
        // It stays noted until a body is there that goes on with it or takes its place: redirects, other candidates and a
        // busy server do it no harm.
        let resumed = self.progress.partial.clone().filter(|partial| partial.is_of(&url));
        let mut request = Request::get(&url);
        request.headers.extend(further.iter().cloned());
        request.headers.extend(cookies.iter().map(|text| (header::COOKIE, text.clone())));
        if let Some(partial) = &resumed {
            request.headers.extend(Receiver::resume_headers(partial));
        }
        trail.visit(cookies.as_deref())?;
        let open = match exchange::ask(self.net, self.context, &key, &request) {
            Ok(open) => open,
            Err(unanswered) => {
                trail.unvisit();
                return Err(self.unanswered(trail, unanswered));
            }
        };
        let Open { response, hold } = open;
        self.jar.take(response.headers(), &url);
        let answer = self.answer(lead, trail, response, resumed.as_ref());
        self.end(hold);
        answer
    }

    fn end(&mut self, hold: Hold) {
        hold.end(self.context);
    }

    /// What a fault that is no verdict on a candidate makes of the attempt. One that was cancelled keeps what it learned.
    pub(super) fn ended(&mut self, fault: Fault) -> Ran {
        match fault {
            Fault::Attempt(outcome) => Ran::Finished(match *outcome {
                Outcome::Retry { reason, note, after_ms, checkpoint: None } => {
                    if self.is_handed_over() {
                        let checkpoint = self.progress.deferred(None, &self.jar);
                        return Outcome::Retry { reason, note, after_ms, checkpoint }.into();
                    }
                    let note = note.with_observed(self.observed(None));
                    let checkpoint = self.progress.retried();
                    Outcome::Retry { reason, note, after_ms, checkpoint }
                }
                other => other,
            }),
            Fault::Machine(fault) => Ran::GaveUp(fault),
            Fault::Candidate(verdict) => {
                Outcome::retry(ErrorReason::Internal, verdict.message).into()
            }
        }
    }

    /// Whether this attempt is to go on elsewhere: then nothing of it is over.
    fn is_handed_over(&self) -> bool {
        let reason = self.context.cancel().reason();
        matches!(reason, Some(CancelReason::Stop | CancelReason::LeaseLost))
    }

    fn unanswered(&mut self, trail: &Trail, unanswered: Unanswered) -> Fault {
        match unanswered {
            Unanswered::Wait(key) => self.wait(key, Some(trail)).into(),
            Unanswered::ToldToWait(key, verdict) => {
                self.progress.waits += 1;
                if self.progress.waits > MAX_WAITS {
                    verdict.into()
                } else {
                    self.wait(key, Some(trail)).into()
                }
            }
            Unanswered::GivenUp(verdict) => verdict.into(),
            Unanswered::Fault(fault) => fault,
        }
    }

    /// The attempt goes on when there is a permit for `key`.
    fn wait(&mut self, key: Key, trail: Option<&Trail>) -> Outcome {
        let checkpoint = self.progress.deferred(trail, &self.jar);
        Outcome::Defer { key, not_before: None, checkpoint }
    }

    /// The same, but not before so much time has passed.
    fn wait_for(&mut self, key: Key, trail: &Trail, after: Duration) -> Outcome {
        let not_before = Some(self.after(after));
        let checkpoint = self.progress.deferred(Some(trail), &self.jar);
        Outcome::Defer { key, not_before, checkpoint }
    }

    fn after(&self, time: Duration) -> WallMs {
        self.context.wall().plus_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    fn key(&self, lead: &Lead, url: &Url) -> Result<Key, Verdict> {
        let is_of_line = &*lead.by == super::resolve::LINE;
        let hint = self.progress.hint.as_deref().filter(|_| is_of_line);
        key_of_file(url, hint).ok_or_else(|| {
            let message = format!("{} has no host that can be counted", shown(url));
            Verdict::lasting(ErrorReason::BadPayload, message)
        })
    }

    /// Counts that the attempt must wait so long for a robots.txt.
    ///
    /// # Errors
    /// A verdict, when that is too long or too often.
    fn count_wait_for_robots(&mut self, after: Duration) -> Result<(), Verdict> {
        self.progress.waits += 1;
        if self.progress.waits <= MAX_WAITS && after <= self.net.settings.give_up {
            return Ok(());
        }
        let message = "its robots.txt cannot be had, so nothing may be asked";
        let verdict = Verdict::passing(ErrorReason::HttpStatus, message);
        Err(verdict.not_before(Some(self.after(after))))
    }

    /// Sees to it that the host's robots.txt allows the next request.
    fn see_robots(&mut self, trail: &Trail, key: &Key) -> Result<(), Fault> {
        let net = self.net;
        if !net.settings.obey_robots {
            return Ok(());
        }
        loop {
            let now = self.context.mono();
            match net.robots.ask(&trail.next, now) {
                Known::Allowed => return Ok(()),
                Known::Forbidden => {
                    let message = "robots.txt forbids it";
                    return Err(Verdict::skipped(SkipReason::Robots, message).into());
                }
                Known::Unavailable { until } => {
                    let after = until.since(now);
                    self.count_wait_for_robots(after)?;
                    return Err(self.wait_for(key.clone(), trail, after).into());
                }
                Known::Unknown(url) => match permission::ask(net, self.context, key, &url) {
                    Ok(()) => {}
                    Err(Interrupted::Wait(key)) => return Err(self.wait(key, Some(trail)).into()),
                    Err(Interrupted::ToldToWait(key)) => {
                        self.count_wait_for_robots(Duration::ZERO)?;
                        return Err(self.wait(key, Some(trail)).into());
                    }
                    Err(Interrupted::Attempt(fault)) => return Err(fault),
                },
            }
        }
    }

    fn answer(
        &mut self,
        lead: &Lead,
        trail: &mut Trail,
        response: Response<Body>,
        resumed: Option<&download::Partial>,
    ) -> Result<Answer, Fault> {
        let status = response.status();
        if is_redirect(status) {
            let location = download::text_of(response.headers(), header::LOCATION);
            download::drain(response.into_body());
            return Ok(Answer::Redirect(location.unwrap_or_default()));
        }
        match status {
            StatusCode::NOT_MODIFIED => Ok(Answer::NotModified),
            StatusCode::ACCEPTED => self.prepared_later(lead, trail, response),
            // 203: a proxy on the way has touched the answer; the bytes decide.
            StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => {
                self.receive(lead, trail, response, resumed)
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
                if resumed.is_some() =>
            {
                self.receive(lead, trail, response, resumed)
            }
            _ => {
                let after_ms = exchange::retry_after_ms(response.headers(), self.context);
                let page = download::drain(response.into_body());
                let verdict = self.verdict_of(status, after_ms, &page);
                if status == StatusCode::SERVICE_UNAVAILABLE && verdict.passing {
                    // It does not say until when: its host is being left alone for a moment.
                    return Err(self.poll(lead, trail, None, verdict));
                }
                Err(verdict.into())
            }
        }
    }

    /// What a status means. Of a server that names a time further away than anybody waits for, it is its last word.
    fn verdict_of(&self, status: StatusCode, after_ms: Option<u64>, page: &[u8]) -> Verdict {
        let verdict = classify::status(status, after_ms, self.context.wall(), page);
        let is_too_long = |ms| Duration::from_millis(ms) > self.net.settings.give_up;
        if verdict.passing && after_ms.is_some_and(is_too_long) {
            return Verdict { passing: false, not_before_ms: None, ..verdict };
        }
        verdict
    }

    /// 202: the file is being prepared.
    fn prepared_later(
        &mut self,
        lead: &Lead,
        trail: &mut Trail,
        response: Response<Body>,
    ) -> Result<Answer, Fault> {
        let after_ms = exchange::retry_after_ms(response.headers(), self.context);
        let page = download::drain(response.into_body());
        let after = Duration::from_millis(after_ms.unwrap_or(POLL_SECONDS * 1_000).max(1_000));
        let verdict = self.verdict_of(StatusCode::ACCEPTED, after_ms, &page);
        Err(self.poll(lead, trail, Some(after), verdict))
    }

    /// The same URL is asked again in this attempt, `after` so long, or when its host is not held any more; unless that is too
    /// long, or was often enough: then `verdict` it is.
    fn poll(
        &mut self,
        lead: &Lead,
        trail: &mut Trail,
        after: Option<Duration>,
        verdict: Verdict,
    ) -> Fault {
        trail.polls += 1;
        let is_too_long = after.is_some_and(|after| after > self.net.settings.give_up);
        if trail.polls > MAX_POLLS || is_too_long {
            return verdict.into();
        }
        trail.unvisit();
        let key = match self.key(lead, &trail.next) {
            Ok(key) => key,
            Err(verdict) => return verdict.into(),
        };
        match after {
            Some(after) => self.wait_for(key, trail, after).into(),
            None => self.wait(key, Some(trail)).into(),
        }
    }

    fn receive(
        &mut self,
        lead: &Lead,
        trail: &mut Trail,
        response: Response<Body>,
        resumed: Option<&download::Partial>,
    ) -> Result<Answer, Fault> {
        let expected =
            Expected { md5: lead.candidate.md5.clone(), sha256: lead.candidate.sha256.clone() };
        let offer = Offer { url: &trail.next, expected: &expected, resumed };
        self.progress.partial.take_if(|partial| partial.is_of(&trail.next));
        match self.receiver.receive(response, &offer, self.context)? {
            Received::Whole(download) => Ok(Answer::Whole(download)),
            Received::Page { html, verdict, kept } => Ok(Answer::Page { html, verdict, kept }),
            Received::Empty if !trail.was_empty => {
                trail.was_empty = true;
                trail.unvisit();
                Ok(Answer::Again)
            }
            Received::Empty => {
                let message = "an empty body, twice";
                Err(Verdict::lasting(ErrorReason::UnexpectedContent, message).into())
            }
            Received::Cut { verdict, partial } => {
                let may_go_on = partial.is_some() && trail.resumes < MAX_RESUMES;
                self.progress.partial = partial.or(self.progress.partial.take());
                if !may_go_on {
                    return Err(verdict.into());
                }
                trail.resumes += 1;
                trail.unvisit();
                Ok(Answer::Again)
            }
        }
    }

    /// What the attempt comes to when every candidate has its verdict.
    fn conclude(&mut self) -> Outcome {
        super::conclude::conclude(self)
    }

    /// What the attempt learned about resolvers, for whoever counts; told once.
    pub(super) fn observed(&mut self, fetched_by: Option<&str>) -> Vec<Observation> {
        if let Some(name) = fetched_by {
            // It may have been asked, and counted, in an earlier attempt.
            self.counted(name).fetched = 1;
        }
        let observed = self.progress.take_observed(self.work.doi.as_deref());
        self.net.learned.add(&observed);
        observed
    }

    /// The particulars: who was asked, and what was tried.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.progress.stages().iter().filter_map(Asked::of).collect()
    }
}

pub(super) fn found(lead: &Lead, trail: Trail, download: Box<Download>) -> Found {
    Found {
        by: lead.by.clone(),
        candidate: lead.candidate.clone(),
        final_url: trail.next,
        downgraded: trail.downgraded,
        download,
    }
}

fn is_page(lead: &Lead) -> bool {
    lead.candidate.leads == Leads::Page
}

/// Whether it looks like a link that is good only for a while.
fn is_signed(url: &Url) -> bool {
    let query = url.query().unwrap_or_default().to_ascii_lowercase();
    ["expires", "sig", "token", "policy"].iter().any(|word| query.contains(word))
}

/// Whether an archive may have what this candidate did not give: it is gone for good, or was not to be had twice.
fn is_for_archive(lead: &Lead, verdict: &Verdict, attempt: u32) -> bool {
    let url = &lead.candidate.url;
    // What opens a door is nobody else's business, and what lies behind it in no archive.
    let is_secret = !url.username().is_empty() || url.password().is_some() || is_signed(url);
    let is_public = address::check_host(url).is_ok()
        && !is_secret
        && url.host_str().is_some_and(|host| host.contains('.'))
        && !matches!(
            verdict.reason,
            Reason::Skipped(SkipReason::PrivateAddress | SkipReason::Robots)
        );
    let is_final = !verdict.passing || attempt > 1;
    let is_of_archive = &*lead.by == ARCHIVE;
    is_public
        && is_final
        && !is_of_archive
        && !is_page(lead)
        && !verdict.is_rate_limit()
        && !verdict.leads_on
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 300..=303 | 307 | 308)
}

/// A note on where a file came from.
pub(super) fn told(found: &Found) -> String {
    let way = if found.downgraded { ", the last of the way without TLS" } else { "" };
    let named = if &*found.by == super::resolve::LINE {
        String::new()
    } else {
        format!(", named by {}", found.by)
    };
    format!("{} bytes from {}{named}{way}", found.download.inspected.bytes, shown(&found.final_url))
}
