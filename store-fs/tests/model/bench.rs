//! A store, a file system on it, a kernel that uses it and the reference that it must agree with.
//!
//! The bench does what the engine does, in the engine's order: publish, show, announce.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use resolver::{
    Action, Arch, Catalog, Category, Cause, Generation, GenerationNumber, Origin, Pick, Provides,
    Release, ReleaseId, Request, Selections, Spec, Timestamp, View, plan,
};
use store_fs::fs::catalog_names;
use store_fs::{
    Announcement, DynFs, FsckOptions, Kind, Loss, Memory, Prefix, Shown, SimDisk, Store,
    StoreError, TreeBuilder, fs::announce, fsck,
};

use crate::garbage::Going;
use crate::kernel::KernelModel;
use crate::world::{Paths, Sketch, Thing, World};

const PACKAGES: [(&str, &str); 3] = [("x", "lib"), ("y", "lib"), ("z", "app")];
const VERSIONS: [&str; 3] = ["1", "2~rc1", "1:1"];
/// Names that are asked for where they may not be.
const NAMES: [&str; 16] = [
    "x",
    "x@1",
    "y@1%3a1",
    "z@1,debug",
    "lib",
    "app",
    "bin",
    "tool",
    "libx.so.1",
    "a",
    "d",
    ".root",
    "1",
    "2",
    "1;x@1",
    "1;y@1;x@1",
];

/// What the next change meets with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// The server is killed after it published.
    KilledBeforeShow,
    /// The server is killed after it showed.
    KilledBeforeAnnounce,
    /// The operation of this number of the disk fails.
    Fail(u64),
    /// The power goes at this operation of the disk.
    PowerCut(u64, Loss),
}

/// Everything under test.
pub(crate) struct Bench {
    pub(crate) store: Arc<Store<SimDisk>>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) fs: DynFs<SimDisk>,
    pub(crate) kernel: KernelModel,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) world: World,
    paths: Paths,
    /// Paths that were walked, and are walked again after each operation.
    touched: BTreeSet<String>,
    pub(crate) trouble: Option<Trouble>,
    /// What a collection that failed may have removed.
    pub(crate) going: Going,
}

fn host() -> Arch {
    Arch::new("amd64").unwrap()
}

impl Bench {
    pub(crate) fn new() -> Self {
        let prefix = Prefix::new(Path::new("/dyn")).unwrap();
        let store = Arc::new(Store::create(SimDisk::default(), &prefix).unwrap());
        let memory = Arc::new(Memory::create().unwrap());
        let shown = shown(&store, &Arc::new(Catalog::new(host())), None);
        let (world, paths) = (World::default(), World::default().paths());
        Self {
            fs: DynFs::new(store.clone(), memory.clone(), shown),
            store,
            memory,
            kernel: KernelModel::default(),
            catalog: Arc::new(Catalog::new(host())),
            world,
            paths,
            touched: BTreeSet::from([String::new()]),
            trouble: None,
            going: Going::default(),
        }
    }

    pub(crate) fn add(&mut self, package: usize, version: usize, debug: bool, shape: u8) {
        let (name, category) = PACKAGES[package % PACKAGES.len()];
        let id = ReleaseId {
            name: name.parse().unwrap(),
            version: VERSIONS[version % VERSIONS.len()].parse().unwrap(),
            arch: host(),
            variants: debug.then(|| "debug".parse().unwrap()).into_iter().collect(),
        };
        if self.catalog.get(&id).is_some() {
            return;
        }
        let (sketch, provides) = sketch(shape);
        self.begin_trouble();
        let added = self.add_object(&sketch).and_then(|object| {
            let release = Release {
                id,
                category: Category::new(category).unwrap(),
                object,
                needs: Vec::new(),
                provides,
                build_ids: Vec::new(),
                origin: Origin::default(),
            };
            let mut next = Catalog::clone(&self.catalog);
            next.insert(Arc::new(release.clone())).unwrap();
            self.world.objects.insert(object, sketch);
            self.memory.promise(&catalog_names(&self.catalog, &next)).unwrap();
            self.store.publish_release(&self.store.writer()?, &release)?;
            Ok((next, release))
        });
        if let Ok((next, release)) = added {
            self.world.releases.push(release);
            self.finish(&Arc::new(next));
        } else {
            self.recover();
        }
    }

    fn add_object(&self, sketch: &Sketch) -> Result<resolver::ObjectId, StoreError> {
        let addition = self.store.add()?;
        let mut tree = TreeBuilder::new();
        for (path, thing) in sketch {
            match thing {
                Thing::Dir { .. } => tree.dir(path.trim_end_matches('/').as_bytes())?,
                Thing::Link(text) => tree.symlink(path.as_bytes(), text.as_bytes())?,
                Thing::File { bytes, executable, mtime } => {
                    let blob = addition.bytes(bytes)?;
                    let len = bytes.len() as u64;
                    tree.file(path.as_bytes(), blob, len, *mtime, *executable)?;
                }
            }
        }
        addition.finish(tree).map(|tree| tree.id())
    }

    pub(crate) fn select(&mut self, release: usize) {
        let Some(release) = pick(&self.world.releases, release).cloned() else { return };
        let package = release.id.name.clone();
        let spec = Spec {
            name: package.clone(),
            pick: Pick::Exact(release.id.version),
            variants: release.id.variants,
            object: None,
        };
        let next = self.decide(&Request::Select { specs: vec![spec], providers: Vec::new() });
        let chosen = next.packages.get(&package).map(|selection| selection.object);
        assert_eq!(chosen, Some(release.object), "what was asked for");
        let others = self.unaffected(&next);
        let calm = self.trouble.is_none();
        self.publish(next);
        if calm {
            let before = self.kernel.requests();
            for path in &others {
                self.check(path);
            }
            assert_eq!(self.kernel.requests(), before, "I7: {package} cost others: {others:?}");
        }
    }

    pub(crate) fn unselect(&mut self, package: usize) {
        let names: Vec<_> = self.selections().packages.keys().cloned().collect();
        if let Some(name) = pick(&names, package) {
            let next = self.decide(&Request::Unselect { packages: vec![name.clone()] });
            self.publish(next);
        }
    }

    /// Back to an earlier state.
    pub(crate) fn undo(&mut self, generation: usize) {
        let states: Vec<_> = self.world.generations.values().cloned().collect();
        if let Some(state) = pick(&states, generation) {
            let next = self.decide(&back_to(state));
            assert_eq!(&next, state, "I6: an earlier state is what it was");
            self.publish(next);
        }
    }

    /// What is selected after a request. I6: decided twice, with the releases in another order, and
    /// taken back.
    fn decide(&self, request: &Request) -> Selections {
        let now = self.selections();
        let decided = plan(&self.catalog, &now, request).unwrap();
        let mut catalog = Catalog::new(host());
        for release in self.world.releases.iter().rev() {
            catalog.insert(Arc::new(release.clone())).unwrap();
        }
        let again = plan(&catalog, &now.clone(), request).unwrap();
        assert_eq!(decided, again, "I6: {request:?}");
        let bytes = |next| serde_json::to_vec(next).unwrap();
        assert_eq!(bytes(&decided.next), bytes(&again.next), "I6: {request:?}");
        let back = plan(&catalog, &decided.next, &back_to(&now)).unwrap();
        assert_eq!(back.next, now, "I6: {request:?} is taken back");
        decided.next
    }

    pub(crate) fn remove(&mut self, release: usize) {
        let needed = |release: &Release| {
            let mut selected = self.world.generations.values().flat_map(|s| s.packages.values());
            selected.any(|selection| selection.release == release.id)
        };
        let free: Vec<Release> =
            self.world.releases.iter().filter(|release| !needed(release)).cloned().collect();
        let Some(release) = pick(&free, release) else { return };
        let mut next = Catalog::clone(&self.catalog);
        next.remove(&release.id).unwrap();
        self.memory.promise(&catalog_names(&self.catalog, &next)).unwrap();
        self.begin_trouble();
        let removed =
            self.store.writer().and_then(|writer| self.store.remove_release(&writer, &release.id));
        if removed.is_ok() {
            self.world.releases.retain(|other| other.id != release.id);
            self.finish(&Arc::new(next));
        } else {
            self.recover();
        }
    }

    fn selections(&self) -> Selections {
        self.world.generations.values().next_back().cloned().unwrap_or_default()
    }

    /// Touched paths in the live tree below packages that the next state shows as this one does,
    /// and in frozen trees.
    fn unaffected(&mut self, next: &Selections) -> Vec<String> {
        self.check_touched();
        let now = self.selections();
        let same = |path: &str| {
            let mut parts = path.split('/');
            match (parts.next(), parts.next()) {
                (Some(".generations"), Some(_)) => parts.next().is_some(),
                (Some("lib" | "app"), Some(name)) => {
                    let object = |s: &Selections| s.packages.get(name).map(|one| one.object);
                    object(&now).is_some() && object(&now) == object(next)
                }
                _ => false,
            }
        };
        // A release that is not there is a miss that no kernel keeps.
        let kept = |path: &str| !path.contains(';') || self.paths.contains_key(path);
        self.touched.iter().filter(|path| same(path) && kept(path)).cloned().collect()
    }

    fn publish(&mut self, system: Selections) {
        let last = self.world.generations.keys().next_back().copied();
        let number = last.unwrap_or(0) + 1;
        let generation = Generation {
            number: GenerationNumber(number),
            parent: last.map(GenerationNumber),
            at: Timestamp(i64::try_from(number).unwrap()),
            cause: Cause { action: Action::Apply, uid: 0, request: None },
            system: system.clone(),
        };
        self.begin_trouble();
        let published = self
            .store
            .writer()
            .and_then(|writer| self.store.write_generation(&writer, &generation)?.publish());
        if published.is_ok() {
            self.world.generations.insert(number, system);
            let catalog = self.catalog.clone();
            self.finish(&catalog);
        } else {
            self.recover();
        }
    }

    /// What was published is shown and announced, unless the server is killed on the way.
    pub(crate) fn finish(&mut self, catalog: &Arc<Catalog>) {
        self.catalog = catalog.clone();
        let trouble = self.trouble.take();
        if matches!(trouble, Some(Trouble::Fail(_) | Trouble::PowerCut(..))) {
            // It hit nothing, or only what comes after the change.
            self.trouble = trouble;
            return self.recover();
        }
        if !matches!(trouble, Some(Trouble::KilledBeforeShow)) {
            let announcement = self.fs.show(shown(&self.store, catalog, None));
            if trouble.is_none() {
                self.tell(&announcement);
            }
        }
        self.paths = self.world.paths();
        if trouble.is_some() {
            self.restart();
        }
    }

    fn tell(&self, announcement: &Announcement) {
        announce(&self.kernel, announcement).unwrap();
        let distinct: BTreeSet<_> = announcement.entries.iter().collect();
        assert_eq!(distinct.len(), announcement.entries.len(), "nothing is told twice");
        self.memory.set_announced(self.fs.shown().generation);
        self.memory.keep_promises();
    }

    /// A new server on the same memory: it serves, then it catches up.
    pub(crate) fn restart(&mut self) {
        let keeper = Memory::map(self.memory.try_clone_file().unwrap()).unwrap();
        self.memory = Arc::new(keeper);
        let newest = shown(&self.store, &self.catalog, None);
        self.fs = DynFs::new(self.store.clone(), self.memory.clone(), newest);
        let (announced, promised) = (self.memory.announced(), self.memory.promised());
        let is_there = announced.0 == 0 || self.store.generation(announced).is_ok();
        let announcement = match is_there {
            true => {
                self.fs.catch_up(&shown(&self.store, &self.catalog, Some(announced)), &promised)
            }
            // Collected before the kernel was told of it.
            false => self.fs.catch_up_blindly(&promised),
        };
        self.tell(&announcement);
    }

    pub(crate) fn begin_trouble(&self) {
        match self.trouble {
            Some(Trouble::Fail(at)) => self.store.disk().fail_at(at),
            Some(Trouble::PowerCut(at, _)) => self.store.disk().crash_at(at),
            _ => {}
        }
    }

    /// The disk failed. I5: what is there now is what was there before or what was to be.
    pub(crate) fn recover(&mut self) {
        let trouble = self.trouble.take().expect("only trouble makes a change fail");
        let loss = if let Trouble::PowerCut(_, loss) = trouble { loss } else { Loss::Nothing };
        let disk = self.store.disk().crash_image(loss);
        self.store = Arc::new(Store::open(disk).unwrap());
        let report = fsck(&self.store, &host(), FsckOptions { data: true }, &|_, _| {}).unwrap();
        assert_eq!(report.findings, [], "I5");
        let (catalog, damaged) = self.store.catalog(host()).unwrap();
        assert!(damaged.is_empty(), "I5: {damaged:?}");
        self.learn(catalog);
        if matches!(trouble, Trouble::PowerCut(..)) {
            self.memory = Arc::new(Memory::create().unwrap());
            self.kernel = KernelModel::default();
        }
        self.restart();
    }

    /// Takes over what the disk holds, after checking that it may.
    fn learn(&mut self, catalog: Catalog) {
        let mut found: BTreeMap<ReleaseId, Release> = BTreeMap::new();
        for release in catalog.packages().flat_map(|(_, releases)| releases) {
            found.insert(release.id.clone(), Release::clone(release));
        }
        let going = std::mem::take(&mut self.going);
        let world = &mut self.world.releases;
        world.retain(|one| found.contains_key(&one.id) || !going.releases.contains(&one.id));
        let known: BTreeSet<_> = self.world.releases.iter().map(|one| one.id.clone()).collect();
        let ids: BTreeSet<_> = found.keys().cloned().collect();
        assert!(ids.symmetric_difference(&known).count() <= 1, "I5: {ids:?}, not {known:?}");
        for release in found.values() {
            assert!(self.world.objects.contains_key(&release.object), "I5: an unknown object");
        }
        let mut generations = BTreeMap::new();
        for number in self.store.generations().unwrap() {
            generations.insert(number.0, self.store.generation(number).unwrap().system);
        }
        let may_be_gone = |n: &u64| going.generations.contains(&GenerationNumber(*n));
        let world = &mut self.world.generations;
        world.retain(|number, _| generations.contains_key(number) || !may_be_gone(number));
        for (number, selections) in &self.world.generations {
            match generations.get(number) {
                Some(kept) => assert_eq!(kept, selections, "I5: generation {number}"),
                None => assert_eq!(generations.len() + 1, self.world.generations.len(), "I5"),
            }
        }
        self.world.generations = generations;
        self.world.releases = found.into_values().collect();
        self.catalog = Arc::new(catalog);
        self.paths = self.world.paths();
    }

    /// Walks a path that is there.
    pub(crate) fn touch(&mut self, path: usize) {
        let there: Vec<&String> = self.paths.keys().collect();
        let path = there[path % there.len()].clone();
        self.check(&path);
        self.touched.insert(path);
    }

    /// Opens a file, wherever it is seen.
    pub(crate) fn open(&mut self, file: usize) {
        let is_file = |(path, thing): (&String, &Thing)| match thing {
            Thing::File { bytes, .. } => Some((path.clone(), bytes.clone())),
            Thing::Dir { .. } | Thing::Link(_) => None,
        };
        let files: Vec<_> = self.paths.iter().filter_map(is_file).collect();
        if let Some((path, bytes)) = pick(&files, file) {
            let ino = self.kernel.walk(&self.fs, path).unwrap().expect("it is there");
            self.kernel.open(ino, bytes.clone());
        }
    }

    /// I2 for every open file.
    pub(crate) fn check_open(&self) {
        self.kernel.check_open(&self.fs);
    }

    /// Walks a name that may not be there.
    pub(crate) fn touch_beside(&mut self, path: usize, name: usize) {
        let is_dir = |(path, thing): (&String, &Thing)| {
            matches!(thing, Thing::Dir { .. }).then(|| path.clone())
        };
        let there: Vec<String> = self.paths.iter().filter_map(is_dir).collect();
        let path = format!("{}/{}", there[path % there.len()], NAMES[name % NAMES.len()]);
        let path = path.trim_start_matches('/').to_owned();
        self.check(&path);
        self.touched.insert(path);
    }

    /// I1 for every path that is there.
    pub(crate) fn check_all(&mut self) {
        let there: Vec<String> = self.paths.keys().cloned().collect();
        for path in there {
            self.check(&path);
            self.touched.insert(path);
        }
    }

    /// I1 and I7 for every path that was ever walked.
    pub(crate) fn check_touched(&self) {
        for path in &self.touched {
            self.check(path);
        }
        let before = self.kernel.requests();
        // A release that is not there is a miss that no kernel keeps.
        let kept = |path: &&String| !path.contains(';') || self.paths.contains_key(*path);
        for path in self.touched.iter().filter(kept) {
            self.check(path);
        }
        assert_eq!(self.kernel.requests(), before, "I7: a warm walk costs nothing");
    }

    /// I1 for one path.
    fn check(&self, path: &str) {
        let (fs, kernel) = (&self.fs, &self.kernel);
        let found = kernel.walk(fs, path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // Of the trees with releases put in, the reference builds only some.
        if path.contains(';') && !self.paths.contains_key(path) {
            return;
        }
        let Some(ino) = found else {
            assert_eq!(None, self.paths.get(path), "I1: {path:?} is a miss");
            return;
        };
        let attr = kernel.attr(fs, ino).unwrap();
        assert_eq!(attr.ino, ino);
        let thing = match attr.kind {
            Kind::Dir => {
                let names = kernel.list(fs, ino, 3).unwrap();
                let listed = names.into_iter().map(|name| String::from_utf8(name).unwrap());
                assert_eq!((attr.perm, attr.mtime), (0o555, 1));
                Thing::Dir { listed: listed.collect(), links: attr.nlink }
            }
            Kind::File => {
                let bytes = kernel.bytes(fs, ino).unwrap();
                assert_eq!((attr.size, attr.nlink), (bytes.len() as u64, 1));
                Thing::File { bytes, executable: attr.perm == 0o555, mtime: attr.mtime }
            }
            Kind::Symlink => {
                let text = String::from_utf8(kernel.text(fs, ino).unwrap()).unwrap();
                assert_eq!((attr.size, attr.mtime), (text.len() as u64, 1));
                Thing::Link(text)
            }
        };
        assert_eq!(Some(&thing), self.paths.get(path), "I1: {path:?}");
    }
}

fn pick<T>(all: &[T], number: usize) -> Option<&T> {
    all.get(number.checked_rem(all.len())?)
}

fn back_to(selections: &Selections) -> Request {
    Request::Restore { selections: Box::new(selections.clone()) }
}

/// What a server shows that starts now: the newest generation, or the one of this number.
fn shown(
    store: &Store<SimDisk>,
    catalog: &Arc<Catalog>,
    number: Option<GenerationNumber>,
) -> Shown {
    let mut generations: BTreeSet<GenerationNumber> =
        store.generations().unwrap().into_iter().collect();
    let generation = number.or(generations.last().copied()).unwrap_or_default();
    generations.split_off(&GenerationNumber(generation.0 + 1));
    let selections = match generation {
        GenerationNumber(0) => Selections::default(),
        number => store.generation(number).unwrap().system,
    };
    let view = Arc::new(View::compile(&selections, catalog));
    Shown { generation, view, catalog: catalog.clone(), generations: Arc::new(generations) }
}

/// A small tree; each bit adds something, and two high bits choose the content.
fn sketch(shape: u8) -> (Sketch, Provides) {
    let mut sketch = Sketch::new();
    let mut provides = Provides::default();
    let file = |text: &str, executable| Thing::File {
        bytes: format!("{text}{}", shape >> 6).into_bytes(),
        executable,
        mtime: i64::from(shape) + 100,
    };
    let dir = || Thing::Dir { listed: BTreeSet::new(), links: 2 };
    let link = |text: &str| Thing::Link(text.into());
    if shape & 1 != 0 {
        sketch.insert("a".into(), file("content of a", false));
    } else if shape & 8 != 0 {
        sketch.insert("a/".into(), dir());
    }
    if shape & 2 != 0 {
        sketch.insert("bin/".into(), dir());
        sketch.insert("bin/tool".into(), file("a tool", true));
        provides.commands.insert("tool".parse().unwrap());
    }
    if shape & 4 != 0 {
        sketch.insert("lib/".into(), dir());
        sketch.insert("lib/libx.so.1".into(), link("libx.so.1.2"));
        sketch.insert("lib/libx.so.1.2".into(), file("a library", false));
        provides.sonames.insert("libx.so.1".parse().unwrap(), "libx.so.1.2".parse().unwrap());
    }
    if shape & 16 != 0 {
        sketch.insert("d/".into(), dir());
        sketch.insert("d/e/".into(), dir());
    }
    if shape & 32 != 0 {
        sketch.insert("d".into(), link("a"));
        sketch.retain(|path, _| !path.starts_with("d/"));
    }
    (sketch, provides)
}
