//! Views that are swapped under readers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use store_fs::fs::announce;
use store_fs::sync::explored::alone;
use store_fs::{DynFs, Memory, SimDisk};

use super::asked::check;
use super::kernel::Caching;
use super::program::{Program, Progress, Truth, subject};
use super::states::World;

const READERS: usize = 2;
/// Questions of each, and changes, in one schedule: fewer in some, so that one moment of many more
/// is that at which another thread goes on.
const QUESTIONS_MAX: usize = 3;
const CHANGES_MAX: usize = 2;

static WORLD: LazyLock<(World, Truth)> = LazyLock::new(|| {
    let world = World::new();
    let mut truth = Truth::default();
    world.states.iter().for_each(|shown| truth.ask(&world.store, shown));
    (world, truth)
});

/// A machine: programs, their kernel, the file system.
struct Machine {
    fs: DynFs<SimDisk>,
    kernel: Caching,
    showing: AtomicUsize,
    shown: AtomicUsize,
    announced: AtomicUsize,
}

impl Machine {
    fn new(first: usize) -> Self {
        let memory = Arc::new(Memory::create().expect("memory"));
        let (world, _) = &*WORLD;
        let fs = DynFs::new(Arc::clone(&world.store), memory, world.states[first].clone());
        let [showing, shown, announced] = [(); 3].map(|()| AtomicUsize::new(first));
        Self { fs, kernel: Caching::default(), showing, shown, announced }
    }

    /// As the engine and the announcing thread do.
    fn change(&self) {
        let next = self.showing.fetch_add(1, Ordering::SeqCst) + 1;
        let announcement = self.fs.show(WORLD.0.states[next].clone());
        self.shown.store(next, Ordering::SeqCst);
        announce(&self.kernel, &announcement).expect("this kernel hears everything");
        self.announced.store(next, Ordering::SeqCst);
    }

    fn program(&self) -> Program<'_> {
        let (kernel, fs, truth) = (&self.kernel, &self.fs, &WORLD.1);
        Program { kernel, fs, oracle: &self.fs, truth, progress: self }
    }
}

impl Progress for Machine {
    fn announced(&self) -> usize {
        self.announced.load(Ordering::SeqCst)
    }

    fn shown(&self) -> usize {
        self.shown.load(Ordering::SeqCst)
    }

    fn begun(&self) -> usize {
        self.showing.load(Ordering::SeqCst)
    }
}

fn once() {
    let mut dice = thread_rng();
    let questions = dice.gen_range(1..=QUESTIONS_MAX);
    let changes = dice.gen_range(1..=CHANGES_MAX);
    let first = dice.gen_range(0..WORLD.0.states.len() - changes);
    let machine = Arc::new(Machine::new(first));
    let subject = subject();
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let machine = Arc::clone(&machine);
            thread::spawn(move || (0..questions).for_each(|_| machine.program().ask(subject)))
        })
        .collect();
    for _ in 0..changes {
        machine.change();
    }
    for reader in readers {
        reader.join().expect("a reader goes on");
    }
    machine.program().check_all(subject);
}

#[test]
fn every_answer_is_of_one_state_and_none_stays_too_long() {
    alone(|| _ = LazyLock::force(&WORLD));
    check("view swap", 8000, once);
}
