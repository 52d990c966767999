//! What the kernel asks, answered in this process: lookups and listings. Warm: asked before. Cold:
//! the first question after a mount, when neither node nor object is known.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion};
use resolver::{Catalog, GenerationNumber, ObjectId, Providers, Request, Selections, View, plan};
use store_fs::fs::Ino;
use store_fs::{Disk, DynFs, Memory, Prefix, Shown, SimDisk, Store, TreeBuilder};

#[path = "bed/releases.rs"]
mod releases;

use releases::{category, package, release, spec};

/// What every object holds: a directory of many files.
const FILES_DIR: &str = "share";

fn main() {
    let is_smoke = std::env::args().any(|argument| argument == "--test");
    // Every second package is in `lib`.
    let entries = if is_smoke { 100 } else { 5_000 };
    let mut criterion = Criterion::default().configure_from_args();
    let bed = Bed::new(entries);
    lookups(&mut criterion, &bed);
    listings(&mut criterion, &bed, entries);
    criterion.final_summary();
}

/// A store with one object, which is every package's.
struct Bed {
    disk: SimDisk,
    shown: Shown,
}

impl Bed {
    fn new(entries: usize) -> Self {
        let disk = SimDisk::default();
        let prefix = Prefix::new("/dyn".as_ref()).expect("an absolute path");
        let store = Store::create(disk.clone(), &prefix).expect("an empty disk");
        let object = object(&store, entries);
        let packages = entries * 2;
        let mut catalog = Catalog::new(dynfs::host::arch());
        for number in 0..packages {
            catalog.insert(Arc::new(release(number, 0, object))).expect("all are different");
        }
        let specs = (0..packages).map(|number| spec(number, 0)).collect();
        let all = Request::Apply { specs, providers: Providers::default() };
        let planned = plan(&catalog, &Selections::default(), &all).expect("all are there");
        let view = View::compile(&planned.next, &catalog);
        let shown = Shown {
            generation: GenerationNumber(1),
            view: Arc::new(view),
            catalog: Arc::new(catalog),
            generations: Arc::default(),
        };
        Self { disk, shown }
    }

    /// As after a mount.
    fn file_system(&self) -> DynFs<SimDisk> {
        let store = Store::open(self.disk.clone()).expect("it was made above");
        let memory = Memory::create().expect("memory");
        DynFs::new(Arc::new(store), Arc::new(memory), self.shown.clone())
    }
}

fn object<D: Disk>(store: &Store<D>, files: usize) -> ObjectId {
    let addition = store.add().expect("it may be written");
    let mut tree = TreeBuilder::new();
    for number in 0..files {
        let content = number.to_string();
        let blob = addition.bytes(content.as_bytes()).expect("a few bytes");
        let path = format!("{FILES_DIR}/file-{number:05}");
        tree.file(path.as_bytes(), blob, content.len() as u64, 1, false).expect("a good path");
    }
    addition.finish(tree).expect("a good tree").id()
}

fn child<D: Disk>(fs: &DynFs<D>, parent: Ino, name: &str) -> Ino {
    let entry = fs.lookup(parent, name.as_bytes()).expect("a directory");
    entry.expect("it is there").attr.ino
}

fn lookups(criterion: &mut Criterion, bed: &Bed) {
    let (category, package) = (category(0), package(0));
    let (category, package) = (category.as_str(), package.as_str());
    let mut group = criterion.benchmark_group("lookup");
    group.bench_function("package, warm", |bencher| {
        let fs = bed.file_system();
        let dir = child(&fs, Ino::ROOT, category);
        bencher.iter(|| child(&fs, dir, black_box(package)));
    });
    group.bench_function("file, warm", |bencher| {
        let fs = bed.file_system();
        let dir = child(&fs, child(&fs, Ino::ROOT, category), package);
        let dir = child(&fs, dir, FILES_DIR);
        bencher.iter(|| child(&fs, dir, black_box("file-00042")));
    });
    group.bench_function("nothing, warm", |bencher| {
        let fs = bed.file_system();
        let dir = child(&fs, Ino::ROOT, category);
        bencher.iter(|| assert!(fs.lookup(dir, black_box(b"no-such")).expect("a dir").is_none()));
    });
    group.sample_size(20);
    group.bench_function("package, cold", |bencher| {
        let fresh = || {
            let fs = bed.file_system();
            let dir = child(&fs, Ino::ROOT, category);
            (fs, dir)
        };
        let ask = |(fs, dir): (DynFs<SimDisk>, Ino)| (child(&fs, dir, package), fs);
        bencher.iter_batched(fresh, ask, BatchSize::PerIteration);
    });
    group.finish();
}

fn listings(criterion: &mut Criterion, bed: &Bed, entries: usize) {
    let (category, package) = (category(0), package(0));
    let (category, package) = (category.as_str(), package.as_str());
    let list = |fs: &DynFs<SimDisk>, dir: Ino| {
        let mut count = 0;
        fs.readdir(dir, 0, true, &mut |line| {
            black_box(line);
            count += 1;
            false
        })
        .expect("a directory");
        // `.` and `..` are listed too.
        assert_eq!(count, entries + 2);
    };
    let mut group = criterion.benchmark_group("readdirplus");
    group.sample_size(20);
    group.bench_function("virtual directory, warm", |bencher| {
        let fs = bed.file_system();
        let dir = child(&fs, Ino::ROOT, category);
        bencher.iter(|| list(&fs, dir));
    });
    group.bench_function("virtual directory, cold", |bencher| {
        let fresh = || {
            let fs = bed.file_system();
            let dir = child(&fs, Ino::ROOT, category);
            (fs, dir)
        };
        let ask = |(fs, dir): (DynFs<SimDisk>, Ino)| {
            list(&fs, dir);
            fs
        };
        bencher.iter_batched(fresh, ask, BatchSize::PerIteration);
    });
    group.bench_function("object, warm", |bencher| {
        let fs = bed.file_system();
        let dir = child(&fs, child(&fs, Ino::ROOT, category), package);
        let dir = child(&fs, dir, FILES_DIR);
        bencher.iter(|| list(&fs, dir));
    });
    group.finish();
}
