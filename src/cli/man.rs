//! `orch man`: the manual, one page per command.

use std::path::PathBuf;

use clap::{Args, CommandFactory, ValueHint};

use super::args::Cli;
use super::error::{CliError, Exit};
use super::output::Output;

/// Write the manual, one page per command
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  orch man ~/.local/share/man/man1 && man orch-queue-import")]
pub struct ManArgs {
    /// The directory to write to; made when it is not there
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,
}

pub(super) fn run(out: &mut Output, args: &ManArgs) -> Result<Exit, CliError> {
    let failed = |action| {
        let path = args.directory.clone();
        move |source| CliError::File { action, path, source }
    };
    std::fs::create_dir_all(&args.directory).map_err(failed("create the directory"))?;
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &args.directory).map_err(failed("write the manual to"))?;
    out.messages.note(&format!("the manual is in {}", args.directory.display()));
    Ok(Exit::Ok)
}
