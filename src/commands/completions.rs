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
    if run.report.wants_json() {
        let words = "completions are a script, and have no JSON";
        return Err(CommandError::usage(words).hint("leave --json away"));
    }
    let shell = match arguments.shell {
        cli::Shell::Bash => shells::Shell::Bash,
        cli::Shell::Zsh => shells::Shell::Zsh,
        cli::Shell::Fish => shells::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "dynfs", &mut script);
    run.report.data(&String::from_utf8_lossy(&script))
}
