//! Objects: immutable directory trees in one canonical encoding, whose BLAKE3 hash is their name.
//!
//! The format on disk, version 1. All numbers are little-endian and unsigned, except `mtime`.
//!
//! ```text
//! byte 0                64                 128            64*(rows+1)
//! +---------------------+------------------+-- ... --+---+----------------------------+
//! | header              | row 1 (root)     | row 2   |...| heap: names and targets    |
//! +---------------------+------------------+-- ... --+---+----------------------------+
//!
//! header    0  8  magic "dynfsobj"          every row    0  1  kind: 1 dir, 2 file, 3 symlink
//!           8  4  version, 1                             1  1  flags: bit 0 executable file
//!          12  4  rows, at least 1                       2  2  length of the name
//!          16  4  bytes of the heap                      4  4  place of the name in the heap
//!          20 44  zero                                   8  4  row of the parent; root: 1
//!                                                       12  4  zero
//!
//! directory 16  4  row of the first child   file        16 32  blob: BLAKE3 of the content
//!           20  4  number of children                   48  8  size, bytes, below 2^63
//!           24  4  directories among them               56  8  mtime, seconds since 1970, signed
//!           28 36  zero
//!                                           symlink     16  4  place of the target in the heap
//!                                                       20  4  length of the target
//!                                                       24 40  zero
//! ```
//!
//! One tree has exactly one encoding, and nothing else is accepted:
//! * Rows are in breadth-first order from the root, row 1. The children of a directory are
//!   consecutive and strictly ascending by the bytes of their names.
//! * The heap holds, in the order of the rows, each row's name and behind it a symlink's target,
//!   with nothing between, before or after them. The root has no name.
//! * A directory without children says where its first child would be.
//!
//! Nothing here reads a file. A [`Tree`] keeps these bytes and answers from them, with no
//! allocation per row; whoever asks for a row that is not there gets `None`.

mod build;
mod decode;
mod layout;

use std::cmp::Ordering;
use std::ops::Range;
use std::path::PathBuf;

use resolver::{BlobId, ObjectId};

pub use build::TreeBuilder;
use layout as at;

use crate::StoreError;

/// The row of an object's root directory.
pub const ROOT_ENTRY: u32 = 1;
/// Most rows in an object.
pub const ROWS_MAX: u32 = 1 << 23;
/// Most bytes of names and targets in an object.
pub const HEAP_LEN_MAX: u32 = 1 << 29;
/// Longest name, in bytes (`NAME_MAX` of Linux).
pub const NAME_LEN_MAX: usize = 255;
/// Longest symlink target, in bytes (`PATH_MAX` of Linux without its NUL).
pub const TARGET_LEN_MAX: usize = 4095;
/// Most components in a path.
pub const DEPTH_MAX: usize = 1024;
/// Largest file, in bytes (`loff_t` of Linux).
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;
/// Longest encoding: header, rows and heap.
pub const ENCODED_LEN_MAX: u64 = (ROWS_MAX as u64 + 1) * at::ROW_LEN as u64 + HEAP_LEN_MAX as u64;

/// A decoded, verified object. Rows are numbered from [`ROOT_ENTRY`] in breadth-first order; the
/// children of a directory are consecutive and sorted by name, so a row number is a readdir offset.
pub struct Tree {
    id: ObjectId,
    rows: u32,
    /// The canonical encoding. [`decode::check`] has seen every byte of it.
    bytes: Vec<u8>,
}

/// One row of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Its name in its directory; empty for the root.
    pub name: &'a [u8],
    /// The row of its directory; the root's is its own.
    pub parent: u32,
    /// What it is.
    pub node: Node<'a>,
}

/// What a row stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// A directory: its children's rows, and how many of them are directories (for `st_nlink`).
    Dir {
        /// Rows of the children.
        children: Range<u32>,
        /// Directories among them.
        subdirs: u32,
    },
    /// A regular file.
    File {
        /// Its content.
        blob: BlobId,
        /// Bytes.
        size: u64,
        /// Seconds since 1970.
        mtime: i64,
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A symbolic link and its text.
    Symlink {
        /// Any bytes but NUL.
        target: &'a [u8],
    },
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("id", &self.id).field("rows", &self.rows).finish()
    }
}

impl Tree {
    /// Decodes the canonical encoding, checking every offset, order and count, and that `id` is
    /// its hash.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`].
    pub fn decode(id: ObjectId, bytes: Vec<u8>) -> Result<Self, StoreError> {
        let damaged = |reason| StoreError::Damaged { path: PathBuf::from(id.to_string()), reason };
        if blake3::hash(&bytes).as_bytes() != id.as_bytes() {
            return Err(damaged("its bytes do not have this hash".to_owned()));
        }
        let rows = decode::check(&bytes).map_err(|fault| damaged(fault.to_string()))?;
        Ok(Self { id, rows, bytes })
    }

    /// The object's name.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The canonical encoding.
    #[must_use]
    pub fn encoding(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of rows; rows are `1..=rows`.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The row of this number; `None` when there is none (the number came from outside).
    #[must_use]
    pub fn row(&self, entry: u32) -> Option<Row<'_>> {
        let slot = self.slot(entry)?;
        let node = match slot[at::KIND] {
            at::KIND_DIR => Node::Dir {
                children: children_of(slot),
                subdirs: at::get_u32(slot, at::DIR_SUBDIRS),
            },
            at::KIND_FILE => Node::File {
                blob: BlobId::from_bytes(at::field(slot, at::FILE_BLOB)),
                size: at::get_u64(slot, at::FILE_SIZE),
                mtime: at::get_i64(slot, at::FILE_MTIME),
                executable: slot[at::FLAGS] & at::FLAG_EXECUTABLE != 0,
            },
            _ => Node::Symlink { target: self.target_of(slot)? },
        };
        Some(Row { name: self.name_of(slot)?, parent: at::get_u32(slot, at::PARENT), node })
    }

    /// The rows of a directory's children; `None` when the row is no directory.
    #[must_use]
    pub fn children(&self, dir: u32) -> Option<Range<u32>> {
        let slot = self.slot(dir)?;
        (slot[at::KIND] == at::KIND_DIR).then(|| children_of(slot))
    }

    /// The row of a name in a directory.
    #[must_use]
    pub fn child(&self, dir: u32, name: &[u8]) -> Option<u32> {
        let Range { start: mut low, end: mut high } = self.children(dir)?;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle)?.cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// The row of a relative path (`lib/liblzma.so.5`), symbolic links not followed. The empty
    /// path is the root.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<u32> {
        if path.is_empty() {
            return Some(ROOT_ENTRY);
        }
        path.split(|byte| *byte == b'/').try_fold(ROOT_ENTRY, |dir, name| self.child(dir, name))
    }

    /// The path of a row below the object's root; empty for the root.
    #[must_use]
    pub fn path(&self, entry: u32) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut row = entry;
        while row != ROOT_ENTRY {
            names.push(self.name(row)?);
            // A parent is always an earlier row: this ends.
            row = at::get_u32(self.slot(row)?, at::PARENT);
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    /// Bytes of memory that this value holds, for bounding a cache.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    fn name(&self, entry: u32) -> Option<&[u8]> {
        self.name_of(self.slot(entry)?)
    }

    fn slot(&self, entry: u32) -> Option<&at::Slot> {
        if (ROOT_ENTRY..=self.rows).contains(&entry) { at::slot(&self.bytes, entry) } else { None }
    }

    fn name_of(&self, slot: &at::Slot) -> Option<&[u8]> {
        let len = usize::from(at::get_u16(slot, at::NAME_LEN));
        at::heap(&self.bytes, self.rows, at::get_u32(slot, at::NAME_AT), len)
    }

    fn target_of(&self, slot: &at::Slot) -> Option<&[u8]> {
        let len = usize::try_from(at::get_u32(slot, at::LINK_LEN)).ok()?;
        at::heap(&self.bytes, self.rows, at::get_u32(slot, at::LINK_AT), len)
    }
}

fn children_of(slot: &at::Slot) -> Range<u32> {
    let first = at::get_u32(slot, at::DIR_FIRST);
    first..first.saturating_add(at::get_u32(slot, at::DIR_COUNT))
}

/// Why bytes can not be the name of a directory's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum NameFault {
    #[error("an empty name")]
    Empty,
    #[error("a name longer than {NAME_LEN_MAX} bytes")]
    Long,
    #[error("the name `.` or `..`")]
    Dots,
    #[error("a name with a slash or NUL in it")]
    Byte,
}

fn check_name(name: &[u8]) -> Result<(), NameFault> {
    match name {
        b"" => Err(NameFault::Empty),
        b"." | b".." => Err(NameFault::Dots),
        _ if name.len() > NAME_LEN_MAX => Err(NameFault::Long),
        _ if name.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(NameFault::Byte),
        _ => Ok(()),
    }
}

/// Why bytes can not be the target of a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum TargetFault {
    #[error("a symlink without a target")]
    Empty,
    #[error("a symlink target longer than {TARGET_LEN_MAX} bytes")]
    Long,
    #[error("a symlink target with NUL in it")]
    Byte,
}

fn check_target(target: &[u8]) -> Result<(), TargetFault> {
    if target.is_empty() {
        return Err(TargetFault::Empty);
    }
    if target.len() > TARGET_LEN_MAX {
        return Err(TargetFault::Long);
    }
    if target.contains(&0) { Err(TargetFault::Byte) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
