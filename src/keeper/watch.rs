//! Watching one server: what it says, whether it lives or hangs, whether the mount is gone.
//!
//! A server that hangs is killed: it beats no more, or one of its threads handles the same request
//! for too long and does not wait for the kernel. Then the request is blamed, not the server.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use signal_hook::consts::{SIGKILL, SIGTERM};
use store_fs::{Blame, InFlightRow, Memory};

use super::Keeper;
use crate::mount::device;

/// Longest message of a server, in bytes; the rest is cut.
const MESSAGE_LEN_MAX: usize = 4096;
/// How often the state of a server is looked at while it announces.
const PAUSE_ANNOUNCING: Duration = Duration::from_millis(5);
/// How often otherwise: then its end is reported at once, and this is only a net below.
const PAUSE: Duration = Duration::from_secs(1);
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
}

/// How a server died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Nobody knows.
    Unknown,
    /// As the kernel says.
    Ended(ExitStatus),
    /// It hung, and this keeper killed it.
    Hung,
}

impl How {
    /// What that says of the requests that were being handled; nothing when the one that hung is
    /// blamed already.
    fn blame(self) -> Option<Blame> {
        match self {
            Self::Hung => None,
            Self::Unknown => Some(Blame::Kill),
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
            Self::Hung => f.write_str("it hung and was killed"),
        }
    }
}

/// How a server ended.
pub(super) enum Ended {
    /// With its mount, as it should.
    Unmounted,
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
        let watched = Self::over(Pid::from_child(&child), line)?;
        Ok(Self { child: Some(child), ..watched })
    }

    /// A server that another keeper has started, and that serves.
    pub(super) fn adopted(pid: i32, line: OwnedFd) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { served: true, ..Self::over(pid, line)? })
    }

    fn over(pid: Pid, line: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            pid,
            child: None,
            pidfd: pidfd_open(pid, PidfdFlags::empty())?,
            line: Some(line),
            served: false,
            announcing: false,
            words: None,
            how: How::Unknown,
            hangs: 0,
            looked: 0,
        })
    }

    /// Watches until the server has ended; calls `serving` when it says that it serves.
    pub(super) fn watch(
        &mut self,
        keeper: &Keeper<'_>,
        serving: &mut dyn FnMut(),
    ) -> io::Result<Ended> {
        loop {
            let seen = self.wait(keeper)?;
            if seen.message {
                self.listen(serving);
            }
            if seen.signal {
                unmount(keeper);
            }
            if seen.unmounted {
                self.end()?;
                return Ok(Ended::Unmounted);
            }
            if self.is_dead()? {
                // What it said last may still be in the line.
                while self.line.is_some() && self.has_message()? {
                    self.listen(serving);
                }
                match self.how.blame() {
                    Some(blame) => keeper.memory.blame_in_flight(blame),
                    None => keeper.memory.clear_in_flight(),
                }
                let (served, words) = (self.served, self.words.take());
                return Ok(Ended::Died { served, words, how: self.how });
            }
            self.end_if_hung(keeper)?;
        }
    }

    /// Kills a server that hangs.
    fn end_if_hung(&mut self, keeper: &Keeper<'_>) -> io::Result<()> {
        let limit = u64::try_from(keeper.options.watchdog.as_nanos()).unwrap_or(u64::MAX);
        let now = Memory::now();
        if limit == 0 || !self.served || now.saturating_sub(self.looked) < LOOK_EVERY {
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
        Ok(kill_process(self.pid, Signal::KILL)?)
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
        match poll(&mut fds, Some(&timespec(pause))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let signal = fds[1].revents().contains(PollFlags::IN);
        if signal {
            rustix::io::read(&keeper.signals, &mut [0; 16])?;
        }
        Ok(Seen {
            unmounted: fds[0].revents().contains(PollFlags::ERR),
            signal,
            message: fds.get(3).is_some_and(|line| !line.revents().is_empty()),
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
        // One whose threads are still in the kernel cannot be waited for.
        let status = waited.or_else(|| end_of_zombie(self.pid).filter(|_| is_zombie));
        if let (Some(status), How::Unknown) = (status, self.how) {
            self.how = How::Ended(status);
        }
        Ok(waited.is_some() || is_zombie || self.child.is_none() && has_ended(&self.pidfd)?)
    }

    /// Gives the server time to end on its own, since its mount has gone, then ends it.
    fn end(&mut self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&timespec(END_PATIENCE)))?;
        if !self.is_dead()? {
            kill_process(self.pid, Signal::KILL)?;
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

/// Whether a process that is not our child has ended.
fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&timespec(Duration::ZERO)))? > 0)
}

/// Whether the leader of a process has ended, whatever its other threads do.
fn is_zombie(pid: Pid) -> bool {
    matches!(state(&format!("/proc/{pid}/stat")), Some(b'Z' | b'X'))
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

/// Asked to end: unmounts, also when it is in use; then the server and we live on for its users.
fn unmount(keeper: &Keeper<'_>) {
    let mountpoint = &keeper.options.mountpoint;
    let first = device::unmount(mountpoint, false);
    if let Err(error) = first.or_else(|_| device::unmount(mountpoint, true)) {
        tracing::error!("{}", super::words_of(&error));
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
