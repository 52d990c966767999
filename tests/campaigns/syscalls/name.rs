//! Calls on paths that change nothing, and the fields of what they give.

use rustix::fs::{AtFlags, Mode, OFlags, Stat, StatFs, Statx, StatxFlags, openat};
use rustix::io::Result;

use super::answer::{Answer, Fields, gives};
use super::call::{Board, number};
use super::listing;
use super::side::{Place, Side};
use crate::sys;

/// What is asked of a path.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Stat { flags: u32 },
    Statx { flags: u32, mask: u32 },
    Access { mode: i32, flags: i32 },
    ReadLink { room: usize },
    ListAttributes { follow: bool, room: usize },
    Attribute { follow: bool, name: &'static str, room: usize },
    Space,
    Handle { flags: i32 },
    Content,
    List,
}

const STAT_FLAGS: [u32; 7] = [
    0,
    0,
    AtFlags::SYMLINK_NOFOLLOW.bits(),
    AtFlags::SYMLINK_NOFOLLOW.bits(),
    AtFlags::EMPTY_PATH.bits(),
    AtFlags::EMPTY_PATH.bits() | AtFlags::SYMLINK_NOFOLLOW.bits(),
    AtFlags::NO_AUTOMOUNT.bits(),
];

impl Ask {
    pub(super) fn roll(board: &mut Board<'_>) -> Self {
        let sealed = board.sealed;
        match board.dice.roll(40) {
            0..12 => {
                let odd = board.dice.roll(30) == 0;
                Self::Stat { flags: if odd { 0x8000 } else { *board.dice.pick(&STAT_FLAGS) } }
            }
            12..17 => Self::Statx {
                flags: *board.dice.pick(&STAT_FLAGS) | *board.dice.pick(&[0, 0, 0x2000, 0x4000]),
                mask: *board.dice.pick(&[0x7ff, 0xfff, 0x3fff, 0]),
            },
            17..23 => Self::Access {
                // What is not sealed can be written, as far as that goes.
                mode: *board.dice.pick(&[0, 1, 4, 5, 8, 2, 6, 7][..if sealed { 8 } else { 5 }]),
                flags: *board.dice.pick(&[0, 0, 0, 0x100, 0x200, 0x1000, 0x8000]),
            },
            23..29 => Self::ReadLink { room: *board.dice.pick(&[0, 1, 10, 4_095, 4_096, 5_000]) },
            29..31 => {
                let room = *board.dice.pick(&[0, 1, 4_096]);
                Self::ListAttributes { follow: board.dice.roll(2) == 0, room }
            }
            31..33 => Self::Attribute {
                follow: board.dice.roll(2) == 0,
                name: board.attribute(),
                room: *board.dice.pick(&[0, 1, 4_096]),
            },
            33 => Self::Space,
            34 => Self::Handle { flags: *board.dice.pick(&[0, 0x400, 0x1000, 0x8000]) },
            35..38 => Self::Content,
            _ => Self::List,
        }
    }

    pub(super) fn run(&self, side: &Side, place: &Place) -> Answer {
        match *self {
            Self::Stat { flags } => {
                let flags = AtFlags::from_bits_retain(flags);
                let stat = side.at(place, |dir, path| rustix::fs::statat(dir, path, flags));
                stat.map(|stat| stat_fields(&stat))
            }
            Self::Statx { flags, mask } => {
                let flags = AtFlags::from_bits_retain(flags);
                let mask = StatxFlags::from_bits_retain(mask);
                let stat = side.at(place, |dir, path| rustix::fs::statx(dir, path, flags, mask));
                stat.map(|stat| statx_fields(&stat, mask))
            }
            Self::Access { mode, flags } => {
                number(side.at(place, |dir, path| sys::access(dir, path, mode, flags)))
            }
            Self::ReadLink { room } => {
                let mut target = vec![0_u8; room];
                let len = side.at(place, |dir, path| {
                    rustix::fs::readlinkat_raw(dir, path, &mut target[..])
                })?;
                target.truncate(len);
                Ok(Fields::one("target", target))
            }
            Self::ListAttributes { follow, room } => list_fields(room, |room| {
                side.by_name(place, |path| match follow {
                    true => rustix::fs::listxattr(path, room),
                    false => rustix::fs::llistxattr(path, room),
                })
            }),
            Self::Attribute { follow, name, room } => list_fields(room, |room| {
                side.by_name(place, |path| match follow {
                    true => rustix::fs::getxattr(path, name, room),
                    false => rustix::fs::lgetxattr(path, name, room),
                })
            }),
            Self::Space => {
                let space = side.by_name(place, |path| rustix::fs::statfs(path));
                space.map(|space| space_fields(&space))
            }
            Self::Handle { flags } => {
                number(side.at(place, |dir, path| sys::handle(dir, path, flags)))
            }
            Self::Content => {
                let fd = side.at(place, |dir, path| open(dir, path, OFlags::empty()))?;
                gives("bytes", content(&fd))
            }
            Self::List => {
                let fd = side.at(place, |dir, path| open(dir, path, OFlags::DIRECTORY))?;
                listing::Ask::Whole { room: 32_768 }.run(rustix::fd::AsFd::as_fd(&fd))
            }
        }
    }
}

fn open(
    dir: rustix::fd::BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<rustix::fd::OwnedFd> {
    openat(dir, path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn content(fd: &rustix::fd::OwnedFd) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut room = vec![0; 300_000];
    loop {
        match rustix::io::read(fd, &mut room[..])? {
            0 => return Ok(bytes),
            got => bytes.extend_from_slice(&room[..got]),
        }
    }
}

/// What a call left in a room of this many bytes; no room at all asks how much is needed.
pub(super) fn list_fields(room: usize, call: impl FnOnce(&mut [u8]) -> Result<usize>) -> Answer {
    let mut bytes = vec![0_u8; room];
    let len = call(&mut bytes)?;
    if room == 0 {
        return Ok(Fields::one("needed", len));
    }
    bytes.truncate(len);
    Ok(Fields::one("list", bytes))
}

/// What `stat` says that does not depend on where the file system is.
pub(super) fn stat_fields(stat: &Stat) -> Fields {
    let fields = Fields::one("mode", stat.st_mode)
        .and("links", stat.st_nlink)
        .and("uid", stat.st_uid)
        .and("gid", stat.st_gid)
        .and("device", stat.st_rdev)
        .and("block", stat.st_blksize)
        .and("changed", stat.st_mtime)
        .and("changed nanos", stat.st_mtime_nsec)
        .and("ctime", stat.st_ctime)
        .and("atime", stat.st_atime)
        .and("numbered", stat.st_ino != 0);
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => fields.and("size of a directory", stat.st_size),
        _ => fields.and("size", stat.st_size).and("blocks", stat.st_blocks),
    }
}

/// The same of `statx`, as far as it was asked for.
pub(super) fn statx_fields(stat: &Statx, mask: StatxFlags) -> Fields {
    // Compressed, immutable, append-only, encrypted, a mount point, verity, direct access.
    const ATTRIBUTES: u64 = 0x30_2874;
    let asked = mask & StatxFlags::BASIC_STATS;
    let given = StatxFlags::from_bits_retain(stat.stx_mask) & asked;
    let kind = u32::from(stat.stx_mode) & libc::S_IFMT;
    let len = match kind {
        libc::S_IFDIR => "size of a directory",
        _ => "size",
    };
    let fields = Fields::one("kind", kind)
        .and("given", given.bits())
        .and("block", stat.stx_blksize)
        .and("attributes", stat.stx_attributes.bits() & ATTRIBUTES);
    let fields = [
        (StatxFlags::MODE, "mode", u64::from(stat.stx_mode)),
        (StatxFlags::NLINK, "links", u64::from(stat.stx_nlink)),
        (StatxFlags::UID, "uid", u64::from(stat.stx_uid)),
        (StatxFlags::GID, "gid", u64::from(stat.stx_gid)),
        (StatxFlags::MTIME, "changed", stat.stx_mtime.tv_sec.cast_unsigned()),
        (StatxFlags::MTIME, "changed nanos", u64::from(stat.stx_mtime.tv_nsec)),
        (StatxFlags::CTIME, "ctime", stat.stx_ctime.tv_sec.cast_unsigned()),
        (StatxFlags::ATIME, "atime", stat.stx_atime.tv_sec.cast_unsigned()),
        (StatxFlags::SIZE, len, stat.stx_size),
    ]
    .into_iter()
    .filter(|(flag, ..)| asked.contains(*flag))
    .fold(fields, |fields, (_, name, value)| fields.and(name, value));
    match asked.contains(StatxFlags::BLOCKS) && kind != libc::S_IFDIR {
        true => fields.and("blocks", stat.stx_blocks),
        false => fields,
    }
}

/// What `statfs` says that does not depend on which file system it is.
pub(super) fn space_fields(space: &StatFs) -> Fields {
    Fields::one("block", space.f_bsize.cast_unsigned())
        .and("fragment", space.f_frsize.cast_unsigned())
        .and("longest name", space.f_namelen.cast_unsigned())
        .and("mounted", space.f_flags.cast_unsigned())
}
