//! Rounds of a part of [`orch::bench`], as a bench prints them.

use orch::bench::figures::Figures;
use orch::bench::{Bench, Part};

use crate::common::said;

/// Measures `runs` rounds of a part, and prints each.
pub(crate) fn rounds(what: &str, bench: &Bench, part: &mut dyn Part, runs: usize, budget: &str) {
    let mut all: Vec<(&str, Figures, Figures, Figures)> = Vec::new();
    for run in 0..runs.max(1) {
        let round = part.round(bench, run % 2 == 1).expect("a round");
        for (index, beside) in round.into_iter().enumerate() {
            let measure = beside.measure;
            if run == 0 {
                println!("run  {0:>15} of orch  {0:>15} raw    ratio", measure.unit);
                all.push((
                    measure.unit,
                    Figures::default(),
                    Figures::default(),
                    Figures::default(),
                ));
            }
            println!(
                "{:>3}  {:>23.3}  {:>19.3}  {:>7.2}",
                run + 1,
                beside.orch,
                beside.raw,
                beside.ratio()
            );
            let (_, orch, raw, ratios) = &mut all[index];
            orch.push(beside.orch);
            raw.push(beside.raw);
            ratios.push(beside.ratio());
        }
    }
    for (unit, orch, raw, ratios) in all {
        said(
            &format!("{what}, {unit}"),
            &format!("{} x the raw limit", &ratios),
            &format!("medians: orch {:.2}, raw {:.2}; {runs} runs", orch.median(), raw.median()),
            budget,
        );
    }
}
