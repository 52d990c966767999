//! Reads `/proc/PID/maps` and `/proc/self/mountinfo`. Never touches the files named there.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// A file that a process has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Major and minor number of the device.
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    /// The path as the kernel prints it.
    pub(super) path: String,
    /// The name has meanwhile been given to another file, or to none.
    pub(super) gone: bool,
}

/// As `awk '{print $4, $5, $6, $7}'` prints it.
impl std::fmt::Display for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor) = self.device;
        write!(f, "{major:02x}:{minor:02x} {} {}", self.inode, self.path)?;
        if self.gone { write!(f, " (deleted)") } else { Ok(()) }
    }
}

/// The files in the text of a `maps` file, each mentioned once. Lines without a file are left out.
pub(super) fn mappings(text: &str) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    for mapping in text.lines().filter_map(mapping) {
        if !found.contains(&mapping) {
            found.push(mapping);
        }
    }
    found
}

/// The mapped library whose file name begins with `name`.
pub(super) fn library(text: &str, name: &str) -> Option<Mapping> {
    mappings(text)
        .into_iter()
        .find(|mapping| mapping.path.rsplit('/').next().is_some_and(|file| file.starts_with(name)))
}

/// ```text
/// 7f70a3ca0000-7f70a3ca3000 r--p 00000000 00:35 4294967301   /dyn/lib/xz/lib/liblzma.so.5
/// addresses                 flags offset  device inode      path, to the end of the line
/// ```
fn mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut fields = [""; 5];
    for field in &mut fields {
        rest = rest.trim_start_matches(' ');
        let (value, after) = rest.split_once(' ')?;
        (*field, rest) = (value, after);
    }
    let (major, minor) = fields[3].split_once(':')?;
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode = fields[4].parse().ok()?;
    let path = rest.trim_start_matches(' ');
    if inode == 0 || !path.starts_with('/') {
        return None;
    }
    let (path, gone) = match path.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    Some(Mapping { device, inode, path: path.to_owned(), gone })
}

/// Is something mounted exactly at `path`, according to the text of a `mountinfo` file?
pub(super) fn is_mounted(mountinfo: &str, path: &Path) -> bool {
    // The fifth field is the mount point, with blanks and such as three octal digits.
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).any(|at| unescape(at) == path)
}

fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
555ae951e000-555ae951f000 r-xp 00001000 08:10 3411 /tmp/x/programs/p01
7f70a3ca0000-7f70a3ca3000 r--p 00000000 00:35 4294967301    /dyn/lib/xz/lib/liblzma.so.5
7f70a3ca3000-7f70a3cc0000 r-xp 00003000 00:35 4294967301    /dyn/lib/xz/lib/liblzma.so.5
7f70a3cd0000-7f70a3cd2000 rw-p 00000000 00:00 0 
7f70a3cd2000-7f70a3cd3000 r--p 00000000 00:36 17 /tmp/a b/libz.so.1 (deleted)
7ffe2fa19000-7ffe2fa3a000 rw-p 00000000 00:00 0                          [stack]
";

    #[test]
    fn each_file_is_found_once() {
        let found: Vec<String> = mappings(MAPS).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "08:10 3411 /tmp/x/programs/p01",
                "00:35 4294967301 /dyn/lib/xz/lib/liblzma.so.5",
                "00:36 17 /tmp/a b/libz.so.1 (deleted)",
            ]
        );
    }

    #[test]
    fn a_library_is_found_by_the_start_of_its_file_name() {
        let found = library(MAPS, "liblzma.so").expect("it is mapped");
        assert_eq!((found.device, found.inode, found.gone), ((0, 0x35), 4_294_967_301, false));
        assert_eq!(library(MAPS, "lib/liblzma"), None);
        assert!(library(MAPS, "libz.so").expect("it is mapped").gone);
    }

    #[test]
    fn nonsense_is_no_mapping() {
        for line in ["", "a b c d e", "1-2 r-- 0 zz:1 5 /x", "1-2 r-- 0 0:1 five /x", "1-2 r-- 0"] {
            assert_eq!(mapping(line), None, "{line}");
        }
    }

    #[test]
    fn this_process_has_its_own_program_mapped() {
        let text = std::fs::read_to_string("/proc/self/maps").expect("procfs");
        let own = std::env::current_exe().expect("a program");
        assert!(mappings(&text).iter().any(|mapping| Path::new(&mapping.path) == own));
    }

    #[test]
    fn a_mount_point_is_recognised_with_its_escapes() {
        let text = "36 35 98:0 / /mnt/a\\040b rw,noatime - fuse.dynfs dynfs ro\n\
                    37 35 98:0 / /mnt rw - ext4 /dev/x rw\n";
        assert!(is_mounted(text, Path::new("/mnt/a b")));
        assert!(is_mounted(text, Path::new("/mnt")));
        assert!(!is_mounted(text, Path::new("/mnt/a")));
        assert_eq!(unescape("a\\04"), Path::new("a\\04"));
        assert_eq!(unescape("a\\999b"), Path::new("a\\999b"));
    }
}
