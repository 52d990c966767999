//! The trash: objects that nothing needed when garbage was collected last.
//!
//! ```text
//! object --put_in_trash--> marked --next collection--> deleted
//!    ^                       |
//!    `------ asked_for ------'
//! ```
//!
//! Being in the trash is a mark, `trash/<64 digits>`, and nothing is moved: content stays where it
//! is and is served from there, verified as always, so there is no moment at which it is in two
//! places or in none. A mark alone never deletes anything: whoever empties the trash asks again
//! what is needed. So a mark may be lost, or come back, in a power cut.

use std::collections::BTreeSet;
use std::path::Path;

use resolver::ObjectId;

use super::{Store, Writer, path};
use crate::disk::ListedKind;
use crate::sync::Mutex;
use crate::{Disk, StoreError};

/// The marks, as this process knows them.
#[derive(Debug, Default)]
pub(super) struct Trash {
    /// Read at first need. While this process is the writer or serves, nobody else makes marks.
    marks: Mutex<Option<BTreeSet<ObjectId>>>,
}

impl<D: Disk> Store<D> {
    /// The objects in the trash, as the disk has them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn trash(&self) -> Result<BTreeSet<ObjectId>, StoreError> {
        let dir = Path::new(path::TRASH);
        let listed = self.disk.list(dir).map_err(|error| self.io("listing", dir, error))?;
        let files = listed.iter().filter(|listed| listed.kind == ListedKind::File);
        Ok(files.filter_map(|listed| listed.name.to_str()?.parse().ok()).collect())
    }

    /// Somebody asks for an object: it is in the trash no more. That this fails keeps nobody from
    /// the object, and is tried again when it is asked for again.
    pub fn asked_for(&self, id: &ObjectId) {
        let mut known = self.trash.marks.lock();
        let taken = self.known(&mut known).and_then(|marks| self.take_out(marks, id));
        match taken {
            Ok(false) => {}
            Ok(true) => tracing::info!(object = %id, "asked for, and out of the trash"),
            Err(error) => tracing::warn!(object = %id, "it may stay in the trash: {error}"),
        }
    }

    /// Puts objects into the trash; durable when it returns.
    pub(super) fn put_in_trash(
        &self,
        _writer: &Writer,
        ids: &[ObjectId],
    ) -> Result<(), StoreError> {
        for id in ids {
            let path = path::trash(id);
            let temp = self.write_temp(&path, &[])?;
            let mut known = self.trash.marks.lock();
            let marks = self.known(&mut known)?;
            self.link(&temp, &path)?;
            marks.insert(*id);
        }
        // The directory itself is missing in a store that is older than it.
        let dirs = if ids.is_empty() { [].as_slice() } else { &[path::TRASH, ""] };
        dirs.iter().try_for_each(|dir| self.sync_dir(Path::new(dir)))
    }

    /// Deletes those of the objects that are still in the trash; the bytes of each.
    pub(super) fn delete_from_trash(
        &self,
        _writer: &Writer,
        ids: &[ObjectId],
    ) -> Result<Vec<u64>, StoreError> {
        let mut deleted = Vec::new();
        for id in ids {
            let path = path::object(id);
            let removing = |error| self.io("removing", &path, error);
            // While this is held nobody can ask for it.
            let mut known = self.trash.marks.lock();
            let marks = self.known(&mut known)?;
            if !marks.contains(id) {
                continue;
            }
            let stamp = self.disk.stamp(&path).map_err(removing)?;
            // Gone from memory first: a release must not be published on what is deleted.
            self.objects.remove(id);
            self.disk.remove(&path).map_err(removing)?;
            deleted.extend(stamp.map(|stamp| stamp.len));
            self.take_out(marks, id)?;
        }
        Ok(deleted)
    }

    /// Takes marks away that mean nothing any more.
    pub(super) fn unmark(
        &self,
        _writer: &Writer,
        mut ids: impl Iterator<Item = ObjectId>,
    ) -> Result<(), StoreError> {
        let mut known = self.trash.marks.lock();
        let marks = self.known(&mut known)?;
        ids.try_for_each(|id| self.take_out(marks, &id).map(drop))
    }

    /// The marks, read when they are not known yet.
    fn known<'m>(
        &self,
        marks: &'m mut Option<BTreeSet<ObjectId>>,
    ) -> Result<&'m mut BTreeSet<ObjectId>, StoreError> {
        match marks {
            Some(marks) => Ok(marks),
            None => Ok(marks.insert(self.trash()?)),
        }
    }

    /// Removes a mark, unless there is none.
    fn take_out(&self, marks: &mut BTreeSet<ObjectId>, id: &ObjectId) -> Result<bool, StoreError> {
        if !marks.contains(id) {
            return Ok(false);
        }
        let path = path::trash(id);
        self.disk.remove(&path).map_err(|error| self.io("removing", &path, error))?;
        Ok(marks.remove(id))
    }
}
