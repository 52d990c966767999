//! `dynfs completions`: a script for the shell, to standard output.

use clap_complete::shells;

use crate::cli;
use crate::error::CommandError;
use crate::invocation::Invocation;

pub(super) fn run(
    run: &mut Invocation,
    arguments: &cli::Completions,
    command: &mut clap::Command,
) -> Result<(), CommandError> {
    let shell = match arguments.shell {
        cli::Shell::Bash => shells::Shell::Bash,
        cli::Shell::Zsh => shells::Shell::Zsh,
        cli::Shell::Fish => shells::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "dynfs", &mut script);
    run.report.data(&String::from_utf8_lossy(&script))
}
