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
pub(crate) mod fault;
mod guardian;
mod standby;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use resolver::{Generation, GenerationNumber, View};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use store_fs::fuse::Session;
use store_fs::{
    Damage, Disk, DynFs, FsError, Ino, Memory, Operation, OsDisk, Shown, Store, StoreError, Writer,
};

use self::announcer::{Announcer, Mounted};
use self::guardian::{Guardian, Line};
use crate::agreed::Agreed;
use crate::control::{self, Control, Live, Opening, Reexec, WhoHolds};
use crate::engine::Engine;
use crate::keeper::words_of;
use crate::log::Log;
use crate::mount::claim;
use crate::protocol::{Damaged, LiveStatus, Replaced};
use crate::{host, mount, sys};

/// Fewest threads that answer the kernel: one may wait for the disk while another answers.
const THREADS_MIN: usize = 2;
/// Most of them; each reserves 16 MiB of address space and uses little of it.
const THREADS_MAX: usize = 16;
/// How often a server says that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// How long a standby may take until it serves.
const REEXEC_PATIENCE: Duration = Duration::from_secs(60);
/// How often, and in what distance, it is looked whether another keeper has come.
const KEEPER_LOOKS: u32 = 100;
const KEEPER_LOOK: Duration = Duration::from_millis(50);
/// The kernel's score for whom to kill when memory runs out: nearly everybody else first.
const OOM_SCORE: i32 = -900;
/// How long after commands could not be taken it is tried again.
const RETRY_PAUSE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How often a server asks again for the writer's lock.
const LOCK_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// What the keeper handed over.
struct Handed {
    store: PathBuf,
    mountpoint: PathBuf,
    device: OwnedFd,
    memory: Arc<Memory>,
    control: UnixListener,
    line: Arc<Line>,
}

/// Whether a server serves at once, or waits until the one that serves is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    AtOnce,
    InWaiting,
}

/// Runs the hidden subcommands `server` and `standby`.
pub(crate) fn main(beginning: Beginning, arguments: &[OsString]) -> ExitCode {
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
    match serve(beginning, handed) {
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
    let [store, mountpoint, keeper, device, memory, control, line] = arguments else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let adopt = |text| sys::adopt(number(text)?);
    Ok(Handed {
        store: store.into(),
        mountpoint: mountpoint.into(),
        device: adopt(device)?,
        memory: Arc::new(Memory::map(adopt(memory)?)?),
        control: UnixListener::from(adopt(control)?),
        line: Arc::new(Line::new(adopt(line)?, number(keeper)?)),
    })
}

fn number<T: std::str::FromStr>(text: &OsString) -> io::Result<T> {
    mount::number(text).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn serve(beginning: Beginning, handed: Handed) -> Result<(), Failure> {
    let Handed { store: directory, mountpoint, device, memory, control, line } = handed;
    host::spare_from_oom(OOM_SCORE);
    let _living = show_life(&directory);
    let words = memory.negotiated();
    let agreed = words.and_then(|words| Agreed::from_bytes(&words));
    let agreed = agreed.ok_or("the memory file lacks the handshake")?;
    let guardian = Guardian {
        store: directory.clone(),
        mountpoint: mountpoint.clone(),
        device: device.try_clone()?,
        memory: Arc::clone(&memory),
        control: control.try_clone()?.into(),
        line: Arc::clone(&line),
    };
    let store = Arc::new(Store::open(OsDisk::open(&directory)?)?);
    let (shown, unreadable) = match beginning {
        Beginning::AtOnce => {
            start_beat(&memory)?;
            #[cfg(debug_assertions)]
            fault::point("starting");
            #[cfg(debug_assertions)]
            fault::pause("server");
            newest(&store, memory.announced())?
        }
        Beginning::InWaiting => {
            match wait(&store, &memory, |found| may_go(&store, found, &line))? {
                Some(newest) => {
                    start_beat(&memory)?;
                    newest
                }
                // Another server goes on, and this one was never needed.
                None => return Ok(()),
            }
        }
    };
    let restarts = memory.restarts();
    tracing::info!(restarts, "takes over {}", mountpoint.display());
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
    let session = Session::take_over(
        device,
        &agreed.negotiated,
        Arc::clone(&fs),
        Arc::clone(&memory),
        threads,
    )?;
    let announcer = Announcer::start(session.kernel(), Arc::clone(&line))?;
    let held = who_holds(&fs);
    let live = live(mountpoint, agreed.mounted_at, &fs, &memory, &line);
    let mounted = Mounted::new(fs, Arc::clone(&memory), announcer);
    let (stop, stopper) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (mounted, reexec) = (Arc::new(mounted), reexec(&line));
    let commands = Commands { directory, store, mounted, control, live, held, reexec, stop };
    let commands = thread::Builder::new().name("commands".into()).spawn(move || commands.run())?;
    tracing::info!(generation, threads, "serves");
    line.say(b"R");
    guardian.start()?;
    session.run()?;
    tracing::info!("the mount is gone");
    // Unmounted. An edit that runs is finished, and its client answered.
    drop(stopper);
    commands.join().map_err(|_| "the thread of the commands panicked")?;
    Ok(())
}

/// Has others see that this server lives. Only `mount` asks, and only when there is no keeper, so
/// that it cannot be seen is no reason to leave programs waiting.
fn show_life(store: &Path) -> Option<File> {
    let living = claim::serve(store);
    living
        .inspect_err(|error| tracing::warn!("it cannot be seen that this server lives: {error}"))
        .ok()
}

/// Proves what would be served, and waits for the keeper's word; `false` when it never comes.
fn may_go(store: &Arc<Store<OsDisk>>, found: &Newest, line: &Line) -> Result<bool, Failure> {
    if found.1.is_none() {
        let names = standby::prove(store, &found.0)?;
        tracing::info!(names, "a standby is ready");
    }
    line.say(b"S");
    Ok(standby::wait_for_go(&line.socket())?)
}

/// Gets ready, and waits until it may go; nothing when it never may.
fn wait<D: Disk>(
    store: &Store<D>,
    memory: &Memory,
    may_go: impl FnOnce(&Newest) -> Result<bool, Failure>,
) -> Result<Option<Newest>, Failure> {
    let before = memory.changes();
    let found = newest(store, memory.announced())?;
    if !may_go(&found)? {
        return Ok(None);
    }
    // The one that served may have gone on since.
    match memory.changes() == before {
        true => Ok(Some(found)),
        false => Ok(Some(newest(store, memory.announced())?)),
    }
}

/// What the mount knows of itself, asked at each status call.
fn live(
    mountpoint: PathBuf,
    mounted_at: i64,
    fs: &Arc<DynFs<OsDisk>>,
    memory: &Arc<Memory>,
    line: &Arc<Line>,
) -> Live {
    let (fs, memory, line) = (Arc::clone(fs), Arc::clone(memory), Arc::clone(line));
    let named = |(operation, count): (Operation, u64)| (operation.name().to_owned(), count);
    Arc::new(move || LiveStatus {
        mountpoint: mountpoint.clone(),
        keeper_pid: Some(line.keeper()).filter(|pid| *pid != 0),
        server_pid: std::process::id(),
        server_restarts: memory.restarts(),
        mounted_at,
        announced: memory.announced(),
        requests: memory.counts().into_iter().map(named).collect(),
        notes: orphaned(&line).into_iter().chain(begun_anew(&memory)).collect(),
        damaged: fs.damage().into_iter().map(damaged).collect(),
    })
}

fn damaged(damage: Damage) -> Damaged {
    let file = match &damage.error {
        FsError::Store(error) => error.path().map(|path| path.display().to_string()),
        _ => None,
    };
    Damaged { paths: damage.paths, file, reason: words_of(&damage.error) }
}

/// Asks the keeper to replace this server, or itself. Answers only when that was not done: else
/// this process, or its keeper, is not there any more.
fn reexec(line: &Arc<Line>) -> Reexec {
    let line = Arc::clone(line);
    Arc::new(move |what| match what {
        Replaced::Server { exe } => {
            let message = [b"U", exe.as_os_str().as_bytes()].concat();
            let reason = line.ask(&message, REEXEC_PATIENCE);
            Err(reason.unwrap_or_else(|| "the keeper does not answer".into()))
        }
        Replaced::Keeper => {
            let before = line.keeper();
            if let Some(reason) = line.ask(b"Q", KEEPER_LOOK) {
                return Err(reason);
            }
            for _ in 0..KEEPER_LOOKS {
                if ![0, before].contains(&line.keeper()) {
                    return Ok(());
                }
                thread::sleep(KEEPER_LOOK);
            }
            Err("no other keeper came".into())
        }
    })
}

/// What processes need that hold nodes of the mount.
fn who_holds(fs: &Arc<DynFs<OsDisk>>) -> WhoHolds {
    let fs = Arc::clone(fs);
    Arc::new(move |inodes| inodes.iter().map(|ino| fs.held(Ino(*ino)).map(Into::into)).collect())
}

/// Says again and again that this process lives.
fn start_beat(memory: &Arc<Memory>) -> io::Result<()> {
    let memory = Arc::clone(memory);
    memory.beat();
    let beat = move || {
        loop {
            thread::sleep(BEAT);
            memory.beat();
        }
    };
    thread::Builder::new().name("beat".into()).spawn(beat)?;
    Ok(())
}

/// What the user should know when no keeper could be started.
fn orphaned(line: &Line) -> Option<String> {
    (line.keeper() == 0).then(|| {
        "the keeper has died, and another one could not be started yet: nobody would replace the \
         server"
            .into()
    })
}

/// What the user should know when the connection is not the first.
fn begun_anew(memory: &Memory) -> Option<String> {
    let times = match memory.aborts() {
        0 => return None,
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    Some(format!(
        "requests stayed unanswered, so the store was mounted anew ({times}): programs that use \
         what was mounted before get errors, and must be started again"
    ))
}

/// What takes commands, beside the threads that answer the kernel.
struct Commands {
    directory: PathBuf,
    store: Arc<Store<OsDisk>>,
    mounted: Arc<Mounted<OsDisk>>,
    control: UnixListener,
    live: Live,
    reexec: Reexec,
    held: WhoHolds,
    stop: OwnedFd,
}

impl Commands {
    /// Takes commands until the mount is gone, from the beginning: whoever asks before the engine
    /// is open is told why it is not.
    fn run(self) {
        let owner = match control::owner_of(&self.directory) {
            Ok(owner) => owner,
            Err(error) => return tracing::error!("commands cannot be taken: {error}"),
        };
        let (engine, live) = (Opening::default(), Arc::clone(&self.live));
        let held = Arc::clone(&self.held);
        let reexec = Some(Arc::clone(&self.reexec));
        let service = Control { engine, live, held, owner, unmount: None, reexec };
        thread::scope(|scope| {
            scope.spawn(|| self.open(&service.engine));
            while let Err(error) = control::serve(&self.control, &service, self.stop.as_fd()) {
                tracing::error!("commands cannot be taken: {error}");
                if self.is_over(RETRY_PAUSE) {
                    return;
                }
            }
        });
    }

    /// Opens the engine. What fails is tried again: the kernel's requests do not depend on it.
    fn open(&self, opening: &Opening<OsDisk>) {
        let mut said = String::new();
        loop {
            let (words, pause) = match self.engine() {
                Ok(engine) => return opening.opened(engine),
                Err(Unopened::Locked(error)) => (error.to_string(), LOCK_PAUSE),
                Err(Unopened::Failed(error)) => (words_of(error.as_ref()), RETRY_PAUSE),
            };
            if words != said {
                tracing::warn!("commands have to wait: {words}");
                opening.waits(words.clone());
                said = words;
            }
            if self.is_over(pause) {
                return;
            }
        }
    }

    /// Becomes the writer, and tells the kernel what it has missed.
    fn engine(&self) -> Result<Arc<Engine<OsDisk>>, Unopened> {
        let writer = self.store.writer().map_err(|error| match error {
            StoreError::Locked { .. } => Unopened::Locked(error),
            error => Unopened::Failed(error.into()),
        })?;
        begin(&self.store, writer, &self.mounted).map(Arc::new).map_err(Unopened::Failed)
    }

    /// Waits a little; whether the mount is gone.
    fn is_over(&self, pause: Timespec) -> bool {
        let mut fds = [PollFd::new(&self.stop, PollFlags::IN)];
        poll(&mut fds, Some(&pause)).is_ok_and(|ready| ready > 0)
    }
}

/// Opens the engine, and tells the kernel what it has missed.
fn begin<D: Disk>(
    store: &Arc<Store<D>>,
    writer: Writer,
    mounted: &Arc<Mounted<D>>,
) -> Result<Engine<D>, Failure> {
    let show = Box::new(Arc::clone(mounted));
    if mounted.is_withheld() {
        // Only `restore` can go on from here, and it tells the kernel everything.
        return Ok(Engine::open_over_damage(Arc::clone(store), writer, show, host::arch())?);
    }
    let engine = Engine::open(Arc::clone(store), writer, show, host::arch())?;
    mounted.catch_up(store, engine.shown())?;
    Ok(engine)
}

/// Why there is no engine yet.
enum Unopened {
    /// A dead or a short-lived writer still holds the lock, or another command does.
    Locked(StoreError),
    Failed(Failure),
}

/// What is shown, and why what is selected is not.
type Newest = (Shown, Option<String>);

/// What a store shows before anything is changed: its newest generation. When it cannot be read
/// and the kernel was told of generations before, programs are running: then everything else is
/// shown, with the reason.
fn newest<D: Disk>(store: &Store<D>, announced: GenerationNumber) -> Result<Newest, Failure> {
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
