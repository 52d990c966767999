//! Brings objects and blobs from one store to another: everything is verified when it is read, and
//! again before it gets a name. Publishes nothing.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use resolver::{BlobId, ObjectId};

use crate::fsck::Needed;
use crate::release_file::{Received, Telling, Told, blobs_of, total};
use crate::{Addition, Disk, Store, StoreError, Tree};

/// Copies objects with all that they name; of what is there already and good, the source is not
/// read.
///
/// # Errors
///
/// [`StoreError::NoObject`], [`StoreError::Damaged`] when the source does not have them whole;
/// those of [`Addition`]. Then no object was stored.
pub fn copy<D: Disk, S: Disk>(
    from: &Store<S>,
    to: &Store<D>,
    objects: &BTreeSet<ObjectId>,
    rehearse: bool,
    telling: Telling<'_>,
) -> Result<Received, StoreError> {
    let trees: Vec<Arc<Tree>> =
        objects.iter().map(|id| from.object(id)).collect::<Result<_, _>>()?;
    let blobs = blobs_of(trees.iter().map(Arc::as_ref), from.disk().root())?;
    telling(total(&blobs));
    let addition = if rehearse { to.rehearse()? } else { to.add()? };
    let mut received = Received { objects: objects.len() as u64, ..Received::default() };
    for (blob, size) in blobs {
        match to.has_good_blob(&blob, size)? {
            true => telling(Told::Bytes(size)),
            false => bring(from, &addition, blob, size, telling).map_err(|lost| lost.error)?,
        }
        telling(Told::File);
        received.files += 1;
        received.bytes += size;
    }
    received.new_bytes = addition.new_bytes();
    addition.finish_all(trees.iter().map(Arc::as_ref))?;
    Ok(received)
}

/// Brings what is needed and what the source has whole; the rest is left out.
///
/// # Errors
///
/// Those of [`Addition`].
pub fn fetch<D: Disk, S: Disk>(
    from: &Store<S>,
    to: &Store<D>,
    needed: &Needed,
    telling: Telling<'_>,
) -> Result<Received, StoreError> {
    let addition = to.add()?;
    let mut received = Received::default();
    let mut give = |blob: BlobId, size: u64| {
        match to.has_blob(&blob, size) {
            Ok(false) => {}
            // What is in the way was not moved aside.
            Err(StoreError::Damaged { .. }) => return Ok(false),
            there => return there,
        }
        match bring(from, &addition, blob, size, telling) {
            Ok(()) => {
                received.files += 1;
                received.bytes += size;
                Ok(true)
            }
            Err(Lost { by_source: true, error }) => {
                tracing::info!("not brought: {error}");
                Ok(false)
            }
            Err(lost) => Err(lost.error),
        }
    };
    for (blob, size) in &needed.blobs {
        give(*blob, *size)?;
    }
    let mut whole = Vec::new();
    for id in &needed.objects {
        let Ok(tree) = from.object(id) else { continue };
        let Ok(blobs) = blobs_of([tree.as_ref()], from.disk().root()) else { continue };
        let mut is_whole = true;
        for (blob, size) in blobs {
            is_whole &= give(blob, size)?;
        }
        if is_whole {
            whole.push(tree);
        }
    }
    received.objects = whole.len() as u64;
    received.new_bytes = addition.new_bytes();
    addition.finish_all(whole.iter().map(Arc::as_ref))?;
    Ok(received)
}

/// Why a blob was not brought.
struct Lost {
    /// The source does not have it, or not as it should be.
    by_source: bool,
    error: StoreError,
}

fn bring<D: Disk, S: Disk>(
    from: &Store<S>,
    addition: &Addition<'_, D>,
    blob: BlobId,
    size: u64,
    telling: Telling<'_>,
) -> Result<(), Lost> {
    let by_source = Cell::new(false);
    let mut at = 0;
    let mut buffer = Vec::new();
    let done = addition.incoming(blob, size, from.disk().root(), &mut |piece| {
        buffer.clear();
        let read = from.read(&blob, size, at, piece.len(), &mut buffer);
        read.inspect_err(|_| by_source.set(true))?;
        piece[..buffer.len()].copy_from_slice(&buffer);
        at += buffer.len() as u64;
        telling(Told::Bytes(buffer.len() as u64));
        Ok(buffer.len())
    });
    done.map_err(|error| Lost { by_source: by_source.get(), error })
}
