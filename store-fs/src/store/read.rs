//! Verified reads: the bytes that were hashed are the bytes that are handed over.
//!
//! Whole groups are read, into the caller's buffer, and checked there; then whatever was not asked
//! for is cut off at both ends. Nothing is remembered as good but hashes.

use std::path::Path;
use std::sync::Arc;

use resolver::BlobId;

use super::{Store, damaged, path, read_file};
use crate::digest::{self, GROUP_LEN, Outboard};
use crate::disk::Caching;
use crate::{Disk, StoreError};

const GROUP: u64 = GROUP_LEN as u64;
/// Bytes of a chaining value.
const VALUE_LEN: u64 = 32;
/// Groups that are read at once: 1 MiB.
const GROUPS_AT_ONCE: u64 = 16;

impl<D: Disk> Store<D> {
    /// Appends up to `len` bytes of a blob of `size` bytes from `offset` to `buffer`, every byte
    /// verified on the way; fewer at its end.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] when the content is not what its name promises, [`StoreError::Io`];
    /// then `buffer` is as it was.
    pub fn read(
        &self,
        blob: &BlobId,
        size: u64,
        offset: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let end = size.min(offset.saturating_add(len as u64));
        if offset >= end {
            return Ok(());
        }
        let before = buffer.len();
        let path = path::blob(blob);
        let done = self.read_groups(blob, &path, size, offset..end, buffer);
        if done.is_err() {
            buffer.truncate(before);
        }
        done
    }

    fn read_groups(
        &self,
        blob: &BlobId,
        path: &Path,
        size: u64,
        range: std::ops::Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let reading = |error| self.io("reading", path, error);
        let file = self
            .disk
            .open_file(path)
            .map_err(reading)?
            .ok_or_else(|| damaged(&self.disk, path, "it is missing"))?;
        let present = self.disk.len(&file).map_err(reading)?;
        if present != size {
            let reason = format!("it has {present} bytes instead of {size}");
            return Err(damaged(&self.disk, path, reason));
        }
        let outboard = if size > GROUP { Some(self.outboard(blob, size)?) } else { None };
        let mut group = range.start / GROUP;
        let last = (range.end - 1) / GROUP;
        while group <= last {
            let next = (last + 1).min(group + GROUPS_AT_ONCE);
            let from = group * GROUP;
            let to = size.min(next.saturating_mul(GROUP));
            let at = buffer.len();
            let count =
                usize::try_from(to - from).expect("at most GROUPS_AT_ONCE groups are read at once");
            buffer.resize(at + count, 0);
            let read = self
                .disk
                .read_at(&file, from, &mut buffer[at..], Caching::Drop)
                .map_err(reading)?;
            if read < count {
                return Err(damaged(&self.disk, path, "it got shorter while it was read"));
            }
            verify(blob, outboard.as_deref(), group, &buffer[at..])
                .map_err(|reason| damaged(&self.disk, path, reason))?;
            trim(buffer, at, from..to, &range);
            group = next;
        }
        Ok(())
    }

    /// The verified outboard of a blob of more than one group, from a bounded cache or the disk.
    fn outboard(&self, blob: &BlobId, size: u64) -> Result<Arc<Outboard>, StoreError> {
        if let Some(outboard) = self.outboards.get(blob) {
            return Ok(outboard);
        }
        let outboard = Arc::new(self.load_outboard(blob, size)?);
        self.outboards.insert(*blob, Arc::clone(&outboard), outboard.memory());
        Ok(outboard)
    }

    pub(crate) fn load_outboard(&self, blob: &BlobId, size: u64) -> Result<Outboard, StoreError> {
        let path = path::outboard(blob);
        let values = read_file(&self.disk, &path, outboard_len(size))?
            .ok_or_else(|| damaged(&self.disk, &path, "it is missing"))?;
        if values.len() as u64 != outboard_len(size) {
            return Err(damaged(&self.disk, &path, "its length is not that of its blob's hashes"));
        }
        Outboard::verify(blob, size, values)
            .ok_or_else(|| damaged(&self.disk, &path, "its hashes are not those of its name"))
    }
}

/// Bytes of the outboard of a blob of so many bytes.
pub(crate) fn outboard_len(size: u64) -> u64 {
    if size <= GROUP { 0 } else { size.div_ceil(GROUP) * VALUE_LEN }
}

fn verify(
    blob: &BlobId,
    outboard: Option<&Outboard>,
    first: u64,
    bytes: &[u8],
) -> Result<(), String> {
    let Some(outboard) = outboard else {
        let good = digest::proves(blob, bytes);
        return if good { Ok(()) } else { Err("its content is not that of its name".to_owned()) };
    };
    for (group, bytes) in (first..).zip(bytes.chunks(GROUP_LEN)) {
        if !outboard.proves(group, bytes) {
            let offset = group * GROUP;
            return Err(format!("its content is not that of its name, from byte {offset} on"));
        }
    }
    Ok(())
}

/// Cuts what was not asked for off both ends of the bytes `has`, which begin at `at`.
fn trim(buffer: &mut Vec<u8>, at: usize, has: std::ops::Range<u64>, wanted: &std::ops::Range<u64>) {
    let tail = usize::try_from(has.end.saturating_sub(wanted.end));
    let head = usize::try_from(wanted.start.saturating_sub(has.start));
    let tail = tail.expect("less than a group is cut off");
    let head = head.expect("less than a group is cut off");
    buffer.truncate(buffer.len() - tail);
    if head > 0 {
        buffer.drain(at..at + head);
    }
}
