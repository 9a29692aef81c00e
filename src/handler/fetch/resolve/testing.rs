//! What the tests of resolvers share: one answer, and what is made of it.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use url::Url;

use super::{Candidate, NoKind, Reply, Resolver, Said, Step, Terms, Work};

/// A work with this DOI.
pub(super) fn work(doi: &str) -> Work {
    Work { doi: Some(doi.into()), ..Work::default() }
}

/// Terms with a contact and without a key.
pub(super) fn terms(base: &str) -> Terms {
    Terms { base: Url::parse(base).unwrap(), key: None, contact: Some("me@lib.test".into()) }
}

/// The URL of the first request.
#[track_caller]
pub(super) fn asked(resolver: &dyn Resolver, work: &Work) -> String {
    resolver.ask(work, &Step::default()).unwrap().url.to_string()
}

/// What the first step's answer is read as.
pub(super) fn read(
    resolver: &dyn Resolver,
    status: u16,
    body: &str,
) -> Result<Said, (NoKind, String)> {
    read_step(resolver, &work("10.1/x"), &Step::default(), status, body.as_bytes())
}

/// What an answer to a step is read as.
pub(super) fn read_step(
    resolver: &dyn Resolver,
    work: &Work,
    step: &Step,
    status: u16,
    body: &[u8],
) -> Result<Said, (NoKind, String)> {
    let url = Url::parse("https://service.test/").unwrap();
    let reply = Reply { status, content_type: "", body, url: &url };
    resolver.read(work, step, &reply).map_err(|no| (no.kind, no.message.into()))
}

/// The candidates of an answer that must have some.
#[track_caller]
pub(super) fn found(resolver: &dyn Resolver, status: u16, body: &str) -> Vec<Candidate> {
    read(resolver, status, body).unwrap().found
}

#[track_caller]
fn is_no(resolver: &dyn Resolver, status: u16, body: &str, kind: NoKind) {
    let no = read(resolver, status, body);
    assert_eq!(no.as_ref().map_err(|(kind, _)| *kind), Err(kind), "{status} {body:?}: {no:?}");
}

/// The answer must say that there is nothing.
#[track_caller]
pub(super) fn absent(resolver: &dyn Resolver, status: u16, body: &str) {
    is_no(resolver, status, body, NoKind::Absent);
}

/// The answer must not be taken for one.
#[track_caller]
pub(super) fn broken(resolver: &dyn Resolver, status: u16, body: &str) {
    is_no(resolver, status, body, NoKind::Broken);
}

/// The answer must be taken for a refusal.
#[track_caller]
pub(super) fn refused(resolver: &dyn Resolver, status: u16, body: &str) {
    is_no(resolver, status, body, NoKind::Refused);
}

/// Whatever a service answers, in whatever step of a conversation: nothing panics. Tried with arbitrary bytes, and with
/// `valid`, an answer of the service, after a few of its bytes were changed or lost.
pub(super) fn never_panics(resolver: &dyn Resolver, valid: &str) {
    use proptest::test_runner::Config;

    let works = [work("10.1234/x"), everything(), Work::default()];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<Option<u8>>()), 0..8);
    let damaged = edits.prop_map(|edits| {
        let mut body = valid.as_bytes().to_vec();
        for (index, byte) in edits {
            match byte {
                _ if body.is_empty() => break,
                Some(byte) => *index.get_mut(&mut body) = byte,
                None => drop(body.remove(index.index(body.len()))),
            }
        }
        body
    });
    let arbitrary = prop::collection::vec(any::<u8>(), 0..200);
    let body = prop_oneof![3 => damaged, 1 => arbitrary];
    let status = prop_oneof![3 => Just(200), 2 => 400_u16..430, 1 => any::<u16>()];
    let carried = prop_oneof!["PMC[1-9]{1,3}", ".{0,40}", "metadata/PMC1\\.[1-9]\\.json"];
    let case = (status, 0_u8..5, carried, body);
    let config = Config { failure_persistence: None, ..Config::default() };
    let ran = TestRunner::new(config).run(&case, |(status, number, carried, body)| {
        let step = Step::new(number, carried);
        for work in &works {
            let _ = resolver.known(work);
            let _ = resolver.ask(work, &step);
            let _ = read_step(resolver, work, &step, status, &body);
        }
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}

/// A work of which every identifier is known.
pub(super) fn everything() -> Work {
    Work {
        doi: Some("10.1234/x".into()),
        arxiv: Some("2101.00001".into()),
        pmcid: Some("PMC1".into()),
        pmid: Some("1".into()),
        year: Some(2021),
        ..Work::default()
    }
}

/// An answer that a service once gave.
pub(super) struct Recording {
    /// Where it lies.
    pub(super) file: String,
    /// Its status.
    pub(super) status: u16,
    /// Its body.
    pub(super) body: Vec<u8>,
}

impl Recording {
    /// The body as JSON; null where it is none.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The recorded answers of a service, where they lie beside the repository; nothing of them is part of it.
pub(super) fn recordings(service: &str) -> Vec<Recording> {
    use std::path::{Path, PathBuf};

    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let root = std::env::var_os("ORCH_TEST_FIXTURES").map_or_else(beside, PathBuf::from);
    let Ok(index) = std::fs::read_to_string(root.join("index.jsonl")) else {
        eprintln!("skipped: no recorded answers at {}", root.display());
        return Vec::new();
    };
    let rows = index.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let rows = rows.filter(|row| row["service"] == service);
    let read = rows.map(|row| Recording {
        file: row["file"].as_str().unwrap().to_owned(),
        status: row["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap(),
        body: std::fs::read(root.join(row["file"].as_str().unwrap())).unwrap(),
    });
    let read: Vec<Recording> = read.collect();
    assert!(!read.is_empty(), "{} has no answer of {service}", root.display());
    read
}

/// Reads all recorded answers of a service. `promised` says for which works a recording promises files, and at which
/// URLs; all these must be found. The total must be at least one, lest nothing be proven.
#[track_caller]
pub(super) fn reads_recordings(
    resolver: &dyn Resolver,
    service: &str,
    promised: impl Fn(&Recording) -> Vec<(Work, Vec<String>)>,
) {
    let recordings = recordings(service);
    let mut kept = 0;
    for recording in &recordings {
        for number in 0..4 {
            let step = Step::new(number, "");
            for work in [work("10.1234/x"), everything(), Work::default()] {
                let _ = read_step(resolver, &work, &step, recording.status, &recording.body);
            }
        }
        for (work, urls) in promised(recording) {
            let status = recording.status;
            let said = read_step(resolver, &work, &Step::default(), status, &recording.body);
            let said = said.unwrap_or_else(|no| panic!("{}: {work:?}: {no:?}", recording.file));
            for url in urls.iter().filter_map(|url| Url::parse(url).ok()) {
                let found = said.found.iter().any(|candidate| candidate.url == url);
                assert!(found, "{}: {url} is not in {:?}", recording.file, said.found);
                kept += 1;
            }
        }
    }
    assert!(recordings.is_empty() || kept > 0, "no recording of {service} promises a file");
}

/// A work of which everything is known.
fn whole_work() -> Work {
    let url = |text| Url::parse(text).unwrap();
    Work {
        doi: Some("10.1/x".into()),
        arxiv: Some("2101.00001".into()),
        pmcid: Some("PMC1".into()),
        pmid: Some("1".into()),
        year: Some(2012),
        given: vec![url("https://h.test/a.pdf")],
        pages: vec![url("https://h.test/page")],
        failed: vec![url("http://h.test/1"), url("http://h.test/2"), url("http://h.test/3")],
    }
}

/// A value that a service never promised to send.
fn odd_value() -> impl Strategy<Value = Value> + Clone {
    let odd = ["null", "[]", "{}", "[null]", "7", "-1", "true", "\"\"", "\"x\"", r#"{"$":[{}]}"#];
    prop::sample::select(odd.to_vec()).prop_map(|text| serde_json::from_str(text).unwrap())
}

/// Puts `odd` in place of the `nth` value inside, counted in the order of the text.
fn disturb(value: &mut Value, nth: &mut usize, odd: &Value) {
    if *nth == 0 {
        odd.clone_into(value);
        *nth = usize::MAX;
        return;
    }
    *nth -= 1;
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|it| disturb(it, nth, odd)),
        Value::Object(fields) => fields.values_mut().for_each(|it| disturb(it, nth, odd)),
        _ => {}
    }
}

/// Neither bytes nor statuses nor steps make it panic: arbitrary ones, a valid JSON body with odd values in the place of others,
/// and the same cut short. Whatever it says can be asked for and kept.
#[track_caller]
pub(super) fn survives_anything(resolver: &dyn Resolver, valid: &str) {
    let valid: Value = serde_json::from_str(valid).unwrap();
    let disturbed = proptest::collection::vec((0_usize..60, odd_value()), 0..3);
    let disturbed = disturbed.prop_map(move |places| {
        let mut body = valid.clone();
        places.into_iter().for_each(|(mut nth, odd)| disturb(&mut body, &mut nth, &odd));
        body.to_string().into_bytes()
    });
    let cut = (disturbed.clone(), 0_usize..400).prop_map(|(mut body, at): (Vec<u8>, usize)| {
        body.truncate(at);
        body
    });
    let body = prop_oneof![2 => any::<Vec<u8>>(), 6 => disturbed, 1 => cut];
    let status = prop_oneof![3 => Just(200), 1 => Just(404), 1 => Just(410), 1 => any::<u16>()];
    let step = (prop_oneof![0_u8..6, any::<u8>()], "\\PC{0,40}");
    let step = step.prop_map(|(number, carried)| Step::new(number, carried));
    let work = prop_oneof![3 => Just(whole_work()), 1 => Just(Work::default())];
    let run =
        TestRunner::default().run(&(work, step, status, body), |(work, step, status, body)| {
            let _ = resolver.ask(&work, &step);
            if let Ok(said) = read_step(resolver, &work, &step, status, &body) {
                prop_assert!(
                    said.found.iter().all(|it| matches!(it.url.scheme(), "http" | "https"))
                );
                if let Some(next) = said.next {
                    prop_assert!(next.carried.len() <= super::MAX_CARRIED_BYTES);
                    prop_assert!(resolver.ask(&work, &next).is_some(), "cannot ask {next:?}");
                }
            }
            Ok(())
        });
    run.unwrap();
}

/// The names and bodies of all recorded answers of a service; none, said aloud, where there are no recordings.
pub(super) fn recorded(service: &str) -> Vec<(String, Vec<u8>)> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let root = std::env::var_os("ORCH_TEST_FIXTURES").map_or_else(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(root.join(service)) else {
        eprintln!("skipped: no recordings of {service} at {}", root.display());
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}
