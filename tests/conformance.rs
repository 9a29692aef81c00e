//! Every store does what a store must: the conformance suite on each, and random commands on all.

mod command;
mod random;
mod world;

use orch::queue::conformance::Subject;
use orch::queue::memory::MemoryStore;
use orch::queue::store::{Owner, Store};

/// The reference model.
#[derive(Default)]
struct Memory(MemoryStore);

impl Subject for Memory {
    fn open(&mut self) -> Box<dyn Store> {
        Box::new(self.0.handle())
    }

    fn kill(&mut self, owner: &Owner, _store: Box<dyn Store>) {
        self.0.kill_owner(owner);
    }
}

mod memory {
    macro_rules! tests {
        ($($check:ident,)*) => {
            $(#[test]
            fn $check() {
                orch::queue::conformance::$check(&mut super::Memory::default());
            })*
        };
    }
    orch::for_each_store_check!(tests);
}
