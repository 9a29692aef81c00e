//! The jobs that are measured: no-op jobs with a line of 150 bytes, its line end included.
//!
//! Must never be more than lines: what they cost is the queue's alone.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::{BenchError, Halt};
use crate::job::{JobSpec, Key, WallMs};
use crate::queue::store::{OnDuplicate, Store};

/// The bytes of a line, its line end included.
pub const LINE_BYTES: usize = 150;
/// How many jobs one transaction inserts.
const BATCH_JOBS: usize = 8_192;

/// `count` no-op jobs with ids in rising order, spread over `hosts` hosts (0: none).
///
/// File order, host by host: the order that is worst for whoever takes it as it comes.
pub fn noop_jobs(count: usize, hosts: usize, sleep_ms: u64) -> impl Iterator<Item = JobSpec> {
    (0..count).map(move |n| {
        let mut spec = noop_job(&format!("bench:{n:09}"), sleep_ms);
        if let Some(per_host) = count.checked_div(hosts) {
            spec.key = host_key(&format!("host-{:05}.example", n / per_host.max(1)));
        }
        spec
    })
}

/// `count` no-op jobs whose ids come in no order. Those of another `series` are others.
pub fn shuffled_jobs(series: u32, count: usize) -> impl Iterator<Item = JobSpec> {
    let series = u64::from(series) << 40;
    (series..).take(count).map(|n| noop_job(&format!("bench:{:016x}", mixed(n)), 0))
}

/// Splitmix64: a permutation of 64 bits, so that different numbers give different ids.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn noop_job(id: &str, sleep_ms: u64) -> JobSpec {
    let sleep = if sleep_ms > 0 { format!(r#""sleep_ms": {sleep_ms}, "#) } else { String::new() };
    let head = format!(r#"{{"artifact_id": "{id}", "kind": "noop", {sleep}"title": ""#);
    let title = "x".repeat((LINE_BYTES - 3).saturating_sub(head.len()));
    job(id, "noop").with_payload(format!("{head}{title}\"}}"))
}

#[expect(clippy::expect_used, reason = "neither empty nor long, and without control characters")]
pub(super) fn job(id: &str, kind: &str) -> JobSpec {
    JobSpec::new(id, kind).expect("a good id and kind")
}

#[expect(clippy::expect_used, reason = "letters, digits and dots are a host")]
fn host_key(host: &str) -> Key {
    Key::new(None, Some(host)).expect("a good host")
}

/// Inserts them in batches.
///
/// # Errors
/// [`BenchError::Store`]; [`BenchError::Stopped`].
pub fn insert(
    store: &mut dyn Store,
    specs: impl Iterator<Item = JobSpec>,
    halt: &Halt,
) -> Result<(), BenchError> {
    let mut specs = specs.peekable();
    while specs.peek().is_some() {
        halt.check()?;
        let batch: Vec<JobSpec> = specs.by_ref().take(BATCH_JOBS).collect();
        store.insert(&batch, OnDuplicate::Skip, WallMs(0))?;
    }
    Ok(())
}

/// Writes them as JSONL.
///
/// # Errors
/// [`BenchError::Io`]; [`BenchError::Stopped`].
pub fn write_lines(
    path: &Path,
    specs: impl Iterator<Item = JobSpec>,
    halt: &Halt,
) -> Result<(), BenchError> {
    let failed = || BenchError::io("write", path.display().to_string());
    let mut file = BufWriter::new(File::create(path).map_err(failed())?);
    for (n, spec) in specs.enumerate() {
        if n.is_multiple_of(BATCH_JOBS) {
            halt.check()?;
        }
        writeln!(file, "{}", spec.payload).map_err(failed())?;
    }
    file.flush().map_err(failed())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_line_has_the_bytes_it_is_said_to_have() {
        let jobs = noop_jobs(20, 0, 0).chain(noop_jobs(20, 5, 7)).chain(shuffled_jobs(3, 20));
        for job in jobs {
            assert_eq!(job.payload.len() + 1, LINE_BYTES, "{}", job.payload);
            serde_json::from_str::<serde_json::Value>(&job.payload).unwrap();
        }
    }

    #[test]
    fn shuffled_ids_differ_and_come_in_no_order() {
        let ids: Vec<String> = shuffled_jobs(0, 1_000)
            .chain(shuffled_jobs(1, 1_000))
            .map(|job| job.artifact_id.to_string())
            .collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 2_000);
        assert!(ids.windows(2).filter(|pair| pair[0] < pair[1]).count() < 1_200);
    }

    #[test]
    fn hosts_come_one_after_the_other() {
        let hosts: Vec<_> = noop_jobs(6, 3, 0).map(|job| job.key.host.unwrap()).collect();
        let names = ["host-00000.example", "host-00001.example", "host-00002.example"];
        assert_eq!(
            hosts.iter().map(|host| &**host).collect::<Vec<_>>(),
            [names[0], names[0], names[1], names[1], names[2], names[2]]
        );
    }
}
