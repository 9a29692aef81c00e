//! Several `orch queue run` on one queue, the hosts they ask, and what must hold of all that was asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::origin::{Asked, Origin, Seen};
use crate::support::{Place, Running};

/// A host, and what it is limited to.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) name: String,
    /// Requests at once.
    pub(super) cap: usize,
    /// Starts per second, and the burst.
    pub(super) rate: Option<(u32, u32)>,
}

impl Host {
    pub(super) fn of(name: &str, cap: usize) -> Host {
        Host { name: name.to_owned(), cap, rate: None }
    }

    fn section(&self) -> String {
        let Host { name, cap, rate } = self;
        let rate = rate.map(|(rate, burst)| format!("rate = \"{rate}/s\"\nburst = {burst}\n"));
        let rate = rate.unwrap_or_default();
        format!("[limits.host.\"{name}\"]\nmax_concurrent = {cap}\n{rate}")
    }

    /// A job that fetches its `n`th file.
    pub(super) fn job(&self, n: usize) -> Value {
        json!({"id": format!("{}-{n}", self.name), "url": format!("http://{}/{n}", self.name)})
    }
}

/// The processes' place, and whom they ask.
pub(super) struct Crowd {
    pub(super) place: Place,
    pub(super) origin: Origin,
    pub(super) hosts: Vec<Host>,
    /// Further sections of everybody's configuration.
    pub(super) config: &'static str,
}

impl Crowd {
    pub(super) fn new(origin: Origin, hosts: Vec<Host>) -> Crowd {
        Crowd { place: Place::new(), origin, hosts, config: "" }
    }

    /// Imports so many jobs of each host, one host after the other.
    pub(super) fn import(&self, jobs_per_host: usize) {
        let lines = |host: &Host| (0..jobs_per_host).map(|n| host.job(n)).collect::<Vec<_>>();
        self.place.import(&self.hosts.iter().flat_map(lines).collect::<Vec<_>>());
    }

    /// A run whose requests say that they are `client`'s.
    pub(super) fn start(&self, client: &str) -> Running {
        let sections: String = self.hosts.iter().map(Host::section).collect();
        let proxy = self.origin.proxy();
        self.place.write(
            &format!("{client}.toml"),
            format!(
                "[fetch]\nproxy = \"{proxy}\"\nuser_agent = \"{client}\"\nobey_robots = false\n\
                 resolvers = [\"line\"]\n[log]\nlevel = \"warn\"\n\
                 [orchestrator]\nmax_workers = 24\nmax_job_attempts = 50\nretry_backoff_seconds = 1\n\
                 retry_backoff_max_seconds = 1\njitter_seconds = 0\n{}\n{sections}",
                self.config
            ),
        );
        self.place.start(&format!("-q --config {client}.toml queue run --drain"))
    }

    /// Whether there is `orch queue hosts`; says so aloud where it is not.
    pub(super) fn has_hosts_command(&self) -> bool {
        let is_there = self.place.run("queue hosts --help").code == Some(0);
        if !is_there {
            eprintln!("skipped: there is no `orch queue hosts` yet");
        }
        is_there
    }

    /// Every job is there once and done, with one attempt that counts; the database is whole.
    #[track_caller]
    pub(super) fn assert_all_done(&self, jobs: usize) {
        let stats = self.place.stats();
        assert_eq!((&stats["done"], &stats["total"]), (&jobs.into(), &jobs.into()), "{stats}");
        let exported = self.place.export();
        let ids: HashSet<&str> =
            exported.iter().map(|job| job["artifact_id"].as_str().unwrap()).collect();
        assert_eq!((exported.len(), ids.len()), (jobs, jobs));
        assert_eq!(self.place.integrity(), "ok");
    }

    /// Every way in which what was asked broke a limit.
    pub(super) fn broken(&self, seen: &[Seen]) -> Vec<String> {
        let mut broken = Vec::new();
        for host in &self.hosts {
            let seen: Vec<&Seen> = seen.iter().filter(|one| one.asked.host == host.name).collect();
            let (most, at) = most_at_once(&seen);
            if most > host.cap {
                broken.push(format!("{}: {most} of {} at once, at {at:?}", host.name, host.cap));
            }
            broken.extend(host.rate.and_then(|rate| over_rate(host, &seen, rate)));
        }
        broken
    }
}

/// The most requests that ran at once, and when that was.
pub(super) fn most_at_once(seen: &[&Seen]) -> (usize, Duration) {
    // Of two at the same time the end comes first.
    let mut changes: Vec<(Duration, bool)> = Vec::new();
    for one in seen {
        changes.push((one.begin, true));
        changes.extend(one.end.map(|end| (end, false)));
    }
    changes.sort_unstable();
    let (mut running, mut most) = (0_usize, (0, Duration::ZERO));
    for (at, begins) in changes {
        running = if begins { running + 1 } else { running - 1 };
        if running > most.0 {
            most = (running, at);
        }
    }
    most
}

/// A second with more starts than rate and burst allow, or, where one runs at a time, too short a pause.
fn over_rate(host: &Host, seen: &[&Seen], (rate, burst): (u32, u32)) -> Option<String> {
    let second = Duration::from_secs(1);
    let begins: Vec<Duration> = seen.iter().map(|one| one.begin).collect();
    let in_second = |from: &Duration| {
        begins.iter().filter(|begin| (*from..*from + second).contains(*begin)).count()
    };
    let most = begins.iter().map(in_second).max().unwrap_or(0);
    if most > (rate + burst) as usize {
        return Some(format!("{}: {most} starts in a second at {rate}/s, {burst}", host.name));
    }
    if host.cap > 1 {
        return None;
    }
    // From the end of one answer: it ended here before it did there, and the next began here after it did there.
    let pause = |pair: &[&Seen]| pair[1].begin.saturating_sub(pair[0].end.unwrap_or_default());
    let shortest = seen.windows(2).map(pause).min()?;
    (shortest < second / rate).then(|| format!("{}: a pause of {shortest:?} only", host.name))
}

/// Held back: how long after the answer that said to slow down somebody asked that host at the latest, within the second
/// that such a hold lasts at least.
pub(super) fn latest_after_told(seen: &[Seen]) -> Duration {
    let told = seen.iter().filter(|one| one.status == 429);
    let mut latest = Duration::ZERO;
    for end in told.filter_map(|one| Some((&one.asked.host, one.end?))) {
        let (host, end) = end;
        let begins = seen.iter().filter(|one| one.asked.host == *host).map(|one| one.begin);
        let within = begins.filter(|begin| (end..end + Duration::from_secs(1)).contains(begin));
        latest = latest.max(within.map(|begin| begin - end).max().unwrap_or_default());
    }
    latest
}

/// URLs that were given to two clients, neither of which is `killed`, or twice to one.
pub(super) fn given_twice(seen: &[Seen], killed: Option<&str>) -> Vec<Asked> {
    let given = seen.iter().filter(|one| one.status == 200);
    let given = given.filter(|one| Some(&*one.asked.client) != killed);
    let mut counts: BTreeMap<(&str, &str), Vec<&Seen>> = BTreeMap::new();
    for one in given {
        counts.entry((&one.asked.host, &one.asked.path)).or_default().push(one);
    }
    let twice = counts.into_values().filter(|times| times.len() > 1);
    twice.map(|times| times[1].asked.clone()).collect()
}

/// By host: the clients of what ran there at that time.
pub(super) fn running_at(seen: &[Seen], at: Duration) -> HashMap<&str, Vec<&Seen>> {
    let mut running: HashMap<&str, Vec<&Seen>> = HashMap::new();
    for one in seen {
        if one.begin <= at && one.end.is_none_or(|end| end > at) {
            running.entry(&one.asked.host).or_default().push(one);
        }
    }
    running
}
