//! The binary: see [`orch::cli`].

use std::process::ExitCode;

/// What a job is made of is taken from the queue on one thread and freed on another: with the allocator of the C library the two wait for
/// each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    orch::cli::main()
}
