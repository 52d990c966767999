//! Which devices and places are mounts of ours. Asks the kernel's list, never a mount itself.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::DirectoryError;

const MOUNTINFO: &str = "/proc/self/mountinfo";
/// The type that the kernel shows for a mount of dynfs.
const FS_TYPE: &[u8] = b"fuse.dynfs";

/// The mounts of dynfs in this mount namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    devices: Vec<(u32, u32)>,
    places: Vec<PathBuf>,
}

impl Mounts {
    pub(super) fn now() -> Result<Self, DirectoryError> {
        let text = std::fs::read(MOUNTINFO).map_err(|source| DirectoryError::Io {
            action: "reading",
            path: MOUNTINFO.into(),
            source,
        })?;
        Ok(Self::parse(&text))
    }

    /// Lines of an unknown shape are not ours.
    ///
    /// ```text
    /// 36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    /// id parent dev root mountpoint options optional... - type source options
    /// ```
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut mounts = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            if let Some((device, place)) = parse_line(line) {
                mounts.devices.push(device);
                mounts.places.push(place);
            }
        }
        mounts
    }

    /// Whether a path's own text leads into one; said without touching anything.
    pub(super) fn lead_to(&self, path: &Path) -> bool {
        let Ok(path) = std::path::absolute(path) else { return false };
        self.places.iter().any(|place| path.starts_with(place))
    }

    pub(super) fn has_device(&self, device: (u32, u32)) -> bool {
        self.devices.contains(&device)
    }
}

fn parse_line(line: &[u8]) -> Option<((u32, u32), PathBuf)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let place = unescape(fields.nth(1)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == FS_TYPE).then_some((device, place))
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.first_chunk::<3>().filter(|_| *first == b'\\');
        let octal = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ours_are_taken() {
        let text = b"21 1 0:20 / /proc rw - proc proc rw\n\
            36 21 0:41 / /my\\040dyn\\134x ro,nosuid shared:3 master:4 - fuse.dynfs /s ro\n\
            37 21 0:42 / /mnt rw - fuse.sshfs host rw\n\
            garbage\n\
            38 21 x:y / /z rw - fuse.dynfs s rw\n\
            39 21 0:41 /.generations/3 /frozen ro - fuse.dynfs /s ro\n";
        let mounts = Mounts::parse(text);
        assert!(mounts.has_device((0, 41)));
        for other in [(0, 20), (0, 42), (41, 0)] {
            assert!(!mounts.has_device(other));
        }
        for path in ["/my dyn\\x", "/my dyn\\x/lib/xz", "/frozen/bin"] {
            assert!(mounts.lead_to(Path::new(path)), "{path}");
        }
        for path in ["/my dyn\\xy", "/frozen2", "/mnt/x", "/", "relative"] {
            assert!(!mounts.lead_to(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn this_machines_own_list_is_understood() {
        assert!(!Mounts::now().unwrap().lead_to(Path::new("/proc")));
    }
}
