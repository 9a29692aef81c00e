//! Random commands: what must hold always, holds after every one, and stores say the same.

use orch::queue::conformance::Subject;
use proptest::prelude::*;

use super::command::{Command, commands};
use super::world::World;
use super::{Durability, Memory, Sqlite};

/// Drives every subject through the commands and compares each with the first after every command.
fn agree(commands: &[Command], subjects: Vec<(&str, Box<dyn Subject>)>) {
    let mut worlds: Vec<(&str, World)> =
        subjects.into_iter().map(|(name, subject)| (name, World::new(subject))).collect();
    for (n, command) in commands.iter().enumerate() {
        let mut said = worlds.iter_mut().map(|(name, world)| {
            let mut said = world.apply(command);
            said.extend(world.everything());
            (*name, said)
        });
        let Some((first, expected)) = said.next() else { return };
        for (other, found) in said {
            let differing = expected.iter().zip(&found).find(|(a, b)| a != b);
            assert!(
                expected == found,
                "after command {n}, {command:?}, {first} and {other} differ, first in\n{differing:#?}\n\
                 {first} said {expected:#?}\n{other} said {found:#?}"
            );
        }
    }
}

/// So many cases, or as many as `PROPTEST_CASES` says: a soak by hand. A failure is made small for half a minute.
fn cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let soak = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if soak { default.cases } else { cases };
    ProptestConfig { cases, max_shrink_time: 30_000, ..default }
}

proptest! {
    #![proptest_config(cases(256))]

    /// Counts add up, epochs grow, nothing is accepted twice, attempts stay below leases: see `World`.
    #[test]
    fn the_model_hangs_together_whatever_happens(commands in commands(60)) {
        agree(&commands, vec![("memory", Box::new(Memory::default()))]);
    }
}

proptest! {
    #![proptest_config(cases(48))]

    /// Whatever a SQLite file answers, the model would have answered.
    #[test]
    fn sqlite_and_the_model_say_the_same(commands in commands(60)) {
        let sqlite = Sqlite::new(Durability::Normal);
        agree(&commands, vec![("memory", Box::new(Memory::default())), ("sqlite", Box::new(sqlite))]);
    }
}
