//! Taking over a live connection. Every start of a server is one.
//!
//! The library insists on a handshake before it serves. The kernel speaks that once, to the keeper.
//! So the handshake is played on a socket pair, and then the real connection is put in its place:
//!
//! ```text
//! 1. write a made-up INIT into one end, give the other to the library, read its answer
//! 2. dup3 the real connection over the descriptor that the library holds
//! 3. RESEND: the kernel queues again whatever a dead server had read and not answered. One that
//!    cannot (before Linux 6.9) is answered from what the memory file has of them, and what it
//!    has not is given back to be asked again
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use fuser::{Config, SessionACL};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::adapter::Adapter;
use super::kernel::FuseKernel;
use super::wire::{Negotiated, resend};
use super::{lost, orphans};
use crate::{Disk, DynFs, Memory, sys};

/// A session on a connection that was taken over. Nothing is answered before [`Session::run`].
#[derive(Debug)]
pub struct Session<D: Disk> {
    session: fuser::Session<Adapter<D>>,
    can_resend: bool,
    fs: Arc<DynFs<D>>,
    memory: Arc<Memory>,
}

impl<D: Disk> Session<D> {
    /// Takes over the connection `device`, for which `negotiated` was agreed.
    ///
    /// # Errors
    ///
    /// The operating system's, or the library's when it does not accept the handshake.
    pub fn take_over(
        device: OwnedFd,
        negotiated: &Negotiated,
        fs: Arc<DynFs<D>>,
        memory: Arc<Memory>,
        threads: usize,
    ) -> io::Result<Self> {
        let (ours, library) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::write(&ours, &negotiated.synthetic_init())?;
        let mut config = Config::default();
        // The kernel decides who may enter (`allow_other`); a second opinion would only differ.
        config.acl = SessionACL::All;
        config.n_threads = Some(threads);
        // A clone has a queue of its own, whose requests fail when its server dies.
        config.clone_fd = false;
        let adapter = Adapter::new(Arc::clone(&fs), Arc::clone(&memory));
        let session = fuser::Session::from_fd(adapter, library, SessionACL::All, config)?;
        let mut answer = [0; 256];
        rustix::io::read(&ours, &mut answer)?;
        sys::replace_descriptor(session.as_fd(), device.as_fd())?;
        Ok(Self { session, can_resend: negotiated.can_resend(), fs, memory })
    }

    /// The way to tell the kernel of changes.
    #[must_use]
    pub fn kernel(&self) -> FuseKernel {
        FuseKernel::new(self.session.notifier())
    }

    /// Has unanswered requests queued again, or where the kernel cannot do that answers those that
    /// are known; then answers until the mount is gone.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn run(self) -> io::Result<()> {
        if self.can_resend {
            resend(self.session.as_fd())?;
        } else {
            let answered = orphans::answer_all(self.session.as_fd(), &self.fs, &self.memory)?;
            let errno = if self.fs.is_withheld() { Errno::IO } else { Errno::STALE };
            let lost = lost::answer_all(self.session.as_fd(), &self.memory, errno)?;
            tracing::info!(answered, lost, "requests that a dead server had read");
        }
        self.session.run()
    }
}
