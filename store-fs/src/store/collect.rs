//! Collecting garbage: what nothing needs goes to the trash, and from there for good.
//!
//! ```text
//! empty_trash       objects in the trash that are still not needed: deleted, synced
//!                   then every blob and outboard that no object names: deleted
//! trash_unneeded    objects that are not needed now: marked
//! ```
//!
//! Both are done alone with the lock `adding`, so no addition is on its way, and both may be cut at
//! any moment: objects go before their blobs, durably, so an object is never without its blobs; the
//! rest is garbage for the next time. What is needed is for the caller to say.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use resolver::{BlobId, ObjectId};

use super::{Store, Writer, path};
use crate::disk::{ListedKind, Lock, Locking};
use crate::{Disk, Node, StoreError};

/// How much was, or would be, deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Emptied {
    /// Objects.
    pub objects: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of all of these, and of outboards.
    pub bytes: u64,
    /// There is more that could be deleted.
    pub more: bool,
}

/// The blobs that objects name, by the first bytes of their names: two blobs that share them keep
/// each other, and a million takes 8 MB.
struct Named(Vec<u64>);

impl Named {
    fn has(&self, id: &BlobId) -> bool {
        self.0.binary_search(&head(id)).is_ok()
    }
}

fn head(id: &BlobId) -> u64 {
    id.as_bytes().iter().take(8).fold(0, |head, byte| head << 8 | u64::from(*byte))
}

/// A blob or an outboard that no object names.
struct Loose {
    path: PathBuf,
    is_blob: bool,
    len: u64,
}

impl<D: Disk> Store<D> {
    /// Deletes what is in the trash and not among `needed`, and then blobs and outboards that no
    /// object names, at most `files_max` of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Adding`] while content is added; [`StoreError::Damaged`] when an object that
    /// stays cannot be read, since its blobs are not known then; [`StoreError::Io`].
    pub fn empty_trash(
        &self,
        writer: &Writer,
        needed: &HashSet<ObjectId>,
        files_max: usize,
    ) -> Result<Emptied, StoreError> {
        let _alone = self.alone()?;
        let trash = self.trash()?;
        let doomed: Vec<ObjectId> =
            trash.iter().filter(|id| !needed.contains(id)).copied().collect();
        let lens = self.delete_from_trash(writer, &doomed)?;
        let shards: BTreeSet<PathBuf> =
            doomed.iter().filter_map(|id| Some(path::object(id).parent()?.to_owned())).collect();
        for shard in &shards {
            match self.disk.sync_dir(shard) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                synced => synced.map_err(|error| self.io("syncing", shard, error))?,
            }
        }
        // Of the deleted, and of those that something needs again.
        let present: HashSet<ObjectId> = self.object_ids()?.into_iter().collect();
        let meaningless = |id: &ObjectId| needed.contains(id) || !present.contains(id);
        self.unmark(writer, trash.into_iter().filter(meaningless))?;
        let mut emptied = Emptied { objects: lens.len() as u64, ..Emptied::default() };
        emptied.bytes = lens.iter().sum();
        let named = self.named(present.into_iter())?;
        let loose = self.loose(&named, files_max)?;
        emptied.more = loose.len() >= files_max;
        for Loose { path, is_blob, len } in loose {
            self.disk.remove(&path).map_err(|error| self.io("removing", &path, error))?;
            emptied.blobs += u64::from(is_blob);
            emptied.bytes += len;
        }
        Ok(emptied)
    }

    /// What [`Store::empty_trash`] would delete, or what it will once all that is not needed is in
    /// the trash (`also_new`). Writes nothing and takes no lock.
    ///
    /// # Errors
    ///
    /// As [`Store::empty_trash`].
    pub fn would_empty(
        &self,
        needed: &HashSet<ObjectId>,
        also_new: bool,
    ) -> Result<Emptied, StoreError> {
        let trash = self.trash()?;
        let goes = |id: &ObjectId| !needed.contains(id) && (also_new || trash.contains(id));
        let (doomed, staying): (Vec<_>, Vec<_>) = self.object_ids()?.into_iter().partition(goes);
        let named = self.named(staying.into_iter())?;
        let mut emptied = Emptied { objects: doomed.len() as u64, ..Emptied::default() };
        for id in doomed {
            let path = path::object(&id);
            let stamp = self.disk.stamp(&path).map_err(|error| self.io("reading", &path, error))?;
            emptied.bytes += stamp.map_or(0, |stamp| stamp.len);
        }
        for Loose { is_blob, len, .. } in self.loose(&named, usize::MAX)? {
            emptied.blobs += u64::from(is_blob);
            emptied.bytes += len;
        }
        Ok(emptied)
    }

    /// Puts every object into the trash that is not among `needed`, and says which were not there
    /// before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Adding`] while content is added; [`StoreError::Io`].
    pub fn trash_unneeded(
        &self,
        writer: &Writer,
        needed: &HashSet<ObjectId>,
    ) -> Result<Vec<ObjectId>, StoreError> {
        let _alone = self.alone()?;
        let unneeded = self.unneeded(needed)?;
        self.put_in_trash(writer, &unneeded)?;
        Ok(unneeded)
    }

    /// The objects that are neither among `needed` nor in the trash.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn unneeded(&self, needed: &HashSet<ObjectId>) -> Result<Vec<ObjectId>, StoreError> {
        let trash = self.trash()?;
        let mut ids = self.object_ids()?;
        ids.retain(|id| !needed.contains(id) && !trash.contains(id));
        Ok(ids)
    }

    /// Nobody adds anything while this is held.
    fn alone(&self) -> Result<Lock, StoreError> {
        let path = Path::new(path::ADDING);
        match self.disk.lock(path).map_err(|error| self.io("locking", path, error))? {
            Locking::Mine(lock) => Ok(lock),
            Locking::Held(_) => Err(StoreError::Adding),
        }
    }

    /// Every object that is there.
    fn object_ids(&self) -> Result<Vec<ObjectId>, StoreError> {
        let mut ids = Vec::new();
        for shard in self.shards(path::OBJECTS)? {
            ids.extend(self.ids::<ObjectId>(&shard)?);
        }
        Ok(ids)
    }

    /// The blobs of objects, each of which is read and verified.
    fn named(&self, objects: impl Iterator<Item = ObjectId>) -> Result<Named, StoreError> {
        let mut heads = Vec::new();
        for id in objects {
            // Not through the cache, which is for those who are served.
            let Some(tree) = self.load_object(&id)? else { continue };
            let rows = (1..=tree.rows()).filter_map(|row| tree.row(row));
            heads.extend(rows.filter_map(|row| match row.node {
                Node::File { blob, .. } => Some(head(&blob)),
                Node::Dir { .. } | Node::Symlink { .. } => None,
            }));
        }
        heads.sort_unstable();
        heads.dedup();
        Ok(Named(heads))
    }

    /// Blobs, and then outboards, that are not named.
    fn loose(&self, named: &Named, files_max: usize) -> Result<Vec<Loose>, StoreError> {
        let mut loose = Vec::new();
        for (top, is_blob) in [(path::BLOBS, true), (path::OUTBOARDS, false)] {
            let place = if is_blob { path::blob } else { path::outboard };
            for shard in self.shards(top)? {
                for id in self.ids::<BlobId>(&shard)?.iter().filter(|id| !named.has(id)) {
                    if loose.len() >= files_max {
                        return Ok(loose);
                    }
                    let path = place(id);
                    let stamp = self.disk.stamp(&path);
                    let stamp = stamp.map_err(|error| self.io("reading", &path, error))?;
                    let len = stamp.map_or(0, |stamp| stamp.len);
                    loose.push(Loose { path, is_blob, len });
                }
            }
        }
        Ok(loose)
    }

    fn shards(&self, top: &str) -> Result<Vec<PathBuf>, StoreError> {
        let top = Path::new(top);
        let listed = self.disk.list(top).map_err(|error| self.io("listing", top, error))?;
        let dirs = listed.into_iter().filter(|listed| listed.kind == ListedKind::Dir);
        Ok(dirs.map(|listed| top.join(listed.name)).collect())
    }

    /// The names in a shard that belong there; what else is in it is not touched.
    fn ids<T: FromStr>(&self, shard: &Path) -> Result<Vec<T>, StoreError> {
        let listed = self.disk.list(shard).map_err(|error| self.io("listing", shard, error))?;
        let head = shard.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let files = listed.iter().filter(|listed| listed.kind == ListedKind::File);
        let names = files.filter_map(|listed| listed.name.to_str());
        Ok(names.filter(|name| name.starts_with(head)).filter_map(|n| n.parse().ok()).collect())
    }
}
