//! The vocabulary: what a job is, which states it passes through, what a lease, an outcome,
//! a priority and a retry policy are.
//!
//! Pure. Must never do I/O, ask the time, draw a random number or know SQL: times and random
//! samples are passed in, so that a simulation can run a year of schedules in a second.
//!
//! ```text
//!   JobSpec --insert--> queued --lease--> in_progress --outcome--> done | skipped | error | queued
//! ```

mod identifier;
mod key;
mod lease;
mod note;
mod observation;
mod outcome;
mod priority;
mod retry;
mod spec;
mod state;
mod time;

pub use identifier::{Identifier, IdentifierError, Scheme};
pub(crate) use identifier::{excerpt, host_of};
pub use key::{Key, KeyError, LimitKey, normalise_host, normalise_resolver};
pub use lease::{Epoch, JobRow, Lane, LaneId, LeaseToken, Leased, Suspicion};
pub use note::Note;
pub use observation::Observation;
pub use outcome::{
    Change, DoneReason, ErrorReason, FinalState, MAX_CHECKPOINT_BYTES, Outcome, Reason, RetryTerms,
    SkipReason,
};
pub use priority::{Priority, PriorityError};
pub use retry::{Jitter, Preset, RetryError, RetryPolicy, Strategy};
pub use spec::{ArtifactId, JobSpec, Kind, MAX_ARTIFACT_ID_BYTES, MAX_TAGS, SpecError};
pub use state::{Event, IllegalEvent, State};
pub use time::{Mono, WallMs};
