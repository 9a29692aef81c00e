//! What tests and fuzz targets hold every resolver to.

use url::Url;

use super::{MAX_CARRIED_BYTES, Reply, Resolver, Step, Work};

/// A work of which everything is known.
pub(super) fn everything() -> Work {
    let urls = |text: &str| Url::parse(text).into_iter().collect::<Vec<_>>();
    Work {
        doi: Some("10.1/x".into()),
        arxiv: Some("2101.00001".into()),
        pmcid: Some("PMC1".into()),
        pmid: Some("1".into()),
        year: Some(2012),
        given: urls("https://h.test/a.pdf"),
        pages: urls("https://h.test/page"),
        failed: ["http://h.test/1", "http://h.test/2", "http://h.test/3"].map(urls).concat(),
    }
}

/// Shows an answer to a resolver. Whatever bytes it is given, what it says must be such as can be asked for and kept.
///
/// # Panics
/// When the resolver does, or what it says is not.
pub(super) fn show(
    resolver: &dyn Resolver,
    work: &Work,
    step: &Step,
    (status, body): (u16, &[u8]),
) {
    let mut found = resolver.known(work);
    let was_asked = resolver.ask(work, step).is_some();
    let reply = Reply { status, content_type: "", body };
    if let Ok(said) = resolver.read(work, step, &reply) {
        found.extend(said.found);
        if let Some(next) = said.next.filter(|_| was_asked) {
            assert!(next.carried.len() <= MAX_CARRIED_BYTES, "more than is kept");
            assert!(resolver.ask(work, &next).is_some(), "a step that cannot be asked: {next:?}");
        }
    }
    for candidate in found {
        assert!(matches!(candidate.url.scheme(), "http" | "https"), "{}", candidate.url);
    }
}
