//! Where each thing lies below the store's directory. Never touches a disk.

use std::path::{Path, PathBuf};

use resolver::{
    Arch, BlobId, GenerationNumber, ObjectId, PackageName, ReleaseId, Variant, Version,
};

use crate::StoreError;

pub(crate) const FORMAT: &str = "format";
pub(crate) const LOCK: &str = "lock";
pub(crate) const INDEX: &str = "index.redb";
pub(crate) const BLOBS: &str = "blobs";
pub(crate) const OUTBOARDS: &str = "outboards";
pub(crate) const OBJECTS: &str = "objects";
pub(crate) const RELEASES: &str = "releases";
pub(crate) const GENERATIONS: &str = "generations";
pub(crate) const TRASH: &str = "trash";
/// Locked, shared, by whoever adds content, and alone by whoever collects garbage.
pub(crate) const ADDING: &str = "adding";

/// Where bad files are moved; made when the first one is.
pub(crate) const ASIDE: &str = "aside";

/// The daemon's own directory: its socket, its claim, its log. No part of the state.
pub const RUN_DIR: &str = "run";

/// Directories of every store.
pub(crate) const DIRS: [&str; 6] = [BLOBS, OUTBOARDS, OBJECTS, RELEASES, GENERATIONS, TRASH];

/// The highest number of a generation: one select a microsecond reaches it in 300,000 years.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Longest name of a release record: `NAME_MAX` of Linux.
const RECORD_NAME_LEN_MAX: usize = 255;

/// `<dir>/ab/<64 hexadecimal digits>`.
fn sharded(dir: &str, name: &str) -> PathBuf {
    let mut path = String::with_capacity(dir.len() + name.len() + 4);
    path.push_str(dir);
    path.push('/');
    path.push_str(&name[..2]);
    path.push('/');
    path.push_str(name);
    PathBuf::from(path)
}

pub(crate) fn blob(id: &BlobId) -> PathBuf {
    sharded(BLOBS, &id.to_string())
}

pub(crate) fn outboard(id: &BlobId) -> PathBuf {
    sharded(OUTBOARDS, &id.to_string())
}

pub(crate) fn object(id: &ObjectId) -> PathBuf {
    sharded(OBJECTS, &id.to_string())
}

/// The mark that an object is in the trash.
pub(crate) fn trash(id: &ObjectId) -> PathBuf {
    PathBuf::from(format!("{TRASH}/{id}"))
}

pub(crate) fn generation(number: GenerationNumber) -> PathBuf {
    PathBuf::from(format!("{GENERATIONS}/{number}"))
}

/// The number that a file name in `generations` stands for.
pub(crate) fn generation_number(name: &str) -> Option<GenerationNumber> {
    let number: u64 = name.parse().ok()?;
    // Only the one spelling that is written: no sign, no leading zero, not 0; and never so high
    // that none could follow.
    ((1..=NUMBER_MAX).contains(&number) && number.to_string() == name)
        .then_some(GenerationNumber(number))
}

pub(crate) fn package(name: &PackageName) -> PathBuf {
    PathBuf::from(format!("{RELEASES}/{name}"))
}

/// `releases/<package>/<version>,<architecture>[,<variant>...]`. None of the parts can hold a
/// comma, so two releases never share a name.
///
/// # Errors
///
/// [`StoreError::Limit`] when that is longer than a file name may be.
pub(crate) fn release(id: &ReleaseId) -> Result<PathBuf, StoreError> {
    let mut name = id.version.file_name();
    for part in std::iter::once(id.arch.as_str()).chain(id.variants.iter().map(|v| v.as_str())) {
        name.push(',');
        name.push_str(part);
    }
    if name.len() > RECORD_NAME_LEN_MAX {
        return Err(StoreError::Limit {
            what: format!("the name of the record of {id}, in bytes,"),
            limit: RECORD_NAME_LEN_MAX as u64,
        });
    }
    Ok(package(&id.name).join(name))
}

/// The release whose record has this path; `None` for a name that is no record's.
pub(crate) fn release_at(path: &Path) -> Option<ReleaseId> {
    let name = path.parent()?.file_name()?.to_str()?;
    let mut parts = path.file_name()?.to_str()?.split(',');
    let id = ReleaseId {
        name: PackageName::new(name).ok()?,
        version: Version::from_file_name(parts.next()?).ok()?,
        arch: Arch::new(parts.next()?).ok()?,
        variants: parts.map(Variant::new).collect::<Result<_, _>>().ok()?,
    };
    // Only the one spelling that is written.
    (release(&id).ok()? == path).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sharded_by_their_first_byte() {
        let id = BlobId::from_bytes([0xab; 32]);
        assert_eq!(blob(&id), PathBuf::from(format!("blobs/ab/{id}")));
    }

    #[test]
    fn a_record_says_its_release_by_its_place() {
        for path in ["releases/xz/5.2.5,amd64", "releases/xz/1%3a5.2.5,all,debug,static"] {
            let id = release_at(Path::new(path)).unwrap();
            assert_eq!(release(&id).unwrap(), Path::new(path));
        }
        for path in [
            "releases/xz/5.2.5",
            "releases/xz/1:5.2.5,all",
            "releases/xz/5.2.5,all,static,debug",
            "releases/xz/5.2.5,all,",
            "releases/.xz/5.2.5,all",
            "xz",
        ] {
            assert_eq!(release_at(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn a_generation_has_one_spelling() {
        assert_eq!(generation_number("17"), Some(GenerationNumber(17)));
        for name in
            ["", "0", "017", "+17", "17 ", "-1", "9223372036854775808", "18446744073709551616", "x"]
        {
            assert_eq!(generation_number(name), None, "{name:?}");
        }
    }
}
