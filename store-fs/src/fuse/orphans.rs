//! Answers to requests that a dead server had read, on a kernel that does not hand them out again:
//! written straight to the connection, since the library answers only what it has read itself.
//!
//! ```text
//! answer     len:4 error:4 unique:8                                                       16 bytes
//! attr       ino:8 size:8 blocks:8 atime:8 mtime:8 ctime:8 ns:3*4 mode:4 nlink:4 uid:4
//!            gid:4 rdev:4 blksize:4 flags:4                                               88 bytes
//! entry      nodeid:8 generation:8 entry_valid:8 attr_valid:8 ns:2*4 attr                128 bytes
//! attr out   attr_valid:8 ns:4 padding:4 attr                                            104 bytes
//! dirent     ino:8 offset:8 namelen:4 type:4 name, padded to 8; with an entry in front in
//!            readdirplus
//! statfs     blocks:8 bfree:8 bavail:8 files:8 ffree:8 bsize:4 namelen:4 frsize:4 spare:28
//! ```
//!
//! All numbers are in the byte order of the machine, as `linux/fuse.h` has it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

#[cfg(debug_assertions)]
use super::hook;
use crate::fs::{FOR_EVER, RequestGuard};
use crate::memory::{InFlightRow, Suspicion};
use crate::{Attr, DirEntry, Disk, DynFs, Ino, Kind, Memory, Operation};

/// How much of a listing is answered: what the smallest buffer of any kernel holds. The rest is
/// asked for again.
const LISTING_MAX: usize = 4096;
/// Block size for `st_blksize` and `statfs`, in bytes.
const BLOCK_LEN: u32 = Attr::BLOCK_LEN;
/// Longest name.
const NAME_LEN: u32 = 255;

/// Answers every orphan; how many there were.
///
/// # Errors
///
/// The connection's.
pub(super) fn answer_all<D: Disk>(
    device: BorrowedFd<'_>,
    fs: &Arc<DynFs<D>>,
    memory: &Memory,
) -> io::Result<usize> {
    let orphans = memory.orphans();
    let tid = rustix::thread::gettid().as_raw_pid().unsigned_abs();
    for (place, row) in &orphans {
        let request = row.request;
        let suspicion = memory.suspicion(request.unique);
        // Noted again: it may have killed the server that read it.
        let in_flight = memory.in_flight(0, tid, request, &row.name);
        let _handler = RequestGuard::enter();
        let body = match suspicion {
            Suspicion::Deadly => {
                tracing::error!(
                    operation = request.operation.name(),
                    at = %fs.whereabouts(Ino(request.node), &row.name),
                    "this request has killed servers, so it is answered with an error"
                );
                Err(Errno::IO)
            }
            Suspicion::None | Suspicion::Some => {
                #[cfg(debug_assertions)]
                hook::run(&hook::BEFORE_ANSWER, request.operation, &row.name);
                body(fs, row)
            }
        };
        match rustix::io::write(device, &message(request.unique, &body)) {
            // It was answered before its server died, or whoever asked is gone.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        drop(in_flight);
        memory.absolve(request.unique);
        memory.orphan_answered(*place);
    }
    Ok(orphans.len())
}

pub(super) fn message(unique: u64, body: &Result<Vec<u8>, Errno>) -> Vec<u8> {
    let (error, bytes) = match body {
        Ok(bytes) => (0, bytes.as_slice()),
        Err(errno) => (-errno.raw_os_error(), [].as_slice()),
    };
    let mut out = Out(Vec::with_capacity(16 + bytes.len()));
    out.u32(u32::try_from(16 + bytes.len()).unwrap_or(u32::MAX));
    out.0.extend_from_slice(&error.to_ne_bytes());
    out.u64(unique);
    out.0.extend_from_slice(bytes);
    out.0
}

/// What the adapter would have answered.
fn body<D: Disk>(fs: &DynFs<D>, row: &InFlightRow) -> Result<Vec<u8>, Errno> {
    let (node, offset, size) = (Ino(row.request.node), row.request.offset, row.request.size);
    let errno = |error: crate::FsError| {
        fs.note_damage(row.request, &row.name, &error);
        Errno::from_raw_os_error(error.errno())
    };
    let mut out = Out(Vec::new());
    match row.request.operation {
        Operation::Lookup => match fs.lookup(node, &row.name).map_err(errno)? {
            Some(entry) => out.entry(&entry.attr, entry.ttl),
            None => out.entry(&MISS, FOR_EVER),
        },
        Operation::Getattr => {
            let attr = fs.attr(node).map_err(errno)?;
            out.u64(FOR_EVER.as_secs());
            out.u64(0);
            out.attr(&attr);
        }
        Operation::Readlink => out.0 = fs.readlink(node).map_err(errno)?,
        Operation::Read => fs.read(node, offset, size, &mut out.0).map_err(errno)?,
        Operation::Readdir | Operation::Readdirplus => {
            let plus = row.request.operation == Operation::Readdirplus;
            fs.readdir(node, offset, plus, &mut |line| out.line(&line, plus)).map_err(errno)?;
        }
        Operation::Statfs => {
            let statistics = fs.statistics();
            for value in [statistics.blocks, 0, 0, statistics.files, 0] {
                out.u64(value);
            }
            [BLOCK_LEN, NAME_LEN, BLOCK_LEN].into_iter().for_each(|value| out.u32(value));
            out.0.resize(80, 0);
        }
        Operation::Release | Operation::Releasedir => {}
        Operation::Ioctl => return Err(Errno::NOTTY),
        _ => return Err(Errno::NOSYS),
    }
    Ok(out.0)
}

/// A miss, which the kernel keeps like any other answer.
const MISS: Attr = Attr { ino: Ino(0), kind: Kind::File, size: 0, perm: 0, nlink: 0, mtime: 0 };

struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_ne_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_ne_bytes());
    }

    fn entry(&mut self, attr: &Attr, ttl: Duration) {
        for value in [attr.ino.0, 0, ttl.as_secs(), FOR_EVER.as_secs(), 0] {
            self.u64(value);
        }
        self.attr(attr);
    }

    fn attr(&mut self, attr: &Attr) {
        for value in [attr.ino.0, attr.size, attr.sectors()] {
            self.u64(value);
        }
        (0..3).for_each(|_| self.0.extend_from_slice(&attr.mtime.to_ne_bytes()));
        (0..3).for_each(|_| self.u32(0));
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let mode = file_type(attr.kind) | u32::from(attr.perm);
        for value in [mode, attr.nlink, uid.as_raw(), gid.as_raw(), 0, BLOCK_LEN, 0] {
            self.u32(value);
        }
    }

    /// Appends a line of a listing; `true` when there was no room for it.
    fn line(&mut self, line: &DirEntry<'_>, plus: bool) -> bool {
        let before = self.0.len();
        if plus {
            match line.entry {
                Some(entry) => self.entry(&entry.attr, entry.ttl),
                // `.`, `..` and what nobody has looked at yet: asked about before it is used.
                None => {
                    let attr = Attr { ino: line.ino, kind: line.kind, perm: 0o555, ..MISS };
                    self.entry(&attr, Duration::ZERO);
                }
            }
        }
        self.u64(line.ino.0);
        self.u64(line.offset);
        self.u32(u32::try_from(line.name.len()).unwrap_or(NAME_LEN));
        self.u32(file_type(line.kind) >> 12);
        self.0.extend_from_slice(line.name);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let full = self.0.len() > LISTING_MAX;
        if full {
            self.0.truncate(before);
        }
        full
    }
}

/// The bits of a mode that say what a file is.
fn file_type(kind: Kind) -> u32 {
    match kind {
        Kind::Dir => 0o040_000,
        Kind::File => 0o100_000,
        Kind::Symlink => 0o120_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_kernels_lengths() {
        let mut out = Out(Vec::new());
        out.entry(&MISS, FOR_EVER);
        assert_eq!(out.0.len(), 128);
        let mut out = Out(Vec::new());
        out.attr(&MISS);
        assert_eq!(out.0.len(), 88);
        let whole = message(7, &Ok(vec![1, 2, 3]));
        assert_eq!(whole.len(), 19);
        assert_eq!(whole[..4], 19_u32.to_ne_bytes());
        let error = message(7, &Err(Errno::IO));
        assert_eq!(error.len(), 16);
        assert_eq!(error[4..8], (-5_i32).to_ne_bytes());
    }

    #[test]
    fn a_listing_ends_before_it_is_too_long() {
        let name = [b'x'; 255];
        let line =
            |offset| DirEntry { name: &name, ino: Ino(5), kind: Kind::Dir, offset, entry: None };
        for plus in [false, true] {
            let mut out = Out(Vec::new());
            let lines = (1..).take_while(|offset| !out.line(&line(*offset), plus)).count();
            assert!(lines > 5 && out.0.len() <= LISTING_MAX && out.0.len().is_multiple_of(8));
        }
    }
}
