//! Every durable operation, on stores on which it has something to do.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use dynfs::protocol::{Edit, Used};
use resolver::Release;
use store_fs::release_file::{Wanted, receive, write};
use store_fs::{BadFile, FsckOptions, ReleaseFile, SimDisk, Store, fsck, transfer};

use super::scene::{Act, Rule, Scene};
use crate::parcel::{
    Parcel, add_all, collect, edits, host, new_store, open, prepare, select, submit, words,
};

/// Three packages, two releases of one of them, four generations.
fn stocked() -> SimDisk {
    let disk = SimDisk::default();
    new_store(&disk).expect("an empty disk");
    let parcels = [
        Parcel::new("lib", "xz", "5.2.5", (0, false)),
        Parcel::new("lib", "xz", "5.8.1", (0, false)),
        Parcel::new("app", "curl", "1:8.4", (0, true)),
    ];
    add_all(&disk, &parcels).expect("a good disk");
    let line = [select("xz@5.2.5"), select("curl"), select("xz@5.8.1"), Edit::Undo];
    prepare(&disk, &line);
    disk
}

/// With a release that nothing selects, of so many files, that was removed; and its object in the
/// trash if so.
fn with_garbage(files: usize, is_in_trash: bool) -> SimDisk {
    let disk = stocked();
    let parcel = garbage(files);
    add_all(&disk, std::slice::from_ref(&parcel)).expect("a good disk");
    prepare(&disk, &[Edit::Remove { releases: vec![parcel.id()] }]);
    if is_in_trash {
        prepare(&disk, &[Edit::Trash { used: Vec::new() }]);
    }
    disk
}

fn garbage(files: usize) -> Parcel {
    Parcel::new("lib", "zstd", "1.5", (files, true))
}

fn fresh(files: usize) -> Parcel {
    Parcel::new("data", "tzdata", "2026a", (files, false))
}

fn adding(parcel: fn() -> Parcel) -> Act {
    Box::new(move |disk| add_all(disk, &[parcel()]))
}

fn editing(edit: fn() -> Edit) -> Act {
    Box::new(move |disk| edits(disk, &[edit()]))
}

fn removing() -> Edit {
    Edit::Remove { releases: vec![spare().id()] }
}

/// A release that no generation selects.
fn spare() -> Parcel {
    Parcel::new("lib", "xz", "5.0", (5, false))
}

fn forgetting() -> Edit {
    Edit::Forget { keep: 1, since: None, used: Used::default() }
}

/// Another store with two releases, and both in a release file.
fn elsewhere() -> (SimDisk, Vec<Release>, Vec<u8>) {
    let disk = SimDisk::default();
    let store = new_store(&disk).expect("an empty disk");
    let parcels = [fresh(3), Parcel::new("lib", "bzip2", "1.0", (0, true))];
    let releases: Vec<Release> =
        parcels.iter().map(|parcel| parcel.add(&store).expect("a good disk")).collect();
    let mut bytes = Vec::new();
    write(&store, &releases, &mut bytes, Path::new("file"), &|_| ()).expect("a good disk");
    (disk, releases, bytes)
}

fn publish_all(store: &Arc<Store<SimDisk>>, releases: &[Release]) -> Result<(), String> {
    let edit = |release: &Release| Edit::Publish { release: Box::new(release.clone()) };
    releases.iter().try_for_each(|release| submit(store, &edit(release)).map(drop))
}

fn adding_a_file() -> Act {
    let (_, releases, bytes) = elsewhere();
    Box::new(move |disk| {
        let store = open(disk)?;
        let file = ReleaseFile::open(bytes.as_slice(), Path::new("file")).map_err(words)?;
        receive(&store, file, Wanted::All, false, &|_| ()).map_err(words)?;
        publish_all(&store, &releases)
    })
}

fn copying() -> Act {
    let (from, releases, _) = elsewhere();
    Box::new(move |disk| {
        let (from, to) = (open(&from)?, open(disk)?);
        let objects: BTreeSet<_> = releases.iter().map(|release| release.object).collect();
        transfer::copy(&from, &to, &objects, false, &|_| ()).map_err(words)?;
        publish_all(&to, &releases)
    })
}

/// What one process does, undisturbed by others.
fn alone() -> Vec<Scene> {
    let plain = stocked();
    let spared = stocked();
    add_all(&spared, &[spare()]).expect("a good disk");
    let one =
        |name: &str, edit: fn() -> Edit| Scene::new(name, Rule::OneStep, &plain, editing(edit));
    let apply = || {
        let specs = vec!["xz@5.8.1".parse().expect("a spec")];
        Edit::Apply { specs, providers: Default::default() }
    };
    let two = || Edit::Remove { releases: vec![spare().id(), garbage(0).id()] };
    let both = stocked();
    add_all(&both, &[spare(), garbage(0)]).expect("a good disk");
    vec![
        Scene::new(
            "create",
            Rule::OneStep,
            &SimDisk::default(),
            Box::new(|disk| new_store(disk).map(drop).map_err(words)),
        ),
        Scene::new("add, 2 files", Rule::OneStep, &plain, adding(|| fresh(0))),
        Scene::new("add, 6 files", Rule::OneStep, &plain, adding(|| fresh(4))),
        Scene::new("add, 9 files", Rule::OneStep, &plain, adding(|| fresh(7))),
        Scene::new("add, 20 files", Rule::OneStep, &plain, adding(|| fresh(18))),
        Scene::new("add, a large file", Rule::OneStep, &plain, adding(|| garbage(0))),
        Scene::new(
            "add what is in the trash",
            Rule::OneStep,
            &with_garbage(2, true),
            adding(|| garbage(2)),
        ),
        Scene::new("add a release file", Rule::Steps, &plain, adding_a_file()),
        Scene::new("copy", Rule::Steps, &plain, copying()),
        one("select", || select("xz@5.8.1")),
        one("select a first one", || select("curl@1:8.4")),
        one("undo", || Edit::Undo),
        one("redo", || Edit::Redo),
        one("restore", || Edit::Restore { to: resolver::GenerationNumber(1) }),
        one("unselect", || Edit::Unselect { packages: vec!["curl".parse().expect("a name")] }),
        one("apply", apply),
        Scene::new("remove", Rule::OneStep, &spared, editing(removing)),
        Scene::new("remove two", Rule::Steps, &both, editing(two)),
        Scene::new("gc", Rule::Steps, &spared, Box::new(|disk| collect(disk, 2))),
        Scene::new(
            "gc, again",
            Rule::Steps,
            &with_garbage(6, true),
            Box::new(|disk| collect(disk, 1)),
        ),
        Scene::new(
            "gc, three times",
            Rule::Steps,
            &spared,
            Box::new(|disk| (0..3).try_for_each(|_| collect(disk, 1))),
        ),
    ]
}

/// What one process does after another was killed in the middle.
fn after_kills() -> Vec<Scene> {
    let plain = stocked();
    let spared = stocked();
    add_all(&spared, &[spare()]).expect("a good disk");
    type Pair = (&'static str, fn() -> Act, fn() -> Act);
    let pairs: [Pair; 9] = [
        ("add; the same", || adding(|| fresh(5)), || adding(|| fresh(5))),
        (
            "add; select it",
            || adding(|| fresh(0)),
            || {
                Box::new(|disk| match edits(disk, &[select("tzdata")]) {
                    // It was killed too early.
                    Err(_) if open(disk)?.catalog(host()).map_err(words)?.0.len() == 3 => Ok(()),
                    done => done,
                })
            },
        ),
        ("select; another", || editing(|| select("xz@5.8.1")), || editing(|| select("xz@5.2.5"))),
        ("select; undo", || editing(|| select("xz@5.8.1")), || editing(|| Edit::Undo)),
        ("add; gc", || adding(|| fresh(5)), || Box::new(|disk| collect(disk, 2))),
        ("remove; add again", || editing(removing), || adding(spare)),
        (
            "remove; gc twice",
            || editing(removing),
            || Box::new(|disk| (0..2).try_for_each(|_| collect(disk, 9))),
        ),
        (
            "forget; gc twice",
            || editing(forgetting),
            || Box::new(|disk| (0..2).try_for_each(|_| collect(disk, 1))),
        ),
        (
            "gc; add again",
            || Box::new(|disk| (0..2).try_for_each(|_| collect(disk, 1))),
            || adding(spare),
        ),
    ];
    let mut scenes = Vec::new();
    for (name, first, act) in pairs {
        let base =
            if name.starts_with("add") || name.starts_with("sel") { &plain } else { &spared };
        scenes.extend(Scene::after_kills(name, base, first, act));
    }
    scenes
}

/// `dynfs fsck --repair --from` another store, in the steps of the command.
fn mend(disk: &SimDisk, from: &SimDisk) -> Result<(), String> {
    let (store, from) = (open(disk)?, open(from)?);
    let report = fsck(&store, &host(), FsckOptions { data: true }, &|_, _| {}).map_err(words)?;
    let mut needed = report.needed;
    if needed.is_empty() {
        return Ok(());
    }
    let (catalog, _) = from.catalog(host()).map_err(words)?;
    let lost: Vec<Release> = needed
        .releases
        .keys()
        .filter_map(|id| catalog.get(id))
        .map(|one| (**one).clone())
        .collect();
    needed.objects.extend(lost.iter().map(|release| release.object));
    let is_line = |file: &BadFile| file.generation().is_some();
    let (line, content): (Vec<_>, Vec<_>) = needed.bad.iter().cloned().partition(is_line);
    let line = line.into_iter().chain(needed.newest.clone()).collect();
    submit(&store, &Edit::Repair { aside: content, newest: true, index: false })?;
    if needed.index {
        submit(&store, &Edit::Repair { aside: Vec::new(), newest: true, index: true })?;
    }
    submit(&store, &Edit::Repair { aside: line, newest: true, index: false })?;
    needed.forget_present(&store);
    transfer::fetch(&from, &store, &needed, &|_| ()).map_err(words)?;
    for blob in &needed.outboards {
        store.renew_outboard(blob).map_err(words)?;
    }
    publish_all(&store, &lost)
}

/// Repairs, of each kind of file and of several at once.
fn repairs() -> Vec<Scene> {
    let whole = stocked();
    let every = ["blobs/", "objects/", "outboards/", "releases/xz", "generations/1", "index.redb"];
    let act = || -> Act {
        let from = stocked();
        Box::new(move |disk| mend(disk, &from))
    };
    let one = |begin: &&str| Scene::mending(&format!("repair {begin}"), &whole, &[begin], act());
    let mut scenes: Vec<Scene> = every.iter().map(one).collect();
    scenes.push(Scene::mending("repair the newest", &whole, &["generations/4"], act()));
    scenes.push(Scene::mending("repair everything", &whole, &every, act()));
    scenes
}

pub(super) fn all() -> Vec<Scene> {
    let mut scenes = alone();
    scenes.extend(repairs());
    scenes.extend(after_kills());
    scenes
}
