//! A real disk with a clock in it, that can be told not to sync while a store is filled.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store_fs::disk::{Caching, Listed, Locking, OsFile, OsTemp, Stamp};
use store_fs::{Disk, OsDisk};

/// What the disk is asked for on the path of a select, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Write,
    Sync,
    Link,
    SyncDir,
}

impl Part {
    pub(crate) const ALL: [Self; 4] = [Self::Write, Self::Sync, Self::Link, Self::SyncDir];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Write => "disk: write",
            Self::Sync => "disk: sync file",
            Self::Link => "disk: link",
            Self::SyncDir => "disk: sync directory",
        }
    }
}

/// The time spent in each part, shared with who reads it.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    parts: [AtomicU64; Part::ALL.len()],
    /// Of the processor, in all parts together.
    processor: AtomicU64,
}

impl Spent {
    /// The time spent in each part since the last call, and by the processor in all of them.
    pub(crate) fn take(&self) -> ([Duration; Part::ALL.len()], Duration) {
        let take = |nanos: &AtomicU64| Duration::from_nanos(nanos.swap(0, Ordering::Relaxed));
        (Part::ALL.map(|part| take(&self.parts[part as usize])), take(&self.processor))
    }

    fn during<T>(&self, part: Part, work: impl FnOnce() -> T) -> T {
        let (start, processor) = (Instant::now(), processor_time());
        let result = work();
        add(&self.parts[part as usize], start.elapsed());
        add(&self.processor, processor_time().saturating_sub(processor));
        result
    }
}

fn add(to: &AtomicU64, time: Duration) {
    to.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// What this thread has used of a processor: other programs do not count.
pub(crate) fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

/// The disk.
#[derive(Debug)]
pub(crate) struct ClockedDisk {
    inner: OsDisk,
    spent: Arc<Spent>,
    /// Whoever fills a store syncs once, at the end.
    syncs: bool,
}

impl ClockedDisk {
    /// As an [`OsDisk`] is.
    pub(crate) fn open(root: &Path) -> Self {
        let inner = OsDisk::create(root).expect("a directory of ours");
        Self { inner, spent: Arc::default(), syncs: true }
    }

    /// One that leaves durability to a later [`rustix::fs::syncfs`].
    pub(crate) fn unsynced(root: &Path) -> Self {
        Self { syncs: false, ..Self::open(root) }
    }

    pub(crate) fn spent(&self) -> Arc<Spent> {
        Arc::clone(&self.spent)
    }
}

impl Disk for ClockedDisk {
    type Temp = OsTemp;
    type File = OsFile;

    fn root(&self) -> &Path {
        self.inner.root()
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.inner.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.inner.list(path)
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        self.inner.stamp(path)
    }

    fn open_file(&self, path: &Path) -> io::Result<Option<OsFile>> {
        self.inner.open_file(path)
    }

    fn len(&self, file: &OsFile) -> io::Result<u64> {
        self.inner.len(file)
    }

    fn read_at(
        &self,
        file: &OsFile,
        offset: u64,
        buffer: &mut [u8],
        caching: Caching,
    ) -> io::Result<usize> {
        self.inner.read_at(file, offset, buffer, caching)
    }

    fn temp(&self) -> io::Result<OsTemp> {
        self.spent.during(Part::Write, || self.inner.temp())
    }

    fn write(&self, temp: &mut OsTemp, bytes: &[u8]) -> io::Result<()> {
        self.spent.during(Part::Write, || self.inner.write(temp, bytes))
    }

    fn reflink(&self, temp: &mut OsTemp, source: &File) -> io::Result<bool> {
        self.inner.reflink(temp, source)
    }

    fn read_temp(&self, temp: &OsTemp, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_temp(temp, offset, buffer)
    }

    fn sync_temp(&self, temp: &OsTemp) -> io::Result<()> {
        match self.syncs {
            true => self.spent.during(Part::Sync, || self.inner.sync_temp(temp)),
            false => Ok(()),
        }
    }

    fn link(&self, temp: &OsTemp, path: &Path) -> io::Result<bool> {
        self.spent.during(Part::Link, || self.inner.link(temp, path))
    }

    fn replace(&self, temp: &OsTemp, path: &Path) -> io::Result<()> {
        self.inner.replace(temp, path)
    }

    fn alias(&self, path: &Path, other: &Path) -> io::Result<bool> {
        self.inner.alias(path, other)
    }

    fn remove(&self, path: &Path) -> io::Result<bool> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.syncs {
            true => self.spent.during(Part::SyncDir, || self.inner.sync_dir(path)),
            false => Ok(()),
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        if self.syncs { self.inner.sync_all() } else { Ok(()) }
    }

    fn lock(&self, path: &Path) -> io::Result<Locking> {
        self.inner.lock(path)
    }

    fn share(&self, path: &Path) -> io::Result<Locking> {
        self.inner.share(path)
    }

    fn sweep(&self) -> io::Result<()> {
        self.inner.sweep()
    }
}
