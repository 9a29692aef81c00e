//! What the tests of resolvers share: one answer, and what is made of it.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use url::Url;

pub(super) use super::trial::everything;
use super::trial::show;
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
    let reply = Reply { status, content_type: "", body };
    resolver.read(work, step, &reply).map_err(|no| (no.kind, no.message.into()))
}

/// What is learned of a work from the first step's answer, whatever else that says.
pub(super) fn learned(resolver: &dyn Resolver, work: &Work, body: &str) -> Work {
    let reply = Reply { status: 200, content_type: "", body: body.as_bytes() };
    let said = resolver.read(work, &Step::default(), &reply);
    let learned = said.map_or_else(|no| no.learned, |said| said.learned);
    let mut known = Work::default();
    learned.iter().for_each(|(scheme, text)| known.identify(*scheme, text));
    known
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

/// Whatever a service answers, in whatever step of a conversation: nothing panics, and what is said can be asked for. Tried
/// with arbitrary bytes, and with `valid`, an answer of the service: with a few of its bytes changed or lost, with odd values in
/// the place of others where it is JSON, and cut short.
#[track_caller]
pub(super) fn never_panics(resolver: &dyn Resolver, valid: &str) {
    let works = [everything(), Work::default()];
    let status = prop_oneof![3 => Just(200), 2 => 400_u16..430, 1 => any::<u16>()];
    let number = prop_oneof![6 => 0_u8..6, 1 => any::<u8>()];
    let carried = prop_oneof![
        "PMC[1-9]{1,3}",
        "[1-9]{1,3}",
        "https://[a-z.]{1,8}/[a-z]",
        "metadata/PMC1\\.[1-9]\\.json",
        ".{0,40}",
    ];
    let config = Config { failure_persistence: None, ..Config::default() };
    let case = (status, number, carried, answers(valid));
    let ran = TestRunner::new(config).run(&case, |(status, number, carried, body)| {
        let step = Step::new(number, carried);
        works.iter().for_each(|work| show(resolver, work, &step, (status, &body)));
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}

/// Bodies like `valid`, and quite different ones.
fn answers(valid: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let valid = valid.as_bytes().to_vec();
    let json: Option<Value> = serde_json::from_slice(&valid).ok();
    let disturbed = match json {
        Some(json) => disturbed(json).boxed(),
        None => Just(valid.clone()).boxed(),
    };
    let arbitrary = prop::collection::vec(any::<u8>(), 0..200);
    let body = prop_oneof![1 => arbitrary, 3 => damaged(valid), 4 => disturbed];
    let cut = prop::option::weighted(0.1, any::<Index>());
    (body, cut).prop_map(|(mut body, cut)| {
        body.truncate(cut.map_or(body.len(), |cut| cut.index(body.len() + 1)));
        body
    })
}

/// A body of which a few bytes were changed or lost.
fn damaged(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<Index>(), any::<Option<u8>>()), 0..8);
    edits.prop_map(move |edits| {
        let mut body = valid.clone();
        for (index, byte) in edits {
            match byte {
                _ if body.is_empty() => break,
                Some(byte) => *index.get_mut(&mut body) = byte,
                None => drop(body.remove(index.index(body.len()))),
            }
        }
        body
    })
}

/// A body with values in it that a service never promised to send.
fn disturbed(valid: Value) -> impl Strategy<Value = Vec<u8>> {
    let odd = ["null", "[]", "{}", "[null]", "7", "-1", "true", "\"\"", "\"x\"", r#"{"$":[{}]}"#];
    let odd: Vec<Value> = odd.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let places = prop::collection::vec((0_usize..60, prop::sample::select(odd)), 0..3);
    places.prop_map(move |places| {
        let mut body = valid.clone();
        places.into_iter().for_each(|(mut nth, odd)| disturb(&mut body, &mut nth, &odd));
        body.to_string().into_bytes()
    })
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
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The recorded answers of a service, where they lie beside the repository; nothing of them is part of it.
pub(super) fn recordings(service: &str) -> Vec<Recording> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let root = std::env::var_os("ORCH_TEST_FIXTURES").map_or_else(beside, PathBuf::from);
    let Ok(index) = std::fs::read_to_string(root.join("index.jsonl")) else {
        eprintln!("skipped: no recorded answers at {}", root.display());
        return Vec::new();
    };
    let rows = index.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
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
