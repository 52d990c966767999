//! The keeper: opens the connection, mounts, answers the kernel's one `INIT`, and from then on
//! holds what a server must not lose: the connection, the memory file and the control socket. It
//! starts, watches and replaces the server. It never reads the store and never answers a file's
//! request, so there is little in it that could fail.
//!
//! ```text
//! server -> keeper, a message each:  R  serving        F<text>  cannot serve, and why
//!                                    A  announcing     a        no longer announcing
//! ```
//!
//! A keeper that dies is replaced by its server, which starts another (`adopt`) and hands it the
//! same things: see `server/guardian.rs`.
//!
//! A server that was killed while its announcing thread waits in the kernel stays a zombie leader
//! with one living thread: neither `waitpid` nor a pidfd nor the end of a socket reports it. So the
//! state `Z` in `/proc/<pid>/stat` counts as death, and is looked at often while announcing. One
//! that crashed then waits for that thread to write its core: `CoreDumping` in its status.

pub(crate) mod adopt;
mod program;
mod vigil;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use signal_hook::consts::{SIGINT, SIGTERM};
use store_fs::Memory;
use store_fs::fuse::{Foregone, answer_init};

use self::program::Program;
use self::vigil::{Connection, Vigil};
use self::watch::{Ended, Watched};
use crate::agreed::Agreed;
use crate::log::Log;
use crate::mount::claim::{self, Asked, Claim};
use crate::mount::{MountError, MountOptions, Ready, device, number};
use crate::{control, host, mountinfo, rundir, sys};

/// How often a first server that is killed before it serves is replaced.
const TRIES_MAX: u32 = 5;
/// A server that dies younger than this has not come up.
const YOUTH: Duration = Duration::from_millis(100);
/// How often, and in what distance, it is looked who holds a claim that says nothing yet.
const HOLDER_LOOKS_MAX: u32 = 100;
const HOLDER_PAUSE: Duration = Duration::from_millis(5);
/// Pause before the second try of a server that does not come up; doubled each time.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest such pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The kernel's score for whom to kill when memory runs out: never us.
const OOM_SCORE: i32 = -1000;

/// Everything that outlives a server.
struct Keeper<'a> {
    options: &'a MountOptions,
    device: OwnedFd,
    memory: Memory,
    control: UnixListener,
    signals: OwnedFd,
    /// Whether the kernel hands out again what a dead server had read.
    can_resend: bool,
    /// Where it does not: who looks for requests that nobody answers, and may end the connection.
    vigil: Option<Vigil>,
    /// What servers run.
    program: Program,
    /// Somebody has asked for the end, and it is not yet unmounted.
    is_leaving: bool,
    /// Dead servers with a thread that is still in the kernel.
    unreaped: Vec<Child>,
    _claim: Claim,
}

/// Runs the hidden subcommand: `keeper STORE MOUNTPOINT WATCHDOG UNANSWERED DESCRIPTOR`.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let [store, mountpoint, watchdog, unanswered, ready] = arguments else {
        return ExitCode::from(2);
    };
    let Some(ready) = number(ready).and_then(|number| sys::adopt(number).ok()) else {
        return ExitCode::from(2);
    };
    let seconds = |text: &OsString| number(text).map(Duration::from_secs);
    let (Some(watchdog), Some(unanswered)) = (seconds(watchdog), seconds(unanswered)) else {
        return ExitCode::from(2);
    };
    let mut ready = Some(File::from(ready));
    if leave_terminal().is_err() {
        return ExitCode::FAILURE;
    }
    let options = MountOptions {
        store: PathBuf::from(store),
        mountpoint: PathBuf::from(mountpoint),
        foreground: false,
        watchdog,
        unanswered,
        log: Log::handed_over(),
    };
    options.log.start("keeper", Some(&options.store));
    let mut report = |words: Ready| {
        if let Some(file) = ready.take() {
            tell(file, &words);
        }
    };
    match run(&options, &mut report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(MountError::Served { pid, mountpoint }) => {
            report(Ready::Served { pid, mountpoint });
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!("{}", words_of(&error));
            let reason = match error {
                // Whoever waits says the rest of it.
                MountError::Start { reason } => reason,
                error => words_of(&error),
            };
            report(Ready::Failed { reason });
            ExitCode::FAILURE
        }
    }
}

/// The terminal that started us may go away; the mount stays.
fn leave_terminal() -> rustix::io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")
}

/// Mounts, keeps a server running until the mount is gone, and reports once when it is usable.
///
/// # Errors
///
/// [`MountError`], when it never became usable. Nothing is then left mounted.
pub(crate) fn run(options: &MountOptions, report: &mut dyn FnMut(Ready)) -> Result<(), MountError> {
    let claim = claim(options)?;
    let control = control::bind(&options.store).map_err(doing("binding the control socket"))?;
    let signals = watch_signals().map_err(doing("watching for signals"))?;
    let Connected { device, memory, can_resend, allow_other } = connect(options)?;
    let (vigil, unseen) = vigil(options, can_resend);
    let notes = notes(options, allow_other, can_resend, unseen.as_deref());
    host::spare_from_oom(OOM_SCORE);
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
    keeper.keep(None, Some(notes), report)
}

/// A connection that is mounted, and what was agreed with the kernel for its life.
struct Connected {
    device: OwnedFd,
    memory: Memory,
    can_resend: bool,
    /// Whether other users may enter.
    allow_other: bool,
}

fn connect(options: &MountOptions) -> Result<Connected, MountError> {
    let memory = Memory::create().map_err(doing("making the memory file"))?;
    let mounting = device::mount(&options.store, &options.mountpoint)?;
    let negotiated = answer_init(mounting.device.as_fd(), foregone()).map_err(|error| {
        detach(&options.mountpoint);
        doing("agreeing with the kernel")(error)
    })?;
    let MountOptions { watchdog, unanswered, .. } = *options;
    let agreed = Agreed { negotiated, mounted_at: host::now().0, watchdog, unanswered };
    memory.set_negotiated(&agreed.to_bytes()).map_err(doing("noting what was agreed"))?;
    raise_read_ahead(&options.mountpoint);
    let (store, place) = (options.store.display(), options.mountpoint.display());
    let can_resend = negotiated.can_resend();
    tracing::info!(kernel_can_resend = can_resend, "mounted {store} on {place}");
    let (device, allow_other) = (mounting.device, mounting.allow_other);
    Ok(Connected { device, memory, can_resend, allow_other })
}

/// Who looks for requests that nobody answers, where there can be such; else why nobody does.
fn vigil(options: &MountOptions, can_resend: bool) -> (Option<Vigil>, Option<String>) {
    if can_resend || options.unanswered.is_zero() {
        return (None, None);
    }
    match Connection::open(&options.store, &options.mountpoint) {
        Ok(connection) => (Some(Vigil::new(connection, options.unanswered)), None),
        Err(error) => {
            tracing::warn!("requests that stay unanswered cannot be seen: {error}");
            (None, Some(error.to_string()))
        }
    }
}

impl Keeper<'_> {
    /// Starts a server, unless one is there, and another whenever one dies, until the mount is
    /// gone.
    fn keep(
        &mut self,
        mut present: Option<Watched>,
        mut notes: Option<Vec<String>>,
        report: &mut dyn FnMut(Ready),
    ) -> Result<(), MountError> {
        let mut backoff = Duration::ZERO;
        let mut tries = 0;
        // What was served by before the present program, until that has served.
        let mut former = None;
        loop {
            let age = host::Stopwatch::start();
            let next = match present.take() {
                Some(watched) => Some(watched),
                None => self.next(notes.is_none())?,
            };
            let Some(mut watched) = next else {
                self.unbind();
                return Ok(());
            };
            self.vigil.iter_mut().for_each(Vigil::begin_anew);
            let ended = watched.watch(self, &mut || {
                if let Some(notes) = notes.take() {
                    report(Ready::Usable { notes });
                }
            });
            let ended = ended.map_err(doing("watching the server"))?;
            if matches!(ended, Ended::Died { .. } | Ended::Replaced(_)) {
                self.unreaped.extend(watched.remains());
            }
            match ended {
                Ended::Unmounted => {
                    self.unbind();
                    tracing::info!("unmounted {}", self.options.mountpoint.display());
                    return Ok(());
                }
                Ended::Retired => return Ok(()),
                Ended::Unanswered => self.mount_anew(&mut watched)?,
                Ended::Replaced(standby) => {
                    standby.server.go();
                    former = Some(std::mem::replace(&mut self.program, standby.program));
                    present = Some(*standby.server);
                }
                // Killed before it served, and with nothing to say: the next one may do better.
                Ended::Died { words: None, how, .. } if notes.is_some() && tries < TRIES_MAX => {
                    tracing::warn!("the server died before it served: {how}; starting another");
                    tries += 1;
                }
                Ended::Died { words, .. } if notes.is_some() => {
                    detach(&self.options.mountpoint);
                    self.unbind();
                    let reason = words.unwrap_or_else(|| "the server ended without a word".into());
                    return Err(MountError::Start { reason });
                }
                Ended::Died { served: false, words, how } if former.is_some() => {
                    let why = words.unwrap_or_else(|| how.to_string());
                    tracing::error!("the new server never served: {why}; back to the former one");
                    self.program = former.take().unwrap_or(Program::Own);
                }
                Ended::Died { served: true, words, how } if age.elapsed() >= YOUTH => {
                    former = None;
                    let why = words.unwrap_or_else(|| how.to_string());
                    tracing::warn!("the server died: {why}; starting another");
                    backoff = Duration::ZERO;
                }
                Ended::Died { words, how, .. } => {
                    let why = words.unwrap_or_else(|| how.to_string());
                    tracing::error!("the server died: {why}; starting another in {backoff:?}");
                    std::thread::sleep(backoff);
                    backoff = (backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
                }
            }
            self.memory.count_restart();
        }
    }

    /// Starts a server. Whoever waits for a mount that is in use goes on waiting until there is
    /// memory, or room for a process. `None`: the mount has gone meanwhile.
    fn next(&mut self, is_in_use: bool) -> Result<Option<Watched>, MountError> {
        let mut pause = BACKOFF_MIN;
        loop {
            match self.start("server", &self.program) {
                Ok(watched) => return Ok(Some(watched)),
                Err(error) if is_in_use => {
                    tracing::error!("starting the server: {error}; again in {pause:?}");
                }
                Err(error) => {
                    detach(&self.options.mountpoint);
                    return Err(doing("starting the server")(error));
                }
            }
            if watch::rest(self, pause).map_err(doing("waiting"))? {
                return Ok(None);
            }
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Waits for those whose last thread has come back.
    fn reap(&mut self) {
        self.unreaped.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// Looks for requests that nobody answers, and ends the connection for them; whether it did.
    fn end_for_lost(&mut self) -> bool {
        let Some(vigil) = &mut self.vigil else { return false };
        let ended = vigil.look(self.device.as_fd(), &self.memory).and_then(|lost| {
            let Some(lost) = lost else { return Ok(false) };
            let seconds = self.options.unanswered.as_secs();
            tracing::error!(
                lost,
                "requests stay unanswered for {seconds} s, and this kernel cannot repeat them: the \
                 store is mounted anew, and programs that use the mount must be started again"
            );
            vigil.connection().abort().map(|()| true)
        });
        ended.unwrap_or_else(|error| {
            tracing::warn!("nobody looks for requests that stay unanswered any more: {error}");
            self.vigil = None;
            false
        })
    }

    /// Mounts at the same place again after the connection was ended, and goes on with everything
    /// but what the kernel knew.
    fn mount_anew(&mut self, watched: &mut Watched) -> Result<(), MountError> {
        watched.end().map_err(doing("ending the server"))?;
        detach(&self.options.mountpoint);
        let mut pause = BACKOFF_MIN;
        let connected = loop {
            match connect(self.options) {
                Ok(connected) => break connected,
                Err(error) if pause > BACKOFF_MAX => {
                    self.unbind();
                    return Err(error);
                }
                Err(error) => tracing::error!("{}; trying again", words_of(&error)),
            }
            std::thread::sleep(pause);
            pause *= 2;
        };
        connected.memory.succeed(&self.memory);
        (self.device, self.memory) = (connected.device, connected.memory);
        self.can_resend = connected.can_resend;
        (self.vigil, _) = vigil(self.options, self.can_resend);
        Ok(())
    }

    /// Nobody listens any more.
    fn unbind(&self) {
        let socket = rundir::socket(&self.options.store);
        if let Err(error) = std::fs::remove_file(&socket) {
            tracing::warn!("removing {}: {error}", socket.display());
        }
    }

    /// Starts a server, or one that waits for its turn.
    fn start(&self, role: &str, program: &Program) -> io::Result<Watched> {
        let (ours, line) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let handed = [self.device.as_fd(), self.memory.as_fd(), self.control.as_fd(), line.as_fd()];
        let mut command = Command::new(program.path());
        self.options.log.hand_over(&mut command);
        command
            .arg(role)
            .arg(&self.options.store)
            .arg(&self.options.mountpoint)
            .arg(std::process::id().to_string())
            .args(handed.iter().map(|descriptor| descriptor.as_raw_fd().to_string()))
            .stdin(Stdio::null())
            // An interrupt from the terminal is for the keeper, which then unmounts.
            .process_group(0);
        // This process has one thread, so nothing else is started while these are inheritable.
        set_inheritable(&handed, true)?;
        let child = command.spawn();
        set_inheritable(&handed, false)?;
        self.memory.beat();
        Watched::child(child?, ours)
    }
}

/// Makes descriptors survive an exec, or not any more.
pub(crate) fn set_inheritable(descriptors: &[BorrowedFd<'_>], inheritable: bool) -> io::Result<()> {
    let flags = if inheritable { FdFlags::empty() } else { FdFlags::CLOEXEC };
    descriptors.iter().try_for_each(|descriptor| Ok(fcntl_setfd(descriptor, flags)?))
}

/// What is not asked of the kernel: nothing, but for tests of what older ones do.
fn foregone() -> Foregone {
    let is_old = cfg!(debug_assertions) && host::variable("DYNFS_TEST_OLD_KERNEL").is_some();
    if is_old { Foregone::Resend } else { Foregone::Nothing }
}

fn claim(options: &MountOptions) -> Result<Claim, MountError> {
    let take = || Claim::take(&options.store, &options.mountpoint);
    let mut asked = take().map_err(doing("claiming the store"))?;
    for _ in 0..HOLDER_LOOKS_MAX {
        match asked {
            Asked::Granted(claim) => return Ok(claim),
            Asked::Held(Some(claim::Holder { pid, mountpoint })) if host::lives(pid) => {
                return Err(MountError::Served { pid, mountpoint });
            }
            // Somebody took it just now and has not yet written who it is, or only asks.
            Asked::Held(_) => std::thread::sleep(HOLDER_PAUSE),
        }
        asked = take().map_err(doing("claiming the store"))?;
    }
    match asked {
        Asked::Granted(claim) => Ok(claim),
        // It lives where this process cannot see it.
        Asked::Held(Some(claim::Holder { pid, mountpoint })) => {
            Err(MountError::Served { pid, mountpoint })
        }
        Asked::Held(None) => {
            let source = io::Error::from(io::ErrorKind::ResourceBusy);
            Err(MountError::Io { action: "asking who serves the store".into(), source })
        }
    }
}

fn watch_signals() -> io::Result<OwnedFd> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader)
}

fn raise_read_ahead(mountpoint: &Path) {
    let minor = host::mounts()
        .ok()
        .and_then(|mounts| mountinfo::device_of(&mounts, mountpoint))
        .filter(|_| rustix::process::geteuid().is_root());
    if let Some(minor) = minor
        && let Err(error) = device::raise_read_ahead(minor)
    {
        tracing::warn!("cannot let the kernel read ahead further: {error}");
    }
}

/// What the user should know of a new mount; `unseen` is why nobody looks for lost requests.
fn notes(
    options: &MountOptions,
    allow_other: bool,
    can_resend: bool,
    unseen: Option<&str>,
) -> Vec<String> {
    let mut notes = Vec::new();
    if !allow_other {
        notes.push(
            "other users, root among them, cannot look into it: \
             /etc/fuse.conf does not have user_allow_other"
                .into(),
        );
    }
    if !can_resend {
        let rest = match (unseen, options.unanswered.as_secs()) {
            (Some(why), _) => format!(
                "; requests that stay unanswered cannot be seen here ({why}), and wait until \
                 dynfs abort"
            ),
            (None, 0) => "; requests that stay unanswered wait until dynfs abort".into(),
            (None, seconds) => format!(
                "; if requests stay unanswered for {seconds} s, the store is mounted anew, and \
                 programs that use it must be started again"
            ),
        };
        notes.push(format!(
            "this kernel cannot repeat the requests of a server that died (Linux 6.9 can): a \
             program may then get a stale file handle (ESTALE), in rare cases{rest}"
        ));
    }
    notes
}

/// Takes away a mount that never became usable.
fn detach(mountpoint: &Path) {
    if let Err(error) = device::unmount(mountpoint, true) {
        tracing::error!("{}", words_of(&error));
    }
}

fn tell(mut file: File, words: &Ready) {
    let told = serde_json::to_vec(words).map_err(io::Error::from).and_then(|mut line| {
        line.push(b'\n');
        file.write_all(&line)
    });
    if let Err(error) = told {
        tracing::warn!("nobody waits for the mount: {error}");
    }
}

/// An error and its causes in one line.
pub(crate) fn words_of(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

fn doing(action: &str) -> impl Fn(io::Error) -> MountError + use<> {
    let action = action.to_owned();
    move |source| MountError::Io { action: action.clone(), source }
}
