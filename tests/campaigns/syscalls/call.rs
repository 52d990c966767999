//! A system call with its arguments, made from dice and from what the case has open, and carried
//! out on one side.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};

use super::answer::{Answer, Fields, Value, done, gives};
use super::side::{Place, SLOTS, Side, Start};
use super::tree::{Tree, beyond_an_image};
use super::{change, descriptor, listing, mapping, name, watch};
use crate::harness::turn::Dice;

/// A system call.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Open { place: Place, flags: u32, mode: u32, how: Option<ResolveFlags>, slot: usize },
    Close { slot: usize },
    Dup { from: usize, slot: usize },
    Go { place: Place },
    GoTo { slot: usize },
    Descriptor { slot: usize, ask: descriptor::Ask },
    List { slot: usize, ask: listing::Ask },
    Map { slot: usize, ask: mapping::Ask },
    Name { place: Place, ask: name::Ask },
    Watch(watch::Ask),
    Change(change::Ask),
}

/// What the case has in a slot, on all sides.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// From the top; `None` when it leads elsewhere.
    path: Option<Vec<u8>>,
    is_dir: bool,
    len: i64,
}

/// What the calls of a case are made from.
#[derive(Debug)]
pub(super) struct Board<'a> {
    pub(super) tree: &'a Tree,
    pub(super) dice: Dice,
    held: [Option<Held>; SLOTS],
    /// The working directory, from the top.
    here: Vec<u8>,
    /// Whether all sides are mounted read-only, so that calls may try to change them.
    pub(super) sealed: bool,
}

const ACCESS: [OFlags; 3] = [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR];
const FLAGS: [OFlags; 13] = [
    OFlags::CREATE,
    OFlags::EXCL,
    OFlags::TRUNC,
    OFlags::APPEND,
    OFlags::DIRECTORY,
    OFlags::DIRECTORY,
    OFlags::NOFOLLOW,
    OFlags::PATH,
    OFlags::TMPFILE,
    OFlags::DIRECT,
    OFlags::NOATIME,
    OFlags::NONBLOCK,
    OFlags::SYNC,
];
/// For `openat2`. Not `CACHED`, whose answer is what happens to be cached.
const RESOLVE: [ResolveFlags; 6] = [
    ResolveFlags::empty(),
    ResolveFlags::NO_XDEV,
    ResolveFlags::NO_MAGICLINKS,
    ResolveFlags::NO_SYMLINKS,
    ResolveFlags::BENEATH,
    ResolveFlags::IN_ROOT,
];
/// Borders of sizes and offsets.
const BORDERS: [i64; 16] = [
    0,
    1,
    511,
    512,
    4_095,
    4_096,
    4_097,
    65_535,
    65_536,
    65_537,
    131_072,
    200_000,
    1_048_576,
    1 << 32,
    i64::MAX,
    -1,
];
const LENGTHS: [usize; 12] =
    [0, 1, 7, 512, 4_096, 4_097, 8_192, 65_536, 65_537, 131_072, 200_000, 1_100_000];

/// Attributes that are asked for: of every namespace, of none, and with a name that is too long.
const ATTRIBUTES: [&str; 8] = [
    "user.dynfs",
    "security.capability",
    "security.selinux",
    "trusted.dynfs",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "nowhere.dynfs",
    "user.",
];

impl<'a> Board<'a> {
    pub(super) fn new(tree: &'a Tree, dice: Dice, sealed: bool) -> Self {
        Self { tree, dice, held: Default::default(), here: Vec::new(), sealed }
    }

    /// The next call.
    pub(super) fn next(&mut self) -> Call {
        let open = self.held.iter().flatten().count();
        match self.dice.roll(100) {
            _ if open < 3 => self.open(),
            0..12 => self.open(),
            12..14 => Call::Close { slot: self.slot() },
            14..16 => Call::Dup { from: self.slot(), slot: self.dice.index(SLOTS) },
            16..18 => Call::Go { place: self.place() },
            18..19 => Call::GoTo { slot: self.slot() },
            19..50 => Call::Descriptor { slot: self.slot(), ask: descriptor::Ask::roll(self) },
            50..53 => Call::List { slot: self.slot_of_dir(), ask: listing::Ask::roll(self) },
            53..58 => Call::Map { slot: self.slot(), ask: mapping::Ask::roll(self) },
            58..80 => Call::Name { place: self.place(), ask: name::Ask::roll(self) },
            80..84 => Call::Watch(watch::Ask::roll(self)),
            _ => Call::Change(change::Ask::roll(self)),
        }
    }

    fn open(&mut self) -> Call {
        let kinds = if self.dice.roll(4) == 0 { ACCESS.len() } else { 1 };
        let mut flags = *self.dice.pick(&ACCESS[..kinds]);
        for _ in 0..*self.dice.pick(&[0, 0, 0, 1, 1, 2, 3]) {
            flags |= *self.dice.pick(&FLAGS);
        }
        if !self.sealed {
            flags &= OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::DIRECT;
        }
        let mode = *self.dice.pick(&[0, 0o644, 0o7777, 0o400]);
        let mut how = *self.dice.pick(&RESOLVE) | *self.dice.pick(&RESOLVE);
        if !self.sealed {
            // Nothing is mounted at the plain directory.
            how.remove(ResolveFlags::NO_XDEV);
        }
        let how = (self.dice.roll(6) == 0).then_some(how);
        let (place, slot) = (self.place(), self.dice.index(SLOTS));
        Call::Open { place, flags: (flags | OFlags::CLOEXEC).bits(), mode, how, slot }
    }

    /// A slot, nearly always of something that is open.
    pub(super) fn slot(&mut self) -> usize {
        self.slot_where(|_| true)
    }

    fn slot_of_dir(&mut self) -> usize {
        self.slot_where(|held| held.is_dir)
    }

    fn slot_where(&mut self, wanted: impl Fn(&Held) -> bool) -> usize {
        let first = self.dice.index(SLOTS);
        if self.dice.roll(50) == 0 {
            return first;
        }
        let mut slots = (0..SLOTS).map(|step| (first + step) % SLOTS);
        slots.find(|slot| self.held[*slot].as_ref().is_some_and(&wanted)).unwrap_or(first)
    }

    /// A number of bytes.
    pub(super) fn len(&mut self) -> usize {
        match self.dice.roll(3) {
            0 => self.dice.index(10_000),
            _ => *self.dice.pick(&LENGTHS),
        }
    }

    /// An offset, often around an end or another border.
    pub(super) fn offset(&mut self) -> i64 {
        let near = i64::try_from(self.dice.roll(3)).expect("small") - 1;
        let offset = match self.dice.roll(4) {
            0 => i64::try_from(self.dice.roll(300_000)).expect("small"),
            1 => i64::try_from(self.dice.roll(50)).expect("small") * 4_096,
            2 => {
                let slot = self.slot();
                self.held[slot].as_ref().map_or(0, |held| held.len).wrapping_add(near)
            }
            _ => self.dice.pick(&BORDERS).wrapping_add(near),
        };
        // Without an image, nobody knows how long a file of that file system may be.
        if self.sealed { offset } else { offset.min(1 << 33) }
    }

    /// The same, or none: from where the descriptor is.
    pub(super) fn some_offset(&mut self) -> Option<i64> {
        (self.dice.roll(2) == 0).then(|| self.offset())
    }

    /// A path that is there, or one that is not, or one that leads through something else.
    pub(super) fn place(&mut self) -> Place {
        let start = match self.dice.roll(10) {
            0..4 => Start::Top,
            4..6 => Start::Root,
            6..8 => Start::Here,
            _ => Start::Slot(self.slot_of_dir()),
        };
        let from = match start {
            Start::Top | Start::Root => None,
            Start::Here => Some(self.here.clone()),
            Start::Slot(slot) => self.held[slot].as_ref().and_then(|held| held.path.clone()),
        };
        let path = match from {
            Some(from) if !from.is_empty() => self.walk(from),
            _ => match self.dice.roll(8) {
                0 => self.dice.pick(&self.tree.crowd).clone(),
                _ => self.dice.pick(&self.tree.paths).clone(),
            },
        };
        let mut path = self.decorate(path);
        // Nothing begins at the root of the machine: what is there is none of ours.
        path.drain(..path.iter().take_while(|byte| **byte == b'/').count());
        Place { start, path }
    }

    /// Some steps down from a directory, relative to it.
    fn walk(&mut self, from: Vec<u8>) -> Vec<u8> {
        let (mut at, skipped) = (from.clone(), from.len() + 1);
        for _ in 0..=self.dice.roll(3) {
            let names = self.tree.names_in(&at);
            if names.is_empty() {
                break;
            }
            let name = self.dice.pick(names).clone();
            at.push(b'/');
            at.extend_from_slice(&name);
        }
        at.split_off(skipped.min(at.len()))
    }

    fn decorate(&mut self, path: Vec<u8>) -> Vec<u8> {
        let missing = self.name();
        let join = |rest: &[u8]| [path.as_slice(), b"/", rest].concat();
        let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        match self.dice.roll(32) {
            0 | 1 => [path.as_slice(), b"/"].concat(),
            2 => join(b"."),
            3 => join(b".."),
            4 | 5 => join(&missing),
            6 => join(&[b'x'; 256]),
            7 => {
                let twice = |byte: &u8| [*byte].repeat(1 + usize::from(*byte == b'/'));
                path.iter().flat_map(twice).collect()
            }
            8 => [b"./", path.as_slice()].concat(),
            9 => join(&[b"../", base.as_slice()].concat()),
            10 => {
                let long = 4_090 + self.dice.index(10);
                let steps = long.saturating_sub(path.len()) / 2;
                [b"./".repeat(steps).as_slice(), &path].concat()
            }
            11 => Vec::new(),
            12 => b".".to_vec(),
            13 => missing,
            14 => [path.as_slice(), b"x"].concat(),
            _ => path,
        }
    }

    /// The name of an extended attribute.
    pub(super) fn attribute(&mut self) -> &'static str {
        ATTRIBUTES[self.dice.index(ATTRIBUTES.len())]
    }

    /// A name that is nowhere.
    pub(super) fn name(&mut self) -> Vec<u8> {
        let length = 1 + self.dice.index(20);
        [b"no-".as_slice(), &vec![b'a' + (self.dice.roll(26) & 0xff) as u8; length]].concat()
    }

    /// Takes what all sides agree on into account. Answers whether the sides must be made equal
    /// with [`level`].
    pub(super) fn learn(&mut self, call: &Call, answer: Option<&Answer>) -> bool {
        match (call, answer) {
            (Call::Open { slot, .. }, Some(Ok(fields))) => {
                let path = match fields.get("path") {
                    Some(Value::Bytes(path)) => Some(path.clone()),
                    _ => None,
                };
                let kind = fields.number("kind").unwrap_or_default() as u32;
                let is_dir = kind == libc::S_IFDIR;
                let len = if is_dir { 0 } else { fields.number("size").unwrap_or_default() };
                // What is above the top differs, and nothing must go on from there.
                let kept = !is_dir || path.is_some();
                self.held[*slot] = kept.then_some(Held { path, is_dir, len });
                !kept
            }
            (Call::Open { slot, .. }, Some(Err(_))) => {
                self.held[*slot] = None;
                false
            }
            (Call::Open { slot, .. } | Call::Dup { slot, .. }, None) => {
                self.held[*slot] = None;
                true
            }
            (Call::Dup { from, slot }, Some(_)) => {
                self.held[*slot] = self.held[*from].clone();
                false
            }
            (Call::Close { slot }, _) => {
                self.held[*slot] = None;
                false
            }
            (Call::Go { .. } | Call::GoTo { .. }, Some(Err(_))) => false,
            (Call::Go { .. } | Call::GoTo { .. }, Some(Ok(fields))) => {
                let path = match fields.get("path") {
                    Some(Value::Bytes(path)) => Some(path.clone()),
                    _ => None,
                };
                let outside = path.is_none();
                self.here = path.unwrap_or_default();
                outside
            }
            (Call::Go { .. } | Call::GoTo { .. }, None) => {
                self.here = Vec::new();
                true
            }
            (Call::Descriptor { .. }, None) | (Call::List { .. }, _) => true,
            (Call::Descriptor { slot, .. }, _) => {
                self.held[*slot].as_ref().is_some_and(|held| held.is_dir)
            }
            _ => false,
        }
    }
}

impl Call {
    /// As it is counted.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open, close, dup",
            Self::Close { .. } | Self::Dup { .. } => "open, close, dup",
            Self::Go { .. } | Self::GoTo { .. } => "chdir",
            Self::Descriptor { .. } => "on descriptors",
            Self::List { .. } => "listings",
            Self::Map { .. } => "mappings",
            Self::Name { .. } => "on paths",
            Self::Watch(_) => "inotify",
            Self::Change(_) => "changes",
        }
    }

    /// Whether it would change a tree that is not mounted read-only.
    pub(super) fn changes(&self) -> bool {
        matches!(self, Self::Change(_))
    }

    /// Whether it names something that no image has.
    pub(super) fn is_beyond_an_image(&self) -> bool {
        let places: Vec<&Place> = match self {
            Self::Open { place, .. } | Self::Go { place } | Self::Name { place, .. } => vec![place],
            Self::Change(ask) => ask.places(),
            _ => Vec::new(),
        };
        places.into_iter().any(|place| beyond_an_image(&place.path))
    }

    /// Carries it out on one side.
    pub(super) fn run(&self, side: &mut Side) -> Answer {
        match self {
            Self::Open { place, flags, mode, how, slot } => {
                let flags = OFlags::from_bits_retain(*flags);
                let mode = Mode::from_bits_retain(*mode);
                side.put(*slot, None);
                let fd = side.at(place, |dir, path| match *how {
                    Some(how) => openat2(dir, path, flags, mode, how),
                    None => openat(dir, path, flags, mode),
                })?;
                side.put(*slot, Some(fd));
                opened(side, *slot)
            }
            Self::Close { slot } => {
                let open = side.slot(*slot).map(drop);
                side.put(*slot, None);
                done(open)
            }
            Self::Dup { from, slot } => {
                let copy = side.slot(*from).and_then(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0));
                let answer = copy.as_ref().map(|_| Fields::default()).map_err(|errno| *errno);
                side.put(*slot, copy.ok());
                answer
            }
            Self::Go { place } => {
                let place = place.clone();
                let went =
                    side.go(|side| side.by_name(&place, |path| rustix::process::chdir(path)));
                went.map(at_path)
            }
            Self::GoTo { slot } => {
                let went = side.go(|side| rustix::process::fchdir(side.slot(*slot)?));
                went.map(at_path)
            }
            Self::Descriptor { slot, ask } => ask.run(side, *slot),
            Self::List { slot, ask } => ask.run(side.slot(*slot)?),
            Self::Map { slot, ask } => ask.run(side.slot(*slot)?),
            Self::Name { place, ask } => ask.run(side, place),
            Self::Watch(ask) => ask.run(side),
            Self::Change(ask) => ask.run(side),
        }
    }
}

/// Makes a side equal to the others after a call on which they differ.
pub(super) fn level(call: &Call, side: &mut Side) {
    match call {
        Call::Open { slot, .. } | Call::Dup { slot, .. } => side.put(*slot, None),
        Call::Go { .. } | Call::GoTo { .. } => side.go_home(),
        Call::Descriptor { slot, .. } | Call::List { slot, .. } => {
            if let Ok(fd) = side.slot(*slot) {
                // A descriptor of a path alone has no position.
                crate::sys::seek(fd, 0, libc::SEEK_SET).ok();
            }
        }
        _ => {}
    }
}

fn opened(side: &Side, slot: usize) -> Answer {
    let fd = side.slot(slot)?;
    let stat = rustix::fs::fstat(fd)?;
    let (kind, flags) = (stat.st_mode & libc::S_IFMT, rustix::fs::fcntl_getfl(fd)?.bits());
    let fields = at_path(side.path_of(fd)).and("kind", kind).and("flags", flags);
    Ok(match kind {
        libc::S_IFDIR => fields,
        _ => fields.and("size", stat.st_size),
    })
}

fn at_path(path: Option<Vec<u8>>) -> Fields {
    match path {
        Some(path) => Fields::one("path", path),
        None => Fields::one("path", -1),
    }
}

/// A number as the answer.
pub(super) fn number(result: rustix::io::Result<i64>) -> Answer {
    gives("number", result)
}
