//! Calls on something open that change nothing: bytes, attributes, positions, locks, flags.

use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Advice, AtFlags, FlockOperation, OFlags, StatxFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, Result, pread, preadv2, read};

use super::answer::{Answer, Fields, done, gives};
use super::call::{Board, number};
use super::name::{list_fields, space_fields, stat_fields, statx_fields};
use super::side::Side;
use crate::sys;

/// What is asked of a descriptor.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Read { len: usize },
    ReadAt { offset: i64, len: usize },
    ReadParts { offset: i64, lens: [usize; 3], flags: u32 },
    Seek { offset: i64, whence: i32 },
    Stat,
    Statx { flags: u32, mask: u32 },
    Send { offset: Option<i64>, len: usize },
    Splice { offset: Option<i64>, len: usize },
    CopyOut { len: usize },
    Advise { offset: i64, len: u64, advice: Advice },
    ReadAhead { offset: i64, len: usize },
    Sync(Sync),
    Lock(FlockOperation),
    LockRange { command: i32, kind: i16, range: (i64, i64) },
    Lease { command: i32, kind: i32 },
    Flags,
    SetFlags(u32),
    Ioctl(sys::Request),
    ListAttributes { room: usize },
    Attribute { name: &'static str, room: usize },
    Space,
    Handle,
    Path,
}

/// What is asked to be on disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sync {
    File,
    Content,
    Everything,
}

const WHENCES: [i32; 9] = [
    libc::SEEK_SET,
    libc::SEEK_SET,
    libc::SEEK_CUR,
    libc::SEEK_CUR,
    libc::SEEK_END,
    libc::SEEK_DATA,
    libc::SEEK_HOLE,
    5,
    -1,
];
const ADVICES: [Advice; 8] = [
    Advice::Normal,
    Advice::Sequential,
    Advice::Random,
    Advice::NoReuse,
    Advice::WillNeed,
    Advice::DontNeed,
    Advice::DontNeed,
    Advice::DontNeed,
];
const LOCKS: [FlockOperation; 3] = [
    FlockOperation::NonBlockingLockShared,
    FlockOperation::NonBlockingLockExclusive,
    FlockOperation::NonBlockingUnlock,
];
/// `RWF_HIPRI`, `DSYNC`, `SYNC`, `APPEND`, `ATOMIC`, `DONTCACHE`, and one that nobody knows. Not
/// `NOWAIT`, whose answer is what happens to be cached.
const READ_FLAGS: [u32; 8] = [0, 0, 1, 2, 4, 0x10, 0x40, 0x80];
const STATX_FLAGS: [AtFlags; 5] = [
    AtFlags::EMPTY_PATH,
    AtFlags::EMPTY_PATH,
    AtFlags::EMPTY_PATH.union(AtFlags::STATX_FORCE_SYNC),
    AtFlags::EMPTY_PATH.union(AtFlags::STATX_DONT_SYNC),
    AtFlags::empty(),
];

impl Ask {
    pub(super) fn roll(board: &mut Board<'_>) -> Self {
        match board.dice.roll(60) {
            0..8 => Self::Read { len: board.len() },
            8..18 => Self::ReadAt { offset: board.offset(), len: board.len() },
            18..21 => {
                let lens = [board.len(), board.len() % 20_000, board.len() % 300];
                // Which of these there are is up to the file system.
                let flags = if board.sealed { *board.dice.pick(&READ_FLAGS) } else { 0 };
                Self::ReadParts { offset: board.offset(), lens, flags }
            }
            21..27 => Self::Seek { offset: board.offset(), whence: *board.dice.pick(&WHENCES) },
            27..30 => Self::Stat,
            30..32 => Self::Statx {
                flags: board.dice.pick(&STATX_FLAGS).bits(),
                mask: *board.dice.pick(&[0x7ff, 0xfff, 0x200, 0, 0x3fff, 0x8000_0000]),
            },
            32..35 => Self::Send { offset: board.some_offset(), len: board.len() },
            35..37 => Self::Splice { offset: board.some_offset(), len: board.len() },
            37..38 => Self::CopyOut { len: board.len() },
            38..42 => {
                let advice = *board.dice.pick(&ADVICES);
                Self::Advise { offset: board.offset(), len: board.len() as u64, advice }
            }
            42..43 => Self::ReadAhead { offset: board.offset(), len: board.len() },
            _ => Self::roll_beside(board),
        }
    }

    fn roll_beside(board: &mut Board<'_>) -> Self {
        match board.dice.roll(16) {
            0 => Self::Sync(*board.dice.pick(&[Sync::File, Sync::Content, Sync::Everything])),
            1 | 2 => Self::Lock(*board.dice.pick(&LOCKS)),
            3 | 4 => {
                let commands = [libc::F_SETLK, libc::F_GETLK, libc::F_OFD_SETLK, libc::F_OFD_GETLK];
                let kinds =
                    [libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK, 9].map(|kind| kind as i16);
                Self::LockRange {
                    command: *board.dice.pick(&commands),
                    kind: *board.dice.pick(&kinds),
                    range: (board.offset(), board.offset()),
                }
            }
            5 => Self::Lease {
                command: *board.dice.pick(&[libc::F_SETLEASE, libc::F_GETLEASE]),
                // One against readers would make the next call of the case wait for itself.
                kind: *board.dice.pick(&[libc::F_RDLCK, libc::F_UNLCK]),
            },
            6 => Self::Flags,
            7 | 8 => {
                let flags = [OFlags::empty(), OFlags::APPEND, OFlags::NONBLOCK, OFlags::NOATIME];
                Self::SetFlags(board.dice.pick(&flags).bits())
            }
            9 | 10 => {
                let all = sys::Request::ALL;
                let asked = all.into_iter().filter(|request| *request != sys::Request::NoFlags);
                Self::Ioctl(*board.dice.pick(&asked.collect::<Vec<_>>()))
            }
            11 => Self::ListAttributes { room: *board.dice.pick(&[0, 1, 4_096]) },
            12 => {
                Self::Attribute { name: board.attribute(), room: *board.dice.pick(&[0, 1, 4_096]) }
            }
            13 => Self::Space,
            14 => Self::Handle,
            _ => Self::Path,
        }
    }

    pub(super) fn run(&self, side: &Side, slot: usize) -> Answer {
        let fd = side.slot(slot)?;
        match *self {
            Self::Read { len } => anywhere(fd, || with_room(len, |room| read(fd, room))),
            Self::ReadAt { offset, len } => {
                anywhere(fd, || with_room(len, |room| pread(fd, room, offset.cast_unsigned())))
            }
            Self::ReadParts { offset, lens, flags } => {
                anywhere(fd, || parts(fd, offset, lens, flags))
            }
            Self::Seek { offset, whence } => seek(fd, offset, whence),
            Self::Stat => rustix::fs::fstat(fd).map(|stat| stat_fields(&stat)),
            Self::Statx { flags, mask } => {
                let mask = StatxFlags::from_bits_retain(mask);
                let stat = rustix::fs::statx(fd, "", AtFlags::from_bits_retain(flags), mask);
                stat.map(|stat| statx_fields(&stat, mask))
            }
            Self::Send { offset, len } => anywhere(fd, || send(side, fd, offset, len)),
            Self::Splice { offset, len } => anywhere(fd, || splice(side, fd, offset, len)),
            Self::CopyOut { len } => {
                let copied = rustix::fs::copy_file_range(fd, None, &side.sink, None, len);
                gives("copied", copied)
            }
            Self::Advise { offset, len, advice } => {
                let len = NonZeroU64::new(len);
                done(rustix::fs::fadvise(fd, offset.cast_unsigned(), len, advice))
            }
            Self::ReadAhead { offset, len } => number(sys::read_ahead(fd, offset, len)),
            _ => self.run_beside(side, fd),
        }
    }

    fn run_beside(&self, side: &Side, fd: BorrowedFd<'_>) -> Answer {
        match *self {
            Self::Sync(Sync::File) => done(rustix::fs::fsync(fd)),
            Self::Sync(Sync::Content) => done(rustix::fs::fdatasync(fd)),
            Self::Sync(Sync::Everything) => done(rustix::fs::syncfs(fd)),
            Self::Lock(operation) => done(rustix::fs::flock(fd, operation)),
            Self::LockRange { command, kind, range } => number(sys::lock(fd, command, kind, range)),
            Self::Lease { command, kind } => number(sys::lease(fd, command, kind)),
            Self::SetFlags(flags) => {
                done(fcntl_setfl(fd, OFlags::from_bits_retain(flags)))?;
                gives("flags", fcntl_getfl(fd).map(|flags| flags.bits()))
            }
            Self::Ioctl(request) => number(sys::ioctl(fd, request)),
            Self::ListAttributes { room } => {
                list_fields(room, |room| rustix::fs::flistxattr(fd, room))
            }
            Self::Attribute { name, room } => {
                list_fields(room, |room| rustix::fs::fgetxattr(fd, name, room))
            }
            Self::Space => rustix::fs::fstatfs(fd).map(|space| space_fields(&space)),
            Self::Handle => number(sys::handle(fd, b"", libc::AT_EMPTY_PATH)),
            Self::Path => {
                let path = side.path_of(fd);
                Ok(path.map_or_else(Fields::default, |path| Fields::one("path", path)))
            }
            _ => gives("flags", fcntl_getfl(fd).map(|flags| flags.bits())),
        }
    }
}

/// Positions in directories have names of their own: they stand for entries.
fn seek(fd: BorrowedFd<'_>, offset: i64, whence: i32) -> Answer {
    let is_dir = rustix::fs::fstat(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let position = sys::seek(fd, offset, whence);
    match whence {
        _ if is_dir => Ok(Fields::one("position in a directory", position)),
        libc::SEEK_DATA => gives("data", position),
        libc::SEEK_HOLE => gives("hole", position),
        _ => gives("position", position),
    }
}

/// Reads; where `O_DIRECT` is in the way of this place or length, without it, and says so.
fn anywhere(fd: BorrowedFd<'_>, call: impl Fn() -> Answer) -> Answer {
    const NAME: &str = "direct from and to anywhere";
    let flags = fcntl_getfl(fd)?;
    let position = sys::seek(fd, 0, libc::SEEK_CUR);
    match call() {
        Err(Errno::INVAL) if flags.contains(OFlags::DIRECT) => {
            fcntl_setfl(fd, flags - OFlags::DIRECT)?;
            sys::seek(fd, position?, libc::SEEK_SET)?;
            let again = call();
            fcntl_setfl(fd, flags)?;
            again.map(|fields| fields.and(NAME, false))
        }
        answer => answer.map(|fields| fields.and(NAME, true)),
    }
}

/// What a read leaves in a room of this many bytes, which begins at a page as `O_DIRECT` wants it.
fn with_room(len: usize, read: impl FnOnce(&mut [u8]) -> Result<usize>) -> Answer {
    const PAGE: usize = 4_096;
    let mut room = vec![0xaa; len + PAGE];
    let start = room.as_ptr().align_offset(PAGE);
    let got = read(&mut room[start..start + len])?;
    room.copy_within(start..start + got, 0);
    room.truncate(got);
    Ok(Fields::one("bytes", room))
}

fn parts(fd: BorrowedFd<'_>, offset: i64, lens: [usize; 3], flags: u32) -> Answer {
    let mut rooms = lens.map(|len| vec![0xaa_u8; len]);
    let mut slices: Vec<IoSliceMut<'_>> = rooms.iter_mut().map(|r| IoSliceMut::new(r)).collect();
    let flags = ReadWriteFlags::from_bits_retain(flags);
    let got = preadv2(fd, &mut slices, offset.cast_unsigned(), flags)?;
    let mut bytes = rooms.concat();
    bytes.truncate(got);
    Ok(Fields::one("bytes", bytes))
}

/// Sends until there is no more, since one call may stop anywhere, and looks at what arrived.
fn send(side: &Side, fd: BorrowedFd<'_>, offset: Option<i64>, len: usize) -> Answer {
    let sink = side.sink.as_fd();
    rustix::fs::ftruncate(sink, 0).expect("memory");
    sys::seek(sink, 0, libc::SEEK_SET).expect("memory");
    let mut offset = offset.map(i64::cast_unsigned);
    let mut left = len;
    let sent = loop {
        match rustix::fs::sendfile(sink, fd, offset.as_mut(), left) {
            Ok(sent) if sent > 0 && sent < left => left -= sent,
            other => break other,
        }
    };
    sent?;
    let mut bytes = vec![0; len];
    let got = pread(sink, &mut bytes[..], 0)?;
    bytes.truncate(got);
    Ok(Fields::one("bytes", bytes).and("offset", offset.unwrap_or(0)))
}

/// The same through a pipe, as much as it takes.
fn splice(side: &Side, fd: BorrowedFd<'_>, offset: Option<i64>, len: usize) -> Answer {
    const MOST: usize = 16 * 4_096;
    let (reader, writer) = (side.pipe.0.as_fd(), side.pipe.1.as_fd());
    let mut offset = offset.map(i64::cast_unsigned);
    let mut left = len.min(MOST);
    let mut bytes = Vec::new();
    let mut room = vec![0; MOST];
    while left > 0 {
        let flags = rustix::pipe::SpliceFlags::NONBLOCK;
        if rustix::pipe::splice(fd, offset.as_mut(), writer, None, left, flags)? == 0 {
            break;
        }
        let got = read(reader, &mut room[..])?;
        bytes.extend_from_slice(&room[..got]);
        left = left.saturating_sub(got);
    }
    Ok(Fields::one("bytes", bytes).and("offset", offset.unwrap_or(0)))
}
