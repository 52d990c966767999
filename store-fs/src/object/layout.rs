//! The bytes of an object's encoding: where each field is, how it is read and written.
//!
//! Reads are bounded by the slice and answer `None` beyond it. Whether a value makes sense is not
//! judged here.

use std::ops::Range;

/// The first eight bytes.
pub(super) const MAGIC: [u8; 8] = *b"dynfsobj";
/// The version of the encoding. Another one is another format, and gives other names.
pub(super) const VERSION: u32 = 1;
/// Bytes of the header, and of each row behind it: row `n` begins at byte `64 * n`.
pub(super) const ROW_LEN: usize = 64;

pub(super) const HEADER_VERSION: usize = 8;
pub(super) const HEADER_ROWS: usize = 12;
pub(super) const HEADER_HEAP_LEN: usize = 16;
pub(super) const HEADER_ZERO: Range<usize> = 20..64;

pub(super) const KIND: usize = 0;
pub(super) const FLAGS: usize = 1;
pub(super) const NAME_LEN: usize = 2;
pub(super) const NAME_AT: usize = 4;
pub(super) const PARENT: usize = 8;
pub(super) const ROW_ZERO: Range<usize> = 12..16;

pub(super) const DIR_FIRST: usize = 16;
pub(super) const DIR_COUNT: usize = 20;
pub(super) const DIR_SUBDIRS: usize = 24;
pub(super) const DIR_ZERO: Range<usize> = 28..64;

pub(super) const FILE_BLOB: usize = 16;
pub(super) const FILE_SIZE: usize = 48;
pub(super) const FILE_MTIME: usize = 56;

pub(super) const LINK_AT: usize = 16;
pub(super) const LINK_LEN: usize = 20;
pub(super) const LINK_ZERO: Range<usize> = 24..64;

pub(super) const KIND_DIR: u8 = 1;
pub(super) const KIND_FILE: u8 = 2;
pub(super) const KIND_LINK: u8 = 3;
pub(super) const FLAG_EXECUTABLE: u8 = 1;

/// One header or row.
pub(super) type Slot = [u8; ROW_LEN];

/// The header (0) or the row of this number.
pub(super) fn slot(bytes: &[u8], number: u32) -> Option<&Slot> {
    let start = usize::try_from(number).ok()?.checked_mul(ROW_LEN)?;
    bytes.get(start..)?.first_chunk()
}

/// `len` bytes of the heap of an encoding with this many rows.
pub(super) fn heap(bytes: &[u8], rows: u32, at: u32, len: usize) -> Option<&[u8]> {
    let start = heap_start(rows)?.checked_add(usize::try_from(at).ok()?)?;
    bytes.get(start..start.checked_add(len)?)
}

/// Where the heap begins.
pub(super) fn heap_start(rows: u32) -> Option<usize> {
    usize::try_from(rows).ok()?.checked_add(1)?.checked_mul(ROW_LEN)
}

/// The `N` bytes at a place that is fixed by this file, so that it is always inside.
pub(super) const fn field<const N: usize>(slot: &Slot, at: usize) -> [u8; N] {
    let mut value = [0; N];
    let mut i = 0;
    while i < N {
        value[i] = slot[at + i];
        i += 1;
    }
    value
}

pub(super) fn get_u16(slot: &Slot, at: usize) -> u16 {
    u16::from_le_bytes(field(slot, at))
}

pub(super) fn get_u32(slot: &Slot, at: usize) -> u32 {
    u32::from_le_bytes(field(slot, at))
}

pub(super) fn get_u64(slot: &Slot, at: usize) -> u64 {
    u64::from_le_bytes(field(slot, at))
}

pub(super) fn get_i64(slot: &Slot, at: usize) -> i64 {
    i64::from_le_bytes(field(slot, at))
}

/// Writes a little-endian field.
pub(super) fn put<const N: usize>(slot: &mut Slot, at: usize, value: [u8; N]) {
    slot[at..at + N].copy_from_slice(&value);
}
