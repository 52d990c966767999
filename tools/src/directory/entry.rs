//! What is seen of one entry of the source, and the rules that need nothing else.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::DirectoryError;

/// Longest list of extended attributes that Linux gives (`XATTR_LIST_MAX`), in bytes.
const XATTR_LIST_MAX: usize = 64 * 1024;

/// The attributes that change when an entry changes. Two that are equal mean that nothing happened
/// in between, as far as the file system can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    pub(super) mode: u16,
    pub(super) links: u32,
    pub(super) owner: (u32, u32),
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    ctime: (i64, u32),
}

impl Seen {
    /// Of a name in a directory; the link itself when it is a symbolic link.
    pub(super) fn at(dir: impl AsFd, name: &CStr) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS).map(|stat| Self::from(&stat))
    }

    /// Of something open.
    pub(super) fn of(fd: impl AsFd) -> rustix::io::Result<Self> {
        let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        Ok(Self::from(&stat))
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode.into())
    }

    /// Whether anybody may execute it.
    pub(super) fn executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// Refuses what others can not read: files without `r`, directories without `r` and `x`.
    pub(super) fn check_public(&self, path: &Path) -> Result<(), DirectoryError> {
        let needed = match self.kind() {
            FileType::RegularFile => 0o004,
            FileType::Directory => 0o005,
            _ => 0,
        };
        if self.mode & needed == needed {
            return Ok(());
        }
        Err(DirectoryError::Private { path: path.to_owned(), mode: u32::from(self.mode & 0o7777) })
    }

    /// What an object does not keep of the owner and the mode; `caller` is its user and group.
    pub(super) fn dropped(&self, caller: (u32, u32)) -> Vec<String> {
        let mut dropped = Vec::new();
        if self.owner != (0, 0) && self.owner != caller {
            dropped.push(format!("owner {}:{}", self.owner.0, self.owner.1));
        }
        // On a symbolic link these bits mean nothing.
        if self.kind() != FileType::Symlink {
            for (bit, name) in [(0o4000, "setuid"), (0o2000, "setgid"), (0o1000, "sticky")] {
                if self.mode & bit != 0 {
                    dropped.push(name.to_owned());
                }
            }
        }
        dropped
    }
}

impl From<&Statx> for Seen {
    fn from(stat: &Statx) -> Self {
        let time = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            mode: stat.stx_mode,
            links: stat.stx_nlink,
            owner: (stat.stx_uid, stat.stx_gid),
            size: stat.stx_size,
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
        }
    }
}

/// The name of a kind that an object can not hold; `None` for the three that it can.
pub(super) fn special(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile | FileType::Directory | FileType::Symlink => None,
        FileType::Fifo => Some("fifo"),
        FileType::Socket => Some("socket"),
        FileType::CharacterDevice => Some("character device"),
        FileType::BlockDevice => Some("block device"),
        FileType::Unknown => Some("file of unknown kind"),
    }
}

/// The extended attributes of something open, as lines for the report.
pub(super) fn xattrs(fd: impl AsFd) -> rustix::io::Result<Vec<String>> {
    let mut list = Vec::with_capacity(XATTR_LIST_MAX);
    xattr_lines(rustix::fs::flistxattr(fd, spare_capacity(&mut list)).map(|_| list))
}

/// The extended attributes of a symbolic link, which can not be opened. The kernel resolves the
/// descriptor's own entry in `/proc` to the directory and does not follow the last name.
pub(super) fn link_xattrs(dir: impl AsFd, name: &CStr) -> rustix::io::Result<Vec<String>> {
    use std::os::fd::AsRawFd;
    let dir = dir.as_fd().as_raw_fd();
    let path = [format!("/proc/self/fd/{dir}/").as_bytes(), name.to_bytes()].concat();
    let mut list = Vec::with_capacity(XATTR_LIST_MAX);
    xattr_lines(rustix::fs::llistxattr(path, spare_capacity(&mut list)).map(|_| list))
}

fn xattr_lines(list: rustix::io::Result<Vec<u8>>) -> rustix::io::Result<Vec<String>> {
    match list {
        Ok(list) => Ok(list
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| format!("xattr {}", String::from_utf8_lossy(name)))
            .collect()),
        Err(Errno::NOTSUP | Errno::NOSYS) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mode: u16, owner: (u32, u32)) -> Seen {
        Seen {
            device: (0, 1),
            inode: 1,
            mode,
            links: 1,
            owner,
            size: 0,
            mtime: (0, 0),
            ctime: (0, 0),
        }
    }

    #[test]
    fn private_is_what_others_cannot_read() {
        let cases = [
            (0o100_644, true),
            (0o100_604, true),
            (0o100_755, true),
            (0o104_755, true),
            (0o100_600, false),
            (0o100_640, false),
            (0o100_751, false),
            (0o100_000, false),
            (0o040_755, true),
            (0o040_705, true),
            (0o040_754, false),
            (0o040_751, false),
            (0o040_700, false),
            (0o120_777, true),
        ];
        for (mode, public) in cases {
            let result = seen(mode, (0, 0)).check_public(Path::new("x"));
            assert_eq!(result.is_ok(), public, "{mode:o}");
            if let Err(error) = result {
                let bits = mode & 0o7777;
                let said = format!("x cannot be read by others (mode {bits:04o})");
                assert_eq!(error.to_string(), said);
            }
        }
    }

    #[test]
    fn what_is_dropped_is_said() {
        let caller = (1000, 100);
        let cases: [(u16, (u32, u32), &[&str]); 9] = [
            (0o100_644, (0, 0), &[]),
            (0o100_644, caller, &[]),
            (0o100_644, (1000, 0), &["owner 1000:0"]),
            (0o100_644, (33, 33), &["owner 33:33"]),
            (0o104_755, (0, 0), &["setuid"]),
            (0o106_755, (0, 0), &["setuid", "setgid"]),
            (0o041_777, (0, 0), &["sticky"]),
            (0o047_777, (5, 5), &["owner 5:5", "setuid", "setgid", "sticky"]),
            (0o120_777, (0, 0), &[]),
        ];
        for (mode, owner, expected) in cases {
            assert_eq!(seen(mode, owner).dropped(caller), expected, "{mode:o} {owner:?}");
        }
    }

    #[test]
    fn special_kinds_have_names() {
        let cases = [
            (0o100_000, None),
            (0o040_000, None),
            (0o120_000, None),
            (0o010_000, Some("fifo")),
            (0o140_000, Some("socket")),
            (0o020_000, Some("character device")),
            (0o060_000, Some("block device")),
            (0o000_000, Some("file of unknown kind")),
        ];
        for (mode, name) in cases {
            assert_eq!(special(seen(mode, (0, 0)).kind()), name, "{mode:o}");
        }
    }

    #[test]
    fn executable_by_anybody() {
        for (mode, expected) in [(0o644, false), (0o744, true), (0o654, true), (0o645, true)] {
            assert_eq!(seen(0o100_000 | mode, (0, 0)).executable(), expected, "{mode:o}");
        }
    }
}
