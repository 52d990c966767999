//! All `unsafe` of the campaigns: system calls that no safe library offers as freely as a test
//! wants them, and mappings that are only ever looked at by the kernel, so that a page that is not
//! there is an error and not a signal.
#![expect(unsafe_code, reason = "the one place for it")]

use std::ffi::{CString, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};

fn answer(result: i64) -> Result<i64> {
    match result {
        -1 => Err(last()),
        other => Ok(other),
    }
}

fn last() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).expect("a system call left it")
}

/// A path for the kernel. Those of the tests hold no NUL.
fn text(path: &[u8]) -> CString {
    CString::new(path).expect("no NUL in it")
}

/// `lseek` with any numbers.
pub(crate) fn seek(fd: BorrowedFd<'_>, offset: i64, whence: i32) -> Result<i64> {
    // SAFETY: it takes numbers only.
    answer(unsafe { libc::lseek(fd.as_raw_fd(), offset, whence) })
}

/// `truncate` by name.
pub(crate) fn truncate(path: &[u8], len: i64) -> Result<i64> {
    let path = text(path);
    // SAFETY: the path ends with NUL and outlives the call.
    answer(unsafe { libc::truncate(path.as_ptr(), len) }.into())
}

/// `faccessat2` with any flags.
pub(crate) fn access(dir: BorrowedFd<'_>, path: &[u8], mode: i32, flags: i32) -> Result<i64> {
    let path = text(path);
    // SAFETY: the path ends with NUL and outlives the call; the rest are numbers.
    let result =
        unsafe { libc::syscall(libc::SYS_faccessat2, dir.as_raw_fd(), path.as_ptr(), mode, flags) };
    answer(result)
}

/// `readahead`.
pub(crate) fn read_ahead(fd: BorrowedFd<'_>, offset: i64, len: usize) -> Result<i64> {
    // SAFETY: it takes numbers only.
    answer(unsafe { libc::readahead(fd.as_raw_fd(), offset, len) } as i64)
}

/// A lock on a range: command, kind and place are any numbers. `Ok` holds what the kernel left as
/// the kind of lock.
pub(crate) fn lock(fd: BorrowedFd<'_>, command: i32, kind: i16, range: (i64, i64)) -> Result<i64> {
    // A command that waits, or that takes something else than this structure, is none of ours.
    let known = [libc::F_SETLK, libc::F_GETLK, libc::F_OFD_SETLK, libc::F_OFD_GETLK];
    assert!(known.contains(&command), "a lock without a wait");
    // SAFETY: a structure of plain numbers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind;
    (lock.l_start, lock.l_len) = range;
    // SAFETY: these commands read and write one such structure.
    answer(unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut lock) }.into())?;
    Ok(lock.l_type.into())
}

/// A lease: what `F_SETLEASE` and `F_GETLEASE` take is a number.
pub(crate) fn lease(fd: BorrowedFd<'_>, command: i32, kind: i32) -> Result<i64> {
    assert!([libc::F_SETLEASE, libc::F_GETLEASE].contains(&command), "it takes a number");
    assert_ne!(kind, libc::F_WRLCK, "nobody has to wait for anybody");
    // SAFETY: these commands take numbers only.
    answer(unsafe { libc::fcntl(fd.as_raw_fd(), command, kind) }.into())
}

/// What is asked with `ioctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Bytes to the end.
    Left,
    /// Size of a block.
    Block,
    /// Flags of the inode.
    Flags,
    /// Changes these to none.
    NoFlags,
    /// Generation of the inode.
    Generation,
    /// Where a block is.
    Place,
    /// How many extents there are.
    Extents,
    /// Settings of a terminal.
    Terminal,
    /// What nobody knows.
    Unknown,
}

impl Request {
    pub(crate) const ALL: [Self; 9] = [
        Self::Left,
        Self::Block,
        Self::Flags,
        Self::NoFlags,
        Self::Generation,
        Self::Place,
        Self::Extents,
        Self::Terminal,
        Self::Unknown,
    ];

    fn number(self) -> libc::Ioctl {
        match self {
            Self::Left => libc::FIONREAD,
            Self::Block => 0x2, // FIGETBSZ
            Self::Flags => libc::FS_IOC_GETFLAGS,
            Self::NoFlags => libc::FS_IOC_SETFLAGS,
            Self::Generation => libc::FS_IOC_GETVERSION,
            Self::Place => 0x1,           // FIBMAP
            Self::Extents => 0xc020_660b, // FS_IOC_FIEMAP
            Self::Terminal => libc::TCGETS,
            Self::Unknown => 0x8004_fe01,
        }
    }
}

/// `ioctl`; the first number that the kernel left.
pub(crate) fn ioctl(fd: BorrowedFd<'_>, request: Request) -> Result<i64> {
    let mut room = [0_u64; 32];
    if request == Request::Extents {
        // From 0, so many bytes; none of the extents themselves.
        room[1] = u64::MAX;
    }
    // SAFETY: each of the requests reads and writes at most a structure of 60 bytes there; the room
    // is 256 bytes long and aligned for any number.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), request.number(), room.as_mut_ptr()) }.into())?;
    Ok(match request {
        // Where it is, is nobody's business.
        Request::Extents | Request::Place => 0,
        _ => i64::from(room[0] as u32),
    })
}

/// `name_to_handle_at`; whether there is a handle.
pub(crate) fn handle(dir: BorrowedFd<'_>, path: &[u8], flags: i32) -> Result<i64> {
    let path = text(path);
    let (mut room, mut mount) = ([0_u32; 34], 0_i32);
    room[0] = 128;
    // SAFETY: the room begins with how many bytes of a handle it can take: 128, behind two numbers
    // of four bytes each. The path ends with NUL. All outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            path.as_ptr(),
            room.as_mut_ptr(),
            &raw mut mount,
            flags,
        )
    };
    answer(result)
}

/// A file in memory, at an address that nothing in this process looks at.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: *mut c_void,
    len: usize,
}

impl Mapping {
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        len: usize,
        protection: i32,
        flags: i32,
        offset: i64,
    ) -> Result<Self> {
        assert_eq!(flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE), 0, "anywhere");
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, flags, fd.as_raw_fd(), offset)
        };
        if base == libc::MAP_FAILED { Err(last()) } else { Ok(Self { base, len }) }
    }

    /// Bytes of it, as far as they can be read.
    pub(crate) fn read(&self, at: usize, len: usize) -> Result<Vec<u8>> {
        assert!(at < self.len && len <= self.len - at, "inside");
        let mut bytes = vec![0_u8; len];
        let here = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len };
        let there = self.part(at, len);
        // SAFETY: the kernel copies at most `len` bytes into the vector, from a part of the mapping
        // that it looks at itself: what cannot be read is an error.
        let read = answer(unsafe {
            libc::process_vm_readv(libc::getpid(), &raw const here, 1, &raw const there, 1, 0)
        } as i64)?;
        bytes.truncate(usize::try_from(read).expect("bytes"));
        Ok(bytes)
    }

    /// Writes bytes into it.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) -> Result<i64> {
        assert!(at < self.len && bytes.len() <= self.len - at, "inside");
        let base = bytes.as_ptr().cast_mut().cast();
        let here = libc::iovec { iov_base: base, iov_len: bytes.len() };
        let there = self.part(at, bytes.len());
        // SAFETY: the kernel only reads from `bytes`, and writes into a part of the mapping, of
        // which nothing in this process has a reference.
        answer(unsafe {
            libc::process_vm_writev(libc::getpid(), &raw const here, 1, &raw const there, 1, 0)
        } as i64)
    }

    fn part(&self, at: usize, len: usize) -> libc::iovec {
        libc::iovec { iov_base: self.base.wrapping_byte_add(at), iov_len: len }
    }

    pub(crate) fn protect(&self, protection: i32) -> Result<i64> {
        // SAFETY: exactly the range of this mapping, of which nothing has a reference.
        answer(unsafe { libc::mprotect(self.base, self.len, protection) }.into())
    }

    pub(crate) fn sync(&self, flags: i32) -> Result<i64> {
        // SAFETY: exactly the range of this mapping.
        answer(unsafe { libc::msync(self.base, self.len, flags) }.into())
    }

    pub(crate) fn advise(&self, advice: i32) -> Result<i64> {
        // SAFETY: exactly the range of this mapping, of which nothing has a reference.
        answer(unsafe { libc::madvise(self.base, self.len, advice) }.into())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped, of which nothing has a reference.
        let unmapped = unsafe { libc::munmap(self.base, self.len) };
        debug_assert_eq!(unmapped, 0, "a mapping of ours can be unmapped");
    }
}

/// A working directory and a root of this thread's own.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn own_directory() -> Result<i64> {
    // SAFETY: no memory and no descriptor is shared less by this.
    answer(unsafe { libc::unshare(libc::CLONE_FS) }.into())
}

/// Makes all mounts that this thread can see read-only; they are its own.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn seal_everything() -> Result<i64> {
    let sealed = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path ends with NUL, and the structure is as long as is said.
    answer(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const sealed,
            size_of_val(&sealed),
        )
    })
}

/// Mounts of this thread's own, gone with the thread and its children.
///
/// # Errors
///
/// The operating system's.
pub(crate) fn own_mounts() -> Result<i64> {
    // SAFETY: no memory and no descriptor is shared less by this.
    answer(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())
}
