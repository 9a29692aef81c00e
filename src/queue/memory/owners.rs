//! Owners: who holds leases, how they are judged dead, and what becomes of what they held.

use std::collections::BTreeMap;

use super::keys::End;
use super::model::{Job, Model, Place, Verdict};
use crate::job::{ErrorReason, Event, FinalState, JobRow, Mono, Note, Reason, State};
use crate::queue::store::{Beat, Declared, Owner, RecoverTerms, Recovered};

#[derive(Debug)]
pub(super) struct OwnerState {
    pub(super) id: Box<str>,
    /// Raised by every heartbeat.
    beats: u64,
    retired: bool,
    /// Its process is gone.
    killed: bool,
    /// It divides by itself.
    pub(super) is_sole: bool,
    /// What its process was configured with.
    pub(super) declared: Option<Declared>,
    /// The change of what owners declared that it was last told of.
    pub(super) heard: u64,
}

impl Model {
    pub(super) fn register(&mut self) -> Owner {
        self.last_owner += 1;
        let row = self.last_owner;
        let id: Box<str> = format!("memory-{row}").into();
        let state = OwnerState {
            id: id.clone(),
            beats: 0,
            retired: false,
            killed: false,
            is_sole: false,
            declared: None,
            heard: 0,
        };
        self.owners.insert(row, state);
        self.ring_all_but(row);
        Owner { row, id, directory: None }
    }

    /// Whether its word still counts: it was neither buried nor retired.
    pub(super) fn is_registered(&self, owner: &Owner) -> bool {
        self.owners.get(&owner.row).is_some_and(|known| known.id == owner.id && !known.retired)
    }

    pub(super) fn owner_rows(&self) -> Vec<i64> {
        self.owners.keys().copied().collect()
    }

    pub(super) fn beat(&mut self, owner: &Owner) -> Beat {
        match self.owners.get_mut(&owner.row) {
            Some(known) if known.id == owner.id => {
                known.beats += 1;
                Beat::Alive
            }
            _ => Beat::Lost,
        }
    }

    pub(super) fn retire(&mut self, owner: &Owner) {
        if !self.is_registered(owner) {
            return;
        }
        if self.held_by(owner.row).is_empty() {
            self.free_shares(owner.row, End::InOrder);
            self.owners.remove(&owner.row);
        } else if let Some(known) = self.owners.get_mut(&owner.row) {
            known.retired = true;
        }
    }

    pub(super) fn kill_owner(&mut self, owner: &Owner) {
        if let Some(known) = self.owners.get_mut(&owner.row) {
            known.killed = true;
        }
    }

    fn held_by(&self, owner: i64) -> Vec<JobRow> {
        self.leased.iter().filter(|(_, by)| **by == owner).map(|(row, _)| *row).collect()
    }

    pub(super) fn recover(
        &mut self,
        me: Option<&Owner>,
        terms: RecoverTerms,
        seen: &mut BTreeMap<i64, (u64, Mono)>,
    ) -> Recovered {
        seen.retain(|owner, _| self.owners.contains_key(owner));
        let dead: Vec<i64> = self
            .owners
            .iter()
            .filter(|(row, _)| me.is_none_or(|me| me.row != **row))
            .filter(|(row, owner)| owner.killed || is_silent(**row, owner.beats, terms, seen))
            .map(|(row, _)| *row)
            .collect();
        let mut recovered = Recovered::default();
        for row in dead {
            self.bury(row, terms, &mut recovered);
        }
        recovered
    }

    /// Frees what a dead owner held, and forgets it.
    fn bury(&mut self, owner: i64, terms: RecoverTerms, recovered: &mut Recovered) {
        let held = self.held_by(owner);
        let retired = self.owners.get(&owner).is_some_and(|owner| owner.retired);
        self.free_shares(owner, if retired { End::InOrder } else { End::Found(terms.mono) });
        let Some(dead) = self.owners.remove(&owner) else { return };
        for row in held {
            self.change(row, |job| {
                if dead.retired {
                    hand_back(job);
                    recovered.handed_back += 1;
                } else if lose(job, terms) == State::Error {
                    recovered.crashed += 1;
                } else {
                    recovered.requeued += 1;
                }
            });
        }
        recovered.owners.push(dead.id);
    }
}

/// Whether this observer has seen the owner's counter unchanged for the whole of a lease.
fn is_silent(
    owner: i64,
    beats: u64,
    terms: RecoverTerms,
    seen: &mut BTreeMap<i64, (u64, Mono)>,
) -> bool {
    let (known, since) = *seen.entry(owner).or_insert((beats, terms.mono));
    if known != beats {
        seen.insert(owner, (beats, terms.mono));
        return false;
    }
    terms.mono.since(since).as_millis() >= u128::from(terms.lease_ttl_ms)
}

fn hand_back(job: &mut Job) {
    job.give_attempt_back();
    job.epoch = job.epoch.next();
    job.go(Event::HandBack, Place::Ready);
}

/// One more owner died holding the job; the state it is in now.
fn lose(job: &mut Job, terms: RecoverTerms) -> State {
    job.give_attempt_back();
    job.losses += 1;
    job.changed_at = terms.now;
    let found = (terms.now, 0);
    if job.losses >= terms.max_job_losses {
        let reason = Reason::Error(ErrorReason::Crashed);
        let note = Note::new(format!("its process died {} times while holding it", job.losses));
        job.tell("crashed", Some(reason), &note.message, found);
        job.verdict = Some(Verdict { reason, note });
        job.go(Event::Crash, Place::Finished(FinalState::Error));
    } else {
        job.tell("lost", None, "its process died while holding it", found);
        job.go(Event::Lose, Place::Ready);
    }
    job.epoch = job.epoch.next();
    job.state()
}
