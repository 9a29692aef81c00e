//! `orch queue hosts set`, `pause` and `resume`: one key is changed for everybody, and how it stands then is said.

use std::num::NonZeroU32;

use clap::{ArgGroup, Args};

use super::standing::{self, Terrain, rate_words};
use super::{key_of, terrain};
use crate::cli::error::CliError;
use crate::cli::session::Session;
use crate::config::resolver_named;
use crate::job::LimitKey;
use crate::share::{Binds, KeyChange, Rate};

/// Set limits of one host or resolver, while it is in use
///
/// Holds for all processes on the queue, at once, until it is set to `default`; it outlives them. The strictest limit binds: what is set here
/// takes the place of orchestrator.max_per_host, but never eases what the configuration says of this very host or resolver, a crawl delay, or
/// an open breaker. Where it was set, the number at once is not adapted.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("limits").args(["max_concurrent", "rate"]).required(true).multiple(true),
    after_help = "\
Examples:
  orch queue hosts set arxiv.org --max-concurrent 1 --rate 1/3s
  orch queue hosts set big.example --max-concurrent 12
  orch queue hosts set crossref --resolver --rate 5/s --burst 10
  orch queue hosts set arxiv.org --max-concurrent default --rate default"
)]
pub(super) struct SetArgs {
    #[command(flatten)]
    of: Of,
    /// Requests at once, 1 or more; default: no limit of this kind
    #[arg(long, value_name = "N", value_parser = most)]
    max_concurrent: Option<Setting<u32>>,
    /// Starts per time, such as 20/s, 1/3s or 1000/day; default: no rate of this kind
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Setting<Rate>>,
    /// Starts at once after a pause, 1 or more
    #[arg(long, value_name = "N", requires = "rate", value_parser = clap::value_parser!(u32).range(1..))]
    burst: Option<u32>,
}

/// Let nothing start under a host or resolver, until it is resumed
///
/// Requests that run go on to their end; jobs wait and lose no attempt. Holds for all processes on the queue, at once, and for those to come.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue hosts pause repository.example
  orch queue hosts pause crossref --resolver")]
pub(super) struct PauseArgs {
    #[command(flatten)]
    of: Of,
}

/// Let jobs start again under a host or resolver, and forgive it
///
/// Lifts a pause, and forgets what its server has done so far: its hold, its open breaker, its trouble. It is asked again now. Limits stay.
/// Jobs that ended meanwhile, with rate_limited or host_down, come back with `orch queue retry-failed --host NAME`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue hosts resume repository.example
  orch queue hosts resume crossref --resolver")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    of: Of,
}

/// Which key.
#[derive(Debug, Args)]
struct Of {
    /// The host, such as arxiv.org; with --resolver, the resolver's name
    #[arg(value_name = "NAME")]
    name: String,
    /// NAME is a resolver, such as crossref
    #[arg(long)]
    resolver: bool,
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting<T>(Option<T>);

/// Why a text is no number of requests at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a whole number, 1 or more, or default (to let nothing start: orch queue hosts pause)"
)]
struct MostError;

fn most(text: &str) -> Result<Setting<u32>, MostError> {
    if text == "default" {
        return Ok(Setting(None));
    }
    let number: NonZeroU32 = text.parse().map_err(|_| MostError)?;
    Ok(Setting(Some(number.get())))
}

fn rate(text: &str) -> Result<Setting<Rate>, crate::share::RateError> {
    if text == "default" {
        return Ok(Setting(None));
    }
    Rate::parse(text).map(|rate| Setting(Some(rate)))
}

impl SetArgs {
    fn change(&self) -> KeyChange {
        let burst = |rate: Rate| self.burst.map_or(rate, |burst| rate.with_burst(burst));
        KeyChange {
            max_concurrent: self.max_concurrent.map(|Setting(most)| most),
            rate: self.rate.map(|Setting(rate)| rate.map(burst)),
            ..KeyChange::default()
        }
    }
}

pub(super) fn set(session: &mut Session, args: &SetArgs) -> Result<(), CliError> {
    apply(session, &args.of, &args.change())
}

pub(super) fn pause(session: &mut Session, args: &PauseArgs) -> Result<(), CliError> {
    apply(session, &args.of, &KeyChange { paused: Some(true), ..KeyChange::default() })
}

pub(super) fn resume(session: &mut Session, args: &ResumeArgs) -> Result<(), CliError> {
    let change = KeyChange { paused: Some(false), forgive: true, ..KeyChange::default() };
    apply(session, &args.of, &change)
}

fn apply(session: &mut Session, of: &Of, change: &KeyChange) -> Result<(), CliError> {
    let key = key_of(&of.name, of.resolver)?;
    let mut queue = session.open_existing()?;
    let view = queue.set_key(&key, change)?;
    let limits = session.settings().gate_limits()?;
    let terrain = terrain(session, &mut queue, &limits)?;
    for line in said(&terrain, &view, change) {
        session.out.line(&line)?;
    }
    if view.counts.total() == 0 {
        let name = standing::name(&key);
        session.out.messages.note(&format!("no job is under {name}; it holds all the same"));
    }
    if let LimitKey::Host(name) = &key
        && resolver_named(name).is_ok()
    {
        session
            .out
            .messages
            .note(&format!("{name} is a resolver's name too: --resolver means that"));
    }
    Ok(())
}

/// How a key stands after a change, and where the change has not the effect it seems to have.
pub(super) fn said(
    terrain: &Terrain<'_>,
    view: &crate::queue::store::KeyView,
    change: &KeyChange,
) -> Vec<String> {
    let stand = terrain.stand(view);
    let name = standing::name(&view.key);
    let mut now = format!(
        "{name}: {}; {} running, {} waiting",
        stand.limit_words(),
        stand.running,
        view.counts.queued
    );
    if let Some(why) = stand.why(terrain.now) {
        now = format!("{now}; {why}");
    }
    if change.forgive && stand.obstacle.is_none() {
        now.push_str("; asks again now");
    }
    let mut lines = vec![now];
    let terms = &stand.terms;
    if let Some(Some(wanted)) = change.max_concurrent
        && let Some(most) = terms.max_concurrent.filter(|most| *most < wanted)
    {
        let who = stricter(terms.binds, terrain.is_run);
        lines.push(format!("{name}: {wanted} at once were set, but {most} hold: {who}"));
    }
    if let Some(Some(wanted)) = change.rate
        && let Some(rate) = terms.rate.filter(|rate| *rate != wanted)
    {
        let (wanted, rate) = (rate_words(wanted), rate_words(rate));
        lines.push(format!("{name}: {wanted} was set, but {rate} holds: it is stricter"));
    }
    lines
}

/// What is stricter than what was set.
fn stricter(binds: Binds, is_run: bool) -> &'static str {
    match binds {
        Binds::Configured if is_run => "a run in progress was configured with less",
        Binds::Configured => "the configuration says less",
        Binds::CrawlDelay => "its server asks for a crawl delay (robots.txt)",
        Binds::Adaptive => "it has been seen to bear no more, for now",
        Binds::Breaker => "its breaker is half-open, and lets one at a time through",
        Binds::Set | Binds::Nothing => "something else is stricter",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        set: SetArgs,
    }

    fn typed(line: &str) -> Result<KeyChange, String> {
        let typed = Typed::try_parse_from(format!("set {line}").split(' '));
        typed.map(|typed| typed.set.change()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_typed_becomes_a_change() {
        let rate = |text: &str| Rate::parse(text).unwrap();
        let default = KeyChange::default();
        for (line, change) in [
            ("a.org --max-concurrent 3", KeyChange { max_concurrent: Some(Some(3)), ..default }),
            ("a.org --max-concurrent default", KeyChange { max_concurrent: Some(None), ..default }),
            ("a.org --rate 1/3s", KeyChange { rate: Some(Some(rate("1/3s"))), ..default }),
            ("a.org --rate default", KeyChange { rate: Some(None), ..default }),
            (
                "a.org --rate 5/s --burst 9 --max-concurrent 1",
                KeyChange {
                    max_concurrent: Some(Some(1)),
                    rate: Some(Some(rate("5/s").with_burst(9))),
                    ..default
                },
            ),
        ] {
            assert_eq!(typed(line), Ok(change), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_and_the_flag_is_named() {
        for (line, flag) in [
            ("a.org", "--max-concurrent"),
            ("a.org --max-concurrent 0", "--max-concurrent"),
            ("a.org --max-concurrent x", "--max-concurrent"),
            ("a.org --rate 0/s", "--rate"),
            ("a.org --rate 3", "--rate"),
            ("a.org --rate 1/s --burst 0", "--burst"),
            ("a.org --max-concurrent 1 --burst 3", "--rate"),
        ] {
            let said = typed(line).unwrap_err();
            assert!(said.contains(flag), "{line}: {said}");
        }
    }
}
