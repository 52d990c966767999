//! What is decided and what follows from it, without a disk: plan, view, differences; with 10,000
//! packages selected, of which one is swapped.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion};
use resolver::{Catalog, GenerationNumber, ObjectId, Providers, Request, Selections, View, plan};
use store_fs::{DynFs, Memory, Prefix, Shown, SimDisk, Store};

#[path = "bed/releases.rs"]
mod releases;

use releases::{VERSIONS, release, spec};

fn main() {
    let is_smoke = std::env::args().any(|argument| argument == "--test");
    let packages = if is_smoke { 200 } else { 10_000 };
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion, packages);
    criterion.final_summary();
}

fn bench(criterion: &mut Criterion, packages: usize) {
    let catalog = catalog(packages);
    let specs = (0..packages).map(|number| spec(number, 0)).collect();
    let all = Request::Apply { specs, providers: Providers::default() };
    let current = plan(&catalog, &Selections::default(), &all).expect("all are there").next;
    let view = View::compile(&current, &catalog);
    let one = Request::Select { specs: vec![spec(packages / 2, 1)], providers: Vec::new() };
    let planned = plan(&catalog, &current, &one).expect("it is there");
    assert_eq!(planned.changes.len(), 1);
    let next = view.advance(&planned, &catalog);
    assert!(!view.changed(&next).entries.is_empty());

    let mut group = criterion.benchmark_group("plan");
    group.sample_size(30);
    group.bench_function("select one", |bencher| {
        bencher.iter_with_large_drop(|| plan(&catalog, &current, &one).expect("it is there"));
    });
    group.bench_function("apply all", |bencher| {
        bencher.iter_with_large_drop(|| plan(&catalog, &current, &all).expect("all are there"));
    });
    group.bench_function("restore all", |bencher| {
        let restore = Request::Restore { selections: Box::new(current.clone()) };
        bencher.iter_with_large_drop(|| {
            plan(&catalog, &planned.next, &restore).expect("all are there")
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("view");
    group.sample_size(30);
    group.bench_function("compile", |bencher| {
        bencher.iter_with_large_drop(|| View::compile(&current, &catalog));
    });
    group.bench_function("advance by one", |bencher| {
        bencher.iter_with_large_drop(|| view.advance(&planned, &catalog));
    });
    group.bench_function("changed by one", |bencher| {
        bencher.iter(|| black_box(&view).changed(black_box(&next)));
    });
    group.bench_function("show", |bencher| {
        let fs = file_system(&catalog);
        let state = |view: &View| shown(&catalog, view);
        bencher.iter_batched(
            || {
                fs.show(state(&view));
                state(&next)
            },
            |next| fs.show(next),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn catalog(packages: usize) -> Arc<Catalog> {
    let mut catalog = Catalog::new(dynfs::host::arch());
    for number in 0..packages {
        for turn in 0..VERSIONS.len() {
            let mut object = [0; 32];
            object[..8].copy_from_slice(&(number as u64).to_le_bytes());
            object[8] = u8::try_from(turn).expect("two releases");
            let release = release(number, turn, ObjectId::from_bytes(object));
            catalog.insert(Arc::new(release)).expect("all are different");
        }
    }
    Arc::new(catalog)
}

fn shown(catalog: &Arc<Catalog>, view: &View) -> Shown {
    Shown {
        generation: GenerationNumber(1),
        view: Arc::new(view.clone()),
        catalog: Arc::clone(catalog),
        generations: Arc::default(),
    }
}

/// A file system over an empty store: what is shown has to be known, and not to be there.
fn file_system(catalog: &Arc<Catalog>) -> DynFs<SimDisk> {
    let prefix = Prefix::new("/dyn".as_ref()).expect("an absolute path");
    let store = Store::create(SimDisk::default(), &prefix).expect("an empty disk");
    let memory = Memory::create().expect("memory");
    DynFs::new(Arc::new(store), Arc::new(memory), shown(catalog, &View::default()))
}
