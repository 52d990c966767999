//! Watching one server: what it says, whether it lives, whether the mount is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Keeper;
use crate::mount::device;

/// Longest message of a server, in bytes; the rest is cut.
const MESSAGE_LEN_MAX: usize = 4096;
/// How often the state of a server is looked at while it announces.
const PAUSE_ANNOUNCING: Duration = Duration::from_millis(5);
/// How often otherwise: then its end is reported at once, and this is only a net below.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a server may take to end after the mount has gone.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// A running server.
pub(super) struct Watched {
    child: Child,
    pidfd: OwnedFd,
    line: Option<OwnedFd>,
    served: bool,
    announcing: bool,
    words: Option<String>,
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
    },
}

impl Watched {
    pub(super) fn new(child: Child, line: OwnedFd) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { child, pidfd, line: Some(line), served: false, announcing: false, words: None })
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
                return Ok(Ended::Died { served: self.served, words: self.words.take() });
            }
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

    /// How it ended, when the kernel says so: `signal: 9 (SIGKILL)`.
    pub(super) fn status(&mut self) -> Option<String> {
        // One whose threads are still in the kernel cannot be waited for.
        let waited = self.child.try_wait().ok().flatten();
        waited.or_else(|| end_of_zombie(self.child.id())).map(|status| status.to_string())
    }

    fn is_dead(&mut self) -> io::Result<bool> {
        if self.child.try_wait()?.is_some() {
            return Ok(true);
        }
        Ok(is_zombie(self.child.id()))
    }

    /// Gives the server time to end on its own, since its mount has gone, then ends it.
    fn end(&mut self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&timespec(END_PATIENCE)))?;
        if self.child.try_wait()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }
}

struct Seen {
    unmounted: bool,
    signal: bool,
    message: bool,
}

/// Whether the leader of a process has ended, whatever its other threads do.
fn is_zombie(pid: u32) -> bool {
    // The name in parentheses may hold anything, so the state is what follows the last of them.
    std::fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let after = stat.iter().rposition(|byte| *byte == b')');
        after.is_some_and(|at| stat.get(at + 2).is_some_and(|state| b"ZX".contains(state)))
    })
}

/// How a process ended that nobody has waited for yet: the last field of its state.
fn end_of_zombie(pid: u32) -> Option<ExitStatus> {
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
        assert!(is_zombie(child.id()));
        let end = end_of_zombie(child.id());
        assert_eq!(end, Some(child.wait().expect("ours")));
        assert!(!is_zombie(std::process::id()));
    }
}
