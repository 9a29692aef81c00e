//! So many at once under each key.
//!
//! Must never let more permits out than a key's limit, remember a key that nobody uses and nobody set a limit
//! on, or hold its lock while calling out.

use std::fmt;

use crate::job::{Key, LimitKey};

use super::by_key::{ByKey, Part, PerPart, parts};
use super::sync::{Arc, Mutex};

/// Called with a key whose permit returned: see [`KeyedLimiter::on_release`].
type Hook = Arc<dyn Fn(&LimitKey) + Send + Sync>;

/// Counts permits per resolver and per host. Clones share one state.
///
/// Keys are compared as they are: they must be normalised, as [`Key::new`] makes them.
///
/// One lock guards the table; it is held for a few look-ups and never while anything else is called. A key with
/// neither resolver nor host takes no lock at all.
#[derive(Clone)]
pub struct KeyedLimiter {
    shared: Arc<Shared>,
}

/// The slots of one [`Key`], its resolver's and its host's. Dropping it returns them.
pub struct Slots {
    key: Key,
    /// Where they return to; `None` for a key that nothing limits.
    shared: Option<Arc<Shared>>,
    /// Whom to tell when they return, whether or not the slots themselves refused somebody.
    also_tell: PerPart<bool>,
    /// They were not used at all: that they return is nothing that anybody waits to hear of.
    is_untouched: bool,
}

/// Every slot of a key is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{running} of {limit} running at {on}")]
pub struct Full {
    /// The key that refused: the first in the order resolver, host.
    pub on: LimitKey,
    /// Permits out.
    pub running: u32,
    /// Permits there are.
    pub limit: u32,
}

/// A key with permits out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// Which.
    pub key: LimitKey,
    /// Permits out; at least 1.
    pub running: u32,
    /// Permits there are; `None`: unlimited.
    pub limit: Option<u32>,
}

struct Shared {
    table: Mutex<Table>,
    hook: Mutex<Option<Hook>>,
}

struct Table {
    per_host: Option<u32>,
    /// A store grants what there is: nothing, unless an entry says so.
    is_divided: bool,
    entries: ByKey<Entry>,
}

/// How many permits there are of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Allowance {
    /// As many as there are for its kind.
    #[default]
    Default,
    /// Any number.
    Unlimited,
    /// So many.
    AtMost(u32),
}

/// What is known of one key. An entry that knows nothing is removed.
#[derive(Default)]
struct Entry {
    running: u32,
    /// What was said of this very key.
    allowance: Allowance,
    /// Somebody was refused since a slot last returned, and is to be told of the next one.
    refused: bool,
    /// Others wait for its slots, in other processes: the hook is to hear of each that returns.
    is_awaited: bool,
}

impl KeyedLimiter {
    /// A limiter of `per_host` permits for every host (`None`: unlimited) and unlimited ones for every resolver, but for
    /// those that [`KeyedLimiter::set`] names.
    #[must_use]
    pub fn new(per_host: Option<u32>) -> KeyedLimiter {
        let table = Table { per_host, is_divided: false, entries: ByKey::default() };
        KeyedLimiter {
            shared: Arc::new(Shared { table: Mutex::new(table), hook: Mutex::new(None) }),
        }
    }

    /// Has `hook` called, in place of any other, with each key that has refused somebody since its last release, when
    /// one of its slots returns or its limit is raised so far that there is one. No lock is held: it may call this
    /// limiter.
    ///
    /// It is called once however many were refused and however many slots return before the next refusal. So
    /// whoever is told must try until refused (or out of work), not once; and, since the hook may come before a refused
    /// caller has begun to wait, it must leave a mark that the caller finds.
    pub fn on_release(&self, hook: impl Fn(&LimitKey) + Send + Sync + 'static) {
        *self.shared.hook.lock() = Some(Arc::new(hook));
    }

    /// The slots of `key`: all or none.
    ///
    /// # Errors
    /// [`Full`] naming the first key without a free slot.
    pub fn try_acquire(&self, key: &Key) -> Result<Slots, Full> {
        let shared = if key.is_free() {
            None
        } else {
            self.shared.table.lock().claim_all(key)?;
            Some(Arc::clone(&self.shared))
        };
        Ok(Slots { key: key.clone(), shared, also_tell: [false; 2], is_untouched: false })
    }

    /// Limits `key` to `limit` permits (0: none at all); `None`: to the default of its kind. Permits that are out stay
    /// out. Returns whether the hook was called.
    pub fn set(&self, key: &LimitKey, limit: Option<u32>) -> bool {
        let tell = self.set_untold(key, limit);
        if tell {
            self.tell(key);
        }
        tell
    }

    /// The same, but leaves it to the caller to call the hook. Returns whether it is to be.
    #[must_use]
    fn set_untold(&self, key: &LimitKey, limit: Option<u32>) -> bool {
        let allowance = limit.map_or(Allowance::Default, Allowance::AtMost);
        self.allow(key, allowance, false)
    }

    /// Says how many permits there are of `key`, and whether others wait for its slots; leaves it to the caller to call the
    /// hook. Returns whether it is to be.
    #[must_use]
    pub(super) fn allow(&self, key: &LimitKey, allowance: Allowance, is_awaited: bool) -> bool {
        self.shared.table.lock().set(key.into(), allowance, is_awaited)
    }

    /// From now on a store grants what there is: of each key, no more than is out. Returns what is out.
    pub(super) fn divide(&self) -> Vec<InUse> {
        let mut table = self.shared.table.lock();
        table.is_divided = true;
        table.entries.for_each(|_, entry| {
            let running = entry.running;
            entry.allowance =
                if running == 0 { Allowance::Default } else { Allowance::AtMost(running) };
            entry.is_awaited = false;
        });
        table.entries.retain(|entry| !entry.is_idle());
        table.in_use()
    }

    /// From now on there is what `allowances` says of each key it names, and of others the default of their kind. Returns
    /// who was refused and is to be told.
    #[must_use]
    pub(super) fn reunite(&self, allowances: &[(LimitKey, Allowance)]) -> Vec<LimitKey> {
        let mut table = self.shared.table.lock();
        table.is_divided = false;
        table.entries.for_each(|_, entry| {
            (entry.allowance, entry.is_awaited) = (Allowance::Default, false);
        });
        let mut told = Vec::new();
        for (key, allowance) in allowances {
            table.update(key.into(), |entry, _| entry.allowance = *allowance);
        }
        table.entries.for_each(|part, entry| {
            if std::mem::take(&mut entry.refused) {
                told.push(part.to_limit_key());
            }
        });
        table.entries.retain(|entry| !entry.is_idle());
        told
    }

    /// Gives up free slots of `key`, down to `least` or what is out. Returns how many there are then.
    pub(super) fn give_up(&self, key: &LimitKey, least: u32) -> u32 {
        let mut table = self.shared.table.lock();
        table.update(key.into(), |entry, _| {
            let kept = entry.running.max(least);
            if let Allowance::AtMost(most) = &mut entry.allowance {
                *most = (*most).min(kept);
            }
            kept
        })
    }

    /// Permits of one key that are out.
    pub(super) fn running(&self, key: &LimitKey) -> u32 {
        self.shared.table.lock().standing(key.into()).1
    }

    /// How many permits there are for `key` now; `None`: unlimited.
    #[must_use]
    pub fn free(&self, key: &Key) -> Option<u32> {
        self.tightest(key, |limit, running| limit.saturating_sub(running))
    }

    /// The tightest limit on `key`; `None`: unlimited.
    #[must_use]
    pub fn max_concurrent(&self, key: &Key) -> Option<u32> {
        self.tightest(key, |limit, _| limit)
    }

    /// The limit on one key; `None`: unlimited.
    #[must_use]
    pub fn limit(&self, key: &LimitKey) -> Option<u32> {
        self.shared.table.lock().standing(key.into()).0
    }

    /// Every key with permits out, in no order.
    #[must_use]
    pub fn in_use(&self) -> Vec<InUse> {
        self.shared.table.lock().in_use()
    }

    /// Whether any key has permits out.
    pub(super) fn is_in_use(&self) -> bool {
        self.shared.table.lock().entries.iter().any(|(_, entry)| entry.running > 0)
    }

    /// Calls the hook, if there is one.
    pub(super) fn tell(&self, key: &LimitKey) {
        self.shared.tell(key);
    }

    /// The least `measure(limit, running)` over the limited parts of `key`.
    fn tightest(&self, key: &Key, measure: impl Fn(u32, u32) -> u32) -> Option<u32> {
        if key.is_free() {
            return None;
        }
        let table = self.shared.table.lock();
        let measures = parts(key).into_iter().flatten().filter_map(|part| {
            let (limit, running) = table.standing(part);
            limit.map(|limit| measure(limit, running))
        });
        measures.min()
    }

    /// How many keys are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.shared.table.lock().entries.iter().count()
    }
}

impl fmt::Debug for KeyedLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiter").field("in_use", &self.in_use()).finish()
    }
}

impl Slots {
    /// No slots at all of that key: nothing is going to be asked under it.
    pub(super) fn none(key: &Key) -> Slots {
        Slots { key: key.clone(), shared: None, also_tell: [false; 2], is_untouched: false }
    }

    /// Whether there are any, where the key has something to be limited by.
    pub(super) fn are_there(&self) -> bool {
        self.shared.is_some() || self.key.is_free()
    }

    /// The key they were given for.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The limits on each part, as they are now.
    pub(super) fn limits(&self) -> PerPart<Option<u32>> {
        let Some(shared) = &self.shared else { return [None; 2] };
        let table = shared.table.lock();
        parts(&self.key).map(|part| table.standing(part?).0)
    }

    /// They return as they came: whoever is refused a token each time it asks would otherwise wake itself for ever.
    pub(super) fn leave_untouched(&mut self) {
        self.is_untouched = true;
    }

    /// A part of which more are out than its limit, if there is one: it was lowered since.
    pub(super) fn over(&self) -> Option<Full> {
        let table = self.shared.as_ref()?.table.lock();
        parts(&self.key).into_iter().flatten().find_map(|part| {
            let (limit, running) = table.standing(part);
            let limit = limit.filter(|limit| running > *limit)?;
            Some(Full { on: part.to_limit_key(), running, limit })
        })
    }

    /// Has the hook called for these parts too when the slots return: something else that they wait for did.
    pub(super) fn also_tell(&mut self, tell: PerPart<bool>) {
        for (mark, tell) in self.also_tell.iter_mut().zip(tell) {
            *mark |= tell;
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        let refused = shared.table.lock().release_all(&self.key, self.is_untouched);
        let told = parts(&self.key).into_iter().zip(refused).zip(self.also_tell);
        // The host first. Who waits for the resolver is refused before it could ask for the host: were it told first, it
        // would take both each time, and who waits for the host alone would never have its turn.
        for ((part, refused), also) in told.rev() {
            if let Some(part) = part.filter(|_| refused || also) {
                shared.tell(&part.to_limit_key());
            }
        }
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slots").field(&self.key).finish()
    }
}

impl Shared {
    fn tell(&self, key: &LimitKey) {
        // Cloned in a statement of its own: the lock must be free again when the hook runs.
        let hook = self.hook.lock().clone();
        if let Some(hook) = hook {
            hook(key);
        }
    }
}

impl Table {
    fn default_of(&self, part: Part<'_>) -> Option<u32> {
        match part {
            _ if self.is_divided => Some(0),
            Part::Resolver(_) => None,
            Part::Host(_) => self.per_host,
        }
    }

    fn in_use(&self) -> Vec<InUse> {
        let used = self.entries.iter().filter(|(_, entry)| entry.running > 0);
        used.map(|(part, entry)| InUse {
            key: part.to_limit_key(),
            running: entry.running,
            limit: entry.limit(self.default_of(part)),
        })
        .collect()
    }

    /// The limit on one key, and how many permits of it are out.
    fn standing(&self, part: Part<'_>) -> (Option<u32>, u32) {
        let entry = self.entries.get(part);
        let default = self.default_of(part);
        (
            entry.map_or(default, |entry| entry.limit(default)),
            entry.map_or(0, |entry| entry.running),
        )
    }

    fn claim_all(&mut self, key: &Key) -> Result<(), Full> {
        let [resolver, host] = parts(key);
        if let Some(resolver) = resolver {
            self.claim(resolver)?;
        }
        if let Some(host) = host
            && let Err(full) = self.claim(host)
        {
            // Undone under the same lock: nobody has seen the resolver's slot taken, so nobody is to be told.
            if let Some(resolver) = resolver {
                self.unclaim(resolver);
            }
            return Err(full);
        }
        Ok(())
    }

    fn claim(&mut self, part: Part<'_>) -> Result<(), Full> {
        self.update(part, |entry, default| match entry.limit(default) {
            Some(limit) if entry.running >= limit => {
                entry.refused = true;
                Err(Full { on: part.to_limit_key(), running: entry.running, limit })
            }
            _ => {
                entry.running += 1;
                Ok(())
            }
        })
    }

    fn unclaim(&mut self, part: Part<'_>) {
        self.update(part, |entry, _| entry.running -= 1);
    }

    /// Returns the slots of `key`; which parts had refused somebody since their last release.
    fn release_all(&mut self, key: &Key, is_untouched: bool) -> PerPart<bool> {
        parts(key).map(|part| part.is_some_and(|part| self.release(part, is_untouched)))
    }

    fn release(&mut self, part: Part<'_>, is_untouched: bool) -> bool {
        self.update(part, |entry, _| {
            entry.running -= 1;
            std::mem::take(&mut entry.refused) || (entry.is_awaited && !is_untouched)
        })
    }

    /// Sets a limit; whether somebody who was refused may come in now.
    fn set(&mut self, part: Part<'_>, allowance: Allowance, is_awaited: bool) -> bool {
        self.update(part, |entry, default| {
            (entry.allowance, entry.is_awaited) = (allowance, is_awaited);
            let room = entry.limit(default).is_none_or(|limit| entry.running < limit);
            room && std::mem::take(&mut entry.refused)
        })
    }

    /// Changes what is known of one key, given the default limit of its kind. The only way an entry comes and goes.
    fn update<R>(
        &mut self,
        part: Part<'_>,
        change: impl FnOnce(&mut Entry, Option<u32>) -> R,
    ) -> R {
        let default = self.default_of(part);
        if let Some(entry) = self.entries.get_mut(part) {
            let result = change(entry, default);
            if entry.is_idle() {
                self.entries.remove(part);
            }
            return result;
        }
        let mut entry = Entry::default();
        let result = change(&mut entry, default);
        if !entry.is_idle() {
            self.entries.insert(part, entry);
        }
        result
    }
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.allowance == Allowance::Default && !self.refused
    }

    /// How many permits there are, given the default of its kind; `None`: any number.
    fn limit(&self, default: Option<u32>) -> Option<u32> {
        match self.allowance {
            Allowance::Default => default,
            Allowance::Unlimited => None,
            Allowance::AtMost(most) => Some(most),
        }
    }
}
