//! The commands, one file each: build a request, ask, print.
//!
//! Nothing here decides: the engine and the resolver do. Nothing here writes to the terminal
//! except through the report.

use std::ffi::OsString;
use std::process::ExitCode;

use anstream::ColorChoice;
use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Color, Command, Global};
use crate::demo;
use crate::error::{CommandError, Kind};
use crate::host;
use crate::invocation::{self, Invocation};
use crate::log::Log;
use crate::report::Report;

mod abort;
mod add;
mod apply;
mod change;
mod completions;
mod copy;
mod diff;
mod fsck;
mod gc;
mod history;
mod list;
mod mount;
mod reexec;
mod remove;
mod select;
mod show;
mod status;
mod umount;
mod which;

/// Parses the arguments and runs the command.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let color = choice(cli.global.color);
    // For whoever writes without a report: the demo.
    color.write_global();
    let mut report = Report::new(cli.global.json, cli.global.quiet, color);
    let log = speak(&cli, color);
    if let Command::Demo(demo) = &cli.command {
        let options = demo::Options { keep: demo.keep, programs: demo.programs };
        return match demonstrate(&cli.global, &mut report, &options) {
            Ok(code) => code,
            Err(error) => fail(&mut report, &error),
        };
    }
    let store = match store(&cli.global) {
        Ok(store) => store,
        Err(error) => return fail(&mut report, &error),
    };
    let command = name(&cli.command);
    tracing::info!(store = %store.display(), "{command}");
    let Global { dry_run, yes, .. } = cli.global;
    let mut run = Invocation { command, store, dry_run, yes, report };
    match dispatch(&mut run, &cli.command, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&mut run.report, &error),
    }
}

/// Has this process speak as it is asked to; how a daemon speaks that it starts.
fn speak(cli: &Cli, color: ColorChoice) -> Log {
    let Global { verbose, quiet, .. } = cli.global;
    let daemon = Log::of_daemon(verbose, color);
    let is_keeper = matches!(&cli.command, Command::Mount(mount) if mount.foreground);
    if !is_keeper {
        Log::of_command(verbose, color).start("command", None);
        return daemon;
    }
    let daemon = if quiet { daemon.quiet() } else { daemon };
    daemon.start("keeper", None);
    daemon
}

/// The demo prints what it does as it goes, so it has no document.
fn demonstrate(
    global: &Global,
    report: &mut Report,
    options: &demo::Options,
) -> Result<ExitCode, CommandError> {
    if global.json {
        let error = CommandError::usage("the demo has no JSON document");
        return Err(error.hint("dynfs demo; dynfs --json status on a store that it kept"));
    }
    if global.dry_run {
        report.success(&format!(
            "would build {} programs and swap xz below them, on a temporary store and mount",
            options.programs
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(demo::run(options))
}

fn dispatch(run: &mut Invocation, command: &Command, log: Log) -> Result<(), CommandError> {
    use crate::protocol::Edit;
    match command {
        Command::Mount(arguments) => mount::run(run, arguments, log),
        Command::Umount(arguments) => umount::run(run, arguments),
        Command::Reexec(arguments) => reexec::run(run, arguments),
        Command::Abort => abort::run(run),
        Command::Add(arguments) => add::run(run, arguments),
        Command::Copy(arguments) => copy::run(run, arguments),
        Command::List(arguments) => list::run(run, arguments),
        Command::Show(arguments) => show::run(run, arguments),
        Command::Which(arguments) => which::run(run, arguments),
        Command::Select(arguments) => select::run(run, arguments),
        Command::Unselect(arguments) => select::unselect(run, arguments),
        Command::Remove(arguments) => remove::run(run, arguments),
        Command::Apply(arguments) => apply::run(run, arguments),
        Command::Undo => change::run(run, &Edit::Undo),
        Command::Redo => change::run(run, &Edit::Redo),
        Command::Restore(arguments) => change::run(
            run,
            &Edit::Restore { to: resolver::GenerationNumber(arguments.generation) },
        ),
        Command::History => history::run(run),
        Command::Diff(arguments) => diff::run(run, arguments),
        Command::Fsck(arguments) => fsck::run(run, arguments),
        Command::Gc(arguments) => gc::run(run, arguments),
        Command::Status => status::run(run),
        Command::Completions(arguments) => completions::run(run, arguments, &mut Cli::command()),
        Command::Demo(_) => unreachable!("the demonstration runs without a store"),
    }
}

/// The command's name as typed.
fn name(command: &Command) -> &'static str {
    match command {
        Command::Mount(_) => "mount",
        Command::Umount(_) => "umount",
        Command::Reexec(_) => "reexec",
        Command::Abort => "abort",
        Command::Add(_) => "add",
        Command::Copy(_) => "copy",
        Command::List(_) => "list",
        Command::Show(_) => "show",
        Command::Which(_) => "which",
        Command::Select(_) => "select",
        Command::Unselect(_) => "unselect",
        Command::Remove(_) => "remove",
        Command::Apply(_) => "apply",
        Command::Undo => "undo",
        Command::Redo => "redo",
        Command::Restore(_) => "restore",
        Command::History => "history",
        Command::Diff(_) => "diff",
        Command::Fsck(_) => "fsck",
        Command::Gc(_) => "gc",
        Command::Status => "status",
        Command::Demo(_) => "demo",
        Command::Completions(_) => "completions",
    }
}

fn choice(color: Color) -> ColorChoice {
    match color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    }
}

fn store(global: &Global) -> Result<std::path::PathBuf, CommandError> {
    match &global.store {
        Some(path) => invocation::absolute(path),
        None => invocation::absolute(&host::default_store()?),
    }
}

fn fail(report: &mut Report, error: &CommandError) -> ExitCode {
    if error.kind != Kind::BrokenPipe {
        report.error(error);
    }
    ExitCode::from(error.kind.exit_code())
}

/// Help and version are data; everything else that stops parsing is a usage error.
fn usage(error: &clap::Error) -> ExitCode {
    let mut report = Report::new(false, false, ColorChoice::Auto);
    let text = error.render().ansi().to_string();
    if error.use_stderr() {
        report.say(&text);
        return ExitCode::from(Kind::Usage.exit_code());
    }
    match report.data(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&mut report, &error),
    }
}
