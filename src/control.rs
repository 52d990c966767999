//! The daemon's side of the control socket: who may ask what, and how many at once.
//!
//! A thread per connection, both bounded: connections by number, each by time and by line length.
//! The kernel says who the caller is (`SO_PEERCRED`, `SO_PEERGROUPS`); everyone may read, the owner
//! of the store and root may change, and of a store of root so may the group `dynfs`, which may not
//! replace the daemon, since that runs any program as root. A hostile client can cost one thread
//! for a while and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use resolver::RequestId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use store_fs::Disk;

use crate::engine::{Caller, Engine};
use crate::error::{CommandError, Kind};
use crate::protocol::{
    Answer, Call, DaemonStatus, Deleted, Done, Edit, Forgotten, Held, LINE_LEN_MAX, LiveStatus,
    PROTOCOL, READER_LINE_LEN_MAX, Replaced, Switched, Wire, WireError,
};
use crate::{host, rundir, sys};

/// Who may change a store of root beside root.
pub(crate) const GROUP: &str = "dynfs";
/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Of these, for callers who may not change the store: the owner always gets through.
const READERS_MAX: usize = 32;
/// A connection that says nothing for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How often, and in what distance, a call looks whether the engine is open.
const READY_LOOKS: u32 = 1_000;
const READY_PAUSE: Duration = Duration::from_millis(5);
/// Calls on one connection.
const CALLS_MAX: usize = 10_000;

/// What the mount knows of itself, asked at each status call.
pub type Live = Arc<dyn Fn() -> LiveStatus + Send + Sync>;
/// Begins to unmount, lazily or not; returns at once.
pub type Unmount = Arc<dyn Fn(bool) -> Result<(), CommandError> + Send + Sync>;

/// Replaces a process of the daemon; a reason when that was not done.
pub type Reexec = Arc<dyn Fn(Replaced) -> Result<(), String> + Send + Sync>;

/// What processes need that hold these nodes; nothing is asked for by that.
pub type WhoHolds = Arc<dyn Fn(&[u64]) -> Vec<Option<Held>> + Send + Sync>;

/// What a control socket serves.
pub struct Control<D: Disk> {
    /// The single writer, as soon as it could be opened.
    pub engine: Opening<D>,
    /// The mount's own state.
    pub live: Live,
    /// What is behind the nodes that processes hold.
    pub held: WhoHolds,
    /// The owner of the store's directory: may change it, as root may.
    pub owner: u32,
    /// How to unmount, when that can be asked for here.
    pub unmount: Option<Unmount>,
    /// How to replace keeper and server, when there are two.
    pub reexec: Option<Reexec>,
}

/// An engine that may have to wait for the writer's lock before it is there.
pub struct Opening<D: Disk> {
    engine: OnceLock<Arc<Engine<D>>>,
    reason: Mutex<String>,
}

impl<D: Disk> Default for Opening<D> {
    fn default() -> Self {
        Self { engine: OnceLock::new(), reason: Mutex::default() }
    }
}

impl<D: Disk> From<Arc<Engine<D>>> for Opening<D> {
    fn from(engine: Arc<Engine<D>>) -> Self {
        Self { engine: engine.into(), reason: Mutex::default() }
    }
}

impl<D: Disk> Opening<D> {
    /// It is open. Said once.
    pub fn opened(&self, engine: Arc<Engine<D>>) {
        if self.engine.set(engine).is_err() {
            tracing::error!("the engine was opened twice");
        }
    }

    /// Why it is not yet.
    pub fn waits(&self, reason: String) {
        *self.reason.lock() = reason;
    }

    /// The engine, waited for a little.
    fn ready(&self) -> Result<&Engine<D>, CommandError> {
        for _ in 0..READY_LOOKS {
            if let Some(engine) = self.engine.get() {
                return Ok(engine);
            }
            thread::sleep(READY_PAUSE);
        }
        let error = CommandError::new(Kind::Unavailable, "the daemon cannot take commands yet");
        let error = error.hint("try again; dynfs status");
        Err(CommandError { causes: vec![self.reason.lock().clone()], ..error })
    }
}

impl<D: Disk> std::fmt::Debug for Opening<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("engine", &self.engine.get()).finish_non_exhaustive()
    }
}

impl<D: Disk> std::fmt::Debug for Control<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// The owner of a store's directory.
///
/// # Errors
///
/// The operating system's.
pub fn owner_of(store: &Path) -> io::Result<u32> {
    Ok(fs::metadata(store)?.uid())
}

/// A path to the socket that fits into the 108 bytes of a socket's address, whatever the store's
/// path is; good while `directory` is open.
fn address(directory: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), rundir::SOCKET).into()
}

fn open_directory(path: &Path) -> io::Result<rustix::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Makes the socket of a store, in place of a dead one. Only the keeper may, while it holds the
/// store: nobody else can be listening then.
///
/// # Errors
///
/// The operating system's.
pub fn bind(store: &Path) -> io::Result<UnixListener> {
    rundir::make(store)?;
    let directory = open_directory(&rundir::path(store))?;
    let path = address(directory.as_fd());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Everyone may connect and read; what a caller may change is decided by who it is.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Connects to the daemon of a store; `None` when nobody listens.
///
/// # Errors
///
/// The operating system's.
pub fn connect(store: &Path) -> io::Result<Option<UnixStream>> {
    let directory = match open_directory(&rundir::path(store)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match UnixStream::connect(address(directory.as_fd())) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(error),
        },
    }
}

/// Whether a user may change the store.
#[must_use]
pub const fn may_change(uid: u32, owner: u32) -> bool {
    uid == 0 || uid == owner
}

/// The connections that are open, to bound and to end them.
#[derive(Default)]
struct Open {
    streams: BTreeMap<u64, UnixStream>,
    readers: usize,
    next: u64,
}

/// Answers calls until `stop` becomes readable or its other end is closed; then ends every
/// connection and returns. An edit that runs is finished first.
///
/// # Errors
///
/// The listener's.
pub fn serve<D: Disk>(
    listener: &UnixListener,
    service: &Control<D>,
    stop: BorrowedFd<'_>,
) -> io::Result<()> {
    // Another server may share the listener and take the connection that woke this one.
    listener.set_nonblocking(true)?;
    let open = Mutex::new(Open::default());
    thread::scope(|scope| {
        let result = loop {
            match next(listener, stop) {
                Ok(Some(stream)) => {
                    let Some(guest) = admit(&open, stream, service.owner) else { continue };
                    let open = &open;
                    let conversation = move || {
                        let (id, may_change) = (guest.id, guest.may_change);
                        converse(service, guest);
                        dismiss(open, id, may_change);
                    };
                    if thread::Builder::new().spawn_scoped(scope, conversation).is_err() {
                        tracing::warn!("no thread for a control connection");
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        for stream in open.lock().streams.values() {
            // Already closed by the other side: nothing to end.
            stream.shutdown(Shutdown::Both).ok();
        }
        result
    })
}

/// The next connection; `None` when it is time to stop.
fn next(listener: &UnixListener, stop: BorrowedFd<'_>) -> io::Result<Option<UnixStream>> {
    loop {
        let mut ready =
            [PollFd::new(listener, PollFlags::IN), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if !ready[1].revents().is_empty() {
            return Ok(None);
        }
        match listener.accept() {
            Ok((stream, _)) => return Ok(Some(stream)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted => {}
                _ => return Err(error),
            },
        }
    }
}

/// A caller that was let in.
struct Guest {
    id: u64,
    stream: UnixStream,
    uid: u32,
    /// By the group; the owner and root by who they are.
    may_change: bool,
}

/// Lets a caller in, or closes the connection when there are too many.
fn admit(open: &Mutex<Open>, stream: UnixStream, owner: u32) -> Option<Guest> {
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    let uid = peer.uid.as_raw();
    let may_change = may_change(uid, owner) || owner == 0 && is_trusted(&stream, peer.gid.as_raw());
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(IDLE_MAX)).ok()?;
    stream.set_write_timeout(Some(IDLE_MAX)).ok()?;
    let copy = stream.try_clone().ok()?;
    let mut open = open.lock();
    if open.streams.len() >= CONNECTIONS_MAX || (!may_change && open.readers >= READERS_MAX) {
        return None;
    }
    open.readers += usize::from(!may_change);
    let id = open.next;
    open.next += 1;
    open.streams.insert(id, copy);
    Some(Guest { id, stream, uid, may_change })
}

/// Whether a caller is in the group that may change a store of root.
fn is_trusted(stream: &UnixStream, primary: u32) -> bool {
    let Some(trusted) = host::group_id(GROUP) else { return false };
    primary == trusted
        || sys::peer_groups(stream.as_fd()).is_ok_and(|groups| groups.contains(&trusted))
}

fn dismiss(open: &Mutex<Open>, id: u64, may_change: bool) {
    let mut open = open.lock();
    if open.streams.remove(&id).is_some() {
        open.readers -= usize::from(!may_change);
    }
}

/// Answers one connection's calls.
fn converse<D: Disk>(service: &Control<D>, guest: Guest) {
    let limit = if guest.may_change { LINE_LEN_MAX } else { READER_LINE_LEN_MAX };
    let mut wire = Wire::new(guest.stream);
    for _ in 0..CALLS_MAX {
        let (answer, go_on) = match wire.receive::<Call>(limit) {
            Ok(Some(call)) => (service.answer(call, guest.uid, guest.may_change), true),
            Ok(None) | Err(WireError::Io(_) | WireError::Truncated) => return,
            Err(error) => {
                let error = CommandError::usage(error.to_string()).with_sources(&error);
                (Answer::Failed(error), false)
            }
        };
        if wire.send(&answer).is_err() || !go_on {
            return;
        }
    }
}

impl<D: Disk> Control<D> {
    /// The answer to one call of one user.
    fn answer(&self, call: Call, uid: u32, in_group: bool) -> Answer {
        match call {
            Call::Hello { protocol } if protocol == PROTOCOL => Answer::Hello { protocol },
            Call::Hello { protocol } => Answer::Failed(CommandError::new(
                Kind::Unavailable,
                format!("the daemon speaks protocol {PROTOCOL}, this program {protocol}"),
            )),
            Call::Status => {
                let live = (self.live)();
                let engine = self.engine.engine.get();
                let generation = engine.map_or(live.announced, |engine| engine.shown().generation);
                Answer::Status(Box::new(DaemonStatus { generation, live }))
            }
            Call::Edit { .. } | Call::Outcome { .. } if !in_group => Answer::Failed(denied_edit()),
            Call::Reexec { .. } | Call::Unmount { .. } if !may_change(uid, self.owner) => {
                Answer::Failed(denied(
                    "only the owner of the store and root may replace its daemon",
                ))
            }
            Call::Edit { request, again, edit } => {
                self.edit(&edit, Caller { uid, request: Some(request), again, at: host::now() })
            }
            Call::Outcome { request } => match self.outcome(&request) {
                Ok(done) => Answer::Outcome { done },
                Err(error) => Answer::Failed(error),
            },
            Call::Reexec { what } => {
                let none = || Err("there is no keeper here".to_owned());
                let done = self.reexec.as_ref().map_or_else(none, |reexec| reexec(what));
                done.map_or_else(
                    |reason| {
                        let error = CommandError::new(Kind::Failed, "nothing was replaced");
                        let error =
                            error.hint("what served goes on; run/log in the store says more");
                        Answer::Failed(CommandError { causes: vec![reason], ..error })
                    },
                    |()| Answer::Replaced,
                )
            }
            Call::Held { inodes } => Answer::Held { held: (self.held)(&inodes) },
            Call::Unmount { lazy } => match &self.unmount {
                Some(unmount) => match unmount(lazy) {
                    Ok(()) => Answer::Unmounting,
                    Err(error) => Answer::Failed(error),
                },
                None => Answer::Failed(CommandError::new(
                    Kind::Refused,
                    "this daemon cannot be asked to unmount",
                )),
            },
        }
    }

    fn edit(&self, edit: &Edit, by: Caller) -> Answer {
        let done = self.engine.ready().and_then(|engine| Ok(engine.edit(edit, &by)?));
        match &done {
            Ok(done) => note(done, by.uid),
            Err(error) => tracing::info!(uid = by.uid, "refused: {error}"),
        }
        done.map_or_else(Answer::Failed, Answer::Done)
    }

    fn outcome(&self, request: &RequestId) -> Result<Option<Done>, CommandError> {
        Ok(self.engine.ready()?.outcome(request)?)
    }
}

/// Why somebody may not change a store.
pub(crate) fn denied_edit() -> CommandError {
    denied("only the owner of the store, root and the group dynfs may change it")
}

fn denied(message: &str) -> CommandError {
    CommandError::new(Kind::Permission, message).hint("run it as the owner of the store")
}

/// For the log: who changed what.
fn note(done: &Done, uid: u32) {
    match done {
        Done::Switched(Switched { before, after, changes, .. }) => {
            tracing::info!(uid, changes = changes.len(), "generation {before} -> {after}");
        }
        Done::Published { release, new, .. } => tracing::info!(uid, new, "added {release}"),
        Done::Repaired { aside, renewed, .. } => {
            for place in aside {
                tracing::info!(uid, "moved aside: {}", place.display());
            }
            if let Some(number) = renewed {
                tracing::info!(uid, "generation {number} was written again");
            }
        }
        Done::Removed { releases, .. } => {
            tracing::info!(uid, "removed {} releases", releases.len());
        }
        Done::Forgotten(Forgotten { generations, releases, .. }) => {
            let (generations, releases) = (generations.len(), releases.len());
            tracing::info!(uid, generations, releases, "garbage: names went");
        }
        Done::Emptied(Deleted { objects, blobs, bytes, .. }) => {
            tracing::info!(uid, objects, blobs, bytes, "garbage: the trash was emptied");
        }
        Done::Trashed { objects } => {
            tracing::info!(uid, objects = objects.len(), "garbage: into the trash");
        }
    }
}

#[cfg(test)]
mod tests;
