//! A store full of releases, on the disk that the build directory is on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dynfs::engine::{Caller, Engine, Unmounted};
use dynfs::host;
use dynfs::protocol::Edit;
use resolver::{Providers, Timestamp};
use store_fs::{Disk, Prefix, Store, TreeBuilder};
use tempfile::TempDir;

use crate::disk::ClockedDisk;
use crate::releases::{VERSIONS, release, spec, version};

/// A store, and room beside it; taken away at the end.
#[derive(Debug)]
pub(crate) struct Bed {
    directory: TempDir,
}

impl Bed {
    /// Packages with two releases each, the first one of each selected, as generation 1. Made by
    /// the store's own functions; only the syncing is done once instead of at each step.
    pub(crate) fn new(packages: usize) -> Self {
        let directory = TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR"));
        let bed = Self { directory: directory.expect("the build directory is ours") };
        let prefix = Prefix::new(&bed.mountpoint()).expect("an absolute path");
        let store = Store::create(ClockedDisk::unsynced(&bed.root()), &prefix);
        let store = Arc::new(store.expect("an empty directory"));
        let writer = store.writer().expect("nobody else is there");
        for number in 0..packages {
            for turn in 0..VERSIONS.len() {
                let release = release(number, turn, object(&store, number, turn));
                store.publish_release(&writer, &release).expect("new and whole");
            }
        }
        let engine = Engine::open(Arc::clone(&store), writer, Box::new(Unmounted), host::arch());
        let specs = (0..packages).map(|number| spec(number, 0)).collect();
        let edit = Edit::Apply { specs, providers: Providers::default() };
        engine.expect("all records are whole").edit(&edit, &caller()).expect("all are there");
        let top = fs::File::open(bed.root()).expect("it was made above");
        rustix::fs::syncfs(top).expect("a real file system");
        bed
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.directory.path().join("dyn")
    }

    /// A directory beside the store.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The newest generation's file.
    pub(crate) fn newest_record(&self) -> Vec<u8> {
        let path = self.generations().pop().expect("there is one");
        fs::read(path).expect("ours")
    }

    /// Removes all generations but the newest, so that each measurement begins alike.
    pub(crate) fn keep_newest(&self) {
        let mut paths = self.generations();
        paths.pop();
        for path in paths {
            fs::remove_file(path).expect("ours");
        }
    }

    fn generations(&self) -> Vec<PathBuf> {
        let listed = fs::read_dir(self.root().join("generations")).expect("the store's");
        let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect("ours").path()).collect();
        paths.sort_by_key(|path| number(path));
        paths
    }
}

/// Where the version of a package's selected release is written.
pub(crate) const VERSION_FILE: &str = "share/version";

fn object<D: Disk>(store: &Store<D>, number: usize, turn: usize) -> resolver::ObjectId {
    let content = content(number, turn);
    let addition = store.add().expect("it may be written");
    let blob = addition.bytes(content.as_bytes()).expect("a few bytes");
    let mut tree = TreeBuilder::new();
    let size = content.len() as u64;
    tree.file(VERSION_FILE.as_bytes(), blob, size, 1, false).expect("a good path");
    addition.finish(tree).expect("a small tree").id()
}

/// What that file holds.
pub(crate) fn content(number: usize, turn: usize) -> String {
    format!("{number} {}\n", version(turn))
}

/// Somebody without a name for the call.
pub(crate) fn caller() -> Caller {
    Caller { uid: host::uid(), request: None, again: false, at: Timestamp(1_700_000_000) }
}

fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.parse().ok()
}
