//! Reads a release file, from whomever it came: nothing in it is believed before it is proven.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use resolver::{BlobId, ObjectId, Release};

use super::{Head, MAGIC, PIECE_LEN, Telling, Told, blobs_of, total};
use crate::digest::BlobHasher;
use crate::store::record;
use crate::{Disk, Prefix, Store, StoreError, Tree};

/// A release file of which the head was read and checked.
#[derive(Debug)]
pub struct ReleaseFile<R> {
    input: R,
    /// Where it comes from, for messages.
    path: PathBuf,
    head: Head,
}

/// What of a release file is to be stored. All of it is read and verified in any case.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Everything.
    All,
    /// These objects with all that they name, and these blobs.
    These {
        /// The objects.
        objects: &'a BTreeSet<ObjectId>,
        /// The blobs.
        blobs: &'a BTreeSet<BlobId>,
    },
}

/// What was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Objects.
    pub objects: u64,
    /// Blobs.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes that the store did not have before.
    pub new_bytes: u64,
}

impl<R: Read> ReleaseFile<R> {
    /// Reads the head.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] when this is no release file or not a whole one;
    /// [`StoreError::NewerFormat`]; [`StoreError::Limit`]; [`StoreError::Io`].
    pub fn open(mut input: R, path: &Path) -> Result<Self, StoreError> {
        let magic = exactly(&mut input, MAGIC.len() as u64, path)?;
        if magic != MAGIC {
            return Err(record::damaged(path, "it does not begin like a release file"));
        }
        let len = exactly(&mut input, 4, path)?;
        let len = u32::from_le_bytes(len.try_into().expect("four bytes were read")).into();
        if len > record::RELEASE_FILE.len_max {
            let limit = record::RELEASE_FILE.len_max;
            let reason = format!("its head has {len} bytes, more than {limit}");
            return Err(record::damaged(path, &reason));
        }
        let head = exactly(&mut input, len, path)?;
        let head = Head::decode(path, &head).map_err(|error| match error {
            // Of a prefix, which names itself.
            StoreError::Damaged { reason, .. } => record::damaged(path, &reason),
            other => other,
        })?;
        Ok(Self { input, path: path.to_owned(), head })
    }

    /// The releases in it, by the path of their record. Their content is not read yet.
    #[must_use]
    pub fn releases(&self) -> &[Release] {
        &self.head.releases
    }

    /// The prefix that they are built for.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.head.prefix
    }

    /// Where it comes from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn objects(&mut self) -> Result<Vec<Tree>, StoreError> {
        let mut trees = Vec::new();
        for (id, len) in &self.head.objects {
            let bytes = exactly(&mut self.input, *len, &self.path)?;
            trees.push(Tree::decode(*id, bytes).map_err(|error| match error {
                StoreError::Damaged { reason, .. } => {
                    record::damaged(&self.path, &format!("object {id}: {reason}"))
                }
                other => other,
            })?);
        }
        Ok(trees)
    }

    /// The next bytes of a content of which `left` are to come; 0 at its end.
    fn piece(&mut self, left: &mut u64, piece: &mut [u8]) -> Result<usize, StoreError> {
        let most = usize::try_from(*left).map_or(piece.len(), |left| left.min(piece.len()));
        if most == 0 {
            return Ok(0);
        }
        match read(&mut self.input, &mut piece[..most], &self.path)? {
            0 => Err(cut(&self.path)),
            count => {
                *left -= count as u64;
                Ok(count)
            }
        }
    }

    /// Reads a content that is not wanted, and verifies it all the same.
    fn pass(&mut self, id: &BlobId, size: u64) -> Result<(), StoreError> {
        let mut hasher = BlobHasher::new();
        let mut piece = vec![0; usize::try_from(size).map_or(PIECE_LEN, |len| len.min(PIECE_LEN))];
        let mut left = size;
        loop {
            match self.piece(&mut left, &mut piece)? {
                0 => break,
                count => hasher.update(&piece[..count]),
            }
        }
        if hasher.finish().id == *id {
            return Ok(());
        }
        let reason = format!("the content of {id} in it is not that of its name");
        Err(record::damaged(&self.path, &reason))
    }

    /// Checks that nothing follows.
    fn end(&mut self) -> Result<(), StoreError> {
        match read(&mut self.input, &mut [0], &self.path)? {
            0 => Ok(()),
            _ => Err(record::damaged(&self.path, "it goes on behind its end")),
        }
    }
}

/// Reads the whole file and stores what is wanted of it: blobs as they come, and the objects, when
/// all of it was right, at the very end. Publishes nothing. With `rehearse` nothing is written.
///
/// # Errors
///
/// [`StoreError::Damaged`] of the file when any byte of it is not as it must be, and of the store;
/// [`StoreError::Io`]. Then no object was stored.
pub fn receive<D: Disk, R: Read>(
    store: &Store<D>,
    mut file: ReleaseFile<R>,
    wanted: Wanted<'_>,
    rehearse: bool,
    telling: Telling<'_>,
) -> Result<Received, StoreError> {
    let path = file.path.clone();
    let trees = file.objects()?;
    let blobs = blobs_of(&trees, &path)?;
    telling(total(&blobs));
    let addition = if rehearse { store.rehearse()? } else { store.add()? };
    let (keep, of_kept) = match wanted {
        Wanted::All => (trees, None),
        Wanted::These { objects, blobs } => {
            let keep: Vec<Tree> =
                trees.into_iter().filter(|tree| objects.contains(&tree.id())).collect();
            let named = blobs_of(&keep, &path)?.into_iter().map(|(id, _)| id);
            let of_kept: BTreeSet<BlobId> = named.chain(blobs.iter().copied()).collect();
            (keep, Some(of_kept))
        }
    };
    let mut received = Received { objects: keep.len() as u64, ..Received::default() };
    for (id, size) in blobs {
        if of_kept.as_ref().is_none_or(|of_kept| of_kept.contains(&id)) {
            let mut left = size;
            addition.incoming(id, size, &path, &mut |piece| {
                let count = file.piece(&mut left, piece)?;
                telling(Told::Bytes(count as u64));
                Ok(count)
            })?;
            received.files += 1;
            received.bytes += size;
        } else {
            file.pass(&id, size)?;
            telling(Told::Bytes(size));
        }
        telling(Told::File);
    }
    file.end()?;
    received.new_bytes = addition.new_bytes();
    addition.finish_all(&keep)?;
    Ok(received)
}

/// Reads and verifies a whole release file from memory and stores nothing: what a fuzzer calls.
///
/// # Errors
///
/// As [`receive`].
pub fn check_release_file(bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = ReleaseFile::open(bytes, Path::new("file"))?;
    let trees = file.objects()?;
    for (id, size) in blobs_of(&trees, &file.path.clone())? {
        file.pass(&id, size)?;
    }
    file.end()
}

/// So many bytes. Memory grows with what arrives and not with what was promised.
fn exactly(input: &mut impl Read, len: u64, path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let read = input.take(len).read_to_end(&mut bytes);
    read.map_err(|source| reading(path, source))?;
    if bytes.len() as u64 == len { Ok(bytes) } else { Err(cut(path)) }
}

fn read(input: &mut impl Read, piece: &mut [u8], path: &Path) -> Result<usize, StoreError> {
    loop {
        match input.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map_err(|source| reading(path, source)),
        }
    }
}

fn reading(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { action: "reading", path: path.to_owned(), source }
}

fn cut(path: &Path) -> StoreError {
    record::damaged(path, "it ends too early: it was cut")
}
