//! Release records: adding and removing them, each under a promise to tell the kernel.

use std::sync::Arc;

use resolver::catalog::CatalogError;
use resolver::{Catalog, GenerationNumber, Release, ReleaseId, View};
use store_fs::{Disk, StoreError};

use super::{Engine, EngineError, Inner, names_of};
use crate::protocol::Done;

impl<D: Disk> Engine<D> {
    /// Adds a release record.
    pub(super) fn publish(
        &self,
        inner: &mut Inner,
        release: &Release,
    ) -> Result<Done, EngineError> {
        let id = release.id.clone();
        // Tried on the catalog first: a refusal must come before anything is written.
        let mut catalog = Catalog::clone(&inner.state.catalog);
        let is_new = catalog.insert(Arc::new(release.clone()))?;
        if is_new {
            inner.state.check_content(&self.store, release)?;
            self.promise(&names_of(release))?;
        }
        inner.stale = true;
        // Also of a known one: its record may have been lost or damaged meanwhile.
        let new = self.put_record(inner, release)?;
        inner.stale = false;
        if !is_new {
            return Ok(Done::Published { release: id, new, unshown: None });
        }
        self.adopt(inner, catalog, &id);
        Ok(Done::Published { release: id, new, unshown: self.tell(inner) })
    }

    /// Writes a release record, over a damaged one too: that says nothing which this does not.
    fn put_record(&self, inner: &Inner, release: &Release) -> Result<bool, StoreError> {
        match self.store.publish_release(&inner.writer, release) {
            // The object is as it must be, so it was the record.
            Err(StoreError::Damaged { .. }) if self.store.object(&release.object).is_ok() => {
                self.store.remove_release(&inner.writer, &release.id)?;
                self.store.publish_release(&inner.writer, release)
            }
            published => published,
        }
    }

    /// Removes release records that no generation selects. All or none are refused.
    pub(super) fn remove(
        &self,
        inner: &mut Inner,
        releases: &[ReleaseId],
        again: bool,
    ) -> Result<Done, EngineError> {
        let mut present = Vec::new();
        for id in releases {
            match inner.state.catalog.get(id) {
                Some(release) => present.push(Arc::clone(release)),
                // The first attempt of a client whose connection broke has removed it.
                None if again => {}
                None => return Err(EngineError::NotThere { release: Box::new(id.clone()) }),
            }
        }
        if present.is_empty() {
            // All gone by then; what was promised is announced by whoever serves now.
            return Ok(Done::Removed { releases: releases.to_vec(), unshown: None });
        }
        inner.state.check_unused(&self.store, releases)?;
        let names: Vec<String> = present.iter().flat_map(|release| names_of(release)).collect();
        self.promise(&names)?;
        let mut catalog = Catalog::clone(&inner.state.catalog);
        inner.stale = true;
        for release in &present {
            self.store.remove_release(&inner.writer, &release.id)?;
            catalog.remove(&release.id);
        }
        inner.stale = false;
        inner.state.catalog = Arc::new(catalog);
        Ok(Done::Removed { releases: releases.to_vec(), unshown: self.tell(inner) })
    }

    /// Brings the index up to date for whoever reads next. That they read slower without it is no
    /// failure of what was done.
    pub(super) fn renew_index(&self, inner: &Inner) {
        if let Err(error) = self.store.catalog_and_index(&inner.writer, self.host.clone()) {
            tracing::warn!("the index was not renewed: {error}");
        }
    }

    pub(super) fn promise(&self, names: &[String]) -> Result<(), EngineError> {
        self.show.promise(names).map_err(|source| {
            let path = names.first().cloned().unwrap_or_default().into();
            EngineError::Store(StoreError::Io { action: "promising to announce", path, source })
        })
    }

    /// Takes a catalog with one more release. When that release is selected already (its record
    /// was lost and has come back), what it provides appears in the unions.
    fn adopt(&self, inner: &mut Inner, catalog: Catalog, id: &ReleaseId) {
        inner.state.catalog = Arc::new(catalog);
        let selections = &inner.state.current.system;
        if selections.packages.get(&id.name).is_some_and(|selection| selection.release == *id) {
            inner.view = Arc::new(View::compile(selections, &inner.state.catalog));
        }
    }
}

impl super::State {
    /// Refuses a release that a generation selects with other content, which is possible only when
    /// its record was lost: then undo would bring something else back than was there. The older
    /// generations are read only when the record is known to be damaged; one that cannot be read
    /// says nothing.
    ///
    /// # Errors
    ///
    /// [`EngineError::Catalog`].
    fn check_content<D: Disk>(
        &self,
        store: &store_fs::Store<D>,
        release: &Release,
    ) -> Result<(), EngineError> {
        let current = self.current.number;
        let damaged = self.catalog.is_unreadable(&release.id);
        let older = self.generations.iter().rev().filter(|number| damaged && **number != current);
        for number in std::iter::once(&current).chain(older) {
            let Ok(system) = self.selections(store, *number) else { continue };
            let selected = system.packages.get(&release.id.name);
            if selected.is_some_and(|s| s.release == release.id && s.object != release.object) {
                return Err(CatalogError::OtherContent { id: release.id.clone() }.into());
            }
        }
        Ok(())
    }

    /// Whether a release would be new to the store; refused as publishing it would be.
    ///
    /// # Errors
    ///
    /// [`EngineError::Catalog`], [`EngineError::Store`].
    pub fn check_publishable<D: Disk>(
        &self,
        store: &store_fs::Store<D>,
        release: &Release,
    ) -> Result<bool, EngineError> {
        if Catalog::clone(&self.catalog).insert(Arc::new(release.clone()))? {
            self.check_content(store, release)?;
        }
        match store.is_new(release) {
            // It would be written anew.
            Err(StoreError::Damaged { .. }) => Ok(true),
            is_new => Ok(is_new?),
        }
    }

    /// Refuses when a kept generation selects one of the releases.
    ///
    /// # Errors
    ///
    /// [`EngineError::InUse`]; [`EngineError::Store`] when a generation cannot be read, since it
    /// might be one that does.
    pub fn check_unused<D: Disk>(
        &self,
        store: &store_fs::Store<D>,
        releases: &[ReleaseId],
    ) -> Result<(), EngineError> {
        let mut users: Vec<Vec<GenerationNumber>> = vec![Vec::new(); releases.len()];
        for number in self.generations.iter() {
            let system = self.selections(store, *number)?;
            for (id, users) in releases.iter().zip(&mut users) {
                let selected = system.packages.get(&id.name);
                if selected.is_some_and(|selection| selection.release == *id) {
                    users.push(*number);
                }
            }
        }
        for (id, generations) in releases.iter().zip(users) {
            if !generations.is_empty() {
                return Err(EngineError::InUse { release: Box::new(id.clone()), generations });
            }
        }
        Ok(())
    }
}
