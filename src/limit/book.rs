//! The lock around what this process knows of keys, and what can be told without it.
//!
//! Must never hold the lock while a hook is called, nor take it to find that nothing is kept from being asked.

use crate::job::{Key, LimitKey, Mono};
use crate::share::Policy;

use super::keyed::KeyedLimiter;
use super::means::Means;
use super::pages::{Pages, Verdict};
use super::sync::{Arc, AtomicUsize, Mutex, Ordering};

/// See the module.
pub(super) struct Book {
    slots: KeyedLimiter,
    /// What [`Pages::alarms`] said: with none, everybody may be asked.
    alarms: AtomicUsize,
    /// How many keys something is known of.
    known: AtomicUsize,
    /// 1 where limits are enforced by shares, and while that is being found out.
    may_be_shared: AtomicUsize,
    /// Locked before buckets and slots. What is known takes hold in the order it came.
    pages: Mutex<Pages>,
    /// To be called when something is to be told sooner.
    on_news: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Book {
    pub(super) fn new(means: Means, policy: Policy, max_per_host: Option<u32>) -> Book {
        let slots = means.slots.clone();
        Book {
            slots,
            alarms: AtomicUsize::new(0),
            known: AtomicUsize::new(0),
            may_be_shared: AtomicUsize::new(0),
            pages: Mutex::new(Pages::new(means, policy, max_per_host)),
            on_news: Mutex::new(None),
        }
    }

    /// See [`Gate::on_news`](super::Gate::on_news).
    pub(super) fn on_news(&self, hook: Arc<dyn Fn() + Send + Sync>) {
        *self.on_news.lock() = Some(hook);
    }

    /// Calls `change`, and then, with the lock free again, the hook for every key it added to its list, and the one for news.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Pages, &mut Vec<LimitKey>) -> R) -> R {
        let mut awaited = Vec::new();
        let (result, has_news_sooner) = {
            let mut pages = self.pages.lock();
            let result = change(&mut pages, &mut awaited);
            // Under the lock: whoever has seen a change sees that there was one.
            self.alarms.store(pages.alarms(), Ordering::Release);
            self.known.store(pages.entries.len(), Ordering::Release);
            let is_shared = usize::from(pages.division.is_shared());
            self.may_be_shared.store(is_shared, Ordering::Release);
            (result, std::mem::take(&mut pages.has_news_sooner))
        };
        awaited.iter().for_each(|key| self.slots.tell(key));
        if has_news_sooner {
            // Cloned in a statement of its own: the lock must be free again when the hook runs.
            let hook = self.on_news.lock().clone();
            hook.iter().for_each(|hook| hook());
        }
        result
    }

    /// The same for a change after which limits may be enforced by shares: whoever is refused for it finds that out.
    pub(super) fn change_shares<R>(
        &self,
        change: impl FnOnce(&mut Pages, &mut Vec<LimitKey>) -> R,
    ) -> R {
        self.may_be_shared.store(1, Ordering::Release);
        self.change(change)
    }

    /// Asks `question` of what is known.
    pub(super) fn look<R>(&self, question: impl FnOnce(&Pages) -> R) -> R {
        question(&self.pages.lock())
    }

    /// How `key` stands at `now`.
    pub(super) fn standing(&self, key: &Key, now: Mono) -> Verdict {
        if key.is_free() || !self.is_alarmed() {
            return Verdict::Open;
        }
        self.change(|pages, awaited| pages.standing(key, now, awaited))
    }

    /// Whether something may keep somebody out, or changed in a way that nobody was told of.
    pub(super) fn is_alarmed(&self) -> bool {
        self.alarms.load(Ordering::Acquire) > 0
    }

    /// Whether anything is known of any key.
    pub(super) fn knows_anything(&self) -> bool {
        self.known.load(Ordering::Acquire) > 0
    }

    /// Whether limits are enforced by shares, or may be in a moment.
    pub(super) fn may_be_shared(&self) -> bool {
        self.may_be_shared.load(Ordering::Acquire) > 0
    }
}
