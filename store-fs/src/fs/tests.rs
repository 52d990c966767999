//! What the model of a kernel does not ask: wrong questions, full tables, damaged files, order.

use std::path::Path;
use std::sync::atomic::Ordering;

use resolver::{
    Action, Arch, Category, Cause, Generation, Origin, Provides, Release, ReleaseId, Selection,
    Selections, Timestamp, Why,
};

use super::*;
use crate::memory::Geometry;
use crate::{Prefix, SimDisk, TreeBuilder};

struct Bench {
    store: Arc<Store<SimDisk>>,
    memory: Arc<Memory>,
    releases: Vec<Arc<Release>>,
    fs: DynFs<SimDisk>,
}

const SMALL: Geometry = Geometry { slots: 64, buckets: 128, heap: 1024 };

impl Bench {
    /// Two releases of `lib/xz` (the first is selected) and one of `app/curl`.
    fn new(geometry: Geometry) -> Self {
        let prefix = Prefix::new(Path::new("/dyn")).unwrap();
        let store = Arc::new(Store::create(SimDisk::default(), &prefix).unwrap());
        let releases = [("xz", "lib", "5.2"), ("xz", "lib", "5.8"), ("curl", "app", "8")];
        let releases: Vec<_> = releases
            .map(|(name, category, version)| {
                let release = release(&store, name, category, version);
                store.publish_release(&store.writer().unwrap(), &release).unwrap();
                Arc::new(release)
            })
            .into();
        let memory = Arc::new(Memory::create_with(geometry).unwrap());
        let shown = state(&store, 1, &releases, &[0]);
        let fs = DynFs::new(store.clone(), memory.clone(), shown);
        Self { store, memory, releases, fs }
    }

    fn state(&self, number: u64, releases: &[Arc<Release>], selected: &[usize]) -> Shown {
        state(&self.store, number, releases, selected)
    }

    fn walk(&self, path: &str) -> Option<Attr> {
        path.split('/').try_fold(self.fs.attr(Ino::ROOT).unwrap(), |at, name| {
            Some(self.fs.lookup(at.ino, name.as_bytes()).unwrap()?.attr)
        })
    }

    fn list(&self, path: &str, offset: u64, most: usize) -> Vec<(String, u64, bool)> {
        let dir = if path.is_empty() { Ino::ROOT } else { self.walk(path).unwrap().ino };
        let mut lines = Vec::new();
        let add = &mut |line: DirEntry<'_>| {
            let name = String::from_utf8(line.name.to_vec()).unwrap();
            let full = lines.len() == most;
            if !full {
                lines.push((name, line.offset, line.entry.is_some()));
            }
            full
        };
        self.fs.readdir(dir, offset, true, add).unwrap();
        lines
    }

    fn names(&self, path: &str) -> Vec<String> {
        self.list(path, 2, usize::MAX).into_iter().map(|(name, ..)| name).collect()
    }
}

/// Selections that cannot be read are an error, and never a guess; all else goes on.
#[test]
fn a_withheld_tree_is_an_error_until_something_is_shown() {
    let bench = Bench::new(SMALL);
    let known = bench.walk("lib/xz/readme").unwrap();
    let lib = bench.walk("lib").unwrap().ino;
    bench.fs.withhold("generations/1 is damaged");
    let errno = |result: Result<Option<Entry>, FsError>| result.map(drop).map_err(|e| e.errno());
    assert_eq!(errno(bench.fs.lookup(lib, b"xz")), Err(Errno::IO.raw_os_error()));
    assert_eq!(errno(bench.fs.lookup(lib, b"missing")), Err(Errno::IO.raw_os_error()));
    let listed = bench.fs.readdir(lib, 0, true, &mut |_| false);
    assert_eq!(listed.unwrap_err().errno(), Errno::IO.raw_os_error());
    assert_eq!(bench.fs.attr(known.ino).unwrap(), known, "what is known goes on");
    assert!(bench.fs.lookup(lib, b"xz@5.8").unwrap().is_some(), "releases by version go on");
    assert!(bench.walk("app/curl@8").is_some(), "in a category too that nobody has looked up");
    assert!(bench.walk(".generations/1/lib/xz").is_some(), "frozen trees go on");
    bench.fs.show((*bench.fs.shown()).clone());
    assert_eq!(bench.walk("lib/xz/readme"), Some(known));
}

/// Garbage collection takes a generation's file first, and shows that it is gone then.
#[test]
fn a_generation_that_is_being_collected_is_stale_and_not_damaged() {
    let bench = Bench::new(SMALL);
    let frozen = bench.walk(".generations/1").unwrap().ino;
    let writer = bench.store.writer().unwrap();
    bench.store.remove_generations(&writer, &[GenerationNumber(1)]).unwrap();
    let error = bench.fs.lookup(frozen, b"elsewhere").unwrap_err();
    assert!(matches!(error, FsError::UnknownInode(ino) if ino == frozen), "{error}");
}

/// A kernel that was told of a state which is lost is told of every name that it can know.
#[test]
fn a_lost_state_is_made_up_for() {
    let bench = Bench::new(SMALL);
    bench.walk("lib/xz/readme").unwrap();
    let lib = bench.walk("lib").unwrap().ino;
    let app = bench.walk("app").unwrap().ino;
    assert!(bench.fs.lookup(app, b"curl").unwrap().is_none(), "the kernel keeps a miss");
    let memory = bench.memory.clone();
    let only_curl = bench.state(2, &bench.releases, &[2]);
    let successor = DynFs::new(bench.store.clone(), memory, only_curl);
    let told = successor.catch_up_blindly(&[]);
    for (dir, name) in [(lib, "xz"), (app, "curl"), (Ino::ROOT, "lib")] {
        let entry = (dir, name.as_bytes().to_vec());
        assert!(told.entries.contains(&entry), "{name} is not told: {told:?}");
    }
    for dir in [Ino::ROOT, lib] {
        assert!(told.lists.contains(&dir), "a list is not told: {told:?}");
    }
}

/// What a log calls a node leads to it whatever is selected; of a release that is gone, by object.
#[test]
fn where_a_node_is() {
    let bench = Bench::new(SMALL);
    let at = |path: &str, name: &str| {
        let ino = if path.is_empty() { Ino::ROOT } else { bench.walk(path).unwrap().ino };
        bench.fs.whereabouts(ino, name.as_bytes()).to_string()
    };
    for (path, name, whereabouts) in [
        ("", "", ""),
        ("", "lib", "lib"),
        ("lib", "xz", "lib/xz"),
        (".generations/1/lib", "xz", ".generations/1/lib/xz"),
        ("lib/xz", "", "lib/xz@5.2"),
        ("lib/xz/bin", "tool", "lib/xz@5.2/bin/tool"),
        ("lib/xz/readme", "", "lib/xz@5.2/readme"),
        (".generations/1/lib/xz/link", "", "lib/xz@5.2/link"),
    ] {
        assert_eq!(at(path, name), whereabouts, "{path} {name}");
    }
    assert_eq!(bench.fs.whereabouts(Ino(u64::MAX), b"").to_string(), format!("inode {}", u64::MAX));
    let file = bench.walk("lib/xz@5.8/readme").unwrap().ino;
    let gone = &bench.releases[1];
    let left = [bench.releases[0].clone(), bench.releases[2].clone()];
    bench.fs.show(bench.state(1, &left, &[0]));
    let whereabouts = bench.fs.whereabouts(file, b"").to_string();
    assert_eq!(whereabouts, format!(".objects/{}/readme", gone.object));
}

fn release(store: &Store<SimDisk>, name: &str, category: &str, version: &str) -> Release {
    let addition = store.add().unwrap();
    let mut tree = TreeBuilder::new();
    let text = format!("{name} {version}");
    let blob = addition.bytes(text.as_bytes()).unwrap();
    tree.file(b"bin/tool", blob, text.len() as u64, 77, true).unwrap();
    tree.file(b"readme", blob, text.len() as u64, 78, false).unwrap();
    tree.symlink(b"link", b"readme").unwrap();
    tree.dir(b"lib").unwrap();
    let commands = [format!("{name}-tool").parse().unwrap()].into();
    Release {
        id: ReleaseId {
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
            arch: Arch::new("amd64").unwrap(),
            variants: [].into(),
        },
        category: Category::new(category).unwrap(),
        object: addition.finish(tree).unwrap().id(),
        needs: Vec::new(),
        provides: Provides { commands, ..Provides::default() },
        build_ids: Vec::new(),
        origin: Origin::default(),
    }
}

/// The state of a new generation with these releases selected.
fn state(
    store: &Store<SimDisk>,
    number: u64,
    releases: &[Arc<Release>],
    selected: &[usize],
) -> Shown {
    let mut catalog = Catalog::new(Arch::new("amd64").unwrap());
    let mut system = Selections::default();
    for release in releases {
        catalog.insert(release.clone()).unwrap();
    }
    for release in selected.iter().map(|number| &releases[*number]) {
        let selection = Selection {
            release: release.id.clone(),
            category: release.category.clone(),
            object: release.object,
            why: Why::NeededBy(release.id.name.clone()),
            previous: None,
        };
        system.packages.insert(release.id.name.clone(), selection);
    }
    let view = Arc::new(View::compile(&system, &catalog));
    let cause = Cause { action: Action::Apply, uid: 0, request: None };
    let generation = GenerationNumber(number);
    let parent = (number > 1).then(|| GenerationNumber(number - 1));
    let at = Timestamp(0);
    let record = Generation { number: generation, parent, at, cause, system };
    if !store.generations().unwrap().contains(&generation) {
        let writer = store.writer().unwrap();
        store.write_generation(&writer, &record).unwrap().publish().unwrap();
    }
    let generations = Arc::new((1..=number).map(GenerationNumber).collect());
    Shown { generation, view, catalog: Arc::new(catalog), generations }
}

#[test]
fn every_error_has_its_number() {
    let store = StoreError::Absent { path: "/".into() };
    for (error, name) in [
        (FsError::UnknownInode(Ino(9)), Errno::STALE),
        (FsError::Absent, Errno::NOENT),
        (FsError::NotDirectory(Ino(9)), Errno::NOTDIR),
        (FsError::NotSymlink(Ino(9)), Errno::INVAL),
        (FsError::NotFile(Ino(9)), Errno::ISDIR),
        (FsError::NameTooLong, Errno::NAMETOOLONG),
        (FsError::SlotsFull, Errno::NFILE),
        (FsError::Store(store), Errno::IO),
    ] {
        assert_eq!(error.errno(), name.raw_os_error(), "{error}");
    }
}

#[test]
fn wrong_questions_are_refused() {
    let bench = Bench::new(SMALL);
    let ino = |path| bench.walk(path).unwrap().ino;
    let (file, link, dir) = (ino("lib/xz/readme"), ino("lib/xz/link"), ino("lib/xz"));
    let union = ino("bin/xz-tool");
    let fs = &bench.fs;
    let list = |ino| fs.readdir(ino, 0, false, &mut |_| panic!("no line")).unwrap_err().errno();
    let lookup = |ino| fs.lookup(ino, b"a").unwrap_err().errno();
    for ino in [file, link, union] {
        assert_eq!([list(ino), lookup(ino)], [Errno::NOTDIR.raw_os_error(); 2], "{ino:?}");
    }
    for ino in [file, dir, Ino::ROOT] {
        assert_eq!(fs.readlink(ino).unwrap_err().errno(), Errno::INVAL.raw_os_error());
    }
    for ino in [link, dir, union, Ino::ROOT] {
        let error = fs.read(ino, 0, 1, &mut Vec::new()).unwrap_err();
        assert_eq!(error.errno(), Errno::ISDIR.raw_os_error());
    }
    let long = [b'x'; NAME_LEN_MAX + 1];
    assert!(matches!(fs.lookup(dir, &long), Err(FsError::NameTooLong)));
    assert_eq!(fs.lookup(dir, &long[1..]).unwrap(), None);
    assert_eq!(fs.lookup(Ino::ROOT, b"\xff").unwrap(), None);
    let (object, _) = file.parts();
    let (shown, _) = dir.parts();
    let (place, _) = ino("lib").parts();
    for unknown in [
        Ino(0),
        Ino(u64::MAX),
        Ino::new(object, 0),
        Ino::new(object, 1),
        Ino::new(object, 999),
        Ino::new(shown, 0),
        Ino::new(shown, file.parts().1),
        Ino::new(place, 2),
        Ino::new(union.parts().0, 2),
    ] {
        let error = fs.attr(unknown).unwrap_err();
        assert_eq!(error.errno(), Errno::STALE.raw_os_error(), "{unknown:?}");
    }
}

#[test]
fn files_are_one_inode_everywhere_and_directories_one_a_place() {
    let bench = Bench::new(Geometry::STANDARD);
    let places = ["lib/xz", "lib/xz@5.2", ".generations/1/lib/xz", ".generations/1;xz@5.2/lib/xz"];
    let at = |name: &str| -> BTreeSet<Ino> {
        places.iter().map(|place| bench.walk(&format!("{place}{name}")).unwrap().ino).collect()
    };
    assert_eq!(at("/readme").len(), 1);
    assert_eq!(at("").len(), places.len());
    assert_eq!(at("/lib").len(), places.len());
    assert_eq!(at("/link").len(), places.len());
    let object = bench.releases[0].object;
    assert!(at("/link").into_iter().all(|ino| bench.fs.held(ino) == Some(Held::Object(object))));
    assert_eq!(bench.fs.held(Ino::ROOT), None);
    let readme = at("/readme").pop_first().unwrap();
    assert_eq!(bench.fs.held(readme), Some(Held::Object(object)));
}

#[test]
fn only_the_canonical_name_of_a_changed_generation_is_there() {
    let bench = Bench::new(Geometry::STANDARD);
    let dir = bench.walk(".generations").unwrap().ino;
    for (name, there) in [
        ("1", true),
        ("1;curl@8;xz@5.8", true),
        ("1;xz@5.8", true),
        ("1;xz@5.8;curl@8", false),
        ("1;xz@5.2;xz@5.8", false),
        ("1;xz@5.8;xz@5.8", false),
        ("1;xz@5", false),
        ("1;xz", false),
        ("1;", false),
        ("1;xz@5.8;", false),
        ("2;xz@5.8", false),
        ("01;xz@5.8", false),
    ] {
        let found = match bench.fs.lookup(dir, name.as_bytes()) {
            Err(FsError::Absent) => false,
            answer => answer.unwrap().is_some(),
        };
        assert_eq!(found, there, "{name}");
    }
    let text = |path| {
        let mut bytes = Vec::new();
        bench.fs.read(bench.walk(path).unwrap().ino, 0, 100, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(text(".generations/1;curl@8;xz@5.8/lib/xz/readme"), "xz 5.8");
    assert_eq!(text(".generations/1/lib/xz/readme"), "xz 5.2");
    let names = bench.names(".generations/1;curl@8;xz@5.8/bin");
    assert_eq!(names, ["curl-tool", "xz-tool"]);
}

#[test]
fn a_reader_goes_on_behind_its_offset_whatever_came_or_went() {
    let bench = Bench::new(Geometry::STANDARD);
    let first = bench.list("", 0, 3);
    assert_eq!(first[..2], [(".".into(), 1, false), ("..".into(), 2, false)]);
    let offset = first[2].1;
    let before = bench.names("");
    assert_eq!(before, ["bin", "so", "app", "lib"]);
    let extra = Arc::new(release(&bench.store, "awk", "aaa", "1"));
    let mut releases = bench.releases.clone();
    releases.remove(2);
    releases.push(extra);
    bench.fs.show(bench.state(2, &releases, &[0]));
    let rest: Vec<_> =
        bench.list("", offset, usize::MAX).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(rest, ["so", "lib", "aaa"]);
    assert_eq!(bench.list("", u64::MAX, usize::MAX), []);

    let inside = bench.list("lib/xz", 0, usize::MAX);
    let names: Vec<&str> = inside.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, [".", "..", "bin", "lib", "link", "readme"]);
    for (place, (_, offset, _)) in inside.iter().enumerate() {
        assert_eq!(bench.list("lib/xz", *offset, usize::MAX), inside[place + 1..]);
    }
}

#[test]
fn a_listing_never_opens_an_object_for_attributes() {
    let bench = Bench::new(Geometry::STANDARD);
    let with_attributes = |bench: &Bench| bench.list("lib", 2, 1)[0].2;
    assert!(!with_attributes(&bench), "nobody looked at xz yet");
    let links = bench.walk("lib/xz").unwrap().nlink;
    assert_eq!(links, 4);
    assert!(with_attributes(&bench));
    // A swap looks at what it shows before it shows it.
    let shown = bench.state(2, &bench.releases, &[1]);
    let operations = || bench.store.disk().operations();
    bench.fs.show(shown);
    let before = operations();
    assert_eq!(bench.walk("lib/xz").unwrap().nlink, links);
    assert!(with_attributes(&bench));
    assert_eq!(operations(), before, "no lookup waits for the disk");
}

#[test]
fn frozen_trees_cannot_use_up_the_live_one() {
    let bench = Bench::new(SMALL);
    let mut full = 0;
    for number in 1..=40 {
        let name = format!(".generations/{number}");
        bench.fs.show(bench.state(number, &bench.releases, &[0]));
        let parts: Vec<&str> = name.split('/').collect();
        let dir = bench.walk(parts[0]).unwrap().ino;
        if let Err(error) = bench.fs.lookup(dir, parts[1].as_bytes()) {
            assert!(matches!(error, FsError::SlotsFull));
            full += 1;
        }
        for name in ["bin", "so", "lib"] {
            if full == 0 {
                let top = bench.walk(&format!(".generations/{number}")).unwrap().ino;
                full += u32::from(bench.fs.lookup(top, name.as_bytes()).is_err());
            }
        }
    }
    assert!(full > 0, "the table of this test is small");
    assert!(bench.walk("lib/xz/readme").is_some());
    assert!(bench.walk("lib/xz@5.8/readme").is_some());
    assert!(bench.walk("bin/xz-tool").is_some());
    let generations = bench.walk(".generations").unwrap().ino;
    let listed = bench.fs.readdir(generations, 0, false, &mut |_| panic!("no line"));
    assert!(matches!(listed, Err(FsError::SlotsFull)));
}

#[test]
fn a_damaged_file_is_an_error_with_its_path() {
    let bench = Bench::new(Geometry::STANDARD);
    let file = bench.walk("lib/xz/readme").unwrap().ino;
    let text = b"xz 5.2".as_slice();
    let damaged = bench.store.disk().files().into_iter().find(|path| {
        let mut hit = false;
        bench.store.disk().damage(path, |bytes| {
            hit = bytes == text;
            if hit {
                bytes[0] ^= 1;
            }
        });
        hit
    });
    let damaged = damaged.expect("the blob is stored as it is");
    let mut buffer = b"kept".to_vec();
    let error = bench.fs.read(file, 0, 100, &mut buffer).unwrap_err();
    assert_eq!(error.errno(), Errno::IO.raw_os_error());
    let message = error.to_string();
    assert!(message.contains(damaged.file_name().unwrap().to_str().unwrap()), "{message}");
    assert_eq!(buffer, b"kept");
    assert!(bench.walk("lib/xz/link").is_some(), "the rest keeps working");
}

#[test]
fn reads_stop_at_the_end() {
    let bench = Bench::new(Geometry::STANDARD);
    let file = bench.walk("lib/xz/readme").unwrap().ino;
    for (offset, len, expected) in
        [(0, 2, "xz"), (3, 100, "5.2"), (6, 1, ""), (u64::MAX, u32::MAX, ""), (0, 0, "")]
    {
        let mut buffer = Vec::new();
        bench.fs.read(file, offset, len, &mut buffer).unwrap();
        assert_eq!(buffer, expected.as_bytes(), "{len} bytes at {offset}");
    }
}

#[test]
fn what_is_stored_is_counted_in_whole_blocks() {
    for (size, sectors) in [(0, 0), (1, 8), (4_096, 8), (4_097, 16), (1 << 62, 1 << 53)] {
        let (kind, perm, nlink, mtime) = (Kind::File, 0o444, 1, 0);
        let attr = Attr { ino: Ino::ROOT, kind, size, perm, nlink, mtime };
        assert_eq!(attr.sectors(), sectors, "{size} bytes");
    }
}

#[test]
fn statistics_count_what_was_looked_at() {
    let bench = Bench::new(Geometry::STANDARD);
    assert_eq!(bench.fs.statistics().files, 0);
    bench.walk("lib/xz").unwrap();
    bench.walk("app/curl@8").unwrap();
    let statistics = bench.fs.statistics();
    assert_eq!((statistics.blocks, statistics.files), (2, 6));
}

#[test]
fn what_is_told_is_what_differs_and_could_be_known() {
    let bench = Bench::new(Geometry::STANDARD);
    let two = bench.state(2, &bench.releases, &[1]);
    assert_eq!(bench.fs.show(two.clone()), Announcement::default(), "nobody looked at anything");
    let lib = bench.walk("lib").unwrap().ino;
    let generations = bench.walk(".generations").unwrap().ino;
    let told = bench.fs.show(bench.state(3, &bench.releases, &[0]));
    assert_eq!(
        told,
        Announcement {
            entries: vec![(generations, b"3".to_vec()), (lib, b"xz".to_vec())],
            waits: vec![Ino::ROOT],
            lists: vec![generations],
        }
    );
    let again = bench.state(3, &bench.releases, &[0]);
    assert_eq!(bench.fs.show(again), Announcement::default(), "nothing differs");
    // A successor that finds the same state and what its predecessor promised.
    let successor =
        DynFs::new(bench.store.clone(), bench.memory.clone(), (*bench.fs.shown()).clone());
    assert_eq!(successor.catch_up(&two, &[]), told);
    let promised = ["lib/xz@6".to_owned(), "bin/none".to_owned(), "a/b/c/d".to_owned()];
    let caught_up = successor.catch_up(&bench.fs.shown(), &promised);
    assert_eq!(caught_up.entries, [(lib, b"xz@6".to_vec())]);
}

#[test]
fn names_of_a_catalog_change_are_told_in_frozen_trees_too() {
    let bench = Bench::new(Geometry::STANDARD);
    let frozen = bench.walk(".generations/1/lib").unwrap().ino;
    let top = bench.walk(".generations/1").unwrap().ino;
    let objects = bench.walk(".objects").unwrap().ino;
    let generations = bench.walk(".generations").unwrap().ino;
    bench.walk(".generations/1;xz@5.8/lib/xz").unwrap();
    let mut fewer = bench.state(1, &bench.releases[..1], &[0]);
    let old = bench.fs.shown();
    let told = bench.fs.show(fewer.clone());
    let object = |release: usize| bench.releases[release].object.to_string().into_bytes();
    for entry in [
        (frozen, b"xz@5.8".to_vec()),
        (top, b"app".to_vec()),
        (Ino::ROOT, b"app".to_vec()),
        (objects, object(1)),
        (objects, object(2)),
        (generations, b"1;xz@5.8".to_vec()),
    ] {
        assert!(told.entries.contains(&entry), "{entry:?} in {told:?}");
    }
    assert!(told.lists.contains(&Ino::ROOT) && !told.lists.contains(&frozen));
    assert!(!told.entries.contains(&(generations, b"1".to_vec())));
    let names = catalog_names(&old.catalog, &fewer.catalog);
    let promised =
        ["app".into(), "app/curl@8".into(), "lib/xz@5.8".into()].map(|name: String| name);
    assert_eq!(names[..3], promised);
    assert_eq!(names.len(), 5);
    // The generation goes too: whatever is below it is stale.
    fewer.generations = Arc::default();
    let told = bench.fs.show(fewer);
    assert!(told.entries.contains(&(generations, b"1".to_vec())));
    assert!(matches!(bench.fs.attr(frozen), Err(FsError::UnknownInode(_))));
}

#[test]
fn a_table_that_lies_is_not_believed() {
    let bench = Bench::new(SMALL);
    let file = bench.walk("lib/xz/readme").unwrap().ino;
    let (slot, _) = file.parts();
    let word = crate::memory::TABLE_BASE + slot as usize * 2 + 1;
    bench.memory.words()[word].store(u64::MAX, Ordering::Relaxed);
    assert!(matches!(bench.fs.attr(file), Err(FsError::UnknownInode(_))));
}
