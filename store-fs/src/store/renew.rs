//! Making anew what can be computed from what is there. What is computed is proven by its name, so
//! nothing here can make a store worse.

use std::path::Path;

use resolver::{Arch, BlobId, Generation, Timestamp};

use super::index::Index;
use super::{Store, Writer, damaged, generation, path, read_file, record};
use crate::digest::{BlobHasher, Digest};
use crate::disk::Caching;
use crate::{Disk, StoreError};

/// Bytes that are hashed at once.
const PIECE_LEN: usize = 1024 * 1024;

impl<D: Disk> Store<D> {
    /// Hashes a whole blob again and stores the outboard that it must have; `false` when one is
    /// there. Needs no [`Writer`], as adding does not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] when the blob is missing or its content is not that of its name;
    /// [`StoreError::Io`].
    pub fn renew_outboard(&self, blob: &BlobId) -> Result<bool, StoreError> {
        let digest = self.hash_blob(blob, None)?;
        let digest =
            digest.ok_or_else(|| damaged(&self.disk, &path::blob(blob), "it is missing"))?;
        if digest.outboard.is_empty() {
            return Ok(false);
        }
        let path = path::outboard(blob);
        let temp = self.write_temp(&path, &digest.outboard)?;
        self.disk.sync_temp(&temp).map_err(|error| self.io("syncing", &path, error))?;
        let is_new = self.link(&temp, &path)?;
        path.ancestors().skip(1).take(2).try_for_each(|dir| self.sync_dir(dir))?;
        Ok(is_new)
    }

    /// Hashes a whole blob again; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] when its length, where that is known, or its content is not that of
    /// its name; [`StoreError::Io`].
    pub(super) fn hash_blob(
        &self,
        blob: &BlobId,
        len: Option<u64>,
    ) -> Result<Option<Digest>, StoreError> {
        let path = path::blob(blob);
        let reading = |error| self.io("reading", &path, error);
        let Some(file) = self.disk.open_file(&path).map_err(reading)? else { return Ok(None) };
        let present = self.disk.len(&file).map_err(reading)?;
        if let Some(len) = len
            && present != len
        {
            let reason = format!("it has {present} bytes instead of {len}");
            return Err(damaged(&self.disk, &path, reason));
        }
        let mut hasher = BlobHasher::new();
        let mut piece = vec![0; PIECE_LEN.min(usize::try_from(present).unwrap_or(PIECE_LEN) + 1)];
        let mut at = 0;
        loop {
            let read = self.disk.read_at(&file, at, &mut piece, Caching::Drop);
            let count = read.map_err(reading)?;
            if count == 0 {
                break;
            }
            hasher.update(&piece[..count]);
            at += count as u64;
        }
        let digest = hasher.finish();
        match digest.id == *blob {
            true => Ok(Some(digest)),
            false => Err(damaged(&self.disk, &path, "its content is not that of its name")),
        }
    }

    /// Writes the index anew from the records, whatever the present one says.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn renew_index(&self, _writer: &Writer, host: Arch) -> Result<(), StoreError> {
        let read = self.read_catalog(host, Index::default())?;
        let path = Path::new(path::INDEX);
        read.rows.save(&self.disk).map_err(|reason| damaged(&self.disk, path, reason))
    }

    /// Writes a generation again whose file is damaged and which is known from memory; the bad
    /// file is kept aside. In one step: there is no moment without it, in which an older one would
    /// be the newest. `false` when the file says what it must.
    ///
    /// # Errors
    ///
    /// [`StoreError::Limit`], [`StoreError::Io`].
    pub fn renew_generation(
        &self,
        _writer: &Writer,
        generation: &Generation,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let path = path::generation(generation.number);
        let bytes = generation::encode(generation)?;
        // One that cannot be read is as bad as one that says something else.
        let present = read_file(&self.disk, &path, record::GENERATION.len_max).unwrap_or_default();
        if present.as_ref() == Some(&bytes) {
            return Ok(false);
        }
        let temp = self.write_temp(&path, &bytes)?;
        self.disk.sync_temp(&temp).map_err(|error| self.io("syncing", &path, error))?;
        if self.disk.stamp(&path).map_err(|error| self.io("reading", &path, error))?.is_some() {
            self.keep_aside(&[&path], at)?;
        }
        let replaced = self.disk.replace(&temp, &path);
        replaced.map_err(|error| self.io("linking", &path, error))?;
        self.sync_dir(Path::new(path::GENERATIONS))?;
        Ok(true)
    }
}
