//! The claim on a store: a lock file that its keeper holds, and that says where it is mounted.
//!
//! ```text
//! <store>/run/keeper    {"pid":311,"mountpoint":"/dyn"}    locked (flock) while the keeper lives
//! <store>/run/server    empty                              locked, shared, by each living server
//! ```
//!
//! Only the owner of the store and root can open them: whoever can read a file can lock it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use store_fs::disk::keep_to_owner;

use crate::rundir;

/// Bytes of it that are read: a path and a number.
const LEN_MAX: u64 = 64 * 1024;
/// How often, and in what distance, a server asks again for a lock that an asker has for a moment.
const SERVE_LOOKS: u32 = 20;
const SERVE_PAUSE: Duration = Duration::from_millis(1);
/// How often a wait looks again.
const PAUSE: Duration = Duration::from_millis(5);

/// Who serves a store, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// The keeper's process id.
    pub(crate) pid: u32,
    /// Where the store is mounted, absolute.
    #[serde(with = "crate::path_text")]
    pub(crate) mountpoint: PathBuf,
}

/// The right to serve a store, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Claim {
    _file: File,
}

/// What came of asking for a claim.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It is ours.
    Granted(Claim),
    /// A living keeper has it. `None`: it has not yet said who it is.
    Held(Option<Holder>),
}

impl Claim {
    /// Claims the store for this process.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub(crate) fn take(store: &Path, mountpoint: &Path) -> io::Result<Asked> {
        rundir::make(store)?;
        let mut file = open(store, &rundir::claim(store))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Asked::Held(read(&mut file))),
            Err(error) => return Err(error.into()),
        }
        let holder = Holder { pid: std::process::id(), mountpoint: mountpoint.to_owned() };
        if let Err(error) = write(&mut file, &holder) {
            // A store that has become read-only goes on being served.
            tracing::warn!("who serves the store cannot be written down: {error}");
        }
        Ok(Asked::Granted(Self { _file: file }))
    }
}

/// Says that this process serves the store, for as long as the file stays open.
///
/// # Errors
///
/// The operating system's; `WouldBlock` when somebody who asks has it just now, time after time.
pub(crate) fn serve(store: &Path) -> io::Result<File> {
    let file = open(store, &rundir::server(store))?;
    for _ in 0..SERVE_LOOKS {
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(SERVE_PAUSE),
            locked => return Ok(locked.map(|()| file)?),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// A lock file, for writing where that is possible: to read it is enough to lock it, and a store
/// may have become read-only since it was mounted.
fn open(store: &Path, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path)?,
        file => file?,
    };
    keep_to_owner(&file, File::open(store)?)?;
    Ok(file)
}

fn write(file: &mut File, holder: &Holder) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(&serde_json::to_vec(holder)?)
}

/// Whether any server of the store lives, whatever became of its keeper.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn is_served(store: &Path) -> io::Result<bool> {
    let file = match File::open(rundir::server(store)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The living keeper of a store.
///
/// # Errors
///
/// The operating system's. A store without the file has no keeper.
pub(crate) fn holder(store: &Path) -> io::Result<Option<Holder>> {
    let mut file = match File::open(rundir::claim(store)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(read(&mut file)),
        Err(error) => Err(error.into()),
    }
}

/// Waits until neither keeper nor server lives, at most `patience`; answers whether none does.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn wait_until_free(store: &Path, patience: Duration) -> io::Result<bool> {
    for _ in 0..=patience.as_millis() / PAUSE.as_millis() {
        if holder(store)?.is_none() && !is_served(store)? {
            return Ok(true);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(false)
}

fn read(file: &mut File) -> Option<Holder> {
    let mut bytes = Vec::new();
    file.rewind().ok()?;
    file.take(LEN_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_names_its_holder_and_ends_with_it() {
        let store = tempfile::tempdir().expect("a temporary directory");
        let place = Path::new("/some/where");
        assert_eq!(holder(store.path()).expect("no file"), None);
        let Asked::Granted(claim) = Claim::take(store.path(), place).expect("free") else {
            panic!("nobody else is here")
        };
        let expected = Holder { pid: std::process::id(), mountpoint: place.to_owned() };
        assert_eq!(holder(store.path()).expect("readable"), Some(expected.clone()));
        match Claim::take(store.path(), Path::new("/else")).expect("readable") {
            Asked::Held(held) => assert_eq!(held, Some(expected)),
            Asked::Granted(_) => panic!("claimed twice"),
        }
        drop(claim);
        assert_eq!(holder(store.path()).expect("readable"), None);
        assert!(wait_until_free(store.path(), Duration::ZERO).expect("readable"));
    }

    #[test]
    fn a_claim_that_says_nothing_is_still_held() {
        let store = tempfile::tempdir().expect("a temporary directory");
        let _claim = Claim::take(store.path(), Path::new("/a")).expect("free");
        std::fs::write(rundir::claim(store.path()), b"not json").expect("writable");
        let asked = Claim::take(store.path(), Path::new("/a")).expect("readable");
        assert!(matches!(asked, Asked::Held(None)), "{asked:?}");
    }
}
