//! No-op jobs.

use orch::job::{JobSpec, Key};

/// `count` no-op jobs with a 150-byte line each, spread over `hosts` hosts (0: none).
pub(crate) fn noop_jobs(
    count: usize,
    hosts: usize,
    sleep_ms: u64,
) -> impl Iterator<Item = JobSpec> {
    (0..count).map(move |n| {
        let mut spec = JobSpec::new(&format!("bench:{n:09}"), "noop").expect("a good id");
        // File order: host by host, the order that is worst for whoever takes it as it comes.
        if let Some(per_host) = count.checked_div(hosts) {
            let host = format!("host-{:05}.example", n / per_host.max(1));
            spec.key = Key::new(None, Some(&host)).expect("a good host");
        }
        let sleep =
            if sleep_ms > 0 { format!(r#""sleep_ms": {sleep_ms}, "#) } else { String::new() };
        let head = format!(r#"{{"artifact_id": "bench:{n:09}", "kind": "noop", {sleep}"title": ""#);
        let title = "x".repeat(148_usize.saturating_sub(head.len()));
        spec.with_payload(format!("{head}{title}\"}}"))
    })
}
