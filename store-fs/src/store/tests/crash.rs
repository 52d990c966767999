//! Fails and crashes at every single operation of everything that changes a store. Afterwards the
//! store opens with the old or the new state, what was there before is there, and fsck is silent.

use std::path::Path;

use super::*;
use crate::{FsckOptions, Loss, fsck};

/// How often each crash is looked at with another choice of what was lost.
const SEEDS: u64 = 6;

/// One change of a store, and whether its result is there.
struct Change {
    name: &'static str,
    run: fn(&Store<SimDisk>) -> Result<(), StoreError>,
    is_done: fn(&Store<SimDisk>) -> bool,
}

const CHANGES: [Change; 4] = [
    Change { name: "add object", run: add_object, is_done: object_is_there },
    Change { name: "publish release", run: publish_release, is_done: |s| releases(s) == 2 },
    Change { name: "publish generation", run: publish_generation, is_done: |s| newest(s) == 2 },
    Change { name: "remove release", run: remove_release, is_done: |s| releases(s) == 0 },
];

fn new_tree() -> Vec<Vec<u8>> {
    vec![content(10), content(2 * GROUP_LEN), content(0), b"old".to_vec()]
}

fn add_object(store: &Store<SimDisk>) -> Result<(), StoreError> {
    let addition = store.add()?;
    let mut tree = TreeBuilder::new();
    for (number, bytes) in new_tree().iter().enumerate() {
        let blob = addition.bytes(bytes)?;
        tree.file(format!("f{number}").as_bytes(), blob, bytes.len() as u64, 0, false)?;
    }
    addition.finish(tree).map(|_| ())
}

fn object_is_there(store: &Store<SimDisk>) -> bool {
    let mut tree = TreeBuilder::new();
    for (number, bytes) in new_tree().iter().enumerate() {
        let blob = crate::digest::digest(bytes).id;
        tree.file(format!("f{number}").as_bytes(), blob, bytes.len() as u64, 0, false).unwrap();
    }
    store.object(&tree.encode().unwrap().0).is_ok()
}

fn old_object(store: &Store<SimDisk>) -> ObjectId {
    let (catalog, _) = store.catalog(host()).unwrap();
    let old = catalog.releases(&"old".parse().unwrap());
    old[0].object
}

fn publish_release(store: &Store<SimDisk>) -> Result<(), StoreError> {
    let old = record_of(&store.disk, &old_path())?.expect("it was published before");
    let writer = store.writer()?;
    store.publish_release(&writer, &release("new", "1", old.object)).map(|_| ())
}

fn publish_generation(store: &Store<SimDisk>) -> Result<(), StoreError> {
    let old = record_of(&store.disk, &old_path())?.expect("it was published before");
    let writer = store.writer()?;
    store.write_generation(&writer, &generation(2, &[old]))?.publish()
}

fn remove_release(store: &Store<SimDisk>) -> Result<(), StoreError> {
    let writer = store.writer()?;
    store.remove_release(&writer, &release("old", "1", ObjectId::from_bytes([0; 32])).id)
}

fn old_path() -> PathBuf {
    path::release(&release("old", "1", ObjectId::from_bytes([0; 32])).id).unwrap()
}

fn releases(store: &Store<SimDisk>) -> usize {
    let (catalog, problems) = store.catalog(host()).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    catalog.len()
}

fn newest(store: &Store<SimDisk>) -> u64 {
    store.newest().unwrap().expect("the first one was published before").number.0
}

/// A durable store with an object, its release and a first generation.
fn old_store() -> SimDisk {
    let bed = SimBed::default();
    let store = new_store(&bed);
    let object = add(&store, b"old").unwrap();
    let writer = store.writer().unwrap();
    store.publish_release(&writer, &release("old", "1", object)).unwrap();
    store.write_generation(&writer, &generation(1, &[])).unwrap().publish().unwrap();
    bed.0.crash_image(Loss::Everything)
}

/// The store opens, what was there is there, fsck is silent; whether the change was made.
fn look(disk: SimDisk, change: &Change, at: &str) -> bool {
    let what = format!("{}, {at}", change.name);
    let store = Store::open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let report = fsck(&store, &host(), FsckOptions { data: true }, &|_, _| {}).unwrap();
    assert_eq!(report.findings, [], "{what}");
    assert_eq!(store.generation(GenerationNumber(1)).unwrap(), generation(1, &[]), "{what}");
    let is_done = (change.is_done)(&store);
    if change.name != "remove release" || !is_done {
        assert_eq!(read(&store, &old_object(&store)).unwrap(), b"old", "{what}");
    }
    is_done
}

pub(super) fn images(disk: &SimDisk) -> impl Iterator<Item = (SimDisk, Loss)> {
    let losses = [Loss::Everything, Loss::Nothing].into_iter();
    losses.chain((0..SEEDS).map(Loss::Some)).map(|loss| (disk.crash_image(loss), loss))
}

#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new_state() {
    for change in &CHANGES {
        let mut outcomes = [false; 2];
        let mut steps = 0;
        loop {
            steps += 1;
            let disk = old_store();
            let store = Store::open(disk.clone()).unwrap();
            disk.crash_at(steps);
            let done = (change.run)(&store);
            drop(store);
            for (image, loss) in images(&disk) {
                let is_done = look(image.clone(), change, &format!("step {steps}, {loss:?}"));
                outcomes[usize::from(is_done)] = true;
                assert!(is_done || done.is_err(), "{}: success was not durable", change.name);
                // And whoever comes next can do it.
                let store = Store::open(image.clone()).unwrap();
                (change.run)(&store).unwrap_or_else(|error| {
                    let lost = matches!(error, StoreError::Lost { .. });
                    assert!(lost && is_done, "{} after step {steps}: {error}", change.name);
                });
                assert!(look(image.crash_image(Loss::Everything), change, "done again"));
            }
            if done.is_ok() {
                break;
            }
        }
        assert!(steps > 4, "{}: {steps}", change.name);
        assert_eq!(outcomes, [true; 2], "{}: both states were seen", change.name);
    }
}

#[test]
fn a_failure_at_any_step_is_said_and_leaves_a_whole_state() {
    for change in &CHANGES {
        let mut step = 0;
        loop {
            step += 1;
            let disk = old_store();
            let store = Store::open(disk.clone()).unwrap();
            disk.fail_at(step);
            let before = disk.operations();
            let done = (change.run)(&store);
            if disk.operations() < before + step {
                done.unwrap();
                break;
            }
            if let Err(error) = done {
                let is_full = |source: &io::Error| source.kind() == io::ErrorKind::StorageFull;
                let said = matches!(&error, StoreError::Io { path, source, .. }
                    if is_full(source) && path.starts_with("/sim"));
                assert!(said, "{}, step {step}: {error:?}", change.name);
                look(disk.clone(), change, &format!("failed at {step}"));
            } else {
                assert!(look(disk.clone(), change, &format!("failed at {step} unnoticed")));
            }
            for (image, loss) in images(&disk) {
                look(image, change, &format!("failed at {step}, then {loss:?}"));
            }
            (change.run)(&Store::open(disk.clone()).unwrap()).unwrap_or_else(|error| {
                assert!(matches!(error, StoreError::Lost { .. }), "{}: {error}", change.name);
            });
            assert!(look(disk.crash_image(Loss::Everything), change, "done again"));
        }
    }
}

#[test]
fn a_generation_or_release_that_failed_is_not_there() {
    for change in &CHANGES[1..3] {
        let mut step = 0;
        loop {
            step += 1;
            let disk = old_store();
            let store = Store::open(disk.clone()).unwrap();
            disk.fail_at(step);
            if (change.run)(&store).is_ok() {
                break;
            }
            assert!(!look(disk, change, &format!("failed at {step}")));
        }
        assert!(step > 4);
    }
}

/// What a killed process has done can be seen before it is durable. Whoever goes on from there
/// must not outlive it in a power cut.
#[test]
fn nothing_is_built_on_what_a_killed_writer_did_not_sync() {
    let new = release("new", "1", ObjectId::from_bytes([0; 32]));
    let path = path::release(&new.id).unwrap();
    let (mut step, mut seen) = (0, 0);
    loop {
        step += 1;
        let disk = old_store();
        let store = Store::open(disk.clone()).unwrap();
        disk.crash_at(step);
        let done = publish_release(&store);
        let disk = disk.fork();
        if let Some(new) = record_of(&disk, &path).unwrap() {
            seen += 1;
            let store = Store::open(disk.clone()).unwrap();
            let writer = store.writer().unwrap();
            store.write_generation(&writer, &generation(2, &[new])).unwrap().publish().unwrap();
            for (image, loss) in images(&disk) {
                let store = Store::open(image).unwrap();
                let report = fsck(&store, &host(), FsckOptions::default(), &|_, _| {}).unwrap();
                assert_eq!(report.findings, [], "killed at {step}, {loss:?}");
                assert_eq!(newest(&store), 2);
            }
        }
        if done.is_ok() {
            break;
        }
    }
    assert!(seen > 2, "it was killed between the name and its sync, too");
}

#[test]
fn a_store_is_there_whole_or_not_at_all() {
    let mut step = 0;
    loop {
        step += 1;
        let disk = SimDisk::default();
        disk.crash_at(step);
        let made = Store::create(disk.clone(), &prefix()).is_ok();
        for (image, loss) in images(&disk) {
            match Store::open(image.clone()) {
                Ok(store) => {
                    let report = fsck(&store, &host(), FsckOptions::default(), &|_, _| {}).unwrap();
                    assert_eq!(report.findings, [], "step {step}, {loss:?}");
                }
                Err(StoreError::Absent { .. }) => {
                    assert!(!made || loss != Loss::Everything, "step {step}, {loss:?}");
                }
                Err(error) => panic!("step {step}, {loss:?}: {error}"),
            }
            let store = Store::create(image, &prefix()).unwrap();
            add(&store, Path::new("x").as_os_str().as_encoded_bytes()).unwrap();
        }
        if made && disk.operations() < step {
            break;
        }
    }
}
