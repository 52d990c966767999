//! One state that is shown, with what follows from it: swapped as a whole, never changed.
//!
//! Its caches hold only what can be computed again. What is frozen is compiled at first need; what
//! is live never waits for a disk.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use resolver::{
    Catalog, Category, ObjectId, Pick, Release, Selection, Selections, Spec, View, VirtualDir, Why,
};

use super::list::Line;
use super::place::{Directory, FrozenName, TreeName};
use super::{EMPTY, FsError, Ino, Shown};
use crate::sync::Mutex;
use crate::{Disk, Store, StoreError};

/// Compiled views of frozen trees that are kept.
const FROZEN_VIEWS_MAX: usize = 64;
/// Listings that are kept.
const LISTS_MAX: usize = 256;

/// A state that is shown.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The state.
    pub(super) shown: Arc<Shown>,
    /// What the catalog holds.
    pub(super) known: Arc<Known>,
    frozen: Arc<FrozenViews>,
    lists: Mutex<HashMap<u32, Arc<[Line]>>>,
    /// Why the live tree cannot be shown, when it cannot.
    withheld: Option<Arc<str>>,
}

/// What follows from a catalog.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The categories that any release lives in.
    pub(super) categories: BTreeSet<Category>,
    /// The objects of all releases.
    pub(super) objects: HashSet<ObjectId>,
}

/// Views of frozen trees, compiled with one catalog; the last used at the end.
#[derive(Debug, Default)]
struct FrozenViews {
    views: Mutex<Vec<(u32, Arc<View>)>>,
}

impl Known {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let mut known = Self::default();
        for release in catalog.packages().flat_map(|(_, releases)| releases) {
            if !known.categories.contains(&release.category) {
                known.categories.insert(release.category.clone());
            }
            known.objects.insert(release.object);
        }
        known
    }
}

impl Snapshot {
    /// The state, with nothing to take over from an earlier one.
    pub(super) fn new(shown: Shown) -> Self {
        let known = Arc::new(Known::of(&shown.catalog));
        Self {
            shown: Arc::new(shown),
            known,
            frozen: Arc::default(),
            lists: Mutex::default(),
            withheld: None,
        }
    }

    /// The same state, of which the live tree is withheld.
    pub(super) fn withhold(&self, reason: &str) -> Self {
        Self {
            shown: self.shown.clone(),
            known: self.known.clone(),
            frozen: self.frozen.clone(),
            lists: Mutex::default(),
            withheld: Some(reason.into()),
        }
    }

    /// The live view.
    pub(super) fn live(&self) -> Result<&Arc<View>, FsError> {
        match &self.withheld {
            None => Ok(&self.shown.view),
            Some(reason) => Err(FsError::Withheld(reason.clone())),
        }
    }

    /// The state after this one. With the same catalog, what follows from it is shared.
    pub(super) fn next(&self, shown: Shown) -> Self {
        if !self.same_catalog(&shown) {
            return Self::new(shown);
        }
        let (known, frozen) = (self.known.clone(), self.frozen.clone());
        let shown = Arc::new(shown);
        Self { shown, known, frozen, lists: Mutex::default(), withheld: None }
    }

    /// Whether the catalog is the very same value.
    pub(super) fn same_catalog(&self, shown: &Shown) -> bool {
        Arc::ptr_eq(&self.shown.catalog, &shown.catalog)
    }

    /// The categories in the root of the live tree: those with a selected package and those that
    /// only the catalog knows.
    pub(super) fn live_categories(&self) -> BTreeSet<Category> {
        let mut categories = self.known.categories.clone();
        let root = self.shown.view.list(&VirtualDir::Root).unwrap_or_default();
        categories.extend(root.iter().filter_map(|(name, _)| Category::new(name).ok()));
        categories
    }

    /// The view that a directory belongs to, from the store when it is frozen and not yet known.
    pub(super) fn view<D: Disk>(
        &self,
        store: &Store<D>,
        directory: &Directory,
    ) -> Result<Arc<View>, FsError> {
        match &directory.tree {
            TreeName::Live => self.live().cloned(),
            TreeName::Frozen(name) => self.frozen_view(store, name),
        }
    }

    /// The releases that a name in `.generations` puts in; `None` when the name is a miss: no such
    /// generation or release, or not written in the one canonical way.
    pub(super) fn put_in(&self, name: &FrozenName) -> Option<Vec<&Arc<Release>>> {
        if name.number != EMPTY && !self.shown.generations.contains(&name.number) {
            return None;
        }
        let Some(text) = &name.releases else { return Some(Vec::new()) };
        let mut releases: Vec<&Arc<Release>> = Vec::new();
        for mount_name in text.split(';') {
            let (package, _) = mount_name.split_once('@')?;
            let category = self.shown.catalog.category(&package.parse().ok()?)?;
            let release = self.shown.catalog.by_mount_name(category, mount_name)?;
            if releases.last().is_some_and(|last| last.id.name >= release.id.name) {
                return None;
            }
            releases.push(release);
        }
        Some(releases)
    }

    fn frozen_view<D: Disk>(
        &self,
        store: &Store<D>,
        name: &FrozenName,
    ) -> Result<Arc<View>, FsError> {
        // Also for a view that is kept: a tree that vanished is stale, not half alive.
        let gone = || FsError::UnknownInode(Ino::new(name.slot, 1));
        let put_in = self.put_in(name).ok_or_else(gone)?;
        if let Some(view) = self.frozen.get(name.slot) {
            return Ok(view);
        }
        let mut selections = match name.number {
            EMPTY => Selections::default(),
            number => match store.generation(number) {
                // Garbage collection takes it away, and what is shown will say so in a moment.
                Err(StoreError::NoGeneration { .. }) => return Err(gone()),
                other => other?.system,
            },
        };
        for release in put_in {
            let spec = Spec {
                name: release.id.name.clone(),
                pick: Pick::Exact(release.id.version.clone()),
                variants: release.id.variants.clone(),
                object: None,
            };
            let selection = Selection {
                release: release.id.clone(),
                category: release.category.clone(),
                object: release.object,
                why: Why::Asked(spec),
                previous: None,
            };
            selections.packages.insert(release.id.name.clone(), selection);
        }
        let view = Arc::new(View::compile(&selections, &self.shown.catalog));
        self.frozen.keep(name.slot, &view);
        Ok(view)
    }

    /// A listing that was made before.
    pub(super) fn list(&self, slot: u32) -> Option<Arc<[Line]>> {
        self.lists.lock().get(&slot).cloned()
    }

    /// Keeps a listing for later calls.
    pub(super) fn keep_list(&self, slot: u32, lines: &Arc<[Line]>) {
        let mut lists = self.lists.lock();
        if lists.len() >= LISTS_MAX {
            lists.clear();
        }
        lists.insert(slot, lines.clone());
    }
}

impl FrozenViews {
    fn get(&self, slot: u32) -> Option<Arc<View>> {
        let mut views = self.views.lock();
        let place = views.iter().rposition(|(key, _)| *key == slot)?;
        let last = views.len() - 1;
        views[place..].rotate_left(1);
        Some(views[last].1.clone())
    }

    fn keep(&self, slot: u32, view: &Arc<View>) {
        let mut views = self.views.lock();
        views.retain(|(key, _)| *key != slot);
        if views.len() >= FROZEN_VIEWS_MAX {
            views.remove(0);
        }
        views.push((slot, view.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_views_are_bounded_and_the_last_used_stay() {
        let views = FrozenViews::default();
        let view = Arc::new(View::default());
        let last = u32::try_from(FROZEN_VIEWS_MAX).unwrap();
        for slot in 0..last {
            views.keep(slot, &view);
        }
        assert!(views.get(0).is_some());
        views.keep(last, &view);
        views.keep(last, &view);
        assert_eq!(views.views.lock().len(), FROZEN_VIEWS_MAX);
        assert!(views.get(0).is_some() && views.get(last).is_some());
        assert!(views.get(1).is_none());
    }
}
