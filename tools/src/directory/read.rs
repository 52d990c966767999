//! Reads one file: content to the store, ELF facts, extended attributes; and looks whether it
//! stayed the same meanwhile. Or only counts it, so that progress has a total.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use resolver::BlobId;
use rustix::fs::{Mode, OFlags};
use store_fs::StoreError;

use super::entry::{Seen, xattrs};
use super::walk::Directory;
use super::{DirectoryError, Progress, changed_or_refused, refused};
use crate::elf::{self, ElfFacts};

/// Stores a file's content of this many bytes; the path is for messages.
pub(super) type Keep<'a> = dyn Fn(&File, u64, &Path) -> Result<BlobId, StoreError> + Sync + 'a;

/// Reads files, from many threads.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Path,
    pub(super) keep: &'a Keep<'a>,
    pub(super) progress: &'a dyn Progress,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("source", &self.source).finish_non_exhaustive()
    }
}

/// A file as the walk saw it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) dir: Arc<Directory>,
    pub(super) name: CString,
    pub(super) seen: Seen,
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) blob: BlobId,
    pub(super) elf: Option<ElfFacts>,
    pub(super) xattrs: Vec<String>,
}

/// What the walk has done with the files that it finds.
pub(super) trait Read: Sync {
    /// Called from many threads.
    fn read(&self, job: &Job) -> Result<Content, DirectoryError>;
}

/// Reads nothing: counts what there is to read.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Read for Sizes {
    fn read(&self, job: &Job) -> Result<Content, DirectoryError> {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(job.seen.size, Ordering::Relaxed);
        // A stand-in: nobody looks at the tree.
        Ok(Content { blob: BlobId::from_bytes([0; 32]), elf: None, xattrs: Vec::new() })
    }
}

impl Read for Reader<'_> {
    fn read(&self, job: &Job) -> Result<Content, DirectoryError> {
        let path = job.dir.full_path(self.source, &job.name);
        // Without NONBLOCK, a fifo that took the file's place would hold us for ever.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&job.dir.fd, &job.name, flags, Mode::empty())
            .map_err(changed_or_refused("opening", &path))?;
        let file = File::from(fd);
        let unchanged = || {
            let now = Seen::of(&file).map_err(refused("reading", &path))?;
            if now == job.seen {
                Ok(())
            } else {
                Err(DirectoryError::Changed { path: path.clone() })
            }
        };
        unchanged()?;
        let blob = (self.keep)(&file, job.seen.size, &path);
        let elf = elf::facts_of_file(&file);
        let xattrs = xattrs(&file).map_err(refused("reading the attributes of", &path))?;
        // Before the store's own complaint: a file that shrank is one that changed.
        unchanged()?;
        let content = Content { blob: blob?, elf, xattrs };
        self.progress.file();
        Ok(content)
    }
}

/// The ELF facts of a whole source.
#[derive(Debug, Default)]
pub(super) struct ElfSummary {
    pub(super) sonames: HashMap<BlobId, String>,
    pub(super) build_ids: BTreeSet<String>,
    machines: BTreeMap<&'static str, u64>,
}

impl ElfSummary {
    pub(super) fn note(&mut self, blob: BlobId, facts: ElfFacts) {
        if let Some(soname) = facts.soname {
            self.sonames.insert(blob, soname);
        }
        self.build_ids.extend(facts.build_id);
        if let Some(machine) = facts.arch {
            *self.machines.entry(machine).or_default() += 1;
        }
    }

    /// The most common machine; of equally common ones the first in the alphabet.
    pub(super) fn arch(&self) -> Option<String> {
        let most = self.machines.values().max()?;
        let first = self.machines.iter().find(|(_, count)| *count == most)?;
        Some((*first.0).to_owned())
    }
}
