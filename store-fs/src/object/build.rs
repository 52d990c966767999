//! Collects the entries of a tree in any order and writes the one encoding that it has.
//!
//! The order in which entries came leaves no trace: each directory is a sorted map, and the rows
//! are numbered when everything is there. An entry that is refused changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use resolver::{BlobId, ObjectId};

use super::layout as at;
use super::{
    DEPTH_MAX, FILE_SIZE_MAX, HEAP_LEN_MAX, NAME_LEN_MAX, NameFault, ROOT_ENTRY, ROWS_MAX,
    TARGET_LEN_MAX, TargetFault, check_name, check_target,
};
use crate::StoreError;

/// Collects the entries of a tree in any order and encodes them canonically.
#[derive(Debug)]
pub struct TreeBuilder {
    root: Dir,
    /// Rows so far, the root included.
    rows: u32,
    /// Bytes of names and targets so far.
    heap: u32,
}

type Dir = BTreeMap<Box<[u8]>, Entry>;

#[derive(Debug)]
enum Entry {
    Dir(Dir),
    File { blob: BlobId, size: u64, mtime: i64, executable: bool },
    Symlink(Box<[u8]>),
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self { root: Dir::new(), rows: ROOT_ENTRY, heap: 0 }
    }
}

impl TreeBuilder {
    /// An empty tree: a root directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of rows so far; the root is one of them.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Adds a directory at a relative path; its parents are made when missing; again is fine.
    ///
    /// # Errors
    ///
    /// [`StoreError::Limit`] for names, depth or count; [`StoreError::Damaged`] for an unusable or
    /// taken path.
    pub fn dir(&mut self, path: &[u8]) -> Result<(), StoreError> {
        if path.is_empty() {
            return Ok(());
        }
        self.insert(path, Entry::Dir(Dir::new()))
    }

    /// Adds a regular file.
    ///
    /// # Errors
    ///
    /// As [`TreeBuilder::dir`].
    pub fn file(
        &mut self,
        path: &[u8],
        blob: BlobId,
        size: u64,
        mtime: i64,
        executable: bool,
    ) -> Result<(), StoreError> {
        if size > FILE_SIZE_MAX {
            return Err(over("the size", path, FILE_SIZE_MAX));
        }
        self.insert(path, Entry::File { blob, size, mtime, executable })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    ///
    /// As [`TreeBuilder::dir`].
    pub fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), StoreError> {
        check_target(target).map_err(|fault| match fault {
            TargetFault::Long => over("the symlink target", path, TARGET_LEN_MAX as u64),
            TargetFault::Empty | TargetFault::Byte => unusable(path, fault.to_string()),
        })?;
        self.insert(path, Entry::Symlink(target.into()))
    }

    /// The object's name and its canonical encoding.
    ///
    /// # Errors
    ///
    /// [`StoreError::Limit`].
    pub fn encode(self) -> Result<(ObjectId, Vec<u8>), StoreError> {
        let bytes = Encoder::new(self.rows, self.heap).encode(&self.root);
        debug_assert_eq!(super::decode::check(&bytes), Ok(self.rows), "only canonical bytes");
        Ok((ObjectId::from_bytes(*blake3::hash(&bytes).as_bytes()), bytes))
    }

    /// Puts an entry at its path. Nothing is changed before everything is known to fit.
    fn insert(&mut self, path: &[u8], entry: Entry) -> Result<(), StoreError> {
        let names = components(path)?;
        let missing = missing(&self.root, &names, &entry, path)?;
        if missing == 0 {
            return Ok(());
        }
        let new = &names[names.len() - missing..];
        (self.rows, self.heap) = grown(self.rows, self.heap, new, &entry, path)?;
        let (last, parents) = names.split_last().expect("a path has at least one component");
        let mut dir = &mut self.root;
        for name in parents {
            dir = match dir.entry((*name).into()).or_insert_with(|| Entry::Dir(Dir::new())) {
                Entry::Dir(next) => next,
                taken => return Err(unusable(path, conflict(taken, false))),
            };
        }
        dir.insert((*last).into(), entry);
        Ok(())
    }
}

/// How many of the last `names` are not there yet; 0 when the entry is a directory that is.
fn missing(root: &Dir, names: &[&[u8]], entry: &Entry, path: &[u8]) -> Result<usize, StoreError> {
    let mut dir = root;
    for (index, name) in names.iter().enumerate() {
        let left = names.len() - index;
        match dir.get(*name) {
            None => return Ok(left),
            Some(Entry::Dir(next)) if left > 1 => dir = next,
            Some(Entry::Dir(_)) if matches!(entry, Entry::Dir(_)) => return Ok(0),
            Some(taken) => return Err(unusable(path, conflict(taken, left == 1))),
        }
    }
    Ok(0)
}

/// The names in a path, each checked.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, StoreError> {
    if path.starts_with(b"/") {
        return Err(unusable(path, "an absolute path".to_owned()));
    }
    let names: Vec<_> = path.split(|byte| *byte == b'/').collect();
    if names.len() > DEPTH_MAX {
        return Err(over("the depth", path, DEPTH_MAX as u64));
    }
    for name in &names {
        check_name(name).map_err(|fault| match fault {
            NameFault::Long => over("a name", path, NAME_LEN_MAX as u64),
            NameFault::Empty | NameFault::Dots | NameFault::Byte => {
                unusable(path, format!("{fault} in it"))
            }
        })?;
    }
    Ok(names)
}

/// Rows and heap after the names `new` and the entry under the last of them were added.
fn grown(
    rows: u32,
    heap: u32,
    new: &[&[u8]],
    entry: &Entry,
    path: &[u8],
) -> Result<(u32, u32), StoreError> {
    // Depth, name and target are bounded: the sums are far from the ends of their types.
    let names: usize = new.iter().map(|name| name.len()).sum();
    let target = if let Entry::Symlink(target) = entry { target.len() } else { 0 };
    let rows = u64::from(rows) + new.len() as u64;
    let heap = u64::from(heap) + (names + target) as u64;
    let rows = u32::try_from(rows).ok().filter(|rows| *rows <= ROWS_MAX);
    let heap = u32::try_from(heap).ok().filter(|heap| *heap <= HEAP_LEN_MAX);
    let rows = rows.ok_or_else(|| over("the number of entries", path, ROWS_MAX.into()))?;
    let heap = heap.ok_or_else(|| over("the length of all names", path, HEAP_LEN_MAX.into()))?;
    Ok((rows, heap))
}

fn conflict(taken: &Entry, last: bool) -> String {
    let kind = match taken {
        Entry::Dir(_) => "directory",
        Entry::File { .. } => "file",
        Entry::Symlink(_) => "symlink",
    };
    if last {
        format!("there is a {kind} already")
    } else {
        format!("a part of the path is a {kind}")
    }
}

fn path_of(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

fn unusable(path: &[u8], reason: String) -> StoreError {
    StoreError::Damaged { path: path_of(path), reason }
}

fn over(what: &str, path: &[u8], limit: u64) -> StoreError {
    StoreError::Limit { what: format!("{what} of {}", path_of(path).display()), limit }
}

/// Writes rows in breadth-first order. A directory's row is written when its children's place is
/// known, which is when it is reached: all directories before it have taken theirs.
struct Encoder {
    rows: Vec<u8>,
    heap: Vec<u8>,
    next_child: u32,
}

impl Encoder {
    fn new(rows: u32, heap: u32) -> Self {
        let mut header = [0; at::ROW_LEN];
        at::put(&mut header, 0, at::MAGIC);
        at::put(&mut header, at::HEADER_VERSION, at::VERSION.to_le_bytes());
        at::put(&mut header, at::HEADER_ROWS, rows.to_le_bytes());
        at::put(&mut header, at::HEADER_HEAP_LEN, heap.to_le_bytes());
        let heap_len = usize::try_from(heap).unwrap_or(0);
        let mut bytes = Vec::with_capacity(at::heap_start(rows).unwrap_or(0) + heap_len);
        bytes.extend_from_slice(&header);
        Self { rows: bytes, heap: Vec::with_capacity(heap_len), next_child: ROOT_ENTRY + 1 }
    }

    fn encode(mut self, root: &Dir) -> Vec<u8> {
        let mut row = ROOT_ENTRY;
        let mut waiting = VecDeque::from([(ROOT_ENTRY, root)]);
        self.dir(b"", ROOT_ENTRY, root);
        while let Some((parent, dir)) = waiting.pop_front() {
            for (name, entry) in dir {
                row += 1;
                match entry {
                    Entry::Dir(dir) => {
                        self.dir(name, parent, dir);
                        waiting.push_back((row, dir));
                    }
                    Entry::File { blob, size, mtime, executable } => {
                        let mut slot = self.slot(at::KIND_FILE, name, parent);
                        slot[at::FLAGS] = if *executable { at::FLAG_EXECUTABLE } else { 0 };
                        at::put(&mut slot, at::FILE_BLOB, *blob.as_bytes());
                        at::put(&mut slot, at::FILE_SIZE, size.to_le_bytes());
                        at::put(&mut slot, at::FILE_MTIME, mtime.to_le_bytes());
                        self.rows.extend_from_slice(&slot);
                    }
                    Entry::Symlink(target) => self.symlink(name, parent, target),
                }
            }
        }
        self.rows.append(&mut self.heap);
        self.rows
    }

    fn slot(&mut self, kind: u8, name: &[u8], parent: u32) -> at::Slot {
        let mut slot = [0; at::ROW_LEN];
        let (place, len) = self.text(name);
        slot[at::KIND] = kind;
        let [low, high, ..] = len.to_le_bytes();
        at::put(&mut slot, at::NAME_LEN, [low, high]);
        at::put(&mut slot, at::NAME_AT, place.to_le_bytes());
        at::put(&mut slot, at::PARENT, parent.to_le_bytes());
        slot
    }

    fn dir(&mut self, name: &[u8], parent: u32, dir: &Dir) {
        let mut slot = self.slot(at::KIND_DIR, name, parent);
        let subdirs = dir.values().filter(|entry| matches!(entry, Entry::Dir(_))).count();
        let count = small(dir.len());
        at::put(&mut slot, at::DIR_FIRST, self.next_child.to_le_bytes());
        at::put(&mut slot, at::DIR_COUNT, count.to_le_bytes());
        at::put(&mut slot, at::DIR_SUBDIRS, small(subdirs).to_le_bytes());
        self.next_child += count;
        self.rows.extend_from_slice(&slot);
    }

    fn symlink(&mut self, name: &[u8], parent: u32, target: &[u8]) {
        let mut slot = self.slot(at::KIND_LINK, name, parent);
        let (place, len) = self.text(target);
        at::put(&mut slot, at::LINK_AT, place.to_le_bytes());
        at::put(&mut slot, at::LINK_LEN, len.to_le_bytes());
        self.rows.extend_from_slice(&slot);
    }

    /// Puts a text into the heap: its place and length.
    fn text(&mut self, text: &[u8]) -> (u32, u32) {
        let place = small(self.heap.len());
        self.heap.extend_from_slice(text);
        (place, small(text.len()))
    }
}

/// A count of rows or of bytes in the heap.
fn small(count: usize) -> u32 {
    u32::try_from(count).expect("the builder keeps rows and heap below their limits")
}
