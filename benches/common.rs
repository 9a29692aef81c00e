//! What the benches share: where they measure, what they were asked for, and how they say what came of it.
//!
//! The last lines begin with `=`, one for each figure, in a form that docs/performance.md quotes:
//! `= WHAT: FIGURE (particulars); budget: BOUND`.

use std::path::Path;
use std::sync::Arc;

use orch::bench::{Bench, Halt};
use orch::clock::System;

/// As the binary has it: see `src/main.rs`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures in the directory for temporary files (`$TMPDIR`), with the binary of this build.
pub(crate) fn bench() -> Bench {
    let orch = Path::new(env!("CARGO_BIN_EXE_orch")).to_owned();
    Bench::new(Arc::new(System::new()), &std::env::temp_dir(), orch, Halt::default())
        .expect("a directory")
}

/// The numbers on the command line; the rest of `usual` where there are fewer.
pub(crate) fn numbers<const N: usize>(mut usual: [usize; N]) -> [usize; N] {
    let given = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    for (number, given) in usual.iter_mut().zip(given) {
        *number = given;
    }
    usual
}

/// The line that is quoted.
pub(crate) fn said(what: &str, figure: &str, particulars: &str, budget: &str) {
    println!("= {what}: {figure} ({particulars}); budget: {budget}");
}
