//! Reads the text of `/proc/self/mountinfo`; never looks at a mount itself, which could hang.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The type that the kernel shows for our mounts.
pub(crate) const FS_TYPE: &str = "fuse.dynfs";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub mountpoint: PathBuf,
    /// Its type: `ext4`, `fuse.dynfs`.
    pub kind: String,
    /// What is mounted; the store's directory for one of ours.
    pub source: PathBuf,
    /// Its number, as in the `mnt_id` of whoever has something open on it.
    pub id: u64,
    /// What is mounted of its file system: `/` for the whole.
    pub root: PathBuf,
    /// Major number of its device.
    pub major: u32,
    /// Users other than its owner may look into it.
    pub is_public: bool,
    /// Its owner, where it has one.
    pub owner: Option<u32>,
    /// Minor number of its device, which names its settings below `/sys/class/bdi`.
    pub minor: u32,
}

/// The mounts in the text; lines of an unknown shape are left out.
///
/// ```text
/// 36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue
/// id parent dev root mountpoint options optional... - type source options
/// ```
pub(crate) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let mountpoint = unescape(fields.get(4)?);
    let device = std::str::from_utf8(fields.get(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let id = std::str::from_utf8(fields.first()?).ok()?.parse().ok()?;
    let dash = fields.iter().position(|field| *field == b"-")?;
    let kind = String::from_utf8(fields.get(dash + 1)?.to_vec()).ok()?;
    let options = fields.get(dash + 3).copied().unwrap_or_default();
    let options = || options.split(|byte| *byte == b',');
    let owner = options().find_map(|option| option.strip_prefix(b"user_id="));
    Some(Mount {
        mountpoint,
        kind,
        source: unescape(fields.get(dash + 2)?),
        id,
        root: unescape(fields.get(3)?),
        major: major.parse().ok()?,
        is_public: options().any(|option| option == b"allow_other"),
        owner: owner.and_then(|uid| std::str::from_utf8(uid).ok()?.parse().ok()),
        minor: minor.parse().ok()?,
    })
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            digits.iter().try_fold(0u8, |value, digit| match digit {
                b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
                _ => None,
            })
        });
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// Where the store is mounted, the topmost mount first.
pub(crate) fn mountpoint_of<'a>(mounts: &'a [Mount], store: &Path) -> Option<&'a Path> {
    let ours = |mount: &&Mount| mount.kind == FS_TYPE && mount.source == store;
    mounts.iter().rev().find(ours).map(|mount| mount.mountpoint.as_path())
}

/// Minor number of the device of a store's mount at a place, whatever is mounted over it.
pub(crate) fn connection_of(mounts: &[Mount], store: &Path, mountpoint: &Path) -> Option<u32> {
    let ours = |mount: &&Mount| {
        mount.kind == FS_TYPE && mount.source == store && mount.mountpoint == mountpoint
    };
    mounts.iter().rev().find(ours).map(|mount| mount.minor)
}

/// Minor number of the device of the topmost mount at a place.
pub(crate) fn device_of(mounts: &[Mount], mountpoint: &Path) -> Option<u32> {
    mounts.iter().rev().find(|mount| mount.mountpoint == mountpoint).map(|mount| mount.minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let text = b"36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw\n\
            40 36 0:41 / /a\\040b\\134c ro - fuse.dynfs /var/lib/dynfs ro,user_id=7,allow_other\n\
            41 36 0:42 /.generations/1 /dyn ro shared:3 master:4 - fuse.dynfs /home/u/s ro\n\
            garbage\n42 1 0:1 / /x rw -\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[1].mountpoint, Path::new("/a b\\c"));
        assert_eq!(mountpoint_of(&mounts, Path::new("/home/u/s")), Some(Path::new("/dyn")));
        assert_eq!(mountpoint_of(&mounts, Path::new("/dev/root")), None);
        assert_eq!((mounts[1].id, mounts[1].major, mounts[1].minor), (40, 0, 41));
        assert_eq!((mounts[1].owner, mounts[2].owner), (Some(7), None));
        assert_eq!(mounts[2].root, Path::new("/.generations/1"));
        assert_eq!(mounts.iter().map(|m| m.is_public).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(device_of(&mounts, Path::new("/dyn")), Some(42));
        let connection = |store| connection_of(&mounts, Path::new(store), Path::new("/dyn"));
        assert_eq!((connection("/home/u/s"), connection("/var/lib/dynfs")), (Some(42), None));
    }

    #[test]
    fn escapes_that_are_none_stay() {
        for text in ["\\", "\\04", "\\999", "\\777", "a\\b"] {
            assert_eq!(unescape(text.as_bytes()), Path::new(text), "{text}");
        }
    }
}
