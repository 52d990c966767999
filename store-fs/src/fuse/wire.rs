//! The three messages that are spoken without the library: the answer to `INIT`, which the keeper
//! gives once for the life of a mount; the `INIT` that a server makes up for itself; and `RESEND`.
//!
//! ```text
//! request   len:4 opcode:4 unique:8 nodeid:8 uid:4 gid:4 pid:4 extlen:2 padding:2      40 bytes
//! INIT      major:4 minor:4 max_readahead:4 flags:4 flags2:4 unused:44                 64 bytes
//! answer    len:4 error:4 unique:8                                                     16 bytes
//! INIT out  major:4 minor:4 max_readahead:4 flags:4 max_background:2 congestion:2
//!           max_write:4 time_gran:4 max_pages:2 map_alignment:2 flags2:4 stack:4 unused:24
//! ```
//!
//! All numbers are in the byte order of the machine, as `linux/fuse.h` has it.

use std::io;
use std::os::fd::BorrowedFd;

const MAJOR: u32 = 7;
/// The newest minor version that we speak; the kernel uses the smaller of its own and this.
const MINOR: u32 = 45;
/// Linux 5.4. Older ones have no `NO_OPENDIR_SUPPORT`, or are not maintained.
const MINOR_MIN: u32 = 31;

const OPCODE_INIT: u32 = 26;
const NOTIFY_RESEND: i32 = 7;
const REQUEST_HEADER_LEN: usize = 40;
const ANSWER_HEADER_LEN: usize = 16;
const INIT_LEN: usize = 64;
/// `FUSE_MIN_READ_BUFFER`: the kernel refuses reads into less.
const READ_BUFFER_LEN: usize = 8192;

/// The largest request in pages; the kernel's own limit by default (`fs.fuse.max_pages_limit`).
const PAGES_MAX: u16 = 256;
/// The kernel's minimum: nothing is ever written.
const WRITE_MAX: u32 = 4096;
/// Requests that nobody waits for, read-ahead above all. The default of 16 stalls cold walks.
const BACKGROUND_MAX: u16 = 64;
const CONGESTION: u16 = 48;
/// File times are whole seconds.
const TIME_GRANULARITY_NS: u32 = 1_000_000_000;

const ASYNC_READ: u64 = 1 << 0;
const BIG_WRITES: u64 = 1 << 5;
const DO_READDIRPLUS: u64 = 1 << 13;
const READDIRPLUS_AUTO: u64 = 1 << 14;
const NO_OPEN_SUPPORT: u64 = 1 << 17;
const PARALLEL_DIROPS: u64 = 1 << 18;
const MAX_PAGES: u64 = 1 << 22;
const CACHE_SYMLINKS: u64 = 1 << 23;
const NO_OPENDIR_SUPPORT: u64 = 1 << 24;
const EXPLICIT_INVAL_DATA: u64 = 1 << 25;
const INIT_EXT: u64 = 1 << 30;
const HAS_RESEND: u64 = 1 << 39;

/// What is asked of the kernel. Without `PARALLEL_DIROPS` it would serialise the lookups of a
/// directory; without `EXPLICIT_INVAL_DATA` it would drop cached pages by itself. `BIG_WRITES` is
/// set because the library sets it; there are no writes.
const WANTED: u64 = ASYNC_READ
    | BIG_WRITES
    | DO_READDIRPLUS
    | READDIRPLUS_AUTO
    | NO_OPEN_SUPPORT
    | PARALLEL_DIROPS
    | MAX_PAGES
    | CACHE_SYMLINKS
    | NO_OPENDIR_SUPPORT
    | EXPLICIT_INVAL_DATA
    | INIT_EXT
    | HAS_RESEND;

/// Without these no open and no listing would be answered from the kernel's caches.
const REQUIRED: u64 = NO_OPEN_SUPPORT | NO_OPENDIR_SUPPORT;

/// What keeper and kernel agreed on, once for the life of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    minor: u32,
    readahead_max: u32,
    flags: u64,
}

impl Negotiated {
    /// Length of [`Negotiated::to_bytes`].
    pub const LEN: usize = 16;

    /// For the keeper's memory.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.minor.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.readahead_max.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.flags.to_ne_bytes());
        bytes
    }

    /// From the keeper's memory.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        Some(Self {
            minor: u32_at(bytes, 0)?,
            readahead_max: u32_at(bytes, 4)?,
            flags: u64_at(bytes, 8)?,
        })
    }

    /// Whether the kernel can be asked to queue unanswered requests again (Linux 6.9 and later).
    /// Without it, requests that a killed server had read and not answered stay unanswered.
    #[must_use]
    pub fn can_resend(&self) -> bool {
        self.flags & HAS_RESEND != 0
    }

    /// The `INIT` request that a server writes to itself.
    pub(super) fn synthetic_init(&self) -> Vec<u8> {
        let len = REQUEST_HEADER_LEN + INIT_LEN;
        let mut bytes = Vec::with_capacity(len);
        put(&mut bytes, u32::try_from(len).unwrap_or(u32::MAX));
        put(&mut bytes, OPCODE_INIT);
        bytes.extend_from_slice(&2_u64.to_ne_bytes());
        bytes.resize(REQUEST_HEADER_LEN, 0);
        let (low, high) = halves(self.flags);
        for value in [MAJOR, self.minor, self.readahead_max, low, high] {
            put(&mut bytes, value);
        }
        bytes.resize(len, 0);
        bytes
    }
}

/// What is not asked of a kernel that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foregone {
    /// Everything is asked for.
    Nothing,
    /// Requests are not queued again, as on kernels before 6.9.
    Resend,
}

/// Waits for the kernel's `INIT` on a freshly mounted connection and answers it.
///
/// # Errors
///
/// `Unsupported` for a kernel that cannot serve opens from its caches; else the operating system's.
pub fn answer_init(device: BorrowedFd<'_>, foregone: Foregone) -> io::Result<Negotiated> {
    let wanted = match foregone {
        Foregone::Nothing => WANTED,
        Foregone::Resend => WANTED & !HAS_RESEND,
    };
    let mut buffer = vec![0; READ_BUFFER_LEN];
    loop {
        let len = rustix::io::retry_on_intr(|| rustix::io::read(device, &mut buffer))?;
        match parse_init(&buffer[..len])? {
            (unique, Offer::NewerMajor) => send(device, unique, &version_only())?,
            (unique, Offer::Init(offer)) => {
                if offer.minor < MINOR_MIN || offer.flags & REQUIRED != REQUIRED {
                    let what = format!("FUSE {MAJOR}.{} of this kernel is too old", offer.minor);
                    return Err(io::Error::new(io::ErrorKind::Unsupported, what));
                }
                let agreed = Negotiated {
                    minor: offer.minor.min(MINOR),
                    readahead_max: offer.readahead_max,
                    flags: offer.flags & wanted,
                };
                send(device, unique, &init_answer(&agreed))?;
                return Ok(agreed);
            }
        }
    }
}

/// Asks the kernel to queue again every request that was read and not answered.
///
/// # Errors
///
/// `InvalidInput` from a kernel before 6.9; else the operating system's.
pub fn resend(device: BorrowedFd<'_>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(ANSWER_HEADER_LEN);
    put(&mut bytes, u32::try_from(ANSWER_HEADER_LEN).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&NOTIFY_RESEND.to_ne_bytes());
    bytes.extend_from_slice(&0_u64.to_ne_bytes());
    rustix::io::write(device, &bytes)?;
    Ok(())
}

enum Offer {
    Init(Negotiated),
    NewerMajor,
}

fn parse_init(bytes: &[u8]) -> io::Result<(u64, Offer)> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "a short FUSE request");
    let opcode = u32_at(bytes, 4).ok_or_else(short)?;
    let unique = u64_at(bytes, 8).ok_or_else(short)?;
    if opcode != OPCODE_INIT {
        let what = format!("the kernel began with FUSE request {opcode} instead of INIT");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let word = |index: usize| u32_at(bytes, REQUEST_HEADER_LEN + 4 * index);
    match word(0).ok_or_else(short)? {
        MAJOR => {}
        major if major > MAJOR => return Ok((unique, Offer::NewerMajor)),
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "a FUSE older than 7")),
    }
    let low = u64::from(word(3).ok_or_else(short)?);
    // Kernels before 5.17 send no second word.
    let high = if low & INIT_EXT == 0 { 0 } else { u64::from(word(4).ok_or_else(short)?) };
    Ok((
        unique,
        Offer::Init(Negotiated {
            minor: word(1).ok_or_else(short)?,
            readahead_max: word(2).ok_or_else(short)?,
            flags: high << 32 | low,
        }),
    ))
}

fn version_only() -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, MAJOR);
    put(&mut bytes, MINOR);
    bytes.resize(INIT_LEN, 0);
    bytes
}

fn init_answer(agreed: &Negotiated) -> Vec<u8> {
    let (low, high) = halves(agreed.flags);
    let mut bytes = Vec::with_capacity(INIT_LEN);
    for value in [MAJOR, MINOR, agreed.readahead_max, low] {
        put(&mut bytes, value);
    }
    bytes.extend_from_slice(&BACKGROUND_MAX.to_ne_bytes());
    bytes.extend_from_slice(&CONGESTION.to_ne_bytes());
    put(&mut bytes, WRITE_MAX);
    put(&mut bytes, TIME_GRANULARITY_NS);
    bytes.extend_from_slice(&PAGES_MAX.to_ne_bytes());
    bytes.extend_from_slice(&0_u16.to_ne_bytes());
    put(&mut bytes, high);
    bytes.resize(INIT_LEN, 0);
    bytes
}

fn send(device: BorrowedFd<'_>, unique: u64, body: &[u8]) -> io::Result<()> {
    let len = ANSWER_HEADER_LEN + body.len();
    let mut bytes = Vec::with_capacity(len);
    put(&mut bytes, u32::try_from(len).unwrap_or(u32::MAX));
    put(&mut bytes, 0);
    bytes.extend_from_slice(&unique.to_ne_bytes());
    bytes.extend_from_slice(body);
    rustix::io::write(device, &bytes)?;
    Ok(())
}

fn put(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_ne_bytes());
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
fn halves(flags: u64) -> (u32, u32) {
    (flags as u32, (flags >> 32) as u32)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed() -> Negotiated {
        Negotiated { minor: 45, readahead_max: 131_072, flags: WANTED }
    }

    #[test]
    fn a_synthetic_init_reads_as_the_kernels_own() {
        let bytes = agreed().synthetic_init();
        let Ok((2, Offer::Init(offer))) = parse_init(&bytes) else { panic!("not an INIT") };
        assert_eq!(offer, agreed());
    }

    #[test]
    fn negotiated_survives_the_keepers_memory() {
        assert_eq!(Negotiated::from_bytes(&agreed().to_bytes()), Some(agreed()));
        assert_eq!(Negotiated::from_bytes(&[0; 15]), None);
    }

    #[test]
    fn short_and_foreign_requests_are_errors() {
        let whole = agreed().synthetic_init();
        for len in 0..REQUEST_HEADER_LEN + 20 {
            assert!(parse_init(&whole[..len]).is_err(), "{len} bytes");
        }
        let mut lookup = whole;
        lookup[4] = 1;
        assert!(parse_init(&lookup).is_err());
    }

    #[test]
    fn the_answer_has_the_kernels_length_and_places() {
        let bytes = init_answer(&agreed());
        assert_eq!(bytes.len(), INIT_LEN);
        assert_eq!(u32_at(&bytes, 20), Some(WRITE_MAX));
        assert_eq!(bytes[28..30], PAGES_MAX.to_ne_bytes());
        assert_eq!(u32_at(&bytes, 32), Some(1 << 7), "RESEND is bit 39");
    }
}
