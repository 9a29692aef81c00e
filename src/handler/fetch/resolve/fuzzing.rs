//! What a fuzzer says in the name of a service.

use url::Url;

use super::{MAX_CARRIED_BYTES, Reply, Step, Terms, Work, plan};

/// Reads `data` as an answer of the service of that name: the step, the status (two bytes), and the body.
pub(in crate::handler::fetch) fn read(name: &str, data: &[u8]) {
    let Ok(base) = Url::parse("https://service.test/api") else { return };
    let Some((&[number, low, high], body)) = data.split_first_chunk() else { return };
    let terms = Terms { base: base.clone(), key: None, contact: None };
    let Some(resolver) = plan::made(name, terms) else {
        unreachable!("no service is called {name}")
    };
    let work = whole_work();
    // The usual statuses are common enough to be found at once; all others can be.
    let status = match (low, high) {
        (0..=127, _) => 200,
        (128..=191, _) => 404,
        _ => u16::from_le_bytes([low, high]),
    };
    let step = Step::new(number, "https://service.test/7");
    let _ = resolver.ask(&work, &step);
    let reply = Reply { status, content_type: "", body, url: &base };
    let Ok(said) = resolver.read(&work, &step, &reply) else { return };
    if let Some(next) = said.next {
        assert!(next.carried.len() <= MAX_CARRIED_BYTES, "more than is kept");
        assert!(resolver.ask(&work, &next).is_some(), "a step that cannot be asked: {next:?}");
    }
}

/// A work of which everything is known.
fn whole_work() -> Work {
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
