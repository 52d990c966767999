//! Files that are not what their names promise, moved out of the way: nothing is ever deleted.
//!
//! ```text
//! aside/20261125T021831Z/blobs/ab/<64 digits>     when it was moved, and what name it had
//! ```
//!
//! A file first gets its new name, which is made durable, and only then loses the old one: whatever
//! moment the power goes at, it is there under one of them. Nobody reads what lies here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use resolver::{BlobId, GenerationNumber, ObjectId, PackageName, ReleaseId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Store, Writer, damaged, path};
use crate::disk::Stamp;
use crate::{Disk, StoreError};

/// Directories of one second: as many repairs can begin in it.
const SAME_SECOND_MAX: u32 = 1_000;

/// A file of a store that was found to be other than its name promises, in the state in which it
/// was found: whatever came to have its name since is not meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadFile {
    /// Below the store's directory; ASCII, as every name in a store.
    path: String,
    #[serde(flatten)]
    stamp: Stamp,
}

impl BadFile {
    /// The file of this path, as it is now; `None` when it is not there, is no file, or has a
    /// name that nothing in a store has.
    pub(crate) fn now<D: Disk>(disk: &D, path: &Path) -> Option<Self> {
        movable(path)?;
        let stamp = disk.stamp(path).ok()??;
        Some(Self { path: path.to_str()?.to_owned(), stamp })
    }

    /// Where it is, below the store's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// The generation that it should be, if it is one's.
    #[must_use]
    pub fn generation(&self) -> Option<GenerationNumber> {
        match movable(self.path()) {
            Some(Movable::Generation(number)) => Some(number),
            _ => None,
        }
    }

    /// The release whose record it should be, if it is one's.
    #[must_use]
    pub fn release(&self) -> Option<ReleaseId> {
        match movable(self.path()) {
            Some(Movable::Record(id)) => id,
            _ => None,
        }
    }
}

/// What can be moved: a file that stands for something by its name.
enum Movable {
    Content,
    Generation(GenerationNumber),
    /// A release record, or what lies among those under a name that is none's.
    Record(Option<ReleaseId>),
}

/// `None` for all other names. The path may come from a client.
fn movable(path: &Path) -> Option<Movable> {
    let parts: Vec<&str> = path.to_str()?.split('/').collect();
    let is = |known: PathBuf| (known == path).then_some(Movable::Content);
    match parts.as_slice() {
        [path::BLOBS, _, id] => is(path::blob(&id.parse::<BlobId>().ok()?)),
        [path::OUTBOARDS, _, id] => is(path::outboard(&id.parse::<BlobId>().ok()?)),
        [path::OBJECTS, _, id] => is(path::object(&id.parse::<ObjectId>().ok()?)),
        [path::GENERATIONS, number] => path::generation_number(number).map(Movable::Generation),
        [path::RELEASES, package, record] if !matches!(*record, "" | "." | "..") => {
            PackageName::new(package).ok()?;
            Some(Movable::Record(path::release_at(path)))
        }
        _ => None,
    }
}

impl<D: Disk> Store<D> {
    /// Moves files aside that are still as they were found, and says where each went; the others
    /// are left alone, so that the same again is fine. Which may go is the caller's business.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] for a name that nothing in a store has; [`StoreError::Io`]: then
    /// each file has its old name, or its new one, or both.
    pub fn set_aside(
        &self,
        _writer: &Writer,
        files: &[BadFile],
        at: Timestamp,
    ) -> Result<Vec<PathBuf>, StoreError> {
        let mut found = BTreeMap::new();
        for file in files {
            let path = file.path();
            if movable(path).is_none() {
                return Err(damaged(&self.disk, path, "nothing in a store has this name"));
            }
            let now = self.disk.stamp(path).map_err(|error| self.io("reading", path, error))?;
            if now == Some(file.stamp) {
                found.insert(path, file.stamp.inode);
            }
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let top = self.aside_dir(at)?;
        for path in found.keys() {
            self.alias_aside(path, &top.join(path), &top)?;
        }
        self.sync_all()?;
        let mut places = Vec::new();
        for (path, inode) in &found {
            let failed = |error| self.io("moving aside", path, error);
            // An addition may have put a good file in its place since.
            if self.disk.stamp(path).map_err(failed)?.is_some_and(|now| now.inode == *inode) {
                self.disk.remove(path).map_err(failed)?;
                places.push(top.join(path));
            }
        }
        let dirs: BTreeSet<&Path> = found.keys().filter_map(|path| path.parent()).collect();
        for dir in dirs {
            self.sync_dir(dir)?;
        }
        Ok(places)
    }

    /// As [`Store::set_aside`], of one file whatever state it is in; one that is not there is fine.
    pub(super) fn set_aside_now(
        &self,
        writer: &Writer,
        path: &Path,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let file = BadFile::now(&self.disk, path);
        self.set_aside(writer, file.as_slice(), at).map(drop)
    }

    /// Gives bad files names aside as well, durably, and leaves them where they are: for what is
    /// about to be replaced in one step. Says below which directory. Needs no [`Writer`]: nothing
    /// loses a name.
    pub(super) fn keep_aside(&self, paths: &[&Path], at: Timestamp) -> Result<PathBuf, StoreError> {
        let top = self.aside_dir(at)?;
        for path in paths {
            self.alias_aside(path, &top.join(path), &top)?;
        }
        self.sync_all()?;
        Ok(top)
    }

    fn alias_aside(&self, path: &Path, place: &Path, top: &Path) -> Result<(), StoreError> {
        self.make_dirs(place, top)?;
        match self.disk.alias(path, place) {
            Ok(true) => Ok(()),
            // The directory is new and ours: never go on to take the old name then.
            Ok(false) => Err(damaged(&self.disk, place, "somebody else made it")),
            Err(error) => Err(self.io("moving aside", path, error)),
        }
    }

    /// A new directory for what is moved aside now.
    fn aside_dir(&self, at: Timestamp) -> Result<PathBuf, StoreError> {
        let top = Path::new(path::ASIDE);
        let create = |dir: &Path| {
            let made = self.disk.create_dir(dir);
            made.map_err(|error| self.io("creating", dir, error))
        };
        create(top)?;
        let when = utc(at);
        for number in 1..=SAME_SECOND_MAX {
            let dir = match number {
                1 => top.join(&when),
                _ => top.join(format!("{when}-{number}")),
            };
            if create(&dir)? {
                return Ok(dir);
            }
        }
        let what = format!("the number of repairs in the second {when}");
        Err(StoreError::Limit { what, limit: SAME_SECOND_MAX.into() })
    }

    /// Makes the directories between `top` and a file below it.
    fn make_dirs(&self, file: &Path, top: &Path) -> Result<(), StoreError> {
        let below = |dir: &&Path| dir.starts_with(top) && *dir != top;
        let dirs: Vec<&Path> = file.ancestors().skip(1).take_while(below).collect();
        for dir in dirs.into_iter().rev() {
            self.disk.create_dir(dir).map_err(|error| self.io("creating", dir, error))?;
        }
        Ok(())
    }
}

/// `20261125T021831Z`: sorts as time does.
fn utc(at: Timestamp) -> String {
    const DAY: i64 = 86_400;
    let (days, second) = (at.0.div_euclid(DAY), at.0.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar: counted in eras
/// of 400 years that begin in March, so that a leap day is the last one of its year.
fn date(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_texts_that_sort() {
        for (at, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_868_800, "20000301T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_795_573_111, "20261125T021831Z"),
            (-1, "19691231T235959Z"),
        ] {
            assert_eq!(utc(Timestamp(at)), text);
        }
        utc(Timestamp(i64::MAX));
        utc(Timestamp(i64::MIN));
    }

    #[test]
    fn only_names_of_a_store_can_be_moved() {
        let id = "ab".repeat(32);
        for good in [
            format!("blobs/ab/{id}"),
            format!("outboards/ab/{id}"),
            format!("objects/ab/{id}"),
            "generations/7".to_owned(),
            "releases/xz/5.2,all".to_owned(),
            "releases/xz/what is this".to_owned(),
        ] {
            assert!(movable(Path::new(&good)).is_some(), "{good}");
        }
        for bad in [
            format!("blobs/aa/{id}"),
            format!("blobs/{id}"),
            format!("/blobs/ab/{id}"),
            format!("x/../blobs/ab/{id}"),
            "generations/07".to_owned(),
            "releases/xz/..".to_owned(),
            "releases/../format".to_owned(),
            "format".to_owned(),
            "lock".to_owned(),
            "index.redb".to_owned(),
            String::new(),
        ] {
            assert!(movable(Path::new(&bad)).is_none(), "{bad}");
        }
    }
}
