//! What was measured, as a table for people or JSON for programs.
//!
//! Must never say a figure without the one it was measured beside.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{BenchArgs, PartName};
use crate::bench::figures::Figures;
use crate::bench::{Beside, Measure, fetch};
use crate::cli::args::TableFormat;
use crate::cli::error::CliError;
use crate::cli::output::{Column, Table, thousands};
use crate::cli::session::Session;

/// All that was measured.
pub(super) struct Report {
    format: TableFormat,
    directory: PathBuf,
    workers: usize,
    warm_up: u32,
    rounds: u32,
    /// In the order in which they were measured.
    pub(super) parts: Vec<Measured>,
}

/// A part, over all rounds that count.
pub(super) struct Measured {
    part: PartName,
    /// Jobs, samples or files.
    count: u32,
    figures: Vec<Compared>,
}

/// One measure of a part, over all rounds that count.
struct Compared {
    measure: Measure,
    orch: Figures,
    raw: Figures,
    ratio: Figures,
}

impl Measured {
    pub(super) fn new(part: PartName, count: u32) -> Measured {
        Measured { part, count, figures: Vec::new() }
    }

    /// Adds a round.
    pub(super) fn add(&mut self, round: &[Beside]) {
        for beside in round {
            let known = self.figures.iter().position(|it| it.measure == beside.measure);
            let at = known.unwrap_or(self.figures.len());
            if known.is_none() {
                self.figures.push(Compared::new(beside.measure));
            }
            let compared = &mut self.figures[at];
            compared.orch.push(beside.orch);
            compared.raw.push(beside.raw);
            compared.ratio.push(beside.ratio());
        }
    }

    fn as_json(&self) -> Value {
        let counted = match self.part {
            PartName::Import | PartName::Drain => "jobs",
            PartName::Latency => "samples",
            PartName::Fetch => "files",
        };
        let mut part = Map::new();
        part.insert(counted.to_owned(), self.count.into());
        if self.part == PartName::Fetch {
            part.insert("file_bytes".to_owned(), fetch::FILE_BYTES.into());
        }
        part.extend(self.figures.iter().map(|it| (it.measure.name.to_owned(), it.as_json())));
        Value::Object(part)
    }
}

impl Compared {
    fn new(measure: Measure) -> Compared {
        let none = Figures::default;
        Compared { measure, orch: none(), raw: none(), ratio: none() }
    }

    fn as_json(&self) -> Value {
        json!({
            "more_is_better": self.measure.more_is_better,
            "orch": Rounds::of(&self.orch),
            "raw": Rounds::of(&self.raw),
            "ratio": Rounds::of(&self.ratio),
        })
    }

    fn cells(&self, part: PartName) -> Vec<String> {
        let Compared { measure, orch, raw, ratio } = self;
        vec![
            part.name().to_owned(),
            measure.unit.to_owned(),
            short(orch.median()),
            short(raw.median()),
            format!("{:.2}", ratio.median()),
            format!("{:.2} to {:.2}", ratio.least(), ratio.most()),
            if measure.more_is_better { "more" } else { "less" }.to_owned(),
        ]
    }
}

/// Figures for programs, to the thousandth.
#[derive(Serialize)]
struct Rounds {
    median: f64,
    least: f64,
    most: f64,
    rounds: Vec<f64>,
}

impl Rounds {
    fn of(figures: &Figures) -> Rounds {
        let thousandths = |figure: f64| (figure * 1_000.0).round() / 1_000.0;
        Rounds {
            median: thousandths(figures.median()),
            least: thousandths(figures.least()),
            most: thousandths(figures.most()),
            rounds: figures.rounds().iter().map(|round| thousandths(*round)).collect(),
        }
    }
}

impl Report {
    pub(super) fn new(args: &BenchArgs, directory: &Path, workers: usize) -> Report {
        Report {
            format: args.format,
            directory: directory.to_owned(),
            workers,
            warm_up: args.warm_up,
            rounds: args.runs,
            parts: Vec::new(),
        }
    }

    /// Tells all of it.
    pub(super) fn print(&self, session: &mut Session) -> Result<(), CliError> {
        match self.format {
            TableFormat::Json => session.out.json(&self.as_json()),
            // A table of nothing would look as if something had been measured.
            TableFormat::Table if self.parts.is_empty() => Ok(()),
            TableFormat::Table => {
                session.out.table(&self.as_table())?;
                session.out.flush()?;
                session.out.messages.note(&self.in_words());
                Ok(())
            }
        }
    }

    fn as_json(&self) -> Value {
        let part = |measured: &Measured| (measured.part.name().to_owned(), measured.as_json());
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "directory": self.directory,
            "cpus": cpus(),
            "workers": self.workers,
            "synchronous": "full",
            "warm_up_rounds": self.warm_up,
            "rounds": self.rounds,
            "parts": self.parts.iter().map(part).collect::<Map<String, Value>>(),
        })
    }

    fn as_table(&self) -> Table {
        let mut table = Table::new(&[
            Column::text("part"),
            Column::text("what"),
            Column::numbers("orch"),
            Column::numbers("raw"),
            Column::numbers("ratio"),
            Column::numbers("least to most"),
            Column::text("better"),
        ]);
        for measured in &self.parts {
            for compared in &measured.figures {
                table.row(compared.cells(measured.part));
            }
        }
        table
    }

    fn in_words(&self) -> String {
        let Report { warm_up, rounds, workers, directory, .. } = self;
        let plural = if *rounds == 1 { "" } else { "s" };
        let cpus = cpus().map_or_else(String::new, |cpus| format!("{cpus} cores, "));
        format!(
            "medians of {rounds} round{plural}, after {warm_up} to warm up; ratio is orch as a multiple of raw; {cpus}{workers} workers, \
             synchronous=FULL for both, on the disk of {}",
            directory.display()
        )
    }
}

fn cpus() -> Option<usize> {
    std::thread::available_parallelism().ok().map(NonZeroUsize::get)
}

/// A figure for people: a large one in whole numbers, a small one to the hundredth.
fn short(figure: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is no less than 0 and far below 2^63"
    )]
    let whole = |figure: f64| thousands(figure.round() as u64);
    if figure >= 100.0 { whole(figure) } else { format!("{figure:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Measure = Measure { name: "jobs_per_second", unit: "jobs/s", more_is_better: true };

    fn measured() -> Measured {
        let mut measured = Measured::new(PartName::Drain, 7);
        for (orch, raw) in [(100.0, 200.0), (300.0, 300.0), (1_234.56, 1_000.0)] {
            measured.add(&[Beside { measure: RATE, orch, raw }]);
        }
        measured
    }

    #[test]
    fn the_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians() {
        let json = measured().as_json();
        let rate = &json["jobs_per_second"];
        assert_eq!(json["jobs"], 7);
        assert_eq!(rate["orch"]["median"], 300.0);
        assert_eq!(rate["raw"]["median"], 300.0);
        let ratio =
            json!({"median": 1.0, "least": 0.5, "most": 1.235, "rounds": [0.5, 1.0, 1.235]});
        assert_eq!(rate["ratio"], ratio);
        assert_eq!(rate["more_is_better"], true);
    }

    #[test]
    fn a_row_has_both_sides_and_which_way_is_better() {
        let measured = measured();
        assert_eq!(
            measured.figures[0].cells(PartName::Drain),
            ["drain", "jobs/s", "300", "300", "1.00", "0.50 to 1.23", "more"]
        );
    }

    #[test]
    fn figures_for_people_are_short() {
        let check = |figure, text: &str| assert_eq!(short(figure), text);
        check(0.123, "0.12");
        check(99.99, "99.99");
        check(432_100.4, "432,100");
    }
}
