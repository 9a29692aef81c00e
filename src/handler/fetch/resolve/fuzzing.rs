//! What a fuzzer says in the name of a service.

use url::Url;

use super::{Step, Terms, plan, trial};

/// Reads `data` as an answer of the service of that name: the step, the status (two bytes), and the body.
pub(in crate::handler::fetch) fn read(name: &str, data: &[u8]) {
    let Ok(base) = Url::parse("https://service.test/api") else { return };
    let Some((&[number, low, high], body)) = data.split_first_chunk() else { return };
    let terms = Terms { base, key: None, contact: None };
    let Some(resolver) = plan::made(name, terms) else {
        unreachable!("no service is called {name}")
    };
    // The usual statuses are common enough to be found at once; all others can be.
    let status = match (low, high) {
        (0..=127, _) => 200,
        (128..=191, _) => 404,
        _ => u16::from_le_bytes([low, high]),
    };
    let step = Step::new(number, "https://service.test/7");
    trial::show(&*resolver, &trial::everything(), &step, (status, body));
}
