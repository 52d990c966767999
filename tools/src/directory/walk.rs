//! Goes through the source, depth first and in the order of names, and has its files read.
//!
//! ```text
//! stack of open directories      batch                          flush
//! source                         jobs: files to read            read all files, in parallel
//!   lib                          left: directories whose        then look at the directories
//!     pkgconfig   <- here              every entry was seen     that were left once more
//! ```
//!
//! Nothing here recurses: the depth of the source is bounded by the tree builder and the limit on
//! open files, not by a thread's stack. Directories stay open from the first look to the last, so
//! both looks are at the same directory, wherever it was moved meanwhile.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use resolver::BlobId;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use store_fs::TreeBuilder;

use super::entry::{Seen, link_xattrs, special, xattrs};
use super::mounts::Mounts;
use super::read::{Content, ElfSummary, Job, Read};
use super::{DirectoryError, DirectoryOptions, Dropped, changed_or_refused, refused};

/// Most files that wait to be read together.
const JOBS_MAX: usize = 1024;
/// Most directories that are kept open only to be looked at again.
const LEFT_MAX: usize = 64;

/// What was found in a source.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) tree: TreeBuilder,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) elf: ElfSummary,
    pub(super) dropped: Vec<Dropped>,
}

/// An open directory and what was seen of it at first.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    /// Relative to the source; empty for the source itself.
    path: Vec<u8>,
    seen: Seen,
    /// Sorted.
    names: Vec<CString>,
}

impl Directory {
    /// The path of an entry, relative to the source.
    fn entry_path(&self, name: &CStr) -> Vec<u8> {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        path
    }

    /// The path of an entry, for messages.
    pub(super) fn full_path(&self, source: &Path, name: &CStr) -> PathBuf {
        source.join(OsStr::from_bytes(&self.entry_path(name)))
    }

    /// Refuses a directory that is not as it was at first.
    fn check_unchanged(&self, source: &Path) -> Result<(), DirectoryError> {
        let path = source_path(source, &self.path);
        let now = Seen::of(&self.fd).map_err(refused("reading", &path))?;
        if now == self.seen && list(&self.fd).map_err(refused("reading", &path))? == self.names {
            Ok(())
        } else {
            Err(DirectoryError::Changed { path })
        }
    }
}

/// The source for the empty path, which would otherwise get a slash behind it.
fn source_path(source: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { source.to_owned() } else { source.join(OsStr::from_bytes(path)) }
}

fn list(dir: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads everything below `source`.
pub(super) fn walk(
    source: &Path,
    options: &DirectoryOptions,
    reader: &dyn Read,
) -> Result<Found, DirectoryError> {
    walk_beside(Mounts::now()?, source, options, reader)
}

/// As [`walk`], with these mounts of ours around.
pub(super) fn walk_beside(
    mounts: Mounts,
    source: &Path,
    options: &DirectoryOptions,
    reader: &dyn Read,
) -> Result<Found, DirectoryError> {
    if mounts.lead_to(source) {
        return Err(DirectoryError::InsideMount { path: source.to_owned() });
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, source, flags, Mode::empty())
        .map_err(refused("opening", source))?;
    let caller = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut walk = Walk {
        source,
        options,
        reader,
        mounts,
        caller,
        found: Found::default(),
        batch: Batch::default(),
        linked: HashMap::new(),
    };
    let seen = Seen::of(&fd).map_err(refused("reading", source))?;
    walk.admit(source, &seen)?;
    let root = walk.directory(fd, Vec::new(), seen)?;
    walk.run(root)?;
    let mut found = walk.found;
    found.dropped.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Files that wait to be read, and directories that wait to be looked at again.
#[derive(Debug, Default)]
struct Batch {
    jobs: Vec<(Job, Vec<Name>)>,
    /// The job of a file with several links.
    linked: HashMap<FileKey, usize>,
    left: Vec<Arc<Directory>>,
}

/// Device and inode: what hard links have in common.
type FileKey = ((u32, u32), u64);

/// A name of a file, and how an object will show it.
#[derive(Debug)]
struct Name {
    path: Vec<u8>,
    mtime: i64,
    executable: bool,
    size: u64,
}

struct Walk<'a> {
    source: &'a Path,
    options: &'a DirectoryOptions,
    reader: &'a dyn Read,
    mounts: Mounts,
    caller: (u32, u32),
    found: Found,
    batch: Batch,
    /// Files with several links that were read in earlier batches.
    linked: HashMap<FileKey, (Seen, BlobId)>,
}

impl Walk<'_> {
    fn run(&mut self, root: Arc<Directory>) -> Result<(), DirectoryError> {
        let mut stack = vec![(root, 0)];
        while let Some((dir, next)) = stack.last_mut() {
            if let Some(name) = dir.names.get(*next) {
                *next += 1;
                let dir = Arc::clone(dir);
                if let Some(child) = self.entry(&dir, name)? {
                    stack.push((child, 0));
                }
            } else if let Some((dir, _)) = stack.pop() {
                self.batch.left.push(dir);
            }
            if self.batch.jobs.len() >= JOBS_MAX || self.batch.left.len() >= LEFT_MAX {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Takes one entry; a directory is handed back to be gone through.
    fn entry(
        &mut self,
        dir: &Arc<Directory>,
        name: &CStr,
    ) -> Result<Option<Arc<Directory>>, DirectoryError> {
        let path = dir.entry_path(name);
        let full = source_path(self.source, &path);
        let seen = Seen::at(&dir.fd, name).map_err(changed_or_refused("reading", &full))?;
        if let Some(kind) = special(seen.kind()) {
            return Err(DirectoryError::Special { path: full, kind });
        }
        match seen.kind() {
            FileType::Directory => {
                // Before it is opened: what others can not open is named for that reason.
                self.admit(&full, &seen)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(&dir.fd, name, flags, Mode::empty())
                    .map_err(changed_or_refused("opening", &full))?;
                self.found.tree.dir(&path)?;
                self.directory(fd, path, seen).map(Some)
            }
            FileType::Symlink => self.symlink(dir, name, path, seen).map(|()| None),
            _ => self.file(dir, name, path, seen).map(|()| None),
        }
    }

    /// Refuses what is shown by a mount of ours, and what others can not read.
    fn admit(&self, path: &Path, seen: &Seen) -> Result<(), DirectoryError> {
        if self.mounts.has_device(seen.device) {
            return Err(DirectoryError::InsideMount { path: path.to_owned() });
        }
        if self.options.public { Ok(()) } else { seen.check_public(path) }
    }

    /// A directory that was opened, when it is the one that was seen.
    fn directory(
        &mut self,
        fd: OwnedFd,
        path: Vec<u8>,
        seen: Seen,
    ) -> Result<Arc<Directory>, DirectoryError> {
        let full = source_path(self.source, &path);
        if Seen::of(&fd).map_err(refused("reading", &full))? != seen {
            return Err(DirectoryError::Changed { path: full });
        }
        let xattrs = xattrs(&fd).map_err(refused("reading the attributes of", &full))?;
        self.drop_attributes(&path, &seen, xattrs);
        let names = list(&fd).map_err(refused("reading", &full))?;
        Ok(Arc::new(Directory { fd, path, seen, names }))
    }

    fn symlink(
        &mut self,
        dir: &Directory,
        name: &CStr,
        path: Vec<u8>,
        seen: Seen,
    ) -> Result<(), DirectoryError> {
        let full = source_path(self.source, &path);
        let target = rustix::fs::readlinkat(&dir.fd, name, Vec::new())
            .map_err(changed_or_refused("reading", &full))?;
        let xattrs = link_xattrs(&dir.fd, name)
            .map_err(changed_or_refused("reading the attributes of", &full))?;
        let now = Seen::at(&dir.fd, name).map_err(changed_or_refused("reading", &full))?;
        if now != seen {
            return Err(DirectoryError::Changed { path: full });
        }
        self.drop_attributes(&path, &seen, xattrs);
        Ok(self.found.tree.symlink(&path, target.as_bytes())?)
    }

    fn file(
        &mut self,
        dir: &Arc<Directory>,
        name: &CStr,
        path: Vec<u8>,
        seen: Seen,
    ) -> Result<(), DirectoryError> {
        let full = source_path(self.source, &path);
        self.admit(&full, &seen)?;
        self.drop_attributes(&path, &seen, Vec::new());
        let mtime = self.options.epoch.map_or(seen.mtime.0, |epoch| seen.mtime.0.min(epoch));
        let file = Name { path, mtime, executable: seen.executable(), size: seen.size };
        self.found.files += 1;
        self.found.bytes = self.found.bytes.saturating_add(seen.size);
        let key = (seen.device, seen.inode);
        if seen.links > 1 {
            let changed = DirectoryError::Changed { path: full };
            if let Some((first, blob)) = self.linked.get(&key) {
                let blob = *blob;
                return if *first == seen { self.place(&file, blob) } else { Err(changed) };
            }
            let waiting = self.batch.linked.get(&key).copied();
            if let Some((job, names)) = waiting.and_then(|at| self.batch.jobs.get_mut(at)) {
                if job.seen != seen {
                    return Err(changed);
                }
                names.push(file);
                return Ok(());
            }
            self.batch.linked.insert(key, self.batch.jobs.len());
        }
        let job = Job { dir: Arc::clone(dir), name: name.to_owned(), seen };
        self.batch.jobs.push((job, vec![file]));
        Ok(())
    }

    /// Reads what waits, and then looks at the directories that were left.
    fn flush(&mut self) -> Result<(), DirectoryError> {
        let batch = std::mem::take(&mut self.batch);
        let reader = self.reader;
        let contents: Vec<Content> = batch
            .jobs
            .par_iter()
            .map(|(job, _)| reader.read(job))
            .collect::<Result<_, DirectoryError>>()?;
        for ((job, names), content) in batch.jobs.iter().zip(contents) {
            if job.seen.links > 1 {
                let key = (job.seen.device, job.seen.inode);
                self.linked.insert(key, (job.seen, content.blob));
            }
            for name in names {
                self.place(name, content.blob)?;
            }
            if let Some(first) = names.first() {
                self.report(&first.path, content.xattrs);
            }
            if let Some(facts) = content.elf {
                self.found.elf.note(content.blob, facts);
            }
        }
        for dir in &batch.left {
            dir.check_unchanged(self.source)?;
        }
        Ok(())
    }

    fn place(&mut self, name: &Name, blob: BlobId) -> Result<(), DirectoryError> {
        Ok(self.found.tree.file(&name.path, blob, name.size, name.mtime, name.executable)?)
    }

    fn drop_attributes(&mut self, path: &[u8], seen: &Seen, xattrs: Vec<String>) {
        let mut lines = seen.dropped(self.caller);
        lines.extend(xattrs);
        self.report(path, lines);
    }

    fn report(&mut self, path: &[u8], lines: Vec<String>) {
        let path = if path.is_empty() { b"." } else { path };
        let path = PathBuf::from(OsStr::from_bytes(path));
        self.found
            .dropped
            .extend(lines.into_iter().map(|what| Dropped { path: path.clone(), what }));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The job of reading one file of a directory, as the walk would make it.
    pub(crate) fn job(source: &Path, name: &CStr) -> Job {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, source, flags, Mode::empty()).unwrap();
        let seen = Seen::at(&fd, name).unwrap();
        let names = list(&fd).unwrap();
        let dir = Directory { seen: Seen::of(&fd).unwrap(), fd, path: Vec::new(), names };
        Job { dir: Arc::new(dir), name: name.to_owned(), seen }
    }
}
