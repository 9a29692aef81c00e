//! What asking one resolver about one family of DOIs came to in an attempt: the evidence that an order of resolvers is
//! learned from.
//!
//! Counted by whoever asks, carried by the [`super::Note`] of the attempt, and added up by the store that accepts it.
//! Must never hold anything that tells one work from another: a prefix is a publisher's, not an article's.

/// The longest prefix that is told apart, in bytes. Registrants' codes have four to nine digits, some with a subdivision.
const MAX_PREFIX_BYTES: usize = 32;

/// How often one resolver was asked about works under one DOI prefix, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// The resolver's name in the configuration.
    pub resolver: Box<str>,
    /// The DOI prefix of the works, such as `10.1234`; [`Observation::NO_PREFIX`] for works without a DOI.
    pub prefix: Box<str>,
    /// Conversations begun: one for each work, however many requests it took.
    pub asked: u32,
    /// Those that named at least one candidate.
    pub found: u32,
    /// Those of which a candidate became the file that was kept.
    pub fetched: u32,
    /// Those that were put off because the resolver was held or told to be left alone.
    pub busy: u32,
    /// Those that ended in an answer that is none.
    pub broken: u32,
    /// What the conversations took in all, in milliseconds.
    pub elapsed_ms: u64,
}

impl Observation {
    /// Stands for no prefix, and for all those that a store no longer tells apart.
    pub const NO_PREFIX: &'static str = "-";

    /// Nothing yet of that resolver, about works under the prefix of `doi` (`10.1234/abc`, in its normal form).
    #[must_use]
    pub fn of(resolver: &str, doi: Option<&str>) -> Observation {
        let prefix = doi.and_then(|doi| doi.split('/').next());
        let prefix = prefix.filter(|prefix| (1..=MAX_PREFIX_BYTES).contains(&prefix.len()));
        Observation {
            resolver: resolver.into(),
            prefix: prefix.unwrap_or(Observation::NO_PREFIX).into(),
            ..Observation::default()
        }
    }

    /// Adds the counts of another, whatever it is about. A count that is full stays full.
    pub fn add(&mut self, other: &Observation) {
        let counts = [
            (&mut self.asked, other.asked),
            (&mut self.found, other.found),
            (&mut self.fetched, other.fetched),
            (&mut self.busy, other.busy),
            (&mut self.broken, other.broken),
        ];
        for (sum, more) in counts {
            *sum = sum.saturating_add(more);
        }
        self.elapsed_ms = self.elapsed_ms.saturating_add(other.elapsed_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_a_doi_is_what_stands_before_its_first_slash() {
        let check = |doi: Option<&str>, expected: &str| {
            let observation = Observation::of("unpaywall", doi);
            assert_eq!(&*observation.prefix, expected, "{doi:?}");
            assert_eq!((&*observation.resolver, observation.asked), ("unpaywall", 0));
        };
        check(Some("10.1234/abc/def"), "10.1234");
        check(Some("10.1000.10/x"), "10.1000.10");
        check(None, "-");
        check(Some("/abc"), "-");
        check(Some(&format!("10.{}/x", "9".repeat(40))), "-");
    }

    #[test]
    fn counts_add_up_and_stay_full() {
        let one = Observation {
            asked: 1,
            found: 2,
            fetched: 3,
            busy: 4,
            broken: u32::MAX,
            elapsed_ms: u64::MAX - 1,
            ..Observation::of("a", None)
        };
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!((sum.asked, sum.found, sum.fetched, sum.busy), (2, 4, 6, 8));
        assert_eq!((sum.broken, sum.elapsed_ms), (u32::MAX, u64::MAX));
    }
}
