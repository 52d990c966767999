//! A directory added to a real store on a real disk, through the public face only.

#![expect(clippy::unwrap_used, reason = "what fails in a test's preparation fails the test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use store_fs::{Node, OsDisk, Prefix, SimDisk, Store, StoreError};
use tools::directory::{Added, DirectoryError, DirectoryOptions, Progress, add};

struct Quiet;

impl Progress for Quiet {
    fn is_watched(&self) -> bool {
        false
    }
    fn total(&self, _files: u64, _bytes: u64) {}
    fn bytes(&self, _bytes: u64) {}
    fn file(&self) {}
}

fn store_in(temp: &Path, name: &str) -> Store<OsDisk> {
    let disk = OsDisk::create(&temp.join(name)).unwrap();
    Store::create(disk, &Prefix::new(Path::new("/dyn")).unwrap()).unwrap()
}

fn put(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Content of several verification groups, none of which is like another.
fn long_content() -> Vec<u8> {
    (0..300_000_u32).flat_map(|n| n.to_le_bytes()).collect()
}

fn source_in(temp: &Path) -> PathBuf {
    let source = temp.join("source");
    for dir in ["", "bin", "lib", "empty"] {
        fs::create_dir(source.join(dir)).unwrap();
        fs::set_permissions(source.join(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
    put(&source.join("bin/hello"), b"#!/bin/sh\necho hello\n", 0o755);
    symlink("hello", source.join("bin/hi")).unwrap();
    put(&source.join("lib/long"), &long_content(), 0o644);
    put(&source.join("lib/again"), &long_content(), 0o644);
    put(&source.join("lib/nothing"), b"", 0o644);
    source
}

fn add_to(store: &Store<OsDisk>, source: &Path) -> Result<Added, DirectoryError> {
    add(store, source, &DirectoryOptions::default(), &Quiet)
}

#[test]
fn what_was_added_is_in_the_store() {
    let temp = tempfile::tempdir().unwrap();
    let store = store_in(temp.path(), "store");
    let source = source_in(temp.path());
    let added = add_to(&store, &source).unwrap();
    let long = long_content();
    assert_eq!(added.files, 4);
    assert_eq!(added.bytes, 21 + 2 * long.len() as u64);
    assert_eq!(added.new_bytes, 21 + long.len() as u64, "equal content is stored once");
    let commands: Vec<_> = added.provides.commands.iter().map(ToString::to_string).collect();
    assert_eq!(commands, ["hello", "hi"]);
    assert_eq!((added.arch, added.build_ids.len(), added.dropped.len()), (None, 0, 0));

    let tree = store.object(&added.object.id()).unwrap();
    for (path, content) in
        [("bin/hello", &b"#!/bin/sh\necho hello\n"[..]), ("lib/long", &long), ("lib/nothing", b"")]
    {
        let row = tree.row(tree.find(path.as_bytes()).unwrap()).unwrap();
        let Node::File { blob, size, mtime, .. } = row.node else { panic!("{path} is a file") };
        assert_eq!((size, mtime), (content.len() as u64, 1_700_000_000), "{path}");
        let mut bytes = Vec::new();
        store.read(&blob, size, 0, content.len() + 1, &mut bytes).unwrap();
        assert!(bytes == content, "{path}");
    }
}

#[test]
fn the_same_again_is_the_same_object_and_adds_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let store = store_in(temp.path(), "store");
    let source = source_in(temp.path());
    let first = add_to(&store, &source).unwrap();
    let again = add_to(&store, &source).unwrap();
    assert_eq!(again.object.id(), first.object.id());
    assert_eq!((again.bytes, again.new_bytes), (first.bytes, 0));
    let elsewhere = add_to(&store_in(temp.path(), "other"), &source).unwrap();
    assert_eq!(elsewhere.object.id(), first.object.id());
}

/// Everything that progress was told.
#[derive(Default)]
struct Told {
    total: Mutex<(u64, u64)>,
    bytes: Mutex<Vec<u64>>,
    files: AtomicU64,
}

impl Progress for Told {
    fn is_watched(&self) -> bool {
        true
    }
    fn total(&self, files: u64, bytes: u64) {
        *self.total.lock().unwrap() = (files, bytes);
    }
    fn bytes(&self, bytes: u64) {
        self.bytes.lock().unwrap().push(bytes);
    }
    fn file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }
}

/// The total is known before, and reached exactly; a large file is told of piece by piece.
#[test]
fn progress_comes_to_the_total_and_stops_nowhere() {
    const LARGE: u64 = 20 * 1024 * 1024;
    let temp = tempfile::tempdir().unwrap();
    let store = store_in(temp.path(), "store");
    let source = source_in(temp.path());
    put(&source.join("lib/large"), b"", 0o644);
    let large = fs::File::options().write(true).open(source.join("lib/large")).unwrap();
    large.set_len(LARGE).unwrap();
    fs::hard_link(source.join("lib/large"), source.join("lib/large-too")).unwrap();
    // The first time it is copied, then it is there; a dry run reads it once.
    for (dry_run, pieces) in [(true, 20), (false, 40), (false, 20)] {
        let options = DirectoryOptions { dry_run, ..DirectoryOptions::default() };
        let told = Told::default();
        let added = add(&store, &source, &options, &told).unwrap();
        let (files, bytes) = told.total.into_inner().unwrap();
        assert_eq!((files, told.files.into_inner()), (added.files - 1, added.files - 1));
        assert_eq!(bytes, added.bytes - LARGE, "a file of two names is read once");
        let parts = told.bytes.into_inner().unwrap();
        assert_eq!(parts.iter().sum::<u64>(), bytes);
        assert!(parts.len() >= pieces, "{} parts", parts.len());
    }
}

/// A dry run says what an addition says, on a disk that it does not change.
#[test]
fn a_dry_run_answers_the_same_and_writes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let source = source_in(temp.path());
    let store =
        Store::create(SimDisk::default(), &Prefix::new(Path::new("/dyn")).unwrap()).unwrap();
    let add = |dry_run| {
        let options = DirectoryOptions { dry_run, ..DirectoryOptions::default() };
        add(&store, &source, &options, &Quiet).unwrap()
    };
    let facts = |added: &Added| {
        let Added { object, files, bytes, new_bytes, provides, .. } = added;
        (object.id(), *files, *bytes, *new_bytes, provides.clone())
    };
    // Whatever would write fails.
    let dry = || {
        store.disk().set_read_only(true);
        let added = add(true);
        store.disk().set_read_only(false);
        facts(&added)
    };
    let before = dry();
    assert_eq!(before, facts(&add(false)));
    assert!(before.3 > 0);
    assert_eq!(dry(), facts(&add(false)));
    assert_eq!(dry().3, 0, "nothing of it would be new");
}

#[test]
fn what_is_refused_leaves_no_object() {
    let temp = tempfile::tempdir().unwrap();
    let source = source_in(temp.path());
    put(&source.join("lib/secret"), b"key", 0o600);
    let options = DirectoryOptions { public: true, ..DirectoryOptions::default() };
    let object =
        add(&store_in(temp.path(), "other"), &source, &options, &Quiet).unwrap().object.id();

    let store = store_in(temp.path(), "store");
    let error = add_to(&store, &source).unwrap_err();
    let secret = source.join("lib/secret");
    let expected = format!("{} cannot be read by others (mode 0600)", secret.display());
    assert_eq!(error.to_string(), expected);
    assert!(matches!(store.object(&object), Err(StoreError::NoObject { .. })));
}
