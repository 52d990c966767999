//! A checker of linearizability, for one writer and any number of readers, while they run.
//!
//! What is selected is a register: one selector writes it, whoever reads a file reads it. The n-th
//! value is release `n % releases`. A register is linearizable exactly when no read gives a value
//! that was replaced before the read began (stale), none gives one whose write has not begun, and
//! none gives an older value than a read that had ended before it began. All three are one
//! interval: what a read may give lies between the highest value that anybody knew of when it began
//! and the last one that was begun when it ended.

use std::sync::atomic::{AtomicU64, Ordering};

/// A register with one writer.
#[derive(Debug)]
pub(crate) struct Register {
    /// How many values there are before they repeat: more than can be written during one read, or
    /// an old one may be taken for a new one.
    releases: u64,
    begun: AtomicU64,
    known: AtomicU64,
}

impl Register {
    /// The value at the beginning is the 0th.
    pub(crate) fn new(releases: u64) -> Self {
        Self { releases, begun: AtomicU64::new(0), known: AtomicU64::new(0) }
    }

    /// Writes the next value: `work` returns when the write is said to be done.
    pub(crate) fn write(&self, work: impl FnOnce(u64)) {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        work(number % self.releases);
        self.known.fetch_max(number, Ordering::SeqCst);
    }

    /// Reads: `work` gives the value that was found.
    ///
    /// # Errors
    ///
    /// In words, when no order of the reads and writes explains it.
    pub(crate) fn read(&self, work: impl FnOnce() -> u64) -> Result<(), String> {
        let least = self.known.load(Ordering::SeqCst);
        let found = work();
        let most = self.begun.load(Ordering::SeqCst);
        let number = (least..=most).find(|number| number % self.releases == found);
        let number = number.ok_or_else(|| {
            format!("not linearizable: release {found} between writes {least} and {most}")
        })?;
        self.known.fetch_max(number, Ordering::SeqCst);
        Ok(())
    }
}
