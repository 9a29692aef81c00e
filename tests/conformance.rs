//! Every store does what a store must: the conformance suite on each, and random commands on all.

mod command;
mod random;
mod sharing;
mod world;

use orch::queue::conformance::{self, Subject};
use orch::queue::memory::MemoryStore;
use orch::queue::sqlite::{Durability, OpenOptions, SqliteStore};
use orch::queue::store::{Owner, Store};
use tempfile::TempDir;

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

/// A queue in a SQLite file, in a directory that goes when the subject does.
struct Sqlite {
    directory: TempDir,
    options: OpenOptions,
}

impl Sqlite {
    fn new(durability: Durability) -> Sqlite {
        let options = OpenOptions { durability, ..OpenOptions::default() };
        Sqlite { directory: TempDir::new().unwrap(), options }
    }
}

impl Subject for Sqlite {
    fn open(&mut self) -> Box<dyn Store> {
        let path = self.directory.path().join("queue.sqlite");
        Box::new(SqliteStore::open(&path, &self.options).unwrap())
    }

    fn kill(&mut self, _owner: &Owner, store: Box<dyn Store>) {
        // Its lock goes with the last descriptor, as the kernel would have it.
        drop(store);
    }
}

#[test]
fn run_all_runs_every_check_and_says_which() {
    let mut started = Vec::new();
    conformance::run_all(Memory::default, |name| started.push(name.to_owned()));
    assert!(started.iter().eq(conformance::ALL.iter().map(|(name, _)| name)));
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

mod sqlite {
    use super::{Durability, Sqlite};

    macro_rules! tests {
        ($($check:ident,)*) => {
            $(#[test]
            fn $check() {
                orch::queue::conformance::$check(&mut Sqlite::new(Durability::Full));
            })*
        };
    }
    orch::for_each_store_check!(tests);
}
