//! The parts of a select, each by itself, in the order in which the engine has them: processor time
//! where it computes, so that a busy machine does not matter, and elapsed time where it waits for
//! the disk.

use std::sync::Arc;
use std::time::Duration;

use dynfs::engine::State;
use dynfs::host;
use resolver::{
    Action, Cause, Generation, GenerationNumber, Request, Selections, Timestamp, View, plan,
};
use store_fs::{DynFs, Shown, Store, Writer};

use crate::disk::{ClockedDisk, Part, Spent, processor_time};
use crate::figures::Figures;
use crate::releases::spec;
use crate::shown::{file_system, shown};
use crate::store::Bed;
use crate::turns::Turns;

/// Everything that a select works on.
struct Parts {
    store: Arc<Store<ClockedDisk>>,
    spent: Arc<Spent>,
    writer: Writer,
    state: State,
    view: Arc<View>,
    fs: DynFs<ClockedDisk>,
    figures: Vec<(&'static str, Figures)>,
}

/// Measures so many selects and prints their parts.
pub(crate) fn print(bed: &Bed, turns: &mut Turns, count: usize) {
    let disk = ClockedDisk::open(&bed.root());
    let spent = disk.spent();
    let store = Arc::new(Store::open(disk).expect("a store"));
    let writer = store.writer().expect("nobody else is there");
    let state = State::load(&store, &host::arch()).expect("whole");
    let shown = shown(&state);
    let view = Arc::clone(&shown.view);
    let fs = file_system(&store, shown);
    let mut parts = Parts { store, spent, writer, state, view, fs, figures: Vec::new() };
    for _ in 0..count {
        let (number, turn) = turns.next();
        parts.select(number, turn);
    }
    println!("parts of a select with {} packages", parts.state.current.system.packages.len());
    for (name, figures) in &parts.figures {
        println!("  {name:<22} {figures}");
    }
    println!();
}

impl Parts {
    fn select(&mut self, number: usize, turn: usize) {
        let specs = vec![spec(number, turn)];
        let request = Request::Select { specs: specs.clone(), providers: Vec::new() };
        let plan = self.timed("plan", |parts| {
            plan(&parts.state.catalog, &parts.state.current.system, &request).expect("it is there")
        });
        let differs =
            self.timed("compare with what is", |parts| plan.next != parts.state.current.system);
        assert!(differs, "a package was swapped");
        let view = self.timed("advance the view", |parts| {
            Arc::new(parts.view.advance(&plan, &parts.state.catalog))
        });
        self.view = view;
        let next = self.record(plan.next, Action::Select { specs });
        Arc::make_mut(&mut self.state.generations).insert(next.number);
        let past = std::mem::replace(&mut self.state.current, next);
        let shown = Shown {
            generation: self.state.current.number,
            view: Arc::clone(&self.view),
            catalog: Arc::clone(&self.state.catalog),
            generations: Arc::clone(&self.state.generations),
        };
        let announcement = self.timed("show", |parts| parts.fs.show(shown));
        assert!(!announcement.entries.is_empty(), "a package was swapped");
        self.timed("forget what was", |_| drop(past));
    }

    /// Writes the next generation; what the disk did not take of the time is encoding.
    fn record(&mut self, system: Selections, action: Action) -> Generation {
        let parent = self.state.current.number;
        let next = Generation {
            number: GenerationNumber(parent.0 + 1),
            parent: Some(parent),
            at: Timestamp(1_700_000_000),
            cause: Cause { action, uid: 0, request: None },
            system,
        };
        self.spent.take();
        let start = processor_time();
        let unpublished = self.store.write_generation(&self.writer, &next);
        unpublished.expect("room on the disk").publish().expect("the number is free");
        let elapsed = processor_time().saturating_sub(start);
        let (parts, processor) = self.spent.take();
        self.push("encode the generation", elapsed.saturating_sub(processor));
        for (part, spent) in Part::ALL.into_iter().zip(parts) {
            self.push(part.name(), spent);
        }
        next
    }

    fn timed<T>(&mut self, name: &'static str, work: impl FnOnce(&Self) -> T) -> T {
        let start = processor_time();
        let result = work(self);
        self.push(name, processor_time().saturating_sub(start));
        result
    }

    fn push(&mut self, name: &'static str, sample: Duration) {
        let known = self.figures.iter().position(|(known, _)| *known == name);
        let at = known.unwrap_or_else(|| {
            self.figures.push((name, Figures::default()));
            self.figures.len() - 1
        });
        self.figures[at].1.push(sample);
    }
}
