//! A command's side of the control socket: one edit, done exactly once.
//!
//! With a daemon the edit goes through its socket. When that connection breaks before the answer,
//! the client asks the next server what became of the edit, by its request id, and sends it again
//! only if nothing did. When no server answers any more, the store's files say what became of it.
//! Without a daemon the same engine runs right here, under the lock file.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use resolver::{Generation, RequestId};
use store_fs::{Disk, OsDisk, Store, StoreError};

use crate::control;
use crate::engine::{Caller, Engine, made_by};
use crate::error::{CommandError, Kind};
use crate::mount::MountError;
use crate::protocol::{
    Answer, Call, DaemonStatus, Done, Edit, Held, LINE_LEN_MAX, PROTOCOL, Replaced, Wire, WireError,
};
use crate::{host, rundir};

/// How long an answer may take. A server that is replaced meanwhile is noticed at once, since its
/// connections break.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long a greeting may take, which needs nothing but a living process. After an edit was sent
/// it may take as long as an answer: a next server that hangs is replaced meanwhile.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// Nodes that are asked about at once: whoever may only read sends short lines.
const INODES_MAX: usize = 150;
/// How often, and after which pause, a broken connection is made again: the server may have too
/// many.
const ATTEMPTS_MAX: usize = 8;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);
/// How often, and after which pause, a store that another command holds is tried again.
const LOCK_ATTEMPTS: usize = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why a call has no answer.
enum Lost {
    /// The connection broke: the next server may be asked.
    Connection(WireError),
    /// The server lives and says nothing: asking again would only wait again.
    Silent {
        /// To the edit, which it may carry out yet.
        edit: bool,
    },
    /// An answer that the caller must hear.
    Answered(CommandError),
}

/// Carries out one edit, by the daemon or here.
///
/// # Errors
///
/// What the engine answers; [`Kind::Unavailable`] when the daemon does not answer, or when another
/// process holds the store.
pub(crate) fn submit(store: &Arc<Store<OsDisk>>, edit: &Edit) -> Result<Done, CommandError> {
    let request = host::request_id()?;
    let mut again = false;
    for _ in 0..LOCK_ATTEMPTS {
        if let Some(done) = through_daemon(store, &request, edit, &mut again)? {
            return Ok(done);
        }
        match store.writer() {
            Ok(writer) => return here(store, writer, &request, edit, again),
            // A command that is about to finish, or a daemon that is about to listen.
            Err(StoreError::Locked { .. }) => thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    match store.writer() {
        Ok(writer) => here(store, writer, &request, edit, again),
        Err(error) => Err(error.into()),
    }
}

/// Runs the engine in this process. `again`: an earlier attempt may have reached a daemon that
/// ended before it answered.
fn here(
    store: &Arc<Store<OsDisk>>,
    writer: store_fs::Writer,
    request: &RequestId,
    edit: &Edit,
    again: bool,
) -> Result<Done, CommandError> {
    let engine = Engine::open_unmounted(Arc::clone(store), writer, host::arch())?;
    let by = Caller { uid: host::uid(), request: Some(request.clone()), again, at: host::now() };
    Ok(engine.edit(edit, &by)?)
}

/// Sends the edit to the daemon; `None` when there is none. `again` becomes true once it was sent.
fn through_daemon(
    store: &Store<OsDisk>,
    request: &RequestId,
    edit: &Edit,
    again: &mut bool,
) -> Result<Option<Done>, CommandError> {
    let mut broken = None;
    for _ in 0..ATTEMPTS_MAX {
        let Some(stream) = connect(store.disk().root())? else { return Ok(None) };
        match attempt(stream, request, edit, *again) {
            Ok(done) => return Ok(Some(done)),
            Err(Lost::Answered(error)) => return Err(error),
            Err(Lost::Silent { edit: false }) if !*again => return Err(silent()),
            Err(Lost::Silent { edit: sent }) => {
                return Err(unanswered(store, request, edit, sent));
            }
            Err(Lost::Connection(error)) => broken = Some(error),
        }
        *again = true;
        thread::sleep(ATTEMPT_PAUSE);
    }
    let error = unanswered(store, request, edit, false);
    Err(match broken {
        Some(cause) => error.because(&cause),
        None => error,
    })
}

/// What became of an edit that was sent and not answered. `waits`: with a server that lives, and
/// may carry it out yet.
fn unanswered<D: Disk>(
    store: &Store<D>,
    request: &RequestId,
    edit: &Edit,
    waits: bool,
) -> CommandError {
    let look = "dynfs history shows whether the change was made; dynfs status";
    let made = store
        .generations()
        .and_then(|generations| made_by(store, generations.into_iter(), request));
    let (message, hint) = match made {
        Ok(Some(Generation { number, .. })) => (
            format!("the change was made (generation {number}), and the daemon does not answer"),
            "do not give it again; dynfs status; dynfs abort is the last resort",
        ),
        Ok(None) if edit.makes_a_generation() && waits => {
            ("the change has not been made so far, and the daemon does not answer".to_owned(), look)
        }
        Ok(None) if edit.makes_a_generation() => (
            "the change was not made, and the daemon does not answer".to_owned(),
            "dynfs status; dynfs abort is the last resort",
        ),
        Ok(None) => ("the daemon does not answer".to_owned(), "dynfs status"),
        Err(error) => {
            let failed = CommandError::new(Kind::Unavailable, "the daemon does not answer");
            return failed.because(&error).hint(look);
        }
    };
    CommandError::new(Kind::Unavailable, message).hint(hint)
}

/// What lives and says nothing.
fn silent() -> CommandError {
    CommandError::new(Kind::Unavailable, "the daemon does not answer")
        .hint("dynfs status; dynfs abort is the last resort")
}

fn attempt(
    stream: UnixStream,
    request: &RequestId,
    edit: &Edit,
    again: bool,
) -> Result<Done, Lost> {
    let mut wire = Wire::new(stream);
    hello(&mut wire, if again { ANSWER_MAX } else { HELLO_MAX })?;
    if again {
        let call = Call::Outcome { request: request.clone() };
        if let Answer::Outcome { done: Some(done) } = ask(&mut wire, &call)? {
            return Ok(done);
        }
    }
    let call = Call::Edit { request: request.clone(), again, edit: edit.clone() };
    match ask(&mut wire, &call) {
        Ok(Answer::Done(done)) => Ok(done),
        Ok(other) => Err(Lost::Answered(unexpected(&other))),
        Err(Lost::Silent { .. }) => Err(Lost::Silent { edit: true }),
        Err(lost) => Err(lost),
    }
}

/// How the daemon is; `None` when there is none.
///
/// # Errors
///
/// [`Kind::Unavailable`] when it does not answer.
pub(crate) fn status(store: &Path) -> Result<Option<DaemonStatus>, CommandError> {
    match answer(store, &Call::Status)? {
        None => Ok(None),
        Some(Answer::Status(status)) => Ok(Some(*status)),
        Some(other) => Err(unexpected(&other)),
    }
}

/// What processes need that hold these nodes of the mount; `None` when there is no daemon.
///
/// # Errors
///
/// [`Kind::Unavailable`] when it does not answer.
pub(crate) fn held(
    store: &Path,
    inodes: &[u64],
) -> Result<Option<Vec<Option<Held>>>, CommandError> {
    let mut all = Vec::new();
    for inodes in inodes.chunks(INODES_MAX) {
        match answer(store, &Call::Held { inodes: inodes.to_vec() })? {
            None => return Ok(None),
            Some(Answer::Held { held }) if held.len() == inodes.len() => all.extend(held),
            Some(other) => return Err(unexpected(&other)),
        }
    }
    Ok(Some(all))
}

/// The answer to a call that changes nothing; `None` when there is no daemon.
fn answer(store: &Path, call: &Call) -> Result<Option<Answer>, CommandError> {
    let mut last = None;
    for _ in 0..ATTEMPTS_MAX {
        let Some(stream) = connect(store)? else { return Ok(None) };
        let mut wire = Wire::new(stream);
        match hello(&mut wire, HELLO_MAX).and_then(|()| ask(&mut wire, call)) {
            Ok(answer) => return Ok(Some(answer)),
            Err(Lost::Answered(error)) => return Err(error),
            Err(Lost::Silent { .. }) => return Err(silent()),
            Err(Lost::Connection(error)) => last = Some(error),
        }
        thread::sleep(ATTEMPT_PAUSE);
    }
    let error = CommandError::new(Kind::Unavailable, "the daemon does not answer");
    Err(match last {
        Some(cause) => error.because(&cause).hint("dynfs umount --lazy, then dynfs mount"),
        None => error,
    })
}

/// Replaces a process of the daemon. A server that is replaced cannot answer: the end of the
/// connection says that it is gone.
///
/// # Errors
///
/// Why it was not; [`Kind::Unavailable`] when there is no daemon.
pub(crate) fn replace(store: &Path, what: Replaced) -> Result<(), CommandError> {
    let Some(stream) = connect(store)? else { return Err(MountError::NotMounted.into()) };
    let mut wire = Wire::new(stream);
    let greeted = hello(&mut wire, HELLO_MAX);
    let answer = greeted.and_then(|()| ask(&mut wire, &Call::Reexec { what }));
    match answer {
        Ok(Answer::Replaced) | Err(Lost::Connection(_)) => Ok(()),
        Ok(other) => Err(unexpected(&other)),
        Err(Lost::Answered(error)) => Err(error),
        Err(Lost::Silent { .. }) => Err(silent()),
    }
}

fn connect(store: &Path) -> Result<Option<UnixStream>, CommandError> {
    let limited = |stream: UnixStream| {
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(stream)
    };
    control::connect(store).and_then(|stream| stream.map(limited).transpose()).map_err(|error| {
        let socket = rundir::socket(store);
        let refused = CommandError::io("connecting to", &socket, &error);
        CommandError { kind: Kind::Unavailable, ..refused }
    })
}

fn hello(wire: &mut Wire<UnixStream>, patience: Duration) -> Result<(), Lost> {
    wire.set_patience(patience).map_err(|error| Lost::Connection(error.into()))?;
    match ask(wire, &Call::Hello { protocol: PROTOCOL })? {
        Answer::Hello { protocol } if protocol == PROTOCOL => {
            wire.set_patience(ANSWER_MAX).map_err(|error| Lost::Connection(error.into()))
        }
        other => Err(Lost::Answered(
            unexpected(&other).hint("dynfs umount, then dynfs mount with this program"),
        )),
    }
}

fn ask(wire: &mut Wire<UnixStream>, call: &Call) -> Result<Answer, Lost> {
    wire.send(call).map_err(Lost::Connection)?;
    match wire.receive::<Answer>(LINE_LEN_MAX) {
        Ok(Some(Answer::Failed(error))) => Err(Lost::Answered(error)),
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Lost::Connection(WireError::Truncated)),
        Err(WireError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Lost::Silent { edit: false })
        }
        Err(error @ (WireError::Io(_) | WireError::Truncated)) => Err(Lost::Connection(error)),
        Err(error) => {
            let failed = CommandError::new(Kind::Failed, "the daemon's answer is not understood");
            Err(Lost::Answered(failed.because(&error)))
        }
    }
}

fn unexpected(answer: &Answer) -> CommandError {
    let message = "the daemon answered something else than was asked";
    tracing::debug!(?answer, "unexpected");
    CommandError::new(Kind::Failed, message)
}

#[cfg(test)]
mod tests;
