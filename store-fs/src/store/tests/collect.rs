//! Garbage: what goes, what stays, and that at no moment anything is lost that is needed.

use std::collections::{BTreeSet, HashSet};

use super::*;
use crate::{FsckOptions, Loss, fsck};

/// How often each crash is looked at with another choice of what was lost.
const SEEDS: u64 = 6;
const LARGE: usize = 2 * GROUP_LEN;

/// Adds an object of these files.
fn add_files<D: Disk>(store: &Store<D>, files: &[&[u8]]) -> ObjectId {
    let addition = store.add().unwrap();
    let mut tree = TreeBuilder::new();
    for (number, bytes) in files.iter().enumerate() {
        let blob = addition.bytes(bytes).unwrap();
        let name = if number == 0 { "lib/file".to_owned() } else { format!("f{number}") };
        tree.file(name.as_bytes(), blob, bytes.len() as u64, 0, false).unwrap();
    }
    addition.finish(tree).unwrap().id()
}

/// A store with `old`, which a release and a generation need, and `gone`, which nothing needs.
/// They share one of their files. One more blob is left over from an addition.
struct Scene<D: Disk> {
    store: Store<D>,
    old: ObjectId,
    gone: ObjectId,
}

fn scene<D: Disk>(store: Store<D>) -> Scene<D> {
    let old = add_files(&store, &[b"old", b"shared"]);
    let gone = add_files(&store, &[&content(LARGE), b"shared", b"alone"]);
    store.add().unwrap().bytes(b"left over").unwrap();
    let writer = store.writer().unwrap();
    store.publish_release(&writer, &release("old", "1", old)).unwrap();
    let releases = [release("old", "1", old)];
    for number in 1..=3 {
        let next = generation(number, &releases);
        store.write_generation(&writer, &next).unwrap().publish().unwrap();
    }
    drop(writer);
    Scene { store, old, gone }
}

impl<D: Disk> Scene<D> {
    fn needed(&self) -> HashSet<ObjectId> {
        [self.old].into()
    }

    fn empty(&self) -> Emptied {
        let writer = self.store.writer().unwrap();
        self.store.empty_trash(&writer, &self.needed(), usize::MAX).unwrap()
    }

    fn put(&self) -> Vec<ObjectId> {
        let writer = self.store.writer().unwrap();
        self.store.trash_unneeded(&writer, &self.needed()).unwrap()
    }
}

fn is_whole<D: Disk>(store: &Store<D>, what: &str) {
    let report = fsck(store, &host(), FsckOptions { data: true }, &|_, _| {}).unwrap();
    assert_eq!(report.findings, [], "{what}");
}

pub(super) fn garbage_goes_to_the_trash_and_from_there_for_good<B: Bed>(bed: &B) {
    let scene = scene(new_store(bed));
    let foreseen = scene.store.would_empty(&scene.needed(), false).unwrap();
    assert_eq!((foreseen.objects, scene.empty().objects), (0, 0));
    assert_eq!(scene.put(), [scene.gone]);
    assert_eq!(scene.put(), []);
    assert_eq!(scene.store.trash().unwrap(), BTreeSet::from([scene.gone]));
    assert_eq!(read(&scene.store, &scene.gone).unwrap(), content(LARGE), "still served");
    is_whole(&scene.store, "with an object in the trash");

    let foreseen = scene.store.would_empty(&scene.needed(), false).unwrap();
    let emptied = scene.empty();
    assert_eq!((emptied.objects, emptied.blobs, emptied.more), (1, 2, false));
    assert_eq!(emptied, foreseen);
    let gone = scene.store.object(&scene.gone);
    assert!(matches!(gone, Err(StoreError::NoObject { .. })), "{gone:?}");
    assert_eq!(read(&scene.store, &scene.old).unwrap(), b"old");
    assert_eq!(scene.store.trash().unwrap(), BTreeSet::new());
    assert_eq!(scene.empty(), Emptied::default());
    is_whole(&scene.store, "afterwards");
    assert_eq!(scene.store.disk().list(Path::new("outboards")).unwrap().len(), 1);
}

pub(super) fn what_is_left_of_an_addition_goes_at_once<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let kept = add(&store, &content(LARGE)).unwrap();
    // More files than a batch has, so that some were linked before it was given up.
    let addition = store.add().unwrap();
    for number in 0..300_u32 {
        addition.bytes(&number.to_le_bytes()).unwrap();
    }
    drop(addition);
    let needed = HashSet::from([kept]);
    let writer = store.writer().unwrap();
    let foreseen = store.would_empty(&needed, true).unwrap();
    assert!(foreseen.blobs > 100, "{foreseen:?}");
    let mut blobs = 0;
    loop {
        let emptied = store.empty_trash(&writer, &needed, 50).unwrap();
        assert!(emptied.blobs <= 50);
        blobs += emptied.blobs;
        if !emptied.more {
            break;
        }
    }
    assert_eq!(blobs, foreseen.blobs);
    assert_eq!(read(&store, &kept).unwrap(), content(LARGE));
}

pub(super) fn what_is_asked_for_leaves_the_trash<B: Bed>(bed: &B) {
    let scene = scene(new_store(bed));
    assert_eq!(scene.put(), [scene.gone]);
    // By whoever serves it: another process, which learns of the trash when it is asked.
    let server = Store::open(bed.disk()).unwrap();
    server.asked_for(&scene.old);
    assert_eq!(server.trash().unwrap().len(), 1);
    server.asked_for(&scene.gone);
    assert_eq!(server.trash().unwrap().len(), 0);
    let writer = Store::open(bed.disk()).unwrap();
    let lock = writer.writer().unwrap();
    assert_eq!(writer.empty_trash(&lock, &scene.needed(), usize::MAX).unwrap().objects, 0);
    // By whoever publishes a release of it.
    assert_eq!(writer.trash_unneeded(&lock, &scene.needed()).unwrap(), [scene.gone]);
    writer.publish_release(&lock, &release("again", "1", scene.gone)).unwrap();
    assert_eq!(writer.trash().unwrap().len(), 0);
    is_whole(&writer, "published again");
}

pub(super) fn what_is_needed_again_stays<B: Bed>(bed: &B) {
    let scene = scene(new_store(bed));
    assert_eq!(scene.put(), [scene.gone]);
    let writer = scene.store.writer().unwrap();
    let both = HashSet::from([scene.old, scene.gone]);
    let emptied = scene.store.empty_trash(&writer, &both, usize::MAX).unwrap();
    assert_eq!((emptied.objects, emptied.blobs), (0, 0));
    assert_eq!(scene.store.trash().unwrap().len(), 0);
    assert_eq!(read(&scene.store, &scene.gone).unwrap(), content(LARGE));
}

pub(super) fn nothing_is_collected_while_something_is_added<B: Bed>(bed: &B) {
    let scene = scene(new_store(bed));
    let writer = scene.store.writer().unwrap();
    let refused = |done: Result<(), StoreError>| matches!(done, Err(StoreError::Adding));
    let addition = scene.store.add().unwrap();
    addition.bytes(b"on its way").unwrap();
    let other = Store::open(bed.disk()).unwrap();
    let adding = other.adding().unwrap();
    for _ in 0..2 {
        let emptied = scene.store.empty_trash(&writer, &scene.needed(), usize::MAX);
        assert!(refused(emptied.map(drop)));
        assert!(refused(scene.store.trash_unneeded(&writer, &scene.needed()).map(drop)));
    }
    drop(addition);
    assert!(refused(scene.store.trash_unneeded(&writer, &scene.needed()).map(drop)));
    drop(adding);
    scene.store.trash_unneeded(&writer, &scene.needed()).unwrap();
}

/// Its blobs are not known, and it may be repaired.
pub(super) fn blobs_stay_while_an_object_cannot_be_read<B: Bed>(bed: &B) {
    let scene = scene(new_store(bed));
    bed.damage(&path::object(&scene.old), |bytes| bytes[0] ^= 1);
    let store = Store::open(bed.disk()).unwrap();
    let writer = store.writer().unwrap();
    let before = scene.store.disk().list(Path::new("blobs")).unwrap();
    let emptied = store.empty_trash(&writer, &scene.needed(), usize::MAX);
    assert!(matches!(emptied, Err(StoreError::Damaged { .. })), "{emptied:?}");
    assert_eq!(scene.store.disk().list(Path::new("blobs")).unwrap(), before);
}

/// One whole collection, with the generations that are not kept.
fn collect(store: &Store<SimDisk>, old: &ObjectId) -> Result<(), StoreError> {
    let writer = store.writer()?;
    let needed = HashSet::from([*old]);
    store.remove_generations(&writer, &[1, 2].map(GenerationNumber))?;
    store.empty_trash(&writer, &needed, usize::MAX)?;
    store.trash_unneeded(&writer, &needed).map(drop)
}

/// What is needed is there, and everything that is there is whole.
fn look(disk: SimDisk, scene: &Scene<SimDisk>, what: &str) {
    let store = Store::open(disk).unwrap();
    is_whole(&store, what);
    assert_eq!(read(&store, &scene.old).unwrap(), b"old", "{what}");
    let (catalog, problems) = store.catalog(host()).unwrap();
    assert_eq!((catalog.len(), problems.len()), (1, 0), "{what}");
    assert_eq!(store.newest().unwrap().unwrap().number, GenerationNumber(3), "{what}");
    // Whatever is there of the other one is all there.
    if store.object(&scene.gone).is_ok() {
        assert_eq!(read(&store, &scene.gone).unwrap(), content(LARGE), "{what}");
    }
}

/// Every step of a first collection (`rounds` 0) or a second one meets with trouble; afterwards
/// two more leave nothing but what is needed.
fn troubled(rounds: usize, begin: fn(&SimDisk, u64), losses: &[Loss]) -> u64 {
    let mut step = 0;
    loop {
        step += 1;
        let bed = SimBed::default();
        let scene = scene(new_store(&bed));
        for _ in 0..rounds {
            collect(&scene.store, &scene.old).unwrap();
        }
        let disk = bed.0.crash_image(Loss::Nothing);
        let store = Store::open(disk.clone()).unwrap();
        let before = disk.operations();
        begin(&disk, step);
        let done = collect(&store, &scene.old);
        let is_over = disk.operations() < before + step;
        for loss in losses {
            let what = format!("round {rounds}, step {step}, {loss:?}");
            let image = disk.crash_image(*loss);
            look(image.clone(), &scene, &what);
            let again = Store::open(image.clone()).unwrap();
            for _ in 0..3 {
                collect(&again, &scene.old).unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            look(image.clone(), &scene, &what);
            let loose = again.would_empty(&HashSet::from([scene.old]), true).unwrap();
            assert_eq!(loose, Emptied::default(), "{what}");
        }
        if is_over {
            done.unwrap();
            return step;
        }
    }
}

#[test]
fn a_collection_cut_anywhere_loses_nothing_that_is_needed() {
    let mut losses = vec![Loss::Everything, Loss::Nothing];
    losses.extend((0..SEEDS).map(Loss::Some));
    for rounds in 0..2 {
        let steps = troubled(rounds, SimDisk::crash_at, &losses);
        assert!(steps > 20, "{steps}");
    }
}

#[test]
fn a_collection_that_fails_anywhere_loses_nothing_that_is_needed() {
    for rounds in 0..2 {
        let steps = troubled(rounds, SimDisk::fail_at, &[Loss::Nothing, Loss::Everything]);
        assert!(steps > 20, "{steps}");
    }
}
