//! kill -9 in the midst of fetching: bodies half way, redirects, services, ranges, files about to have their names.

use std::collections::{HashMap, HashSet};

use rustix::process::Signal;
use serde_json::Value;

use super::kills;
use super::web::Web;
use crate::support::{Place, files_below, sha256};

const RUN: &str = "-q queue run --workers 8 --drain";

/// At which moments a run is killed, in turn: when so many bodies have passed, and so many more are half way.
/// Where none need be, the last one has just been sent: it is verified, synced, named or recorded.
const MOMENTS: [(usize, usize); 7] = [(0, 4), (30, 1), (2, 0), (16, 3), (1, 5), (24, 0), (8, 2)];

/// What one look at a killed run found.
#[derive(Debug, Default)]
struct Seen {
    /// Files under a final name.
    files: usize,
    /// Files being written (`.part`).
    temporary: usize,
    /// What is kept to go on with (`.partial`).
    partial: usize,
    /// Jobs that are done.
    done: usize,
}

/// What was recorded before one kill or another.
struct Record<'w> {
    web: &'w Web,
    /// How often each paper had been asked for when its file was first seen under its final name.
    named: HashMap<usize, usize>,
    /// The papers whose jobs were seen done.
    done: HashSet<usize>,
    /// How often Unpaywall had been asked for each paper when its answer was first seen in a checkpoint.
    learned: HashMap<usize, usize>,
}

impl Record<'_> {
    /// Looks at what a run left. Every file under a final name must be whole, and what has its name, recorded as done or
    /// not, not have been asked for again; what was done must still be.
    fn look(&mut self, place: &Place) -> Seen {
        let mut seen = Seen::default();
        let mut whole = HashMap::new();
        for path in files_below(&place.path("artifacts")) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with('.') {
                let is_partial = name.ends_with(".partial");
                assert!(is_partial || name.ends_with(".part"), "{name}");
                *(if is_partial { &mut seen.partial } else { &mut seen.temporary }) += 1;
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let Some(paper) = self.web.paper_in(&bytes) else {
                panic!("not whole under a final name: {} of {} bytes", path.display(), bytes.len());
            };
            whole.insert(path, paper);
        }
        seen.files = whole.len();
        for paper in whole.values() {
            self.named.entry(*paper).or_insert_with(|| self.web.asked(*paper));
        }
        assert_eq!(self.named.len(), whole.len(), "a file is gone, or there twice");
        for (paper, asked) in &self.named {
            assert_eq!(self.web.asked(*paper), *asked, "asked for again: {paper}");
        }
        for job in place.export().iter().filter(|job| job["state"] == "done") {
            let paper = Web::paper_of(job["artifact_id"].as_str().unwrap());
            let path = place.path(job["path"].as_str().unwrap());
            assert_eq!(whole.get(&path), Some(&paper), "{job}");
            if self.done.insert(paper) {
                assert_eq!(job["sha256"], sha256(&std::fs::read(&path).unwrap()), "{job}");
            }
            seen.done += 1;
        }
        assert_eq!(seen.done, self.done.len(), "a job is not done any more");
        self.look_at_checkpoints(place);
        seen
    }

    /// What a service said is not asked again once it is in a checkpoint.
    fn look_at_checkpoints(&mut self, place: &Place) {
        let db = rusqlite::Connection::open(place.database()).unwrap();
        let sql = "SELECT j.artifact_id, c.data FROM checkpoint c JOIN job j ON j.id = c.job";
        let mut rows = db.prepare(sql).unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        for (id, data) in rows.map(Result::<(String, Vec<u8>), _>::unwrap) {
            let checkpoint: Value = serde_json::from_slice(&data).unwrap();
            let stages = checkpoint["stages"].as_array().into_iter().flatten();
            let named = stages.filter(|stage| stage["name"] == "unpaywall");
            if named.into_iter().any(|stage| stage["found"].as_u64() > Some(0)) {
                let paper = Web::paper_of(&id);
                self.learned.entry(paper).or_insert_with(|| self.web.asked_unpaywall(paper));
            }
        }
        for (paper, asked) in &self.learned {
            let now = self.web.asked_unpaywall(*paper);
            assert_eq!(now, *asked, "asked though it was in a checkpoint: {paper}");
        }
    }
}

/// The service's rate fills its bucket in a second: after a kill it begins empty, for nobody knows what was spent.
fn place_of(web: &Web) -> Place {
    let place = Place::new();
    let base = web.unpaywall();
    place.write(
        "orch.toml",
        format!(
            "[fetch]\nallow_private_addresses = true\ncontact_email = \"harvest@orch-demo.dev\"\n\
             resolvers = [\"line\", \"unpaywall\"]\n\
             [resolvers.unpaywall]\nbase_url = \"{base}\"\nmax_concurrent = 8\nrate = \"1000/s\"\n\
             [orchestrator]\nmax_per_host = 6\nmax_job_attempts = 9\nmax_job_losses = 1000\n\
             retry_backoff_seconds = 1\nretry_backoff_max_seconds = 1\njitter_seconds = 0\n"
        ),
    );
    place
}

#[test]
fn kill_9_while_fetching_leaves_no_torn_file_and_fetches_nothing_twice_that_was_done() {
    let kills = kills();
    // More than can be done before the last kill.
    let papers = 60 + 16 * kills;
    let web = Web::of(papers);
    let place = place_of(&web);
    place.import(&web.lines());
    let (named, done, learned) = (HashMap::new(), HashSet::new(), HashMap::new());
    let mut record = Record { web: &web, named, done, learned };
    let mut all = Seen::default();
    let (mut half_way, mut unrecorded) = (0, 0);
    for round in 0..kills {
        let (passes, wanted) = MOMENTS[round % MOMENTS.len()];
        web.begin_round(passes);
        let mut child = place.start(RUN);
        let held = web.wait_until_half_way(wanted, || child.is_over());
        child.signal(Signal::KILL);
        let ran = child.end();
        assert_eq!(ran.signal, Some(9), "it was over before kill {round}: {}", ran.err);
        half_way += held.unwrap();
        let seen = record.look(&place);
        unrecorded += seen.files - seen.done;
        all.temporary += seen.temporary;
        all.partial += seen.partial;
        all.done = seen.done;
    }
    eprintln!(
        "{kills} kills: {half_way} bodies half way, {} temporary and {} partial files, {unrecorded} files named but not \
         recorded; {} of {papers} done, {} in checkpoints, {} bodies resumed",
        all.temporary,
        all.partial,
        all.done,
        record.learned.len(),
        web.resumed()
    );
    assert!(half_way >= kills && all.temporary > 0, "the kills did not hit bodies under way");
    assert!(all.partial > 0 && web.resumed() > 0, "nothing was there to go on with");
    assert!(all.done > 0 && !record.learned.is_empty(), "nothing was recorded between the kills");

    web.open();
    place.ok(RUN);
    let last = record.look(&place);
    assert_eq!((last.files, last.temporary, last.partial, last.done), (papers, 0, 0, papers));
    assert_eq!((place.count("done"), place.count("total")), (papers as u64, papers as u64));
    assert_eq!(place.integrity(), "ok");
    super::assert_no_owners(&place);
}
