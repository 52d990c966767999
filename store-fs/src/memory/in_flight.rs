//! What is counted and what is being handled: the operations and the in-flight rows.
//!
//! One row a thread, of which only a lookup writes more than the first cache line:
//!
//! ```text
//! 0 sequence   odd while a request is being handled; raised by one at each begin and end
//! 1 unique     2 operation | size << 32     3 node     4 offset     5 start, ns
//! 6 thread id  7 length of the name         8..40 name
//! ```
//!
//! The words behind an odd sequence are complete. A killed server leaves its rows odd; they are
//! what the keeper reads then. Nothing here decides what an old row means.

use std::sync::atomic::{Ordering, fence};

use super::text::{load_text, store_text, words_of};
use super::{IN_FLIGHT_BASE, Memory};
use crate::sync::Word;

/// Rows; threads beyond share them, which loses a row and nothing else.
pub const IN_FLIGHT_ROWS: usize = 64;
/// Words of a row.
pub(super) const ROW_WORDS: usize = 40;
/// Words of a row before the name.
const NAME_WORD: usize = 8;
/// Longest name that is noted; the rest is cut.
const NAME_LEN_MAX: usize = 255;

const _: () = assert!(NAME_WORD + words_of(NAME_LEN_MAX) <= ROW_WORDS);

/// The file system operations that are counted, in the order of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum Operation {
    Lookup,
    Getattr,
    Readlink,
    Open,
    Read,
    Opendir,
    Readdir,
    Readdirplus,
    Statfs,
    Access,
    Getxattr,
    Listxattr,
    Flush,
    Release,
    Releasedir,
    Fsync,
    Fsyncdir,
    Lseek,
    Poll,
    Ioctl,
    Interrupt,
    Write,
    Other,
}

impl Operation {
    /// Every operation, in the order of the counters.
    pub const ALL: [Self; 23] = [
        Self::Lookup,
        Self::Getattr,
        Self::Readlink,
        Self::Open,
        Self::Read,
        Self::Opendir,
        Self::Readdir,
        Self::Readdirplus,
        Self::Statfs,
        Self::Access,
        Self::Getxattr,
        Self::Listxattr,
        Self::Flush,
        Self::Release,
        Self::Releasedir,
        Self::Fsync,
        Self::Fsyncdir,
        Self::Lseek,
        Self::Poll,
        Self::Ioctl,
        Self::Interrupt,
        Self::Write,
        Self::Other,
    ];

    /// Its name in `status --json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Getattr => "getattr",
            Self::Readlink => "readlink",
            Self::Open => "open",
            Self::Read => "read",
            Self::Opendir => "opendir",
            Self::Readdir => "readdir",
            Self::Readdirplus => "readdirplus",
            Self::Statfs => "statfs",
            Self::Access => "access",
            Self::Getxattr => "getxattr",
            Self::Listxattr => "listxattr",
            Self::Flush => "flush",
            Self::Release => "release",
            Self::Releasedir => "releasedir",
            Self::Fsync => "fsync",
            Self::Fsyncdir => "fsyncdir",
            Self::Lseek => "lseek",
            Self::Poll => "poll",
            Self::Ioctl => "ioctl",
            Self::Interrupt => "interrupt",
            Self::Write => "write",
            Self::Other => "other",
        }
    }

    /// The operation of a number read from the memory file; an unknown one is [`Self::Other`].
    fn from_number(number: u32) -> Self {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        Self::ALL.get(place).copied().unwrap_or(Self::Other)
    }
}

/// A request being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The kernel's number of the request.
    pub unique: u64,
    /// What is asked.
    pub operation: Operation,
    /// Of which node.
    pub node: u64,
    /// Offset of a read; else 0.
    pub offset: u64,
    /// Size of a read, length of a name; else 0.
    pub size: u32,
}

/// A row of the table of requests being handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightRow {
    /// The row.
    pub thread: usize,
    /// The kernel's number of the thread that handles it.
    pub tid: u32,
    /// What it holds.
    pub request: InFlight,
    /// The name of a lookup; else empty.
    pub name: Vec<u8>,
    /// When it began: nanoseconds of `CLOCK_MONOTONIC`, as [`Memory::now`] gives.
    pub since: u64,
}

/// Clears the row when dropped.
#[derive(Debug)]
pub struct InFlightGuard<'a> {
    memory: &'a Memory,
    row: usize,
    sequence: u64,
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.memory.words()[self.row].store(self.sequence.wrapping_add(1), Ordering::Release);
    }
}

impl Memory {
    /// Notes in row `thread` that thread `tid` handles a request, with the name of a lookup; the
    /// guard clears the row.
    pub fn in_flight(
        &self,
        thread: usize,
        tid: u32,
        request: InFlight,
        name: &[u8],
    ) -> InFlightGuard<'_> {
        let row = row_base(thread % IN_FLIGHT_ROWS);
        let words = &self.words()[row..row + ROW_WORDS];
        let old = words[0].load(Ordering::Relaxed);
        // Even while the words change: a reader that raced sees the sequence change.
        let sequence = if old.is_multiple_of(2) { old } else { old.wrapping_add(1) };
        words[0].store(sequence, Ordering::Relaxed);
        fence(Ordering::Release);
        fill_row(words, tid, request, name);
        let sequence = sequence.wrapping_add(1);
        words[0].store(sequence, Ordering::Release);
        InFlightGuard { memory: self, row, sequence }
    }

    /// The requests being handled now, or left behind by a server that died. A row that changes
    /// while it is read belongs to a thread that lives, and is left out.
    pub fn in_flight_rows(&self) -> Vec<InFlightRow> {
        (0..IN_FLIGHT_ROWS).filter_map(|thread| self.in_flight_row(thread)).collect()
    }

    /// Clears every row: a server that takes over has looked at what the dead one left.
    pub fn clear_in_flight(&self) {
        for thread in 0..IN_FLIGHT_ROWS {
            let word = &self.words()[row_base(thread)];
            let sequence = word.load(Ordering::Relaxed);
            if !sequence.is_multiple_of(2) {
                word.store(sequence.wrapping_add(1), Ordering::Release);
            }
        }
    }

    pub(super) fn in_flight_row(&self, thread: usize) -> Option<InFlightRow> {
        read_row(self.row_words(thread), thread)
    }

    pub(super) fn row_words(&self, thread: usize) -> &[Word] {
        let row = row_base(thread);
        &self.words()[row..row + ROW_WORDS]
    }
}

/// Writes all of a row but its first word, which says that nobody may read it yet.
pub(super) fn fill_row(words: &[Word], tid: u32, request: InFlight, name: &[u8]) {
    words[1].store(request.unique, Ordering::Relaxed);
    let what = u64::from(request.operation as u8) | u64::from(request.size) << 32;
    words[2].store(what, Ordering::Relaxed);
    words[3].store(request.node, Ordering::Relaxed);
    words[4].store(request.offset, Ordering::Relaxed);
    words[5].store(Memory::now(), Ordering::Relaxed);
    words[6].store(tid.into(), Ordering::Relaxed);
    let name = &name[..name.len().min(NAME_LEN_MAX)];
    words[7].store(name.len() as u64, Ordering::Relaxed);
    store_text(&words[NAME_WORD..], name);
}

/// What a row holds; `None` when that is nothing, or changes right now.
pub(super) fn read_row(words: &[Word], thread: usize) -> Option<InFlightRow> {
    let before = words[0].load(Ordering::Acquire);
    if before.is_multiple_of(2) {
        return None;
    }
    let [unique, what, node, offset, since, tid, len] =
        [1, 2, 3, 4, 5, 6, 7].map(|word| words[word].load(Ordering::Relaxed));
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(NAME_LEN_MAX);
    let name = load_text(&words[NAME_WORD..], len);
    fence(Ordering::Acquire);
    if words[0].load(Ordering::Relaxed) != before {
        return None;
    }
    let low = u32::try_from(what & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    let size = u32::try_from(what >> 32).unwrap_or(u32::MAX);
    let operation = Operation::from_number(low);
    let request = InFlight { unique, operation, node, offset, size };
    let tid = u32::try_from(tid).unwrap_or(0);
    Some(InFlightRow { thread, tid, request, name, since })
}

const fn row_base(thread: usize) -> usize {
    IN_FLIGHT_BASE + thread * ROW_WORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(unique: u64, operation: Operation) -> InFlight {
        InFlight { unique, operation, node: 1 << 40, offset: 4096, size: 131_072 }
    }

    #[test]
    fn numbers_of_operations_are_their_places() {
        for (place, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(operation as u8), place);
            assert_eq!(Operation::from_number(u32::from(operation as u8)), operation);
        }
        assert_eq!(Operation::from_number(200), Operation::Other);
        let names: std::collections::BTreeSet<_> =
            Operation::ALL.into_iter().map(Operation::name).collect();
        assert_eq!(names.len(), Operation::ALL.len());
    }

    #[test]
    fn a_row_is_there_until_its_guard_is_dropped() {
        let memory = Memory::create().unwrap();
        assert_eq!(memory.in_flight_rows(), []);
        let before = Memory::now();
        let first = memory.in_flight(3, 17, request(8, Operation::Read), b"");
        let name = [b'x'; 300];
        let second = memory.in_flight(IN_FLIGHT_ROWS + 4, 18, request(9, Operation::Lookup), &name);
        let rows = memory.in_flight_rows();
        assert_eq!(rows.iter().map(|row| row.thread).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(rows[0].request, request(8, Operation::Read));
        assert_eq!((rows[0].tid, rows[0].name.as_slice()), (17, &b""[..]));
        assert_eq!((rows[1].tid, rows[1].name.as_slice()), (18, &name[..NAME_LEN_MAX]));
        assert!(rows[0].since >= before && rows[1].since >= rows[0].since);
        drop(first);
        assert_eq!(memory.in_flight_rows(), rows[1..]);
        drop(second);
        assert_eq!(memory.in_flight_rows(), []);
    }

    #[test]
    fn what_a_dead_server_left_is_read_and_then_reused() {
        let memory = Memory::create().unwrap();
        std::mem::forget(memory.in_flight(0, 1, request(5, Operation::Getattr), b""));
        let successor = Memory::map(memory.try_clone_file().unwrap()).unwrap();
        assert_eq!(successor.in_flight_rows()[0].request.unique, 5);
        let guard = successor.in_flight(0, 1, request(6, Operation::Getattr), b"");
        assert_eq!(successor.in_flight_rows()[0].request.unique, 6);
        drop(guard);
        assert_eq!(successor.in_flight_rows(), []);
        std::mem::forget(successor.in_flight(1, 1, request(7, Operation::Open), b""));
        successor.clear_in_flight();
        assert_eq!(memory.in_flight_rows(), []);
    }
}
