//! From one state to the next, and what a kernel must be told of it.
//!
//! A kernel keeps hits, misses and listings for ever. So every name that answers differently must
//! be told, in each directory that a kernel can know, and nothing else: a name that is told for
//! nothing loses its caches. A directory that has no slot was never looked at.
//!
//! ```text
//! differs            names told
//! view               what View::changed says, in the live tree
//! catalog            <package>@<version>, in the live tree and in every frozen one;
//!                    .objects/<id>; categories; frozen trees with a release put in that changed
//! generations        .generations/<n>; a number that went, with releases put in
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use resolver::{Catalog, Category, Changed, ObjectId, PackageName, Release, Target, VirtualDir};

use super::place::{Directory, FrozenName, Role, TreeName};
use super::snapshot::{Known, Snapshot};
use super::{Announcement, DynFs, Ino, Shown};
use crate::Disk;
use crate::object::ROOT_ENTRY;
use crate::slots::{Key, ROOT_PLACE, Slots};

/// Changed packages whose objects are looked at before they are shown.
const LOOK_AHEAD_MAX: usize = 256;
/// The directories with a dot that names come and go in.
const GENERATIONS: &str = ".generations";
const OBJECTS: &str = ".objects";

/// What differs between two catalogs, as names below the mount.
#[derive(Debug, Default)]
struct CatalogChange {
    categories: BTreeSet<Category>,
    releases: BTreeSet<(Category, String)>,
    objects: BTreeSet<ObjectId>,
}

impl CatalogChange {
    fn between(old: (&Catalog, &Known), new: (&Catalog, &Known)) -> Self {
        let mut change = Self::default();
        let names: BTreeSet<&PackageName> =
            old.0.packages().chain(new.0.packages()).map(|(name, _)| name).collect();
        for name in names {
            let (before, after) = (old.0.releases(name), new.0.releases(name));
            if !same_releases(before, after) {
                change.releases_of(before.iter().chain(after), old.0, new.0);
            }
        }
        change.categories =
            old.1.categories.symmetric_difference(&new.1.categories).cloned().collect();
        change.objects = old.1.objects.symmetric_difference(&new.1.objects).copied().collect();
        change
    }

    fn releases_of<'r>(
        &mut self,
        releases: impl Iterator<Item = &'r Arc<Release>>,
        old: &Catalog,
        new: &Catalog,
    ) {
        for release in releases {
            let name = release.id.mount_name();
            let object = |catalog: &Catalog| {
                catalog.by_mount_name(&release.category, &name).map(|release| release.object)
            };
            if object(old) != object(new) {
                self.releases.insert((release.category.clone(), name));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.categories.is_empty() && self.releases.is_empty() && self.objects.is_empty()
    }
}

fn same_releases(before: &[Arc<Release>], after: &[Arc<Release>]) -> bool {
    before.len() == after.len()
        && before.iter().zip(after).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
}

/// The names below the mount that answer differently with another catalog, as
/// [`crate::Memory::promise`] takes them: `lib`, `lib/xz@5.2.5`, `.objects/<id>`. A writer promises
/// them before it changes the files, so that a successor announces them.
#[must_use]
pub fn catalog_names(old: &Catalog, new: &Catalog) -> Vec<String> {
    let (known_old, known_new) = (Known::of(old), Known::of(new));
    let change = CatalogChange::between((old, &known_old), (new, &known_new));
    let categories = change.categories.iter().map(ToString::to_string);
    let releases = change.releases.iter().map(|(category, name)| format!("{category}/{name}"));
    let objects = change.objects.iter().map(|id| format!("{OBJECTS}/{id}"));
    categories.chain(releases).chain(objects).collect()
}

/// Collects what will be told.
#[derive(Debug, Default)]
struct Telling {
    entries: BTreeSet<(Reverse<Ino>, Vec<u8>)>,
    lists: BTreeSet<Reverse<Ino>>,
}

impl Telling {
    fn entry(&mut self, parent: u32, name: &str) {
        self.entries.insert((Reverse(Ino::new(parent, ROOT_ENTRY)), name.into()));
    }

    fn list(&mut self, dir: u32) {
        self.lists.insert(Reverse(Ino::new(dir, ROOT_ENTRY)));
    }

    /// Younger directories, and so deeper ones, come first.
    fn finish(self, slots: &Slots) -> Announcement {
        let entries = self.entries.into_iter().map(|(Reverse(ino), name)| (ino, name)).collect();
        let lists = self.lists.into_iter().map(|Reverse(ino)| ino).collect();
        Announcement { entries, waits: Vec::new(), lists }.waiting(slots)
    }
}

impl Announcement {
    /// The same, with the directories to wait for; telling a name waits already.
    pub(super) fn waiting(mut self, slots: &Slots) -> Self {
        let holds = |dir: &Ino| slots.place(dir.parts().0).map(|(slot, _)| slot);
        let holders = self.lists.iter().filter_map(holds).map(|slot| Ino::new(slot, ROOT_ENTRY));
        let mut waits: BTreeSet<Ino> = self.lists.iter().copied().chain(holders).collect();
        for (dir, _) in &self.entries {
            waits.remove(dir);
        }
        self.waits = waits.into_iter().rev().collect();
        self
    }
}

impl<D: Disk> DynFs<D> {
    /// Shows `next` to every later question, and says what the kernel must be told.
    pub fn show(&self, next: Shown) -> Announcement {
        let _showing = self.showing.lock();
        let old = self.snapshot.load_full();
        let next = Arc::new(old.next(next));
        let changed = old.shown.view.changed(&next.shown.view);
        self.look_at_changed(&next, &changed);
        self.snapshot.store(next.clone());
        // Only now: a directory that was first looked at a moment ago may be cached as it was.
        let mut telling = Telling::default();
        self.tell_changes(&old, &next, &changed, &mut telling);
        telling.finish(&self.slots)
    }

    /// What a kernel that was last told of `old` must be told now, and of `promised` names.
    pub fn catch_up(&self, old: &Shown, promised: &[String]) -> Announcement {
        let _showing = self.showing.lock();
        let now = self.snapshot.load_full();
        let old = Snapshot::new(old.clone());
        let changed = old.shown.view.changed(&now.shown.view);
        let mut telling = Telling::default();
        self.tell_changes(&old, &now, &changed, &mut telling);
        for name in promised {
            self.tell_promised(name, &mut telling);
        }
        telling.finish(&self.slots)
    }

    /// Reads the objects that are about to be shown, so that no lookup waits for the disk.
    fn look_at_changed(&self, next: &Snapshot, changed: &Changed) {
        let known = |(dir, name): &(VirtualDir, String)| {
            self.live_place(dir)?;
            next.shown.view.get(dir, name)
        };
        for target in changed.entries.iter().filter_map(known).take(LOOK_AHEAD_MAX) {
            if let Target::Package(id) = target {
                self.look_ahead(&id);
            }
        }
    }

    fn tell_changes(
        &self,
        old: &Snapshot,
        new: &Snapshot,
        changed: &Changed,
        telling: &mut Telling,
    ) {
        for (dir, name) in changed.entries.iter().filter(|(dir, _)| *dir != VirtualDir::Root) {
            if let Some(place) = self.live_place(dir) {
                telling.entry(place, name);
            }
        }
        for dir in changed.lists.iter().filter(|dir| **dir != VirtualDir::Root) {
            if let Some(place) = self.live_place(dir) {
                telling.list(place);
            }
        }
        let catalog = if old.same_catalog(&new.shown) {
            CatalogChange::default()
        } else {
            let (before, after) = (&old.shown.catalog, &new.shown.catalog);
            CatalogChange::between((before, &old.known), (after, &new.known))
        };
        if !catalog.categories.is_empty() || changed.lists.contains(&VirtualDir::Root) {
            let (before, after) = (old.live_categories(), new.live_categories());
            for category in before.symmetric_difference(&after) {
                telling.entry(ROOT_PLACE, category.as_str());
                telling.list(ROOT_PLACE);
            }
        }
        self.tell_live_catalog(&catalog, telling);
        self.tell_generations(old, new, &catalog, telling);
    }

    fn tell_live_catalog(&self, catalog: &CatalogChange, telling: &mut Telling) {
        for (category, name) in &catalog.releases {
            if let Some(place) = self.place(ROOT_PLACE, category.as_str()) {
                telling.entry(place, name);
            }
        }
        if let Some(objects) = self.place(ROOT_PLACE, OBJECTS) {
            for id in &catalog.objects {
                telling.entry(objects, &id.to_string());
            }
        }
    }

    fn tell_generations(
        &self,
        old: &Snapshot,
        new: &Snapshot,
        catalog: &CatalogChange,
        telling: &mut Telling,
    ) {
        let Some(generations) = self.place(ROOT_PLACE, GENERATIONS) else { return };
        let (before, after) = (&old.shown.generations, &new.shown.generations);
        for number in before.symmetric_difference(after) {
            telling.entry(generations, &number.to_string());
            telling.list(generations);
        }
        // Names below are looked for in the whole table, so only when there can be any.
        if !catalog.is_empty() || before.difference(after).next().is_some() {
            self.tell_frozen(old, new, catalog, telling);
        }
    }

    fn tell_frozen(
        &self,
        old: &Snapshot,
        new: &Snapshot,
        catalog: &CatalogChange,
        telling: &mut Telling,
    ) {
        let mut names: BTreeMap<&Category, Vec<&str>> = BTreeMap::new();
        for (category, name) in &catalog.releases {
            names.entry(category).or_default().push(name);
        }
        let mut gone = BTreeSet::new();
        for (slot, parent, name) in self.slots.places() {
            if gone.contains(&parent) {
                // The tree stands for something else from now on, so all of it does.
                telling.entries.insert((Reverse(Ino::new(parent, ROOT_ENTRY)), name));
                if self.directories.get(slot).is_some() {
                    gone.insert(slot);
                    telling.list(slot);
                }
                continue;
            }
            let Some(directory) = self.directories.get(slot) else { continue };
            let TreeName::Frozen(frozen) = &directory.tree else { continue };
            match &directory.role {
                Role::View(VirtualDir::Root) if !same_tree(old, new, frozen) => {
                    gone.insert(slot);
                    telling.list(slot);
                    if frozen.releases.is_some() {
                        telling.entries.insert((Reverse(Ino::new(parent, ROOT_ENTRY)), name));
                    }
                }
                Role::View(VirtualDir::Root) => {
                    self.tell_frozen_categories(new, directory, &catalog.categories, telling);
                }
                Role::View(VirtualDir::Category(category)) => {
                    for name in names.get(category).into_iter().flatten() {
                        telling.entry(slot, name);
                    }
                }
                _ => {}
            }
        }
    }

    /// A category that came to the catalog or went from it changes nothing in a frozen tree that
    /// has a package there.
    fn tell_frozen_categories(
        &self,
        new: &Snapshot,
        directory: &Directory,
        categories: &BTreeSet<Category>,
        telling: &mut Telling,
    ) {
        if categories.is_empty() {
            return;
        }
        // Without its view nobody can say; told for nothing is better than stale for ever.
        let view = new.view(&self.store, directory).ok();
        for category in categories {
            let there = |dir| view.as_ref().and_then(|view| view.get(&dir, category.as_str()));
            if there(VirtualDir::Root).is_none() {
                telling.entry(directory.slot, category.as_str());
            }
        }
    }

    fn tell_promised(&self, name: &str, telling: &mut Telling) {
        let (dir, last) = name.rsplit_once('/').unwrap_or(("", name));
        let place = dir
            .split('/')
            .filter(|name| !name.is_empty())
            .try_fold(ROOT_PLACE, |parent, name| self.place(parent, name));
        if let Some(place) = place {
            telling.entry(place, last);
            telling.list(place);
        }
        if dir == GENERATIONS {
            self.tell_put_in(place, last, telling);
        }
        // A category, or a release: those are in every frozen tree too.
        let release = last.contains('@') && !dir.contains('/') && !dir.starts_with('.');
        if !(release || dir.is_empty()) {
            return;
        }
        for (slot, parent, frozen_name) in self.slots.places() {
            let Some(directory) = self.directories.get(slot) else { continue };
            let TreeName::Frozen(frozen) = &directory.tree else { continue };
            match &directory.role {
                Role::View(VirtualDir::Root) if dir.is_empty() => telling.entry(slot, last),
                Role::View(VirtualDir::Root) => {
                    let releases = frozen.releases.as_deref().unwrap_or("");
                    if releases.split(';').any(|release| release == last) {
                        telling
                            .entries
                            .insert((Reverse(Ino::new(parent, ROOT_ENTRY)), frozen_name));
                    }
                }
                Role::View(VirtualDir::Category(category)) if category.as_str() == dir => {
                    telling.entry(slot, last);
                }
                _ => {}
            }
        }
    }

    /// The names of a generation with releases put in, where `generations` is the place of all.
    fn tell_put_in(&self, generations: Option<u32>, number: &str, telling: &mut Telling) {
        for (_, parent, name) in self.slots.places().filter(|place| Some(place.1) == generations) {
            let rest = name.strip_prefix(number.as_bytes());
            if rest.is_some_and(|rest| rest.starts_with(b";")) {
                telling.entries.insert((Reverse(Ino::new(parent, ROOT_ENTRY)), name));
            }
        }
    }

    /// The slot of a name in a virtual directory, if anybody ever looked at it.
    fn place(&self, parent: u32, name: &str) -> Option<u32> {
        self.slots.find(Key::Place { parent, name: name.as_bytes() })
    }

    /// The slot of a directory of the live view, if anybody ever looked at it.
    fn live_place(&self, dir: &VirtualDir) -> Option<u32> {
        match dir {
            VirtualDir::Root => Some(ROOT_PLACE),
            VirtualDir::Category(category) => self.place(ROOT_PLACE, category.as_str()),
            VirtualDir::Bin => self.place(ROOT_PLACE, "bin"),
            VirtualDir::So => self.place(ROOT_PLACE, "so"),
        }
    }
}

/// Whether a name in `.generations` stands for the same tree in both states.
fn same_tree(old: &Snapshot, new: &Snapshot, name: &FrozenName) -> bool {
    let objects = |snapshot: &Snapshot| {
        let releases = snapshot.put_in(name)?;
        Some(releases.into_iter().map(|release| release.object).collect::<Vec<_>>())
    };
    objects(old) == objects(new)
}
