//! Random commands over a small alphabet, so that they often meet.
//!
//! A command names jobs, lanes, leases and processes by small numbers that are resolved when it is carried
//! out, and does nothing where there is no such thing: any part of a sequence is a sequence.

use orch::queue::store::OnDuplicate;
use proptest::prelude::*;

pub(super) const IDS: usize = 6;
pub(super) const PROCESSES: usize = 3;
/// How many keys, events, limits and changes there are: see `sharing`.
pub(super) const KEYS: usize = 3;
pub(super) const EVENTS: usize = 6;
pub(super) const LIMITS: usize = 4;
pub(super) const CHANGES: usize = 6;

/// A job to insert; every field is an index into its alphabet.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub id: usize,
    pub kind: usize,
    pub key: usize,
    pub priority: usize,
    /// Milliseconds from now.
    pub run_at: Option<i64>,
    pub text: usize,
}

/// How an attempt ends.
#[derive(Debug, Clone)]
pub(super) enum End {
    Done { detail: bool },
    Skipped { reason: usize },
    Failed { reason: usize },
    Again { in_ms: i64, checkpoint: Option<usize> },
    Defer { key: usize, in_ms: Option<i64>, checkpoint: Option<usize> },
    HandBack,
}

/// One of the last leases made, and how its attempt ends.
#[derive(Debug, Clone)]
pub(super) struct Settle {
    /// From the youngest.
    pub lease: usize,
    pub end: End,
}

/// So many of one of the ready lanes (or of one that was ready once).
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub lane: usize,
    pub count: usize,
    pub max_losses: u32,
}

/// What a process says of one of its keys, likely or not.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub key: usize,
    pub events: Vec<usize>,
    pub running: u32,
    pub slots: u32,
    pub wanted: u32,
    pub tokens: u32,
    pub tokens_back: u32,
    pub tokens_wanted: u32,
    /// Milliseconds ago.
    pub spent: Option<u64>,
    pub ended: Option<u64>,
    pub bucket: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Command {
    Insert {
        specs: Vec<Spec>,
        mode: OnDuplicate,
    },
    /// A process starts (one that retired ends first), or registers anew when it finds that its owner was lost.
    Start {
        process: usize,
    },
    Kill {
        process: usize,
    },
    Retire {
        process: usize,
    },
    Beat {
        process: usize,
    },
    Turn {
        process: usize,
        settle: Vec<Settle>,
        wants: Vec<Want>,
        max_payload_bytes: usize,
    },
    /// A turn that leases whatever is ready and settles nothing.
    LeaseAll {
        process: usize,
    },
    /// A process settles all that it holds.
    SettleAll {
        process: usize,
        end: End,
    },
    /// A turn that must fail as a whole.
    TooLarge {
        process: usize,
    },
    Recover {
        process: usize,
        max_job_losses: u32,
    },
    RetryFailed {
        max_attempts: Option<u32>,
        reason: Option<usize>,
        host: bool,
        limit: usize,
        dry_run: bool,
    },
    Prune {
        age_ms: i64,
        forget: bool,
        limit: usize,
    },
    /// A turn that says something of limits, and nothing else.
    Tell {
        process: usize,
        claim: usize,
        /// It has forgotten what it was told.
        anew: bool,
        reports: Vec<Report>,
    },
    Declare {
        process: usize,
        per_host: Option<u32>,
        /// Keys and limits.
        by_key: Vec<(usize, usize)>,
    },
    SetKey {
        key: usize,
        change: usize,
    },
    /// Time passes; the wall clock may also step.
    Pass {
        mono_ms: u64,
        wall_ms: i64,
    },
}

fn spec() -> impl Strategy<Value = Spec> {
    let run_at = prop_oneof![3 => Just(None), 1 => (-1..5_i64).prop_map(|s| Some(s * 1_000))];
    (0..IDS, 0..2_usize, 0..4_usize, 0..2_usize, run_at, 0..3_usize).prop_map(
        |(id, kind, key, priority, run_at, text)| Spec { id, kind, key, priority, run_at, text },
    )
}

fn end() -> impl Strategy<Value = End> {
    let checkpoint = || prop::option::of(0..3_usize);
    prop_oneof![
        3 => any::<bool>().prop_map(|detail| End::Done { detail }),
        2 => (0..2_usize).prop_map(|reason| End::Skipped { reason }),
        3 => (0..2_usize).prop_map(|reason| End::Failed { reason }),
        3 => (-1..4_i64, checkpoint())
            .prop_map(|(s, checkpoint)| End::Again { in_ms: s * 1_000, checkpoint }),
        3 => (0..4_usize, prop::option::of(-1..4_i64), checkpoint()).prop_map(
            |(key, s, checkpoint)| End::Defer { key, in_ms: s.map(|s| s * 1_000), checkpoint }
        ),
        1 => Just(End::HandBack),
    ]
}

fn turn(process: impl Strategy<Value = usize>) -> impl Strategy<Value = Command> {
    let settle = (0..6_usize, end()).prop_map(|(lease, end)| Settle { lease, end });
    let max_losses = prop_oneof![4 => Just(u32::MAX), 1 => 0..3_u32];
    let want = (0..6_usize, 1..4_usize, max_losses).prop_map(|(lane, count, max_losses)| Want {
        lane,
        count,
        max_losses,
    });
    let max_payload_bytes = prop_oneof![4 => Just(usize::MAX), 1 => 0..40_usize];
    let settle = prop::collection::vec(settle, 0..4);
    (process, settle, prop::collection::vec(want, 0..4), max_payload_bytes).prop_map(
        |(process, settle, wants, max_payload_bytes)| Command::Turn {
            process,
            settle,
            wants,
            max_payload_bytes,
        },
    )
}

fn upkeep() -> impl Strategy<Value = Command> {
    let reason = prop::option::of(0..5_usize);
    let retry_failed =
        (
            prop::option::weighted(0.3, 0..4_u32),
            reason,
            prop::bool::weighted(0.2),
            0..4_usize,
            prop::bool::weighted(0.2),
        )
            .prop_map(|(max_attempts, reason, host, limit, dry_run)| {
                Command::RetryFailed { max_attempts, reason, host, limit, dry_run }
            });
    let prune = (-1..4_i64, any::<bool>(), 0..4_usize)
        .prop_map(|(s, forget, limit)| Command::Prune { age_ms: s * 1_000, forget, limit });
    prop_oneof![3 => retry_failed, 1 => prune]
}

fn report() -> impl Strategy<Value = Report> {
    let few = || prop_oneof![3 => Just(0), 4 => 0..4_u32];
    let ago = || prop::option::weighted(0.3, prop::sample::select(vec![0_u64, 50, 250, 2_000]));
    let counts = (few(), few(), few(), few(), few(), few());
    let events = prop::collection::vec(0..EVENTS, 0..3);
    let bucket = prop::option::weighted(0.2, 0..2_usize);
    (0..KEYS, events, counts, ago(), ago(), bucket).prop_map(
        |(key, events, counts, spent, ended, bucket)| {
            let (running, slots, wanted, tokens, tokens_back, tokens_wanted) = counts;
            Report {
                key,
                events,
                running,
                slots,
                wanted,
                tokens,
                tokens_back,
                tokens_wanted,
                spent,
                ended,
                bucket,
            }
        },
    )
}

fn about_limits(process: impl Fn() -> BoxedStrategy<usize>) -> impl Strategy<Value = Command> {
    let reports = prop::collection::vec(report(), 0..3);
    let claim = prop_oneof![4 => Just(0), 1 => 1..3_usize];
    let tell = (process(), claim, prop::bool::weighted(0.1), reports).prop_map(
        |(process, claim, anew, reports)| Command::Tell { process, claim, anew, reports },
    );
    let by_key = prop::collection::vec((0..KEYS, 0..LIMITS), 0..3);
    let declare = (process(), prop::option::of(1..4_u32), by_key)
        .prop_map(|(process, per_host, by_key)| Command::Declare { process, per_host, by_key });
    let set = (0..KEYS, 0..CHANGES).prop_map(|(key, change)| Command::SetKey { key, change });
    prop_oneof![8 => tell, 2 => declare, 2 => set]
}

fn command() -> impl Strategy<Value = Command> {
    use OnDuplicate::{Requeue, Skip, Update};
    // The first does most of the work, so that there is something to lose.
    let process = || prop_oneof![4 => Just(0), 2 => Just(1), 1 => 0..PROCESSES].boxed();
    let mode = prop_oneof![3 => Just(Skip), 1 => Just(Update), 3 => Just(Requeue)];
    let insert = (prop::collection::vec(spec(), 0..5), mode)
        .prop_map(|(specs, mode)| Command::Insert { specs, mode });
    let pass = (
        prop::sample::select(vec![0, 100, 300, 1_000, 1_000, 300_000, 600_000]),
        prop::sample::select(vec![0, 1_000, 2_000, 5_000, 5_000, -1_000, 3_600_000, -3_600_000]),
    )
        .prop_map(|(mono_ms, wall_ms)| Command::Pass { mono_ms, wall_ms });
    prop_oneof![
        4 => insert,
        4 => process().prop_map(|process| Command::Start { process }),
        2 => process().prop_map(|process| Command::Kill { process }),
        1 => process().prop_map(|process| Command::Retire { process }),
        1 => process().prop_map(|process| Command::Beat { process }),
        8 => turn(process()),
        6 => process().prop_map(|process| Command::LeaseAll { process }),
        4 => (process(), end()).prop_map(|(process, end)| Command::SettleAll { process, end }),
        1 => process().prop_map(|process| Command::TooLarge { process }),
        4 => (process(), 1..4_u32).prop_map(|(process, max_job_losses)| Command::Recover {
            process,
            max_job_losses
        }),
        3 => upkeep(),
        10 => about_limits(process),
        4 => pass,
    ]
}

/// Two processes and a full queue, then up to `most` commands.
pub(super) fn commands(most: usize) -> impl Strategy<Value = Vec<Command>> {
    let beginning = prop::collection::vec(spec(), IDS).prop_map(|specs| {
        let insert = Command::Insert { specs, mode: OnDuplicate::Skip };
        vec![Command::Start { process: 0 }, Command::Start { process: 1 }, insert]
    });
    (beginning, prop::collection::vec(command(), most / 2..most))
        .prop_map(|(beginning, rest)| [beginning, rest].concat())
}
