//! The slot table: what the upper half of every inode number stands for.
//!
//! It lives in the memory file, so a new server maps it and goes on; nothing is rebuilt and nothing
//! is ever removed. Numbers are given once and mean the same for the life of the mount.
//!
//! ```text
//! row     two words: kind:8 | bytes of text:24 | a:32     then b
//!   object  text = 32 bytes of the id    a = links of its root directory, 0 = not yet known
//!   shown   no text                      a = place                      b = object
//!   place   text = name                  a = parent place
//!   link    text = target                a = place
//! text    in the heap from word b, in whole words; the heap only grows
//! index   open addressing, one word a bucket: upper half of the hash:32 | slot:32, 0 = empty
//! ```
//!
//! Row 0 is the place of the root. An append writes text, row, heap length, table length, bucket,
//! in this order: cut anywhere, what is left is a table that works. Text beyond the heap's length
//! and rows beyond the table's are overwritten; a row without a bucket is never found again; a
//! bucket that points beyond the length is ignored and overwritten.
//!
//! Readers take no lock. Every value is checked, since the file is shared with other processes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use resolver::ObjectId;
use resolver::hash::HASH_LEN;

use crate::Memory;
use crate::memory::text::{load_text, pack, same_text, store_text, words_of};
use crate::memory::{HEAP_LEN, TABLE_BASE, TABLE_LEN};
use crate::sync::Word;

/// Rows of the table, for the life of a mount.
pub const SLOTS_MAX: usize = 1 << 21;
/// The part of the table and of its heap that only the live tree may use, as a divisor: a quarter.
/// Any user can walk every frozen tree; that must not stop the live one.
pub const LIVE_RESERVE_DIVISOR: usize = 4;
/// Longest text of a row: the longest target of a link, in bytes.
pub const TEXT_LEN_MAX: usize = 4096;

const KIND_OBJECT: u64 = 1;
const KIND_SHOWN: u64 = 2;
const KIND_PLACE: u64 = 3;
const KIND_LINK: u64 = 4;

/// The place of the mount's root.
pub const ROOT_PLACE: u32 = 0;

/// On whose account a slot is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The live tree: may use the reserve.
    Live,
    /// Anything below a dotted directory.
    Dotted,
}

/// The table is full for this share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What a slot is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// An object: its regular files.
    Object(&'a ObjectId),
    /// An object seen at a place: its directories and symbolic links.
    Shown {
        /// The slot of the place.
        place: u32,
        /// The slot of the object.
        object: u32,
    },
    /// A name in a virtual directory.
    Place {
        /// The slot of the directory's place.
        parent: u32,
        /// The name.
        name: &'a [u8],
    },
    /// A symbolic link of a union.
    Link {
        /// The slot of its place.
        place: u32,
        /// Its text.
        target: &'a [u8],
    },
}

/// What a slot stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// See [`Key::Object`].
    Object(ObjectId),
    /// See [`Key::Shown`].
    Shown {
        /// The slot of the place.
        place: u32,
        /// The slot of the object.
        object: u32,
    },
    /// See [`Key::Place`]; the root is its own parent and has no name.
    Place {
        /// The slot of the directory's place.
        parent: u32,
        /// The name.
        name: Vec<u8>,
    },
    /// See [`Key::Link`].
    Link {
        /// The slot of its place.
        place: u32,
        /// Its text.
        target: Vec<u8>,
    },
}

/// The slot table of a memory file.
#[derive(Clone, Debug)]
pub struct Slots {
    memory: Arc<Memory>,
}

/// One row as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RawRow {
    kind: u64,
    len: usize,
    a: u32,
    b: u64,
}

/// Writes the row of the root into a new memory file.
pub(crate) fn initialise(memory: &Memory) {
    let words = memory.words();
    words[TABLE_BASE].store(KIND_PLACE, Ordering::Relaxed);
    words[TABLE_LEN].store(1, Ordering::Release);
}

impl Slots {
    /// The table in this memory file.
    #[must_use]
    pub fn new(memory: Arc<Memory>) -> Self {
        Self { memory }
    }

    /// The memory file.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Rows in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length(TABLE_LEN, self.memory.geometry().slots)
    }

    /// Never: the root is always there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Parent and name of a place; `None` for any other slot.
    #[must_use]
    pub fn place(&self, slot: u32) -> Option<(u32, Vec<u8>)> {
        let row = self.row(slot).filter(|row| row.kind == KIND_PLACE)?;
        Some((row.a, load_text(self.text(row)?, row.len)))
    }

    /// What a slot stands for; `None` when it is not in use (the number came from outside).
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<Slot> {
        let row = self.row(slot)?;
        match row.kind {
            KIND_OBJECT => {
                let mut bytes = [0; HASH_LEN];
                for (chunk, word) in bytes.chunks_mut(8).zip(self.text(row)?) {
                    chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
                }
                Some(Slot::Object(ObjectId::from_bytes(bytes)))
            }
            KIND_SHOWN => Some(Slot::Shown { place: row.a, object: u32::try_from(row.b).ok()? }),
            KIND_PLACE => self.place(slot).map(|(parent, name)| Slot::Place { parent, name }),
            KIND_LINK => {
                Some(Slot::Link { place: row.a, target: load_text(self.text(row)?, row.len) })
            }
            _ => None,
        }
    }

    /// Every place but the root, as slot, parent and name; parents come before what is in them.
    pub fn places(&self) -> impl Iterator<Item = (u32, u32, Vec<u8>)> {
        let end = u32::try_from(self.len()).unwrap_or(u32::MAX);
        (1..end).filter_map(|slot| self.place(slot).map(|(parent, name)| (slot, parent, name)))
    }

    /// The slot of a key, if it has one.
    #[must_use]
    pub fn find(&self, key: Key<'_>) -> Option<u32> {
        let hash = key.hash();
        self.probe(hash)
            .map_while(|(_, word)| (word != 0).then_some(word))
            .filter(|word| word >> 32 == hash >> 32)
            .filter_map(|word| u32::try_from(word & u64::from(u32::MAX)).ok())
            .find(|&slot| self.row(slot).is_some_and(|row| self.stands_for(row, key)))
    }

    /// The slot of a key; a new one when it has none yet.
    ///
    /// # Errors
    ///
    /// [`Full`] when this share of the table or of its heap is used up, or the text is too long.
    pub fn intern(&self, key: Key<'_>, share: Share) -> Result<u32, Full> {
        if let Some(slot) = self.find(key) {
            return Ok(slot);
        }
        let _appending = self.memory.appending();
        if let Some(slot) = self.find(key) {
            return Ok(slot);
        }
        let slot = self.append(key, share)?;
        self.file(key.hash(), slot);
        Ok(slot)
    }

    /// The links of an object's root directory, once they were noted.
    #[must_use]
    pub fn root_links(&self, object: u32) -> Option<u32> {
        let row = self.row(object)?;
        (row.kind == KIND_OBJECT && row.a != 0).then_some(row.a)
    }

    /// Notes the links of an object's root directory, which never change, so that its name can be
    /// answered from memory from then on.
    pub fn set_root_links(&self, object: u32, links: u32) {
        if let Some(row) = self.row(object).filter(|row| row.kind == KIND_OBJECT) {
            let head = RawRow { a: links, ..row }.head();
            self.row_words(object)[0].store(head, Ordering::Relaxed);
        }
    }

    /// Writes text and row, then raises both lengths.
    fn append(&self, key: Key<'_>, share: Share) -> Result<u32, Full> {
        let geometry = self.memory.geometry();
        let (slot, heap) = (self.len(), self.length(HEAP_LEN, geometry.heap));
        let text = key.text();
        let heap_end = heap + words_of(text.len());
        let limit = |whole: usize| match share {
            Share::Live => whole,
            Share::Dotted => whole - whole / LIVE_RESERVE_DIVISOR,
        };
        let fits = slot < limit(geometry.slots) && heap_end <= limit(geometry.heap);
        if !fits || text.len() > TEXT_LEN_MAX {
            return Err(Full);
        }
        let number = u32::try_from(slot).map_err(|_| Full)?;
        let words = self.memory.words();
        store_text(&self.heap()[heap..heap_end], text);
        let row = key.row(heap as u64);
        self.row_words(number)[0].store(row.head(), Ordering::Relaxed);
        self.row_words(number)[1].store(row.b, Ordering::Relaxed);
        words[HEAP_LEN].store(heap_end as u64, Ordering::Release);
        words[TABLE_LEN].store(slot as u64 + 1, Ordering::Release);
        Ok(number)
    }

    /// Writes the bucket of a row: the first that is empty or points beyond the length.
    fn file(&self, hash: u64, slot: u32) {
        let len = self.len() as u64;
        let free = self.probe(hash).find(|(_, word)| {
            *word == 0 || word & u64::from(u32::MAX) >= len || word & u64::from(u32::MAX) == 0
        });
        // There are more buckets than rows, so one is free; without it the row leaks, no more.
        if let Some((bucket, _)) = free {
            let word = hash >> 32 << 32 | u64::from(slot);
            self.buckets()[bucket].store(word, Ordering::Release);
        }
    }

    /// The buckets of a hash in order, with what they hold.
    fn probe(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> {
        let buckets = self.buckets();
        let mask = buckets.len() - 1;
        let first = usize::try_from(hash & mask as u64).unwrap_or(0);
        (0..buckets.len()).map(move |step| {
            let bucket = (first + step) & mask;
            (bucket, buckets[bucket].load(Ordering::Acquire))
        })
    }

    fn row(&self, slot: u32) -> Option<RawRow> {
        if slot as usize >= self.len() {
            return None;
        }
        let words = self.row_words(slot);
        let (head, b) = (words[0].load(Ordering::Relaxed), words[1].load(Ordering::Relaxed));
        let row = RawRow {
            kind: head & 0xff,
            len: usize::try_from(head >> 8 & 0x00ff_ffff).ok()?,
            a: u32::try_from(head >> 32).ok()?,
            b,
        };
        // What a row refers to is older than the row: no chain of rows has a circle.
        let older = match row.kind {
            KIND_OBJECT => row.len == HASH_LEN,
            KIND_SHOWN => row.a < slot && row.b < u64::from(slot),
            KIND_PLACE => row.a < slot || slot == ROOT_PLACE,
            KIND_LINK => row.a < slot,
            _ => false,
        };
        older.then_some(row)
    }

    fn text(&self, row: RawRow) -> Option<&[Word]> {
        let first = usize::try_from(row.b).ok()?;
        self.heap().get(first..first.checked_add(words_of(row.len))?)
    }

    fn stands_for(&self, row: RawRow, key: Key<'_>) -> bool {
        match key {
            Key::Shown { place, object } => row == key.row(0) && row.a == place && object != 0,
            Key::Object(_) | Key::Place { .. } | Key::Link { .. } => {
                let wanted = key.row(row.b);
                let same_a = row.kind == KIND_OBJECT || row.a == wanted.a;
                row.kind == wanted.kind
                    && same_a
                    && row.len == wanted.len
                    && self.text(row).is_some_and(|text| same_text(text, key.text()))
            }
        }
    }

    fn length(&self, word: usize, limit: usize) -> usize {
        let len = self.memory.words()[word].load(Ordering::Acquire);
        usize::try_from(len).map_or(limit, |len| len.min(limit))
    }

    fn row_words(&self, slot: u32) -> &[Word] {
        let first = TABLE_BASE + slot as usize * 2;
        &self.memory.words()[first..first + 2]
    }

    fn buckets(&self) -> &[Word] {
        let geometry = self.memory.geometry();
        let first = TABLE_BASE + geometry.slots * 2;
        &self.memory.words()[first..first + geometry.buckets]
    }

    fn heap(&self) -> &[Word] {
        let geometry = self.memory.geometry();
        let first = TABLE_BASE + geometry.slots * 2 + geometry.buckets;
        &self.memory.words()[first..first + geometry.heap]
    }
}

impl RawRow {
    fn head(self) -> u64 {
        self.kind | (self.len as u64) << 8 | u64::from(self.a) << 32
    }
}

impl<'a> Key<'a> {
    fn text(self) -> &'a [u8] {
        match self {
            Self::Object(id) => id.as_bytes(),
            Self::Shown { .. } => &[],
            Self::Place { name, .. } => name,
            Self::Link { target, .. } => target,
        }
    }

    /// The row of a key whose text is at this word of the heap.
    fn row(self, heap: u64) -> RawRow {
        let len = self.text().len();
        match self {
            Self::Object(_) => RawRow { kind: KIND_OBJECT, len, a: 0, b: heap },
            Self::Shown { place, object } => {
                RawRow { kind: KIND_SHOWN, len, a: place, b: u64::from(object) }
            }
            Self::Place { parent, .. } => RawRow { kind: KIND_PLACE, len, a: parent, b: heap },
            Self::Link { place, .. } => RawRow { kind: KIND_LINK, len, a: place, b: heap },
        }
    }

    /// Part of the layout: another server must find what this one filed.
    fn hash(self) -> u64 {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
        let row = self.row(0);
        let start = mix(mix(row.head(), row.b), MULTIPLIER);
        let hash = pack(self.text()).fold(start, mix);
        let hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ hash >> 29
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Geometry;

    fn small() -> (Arc<Memory>, Slots) {
        let geometry = Geometry { slots: 64, buckets: 128, heap: 512 };
        let memory = Arc::new(Memory::create_with(geometry).unwrap());
        (memory.clone(), Slots::new(memory))
    }

    fn id(byte: u8) -> ObjectId {
        ObjectId::from_bytes([byte; HASH_LEN])
    }

    fn place(slots: &Slots, parent: u32, name: &str) -> u32 {
        slots.intern(Key::Place { parent, name: name.as_bytes() }, Share::Live).unwrap()
    }

    #[test]
    fn every_kind_is_found_again_by_key_and_by_number() {
        let (memory, slots) = small();
        assert_eq!(slots.get(ROOT_PLACE), Some(Slot::Place { parent: 0, name: Vec::new() }));
        let lib = place(&slots, ROOT_PLACE, "lib");
        let xz = place(&slots, lib, "xz");
        let object = slots.intern(Key::Object(&id(0xaa)), Share::Live).unwrap();
        let shown = slots.intern(Key::Shown { place: xz, object }, Share::Live).unwrap();
        let target = b"../lib/xz/bin/xz".as_slice();
        let link = slots.intern(Key::Link { place: xz, target }, Share::Live).unwrap();
        assert_eq!([lib, xz, object, shown, link], [1, 2, 3, 4, 5]);

        let successor =
            Slots::new(Arc::new(Memory::map(memory.try_clone_file().unwrap()).unwrap()));
        drop(slots);
        for (slot, key, value) in [
            (
                xz,
                Key::Place { parent: lib, name: b"xz" },
                Slot::Place { parent: lib, name: b"xz".to_vec() },
            ),
            (object, Key::Object(&id(0xaa)), Slot::Object(id(0xaa))),
            (shown, Key::Shown { place: xz, object }, Slot::Shown { place: xz, object }),
            (
                link,
                Key::Link { place: xz, target },
                Slot::Link { place: xz, target: target.into() },
            ),
        ] {
            assert_eq!(successor.find(key), Some(slot));
            assert_eq!(successor.intern(key, Share::Live), Ok(slot));
            assert_eq!(successor.get(slot), Some(value));
        }
        assert_eq!(successor.len(), 6);
        assert_eq!(successor.get(6), None);
        assert_eq!(successor.get(u32::MAX), None);
        assert_eq!(successor.find(Key::Place { parent: ROOT_PLACE, name: b"xz" }), None);
        assert_eq!(successor.find(Key::Place { parent: lib, name: b"x" }), None);
        assert_eq!(successor.find(Key::Link { place: lib, target: b"xz" }), None);
        assert_eq!(
            successor.places().collect::<Vec<_>>(),
            [(lib, 0, b"lib".to_vec()), (xz, lib, b"xz".to_vec())]
        );
    }

    #[test]
    fn links_of_a_root_are_noted_without_losing_the_row() {
        let (_, slots) = small();
        let lib = place(&slots, ROOT_PLACE, "lib");
        let object = slots.intern(Key::Object(&id(1)), Share::Live).unwrap();
        assert_eq!(slots.root_links(object), None);
        slots.set_root_links(object, 7);
        slots.set_root_links(lib, 7);
        assert_eq!(slots.root_links(object), Some(7));
        assert_eq!(slots.root_links(lib), None);
        assert_eq!(slots.find(Key::Object(&id(1))), Some(object));
        assert_eq!(slots.get(object), Some(Slot::Object(id(1))));
    }

    #[test]
    fn the_live_tree_keeps_its_reserve() {
        let (_, slots) = small();
        let mut names = (0..).map(|number: u32| number.to_string());
        let mut fill = |share| {
            for name in names.by_ref() {
                let key = Key::Place { parent: ROOT_PLACE, name: name.as_bytes() };
                if slots.intern(key, share) == Err(Full) {
                    return slots.len();
                }
            }
            unreachable!("the names do not end")
        };
        assert_eq!(fill(Share::Dotted), 48);
        assert_eq!(fill(Share::Live), 64);
        assert_eq!(slots.find(Key::Place { parent: ROOT_PLACE, name: b"0" }), Some(1));
        let again = Key::Place { parent: ROOT_PLACE, name: b"46" };
        assert_eq!(slots.intern(again, Share::Dotted), Ok(47));
    }

    #[test]
    fn the_heap_has_a_reserve_and_an_end() {
        let (_, slots) = small();
        let long = |byte: u8| vec![byte; 1024];
        for (target, share, fits) in [
            (long(b'a'), Share::Dotted, true),
            (long(b'b'), Share::Dotted, true),
            (long(b'c'), Share::Dotted, true),
            (long(b'd'), Share::Dotted, false),
            (long(b'd'), Share::Live, true),
            (long(b'e'), Share::Live, false),
        ] {
            let key = Key::Link { place: ROOT_PLACE, target: &target };
            assert_eq!(slots.intern(key, share).is_ok(), fits, "{}", target[0] as char);
        }
        let (_, slots) = small();
        let longest = vec![b'x'; TEXT_LEN_MAX + 1];
        for (len, fits) in [(TEXT_LEN_MAX + 1, false), (TEXT_LEN_MAX, true), (1, false)] {
            let key = Key::Link { place: ROOT_PLACE, target: &longest[..len] };
            assert_eq!(slots.intern(key, Share::Live).is_ok(), fits, "{len} of 4096 bytes");
        }
    }

    /// Undoes the last steps of the last append, as if it had been cut there.
    #[test]
    fn an_append_cut_anywhere_leaves_a_table_that_works() {
        for cut in ["bucket", "table length", "heap length", "row", "length but not bucket"] {
            let (memory, slots) = small();
            let lib = place(&slots, ROOT_PLACE, "lib");
            let heap = memory.words()[HEAP_LEN].load(Ordering::Relaxed);
            let lost = place(&slots, lib, "a name of more than eight bytes");
            let key = Key::Place { parent: lib, name: b"a name of more than eight bytes" };
            let bucket = slots
                .probe(key.hash())
                .find(|(_, word)| word & u64::from(u32::MAX) == u64::from(lost))
                .unwrap()
                .0;
            if cut != "length but not bucket" {
                slots.buckets()[bucket].store(0, Ordering::Relaxed);
            }
            if cut != "bucket" {
                memory.words()[TABLE_LEN].store(u64::from(lost), Ordering::Relaxed);
            }
            if cut == "heap length" || cut == "row" {
                memory.words()[HEAP_LEN].store(heap, Ordering::Relaxed);
            }
            if cut == "row" {
                slots.row_words(lost)[0].store(u64::MAX, Ordering::Relaxed);
            }
            assert_eq!(slots.find(key), None, "{cut}");
            let other = place(&slots, lib, "other");
            let found = slots.intern(key, Share::Live).unwrap();
            assert_eq!(slots.find(key), Some(found), "{cut}");
            assert_eq!(place(&slots, ROOT_PLACE, "lib"), lib, "{cut}");
            assert_eq!(place(&slots, lib, "other"), other, "{cut}");
            assert_ne!(found, other, "{cut}");
            assert_eq!(
                slots.get(found),
                Some(Slot::Place { parent: lib, name: key.text().to_vec() }),
                "{cut}"
            );
        }
    }

    #[test]
    fn values_that_cannot_be_are_no_slots() {
        let (memory, slots) = small();
        let lib = place(&slots, ROOT_PLACE, "lib");
        let xz = place(&slots, lib, "xz");
        let good = slots.row_words(xz)[0].load(Ordering::Relaxed);
        for (what, head, b) in [
            ("kind 0", good & !0xff, 0),
            ("kind 9", good & !0xff | 9, 0),
            ("its own parent", good & u64::from(u32::MAX) | u64::from(xz) << 32, 0),
            ("a younger parent", good | u64::from(u32::MAX) << 32, 0),
            ("text beyond the heap", good, 512),
            ("text beyond all", good, u64::MAX),
            ("an id of 2 bytes", good & !0xff | KIND_OBJECT, 0),
            ("shows a younger object", good & !0xff | KIND_SHOWN, 40),
        ] {
            slots.row_words(xz)[0].store(head, Ordering::Relaxed);
            slots.row_words(xz)[1].store(b, Ordering::Relaxed);
            assert_eq!(slots.get(xz), None, "{what}");
            assert_eq!(slots.find(Key::Place { parent: lib, name: b"xz" }), None, "{what}");
        }
        memory.words()[TABLE_LEN].store(u64::MAX, Ordering::Relaxed);
        assert_eq!(slots.len(), 64);
        assert_eq!(slots.intern(Key::Object(&id(3)), Share::Live), Err(Full));
    }

    #[test]
    fn threads_agree_on_numbers() {
        let (_, slots) = small();
        let number = |round: usize| {
            let name = (round % 20).to_string();
            (round % 20, place(&slots, ROOT_PLACE, &name))
        };
        let all: Vec<Vec<(usize, u32)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|start| {
                    scope.spawn(move || (start..start + 200).map(number).collect::<Vec<_>>())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let numbers: std::collections::BTreeSet<_> = all.into_iter().flatten().collect();
        assert_eq!(numbers.len(), 20);
        assert_eq!(slots.len(), 21);
    }
}
