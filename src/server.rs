//! The server: everything but the keeper's few things. It may be killed at any moment; every start
//! is a take-over, the first one too.
//!
//! The order of a start is the promise of the two processes. First serve and have unanswered
//! requests repeated; only then ask for the writer's lock, open the index and announce: all three
//! may have to wait for a dead server's last thread, which waits for an answer of ours.
//!
//! ```text
//! map the memory file -> newest generation -> DynFs -> take the connection over -> serve, resend
//!                                                      `-> lock -> engine -> catch up -> control
//! ```

mod announcer;
#[cfg(debug_assertions)]
mod fault;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use resolver::{Generation, GenerationNumber, View};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use store_fs::fuse::{Negotiated, Session};
use store_fs::{DynFs, Memory, OsDisk, Shown, Store, StoreError, Writer};

use self::announcer::{Announcer, Mounted};
use crate::control::{self, Control, Live};
use crate::engine::Engine;
use crate::keeper::words_of;
use crate::log::Log;
use crate::protocol::LiveStatus;
use crate::{host, mount, sys};

/// Fewest threads that answer the kernel: one may wait for the disk while another answers.
const THREADS_MIN: usize = 2;
/// Most of them; each reserves 16 MiB of address space and uses little of it.
const THREADS_MAX: usize = 16;
/// How long after commands could not be taken it is tried again.
const RETRY_PAUSE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How often a server asks again for a lock that a dead or a short-lived writer still holds.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// What the keeper handed over.
struct Handed {
    store: PathBuf,
    mountpoint: PathBuf,
    keeper: u32,
    restarts: u64,
    device: OwnedFd,
    memory: Arc<Memory>,
    control: UnixListener,
    line: Arc<Line>,
}

/// The line to the keeper.
#[derive(Debug)]
struct Line(OwnedFd);

impl Line {
    /// Says something. A keeper that is gone cannot hear, and the mount goes on all the same.
    fn say(&self, message: &[u8]) {
        if let Err(error) = send(&self.0, message, SendFlags::NOSIGNAL) {
            tracing::warn!("the keeper does not hear: {error}");
        }
    }
}

/// Runs the hidden subcommand.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    abort_on_panic();
    Log::handed_over().start("server", arguments.first().map(Path::new));
    #[cfg(debug_assertions)]
    fault::install();
    let handed = match hand_over(arguments) {
        Ok(handed) => handed,
        Err(error) => {
            tracing::error!("the keeper's words are not understood: {error}");
            return ExitCode::from(2);
        }
    };
    let line = Arc::clone(&handed.line);
    match serve(handed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let words = words_of(error.as_ref());
            tracing::error!("{words}");
            line.say(format!("F{words}").as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// A thread that panics must not take a request with it: the library would answer EIO and lose the
/// thread. A dead server is replaced, and its requests are answered by the next one.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn hand_over(arguments: &[OsString]) -> io::Result<Handed> {
    let [store, mountpoint, keeper, restarts, device, memory, control, line] = arguments else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let adopt = |text| sys::adopt(number(text)?);
    Ok(Handed {
        store: store.into(),
        mountpoint: mountpoint.into(),
        keeper: number(keeper)?,
        restarts: number(restarts)?,
        device: adopt(device)?,
        memory: Arc::new(Memory::map(adopt(memory)?)?),
        control: UnixListener::from(adopt(control)?),
        line: Arc::new(Line(adopt(line)?)),
    })
}

fn number<T: std::str::FromStr>(text: &OsString) -> io::Result<T> {
    mount::number(text).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn serve(handed: Handed) -> Result<(), Failure> {
    let Handed { store: directory, mountpoint, keeper, restarts, .. } = handed;
    let Handed { device, memory, control, line, .. } = handed;
    tracing::info!(restarts, "takes over {}", mountpoint.display());
    let words = memory.negotiated();
    let (agreed, mounted_at) =
        words.and_then(|words| parse_words(&words)).ok_or("the memory file lacks the handshake")?;
    let store = Arc::new(Store::open(OsDisk::open(&directory)?)?);
    let (shown, unreadable) = newest(&store, memory.announced())?;
    if memory.counts().iter().all(|(_, count)| *count == 0) {
        // Nothing was ever answered, so there is nothing that the kernel would have to forget.
        memory.set_announced(shown.generation);
    }
    let generation = shown.generation.0;
    let fs = Arc::new(DynFs::new(Arc::clone(&store), Arc::clone(&memory), shown));
    if let Some(reason) = unreadable {
        tracing::error!("what is selected is withheld: {reason}");
        fs.withhold(&reason);
    }
    let threads = thread::available_parallelism().map_or(THREADS_MIN, usize::from);
    let threads = threads.clamp(THREADS_MIN, THREADS_MAX);
    let session =
        Session::take_over(device, &agreed, Arc::clone(&fs), Arc::clone(&memory), threads)?;
    let announcer = Announcer::start(session.kernel(), Arc::clone(&line))?;
    let mounted = Mounted::new(fs, Arc::clone(&memory), announcer);
    let status_memory = Arc::clone(&memory);
    let live = move || LiveStatus {
        mountpoint: mountpoint.clone(),
        keeper_pid: keeper,
        server_pid: std::process::id(),
        server_restarts: restarts,
        mounted_at,
        announced: status_memory.announced(),
        requests: status_memory
            .counts()
            .into_iter()
            .map(|(operation, count)| (operation.name().to_owned(), count))
            .collect(),
        notes: orphaned(keeper).into_iter().collect(),
    };
    let (stop, stopper) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let commands = Commands {
        directory,
        store,
        mounted: Arc::new(mounted),
        control,
        live: Arc::new(live),
        stop,
    };
    let commands = thread::Builder::new().name("commands".into()).spawn(move || commands.run())?;
    tracing::info!(generation, threads, "serves");
    line.say(b"R");
    session.run()?;
    tracing::info!("the mount is gone");
    // Unmounted. An edit that runs is finished, and its client answered.
    drop(stopper);
    commands.join().map_err(|_| "the thread of the commands panicked")?;
    Ok(())
}

/// What the user should know when the keeper has died: the next death is an outage.
fn orphaned(keeper: u32) -> Option<String> {
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_pid().unsigned_abs());
    (parent != Some(keeper)).then(|| {
        format!(
            "the keeper, process {keeper}, has died: nobody would replace the server; \
             dynfs umount --lazy and dynfs mount begin anew"
        )
    })
}

/// What takes commands, beside the threads that answer the kernel.
struct Commands {
    directory: PathBuf,
    store: Arc<Store<OsDisk>>,
    mounted: Arc<Mounted<OsDisk>>,
    control: UnixListener,
    live: Live,
    stop: OwnedFd,
}

impl Commands {
    /// Takes commands until the mount is gone. What fails is tried again: the kernel's requests do
    /// not depend on it.
    fn run(self) {
        while let Err(error) = self.serve() {
            tracing::error!("commands cannot be taken: {}", words_of(error.as_ref()));
            if self.is_over() {
                return;
            }
        }
    }

    /// Becomes the writer, tells the kernel what it has missed, and then takes commands.
    fn serve(&self) -> Result<(), Failure> {
        let writer = wait_for_lock(&self.store)?;
        let show = Box::new(Arc::clone(&self.mounted));
        let engine = if self.mounted.is_withheld() {
            // Only `restore` can go on from here, and it tells the kernel everything.
            Engine::open_over_damage(Arc::clone(&self.store), writer, show, host::arch())?
        } else {
            let engine = Engine::open(Arc::clone(&self.store), writer, show, host::arch())?;
            self.mounted.catch_up(&self.store, engine.shown())?;
            engine
        };
        let owner = control::owner_of(&self.directory)?;
        let live = Arc::clone(&self.live);
        let service = Control { engine: Arc::new(engine), live, owner, unmount: None };
        control::serve(&self.control, &service, self.stop.as_fd())?;
        Ok(())
    }

    /// Waits a little; whether the mount is gone.
    fn is_over(&self) -> bool {
        let mut fds = [PollFd::new(&self.stop, PollFlags::IN)];
        poll(&mut fds, Some(&RETRY_PAUSE)).is_ok_and(|ready| ready > 0)
    }
}

fn wait_for_lock(store: &Store<OsDisk>) -> Result<Writer, StoreError> {
    loop {
        match store.writer() {
            Err(StoreError::Locked { .. }) => thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
}

/// What a store shows before anything is changed: its newest generation. When it cannot be read
/// and the kernel was told of generations before, programs are running: then everything else is
/// shown, with the reason.
fn newest(
    store: &Store<OsDisk>,
    announced: GenerationNumber,
) -> Result<(Shown, Option<String>), Failure> {
    let (catalog, damaged) = store.catalog_from_files(host::arch())?;
    for error in damaged {
        tracing::error!("{}", words_of(&error));
    }
    let (generation, unreadable) = match store.newest() {
        Ok(generation) => (generation, None),
        Err(error) if announced != GenerationNumber(0) => (None, Some(words_of(&error))),
        Err(error) => return Err(error.into()),
    };
    let system = generation.as_ref().map(|generation| &generation.system);
    let view = system.map_or_else(View::default, |system| View::compile(system, &catalog));
    let number = |generation: &Generation| generation.number;
    let shown = Shown {
        generation: generation.as_ref().map(number).unwrap_or_default(),
        view: Arc::new(view),
        catalog: Arc::new(catalog),
        generations: Arc::new(store.generations()?.into_iter().collect()),
    };
    Ok((shown, unreadable))
}

/// What the keeper left in the memory file: the handshake, and when it mounted.
///
/// ```text
/// negotiated:16 mounted_at:8
/// ```
fn parse_words(words: &[u8]) -> Option<(Negotiated, i64)> {
    let (agreed, at) = words.split_at_checked(Negotiated::LEN)?;
    Some((Negotiated::from_bytes(agreed)?, i64::from_ne_bytes(at.try_into().ok()?)))
}
