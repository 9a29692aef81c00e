//! Process groups of commands: how they are recorded before they start, and ended by whoever takes over.
//!
//! Knows nobody. A command's child leaves a file in its owner's directory before it becomes the command
//! (invariant 7); the successor of a dead owner reads those files and ends the groups before it frees the jobs.
