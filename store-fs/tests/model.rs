//! The file system against a model of a kernel that caches everything for ever, and a reference
//! that is built anew after each operation.
//!
//! * I1: walking any path through the caches gives exactly what the reference says.
//! * I2: a node that was once seen keeps its type and its content for ever; an open file is read to
//!   its end as it was opened, across swaps, removals and new servers.
//! * I3: no node vanishes while it is known; see `docs/TESTING.md`.
//! * I4: a collection takes what nobody can reach, and nothing else.
//! * I5: after a crash or a failure at any step, the old or the new state is there, whole.
//! * I6: `plan` is a function: the same releases, in whatever order they came, and the same request
//!   give the same bytes; and from every plan one comes back to where one was.
//! * I7: a warm walk costs no request, and a swap costs other packages none.
//!
//! A failing case is shrunk and printed; its seed is kept in `tests/model/seeds.txt` and runs first
//! from then on. `PROPTEST_CASES=1000 cargo test -p dynfs-store-fs --test model` looks further.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as a test does")]

#[path = "model/bench.rs"]
mod bench;
#[path = "model/garbage.rs"]
mod garbage;
#[path = "model/kernel.rs"]
mod kernel;
#[path = "model/world.rs"]
mod world;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use resolver::{Release, Selection, Why};
use store_fs::Loss;

use crate::bench::{Bench, Trouble};

/// What a test does next. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Add {
        package: usize,
        version: usize,
        debug: bool,
        sketch: u8,
    },
    Select {
        release: usize,
    },
    Unselect {
        package: usize,
    },
    Remove {
        release: usize,
    },
    Undo {
        generation: usize,
    },
    Walk {
        path: usize,
    },
    Miss {
        path: usize,
        name: usize,
    },
    WalkAll,
    Gc {
        keep: usize,
        again: bool,
    },
    Open {
        file: usize,
    },
    Close {
        handle: usize,
    },
    Reclaim {
        part: usize,
    },
    Restart,
    /// The next change meets with this.
    Trouble(Trouble),
}

fn op() -> impl Strategy<Value = Op> {
    let number = || any::<usize>();
    prop_oneof![
        4 => (number(), number(), any::<bool>(), any::<u8>()).prop_map(
            |(package, version, debug, sketch)| Op::Add { package, version, debug, sketch }
        ),
        6 => number().prop_map(|release| Op::Select { release }),
        2 => number().prop_map(|package| Op::Unselect { package }),
        2 => number().prop_map(|release| Op::Remove { release }),
        2 => number().prop_map(|generation| Op::Undo { generation }),
        6 => number().prop_map(|path| Op::Walk { path }),
        4 => (number(), number()).prop_map(|(path, name)| Op::Miss { path, name }),
        1 => Just(Op::WalkAll),
        2 => (1_usize..4, any::<bool>()).prop_map(|(keep, again)| Op::Gc { keep, again }),
        4 => number().prop_map(|file| Op::Open { file }),
        1 => number().prop_map(|handle| Op::Close { handle }),
        1 => (1_usize..4).prop_map(|part| Op::Reclaim { part }),
        1 => Just(Op::Restart),
        3 => trouble().prop_map(Op::Trouble),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let loss = prop_oneof![
        Just(Loss::Everything),
        Just(Loss::Nothing),
        any::<u64>().prop_map(Loss::Some),
    ];
    prop_oneof![
        Just(Trouble::KilledBeforeShow),
        Just(Trouble::KilledBeforeAnnounce),
        (1_u64..40).prop_map(Trouble::Fail),
        (1_u64..40, loss).prop_map(|(at, loss)| Trouble::PowerCut(at, loss)),
    ]
}

fn run(ops: &[Op]) {
    let mut bench = Bench::new();
    for op in ops {
        match *op {
            Op::Add { package, version, debug, sketch } => {
                bench.add(package, version, debug, sketch);
            }
            Op::Select { release } => bench.select(release),
            Op::Unselect { package } => bench.unselect(package),
            Op::Remove { release } => bench.remove(release),
            Op::Undo { generation } => bench.undo(generation),
            Op::Walk { path } => bench.touch(path),
            Op::Miss { path, name } => bench.touch_beside(path, name),
            Op::WalkAll => bench.check_all(),
            Op::Gc { keep, again } => bench.gc(keep, again),
            Op::Open { file } => bench.open(file),
            Op::Close { handle } => bench.kernel.close(handle),
            Op::Reclaim { part } => bench.kernel.reclaim(part),
            Op::Restart => bench.restart(),
            Op::Trouble(trouble) => bench.trouble = Some(trouble),
        }
        bench.check_touched();
        bench.check_open();
    }
    bench.check_all();
}

/// The selection that asks for a release.
fn selection(release: &Release) -> Selection {
    Selection {
        release: release.id.clone(),
        category: release.category.clone(),
        object: release.object,
        why: Why::NeededBy(release.id.name.clone()),
        previous: None,
    }
}

fn config() -> ProptestConfig {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/seeds.txt");
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(seeds)) as Box<_>);
    ProptestConfig { failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn caches_never_lie(ops in prop::collection::vec(op(), 1..40)) {
        run(&ops);
    }
}

/// What proptest found once, or what a person thought of.
mod found {
    use super::*;

    fn add(package: usize, version: usize, sketch: u8) -> Op {
        Op::Add { package, version, debug: false, sketch }
    }

    #[test]
    fn every_cache_is_warm_across_every_kind_of_change() {
        let warm = |op| [Op::WalkAll, op];
        let ops: Vec<Op> = [
            add(0, 0, 7),
            add(0, 1, 0x19),
            add(2, 0, 6),
            Op::Select { release: 0 },
            Op::Select { release: 2 },
            Op::Select { release: 1 },
            add(1, 2, 3),
            Op::Undo { generation: 1 },
            Op::Unselect { package: 2 },
            Op::Remove { release: 2 },
            add(1, 2, 5),
            Op::Restart,
        ]
        .into_iter()
        .flat_map(warm)
        .collect();
        run(&ops);
    }

    /// Also when nothing selects the release any more, and when its record is gone.
    #[test]
    fn open_files_keep_what_they_were_opened_on() {
        let open = |files: std::ops::Range<usize>| files.map(|file| Op::Open { file });
        let ops: Vec<Op> = [add(0, 0, 7), add(0, 1, 0x47), add(1, 0, 0x87)]
            .into_iter()
            .chain([Op::Select { release: 0 }])
            .chain(open(0..40))
            .chain([Op::Select { release: 1 }, Op::Restart])
            .chain(open(0..40))
            .chain([Op::Unselect { package: 0 }, Op::Remove { release: 0 }, Op::Restart])
            .chain([Op::Reclaim { part: 1 }, Op::Undo { generation: 0 }, Op::Close { handle: 3 }])
            .chain([Op::Restart, add(1, 0, 0xc7), Op::Select { release: 2 }])
            .collect();
        run(&ops);
    }

    #[test]
    fn a_server_killed_between_show_and_announce_is_made_up_for() {
        for trouble in [Trouble::KilledBeforeShow, Trouble::KilledBeforeAnnounce] {
            for change in [
                add(1, 0, 9),
                Op::Select { release: 1 },
                Op::Unselect { package: 0 },
                Op::Remove { release: 1 },
            ] {
                let ops = [add(0, 0, 7), add(0, 1, 0x19), Op::Select { release: 0 }];
                let last = [Op::WalkAll, Op::Trouble(trouble), change, Op::Restart, Op::WalkAll];
                run(&ops.into_iter().chain(last).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn every_single_failure_leaves_the_old_or_the_new_state() {
        for step in 1..60 {
            for trouble in [
                Trouble::Fail(step),
                Trouble::PowerCut(step, Loss::Everything),
                Trouble::PowerCut(step, Loss::Nothing),
            ] {
                let gc = Op::Gc { keep: 1, again: true };
                for change in
                    [add(1, 0, 9), Op::Select { release: 1 }, Op::Remove { release: 1 }, gc]
                {
                    let ops = [add(0, 0, 7), add(0, 1, 0x19), Op::Select { release: 0 }];
                    let last = [Op::WalkAll, Op::Trouble(trouble), change];
                    run(&ops.into_iter().chain(last).collect::<Vec<_>>());
                }
            }
        }
    }

    /// Open files keep what they need, also when nothing else does and a new server comes.
    #[test]
    fn garbage_goes_and_open_files_stay() {
        let open = |files: std::ops::Range<usize>| files.map(|file| Op::Open { file });
        let gc = |again| Op::Gc { keep: 1, again };
        let ops: Vec<Op> = [add(0, 0, 7), add(0, 1, 0x47), add(1, 0, 0x87)]
            .into_iter()
            .chain([Op::Select { release: 0 }, Op::WalkAll])
            .chain(open(0..40))
            .chain([Op::Select { release: 1 }, gc(false), Op::Restart, gc(true), Op::WalkAll])
            .chain([Op::Remove { release: 0 }, gc(true), Op::Undo { generation: 0 }])
            .chain(std::iter::repeat_n(Op::Close { handle: 0 }, 40))
            .chain([gc(false), Op::Trouble(Trouble::KilledBeforeShow), add(1, 0, 0x87), gc(true)])
            .chain([Op::Trouble(Trouble::KilledBeforeAnnounce), gc(true), Op::WalkAll])
            .collect();
        run(&ops);
    }

    /// The lists of the tree that it is put into were kept once, also those of empty directories.
    #[test]
    fn a_release_comes_back_with_other_content() {
        run(&[
            add(0, 0, 1),
            Op::Select { release: 0 },
            add(2, 0, 99),
            Op::WalkAll,
            Op::Remove { release: 0 },
            Op::WalkAll,
            add(2, 0, 30),
            Op::WalkAll,
        ]);
    }
}
