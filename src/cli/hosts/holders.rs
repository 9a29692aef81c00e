//! Who holds the slots of a key: a process, and whether it goes on at all.
//!
//! Must never take a process id for proof of anything: it is for a person to look the process up by.

use std::collections::HashMap;

use crate::process;
use crate::queue::store::Holder;

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::cli) enum Liveness {
    /// It runs.
    Running,
    /// It is stopped: it holds what it holds, and does nothing.
    Stopped,
    /// Not told, or there is none of that id here.
    Unseen,
}

/// How processes are, each looked at once.
#[derive(Debug, Default)]
pub(in crate::cli) struct Processes(HashMap<u32, Liveness>);

impl Processes {
    /// How the process of that holder is.
    pub(in crate::cli) fn of(&mut self, process: Option<u32>) -> Liveness {
        let Some(process) = process else { return Liveness::Unseen };
        *self.0.entry(process).or_insert_with(|| match process::is_stopped(process) {
            Some(true) => Liveness::Stopped,
            Some(false) => Liveness::Running,
            None => Liveness::Unseen,
        })
    }
}

impl Liveness {
    /// Its name in JSON.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Liveness::Running => "running",
            Liveness::Stopped => "stopped",
            Liveness::Unseen => "unseen",
        }
    }
}

/// A process for people: its id, or what is known instead; and that it is stopped, if it is.
pub(in crate::cli) fn words(owner: &str, process: Option<u32>, liveness: Liveness) -> String {
    let name = process.map_or_else(|| owner.to_owned(), |process| process.to_string());
    match liveness {
        Liveness::Stopped => format!("{name} (stopped)"),
        Liveness::Running | Liveness::Unseen => name,
    }
}

/// What a holder has, for a cell of the table: `1234: 2`, `1234 (stopped): 1`.
pub(super) fn cell(holder: &Holder, liveness: Liveness) -> String {
    let who = words(&holder.owner, holder.process, liveness);
    match holder.share.slots.max(holder.share.running) {
        0 => who,
        slots => format!("{who}: {slots}"),
    }
}
