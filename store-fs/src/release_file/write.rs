//! Writes a release file: everything is verified on its way out of the store.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use resolver::Release;

use super::{
    Head, MAGIC, PIECE_LEN, RELEASES_MAX, Telling, Told, blobs_of, check_lens, objects_of, total,
};
use crate::store::path as paths;
use crate::{Disk, Store, StoreError, Tree};

/// Writes these releases of a store, in any order, to `out`. `path` is where that leads, for
/// messages.
///
/// # Errors
///
/// [`StoreError::Damaged`], [`StoreError::NoObject`] when the store does not have them whole;
/// [`StoreError::Limit`]; [`StoreError::Io`]. Then what was written is no release file.
pub fn write<D: Disk>(
    store: &Store<D>,
    releases: &[Release],
    mut out: impl Write,
    path: &Path,
    telling: Telling<'_>,
) -> Result<(), StoreError> {
    let mut releases = releases.to_vec();
    for release in &releases {
        paths::release(&release.id)?;
    }
    releases.sort_by_key(|release| paths::release(&release.id).ok());
    releases.dedup_by(|a, b| a.id == b.id);
    if releases.is_empty() || releases.len() as u64 > RELEASES_MAX {
        let what = "the number of releases in one file".to_owned();
        return Err(StoreError::Limit { what, limit: RELEASES_MAX });
    }
    let ids = objects_of(&releases);
    let trees: Vec<Arc<Tree>> = ids.iter().map(|id| store.object(id)).collect::<Result<_, _>>()?;
    let len = |tree: &Tree| tree.encoding().len() as u64;
    check_lens(trees.iter().map(|tree| len(tree)))?;
    let objects = trees.iter().map(|tree| (tree.id(), len(tree))).collect();
    let prefix = store.format().prefix.clone();
    let head = Head { prefix, releases, objects }.encode()?;
    let blobs = blobs_of(trees.iter().map(Arc::as_ref), path)?;
    telling(total(&blobs));

    let writing =
        |source: io::Error| StoreError::Io { action: "writing", path: path.to_owned(), source };
    let head_len = u32::try_from(head.len()).expect("a record of this kind has at most 64 MiB");
    out.write_all(&MAGIC).map_err(writing)?;
    out.write_all(&head_len.to_le_bytes()).map_err(writing)?;
    out.write_all(&head).map_err(writing)?;
    for tree in &trees {
        out.write_all(tree.encoding()).map_err(writing)?;
    }
    let mut piece = Vec::new();
    for (blob, size) in blobs {
        let mut at = 0;
        while at < size {
            piece.clear();
            store.read(&blob, size, at, PIECE_LEN, &mut piece)?;
            out.write_all(&piece).map_err(writing)?;
            at += piece.len() as u64;
            telling(Told::Bytes(piece.len() as u64));
        }
        telling(Told::File);
    }
    out.flush().map_err(writing)
}
