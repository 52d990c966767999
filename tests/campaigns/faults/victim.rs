//! A store with everything in it that a store can hold, and who needs which of its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dynfs::protocol::Edit;
use resolver::{Release, Selections};
use store_fs::release_file::write;
use store_fs::{DynFs, Ino, Loss, SimDisk};

use super::fault::bytes_of;
use crate::parcel::{LARGE, Parcel, add_all, content, new_store, open, prepare, select, words};
use crate::seen::{Seen, Thing, Walk, names, serve};

/// Directories and files at the top of a store, each a kind of file.
pub(super) const KINDS: [&str; 10] = [
    "blobs",
    "outboards",
    "objects",
    "releases",
    "generations",
    "index.redb",
    "format",
    "trash",
    "lock",
    "adding",
];

/// A store with everything in it.
pub(super) struct Victim {
    pub(super) disk: SimDisk,
    /// What is right.
    pub(super) right: Seen,
    /// What is right when the newest generation was never made.
    pub(super) before_newest: Seen,
    pub(super) names: BTreeSet<String>,
    /// What is in the files below the mount.
    pub(super) contents: BTreeMap<String, Vec<u8>>,
    /// Paths of packages below the mount, by the path of their object.
    pub(super) places: BTreeMap<PathBuf, Vec<String>>,
    pub(super) newest: PathBuf,
    /// Objects and records that no generation selects.
    pub(super) unselected: BTreeSet<PathBuf>,
    /// Content that only what is in the trash names.
    pub(super) garbage: BTreeSet<PathBuf>,
    pub(super) files: BTreeMap<&'static str, Vec<PathBuf>>,
    pub(super) release_file: Vec<u8>,
}

fn parcels() -> Vec<Parcel> {
    let mut all = vec![
        Parcel::new("lib", "xz", "5.2.5", (2, false)),
        Parcel::new("lib", "xz", "5.8.1", (2, false)),
        Parcel::new("lib", "xz", "5.8.1", (3, false)),
        Parcel::new("app", "curl", "1:8.4", (1, true)),
        Parcel::new("lib", "zstd", "1.5", (1, true)),
    ];
    all[2].variants = &["debug"];
    all[3].files.push(("share/empty.txt".into(), Vec::new()));
    let large = [content("x", LARGE), vec![0; 2 * 65_536], content("y", 3)].concat();
    all[3].files.push(("share/zeros".into(), large));
    all
}

fn object_path(id: &resolver::ObjectId) -> PathBuf {
    let id = id.to_string();
    Path::new("objects").join(&id[..2]).join(&id)
}

/// The place of each selected package below `tree`, by its object.
fn places_in(tree: &str, system: &Selections, mut take: impl FnMut(PathBuf, String)) {
    for selection in system.packages.values() {
        let place = format!("{tree}{}/{}", selection.category, selection.release.name);
        take(object_path(&selection.object), place);
    }
}

impl Victim {
    pub(super) fn new() -> Self {
        let disk = SimDisk::default();
        new_store(&disk).expect("an empty disk");
        let all = parcels();
        add_all(&disk, &all).expect("a good disk");
        let line = [
            select("xz@5.2.5"),
            select("curl"),
            select("xz@5.8.1,debug"),
            Edit::Undo,
            Edit::Remove { releases: vec![all[4].id()] },
            Edit::Trash { used: Vec::new() },
        ];
        prepare(&disk, &line);
        let disk = disk.crash_image(Loss::Nothing);
        let (right, names, fs) = look(&disk);
        let newest = Path::new("generations").join(fs.shown().generation.to_string());
        let without = disk.fork();
        store_fs::Disk::remove(&without, &newest).expect("a good disk");
        let before_newest = look(&without).0;
        let mut victim = Self {
            right,
            before_newest,
            names,
            contents: BTreeMap::new(),
            places: BTreeMap::new(),
            newest,
            unselected: BTreeSet::new(),
            garbage: BTreeSet::new(),
            files: BTreeMap::new(),
            release_file: Vec::new(),
            disk,
        };
        victim.learn_contents(&fs);
        victim.learn_places();
        victim.learn_files();
        victim
    }

    fn learn_contents(&mut self, fs: &DynFs<SimDisk>) {
        for (path, thing) in &self.right {
            if let Thing::File { size, .. } = thing {
                let mut bytes = Vec::new();
                let len = u32::try_from(*size).expect("small");
                fs.read(find(fs, path).expect("it was seen"), 0, len, &mut bytes).expect("good");
                self.contents.insert(path.clone(), bytes);
            }
        }
    }

    fn learn_places(&mut self) {
        let store = open(&self.disk).expect("a good disk");
        let (catalog, _) = store.catalog(crate::parcel::host()).expect("a good disk");
        let mut selected = BTreeSet::new();
        let mut take = |object: PathBuf, place: String| {
            self.places.entry(object).or_default().push(place);
        };
        let numbers = store.generations().expect("a good disk");
        for number in &numbers {
            let system = store.generation(*number).expect("a good disk").system;
            places_in(&format!(".generations/{number}/"), &system, &mut take);
            if Some(number) == numbers.last() {
                places_in("", &system, &mut take);
            }
            selected.extend(system.packages.values().map(|one| one.release.clone()));
        }
        let releases: Vec<Release> =
            catalog.packages().flat_map(|(_, all)| all).map(|one| (**one).clone()).collect();
        for release in &releases {
            take(
                object_path(&release.object),
                format!("{}/{}", release.category, release.id.mount_name()),
            );
            if !selected.contains(&release.id) {
                let record = store.record_path(&release.id).expect("a name");
                let record = record.strip_prefix(store_fs::Disk::root(&self.disk));
                self.unselected.insert(record.expect("below").to_owned());
            }
        }
        let path = Path::new("file");
        write(&store, &releases, &mut self.release_file, path, &|_| ()).expect("a good disk");
    }

    fn learn_files(&mut self) {
        let all = self.disk.files();
        for kind in KINDS {
            let files: Vec<PathBuf> =
                all.iter().filter(|path| path.starts_with(kind)).cloned().collect();
            assert!(!files.is_empty(), "no file of the kind {kind}");
            self.files.insert(kind, files);
        }
        let needed: BTreeSet<String> = self
            .right
            .values()
            .filter_map(|thing| match thing {
                Thing::File { content, .. } => Some(content.to_string()),
                _ => None,
            })
            .collect();
        let is_needed = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            needed.contains(name) || self.places.contains_key(path)
        };
        let content = ["blobs", "outboards", "objects"].iter().flat_map(|kind| &self.files[kind]);
        self.garbage = content.filter(|path| !is_needed(path)).cloned().collect();
        assert!(!self.garbage.is_empty() && !self.unselected.is_empty());
    }

    /// The bytes of another file of the same kind; those of the same file where it is the only one.
    pub(super) fn other(&self, kind: &str, number: usize) -> Vec<u8> {
        let files = &self.files[kind];
        bytes_of(&self.disk, &files[number % files.len()])
    }
}

fn look(disk: &SimDisk) -> (Seen, BTreeSet<String>, DynFs<SimDisk>) {
    let store = open(disk).expect("a good disk");
    let fs = serve(&store).map_err(words).expect("a good disk");
    let names = names(&fs.shown());
    (Walk::new(&fs).all(&names), names, fs)
}

/// The node that a path below the mount leads to.
pub(super) fn find(fs: &DynFs<SimDisk>, path: &str) -> Option<Ino> {
    path.split('/')
        .try_fold(Ino::ROOT, |at, name| Some(fs.lookup(at, name.as_bytes()).ok()??.attr.ino))
}

/// For whoever serves a disk that may be damaged.
pub(super) fn served(disk: &SimDisk) -> Result<DynFs<SimDisk>, String> {
    let store: Arc<_> = open(disk)?;
    serve(&store).map_err(words)
}
