//! Garbage: what nothing needs any more, and letting go of it.
//!
//! ```text
//! Forget       generations that are not kept, then releases that no kept one selects
//! EmptyTrash   what is in the trash and still not needed, for good
//! Trash        objects that nothing needs now
//! ```
//!
//! In this order, because names go first: what has none cannot come into use any more, so whoever
//! looks then who uses what sees all who ever will. The looking is not done here. Each edit does a
//! bounded part and may be repeated: emptying comes before putting in, so a repetition never
//! deletes what the same collection has put into the trash.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use resolver::{Catalog, GenerationNumber, ObjectId, Release, ReleaseId, Selections, Timestamp};
use store_fs::{Disk, Store, StoreError};

use super::{Engine, EngineError, Inner, State, names_of};
use crate::protocol::{Done, Forgotten, Used};

/// Names that one edit lets go: their promises must fit into the memory file.
const FORGET_MAX: usize = 512;
/// Blobs and outboards that one edit deletes: the next edit, and so a select, waits for it.
const DELETE_MAX: usize = 20_000;

/// What stays whatever else is said.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// So many of the newest generations; the newest one always.
    pub count: u64,
    /// What was made then or later.
    pub since: Option<Timestamp>,
}

/// What can go, and what stays although no kept generation needs it.
#[derive(Clone, Debug, Default)]
pub struct Forgettable {
    /// Generations that go, ascending.
    pub generations: Vec<GenerationNumber>,
    /// Releases that go.
    pub releases: Vec<Arc<Release>>,
    /// Generations that stay because a process uses their trees.
    pub used_generations: Vec<GenerationNumber>,
    /// Releases that stay because a process uses them.
    pub used_releases: Vec<Arc<Release>>,
    /// Releases that stay because their records are young, with when those were written.
    pub young_releases: Vec<(Arc<Release>, Timestamp)>,
}

impl State {
    /// What can go when so much is kept and used.
    ///
    /// # Errors
    ///
    /// [`EngineError::Newest`], [`EngineError::Unknown`]; [`EngineError::Store`], also for damage
    /// to a generation that is kept, since nobody knows what it needs.
    pub fn forgettable<D: Disk>(
        &self,
        store: &Store<D>,
        keep: &Keep,
        used: &Used,
    ) -> Result<Forgettable, EngineError> {
        self.readable()?;
        let mut found = Forgettable::default();
        let mut selected: HashSet<ReleaseId> = used.releases.iter().cloned().collect();
        let from = self.first_kept(store, keep)?;
        for number in self.generations.iter().copied() {
            let is_used = used.generations.contains(&number);
            if number < from && !is_used {
                found.generations.push(number);
                continue;
            }
            let system = self.selections(store, number)?;
            selected.extend(system.packages.values().map(|selection| selection.release.clone()));
            if number < from {
                found.used_generations.push(number);
            }
        }
        for release in self.catalog.packages().flat_map(|(_, releases)| releases) {
            if selected.contains(&release.id) && !used.releases.contains(&release.id) {
                continue;
            }
            let written = store.record_written(&release.id)?;
            let young = written.filter(|at| keep.since.is_some_and(|since| *at >= since));
            let release = Arc::clone(release);
            if used.objects.contains(&release.object) || used.releases.contains(&release.id) {
                found.used_releases.push(release);
            } else if let Some(at) = young {
                found.young_releases.push((release, at));
            } else {
                found.releases.push(release);
            }
        }
        Ok(found)
    }

    /// The state after these have gone, as far as it is read already.
    pub fn let_go(&mut self, gone: &Forgettable) {
        self.forget(&gone.generations);
        let catalog = Arc::make_mut(&mut self.catalog);
        for release in &gone.releases {
            catalog.remove(&release.id);
        }
    }

    /// The oldest generation that is kept by number or by age. All above it are kept too, whatever
    /// the clock said when they were made, so that undo has no gaps. The age of a damaged one is
    /// not known and keeps nothing.
    fn first_kept<D: Disk>(
        &self,
        store: &Store<D>,
        keep: &Keep,
    ) -> Result<GenerationNumber, EngineError> {
        let count = usize::try_from(keep.count.max(1)).unwrap_or(usize::MAX);
        let gone = self.generations.len().saturating_sub(count);
        let by_count = self.generations.iter().nth(gone).copied().unwrap_or_default();
        let Some(since) = keep.since else { return Ok(by_count) };
        for number in self.generations.range(..by_count) {
            match store.generation(*number) {
                Ok(generation) if generation.at >= since => return Ok(*number),
                Ok(_) | Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(by_count)
    }

    /// The objects that releases, generations and processes need.
    ///
    /// # Errors
    ///
    /// As [`State::forgettable`].
    pub fn needed<D: Disk>(
        &self,
        store: &Store<D>,
        used: &[ObjectId],
    ) -> Result<HashSet<ObjectId>, EngineError> {
        self.readable()?;
        let mut needed: HashSet<ObjectId> = used.iter().copied().collect();
        let releases = self.catalog.packages().flat_map(|(_, releases)| releases);
        needed.extend(releases.map(|release| release.object));
        let objects = |system: &Selections| -> Vec<ObjectId> {
            system.packages.values().map(|selection| selection.object).collect()
        };
        for number in self.generations.iter() {
            needed.extend(objects(&*self.selections(store, *number)?));
        }
        Ok(needed)
    }

    /// Fails when anything that names what is needed cannot be read.
    fn readable(&self) -> Result<(), EngineError> {
        self.whole()?;
        match self.damaged.first() {
            None => Ok(()),
            Some(StoreError::Damaged { path, reason }) => {
                let (path, reason) = (path.clone(), reason.clone());
                Err(EngineError::Unknown { first: Box::new(StoreError::Damaged { path, reason }) })
            }
            Some(other) => {
                let (path, reason) = (std::path::PathBuf::from("releases"), other.to_string());
                Err(EngineError::Unknown { first: Box::new(StoreError::Damaged { path, reason }) })
            }
        }
    }
}

impl<D: Disk> Engine<D> {
    /// Reads the records again when some were damaged: they may have been repaired since.
    pub(super) fn reread_if_damaged(&self, inner: &mut Inner) -> Result<(), EngineError> {
        inner.stale |= !inner.state.damaged.is_empty();
        self.refresh(inner)
    }

    /// Lets names go, and has the kernel told.
    pub(super) fn forget(
        &self,
        inner: &mut Inner,
        keep: &Keep,
        used: &Used,
    ) -> Result<Done, EngineError> {
        self.reread_if_damaged(inner)?;
        let Forgettable { mut generations, mut releases, .. } =
            inner.state.forgettable(&self.store, keep, used)?;
        let more = generations.len() + releases.len() > FORGET_MAX;
        generations.truncate(FORGET_MAX);
        // Not before every generation has gone that might select one.
        releases.truncate(FORGET_MAX - generations.len());
        let ids: Vec<ReleaseId> = releases.iter().map(|release| release.id.clone()).collect();
        if generations.is_empty() && ids.is_empty() {
            let unshown = if inner.untold { self.tell(inner) } else { None };
            return Ok(Done::Forgotten(Forgotten { unshown, ..Forgotten::default() }));
        }
        let numbers = generations.iter().map(|number| format!(".generations/{number}"));
        let records = releases.iter().flat_map(|release| names_of(release));
        let names: BTreeSet<String> = numbers.chain(records).collect();
        self.promise(&names.into_iter().collect::<Vec<_>>())?;
        let mut catalog = Catalog::clone(&inner.state.catalog);
        inner.stale = true;
        self.store.remove_generations(&inner.writer, &generations)?;
        for id in &ids {
            self.store.remove_release(&inner.writer, id)?;
            catalog.remove(id);
        }
        inner.stale = false;
        inner.state.forget(&generations);
        if !ids.is_empty() {
            inner.state.catalog = Arc::new(catalog);
        }
        let unshown = self.tell(inner);
        Ok(Done::Forgotten(Forgotten { generations, releases: ids, more, unshown }))
    }

    /// Deletes what is in the trash and still not needed.
    pub(super) fn empty_trash(
        &self,
        inner: &mut Inner,
        used: &[ObjectId],
    ) -> Result<Done, EngineError> {
        self.reread_if_damaged(inner)?;
        let needed = inner.state.needed(&self.store, used)?;
        let emptied = self.store.empty_trash(&inner.writer, &needed, DELETE_MAX)?;
        Ok(Done::Emptied(emptied.into()))
    }

    /// Puts into the trash what is not needed now.
    pub(super) fn trash(&self, inner: &mut Inner, used: &[ObjectId]) -> Result<Done, EngineError> {
        self.reread_if_damaged(inner)?;
        let needed = inner.state.needed(&self.store, used)?;
        let objects = self.store.trash_unneeded(&inner.writer, &needed)?;
        Ok(Done::Trashed { objects })
    }
}
