//! Release records, one file each, and the catalog that they make up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use resolver::{Arch, Catalog, ObjectId, PackageName, Release, ReleaseId, Timestamp};

use super::index::{Index, IndexError, Row};
use super::record::{self, RecordReader, RecordWriter};
use super::{Store, Writer, damaged, located, path, read_file};
use crate::disk::{ListedKind, Stamp};
use crate::{Disk, StoreError};

pub(crate) fn encode(release: &Release) -> Result<Vec<u8>, StoreError> {
    let mut writer = RecordWriter::new(record::RELEASE, 1024);
    writer.line(release);
    writer.seal()
}

pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Release, StoreError> {
    let mut reader = RecordReader::open(record::RELEASE, path, bytes)?;
    let release: Release = reader.line()?;
    reader.finish()?;
    if path::release(&release.id).ok().as_deref() != Some(path) {
        return Err(record::damaged(path, &format!("it holds the release {}", release.id)));
    }
    Ok(release)
}

/// The release in a record of this path; `None` when there is no such file.
pub(crate) fn record_of<D: Disk>(disk: &D, path: &Path) -> Result<Option<Release>, StoreError> {
    let Some(bytes) = read_file(disk, path, record::RELEASE.len_max)? else { return Ok(None) };
    decode(path, &bytes).map(Some).map_err(|error| located(disk, path, error))
}

/// Whether two records say the same of a release. Where it came from is for people: the same
/// content from another directory is still the same.
fn is_same(a: &Release, b: &Release) -> bool {
    let Release { id, category, object, needs, provides, build_ids, origin: _ } = a;
    *id == b.id
        && *category == b.category
        && *object == b.object
        && *needs == b.needs
        && *provides == b.provides
        && *build_ids == b.build_ids
}

/// What reading all records gives.
pub(super) struct ReadCatalog {
    catalog: Catalog,
    problems: Vec<StoreError>,
    /// What the index should hold.
    pub(super) rows: Index,
    /// Whether it does.
    is_current: bool,
}

impl<D: Disk> Store<D> {
    /// All releases, through the index when it is good and from the files otherwise. Damaged
    /// records are left out and named in the second part. Writes nothing: whoever only reads must
    /// not change a store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when a directory cannot be listed.
    pub fn catalog(&self, host: Arch) -> Result<(Catalog, Vec<StoreError>), StoreError> {
        let (read, problem) = self.read_through_index(host)?;
        self.note_index(&read, problem, None);
        Ok((read.catalog, read.problems))
    }

    /// The same for the writer, who leaves the index as it should be, as far as that is possible:
    /// it is never an error that it is not.
    ///
    /// # Errors
    ///
    /// As [`Store::catalog`].
    pub fn catalog_and_index(
        &self,
        _writer: &Writer,
        host: Arch,
    ) -> Result<(Catalog, Vec<StoreError>), StoreError> {
        let (read, problem) = self.read_through_index(host)?;
        if !read.is_current || problem.is_some() {
            let written = read.rows.save(&self.disk);
            self.note_index(&read, problem, Some(written));
        }
        Ok((read.catalog, read.problems))
    }

    /// The same from the files alone, and nothing is written: for a server, which must serve
    /// before it may wait for a database or for another process's lock.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when a directory cannot be listed.
    pub fn catalog_from_files(&self, host: Arch) -> Result<(Catalog, Vec<StoreError>), StoreError> {
        let read = self.read_catalog(host, Index::default())?;
        Ok((read.catalog, read.problems))
    }

    /// Reads every record that `known` does not have as it is.
    pub(super) fn read_catalog(
        &self,
        host: Arch,
        mut known: Index,
    ) -> Result<ReadCatalog, StoreError> {
        let (files, odd) = self.release_files()?;
        let mut catalog = Catalog::new(host);
        let (mut problems, mut rows) = (Vec::new(), Index::default());
        let mut is_current = true;
        for (path, stamp) in files {
            let (mut fresh, mut stale) = (None, known.take_row(&path));
            if stale.as_ref().is_some_and(|row| row.stamp == stamp) {
                fresh = stale.take().map(|row| Arc::unwrap_or_clone(row.release));
            }
            let release = match fresh {
                Some(release) => Ok(Some(release)),
                None => {
                    is_current = false;
                    record_of(&self.disk, &path)
                }
            };
            match release {
                Ok(Some(release)) => {
                    let release = Arc::new(release);
                    rows.insert(path.clone(), Row { stamp, release: Arc::clone(&release) });
                    if let Err(error) = catalog.insert(release) {
                        problems.push(damaged(&self.disk, &path, error.to_string()));
                    }
                }
                // Removed since it was listed.
                Ok(None) => {}
                Err(error) => {
                    if let Some(id) = path::release_at(&path) {
                        catalog.insert_unreadable(id);
                    }
                    // What it held once is all that will ever be known of it.
                    if let Some(row) = stale {
                        rows.insert(path, row);
                    }
                    problems.push(error);
                }
            }
        }
        for path in odd {
            if let Some(id) = path::release_at(&path) {
                catalog.insert_unreadable(id);
                problems.push(damaged(&self.disk, &path, "it is not a file"));
            }
        }
        // What is left in `known` was removed.
        is_current &= known.is_empty();
        Ok(ReadCatalog { catalog, problems, rows, is_current })
    }

    /// The paths and stamps of all release records, in the order of paths; then what is in their
    /// place and is no file.
    fn release_files(&self) -> Result<(BTreeMap<PathBuf, Stamp>, Vec<PathBuf>), StoreError> {
        let top = Path::new(path::RELEASES);
        let listing = |path: &Path, error| self.io("listing", path, error);
        let (mut files, mut odd) = (BTreeMap::new(), Vec::new());
        for package in self.disk.list(top).map_err(|error| listing(top, error))? {
            let is_package = package.name.to_str().is_some_and(|n| PackageName::new(n).is_ok());
            if package.kind != ListedKind::Dir || !is_package {
                continue;
            }
            let dir = top.join(&package.name);
            for record in self.disk.list(&dir).map_err(|error| listing(&dir, error))? {
                let path = dir.join(&record.name);
                if record.kind != ListedKind::File {
                    odd.push(path);
                    continue;
                }
                let stamp = self.disk.stamp(&path).map_err(|error| listing(&path, error))?;
                // None: it was removed since it was listed.
                if let Some(stamp) = stamp {
                    files.insert(path, stamp);
                }
            }
        }
        Ok((files, odd))
    }

    /// What the record of a release held when the index last knew it: of one that is damaged,
    /// nothing else says so.
    pub fn last_known(&self, id: &ReleaseId) -> Option<ObjectId> {
        let row = Index::load(&self.disk).ok()?.take_row(&path::release(id).ok()?)?;
        Some(row.release.object)
    }

    /// Reads the index and what it does not have; what is wrong with it comes second.
    fn read_through_index(
        &self,
        host: Arch,
    ) -> Result<(ReadCatalog, Option<IndexError>), StoreError> {
        let mut index = Index::load(&self.disk);
        let known = std::mem::take(index.as_mut().unwrap_or(&mut Index::default()));
        Ok((self.read_catalog(host, known)?, index.err()))
    }

    /// Remembers what was wrong with the index, and what was done about it.
    fn note_index(
        &self,
        read: &ReadCatalog,
        problem: Option<IndexError>,
        written: Option<Result<(), String>>,
    ) {
        // A store that has no index and needs none is as it should be.
        let Some(problem) = problem.filter(|_| !read.rows.is_empty()) else { return };
        let done = match written {
            Some(Ok(())) => "it has been rebuilt from the records".to_owned(),
            Some(Err(error)) => format!("every record was read, and it stays so: {error}"),
            None => "every record was read; the next add writes it anew".to_owned(),
        };
        *self.index_note.lock() = Some(format!("the index {problem}; {done}"));
    }

    /// An empty index, so that a store which misses its index is one that lost it.
    pub(super) fn write_first_index(&self) {
        // Without it everything works, only slower.
        drop(Index::default().save(&self.disk));
    }

    /// That the index was found damaged or missing since the store was opened.
    pub fn index_note(&self) -> Option<String> {
        self.index_note.lock().clone()
    }

    /// Whether a record of this release can be written, and is not there yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::OtherContent`]; [`StoreError::Damaged`] when the record that is there is;
    /// [`StoreError::Limit`]; [`StoreError::Io`].
    pub fn is_new(&self, release: &Release) -> Result<bool, StoreError> {
        encode(release)?;
        match record_of(&self.disk, &path::release(&release.id)?)? {
            Some(present) if is_same(&present, release) => Ok(false),
            Some(_) => Err(StoreError::OtherContent { id: Box::new(release.id.clone()) }),
            None => Ok(true),
        }
    }

    /// Makes a release record durable and visible; the same again is fine and answers `false`,
    /// whatever its origin.
    ///
    /// # Errors
    ///
    /// [`StoreError::OtherContent`]; [`StoreError::NoObject`]; [`StoreError::Damaged`] when the
    /// object or the record that is there is; [`StoreError::Limit`]; [`StoreError::Io`].
    pub fn publish_release(&self, _writer: &Writer, release: &Release) -> Result<bool, StoreError> {
        let path = path::release(&release.id)?;
        let bytes = encode(release)?;
        self.asked_for(&release.object);
        self.object(&release.object)?;
        let dir = path::package(&release.id.name);
        let is_new = self.is_new(release)?;
        if is_new {
            let temp = self.write_temp(&path, &bytes)?;
            self.disk.sync_temp(&temp).map_err(|error| self.io("syncing", &path, error))?;
            if !self.link(&temp, &path)? {
                return Err(damaged(&self.disk, &path, "it is not a regular file"));
            }
        }
        // Also when it was there: whoever wrote it may not have come this far.
        let synced = self.sync_dir(&dir).and_then(|()| self.sync_dir(Path::new(path::RELEASES)));
        synced.inspect_err(|_| {
            if is_new {
                // The caller hears that it failed, so it must not be found there.
                drop(self.disk.remove(&path));
            }
        })?;
        Ok(is_new)
    }

    /// The file that holds what the store says of a release.
    ///
    /// # Errors
    ///
    /// [`StoreError::Limit`] when its name would be too long for one.
    pub fn record_path(&self, id: &ReleaseId) -> Result<PathBuf, StoreError> {
        Ok(self.disk.root().join(path::release(id)?))
    }

    /// Moves a damaged release record aside, so that a good one can take its name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn set_record_aside(
        &self,
        writer: &Writer,
        id: &ReleaseId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.set_aside_now(writer, &path::release(id)?, at)
    }

    /// When the record of a release was written, as its file says; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`], [`StoreError::Limit`].
    pub fn record_written(&self, id: &ReleaseId) -> Result<Option<Timestamp>, StoreError> {
        let path = path::release(id)?;
        let stamp = self.disk.stamp(&path).map_err(|error| self.io("reading", &path, error))?;
        Ok(stamp.map(|stamp| Timestamp(stamp.changed_secs)))
    }

    /// Removes a release record, also a damaged one; its object stays until garbage collection.
    /// One that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]; when that came from syncing, the record is gone for now and may be
    /// there again after a power cut.
    pub fn remove_release(&self, _writer: &Writer, id: &ReleaseId) -> Result<(), StoreError> {
        let path = path::release(id)?;
        self.disk.remove(&path).map_err(|error| self.io("removing", &path, error))?;
        // Also when it was not there: whoever removed it may not have come this far.
        let dir = path::package(&id.name);
        match self.disk.sync_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|error| self.io("syncing", &dir, error)),
        }
    }
}
