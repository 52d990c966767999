//! Suspects: requests that were being handled when a server died, and how strongly each is
//! suspected of having killed it.
//!
//! ```text
//! word 0        entries ever written; 0: nothing was ever suspected
//!      1..      64 entries of two words: unique, blame (0: free)
//! ```
//!
//! A request may be innocent: it was there when another one, or a signal, killed the server. So a
//! server handles suspects one at a time, and the next death blames one of them at most. The keeper
//! blames, while no server lives; the server absolves what it has answered.

use std::sync::atomic::Ordering;

use super::{Memory, SUSPECTS_BASE};
use crate::sync::Word;

/// Entries; more suspects than there are rows are never there at once.
const ENTRIES: usize = super::IN_FLIGHT_ROWS;
/// Words of the region.
pub(super) const SUSPECTS_WORDS: usize = 1 + 2 * ENTRIES;
/// The kernel marks a request that it hands out again with this bit of its number.
pub(super) const RESENT: u64 = 1 << 63;

/// Why a request is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The server crashed, aborted, or was killed since it hung: twice is enough.
    Crash,
    /// The server was killed, perhaps by the kernel for want of memory, and most likely by
    /// somebody who meant no request: only many times are enough.
    Kill,
}

impl Blame {
    const fn weight(self) -> u64 {
        match self {
            Self::Crash => 4,
            Self::Kill => 1,
        }
    }
}

/// With so much blame a request is answered with an error.
const DEADLY: u64 = 8;

/// What is thought of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// It was never there when a server died, as nearly all.
    None,
    /// It was, and is handled when no other suspect is.
    Some,
    /// It was too often, and must not be handled again.
    Deadly,
}

impl Memory {
    /// Blames whatever a dead server was handling.
    pub fn blame_in_flight(&self, blame: Blame) {
        for row in self.in_flight_rows() {
            self.blame(row.request.unique, blame);
        }
    }

    /// Blames one request.
    pub fn blame(&self, unique: u64, blame: Blame) {
        let unique = unique & !RESENT;
        let written = self.suspects()[0].load(Ordering::Relaxed);
        let free = || self.entry(|_, blame| blame == 0);
        // When all are taken, the next one in turn is forgotten.
        let oldest = usize::try_from(written % ENTRIES as u64).unwrap_or(0);
        let at = self.entry(|known, blame| known == unique && blame > 0);
        let at = at.or_else(free).unwrap_or(oldest);
        let entry = &self.suspects()[1 + 2 * at..3 + 2 * at];
        if entry[0].swap(unique, Ordering::Relaxed) != unique {
            entry[1].store(0, Ordering::Relaxed);
        }
        entry[1].fetch_add(blame.weight(), Ordering::Relaxed);
        self.suspects()[0].store(written + 1, Ordering::Release);
    }

    /// What is thought of a request. Costs one load as long as nothing was ever suspected.
    pub fn suspicion(&self, unique: u64) -> Suspicion {
        if self.suspects()[0].load(Ordering::Acquire) == 0 {
            return Suspicion::None;
        }
        let unique = unique & !RESENT;
        match self.entry(|known, blame| known == unique && blame > 0) {
            None => Suspicion::None,
            Some(at) => match self.suspects()[2 + 2 * at].load(Ordering::Relaxed) {
                DEADLY.. => Suspicion::Deadly,
                _ => Suspicion::Some,
            },
        }
    }

    /// The request was answered.
    pub fn absolve(&self, unique: u64) {
        let unique = unique & !RESENT;
        if let Some(at) = self.entry(|known, blame| known == unique && blame > 0) {
            self.suspects()[2 + 2 * at].store(0, Ordering::Relaxed);
        }
    }

    fn suspects(&self) -> &[Word] {
        &self.words()[SUSPECTS_BASE..SUSPECTS_BASE + SUSPECTS_WORDS]
    }

    fn entry(&self, wanted: impl Fn(u64, u64) -> bool) -> Option<usize> {
        self.suspects()[1..].chunks_exact(2).position(|entry| {
            wanted(entry[0].load(Ordering::Relaxed), entry[1].load(Ordering::Relaxed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{InFlight, Operation};
    use super::*;

    #[test]
    fn two_crashes_are_enough_and_a_few_kills_are_not() {
        let memory = Memory::create().unwrap();
        assert_eq!(memory.suspicion(5), Suspicion::None);
        memory.blame(5, Blame::Crash);
        assert_eq!(memory.suspicion(5 | RESENT), Suspicion::Some);
        assert_eq!(memory.suspicion(6), Suspicion::None);
        memory.blame(5 | RESENT, Blame::Crash);
        assert_eq!(memory.suspicion(5), Suspicion::Deadly);
        memory.absolve(5);
        assert_eq!(memory.suspicion(5), Suspicion::None);
        for kills in 1..8 {
            memory.blame(7, Blame::Kill);
            assert_eq!(memory.suspicion(7), Suspicion::Some, "{kills} kills");
        }
        memory.blame(7, Blame::Kill);
        assert_eq!(memory.suspicion(7), Suspicion::Deadly);
    }

    #[test]
    fn what_was_in_flight_is_blamed() {
        let memory = Memory::create().unwrap();
        let request =
            |unique| InFlight { unique, operation: Operation::Lookup, node: 1, offset: 0, size: 0 };
        for unique in [8, 9] {
            std::mem::forget(memory.in_flight(unique, 1, request(unique as u64), b"name"));
        }
        memory.blame_in_flight(Blame::Crash);
        for unique in [8, 9] {
            assert_eq!(memory.suspicion(unique), Suspicion::Some);
        }
    }

    #[test]
    fn more_suspects_than_entries_push_out_the_oldest() {
        let memory = Memory::create().unwrap();
        for unique in 0..3 * ENTRIES as u64 {
            memory.blame(unique, Blame::Crash);
            assert_eq!(memory.suspicion(unique), Suspicion::Some);
        }
        assert_eq!(memory.suspicion(0), Suspicion::None);
        memory.blame(0, Blame::Crash);
        assert_eq!(memory.suspicion(0), Suspicion::Some, "the blame of another is not kept");
    }
}
