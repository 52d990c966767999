//! The keeper's memory file: what must survive a server, mapped by whoever serves.
//!
//! The file is sparse: sizes are generous and only touched pages cost memory. It is sealed against
//! growing and shrinking, so a mapping of it never faults. Everything in it is an atomic word of
//! eight bytes, little endian; whatever has a length is complete before its length is raised.
//!
//! ```text
//! word  0        magic
//!       1        version of this layout
//!       2 3 4    geometry: slots, buckets of the index, words of the heap
//!       5        last completely announced generation
//!       6        beat: CLOCK_MONOTONIC in nanoseconds
//!       7        words used in the region of promised names
//!       8        length of the slot table, in rows
//!       9        length of the heap, in words
//!      10        bytes of what was negotiated with the kernel, 0 = not yet
//!      11..43    what was negotiated
//!      44        servers that died
//!      45        how often what is shown has changed
//!      46        highest number of a request that was read and noted
//!      47        up to which number what dead servers had read is answered
//!      48        connections before this one that were ended, since requests stayed unanswered
//!     512..      counters, one a kind of request
//!    1024..      in-flight rows, 64 of 40 words (see `memory/in_flight.rs`)
//!    3584..      suspects (see `memory/suspects.rs`)
//!    3713..      orphans (see `memory/orphans.rs`)
//!    6273..      damage (see `memory/damage.rs`)
//!    6913..      spare, for a history of swaps
//!    9728..      promised names (see `memory/promises.rs`)
//!  140800..      slot table, index, heap (see `slots.rs`)
//! ```
//!
//! Nothing here waits for a disk, and nothing read from the file is trusted to be in range.

mod damage;
mod in_flight;
mod orphans;
mod promises;
mod suspects;
pub(crate) mod text;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use resolver::GenerationNumber;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::time::ClockId;

pub use self::damage::DAMAGED_MAX;
pub use self::in_flight::{IN_FLIGHT_ROWS, InFlight, InFlightGuard, InFlightRow, Operation};
pub use self::suspects::{Blame, Suspicion};
use self::text::{load_text, same_text, store_text, words_of};
use crate::sync::{Mutex, MutexGuard, Word};
use crate::sys::{Mapping, WORD_LEN};

/// `dynfsmem`, read as a little-endian word.
const MAGIC: u64 = u64::from_le_bytes(*b"dynfsmem");
/// Version of the layout: a server that knows another one cannot take over.
const VERSION: u64 = 1;
/// Longest blob that [`Memory::set_negotiated`] takes, in bytes.
pub const NEGOTIATED_LEN_MAX: usize = 256;

const MAGIC_WORD: usize = 0;
const VERSION_WORD: usize = 1;
const GEOMETRY: usize = 2;
const ANNOUNCED: usize = 5;
const BEAT: usize = 6;
const PROMISED: usize = 7;
pub(crate) const TABLE_LEN: usize = 8;
pub(crate) const HEAP_LEN: usize = 9;
const NEGOTIATED_LEN: usize = 10;
const NEGOTIATED: usize = 11;
const RESTARTS: usize = 44;
const CHANGES: usize = 45;
const LAST_READ: usize = 46;
const SWEPT: usize = 47;
const ABORTS: usize = 48;
const COUNTERS: usize = 512;
const IN_FLIGHT_BASE: usize = 1024;
const SUSPECTS_BASE: usize = IN_FLIGHT_BASE + IN_FLIGHT_ROWS * in_flight::ROW_WORDS;
const ORPHANS_BASE: usize = SUSPECTS_BASE + suspects::SUSPECTS_WORDS;
const DAMAGE_BASE: usize = ORPHANS_BASE + orphans::ORPHANS_WORDS;
const SPARE_BASE: usize = DAMAGE_BASE + damage::DAMAGE_WORDS;
const PROMISES_BASE: usize = 9728;
const PROMISES_WORDS: usize = 131_072;
pub(crate) const TABLE_BASE: usize = PROMISES_BASE + PROMISES_WORDS;

const _: () = assert!(NEGOTIATED + NEGOTIATED_LEN_MAX / WORD_LEN <= RESTARTS);
const _: () = assert!(COUNTERS + Operation::ALL.len() <= IN_FLIGHT_BASE);
const _: () = assert!(SPARE_BASE == 6913 && SPARE_BASE < PROMISES_BASE);
const _: () = assert!(TABLE_BASE == 140_800);

/// The sizes of the slot table's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Rows of two words.
    pub(crate) slots: usize,
    /// Buckets of one word; a power of two, more than rows.
    pub(crate) buckets: usize,
    /// Words for names and link texts.
    pub(crate) heap: usize,
}

impl Geometry {
    /// The sizes of a mount: [`crate::slots::SLOTS_MAX`] rows.
    pub(crate) const STANDARD: Self = Self {
        slots: crate::slots::SLOTS_MAX,
        buckets: crate::slots::SLOTS_MAX * 2,
        heap: 1 << 24,
    };

    /// Words of the whole file; `None` for sizes that cannot be.
    fn total(self) -> Option<usize> {
        let limit = Self::STANDARD;
        let sane = (1..=limit.slots).contains(&self.slots)
            && self.buckets.is_power_of_two()
            && (self.slots + 1..=limit.buckets).contains(&self.buckets)
            && self.heap <= limit.heap;
        sane.then(|| TABLE_BASE + self.slots * 2 + self.buckets + self.heap)
    }
}

/// The mapped memory file.
#[derive(Debug)]
pub struct Memory {
    file: OwnedFd,
    mapping: Mapping,
    geometry: Geometry,
    /// Serialises appends. One process serves at a time, so a lock of the process is enough.
    append: Mutex<()>,
}

impl Memory {
    /// A new memory file (`memfd`), initialised. Done by the keeper, or by a test.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn create() -> io::Result<Self> {
        Self::create_with(Geometry::STANDARD)
    }

    pub(crate) fn create_with(geometry: Geometry) -> io::Result<Self> {
        let words = geometry.total().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("dynfs", flags)?;
        rustix::fs::ftruncate(&file, (words * WORD_LEN) as u64)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let mapping = Mapping::new(file.as_fd(), words)?;
        let memory = Self { file, mapping, geometry, append: Mutex::new(()) };
        let words = memory.words();
        for (word, size) in
            words[GEOMETRY..].iter().zip([geometry.slots, geometry.buckets, geometry.heap])
        {
            word.store(size as u64, Ordering::Relaxed);
        }
        words[VERSION_WORD].store(VERSION, Ordering::Relaxed);
        crate::slots::initialise(&memory);
        words[MAGIC_WORD].store(MAGIC, Ordering::Release);
        Ok(memory)
    }

    /// Maps the memory file of a running keeper, checking magic, version and geometry.
    ///
    /// # Errors
    ///
    /// The operating system's, or `InvalidData`.
    pub fn map(file: OwnedFd) -> io::Result<Self> {
        let bytes = usize::try_from(rustix::fs::fstat(&file)?.st_size)
            .map_err(|_| invalid("the memory file has no length"))?;
        let largest = Geometry::STANDARD.total().map_or(0, |words| words * WORD_LEN);
        if bytes <= TABLE_BASE * WORD_LEN || bytes > largest || !bytes.is_multiple_of(WORD_LEN) {
            return Err(invalid("the memory file has another length"));
        }
        let mapping = Mapping::new(file.as_fd(), bytes / WORD_LEN)?;
        let words = mapping.words();
        if words[MAGIC_WORD].load(Ordering::Acquire) != MAGIC {
            return Err(invalid("this is not a memory file"));
        }
        if words[VERSION_WORD].load(Ordering::Relaxed) != VERSION {
            return Err(invalid("the memory file has another version"));
        }
        let size = |word: usize| {
            usize::try_from(words[GEOMETRY + word].load(Ordering::Relaxed)).unwrap_or(usize::MAX)
        };
        let geometry = Geometry { slots: size(0), buckets: size(1), heap: size(2) };
        if geometry.total() != Some(words.len()) {
            return Err(invalid("the memory file has another geometry"));
        }
        Ok(Self { file, mapping, geometry, append: Mutex::new(()) })
    }

    /// Another descriptor of the same memory file, to hand to a server.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn try_clone_file(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`, which all processes of a machine share.
    #[must_use]
    pub fn now() -> u64 {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
    }

    /// Counts one request.
    pub fn count(&self, operation: Operation) {
        self.words()[COUNTERS + usize::from(operation as u8)].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests so far, in the order of [`Operation::ALL`].
    pub fn counts(&self) -> Vec<(Operation, u64)> {
        let counters = self.words()[COUNTERS..].iter().map(|word| word.load(Ordering::Relaxed));
        Operation::ALL.into_iter().zip(counters).collect()
    }

    /// The generation that the kernel was last told of completely; 0 at first.
    pub fn announced(&self) -> GenerationNumber {
        GenerationNumber(self.words()[ANNOUNCED].load(Ordering::Acquire))
    }

    /// Records that the kernel has been told of everything up to this generation.
    pub fn set_announced(&self, number: GenerationNumber) {
        self.words()[ANNOUNCED].store(number.0, Ordering::Release);
    }

    /// Servers that died and were replaced.
    pub fn restarts(&self) -> u64 {
        self.words()[RESTARTS].load(Ordering::Relaxed)
    }

    /// Another server died.
    pub fn count_restart(&self) {
        self.words()[RESTARTS].fetch_add(1, Ordering::Relaxed);
    }

    /// Connections before this one that were ended, since requests stayed unanswered.
    pub fn aborts(&self) -> u64 {
        self.words()[ABORTS].load(Ordering::Relaxed)
    }

    /// This is the memory file of a new connection, made when that of `former` was ended: what is
    /// true of the mount, and not of the kernel's caches, goes on.
    pub fn succeed(&self, former: &Self) {
        for word in [RESTARTS, ABORTS, ANNOUNCED] {
            let value = former.words()[word].load(Ordering::Acquire);
            self.words()[word].store(value, Ordering::Release);
        }
        self.words()[ABORTS].fetch_add(1, Ordering::Relaxed);
    }

    /// How often what is shown has changed: whoever read the store knows whether it must again.
    pub fn changes(&self) -> u64 {
        self.words()[CHANGES].load(Ordering::Acquire)
    }

    /// What is shown is about to change, and the store has.
    pub fn count_change(&self) {
        self.words()[CHANGES].fetch_add(1, Ordering::AcqRel);
    }

    /// Notes the number of a request that was read. The kernel hands them out in their order.
    pub fn note_read(&self, unique: u64) {
        self.words()[LAST_READ].fetch_max(unique & !suspects::RESENT, Ordering::Relaxed);
    }

    /// The highest number that was noted.
    pub fn last_read(&self) -> u64 {
        self.words()[LAST_READ].load(Ordering::Relaxed)
    }

    /// No server that has died leaves a request unanswered whose number is at most this.
    pub fn swept(&self) -> u64 {
        self.words()[SWEPT].load(Ordering::Relaxed)
    }

    /// Everything up to this number that dead servers had read is answered.
    pub fn set_swept(&self, unique: u64) {
        self.words()[SWEPT].fetch_max(unique, Ordering::Relaxed);
    }

    /// The server lives: notes the time.
    pub fn beat(&self) {
        self.words()[BEAT].store(Self::now(), Ordering::Release);
    }

    /// When the server last noted that it lives, as [`Memory::now`]; 0 before the first time.
    pub fn last_beat(&self) -> u64 {
        self.words()[BEAT].load(Ordering::Acquire)
    }

    /// Keeps what the keeper negotiated with the kernel: any bytes, once. The same again is fine.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for none or more than [`NEGOTIATED_LEN_MAX`] bytes; `AlreadyExists` for
    /// others than are there.
    pub fn set_negotiated(&self, blob: &[u8]) -> io::Result<()> {
        if blob.is_empty() || blob.len() > NEGOTIATED_LEN_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "1 to 256 bytes are kept"));
        }
        let _appending = self.appending();
        let words = &self.words()[NEGOTIATED..NEGOTIATED + words_of(blob.len())];
        match self.words()[NEGOTIATED_LEN].load(Ordering::Acquire) {
            0 => store_text(words, blob),
            len if len == blob.len() as u64 && same_text(words, blob) => {}
            _ => return Err(io::ErrorKind::AlreadyExists.into()),
        }
        self.words()[NEGOTIATED_LEN].store(blob.len() as u64, Ordering::Release);
        Ok(())
    }

    /// What the keeper negotiated with the kernel, once it has.
    pub fn negotiated(&self) -> Option<Vec<u8>> {
        let len = usize::try_from(self.words()[NEGOTIATED_LEN].load(Ordering::Acquire)).ok()?;
        let fits = (1..=NEGOTIATED_LEN_MAX).contains(&len);
        fits.then(|| load_text(&self.words()[NEGOTIATED..], len))
    }

    pub(crate) fn words(&self) -> &[Word] {
        self.mapping.words()
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Held by whoever appends to the slot table or to a region.
    pub(crate) fn appending(&self) -> MutexGuard<'_, ()> {
        self.append.lock()
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_the_announced_generation_survive_a_server() {
        let memory = Memory::create().unwrap();
        assert_eq!(memory.announced(), GenerationNumber(0));
        memory.count(Operation::Lookup);
        memory.count(Operation::Other);
        memory.count(Operation::Other);
        memory.set_announced(GenerationNumber(41));
        let successor = Memory::map(memory.try_clone_file().unwrap()).unwrap();
        drop(memory);
        assert_eq!(successor.announced(), GenerationNumber(41));
        let counts = successor.counts();
        assert_eq!(counts.len(), Operation::ALL.len());
        for (operation, count) in counts {
            let expected = match operation {
                Operation::Lookup => 1,
                Operation::Other => 2,
                _ => 0,
            };
            assert_eq!(count, expected, "{operation:?}");
        }
    }

    #[test]
    fn a_beat_is_seen_by_another_process_of_the_file() {
        let memory = Memory::create().unwrap();
        let keeper = Memory::map(memory.try_clone_file().unwrap()).unwrap();
        assert_eq!(keeper.last_beat(), 0);
        let before = Memory::now();
        memory.beat();
        assert!((before..=Memory::now()).contains(&keeper.last_beat()));
    }

    #[test]
    fn the_highest_number_read_is_kept_whoever_reads() {
        let memory = Memory::create().unwrap();
        for unique in [8, 1 << 63 | 12, 4] {
            memory.note_read(unique);
        }
        let successor = Memory::map(memory.try_clone_file().unwrap()).unwrap();
        assert_eq!((successor.last_read(), successor.swept()), (12, 0));
        successor.set_swept(12);
        successor.set_swept(6);
        assert_eq!(memory.swept(), 12);
    }

    #[test]
    fn a_new_connection_knows_what_was_before() {
        let former = Memory::create().unwrap();
        former.count_restart();
        former.count(Operation::Lookup);
        former.set_announced(GenerationNumber(7));
        let [second, third] = [(); 2].map(|()| Memory::create().unwrap());
        second.succeed(&former);
        third.succeed(&second);
        assert_eq!((second.aborts(), third.aborts(), third.restarts()), (1, 2, 1));
        assert_eq!(third.announced(), GenerationNumber(7));
        assert!(third.counts().iter().all(|(_, count)| *count == 0), "it was asked nothing");
    }

    #[test]
    fn what_was_negotiated_is_kept_once() {
        let memory = Memory::create().unwrap();
        assert_eq!(memory.negotiated(), None);
        for wrong in [&[][..], &[0; NEGOTIATED_LEN_MAX + 1][..]] {
            let error = memory.set_negotiated(wrong).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        let blob: Vec<u8> = (0..=255).collect();
        memory.set_negotiated(&blob).unwrap();
        memory.set_negotiated(&blob).unwrap();
        for other in [&blob[..255], &[1][..]] {
            let error = memory.set_negotiated(other).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(memory.negotiated(), Some(blob));
        memory.words()[NEGOTIATED_LEN].store(u64::MAX, Ordering::Relaxed);
        assert_eq!(memory.negotiated(), None);
    }

    #[test]
    fn files_that_are_not_ours_are_refused() {
        type Spoil = fn(&Memory);
        let spoils: [(&str, Spoil); 5] = [
            ("magic", |memory| memory.words()[MAGIC_WORD].store(0, Ordering::Relaxed)),
            ("version", |memory| memory.words()[VERSION_WORD].store(2, Ordering::Relaxed)),
            ("slots", |memory| memory.words()[GEOMETRY].store(7, Ordering::Relaxed)),
            ("buckets", |memory| memory.words()[GEOMETRY + 1].store(3, Ordering::Relaxed)),
            ("heap", |memory| memory.words()[GEOMETRY + 2].store(u64::MAX, Ordering::Relaxed)),
        ];
        for (what, spoil) in spoils {
            let memory = Memory::create().unwrap();
            spoil(&memory);
            let error = Memory::map(memory.try_clone_file().unwrap()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}");
        }
        let short = rustix::fs::memfd_create("short", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(Memory::map(short).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
