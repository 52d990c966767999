//! Orphans: requests that a dead server had read and not answered, on a kernel that cannot be asked
//! to hand them out again. What was noted of each is enough to answer it.
//!
//! ```text
//! 64 entries, laid out like an in-flight row; word 0: 1 while it waits for its answer
//! ```
//!
//! The keeper puts them here while no server lives; the next server answers one after the other,
//! and whoever comes after it goes on.

use std::sync::atomic::Ordering;

use super::in_flight::{IN_FLIGHT_ROWS, InFlightRow, ROW_WORDS, read_row};
use super::{Memory, ORPHANS_BASE};
use crate::sync::Word;

/// Words of the region.
pub(super) const ORPHANS_WORDS: usize = IN_FLIGHT_ROWS * ROW_WORDS;

impl Memory {
    /// Keeps what a dead server was handling, and clears its rows. What does not fit is lost. An
    /// orphan that was being answered is here already, and stays once: absolved when it is
    /// answered, a second one would be handled again, and might kill for ever.
    pub fn keep_orphans(&self) {
        for thread in 0..IN_FLIGHT_ROWS {
            let Some(row) = self.in_flight_row(thread) else { continue };
            let is_same =
                |(_, orphan): &(_, InFlightRow)| orphan.request.unique == row.request.unique;
            if self.orphans().iter().any(is_same) {
                continue;
            }
            let free = (0..IN_FLIGHT_ROWS).find(|place| self.orphan(*place).is_none());
            let Some(free) = free else { break };
            let (from, to) = (self.row_words(thread), self.orphan_words(free));
            for (from, to) in from.iter().zip(to).skip(1) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            to[0].store(1, Ordering::Release);
        }
        self.clear_in_flight();
    }

    /// The orphans, each with its place.
    pub fn orphans(&self) -> Vec<(usize, InFlightRow)> {
        let waiting = |place| Some((place, self.orphan(place)?));
        (0..IN_FLIGHT_ROWS).filter_map(waiting).collect()
    }

    /// The orphan of this place was answered.
    pub fn orphan_answered(&self, place: usize) {
        self.orphan_words(place % IN_FLIGHT_ROWS)[0].store(0, Ordering::Release);
    }

    fn orphan(&self, place: usize) -> Option<InFlightRow> {
        read_row(self.orphan_words(place), place)
    }

    fn orphan_words(&self, place: usize) -> &[Word] {
        let base = ORPHANS_BASE + place * ROW_WORDS;
        &self.words()[base..base + ROW_WORDS]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{InFlight, Operation};
    use super::*;

    #[test]
    fn orphans_wait_for_their_answer_whoever_gives_it() {
        let memory = Memory::create().unwrap();
        let operation = Operation::Lookup;
        for unique in 1..=70 {
            let request = InFlight { unique, operation, node: 1, offset: 0, size: 4 };
            let thread = usize::try_from(unique).unwrap();
            std::mem::forget(memory.in_flight(thread, 9, request, b"name"));
        }
        memory.keep_orphans();
        assert_eq!(memory.in_flight_rows(), []);
        let successor = Memory::map(memory.try_clone_file().unwrap()).unwrap();
        let found = successor.orphans();
        assert_eq!(found.len(), IN_FLIGHT_ROWS);
        assert!(found.iter().all(|(_, row)| row.name == b"name" && row.tid == 9));
        let (place, row) = found[5].clone();
        successor.orphan_answered(place);
        assert!(memory.orphans().iter().all(|(_, other)| other.request != row.request));
        // Whoever dies while it answers one leaves it there, once.
        let (_, row) = found[6].clone();
        std::mem::forget(successor.in_flight(0, 9, row.request, &row.name));
        successor.keep_orphans();
        assert_eq!(memory.orphans().len(), IN_FLIGHT_ROWS - 1);
        // A place that is free is taken again.
        let request = InFlight { unique: 99, operation, node: 1, offset: 0, size: 4 };
        std::mem::forget(memory.in_flight(0, 9, request, b"last"));
        memory.keep_orphans();
        assert_eq!(memory.orphans()[place].1.name, b"last");
    }
}
