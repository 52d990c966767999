//! The same random tree on a plain directory and in the mount must give the same answers to the
//! same random system calls: contents, attributes, listings and errno.
//!
//! `DYNFS_TEST_SEED=<number>` replays a run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::rig::{Rig, write};

const TREES: u64 = 4;
const CALLS: u64 = 2_500;

/// Links and paths may lead up out of the tree; so far, both sides are still the same.
const INSIDE: &str = "w/w/w/w/w/w/w/w";

/// Whether an entry is executable by anybody decides its mode in an object.
const MODES: [u32; 3] = [0o644, 0o755, 0o744];

/// A small generator whose whole state is a printed number.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Names from a small alphabet, some of them not UTF-8, some as long as names may be.
    fn name(&mut self) -> OsString {
        let bytes: Vec<u8> = match self.below(12) {
            0 => vec![0xff, b'a' + u8::try_from(self.below(3)).expect("small")],
            1 => vec![b'n'; 255],
            2 => b"with space\nand line".to_vec(),
            _ => (0..=self.below(2)).map(|_| *self.pick(b"abc-.")).collect(),
        };
        match bytes.as_slice() {
            b"." | b".." => OsString::from("dots"),
            _ => OsString::from_vec(bytes),
        }
    }
}

/// Makes a random tree below `root` and returns every path in it, relative.
fn grow(random: &mut Random, root: &Path) -> Vec<PathBuf> {
    let mut directories = vec![PathBuf::new()];
    let mut paths = vec![PathBuf::new()];
    fs::create_dir_all(root).expect("ours");
    for _ in 0..60 {
        let path = random.pick(&directories).join(random.name());
        let real = root.join(&path);
        if fs::symlink_metadata(&real).is_ok() {
            continue;
        }
        match random.below(10) {
            0..3 => {
                fs::create_dir(&real).expect("ours");
                directories.push(path.clone());
            }
            3..6 => {
                let target = match random.below(4) {
                    0 => PathBuf::from("missing/target"),
                    1 => PathBuf::from(".."),
                    2 => PathBuf::from(random.name()),
                    _ => random.pick(&paths).clone(),
                };
                let target = if target.as_os_str().is_empty() { ".".into() } else { target };
                symlink(target, &real).expect("ours");
            }
            _ => {
                let sizes = [0, 1, 4_095, 4_096, 65_535, 65_536, 65_537, 200_000];
                let len = *random.pick(&sizes);
                let bytes: Vec<u8> = (0..len).map(|_| (random.next() & 0xff) as u8).collect();
                write(&real, &bytes, *random.pick(&MODES));
                let seconds = 1_000_000_000 + random.below(500_000_000) as u64;
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
                File::options().append(true).open(&real).expect("ours").set_modified(time).ok();
            }
        }
        paths.push(path);
    }
    paths
}

/// A path that exists, or one that does not, or one that leads through something else.
fn some_path(random: &mut Random, paths: &[PathBuf]) -> PathBuf {
    let path = random.pick(paths).clone();
    match random.below(8) {
        0 => path.join(random.name()),
        1 => path.join("x".repeat(256)),
        2 => path.join(".."),
        3 => path.join(random.name()).join(random.name()),
        _ => path,
    }
}

type Answer = Result<String, i32>;

fn answer<T>(result: io::Result<T>, show: impl FnOnce(T) -> String) -> Answer {
    result.map(show).map_err(|error| error.raw_os_error().unwrap_or(-1))
}

/// What an object keeps of a file's attributes.
fn attributes(data: &fs::Metadata) -> String {
    let kind = data.file_type();
    assert!(!kind.is_fifo() && !kind.is_socket(), "none was made");
    if kind.is_dir() {
        // Directory times are constant and sizes differ between file systems.
        return format!("dir nlink {}", data.nlink());
    }
    let executable = data.mode() & 0o111 != 0;
    if kind.is_symlink() {
        return format!("link size {}", data.size());
    }
    format!("file size {} mtime {} x {executable}", data.size(), data.mtime())
}

fn listing(path: &Path) -> io::Result<BTreeMap<OsString, &'static str>> {
    fs::read_dir(path)?
        .map(|entry| {
            let entry = entry?;
            let kind = entry.file_type()?;
            let kind = match (kind.is_dir(), kind.is_symlink()) {
                (true, _) => "dir",
                (_, true) => "link",
                _ => "file",
            };
            Ok((entry.file_name(), kind))
        })
        .collect()
}

/// Kinds of system calls.
const KINDS: u64 = 13;
/// The first kind of which `docs/SEMANTICS.md` names exceptions.
const EXCEPTIONS: u64 = 8;

/// One system call, the same on both sides.
fn ask(kind: u64, path: &Path, offset: u64, len: usize) -> Answer {
    match kind {
        0 => answer(fs::metadata(path), |data| attributes(&data)),
        1 => answer(fs::symlink_metadata(path), |data| attributes(&data)),
        2 => answer(fs::read_link(path), |target| format!("{target:?}")),
        3 => answer(listing(path), |names| format!("{names:?}")),
        4 => answer(fs::read(path), |bytes| format!("{:?}", bytes)),
        5 => {
            let mut bytes = vec![0; len];
            let read = File::open(path).and_then(|file| file.read_at(&mut bytes, offset));
            answer(read, |len| format!("{:?}", &bytes[..len]))
        }
        6 => {
            let flags = rustix::fs::OFlags::DIRECTORY.bits();
            let open = fs::OpenOptions::new()
                .read(true)
                .custom_flags(i32::try_from(flags).expect("a flag"))
                .open(path);
            answer(open, |_| "a directory".into())
        }
        7 => {
            let access = rustix::fs::access(path, rustix::fs::Access::EXEC_OK);
            answer(access.map_err(io::Error::from), |()| "executable".into())
        }
        _ => ask_beside(kind, path),
    }
}

/// What is beside names, attributes and bytes.
fn ask_beside(kind: u64, path: &Path) -> Answer {
    let mut space = [0_u8; 4096];
    let found = match kind {
        8 => rustix::fs::listxattr(path, &mut space),
        9 => rustix::fs::llistxattr(path, &mut space),
        10 => rustix::fs::getxattr(path, "user.dynfs", &mut space),
        11 => rustix::fs::lgetxattr(path, "user.dynfs", &mut space),
        _ => {
            let flags = File::open(path).and_then(|file| Ok(rustix::fs::ioctl_getflags(&file)?));
            return answer(flags, |_| "flags".into());
        }
    };
    answer(found.map_err(io::Error::from), |_| "attributes".into())
}

/// What the mount must answer where a plain directory gives this answer: the same, but for what it
/// knows nothing of. That an attribute is not there counts as knowing of it.
fn expected(kind: u64, path: &Path, plain: Answer) -> Answer {
    use rustix::io::Errno;
    let knows = match &plain {
        Ok(_) => true,
        Err(errno) => [Errno::NODATA, Errno::NOTTY].map(Errno::raw_os_error).contains(errno),
    };
    let is_link = || fs::symlink_metadata(path).is_ok_and(|data| data.is_symlink());
    match kind {
        ..EXCEPTIONS => plain,
        // The kernel itself knows that a link has no attributes of users.
        11 if is_link() => plain,
        12 if knows => Err(Errno::NOTTY.raw_os_error()),
        _ if knows => Err(Errno::NOTSUP.raw_os_error()),
        _ => plain,
    }
}

#[test]
fn the_same_answers_as_a_plain_directory() {
    let Some(rig) = Rig::mounted("the_same_answers_as_a_plain_directory") else { return };
    let seed = std::env::var("DYNFS_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or(0x9e37_79b9_7f4a_7c15);
    println!("DYNFS_TEST_SEED={seed}");
    let mut random = Random(seed | 1);
    let mut found = 0_u64;
    for tree in 0..TREES {
        let source = rig.scratch(&format!("tree-{tree}"));
        let plain = source.join(INSIDE);
        let paths = grow(&mut random, &plain);
        let version = format!("{tree}.0");
        let source = source.to_str().expect("UTF-8");
        rig.ok(["add", source, "--name", "tree", "--version", &version, "--category", "data"]);
        rig.ok(["select", &format!("tree@{version}")]);
        let mounted = rig.at("data/tree").join(INSIDE);
        for number in 0..CALLS {
            let path = some_path(&mut random, &paths);
            let (kind, offset) = (random.next() % KINDS, random.next() % 200_010);
            let len = 1 + random.below(70_000);
            let real = ask(kind, &plain.join(&path), offset, len);
            found += u64::from(real.is_ok());
            let expected = expected(kind, &plain.join(&path), real);
            let given = ask(kind, &mounted.join(&path), offset, len);
            assert!(
                expected == given,
                "call {number} ({}) of {}: {} instead of {}",
                kind,
                path.display(),
                brief(&given),
                brief(&expected)
            );
        }
    }
    assert!(found > TREES * CALLS / 4, "most calls found nothing: {found}");
}

fn brief(answer: &Answer) -> String {
    let text = format!("{answer:?}");
    text.chars().take(300).collect()
}
