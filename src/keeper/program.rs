//! The program that servers run: held open, so that it can be started again when its file has been
//! replaced or removed, as a package's upgrade does.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

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
        let file = rustix::fs::open(path, flags, Mode::empty())?;
        if is_script(&file) {
            // Whatever runs it looks for it by a descriptor that the start has closed.
            let reason = "it is a script, and must be a program: give what the script runs";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        Ok(Self::Other(file))
    }

    /// What to start. The descriptor is closed by the start, after it was found by this name.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Own => "/proc/self/exe".into(),
            Self::Other(file) => path_of(file),
        }
    }
}

fn path_of(file: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Whether another program would have to run it. Only a regular file is looked into, since opening
/// any other may wait; one that cannot be read is no script that could be run.
fn is_script(file: &OwnedFd) -> bool {
    let stat = rustix::fs::fstat(file);
    if !stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file()) {
        return false;
    }
    let mut head = [0; 2];
    let read = File::open(path_of(file)).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *b"#!"
}
