//! The same names for the exploration of schedules: every use is a step at which any other thread
//! may go on, and at which the process that a thread belongs to may have been killed.
//!
//! ```text
//! thread    a task of shuttle; all of them on one thread of the machine, one at a time
//! process   tasks that are killed together: none gets beyond its next step, and nothing is
//!           unwound or unlocked, as with SIGKILL; what it did until then stays done
//! ```
//!
//! All is sequentially consistent: what weaker orders of memory would show is not explored. Locks
//! that are not from here are never held across a step.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

pub use shuttle::sync::MutexGuard;
pub use shuttle::sync::atomic::AtomicBool;
pub use shuttle::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of a task's stack: what a thread of the server needs, and a database in a debug build.
const STACK_LEN: usize = 1 << 20;
/// Half of the schedules are by priorities, which change so often: one thread stays behind while
/// all others go on for long, which never happens by chance at each step.
const PRIORITIES_SHARE: usize = 2;
const PRIORITIES_DEPTH: usize = 3;

shuttle::thread_local! {
    static PROCESS: RefCell<Option<Process>> = RefCell::new(None);
}

/// A place at which another thread may go on. Outside of an exploration: nothing.
pub fn step() {
    if std::thread::panicking() || shuttle::current::try_get_current_task().is_none() {
        return;
    }
    AtomicBool::new(false).load(Ordering::SeqCst);
    if let Ok(Some(process)) = PROCESS.try_with(|process| process.borrow().clone()) {
        process.pass();
    }
}

/// Starts a task that nobody waits for: not even the end of the schedule does.
fn start(process: Option<Process>, run: impl FnOnce() + Send + 'static) {
    drop(shuttle::future::spawn(async move {
        PROCESS.with(|own| *own.borrow_mut() = process);
        run();
    }));
}

/// Starts a thread of the caller's process.
///
/// # Errors
///
/// None; a real thread has some.
pub fn spawn(_name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    start(PROCESS.with(|process| process.borrow().clone()), run);
    Ok(())
}

/// What somebody who waits for a process hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was killed.
    Killed,
    /// One of its threads, or of others, has done what it had to do.
    Done,
}

/// Threads that are killed together.
#[derive(Clone, Debug)]
pub struct Process {
    /// Steps until it is killed.
    left: Arc<AtomicI64>,
    ending: Sender<Ending>,
}

impl Process {
    /// A process that is killed at its step of this number, and then says so.
    #[must_use]
    pub fn doomed(steps: u32, ending: Sender<Ending>) -> Self {
        Self { left: Arc::new(AtomicI64::new(steps.into())), ending }
    }

    /// Starts a thread of this process.
    pub fn spawn(&self, run: impl FnOnce() + Send + 'static) {
        start(Some(self.clone()), run);
    }

    /// It is not killed any more, unless it has been.
    pub fn spare(&self) {
        if !self.is_dead() {
            self.left.store(i64::MAX, Ordering::SeqCst);
        }
    }

    /// Kills it now.
    pub fn kill(&self) {
        self.left.store(0, Ordering::SeqCst);
    }

    /// Whether it was killed.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) <= 0
    }

    /// Takes a step of its life; in a process that was killed, nothing ever happens again.
    fn pass(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.ending.send(Ending::Killed).ok();
        }
        if self.is_dead() {
            self.rest();
        }
    }

    /// What happens in a thread of a process that was killed.
    pub fn rest(&self) -> ! {
        let (_word, nobody) = channel::<()>();
        loop {
            nobody.recv().ok();
        }
    }
}

/// A word of the memory file.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Word(AtomicU64);

impl Word {
    #[cfg(test)]
    pub(crate) const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        step();
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        step();
        self.0.store(value, order);
    }

    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        step();
        self.0.swap(value, order)
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        step();
        self.0.fetch_add(value, order)
    }

    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        step();
        self.0.fetch_max(value, order)
    }
}

/// A lock. That a task failed while it held it is the failure of the schedule, and no other.
#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// An unlocked one.
    pub const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    /// Waits for it, and holds it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        step();
        guard
    }
}

/// A value that is replaced as a whole.
#[derive(Debug)]
pub struct ArcSwap<T>(parking_lot::Mutex<Arc<T>>);

impl<T> ArcSwap<T> {
    /// One that holds this value.
    pub fn from_pointee(value: T) -> Self {
        Self(parking_lot::Mutex::new(Arc::new(value)))
    }

    /// The value of this moment.
    pub fn load(&self) -> Arc<T> {
        self.load_full()
    }

    /// The value of this moment.
    pub fn load_full(&self) -> Arc<T> {
        step();
        Arc::clone(&self.0.lock())
    }

    /// Replaces the value.
    pub fn store(&self, value: Arc<T>) {
        step();
        *self.0.lock() = value;
    }
}

/// Runs `once` in so many schedules, and says so. A schedule that fails is printed in a form that
/// `shuttle::replay` takes; the seed brings all of them again.
///
/// # Panics
///
/// When a schedule fails.
#[expect(clippy::print_stdout, reason = "only tests explore, and these are their words")]
pub fn explore(what: &str, seed: u64, schedules: usize, once: impl Fn() + Send + Sync + 'static) {
    let once = Arc::new(once);
    let by_priorities = schedules / PRIORITIES_SHARE;
    let seed_of = |part: u64| seed.wrapping_mul(2).wrapping_add(part);
    println!("EXPLORING {what}: {schedules} schedules, seed {seed}");
    let random = RandomScheduler::new_from_seed(seed_of(0), schedules - by_priorities);
    run(random, &once);
    if by_priorities > 0 {
        run(PctScheduler::new_from_seed(seed_of(1), PRIORITIES_DEPTH, by_priorities), &once);
    }
    println!("EXPLORED {what}: {schedules} schedules, seed {seed}");
}

/// Runs `once` by one thread, where its locks work: what is made before schedules are explored.
pub fn alone(once: impl Fn() + Send + Sync + 'static) {
    run(RandomScheduler::new_from_seed(0, 1), &Arc::new(once));
}

fn run<F: Fn() + Send + Sync + 'static>(scheduler: impl Scheduler + 'static, once: &Arc<F>) {
    let mut config = Config::new();
    config.stack_size = STACK_LEN;
    config.silence_warnings = true;
    let once = Arc::clone(once);
    Runner::new(scheduler, config).run(move || once());
}
