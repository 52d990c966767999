//! The translation table: each handler counts, asks [`DynFs`], and replies.
//!
//! Operations come in three kinds. *Asked*: what `DynFs` answers. *Never again*: `ENOSYS` makes the
//! kernel remember and stop asking, which is what keeps warm work away from this process.
//! *Refused*: whatever would change something is `EROFS`; the kernel refuses most of it on its
//! own, since the mount is read-only.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType,
    Filesystem, Generation, INodeNo, IoctlFlags, LockOwner, OpenFlags, PollEvents, PollFlags,
    PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::in_hand::InHand;
use crate::fs::FOR_EVER;
use crate::{Attr, Disk, DynFs, FsError, InFlight, Ino, Kind, Memory, Operation};

/// Block size for `st_blksize` and `statfs`, in bytes.
const BLOCK_LEN: u32 = Attr::BLOCK_LEN;
/// Nothing is ever reused, so every inode is of the first generation.
const GENERATION: Generation = Generation(0);

thread_local! {
    /// Kept from read to read, so that a read allocates nothing.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Carries requests to a [`DynFs`].
#[derive(Debug)]
pub(super) struct Adapter<D: Disk> {
    fs: Arc<DynFs<D>>,
    hand: InHand<D>,
    uid: u32,
    gid: u32,
}

impl<D: Disk> Adapter<D> {
    pub(super) fn new(fs: Arc<DynFs<D>>, memory: Arc<Memory>) -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Self {
            hand: InHand::new(memory, Arc::clone(&fs)),
            fs,
            uid: uid.as_raw(),
            gid: gid.as_raw(),
        }
    }

    fn file_attr(&self, attr: &Attr) -> FileAttr {
        let time = file_time(attr.mtime);
        FileAttr {
            ino: INodeNo(attr.ino.0),
            size: attr.size,
            blocks: attr.sectors(),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: file_type(attr.kind),
            perm: attr.perm,
            nlink: attr.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: BLOCK_LEN,
            flags: 0,
        }
    }

    /// An answer without a node: a miss, which the kernel keeps like any other answer. A plain
    /// `ENOENT` it would not keep.
    fn miss(&self) -> FileAttr {
        self.file_attr(&Attr {
            ino: Ino(0),
            kind: Kind::File,
            size: 0,
            perm: 0,
            nlink: 0,
            mtime: 0,
        })
    }

    /// Logs what an operator must know, has it remembered, and gives the errno.
    fn errno(&self, operation: Operation, node: INodeNo, error: &FsError) -> Errno {
        self.errno_of(operation, node, (0, 0), b"", error)
    }

    /// The same for a part of a node, or for a name in a directory.
    fn errno_of(
        &self,
        operation: Operation,
        node: INodeNo,
        (offset, size): (u64, u32),
        name: &[u8],
        error: &FsError,
    ) -> Errno {
        let question = InFlight { unique: 0, operation, node: node.0, offset, size };
        let at = self.fs.whereabouts(Ino(node.0), name);
        let operation = operation.name();
        if let FsError::Store(source) = error {
            let error: &(dyn std::error::Error + 'static) = source;
            tracing::error!(operation, %at, error, "what the store holds cannot be served");
        } else {
            tracing::debug!(operation, %at, %error, "no answer");
        }
        self.fs.note_damage(question, name, error);
        Errno::from_i32(error.errno())
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Dir => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
    }
}

fn file_time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

impl<D: Disk> Filesystem for Adapter<D> {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes();
        let size = u32::try_from(name.len()).unwrap_or(u32::MAX);
        let Some(_serving) = self.hand.admit(request, Operation::Lookup, parent, (0, size), name)
        else {
            return reply.error(Errno::EIO);
        };
        match self.fs.lookup(Ino(parent.0), name) {
            Ok(Some(entry)) => reply.entry(&entry.ttl, &self.file_attr(&entry.attr), GENERATION),
            Ok(None) => reply.entry(&FOR_EVER, &self.miss(), GENERATION),
            Err(error) => {
                reply.error(self.errno_of(Operation::Lookup, parent, (0, size), name, &error));
            }
        }
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let Some(_serving) = self.hand.admit(request, Operation::Getattr, ino, (0, 0), b"") else {
            return reply.error(Errno::EIO);
        };
        match self.fs.attr(Ino(ino.0)) {
            Ok(attr) => reply.attr(&FOR_EVER, &self.file_attr(&attr)),
            Err(error) => reply.error(self.errno(Operation::Getattr, ino, &error)),
        }
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let Some(_serving) = self.hand.admit(request, Operation::Readlink, ino, (0, 0), b"") else {
            return reply.error(Errno::EIO);
        };
        match self.fs.readlink(Ino(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(self.errno(Operation::Readlink, ino, &error)),
        }
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(_serving) = self.hand.admit(request, Operation::Read, ino, (offset, size), b"")
        else {
            return reply.error(Errno::EIO);
        };
        BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            match self.fs.read(Ino(ino.0), offset, size, buffer) {
                Ok(()) => reply.data(buffer),
                Err(error) => {
                    let part = (offset, size);
                    reply.error(self.errno_of(Operation::Read, ino, part, b"", &error));
                }
            }
        });
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(_serving) = self.hand.admit(request, Operation::Readdir, ino, (offset, 0), b"")
        else {
            return reply.error(Errno::EIO);
        };
        let listed = self.fs.readdir(Ino(ino.0), offset, false, &mut |line| {
            let name = OsStr::from_bytes(line.name);
            reply.add(INodeNo(line.ino.0), line.offset, file_type(line.kind), name)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => {
                let part = (offset, 0);
                reply.error(self.errno_of(Operation::Readdir, ino, part, b"", &error));
            }
        }
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some(_serving) =
            self.hand.admit(request, Operation::Readdirplus, ino, (offset, 0), b"")
        else {
            return reply.error(Errno::EIO);
        };
        let listed = self.fs.readdir(Ino(ino.0), offset, true, &mut |line| {
            let name = OsStr::from_bytes(line.name);
            let ino = INodeNo(line.ino.0);
            match line.entry {
                Some(entry) => {
                    let attr = self.file_attr(&entry.attr);
                    reply.add(ino, line.offset, name, &entry.ttl, &attr, GENERATION)
                }
                // `.` and `..`, of which the kernel takes number and type; or a package that
                // nobody has looked at yet, which it asks about before it uses any of this.
                None => {
                    let attr = self.file_attr(&Attr {
                        ino: line.ino,
                        kind: line.kind,
                        size: 0,
                        perm: 0o555,
                        nlink: 1,
                        mtime: 0,
                    });
                    reply.add(ino, line.offset, name, &Duration::ZERO, &attr, GENERATION)
                }
            }
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => {
                let part = (offset, 0);
                reply.error(self.errno_of(Operation::Readdirplus, ino, part, b"", &error));
            }
        }
    }

    fn statfs(&self, request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let Some(_serving) = self.hand.admit(request, Operation::Statfs, ino, (0, 0), b"") else {
            return reply.error(Errno::EIO);
        };
        let statistics = self.fs.statistics();
        let (blocks, files) = (statistics.blocks, statistics.files);
        reply.statfs(blocks, 0, 0, files, 0, BLOCK_LEN, 255, BLOCK_LEN);
    }

    fn ioctl(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_len: u32,
        reply: ReplyIoctl,
    ) {
        let _serving = self.hand.begin(request, Operation::Ioctl, ino, (0, 0));
        reply.error(Errno::ENOTTY);
    }

    // Forgetting needs no answer and no work: inode numbers are computed, not remembered.

    fn forget(&self, request: &Request, _: INodeNo, _lookups: u64) {
        self.hand.pass(request);
    }

    // Never again: after one ENOSYS the kernel answers these itself.

    fn open(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let _serving = self.hand.begin(request, Operation::Open, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let _serving = self.hand.begin(request, Operation::Opendir, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, request: &Request, ino: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        let _serving = self.hand.begin(request, Operation::Access, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        let _serving = self.hand.begin(request, Operation::Getxattr, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, _: u32, reply: ReplyXattr) {
        let _serving = self.hand.begin(request, Operation::Listxattr, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn flush(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: LockOwner,
        reply: ReplyEmpty,
    ) {
        let _serving = self.hand.begin(request, Operation::Flush, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, request: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let _serving = self.hand.begin(request, Operation::Fsync, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let _serving = self.hand.begin(request, Operation::Fsyncdir, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: i64,
        _: i32,
        reply: ReplyLseek,
    ) {
        let _serving = self.hand.begin(request, Operation::Lseek, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, request: &Request, ino: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        let _serving = self.hand.begin(request, Operation::Other, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        let _serving = self.hand.begin(request, Operation::Poll, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn getlk(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        let _serving = self.hand.begin(request, Operation::Other, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    fn setlk(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        let _serving = self.hand.begin(request, Operation::Other, ino, (0, 0));
        reply.error(Errno::ENOSYS);
    }

    // Closing: not sent for what was opened without a request, answered all the same.

    fn release(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _serving = self.hand.begin(request, Operation::Release, ino, (0, 0));
        reply.ok();
    }

    fn releasedir(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let _serving = self.hand.begin(request, Operation::Releasedir, ino, (0, 0));
        reply.ok();
    }

    // Refused: nothing below the mount can be changed.

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        _: &OsStr,
        _mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        let _serving = self.hand.begin(request, Operation::Other, parent, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        _: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let _serving = self.hand.begin(request, Operation::Other, parent, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        let _serving = self.hand.begin(request, Operation::Other, parent, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        let _serving = self.hand.begin(request, Operation::Other, parent, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        let _serving = self.hand.begin(request, Operation::Other, parent, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _serving = self.hand.begin(request, Operation::Other, parent, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn link(&self, request: &Request, ino: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        let _serving = self.hand.begin(request, Operation::Other, ino, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        _: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let _serving = self.hand.begin(request, Operation::Other, parent, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _: &OsStr,
        _: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _serving = self.hand.begin(request, Operation::Other, ino, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        let _serving = self.hand.begin(request, Operation::Other, ino, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _offset: u64,
        _len: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        let _serving = self.hand.begin(request, Operation::Other, ino, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _offset: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _serving = self.hand.begin(request, Operation::Write, ino, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _serving = self.hand.begin(request, Operation::Other, ino, (0, 0));
        reply.error(Errno::EROFS);
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        ino: INodeNo,
        _: FileHandle,
        _: u64,
        _len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _serving = self.hand.begin(request, Operation::Other, ino, (0, 0));
        reply.error(Errno::EROFS);
    }
}
