//! A directory tree as a source: reads it, refuses what an object must not hold, adds the rest.
//!
//! ```text
//! source --walk--> entries --read, in parallel--> blobs --> TreeBuilder --> object --> provides
//! ```
//!
//! * Every step goes from the descriptor of a directory to a name in it, and no symbolic link is
//!   followed, so nobody can lead the reader out of the source while it is read.
//! * Everything is looked at again after its content was read. What differs is refused: an object
//!   is a state that the source had, and not a mixture of two. (A file system whose clock has
//!   coarse ticks cannot show a change of equal length within the tick of the one before; Linux
//!   has fine ones since 6.13.)
//! * A file system of ours is never read: the reader may be the process that answers for it.
//!
//! It never writes to the source, and nothing is visible in the store when it fails.

mod entry;
mod mounts;
mod provides;
mod read;
mod walk;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use resolver::Provides;
use store_fs::{Disk, Store, StoreError, Tree};

/// How to read a directory.
#[derive(Clone, Debug, Default)]
pub struct DirectoryOptions {
    /// Clamp every file's mtime to at most this many seconds since 1970.
    pub epoch: Option<i64>,
    /// Take also what others cannot read.
    pub public: bool,
    /// Only find out what would become of it: everything is read, and nothing written.
    pub dry_run: bool,
}

/// What became of a directory.
#[derive(Clone, Debug)]
pub struct Added {
    /// The object.
    pub object: Arc<Tree>,
    /// Regular files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes that the store did not have before.
    pub new_bytes: u64,
    /// What it adds to the unions.
    pub provides: Provides,
    /// GNU build-ids of its ELF files, sorted.
    pub build_ids: Vec<String>,
    /// The most common machine of its ELF files as Debian names it, if there is any.
    pub arch: Option<String>,
    /// Attributes that an object does not keep.
    pub dropped: Vec<Dropped>,
}

/// An attribute that an object does not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Where, relative to the source.
    pub path: PathBuf,
    /// What: `setuid`, `xattr user.foo`, `owner 1000:1000`, ...
    pub what: String,
}

/// Why a directory was not added. Nothing of it is visible in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A device, socket or fifo.
    #[error("{} is a {kind}, which an object cannot hold", path.display())]
    Special {
        /// Where.
        path: PathBuf,
        /// `fifo`, `socket`, `character device`, `block device`.
        kind: &'static str,
    },
    /// Others cannot read it, so it must not become public by accident.
    #[error("{} cannot be read by others (mode {mode:04o})", path.display())]
    Private {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It shows what is in a store, and the process that shows it may be this one.
    #[error("{} is inside a mount of dynfs", path.display())]
    InsideMount {
        /// Where.
        path: PathBuf,
    },
    /// It changed while it was read.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// Where.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// A verb in the -ing form.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Progress of an addition. Called from any thread.
pub trait Progress: Sync {
    /// Whether anybody looks. For nobody, the source is not gone through beforehand.
    fn is_watched(&self) -> bool;
    /// What there is to read: files, each once however many names it has, and bytes in them.
    fn total(&self, files: u64, bytes: u64);
    /// So many more bytes are done.
    fn bytes(&self, bytes: u64);
    /// One more file is done.
    fn file(&self);
}

/// Adds the tree at `source` to the store.
///
/// `dropped` has a line for each path and attribute, in the order of the paths. Reported are an
/// owner or group that is neither root nor the caller, extended attributes by name, setuid, setgid
/// and sticky.
///
/// # Errors
///
/// [`DirectoryError`], naming the path.
pub fn add<D: Disk>(
    store: &Store<D>,
    source: &Path,
    options: &DirectoryOptions,
    progress: &dyn Progress,
) -> Result<Added, DirectoryError> {
    let addition = if options.dry_run { store.rehearse()? } else { store.add()? };
    if progress.is_watched() {
        let sizes = read::Sizes::default();
        walk::walk(source, options, &sizes)?;
        progress.total(sizes.files.into_inner(), sizes.bytes.into_inner());
    }
    let keep = |file: &File, len: u64, path: &Path| {
        addition.file(file, len, path, &|bytes| progress.bytes(bytes))
    };
    let found = walk::walk(source, options, &read::Reader { source, keep: &keep, progress })?;
    let new_bytes = addition.new_bytes();
    let object = addition.finish(found.tree)?;
    Ok(Added {
        files: found.files,
        bytes: found.bytes,
        new_bytes,
        provides: provides::provides(&object, &found.elf.sonames),
        object,
        arch: found.elf.arch(),
        build_ids: found.elf.build_ids.into_iter().collect(),
        dropped: found.dropped,
    })
}

/// What the operating system said of a path, as an error.
fn refused(action: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> DirectoryError {
    let path = path.to_owned();
    move |errno| DirectoryError::Io { action, path, source: errno.into() }
}

/// As [`refused`], for something that was there a moment ago: gone or of another kind now means
/// that it changed.
fn changed_or_refused(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(rustix::io::Errno) -> DirectoryError {
    use rustix::io::Errno;
    let path = path.to_owned();
    move |errno| match errno {
        Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::INVAL | Errno::NXIO => {
            DirectoryError::Changed { path }
        }
        _ => DirectoryError::Io { action, path, source: errno.into() },
    }
}

#[cfg(test)]
mod tests;
