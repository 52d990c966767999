//! Release files: one release or a set of them, whole, in one file that can be sent and verified
//! while it is read.
//!
//! ```text
//! 0    8  magic "dynfsrel"
//! 8    4  length of the head, little-endian
//! 12      head: a record (see `store/record.rs`)
//!           {"record":"release-file","version":1}
//!           {"prefix":"/dyn","releases":2,"objects":1}
//!           {...}                        a release, as in its own record; one line each
//!           ["<64 digits>",1234]         an object and the bytes of its encoding; one line each
//!           {"blake3":"<64 digits>"}
//!         the encodings of the objects
//!         the contents of the blobs that they name, each once
//! ```
//!
//! Nothing behind the head says what it is: the order is the only one there is (releases by the
//! path of their record, objects as the releases name them first, blobs as the rows of the objects
//! do), and names and lengths follow from what came before. So there is nothing to contradict, no
//! name that could lead anywhere, and no byte that no hash covers. No seek is needed.
//!
//! Nothing here decides what is published, and nothing has a name in a store before the whole file
//! was read to its end and found to be right.

mod read;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use resolver::{BlobId, ObjectId, Release};
use serde::{Deserialize, Serialize};

pub use read::{Received, ReleaseFile, Wanted, check_release_file, receive};
pub use write::write;

use crate::store::record::{self, RecordReader, RecordWriter};
use crate::store::{OBJECT_LEN_MAX, path as paths};
use crate::{Node, Prefix, StoreError, Tree};

/// The first bytes of every release file.
pub const MAGIC: [u8; 8] = *b"dynfsrel";
/// Most releases in one file.
pub const RELEASES_MAX: u64 = 65_536;
/// Most bytes of all objects in one file: they are in memory together.
pub const OBJECTS_LEN_MAX: u64 = OBJECT_LEN_MAX;
/// Bytes that are read or written at once.
const PIECE_LEN: usize = 1024 * 1024;

/// How far work is, for whoever wants to hear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// What there is to do.
    Total {
        /// Files, each once however many names it has.
        files: u64,
        /// Bytes in them.
        bytes: u64,
    },
    /// So many more bytes are done.
    Bytes(u64),
    /// One more file is done.
    File,
}

/// Who hears it.
pub type Telling<'a> = &'a dyn Fn(Told);

/// The first line of a head behind that of its record.
#[derive(Serialize, Deserialize)]
struct Counts {
    prefix: PathBuf,
    releases: u64,
    objects: u64,
}

/// What a file says before its content.
#[derive(Debug)]
struct Head {
    prefix: Prefix,
    releases: Vec<Release>,
    /// In the order in which they come, with the bytes of their encodings.
    objects: Vec<(ObjectId, u64)>,
}

impl Head {
    fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let mut writer = RecordWriter::new(record::RELEASE_FILE, 1024);
        writer.line(&Counts {
            prefix: self.prefix.as_path().to_owned(),
            releases: self.releases.len() as u64,
            objects: self.objects.len() as u64,
        });
        self.releases.iter().for_each(|release| writer.line(release));
        self.objects.iter().for_each(|object| writer.line(object));
        writer.seal()
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = RecordReader::open(record::RELEASE_FILE, path, bytes)?;
        let counts: Counts = reader.line()?;
        let prefix = Prefix::new(&counts.prefix)?;
        if !(1..=RELEASES_MAX).contains(&counts.releases) {
            let reason = format!("it has {} releases, not 1 to {RELEASES_MAX}", counts.releases);
            return Err(record::damaged(path, &reason));
        }
        let mut releases: Vec<Release> = Vec::new();
        let mut last = PathBuf::new();
        for _ in 0..counts.releases {
            let release: Release = reader.line()?;
            let place = paths::release(&release.id)?;
            if place <= last {
                let reason = format!("{} is not in its place", release.id);
                return Err(record::damaged(path, &reason));
            }
            last = place;
            releases.push(release);
        }
        let expected = objects_of(&releases);
        let mut objects: Vec<(ObjectId, u64)> = Vec::new();
        for id in &expected {
            let (found, len): (ObjectId, u64) = reader.line()?;
            if found != *id {
                return Err(record::damaged(path, &format!("{found} is not in its place")));
            }
            objects.push((found, len));
        }
        reader.finish()?;
        if counts.objects != objects.len() as u64 {
            return Err(record::damaged(path, "it counts its objects wrongly"));
        }
        check_lens(objects.iter().map(|(_, len)| *len))?;
        Ok(Self { prefix, releases, objects })
    }
}

/// The head of a file of these, for the prefix `/dyn`: what a fuzzer makes files of.
pub(crate) fn head_of(releases: Vec<Release>, objects: Vec<(ObjectId, u64)>) -> Vec<u8> {
    let prefix = Prefix::new(Path::new("/dyn")).expect("the default");
    let head = Head { prefix, releases, objects }.encode();
    head.expect("a few lines are not too many")
}

/// Refuses more bytes of objects than one file may have.
fn check_lens(mut lens: impl Iterator<Item = u64>) -> Result<(), StoreError> {
    let sum = lens.try_fold(0_u64, u64::checked_add);
    if sum.is_some_and(|sum| sum <= OBJECTS_LEN_MAX) {
        return Ok(());
    }
    let what = "the length of all objects of a release file".to_owned();
    Err(StoreError::Limit { what, limit: OBJECTS_LEN_MAX })
}

/// The objects of releases, each once, as they are named first.
fn objects_of(releases: &[Release]) -> Vec<ObjectId> {
    let mut seen = HashSet::new();
    let objects = releases.iter().map(|release| release.object);
    objects.filter(|id| seen.insert(*id)).collect()
}

/// The blobs of objects with their lengths, each once, as they are named first.
///
/// # Errors
///
/// [`StoreError::Damaged`] at `path` when two rows name one blob with two lengths.
pub(crate) fn blobs_of<'a>(
    trees: impl IntoIterator<Item = &'a Tree>,
    path: &Path,
) -> Result<Vec<(BlobId, u64)>, StoreError> {
    let mut lens: BTreeMap<BlobId, u64> = BTreeMap::new();
    let mut blobs = Vec::new();
    for tree in trees {
        for entry in 1..=tree.rows() {
            let Some(Node::File { blob, size, .. }) = tree.row(entry).map(|row| row.node) else {
                continue;
            };
            match lens.insert(blob, size) {
                None => blobs.push((blob, size)),
                Some(known) if known == size => {}
                Some(_) => {
                    let reason = format!("it names {blob} with two lengths");
                    return Err(record::damaged(path, &reason));
                }
            }
        }
    }
    Ok(blobs)
}

/// What there is to do with blobs, as their objects have them: a sum that nobody has proven yet.
pub(crate) fn total(blobs: &[(BlobId, u64)]) -> Told {
    let bytes = blobs.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
    Told::Total { files: blobs.len() as u64, bytes }
}

#[cfg(test)]
mod tests;
