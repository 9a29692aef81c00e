//! How attempts and runs end before their time: deadlines, stuck workers, the two phases of a stop.

use std::sync::Arc;
use std::time::Duration;

use super::{Dispatcher, Phase};
use crate::handler::{CancelReason, MachineFault};
use crate::job::{Change, Leased, Mono};
use crate::queue::store::{RecoverTerms, Settlement};
use crate::run::event::{Event, StopPhase};
use crate::run::report::RunError;
use crate::run::scribe::Origin;
use crate::run::stop::{StopCause, StopRequest};
use crate::run::worker::{Assigned, Message, Slot};

/// How long a cancelled attempt may take to return before its worker is replaced, or left behind at the end.
pub(super) const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// The same after a second signal.
const CANCEL_GRACE_NOW: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Cancels attempts past their deadline; replaces workers that do not come back.
    pub(super) fn check_deadlines(&mut self, now: Mono) {
        if self.earliest_deadline.is_none_or(|earliest| now < earliest) {
            return;
        }
        let mut next: Option<Mono> = None;
        let mut seen = 0;
        let mut stuck = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            let mut current = slot.current.lock();
            let Some(current) = current.as_mut().filter(|current| !current.abandoned) else {
                continue;
            };
            seen += 1;
            let check = match current.cancelled_at {
                Some(cancelled) => cancelled.plus(CANCEL_GRACE),
                None if now >= current.deadline => {
                    current.cancelled_at = Some(now);
                    slot.cancel.cancel(CancelReason::Deadline);
                    self.shared.listener.on(&Event::DeadlinePassed {
                        token: current.job.token,
                        artifact_id: current.job.artifact_id.as_str(),
                        worker: slot.index,
                    });
                    now.plus(CANCEL_GRACE)
                }
                None => current.deadline,
            };
            if check <= now {
                stuck.push(at);
            } else {
                next = Some(next.map_or(check, |earliest| earliest.min(check)));
            }
        }
        // In the channel, or just taken from it: their deadlines are not known yet, but the shortest timeout is a second.
        let unseen = (self.busy > seen).then(|| now.plus(Duration::from_secs(1)));
        self.earliest_deadline = [next, unseen].into_iter().flatten().min();
        for at in stuck {
            self.replace(at, now);
        }
    }

    /// The slot stays with the thread that is stuck in it; a new thread gets a new one.
    pub(super) fn replace(&mut self, at: usize, now: Mono) {
        let index = self.slots.iter().map(|slot| slot.index).max().unwrap_or(0) + 1;
        let Ok(slot) = Slot::new(index).map(Arc::new) else {
            // No descriptors left: one worker fewer until the stuck one returns, or some are free.
            return self.look_at_workers_by(now.plus(CANCEL_GRACE));
        };
        {
            let mut current = self.slots[at].current.lock();
            // It may have come back meanwhile, and even have begun another.
            let Some(current) = current.as_mut().filter(|current| current.cancelled_at.is_some())
            else {
                return;
            };
            current.abandoned = true;
        }
        let stuck = std::mem::replace(&mut self.slots[at], Arc::clone(&slot));
        self.busy -= 1;
        self.replacements.push(slot);
        self.shared.listener.on(&Event::WorkerReplaced { stuck: stuck.index, replacement: index });
    }

    pub(super) fn cancel_all(&self, reason: CancelReason, now: Mono) {
        for slot in &self.slots {
            slot.cancel(reason, now);
        }
    }

    /// Sees to it that stuck workers are looked for at that time.
    pub(super) fn look_at_workers_by(&mut self, at: Mono) {
        let earliest = self.earliest_deadline.map_or(at, |earliest| earliest.min(at));
        self.earliest_deadline = Some(earliest);
    }

    pub(super) fn begin_stop(&mut self, request: StopRequest) {
        let now = self.shared.clock.mono();
        self.stop.get_or_insert(request.cause);
        self.begin_draining(now);
        if request.now {
            self.begin_cancelling(now, CANCEL_GRACE_NOW);
        }
    }

    /// Stops in good order, for the run would do no better with any other job.
    pub(super) fn give_up(&mut self, fault: MachineFault) {
        self.fault.get_or_insert(fault);
        self.begin_draining(self.shared.clock.mono());
    }

    fn begin_draining(&mut self, now: Mono) {
        if self.phase == Phase::Running {
            self.hand_back_unstarted();
            self.phase = Phase::Draining { until: now.plus(self.options.shutdown) };
            self.tell_stopping(StopPhase::Draining);
        }
    }

    pub(super) fn begin_cancelling(&mut self, now: Mono, grace: Duration) {
        let until = now.plus(grace);
        if let Phase::Cancelling { until: earlier } = self.phase
            && earlier <= until
        {
            return;
        }
        self.phase = Phase::Cancelling { until };
        self.cancel_all(CancelReason::Stop, now);
        self.tell_stopping(StopPhase::Cancelling);
    }

    pub(super) fn tell_stopping(&self, phase: StopPhase) {
        self.shared.listener.on(&Event::Stopping { phase, running: self.in_flight });
    }

    pub(super) fn hand_back_unstarted(&mut self) {
        for job in self.take_unstarted() {
            self.hand_back(job);
        }
    }

    /// Takes back every leased job that no worker has begun, from the channel and from the frontier.
    pub(super) fn take_unstarted(&mut self) -> Vec<Arc<Leased>> {
        let mut jobs = Vec::new();
        while let Ok(Assigned { job, permit, .. }) = self.unstarted.try_recv() {
            permit.refund();
            self.busy -= 1;
            self.over(&job);
            jobs.push(job);
        }
        for job in self.frontier.take_held() {
            self.wary -= usize::from(self.is_wary(&job));
            jobs.push(job);
        }
        jobs
    }

    pub(super) fn hand_back(&mut self, job: Arc<Leased>) {
        self.settlements.push(Settlement {
            token: job.token,
            change: Change::HandBack,
            started_at: self.shared.clock.wall(),
            elapsed_ms: 0,
        });
        self.origins.push(Origin { job, worker: None });
    }

    pub(super) fn check_phase(&mut self, now: Mono) {
        let expired =
            |limit: Option<Duration>| limit.is_some_and(|limit| now.since(self.began) >= limit);
        match self.phase {
            Phase::Running if expired(self.options.max_runtime) => {
                self.begin_stop(StopRequest { cause: StopCause::MaxRuntime, now: false });
            }
            Phase::Draining { until } if now >= until && self.in_flight > 0 => {
                self.begin_cancelling(now, CANCEL_GRACE);
            }
            _ => {}
        }
    }

    /// Whether the run is over: stopped and quiet, or drained.
    pub(super) fn is_over(&mut self, now: Mono) -> Result<bool, RunError> {
        let quiet = self.in_flight == 0 && self.settlements.is_empty() && self.frontier.held() == 0;
        match self.phase {
            Phase::Cancelling { until } if now >= until => return Ok(self.settlements.is_empty()),
            Phase::Draining { .. } | Phase::Cancelling { .. } => return Ok(quiet),
            Phase::Running if !(quiet && self.options.drain) || self.bell => return Ok(false),
            Phase::Running => {}
        }
        if self.retry_turn_at.is_some() {
            return Ok(false);
        }
        let Some(store) = &mut self.store else { return Ok(false) };
        let left = match store.remaining(&self.owner, &self.kinds) {
            Ok(left) => left,
            Err(error) => return self.trouble(error, now).map(|()| false),
        };
        if left.ready {
            // Parked by a rate, or come since the last look: the latter is found by looking again.
            if self.frontier.lanes() == 0 {
                self.rescan();
                self.bell = true;
            }
            return Ok(false);
        }
        let is_over = !(left.delayed_retry && self.options.wait_retries);
        if is_over && left.leased_elsewhere > 0 && self.takes_over(now)? {
            return Ok(false);
        }
        self.decided_by = Some(left).filter(|_| is_over);
        Ok(is_over)
    }

    /// Whether a process was found dead: what it had is to be done before a drain is over. The heartbeat thread looks for such once in a
    /// second, and may have done so just before one died.
    fn takes_over(&mut self, now: Mono) -> Result<bool, RunError> {
        let terms = RecoverTerms {
            now: self.shared.clock.wall(),
            mono: now,
            lease_ttl_ms: u64::try_from(self.options.lease_ttl.as_millis()).unwrap_or(u64::MAX),
            max_job_losses: self.options.max_job_losses,
        };
        let Some(store) = &mut self.store else { return Ok(false) };
        match store.recover(Some(&self.owner), terms) {
            Ok(recovered) if recovered.owners.is_empty() => Ok(false),
            Ok(recovered) => {
                self.take(Message::Recovered(recovered));
                Ok(true)
            }
            Err(error) => self.trouble(error, now).map(|()| true),
        }
    }
}
