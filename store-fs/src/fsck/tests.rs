//! Every kind of damage is found, under its code, with the releases that it touches.

use std::path::{Path, PathBuf};

use super::*;
use crate::digest::{GROUP_LEN, digest};
use crate::disk::beds::{Bed, on_every_disk};
use crate::store::tests::{add, content, generation, host, new_store, release};
use crate::{FsckOptions, FsckReport};

on_every_disk! {
    a_whole_store_has_no_findings,
    every_damage_is_found_and_named,
    a_store_with_a_damaged_format_record_is_looked_at,
    a_release_in_another_place_is_damaged,
    two_releases_that_cannot_be_together_are_named,
    an_index_that_says_something_else_is_damaged,
    what_is_collected_meanwhile_is_no_finding,
    what_is_missing_is_found_beside_collections,
}

const OPTIONS: FsckOptions = FsckOptions { data: true };
const LARGE: usize = 3 * GROUP_LEN;

/// A store with two releases, one of a large blob, and two generations.
fn filled<B: Bed>(bed: &B) -> (Vec<Release>, Store<B::Disk>) {
    let store = new_store(bed);
    let writer = store.writer().unwrap();
    let objects = [add(&store, b"small").unwrap(), add(&store, &content(LARGE)).unwrap()];
    let releases = vec![release("small", "1.0", objects[0]), release("large", "1:2.0", objects[1])];
    for release in &releases {
        store.publish_release(&writer, release).unwrap();
    }
    for number in 1..=2 {
        let generation = generation(number, &releases);
        store.write_generation(&writer, &generation).unwrap().publish().unwrap();
    }
    store.catalog(host()).unwrap();
    drop(writer);
    (releases, store)
}

fn look<B: Bed>(bed: &B) -> FsckReport {
    fsck_disk(bed.disk(), &host(), OPTIONS, &|_, _| {}).unwrap()
}

fn found(report: &FsckReport) -> Vec<(&'static str, &Path, Vec<&str>)> {
    let findings = report.findings.iter();
    findings
        .map(|f| (f.code, f.path.as_path(), f.releases.iter().map(String::as_str).collect()))
        .collect()
}

fn a_whole_store_has_no_findings<B: Bed>(bed: &B) {
    let (_, store) = filled(bed);
    let steps = std::cell::RefCell::new(Vec::new());
    let progress = |done, total| steps.borrow_mut().push((done, total));
    let report = fsck(&store, &host(), OPTIONS, &progress).unwrap();
    let expected = FsckReport {
        generations: 2,
        releases: 2,
        objects: 2,
        blobs: 2,
        bytes: 5 + LARGE as u64,
        findings: Vec::new(),
        needed: Needed::default(),
    };
    assert_eq!(report, expected);
    let total = 2 + 2 + 2 + 2 + 1;
    assert!(steps.into_inner().into_iter().eq((1..=total).map(|done| (done, total))));
    let quick = fsck(&store, &host(), FsckOptions::default(), &|_, _| {}).unwrap();
    assert_eq!(quick, FsckReport { bytes: 0, ..expected });
}

fn every_damage_is_found_and_named<B: Bed>(_: &B) {
    type Break<B> = fn(&B, &Path);
    let flip: Break<B> = |bed, path| {
        bed.damage(path, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    };
    let cut: Break<B> = |bed, path| bed.damage(path, |bytes| bytes.truncate(4));
    let remove: Break<B> = |bed, path| assert!(bed.disk().remove(path).unwrap());
    let stranger: Break<B> = |bed, path| {
        let disk = bed.disk();
        let temp = disk.temp().unwrap();
        assert!(disk.link(&temp, path).unwrap());
    };
    let (large, small) = (digest(&content(LARGE)).id, digest(b"small").id);
    let one = vec!["large@1:2.0,debug"];
    let (blob, outboard) = (paths::blob(&large), paths::outboard(&large));
    let generation = PathBuf::from("generations/1");
    type Case<B> = (Break<B>, PathBuf, &'static str, Vec<&'static str>);
    let cases: Vec<Case<B>> = vec![
        (flip, paths::FORMAT.into(), "format-damaged", vec![]),
        (flip, generation.clone(), "generation-damaged", vec![]),
        (cut, generation, "generation-damaged", vec![]),
        (flip, blob.clone(), "blob-damaged", one.clone()),
        (cut, blob.clone(), "blob-damaged", one.clone()),
        (remove, blob, "blob-missing", one.clone()),
        (flip, outboard.clone(), "outboard-damaged", one.clone()),
        (cut, outboard.clone(), "outboard-damaged", one.clone()),
        (remove, outboard, "outboard-missing", one),
        (flip, paths::blob(&small), "blob-damaged", vec!["small@1.0,debug"]),
        (flip, paths::INDEX.into(), "index-damaged", vec![]),
        (cut, paths::INDEX.into(), "index-damaged", vec![]),
        (stranger, "stranger".into(), "name-unexpected", vec![]),
        (stranger, "generations/07".into(), "name-unexpected", vec![]),
        (stranger, "releases/stranger".into(), "name-unexpected", vec![]),
        (stranger, "blobs/zz".into(), "name-unexpected", vec![]),
        (stranger, format!("{}x", paths::blob(&small).display()).into(), "name-unexpected", vec![]),
    ];
    for (damage, path, code, releases) in cases {
        let bed = B::default();
        let store = filled(&bed);
        damage(&bed, &path);
        let report = look(&bed);
        assert_eq!(found(&report), [(code, path.as_path(), releases)], "{report:#?}");
        drop(store);
    }
    dangling::<B>(remove, flip);
}

/// Damage that touches more than one file.
fn dangling<B: Bed>(remove: fn(&B, &Path), flip: fn(&B, &Path)) {
    let name = "large@1:2.0,debug";
    let bed = B::default();
    let (releases, _store) = filled(&bed);
    let (object, record) =
        (paths::object(&releases[1].object), paths::release(&releases[1].id).unwrap());
    let generations = [Path::new("generations/1"), Path::new("generations/2")];
    flip(&bed, &object);
    let report = look(&bed);
    assert_eq!(found(&report), [("object-damaged", object.as_path(), vec![name])]);
    remove(&bed, &object);
    let report = look(&bed);
    let expected = [
        ("generation-dangling", generations[0], vec![name]),
        ("generation-dangling", generations[1], vec![name]),
        ("release-dangling", record.as_path(), vec![name]),
    ];
    assert_eq!(found(&report), expected);
    let bed = B::default();
    let _store = filled(&bed);
    flip(&bed, &record);
    let report = look(&bed);
    let expected = [
        ("generation-dangling", generations[0], vec![name]),
        ("generation-dangling", generations[1], vec![name]),
        ("release-damaged", record.as_path(), vec![]),
    ];
    assert_eq!(found(&report), expected);
}

fn a_store_with_a_damaged_format_record_is_looked_at<B: Bed>(bed: &B) {
    let _store = filled(bed);
    bed.damage(Path::new(paths::FORMAT), Vec::clear);
    Store::open(bed.disk()).unwrap_err();
    let report = look(bed);
    assert_eq!(found(&report), [("format-damaged", Path::new(paths::FORMAT), vec![])]);
    assert_eq!((report.generations, report.blobs), (2, 2));
}

fn a_release_in_another_place_is_damaged<B: Bed>(bed: &B) {
    let (releases, store) = filled(bed);
    let places = [0, 1].map(|n: usize| paths::release(&releases[n].id).unwrap());
    let mut moved = Vec::new();
    bed.damage(&places[0], |bytes| moved.clone_from(bytes));
    bed.damage(&places[1], |bytes| bytes.clone_from(&moved));
    let report = look(bed);
    assert!(found(&report).contains(&("release-damaged", places[1].as_path(), vec![])));
    let (catalog, problems) = store.catalog(host()).unwrap();
    assert_eq!((catalog.len(), problems.len()), (1, 1));
}

fn two_releases_that_cannot_be_together_are_named<B: Bed>(bed: &B) {
    let (releases, store) = filled(bed);
    let mut other = releases[0].clone();
    other.id.version = "2.0".parse().unwrap();
    other.category = "app".parse().unwrap();
    let writer = store.writer().unwrap();
    store.publish_release(&writer, &other).unwrap();
    let path = paths::release(&other.id).unwrap();
    let report = look(bed);
    assert_eq!(found(&report), [("release-conflict", path.as_path(), vec!["small@2.0,debug"])]);
}

fn an_index_that_says_something_else_is_damaged<B: Bed>(bed: &B) {
    let (releases, store) = filled(bed);
    let disk = store.disk();
    let mut index = crate::store::Index::default();
    let path = paths::release(&releases[0].id).unwrap();
    let wrong = Release { build_ids: Vec::new(), ..releases[0].clone() };
    let stamp = disk.stamp(&path).unwrap().unwrap();
    index.insert(path, crate::store::IndexRow { stamp, release: wrong.into() });
    index.save(disk).unwrap();
    let report = look(bed);
    assert_eq!(found(&report), [("index-damaged", Path::new(paths::INDEX), vec![])]);
}

/// Lets go of one of the releases, in the order in which a collection does: its names, or then its
/// content.
fn let_go<D: Disk>(store: &Store<D>, release: &Release, blob: &BlobId, is_content: bool) {
    let paths = match is_content {
        true => vec![paths::object(&release.object), paths::blob(blob), paths::outboard(blob)],
        false => vec![
            PathBuf::from("generations/1"),
            PathBuf::from("generations/2"),
            paths::release(&release.id).unwrap(),
        ],
    };
    for path in paths {
        store.disk().remove(&path).unwrap();
    }
}

/// Whatever is let go of while this looks, and whether it comes again: after every file that is
/// looked at, names go, and after every later one what only they needed.
fn what_is_collected_meanwhile_is_no_finding<B: Bed>(_: &B) {
    let large = digest(&content(LARGE)).id;
    for names_at in 0..=8 {
        for content_at in names_at..=9 {
            for again_at in [content_at + 1, 99] {
                let bed = B::default();
                let (releases, store) = filled(&bed);
                let progress = |done, _| {
                    if done == names_at {
                        let_go(&store, &releases[1], &large, false);
                    }
                    if done == content_at {
                        let_go(&store, &releases[1], &large, true);
                    }
                    if done == again_at {
                        add(&store, &content(LARGE)).unwrap();
                        store.publish_release(&store.writer().unwrap(), &releases[1]).unwrap();
                    }
                };
                progress(0, 0);
                let report = fsck(&store, &host(), OPTIONS, &progress).unwrap();
                let when = format!("{names_at}, {content_at}, {again_at}");
                assert_eq!(report.findings, [], "{when}");
                assert!(report.needed.is_empty(), "{when}: {:?}", report.needed);
            }
        }
    }
}

/// What the other release needs is missed all the same, also when it goes while this looks.
fn what_is_missing_is_found_beside_collections<B: Bed>(_: &B) {
    let (large, small) = (digest(&content(LARGE)).id, digest(b"small").id);
    for at in 0..=6 {
        let bed = B::default();
        let (releases, store) = filled(&bed);
        let progress = |done, _| {
            if done == at {
                let_go(&store, &releases[1], &large, false);
                let_go(&store, &releases[1], &large, true);
                store.disk().remove(&paths::blob(&small)).unwrap();
            }
        };
        progress(0, 0);
        let report = fsck(&store, &host(), OPTIONS, &progress).unwrap();
        let path = paths::blob(&small);
        let expected = ("blob-missing", path.as_path(), vec!["small@1.0,debug"]);
        assert_eq!(found(&report), [expected], "{at}: {report:#?}");
    }
}

#[test]
fn nothing_is_no_store_and_a_newer_one_is_refused() {
    let looked = fsck_disk(crate::SimDisk::default(), &host(), OPTIONS, &|_, _| {});
    assert!(matches!(looked, Err(StoreError::Absent { .. })));
}
