//! The acceptance test: the recorded scholarly web, behind a real HTTPS proxy, with publishers in all their moods.
//!
//! It needs `mitmdump` and `python3` on the path and the recordings in `../shared/fixtures` (or where `ORCH_TEST_FIXTURES`
//! says) with the program that plays them in `../tools` beside them, and takes minutes, for arXiv is asked every three seconds: so it runs for the seeds that
//! `ORCH_TEST_REPLAY` lists ("1,2,3,4,5") and says aloud when it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::support::{Place, Ran, files_below, until};

const CONTACT: &str = "harvest@orch-lab.dev";
const MAX_PER_HOST: usize = 4;
/// What arXiv asks of programs: https://info.arxiv.org/help/api/tou.html.
const ARXIV_SECONDS: f64 = 3.0;

/// Prints, for every URL of standard input, its one spelling: the tool's own, which its PDFs name.
const SPELL: &str =
    "import sys, replay_web\nfor l in sys.stdin: print(replay_web.norm_url(l.rstrip('\\n')))";

#[test]
fn the_recorded_web_gives_all_it_has_and_is_asked_politely() {
    let Some(seeds) = seeds() else { return };
    let Some(tool) = Tool::find() else { return };
    for seed in &seeds {
        check(&tool, seed);
    }
}

/// Which seeds to play; `None`, said aloud, where nobody asked for it.
fn seeds() -> Option<Vec<String>> {
    let Ok(list) = std::env::var("ORCH_TEST_REPLAY") else {
        eprintln!("skipped: takes minutes; ORCH_TEST_REPLAY=1,2,3,4,5 runs it with these seeds");
        return None;
    };
    Some(list.split(',').map(|seed| seed.trim().to_owned()).collect())
}

fn check(tool: &Tool, seed: &str) {
    let place = Place::new();
    let oracle = tool.oracle(seed);
    let proxy = Proxy::start(tool, &place, seed);
    let jobs = harvest(&place, &proxy, &oracle);
    let web = proxy.end();
    check_ends(tool, &place, &oracle, &jobs);
    check_files(&place, &jobs);
    assert_eq!(impolite(&web), None);
    let achievable = oracle.iter().filter(|one| one.achievable).count();
    eprintln!("seed {seed}: {achievable} of {} had, {} requests", oracle.len(), web.len());
}

/// The recordings, and beside them the program that plays them.
struct Tool {
    fixtures: PathBuf,
}

impl Tool {
    /// `None`, said aloud, where something is missing.
    fn find() -> Option<Tool> {
        let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
        let fixtures = std::env::var_os("ORCH_TEST_FIXTURES").map_or_else(beside, PathBuf::from);
        let tool = Tool { fixtures };
        for needed in [tool.fixtures.join("index.jsonl"), tool.program()] {
            if !needed.is_file() {
                eprintln!("skipped: there is no {}", needed.display());
                return None;
            }
        }
        for program in ["mitmdump", "python3"] {
            let mut command = Command::new(program);
            if !command.arg("--version").output().is_ok_and(|output| output.status.success()) {
                eprintln!("skipped: {program} is not on the path, or does not start");
                return None;
            }
        }
        Some(tool)
    }

    fn folder(&self) -> PathBuf {
        self.fixtures.join("../tools")
    }

    fn program(&self) -> PathBuf {
        self.folder().join("replay_web.py")
    }

    /// What can be had with this seed, and from where.
    fn oracle(&self, seed: &str) -> Vec<Told> {
        let mut command = Command::new("python3");
        command.arg(self.program()).args(["oracle", "--seed", seed, "--fixtures"]);
        rows(&Ran::of(command.arg(&self.fixtures)).code(0).out)
    }

    /// Every URL, each in its one spelling.
    fn spelled<'u>(&self, urls: impl Iterator<Item = &'u str>) -> BTreeMap<&'u str, String> {
        let urls: Vec<&str> = urls.collect();
        let mut command = Command::new("python3");
        command.args(["-c", SPELL]).env("PYTHONPATH", self.folder());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.env("PYTHONDONTWRITEBYTECODE", "1").spawn().unwrap();
        // Dropped at the end of the statement, so that it sees the end.
        child.stdin.take().unwrap().write_all(urls.join("\n").as_bytes()).unwrap();
        let ran = Ran::from(child.wait_with_output().unwrap()).code(0);
        let spelled: Vec<String> = ran.out.lines().map(str::to_owned).collect();
        assert_eq!(spelled.len(), urls.len());
        urls.into_iter().zip(spelled).collect()
    }
}

fn rows<T: for<'de> Deserialize<'de>>(jsonl: &str) -> Vec<T> {
    jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the tool says of one artifact.
#[derive(Deserialize)]
struct Told {
    doi: String,
    achievable: bool,
    /// Every candidate URL, and what its server does.
    moods: BTreeMap<String, String>,
}

/// One request, as the proxy saw it.
#[derive(Debug, Clone, Deserialize)]
struct Asked {
    host: String,
    url: String,
    method: String,
    /// Seconds.
    start: f64,
    end: f64,
    status: u16,
    what: String,
    agent: String,
}

/// The web in a box; dropped, it is gone.
struct Proxy {
    child: Child,
    port: u16,
    log: PathBuf,
    authority: PathBuf,
}

impl Proxy {
    fn start(tool: &Tool, place: &Place, seed: &str) -> Proxy {
        // Free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (log, authorities) = (place.path("web.jsonl"), place.path("authorities"));
        let mut command = Command::new("mitmdump");
        command.args(["-q", "-p", &port.to_string(), "--listen-host", "127.0.0.1", "-s"]);
        command.arg(tool.program()).args(["--set", "connection_strategy=lazy"]);
        let paths = [("confdir", &authorities), ("fixtures", &tool.fixtures), ("weblog", &log)];
        for (name, path) in paths {
            command.args(["--set", &format!("{name}={}", path.display())]);
        }
        command.args(["--set", &format!("seed={seed}")]).env("PYTHONDONTWRITEBYTECODE", "1");
        let out = std::fs::File::create(place.path("mitmdump.log")).unwrap();
        command.stdin(Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out);
        let authority = authorities.join("mitmproxy-ca-cert.pem");
        let mut proxy = Proxy { child: command.spawn().unwrap(), port, log, authority };
        until("the proxy", || {
            assert!(proxy.child.try_wait().unwrap().is_none(), "{}", place.read("mitmdump.log"));
            proxy.authority.is_file() && TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        proxy
    }

    /// Ends it; what it was asked, in that order.
    fn end(self) -> Vec<Asked> {
        let log = self.log.clone();
        drop(self);
        let mut web: Vec<Asked> = rows(&std::fs::read_to_string(log).unwrap());
        web.sort_by(|a, b| a.start.total_cmp(&b.start));
        web
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may be over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fetches everything the oracle knows; the jobs, one for each artifact and in its order.
fn harvest(place: &Place, proxy: &Proxy, oracle: &[Told]) -> Vec<Value> {
    let authority = proxy.authority.display();
    place.write(
        "orch.toml",
        format!(
            "[fetch]\ncontact_email = \"{CONTACT}\"\nca_file = \"{authority}\"\n\
             [orchestrator]\nmax_per_host = {MAX_PER_HOST}\nretry_backoff_seconds = 1\njitter_seconds = 0\n\
             [resolvers.openalex]\napi_key = \"k\"\n[resolvers.semantic_scholar]\napi_key = \"k\"\n"
        ),
    );
    let list: String = oracle.iter().map(|told| format!("{}\n", told.doi)).collect();
    place.write("list.txt", list);
    let said = place.ok("queue import list.txt").out;
    assert_eq!(said, format!("imported {}, already there 0, rejected 0\n", oracle.len()));
    let mut command = place.command("-q queue run --workers 8 --drain --max-runtime 20m");
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let ran = Ran::of(command.env("HTTPS_PROXY", &address).env("HTTP_PROXY", &address));
    // 3: what cannot be had ends in error.
    assert!(matches!(ran.code, Some(0 | 3)), "{:?}: {}", ran.code, ran.err);
    let jobs = place.export();
    assert_eq!(jobs.len(), oracle.len());
    for (job, told) in jobs.iter().zip(oracle) {
        let id = job["artifact_id"].as_str().unwrap();
        assert!(id.ends_with(&*told.doi), "another order than the list's: {id}, {}", told.doi);
    }
    jobs
}

/// With which reason a job may end all of whose servers are in such a mood.
fn reason_of(mood: &str) -> Option<&'static str> {
    Some(match mood {
        "wall200" => "wall",
        "challenge403" => "challenge",
        "gone404" => "http_status",
        "loop" => "redirect",
        "empty" | "errorjson" => "unexpected_content",
        _ => return None,
    })
}

/// What can be had is had, and its own; what cannot ends for a reason that is true.
fn check_ends(tool: &Tool, place: &Place, oracle: &[Told], jobs: &[Value]) {
    let spelled =
        tool.spelled(oracle.iter().flat_map(|told| told.moods.keys()).map(String::as_str));
    for (told, job) in oracle.iter().zip(jobs) {
        let state = job["state"].as_str().unwrap();
        if told.achievable {
            assert_eq!(state, "done", "{job:#}");
            let bytes = std::fs::read(place.path(job["path"].as_str().unwrap())).unwrap();
            let named = url_in(&bytes);
            let mut candidates = told.moods.keys().map(|url| as_named(&spelled[&**url]));
            assert!(candidates.any(|one| one == named), "another's file: {named}, {job:#}");
            continue;
        }
        let mut reasons: BTreeSet<&str> =
            told.moods.values().filter_map(|it| reason_of(it)).collect();
        reasons.insert("no_open_copy");
        let reason = job["reason"].as_str().unwrap();
        assert!(matches!(state, "skipped" | "error"), "{job:#}");
        assert!(reasons.contains(reason), "not one of {reasons:?}: {job:#}");
    }
}

/// The URL that a PDF of the tool's says it was served for.
fn url_in(pdf: &[u8]) -> String {
    let text = String::from_utf8_lossy(pdf);
    let (_, after) = text.split_once("Td (").unwrap();
    after.split_once(") Tj").unwrap().0.to_owned()
}

/// A URL as those PDFs give it.
fn as_named(spelled: &str) -> String {
    spelled.chars().take(90).filter(|c| !matches!(c, '(' | ')')).collect()
}

/// Nothing lies there but PDFs, one for each job that is done.
fn check_files(place: &Place, jobs: &[Value]) {
    let files = files_below(&place.path("artifacts"));
    assert_eq!(files.len(), jobs.iter().filter(|job| job["state"] == "done").count());
    for path in files {
        assert!(path.extension().is_some_and(|it| it == "pdf"), "{}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        let head = &bytes[..bytes.len().min(1_024 + 5)];
        assert!(head.windows(5).any(|it| it == b"%PDF-"), "no PDF: {}", path.display());
    }
}

/// What is impolite about these requests, in the order in which they began; `None`: nothing.
fn impolite(web: &[Asked]) -> Option<String> {
    let is_honest =
        |asked: &&Asked| asked.agent.starts_with("orch/") && asked.agent.contains(CONTACT);
    if let Some(asked) = web.iter().find(|asked| !is_honest(asked)) {
        return Some(format!("nobody knows who asks: {asked:?}"));
    }
    let hosts: BTreeSet<&str> = web.iter().map(|asked| &*asked.host).collect();
    for host in hosts {
        let most = most_at_once(web.iter().filter(|asked| asked.host == host));
        if most > MAX_PER_HOST {
            return Some(format!("{most} at once at {host}"));
        }
    }
    let is_arxiv = |asked: &&Asked| asked.host == "arxiv.org" || asked.host.ends_with(".arxiv.org");
    let arxiv: Vec<&Asked> = web.iter().filter(is_arxiv).collect();
    let soon = arxiv.windows(2).find(|two| two[1].start - two[0].start < ARXIV_SECONDS);
    soon.map(|two| format!("too soon: {two:?}")).or_else(|| asked_again(web))
}

/// How many of these were under way at the same time.
fn most_at_once<'a>(asked: impl Iterator<Item = &'a Asked>) -> usize {
    let mut moments: Vec<(f64, bool)> =
        asked.flat_map(|one| [(one.start, true), (one.end, false)]).collect();
    // At the same moment one ends before another begins.
    moments.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut now, mut most) = (0, 0);
    for (_, begins) in moments {
        if begins {
            now += 1
        } else {
            now -= 1
        }
        most = most.max(now);
    }
    most
}

/// Who was asked the same again though the answer before gave no cause. What a POST asks is in its body, which is not on
/// record.
fn asked_again(web: &[Asked]) -> Option<String> {
    let mut last: BTreeMap<&str, &Asked> = BTreeMap::new();
    web.iter().filter(|asked| asked.method != "POST").find_map(|asked| {
        let before = last.insert(&asked.url, asked)?;
        let has_cause =
            matches!(before.status, 429 | 503) || matches!(&*before.what, "cookie" | "empty");
        (!has_cause).then(|| format!("asked again without cause: {before:?}, {asked:?}"))
    })
}

/// A request of one second that begins at `start` and is answered so.
fn asked(url: &str, start: f64, status: u16, what: &str) -> Asked {
    let url = url::Url::parse(url).unwrap();
    let (host, agent) = (url.host_str().unwrap().to_owned(), format!("orch/1 (mailto:{CONTACT})"));
    let (method, what) = ("GET".to_owned(), what.to_owned());
    Asked { host, url: url.into(), method, start, end: start + 1.0, status, what, agent }
}

#[test]
fn what_is_impolite_is_seen() {
    let check = |web: Vec<Asked>, expected: &str| {
        let found = impolite(&web).unwrap_or_default();
        assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{found}");
    };
    let at = |path: usize, start| asked(&format!("https://h.example/{path}"), start, 200, "pdf");
    check((0..4).map(|n| at(n, 0.0)).collect(), "");
    check((0..5).map(|n| at(n, if n == 4 { 1.0 } else { 0.0 })).collect(), "");
    check(
        (0..5).map(|n| at(n, if n == 4 { 0.9 } else { 0.0 })).collect(),
        "5 at once at h.example",
    );
    check(vec![Asked { agent: "Mozilla/5.0".to_owned(), ..at(0, 0.0) }], "nobody knows who asks");

    let arxiv = |host: &str, start| asked(&format!("https://{host}/{start}"), start, 200, "api");
    check(vec![arxiv("export.arxiv.org", 0.0), arxiv("arxiv.org", 3.0)], "");
    check(vec![arxiv("export.arxiv.org", 0.0), arxiv("arxiv.org", 2.9)], "too soon");

    let twice = |status, what| {
        [0.0, 2.0].map(|start| asked("https://h.example/", start, status, what)).to_vec()
    };
    for (status, what) in [(429, "busy429"), (503, "flaky503"), (302, "cookie"), (200, "empty")] {
        check(twice(status, what), "");
    }
    check(twice(404, "gone404"), "asked again without cause");
    check(twice(200, "api"), "asked again without cause");
}
