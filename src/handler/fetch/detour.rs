//! Redirects of requests to services and for robots.txt that had to wait for a permit on their way: where they go on.
//!
//! Where each request costs a token, a request that began anew after every wait would never arrive. Kept in memory only, for a
//! request may hold a key; in another process it begins anew. Must stay bounded.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::resolve::Ask;
use super::verdict::UrlId;

/// The most that are kept.
const MAX_KEPT: usize = 1_024;

/// A request on its way.
pub(super) struct Detour {
    /// What to ask next.
    pub(super) ask: Ask,
    /// How many redirects it has come along.
    pub(super) hops: usize,
}

/// Requests that wait, by what they began as.
#[derive(Default)]
pub(super) struct Detours(Mutex<HashMap<UrlId, Detour>>);

impl Detours {
    /// The name of a request as it begins.
    pub(super) fn name(ask: &Ask) -> UrlId {
        UrlId::of_request(&ask.url, ask.json.as_deref())
    }

    /// Where that request goes on; its beginning where it has not waited.
    pub(super) fn take(&self, name: &UrlId, ask: Ask) -> Detour {
        self.0.lock().remove(name).unwrap_or(Detour { ask, hops: 0 })
    }

    /// It waits.
    pub(super) fn keep(&self, name: UrlId, waiting: Detour) {
        let mut kept = self.0.lock();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(name, waiting);
    }
}
