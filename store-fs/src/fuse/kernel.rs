//! The kernel behind a mount, as the one who is told of changes.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;

use fuser::{INodeNo, Notifier};

use crate::{Ino, Kernel};

/// Tells the kernel through the FUSE connection. A call waits for every lookup that runs in the
/// same directory, so it belongs on the announcing thread alone.
pub struct FuseKernel {
    notifier: Notifier,
}

impl FuseKernel {
    pub(super) fn new(notifier: Notifier) -> Self {
        Self { notifier }
    }
}

impl Kernel for FuseKernel {
    fn drop_entry(&self, parent: Ino, name: &[u8]) -> io::Result<()> {
        unless_unknown(self.notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name)))
    }

    fn drop_list(&self, dir: Ino) -> io::Result<()> {
        // Offset 0 and length 0 mean "to the end": all pages of the cached listing.
        unless_unknown(self.notifier.inval_inode(INodeNo(dir.0), 0, 0))
    }
}

impl fmt::Debug for FuseKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FuseKernel").finish_non_exhaustive()
    }
}

/// What the kernel has not cached it need not forget.
fn unless_unknown(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
