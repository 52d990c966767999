//! What is to be added, or taken from: outside of the store and of every mount of ours.
//!
//! Never looks into a mount: one that hangs must not hang this command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{CommandError, Kind};
use crate::host;
use crate::mountinfo::FS_TYPE;

/// Symbolic links in one path, as in Linux.
const LINKS_MAX: usize = 40;

/// The source without symbolic links.
pub(in crate::commands) fn find(store: &Path, path: &Path) -> Result<PathBuf, CommandError> {
    let failed = |error: &io::Error| {
        let failed = CommandError::io("finding", path, error).hint("check the path");
        match error.kind() {
            io::ErrorKind::NotFound => CommandError { kind: Kind::NotFound, ..failed },
            _ => failed,
        }
    };
    let mut mounts = host::mounts()?;
    mounts.retain(|mount| mount.kind == FS_TYPE);
    let ours: Vec<PathBuf> = mounts.into_iter().map(|mount| mount.mountpoint).collect();
    let whole = std::path::absolute(path).map_err(|error| failed(&error))?;
    let source = follow(&whole, &ours).map_err(|error| failed(&error))?;
    for mountpoint in &ours {
        outside(&source, mountpoint, "the mount")?;
    }
    outside(&source, store, "the store")?;
    Ok(source)
}

/// Follows the symbolic links of an absolute path, but for those inside a mount of ours.
fn follow(path: &Path, ours: &[PathBuf]) -> io::Result<PathBuf> {
    let mut whole = PathBuf::from("/");
    let mut ahead = parts(path);
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        if part == OsStr::new("..") {
            whole.pop();
            continue;
        }
        let next = whole.join(part);
        if ours.iter().any(|mountpoint| next.starts_with(mountpoint)) {
            whole = next;
            continue;
        }
        match fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(io::Error::from(rustix::io::Errno::LOOP));
                }
                if target.is_absolute() {
                    whole = PathBuf::from("/");
                }
                ahead.extend(parts(&target));
            }
            // It is there, and it is no link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => whole = next,
            Err(error) => return Err(error),
        }
    }
    Ok(whole)
}

/// The names in a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        _ => None,
    });
    names.collect()
}

/// Refuses when one of the two directories lies in the other.
pub(super) fn outside(source: &Path, other: &Path, what: &str) -> Result<(), CommandError> {
    if !source.starts_with(other) && !other.starts_with(source) {
        return Ok(());
    }
    let (inner, outer) = match source.starts_with(other) {
        true => (source.display().to_string(), format!("{what} {}", other.display())),
        false => (format!("{what} {}", other.display()), source.display().to_string()),
    };
    Err(CommandError::new(Kind::Refused, format!("{inner} is inside of {outer}"))
        .hint("copy what you want to add to another directory first"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_up_to_a_mount_and_not_into_it() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().canonicalize().unwrap().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir_all(at("mount")).unwrap();
        symlink("a", at("relative")).unwrap();
        symlink(at("a/b"), at("absolute")).unwrap();
        symlink("../mount/lib", at("a/into")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let ours = [at("mount")];
        for (path, expected) in [
            ("a/b", "a/b"),
            ("relative/b", "a/b"),
            ("absolute/..", "a"),
            ("relative/into/../x", "mount/x"),
            ("mount/lib/../../a", "a"),
            ("mount", "mount"),
        ] {
            assert_eq!(follow(&at(path), &ours).unwrap(), at(expected), "{path}");
        }
        let error = |path: &str| follow(&at(path), &ours).unwrap_err();
        assert_eq!(error("loop").raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
        assert_eq!(error("absent/x").kind(), io::ErrorKind::NotFound);
    }
}
