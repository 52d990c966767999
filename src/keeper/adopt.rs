//! A keeper for a server that has lost its own: everything is there already, so nothing is mounted,
//! negotiated or bound, and the server goes on as it is.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::Pid;
use store_fs::Memory;

use super::program::Program;
use super::watch::Watched;
use super::{Keeper, OOM_SCORE, claim, doing, leave_terminal, vigil, watch_signals, words_of};
use crate::agreed::Agreed;
use crate::log::Log;
use crate::mount::{MountError, MountOptions, number};
use crate::{host, sys};

/// Runs the hidden subcommand: `adopt STORE MOUNTPOINT PID` and the descriptors of the device, the
/// memory file, the control socket, the line to the server, and the server itself: it may be dead
/// by now, and its number another process's.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    #[cfg(debug_assertions)]
    crate::server::fault::pause("adopt");
    let [store, mountpoint, pid, device, memory, control, line, server] = arguments else {
        return ExitCode::from(2);
    };
    let adopt = |text: &OsString| number(text).and_then(|number| sys::adopt(number).ok());
    let handed = [device, memory, control, line, server].map(adopt);
    let pid = number(pid).and_then(Pid::from_raw);
    let (Some(pid), [Some(device), Some(memory), Some(control), Some(line), Some(server)]) =
        (pid, handed)
    else {
        return ExitCode::from(2);
    };
    let server = Watched::adopted(pid, server, line);
    let mut options = MountOptions {
        store: PathBuf::from(store),
        mountpoint: PathBuf::from(mountpoint),
        foreground: false,
        watchdog: std::time::Duration::ZERO,
        unanswered: std::time::Duration::ZERO,
        log: Log::handed_over(),
    };
    options.log.start("keeper", Some(&options.store));
    match run(&mut options, device, memory, control.into(), server) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", words_of(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(
    options: &mut MountOptions,
    device: OwnedFd,
    memory: OwnedFd,
    control: UnixListener,
    server: Watched,
) -> Result<(), MountError> {
    leave_terminal().map_err(|error| doing("leaving the terminal")(error.into()))?;
    let claim = claim(options)?;
    let signals = watch_signals().map_err(doing("watching for signals"))?;
    let memory = Memory::map(memory).map_err(doing("mapping the memory file"))?;
    let agreed = memory.negotiated().and_then(|words| Agreed::from_bytes(&words));
    options.watchdog = agreed.map(|agreed| agreed.watchdog).unwrap_or_default();
    options.unanswered = agreed.map(|agreed| agreed.unanswered).unwrap_or_default();
    host::spare_from_oom(OOM_SCORE);
    tracing::warn!("the keeper died; this one goes on");
    let can_resend = agreed.is_some_and(|agreed| agreed.negotiated.can_resend());
    let (vigil, _) = vigil(options, can_resend);
    let program = Program::Own;
    let mut keeper = Keeper {
        options,
        device,
        memory,
        control,
        signals,
        can_resend,
        vigil,
        program,
        is_leaving: false,
        unreaped: Vec::new(),
        _claim: claim,
    };
    keeper.keep(Some(server), None, &mut |_| ())
}
