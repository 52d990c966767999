//! The narrow interface to where bytes live, with a real and a simulated disk behind it.
//!
//! A disk is a directory. Every path given to it is relative to that directory and built by the
//! store from checked names. New content is always written under no name first, and then linked;
//! a name that exists is never overwritten, except for the one file that is rebuildable, and by
//! good content where it stands for bad ([`Disk::replace`]). Nothing is ever mapped into memory: a
//! file cut short by somebody else would then be a SIGBUS instead of an error.
//!
//! Errors are the operating system's. The store adds the path and what it was doing.

mod os;
mod sim;

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::process::Pid;

pub use os::{OsDisk, OsFile, OsTemp, create_public_dir, keep_to_owner};
pub use sim::{Loss, PowerCut, SimDisk, SimFile, SimTemp};

/// The directory for temporary files on file systems that have no nameless ones.
pub(crate) const TMP_DIR: &str = "tmp";

/// What distinguishes one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub len: u64,
    /// Last change of the inode: seconds since 1970.
    pub changed_secs: i64,
    /// And nanoseconds.
    pub changed_nanos: u32,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name.
    pub name: std::ffi::OsString,
    /// What it is.
    pub kind: ListedKind,
}

impl Listed {
    /// In [`TMP_DIR`]: the process id in the name of a temporary file that a writer may have left.
    /// A name of another form was not written by this program.
    fn left_by(&self) -> Option<Pid> {
        let (pid, number) = self.name.to_str()?.split_once('-')?;
        number.parse::<u64>().ok()?;
        pid.parse().ok().filter(|pid: &i32| *pid > 0).and_then(Pid::from_raw)
    }

    /// In [`TMP_DIR`]: a temporary file that a writer may have left.
    pub(crate) fn is_leftover(&self) -> bool {
        self.kind == ListedKind::File && self.left_by().is_some()
    }
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListedKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Anything else: it cannot be a store's.
    Other,
}

/// Whether bytes that were read should stay in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// As the operating system likes: for records and objects.
    Keep,
    /// No: whoever asked has a cache of its own, and two copies of each byte are one too many.
    Drop,
}

/// The answer of [`Disk::lock`].
#[derive(Debug)]
pub enum Locking {
    /// The lock is held until this value is dropped.
    Mine(Lock),
    /// Somebody else holds it; the process id, or 0 when it could not be learned.
    Held(u32),
}

/// A held lock.
#[derive(Debug)]
pub enum Lock {
    /// An open, locked file: the kernel releases it with the process.
    Os(os::OsLock),
    /// A lock of a simulated disk.
    Sim(sim::SimLock),
}

impl Lock {
    /// Whoever held it alone before was killed, or abandoned it.
    #[must_use]
    pub fn was_abandoned(&self) -> bool {
        match self {
            Self::Os(lock) => lock.was_abandoned,
            Self::Sim(lock) => lock.was_abandoned,
        }
    }

    /// Whoever holds it alone next will hear that it was abandoned, as after a death.
    pub fn abandon(&mut self) {
        match self {
            Self::Os(lock) => lock.is_abandoned = true,
            Self::Sim(lock) => lock.is_abandoned = true,
        }
    }
}

/// Where a store's files live.
pub trait Disk: Debug + Send + Sync + 'static {
    /// A file being written under no name. Dropped without [`Disk::link`], it leaves nothing.
    type Temp: Debug + Send + Sync;
    /// A file open for reading.
    type File: Debug + Send + Sync;

    /// The directory, for messages.
    fn root(&self) -> &Path;

    /// Makes a directory that everybody can look into; `false` when it is there.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn create_dir(&self, path: &Path) -> io::Result<bool>;

    /// The names in a directory, sorted, without `.` and `..`; none in one that is not there.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn list(&self, path: &Path) -> io::Result<Vec<Listed>>;

    /// The stamp of a regular file; `None` when there is no such file.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>>;

    /// Opens a regular file for reading; `None` when there is no such file.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn open_file(&self, path: &Path) -> io::Result<Option<Self::File>>;

    /// Bytes in an open file.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn len(&self, file: &Self::File) -> io::Result<u64>;

    /// Reads at an offset; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn read_at(
        &self,
        file: &Self::File,
        offset: u64,
        buffer: &mut [u8],
        caching: Caching,
    ) -> io::Result<usize>;

    /// Begins a file under no name. It will be readable by everybody and writable by nobody.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn temp(&self) -> io::Result<Self::Temp>;

    /// Appends. Blocks of zeros may become holes, which are read as zeros and take no room.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn write(&self, temp: &mut Self::Temp, bytes: &[u8]) -> io::Result<()>;

    /// Makes an empty temporary file share the content of `source`; `false` when this disk or
    /// these two file systems cannot, and then nothing was done.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn reflink(&self, temp: &mut Self::Temp, source: &File) -> io::Result<bool>;

    /// Reads back what was written; fewer bytes than asked for only at the end.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn read_temp(&self, temp: &Self::Temp, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Makes the content durable (not a name).
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn sync_temp(&self, temp: &Self::Temp) -> io::Result<()>;

    /// Gives the file a name; `false` when the name is taken, and then nothing was done. The name
    /// is durable after [`Disk::sync_dir`] of its directory, or [`Disk::sync_all`].
    ///
    /// # Errors
    ///
    /// The operating system's; `NotFound` when the directory is not there.
    fn link(&self, temp: &Self::Temp, path: &Path) -> io::Result<bool>;

    /// Gives the file a name and takes it from whatever had it. Only for what can be rebuilt.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn replace(&self, temp: &Self::Temp, path: &Path) -> io::Result<()>;

    /// Gives a file that has a name another one as well; `false` when that is taken, and then
    /// nothing was done.
    ///
    /// # Errors
    ///
    /// The operating system's; `NotFound` when the file or the directory is not there.
    fn alias(&self, path: &Path, other: &Path) -> io::Result<bool>;

    /// Removes a file's name; `false` when it is not there.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn remove(&self, path: &Path) -> io::Result<bool>;

    /// Makes the names in a directory durable, the new and the removed; `""` is the top.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes everything written so far durable: content and names.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn sync_all(&self) -> io::Result<()>;

    /// Takes the lock of this name, without waiting.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn lock(&self, path: &Path) -> io::Result<Locking>;

    /// Takes the lock of this name together with whoever else shares it, without waiting.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn share(&self, path: &Path) -> io::Result<Locking>;

    /// Removes temporary files that processes left which are no more.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn sweep(&self) -> io::Result<()>;
}

#[cfg(test)]
pub(crate) mod beds;
#[cfg(test)]
mod tests;
