//! The file system in plain Rust: a kernel's questions answered from the store and a view.
//!
//! ```text
//! inode = slot:32 | entry:32
//!   place   1      a virtual directory
//!   link    1      an entry of a union
//!   object  row    a regular file: one inode wherever it is seen, so that its pages are shared
//!   shown   row    a directory or a symbolic link of an object, as seen at one place
//! ```
//!
//! Answers are a function of the slot table, the objects and what is shown; nothing is remembered
//! of who asked what, so a new server needs no hand-over. The live tree's virtual directories
//! never wait for a disk, but for the first look at an object; see `docs/ARCHITECTURE.md`.
//! Nothing here asks for the time, and nothing here calls the kernel but [`announce`].

mod announce;
mod answer;
mod attr;
mod blind;
mod change;
mod damage;
mod held;
mod list;
mod place;
mod snapshot;
#[cfg(test)]
mod tests;
mod whereabouts;

use std::collections::BTreeSet;
use std::io;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use resolver::{Catalog, GenerationNumber, View};
use rustix::io::Errno;

pub use self::announce::{RequestGuard, announce};
use self::attr::Measured;
pub use self::change::catalog_names;
pub use self::damage::Damage;
pub use self::held::Held;
use self::place::Directories;
use self::snapshot::Snapshot;
pub use self::whereabouts::Whereabouts;
use crate::slots::{Full, Slots};
use crate::sync::{ArcSwap, Mutex};
use crate::{Disk, Memory, Store, StoreError};

/// How long a kernel may keep an answer: until it is told otherwise. The largest number of seconds
/// that no kernel's arithmetic overflows on.
pub const FOR_EVER: Duration = Duration::from_secs(u64::MAX / 4);
/// Longest name in a directory, in bytes (`NAME_MAX` of Linux).
pub const NAME_LEN_MAX: usize = 255;

/// An inode number: `slot:32 | entry:32`. The root is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount.
    pub const ROOT: Self = Self(1);

    /// The inode of an entry of a slot.
    const fn new(slot: u32, entry: u32) -> Self {
        Self((slot as u64) << 32 | entry as u64)
    }

    /// Its slot and its entry.
    const fn parts(self) -> (u32, u32) {
        ((self.0 >> 32) as u32, (self.0 & 0xffff_ffff) as u32)
    }
}

/// A name that nothing has, here or in any state.
const NO_NAME: &[u8] = b".nothing";

/// The three kinds of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// What `stat` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permission bits: 0444, 0555 or 0777.
    pub perm: u16,
    /// Links: 1 for files and links, 2 + subdirectories for directories; 1 for the top of a frozen
    /// tree, whose directories are not counted, and for a category while what is in it is withheld.
    pub nlink: u32,
    /// Seconds since 1970; also reported as atime and ctime.
    pub mtime: i64,
}

impl Attr {
    /// Bytes of a block: what is stored is counted in whole ones.
    pub const BLOCK_LEN: u32 = 4096;

    /// Units of 512 bytes in whole blocks, as every file system on a disk counts them.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.size.div_ceil(u64::from(Self::BLOCK_LEN)) * u64::from(Self::BLOCK_LEN / 512)
    }
}

/// The answer to a lookup that found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was found.
    pub attr: Attr,
    /// How long the kernel may keep it.
    pub ttl: Duration,
}

/// One line of a listing.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// What it stands for; for `.` and `..` too.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
    /// Where a later call goes on behind this line.
    pub offset: u64,
    /// Its attributes, in `readdirplus` and except for `.` and `..`. Also left out when learning
    /// them would have to wait for a disk: the kernel asks for them when it needs them.
    pub entry: Option<Entry>,
}

/// What is served: swapped as a whole.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The live generation.
    pub generation: GenerationNumber,
    /// Its view.
    pub view: Arc<View>,
    /// Every release, for `<package>@<version>`.
    pub catalog: Arc<Catalog>,
    /// Every generation, for `.generations`. The empty state before the first, 0, is there too.
    pub generations: Arc<BTreeSet<GenerationNumber>>,
}

impl Shown {
    /// The numbers in `.generations`, ascending.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = GenerationNumber> {
        iter::once(EMPTY).chain(self.generations.iter().copied())
    }
}

/// The state before the first generation.
pub(crate) const EMPTY: GenerationNumber = GenerationNumber(0);

/// What the kernel must be told after a change, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Names that answer differently.
    pub entries: Vec<(Ino, Vec<u8>)>,
    /// Directories in which nothing must be on its way any more that was answered before the
    /// change: those whose list changed, and those that hold them. Forgetting a name waits for what
    /// runs in its directory, forgetting a list waits for nothing; a list that came later, or the
    /// links of a directory that the kernel gets to know just then, would stay.
    pub waits: Vec<Ino>,
    /// Virtual directories whose list changed.
    pub lists: Vec<Ino>,
}

/// Who is told: the kernel behind a mount, or a model of one in tests.
pub trait Kernel {
    /// Forgets a name and everything cached below it. A name that is not cached is fine.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn drop_entry(&self, parent: Ino, name: &[u8]) -> io::Result<()>;

    /// Returns when every question has ended that was asked in a directory.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn wait_for(&self, dir: Ino) -> io::Result<()> {
        self.drop_entry(dir, NO_NAME)
    }

    /// Forgets the cached listing of a directory.
    ///
    /// # Errors
    ///
    /// The kernel's.
    fn drop_list(&self, dir: Ino) -> io::Result<()>;
}

/// Size and use, for `statfs`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Blocks of 4096 bytes in all objects of the live generation, as far as known.
    pub blocks: u64,
    /// Inodes likewise.
    pub files: u64,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsError {
    /// The kernel asks about a node that never existed. ESTALE.
    #[error("inode {0:?} is not known")]
    UnknownInode(Ino),
    /// A miss that must not be cached, since nobody could say later that it has become a hit: a
    /// generation with releases put in that do not exist. ENOENT.
    #[error("no such name")]
    Absent,
    /// ENOTDIR.
    #[error("inode {0:?} is not a directory")]
    NotDirectory(Ino),
    /// EINVAL.
    #[error("inode {0:?} is not a symbolic link")]
    NotSymlink(Ino),
    /// EISDIR.
    #[error("inode {0:?} is not a regular file")]
    NotFile(Ino),
    /// ENAMETOOLONG.
    #[error("a name is longer than 255 bytes")]
    NameTooLong,
    /// The slot table is full but for the reserve of the live tree. ENFILE.
    #[error("too many trees have been looked at since the mount")]
    SlotsFull,
    /// A file of the store is missing or damaged. EIO.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is selected cannot be read, and a guess would be wrong. EIO.
    #[error("the selections cannot be read: {0}")]
    Withheld(Arc<str>),
}

impl FsError {
    /// The one errno table.
    #[must_use]
    pub fn errno(&self) -> i32 {
        let errno = match self {
            Self::UnknownInode(_) => Errno::STALE,
            Self::Absent => Errno::NOENT,
            Self::NotDirectory(_) => Errno::NOTDIR,
            Self::NotSymlink(_) => Errno::INVAL,
            Self::NotFile(_) => Errno::ISDIR,
            Self::NameTooLong => Errno::NAMETOOLONG,
            Self::SlotsFull => Errno::NFILE,
            Self::Store(_) | Self::Withheld(_) => Errno::IO,
        };
        errno.raw_os_error()
    }
}

impl From<Full> for FsError {
    fn from(_: Full) -> Self {
        Self::SlotsFull
    }
}

/// The file system.
#[derive(Debug)]
pub struct DynFs<D: Disk> {
    store: Arc<Store<D>>,
    slots: Slots,
    directories: Directories,
    snapshot: ArcSwap<Snapshot>,
    /// Held while one state replaces another; no question ever waits for it.
    showing: Mutex<()>,
    measured: Measured,
}

impl<D: Disk> DynFs<D> {
    /// A file system that shows `shown` and knows the nodes in `memory`.
    #[must_use]
    pub fn new(store: Arc<Store<D>>, memory: Arc<Memory>, shown: Shown) -> Self {
        let slots = Slots::new(memory);
        Self {
            store,
            directories: Directories::new(slots.clone()),
            slots,
            snapshot: ArcSwap::from_pointee(Snapshot::new(shown)),
            showing: Mutex::new(()),
            measured: Measured::default(),
        }
    }

    /// Answers every name in the live tree with an error until something is shown again: the
    /// newest generation cannot be read, and an older one would be a silent step back. What the
    /// kernel knows already, frozen trees and releases by version go on.
    pub fn withhold(&self, reason: &str) {
        let _showing = self.showing.lock();
        let next = self.snapshot.load().withhold(reason);
        self.snapshot.store(Arc::new(next));
    }

    /// Whether the live tree is withheld.
    pub fn is_withheld(&self) -> bool {
        self.snapshot.load().live().is_err()
    }

    /// What is shown now.
    pub fn shown(&self) -> Arc<Shown> {
        self.snapshot.load().shown.clone()
    }
}
