//! Commands that do nothing: `orch queue run` of jobs of kind exec, 8 workers, beside `xargs -P8 -n1` of as many.
//!
//! `cargo bench --bench exec [-- COMMANDS [RUNS]]`; needs `xargs` and `/bin/true`, and says so when they are not there.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;
mod rounds;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{bench, numbers};
use orch::bench::figures::per_second;
use orch::bench::{Bench, BenchError, Beside, Measure, Part};
use rounds::rounds;

const COMMAND: &str = "/bin/true";
const COMMANDS_PER_SECOND: Measure =
    Measure { name: "commands_per_second", unit: "commands/s", more_is_better: true };

/// So many commands.
struct Exec(usize);

impl Part for Exec {
    fn round(&mut self, bench: &Bench, raw_first: bool) -> Result<Vec<Beside>, BenchError> {
        let folder = bench.fresh()?;
        let mut both = [0.0; 2];
        for which in if raw_first { [1, 0] } else { [0, 1] } {
            let side = if which == 0 { orch } else { xargs };
            both[which] = side(bench, folder.path(), self.0)?;
        }
        let [orch, raw] = both;
        Ok(vec![Beside { measure: COMMANDS_PER_SECOND, orch, raw }])
    }
}

fn main() {
    let [commands, runs] = numbers([5_000, 5]);
    let has_xargs = Command::new("xargs").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has_xargs || !Path::new(COMMAND).exists() {
        println!("skipped: there is no xargs on the PATH, or no {COMMAND}");
        return;
    }
    println!("{commands} x {COMMAND}; 8 workers beside xargs -P8 -n1");
    rounds("exec beside xargs -P8 -n1", &bench(), &mut Exec(commands), runs, "at least 1.0");
}

fn orch(bench: &Bench, place: &Path, commands: usize) -> Result<f64, BenchError> {
    let mut lines = String::new();
    for n in 0..commands {
        writeln!(lines, r#"{{"id":"c{n}","kind":"exec","command":["{COMMAND}"]}}"#)
            .expect("a line");
    }
    fs::write(place.join("commands.jsonl"), lines).expect("a file");
    bench.orch().run(place, &[], &["queue", "import", "commands.jsonl"])?;
    let args = ["queue", "run", "--drain", "--allow-exec", "--workers", "8"];
    let (_, took) = bench.timed(|| bench.orch().run(place, &[], &args))?;
    Ok(per_second(commands, took))
}

fn xargs(bench: &Bench, place: &Path, commands: usize) -> Result<f64, BenchError> {
    let list = place.join("numbers.txt");
    let numbers: String = (0..commands).map(|n| format!("{n}\n")).collect();
    fs::write(&list, numbers).expect("a file");
    let (status, took) = bench.timed(|| {
        let list = File::open(&list).expect("the list");
        let status = Command::new("xargs").args(["-P8", "-n1", COMMAND]).stdin(list).status();
        Ok(status.expect("xargs"))
    })?;
    assert!(status.success(), "xargs has run them all");
    Ok(per_second(commands, took))
}
