//! How long a select takes, to durable and visible, with 10,000 packages selected.
//!
//! ```text
//! select/unmounted   the engine alone: plan, generation file, syncs
//! select/shown       the same, with a file system in this process that shows it; no kernel
//! select/mounted     over the control socket of a real mount: the kernel is told before the answer
//! ```
//!
//! Each single select is measured, because what counts is the slowest of a hundred, and beside each
//! one a bare write of as many bytes with the same syncs: no select can be faster, and disks differ
//! from hour to hour. Then the parts of a select, one by one.

#![expect(clippy::print_stdout, reason = "figures are for who runs this")]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use dynfs::engine::{Engine, Unmounted};
use dynfs::host;
use dynfs::protocol::{Done, Edit};
use store_fs::{Disk, Store};

#[path = "bed/disk.rs"]
mod disk;
#[path = "bed/figures.rs"]
mod figures;
#[path = "bed/mounted.rs"]
mod mounted;
#[path = "bed/parts.rs"]
mod parts;
#[path = "bed/releases.rs"]
mod releases;
#[path = "bed/shown.rs"]
mod shown;
#[path = "bed/store.rs"]
mod store;
#[path = "bed/turns.rs"]
mod turns;

use disk::ClockedDisk;
use figures::Figures;
use mounted::Mounted;
use releases::{spec, version};
use shown::InProcess;
use store::{Bed, caller};
use turns::Turns;

/// Fewest selects that percentiles are computed from.
const SELECTS_MIN: usize = 500;

fn main() {
    let is_smoke = std::env::args().any(|argument| argument == "--test");
    let packages = if is_smoke { 200 } else { 10_000 };
    let mut criterion = Criterion::default().configure_from_args();
    let bed = Bed::new(packages);
    let mut bench = Bench { bare: Bare::new(&bed), turns: Turns::new(packages), bed, is_smoke };
    let turns = if is_smoke { 1 } else { SELECTS_MIN };
    parts::print(&bench.bed, &mut bench.turns, turns);
    bench.bed.keep_newest();
    unmounted(&mut criterion, &mut bench);
    shown_in_process(&mut criterion, &mut bench);
    match Mounted::new(&bench.bed) {
        Ok(mounted) => over_the_socket(&mut criterion, &mut bench, mounted),
        Err(reason) => println!("SKIPPED select/mounted: {reason}"),
    }
    criterion.final_summary();
}

/// What every measurement needs.
struct Bench {
    bed: Bed,
    bare: Bare,
    turns: Turns,
    is_smoke: bool,
}

fn select(number: usize, turn: usize) -> Edit {
    Edit::Select { specs: vec![spec(number, turn)], providers: Vec::new() }
}

/// Exactly one package went to exactly that release.
fn check(done: &Done, number: usize, turn: usize) {
    let Done::Switched(switched) = done else { panic!("{done:?}") };
    assert_eq!(switched.changes.len(), 1, "{switched:?}");
    let to = switched.changes[0].to.as_ref().expect("something is selected");
    assert_eq!((&to.name, &to.version), (&releases::package(number), &version(turn)));
    assert_eq!(switched.unshown, None);
}

fn unmounted(criterion: &mut Criterion, bench: &mut Bench) {
    let disk = ClockedDisk::open(&bench.bed.root());
    let store = Arc::new(Store::open(disk).expect("a store"));
    let writer = store.writer().expect("nobody else is there");
    let show = Box::new(Unmounted);
    let engine = Engine::open(store, writer, show, host::arch()).expect("whole");
    in_process(criterion, bench, "unmounted", &engine);
}

fn shown_in_process(criterion: &mut Criterion, bench: &mut Bench) {
    let disk = ClockedDisk::open(&bench.bed.root());
    let store = Arc::new(Store::open(disk).expect("a store"));
    let writer = store.writer().expect("nobody else is there");
    let show = Box::new(InProcess::new(&store));
    let engine = Engine::open(store, writer, show, host::arch()).expect("whole");
    in_process(criterion, bench, "shown", &engine);
}

fn in_process(
    criterion: &mut Criterion,
    bench: &mut Bench,
    name: &str,
    engine: &Engine<ClockedDisk>,
) {
    measure(criterion, bench, name, |number, turn| {
        let edit = select(number, turn);
        let start = Instant::now();
        let done = engine.edit(&edit, &caller());
        let elapsed = start.elapsed();
        check(&done.expect("it may be selected"), number, turn);
        elapsed
    });
}

fn over_the_socket(criterion: &mut Criterion, bench: &mut Bench, mut mounted: Mounted) {
    measure(criterion, bench, "mounted", |number, turn| {
        // Read before, so that the kernel has something to forget.
        assert_eq!(mounted.content(number), store::content(number, turn + 1));
        let edit = select(number, turn);
        let start = Instant::now();
        let done = mounted.edit(edit);
        let elapsed = start.elapsed();
        assert_eq!(mounted.content(number), store::content(number, turn));
        check(&done, number, turn);
        elapsed
    });
}

/// Measures selects, each beside a bare write, and prints the percentiles of both.
fn measure(
    criterion: &mut Criterion,
    bench: &mut Bench,
    name: &str,
    mut select: impl FnMut(usize, usize) -> Duration,
) {
    let (mut selects, mut bare, mut ratios) = (Figures::default(), Figures::default(), Vec::new());
    let mut once = |bench: &mut Bench| {
        let floor = bench.bare.write();
        let (number, turn) = bench.turns.next();
        let elapsed = select(number, turn);
        bare.push(floor);
        selects.push(elapsed);
        ratios.push(elapsed.as_secs_f64() / floor.as_secs_f64());
        elapsed
    };
    let mut group = criterion.benchmark_group("select");
    group.sampling_mode(SamplingMode::Flat).sample_size(50);
    group.measurement_time(Duration::from_secs(8)).warm_up_time(Duration::from_secs(1));
    let mut count = 0;
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            count += times;
            (0..times).map(|_| once(bench)).sum()
        });
    });
    group.finish();
    // None: somebody asked for other benches only.
    if count == 0 {
        return;
    }
    for _ in count..if bench.is_smoke { 1 } else { SELECTS_MIN as u64 } {
        once(bench);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let middle = ratios[ratios.len() / 2];
    println!("select/{name:<12} {selects}  ({} selects)", selects.len());
    println!("  bare write      {bare}  (a select takes {middle:.2} times as long)\n");
    bench.bed.keep_newest();
    bench.bare.clear();
}

/// What the disk alone takes for a generation: as many bytes, written and synced in the same way.
struct Bare {
    disk: ClockedDisk,
    bytes: Vec<u8>,
    written: u64,
}

impl Bare {
    fn new(bed: &Bed) -> Self {
        let disk = ClockedDisk::open(&bed.beside("bare"));
        Self { disk, bytes: bed.newest_record(), written: 0 }
    }

    fn write(&mut self) -> Duration {
        let name = self.written.to_string();
        self.written += 1;
        let start = Instant::now();
        let mut temp = self.disk.temp().expect("room on the disk");
        self.disk.write(&mut temp, &self.bytes).expect("room on the disk");
        self.disk.sync_temp(&temp).expect("room on the disk");
        assert!(self.disk.link(&temp, name.as_ref()).expect("room on the disk"));
        self.disk.sync_dir("".as_ref()).expect("room on the disk");
        start.elapsed()
    }

    fn clear(&self) {
        for entry in fs::read_dir(self.disk.root()).expect("ours") {
            fs::remove_file(entry.expect("ours").path()).expect("ours");
        }
    }
}
