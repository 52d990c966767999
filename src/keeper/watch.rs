//! Watching one server: what it says, whether it lives or hangs, whether the mount is gone.
//!
//! A server that hangs is killed: it beats no more, or one of its threads handles the same request
//! for too long and does not wait for the kernel. Then the request is blamed, not the server.
//!
//! Dead is who can never answer again, whether or not the kernel reports an end. A thread that
//! waits in the kernel for a lookup, which only the next server will answer, holds the end up: the
//! leader is a zombie meanwhile, or waits for that thread to write its core.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGKILL, SIGTERM};
use store_fs::{Blame, InFlightRow, Memory};

use super::Keeper;
use super::program::Program;
use crate::host::{self, Stopwatch};
use crate::mount::device;
use crate::mountinfo;

/// Longest message of a server, in bytes; the rest is cut.
const MESSAGE_LEN_MAX: usize = 8192;
/// How long a standby may take to get ready.
const STANDBY_PATIENCE: Duration = Duration::from_secs(30);
/// How often the state of a server is looked at while it announces.
const PAUSE_ANNOUNCING: Duration = Duration::from_millis(5);
/// How often otherwise: then its end is reported at once, and this is only a net below.
const PAUSE: Duration = Duration::from_secs(1);
/// How often when the kernel does not let us wait.
const PAUSE_BLIND: Duration = Duration::from_millis(100);
/// Nanoseconds between looks for one that hangs.
const LOOK_EVERY: u64 = 900_000_000;
/// How long a server may take to end after the mount has gone.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// In so many looks in a row a server must seem to hang: one may come late, after a suspend.
const HANGS_MIN: u32 = 2;

/// A running server.
pub(super) struct Watched {
    pid: Pid,
    /// A server that this keeper has not started can be watched, but not waited for.
    child: Option<Child>,
    pidfd: OwnedFd,
    line: Option<OwnedFd>,
    served: bool,
    announcing: bool,
    words: Option<String>,
    how: How,
    hangs: u32,
    looked: u64,
    /// It has proven itself, and waits for its turn.
    ready: bool,
    /// What it wants of its keeper.
    wish: Option<Wish>,
    /// Who is to take its place.
    standby: Option<Standby>,
}

/// What a server asks its keeper for.
pub(super) enum Wish {
    /// To be replaced by a server of this program.
    Replace(PathBuf),
    /// That the keeper ends, since the server starts another one.
    Retire,
}

/// A server in waiting.
pub(super) struct Standby {
    pub(super) server: Box<Watched>,
    /// The program that it runs.
    pub(super) program: Program,
    since: Stopwatch,
}

/// How a server died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Nobody knows.
    Unknown,
    /// As the kernel says.
    Ended(ExitStatus),
    /// It crashed, and the kernel writes its core, or would like to.
    Dumping,
    /// It hung, and this keeper killed it.
    Hung,
    /// This keeper killed it, since another one waits to serve.
    Replaced,
}

impl How {
    /// What that says of the requests that were being handled; nothing when the one that hung is
    /// blamed already.
    fn blame(self) -> Option<Blame> {
        match self {
            Self::Hung | Self::Replaced => None,
            Self::Unknown => Some(Blame::Kill),
            Self::Dumping => Some(Blame::Crash),
            Self::Ended(status) => match status.signal() {
                Some(SIGKILL | SIGTERM) => Some(Blame::Kill),
                _ => Some(Blame::Crash),
            },
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("it ended without a word"),
            Self::Ended(status) => status.fmt(f),
            Self::Dumping => f.write_str("it crashed, and its core is being written"),
            Self::Hung => f.write_str("it hung and was killed"),
            Self::Replaced => f.write_str("it was replaced"),
        }
    }
}

/// How a server ended.
pub(super) enum Ended {
    /// With its mount, as it should.
    Unmounted,
    /// It goes on, and wants another keeper.
    Retired,
    /// The keeper has ended the connection, whose requests stayed unanswered.
    Unanswered,
    /// It is dead, and this one waits for the word to serve.
    Replaced(Standby),
    /// On its own.
    Died {
        /// Whether it ever served.
        served: bool,
        /// What it had to say.
        words: Option<String>,
        /// How.
        how: How,
    },
}

impl Watched {
    /// A server that this keeper has started.
    pub(super) fn child(child: Child, line: OwnedFd) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let watched = Self::over(pid, pidfd_open(pid, PidfdFlags::empty())?, line);
        Ok(Self { child: Some(child), ..watched })
    }

    /// A server that another keeper has started, and that serves, or has died since.
    pub(super) fn adopted(pid: Pid, pidfd: OwnedFd, line: OwnedFd) -> Self {
        Self { served: true, ..Self::over(pid, pidfd, line) }
    }

    fn over(pid: Pid, pidfd: OwnedFd, line: OwnedFd) -> Self {
        Self {
            pid,
            child: None,
            pidfd,
            line: Some(line),
            served: false,
            announcing: false,
            words: None,
            how: How::Unknown,
            hangs: 0,
            looked: 0,
            ready: false,
            wish: None,
            standby: None,
        }
    }

    /// Watches until the server has ended; calls `serving` when it says that it serves.
    pub(super) fn watch(
        &mut self,
        keeper: &mut Keeper<'_>,
        serving: &mut dyn FnMut(),
    ) -> io::Result<Ended> {
        loop {
            keeper.reap();
            let seen = self.wait(keeper)?;
            if seen.message {
                self.listen(serving);
            }
            keeper.is_leaving |= seen.signal;
            leave(keeper);
            if seen.unmounted {
                self.end()?;
                return Ok(Ended::Unmounted);
            }
            if self.is_dead()? {
                // What it said last may still be in the line.
                while self.line.is_some() && self.has_message()? {
                    self.listen(serving);
                }
                if let Some(blame) = self.how.blame() {
                    keeper.memory.blame_in_flight(blame);
                }
                match keeper.can_resend {
                    true => keeper.memory.clear_in_flight(),
                    false => keeper.memory.keep_orphans(),
                }
                if let Some(standby) = self.standby.take_if(|standby| standby.server.ready) {
                    return Ok(Ended::Replaced(standby));
                }
                let (served, words) = (self.served, self.words.take());
                return Ok(Ended::Died { served, words, how: self.how });
            }
            match self.wish.take() {
                Some(Wish::Retire) if keeper.options.foreground => {
                    self.refuse("the keeper runs in the foreground: end it, and mount again");
                }
                Some(Wish::Retire) => return Ok(Ended::Retired),
                Some(Wish::Replace(path)) => self.prepare(keeper, &path),
                None => {}
            }
            self.look_at_standby()?;
            self.end_if_hung(keeper)?;
            if keeper.end_for_lost() {
                if let Some(mut standby) = self.standby.take() {
                    standby.server.discard()?;
                }
                return Ok(Ended::Unanswered);
            }
        }
    }

    /// Starts a server that gets ready beside this one.
    fn prepare(&mut self, keeper: &Keeper<'_>, path: &Path) {
        if self.standby.is_some() {
            return self.refuse("another server is being prepared");
        }
        let started = Program::open(path)
            .and_then(|program| Ok((keeper.start("standby", &program)?, program)));
        match started {
            Ok((server, program)) => {
                tracing::info!(pid = %server.pid, "a standby of {} gets ready", path.display());
                let (server, since) = (Box::new(server), Stopwatch::start());
                self.standby = Some(Standby { server, program, since });
            }
            Err(error) => self.refuse(&format!("starting {}: {error}", path.display())),
        }
    }

    /// A standby that is ready takes over; one that cannot is dropped, and this server stays.
    fn look_at_standby(&mut self) -> io::Result<()> {
        let Some(Standby { server, since, .. }) = &mut self.standby else { return Ok(()) };
        while server.line.is_some() && server.has_message()? {
            server.listen(&mut || ());
        }
        if server.ready {
            if self.how != How::Replaced {
                self.how = How::Replaced;
                self.kill()?;
            }
            return Ok(());
        }
        let reason = if server.is_dead()? {
            let how = server.how;
            Some(server.words.take().unwrap_or_else(|| how.to_string()))
        } else {
            let late = since.elapsed() > STANDBY_PATIENCE;
            late.then(|| "it did not get ready in time".to_owned())
        };
        if let Some(reason) = reason {
            server.discard()?;
            self.standby = None;
            tracing::error!("the standby was dropped: {reason}");
            self.refuse(&format!("the new server cannot serve: {reason}"));
        }
        Ok(())
    }

    /// Ends a server that never served.
    fn discard(&mut self) -> io::Result<()> {
        if let Some(child) = &mut self.child {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Has a standby serve.
    pub(super) fn go(&self) {
        self.tell(b"G");
    }

    fn refuse(&self, reason: &str) {
        self.tell(format!("X{reason}").as_bytes());
    }

    fn tell(&self, message: &[u8]) {
        let Some(line) = &self.line else { return };
        if let Err(error) = send(line, message, SendFlags::NOSIGNAL) {
            tracing::warn!("the server does not hear: {error}");
        }
    }

    /// Kills a server that hangs.
    fn end_if_hung(&mut self, keeper: &Keeper<'_>) -> io::Result<()> {
        let limit = u64::try_from(keeper.options.watchdog.as_nanos()).unwrap_or(u64::MAX);
        let now = Memory::now();
        if limit == 0 || now.saturating_sub(self.looked) < LOOK_EVERY {
            return Ok(());
        }
        self.looked = now;
        let is_old = |since: u64| now.saturating_sub(since) > limit;
        let mut stuck = keeper.memory.in_flight_rows();
        stuck.retain(|row| is_old(row.since) && !waits_for_the_kernel(self.pid, row.tid));
        if stuck.is_empty() && !is_old(keeper.memory.last_beat()) {
            self.hangs = 0;
            return Ok(());
        }
        self.hangs += 1;
        if self.hangs < HANGS_MIN || self.how == How::Hung {
            return Ok(());
        }
        for InFlightRow { request, name, .. } in &stuck {
            let (operation, node) = (request.operation.name(), request.node);
            let name = String::from_utf8_lossy(name);
            tracing::error!(operation, node, %name, "this request hangs");
            keeper.memory.blame(request.unique, Blame::Crash);
        }
        self.how = How::Hung;
        self.kill()
    }

    /// Kills it, and no other process that has its number by now; nothing when it is dead.
    fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn wait(&self, keeper: &Keeper<'_>) -> io::Result<Seen> {
        let pause = if self.announcing { PAUSE_ANNOUNCING } else { PAUSE };
        let mut fds = vec![
            // The kernel reports the end of a connection as an error, whatever is asked for.
            PollFd::new(&keeper.device, PollFlags::empty()),
            PollFd::new(&keeper.signals, PollFlags::IN),
            PollFd::new(&self.pidfd, PollFlags::IN),
        ];
        if let Some(line) = &self.line {
            fds.push(PollFd::new(line, PollFlags::IN));
        }
        if let Some(Standby { server, .. }) = &self.standby {
            fds.push(PollFd::new(&server.pidfd, PollFlags::IN));
            fds.extend(server.line.as_ref().map(|line| PollFd::new(line, PollFlags::IN)));
        }
        match poll(&mut fds, Some(&timespec(pause))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // A keeper that gives up is worse than one that sees everything a little later.
            Err(error) => {
                tracing::warn!("waiting for the server: {error}");
                std::thread::sleep(PAUSE_BLIND);
            }
        }
        let signal = fds[1].revents().contains(PollFlags::IN);
        if signal {
            rustix::io::read(&keeper.signals, &mut [0; 16])?;
        }
        Ok(Seen {
            unmounted: fds[0].revents().contains(PollFlags::ERR),
            signal,
            message: self.line.is_some() && !fds[3].revents().is_empty(),
        })
    }

    /// Takes one message.
    fn listen(&mut self, serving: &mut dyn FnMut()) {
        let Some(line) = &self.line else { return };
        let mut bytes = [0; MESSAGE_LEN_MAX];
        let received = recv(line, bytes.as_mut_slice(), RecvFlags::empty());
        let len = received.map_or(0, |(len, _)| len);
        match &bytes[..len] {
            // Its end, which is not yet its death: threads may still be in the kernel.
            [] => self.line = None,
            [b'R'] => {
                self.served = true;
                serving();
            }
            [b'S'] => self.ready = true,
            [b'Q'] => self.wish = Some(Wish::Retire),
            [b'U', path @ ..] => {
                self.wish = Some(Wish::Replace(OsStr::from_bytes(path).into()));
            }
            [b'A'] => self.announcing = true,
            [b'a'] => self.announcing = false,
            [b'F', words @ ..] => self.words = Some(String::from_utf8_lossy(words).into_owned()),
            other => tracing::warn!("the server said {other:?}"),
        }
    }

    fn has_message(&self) -> io::Result<bool> {
        let Some(line) = &self.line else { return Ok(false) };
        let mut fds = [PollFd::new(line, PollFlags::IN)];
        Ok(poll(&mut fds, Some(&timespec(Duration::ZERO)))? > 0)
    }

    fn is_dead(&mut self) -> io::Result<bool> {
        let waited = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
        let is_zombie = waited.is_none() && is_zombie(self.pid);
        let is_dumping = waited.is_none() && !is_zombie && dumps_core(self.pid);
        // One whose threads are still in the kernel cannot be waited for.
        let status = waited.or_else(|| end_of_zombie(self.pid).filter(|_| is_zombie));
        if self.how == How::Unknown {
            self.how = match status {
                Some(status) => How::Ended(status),
                None if is_dumping => How::Dumping,
                None => How::Unknown,
            };
        }
        let has_ended = self.child.is_none() && has_ended(&self.pidfd)?;
        Ok(waited.is_some() || is_zombie || is_dumping || has_ended)
    }

    /// What is left of it, to be waited for when its last thread has come back.
    pub(super) fn remains(&mut self) -> Option<Child> {
        self.child.take()
    }

    /// Gives the server time to end on its own, since its mount has gone, then ends it.
    pub(super) fn end(&mut self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&timespec(END_PATIENCE)))?;
        if !self.is_dead()? {
            self.kill()?;
            if let Some(child) = &mut self.child {
                child.wait()?;
            }
        }
        Ok(())
    }
}

struct Seen {
    unmounted: bool,
    signal: bool,
    message: bool,
}

/// Waits while there is no server to watch; whether the mount has gone.
pub(super) fn rest(keeper: &mut Keeper<'_>, pause: Duration) -> io::Result<bool> {
    let mut fds = [
        PollFd::new(&keeper.device, PollFlags::empty()),
        PollFd::new(&keeper.signals, PollFlags::IN),
    ];
    match poll(&mut fds, Some(&timespec(pause))) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => {
            tracing::warn!("waiting for the mount: {error}");
            std::thread::sleep(pause);
        }
    }
    let [unmounted, signal] = fds.map(|fd| fd.revents());
    if signal.contains(PollFlags::IN) {
        rustix::io::read(&keeper.signals, &mut [0; 16])?;
        keeper.is_leaving = true;
    }
    leave(keeper);
    Ok(unmounted.contains(PollFlags::ERR))
}

/// Whether a process that is not our child has ended.
fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&timespec(Duration::ZERO)))? > 0)
}

/// Whether the leader of a process has ended, whatever its other threads do.
fn is_zombie(pid: Pid) -> bool {
    matches!(state(&format!("/proc/{pid}/stat")), Some(b'Z' | b'X'))
}

/// Whether a process has crashed and its core is being written: none of its threads runs any more.
fn dumps_core(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| status.lines().any(|line| line == "CoreDumping:\t1"))
}

/// Whether a thread waits for a disk: killing it would change nothing.
fn waits_for_the_kernel(pid: Pid, tid: u32) -> bool {
    state(&format!("/proc/{pid}/task/{tid}/stat")) == Some(b'D')
}

/// The state of a process or thread, as the kernel writes it.
fn state(path: &str) -> Option<u8> {
    let stat = std::fs::read(path).ok()?;
    // The name in parentheses may hold anything, so the state is what follows the last of them.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(after + 2).copied()
}

/// How a process ended that nobody has waited for yet: the last field of its state.
fn end_of_zombie(pid: Pid) -> Option<ExitStatus> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.split_ascii_whitespace().next_back()?.parse().ok().map(ExitStatus::from_raw)
}

/// Unmounts, when that was asked for and not yet done, also a mount that is in use; then the server
/// and we live on for its users. It may fail for a while: where this is no root it is a program,
/// for which there may be no room.
fn leave(keeper: &mut Keeper<'_>) {
    if !keeper.is_leaving {
        return;
    }
    let mountpoint = &keeper.options.mountpoint;
    let first = device::unmount(mountpoint, false);
    match first.or_else(|_| device::unmount(mountpoint, true)) {
        Ok(()) => keeper.is_leaving = false,
        Err(error) => {
            tracing::error!("{}", super::words_of(&error));
            // Somebody else has detached it.
            let is_gone = host::mounts().is_ok_and(|mounts| {
                mountinfo::connection_of(&mounts, &keeper.options.store, mountpoint).is_none()
            });
            keeper.is_leaving = !is_gone;
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_child_that_nobody_waited_for_is_a_zombie() {
        let mut child = std::process::Command::new("false").spawn().expect("coreutils");
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("a child");
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        poll(&mut fds, None).expect("it ends");
        assert!(is_zombie(Pid::from_child(&child)));
        let end = end_of_zombie(Pid::from_child(&child));
        assert_eq!(end, Some(child.wait().expect("ours")));
        assert!(!is_zombie(rustix::process::getpid()));
    }
}
