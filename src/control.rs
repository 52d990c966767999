//! The daemon's side of the control socket: who may ask what, and how many at once.
//!
//! A thread per connection, both bounded: connections by number, in all and for each user, with
//! some that only root and the owner can have; each line by length and by time, in and out; and
//! what lines need in memory, since few long ones are read at once.
//! The kernel says who the caller is (`SO_PEERCRED`, `SO_PEERGROUPS`); everyone may read, the owner
//! of the store and root may change, and of a store of root so may the group `dynfs`, which may not
//! replace the daemon, since that runs any program as root. A hostile user can cost some threads
//! for a while and nothing else.

use std::fs;
use std::io;
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
use crate::{host, rundir};

mod guests;
mod timed;

use guests::{Guest, Guests, Standing};
use timed::{Place, Room, Timed};

/// Who may change a store of root beside root.
pub(crate) const GROUP: &str = "dynfs";
/// Between two lines of a connection, for the whole of the next one, and for a whole answer.
const LINE_MAX: Duration = Duration::from_secs(30);
/// Lines longer than a reader's that are in memory at once, each up to 16 MiB: so many of root and
/// the owner, and as many of the group.
const LONG_LINES_MAX: usize = 2;
/// After this, a connection is tried again for which there was no file or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
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
    serve_within(LINE_MAX, listener, service, stop)
}

/// The same with another time limit.
fn serve_within<D: Disk>(
    line_max: Duration,
    listener: &UnixListener,
    service: &Control<D>,
    stop: BorrowedFd<'_>,
) -> io::Result<()> {
    // Another server may share the listener and take the connection that woke this one.
    listener.set_nonblocking(true)?;
    let (guests, rooms) = (Guests::default(), Rooms::default());
    thread::scope(|scope| {
        let result = loop {
            match next(listener, stop) {
                Ok(Some(stream)) => {
                    let Some(guest) = guests.admit(stream, service.owner) else { continue };
                    let rooms = &rooms;
                    let conversation = move || converse(service, guest, rooms, line_max);
                    // Without a thread the guest goes, and hears so.
                    if let Err(error) = thread::Builder::new().spawn_scoped(scope, conversation) {
                        tracing::warn!("no thread for a control connection: {error}");
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        guests.end();
        result
    })
}

/// The next connection; `None` when it is time to stop.
fn next(listener: &UnixListener, stop: BorrowedFd<'_>) -> io::Result<Option<UnixStream>> {
    let mut said = false;
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
                _ if is_passing(&error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!("a control connection has to wait: {error}");
                    }
                    thread::sleep(ACCEPT_PAUSE);
                }
                _ => return Err(error),
            },
        }
    }
}

/// Whether the machine or this process lacks something for now. The connection stays in the queue,
/// and whoever is connected already must not suffer from it.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    error.raw_os_error().is_some_and(|code| passing.map(Errno::raw_os_error).contains(&code))
}

/// Room for long lines. That of root and the owner is their own.
struct Rooms {
    owner: Room,
    group: Room,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { owner: Room::new(LONG_LINES_MAX), group: Room::new(LONG_LINES_MAX) }
    }
}

impl Rooms {
    /// Where a caller's long lines go; none may come from a reader.
    const fn of(&self, standing: Standing) -> Option<&Room> {
        match standing {
            Standing::Owner => Some(&self.owner),
            Standing::Group => Some(&self.group),
            Standing::Reader => None,
        }
    }
}

/// Answers one connection's calls.
fn converse<D: Disk>(service: &Control<D>, guest: Guest<'_>, rooms: &Rooms, line_max: Duration) {
    let (may_change, room) = (guest.standing != Standing::Reader, rooms.of(guest.standing));
    let Ok(stream) = Timed::new(guest.stream, line_max) else { return };
    let mut wire = Wire::new(stream);
    for _ in 0..CALLS_MAX {
        // Of a long line, the place is held until it is answered.
        let (answer, go_on) = match listen(&mut wire, room) {
            Ok((Some(call), _place)) => (service.answer(call, guest.uid, may_change), true),
            Ok((None, _)) | Err(WireError::Io(_) | WireError::Truncated) => return,
            Err(error) => {
                let error = CommandError::usage(error.to_string()).with_sources(&error);
                (Answer::Failed(error), false)
            }
        };
        wire.stream_mut().renew();
        if wire.send(&answer).is_err() || !go_on {
            return;
        }
    }
}

/// The next call; for a long one, with the place that its line takes.
fn listen<'a>(
    wire: &mut Wire<Timed>,
    room: Option<&'a Room>,
) -> Result<(Option<Call>, Option<Place<'a>>), WireError> {
    wire.stream_mut().renew();
    match (wire.receive(READER_LINE_LEN_MAX), room) {
        (Err(WireError::TooLong { .. }), Some(room)) => {
            let place = room.take(wire.stream_mut().deadline())?;
            Ok((wire.receive(LINE_LEN_MAX)?, Some(place)))
        }
        (call, _) => Ok((call?, None)),
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
