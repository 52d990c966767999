//! Files in memory: what is read there, also behind their end, and what may be written.

use std::os::fd::BorrowedFd;

use super::answer::{Answer, Fields, Value};
use super::call::Board;
use crate::sys::Mapping;

/// A mapping and what is done with it.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    len: usize,
    protection: i32,
    flags: i32,
    offset: i64,
    steps: [Step; 3],
}

/// What is done with a mapping; places are in thousandths of it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read { share: usize, len: usize },
    Write { share: usize, len: usize },
    Protect(i32),
    Sync(i32),
    Advise(i32),
}

const NAMES: [&str; 3] = ["first", "second", "third"];
const READ: i32 = libc::PROT_READ;
const PROTECTIONS: [i32; 9] = [
    READ,
    READ,
    READ,
    READ | libc::PROT_EXEC,
    READ | libc::PROT_WRITE,
    READ | libc::PROT_WRITE,
    libc::PROT_WRITE,
    libc::PROT_EXEC,
    libc::PROT_NONE,
];
const FLAGS: [i32; 7] = [
    libc::MAP_PRIVATE,
    libc::MAP_PRIVATE,
    libc::MAP_SHARED,
    libc::MAP_SHARED,
    libc::MAP_PRIVATE | libc::MAP_POPULATE,
    libc::MAP_SHARED_VALIDATE,
    libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC,
];
const SYNCS: [i32; 4] = [
    libc::MS_SYNC,
    libc::MS_ASYNC,
    libc::MS_SYNC | libc::MS_INVALIDATE,
    libc::MS_SYNC | libc::MS_ASYNC,
];
const ADVICES: [i32; 9] = [
    libc::MADV_NORMAL,
    libc::MADV_RANDOM,
    libc::MADV_SEQUENTIAL,
    libc::MADV_WILLNEED,
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_POPULATE_READ,
    libc::MADV_POPULATE_WRITE,
    libc::MADV_COLD,
];

impl Ask {
    pub(super) fn roll(board: &mut Board<'_>) -> Self {
        let offset = match board.dice.roll(6) {
            0 => board.offset(),
            1 => i64::try_from(board.dice.roll(300)).expect("small") * 4_096,
            _ => 0,
        };
        let protection = *board.dice.pick(&PROTECTIONS);
        let flags = *board.dice.pick(&FLAGS);
        let steps = [(); 3].map(|()| Step::roll(board));
        Self { len: board.len(), protection, flags, offset, steps }
    }

    /// Whether it wants a mapping of the disk itself, which few file systems have.
    pub(super) fn is_of_the_disk(&self) -> bool {
        self.flags & libc::MAP_SYNC != 0
    }

    pub(super) fn run(&self, fd: BorrowedFd<'_>) -> Answer {
        let mapping = Mapping::new(fd, self.len, self.protection, self.flags, self.offset)?;
        let results = self.steps.iter().map(|step| step.run(&mapping, self.len));
        let fields = NAMES.into_iter().zip(results);
        Ok(fields.fold(Fields::default(), |fields, (name, value)| fields.and(name, value)))
    }
}

impl Step {
    fn roll(board: &mut Board<'_>) -> Self {
        let (share, len) = (board.dice.index(1_000), 1 + board.len().min(70_000));
        match board.dice.roll(10) {
            0..5 => Self::Read { share, len },
            5 | 6 => Self::Write { share, len: len.min(100) },
            7 => Self::Protect(*board.dice.pick(&PROTECTIONS)),
            8 => Self::Sync(*board.dice.pick(&SYNCS)),
            _ => Self::Advise(*board.dice.pick(&ADVICES)),
        }
    }

    fn run(self, mapping: &Mapping, whole: usize) -> Value {
        let part = |share: usize, len: usize| {
            let at = whole * share / 1_000;
            (at, len.min(whole - at))
        };
        match self {
            Self::Read { share, len } => {
                let (at, len) = part(share, len);
                mapping.read(at, len).into()
            }
            Self::Write { share, len } => {
                let (at, len) = part(share, len);
                mapping.write(at, &vec![b'w'; len]).into()
            }
            Self::Protect(protection) => mapping.protect(protection).into(),
            Self::Sync(flags) => mapping.sync(flags).into(),
            Self::Advise(advice) => mapping.advise(advice).into(),
        }
    }
}
