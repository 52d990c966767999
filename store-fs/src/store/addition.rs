//! Adding: content is staged under no name, synced, and only then linked to the name that it is.
//!
//! ```text
//! batch   write nameless -> sync -> link outboards and blobs        as often as a batch is full
//! finish  the last batch -> write the object nameless -> sync everything -> link the object
//! ```
//!
//! So whatever moment the power goes at, a name in `blobs` never stands for other content than its
//! own, and an object is never there before all of its blobs are. What an addition that was given
//! up has linked stays as content that no object names: another addition may already rely on it.
//!
//! Whoever adds shares the lock `adding`, and garbage is collected by whoever holds it alone: so
//! nothing that an addition has linked or relies on goes before it has ended.
//!
//! Several processes may add the same content at once: the link decides, and the loser is content
//! with what is there. What was there before is verified, and gives way where it is bad:
//!
//! ```text
//! write the good one nameless -> sync -> name the bad one aside -> sync -> replace it in one step
//! ```
//!
//! So the bad file is never lost, and there is no moment at which its name stands for nothing.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use resolver::{BlobId, ObjectId, Timestamp};
use rustix::process::{Resource, getrlimit};

use super::read::outboard_len;
use super::{OBJECT_LEN_MAX, Store, damaged, path};
use crate::digest::{BlobHasher, Digest, digest};
use crate::disk::{Lock, Locking};
use crate::object::Node;
use crate::{Disk, StoreError, Tree, TreeBuilder};

/// Files up to this size are read into memory once, and hashed and written from there.
const WHOLE_LEN_MAX: u64 = 1024 * 1024;
/// Bytes of one piece of a larger file.
const PIECE_LEN: usize = 1024 * 1024;
/// Most nameless files in a batch: each is an open descriptor.
const BATCH_FILES_MAX: usize = 256;
/// Most bytes in a batch.
const BATCH_LEN_MAX: u64 = 256 * 1024 * 1024;
/// Batches of at most so many files are synced file by file, without waiting for what others
/// write to the same file system.
const FEW_FILES: usize = 16;
/// How often, and after which pause, an addition looks whether garbage is still being collected:
/// each step of that is short.
const COLLECTING_LOOKS: u32 = 6_000;
const COLLECTING_PAUSE: Duration = Duration::from_millis(10);

/// Content is being added: no garbage is collected while this value lives.
#[derive(Debug)]
pub struct Adding {
    _lock: Lock,
}

/// Blobs and an object on their way into a store: nothing has a name until it is whole, verified
/// and synced. Dropped before [`Addition::finish`], it leaves no object, and at most blobs that no
/// object names, for garbage collection. All methods may be called from many threads.
#[derive(Debug)]
pub struct Addition<'a, D: Disk> {
    store: &'a Store<D>,
    stage: Mutex<Stage<D::Temp>>,
    /// Held while a batch is synced and linked, so that at most one batch waits behind it.
    flushing: Mutex<()>,
    files_max: usize,
    new_bytes: AtomicU64,
    /// It only says what would become of it, and writes nothing.
    is_rehearsal: bool,
    _adding: Option<Adding>,
}

#[derive(Debug)]
struct Stage<T> {
    files: Vec<Staged<T>>,
    bytes: u64,
    /// Blobs that this addition has seen: the same content is staged once.
    claimed: HashSet<BlobId>,
}

/// A blob, an outboard or an object, whole, and without its name.
#[derive(Debug)]
struct Staged<T> {
    path: PathBuf,
    len: u64,
    temp: T,
    /// What has its name.
    present: Present,
}

/// What has the name of some content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Present {
    Nothing,
    Good,
    Bad,
}

impl Present {
    /// What an attempt to read it, verified, says of it.
    fn of<T>(read: Result<Option<T>, StoreError>) -> Result<Self, StoreError> {
        match read {
            Ok(None) => Ok(Self::Nothing),
            Ok(Some(_)) => Ok(Self::Good),
            Err(error) if error.is_bad_file() => Ok(Self::Bad),
            Err(error) => Err(error),
        }
    }
}

impl<D: Disk> Store<D> {
    /// Begins to add blobs and one object. Needs no [`super::Writer`]: content names itself, so
    /// any number may run at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownFeatures`] when this program may only read the store.
    pub fn add(&self) -> Result<Addition<'_, D>, StoreError> {
        self.begin(false)
    }

    /// The same, but nothing is written: everything is read, named and looked for, and refused if
    /// an addition would refuse it.
    ///
    /// # Errors
    ///
    /// As [`Store::add`].
    pub fn rehearse(&self) -> Result<Addition<'_, D>, StoreError> {
        self.begin(true)
    }

    fn begin(&self, is_rehearsal: bool) -> Result<Addition<'_, D>, StoreError> {
        self.format.check_writable()?;
        let adding = if is_rehearsal { None } else { Some(self.adding()?) };
        let stage = Stage { files: Vec::new(), bytes: 0, claimed: HashSet::new() };
        // A quarter: a second batch fills while one is synced, and the caller has files open too.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Addition {
            store: self,
            stage: Mutex::new(stage),
            flushing: Mutex::new(()),
            files_max: limit.clamp(1, BATCH_FILES_MAX),
            new_bytes: AtomicU64::new(0),
            is_rehearsal,
            _adding: adding,
        })
    }

    /// Keeps garbage from being collected. An addition does so by itself; whoever then writes the
    /// release record holds this from before the addition until the record is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Collecting`] when garbage is being collected and that does not end;
    /// [`StoreError::Io`].
    pub fn adding(&self) -> Result<Adding, StoreError> {
        let path = Path::new(path::ADDING);
        for _ in 0..COLLECTING_LOOKS {
            match self.disk.share(path).map_err(|error| self.io("locking", path, error))? {
                Locking::Mine(lock) => return Ok(Adding { _lock: lock }),
                Locking::Held(_) => thread::sleep(COLLECTING_PAUSE),
            }
        }
        Err(StoreError::Collecting)
    }
}

impl<D: Disk> Addition<'_, D> {
    /// Stores the content of a file, from its beginning, by reflink where the disk can. The file
    /// must be `len` bytes long; `tell` hears, again and again, how many more of them are done.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]; [`StoreError::Damaged`] with the path `source` when the length is
    /// another or the file changes meanwhile.
    pub fn file(
        &self,
        file: &File,
        len: u64,
        source: &Path,
        tell: &dyn Fn(u64),
    ) -> Result<BlobId, StoreError> {
        if len <= WHOLE_LEN_MAX {
            let id = self.bytes(&read_whole(file, len, source)?)?;
            tell(len);
            return Ok(id);
        }
        // It is read to be named, and again to be copied: each time counts for its share.
        let times = if self.is_rehearsal { 1 } else { 2 };
        let told = Cell::new(0);
        let share = |count: usize| {
            let share = count as u64 / times;
            told.set(told.get() + share);
            tell(share);
            count
        };
        let read = |at, piece: &mut [u8]| {
            read_piece(file, at, piece).map(share).map_err(|error| reading(source, error))
        };
        let digest = hash_pieces(len, read)?.ok_or_else(|| changed(source))?;
        self.once(digest.id, len, || {
            let path = path::blob(&digest.id);
            let mut temp = self.temp(&path)?;
            let outboard = digest.outboard.clone();
            if self.reflinked(&mut temp, &path, file)? {
                let copy = hash_pieces(len, |at, piece| {
                    let read = self.store.disk.read_temp(&temp, at, piece).map(share);
                    read.map_err(|error| self.store.io("reading", &path, error))
                })?;
                return if copy.as_ref() == Some(&digest) {
                    Ok((temp, outboard))
                } else {
                    Err(changed(source))
                };
            }
            let copy = hash_pieces(len, |at, piece| {
                let count = read(at, piece)?;
                self.write(&mut temp, &path, &piece[..count])?;
                Ok(count)
            })?;
            if copy.as_ref() == Some(&digest) { Ok((temp, outboard)) } else { Err(changed(source)) }
        })?;
        // All that was not read again, since it is there.
        tell(len.saturating_sub(told.get()));
        Ok(digest.id)
    }

    /// Stores bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        let Digest { id, len, outboard } = digest(bytes);
        self.once(id, len, || {
            let path = path::blob(&id);
            let mut temp = self.temp(&path)?;
            self.write(&mut temp, &path, bytes)?;
            Ok((temp, outboard))
        })?;
        Ok(id)
    }

    /// Stores content whose name and length are known before it arrives: `read` fills the piece
    /// that it is given, and answers 0 at the end. It is read to its end and verified in any case,
    /// also when it is stored already. `source` is where it comes from, for messages.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] of the source when the content has another name or length; what
    /// `read` says; [`StoreError::Io`].
    pub fn incoming(
        &self,
        id: BlobId,
        len: u64,
        source: &Path,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize, StoreError>,
    ) -> Result<(), StoreError> {
        let proven = |digest: Option<Digest>| match digest {
            Some(digest) if digest.id == id => Ok(digest.outboard),
            _ => Err(StoreError::Damaged {
                path: source.to_owned(),
                reason: format!("the content of {id} in it is not that of its name"),
            }),
        };
        let mut is_read = false;
        self.once(id, len, || {
            is_read = true;
            let path = path::blob(&id);
            let mut temp = self.temp(&path)?;
            let digest = hash_pieces(len, |_, piece| {
                let count = read(piece)?;
                self.write(&mut temp, &path, &piece[..count])?;
                Ok(count)
            })?;
            Ok((temp, proven(digest)?))
        })?;
        if !is_read {
            proven(hash_pieces(len, |_, piece| read(piece))?)?;
        }
        Ok(())
    }

    /// Bytes of content that the store did not have before.
    pub fn new_bytes(&self) -> u64 {
        self.new_bytes.load(Ordering::Relaxed)
    }

    /// Stores the object, makes everything durable, then visible, and answers with the object as
    /// the store has it. Every blob that the tree names must be there, from now or from before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`], [`StoreError::Limit`]; [`StoreError::Damaged`] naming a blob that is
    /// not there, or is there with another length.
    pub fn finish(self, tree: TreeBuilder) -> Result<Arc<Tree>, StoreError> {
        let (id, bytes) = tree.encode()?;
        let tree = Tree::decode(id, bytes)?;
        let (store, is_rehearsal) = (self.store, self.is_rehearsal);
        self.finish_all([&tree])?;
        if is_rehearsal { Ok(Arc::new(tree)) } else { store.object(&id) }
    }

    /// The same for any number of objects, none among them: blobs may come for objects that are
    /// there.
    ///
    /// # Errors
    ///
    /// As [`Addition::finish`].
    pub fn finish_all<'t>(
        self,
        trees: impl IntoIterator<Item = &'t Tree>,
    ) -> Result<(), StoreError> {
        self.flush()?;
        let store = self.store;
        let mut objects = Vec::new();
        for tree in trees {
            let (path, bytes) = (path::object(&tree.id()), tree.encoding());
            let len = bytes.len() as u64;
            if len > OBJECT_LEN_MAX {
                let what = "the length of an object".to_owned();
                return Err(StoreError::Limit { what, limit: OBJECT_LEN_MAX });
            }
            if self.is_rehearsal {
                continue;
            }
            let present = Present::of(store.load_object(&tree.id()))?;
            let temp = match present {
                Present::Good => None,
                _ => Some(store.write_temp(&path, bytes)?),
            };
            self.check_blobs(tree)?;
            objects.push((path, temp, len, present));
        }
        if self.is_rehearsal {
            return Ok(());
        }
        // The content of the objects, and the names of the blobs.
        store.sync_all()?;
        let mut dirs = BTreeSet::new();
        let mut files = Vec::new();
        for (path, temp, len, present) in objects {
            // Also when it was there: whoever linked it may not have come this far.
            dirs.extend(path.ancestors().skip(1).take(2).map(Path::to_owned));
            files.extend(temp.map(|temp| Staged { path, len, temp, present }));
        }
        store.name(&files)?;
        dirs.iter().try_for_each(|dir| store.sync_dir(dir))
    }

    /// Stages the content that `write` makes, with its outboard, unless it is staged or stored
    /// already.
    fn once(
        &self,
        id: BlobId,
        len: u64,
        write: impl FnOnce() -> Result<(D::Temp, Vec<u8>), StoreError>,
    ) -> Result<(), StoreError> {
        if !self.stage.lock().claimed.insert(id) {
            return Ok(());
        }
        let staged = self.stage_new(id, len, write);
        if staged.is_err() {
            self.stage.lock().claimed.remove(&id);
        }
        staged
    }

    fn stage_new(
        &self,
        id: BlobId,
        len: u64,
        write: impl FnOnce() -> Result<(D::Temp, Vec<u8>), StoreError>,
    ) -> Result<(), StoreError> {
        let (blob_path, outboard_path) = (path::blob(&id), path::outboard(&id));
        let outboard_present = self.store.outboard_present(&id, len)?;
        let present = Present::of(self.store.hash_blob(&id, Some(len)))?;
        if outboard_present == Present::Good && present == Present::Good {
            return Ok(());
        }
        if self.is_rehearsal {
            self.new_bytes.fetch_add(len, Ordering::Relaxed);
            return Ok(());
        }
        let (temp, outboard) = write()?;
        let mut files = Vec::new();
        // The outboard first: a blob that is there can be read.
        if outboard_present != Present::Good {
            let (path, len) = (outboard_path, outboard.len() as u64);
            let temp = self.store.write_temp(&path, &outboard)?;
            files.push(Staged { path, len, temp, present: outboard_present });
        }
        files.push(Staged { path: blob_path, len, temp, present });
        self.new_bytes.fetch_add(len, Ordering::Relaxed);
        let is_full = {
            let mut stage = self.stage.lock();
            stage.bytes += len;
            stage.files.extend(files);
            stage.files.len() >= self.files_max || stage.bytes >= BATCH_LEN_MAX
        };
        if is_full { self.flush() } else { Ok(()) }
    }

    /// Makes what is staged durable, and then visible.
    fn flush(&self) -> Result<(), StoreError> {
        let _flushing = self.flushing.lock();
        let files = {
            let mut stage = self.stage.lock();
            stage.bytes = 0;
            std::mem::take(&mut stage.files)
        };
        let store = self.store;
        if files.len() > FEW_FILES {
            store.sync_all()?;
        } else {
            for Staged { path, temp, .. } in &files {
                store.disk.sync_temp(temp).map_err(|error| store.io("syncing", path, error))?;
            }
        }
        store.name(&files)
    }

    /// Whatever went wrong before, also unnoticed, no object gets a name without its blobs.
    fn check_blobs(&self, tree: &Tree) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        for entry in 1..=tree.rows() {
            if let Some(Node::File { blob, size, .. }) = tree.row(entry).map(|row| row.node)
                && seen.insert(blob)
            {
                let path = path::blob(&blob);
                if !self.store.is_there(&path, size)? {
                    return Err(damaged(&self.store.disk, &path, "it is missing"));
                }
            }
        }
        Ok(())
    }

    fn temp(&self, path: &Path) -> Result<D::Temp, StoreError> {
        self.store.disk.temp().map_err(|error| self.store.io("creating", path, error))
    }

    fn write(&self, temp: &mut D::Temp, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.store.disk.write(temp, bytes);
        written.map_err(|error| self.store.io("writing", path, error))
    }

    fn reflinked(&self, temp: &mut D::Temp, path: &Path, file: &File) -> Result<bool, StoreError> {
        let done = self.store.disk.reflink(temp, file);
        done.map_err(|error| self.store.io("writing", path, error))
    }
}

impl<D: Disk> Store<D> {
    /// Whether a blob and the outboard that it needs are there. Their content is not read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] when one is there with another length; [`StoreError::Io`].
    pub fn has_blob(&self, blob: &BlobId, len: u64) -> Result<bool, StoreError> {
        let outboard_len = outboard_len(len);
        Ok(self.is_there(&path::blob(blob), len)?
            && (outboard_len == 0 || self.is_there(&path::outboard(blob), outboard_len)?))
    }

    /// The same, of which every byte is proven: `false` also when one is there and bad.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn has_good_blob(&self, blob: &BlobId, len: u64) -> Result<bool, StoreError> {
        let is_good = |present| present == Present::Good;
        Ok(is_good(self.outboard_present(blob, len)?)
            && is_good(Present::of(self.hash_blob(blob, Some(len)))?))
    }

    /// Whether the file of an object is there. Its content is not read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn has_object(&self, id: &ObjectId) -> Result<bool, StoreError> {
        let path = path::object(id);
        Ok(self.disk.stamp(&path).map_err(|error| self.io("reading", &path, error))?.is_some())
    }

    /// What is there for the outboard of a blob of this length; good where it needs none.
    fn outboard_present(&self, id: &BlobId, len: u64) -> Result<Present, StoreError> {
        if outboard_len(len) == 0 {
            return Ok(Present::Good);
        }
        let path = path::outboard(id);
        match self.disk.stamp(&path).map_err(|error| self.io("reading", &path, error))? {
            None => Ok(Present::Nothing),
            Some(_) => Present::of(self.load_outboard(id, len).map(Some)),
        }
    }

    /// Whether a file is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] when it is there with another length.
    fn is_there(&self, path: &Path, len: u64) -> Result<bool, StoreError> {
        let stamp = self.disk.stamp(path).map_err(|error| self.io("reading", path, error))?;
        match stamp {
            Some(stamp) if stamp.len != len => {
                let reason = format!("it has {} bytes instead of {len}", stamp.len);
                Err(damaged(&self.disk, path, reason))
            }
            stamp => Ok(stamp.is_some()),
        }
    }

    /// Gives files that are durable their names. What is bad there is kept aside.
    fn name(&self, files: &[Staged<D::Temp>]) -> Result<(), StoreError> {
        let is_bad = |file: &&Staged<D::Temp>| file.present == Present::Bad;
        let bad: Vec<&Path> = files.iter().filter(is_bad).map(|file| file.path.as_path()).collect();
        if !bad.is_empty() {
            let place = self.keep_aside(&bad, now())?;
            tracing::warn!(files = bad.len(), aside = %place.display(), "bad content is replaced");
        }
        for Staged { path, len, temp, present } in files {
            if *present == Present::Bad {
                let replaced = self.disk.replace(temp, path);
                replaced.map_err(|error| self.io("linking", path, error))?;
            } else if !self.link(temp, path)? && !self.is_there(path, *len)? {
                return Err(damaged(&self.disk, path, "it is not a regular file, or vanished"));
            }
        }
        // The names of the blobs are made durable with all others, before the object's.
        Ok(())
    }
}

/// For the name of a place aside alone.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn reading(source: &Path, error: std::io::Error) -> StoreError {
    StoreError::Io { action: "reading", path: source.to_owned(), source: error }
}

fn changed(source: &Path) -> StoreError {
    StoreError::Damaged {
        path: source.to_owned(),
        reason: "it changed while it was read".to_owned(),
    }
}

/// Fills the piece from an offset; less only at the end of the file.
fn read_piece(file: &File, offset: u64, piece: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < piece.len() {
        match file.read_at(&mut piece[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// All bytes of a small file, which must be `len` of them.
fn read_whole(file: &File, len: u64, source: &Path) -> Result<Vec<u8>, StoreError> {
    let len = usize::try_from(len).expect("a small file fits into memory");
    // One more, to see that it ends there.
    let mut bytes = vec![0; len + 1];
    let count = read_piece(file, 0, &mut bytes).map_err(|error| reading(source, error))?;
    if count != len {
        return Err(changed(source));
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Hashes what `read` delivers piece by piece; `None` when it is not `len` bytes.
fn hash_pieces(
    len: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, StoreError>,
) -> Result<Option<Digest>, StoreError> {
    let mut hasher = BlobHasher::new();
    // One more than there should be, to see that it ends there.
    let mut piece = vec![0; usize::try_from(len).map_or(PIECE_LEN, |len| PIECE_LEN.min(len + 1))];
    let mut at = 0;
    while at <= len {
        let count = read(at, &mut piece)?;
        if count == 0 {
            break;
        }
        hasher.update(&piece[..count]);
        at += count as u64;
    }
    Ok((at == len).then(|| hasher.finish()))
}
