//! Servers that change things, announce them, and die anywhere, under programs that read through a
//! kernel. Everything between the disk and the kernel is what the daemon runs.
//!
//! ```text
//! kernel, programs, client     live on; what a dead server had read and not answered is repeated
//! server                       a process: killed at some step, followed by the next one
//! disk, memory file            stay
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;

use resolver::{RequestId, Timestamp};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;
use store_fs::sync::explored::{Ending, Process, alone};
use store_fs::{Attr, Entry, FsError, Ino, Operation, Prefix, SimDisk};

use super::super::{begin, newest, wait};
use super::*;
use crate::engine::{Caller, Engine};
use crate::host;
use crate::protocol::{Done, Edit, Used};
use crate::schedules::asked::check;
use crate::schedules::kernel::{Answers, Caching, Line as Listed};
use crate::schedules::program::{Program, Progress, Truth, subject};
use crate::schedules::world;

const READERS: usize = 2;
const QUESTIONS: usize = 3;
/// Threads of a server that answer the kernel.
const WORKERS: usize = 2;
/// Servers that may be killed in one schedule.
const KILLS_MAX: usize = 2;
/// Steps of a server that is killed; about so many it takes for everything.
const STEPS_MAX: u32 = 2500;
/// Requests of clients have numbers from here; the template was made by others.
const FIRST_REQUEST: usize = 1000;
/// Of the notifications of one schedule, one of the first so many may fail.
const DEAF_WITHIN: usize = 20;

/// A store before anything, and what clients want of it in turn, with what each state answers.
struct Template {
    disk: SimDisk,
    scripts: Vec<(Vec<Edit>, Truth)>,
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let disk = SimDisk::default();
    let store = Store::create(disk.clone(), &Prefix::new(Path::new("/dyn")).unwrap()).unwrap();
    let publish = |text| Edit::Publish { release: Box::new(world::release(&store, text)) };
    let select = |specs: &[&str]| Edit::Select {
        specs: specs.iter().map(|spec| spec.parse().unwrap()).collect(),
        providers: Vec::new(),
    };
    let forget = || Edit::Forget { keep: 1, since: None, used: Used::default() };
    let remove = |text| Edit::Remove { releases: vec![world::release(&store, text).id] };
    let other = publish("x@2'");
    let scripts = vec![
        vec![select(&["x@2"]), publish("z@1"), select(&["z"])],
        vec![publish("z@1"), remove("z@1"), select(&["x@2"])],
        vec![select(&["x@2"]), Edit::Undo, Edit::Redo],
        vec![select(&["x@2"]), forget(), select(&["x@2"])],
        vec![remove("x@2"), other, select(&["x@2"])],
    ];
    let first = [publish("x@1"), publish("x@2"), publish("y@1"), select(&["x@1", "y@1"])];
    run(&disk, &first, &mut Truth::default());
    let scripts = scripts.into_iter().map(|edits| {
        let mut truth = Truth::default();
        run(&disk.crash_image(store_fs::Loss::Nothing), &edits, &mut truth);
        (edits, truth)
    });
    Template { scripts: scripts.collect(), disk: disk.clone() }
});

/// Carries out edits one after the other, and asks each state.
fn run(disk: &SimDisk, edits: &[Edit], truth: &mut Truth) {
    let store = Arc::new(Store::open(disk.clone()).unwrap());
    let writer = store.writer().unwrap();
    let engine = Engine::open_unmounted(Arc::clone(&store), writer, host::arch()).unwrap();
    truth.ask(&store, &engine.shown());
    for (number, edit) in edits.iter().enumerate() {
        engine.edit(edit, &by(number, false)).unwrap();
        truth.ask(&store, &engine.shown());
    }
}

fn by(number: usize, again: bool) -> Caller {
    let request = Some(RequestId(format!("{number:032x}")));
    Caller { uid: 0, request, again, at: Timestamp(1) }
}

/// What a server is asked.
#[derive(Clone)]
enum Question {
    Lookup(Ino, String),
    Attr(Ino),
    List(Ino),
    /// An edit, and whether it was sent before.
    Edit(usize, Edit, bool),
}

enum Reply {
    Entry(Result<Option<Entry>, FsError>),
    Attr(Result<Attr, FsError>),
    Lines(Result<Vec<Listed>, FsError>),
    Done(Done),
}

/// A connection that outlives whoever answers at its other end.
#[derive(Default)]
struct Connection {
    desk: Mutex<Desk>,
    changed: Condvar,
}

#[derive(Default)]
struct Desk {
    last: u64,
    waiting: VecDeque<(u64, Question)>,
    /// Read by the server that lives, and not answered.
    read: BTreeMap<u64, Question>,
    replies: BTreeMap<u64, Reply>,
}

impl Connection {
    fn ask(&self, question: Question) -> Reply {
        let mut desk = self.desk.lock().unwrap();
        desk.last += 1;
        let number = desk.last;
        desk.waiting.push_back((number, question));
        self.changed.notify_all();
        loop {
            if let Some(reply) = desk.replies.remove(&number) {
                return reply;
            }
            desk = self.changed.wait(desk).unwrap();
        }
    }

    /// Answers questions until this process dies.
    fn serve(&self, own: &Process, answer: impl Fn(Question) -> Reply) -> ! {
        loop {
            let mut desk = self.desk.lock().unwrap();
            let (number, question) = loop {
                if own.is_dead() {
                    drop(desk);
                    own.rest();
                }
                match desk.waiting.pop_front() {
                    Some(next) => break next,
                    None => desk = self.changed.wait(desk).unwrap(),
                }
            };
            desk.read.insert(number, question.clone());
            drop(desk);
            let reply = answer(question);
            let mut desk = self.desk.lock().unwrap();
            if own.is_dead() {
                drop(desk);
                own.rest();
            }
            desk.read.remove(&number);
            desk.replies.insert(number, reply);
            self.changed.notify_all();
        }
    }

    /// What a dead server had read and not answered waits again.
    fn repeat(&self) {
        let mut desk = self.desk.lock().unwrap();
        for (number, question) in std::mem::take(&mut desk.read).into_iter().rev() {
            let question = match question {
                Question::Edit(edit, what, _) => Question::Edit(edit, what, true),
                other => other,
            };
            desk.waiting.push_front((number, question));
        }
        self.changed.notify_all();
    }
}

/// Everything but the server.
struct Machine {
    disk: SimDisk,
    memory: Memory,
    kernel: Caching,
    requests: Connection,
    control: Connection,
    oracle: DynFs<SimDisk>,
    script: usize,
    begun: AtomicUsize,
    announced: AtomicUsize,
    /// Notifications until one fails; 0 for none.
    deaf: AtomicUsize,
}

impl Machine {
    fn new() -> Arc<Self> {
        let disk = TEMPLATE.disk.crash_image(store_fs::Loss::Nothing);
        let memory = Memory::create().unwrap();
        let store = Arc::new(Store::open(disk.clone()).unwrap());
        let map = Arc::new(Memory::map(memory.try_clone_file().unwrap()).unwrap());
        let (shown, _) = newest(&store, GenerationNumber(0)).unwrap();
        let [begun, announced] = [(); 2].map(|()| AtomicUsize::new(0));
        let deaf = thread_rng().gen_range(0..2) * thread_rng().gen_range(0..DEAF_WITHIN);
        Arc::new(Self {
            oracle: DynFs::new(store, map, shown),
            disk,
            memory,
            kernel: Caching::default(),
            requests: Connection::default(),
            control: Connection::default(),
            script: thread_rng().gen_range(0..TEMPLATE.scripts.len()),
            begun,
            announced,
            deaf: AtomicUsize::new(deaf),
        })
    }

    fn program(&self) -> Program<'_> {
        let (kernel, oracle, truth) = (&self.kernel, &self.oracle, self.truth());
        Program { kernel, fs: self, oracle, truth, progress: self }
    }

    fn truth(&self) -> &Truth {
        &TEMPLATE.scripts[self.script].1
    }

    fn edit(&self, number: usize, edit: Edit) -> Option<String> {
        let Reply::Done(done) = self.control.ask(Question::Edit(number, edit, false)) else {
            unreachable!("an edit was asked for")
        };
        match done {
            Done::Switched(switched) => switched.unshown,
            Done::Published { unshown, .. } | Done::Removed { unshown, .. } => unshown,
            Done::Forgotten(forgotten) => forgotten.unshown,
            other => panic!("{other:?}"),
        }
    }

    /// One edit after the other; what could not be told is told with the next one.
    fn edit_all(&self) {
        let mut request = FIRST_REQUEST;
        let mut edit = |edit: &Edit| {
            request += 1;
            self.edit(request, edit.clone())
        };
        for (number, wanted) in (1..).zip(&TEMPLATE.scripts[self.script].0) {
            self.begun.store(number, Ordering::SeqCst);
            let mut unshown = edit(wanted);
            let nothing =
                Edit::Select { specs: vec!["y@1".parse().unwrap()], providers: Vec::new() };
            while unshown.is_some() {
                unshown = edit(&nothing);
            }
            self.announced.store(number, Ordering::SeqCst);
        }
    }
}

impl Progress for Machine {
    fn announced(&self) -> usize {
        self.announced.load(Ordering::SeqCst)
    }

    fn shown(&self) -> usize {
        self.announced.load(Ordering::SeqCst)
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Answers for Machine {
    fn lookup(&self, parent: Ino, name: &str) -> Result<Option<Entry>, FsError> {
        match self.requests.ask(Question::Lookup(parent, name.into())) {
            Reply::Entry(entry) => entry,
            _ => unreachable!("a name was asked for"),
        }
    }

    fn attr(&self, ino: Ino) -> Result<Attr, FsError> {
        match self.requests.ask(Question::Attr(ino)) {
            Reply::Attr(attr) => attr,
            _ => unreachable!("attributes were asked for"),
        }
    }

    fn list(&self, dir: Ino) -> Result<Vec<Listed>, FsError> {
        match self.requests.ask(Question::List(dir)) {
            Reply::Lines(lines) => lines,
            _ => unreachable!("a listing was asked for"),
        }
    }
}

/// The kernel as a server tells it.
struct Told(Arc<Machine>);

impl Told {
    fn hears(&self) -> io::Result<()> {
        let left = self.0.deaf.load(Ordering::SeqCst);
        self.0.deaf.store(left.saturating_sub(1), Ordering::SeqCst);
        if left == 1 { Err(io::Error::other("it does not hear")) } else { Ok(()) }
    }
}

impl Kernel for Told {
    fn drop_entry(&self, parent: Ino, name: &[u8]) -> io::Result<()> {
        self.hears()?;
        self.0.kernel.drop_entry(parent, name)
    }

    fn drop_list(&self, dir: Ino) -> io::Result<()> {
        self.hears()?;
        self.0.kernel.drop_list(dir)
    }
}

/// A server, in the order of `server::serve`. It begins when it may go, having read the store
/// before that.
fn serve(machine: &Arc<Machine>, own: &Process, go: Option<Receiver<()>>) {
    let store = Arc::new(Store::open(machine.disk.clone()).unwrap());
    let memory = Arc::new(Memory::map(machine.memory.try_clone_file().unwrap()).unwrap());
    let found = match go {
        Some(go) => wait(&store, &memory, |_| Ok(go.recv().is_ok())).unwrap(),
        None => Some(newest(&store, memory.announced()).unwrap()),
    };
    // Another server goes on, and this one was never needed.
    let Some((shown, unreadable)) = found else { return };
    assert_eq!(unreadable, None, "nothing is damaged");
    if memory.counts().iter().all(|(_, count)| *count == 0) {
        memory.set_announced(shown.generation);
    }
    let fs = Arc::new(DynFs::new(Arc::clone(&store), Arc::clone(&memory), shown));
    machine.requests.repeat();
    for _ in 0..WORKERS {
        let (machine, own) = (Arc::clone(machine), own.clone());
        let (fs, memory) = (Arc::clone(&fs), Arc::clone(&memory));
        spawn("worker", move || {
            machine.requests.serve(&own, |question| {
                memory.count(Operation::Lookup);
                answer(&fs, question)
            });
        })
        .unwrap();
    }
    let line = Arc::new(Line::new(nobody(), 0));
    let announcer = Announcer::start(Told(Arc::clone(machine)), line).unwrap();
    let mounted = Arc::new(Mounted::new(fs, Arc::clone(&memory), announcer));
    let engine = loop {
        // It fails when the kernel does not hear; then it is tried again.
        if let Ok(engine) = begin(&store, store.writer().unwrap(), &mounted) {
            break engine;
        }
    };
    machine.control.repeat();
    machine.control.serve(own, |question| match question {
        Question::Edit(number, edit, again) => {
            Reply::Done(engine.edit(&edit, &by(number, again)).unwrap())
        }
        _ => unreachable!("only clients are here"),
    });
}

fn answer(fs: &DynFs<SimDisk>, question: Question) -> Reply {
    match question {
        Question::Lookup(parent, name) => Reply::Entry(Answers::lookup(fs, parent, &name)),
        Question::Attr(ino) => Reply::Attr(fs.attr(ino)),
        Question::List(dir) => Reply::Lines(fs.list(dir)),
        Question::Edit(..) => unreachable!("the kernel edits nothing"),
    }
}

/// A line to a keeper that is gone.
fn nobody() -> std::os::fd::OwnedFd {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap().0
}

/// The keeper: starts servers, one after the other.
struct Keeper {
    machine: Arc<Machine>,
    ending: Sender<Ending>,
    kills: usize,
}

impl Keeper {
    /// A server that will be killed, unless enough have been; in waiting with somebody to go.
    fn start(&mut self, go: Option<Receiver<()>>) -> Process {
        let server = Process::doomed(thread_rng().gen_range(1..STEPS_MAX), self.ending.clone());
        if self.kills == 0 {
            server.spare();
        }
        self.kills = self.kills.saturating_sub(1);
        let (machine, own) = (Arc::clone(&self.machine), server.clone());
        server.spawn(move || serve(&machine, &own, go));
        server
    }
}

fn once() {
    let machine = Machine::new();
    let (ending, endings) = channel();
    let kills = thread_rng().gen_range(0..=KILLS_MAX);
    let mut keeper = Keeper { machine: Arc::clone(&machine), ending: ending.clone(), kills };
    let mut tasks = Vec::new();
    let mut start = |run: Box<dyn FnOnce(&Machine) + Send>| {
        let (machine, ending) = (Arc::clone(&machine), ending.clone());
        tasks.push(thread::spawn(move || {
            run(&machine);
            ending.send(Ending::Done).ok();
        }));
    };
    start(Box::new(Machine::edit_all));
    let subject = subject();
    for _ in 0..READERS {
        start(Box::new(move |machine| {
            (0..QUESTIONS).for_each(|_| machine.program().ask(subject));
        }));
    }
    let mut server = keeper.start(None);
    let mut standby = None;
    let mut left = 1 + READERS;
    while left > 0 {
        match endings.recv().unwrap() {
            Ending::Done => left -= 1,
            Ending::Killed if server.is_dead() => {
                server = succeed(&machine, &mut keeper, standby.take());
            }
            Ending::Killed => standby = None,
        }
        // An upgrade, which may have been begun long before.
        if standby.is_none() && thread_rng().gen_range(0..2) == 0 {
            let (go, may_go) = channel();
            standby = Some((keeper.start(Some(may_go)), go));
        }
    }
    server.spare();
    if server.is_dead() {
        keeper.kills = 0;
        succeed(&machine, &mut keeper, None).spare();
    }
    for task in tasks {
        task.join().unwrap();
    }
    machine.program().check_all(None);
}

/// The next server takes over: the one in waiting, if there is one that lives.
fn succeed(
    machine: &Arc<Machine>,
    keeper: &mut Keeper,
    standby: Option<(Process, Sender<()>)>,
) -> Process {
    machine.disk.release_locks();
    if let Some((standby, go)) = standby
        && !standby.is_dead()
    {
        go.send(()).unwrap();
        return standby;
    }
    keeper.start(None)
}

#[test]
fn whatever_changes_is_announced_whoever_dies() {
    alone(|| _ = LazyLock::force(&TEMPLATE));
    check("announcing", 1500, once);
}
