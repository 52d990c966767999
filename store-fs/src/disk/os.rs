//! A directory of the operating system, through descriptors relative to it.
//!
//! ```text
//! temp   open(O_TMPFILE)                     no name, gone with its descriptor
//! link   linkat(/proc/self/fd/N -> name)     EEXIST when taken: the kernel decides the race
//! ```
//!
//! File systems without `O_TMPFILE` get `tmp/<pid>-<number>` instead, locked while it is written,
//! so that leftovers can be told from work in progress.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{
    Advice, AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, StatxFlags, fadvise, fchmod,
    fchown, flock, fstat, fsync, ioctl_ficlone, linkat, mkdirat, openat, renameat, statx, syncfs,
    unlinkat,
};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::process::{Uid, test_kill_process};

use super::{Caching, Disk, Listed, ListedKind, Lock, Locking, Stamp, TMP_DIR};
use crate::StoreError;

/// `RWF_DONTCACHE` of Linux 6.14: read, and keep nothing in the page cache.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// What everybody may do with a directory of a store: look into it.
const PUBLIC_DIR: Mode = Mode::from_raw_mode(0o755);
/// Set-user-ID, set-group-ID and sticky.
const SPECIAL_BITS: Mode = Mode::from_raw_mode(0o7000);
/// A block that need not be written: where nothing is, a file is read as zeros.
const HOLE: [u8; 4096] = [0; 4096];
/// Most bytes of a lock file that are read: a process id in decimal.
const PID_TEXT_LEN_MAX: u64 = 32;

/// Numbers of named temporary files: unique within this process, whatever disk they are on.
static NEXT_TEMP: AtomicU64 = AtomicU64::new(0);

/// A directory of the operating system.
#[derive(Debug)]
pub struct OsDisk {
    root: PathBuf,
    dir: OwnedFd,
    /// The file system has nameless files, as far as is known.
    nameless: AtomicBool,
    /// The file system can read past its cache, as far as is known.
    dontcache: AtomicBool,
}

/// A file being written.
#[derive(Debug)]
pub struct OsTemp {
    file: File,
    /// Bytes written so far.
    len: u64,
    /// Its name, where it must have one, and the directory that the name is relative to.
    named: Option<(OwnedFd, PathBuf)>,
}

impl Drop for OsTemp {
    fn drop(&mut self) {
        if let Some((dir, name)) = &self.named {
            // Nothing can be done about a failure here: the next writer sweeps the leftover away.
            _ = unlinkat(dir, name, AtFlags::empty());
        }
    }
}

/// A file open for reading.
#[derive(Debug)]
pub struct OsFile(File);

/// A locked file. Whoever holds it alone has written into it who that is, and takes that away at
/// the end: what is left in it was left by a death.
#[derive(Debug)]
pub struct OsLock {
    file: File,
    is_alone: bool,
    pub(super) was_abandoned: bool,
    pub(super) is_abandoned: bool,
}

impl Drop for OsLock {
    fn drop(&mut self) {
        if self.is_alone && !self.is_abandoned {
            // If it fails, the next one takes more care than it must.
            _ = self.file.set_len(0);
        }
    }
}

impl OsDisk {
    /// The directory at `root`, which must exist.
    ///
    /// # Errors
    ///
    /// [`StoreError::Absent`], [`StoreError::NotDirectory`] or [`StoreError::Io`].
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match openat(CWD, root, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Err(StoreError::Absent { path: root.to_owned() }),
            Err(Errno::NOTDIR) => return Err(StoreError::NotDirectory { path: root.to_owned() }),
            Err(errno) => return Err(io_error("opening", root, errno.into())),
        };
        Ok(Self {
            root: root.to_owned(),
            dir,
            nameless: AtomicBool::new(true),
            dontcache: AtomicBool::new(true),
        })
    }

    /// Creates the directory and its parents when they are not there, all for everybody to read.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotDirectory`] or [`StoreError::Io`].
    pub fn create(root: &Path) -> Result<Self, StoreError> {
        let named = |path: &&Path| !path.as_os_str().is_empty();
        let missing: Vec<_> = root.ancestors().filter(named).take_while(|p| !p.exists()).collect();
        for path in missing.into_iter().rev() {
            create_public_dir(CWD, path).map_err(|source| io_error("creating", path, source))?;
        }
        Self::open(root)
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// As if the file system had no nameless files and could not read past its cache.
    #[cfg(test)]
    pub(crate) fn plain(self) -> Self {
        self.nameless.store(false, Ordering::Relaxed);
        self.dontcache.store(false, Ordering::Relaxed);
        self
    }

    fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.dir, path, flags, Mode::empty())?)
    }

    fn named_temp(&self) -> io::Result<OsTemp> {
        let number = NEXT_TEMP.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(TMP_DIR).join(format!("{}-{number}", std::process::id()));
        self.create_dir(Path::new(TMP_DIR))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.dir, &path, flags, Mode::from_raw_mode(0o600))?;
        let named = Some((self.dir.try_clone()?, path));
        let temp = OsTemp { file: File::from(file), len: 0, named };
        // Held as long as the file is open: see `sweep`.
        flock(&temp.file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(temp)
    }

    /// Opens a lock file, which only root and the owner of the store can: whoever can read a file
    /// can lock it, and could keep everybody else from the store for ever.
    fn open_lock(&self, path: &Path, access: OFlags) -> io::Result<File> {
        let flags = access | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, path, flags, Mode::RUSR | Mode::WUSR)?;
        keep_to_owner(&file, &self.dir)?;
        Ok(File::from(file))
    }

    /// Links by descriptor, which works for a file with or without a name.
    fn link_open(&self, file: &File, path: &Path) -> rustix::io::Result<()> {
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        match linkat(CWD, source, &self.dir, path, AtFlags::SYMLINK_FOLLOW) {
            // Without /proc. If it is the directory of `path` that is missing, this fails alike.
            Err(Errno::NOENT) => linkat(file, "", &self.dir, path, AtFlags::EMPTY_PATH),
            done => done,
        }
    }
}

/// Lets only the owner of `directory`, and root, open a file in it that this process may change.
///
/// # Errors
///
/// The operating system's, but for those of a file that is another user's, or cannot be written.
pub fn keep_to_owner(file: impl AsFd, directory: impl AsFd) -> io::Result<()> {
    let (found, owner) = (fstat(&file)?, fstat(directory)?.st_uid);
    let tolerated = |done: rustix::io::Result<()>| match done {
        Err(error) if ![Errno::PERM, Errno::ROFS].contains(&error) => Err(error),
        _ => Ok(()),
    };
    if found.st_mode & 0o077 != 0 {
        tolerated(fchmod(&file, Mode::RUSR | Mode::WUSR))?;
    }
    if found.st_uid != owner {
        tolerated(fchown(&file, Some(Uid::from_raw(owner)), None))?;
    }
    Ok(())
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}

/// Bytes before something else begins in `bytes`, which are to be at `offset` of a file: of whole
/// blocks of zeros, or of what is none.
fn run_len(offset: u64, bytes: &[u8], zeros: bool) -> usize {
    let block_len = HOLE.len() as u64;
    let mut len = 0;
    while len < bytes.len() {
        let left = block_len - (offset + len as u64) % block_len;
        let left = usize::try_from(left).expect("at most one block");
        let block = &bytes[len..bytes.len().min(len + left)];
        if (*block == HOLE) != zeros {
            break;
        }
        len += block.len();
    }
    len
}

/// Reads until the buffer is full or the file ends.
fn fill(
    buffer: &mut [u8],
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match read(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Makes a directory that everybody can look into, whatever the umask is; `false` when it is there.
///
/// # Errors
///
/// The operating system's.
pub fn create_public_dir(at: impl AsFd, path: &Path) -> io::Result<bool> {
    match mkdirat(&at, path, PUBLIC_DIR) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(&at, path, flags, Mode::empty())?;
    let mode = Mode::from_raw_mode(fstat(&dir)?.st_mode);
    if !mode.contains(PUBLIC_DIR) {
        // Added, since a directory may have inherited its set-group-ID bit.
        fchmod(&dir, (mode & SPECIAL_BITS) | PUBLIC_DIR)?;
    }
    Ok(true)
}

impl Disk for OsDisk {
    type Temp = OsTemp;
    type File = OsFile;

    fn root(&self) -> &Path {
        &self.root
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        create_public_dir(&self.dir, path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let dir = match self.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            dir => dir?,
        };
        let mut listed = Vec::new();
        for entry in Dir::new(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let name = OsStr::from_bytes(name).to_owned();
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                let path = path.join(&name);
                let stat = statx(&self.dir, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)?;
                kind = FileType::from_raw_mode(stat.stx_mode.into());
            }
            let kind = match kind {
                FileType::RegularFile => ListedKind::File,
                FileType::Directory => ListedKind::Dir,
                _ => ListedKind::Other,
            };
            listed.push(Listed { name, kind });
        }
        listed.sort_unstable();
        Ok(listed)
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        let stat = match statx(&self.dir, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
            return Ok(None);
        }
        Ok(Some(Stamp {
            inode: stat.stx_ino,
            len: stat.stx_size,
            changed_secs: stat.stx_ctime.tv_sec,
            changed_nanos: stat.stx_ctime.tv_nsec,
        }))
    }

    fn open_file(&self, path: &Path) -> io::Result<Option<OsFile>> {
        // NONBLOCK: a fifo in the place of a file must not stop us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.dir, path, flags, Mode::empty()) {
            Ok(file) => Ok(Some(OsFile(File::from(file)))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn len(&self, file: &OsFile) -> io::Result<u64> {
        Ok(file.0.metadata()?.len())
    }

    fn read_at(
        &self,
        file: &OsFile,
        offset: u64,
        buffer: &mut [u8],
        caching: Caching,
    ) -> io::Result<usize> {
        if caching == Caching::Keep {
            return fill(buffer, offset, |part, at| file.0.read_at(part, at));
        }
        if self.dontcache.load(Ordering::Relaxed) {
            let past_cache = fill(buffer, offset, |part, at| {
                Ok(preadv2(&file.0, &mut [IoSliceMut::new(part)], at, DONTCACHE)?)
            });
            match past_cache {
                Err(error) if is_unsupported(&error) => {
                    self.dontcache.store(false, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        let count = fill(buffer, offset, |part, at| file.0.read_at(part, at))?;
        // Advice only: a refusal changes nothing about the bytes.
        _ = fadvise(&file.0, offset, NonZeroU64::new(count as u64), Advice::DontNeed);
        Ok(count)
    }

    fn temp(&self) -> io::Result<OsTemp> {
        let mut temp = None;
        if self.nameless.load(Ordering::Relaxed) {
            let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
            match openat(&self.dir, ".", flags, Mode::from_raw_mode(0o600)) {
                Ok(file) => temp = Some(OsTemp { file: File::from(file), len: 0, named: None }),
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                    self.nameless.store(false, Ordering::Relaxed);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        let temp = match temp {
            Some(temp) => temp,
            None => self.named_temp()?,
        };
        // Explicitly, since a umask of the caller must not decide who can read the store.
        fchmod(&temp.file, Mode::from_raw_mode(0o444))?;
        Ok(temp)
    }

    fn write(&self, temp: &mut OsTemp, bytes: &[u8]) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            at += run_len(temp.len + at as u64, &bytes[at..], true);
            let data = run_len(temp.len + at as u64, &bytes[at..], false);
            temp.file.write_all_at(&bytes[at..at + data], temp.len + at as u64)?;
            at += data;
        }
        temp.len += bytes.len() as u64;
        if bytes.ends_with(&HOLE) {
            temp.file.set_len(temp.len)?;
        }
        Ok(())
    }

    fn reflink(&self, temp: &mut OsTemp, source: &File) -> io::Result<bool> {
        match ioctl_ficlone(&temp.file, source) {
            Ok(()) => Ok(true),
            Err(
                Errno::OPNOTSUPP
                | Errno::XDEV
                | Errno::INVAL
                | Errno::NOTTY
                | Errno::NOSYS
                | Errno::PERM,
            ) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn read_temp(&self, temp: &OsTemp, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        fill(buffer, offset, |part, at| temp.file.read_at(part, at))
    }

    fn sync_temp(&self, temp: &OsTemp) -> io::Result<()> {
        Ok(fsync(&temp.file)?)
    }

    fn link(&self, temp: &OsTemp, path: &Path) -> io::Result<bool> {
        match self.link_open(&temp.file, path) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn replace(&self, temp: &OsTemp, path: &Path) -> io::Result<()> {
        self.create_dir(Path::new(TMP_DIR))?;
        let number = NEXT_TEMP.fetch_add(1, Ordering::Relaxed);
        let name = Path::new(TMP_DIR).join(format!("{}-{number}", std::process::id()));
        self.link_open(&temp.file, &name)?;
        renameat(&self.dir, &name, &self.dir, path).map_err(|errno| {
            _ = unlinkat(&self.dir, &name, AtFlags::empty());
            errno.into()
        })
    }

    fn alias(&self, path: &Path, other: &Path) -> io::Result<bool> {
        match linkat(&self.dir, path, &self.dir, other, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<bool> {
        match unlinkat(&self.dir, path, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        Ok(fsync(self.open_dir(path)?)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(syncfs(&self.dir)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Locking> {
        let mut file = self.open_lock(path, OFlags::RDWR)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let was_abandoned = file.metadata()?.len() > 0;
                file.set_len(0)?;
                file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
                let (is_alone, is_abandoned) = (true, false);
                let lock = OsLock { file, is_alone, was_abandoned, is_abandoned };
                Ok(Locking::Mine(Lock::Os(lock)))
            }
            Err(Errno::WOULDBLOCK) => {
                let mut text = Vec::new();
                (&file).take(PID_TEXT_LEN_MAX).read_to_end(&mut text)?;
                let text = String::from_utf8_lossy(&text);
                Ok(Locking::Held(text.trim().parse().unwrap_or(0)))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn share(&self, path: &Path) -> io::Result<Locking> {
        let file = self.open_lock(path, OFlags::RDONLY)?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                let (is_alone, was_abandoned, is_abandoned) = (false, false, false);
                let lock = OsLock { file, is_alone, was_abandoned, is_abandoned };
                Ok(Locking::Mine(Lock::Os(lock)))
            }
            Err(Errno::WOULDBLOCK) => Ok(Locking::Held(0)),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sweep(&self) -> io::Result<()> {
        for listed in self.list(Path::new(TMP_DIR))? {
            let Some(pid) = listed.left_by() else { continue };
            if listed.kind != ListedKind::File || test_kill_process(pid) != Err(Errno::SRCH) {
                continue;
            }
            let path = Path::new(TMP_DIR).join(listed.name);
            let Some(file) = self.open_file(&path)? else { continue };
            // A process id says nothing about another pid namespace; the lock does.
            if flock(&file.0, FlockOperation::NonBlockingLockExclusive).is_ok() {
                self.remove(&path)?;
            }
        }
        Ok(())
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    [Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
