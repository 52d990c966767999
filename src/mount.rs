//! Mounting and unmounting: what a command asks of the keeper.
//!
//! ```text
//! dynfs mount --- starts ---> keeper --- starts, watches, replaces ---> server
//!             <-- one line --                     <-- one byte a step --
//! ```
//!
//! Nothing here looks into a mount, which would hang with a dead daemon: what is mounted is read
//! from `/proc/self/mountinfo`, who serves from the claim in the store.

pub(crate) mod claim;
pub(crate) mod device;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::log::{self, Log};
use crate::mountinfo::{self, FS_TYPE, Mount};
use crate::server::Beginning;
use crate::{host, rundir};

/// Symbolic links that a mount point may lead through, as for the kernel.
const LINKS_MAX: usize = 40;
/// How often, and in what distance, it is looked whether a server has found another keeper.
const ADOPTION_LOOKS: u32 = 100;
const ADOPTION_PAUSE: Duration = Duration::from_millis(50);
/// The hidden subcommands.
pub(crate) const ROLES: [&str; 4] = ["keeper", "adopt", "server", "standby"];
/// How long an aborted daemon may take to end.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);
/// How long an unmounted daemon may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// What `dynfs mount` was asked for.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// The store's directory, absolute.
    pub store: PathBuf,
    /// Where to mount, absolute; made when it is missing.
    pub mountpoint: PathBuf,
    /// Stay in the foreground until unmounted.
    pub foreground: bool,
    /// A server that answers nothing for so long is replaced; zero: never.
    pub watchdog: Duration,
    /// A connection with requests that nobody answers for so long is ended and made anew, where the
    /// kernel cannot hand them out again; zero: never.
    pub unanswered: Duration,
    /// How the daemon speaks.
    pub log: Log,
}

/// A mount that is usable.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// Where.
    pub mountpoint: PathBuf,
    /// The keeper's process id.
    pub keeper: u32,
    /// Things the user should know, one sentence each: a dead mount was replaced, others cannot
    /// see it, the kernel is too old for something.
    pub notes: Vec<String>,
}

/// Why mounting or unmounting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// There is no `/dev/fuse`, or it may not be opened. Exit code 6.
    #[error("FUSE is not available: {reason}")]
    NoFuse {
        /// The cause in words.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Something else is mounted there. Exit code 4.
    #[error("{} is already a mount of {what}", mountpoint.display())]
    Busy {
        /// Where.
        mountpoint: PathBuf,
        /// Its type and source.
        what: String,
    },
    /// The mount point is a file. Exit code 2.
    #[error("{} is not a directory", mountpoint.display())]
    NotDirectory {
        /// Where.
        mountpoint: PathBuf,
    },
    /// A daemon serves the store already. Exit code 4.
    #[error("process {pid} serves this store already, at {}", mountpoint.display())]
    Served {
        /// Its keeper.
        pid: u32,
        /// Where it is mounted.
        mountpoint: PathBuf,
    },
    /// The mount would hide the store from its own daemon. Exit code 4.
    #[error("a mount at {} would hide the store {}", mountpoint.display(), store.display())]
    AboveStore {
        /// Where.
        mountpoint: PathBuf,
        /// The store, at or below it.
        store: PathBuf,
    },
    /// A mount of the store was detached and is still in use. Exit code 4.
    #[error("process {pid} still serves what is open of a mount that was detached")]
    Detached {
        /// Its keeper.
        pid: u32,
    },
    /// The store is not mounted. Exit code 6.
    #[error("the store is not mounted")]
    NotMounted,
    /// The mount is in use. Exit code 4.
    #[error("{} is in use", mountpoint.display())]
    InUse {
        /// Where.
        mountpoint: PathBuf,
    },
    /// The operating system refused.
    #[error("{action}")]
    Io {
        /// What was being done, with its path.
        action: String,
        /// The cause.
        source: io::Error,
    },
    /// A server lives whose keeper has died, and no other keeper comes. Exit code 6.
    #[error("a server of this store lives without a keeper")]
    Orphaned,
    /// The keeper or server ended before the mount was usable; its own words.
    #[error("the daemon could not start: {reason}")]
    Start {
        /// What it said last.
        reason: String,
    },
}

/// The one line that a keeper writes when its mount is usable, or is not going to be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ready {
    Usable {
        notes: Vec<String>,
    },
    Served {
        pid: u32,
        #[serde(with = "crate::path_text")]
        mountpoint: PathBuf,
    },
    Failed {
        reason: String,
    },
}

/// Mounts, and returns when the mount is usable. With `foreground`, `usable` is called then, and
/// the function returns when it is unmounted.
///
/// # Errors
///
/// [`MountError`].
pub fn mount(
    options: &MountOptions,
    usable: &mut dyn FnMut(&Mounted),
) -> Result<Mounted, MountError> {
    let mountpoint = check(&options.store, &options.mountpoint)?;
    let options = &MountOptions { mountpoint, ..options.clone() };
    let mut notes = Vec::new();
    if let Some(note) = clear_mountpoint(options)? {
        notes.push(note);
    }
    if options.foreground {
        let mut mounted = None;
        crate::keeper::run(options, &mut |ready| {
            if let Ready::Usable { notes: more } = ready {
                let mut notes = notes.clone();
                notes.extend(more);
                let keeper = std::process::id();
                let now = Mounted { mountpoint: options.mountpoint.clone(), keeper, notes };
                usable(&now);
                mounted = Some(now);
            }
        })?;
        return mounted.ok_or(MountError::NotMounted);
    }
    let mut mounted = start_keeper(options)?;
    mounted.notes.splice(0..0, notes);
    usable(&mounted);
    Ok(mounted)
}

/// Whether a store could be mounted there, as far as that can be told without doing it; the place
/// without symbolic links.
///
/// # Errors
///
/// As [`mount`].
pub fn check(store: &Path, mountpoint: &Path) -> Result<PathBuf, MountError> {
    device::available()?;
    let place = resolve(mountpoint)?;
    if store.starts_with(&place) {
        return Err(MountError::AboveStore { mountpoint: place, store: store.to_owned() });
    }
    if let Some(holder) = living(store)? {
        return Err(held(store, holder)?);
    }
    let mounts = mounts()?;
    match mounts.iter().rev().find(|mount| mount.mountpoint == place) {
        Some(mount) if mount.kind == FS_TYPE && is_dead(&mount.source) => Ok(place),
        Some(mount) => {
            let what = format!("{} ({})", mount.source.display(), mount.kind);
            Err(MountError::Busy { mountpoint: place, what })
        }
        None if place.exists() && !place.is_dir() => {
            Err(MountError::NotDirectory { mountpoint: place })
        }
        None => Ok(place),
    }
}

/// Unmounts the store's mount and waits until keeper and server are gone (`lazy`: only detaches,
/// and they end when nothing uses it any more). Answers where it was mounted.
///
/// # Errors
///
/// [`MountError`].
pub fn umount(store: &Path, lazy: bool) -> Result<PathBuf, MountError> {
    may_unmount(store)?;
    let mounts = mounts()?;
    let holder = match living(store) {
        // Without a keeper it can be unmounted like any other.
        Err(MountError::Orphaned) => None,
        found => found?,
    };
    let mountpoint = match (&holder, mountinfo::mountpoint_of(&mounts, store)) {
        (_, Some(mountpoint)) => mountpoint.to_owned(),
        (Some(holder), None) => return Err(MountError::Detached { pid: holder.pid }),
        (None, None) => return Err(MountError::NotMounted),
    };
    // A mount that nobody serves is in use by nobody who could go on.
    let served = holder.is_some() || claim::is_served(store).map_err(of_store(store))?;
    device::unmount(&mountpoint, lazy || !served)?;
    // Nobody uses it any more, so whoever does not end by itself hangs.
    if !lazy && !claim::wait_until_free(store, END_PATIENCE).map_err(of_store(store))? {
        end_daemon(store);
    }
    Ok(mountpoint)
}

/// What [`umount`] would unmount, and whether it may.
///
/// # Errors
///
/// As [`umount`], but for what only trying shows: whether it is in use.
pub fn rehearse_umount(store: &Path) -> Result<PathBuf, MountError> {
    may_unmount(store)?;
    let mounts = mounts()?;
    let mountpoint = match (living(store), mountinfo::mountpoint_of(&mounts, store)) {
        (_, Some(mountpoint)) => mountpoint.to_owned(),
        (Ok(Some(holder)), None) => return Err(MountError::Detached { pid: holder.pid }),
        (_, None) => return Err(MountError::NotMounted),
    };
    Ok(mountpoint)
}

/// Where a store is mounted.
///
/// # Errors
///
/// [`MountError::NotMounted`]; [`MountError::Io`].
pub fn mountpoint(store: &Path) -> Result<PathBuf, MountError> {
    let mounts = mounts()?;
    let found = mountinfo::mountpoint_of(&mounts, store);
    found.map(Path::to_owned).ok_or(MountError::NotMounted)
}

/// Ends the kernel's connection, whoever hangs: all that wait get errors, now and later. Then ends
/// every process of the daemon, and detaches the mount.
///
/// # Errors
///
/// [`MountError::Io`].
pub fn abort(store: &Path, mountpoint: &Path) -> Result<(), MountError> {
    may_unmount(store)?;
    device::abort(mountpoint);
    // Both end by themselves, unless they hang. Without them the connection ends in any case.
    if !claim::wait_until_free(store, ABORT_PATIENCE).map_err(of_store(store))? {
        end_daemon(store);
    }
    // Where nobody was in it, it is gone already.
    match self::mountpoint(store) {
        Err(MountError::NotMounted) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => device::unmount(mountpoint, true),
    }
}

fn end_daemon(store: &Path) {
    for pid in daemon(store) {
        // One that has ended meanwhile is what was wanted.
        rustix::process::kill_process(pid, Signal::KILL).ok();
    }
}

/// The processes of a store's daemon, known by their command lines, and by what they find where
/// the store is: another machine's, as a container has one, may be at the same path.
fn daemon(store: &Path) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let here = host::identity(store).ok();
    let below = store.strip_prefix("/").unwrap_or(store);
    let is_ours = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == 0).skip(1);
        let role = words.next().is_some_and(|role| ROLES.iter().any(|r| r.as_bytes() == role));
        role && words.next() == Some(store.as_os_str().as_bytes())
    };
    let pid = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        (is_ours(&line) && host::identity(&entry.path().join("root").join(below)).ok() == here)
            .then_some(pid)
    };
    entries.flatten().filter_map(pid).collect()
}

/// Runs the hidden subcommands: `keeper`, which only `mount` starts, `server`, which only a keeper
/// starts, `standby`, one that waits for its turn, and `adopt`, a keeper which only a server starts
/// that has lost its own.
#[must_use]
pub fn run_hidden(arguments: &[OsString]) -> ExitCode {
    match arguments.split_first() {
        Some((role, rest)) if role == "keeper" => crate::keeper::main(rest),
        Some((role, rest)) if role == "adopt" => crate::keeper::adopt::main(rest),
        Some((role, rest)) if role == "server" => crate::server::main(Beginning::AtOnce, rest),
        Some((role, rest)) if role == "standby" => crate::server::main(Beginning::InWaiting, rest),
        _ => ExitCode::from(2),
    }
}

/// The number that an argument of a hidden subcommand is.
pub(crate) fn number<T: std::str::FromStr>(argument: &OsStr) -> Option<T> {
    argument.to_str()?.parse().ok()
}

/// The keeper of a store; waited for, when its server lives and is about to start one.
fn living(store: &Path) -> Result<Option<claim::Holder>, MountError> {
    let of_store = of_store(store);
    for _ in 0..ADOPTION_LOOKS {
        if let Some(holder) = claim::holder(store).map_err(&of_store)? {
            return Ok(Some(holder));
        }
        if !claim::is_served(store).map_err(&of_store)? {
            return Ok(None);
        }
        std::thread::sleep(ADOPTION_PAUSE);
    }
    Err(MountError::Orphaned)
}

/// Why a store with a living keeper cannot be mounted.
fn held(store: &Path, holder: claim::Holder) -> Result<MountError, MountError> {
    Ok(match mountinfo::mountpoint_of(&mounts()?, store) {
        Some(_) => MountError::Served { pid: holder.pid, mountpoint: holder.mountpoint },
        None => MountError::Detached { pid: holder.pid },
    })
}

/// Root and the owner of the store may unmount it; `fusermount3` would say less of the reason.
fn may_unmount(store: &Path) -> Result<(), MountError> {
    let owner = match crate::control::owner_of(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(MountError::NotMounted);
        }
        owner => owner.map_err(of_store(store))?,
    };
    if crate::control::may_change(host::uid(), owner) {
        return Ok(());
    }
    let source = io::Error::from(io::ErrorKind::PermissionDenied);
    Err(MountError::Io { action: format!("unmounting the store of user {owner}"), source })
}

/// The place that a path leads to. The kernel's table of mounts holds no symbolic links, so a path
/// with one would be taken for another place. The place itself is never looked into: it may be a
/// dead mount, and reading a link that is none is answered without one.
fn resolve(path: &Path) -> Result<PathBuf, MountError> {
    let mut place = path.to_owned();
    for _ in 0..LINKS_MAX {
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
            return Ok(place);
        };
        let parent = match parent.canonicalize() {
            Ok(parent) => parent,
            // It will be made, below a place that may be behind a link.
            Err(error) if error.kind() == io::ErrorKind::NotFound => resolve(parent)?,
            Err(error) => return Err(failed(&format!("finding {}", parent.display()), error)),
        };
        let whole = parent.join(name);
        match std::fs::read_link(&whole) {
            Ok(target) => place = parent.join(target),
            Err(_) => return Ok(whole),
        }
    }
    let action = format!("finding {}", path.display());
    Err(failed(&action, rustix::io::Errno::LOOP.into()))
}

/// Makes the mount point when it is missing, and takes away a mount of ours that nobody serves.
fn clear_mountpoint(options: &MountOptions) -> Result<Option<String>, MountError> {
    let place = &options.mountpoint;
    let mounts = mounts()?;
    match mounts.iter().rev().find(|mount| mount.mountpoint == *place) {
        None => {}
        Some(mount) if mount.kind == FS_TYPE && is_dead(&mount.source) => {
            device::unmount(place, true)?;
            return Ok(Some(format!("a dead mount at {} was replaced", place.display())));
        }
        Some(mount) => {
            let what = format!("{} ({})", mount.source.display(), mount.kind);
            return Err(MountError::Busy { mountpoint: place.clone(), what });
        }
    }
    match std::fs::DirBuilder::new().recursive(true).mode(0o755).create(place) {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(MountError::NotDirectory { mountpoint: place.clone() })
        }
        Err(error) => Err(failed(&format!("making the directory {}", place.display()), error)),
    }
}

/// Whether neither keeper nor server lives that serves this store.
fn is_dead(store: &Path) -> bool {
    matches!((claim::holder(store), claim::is_served(store)), (Ok(None), Ok(false)))
}

fn start_keeper(options: &MountOptions) -> Result<Mounted, MountError> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| failed("making a pipe", error.into()))?;
    fcntl_setfd(&writer, FdFlags::empty())
        .map_err(|error| failed("handing over a pipe", error.into()))?;
    let log = open_log(&options.store)?;
    let log_again = log.try_clone().map_err(|error| failed("opening the log", error))?;
    let mut command = Command::new("/proc/self/exe");
    options.log.plain().hand_over(&mut command);
    let child = command
        .arg("keeper")
        .arg(&options.store)
        .arg(&options.mountpoint)
        .arg(options.watchdog.as_secs().to_string())
        .arg(options.unanswered.as_secs().to_string())
        .arg(writer.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_again)
        .spawn()
        .map_err(|error| failed("starting the keeper", error))?;
    drop(writer);
    let keeper = child.id();
    // The keeper outlives this command, so nobody here waits for it.
    drop(child);
    let notes = read_ready(reader)?;
    Ok(Mounted { mountpoint: options.mountpoint.clone(), keeper, notes })
}

fn read_ready(reader: OwnedFd) -> Result<Vec<String>, MountError> {
    let mut line = String::new();
    BufReader::new(File::from(reader))
        .read_line(&mut line)
        .map_err(|error| failed("waiting for the keeper", error))?;
    match serde_json::from_str(&line) {
        Ok(Ready::Usable { notes }) => Ok(notes),
        Ok(Ready::Served { pid, mountpoint }) => Err(MountError::Served { pid, mountpoint }),
        Ok(Ready::Failed { reason }) => Err(MountError::Start { reason }),
        Err(_) => Err(MountError::Start { reason: "the keeper ended without a word".into() }),
    }
}

fn open_log(store: &Path) -> Result<File, MountError> {
    let path = rundir::log(store);
    rundir::make(store).map_err(|error| failed(&format!("opening {}", path.display()), error))?;
    log::open(&path).map_err(|error| failed(&format!("opening {}", path.display()), error))
}

fn mounts() -> Result<Vec<Mount>, MountError> {
    host::mounts().map_err(|error| failed("reading the list of mounts", io::Error::other(error)))
}

fn of_store(store: &Path) -> impl Fn(io::Error) -> MountError + use<> {
    let action = format!("asking who serves {}", store.display());
    move |source| MountError::Io { action: action.clone(), source }
}

fn failed(action: &str, source: io::Error) -> MountError {
    MountError::Io { action: action.to_owned(), source }
}
