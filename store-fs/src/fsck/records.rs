//! Looks at the records: format, generations, releases, and what they name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use resolver::{Arch, Catalog, ObjectId, ReleaseId};

use super::content::AGAIN;
use super::{Check, Found, is_top, list, reason};
use crate::store::{Index, IndexError, path as paths, read_format, record_of};
use crate::{BadFile, Disk, StoreError};

impl<D: Disk> Check<'_, D> {
    pub(super) fn format(&mut self) -> Result<(), StoreError> {
        match read_format(self.store.disk()) {
            Ok(_) => Ok(()),
            Err(error @ (StoreError::NewerFormat { .. } | StoreError::UnknownFeatures { .. })) => {
                Err(error)
            }
            Err(StoreError::Absent { .. }) => {
                self.find("format-damaged", Path::new(paths::FORMAT), "it is missing");
                Ok(())
            }
            Err(error) => {
                self.find("format-damaged", Path::new(paths::FORMAT), reason(error));
                Ok(())
            }
        }
    }

    pub(super) fn top(&mut self) -> Result<(), StoreError> {
        for listed in list(self.store.disk(), Path::new(""))? {
            if !is_top(&listed) {
                self.unexpected(Path::new(&listed.name));
            }
        }
        Ok(())
    }

    pub(super) fn generations(&mut self, found: &Found) {
        let mut bad = Vec::new();
        for path in &found.generations {
            let number = path
                .file_name()
                .and_then(|name| paths::generation_number(name.to_str()?))
                .expect("only paths with a number were put there");
            match self.store.generation(number) {
                Ok(generation) => self.generations.push((path.clone(), generation)),
                Err(error @ StoreError::NewerFormat { .. }) => {
                    self.newer("generation-newer", path, error);
                }
                // Collected since it was listed.
                Err(StoreError::NoGeneration { .. }) => {}
                Err(error) => bad.push((number, path, error)),
            }
            self.report.generations += 1;
            self.step();
        }
        let good = self.generations.iter().map(|(_, generation)| generation.number);
        let readable = good.max().unwrap_or_default();
        let newest = bad.iter().map(|(number, ..)| *number).max();
        for (number, path, error) in bad {
            let is_newest = number > readable && Some(number) == newest;
            self.bad_generation(path, &error, is_newest);
            self.find("generation-damaged", path, reason(error));
            match is_newest {
                true => self.hint(&format!("dynfs restore {readable} goes on from an older one")),
                false => self.hint(
                    "the others can be used; undo and remove end at this one, unless dynfs fsck \
                     --repair moves it aside",
                ),
            }
        }
    }

    fn bad_generation(&mut self, path: &Path, error: &StoreError, is_newest: bool) {
        if !error.is_bad_file() {
            return;
        }
        let file = BadFile::now(self.store.disk(), path);
        match is_newest {
            true => self.report.needed.newest = file,
            false => self.report.needed.bad.extend(file),
        }
    }

    fn newer(&mut self, code: &'static str, path: &Path, error: StoreError) {
        self.find(code, path, reason(error));
        self.hint("use the newer dynfs that wrote it");
    }

    pub(super) fn releases(&mut self, found: &Found, host: &Arch) {
        let mut catalog = Catalog::new(host.clone());
        for path in &found.releases {
            match record_of(self.store.disk(), path) {
                Ok(Some(release)) => {
                    let name = release.id.to_string();
                    if let Err(error) = catalog.insert(Arc::new(release.clone())) {
                        let touched = vec![name.clone()];
                        self.find_for("release-conflict", path, error.to_string(), touched);
                    }
                    self.releases_of.entry(release.object).or_default().push(name);
                    self.releases.push((path.clone(), release));
                }
                // Removed since it was listed.
                Ok(None) => {}
                Err(error @ StoreError::NewerFormat { .. }) => {
                    self.newer("release-newer", path, error);
                }
                Err(error) => {
                    match paths::release_at(path) {
                        Some(id) => _ = self.report.needed.releases.insert(id, None),
                        None => self.bad(path, &error),
                    }
                    self.find("release-damaged", path, reason(error));
                    self.hint(AGAIN);
                }
            }
            self.report.releases += 1;
            self.step();
        }
    }

    /// Looks whether everything is there that releases and generations name.
    pub(super) fn references(&mut self) {
        let releases = std::mem::take(&mut self.releases);
        for (path, release) in &releases {
            if self.lacks_object(path, &release.object) {
                let message = format!("its object {} is not there", release.object);
                self.find_for("release-dangling", path, message, vec![release.id.to_string()]);
                self.hint(AGAIN);
                self.report.needed.objects.insert(release.object);
            }
        }
        let known: BTreeMap<_, _> =
            releases.iter().map(|(_, release)| (&release.id, release.object)).collect();
        for (path, generation) in std::mem::take(&mut self.generations) {
            for selection in generation.system.packages.values() {
                let (id, object) = (&selection.release, &selection.object);
                let as_listed = known.get(id);
                let is_known = as_listed == Some(object);
                let lacks_record =
                    !is_known && self.while_there(&path, || self.object_now(id) != Some(*object));
                let recorded = if is_known { as_listed.copied() } else { self.object_now(id) };
                if lacks_record && recorded.is_none() {
                    self.report.needed.releases.insert(id.clone(), Some(*object));
                }
                let missing = if self.lacks_object(&path, object) {
                    format!("it selects {id}, whose object is not there")
                } else if !lacks_record {
                    continue;
                } else if recorded.is_none() {
                    format!("it selects {id}, which is not in the store")
                } else {
                    format!("it selects {id} with other content than the store has")
                };
                self.find_for("generation-dangling", &path, missing, vec![id.to_string()]);
                self.hint("dynfs fsck --repair --from STORE|FILE brings back what it selects");
            }
        }
        self.releases = releases;
    }

    /// Whether the file of a release or generation is there, and an object that it names is not.
    fn lacks_object(&self, path: &Path, object: &ObjectId) -> bool {
        // Good or not: what is bad is named by itself.
        !self.objects.contains(object)
            && self.while_there(path, || self.is_gone(&paths::object(object)))
    }

    /// The object that the record of a release names now, if there is one that can be read.
    fn object_now(&self, id: &ReleaseId) -> Option<ObjectId> {
        let path = paths::release(id).ok()?;
        let record = record_of(self.store.disk(), &path).ok().flatten()?;
        Some(record.object)
    }

    /// Looks whether the index can be read, and says of every record what the record says.
    pub(super) fn index(&mut self) {
        let path = Path::new(paths::INDEX);
        let disk = self.store.disk();
        let wrong = match Index::load(disk) {
            Err(IndexError::Missing) => return,
            Err(IndexError::Damaged(reason)) => Some(reason),
            Ok(mut index) => self.releases.iter().find_map(|(record, release)| {
                let stamp = disk.stamp(record).ok().flatten()?;
                let known = index.take(record, &stamp)?;
                // The record may be another one than it was.
                let is_other = known != *release
                    && record_of(disk, record).is_ok_and(|now| now != Some(known));
                is_other.then(|| format!("it says something else of {}", release.id))
            }),
        };
        if let Some(reason) = wrong {
            self.find("index-damaged", path, reason);
            self.hint("dynfs fsck --repair writes it anew, and so does the next add");
            self.report.needed.index = true;
        }
    }
}
