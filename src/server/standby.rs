//! A server in waiting: it has read the store and proven itself before the one that serves is
//! killed, so that an upgrade costs the kernel no more than a moment.
//!
//! ```text
//! standby -> keeper   S         ready
//! keeper -> standby   G         the other one is dead: go
//! ```
//!
//! It never reads the kernel's requests before that, and writes nothing that the other one reads.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{RecvFlags, recv};
use store_fs::{DynFs, FsError, Ino, Kind, Memory, OsDisk, Shown, Store};

/// Directories that a proof looks into.
const DIRECTORIES_MAX: usize = 256;
/// Files of which a proof reads the beginning.
const FILES_MAX: usize = 64;
/// Bytes of that.
const READ_LEN: u32 = 64 * 1024;

/// Waits for the keeper's word; `false` when it never comes.
pub(super) fn wait_for_go(line: &OwnedFd) -> io::Result<bool> {
    let mut word = [0; 1];
    loop {
        match recv(line, word.as_mut_slice(), RecvFlags::empty()) {
            Ok((len, _)) => return Ok(len == 1 && word == *b"G"),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Walks what would be served, in this process and with a memory file of its own: whatever makes a
/// server crash or hang does it here, where nobody waits for an answer. Answers how many names it
/// saw.
///
/// # Errors
///
/// What a kernel would be told of the root; damage below it is no fault of this program.
pub(super) fn prove(store: &Arc<Store<OsDisk>>, shown: &Shown) -> Result<usize, FsError> {
    let memory = Arc::new(Memory::create().map_err(|error| {
        FsError::Store(store_fs::StoreError::Io {
            action: "making",
            path: "a memory file".into(),
            source: error,
        })
    })?);
    let fs = DynFs::new(Arc::clone(store), memory, shown.clone());
    fs.attr(Ino::ROOT)?;
    let mut waiting = VecDeque::from([Ino::ROOT]);
    let (mut names, mut directories, mut files) = (0, 0, 0);
    let mut buffer = Vec::new();
    while let Some(directory) = waiting.pop_front().filter(|_| directories < DIRECTORIES_MAX) {
        directories += 1;
        let mut listed = Vec::new();
        let list = fs.readdir(directory, 0, true, &mut |line| {
            if line.name != b"." && line.name != b".." {
                listed.push(line.name.to_vec());
            }
            false
        });
        match list {
            Err(error) if directory == Ino::ROOT => return Err(error),
            Err(error) => tracing::warn!("a standby found: {error}"),
            Ok(()) => {}
        }
        for name in listed {
            names += 1;
            let Ok(Some(entry)) = fs.lookup(directory, &name) else { continue };
            match entry.attr.kind {
                Kind::Dir => waiting.push_back(entry.attr.ino),
                Kind::Symlink => drop(fs.readlink(entry.attr.ino)),
                Kind::File if files < FILES_MAX => {
                    files += 1;
                    buffer.clear();
                    drop(fs.read(entry.attr.ino, 0, READ_LEN, &mut buffer));
                    #[cfg(debug_assertions)]
                    super::fault::point("proving");
                }
                Kind::File => {}
            }
        }
    }
    Ok(names)
}
