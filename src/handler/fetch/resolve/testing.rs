//! What the tests of resolvers share: one answer, and what is made of it.

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
