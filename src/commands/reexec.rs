//! `dynfs reexec`: another server, and another keeper, without anybody noticing.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::cli;
use crate::client;
use crate::error::{CommandError, Kind};
use crate::host::{self, Stopwatch};
use crate::invocation::{Invocation, absolute};
use crate::mount::MountError;
use crate::mountinfo::{FS_TYPE, Mount};
use crate::protocol::{DaemonStatus, Replaced};
use crate::render;

/// How often, and in what distance, it is looked whether the new server answers.
const LOOKS: u32 = 400;
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Serialize)]
struct Document {
    dry_run: bool,
    exe: String,
    /// Process ids before and after.
    server: [u32; 2],
    keeper: [Option<u32>; 2],
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Reexec) -> Result<(), CommandError> {
    let exe = program(arguments.exe.as_deref())?;
    let before = status(run)?;
    let watch = Stopwatch::start();
    if !run.dry_run {
        client::replace(&run.store, Replaced::Server { exe: exe.clone() })?;
        wait_for_other_server(run, before.live.server_pid)?;
        if arguments.keeper {
            client::replace(&run.store, Replaced::Keeper)?;
        }
    }
    let time = watch.elapsed();
    let after = status(run)?;
    let server = [before.live.server_pid, after.live.server_pid];
    let keeper = [before.live.keeper_pid, after.live.keeper_pid];
    if !run.dry_run && !runs(after.live.server_pid, &exe) {
        let words = "the new server never served, and the former program serves again";
        return Err(CommandError::new(Kind::Failed, words).hint("run/log in the store says why"));
    }
    if run.report.wants_json() {
        let exe = exe.display().to_string();
        let document = Document { dry_run: run.dry_run, exe, server, keeper };
        return run.report.document(run.command, &document);
    }
    if run.dry_run {
        let exe = exe.display();
        return run.report.success(&format!("would replace server {} by one of {exe}", server[0]));
    }
    let mut line = format!("server {} -> {}", server[0], server[1]);
    if arguments.keeper {
        let [before, after] =
            keeper.map(|pid| pid.map_or_else(|| "none".into(), |pid| pid.to_string()));
        line = format!("{line}   keeper {before} -> {after}");
    }
    run.report.success(&format!("{line}   {}", render::duration(time)))
}

/// The program without symbolic links, since the keeper runs elsewhere and later.
fn program(given: Option<&Path>) -> Result<PathBuf, CommandError> {
    let path = match given {
        Some(path) => absolute(path)?,
        None => std::env::current_exe().map_err(|error| {
            CommandError::new(Kind::Failed, "this program cannot be found").because(&error)
        })?,
    };
    match std::fs::metadata(&path) {
        Ok(file) if file.is_file() && is_served(&file) => {
            // It would have to be asked for its own pages before it can answer.
            let words = format!("{} is served by dynfs, and so cannot serve it", path.display());
            Err(CommandError::new(Kind::Refused, words)
                .hint("copy it to a file system of the kernel, and give that path"))
        }
        Ok(file) if file.is_file() => Ok(path),
        Ok(_) => Err(CommandError::usage(format!("{} is not a program", path.display()))
            .hint("give the path of another dynfs")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let error = CommandError::io("finding", &path, &error);
            Err(CommandError { kind: Kind::NotFound, ..error }
                .hint("give the path of another dynfs"))
        }
        Err(error) => Err(CommandError::io("finding", &path, &error)),
    }
}

/// Whether a file is below a mount of ours, of whatever store.
fn is_served(file: &Metadata) -> bool {
    let device = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let is_there = |mount: &Mount| mount.kind == FS_TYPE && (mount.major, mount.minor) == device;
    host::mounts().is_ok_and(|mounts| mounts.iter().any(is_there))
}

/// Whether a process runs this program; also where that cannot be seen.
fn runs(pid: u32, exe: &Path) -> bool {
    let running = Path::new("/proc").join(pid.to_string()).join("exe");
    match (host::identity(&running), host::identity(exe)) {
        (Ok(running), Ok(wanted)) => running == wanted,
        _ => true,
    }
}

fn status(run: &Invocation) -> Result<DaemonStatus, CommandError> {
    client::status(&run.store)?.ok_or_else(|| MountError::NotMounted.into())
}

fn wait_for_other_server(run: &Invocation, before: u32) -> Result<(), CommandError> {
    for _ in 0..LOOKS {
        if client::status(&run.store).ok().flatten().is_some_and(|s| s.live.server_pid != before) {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(CommandError::new(Kind::Unavailable, "the new server does not answer").hint("dynfs status"))
}
