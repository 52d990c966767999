//! Repairs and release files, interrupted at every single step. Afterwards nothing is worse than it
//! was, no bad file is lost, and the same again makes everything good.

use std::collections::BTreeMap;
use std::path::Path;

use super::crash::images;
use super::*;
use crate::disk::beds::PlainBed;
use crate::release_file::{Wanted, check_release_file, receive, write};
use crate::{Finding, FsckOptions, Loss, Needed, ReleaseFile, fsck, transfer};

const DATA: FsckOptions = FsckOptions { data: true };
const AT: Timestamp = Timestamp(1_795_573_111);

/// Two releases, one of them of a large blob, in three generations; all of it durable.
fn whole() -> (SimDisk, Vec<Release>) {
    let bed = SimBed::default();
    let store = new_store(&bed);
    let objects = [add(&store, b"small").unwrap(), add(&store, &content(2 * GROUP_LEN)).unwrap()];
    let releases = vec![release("small", "1", objects[0]), release("large", "2", objects[1])];
    let writer = store.writer().unwrap();
    for release in &releases {
        store.publish_release(&writer, release).unwrap();
    }
    for number in 1..=3 {
        let generation = generation(number, &releases);
        store.write_generation(&writer, &generation).unwrap().publish().unwrap();
    }
    store.catalog_and_index(&writer, host()).unwrap();
    store.sync_all().unwrap();
    drop(writer);
    (bed.0.crash_image(Loss::Nothing), releases)
}

/// The same, with damage of every kind. What each bad file holds, and how much is bad.
fn damaged_store() -> (SimDisk, Vec<Vec<u8>>) {
    let (disk, releases) = whole();
    let large = crate::digest::digest(&content(2 * GROUP_LEN)).id;
    let small = crate::digest::digest(b"small").id;
    let mut bad = Vec::new();
    for path in [
        path::blob(&large),
        path::outboard(&large),
        path::blob(&small),
        path::object(&releases[0].object),
        path::generation(GenerationNumber(1)),
        path::generation(GenerationNumber(3)),
        path::release(&releases[1].id).unwrap(),
    ] {
        assert!(disk.damage(&path, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bad.push(bytes.clone());
        }));
    }
    disk.damage(Path::new(path::INDEX), |bytes| bytes.truncate(9));
    (disk, bad)
}

fn look(store: &Store<SimDisk>) -> (Vec<Finding>, Needed) {
    let report = fsck(store, &host(), DATA, &|_, _| {}).unwrap();
    (report.findings, report.needed)
}

/// All that a repair does, in the order in which the command and the engine do it.
fn repair(store: &Store<SimDisk>, from: &Store<SimDisk>) -> Result<(), StoreError> {
    let report = fsck(store, &host(), DATA, &|_, _| {})?;
    let mut needed = report.needed;
    let writer = store.writer()?;
    store.set_aside(&writer, &needed.bad, AT)?;
    if needed.index {
        store.renew_index(&writer, host())?;
    }
    if needed.newest.is_some() {
        let (catalog, _) = from.catalog(host())?;
        let releases: Vec<Release> = ["small", "large"]
            .iter()
            .flat_map(|name| catalog.releases(&name.parse().unwrap()))
            .map(|release| Release::clone(release))
            .collect();
        let known = Generation { number: GenerationNumber(3), ..generation(3, &releases) };
        store.renew_generation(&writer, &known, AT)?;
    }
    transfer::fetch(from, store, &needed, &|_| ())?;
    needed.forget_present(store);
    for blob in &needed.outboards {
        store.renew_outboard(blob)?;
    }
    let (catalog, _) = from.catalog(host())?;
    for id in needed.releases.keys() {
        let release = catalog.get(id).unwrap();
        store.set_record_aside(&writer, id, AT)?;
        store.publish_release(&writer, release)?;
    }
    Ok(())
}

/// Every bad file is there, under its old name or aside.
fn nothing_is_lost(disk: &SimDisk, bad: &[Vec<u8>], what: &str) {
    let mut found = BTreeMap::new();
    for path in disk.files() {
        let bytes = read_file(disk, &path, u64::MAX).unwrap().unwrap();
        found.entry(bytes).or_insert(path);
    }
    for bytes in bad {
        assert!(found.contains_key(bytes), "{what}: a bad file of {} bytes is gone", bytes.len());
    }
}

/// Findings that were not there before, but for what is missing instead of damaged.
fn worse(before: &[Finding], after: &[Finding]) -> Vec<Finding> {
    let release_of = |finding: &Finding| finding.path.clone();
    let known = |finding: &&Finding| {
        let same = before.iter().any(|old| release_of(old) == release_of(finding));
        // Its object was bad, and is nowhere now; a record that gives way is gone for a moment.
        !same && !matches!(finding.code, "release-dangling" | "generation-dangling")
    };
    after.iter().filter(known).cloned().collect()
}

#[test]
fn a_crash_at_any_step_of_a_repair_makes_nothing_worse() {
    let (source, _) = whole();
    let source = Store::open(source).unwrap();
    let mut steps = 0;
    loop {
        steps += 1;
        let (disk, bad) = damaged_store();
        let store = Store::open(disk.clone()).unwrap();
        let (before, _) = look(&store);
        assert!(before.len() >= 8, "{before:#?}");
        disk.crash_at(disk_reads(&disk, &store) + steps);
        let done = repair(&store, &source);
        drop(store);
        for (image, loss) in images(&disk) {
            let what = format!("step {steps}, {loss:?}");
            nothing_is_lost(&image, &bad, &what);
            let store = Store::open(image.clone()).unwrap();
            let (after, _) = look(&store);
            assert_eq!(worse(&before, &after), [], "{what}");
            let numbers = store.generations().unwrap();
            assert_eq!(numbers.last(), Some(&GenerationNumber(3)), "{what}: a step back");
            assert!(done.is_err() || after.is_empty(), "{what}: {after:#?}");
            repair(&store, &source).unwrap_or_else(|error| panic!("{what}: {error}"));
            let (after, _) = look(&store);
            assert_eq!(after, [], "{what}, again");
            nothing_is_lost(&image, &bad, &what);
        }
        if done.is_ok() {
            break;
        }
    }
    assert!(steps > 60, "{steps}");
}

/// The operations that one look at a store takes: a repair begins with that, and it changes
/// nothing.
fn disk_reads(disk: &SimDisk, store: &Store<SimDisk>) -> u64 {
    let before = disk.operations();
    look(store);
    disk.operations() - before
}

#[test]
fn a_failure_at_any_step_of_a_repair_makes_nothing_worse() {
    let (source, _) = whole();
    let source = Store::open(source).unwrap();
    let mut step = 0;
    loop {
        step += 1;
        let (disk, bad) = damaged_store();
        let store = Store::open(disk.clone()).unwrap();
        let (before, _) = look(&store);
        let reads = disk_reads(&disk, &store);
        let begin = disk.operations();
        disk.fail_at(reads + step);
        let done = repair(&store, &source);
        if disk.operations() < begin + reads + step {
            done.unwrap();
            break;
        }
        let what = format!("step {step}");
        nothing_is_lost(&disk, &bad, &what);
        let (after, _) = look(&store);
        assert_eq!(worse(&before, &after), [], "{what}");
        repair(&store, &source).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(look(&store).0, [], "{what}, again");
    }
    assert!(step > 60, "{step}");
}

/// What an addition brings again: all that the store has.
fn add_again(store: &Store<SimDisk>) -> Result<(), StoreError> {
    add(store, b"small")?;
    add(store, &content(2 * GROUP_LEN)).map(drop)
}

/// Bad content gives way to good content and is kept aside, whenever the power goes.
#[test]
fn a_crash_at_any_step_of_adding_over_bad_content() {
    let damaged = || {
        let (disk, releases) = whole();
        let ids = [b"small".to_vec(), content(2 * GROUP_LEN)].map(|b| crate::digest::digest(&b).id);
        let mut paths = vec![path::outboard(&ids[1])];
        paths.extend(ids.iter().map(path::blob));
        paths.extend(releases.iter().map(|release| path::object(&release.object)));
        let mut bad = Vec::new();
        for path in &paths {
            assert!(disk.damage(path, |bytes| {
                bytes[0] ^= 1;
                bad.push(bytes.clone());
            }));
        }
        (disk, bad)
    };
    let mut steps = 0;
    loop {
        steps += 1;
        let (disk, bad) = damaged();
        let store = Store::open(disk.clone()).unwrap();
        let (before, _) = look(&store);
        assert!(before.len() >= 4, "{before:#?}");
        disk.crash_at(steps);
        let done = add_again(&store);
        drop(store);
        for (image, loss) in images(&disk) {
            let what = format!("step {steps}, {loss:?}");
            nothing_is_lost(&image, &bad, &what);
            let store = Store::open(image.clone()).unwrap();
            let (after, _) = look(&store);
            // A good object names its blobs again, which are as bad as they were.
            let codes = |finding: &&Finding| finding.code.ends_with("-missing");
            assert_eq!(after.iter().filter(codes).count(), 0, "{what}: {after:#?}");
            assert_eq!(worse(&before, &after), [], "{what}");
            assert!(done.is_err() || after.is_empty(), "{what}: {after:#?}");
            add_again(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(look(&store).0, [], "{what}, again");
            nothing_is_lost(&image, &bad, &what);
        }
        if done.is_ok() {
            break;
        }
    }
    assert!(steps > 20, "{steps}");
}

fn release_file() -> (Vec<u8>, Vec<Release>) {
    let (disk, releases) = whole();
    let store = Store::open(disk).unwrap();
    let mut bytes = Vec::new();
    write(&store, &releases, &mut bytes, Path::new("file"), &|_| ()).unwrap();
    check_release_file(&bytes).unwrap();
    (bytes, releases)
}

fn add_file(store: &Store<SimDisk>, bytes: &[u8], releases: &[Release]) -> Result<(), StoreError> {
    let file = ReleaseFile::open(bytes, Path::new("file"))?;
    receive(store, file, Wanted::All, false, &|_| ())?;
    let writer = store.writer()?;
    releases.iter().try_for_each(|release| store.publish_release(&writer, release).map(drop))
}

/// A release of a file is there whole or not at all, whenever the power goes or a disk is full.
#[test]
fn a_release_file_interrupted_at_any_step() {
    let (bytes, releases) = release_file();
    for fails in [false, true] {
        let mut outcomes = [false; 3];
        let mut steps = 0;
        loop {
            steps += 1;
            let bed = SimBed::default();
            drop(new_store(&bed));
            let disk = bed.0.crash_image(Loss::Nothing);
            let store = Store::open(disk.clone()).unwrap();
            match fails {
                true => disk.fail_at(steps),
                false => disk.crash_at(steps),
            }
            let last = disk.operations() + steps;
            let done = add_file(&store, &bytes, &releases);
            drop(store);
            let is_over = disk.operations() < last;
            // Whatever was to fail has failed.
            disk.fail_at(0);
            let found: Vec<_> = images(&disk).chain([(disk.clone(), Loss::Nothing)]).collect();
            // After a crash that disk itself is no more.
            for (image, loss) in &found[..found.len() - usize::from(!fails)] {
                let store = Store::open(image.clone()).unwrap();
                let (findings, _) = look(&store);
                assert_eq!(findings, [], "step {steps}, {loss:?}");
                let (catalog, problems) = store.catalog(host()).unwrap();
                assert!(problems.is_empty());
                outcomes[catalog.len()] = true;
                assert!(done.is_err() || catalog.len() == 2, "step {steps}, {loss:?}");
                add_file(&store, &bytes, &releases).unwrap();
                assert_eq!(look(&store).0, []);
            }
            if is_over {
                done.unwrap();
                break;
            }
        }
        assert!(steps > 30, "{steps}");
        assert_eq!(outcomes, [true; 3], "one after the other");
    }
}

/// On real file systems too; a file that changed since it was looked at is left alone.
#[test]
fn files_are_moved_aside_and_never_twice() {
    fn moved<B: Bed>(bed: &B) {
        let store = new_store(bed);
        add(&store, b"content").unwrap();
        let blob = path::blob(&crate::digest::digest(b"content").id);
        let writer = store.writer().unwrap();
        let file = BadFile::now(&store.disk, &blob).unwrap();
        bed.damage(&blob, |bytes| bytes.push(0));
        assert!(store.set_aside(&writer, &[file], AT).unwrap().is_empty());
        let file = BadFile::now(&store.disk, &blob).unwrap();
        let files = [file.clone(), file];
        let at = store.set_aside(&writer, &files, AT).unwrap();
        let place = Path::new("aside/20261125T021831Z").join(&blob);
        assert_eq!(at, std::slice::from_ref(&place));
        assert_eq!(read_file(&store.disk, &place, 99).unwrap().unwrap(), b"content\0");
        assert_eq!(store.disk.stamp(&blob).unwrap(), None);
        add(&store, b"content").unwrap();
        let file = BadFile::now(&store.disk, &blob).unwrap();
        let at = store.set_aside(&writer, &[file], AT).unwrap();
        assert_eq!(at, [Path::new("aside/20261125T021831Z-2").join(&blob)]);
        let report = fsck(&store, &host(), DATA, &|_, _| {}).unwrap();
        let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["blob-missing"], "what is aside is no finding");
    }
    moved(&crate::disk::beds::OsBed::default());
    moved(&PlainBed::default());
    moved(&SimBed::default());
}
