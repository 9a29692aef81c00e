//! The right to run one job, or make one request.
//!
//! Must never keep anything of what was refused, nor return slots before the tokens that whoever is told of them may look for.

use std::fmt;

use crate::job::{Key, LimitKey, Mono};

use super::Gate;
use super::bucket::NoToken;
use super::keyed::{Full, Slots};
use super::means::{Means, Tokens};

/// The right to run one job, or make one request, under one key. Dropping it returns its slots; its tokens are spent.
///
/// A token is spent when something [begins](Permit::begin) under it. Until then it is in hand: however long a job waits for its worker, no
/// more begin together than the rate allows.
pub struct Permit {
    slots: Slots,
    tokens: Tokens,
    /// For [`Permit::end`]; `None` for a key that nothing limits.
    gate: Option<Gate>,
    /// Whether a token was taken wherever there is a rate. If not, no request may be made under it as it is.
    is_paid: bool,
}

impl Permit {
    /// One of the slots alone.
    pub(super) fn unpaid(slots: Slots, gate: Option<Gate>) -> Permit {
        Permit { slots, tokens: Tokens::default(), gate, is_paid: false }
    }

    /// Adds the tokens. Where one lacks, the key that lacks it; what was taken before is to be [refunded](Permit::refund).
    pub(super) fn pay(&mut self, means: &Means, now: Mono) -> Result<(), (LimitKey, NoToken)> {
        // Those that are void, or are not all that are needed now.
        let _ = self.tokens.give_back();
        means.take_tokens(self.slots.key(), now, &mut self.tokens)?;
        self.is_paid = true;
        Ok(())
    }

    /// Whether it was paid for all rates that there are by now.
    pub(super) fn covers(&self, means: &Means) -> bool {
        self.is_paid && self.tokens.cover(means, self.slots.key())
    }

    pub(super) fn is_paid(&self) -> bool {
        self.is_paid
    }

    /// Whether it has the slots of its key.
    pub(super) fn has_slots(&self) -> bool {
        self.slots.are_there()
    }

    /// A part of its key of which more are out than there may be by now.
    pub(super) fn over(&self) -> Option<Full> {
        self.slots.over()
    }

    /// What it was given for begins at `now`: its tokens are spent. One that is void by then, for its interval has begun anew since it was
    /// taken, or others of its rate would begin too close to it, makes the permit [unpaid](Gate::redeem) again.
    pub fn begin(&mut self, now: Mono) {
        if !self.tokens.begin(now) {
            // Nobody is told: who waits for these tokens waits for their time.
            let _ = self.tokens.give_back();
            self.is_paid = false;
        }
    }

    /// Returns the permit that was refused its tokens as soon as it had its slots.
    pub(super) fn return_untouched(mut self) {
        self.slots.leave_untouched();
        self.refund();
    }

    /// The key it was given for.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.slots.key()
    }

    /// Returns the permit and its tokens: nothing was started under it.
    pub fn refund(mut self) {
        // Tokens first: who is told of the slot finds them there.
        let awaited = self.tokens.give_back();
        self.slots.also_tell(awaited);
    }

    /// Returns the permit after a request that ended at `now`: as dropping it, but where only one may run at a time and
    /// a rate is set, the rate's interval counts from here: that is how long such a server wants to be left alone (arXiv's
    /// three seconds, a crawl delay).
    pub fn end(self, now: Mono) {
        // Before the slots return: who is told of them finds the next token where it is.
        if let Some(gate) = self.gate.as_ref().filter(|_| self.is_paid) {
            gate.restart_lone_rates(&self.slots, now);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(self.key()).finish()
    }
}
