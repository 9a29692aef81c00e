//! Process groups of commands: how they are recorded before they start, and ended by whoever takes over.
//!
//! Knows nobody. A command runs as the leader of a process group of its own. Before the child becomes the
//! command it leaves a file in its owner's directory, named after its group and its start time; if it cannot,
//! it does not become the command. The successor of a dead owner reads those files and ends the groups before
//! it frees the jobs, so no command of a dead owner still runs when its job is leased again (invariant 7).
//!
//! ```text
//!   Group::start --clone--> child: setpgid, write group-<pgid>-<start>-<session>, is my parent alive?, exec
//!        |
//!   Group::end   kill the group, reap the leader, see the rest gone, remove the file
//!   (the owner dies instead)
//!   end_recorded_groups   by the successor: is it still that group? kill it, see it gone, remove the file
//! ```
//!
//! Must never signal a process it cannot tell apart from a stranger: process ids are reused, so a recorded
//! group counts as running only while its leader has the recorded start time, or while the leader is gone and
//! the group still has members of the recorded session that are no older than it was.
//!
//! A process that leaves its group (`setsid`, `setpgid`: a daemon) is out of reach and runs on.
//!
//! Only Linux tells start times (through `/proc`). Elsewhere [`end_recorded_groups`] ends nothing: after a crash
//! a command may still run beside its own second attempt there, so its record is merely a list for [`kill_all_recorded`].

mod end;
mod group;
mod launch;
mod record;
mod stat;

pub use end::{StillRunning, end_recorded_groups, kill_all_recorded};
pub use group::Group;
pub use launch::{Launch, LaunchError};
pub use stat::is_stopped;
