//! Damage: questions that met a file of the store which is missing or not what it must be. They
//! outlive the server that met it, so that the next one can say it too.
//!
//! ```text
//! 16 entries, laid out like an in-flight row; word 0: 0 = free, else turn << 1 | 1
//!                                             word 1: which file, a hash of its path
//! ```
//!
//! One entry a file: the last question that met it. A name is cut like that of an in-flight row;
//! paths and reasons are not here, since both follow from asking again. The region was spare
//! before, and zeros mean that nothing was met: a server that does not know it takes over all the
//! same.

use std::sync::atomic::{Ordering, fence};

use super::in_flight::{InFlight, InFlightRow, ROW_WORDS, fill_row, read_row};
use super::{DAMAGE_BASE, Memory};
use crate::sync::Word;

/// Damaged files that are remembered; beyond, the one that was met longest ago is forgotten.
pub const DAMAGED_MAX: usize = 16;
/// Words of the region.
pub(super) const DAMAGE_WORDS: usize = DAMAGED_MAX * ROW_WORDS;

impl Memory {
    /// Remembers a question that met a damaged file.
    pub fn note_damage(&self, file: u64, question: InFlight, name: &[u8]) {
        let _appending = self.appending();
        let turn = |place: usize| self.damage_words(place)[0].load(Ordering::Relaxed);
        let is_same = |place: &usize| {
            turn(*place) != 0 && self.damage_words(*place)[1].load(Ordering::Relaxed) == file
        };
        let places = 0..DAMAGED_MAX;
        let newest = places.clone().map(turn).max().unwrap_or_default();
        // One that is free has the lowest turn of all.
        let place = places.clone().find(is_same).or_else(|| places.min_by_key(|at| turn(*at)));
        let words = self.damage_words(place.unwrap_or_default());
        words[0].store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        fill_row(words, 0, InFlight { unique: file, ..question }, name);
        words[0].store((newest | 1).wrapping_add(2), Ordering::Release);
    }

    /// The questions that met damage, in no order.
    pub fn damage(&self) -> Vec<InFlightRow> {
        let _appending = self.appending();
        (0..DAMAGED_MAX).filter_map(|place| read_row(self.damage_words(place), place)).collect()
    }

    /// What this question had met is good again; unless the same was met since.
    pub fn forget_damage(&self, met: &InFlightRow) {
        let _appending = self.appending();
        let words = self.damage_words(met.thread % DAMAGED_MAX);
        if read_row(words, met.thread).as_ref() == Some(met) {
            words[0].store(0, Ordering::Release);
        }
    }

    fn damage_words(&self, place: usize) -> &[Word] {
        let base = DAMAGE_BASE + place * ROW_WORDS;
        &self.words()[base..base + ROW_WORDS]
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::*;

    fn question(node: u64) -> InFlight {
        InFlight { unique: 7, operation: Operation::Read, node, offset: 4096, size: 512 }
    }

    fn nodes(memory: &Memory) -> Vec<u64> {
        let mut nodes: Vec<u64> = memory.damage().iter().map(|met| met.request.node).collect();
        nodes.sort_unstable();
        nodes
    }

    #[test]
    fn each_file_is_remembered_once_whoever_serves() {
        let memory = Memory::create().unwrap();
        assert_eq!(memory.damage(), []);
        memory.note_damage(1, question(10), b"");
        memory.note_damage(2, question(20), b"\xff name");
        memory.note_damage(1, question(11), b"");
        let successor = Memory::map(memory.try_clone_file().unwrap()).unwrap();
        drop(memory);
        assert_eq!(nodes(&successor), [11, 20]);
        let met = successor.damage().into_iter().find(|met| met.request.node == 20).unwrap();
        assert_eq!(met.name, b"\xff name");
        assert_eq!(met.request, InFlight { unique: 2, ..question(20) });
        successor.forget_damage(&met);
        assert_eq!(nodes(&successor), [11]);
    }

    #[test]
    fn what_was_met_longest_ago_gives_way() {
        let memory = Memory::create().unwrap();
        let files = DAMAGED_MAX as u64 + 2;
        for file in 1..=files {
            memory.note_damage(file, question(file), &[b'x'; 400]);
            // Met again and again, so never the one that is forgotten.
            memory.note_damage(1, question(1), b"");
        }
        let expected: Vec<u64> = std::iter::once(1).chain(4..=files).collect();
        assert_eq!(nodes(&memory), expected);
    }

    #[test]
    fn what_is_met_again_meanwhile_stays() {
        let memory = Memory::create().unwrap();
        memory.note_damage(1, question(10), b"");
        let met = memory.damage().remove(0);
        memory.note_damage(1, question(11), b"");
        memory.forget_damage(&met);
        assert_eq!(nodes(&memory), [11]);
    }
}
