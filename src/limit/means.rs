//! What limits are enforced with: slots and tokens by key. The [book](super::book) says how many.
//!
//! Must never call the release hook: whoever changes something is told whom to tell.

use crate::job::{Key, LimitKey, Mono};
use crate::share::Rate;

use super::TokenBucket;
use super::bucket::{NoToken, Standing, Taken};
use super::by_key::{ByKey, PerPart, parts};
use super::keyed::KeyedLimiter;
use super::sync::{Arc, AtomicUsize, Mutex, Ordering};

/// See the module. Clones share one state.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) slots: KeyedLimiter,
    /// Locked before a bucket where both are, and never while a hook is called.
    buckets: Arc<Mutex<ByKey<Arc<TokenBucket>>>>,
    /// How many there are; changed under their lock. Without any, nobody takes it.
    count: Arc<AtomicUsize>,
}

/// Tokens taken, and the buckets they came from. Dropped, they are spent.
#[derive(Default)]
pub(super) struct Tokens {
    taken: PerPart<Option<(Arc<TokenBucket>, Taken)>>,
    /// They are spent already.
    is_begun: bool,
}

impl Means {
    pub(super) fn new(max_per_host: Option<u32>) -> Means {
        Means {
            slots: KeyedLimiter::new(max_per_host),
            buckets: Arc::default(),
            count: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Takes a token for each part of `key` that has a rate, up to the first that refuses.
    pub(super) fn take_tokens(
        &self,
        key: &Key,
        now: Mono,
        taken: &mut Tokens,
    ) -> Result<(), (LimitKey, NoToken)> {
        let buckets = self.buckets_of(key);
        for ((part, bucket), token) in parts(key).into_iter().zip(buckets).zip(&mut taken.taken) {
            let (Some(part), Some(bucket)) = (part, bucket) else { continue };
            let term = bucket.take(now).map_err(|refused| (part.to_limit_key(), refused))?;
            *token = Some((bucket, term));
        }
        Ok(())
    }

    /// The buckets of `key`; where there can be none, without a lock.
    pub(super) fn buckets_of(&self, key: &Key) -> PerPart<Option<Arc<TokenBucket>>> {
        if key.is_free() || self.count.load(Ordering::Acquire) == 0 {
            return [None, None];
        }
        let buckets = self.buckets.lock();
        parts(key).map(|part| buckets.get(part?).cloned())
    }

    pub(super) fn bucket(&self, key: &LimitKey) -> Option<Arc<TokenBucket>> {
        self.buckets.lock().get(key.into()).cloned()
    }

    /// Every key with a rate, in no order.
    pub(super) fn all_buckets(&self) -> Vec<(LimitKey, Arc<TokenBucket>)> {
        let buckets = self.buckets.lock();
        buckets.iter().map(|(part, bucket)| (part.to_limit_key(), Arc::clone(bucket))).collect()
    }

    /// Every key whose bucket is empty, in no order.
    pub(super) fn empty_buckets(&self, now: Mono) -> Vec<(LimitKey, Standing)> {
        let buckets = self.buckets.lock();
        let standing = buckets.iter().map(|(part, bucket)| (part, bucket.standing(now)));
        let empty = standing.filter(|(_, standing)| standing.next_token.is_some());
        empty.map(|(part, standing)| (part.to_limit_key(), standing)).collect()
    }

    /// Sets a rate; whether somebody waits for a token of it. A bucket that is new is full, or where a store grants tokens, empty.
    pub(super) fn set_rate(&self, key: &LimitKey, rate: Option<Rate>, is_divided: bool) -> bool {
        let mut buckets = self.buckets.lock();
        let is_awaited = match (rate, buckets.get(key.into())) {
            (Some(rate), Some(bucket)) => bucket.rate() != rate && bucket.set(rate),
            (Some(rate), None) => {
                let new = if is_divided { TokenBucket::granted } else { TokenBucket::new };
                buckets.insert(key.into(), Arc::new(new(rate)));
                false
            }
            (None, _) => buckets.remove(key.into()).is_some_and(|bucket| bucket.lift()),
        };
        self.count.store(buckets.len(), Ordering::Release);
        is_awaited
    }
}

impl Tokens {
    /// Whether there is one for each part of `key` that has a rate by now.
    pub(super) fn cover(&self, means: &Means, key: &Key) -> bool {
        let buckets = means.buckets_of(key).into_iter().zip(&self.taken);
        let mut limited = buckets.filter_map(|(bucket, taken)| Some((bucket?, taken)));
        limited
            .all(|(bucket, taken)| taken.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, &bucket)))
    }

    /// Spends them; whether all are still good.
    pub(super) fn begin(&mut self, now: Mono) -> bool {
        if std::mem::replace(&mut self.is_begun, true) {
            return true;
        }
        let mut are_good = true;
        for token in &mut self.taken {
            let is_void =
                |(bucket, taken): &mut (Arc<TokenBucket>, Taken)| !bucket.begin(*taken, now);
            are_good &= token.take_if(is_void).is_none();
        }
        are_good
    }

    /// Puts every token back; which parts' buckets somebody waits for.
    pub(super) fn give_back(&mut self) -> PerPart<bool> {
        let is_begun = std::mem::take(&mut self.is_begun);
        self.taken.each_mut().map(|token| {
            token.take().is_some_and(|(bucket, taken)| bucket.put_back(taken, is_begun))
        })
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        for (bucket, taken) in self.taken.iter().flatten().filter(|_| !self.is_begun) {
            bucket.forget(*taken);
        }
    }
}
