//! Owners' lives: registering, beating, retiring, and taking over from the dead.
//!
//! ```text
//!   its lock is free, or its directory is gone        dead
//!   its counter stood still for a whole lease         silent: stopped, or its machine is; dead to us
//!
//!   end its process groups -> free its leases, in steps -> strike out its row -> remove its files
//! ```
//!
//! The order matters: nobody may lease a job while a command of its dead owner still runs (invariant 7). A silent
//! owner keeps its directory, because it still holds its lock; it learns of its loss at its next beat.

use std::collections::{HashMap, HashSet};

use super::SqliteStore;
use super::batch::Batch;
use super::endings::{self, Parting};
use super::fault::{Fault, Worked};
use super::open;
use super::owner::{Lock, Owners, boot_id, io_error};
use super::settle;
use super::sql;
use crate::job::{
    Epoch, ErrorReason, Event, JobRow, LaneId, LeaseToken, Mono, Note, Reason, State, WallMs,
};
use crate::process;
use crate::queue::store::{Beat, Owner, RecoverTerms, Recovered, StoreError};

/// So many leases are freed in one transaction.
const MAX_FREED: usize = 4_096;

/// When this handle last saw an owner's counter change.
pub(super) type Beats = HashMap<i64, (i64, Mono)>;

/// An owner's row.
struct Known {
    row: i64,
    id: String,
    beat: i64,
    retired: bool,
}

/// Why an owner's leases are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its process is gone.
    Dead,
    /// It has not been heard of.
    Silent,
}

impl SqliteStore {
    /// See [`crate::queue::store::Store::register`].
    pub(super) fn register_owner(&mut self, now: WallMs) -> Result<Owner, StoreError> {
        let id = owner_id(now);
        // Held until the row is written: a sweep in between would find a directory that no row names.
        let _sweep = open::lock_upkeep(&self.shared.path)?;
        let directory = self.shared.owners.create(&id)?;
        let boot_id = boot_id();
        let written = self.write(|batch| {
            endings::note_boot(batch, boot_id.trim())?;
            let row = batch.conn.prepare_cached(sql::INSERT_OWNER)?.insert((&id, now.0))?;
            // Whoever was alone is not so any more.
            batch.known_to = Some(row);
            batch.ring_others();
            Ok(row)
        });
        match written {
            Ok(row) => Ok(Owner { row, id: id.into(), directory: Some(directory) }),
            Err(error) => {
                let _ = self.shared.owners.remove(&id);
                Err(error)
            }
        }
    }

    /// See [`crate::queue::store::Store::beat`].
    pub(super) fn raise_beat(&mut self, owner: &Owner) -> Result<Beat, StoreError> {
        let raised = self.write(|batch| batch.run(sql::BEAT, (owner.row, &*owner.id)))?;
        Ok(if raised == 1 { Beat::Alive } else { Beat::Lost })
    }

    /// See [`crate::queue::store::Store::retire`].
    pub(super) fn retire_owner(&mut self, owner: &Owner) -> Result<(), StoreError> {
        let key = (owner.row, &*owner.id);
        let gone = self.write(|batch| {
            if batch.run(sql::RETIRE, key)? == 0 {
                return Ok(false);
            }
            if !leases_of(batch, owner.row, 1)?.is_empty() {
                return Ok(false);
            }
            endings::free_shares(batch, owner.row, Parting::InOrder)?;
            Ok(batch.run(sql::DELETE_OWNER, key)? == 1)
        });
        let gone = gone.inspect_err(|_| self.shared.owners.resign(&owner.id))?;
        if gone { self.shared.owners.remove(&owner.id) } else { Ok(()) }
    }

    /// See [`crate::queue::store::Store::recover`].
    pub(super) fn recover_owners(
        &mut self,
        me: Option<&Owner>,
        terms: RecoverTerms,
    ) -> Result<Recovered, StoreError> {
        self.rebase_if_stale(terms)?;
        let known = self.known_owners()?;
        self.beats.retain(|row, _| known.iter().any(|owner| owner.row == *row));
        let mut recovered = Recovered::default();
        for owner in known.iter().filter(|owner| me.is_none_or(|me| me.row != owner.row)) {
            if let Some(end) = self.judge(owner, terms)? {
                self.bury(me, owner, end, terms, &mut recovered)?;
            }
        }
        self.sweep_files()?;
        self.see_to_records(terms)?;
        Ok(recovered)
    }

    fn known_owners(&mut self) -> Result<Vec<Known>, StoreError> {
        self.read(|conn, _| {
            let mut statement = conn.prepare_cached(sql::OWNERS)?;
            let rows = statement.query_map([], |row| {
                Ok(Known {
                    row: row.get(0)?,
                    id: row.get(1)?,
                    beat: row.get(2)?,
                    retired: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Whether an owner's leases may be taken, as far as this handle has seen.
    fn judge(&mut self, owner: &Known, terms: RecoverTerms) -> Result<Option<End>, StoreError> {
        if self.shared.owners.probe(&owner.id)? == Lock::Free {
            return Ok(Some(End::Dead));
        }
        let seen = self.beats.entry(owner.row).or_insert((owner.beat, terms.mono));
        if seen.0 != owner.beat {
            *seen = (owner.beat, terms.mono);
            return Ok(None);
        }
        let still_for_ms = terms.mono.since(seen.1).as_millis();
        Ok((still_for_ms >= u128::from(terms.lease_ttl_ms)).then_some(End::Silent))
    }

    /// Frees what a dead owner held and forgets it, unless it turns out to live, or another was faster.
    fn bury(
        &mut self,
        me: Option<&Owner>,
        owner: &Known,
        end: End,
        terms: RecoverTerms,
        recovered: &mut Recovered,
    ) -> Result<(), StoreError> {
        let directory = self.shared.owners.directory(&owner.id);
        process::end_recorded_groups(&directory)
            .map_err(io_error("end the commands recorded in", &directory))?;
        loop {
            let shared = std::sync::Arc::clone(&self.shared);
            let step = self.write(|batch| {
                batch.known_to = me.map(|me| me.row);
                free_some(batch, &shared.owners, owner, end, terms)
            })?;
            match step {
                Step::Alive | Step::Gone => return Ok(()),
                Step::Freed(freed) => freed.add_to(recovered),
                Step::Last(freed) => {
                    freed.add_to(recovered);
                    recovered.owners.push(owner.id.as_str().into());
                    break;
                }
            }
        }
        self.beats.remove(&owner.row);
        match end {
            End::Dead => self.shared.owners.remove(&owner.id),
            End::Silent => Ok(()),
        }
    }

    /// Removes directories that no row names and whose lock is free: left by an owner that died while registering,
    /// or by a silent one that ended later.
    fn sweep_files(&mut self) -> Result<(), StoreError> {
        let Some(_sweep) = open::try_lock_upkeep(&self.shared.path)? else { return Ok(()) };
        let present = self.shared.owners.list()?;
        if present.is_empty() {
            return Ok(());
        }
        let known = self.known_owners()?;
        let named: HashSet<&str> = known.iter().map(|owner| owner.id.as_str()).collect();
        for id in present.iter().filter(|id| !named.contains(id.as_str())) {
            if self.shared.owners.probe(id)? == Lock::Free {
                let directory = self.shared.owners.directory(id);
                process::end_recorded_groups(&directory)
                    .map_err(io_error("end the commands recorded in", &directory))?;
                self.shared.owners.remove(id)?;
            }
        }
        Ok(())
    }
}

/// A random id that sorts by time, as text: UUID version 7 (RFC 9562, section 5.7).
fn owner_id(now: WallMs) -> String {
    let millis = u64::try_from(now.0).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid().to_string()
}

/// How many jobs were freed, and how.
#[derive(Debug, Default)]
struct Freed {
    requeued: u64,
    crashed: u64,
    handed_back: u64,
}

impl Freed {
    fn add_to(&self, recovered: &mut Recovered) {
        recovered.requeued += self.requeued;
        recovered.crashed += self.crashed;
        recovered.handed_back += self.handed_back;
    }
}

/// What one transaction of a burial came to.
enum Step {
    /// The owner has been heard of after all.
    Alive,
    /// Another process has buried it.
    Gone,
    /// Some leases were freed; there may be more.
    Freed(Freed),
    /// The last were freed, and the owner's row is gone.
    Last(Freed),
}

/// Frees some leases of an owner that is still dead now that the write lock is held.
fn free_some(
    batch: &mut Batch<'_>,
    owners: &Owners,
    owner: &Known,
    end: End,
    terms: RecoverTerms,
) -> Worked<Step> {
    match batch.number(sql::OWNER, (owner.row, &owner.id))? {
        None => return Ok(Step::Gone),
        Some(beat) if end == End::Silent && beat != owner.beat => return Ok(Step::Alive),
        Some(_) => {}
    }
    if end == End::Dead && owners.probe(&owner.id).map_err(Fault::Store)? == Lock::Held {
        return Ok(Step::Alive);
    }
    let in_good_order = owner.retired || owners.has_resigned(&owner.id);
    let leases = leases_of(batch, owner.row, MAX_FREED)?;
    let mut freed = Freed::default();
    for (token, lane) in &leases {
        let lease = (token.job.0, token.epoch.0, owner.row);
        batch.changed_one(batch.run(sql::RELEASE, lease)?, token.job)?;
        if in_good_order {
            take_back(batch, *token)?;
            freed.handed_back += 1;
        } else if lose(batch, *token, *lane, terms)? == State::Error {
            freed.crashed += 1;
        } else {
            freed.requeued += 1;
        }
    }
    if leases.len() == MAX_FREED {
        return Ok(Step::Freed(freed));
    }
    let parting = if owner.retired { Parting::InOrder } else { Parting::Found(terms.mono) };
    endings::free_shares(batch, owner.row, parting)?;
    batch.run(sql::DELETE_OWNER, (owner.row, &owner.id))?;
    Ok(Step::Last(freed))
}

fn leases_of(batch: &Batch<'_>, owner: i64, limit: usize) -> Worked<Vec<(LeaseToken, LaneId)>> {
    let mut statement = batch.conn.prepare_cached(sql::LEASES_OF)?;
    let rows = statement.query_map((owner, limit), |row| {
        let token = LeaseToken { job: JobRow(row.get(0)?), epoch: Epoch(row.get(1)?) };
        Ok((token, LaneId(row.get(2)?)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Back as it was: its owner had ended in good order.
fn take_back(batch: &mut Batch<'_>, token: LeaseToken) -> Worked<()> {
    State::InProgress.next(Event::HandBack)?;
    let past = batch.begun(token.job)?;
    batch.changed_one(batch.run(sql::TAKE_BACK, (token.job.0, token.epoch.0))?, token.job)?;
    batch.make_ready(past.spot(token.epoch.next()));
    Ok(())
}

/// One more owner died holding the job; the state it is in now.
fn lose(
    batch: &mut Batch<'_>,
    token: LeaseToken,
    lane: LaneId,
    terms: RecoverTerms,
) -> Worked<State> {
    let past = batch.begun(token.job)?;
    let losses = past.losses.saturating_add(1);
    let found = (terms.now, 0);
    let crashed = losses >= terms.max_job_losses;
    let event = if crashed { Event::Crash } else { Event::Lose };
    let state = State::InProgress.next(event)?;
    let reason = crashed.then_some(Reason::Error(ErrorReason::Crashed));
    let values = (token.job.0, token.epoch.0, state.code(), reason.map(Reason::code), terms.now.0);
    batch.changed_one(batch.run(sql::LOSE, values)?, token.job)?;
    if crashed {
        let note = Note::new(format!("its process died {losses} times while holding it"));
        batch.tally.queued(lane, -1);
        batch.tally.finished(lane, state, reason, 1);
        settle::set_result(batch, token.job, &note)?;
        settle::tell_of(batch, token, "crashed", reason, &note.message, found)?;
    } else {
        let message = "its process died while holding it";
        settle::tell_of(batch, token, "lost", None, message, found)?;
        batch.make_ready(past.spot(token.epoch.next()));
    }
    Ok(state)
}
