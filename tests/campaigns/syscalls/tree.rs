//! The tree that is looked at: whatever has a border, an end or an odd name. It is always the same
//! one, so a case can be played again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::harness::turn::Dice;

/// Around pages, chunk groups (65,536 bytes), and what is read ahead.
const SIZES: [u64; 31] = [
    0, 1, 7, 511, 512, 513, 4_095, 4_096, 4_097, 8_191, 8_192, 8_193, 12_345, 65_535, 65_536,
    65_537, 131_071, 131_072, 131_073, 196_608, 200_000, 262_143, 262_144, 262_145, 524_288,
    1_048_575, 1_048_576, 1_048_577, 2_097_151, 2_097_153, 3_000_000,
];
/// Of sources, not of what is shown. The last ones are those of private files.
const MODES: [u32; 8] = [0o644, 0o755, 0o744, 0o664, 0o4755, 0o444, 0o600, 0o700];
/// Seconds since 1970: also before it, and at the borders of 32 bits.
const TIMES: [i64; 8] =
    [-1, 0, 1, 2_147_483_647, 2_147_483_648, 4_294_967_296, 1_000_000_000, -2_000_000_000];
/// What is shown of directories and links.
const TIME_OF_OTHERS: i64 = 1;
/// Entries of the directories that have many.
const CROWDS: [usize; 2] = [300, 3_000];
/// More links than a path may lead through.
const CHAIN: usize = 45;

/// A directory of names that are as long as names may be. `mkfs.erofs` of Debian 12 cannot read
/// these, so the image has the directory without them.
pub(super) const LONGEST: &[u8] = b"longest";
const NAME_LEN_MAX: usize = 255;

/// What there is, by paths relative to its top.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Everything but the entries of crowds.
    pub(super) paths: Vec<Vec<u8>>,
    /// The entries of crowds.
    pub(super) crowd: Vec<Vec<u8>>,
    children: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Tree {
    /// Makes it below a directory that is not there yet.
    pub(super) fn grow(top: &Path) -> Self {
        fs::create_dir_all(top).expect("ours");
        let mut grower = Grower { top, tree: Self::default(), dice: Dice::new(0x5eed) };
        grower.tree.paths.push(Vec::new());
        grower.files();
        grower.names();
        grower.links();
        grower.depths();
        grower.crowds();
        grower.forest();
        let mut tree = grower.tree;
        for path in tree.paths.iter().chain(&tree.crowd).filter(|path| !path.is_empty()) {
            let cut = path.iter().rposition(|byte| *byte == b'/');
            let (parent, name) = path.split_at(cut.unwrap_or(0));
            let name = name.strip_prefix(b"/").unwrap_or(name);
            tree.children.entry(parent.to_vec()).or_default().push(name.to_vec());
        }
        tree
    }

    /// The names in a directory.
    pub(super) fn names_in(&self, directory: &[u8]) -> &[Vec<u8>] {
        self.children.get(directory).map_or(&[], Vec::as_slice)
    }
}

/// Whether a path leads to what an image has not, or to the directory where that is missing.
pub(super) fn beyond_an_image(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|name| name == LONGEST || name.len() == NAME_LEN_MAX)
}

struct Grower<'a> {
    top: &'a Path,
    tree: Tree,
    dice: Dice,
}

impl Grower<'_> {
    /// The real path of something new, which is remembered.
    fn sprout(&mut self, path: impl AsRef<[u8]>) -> PathBuf {
        let path = path.as_ref();
        self.tree.paths.push(path.to_vec());
        self.top.join(OsStr::from_bytes(path))
    }

    fn dir(&mut self, path: impl AsRef<[u8]>) {
        fs::create_dir(self.sprout(path)).expect("ours");
    }

    fn link(&mut self, target: impl AsRef<[u8]>, path: impl AsRef<[u8]>) {
        symlink(OsStr::from_bytes(target.as_ref()), self.sprout(path)).expect("ours");
    }

    fn file(&mut self, path: impl AsRef<[u8]>, len: u64, mode: u32) {
        let bytes: Vec<u8> = (0..len.div_ceil(8))
            .flat_map(|_| self.dice.bits().to_le_bytes())
            .take(usize::try_from(len).expect("small"))
            .collect();
        let path = self.sprout(path);
        fs::write(&path, bytes).expect("ours");
        finish(&path, mode, *self.dice.pick(&TIMES));
    }

    fn files(&mut self) {
        self.dir("sizes");
        for (number, len) in SIZES.into_iter().enumerate() {
            self.file(format!("sizes/{len}"), len, MODES[number % MODES.len()]);
        }
        self.dir("modes");
        for mode in MODES {
            self.file(format!("modes/{mode:o}"), 5_000, mode);
        }
        self.dir("holes");
        for (name, len, written) in [
            ("all", 2_097_152, &[][..]),
            ("front", 1_048_576 + 10, &[1_048_576]),
            ("middle", 300_000, &[0, 200_000]),
            ("end", 700_001, &[0, 4_096]),
            ("many", 1_000_000, &[65_536, 131_072, 400_000, 655_360]),
        ] {
            let path = self.sprout(format!("holes/{name}"));
            let file = File::create(&path).expect("ours");
            file.set_len(len).expect("ours");
            for offset in written {
                file.write_all_at(b"not a hole", *offset).expect("ours");
            }
            finish(&path, 0o644, *self.dice.pick(&TIMES));
        }
    }

    fn names(&mut self) {
        self.dir("names");
        let long = [b'n'; 254];
        let odd: [&[u8]; 14] = [
            b"\xff\xfe",
            b"a\x80b",
            b"with space",
            b"line\nbreak",
            b"tab\t",
            b"-rf",
            b"...",
            b"..a",
            b"back\\slash",
            b"quote'\"",
            b"*?[",
            b"\x01\x7f",
            b"\xc3\xa9",
            &long,
        ];
        for (number, name) in odd.into_iter().enumerate() {
            let path = [b"names/".as_slice(), name].concat();
            match number % 3 {
                0 => self.file(&path, 100 + number as u64, 0o644),
                1 => self.dir(&path),
                _ => self.link("../sizes/4097", &path),
            }
        }
        self.dir(LONGEST);
        let longest = |letter: u8| [LONGEST, b"/", &[letter; NAME_LEN_MAX]].concat();
        self.file(longest(b'f'), 4_097, 0o755);
        self.link("../sizes/1", longest(b'l'));
    }

    fn links(&mut self) {
        self.dir("links");
        let long = [b"../sizes/".repeat(400), b"../sizes/1".to_vec()].concat();
        let longest = [b"./".repeat(2_045), b"short".to_vec()].concat();
        for (name, target) in [
            ("file", b"../sizes/65537".as_slice()),
            ("program", b"../modes/755"),
            ("dir", b"../names"),
            ("slash", b"../names/"),
            ("dot", b"."),
            ("up", b".."),
            ("upup", b"../.."),
            ("dangling", b"nothing/there"),
            ("absolute", b"/nonexistent-of-dynfs/file"),
            ("self", b"self"),
            ("there", b"back"),
            ("back", b"there"),
            ("through", b"file/x"),
            ("hole", b"../holes/many"),
            ("odd", b"../names/\xff\xfe"),
            ("short", b"file"),
            ("long", &long),
            ("longest", &longest),
        ] {
            self.link(target, format!("links/{name}"));
        }
        self.dir("chain");
        self.file("chain/0", 10, 0o755);
        for number in 1..=CHAIN {
            self.link((number - 1).to_string(), format!("chain/{number}"));
        }
    }

    fn depths(&mut self) {
        let mut path = b"deep".to_vec();
        for level in 0..60 {
            self.dir(&path);
            self.file([path.as_slice(), b"/f"].concat(), level, 0o755);
            path.extend_from_slice(b"/d");
        }
        let mut path = b"wide".to_vec();
        for level in 0..12_u8 {
            self.dir(&path);
            path.push(b'/');
            path.extend_from_slice(&[b'a' + level; 254]);
        }
    }

    fn crowds(&mut self) {
        self.dir("empty");
        self.dir("one");
        self.file("one/only", 1, 0o644);
        for many in CROWDS {
            let name = format!("many-{many}");
            self.dir(&name);
            for number in 0..many {
                let path = format!("{name}/entry-{number:0width$}", width = number % 40);
                let real = self.top.join(&path);
                match number % 11 {
                    0 => fs::create_dir(&real).expect("ours"),
                    1 => symlink(format!("entry-{number}"), &real).expect("ours"),
                    _ => {
                        fs::write(&real, number.to_string()).expect("ours");
                        finish(&real, 0o644, TIMES[number % TIMES.len()]);
                    }
                }
                self.tree.crowd.push(path.into_bytes());
            }
        }
    }

    /// A small random tree of names that often are the same.
    fn forest(&mut self) {
        self.dir("forest");
        let mut directories = vec![b"forest".to_vec()];
        for _ in 0..120 {
            let name = [*self.dice.pick(b"abc-"), *self.dice.pick(b"abc-")];
            let path = [self.dice.pick(&directories).as_slice(), b"/", &name].concat();
            if fs::symlink_metadata(self.top.join(OsStr::from_bytes(&path))).is_ok() {
                continue;
            }
            match self.dice.roll(3) {
                0 => {
                    self.dir(&path);
                    directories.push(path);
                }
                1 => {
                    let target = *self.dice.pick(&[b"..".as_slice(), b"aa", b"bb/cc", b"../ab"]);
                    self.link(target, &path);
                }
                _ => {
                    let (len, mode) = (*self.dice.pick(&SIZES[..20]), *self.dice.pick(&MODES));
                    self.file(&path, len, mode);
                }
            }
        }
    }
}

/// Gives a file that was just written its mode and an old time, with a part of a second.
fn finish(path: &Path, mode: u32, seconds: i64) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    set_time(path, seconds, 123_456_789);
}

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("ours");
}

/// Gives a plain tree the attributes that an object has, as `docs/SEMANTICS.md` says.
pub(super) fn settle(path: &Path) {
    let found = fs::symlink_metadata(path).expect("ours");
    let permit = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    if found.is_dir() {
        for entry in fs::read_dir(path).expect("ours") {
            settle(&entry.expect("listed").path());
        }
        permit(0o555);
        set_time(path, TIME_OF_OTHERS, 0);
    } else if found.is_symlink() {
        set_time(path, TIME_OF_OTHERS, 0);
    } else {
        permit(if found.mode() & 0o111 == 0 { 0o444 } else { 0o555 });
        set_time(path, found.mtime(), 0);
    }
}

/// Makes a settled tree one that its owner can delete.
pub(super) fn unsettle(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).ok();
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            unsettle(&entry.path());
        }
    }
}
