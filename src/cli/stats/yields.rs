//! What each resolver has yielded, beside the jobs that ask it next.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::output::Column;
use crate::job::Observation;
use crate::queue::store::Counts;

/// What came of asking one resolver, about whatever works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Yield {
    asked: u64,
    found: u64,
    fetched: u64,
    busy: u64,
    broken: u64,
    elapsed_ms: u64,
}

impl Yield {
    fn add(&mut self, one: &Observation) {
        self.asked += u64::from(one.asked);
        self.found += u64::from(one.found);
        self.fetched += u64::from(one.fetched);
        self.busy += u64::from(one.busy);
        self.broken += u64::from(one.broken);
        self.elapsed_ms = self.elapsed_ms.saturating_add(one.elapsed_ms);
    }

    /// How long one question took, in whole milliseconds; `None` when nothing was asked.
    fn mean_ms(self) -> Option<u64> {
        let half = self.asked / 2;
        self.elapsed_ms.saturating_add(half).checked_div(self.asked)
    }

    /// The cells under [`COLUMNS`].
    pub(super) fn cells(self) -> impl Iterator<Item = String> {
        let counts = [self.asked, self.found, self.fetched, self.busy, self.broken];
        let mean_ms = self.mean_ms().map_or_else(String::new, |ms| ms.to_string());
        counts.map(|count| count.to_string()).into_iter().chain([mean_ms])
    }
}

pub(super) const COLUMNS: [Column; 6] = [
    Column::numbers("asked"),
    Column::numbers("found"),
    Column::numbers("fetched"),
    Column::numbers("busy"),
    Column::numbers("broken"),
    Column::numbers("mean_ms"),
];

#[derive(Debug, Serialize)]
pub(super) struct YieldJson {
    asked: u64,
    found: u64,
    fetched: u64,
    busy: u64,
    broken: u64,
    mean_ms: Option<u64>,
}

impl From<Yield> for YieldJson {
    fn from(sum: Yield) -> YieldJson {
        YieldJson {
            asked: sum.asked,
            found: sum.found,
            fetched: sum.fetched,
            busy: sum.busy,
            broken: sum.broken,
            mean_ms: sum.mean_ms(),
        }
    }
}

/// Every resolver that jobs wait for or that was ever asked: the former as they come, then the others by name.
pub(super) fn by_resolver(
    counts: Vec<(String, Counts)>,
    yields: &[Observation],
) -> Vec<(String, Counts, Yield)> {
    let mut sums: BTreeMap<&str, Yield> = BTreeMap::new();
    for one in yields {
        sums.entry(&one.resolver).or_default().add(one);
    }
    let mut rows: Vec<(String, Counts, Yield)> = counts
        .into_iter()
        .map(|(name, counts)| {
            let sum = sums.remove(name.as_str()).unwrap_or_default();
            (name, counts, sum)
        })
        .collect();
    rows.extend(sums.into_iter().map(|(name, sum)| (name.to_owned(), Counts::default(), sum)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(resolver: &str, prefix: &str, asked: u32, elapsed_ms: u64) -> Observation {
        Observation {
            resolver: resolver.into(),
            prefix: prefix.into(),
            asked,
            found: 2,
            fetched: 1,
            busy: 3,
            broken: 4,
            elapsed_ms,
        }
    }

    #[test]
    fn resolvers_of_jobs_come_first_and_each_is_the_sum_over_its_prefixes() {
        let queued = Counts { queued: 7, ..Counts::default() };
        let counts = vec![("unpaywall".to_owned(), queued), ("-".to_owned(), Counts::default())];
        let yields = [
            observed("doaj", "10.2", 2, 7),
            observed("arxiv", "-", 0, 0),
            observed("unpaywall", "-", 1, 100),
            observed("unpaywall", "10.1", u32::MAX, 50),
        ];
        let rows = by_resolver(counts, &yields);
        let names: Vec<&str> = rows.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["unpaywall", "-", "arxiv", "doaj"]);
        let (_, counts, sum) = &rows[0];
        assert_eq!(*counts, queued);
        assert_eq!((sum.asked, sum.found, sum.elapsed_ms), (1 << 32, 4, 150));
        assert_eq!((rows[1].2, rows[3].1), (Yield::default(), Counts::default()));
        let cells: Vec<String> = rows[3].2.cells().collect();
        assert_eq!(cells, ["2", "2", "1", "3", "4", "4"]);
    }

    #[test]
    fn the_mean_is_rounded_and_there_is_none_of_nothing() {
        let mean = |asked, elapsed_ms| Yield { asked, elapsed_ms, ..Yield::default() }.mean_ms();
        assert_eq!(mean(0, 100), None);
        assert_eq!((mean(3, 10), mean(3, 11)), (Some(3), Some(4)));
        assert_eq!(mean(1, u64::MAX), Some(u64::MAX));
        assert_eq!(Yield::default().cells().last().as_deref(), Some(""));
    }
}
