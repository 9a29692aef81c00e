//! The command line: composes everything else. Settings, queue and handlers meet here and nowhere else.
//!
//! ```text
//!   argv --clap--> Cli --flags--+
//!   environment, file ----------+--> Config --> Session --> one command --> Exit | CliError --> exit code
//! ```
//!
//! Nothing below this module touches the terminal, the environment or the exit code.

mod args;
mod asking;
mod bench;
mod completions;
mod config;
mod demo;
mod doctor;
pub mod duration;
mod enqueue;
mod error;
mod explain;
mod export;
mod forecast;
mod hosts;
mod import;
mod list;
mod man;
mod output;
mod prune;
mod registry;
mod resolve;
mod retry_failed;
pub mod run;
mod session;
mod show;
mod signals;
mod stats;
mod view;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use crate::clock::System;
use crate::config::{Config, Flag, Sources};

pub use args::{Cli, Command, GlobalArgs, QueueCommand, TableFormat};
pub use error::{CliError, Exit};
pub use output::Output;
pub use session::Session;

/// Does what this process was called for.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let no_colour = environment.iter().any(|(name, value)| name == "NO_COLOR" && !value.is_empty());
    let out = Output::of_process(cli.global.quiet, no_colour);
    let messages = out.messages;
    match dispatch(&cli, out, environment) {
        Ok(exit) => exit.into(),
        Err(error) => {
            if !error.is_broken_pipe() {
                messages.error(&error);
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Help and version are data; a bad command line is exit code 2.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody reads it: nothing to be done.
    let _ = error.print();
    let _ = std::io::stdout().flush();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn dispatch(
    cli: &Cli,
    mut out: Output,
    environment: Vec<(OsString, OsString)>,
) -> Result<Exit, CliError> {
    let sources = |flags: Vec<Flag>| Sources {
        file: cli.global.config.clone(),
        environment: environment.clone(),
        directory: PathBuf::new(),
        flags,
    };
    match &cli.command {
        Command::Completions(args) => return ended(completions::run(&mut out, args), &mut out),
        Command::Demo(args) => return demo::run(out, args),
        Command::Man(args) => return ended(man::run(&mut out, args), &mut out),
        Command::Config(command) => {
            let done = config::run(&mut out, command, &sources(cli.global.flags()), &environment);
            return ended(done, &mut out);
        }
        Command::Queue(_) | Command::Resolve(_) | Command::Doctor(_) | Command::Bench(_) => {}
    }
    let mut flags = cli.global.flags();
    if let Command::Queue(QueueCommand::Run(args)) = &cli.command {
        flags.extend(args.flags());
    }
    if let Command::Bench(args) = &cli.command {
        flags.extend(args.flags());
    }
    let config = Config::load(&sources(flags))?;
    let registry = registry::for_intake(&config.settings)?;
    let mut session = Session::new(out, Arc::new(System::new()), config, registry);
    let done = match &cli.command {
        Command::Queue(command) => queue(&mut session, command, &environment),
        Command::Resolve(args) => resolve::run(&mut session, args, &environment),
        Command::Doctor(args) => doctor::run(&mut session, args, &environment),
        Command::Bench(args) => bench::run(&mut session, args),
        // Done above.
        Command::Completions(_) | Command::Demo(_) | Command::Man(_) | Command::Config(_) => {
            Ok(Exit::Ok)
        }
    };
    ended(done, &mut session.out)
}

fn queue(
    session: &mut Session,
    command: &QueueCommand,
    environment: &[(OsString, OsString)],
) -> Result<Exit, CliError> {
    match command {
        QueueCommand::Run(args) => run::run(session, args, environment),
        QueueCommand::Enqueue(args) => enqueue::run(session, args),
        QueueCommand::Import(args) => import::run(session, args),
        QueueCommand::Stats(args) => stats::run(session, args),
        QueueCommand::RetryFailed(args) => retry_failed::run(session, args),
        QueueCommand::List(args) => list::run(session, args),
        QueueCommand::Show(args) => show::run(session, args),
        QueueCommand::Explain(args) => explain::run(session, args),
        QueueCommand::Hosts(args) => hosts::run(session, args),
        QueueCommand::Forecast(args) => forecast::run(session, args),
        QueueCommand::Export(args) => export::run(session, args),
        QueueCommand::Prune(args) => prune::run(session, args),
    }
}

/// What was written must have arrived, also what was written before an error.
fn ended(done: Result<Exit, CliError>, out: &mut Output) -> Result<Exit, CliError> {
    let flushed = out.flush();
    let exit = done?;
    flushed?;
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// A comment on the variant of a command would take the place of all that its arguments' comment says.
    #[test]
    fn the_help_of_every_queue_command_has_more_than_one_line() {
        let cli = Cli::command();
        let queue = cli.find_subcommand("queue").unwrap();
        for command in queue.get_subcommands() {
            let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(long.lines().count() > 1, "{}: {long:?}", command.get_name());
        }
    }

    /// Help teaches: every command that takes arguments shows at least one way to type them.
    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            for inner in command.get_subcommands() {
                check(inner, &path);
            }
            if command.get_subcommands().next().is_none()
                && command.get_arguments().next().is_some()
            {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "{path} has no example");
            }
        }
        check(&Cli::command(), "");
    }
}
