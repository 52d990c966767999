//! Real directories, read with a store that keeps only names: every rule of a source.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use resolver::BlobId;
use rustix::fs::{CWD, FileType, Mode};
use store_fs::{Node, Tree};

use super::mounts::Mounts;
use super::read::{Read, Reader};
use super::walk::{Found, walk, walk_beside};
use super::*;

/// A directory to be read; what is made in it has fixed modes, whatever the umask is.
struct Source {
    _temp: tempfile::TempDir,
    path: PathBuf,
}

impl Source {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("source");
        let source = Self { _temp: temp, path };
        source.dir("");
        source
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.path.clone() } else { self.path.join(path) }
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn dir(&self, path: &str) {
        fs::create_dir(self.at(path)).unwrap();
        self.mode(path, 0o755);
    }

    fn file(&self, path: &str, content: &[u8], mode: u32) {
        fs::write(self.at(path), content).unwrap();
        self.mode(path, mode);
        self.mtime(path, Duration::from_secs(1_700_000_000));
    }

    fn mtime(&self, path: &str, since_1970: Duration) {
        let time = SystemTime::UNIX_EPOCH + since_1970;
        fs::File::options().write(true).open(self.at(path)).unwrap().set_modified(time).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.at(path)).unwrap();
    }

    fn read(&self, options: &DirectoryOptions) -> Result<Found, DirectoryError> {
        self.read_with(options, &|_: &Path| {})
    }

    /// Reads, and does something while a file is at hand.
    fn read_with(
        &self,
        options: &DirectoryOptions,
        meanwhile: &(dyn Fn(&Path) + Sync),
    ) -> Result<Found, DirectoryError> {
        let keep = |file: &File, len: u64, path: &Path| {
            let blob = blob_of(file, len, path);
            meanwhile(path);
            blob
        };
        walk(&self.path, options, &Reader { source: &self.path, keep: &keep, progress: &Quiet })
    }

    fn tree(&self) -> Tree {
        tree(self.read(&DirectoryOptions::default()).unwrap())
    }

    fn refusal(&self) -> String {
        self.refusal_meanwhile(&|_: &Path| {})
    }

    fn refusal_meanwhile(&self, meanwhile: &(dyn Fn(&Path) + Sync)) -> String {
        let error = self.read_with(&DirectoryOptions::default(), meanwhile).unwrap_err();
        error.to_string().replace(self.path.to_str().unwrap(), "SOURCE")
    }
}

/// Something that happens to a file.
type Change = fn(&Path);

struct Quiet;

impl Progress for Quiet {
    fn is_watched(&self) -> bool {
        false
    }
    fn total(&self, _files: u64, _bytes: u64) {}
    fn bytes(&self, _bytes: u64) {}
    fn file(&self) {}
}

/// Like a store: the length must be the promised one.
fn blob_of(file: &File, len: u64, path: &Path) -> Result<BlobId, StoreError> {
    let mut bytes = vec![0; usize::try_from(len).unwrap() + 1];
    let read = file.read_at(&mut bytes, 0).unwrap();
    if read as u64 != len {
        let reason = "another length".to_owned();
        return Err(StoreError::Damaged { path: path.to_owned(), reason });
    }
    Ok(store_fs::digest::digest(&bytes[..read]).id)
}

fn tree(found: Found) -> Tree {
    let (id, bytes) = found.tree.encode().unwrap();
    Tree::decode(id, bytes).unwrap()
}

/// A tree as lines, for comparison.
fn lines(tree: &Tree) -> BTreeMap<String, String> {
    let line = |entry| {
        let path = String::from_utf8_lossy(&tree.path(entry).unwrap()).into_owned();
        let what = match tree.row(entry).unwrap().node {
            Node::Dir { .. } => "dir".to_owned(),
            Node::File { size, mtime, executable, .. } => {
                format!("file {size} {mtime}{}", if executable { " x" } else { "" })
            }
            Node::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
        };
        (path, what)
    };
    (2..=tree.rows()).map(line).collect()
}

fn expect(tree: &Tree, expected: &[(&str, &str)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(path, what)| ((*path).to_owned(), (*what).to_owned())).collect();
    assert_eq!(lines(tree), expected);
}

fn dropped(found: &Found) -> Vec<String> {
    found.dropped.iter().map(|line| format!("{}: {}", line.path.display(), line.what)).collect()
}

/// A small tree of everything that an object holds.
fn sample() -> Source {
    let source = Source::new();
    source.dir("bin");
    source.file("bin/xz", b"#!/bin/sh\n", 0o755);
    source.link("bin/unxz", "xz");
    source.dir("lib");
    source.file("lib/liblzma.so.5", b"not really", 0o644);
    source.dir("share");
    source.dir("share/empty");
    source.file("share/nothing", b"", 0o644);
    source
}

/// Same tree, same id, on every machine and in every version of this program.
#[test]
fn the_id_of_a_fixed_tree_is_pinned() {
    let id = sample().tree().id().to_string();
    assert_eq!(id, "9e71beece746b25ca4b18c90424c66b2d1d5ff1b1b0c9d3a42da4837348440bb");
}

#[test]
fn all_kinds_come_through() {
    expect(
        &sample().tree(),
        &[
            ("bin", "dir"),
            ("bin/unxz", "-> xz"),
            ("bin/xz", "file 10 1700000000 x"),
            ("lib", "dir"),
            ("lib/liblzma.so.5", "file 10 1700000000"),
            ("share", "dir"),
            ("share/empty", "dir"),
            ("share/nothing", "file 0 1700000000"),
        ],
    );
}

#[test]
fn neither_order_nor_modes_nor_directory_times_make_another_object() {
    let other = Source::new();
    other.dir("share");
    other.file("share/nothing", b"", 0o604);
    other.dir("lib");
    other.dir("share/empty");
    other.dir("bin");
    other.link("bin/unxz", "xz");
    other.file("bin/xz", b"#!/bin/sh\n", 0o775);
    other.file("lib/liblzma.so.5", b"not really", 0o666);
    for (path, mode) in [("share", 0o777), ("bin", 0o705), ("lib", 0o1755), ("", 0o775)] {
        other.mode(path, mode);
    }
    assert_eq!(other.tree().id(), sample().tree().id());
    other.mode("bin/xz", 0o644);
    assert_ne!(other.tree().id(), sample().tree().id(), "the executable bit is part of it");
}

#[test]
fn any_bytes_in_names_and_targets() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let source = Source::new();
    let name = OsStr::from_bytes(b"a\n\xff\\ ");
    source.dir("d");
    fs::write(source.at("d").join(name), b"1").unwrap();
    fs::set_permissions(source.at("d").join(name), fs::Permissions::from_mode(0o644)).unwrap();
    symlink(name, source.at("l")).unwrap();
    let tree = source.tree();
    assert!(tree.find(b"d/a\n\xff\\ ").is_some());
    let row = tree.row(tree.find(b"l").unwrap()).unwrap();
    assert_eq!(row.node, Node::Symlink { target: name.as_bytes() });
}

#[test]
fn symlinks_are_never_followed() {
    let source = Source::new();
    let outside = Source::new();
    outside.file("secret", b"outside", 0o644);
    symlink(outside.at(""), source.at("dir")).unwrap();
    symlink(outside.at("secret"), source.at("file")).unwrap();
    source.link("loop", "loop");
    source.link("up", "..");
    let found = source.read(&DirectoryOptions::default()).unwrap();
    assert_eq!(found.files, 0);
    let tree = tree(found);
    let root = outside.path.to_str().unwrap();
    let (dir, file) = (format!("-> {root}"), format!("-> {root}/secret"));
    expect(&tree, &[("dir", &dir), ("file", &file), ("loop", "-> loop"), ("up", "-> ..")]);
}

#[test]
fn hard_links_are_read_once_and_stay_the_same_blob() {
    let source = Source::new();
    source.dir("a");
    source.dir("z");
    source.file("a/one", b"content", 0o644);
    for name in ["a/two", "z/three"] {
        fs::hard_link(source.at("a/one"), source.at(name)).unwrap();
    }
    let reads = AtomicU64::new(0);
    let count = |_: &Path| {
        reads.fetch_add(1, Ordering::Relaxed);
    };
    let found = source.read_with(&DirectoryOptions::default(), &count).unwrap();
    assert_eq!(reads.into_inner(), 1);
    assert_eq!((found.files, found.bytes), (3, 21));
    let tree = tree(found);
    let row = |path: &[u8]| tree.row(tree.find(path).unwrap()).unwrap().node;
    assert_eq!(row(b"a/one"), row(b"a/two"));
    assert_eq!(row(b"a/one"), row(b"z/three"));
}

#[test]
fn hard_links_far_apart_are_read_once() {
    let source = Source::new();
    source.file("0-first", b"content", 0o644);
    // More directories than are kept open: the second name comes in another batch.
    for n in 0..150 {
        source.dir(&format!("d{n:03}"));
    }
    fs::hard_link(source.at("0-first"), source.at("z-last")).unwrap();
    let reads = Mutex::new(Vec::new());
    let note = |path: &Path| reads.lock().unwrap().push(path.to_owned());
    let found = source.read_with(&DirectoryOptions::default(), &note).unwrap();
    assert_eq!(reads.into_inner().unwrap(), [source.at("0-first")]);
    assert_eq!(found.files, 2);
}

#[test]
fn sparse_files_have_all_their_zeros() {
    let source = Source::new();
    source.file("sparse", b"", 0o644);
    let file = fs::File::options().write(true).open(source.at("sparse")).unwrap();
    file.set_len(300_000).unwrap();
    file.write_all_at(b"x", 200_000).unwrap();
    let mut bytes = vec![0; 300_000];
    bytes[200_000] = b'x';
    let tree = source.tree();
    let Node::File { blob, size, .. } = tree.row(2).unwrap().node else { panic!("a file") };
    assert_eq!((blob, size), (store_fs::digest::digest(&bytes).id, 300_000));
}

#[test]
fn times_are_whole_seconds_and_clamped() {
    let source = Source::new();
    source.file("new", b"", 0o644);
    source.mtime("new", Duration::new(2_000_000_000, 999_999_999));
    source.file("old", b"", 0o644);
    source.mtime("old", Duration::from_secs(5));
    expect(&source.tree(), &[("new", "file 0 2000000000"), ("old", "file 0 5")]);
    let options = DirectoryOptions { epoch: Some(1_000), ..DirectoryOptions::default() };
    let clamped = tree(source.read(&options).unwrap());
    expect(&clamped, &[("new", "file 0 1000"), ("old", "file 0 5")]);
}

#[test]
fn fifos_and_sockets_are_refused_by_name() {
    let source = Source::new();
    source.dir("d");
    let path = source.at("d/pipe");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    assert_eq!(source.refusal(), "SOURCE/d/pipe is a fifo, which an object cannot hold");
    fs::remove_file(path).unwrap();
    let _listener = UnixListener::bind(source.at("d/s")).unwrap();
    assert_eq!(source.refusal(), "SOURCE/d/s is a socket, which an object cannot hold");
}

#[test]
fn what_others_cannot_read_is_refused_by_name_unless_public() {
    for (path, mode) in [("d/key", 0o600), ("d/key", 0o640), ("d", 0o750), ("", 0o700)] {
        let source = Source::new();
        source.dir("d");
        source.file("d/key", b"secret", 0o644);
        source.mode(path, mode);
        let at = if path.is_empty() { "SOURCE".to_owned() } else { format!("SOURCE/{path}") };
        let expected = format!("{at} cannot be read by others (mode {mode:04o})");
        assert_eq!(source.refusal(), expected);
        let options = DirectoryOptions { public: true, ..DirectoryOptions::default() };
        assert_eq!(source.read(&options).unwrap().files, 1);
    }
}

#[test]
fn what_we_cannot_read_is_an_error_that_names_it() {
    let source = Source::new();
    source.file("f", b"x", 0o644);
    source.mode("f", 0);
    let options = DirectoryOptions { public: true, ..DirectoryOptions::default() };
    let result = source.read(&options);
    if rustix::process::geteuid().is_root() {
        assert_eq!(result.unwrap().files, 1, "root reads everything");
    } else {
        let Err(DirectoryError::Io { action: "opening", path, .. }) = result else {
            panic!("an error of opening")
        };
        assert_eq!(path, source.at("f"));
    }
}

#[test]
fn a_source_that_is_missing_or_a_file_is_a_clear_error() {
    let source = Source::new();
    source.file("f", b"x", 0o644);
    for (name, kind) in
        [("f", std::io::ErrorKind::NotADirectory), ("none", std::io::ErrorKind::NotFound)]
    {
        let wrong = Source { _temp: tempfile::tempdir().unwrap(), path: source.at(name) };
        let error = wrong.read(&DirectoryOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("opening {}", wrong.path.display()));
        let DirectoryError::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), kind);
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let changes: [(&str, Change); 5] = [
        ("grows", |path| {
            fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
        }),
        ("shrinks", |path| {
            fs::File::options().write(true).open(path).unwrap().set_len(1).unwrap();
        }),
        ("keeps its size, has another time", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }),
        ("gets another mode", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("gets another link", |path| {
            fs::hard_link(path, path.with_extension("link")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let source = Source::new();
        source.file("file", b"content", 0o644);
        let said = source.refusal_meanwhile(&change);
        assert_eq!(said, "SOURCE/file changed while it was read", "{what}");
    }
}

#[test]
fn a_file_that_shrinks_before_it_is_stored_has_changed() {
    let source = Source::new();
    source.file("file", b"content", 0o644);
    let keep = |file: &File, len: u64, path: &Path| {
        fs::File::options().write(true).open(path).unwrap().set_len(1).unwrap();
        blob_of(file, len, path)
    };
    let reader = Reader { source: &source.path, keep: &keep, progress: &Quiet };
    let error = walk(&source.path, &DirectoryOptions::default(), &reader).unwrap_err();
    assert!(matches!(error, DirectoryError::Changed { .. }), "{error}");
}

#[test]
fn a_directory_that_changes_while_its_content_is_read_is_refused() {
    let changes: [(&str, &str, Change); 5] = [
        ("a file appears", "SOURCE/d", |file| {
            fs::write(file.with_file_name("new"), b"").unwrap();
        }),
        ("a file goes", "SOURCE/d", |file| fs::remove_file(file.with_file_name("l")).unwrap()),
        ("a link is exchanged", "SOURCE/d", |file| {
            fs::remove_file(file.with_file_name("l")).unwrap();
            symlink("y", file.with_file_name("l")).unwrap();
        }),
        ("a directory appears", "SOURCE/d/sub", |file| {
            fs::create_dir(file.with_file_name("sub").join("new")).unwrap();
        }),
        ("the root changes", "SOURCE", |file| {
            fs::write(file.parent().unwrap().with_file_name("new"), b"").unwrap();
        }),
    ];
    for (what, path, change) in changes {
        let source = Source::new();
        source.dir("d");
        source.file("d/file", b"content", 0o644);
        source.link("d/l", "x");
        source.dir("d/sub");
        // A clock that stands still between making and changing would hide the exchange.
        let made = SystemTime::UNIX_EPOCH;
        fs::File::open(source.at("d")).unwrap().set_modified(made).unwrap();
        let said = source.refusal_meanwhile(&change);
        assert_eq!(said, format!("{path} changed while it was read"), "{what}");
    }
}

/// Whoever can write to the source cannot lead the reader out of it, nor make it wait.
#[test]
fn a_file_that_is_exchanged_before_it_is_opened_is_refused() {
    let exchanges: [(&str, Change); 4] = [
        ("nothing", |_| {}),
        ("a link to a secret", |path| symlink("/etc/hostname", path).unwrap()),
        ("a fifo", |path| {
            rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        }),
        ("a directory", |path| fs::create_dir(path).unwrap()),
    ];
    for (what, exchange) in exchanges {
        let source = Source::new();
        source.file("a", b"content", 0o644);
        let reader_keep = |file: &File, len: u64, path: &Path| blob_of(file, len, path);
        let reader = Reader { source: &source.path, keep: &reader_keep, progress: &Quiet };
        let job = walk::tests::job(&source.path, c"a");
        assert!(reader.read(&job).is_ok());
        fs::remove_file(source.at("a")).unwrap();
        exchange(&source.at("a"));
        let error = reader.read(&job).unwrap_err();
        assert!(matches!(error, DirectoryError::Changed { .. }), "{what}: {error}");
    }
}

#[test]
fn a_store_that_refuses_is_heard() {
    let source = Source::new();
    source.file("a", b"content", 0o644);
    let keep = |_: &File, _: u64, _: &Path| {
        Err(StoreError::Limit { what: "everything".to_owned(), limit: 0 })
    };
    let reader = Reader { source: &source.path, keep: &keep, progress: &Quiet };
    let error = walk(&source.path, &DirectoryOptions::default(), &reader).unwrap_err();
    assert_eq!(error.to_string(), "everything is over the limit of 0");
}

#[test]
fn a_source_inside_a_mount_of_ours_is_refused() {
    let source = sample();
    let keep = |file: &File, len: u64, path: &Path| blob_of(file, len, path);
    let reader = Reader { source: &source.path, keep: &keep, progress: &Quiet };
    let options = DirectoryOptions::default();
    let seen = entry::Seen::at(CWD, &path_text(&source.path)).unwrap();
    let (major, minor) = seen.device;
    let by_device = format!("1 0 {major}:{minor} / /elsewhere ro - fuse.dynfs s ro\n");
    let parent = source.path.parent().unwrap().display();
    let by_place = format!("1 0 0:4000000 / {parent} ro - fuse.dynfs s ro\n");
    for text in [by_device, by_place] {
        let mounts = Mounts::parse(text.as_bytes());
        let error = walk_beside(mounts, &source.path, &options, &reader).unwrap_err();
        let expected = format!("{} is inside a mount of dynfs", source.path.display());
        assert_eq!(error.to_string(), expected);
    }
    let other = Mounts::parse(b"1 0 0:4000000 / /elsewhere ro - fuse.dynfs s ro\n");
    assert_eq!(walk_beside(other, &source.path, &options, &reader).unwrap().files, 3);
}

fn path_text(path: &Path) -> std::ffi::CString {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap()
}

#[test]
fn special_bits_are_dropped_and_reported() {
    let source = Source::new();
    source.dir("d");
    source.file("d/su", b"x", 0o755);
    source.mode("d/su", 0o6755);
    source.mode("d", 0o1755);
    let found = source.read(&DirectoryOptions::default()).unwrap();
    assert_eq!(dropped(&found), ["d: sticky", "d/su: setuid", "d/su: setgid"]);
    expect(&tree(found), &[("d", "dir"), ("d/su", "file 1 1700000000 x")]);
}

#[test]
fn extended_attributes_are_dropped_and_reported_by_name() {
    let source = Source::new();
    source.file("f", b"x", 0o644);
    source.dir("d");
    let set = |path: &str, name: &str| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(source.at(path), name, b"1", flags)
    };
    let mut expected = Vec::new();
    for (path, name, line) in [
        ("", "user.root", ".: xattr user.root"),
        ("d", "user.dir", "d: xattr user.dir"),
        ("f", "user.file", "f: xattr user.file"),
    ] {
        match set(path, name) {
            Ok(()) => expected.push(line),
            // Then there is nothing to report, and the source must still be readable.
            Err(errno) => assert_eq!(errno, rustix::io::Errno::NOTSUP),
        }
    }
    assert_eq!(dropped(&source.read(&DirectoryOptions::default()).unwrap()), expected);
}

#[test]
fn big_and_deep_sources_are_read_whole() {
    let source = Source::new();
    source.dir("many");
    for n in 0..1100 {
        source.file(&format!("many/{n}"), n.to_string().as_bytes(), 0o644);
    }
    let mut deep = String::from("deep");
    for _ in 0..400 {
        source.dir(&deep);
        deep.push_str("/d");
    }
    source.file(&deep, b"bottom", 0o644);
    let found = source.read(&DirectoryOptions::default()).unwrap();
    assert_eq!(found.files, 1101);
    let tree = tree(found);
    assert_eq!(tree.rows(), 1 + 1 + 1100 + 400 + 1);
    for n in 0..1100 {
        let entry = tree.find(format!("many/{n}").as_bytes()).unwrap();
        let Node::File { blob, .. } = tree.row(entry).unwrap().node else { panic!("a file") };
        assert_eq!(blob, store_fs::digest::digest(n.to_string().as_bytes()).id, "{n}");
    }
    assert!(tree.find(deep.as_bytes()).is_some());
}

#[test]
fn elf_files_are_summed_up() {
    let source = Source::new();
    source.dir("lib");
    let one = crate::elf::tests::library("libone.so.1", &[], &[0x11; 20]);
    let two = crate::elf::tests::library("libtwo.so.2", &[], &[0x22; 20]);
    let mut foreign = crate::elf::tests::library("libarm.so.3", &[], &[0x22; 20]);
    foreign[18] = 183;
    source.file("lib/libone.so.1", &one, 0o644);
    source.file("lib/libtwo-2.so", &two, 0o644);
    source.file("lib/libarm.so.3", &foreign, 0o644);
    source.link("lib/libone.so", "libone.so.1");
    let found = source.read(&DirectoryOptions::default()).unwrap();
    assert_eq!(found.elf.arch().as_deref(), Some("amd64"));
    let ids: Vec<_> = found.elf.build_ids.iter().cloned().collect();
    assert_eq!(ids, ["11".repeat(20), "22".repeat(20)]);
    let sonames = found.elf.sonames.clone();
    let provides = provides::provides(&tree(found), &sonames);
    let lines: Vec<_> =
        provides.sonames.iter().map(|(soname, file)| format!("{soname} {file}")).collect();
    assert_eq!(
        lines,
        ["libarm.so.3 libarm.so.3", "libone.so.1 libone.so.1", "libtwo.so.2 libtwo-2.so"]
    );
}
