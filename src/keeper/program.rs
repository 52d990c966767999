//! The program that servers run: held open, so that it can be started again when its file has been
//! replaced or removed, as a package's upgrade does.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A program that can be started.
#[derive(Debug)]
pub(super) enum Program {
    /// That of this process.
    Own,
    /// Another one.
    Other(OwnedFd),
}

impl Program {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self::Other(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// What to start. The descriptor is closed by the start, after it was found by this name.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Own => "/proc/self/exe".into(),
            Self::Other(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        }
    }
}
