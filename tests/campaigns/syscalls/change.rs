//! Calls that would change something: each must fail in the same way.

use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Gid, Mode, RenameFlags, Timespec, Timestamps, Uid,
    XattrFlags,
};

use super::answer::{Answer, done, gives};
use super::call::{Board, number};
use super::side::{Place, Side};
use crate::sys;

/// What would change something.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    MakeDir { place: Place, mode: u32 },
    MakeNode { place: Place, kind: FileType, mode: u32 },
    Remove { place: Place, flags: u32 },
    Rename { from: Place, to: Place, flags: u32 },
    Link { from: Place, to: Place, flags: u32 },
    MakeLink { target: Vec<u8>, place: Place },
    Mode { place: Place, mode: u32 },
    Owner { place: Place, uid: u32, gid: u32, flags: u32 },
    Times { place: Place, times: (i64, i64), flags: u32 },
    Cut { place: Place, len: i64 },
    SetAttribute { place: Place, follow: bool, name: &'static str, len: usize, flags: u32 },
    RemoveAttribute { place: Place, follow: bool, name: &'static str },
    Open { slot: usize, ask: OpenAsk },
}

/// The same of what is open.
#[derive(Clone, Debug)]
pub(super) enum OpenAsk {
    Write { len: usize },
    WriteAt { offset: i64, len: usize },
    Cut { len: i64 },
    Allocate { flags: u32, offset: i64, len: i64 },
    Mode { mode: u32 },
    Owner { uid: u32, gid: u32 },
    Times { times: (i64, i64) },
    SetAttribute { name: &'static str, len: usize },
    RemoveAttribute { name: &'static str },
    NoFlags,
    CopyInto { from: usize, len: usize },
    SendInto { from: usize, len: usize },
}

/// Nanoseconds that stand for no change.
const OMIT: i64 = 0x3fff_fffe;
/// The same, those that stand for now, and some that stand for themselves.
const NANOS: [i64; 4] = [OMIT, 0x3fff_ffff, 0, 999_999_999];
const KINDS: [FileType; 5] = [
    FileType::RegularFile,
    FileType::Fifo,
    FileType::Socket,
    FileType::CharacterDevice,
    FileType::BlockDevice,
];
/// `FALLOC_FL_KEEP_SIZE`, `PUNCH_HOLE`, `COLLAPSE_RANGE`, `ZERO_RANGE`, and together.
const ALLOCATIONS: [u32; 6] = [0, 1, 3, 8, 16, 0x8000];

impl Ask {
    pub(super) fn roll(board: &mut Board<'_>) -> Self {
        let mode = *board.dice.pick(&[0, 0o644, 0o755, 0o7777]);
        let follow = board.dice.roll(2) == 0;
        let name = board.attribute();
        match board.dice.roll(24) {
            0 | 1 => Self::MakeDir { place: board.place(), mode },
            2 => Self::MakeNode { place: board.place(), kind: *board.dice.pick(&KINDS), mode },
            3 | 4 => {
                let flags = *board.dice.pick(&[0, 0, 0x200, 0x200, 0x8000]);
                Self::Remove { place: board.place(), flags }
            }
            5..8 => {
                let flags = *board.dice.pick(&[0, 0, 1, 2, 4, 3, 64]);
                Self::Rename { from: board.place(), to: board.place(), flags }
            }
            8 | 9 => {
                let flags = *board.dice.pick(&[0, 0, 0x400, 0x1000]);
                Self::Link { from: board.place(), to: board.place(), flags }
            }
            10 => Self::MakeLink { target: board.name(), place: board.place() },
            11 => Self::Mode { place: board.place(), mode },
            12 => Self::Owner {
                place: board.place(),
                uid: *board.dice.pick(&[0, 7, u32::MAX]),
                gid: *board.dice.pick(&[0, 7, u32::MAX]),
                flags: *board.dice.pick(&[0, 0x100, 0x1000]),
            },
            13 => Self::Times {
                place: board.place(),
                times: (*board.dice.pick(&NANOS), *board.dice.pick(&NANOS)),
                flags: *board.dice.pick(&[0, 0x100, 0x1000]),
            },
            14 => Self::Cut { place: board.place(), len: board.offset() },
            15 => {
                let (len, flags) = (board.dice.index(100), *board.dice.pick(&[0, 1, 2, 3]));
                Self::SetAttribute { place: board.place(), follow, name, len, flags }
            }
            16 => Self::RemoveAttribute { place: board.place(), follow, name },
            _ => Self::Open { slot: board.slot(), ask: OpenAsk::roll(board, mode, name) },
        }
    }

    pub(super) fn places(&self) -> Vec<&Place> {
        match self {
            Self::MakeDir { place, .. }
            | Self::MakeNode { place, .. }
            | Self::Remove { place, .. }
            | Self::MakeLink { place, .. }
            | Self::Mode { place, .. }
            | Self::Owner { place, .. }
            | Self::Times { place, .. }
            | Self::Cut { place, .. }
            | Self::SetAttribute { place, .. }
            | Self::RemoveAttribute { place, .. } => vec![place],
            Self::Rename { from, to, .. } | Self::Link { from, to, .. } => vec![from, to],
            Self::Open { .. } => Vec::new(),
        }
    }

    /// Whether it would succeed because it asks for no change at all.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Times { times, .. } => *times == (OMIT, OMIT),
            Self::Open { ask: OpenAsk::Times { times }, .. } => *times == (OMIT, OMIT),
            _ => false,
        }
    }

    pub(super) fn run(&self, side: &Side) -> Answer {
        match self {
            Self::MakeDir { place, mode } => done(side.at(place, |dir, path| {
                rustix::fs::mkdirat(dir, path, Mode::from_bits_retain(*mode))
            })),
            Self::MakeNode { place, kind, mode } => done(side.at(place, |dir, path| {
                rustix::fs::mknodat(dir, path, *kind, Mode::from_bits_retain(*mode), 259)
            })),
            Self::Remove { place, flags } => done(side.at(place, |dir, path| {
                rustix::fs::unlinkat(dir, path, AtFlags::from_bits_retain(*flags))
            })),
            Self::Rename { from, to, flags } => done(side.at(from, |dir, path| {
                side.at(to, |other, name| {
                    let flags = RenameFlags::from_bits_retain(*flags);
                    rustix::fs::renameat_with(dir, path, other, name, flags)
                })
            })),
            Self::Link { from, to, flags } => done(side.at(from, |dir, path| {
                side.at(to, |other, name| {
                    rustix::fs::linkat(dir, path, other, name, AtFlags::from_bits_retain(*flags))
                })
            })),
            Self::MakeLink { target, place } => done(
                side.at(place, |dir, path| rustix::fs::symlinkat(target.as_slice(), dir, path)),
            ),
            Self::Mode { place, mode } => done(side.at(place, |dir, path| {
                let mode = Mode::from_bits_retain(*mode);
                rustix::fs::chmodat(dir, path, mode, AtFlags::empty())
            })),
            _ => self.run_beside(side),
        }
    }

    fn run_beside(&self, side: &Side) -> Answer {
        match self {
            Self::Owner { place, uid, gid, flags } => done(side.at(place, |dir, path| {
                let (uid, gid) = owner(*uid, *gid);
                rustix::fs::chownat(dir, path, uid, gid, AtFlags::from_bits_retain(*flags))
            })),
            Self::Times { place, times, flags } => done(side.at(place, |dir, path| {
                let flags = AtFlags::from_bits_retain(*flags);
                rustix::fs::utimensat(dir, path, &timestamps(*times), flags)
            })),
            Self::Cut { place, len } => {
                number(side.by_name(place, |path| sys::truncate(path, *len)))
            }
            Self::SetAttribute { place, follow, name, len, flags } => {
                done(side.by_name(place, |path| {
                    let (value, flags) = (vec![b'v'; *len], XattrFlags::from_bits_retain(*flags));
                    match follow {
                        true => rustix::fs::setxattr(path, *name, &value, flags),
                        false => rustix::fs::lsetxattr(path, *name, &value, flags),
                    }
                }))
            }
            Self::RemoveAttribute { place, follow, name } => {
                done(side.by_name(place, |path| match follow {
                    true => rustix::fs::removexattr(path, *name),
                    false => rustix::fs::lremovexattr(path, *name),
                }))
            }
            Self::Open { slot, ask } => ask.run(side, *slot),
            _ => unreachable!("the others are done"),
        }
    }
}

impl OpenAsk {
    fn roll(board: &mut Board<'_>, mode: u32, name: &'static str) -> Self {
        match board.dice.roll(12) {
            0 => Self::Write { len: board.len() },
            1 => Self::WriteAt { offset: board.offset(), len: board.len() },
            2 => Self::Cut { len: board.offset() },
            3 => Self::Allocate {
                flags: *board.dice.pick(&ALLOCATIONS),
                offset: board.offset(),
                len: board.offset(),
            },
            4 => Self::Mode { mode },
            5 => Self::Owner {
                uid: *board.dice.pick(&[0, 7, u32::MAX]),
                gid: *board.dice.pick(&[0, 7, u32::MAX]),
            },
            6 => Self::Times { times: (*board.dice.pick(&NANOS), *board.dice.pick(&NANOS)) },
            7 => Self::SetAttribute { name, len: board.dice.index(100) },
            8 => Self::RemoveAttribute { name },
            9 => Self::NoFlags,
            10 => Self::CopyInto { from: board.slot(), len: board.len() },
            _ => Self::SendInto { from: board.slot(), len: board.len() },
        }
    }

    fn run(&self, side: &Side, slot: usize) -> Answer {
        let fd = side.slot(slot)?;
        match *self {
            Self::Write { len } => gives("written", rustix::io::write(fd, &vec![b'w'; len])),
            Self::WriteAt { offset, len } => {
                let bytes = vec![b'w'; len];
                gives("written", rustix::io::pwrite(fd, &bytes, offset.cast_unsigned()))
            }
            Self::Cut { len } => done(rustix::fs::ftruncate(fd, len.cast_unsigned())),
            Self::Allocate { flags, offset, len } => {
                let flags = FallocateFlags::from_bits_retain(flags);
                let (offset, len) = (offset.cast_unsigned(), len.cast_unsigned());
                done(rustix::fs::fallocate(fd, flags, offset, len))
            }
            Self::Mode { mode } => done(rustix::fs::fchmod(fd, Mode::from_bits_retain(mode))),
            Self::Owner { uid, gid } => {
                let (uid, gid) = owner(uid, gid);
                done(rustix::fs::fchown(fd, uid, gid))
            }
            Self::Times { times } => done(rustix::fs::futimens(fd, &timestamps(times))),
            Self::SetAttribute { name, len } => {
                done(rustix::fs::fsetxattr(fd, name, &vec![b'v'; len], XattrFlags::empty()))
            }
            Self::RemoveAttribute { name } => done(rustix::fs::fremovexattr(fd, name)),
            Self::NoFlags => number(sys::ioctl(fd, sys::Request::NoFlags)),
            Self::CopyInto { from, len } => {
                let source = side.slot(from)?;
                gives("copied", rustix::fs::copy_file_range(source, None, fd, None, len))
            }
            Self::SendInto { from, len } => {
                gives("sent", rustix::fs::sendfile(fd, side.slot(from)?, None, len))
            }
        }
    }
}

fn owner(uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
    let given = |id: u32| (id != u32::MAX).then_some(id);
    (given(uid).map(Uid::from_raw), given(gid).map(Gid::from_raw))
}

fn timestamps((access, change): (i64, i64)) -> Timestamps {
    let at = |nanos| Timespec { tv_sec: 1_000_000, tv_nsec: nanos };
    Timestamps { last_access: at(access), last_modification: at(change) }
}
