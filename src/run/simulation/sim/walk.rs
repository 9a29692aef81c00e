//! The workers of a simulation: an attempt makes its requests as the fetcher does, and tells the gate what servers say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use super::super::oracle::parts;
use super::super::process::{Answer, Asking, Worker};
use super::super::world::Request;
use super::{Due, Sim, TIME_OUT};
use crate::clock::Clock;
use crate::job::{ErrorReason, JobRow, Key, LimitKey, Mono, Outcome};
use crate::queue::store::Store;
use crate::share::{KeyEvent, Told, WhyGivenUp};

impl Sim {
    /// Free workers take what is in their channel.
    pub(super) fn begin_attempts(&mut self) -> Result<(), String> {
        for n in 0..self.processes.len() {
            while self.processes[n].is_awake() {
                let serial = self.serials;
                let clock = Arc::clone(&self.clock);
                let Some(at) = self.processes[n].begin_attempt(serial, &clock) else { break };
                self.serials += 1;
                self.began(n, at)?;
                self.walk(n, serial)?;
            }
        }
        Ok(())
    }

    pub(super) fn began(&mut self, n: usize, at: usize) -> Result<(), String> {
        let Some(attempt) = &self.processes[n].workers[at].attempt else { return Ok(()) };
        let (job, serial, owner) = (Arc::clone(&attempt.job), attempt.serial, attempt.owner);
        self.note(|| format!("p{n} #{serial} begins {} ({})", job.artifact_id, job.lane.key));
        if self.dead_owners.contains(&owner) {
            return Ok(());
        }
        if let Some((other, _)) = self.at_work.insert(job.token.job, (n, serial)) {
            return Err(format!("two leases: {} is at work in p{other} and p{n}", job.artifact_id));
        }
        if self.heard.lock().finals.contains_key(&job.token.job) {
            return Err(format!("{} is run again after its end", job.artifact_id));
        }
        self.owed.remove(&job.lane.id);
        self.check_turn(n, &job)
    }

    pub(super) fn find(&self, n: usize, serial: u64) -> Option<usize> {
        let is = |worker: &Worker| {
            worker.attempt.as_ref().is_some_and(|attempt| attempt.serial == serial)
        };
        self.processes[n].workers.iter().position(is)
    }

    pub(super) fn plan_of(&self, n: usize, at: usize) -> usize {
        let attempt = self.processes[n].workers[at].attempt.as_ref();
        let id = attempt.map(|attempt| attempt.job.artifact_id.as_str()[1..].parse());
        match id {
            Some(Ok(plan)) => plan,
            _ => panic!("a job that is not of this world"),
        }
    }

    /// The handler: makes its next request, or ends.
    pub(super) fn walk(&mut self, n: usize, serial: u64) -> Result<(), String> {
        let Some(at) = self.find(n, serial) else { return Ok(()) };
        let now = self.now();
        let plan = self.plan_of(n, at);
        let process = &mut self.processes[n];
        let gate = process.shared.gate.clone();
        let worker = &mut process.workers[at];
        let Some(attempt) = &mut worker.attempt else { return Ok(()) };
        if let Some(reason) = worker.slot.cancel.reason() {
            self.end_attempt(n, at, reason.outcome());
            return Ok(());
        }
        let Some(Request { key, takes }) = self.world.jobs[plan].requests.get(attempt.at).cloned()
        else {
            self.conclude(n, at, plan);
            return Ok(());
        };
        if let Some(given_up) = gate.given_up(&key, now) {
            let reason = match given_up.why {
                WhyGivenUp::RateLimited => ErrorReason::RateLimited,
                WhyGivenUp::Down => ErrorReason::HostDown,
            };
            self.note(|| format!("p{n} #{serial} gives {key} up: {reason:?}"));
            if !self.is_blind(n) {
                self.oracle.gives_up(&key, now)?;
            }
            self.end_attempt(n, at, Outcome::fail(reason, "given up"));
            return Ok(());
        }
        if let Some(permit) = attempt.permit.take_if(|permit| *permit.key() != key) {
            permit.refund();
        }
        let admitted = match attempt.permit.take() {
            Some(permit) => gate.redeem(permit, now),
            None => gate.try_request(&key, now),
        };
        let permit = match admitted {
            Ok(permit) => permit,
            Err(wait) => {
                let checkpoint = Some(vec![u8::try_from(attempt.at).unwrap_or(0)]);
                self.note(|| format!("p{n} #{serial} defers to {key}: {wait:?}"));
                self.end_attempt(n, at, Outcome::Defer { key, not_before: None, checkpoint });
                return Ok(());
            }
        };
        let (answer, head, body) = self.answer(&key, takes);
        let process = &mut self.processes[n];
        let Some(attempt) = &mut process.workers[at].attempt else { return Ok(()) };
        let counts = !self.dead_owners.contains(&attempt.owner);
        attempt.asking = Some(Asking { key: key.clone(), permit, asked_at: now, answer, body });
        self.in_(head, Due::Head { process: n, serial });
        self.note(|| format!("p{n} #{serial} asks {key}"));
        if counts {
            let blind = self.blind_since(n);
            let judged = self.oracle.starts(n, serial, &key, now, blind);
            judged.map_err(|error| self.explain(&key, error))?;
            if let Some(next) = self.oracle.next_token(&key, now) {
                self.at(next, Due::Moment);
            }
        }
        Ok(())
    }

    pub(super) fn explain(&mut self, key: &Key, error: String) -> String {
        let (now, mut said) = (self.clock.mono(), error);
        for part in parts(key) {
            said.push_str(&format!("\n  {part}: {}", self.oracle.tell(&part)));
            if let Ok(view) = self.store.key(&part) {
                said.push_str(&format!(
                    "\n  {part}, kept: {:?} {:?}",
                    view.record, view.configured
                ));
                for holder in view.holders {
                    said.push_str(&format!("\n    {}: {:?}", holder.owner, holder.share));
                }
            }
        }
        for (n, process) in
            self.processes.iter().enumerate().filter(|(_, process)| !process.is_over())
        {
            let status = process.gate().status(now, 9);
            said.push_str(&format!("\n  p{n}: {} idle, {status:?}", process.idle_workers()));
        }
        said
    }

    /// What is known of every key that jobs wait for.
    pub(super) fn explain_waiting(&mut self, mut said: String) -> String {
        let ready = self.store.ready_lanes(None, 4_096, &self.kinds()).unwrap_or_default();
        let keys: BTreeSet<Key> = ready.iter().map(|ready| ready.lane.key.clone()).collect();
        for key in keys {
            said.push_str(&format!("\n{key} is waited for"));
            said = self.explain(&key, said);
        }
        said
    }

    pub(super) fn is_blind(&self, n: usize) -> bool {
        self.blind_since(n).is_some()
    }

    pub(super) fn blind_since(&self, n: usize) -> Option<Mono> {
        let now = self.now();
        self.blind.get(&n).filter(|(_, until)| now < *until).map(|(since, _)| *since)
    }

    /// What the server says, how long until its head, and how long the body takes.
    pub(super) fn answer(&mut self, key: &Key, takes: Duration) -> (Answer, Duration, Duration) {
        let now = self.now();
        let head = takes.mul_f64(0.7);
        let well = (Answer::Well, head, takes.saturating_sub(head));
        let Some(mood) = self.world.mood(key, now) else { return well };
        let draw: f64 = self.rng.random();
        if draw < mood.tells {
            let told = if mood.after.is_none() && self.rng.random_bool(0.5) {
                Answer::Unavailable
            } else {
                Answer::Told(mood.after)
            };
            return (told, head, Duration::ZERO);
        }
        if draw < mood.tells + mood.fails {
            return match self.rng.random_range(0..3) {
                0 => (Answer::Broken, head, Duration::ZERO),
                1 => (Answer::NoConnection, head, Duration::ZERO),
                _ => (Answer::TimedOut, TIME_OUT, Duration::ZERO),
            };
        }
        if self.rng.random_bool(0.02) {
            return (Answer::Gone, head, Duration::ZERO);
        }
        well
    }

    /// The head of an answer is there, or it is known that none will be.
    pub(super) fn head(&mut self, n: usize, serial: u64) {
        let Some(at) = self.find(n, serial) else { return };
        if self.processes[n].is_frozen {
            return self.in_(Duration::from_millis(250), Due::Head { process: n, serial });
        }
        let process = &self.processes[n];
        let Some(attempt) = &process.workers[at].attempt else { return };
        let Some(asking) = &attempt.asking else { return };
        let (asked_at, answer, body) = (asking.asked_at, asking.answer, asking.body);
        let host = asking.key.host.clone().map(LimitKey::Host);
        let counts = !self.dead_owners.contains(&attempt.owner);
        if let Some(host) = host {
            self.tell(n, &host, asked_at, answer, counts);
        }
        self.in_(body, Due::End { process: n, serial });
    }

    /// Tells the gate what a server's answer means, as the fetcher does.
    pub(super) fn tell(
        &mut self,
        n: usize,
        host: &LimitKey,
        asked_at: Mono,
        answer: Answer,
        counts: bool,
    ) {
        let now = self.now();
        let gate = self.processes[n].gate().clone();
        let (failed, answered) =
            (KeyEvent::Failed { asked_at, now }, KeyEvent::Answered { asked_at, now });
        let told = |after| KeyEvent::Told(Told { asked_at, now, after });
        let events = match answer {
            Answer::Well => {
                let crawl_delay = self.world.crawl_delays.get(host).copied();
                crawl_delay.map(KeyEvent::CrawlDelay).into_iter().chain([answered]).collect()
            }
            Answer::Gone => vec![answered],
            Answer::Told(after) => vec![told(after)],
            Answer::Unavailable => vec![told(None), failed],
            Answer::Broken | Answer::NoConnection => vec![failed],
            Answer::TimedOut => vec![failed, KeyEvent::Overloaded { asked_at, now }],
        };
        for event in events {
            match event {
                KeyEvent::Told(told) => {
                    let Told { asked_at, now, after } = told;
                    let _ = gate.hold(host, crate::limit::Told { asked_at, now, after });
                }
                KeyEvent::Failed { .. } => _ = gate.failed(host, asked_at, now),
                KeyEvent::Overloaded { .. } => gate.overloaded(host, asked_at, now),
                KeyEvent::Answered { .. } => gate.answered(host, asked_at, now),
                KeyEvent::CrawlDelay(interval) => gate.slow_down(host, interval),
            }
            if !matches!(answer, Answer::Well) {
                self.note(|| format!("p{n} hears of {host}: {event:?}"));
            }
            if counts {
                self.oracle.event(n, host, event, now);
            }
        }
    }

    /// The body has ended.
    pub(super) fn end(&mut self, n: usize, serial: u64) -> Result<(), String> {
        let Some(at) = self.find(n, serial) else { return Ok(()) };
        if self.processes[n].is_frozen {
            self.in_(Duration::from_millis(250), Due::End { process: n, serial });
            return Ok(());
        }
        let now = self.now();
        let process = &mut self.processes[n];
        let Some(attempt) = &mut process.workers[at].attempt else { return Ok(()) };
        let Some(Asking { key, permit, answer, .. }) = attempt.asking.take() else { return Ok(()) };
        let step = attempt.at;
        self.oracle.ends(serial, &key, now);
        self.note(|| format!("p{n} #{serial} ends at {key}: {answer:?}"));
        permit.end(now);
        let retry = |reason| Outcome::retry(reason, "");
        let outcome = match answer {
            Answer::Well => {
                if let Some(attempt) = &mut self.processes[n].workers[at].attempt {
                    attempt.at = step + 1;
                }
                return self.walk(n, serial);
            }
            Answer::Gone => Outcome::fail(ErrorReason::HttpStatus, "404"),
            Answer::Told(_) => {
                let checkpoint = Some(vec![u8::try_from(step).unwrap_or(0)]);
                let gate = self.processes[n].gate();
                match gate.given_up(&key, now) {
                    Some(_) => Outcome::fail(ErrorReason::RateLimited, ""),
                    None => Outcome::Defer { key, not_before: None, checkpoint },
                }
            }
            Answer::Unavailable | Answer::Broken => retry(ErrorReason::HttpStatus),
            Answer::NoConnection => retry(ErrorReason::Connect),
            Answer::TimedOut => retry(ErrorReason::Timeout),
        };
        self.end_attempt(n, at, outcome);
        Ok(())
    }

    /// Every request is made.
    pub(super) fn conclude(&mut self, n: usize, at: usize, plan: usize) {
        match self.world.jobs[plan].later {
            None => self.end_attempt(n, at, Outcome::done()),
            Some(after) => {
                let Some(attempt) = &self.processes[n].workers[at].attempt else { return };
                let serial = attempt.serial;
                self.processes[n].hand_over(at);
                self.in_(after, Due::Completes { process: n, serial });
            }
        }
    }

    pub(super) fn complete(&mut self, n: usize, serial: u64) {
        if self.processes[n].is_frozen {
            return self.in_(Duration::from_millis(250), Due::Completes { process: n, serial });
        }
        let clock = Arc::clone(&self.clock);
        if let Some(job) = self.processes[n].complete(serial, &clock) {
            self.leave_work(job.token.job, serial);
        }
    }

    pub(super) fn leave_work(&mut self, job: JobRow, serial: u64) {
        if self.at_work.get(&job).is_some_and(|(_, at)| *at == serial) {
            self.at_work.remove(&job);
        }
    }

    pub(super) fn end_attempt(&mut self, n: usize, at: usize, outcome: Outcome) {
        let Some(attempt) = &self.processes[n].workers[at].attempt else { return };
        let (job, serial) = (attempt.job.token.job, attempt.serial);
        self.note(|| format!("p{n} #{serial} is over: {}", short(&outcome)));
        self.leave_work(job, serial);
        let clock = Arc::clone(&self.clock);
        self.processes[n].end_attempt(at, outcome, &clock);
    }

    /// Handlers that are cancelled end at once, but for the stubborn.
    pub(super) fn end_cancelled(&mut self, n: usize) -> Result<(), String> {
        for at in self.processes[n].cancelled().into_iter().rev() {
            let plan = self.plan_of(n, at);
            if self.world.jobs[plan].is_stubborn {
                continue;
            }
            let now = self.now();
            let worker = &mut self.processes[n].workers[at];
            let (Some(attempt), Some(reason)) = (&mut worker.attempt, worker.slot.cancel.reason())
            else {
                continue;
            };
            if let Some(Asking { key, permit, .. }) = attempt.asking.take() {
                self.oracle.ends(attempt.serial, &key, now);
                permit.end(now);
            }
            self.end_attempt(n, at, reason.outcome());
        }
        Ok(())
    }
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { .. } => "done".to_owned(),
        Outcome::Skipped { .. } => "skipped".to_owned(),
        Outcome::Retry { reason, .. } => format!("retry, {reason:?}"),
        Outcome::Fail { reason, .. } => format!("failed, {reason:?}"),
        Outcome::Defer { key, .. } => format!("deferred to {key}"),
    }
}
