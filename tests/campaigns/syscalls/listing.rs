//! Listings: every name once, whatever the buffer and wherever one goes on.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, RawDir, statat};
use rustix::io::Result;

use super::answer::{Answer, Fields};
use super::call::Board;
use crate::sys;

/// How a directory is listed.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// From its beginning.
    Whole { room: usize },
    /// Again from behind an entry, which is given in thousandths of all.
    Again { room: usize, share: usize },
    /// A part, and from the beginning again.
    Rewound { room: usize },
    /// Without going to the beginning, when it is at the end.
    AtEnd { room: usize },
}

struct Entry {
    name: Vec<u8>,
    kind: u8,
    number: u64,
    /// Where the next one is.
    next: u64,
}

impl Ask {
    pub(super) fn roll(board: &mut Board<'_>) -> Self {
        let room = *board.dice.pick(&[0, 24, 32, 300, 1_000, 4_096, 32_768, 200_000]);
        match board.dice.roll(8) {
            0..3 => Self::Whole { room },
            3..6 => Self::Again { room, share: board.dice.index(1_001) },
            6 => Self::Rewound { room },
            _ => Self::AtEnd { room },
        }
    }

    pub(super) fn run(&self, fd: BorrowedFd<'_>) -> Answer {
        match *self {
            Self::Whole { room } => {
                rewind(fd)?;
                Ok(fields(fd, &entries(fd, room)?))
            }
            Self::Again { room, share } => {
                rewind(fd)?;
                let all = entries(fd, room.max(300))?;
                let first = all.len() * share / 1_000;
                let offset = if first == 0 { 0 } else { all[first - 1].next };
                sys::seek(fd, offset.cast_signed(), libc::SEEK_SET)?;
                let rest = entries(fd, room.max(300))?;
                let same =
                    rest.iter().map(|entry| &entry.name).eq(all[first..].iter().map(|e| &e.name));
                Ok(fields(fd, &all).and("went on", same))
            }
            Self::Rewound { room } => {
                rewind(fd)?;
                // Which names come first, and so whether they fit, is up to the file system.
                some(fd, room.max(300))?;
                rewind(fd)?;
                Ok(fields(fd, &entries(fd, 32_768)?))
            }
            Self::AtEnd { room } => {
                rewind(fd)?;
                let all = entries(fd, 32_768)?;
                let more = some(fd, room).map(|more| more.len());
                Ok(fields(fd, &all).and("more", more))
            }
        }
    }
}

fn rewind(fd: BorrowedFd<'_>) -> Result<()> {
    sys::seek(fd, 0, libc::SEEK_SET).map(drop)
}

/// What is left, call by call.
fn entries(fd: BorrowedFd<'_>, room: usize) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    loop {
        let more = some(fd, room)?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
    }
}

/// What one call gives.
fn some(fd: BorrowedFd<'_>, room: usize) -> Result<Vec<Entry>> {
    let mut buffer = vec![MaybeUninit::uninit(); room];
    let mut reader = RawDir::new(fd, &mut buffer);
    let mut found = Vec::new();
    loop {
        let Some(entry) = reader.next() else { return Ok(found) };
        let entry = entry?;
        found.push(Entry {
            name: entry.file_name().to_bytes().to_vec(),
            kind: match entry.file_type() {
                FileType::Directory => b'd',
                FileType::Symlink => b'l',
                FileType::RegularFile => b'f',
                _ => b'?',
            },
            number: entry.ino(),
            next: entry.next_entry_cookie(),
        });
        if reader.is_buffer_empty() {
            return Ok(found);
        }
    }
}

fn fields(fd: BorrowedFd<'_>, entries: &[Entry]) -> Fields {
    let sorted: BTreeSet<(&[u8], u8)> =
        entries.iter().map(|entry| (entry.name.as_slice(), entry.kind)).collect();
    let names =
        sorted.iter().flat_map(|(name, kind)| [name, [b'/', *kind, b'\n'].as_slice()].concat());
    let step = (entries.len() / 5).max(1);
    let numbered = entries.iter().step_by(step).all(|entry| {
        let stat = statat(fd, entry.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| stat.st_ino == entry.number)
    });
    Fields::one("names", names.collect::<Vec<u8>>())
        .and("twice", entries.len() - sorted.len())
        .and("numbered as by stat", numbered)
}
