//! `orch queue forecast`: how long the rest will take, what decides that, and what another limit would change.
//!
//! Reads the queue and forecasts with [`run::forecast`](crate::run::forecast). Changes nothing.

mod backlog;
mod setting;

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::args::TableFormat;
use crate::cli::duration;
use crate::cli::error::{CliError, Exit};
use crate::cli::hosts;
use crate::cli::hosts::standing::{self, rate_words};
use crate::cli::output::{Column, Table, thousands};
use crate::cli::session::Session;
use crate::job::{Kind, LimitKey};
use crate::limit::Limits;
use crate::run::RunOptions;
use crate::run::forecast::{Bottleneck, Forecast, KeyForecast, Plan, forecast};
use backlog::Backlog;
use setting::Setting;

/// Say how long the rest will take, and what would change it
///
/// Runs the scheduler of `queue run` over all that is left, on a time that is only counted, with the limits of the configuration and of
/// `queue hosts set`, and with the durations seen so far. Says which host or resolver decides how long it takes, or that workers do. With
/// --set and --workers it says beside it how long it would take if that held.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue forecast
  orch queue forecast --set arxiv.org.max_concurrent=2 --set arxiv.org.rate=1/s
  orch queue forecast --set resolver:crossref.rate=5/s --workers 32
  orch queue forecast --format json | jq .makespan_ms

--set takes NAME.max_concurrent=N, NAME.rate=RATE (or none) and NAME.burst=N; a resolver is resolver:NAME. What is set so holds whatever
is stricter, and in the forecast only. A job counts for the host and resolver it asks next.

JSON: {\"jobs\":…,\"workers\":…,\"makespan_ms\":…,\"bottleneck\":{\"kind\":\"host\"|\"resolver\"|\"workers\"|null,\"name\":…},\"workers_least_ms\":…,\"scale\":…,
\"keys\":[{\"kind\":…,\"name\":…,\"jobs\":…,\"busy_ms\":…,\"max_concurrent\":…,\"rate\":…,\"least_ms\":…,\"utilisation\":…}],\"assumes\":[…],
\"changed\":null|{\"set\":[…], and the same again}}.")]
pub struct ForecastArgs {
    /// A limit as it would be; may be given several times
    #[arg(long, value_name = "NAME.LIMIT=VALUE", value_parser = setting::parse)]
    set: Vec<Setting>,
    /// Jobs at the same time as it would be, 1 to 256
    #[arg(long, short = 'w', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: TableFormat,
}

/// Keys in the table.
const ROWS: usize = 10;

/// A forecast, and what it was made with.
struct Made {
    workers: usize,
    forecast: Forecast,
}

pub(super) fn run(session: &mut Session, args: &ForecastArgs) -> Result<Exit, CliError> {
    let options = RunOptions::try_from(session.settings())?;
    let backlog = gather(session, &options.limits)?;
    let make = |workers: usize, limits: Limits| -> Result<Made, CliError> {
        let plan = Plan {
            loads: backlog.loads.clone(),
            limits,
            workers,
            schedule: options.schedule.clone(),
        };
        Ok(Made { workers, forecast: forecast(&plan)? })
    };
    let now = make(options.workers, backlog.limits.clone())?;
    let changed = if args.set.is_empty() && args.workers.is_none() {
        None
    } else {
        let mut limits = backlog.limits.clone();
        for setting in &args.set {
            if !setting.apply(&mut limits) {
                return Err(CliError::NoRate { setting: setting.to_string() });
            }
        }
        Some(make(args.workers.map_or(options.workers, usize::from), limits)?)
    };
    let assumes = assumptions(&backlog, &now.forecast);
    match args.format {
        TableFormat::Table => as_text(session, args, &now, changed.as_ref(), &assumes)?,
        TableFormat::Json => {
            session.out.json(&ForecastJson::new(args, &now, changed.as_ref(), &assumes))?;
        }
    }
    Ok(Exit::Ok)
}

/// What is left, by what the queue counts.
fn gather(session: &Session, limits: &Limits) -> Result<Backlog, CliError> {
    let mut queue = session.open_existing()?;
    let terrain = hosts::terrain(session, &mut queue, limits)?;
    let mut keys = backlog::Keys::default();
    queue.each_key(|view| keys.add(&view, &terrain))?;
    let lanes = queue.backlog()?;
    let counts = queue.counts()?;
    let exec = session.settings().exec.allow;
    let may_start =
        |kind: &Kind| session.kind(kind.as_str()).is_ok() && (exec || kind.as_str() != "exec");
    Ok(backlog::gather(lanes, &keys, &counts, limits, may_start))
}

/// What the figures rest on, a sentence each.
fn assumptions(backlog: &Backlog, now: &Forecast) -> Vec<String> {
    let mut assumes = vec![if backlog.knows_durations {
        "a job takes as long as attempts at its host have taken so far; retries, holds and breakers to come are not foreseen"
            .to_owned()
    } else {
        "no attempt has ended yet: every job is taken to last 1 s".to_owned()
    }];
    let some = |count: u64, sentence: &str| {
        (count > 0).then(|| format!("{} {sentence}", thousands(count)))
    };
    assumes.extend(some(
        backlog.not_ready,
        "jobs that run, wait for a retry, or for their own time, are counted as ready now",
    ));
    assumes.extend(some(backlog.paused, "jobs of paused hosts and resolvers are left out"));
    assumes.extend(some(
        backlog.of_other_kinds,
        "jobs of a kind that a run from here does not start are left out (exec: [exec] allow)",
    ));
    if now.scale > 1 {
        assumes.push(format!(
            "scaled: one of {} jobs was simulated, and the time multiplied",
            now.scale
        ));
    }
    assumes
}

fn as_text(
    session: &mut Session,
    args: &ForecastArgs,
    now: &Made,
    changed: Option<&Made>,
    assumes: &[String],
) -> Result<(), CliError> {
    session.out.line(&headline(now))?;
    if let Some(changed) = changed {
        session.out.line(&format!("with {}: {}", what_is_set(args), headline(changed)))?;
    }
    if !now.forecast.keys.is_empty() {
        session.out.line("")?;
        session.out.table(&by_key(&now.forecast, changed.map(|made| &made.forecast)))?;
    }
    session.out.line("")?;
    for sentence in assumes {
        session.out.line(&format!("- {sentence}"))?;
    }
    Ok(())
}

fn what_is_set(args: &ForecastArgs) -> String {
    let workers = args.workers.map(|workers| format!("workers={workers}"));
    args.set.iter().map(Setting::to_string).chain(workers).collect::<Vec<_>>().join(", ")
}

/// `12,345 jobs, 8 workers: about 3.5 h; arxiv.org decides: 1 at once, 1/3s`
fn headline(made: &Made) -> String {
    let forecast = &made.forecast;
    let time = duration::words(ms(forecast.makespan));
    let jobs = match forecast.jobs {
        0 => return "nothing is left to do".to_owned(),
        1 => "1 job".to_owned(),
        jobs => format!("{} jobs", thousands(jobs)),
    };
    let workers = match made.workers {
        1 => "1 worker".to_owned(),
        workers => format!("{workers} workers"),
    };
    let decides = match &forecast.bottleneck {
        Bottleneck::Nothing => String::new(),
        Bottleneck::Workers => "; the number of workers decides".to_owned(),
        Bottleneck::Key(key) => {
            let limits = forecast.keys.iter().find(|own| own.key == *key).map(limit_words);
            format!("; {} decides ({})", standing::name(key), limits.unwrap_or_default())
        }
    };
    format!("{jobs}, {workers}: about {time}{decides}")
}

fn limit_words(key: &KeyForecast) -> String {
    let most = key.limits.max_concurrent.map(|most| format!("{most} at once"));
    let words: Vec<String> = most.into_iter().chain(key.limits.rate.map(rate_words)).collect();
    if words.is_empty() { "no limit".to_owned() } else { words.join(", ") }
}

fn by_key(now: &Forecast, changed: Option<&Forecast>) -> Table {
    let mut columns = vec![
        Column::text("name"),
        Column::numbers("jobs"),
        Column::numbers("mean"),
        Column::text("limit"),
        Column::numbers("at least"),
        Column::numbers("busy"),
    ];
    if changed.is_some() {
        columns.extend([
            Column::text("limit then"),
            Column::numbers("at least then"),
            Column::numbers("busy then"),
        ]);
    }
    let mut table = Table::new(&columns);
    for key in now.keys.iter().take(ROWS) {
        let mean_ms = ms(key.busy).checked_div(key.jobs).unwrap_or(0);
        let mut cells =
            vec![standing::name(&key.key), key.jobs.to_string(), duration::words(mean_ms)];
        cells.extend(fares(key));
        if let Some(changed) = changed {
            let then = changed.keys.iter().find(|then| then.key == key.key);
            cells.extend(then.map_or_else(|| ["-"; 3].map(str::to_owned), fares));
        }
        table.row(cells);
    }
    table
}

fn fares(key: &KeyForecast) -> [String; 3] {
    let percent = format!("{:.0} %", key.utilisation * 100.0);
    [limit_words(key), duration::words(ms(key.least)), percent]
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Serialize)]
struct ForecastJson<'a> {
    #[serde(flatten)]
    now: MadeJson<'a>,
    assumes: &'a [String],
    changed: Option<ChangedJson<'a>>,
}

#[derive(Debug, Serialize)]
struct ChangedJson<'a> {
    set: Vec<String>,
    #[serde(flatten)]
    then: MadeJson<'a>,
}

#[derive(Debug, Serialize)]
struct MadeJson<'a> {
    jobs: u64,
    workers: usize,
    makespan_ms: u64,
    bottleneck: BottleneckJson<'a>,
    workers_least_ms: u64,
    /// Every so-manieth job was simulated.
    scale: u64,
    keys: Vec<KeyForecastJson<'a>>,
}

#[derive(Debug, Serialize)]
struct BottleneckJson<'a> {
    kind: Option<&'static str>,
    name: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct KeyForecastJson<'a> {
    kind: &'static str,
    name: &'a str,
    jobs: u64,
    busy_ms: u64,
    max_concurrent: Option<u32>,
    rate: Option<String>,
    least_ms: u64,
    utilisation: f64,
}

impl<'a> ForecastJson<'a> {
    fn new(
        args: &ForecastArgs,
        now: &'a Made,
        changed: Option<&'a Made>,
        assumes: &'a [String],
    ) -> ForecastJson<'a> {
        let set = || args.set.iter().map(Setting::to_string).collect();
        let changed = changed.map(|made| ChangedJson { set: set(), then: MadeJson::new(made) });
        ForecastJson { now: MadeJson::new(now), assumes, changed }
    }
}

impl<'a> MadeJson<'a> {
    fn new(made: &'a Made) -> MadeJson<'a> {
        let forecast = &made.forecast;
        let (kind, name) = match &forecast.bottleneck {
            Bottleneck::Nothing => (None, None),
            Bottleneck::Workers => (Some("workers"), None),
            Bottleneck::Key(key) => {
                let (kind, name) = parts(key);
                (Some(kind), Some(name))
            }
        };
        MadeJson {
            jobs: forecast.jobs,
            workers: made.workers,
            makespan_ms: ms(forecast.makespan),
            bottleneck: BottleneckJson { kind, name },
            workers_least_ms: ms(forecast.workers_least),
            scale: forecast.scale,
            keys: forecast.keys.iter().map(KeyForecastJson::new).collect(),
        }
    }
}

impl<'a> KeyForecastJson<'a> {
    fn new(own: &'a KeyForecast) -> KeyForecastJson<'a> {
        let (kind, name) = parts(&own.key);
        KeyForecastJson {
            kind,
            name,
            jobs: own.jobs,
            busy_ms: ms(own.busy),
            max_concurrent: own.limits.max_concurrent,
            rate: own.limits.rate.map(|rate| rate.to_string()),
            least_ms: ms(own.least),
            utilisation: own.utilisation,
        }
    }
}

fn parts(key: &LimitKey) -> (&'static str, &str) {
    match key {
        LimitKey::Host(name) => ("host", name),
        LimitKey::Resolver(name) => ("resolver", name),
    }
}
