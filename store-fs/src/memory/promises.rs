//! Names that are about to change outside of a generation, kept for a successor.
//!
//! A region of records, each a word with the length in bytes and then the bytes in whole words. The
//! length word of the region, in the header, is raised when the records below it are complete, so
//! a killed writer leaves all names of a call or none.

use std::io;
use std::sync::atomic::Ordering;

use super::text::{load_text, store_text, words_of};
use super::{Memory, PROMISED, PROMISES_BASE, PROMISES_WORDS};

impl Memory {
    /// Notes names (`lib/openssl@3.2.1`, relative to the mount) that are about to change outside
    /// of a generation, so that a successor announces them should this process die before it has.
    ///
    /// # Errors
    ///
    /// `StorageFull` when the bounded region has no room; then no name of this call is noted.
    pub fn promise(&self, names: &[String]) -> io::Result<()> {
        let _appending = self.appending();
        let mut end = self.promised_words();
        for name in names {
            let next = end + 1 + words_of(name.len());
            if next > PROMISES_WORDS {
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    "too many names are promised and not yet announced",
                ));
            }
            let record = &self.words()[PROMISES_BASE + end..PROMISES_BASE + next];
            record[0].store(name.len() as u64, Ordering::Relaxed);
            store_text(&record[1..], name.as_bytes());
            end = next;
        }
        self.words()[PROMISED].store(end as u64, Ordering::Release);
        Ok(())
    }

    /// Names promised and not yet announced.
    pub fn promised(&self) -> Vec<String> {
        let mut records = &self.words()[PROMISES_BASE..PROMISES_BASE + self.promised_words()];
        let mut names = Vec::new();
        while let Some((head, rest)) = records.split_first() {
            let len = usize::try_from(head.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            // The region is shared memory: a length that cannot be ends the list.
            let Some((text, next)) = rest.split_at_checked(words_of(len)) else { break };
            names.extend(String::from_utf8(load_text(text, len)));
            records = next;
        }
        names
    }

    /// Every promised name has been announced.
    pub fn keep_promises(&self) {
        let _appending = self.appending();
        self.words()[PROMISED].store(0, Ordering::Release);
    }

    fn promised_words(&self) -> usize {
        let words = self.words()[PROMISED].load(Ordering::Acquire);
        usize::try_from(words).map_or(PROMISES_WORDS, |words| words.min(PROMISES_WORDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn promises_add_up_until_they_are_kept() {
        let memory = Memory::create().unwrap();
        assert_eq!(memory.promised(), names(&[]));
        memory.promise(&names(&["lib/xz@5.2.5", ""])).unwrap();
        memory.promise(&names(&["eight by", "lib/xz@5.8.1,debug"])).unwrap();
        let successor = Memory::map(memory.try_clone_file().unwrap()).unwrap();
        let all = names(&["lib/xz@5.2.5", "", "eight by", "lib/xz@5.8.1,debug"]);
        assert_eq!(successor.promised(), all);
        successor.keep_promises();
        assert_eq!(memory.promised(), names(&[]));
    }

    #[test]
    fn a_full_region_takes_all_names_of_a_call_or_none() {
        let memory = Memory::create().unwrap();
        memory.promise(&names(&["first"])).unwrap();
        let long = "x".repeat(PROMISES_WORDS * 4);
        let error = memory.promise(&[long.clone(), long]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(memory.promised(), names(&["first"]));
    }

    #[test]
    fn impossible_lengths_in_the_region_are_harmless() {
        let memory = Memory::create().unwrap();
        memory.promise(&names(&["first", "second"])).unwrap();
        memory.words()[PROMISES_BASE + 2].store(u64::MAX, Ordering::Relaxed);
        assert_eq!(memory.promised(), names(&["first"]));
        memory.words()[PROMISED].store(u64::MAX, Ordering::Relaxed);
        assert_eq!(memory.promised(), names(&["first"]));
    }
}
