//! The server's side of its keeper: what it says to it, and another one when it has died.
//!
//! ```text
//! server -> keeper   U<path>   replace me by a server of this program
//!                    Q         end, without unmounting: I start another keeper
//! keeper -> server   X<text>   not done, and why
//! ```
//!
//! Each watches the other. A keeper that dies takes nothing with it, since the server has the same
//! descriptors; the keeper that the server starts is handed them and watches this very server.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use store_fs::Memory;

use crate::host::Stopwatch;
use crate::keeper::set_inheritable;

/// Longest message of a keeper, in bytes; the rest is cut.
const MESSAGE_LEN_MAX: usize = 4096;
/// A keeper that dies younger than this, or could not be started, is not replaced at once.
const YOUTH: Duration = Duration::from_millis(20);
/// Pause before that; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The line to the present keeper.
#[derive(Debug)]
pub(super) struct Line {
    socket: Mutex<Arc<OwnedFd>>,
    keeper: AtomicU32,
    refusals: (Sender<String>, Receiver<String>),
}

impl Line {
    pub(super) fn new(socket: OwnedFd, keeper: u32) -> Self {
        Self {
            socket: Mutex::new(Arc::new(socket)),
            keeper: AtomicU32::new(keeper),
            refusals: unbounded(),
        }
    }

    /// Says something. A keeper that is gone cannot hear, and the mount goes on all the same.
    pub(super) fn say(&self, message: &[u8]) {
        if let Err(error) = send(self.socket(), message, SendFlags::NOSIGNAL) {
            tracing::debug!("the keeper does not hear: {error}");
        }
    }

    /// The keeper's process id; 0 while there is none.
    pub(super) fn keeper(&self) -> u32 {
        self.keeper.load(Ordering::Relaxed)
    }

    /// Says something that ends this process or the keeper; answers why it did not, or nothing
    /// when nothing was heard for `patience`.
    pub(super) fn ask(&self, message: &[u8], patience: Duration) -> Option<String> {
        // What was said to an earlier question is no answer to this one.
        while self.refusals.1.try_recv().is_ok() {}
        self.say(message);
        self.refusals.1.recv_timeout(patience).ok()
    }

    pub(super) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket.lock())
    }

    /// Listens until the keeper's end is closed.
    fn listen(&self) {
        let socket = self.socket();
        let mut message = [0; MESSAGE_LEN_MAX];
        loop {
            match recv(&*socket, message.as_mut_slice(), RecvFlags::empty()) {
                Ok((0, _)) => return,
                Ok((len, _)) => match &message[..len.min(MESSAGE_LEN_MAX)] {
                    [b'X', reason @ ..] => {
                        let reason = String::from_utf8_lossy(reason).into_owned();
                        self.refusals.0.send(reason).ok();
                    }
                    other => tracing::warn!("the keeper said {other:?}"),
                },
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::debug!("the line to the keeper: {error}");
                    return;
                }
            }
        }
    }
}

/// What a keeper must be handed.
#[derive(Debug)]
pub(super) struct Guardian {
    pub(super) store: PathBuf,
    pub(super) mountpoint: PathBuf,
    pub(super) device: OwnedFd,
    pub(super) memory: Arc<Memory>,
    pub(super) control: OwnedFd,
    pub(super) line: Arc<Line>,
}

impl Guardian {
    /// Watches the keeper, and replaces each that dies, on a thread of its own.
    ///
    /// # Errors
    ///
    /// That of starting the thread.
    pub(super) fn start(self) -> io::Result<()> {
        let run = move || self.run();
        thread::Builder::new().name("guardian".into()).spawn(run)?;
        Ok(())
    }

    fn run(self) {
        let mut pause = PAUSE_MIN;
        let mut child: Option<Child> = None;
        loop {
            let age = Stopwatch::start();
            self.line.listen();
            self.line.keeper.store(0, Ordering::Relaxed);
            // Reaps the one that was started here; the first one is somebody else's.
            if let Some(status) = child.take().map(|mut child| child.wait()) {
                tracing::warn!(?status, "the keeper that was started here ended");
            }
            if self.is_unmounted() {
                return;
            }
            // Until there is another, the death of this server is the end of the mount.
            if age.elapsed() >= YOUTH {
                pause = PAUSE_MIN;
            } else {
                thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
            match self.replace() {
                Ok(started) => child = Some(started),
                Err(error) => tracing::error!("no keeper could be started: {error}"),
            }
        }
    }

    /// The connection has ended, and this server is about to.
    fn is_unmounted(&self) -> bool {
        let mut fds = [PollFd::new(&self.device, PollFlags::empty())];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::ERR)
    }

    fn replace(&self) -> io::Result<Child> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let this = pidfd_open(getpid(), PidfdFlags::empty())?;
        let memory = self.memory.as_fd();
        let handed: [BorrowedFd<'_>; 5] =
            [self.device.as_fd(), memory, self.control.as_fd(), theirs.as_fd(), this.as_fd()];
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("adopt")
            .args([self.store.as_os_str(), self.mountpoint.as_os_str()] as [&OsStr; 2])
            .arg(std::process::id().to_string())
            .args(handed.iter().map(|descriptor| descriptor.as_raw_fd().to_string()))
            .stdin(Stdio::null());
        // No other thread of a server starts a process, so nothing else inherits these.
        set_inheritable(&handed, true)?;
        let child = command.spawn();
        set_inheritable(&handed, false)?;
        let child = child?;
        *self.line.socket.lock() = Arc::new(ours);
        self.line.keeper.store(child.id(), Ordering::Relaxed);
        tracing::warn!(keeper = child.id(), "the keeper died and was replaced");
        Ok(child)
    }
}
