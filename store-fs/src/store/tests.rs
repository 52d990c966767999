//! The store on every kind of disk. Crashes and failures are in `crash.rs`.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use resolver::{
    Action, Catalog, Category, Generation, GenerationNumber, Origin, Provides, Release, ReleaseId,
    Selection, Selections, Timestamp, Why, generation::Cause,
};

use super::*;
use crate::digest::GROUP_LEN;
use crate::disk::beds::{Bed, SimBed, on_every_disk};
use crate::{SimDisk, TreeBuilder};

mod collect;
mod crash;
mod repair;

on_every_disk! {
    a_store_is_made_once_and_opened,
    a_store_is_not_made_among_other_files,
    a_creation_that_was_interrupted_is_made_up_for,
    nothing_is_no_store,
    objects_and_blobs_are_read_back,
    any_part_of_a_blob_is_read_verified,
    the_same_content_is_stored_once,
    a_large_file_is_copied_and_verified,
    a_file_of_another_length_is_refused,
    many_small_files_go_in_batches,
    threads_add_the_same_content_at_once,
    an_object_without_its_blobs_is_not_added,
    damaged_blobs_are_never_handed_over,
    damaged_objects_are_never_handed_over,
    releases_are_published_listed_and_removed,
    the_index_is_only_a_shortcut,
    generations_are_a_line,
    a_damaged_newest_generation_is_no_step_back,
    a_flipped_generation_is_found,
    there_is_one_writer,
    garbage_goes_to_the_trash_and_from_there_for_good,
    what_is_left_of_an_addition_goes_at_once,
    what_is_asked_for_leaves_the_trash,
    what_is_needed_again_stays,
    nothing_is_collected_while_something_is_added,
    blobs_stay_while_an_object_cannot_be_read,
}

use collect::{
    blobs_stay_while_an_object_cannot_be_read, garbage_goes_to_the_trash_and_from_there_for_good,
    nothing_is_collected_while_something_is_added, what_is_asked_for_leaves_the_trash,
    what_is_left_of_an_addition_goes_at_once, what_is_needed_again_stays,
};

pub(crate) fn prefix() -> Prefix {
    Prefix::new(Path::new("/dyn")).unwrap()
}

pub(crate) fn new_store<B: Bed>(bed: &B) -> Store<B::Disk> {
    Store::create(bed.disk(), &prefix()).unwrap()
}

pub(crate) fn host() -> resolver::Arch {
    resolver::Arch::new("amd64").unwrap()
}

/// Bytes that are the same for the same length, and differ from group to group.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Adds an object with one file of this content.
pub(crate) fn add<D: Disk>(store: &Store<D>, bytes: &[u8]) -> Result<ObjectId, StoreError> {
    let addition = store.add()?;
    let blob = addition.bytes(bytes)?;
    let mut tree = TreeBuilder::new();
    tree.file(b"lib/file", blob, bytes.len() as u64, 1_600_000_000, false)?;
    Ok(addition.finish(tree)?.id())
}

pub(crate) fn release(name: &str, version: &str, object: ObjectId) -> Release {
    Release {
        id: ReleaseId {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            arch: host(),
            variants: ["debug".parse().unwrap()].into(),
        },
        category: "lib".parse().unwrap(),
        object,
        needs: vec!["zlib>=1.2,<2".parse().unwrap(), "so:libz.so.1".parse().unwrap()],
        provides: Provides {
            commands: ["openssl".parse().unwrap()].into(),
            sonames: [("libssl.so.3".parse().unwrap(), "libssl.so.3.2".parse().unwrap())].into(),
        },
        build_ids: vec!["00ff".to_owned()],
        origin: Origin { kind: "directory".to_owned(), name: "/src".to_owned() },
    }
}

pub(crate) fn generation(number: u64, releases: &[Release]) -> Generation {
    let selections = releases.iter().map(|release| {
        let selection = Selection {
            release: release.id.clone(),
            category: Category::new("lib").unwrap(),
            object: release.object,
            why: Why::Asked("openssl@3.2".parse().unwrap()),
            previous: None,
        };
        (release.id.name.clone(), selection)
    });
    Generation {
        number: GenerationNumber(number),
        parent: (number > 1).then(|| GenerationNumber(number - 1)),
        at: Timestamp(1_700_000_000),
        cause: Cause { action: Action::Apply, uid: 0, request: None },
        system: Selections { packages: selections.collect(), ..Selections::default() },
    }
}

fn blob_of<D: Disk>(store: &Store<D>, id: &ObjectId) -> (BlobId, u64) {
    let tree = store.object(id).unwrap();
    let entry = tree.find(b"lib/file").unwrap();
    match tree.row(entry).unwrap().node {
        crate::Node::File { blob, size, .. } => (blob, size),
        other => panic!("{other:?}"),
    }
}

fn read<D: Disk>(store: &Store<D>, id: &ObjectId) -> Result<Vec<u8>, StoreError> {
    let (blob, size) = blob_of(store, id);
    let mut bytes = Vec::new();
    store.read(&blob, size, 0, usize::MAX, &mut bytes)?;
    Ok(bytes)
}

fn is_damaged<T: std::fmt::Debug>(result: Result<T, StoreError>, path: &Path) {
    match result {
        Err(StoreError::Damaged { path: found, .. }) => assert!(found.ends_with(path)),
        other => panic!("{other:?}"),
    }
}

fn a_store_is_made_once_and_opened<B: Bed>(bed: &B) {
    let made = new_store(bed);
    assert_eq!(made.format().version, FORMAT_VERSION);
    let opened = Store::open(bed.disk()).unwrap();
    assert_eq!(opened.format(), made.format());
    new_store(bed);
    let other = Prefix::new(Path::new("/other")).unwrap();
    let error = Store::create(bed.disk(), &other).unwrap_err();
    assert_eq!(error.to_string(), "the store was made for the prefix /dyn, not /other");
    bed.damage(Path::new(path::FORMAT), |bytes| bytes[40] ^= 1);
    is_damaged(Store::open(bed.disk()).map(|_| ()), Path::new(path::FORMAT));
}

fn a_store_is_not_made_among_other_files<B: Bed>(bed: &B) {
    let disk = bed.disk();
    let refused = |found: &str| match Store::create(bed.disk(), &prefix()) {
        Err(StoreError::Occupied { found: path, .. }) => assert_eq!(path, Path::new(found)),
        other => panic!("{other:?}"),
    };
    let made = |path: &str| {
        let temp = disk.temp().unwrap();
        assert!(disk.link(&temp, Path::new(path)).unwrap());
    };
    disk.create_dir(Path::new(path::OBJECTS)).unwrap();
    disk.create_dir(Path::new(TMP_DIR)).unwrap();
    for found in ["tmp/letter", "objects/mine", "blobs", "a"] {
        made(found);
        refused(found);
        let names = disk.list(Path::new("")).unwrap();
        assert!(names.iter().all(|listed| listed.name != path::RELEASES), "nothing was made");
        disk.remove(Path::new(found)).unwrap();
    }
    disk.create_dir(Path::new("a")).unwrap();
    refused("a");
}

/// A creation that was interrupted, and the temporary file of its record, are no obstacle.
fn a_creation_that_was_interrupted_is_made_up_for<B: Bed>(bed: &B) {
    let disk = bed.disk();
    for dir in [path::BLOBS, path::OBJECTS, TMP_DIR, "lost+found"] {
        disk.create_dir(Path::new(dir)).unwrap();
    }
    assert!(disk.link(&disk.temp().unwrap(), Path::new("tmp/123-4")).unwrap());
    new_store(bed);
    new_store(bed);
}

fn nothing_is_no_store<B: Bed>(bed: &B) {
    assert!(matches!(Store::open(bed.disk()), Err(StoreError::Absent { .. })));
}

fn objects_and_blobs_are_read_back<B: Bed>(bed: &B) {
    let store = new_store(bed);
    for len in [0, 1, GROUP_LEN, GROUP_LEN + 1, 5 * GROUP_LEN + 7] {
        let id = add(&store, &content(len)).unwrap();
        let again = Store::open(bed.disk()).unwrap();
        assert_eq!(again.object(&id).unwrap().id(), id);
        assert_eq!(read(&again, &id).unwrap(), content(len), "{len}");
    }
    let absent = ObjectId::from_bytes([7; 32]);
    assert!(matches!(store.object(&absent), Err(StoreError::NoObject { id }) if id == absent));
}

fn any_part_of_a_blob_is_read_verified<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let bytes = content(20 * GROUP_LEN + 100);
    let id = add(&store, &bytes).unwrap();
    let (blob, size) = blob_of(&store, &id);
    let edges = [0, 1, GROUP_LEN - 1, GROUP_LEN, GROUP_LEN + 1, 17 * GROUP_LEN, bytes.len() - 1];
    for from in edges.into_iter().chain([bytes.len(), bytes.len() + 5]) {
        for len in edges {
            let mut found = b"before".to_vec();
            store.read(&blob, size, from as u64, len, &mut found).unwrap();
            let start = from.min(bytes.len());
            let expected = &bytes[start..bytes.len().min(start + len)];
            assert_eq!(found.strip_prefix(b"before").unwrap(), expected, "{from} {len}");
        }
    }
    let mut found = Vec::new();
    store.read(&blob, size, u64::MAX, usize::MAX, &mut found).unwrap();
    assert!(found.is_empty());
}

fn the_same_content_is_stored_once<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let bytes = content(3 * GROUP_LEN);
    let addition = store.add().unwrap();
    let blob = addition.bytes(&bytes).unwrap();
    assert_eq!(addition.bytes(&bytes).unwrap(), blob);
    assert_eq!(addition.new_bytes(), bytes.len() as u64);
    addition.finish(TreeBuilder::new()).unwrap();
    let again = store.add().unwrap();
    assert_eq!(again.bytes(&bytes).unwrap(), blob);
    assert_eq!(again.new_bytes(), 0);
    again.finish(TreeBuilder::new()).unwrap();
}

fn a_large_file_is_copied_and_verified<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let bytes = content(3 * 1024 * 1024 + 17);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.seek(std::io::SeekFrom::Start(100)).unwrap();
    let addition = store.add().unwrap();
    let blob = addition.file(&file, bytes.len() as u64, Path::new("source"), &|_| {}).unwrap();
    assert_eq!(blob, crate::digest::digest(&bytes).id);
    assert_eq!(
        addition.file(&file, bytes.len() as u64, Path::new("source"), &|_| {}).unwrap(),
        blob
    );
    let mut tree = TreeBuilder::new();
    tree.file(b"lib/file", blob, bytes.len() as u64, 0, true).unwrap();
    let id = addition.finish(tree).unwrap().id();
    assert_eq!(read(&store, &id).unwrap(), bytes);
}

fn a_file_of_another_length_is_refused<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let addition = store.add().unwrap();
    for len in [10, 2 * 1024 * 1024] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content(len)).unwrap();
        for wrong in [len - 1, len + 1] {
            let result = addition.file(&file, wrong as u64, Path::new("a/source"), &|_| {});
            is_damaged(result, Path::new("a/source"));
        }
    }
    assert_eq!(addition.new_bytes(), 0);
}

fn many_small_files_go_in_batches<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let addition = store.add().unwrap();
    let mut tree = TreeBuilder::new();
    for number in 0..600_u64 {
        let bytes = number.to_le_bytes();
        let blob = addition.bytes(&bytes).unwrap();
        tree.file(format!("f{number}").as_bytes(), blob, 8, 0, false).unwrap();
    }
    let shards = bed.disk().list(Path::new(path::BLOBS)).unwrap();
    assert!(!shards.is_empty(), "a full batch does not wait for the end");
    let id = addition.finish(tree).unwrap().id();
    let tree = store.object(&id).unwrap();
    assert_eq!(tree.rows(), 601);
    let mut bytes = Vec::new();
    for number in 0..600_u64 {
        store.read(&crate::digest::digest(&number.to_le_bytes()).id, 8, 0, 8, &mut bytes).unwrap();
    }
    assert!(bytes.chunks(8).zip(0..600_u64).all(|(found, number)| found == number.to_le_bytes()));
}

fn threads_add_the_same_content_at_once<B: Bed>(bed: &B) {
    new_store(bed);
    let stores: Vec<_> = (0..4).map(|_| Store::open(bed.disk()).unwrap()).collect();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = stores
            .iter()
            .map(|store| {
                scope.spawn(|| {
                    let addition = store.add().unwrap();
                    let mut tree = TreeBuilder::new();
                    for number in 0..40 {
                        let bytes = content(number * 5_000);
                        let blob = addition.bytes(&bytes).unwrap();
                        let path = format!("f{number}");
                        tree.file(path.as_bytes(), blob, bytes.len() as u64, 0, false).unwrap();
                    }
                    addition.finish(tree).unwrap().id()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
    stores[0].object(&ids[0]).unwrap();
}

fn an_object_without_its_blobs_is_not_added<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let addition = store.add().unwrap();
    let blob = crate::digest::digest(b"never added").id;
    let mut tree = TreeBuilder::new();
    tree.file(b"lib/file", blob, 11, 0, false).unwrap();
    is_damaged(addition.finish(tree), &path::blob(&blob));
    assert_eq!(bed.disk().list(Path::new(path::OBJECTS)).unwrap(), []);
}

fn damaged_blobs_are_never_handed_over<B: Bed>(bed: &B) {
    type Change = fn(&mut Vec<u8>);
    let store = new_store(bed);
    let changes: [(usize, &str, Change); 7] = [
        (100, path::BLOBS, |bytes| bytes[99] ^= 1),
        (101, path::BLOBS, |bytes| bytes.truncate(100)),
        (102, path::BLOBS, |bytes| bytes.push(0)),
        (3 * GROUP_LEN, path::BLOBS, |bytes| bytes[2 * GROUP_LEN] ^= 1),
        (4 * GROUP_LEN, path::OUTBOARDS, |bytes| bytes[0] ^= 1),
        (5 * GROUP_LEN, path::OUTBOARDS, |bytes| bytes.truncate(32)),
        (6 * GROUP_LEN, path::OUTBOARDS, Vec::clear),
    ];
    for (len, dir, change) in changes {
        let id = add(&store, &content(len)).unwrap();
        let (blob, size) = blob_of(&store, &id);
        let path = if dir == path::BLOBS { path::blob(&blob) } else { path::outboard(&blob) };
        bed.damage(&path, change);
        let mut buffer = b"before".to_vec();
        is_damaged(store.read(&blob, size, 0, usize::MAX, &mut buffer), &path);
        assert_eq!(buffer, b"before");
    }
    let id = add(&store, &content(7 * GROUP_LEN)).unwrap();
    let (blob, size) = blob_of(&store, &id);
    bed.disk().remove(&path::outboard(&blob)).unwrap();
    is_damaged(store.read(&blob, size, 0, 1, &mut Vec::new()), &path::outboard(&blob));
    // Adding it again brings back what is missing.
    add(&store, &content(7 * GROUP_LEN)).unwrap();
    assert_eq!(read(&store, &id).unwrap(), content(7 * GROUP_LEN));
    bed.disk().remove(&path::blob(&blob)).unwrap();
    is_damaged(store.read(&blob, size, 0, 1, &mut Vec::new()), &path::blob(&blob));
}

fn damaged_objects_are_never_handed_over<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let id = add(&store, b"content").unwrap();
    bed.damage(&path::object(&id), |bytes| *bytes.last_mut().unwrap() ^= 1);
    let other = Store::open(bed.disk()).unwrap();
    is_damaged(other.object(&id).map(|_| ()), &path::object(&id));
}

fn releases_are_published_listed_and_removed<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let writer = store.writer().unwrap();
    let object = add(&store, b"content").unwrap();
    let first = release("openssl", "3.2.1", object);
    assert!(store.publish_release(&writer, &first).unwrap());
    assert!(!store.publish_release(&writer, &first).unwrap());
    let moved = Release { origin: Origin::default(), ..first.clone() };
    assert!(!store.publish_release(&writer, &moved).unwrap());
    let other = Release { object: add(&store, b"other").unwrap(), ..first.clone() };
    let error = store.publish_release(&writer, &other).unwrap_err();
    assert!(matches!(error, StoreError::OtherContent { id } if *id == first.id));
    let dangling = release("zlib", "1", ObjectId::from_bytes([1; 32]));
    let error = store.publish_release(&writer, &dangling).unwrap_err();
    assert!(matches!(error, StoreError::NoObject { .. }));
    let (catalog, problems) = store.catalog(host()).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(catalog.get(&first.id).map(|found| &**found), Some(&first));
    assert_eq!(catalog.len(), 1);
    for _ in 0..2 {
        store.remove_release(&writer, &first.id).unwrap();
        assert!(store.catalog(host()).unwrap().0.is_empty());
    }
}

fn the_index_is_only_a_shortcut<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let writer = store.writer().unwrap();
    let object = add(&store, b"content").unwrap();
    let releases = ["1:1.0", "2.0", "3.0~rc1"].map(|version| release("xz", version, object));
    for release in &releases {
        store.publish_release(&writer, release).unwrap();
    }
    let complete = |(catalog, problems): (Catalog, Vec<StoreError>)| {
        assert!(problems.is_empty());
        let found = catalog.releases(&releases[0].id.name).to_vec();
        assert_eq!(found.len(), 3);
        assert!(releases.iter().all(|r| found.iter().any(|f| **f == *r)));
    };
    let index = Path::new(path::INDEX);
    let stamp = || bed.disk().stamp(index).unwrap();
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 4] =
        [|_| {}, |bytes| bytes[100] ^= 1, |bytes| bytes.truncate(50), |bytes| bytes.clear()];
    for (round, change) in changes.into_iter().enumerate() {
        let store = Store::open(bed.disk()).unwrap();
        bed.damage(index, change);
        let before = stamp();
        complete(store.catalog(host()).unwrap());
        let note = store.index_note();
        assert_eq!(note.is_some(), round > 0, "{note:?}");
        assert_eq!(stamp(), before, "a reader does not write");
        complete(store.catalog_and_index(&writer, host()).unwrap());
        assert_ne!(stamp(), before);
        let renewed = stamp();
        complete(store.catalog_and_index(&writer, host()).unwrap());
        assert_eq!(stamp(), renewed, "it is as it must be");
    }
    bed.disk().remove(index).unwrap();
    complete(store.catalog(host()).unwrap());
    assert_eq!(stamp(), None);
    assert!(store.index_note().unwrap().starts_with("the index is missing; every record was read"));
    complete(store.catalog_and_index(&writer, host()).unwrap());
    assert!(store.index_note().unwrap().starts_with("the index is missing; it has been rebuilt"));
    // A damaged record is named and left out, whatever the index remembers.
    let bad = path::release(&releases[1].id).unwrap();
    bed.damage(&bad, |bytes| bytes.truncate(bytes.len() - 1));
    let (catalog, problems) = store.catalog(host()).unwrap();
    assert_eq!((catalog.len(), problems.len()), (2, 1));
    is_damaged(Err::<(), _>(problems.into_iter().next().unwrap()), &bad);
}

fn generations_are_a_line<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let writer = store.writer().unwrap();
    assert_eq!(store.newest().unwrap(), None);
    let object = add(&store, b"content").unwrap();
    let releases = ["zlib", "openssl"].map(|name| release(name, "1.2", object));
    for number in 1..=11 {
        let generation = generation(number, &releases);
        store.write_generation(&writer, &generation).unwrap().publish().unwrap();
        assert_eq!(store.newest().unwrap(), Some(generation));
    }
    let numbers: Vec<_> = (1..=11).map(GenerationNumber).collect();
    assert_eq!(store.generations().unwrap(), numbers);
    assert_eq!(store.generation(GenerationNumber(3)).unwrap(), generation(3, &releases));
    let unpublished = store.write_generation(&writer, &generation(12, &[])).unwrap();
    assert_eq!(store.generations().unwrap(), numbers);
    drop(unpublished);
    let taken = store.write_generation(&writer, &generation(11, &[])).unwrap();
    let error = taken.publish().unwrap_err();
    assert!(matches!(error, StoreError::Lost { number: GenerationNumber(11) }));
    assert_eq!(store.newest().unwrap(), Some(generation(11, &releases)));
    let error = store.generation(GenerationNumber(12)).unwrap_err();
    assert!(matches!(error, StoreError::NoGeneration { number: GenerationNumber(12) }));
}

fn a_damaged_newest_generation_is_no_step_back<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let writer = store.writer().unwrap();
    for number in 1..=2 {
        store.write_generation(&writer, &generation(number, &[])).unwrap().publish().unwrap();
    }
    bed.damage(Path::new("generations/2"), Vec::clear);
    is_damaged(store.newest(), Path::new("generations/2"));
    store.generation(GenerationNumber(1)).unwrap();
    bed.disk().remove(Path::new("generations/2")).unwrap();
    let store_of_one = |bytes: &mut Vec<u8>| {
        let other = generation::encode(&generation(2, &[])).unwrap();
        *bytes = other;
    };
    bed.damage(Path::new("generations/1"), store_of_one);
    is_damaged(store.newest(), Path::new("generations/1"));
}

fn a_flipped_generation_is_found<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let writer = store.writer().unwrap();
    let generation = generation(1, &[release("xz", "5", ObjectId::from_bytes([3; 32]))]);
    store.write_generation(&writer, &generation).unwrap().publish().unwrap();
    let path = PathBuf::from("generations/1");
    let len = generation::encode(&generation).unwrap().len();
    for at in 0..len {
        bed.damage(&path, |bytes| bytes[at] ^= 4);
        is_damaged(store.newest(), &path);
        bed.damage(&path, |bytes| bytes[at] ^= 4);
    }
    assert_eq!(store.newest().unwrap(), Some(generation));
}

fn there_is_one_writer<B: Bed>(bed: &B) {
    let store = new_store(bed);
    let writer = store.writer().unwrap();
    let second = Store::open(bed.disk()).unwrap();
    let error = second.writer().unwrap_err();
    assert!(matches!(error, StoreError::Locked { pid } if pid == std::process::id()));
    drop(writer);
    second.writer().unwrap();
}

/// A file of holes takes as little room in a store as it does where it came from.
#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::MetadataExt;
    let bed = crate::disk::beds::OsBed::default();
    let store = new_store(&bed);
    for len in [1_000_000, 64 << 20] {
        let mut source = tempfile::tempfile().unwrap();
        source.set_len(len).unwrap();
        source.seek(std::io::SeekFrom::Start(len / 2)).unwrap();
        source.write_all(b"in the middle").unwrap();
        let addition = store.add().unwrap();
        let blob = addition.file(&source, len, Path::new("source"), &|_| {}).unwrap();
        addition.finish(TreeBuilder::new()).unwrap();
        let stored = std::fs::metadata(store.disk().root().join(path::blob(&blob))).unwrap();
        assert_eq!(stored.len(), len);
        assert!(stored.blocks() * 512 < 100_000, "{} blocks", stored.blocks());
        let mut bytes = Vec::new();
        store.read(&blob, len, len / 2 - 1, 5, &mut bytes).unwrap();
        assert_eq!(bytes, b"\0in t");
    }
}

#[test]
fn a_store_with_unknown_features_can_be_read_and_not_written() {
    let disk = SimDisk::default();
    let mut format = Format::new(prefix());
    format.read_only_compatible.push("colours".to_owned());
    create(&disk, &format).unwrap();
    let store = Store::open(disk).unwrap();
    let unknown = |error| matches!(error, StoreError::UnknownFeatures { .. });
    assert!(unknown(store.writer().unwrap_err()));
    assert!(unknown(store.add().unwrap_err()));
    assert_eq!(store.newest().unwrap(), None);
}

#[test]
fn a_read_only_store_can_be_read() {
    let bed = SimBed::default();
    let store = new_store(&bed);
    let object = add(&store, b"content").unwrap();
    let writer = store.writer().unwrap();
    store.publish_release(&writer, &release("xz", "5", object)).unwrap();
    bed.0.remove(Path::new(path::INDEX)).unwrap();
    bed.0.set_read_only(true);
    let store = Store::open(bed.disk()).unwrap();
    assert_eq!(read(&store, &object).unwrap(), b"content");
    assert_eq!(store.catalog(host()).unwrap().0.len(), 1);
    assert!(store.index_note().unwrap().contains("every record was read; the next add"));
    assert_eq!(store.catalog_and_index(&writer, host()).unwrap().0.len(), 1);
    assert!(store.index_note().unwrap().contains("every record was read, and it stays so"));
    match add(&store, b"more").unwrap_err() {
        StoreError::Io { path, source, .. } => {
            assert_eq!(path, Path::new("/sim").join(path::ADDING));
            assert_eq!(source.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        }
        other => panic!("{other:?}"),
    }
    drop(writer);
    assert!(matches!(store.writer().unwrap_err(), StoreError::Io { action: "locking", .. }));
}

#[test]
fn a_release_with_a_name_too_long_for_a_file_is_refused() {
    let mut release = release("xz", &"1".repeat(120), ObjectId::from_bytes([0; 32]));
    release.id.variants = (0..50).map(|n| format!("variant{n}").parse().unwrap()).collect();
    assert!(matches!(path::release(&release.id), Err(StoreError::Limit { limit: 255, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_range_of_any_blob(
        len in 0..400_000_usize,
        from in 0..450_000_u64,
        count in 0..450_000_usize,
    ) {
        let store = new_store(&SimBed::default());
        let bytes = content(len);
        let id = add(&store, &bytes).unwrap();
        let (blob, size) = blob_of(&store, &id);
        let mut found = Vec::new();
        store.read(&blob, size, from, count, &mut found).unwrap();
        let start = usize::try_from(from).unwrap().min(len);
        prop_assert_eq!(&found[..], &bytes[start..len.min(start + count)]);
    }

    #[test]
    fn no_bytes_make_a_record_reader_fall(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Format::decode(&bytes).is_err());
    }
}
