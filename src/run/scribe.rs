//! Makes the turns of a dispatcher on a thread of its own.
//!
//! While a transaction is written and synced, the dispatcher goes on: it hears of attempts that end, passes on their permits and starts what is
//! held. The store goes along with each order and comes back with the report, so only one of the two can use it at
//! any time. A scribe must never decide anything.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::worker::Message;
use crate::job::{Leased, WallMs};
use crate::queue::store::{Owner, Settlement, Store, StoreError, Turn, TurnReport, Want};
use crate::share::KeyNews;

/// The most payload bytes leased in one turn.
pub(super) const MAX_TURN_PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// Who ran the attempt of a settlement, for the event after its commit.
pub(super) struct Origin {
    pub(super) job: Arc<Leased>,
    pub(super) worker: Option<usize>,
}

/// One turn to be made: see [`Turn`].
pub(super) struct Order {
    pub(super) owner: Arc<Owner>,
    pub(super) now: WallMs,
    pub(super) settle: Vec<Settlement>,
    /// Of the settlements; they come back with them.
    pub(super) origins: Vec<Origin>,
    pub(super) lease: Vec<Want>,
    pub(super) keys: Option<KeyNews>,
}

/// An order, and the store it is to be made with.
pub(super) type Errand = (Box<dyn Store>, Order);

/// A turn that was made, or failed.
pub(super) struct Made {
    pub(super) store: Box<dyn Store>,
    pub(super) order: Order,
    /// `Err`: what it panicked with.
    pub(super) report: Result<Result<TurnReport, StoreError>, Box<dyn Any + Send>>,
}

impl Order {
    /// Makes the turn here and now.
    pub(super) fn make(self, mut store: Box<dyn Store>) -> Made {
        let turn = Turn {
            owner: &self.owner,
            now: self.now,
            settle: &self.settle,
            lease: &self.lease,
            max_payload_bytes: MAX_TURN_PAYLOAD_BYTES,
            keys: self.keys.as_ref(),
        };
        let report = catch_unwind(AssertUnwindSafe(|| store.turn(&turn)));
        Made { store, order: self, report }
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("settle", &self.order.settle.len()).finish_non_exhaustive()
    }
}

/// The body of the thread: ends when there are no more orders to come.
pub(super) fn write(orders: &Receiver<Errand>, inbox: &Sender<Message>) {
    for (store, order) in orders {
        // A dispatcher that is gone has cancelled all it had.
        let _ = inbox.send(Message::TurnMade(Box::new(order.make(store))));
    }
}
