//! Random commands over a small alphabet, so that they often meet.
//!
//! A command names jobs, lanes, leases and processes by small numbers that are resolved when it is carried
//! out, and does nothing where there is no such thing: any part of a sequence is a sequence.

use orch::queue::store::OnDuplicate;
use proptest::prelude::*;

pub(super) const IDS: usize = 6;
pub(super) const PROCESSES: usize = 3;

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
    pub unsuspected_only: bool,
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
    let want = (0..6_usize, 1..4_usize, prop::bool::weighted(0.2))
        .prop_map(|(lane, count, unsuspected_only)| Want { lane, count, unsuspected_only });
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

fn command() -> impl Strategy<Value = Command> {
    use OnDuplicate::{Requeue, Skip, Update};
    // The first does most of the work, so that there is something to lose.
    let process = || prop_oneof![4 => Just(0), 2 => Just(1), 1 => 0..PROCESSES];
    let mode = prop_oneof![3 => Just(Skip), 1 => Just(Update), 3 => Just(Requeue)];
    let insert = (prop::collection::vec(spec(), 0..5), mode)
        .prop_map(|(specs, mode)| Command::Insert { specs, mode });
    let pass = (
        prop::sample::select(vec![0, 1_000, 1_000, 300_000, 600_000]),
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
        3 => pass,
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
