//! Disks to test on: one generic suite runs over all of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::{Disk, OsDisk, SimDisk};

/// Something that a test can lay a disk on, open again and damage.
pub(crate) trait Bed: Default {
    type Disk: Disk;

    /// The disk, as one more process sees it.
    fn disk(&self) -> Self::Disk;

    /// Changes a file behind the disk's back.
    fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>));
}

/// A temporary directory.
pub(crate) struct OsBed(TempDir);

impl Default for OsBed {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Bed for OsBed {
    type Disk = OsDisk;

    fn disk(&self) -> OsDisk {
        OsDisk::open(self.0.path()).unwrap()
    }

    fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.0.path().join(path);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
}

/// A temporary directory on a file system that can do nothing special.
#[derive(Default)]
pub(crate) struct PlainBed(OsBed);

impl Bed for PlainBed {
    type Disk = OsDisk;

    fn disk(&self) -> OsDisk {
        self.0.disk().plain()
    }

    fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        self.0.damage(path, change);
    }
}

/// A simulated disk.
#[derive(Default)]
pub(crate) struct SimBed(pub(crate) SimDisk);

impl Bed for SimBed {
    type Disk = SimDisk;

    fn disk(&self) -> SimDisk {
        self.0.clone()
    }

    fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.0.damage(path, change), "{} is there", path.display());
    }
}

/// Makes a test of each generic function for each kind of disk.
macro_rules! on_every_disk {
    ($($test:ident),* $(,)?) => {
        mod os {
            $(#[test] fn $test() { super::$test(&crate::disk::beds::OsBed::default()); })*
        }
        mod plain {
            $(#[test] fn $test() { super::$test(&crate::disk::beds::PlainBed::default()); })*
        }
        mod sim {
            $(#[test] fn $test() { super::$test(&crate::disk::beds::SimBed::default()); })*
        }
    };
}
pub(crate) use on_every_disk;
