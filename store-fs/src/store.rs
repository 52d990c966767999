//! The store: blobs, objects, release records and generations as plain files.
//!
//! ```text
//! format                               what a program must know first (record)
//! lock                                 held by the one writer; holds its process id
//! blobs/ab/<64 digits>                 a file's content, exactly; named by its BLAKE3 hash
//! outboards/ab/<64 digits>             hashes of the groups of a blob of more than one group
//! objects/ab/<64 digits>               the canonical encoding of a tree; named by its BLAKE3 hash
//! releases/<package>/<version>,<architecture>[,<variant>...]          (record)
//! generations/<number>                 a complete state; the highest number is the newest (record)
//! trash/<64 digits>                    that object is in the trash (empty file)
//! adding                               locked while content is added or garbage collected
//! index.redb                           may be deleted at any time
//! aside/<when>/...                     bad files, out of the way; no part of the state
//! tmp/                                 only on file systems without nameless files
//! run/                                 the daemon's; no part of the state
//! ```
//!
//! `ab` are the first two digits of the name. These files are the truth. Each is written under no
//! name, synced, and then linked, so that a name never stands for less than all of its content,
//! and never overwritten, but by good content where it is bad. A record is text and ends with its
//! own hash (see `record.rs`).
//!
//! Nothing here is trusted because it was right before: whatever is read is checked again, except
//! from caches in memory of what was checked. Nothing here decides what is selected.

mod addition;
mod aside;
mod collect;
mod format;
mod generation;
mod index;
mod lru;
pub(crate) mod path;
mod read;
pub(crate) mod record;
mod release;
mod renew;
mod selection;
mod trash;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use resolver::{BlobId, ObjectId};
use rustix::io::Errno;

use crate::digest::Outboard;
use crate::disk::{Caching, Listed, ListedKind, Lock, Locking, TMP_DIR};
use crate::{Disk, OsDisk, StoreError, Tree};

pub use addition::{Adding, Addition};
pub use aside::BadFile;
pub use collect::Emptied;
pub use format::{FORMAT_VERSION, Format, Prefix};
pub use generation::Unpublished;
pub(crate) use generation::{decode as decode_generation, encode as encode_generation};
pub use index::IndexCuts;
#[cfg(test)]
pub(crate) use index::Row as IndexRow;
pub(crate) use index::{Index, IndexError};
use lru::Lru;
pub use path::RUN_DIR;
pub(crate) use read::outboard_len;
pub(crate) use release::{decode as decode_release, encode as encode_release, record_of};
pub(crate) use selection::Line as SelectionLine;
use trash::Trash;

/// Most bytes of decoded objects that are kept in memory. With the allocator's own share, and a
/// million files that were looked at, the whole server stays below 64 MiB (measured).
const OBJECT_CACHE_LEN: usize = 20 * 1024 * 1024;
/// Most bytes of verified outboards that are kept in memory.
const OUTBOARD_CACHE_LEN: usize = 8 * 1024 * 1024;
/// Most bytes of one object's encoding.
pub(crate) const OBJECT_LEN_MAX: u64 = 1024 * 1024 * 1024;

/// The right to change a store: one in the world at a time, by a lock file.
#[derive(Debug)]
pub struct Writer {
    lock: Lock,
}

impl Writer {
    /// Something failed half-way: the next writer first makes durable what there is, as after the
    /// death of this one.
    pub fn abandon(&mut self) {
        self.lock.abandon();
    }
}

/// A store on a disk. Reading needs no lock.
#[derive(Debug)]
pub struct Store<D: Disk = OsDisk> {
    disk: D,
    format: Format,
    objects: Lru<ObjectId, Tree>,
    outboards: Lru<BlobId, Outboard>,
    index_note: Mutex<Option<String>>,
    trash: Trash,
}

impl<D: Disk> Store<D> {
    /// Makes an empty store, or opens the one that is there (its prefix must then be equal).
    ///
    /// # Errors
    ///
    /// [`StoreError::OtherPrefix`], [`StoreError::Occupied`], or as [`Store::open`].
    pub fn create(disk: D, prefix: &Prefix) -> Result<Self, StoreError> {
        let is_new = Self::is_vacant(&disk)?;
        if is_new {
            create(&disk, &Format::new(prefix.clone()))?;
        }
        let store = Self::open(disk)?;
        if store.format.prefix != *prefix {
            return Err(StoreError::OtherPrefix {
                present: store.format.prefix.as_path().to_owned(),
                given: prefix.as_path().to_owned(),
            });
        }
        if is_new {
            store.write_first_index();
        }
        Ok(store)
    }

    /// Whether a store can be made on this disk; `false` when one is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Occupied`] when something else is; [`StoreError::Io`].
    pub fn is_vacant(disk: &D) -> Result<bool, StoreError> {
        // Looked for first: when somebody else makes the store meanwhile, the record is there
        // before anything that would be taken for a stranger.
        let stranger = stranger(disk)?;
        if read_file(disk, Path::new(path::FORMAT), record::FORMAT.len_max)?.is_some() {
            return Ok(false);
        }
        match stranger {
            Some(found) => Err(StoreError::Occupied { path: disk.root().to_owned(), found }),
            None => Ok(true),
        }
    }

    /// Opens a store. Reads the format record and nothing else.
    ///
    /// # Errors
    ///
    /// [`StoreError::Absent`], [`StoreError::NewerFormat`], [`StoreError::UnknownFeatures`],
    /// [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn open(disk: D) -> Result<Self, StoreError> {
        let format = read_format(&disk)?;
        Ok(Self::with_format(disk, format))
    }

    /// A store of which the format record is not asked: for `fsck` of one that will not open.
    pub(crate) fn with_format(disk: D, format: Format) -> Self {
        Self {
            disk,
            format,
            objects: Lru::new(OBJECT_CACHE_LEN),
            outboards: Lru::new(OUTBOARD_CACHE_LEN),
            index_note: Mutex::new(None),
            trash: Trash::default(),
        }
    }

    /// The disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The format record.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Becomes the writer; cleans up what a killed writer left behind, and makes it durable: its
    /// last changes can be seen, and nothing may be built on them that would outlive them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] with the pid of the present one; [`StoreError::UnknownFeatures`] when
    /// this program may only read the store; [`StoreError::Io`].
    pub fn writer(&self) -> Result<Writer, StoreError> {
        self.format.check_writable()?;
        let path = Path::new(path::LOCK);
        match self.disk.lock(path).map_err(|error| self.io("locking", path, error))? {
            Locking::Held(pid) => Err(StoreError::Locked { pid }),
            Locking::Mine(lock) => {
                let mut writer = Writer { lock };
                if writer.lock.was_abandoned() {
                    self.settle(&writer).inspect_err(|_| writer.abandon())?;
                }
                let tmp = Path::new(TMP_DIR);
                self.disk.sweep().map_err(|error| self.io("cleaning", tmp, error))?;
                Ok(writer)
            }
        }
    }

    /// Makes durable whatever can be seen, after something failed half-way.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn settle(&self, _writer: &Writer) -> Result<(), StoreError> {
        self.sync_all()
    }

    /// An object, verified, from a bounded cache or the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoObject`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn object(&self, id: &ObjectId) -> Result<Arc<Tree>, StoreError> {
        if let Some(tree) = self.objects.get(id) {
            return Ok(tree);
        }
        let tree = Arc::new(self.load_object(id)?.ok_or(StoreError::NoObject { id: *id })?);
        self.objects.insert(*id, Arc::clone(&tree), tree.memory());
        Ok(tree)
    }

    /// An object, verified, from the disk.
    pub(crate) fn load_object(&self, id: &ObjectId) -> Result<Option<Tree>, StoreError> {
        let path = path::object(id);
        let Some(bytes) = read_file(&self.disk, &path, OBJECT_LEN_MAX)? else { return Ok(None) };
        Tree::decode(*id, bytes).map(Some).map_err(|error| match error {
            StoreError::Damaged { reason, .. } => damaged(&self.disk, &path, reason),
            other => other,
        })
    }

    fn io(&self, action: &'static str, path: &Path, source: io::Error) -> StoreError {
        io_error(&self.disk, action, path, source)
    }

    /// Writes bytes under no name. `path` is the name that they are to get, for messages.
    fn write_temp(&self, path: &Path, bytes: &[u8]) -> Result<D::Temp, StoreError> {
        write_temp(&self.disk, path, bytes)
    }

    /// Gives a file its name, in a directory that may have to be made first; `false` when the name
    /// is taken.
    fn link(&self, temp: &D::Temp, path: &Path) -> Result<bool, StoreError> {
        let mut linked = self.disk.link(temp, path);
        if let (Err(error), Some(dir)) = (&linked, path.parent())
            && error.kind() == io::ErrorKind::NotFound
        {
            self.disk.create_dir(dir).map_err(|error| self.io("creating", dir, error))?;
            linked = self.disk.link(temp, path);
        }
        linked.map_err(|error| self.io("linking", path, error))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.disk.sync_dir(path).map_err(|error| self.io("syncing", path, error))
    }

    fn sync_all(&self) -> Result<(), StoreError> {
        self.disk.sync_all().map_err(|error| self.io("syncing", Path::new(""), error))
    }
}

/// Everything but the format record is made first: a store is there when that record is.
fn create<D: Disk>(disk: &D, format: &Format) -> Result<(), StoreError> {
    let top = Path::new("");
    for dir in path::DIRS.map(Path::new) {
        disk.create_dir(dir).map_err(|error| io_error(disk, "creating", dir, error))?;
    }
    disk.sync_dir(top).map_err(|error| io_error(disk, "syncing", top, error))?;
    let path = Path::new(path::FORMAT);
    let temp = write_temp(disk, path, &format.encode()?)?;
    disk.sync_temp(&temp).map_err(|error| io_error(disk, "syncing", path, error))?;
    // Taken: somebody else made the same store at the same time.
    disk.link(&temp, path).map_err(|error| io_error(disk, "linking", path, error))?;
    disk.sync_dir(top).map_err(|error| io_error(disk, "syncing", top, error))
}

/// Something that the creation of a store, interrupted at any moment, does not leave behind.
fn stranger<D: Disk>(disk: &D) -> Result<Option<PathBuf>, StoreError> {
    let list = |dir: &Path| disk.list(dir).map_err(|error| io_error(disk, "listing", dir, error));
    for Listed { name, kind } in list(Path::new(""))? {
        let path = PathBuf::from(name);
        let is_ours = path.to_str().is_some_and(|name| path::DIRS.contains(&name));
        let strange = match kind {
            ListedKind::Dir if is_ours => list(&path)?.into_iter().next(),
            ListedKind::Dir if path == Path::new(TMP_DIR) => {
                list(&path)?.into_iter().find(|listed| !listed.is_leftover())
            }
            // Of the file system, which may be there for this store alone.
            ListedKind::Dir if path == Path::new("lost+found") => None,
            _ => return Ok(Some(path)),
        };
        if let Some(Listed { name, .. }) = strange {
            return Ok(Some(path.join(name)));
        }
    }
    Ok(None)
}

pub(crate) fn read_format<D: Disk>(disk: &D) -> Result<Format, StoreError> {
    let path = Path::new(path::FORMAT);
    let bytes = read_file(disk, path, record::FORMAT.len_max)?
        .ok_or_else(|| StoreError::Absent { path: disk.root().to_owned() })?;
    Format::decode(&bytes).map_err(|error| located(disk, path, error))
}

pub(crate) fn io_error<D: Disk>(
    disk: &D,
    action: &'static str,
    path: &Path,
    source: io::Error,
) -> StoreError {
    StoreError::Io { action, path: disk.root().join(path), source }
}

pub(crate) fn damaged<D: Disk>(disk: &D, path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Damaged { path: disk.root().join(path), reason: reason.into() }
}

/// The error of a record with its place in the file system instead of in the store.
pub(crate) fn located<D: Disk>(disk: &D, path: &Path, error: StoreError) -> StoreError {
    let path = disk.root().join(path);
    match error {
        StoreError::Damaged { reason, .. } => StoreError::Damaged { path, reason },
        StoreError::NewerFormat { found, known, .. } => {
            StoreError::NewerFormat { path, found, known }
        }
        other => other,
    }
}

fn write_temp<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<D::Temp, StoreError> {
    let mut temp = disk.temp().map_err(|error| io_error(disk, "creating", path, error))?;
    disk.write(&mut temp, bytes).map_err(|error| io_error(disk, "writing", path, error))?;
    Ok(temp)
}

/// All bytes of a file of at most `len_max` bytes; `None` when it is not there.
///
/// # Errors
///
/// [`StoreError::Damaged`] when it is longer, is no file, or gets shorter meanwhile;
/// [`StoreError::Io`].
pub(crate) fn read_file<D: Disk>(
    disk: &D,
    path: &Path,
    len_max: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let reading = |error: io::Error| match Errno::from_io_error(&error) {
        // Links are not followed.
        Some(Errno::ISDIR | Errno::LOOP) => damaged(disk, path, "it is not a file"),
        _ => io_error(disk, "reading", path, error),
    };
    let Some(file) = disk.open_file(path).map_err(reading)? else { return Ok(None) };
    let len = disk.len(&file).map_err(reading)?;
    if len > len_max {
        let reason = format!("it has {len} bytes, more than {len_max}");
        return Err(damaged(disk, path, reason));
    }
    let len = usize::try_from(len).map_err(|_| damaged(disk, path, "it is too long"))?;
    let mut bytes = vec![0; len];
    let count = disk.read_at(&file, 0, &mut bytes, Caching::Keep).map_err(reading)?;
    if count < len {
        return Err(damaged(disk, path, "it got shorter while it was read"));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
pub(crate) mod tests;
