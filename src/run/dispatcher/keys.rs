//! What this process and the others tell each other of their limits, carried by the turns.
//!
//! The gate knows what is to be said and what an answer means; here it is only seen to that every turn takes it along, that
//! something urgent makes a turn, and that nothing that others must know is lost with a turn that failed.

use super::Dispatcher;
use crate::job::Mono;
use crate::queue::store::{Declared, StoreError, Turn};
use crate::run::event::Event;
use crate::run::report::RunError;
use crate::run::scribe::MAX_TURN_PAYLOAD_BYTES;
use crate::run::worker::Assigned;
use crate::share::{KeyNews, KeyReply};

impl Dispatcher {
    /// Says what this process was configured with, and hears how all keys stand: nothing that is limited starts before.
    pub(super) fn introduce(&mut self, now: Mono) -> Result<(), RunError> {
        match self.try_introduce(now) {
            Ok(()) => {
                self.is_new = false;
                Ok(())
            }
            Err(error) => self.trouble(error, now),
        }
    }

    fn try_introduce(&mut self, now: Mono) -> Result<(), StoreError> {
        let (per_host, by_key) = self.shared.gate.configured();
        let declared = Declared { per_host, by_key, process: Some(std::process::id()) };
        if let Some(store) = &mut self.store {
            store.declare(&self.owner, &declared)?;
        }
        self.exchange(now)
    }

    /// A turn for the sake of the limits alone. Changed records come in pages, and the first words of an owner are not
    /// all said in one turn: those that follow at once are turns of their own.
    fn exchange(&mut self, now: Mono) -> Result<(), StoreError> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let Some(news) = self.shared.gate.news(now) else { return Ok(()) };
        let turn = Turn {
            owner: &self.owner,
            now: self.shared.clock.wall(),
            settle: &[],
            lease: &[],
            max_payload_bytes: MAX_TURN_PAYLOAD_BYTES,
            keys: Some(&news),
        };
        match store.turn(&turn) {
            Ok(report) => {
                self.tally.owner_lost |= report.owner_lost;
                // Such a turn makes jobs due like any other: a scan finds them.
                self.more_due = true;
                if !report.ready.is_empty() {
                    self.rescan();
                }
                self.learn(Some(news), report.keys);
                Ok(())
            }
            Err(error) => {
                self.untold(Some(news));
                Err(error)
            }
        }
    }

    /// Takes in what was answered; of an owner that was lost, nothing was: it will start anew.
    pub(super) fn learn(&mut self, news: Option<KeyNews>, reply: Option<KeyReply>) {
        match (news, reply) {
            (_, Some(reply)) => self.shared.gate.learn(reply, self.shared.clock.mono()),
            (news, None) => self.untold(news),
        }
    }

    /// Permits that other processes wait for are not kept for jobs that wait for a worker: those that were assigned go back to the queue.
    pub(super) fn give_up_awaited(&mut self) {
        if !self.shared.gate.is_anything_awaited() {
            return;
        }
        if self.room() == 0 {
            self.frontier.give_up(|key| self.shared.gate.is_awaited(key));
        }
        if self.busy <= self.options.workers {
            return;
        }
        self.ahead = 0;
        let mut kept = Vec::new();
        while let Ok(assigned) = self.unstarted.try_recv() {
            if !self.shared.gate.is_awaited(assigned.permit.key()) {
                kept.push(assigned);
                continue;
            }
            let Assigned { job, permit, .. } = assigned;
            permit.refund();
            self.busy -= 1;
            self.over(&job);
            self.hand_back(job);
        }
        for assigned in kept {
            // There is as much room as before.
            let _ = self.jobs.send(assigned);
        }
    }

    /// A turn failed: what it would have told is told with the next.
    pub(super) fn untold(&mut self, news: Option<KeyNews>) {
        if let Some(news) = news {
            self.shared.gate.untold(news);
        }
    }

    /// Tells listeners of breakers that opened, half-opened or closed.
    pub(super) fn tell_transitions(&mut self, now: Mono) {
        for (key, transition) in self.shared.gate.transitions(now) {
            let wall = self.shared.clock.wall();
            self.shared.listener.on(&Event::breaker(&key, transition, now, wall));
        }
    }

    /// The last word of an owner that ends in good order, for the sake of those that come after: where its buckets stand, and what
    /// it has heard. What cannot be written now costs them a moment's caution.
    pub(super) fn take_leave(&mut self, now: Mono) {
        self.tell_transitions(now);
        if !self.tally.owner_lost && self.fault.is_none() {
            let _ = self.exchange(now);
        }
    }
}
