//! What was learned of resolvers: which of them yield, for which DOI prefix, and at what cost.
//!
//! Begins with what the queue has counted and goes on counting by itself. Must stay bounded: of the prefixes seen in this
//! process only so many are kept apart.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::resolve::{ARCHIVE, Active, LANDING_PAGE, LINE};
use crate::job::Observation;

/// The most pairs of resolver and prefix kept.
const MAX_KEPT: usize = 65_536;
/// What is thought of a resolver that was never asked: so many answers, of which half gave a file.
const PRIOR_ASKED: f64 = 2.0;
/// How much what is known of a resolver counts beside what is known of it for one prefix.
const OVERALL_WEIGHT: f64 = 5.0;
/// What an answer costs beside the time it took: our own share, and somebody else's patience.
const FIXED_MS: f64 = 200.0;

#[derive(Debug, Default, Clone, Copy)]
struct Yield {
    asked: f64,
    fetched: f64,
    elapsed_ms: f64,
}

/// Yields by resolver and prefix; the empty prefix is all of them.
#[derive(Default)]
pub(super) struct Learned {
    known: Mutex<HashMap<Pair, Yield>>,
}

/// A resolver and a prefix.
type Pair = (Box<str>, Box<str>);

impl Learned {
    /// What the queue has counted.
    pub(super) fn of(counted: &[Observation]) -> Learned {
        let learned = Learned::default();
        learned.add(counted);
        learned
    }

    /// Counts these as well.
    pub(super) fn add(&self, observed: &[Observation]) {
        if observed.is_empty() {
            return;
        }
        let mut known = self.known.lock();
        for one in observed {
            for prefix in ["", &*one.prefix] {
                let key = (one.resolver.clone(), Box::from(prefix));
                if known.len() >= MAX_KEPT && !prefix.is_empty() && !known.contains_key(&key) {
                    continue;
                }
                let sum = known.entry(key).or_default();
                sum.asked += f64::from(one.asked);
                sum.fetched += f64::from(one.fetched);
                #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                let elapsed_ms = one.elapsed_ms as f64;
                sum.elapsed_ms += elapsed_ms;
            }
        }
    }

    /// The resolvers for a work with that DOI, the most promising first: by how likely a file is, for what it costs. The
    /// line's own URLs stay first, pages and an archive last; among equals the given order stays.
    pub(super) fn order<'p>(&self, active: &'p [Active], doi: Option<&str>) -> Vec<&'p Active> {
        let prefix = Observation::of("", doi).prefix;
        let known = self.known.lock();
        let mut ordered: Vec<(u8, f64, &Active)> = active
            .iter()
            .map(|one| match one.name {
                LINE => (0, 0.0, one),
                // Pages are read when all have been asked who may name one.
                LANDING_PAGE => (2, 0.0, one),
                ARCHIVE => (3, 0.0, one),
                name => {
                    let get = |prefix: &str| {
                        let key = (Box::from(name), Box::from(prefix));
                        known.get(&key).copied().unwrap_or_default()
                    };
                    (1, -worth(get(""), get(&prefix)), one)
                }
            })
            .collect();
        ordered.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        ordered.into_iter().map(|(_, _, one)| one).collect()
    }
}

/// Files a second that asking is worth.
fn worth(overall: Yield, here: Yield) -> f64 {
    let rate = (overall.fetched + PRIOR_ASKED / 2.0) / (overall.asked + PRIOR_ASKED);
    let likely = (here.fetched + OVERALL_WEIGHT * rate) / (here.asked + OVERALL_WEIGHT);
    let mean_ms = overall.elapsed_ms / overall.asked.max(1.0);
    likely / (mean_ms + FIXED_MS)
}

#[cfg(test)]
mod tests {
    use super::super::resolve::{Plan, ResolverSettings};
    use super::*;

    fn seen(
        resolver: &str,
        prefix: &str,
        asked: u32,
        fetched: u32,
        elapsed_ms: u64,
    ) -> Observation {
        let (resolver, prefix) = (resolver.into(), prefix.into());
        Observation { resolver, prefix, asked, fetched, elapsed_ms, ..Observation::default() }
    }

    fn order(learned: &Learned, prefix: &str) -> Vec<&'static str> {
        let names = ["line", "unpaywall", "crossref", "zenodo", "wayback"];
        let plan = Plan::new(&names.map(ResolverSettings::named), Some("me@lib.test"));
        let plan = plan.unwrap_or_else(|error| panic!("{error}"));
        learned
            .order(plan.active(), Some(&format!("{prefix}/x")))
            .iter()
            .map(|one| one.name)
            .collect()
    }

    #[test]
    fn nothing_learned_leaves_the_given_order() {
        let given = ["line", "unpaywall", "crossref", "zenodo", "wayback"];
        assert_eq!(order(&Learned::default(), "10.1"), given);
    }

    #[test]
    fn who_yields_for_this_prefix_comes_first() {
        let learned = Learned::of(&[
            seen("unpaywall", "10.1", 100, 60, 10_000),
            seen("unpaywall", "10.5281", 100, 0, 10_000),
            seen("zenodo", "10.1", 100, 0, 10_000),
            seen("zenodo", "10.5281", 100, 99, 10_000),
            seen("crossref", "10.1", 100, 1, 10_000),
        ]);
        assert_eq!(order(&learned, "10.1")[1], "unpaywall");
        assert_eq!(order(&learned, "10.5281")[1], "zenodo");
        learned.add(&[seen("unpaywall", "10.1", 10, 6, 10_000_000)]);
        assert_ne!(order(&learned, "10.1")[1], "unpaywall", "an answer that takes minutes is dear");
    }
}
