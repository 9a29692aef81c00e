//! Apart from the sources, which `tests/limits` compiles a second time without them.

mod bucket;
mod gate;
mod hold;
mod keyed;
mod shared;
mod terms;

use parking_lot::Mutex;
use std::sync::Arc;

use crate::job::{Key, LimitKey};

fn host(name: &str) -> Key {
    Key::new(None, Some(name)).unwrap()
}

fn resolver(name: &str) -> Key {
    Key::new(Some(name), None).unwrap()
}

fn both(resolver: &str, host: &str) -> Key {
    Key::new(Some(resolver), Some(host)).unwrap()
}

fn limit_host(name: &str) -> LimitKey {
    LimitKey::Host(name.into())
}

fn limit_resolver(name: &str) -> LimitKey {
    LimitKey::Resolver(name.into())
}

/// What a hook was called with.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<LimitKey>>>);

impl Told {
    fn hook(&self) -> impl Fn(&LimitKey) + Send + Sync + 'static {
        let told = self.clone();
        move |key| told.0.lock().push(key.clone())
    }

    /// The calls since the last look, in order.
    fn take(&self) -> Vec<LimitKey> {
        std::mem::take(&mut self.0.lock())
    }
}
