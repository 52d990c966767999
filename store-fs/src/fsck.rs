//! The state of a store, as typed findings with stable codes. Changes nothing, and never stops at
//! a bad thing: each is named, and the rest is looked at.
//!
//! | code | meaning |
//! |---|---|
//! | `format-damaged` | the format record does not hold what it promises |
//! | `generation-damaged`, `release-damaged`, `object-damaged` | so does such a file |
//! | `generation-newer`, `release-newer` | a newer dynfs wrote it: this one cannot read it |
//! | `generation-dangling` | a generation selects a release or object that is not there |
//! | `release-dangling` | a release's object is not there |
//! | `release-conflict` | two releases cannot both be in the catalog |
//! | `blob-missing`, `outboard-missing` | an object needs it, and it is not there |
//! | `blob-damaged`, `outboard-damaged` | its length or its content is not that of its name |
//! | `index-damaged` | the index cannot be read, or says something else than the records |
//! | `name-unexpected` | a file that is no part of a store |

mod content;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use resolver::{Arch, BlobId, Generation, ObjectId, Release, ReleaseId};
use serde::Serialize;

use crate::disk::{Listed, ListedKind, TMP_DIR};
use crate::store::{io_error, path as paths, read_format};
use crate::{BadFile, Disk, Format, Prefix, Store, StoreError};

/// How often something is looked for again while what needs it comes and goes.
const LOOKS_MAX: usize = 10;

/// How much to look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct FsckOptions {
    /// Hash every blob again, not only look whether it is there with its length.
    pub data: bool,
}

/// One bad thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable code in kebab-case, see the head of this module.
    pub code: &'static str,
    /// The file, relative to the store.
    pub path: PathBuf,
    /// One sentence.
    pub message: String,
    /// Releases that it touches, as text.
    pub releases: Vec<String>,
    /// A command that helps, when there is one.
    pub hint: Option<String>,
}

/// What was looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FsckReport {
    /// Generations read.
    pub generations: u64,
    /// Release records read.
    pub releases: u64,
    /// Objects read.
    pub objects: u64,
    /// Blobs looked at.
    pub blobs: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Bad things, in the order of paths.
    pub findings: Vec<Finding>,
    /// What would make them good.
    #[serde(skip)]
    pub needed: Needed,
}

/// What a repair works on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Files that are in the way of good ones: content and old generations, and what lies among
    /// the release records and is none. A damaged record of a release is not among them: as long
    /// as it is there, nothing else is taken for that release.
    pub bad: Vec<BadFile>,
    /// The newest generation, if it is damaged: nothing may step back from it by itself.
    pub newest: Option<BadFile>,
    /// Objects that releases or generations name.
    pub objects: BTreeSet<ObjectId>,
    /// Blobs that objects name, with their lengths.
    pub blobs: BTreeMap<BlobId, u64>,
    /// Outboards of blobs.
    pub outboards: BTreeSet<BlobId>,
    /// Releases without a readable record, with the object that a generation has them with.
    pub releases: BTreeMap<ReleaseId, Option<ObjectId>>,
    /// The index must be written anew.
    pub index: bool,
}

impl Needed {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Forgets objects and blobs that are there by now.
    pub fn forget_present<D: Disk>(&mut self, store: &Store<D>) {
        self.objects.retain(|id| !store.has_object(id).unwrap_or(false));
        self.blobs.retain(|id, size| !store.has_blob(id, *size).unwrap_or(false));
    }
}

/// Looks at everything that a store holds; changes nothing. `progress` is told the files done and
/// the files in all. Files may come and go while this looks: what is not there is bad when
/// something needs it that stays there, unchanged, while it is looked for again.
///
/// # Errors
///
/// [`StoreError::NewerFormat`] and [`StoreError::UnknownFeatures`], since nothing can be said then;
/// [`StoreError::Absent`], or [`StoreError::Io`] when a directory cannot be listed.
pub fn fsck<D: Disk>(
    store: &Store<D>,
    host: &Arch,
    options: FsckOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<FsckReport, StoreError> {
    let mut check = Check::new(store, options, progress);
    check.format()?;
    check.top()?;
    let found = Found::list(store.disk(), &mut check)?;
    check.total = found.count();
    check.generations(&found);
    check.releases(&found, host);
    check.objects(&found);
    check.references();
    check.blobs(&found);
    check.outboards(&found);
    check.index();
    Ok(check.report())
}

/// As [`fsck`], of a disk on which [`Store::open`] may fail, because its format record is damaged.
///
/// # Errors
///
/// As [`fsck`].
pub fn fsck_disk<D: Disk>(
    disk: D,
    host: &Arch,
    options: FsckOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<FsckReport, StoreError> {
    let format = match read_format(&disk) {
        // A stand-in: looking needs no prefix, and the record itself is looked at again.
        Err(StoreError::Damaged { .. }) => Format::new(Prefix::new(Path::new("/dyn"))?),
        format => format?,
    };
    fsck(&Store::with_format(disk, format), host, options, progress)
}

/// The files of a store by what their names say they are.
#[derive(Debug, Default)]
struct Found {
    generations: Vec<PathBuf>,
    releases: Vec<PathBuf>,
    objects: BTreeSet<ObjectId>,
    blobs: BTreeSet<BlobId>,
    outboards: BTreeSet<BlobId>,
}

/// A blob as the objects that name it have it.
#[derive(Debug, Default)]
struct Expected {
    size: u64,
    objects: BTreeSet<ObjectId>,
}

struct Check<'a, D: Disk> {
    store: &'a Store<D>,
    options: FsckOptions,
    progress: &'a dyn Fn(u64, u64),
    done: u64,
    total: u64,
    report: FsckReport,
    /// What could be read, with where it was.
    generations: Vec<(PathBuf, Generation)>,
    releases: Vec<(PathBuf, Release)>,
    /// The names of releases by their object.
    releases_of: BTreeMap<ObjectId, Vec<String>>,
    /// Objects that are there, good or not.
    objects: BTreeSet<ObjectId>,
    expected: BTreeMap<BlobId, Expected>,
}

impl<'a, D: Disk> Check<'a, D> {
    fn new(store: &'a Store<D>, options: FsckOptions, progress: &'a dyn Fn(u64, u64)) -> Self {
        Self {
            store,
            options,
            progress,
            done: 0,
            total: 0,
            report: FsckReport::default(),
            generations: Vec::new(),
            releases: Vec::new(),
            releases_of: BTreeMap::new(),
            objects: BTreeSet::new(),
            expected: BTreeMap::new(),
        }
    }

    fn report(mut self) -> FsckReport {
        self.report.findings.sort_by(|a, b| (&a.path, a.code).cmp(&(&b.path, b.code)));
        self.report
    }

    fn step(&mut self) {
        self.done += 1;
        (self.progress)(self.done, self.total);
    }

    fn find(&mut self, code: &'static str, path: &Path, message: impl Into<String>) {
        self.find_for(code, path, message, Vec::new());
    }

    fn find_for(
        &mut self,
        code: &'static str,
        path: &Path,
        message: impl Into<String>,
        releases: Vec<String>,
    ) {
        self.report.findings.push(Finding {
            code,
            path: path.to_owned(),
            message: message.into(),
            releases,
            hint: None,
        });
    }

    fn hint(&mut self, hint: &str) {
        if let Some(finding) = self.report.findings.last_mut() {
            finding.hint = Some(hint.to_owned());
        }
    }

    /// Remembers a file that an error was about, when that means that it is bad: a limit on open
    /// files, say, does not.
    fn bad(&mut self, path: &Path, error: &StoreError) {
        if error.is_bad_file() {
            self.report.needed.bad.extend(BadFile::now(self.store.disk(), path));
        }
    }

    /// Nothing of this name is there any more.
    fn is_gone(&self, path: &Path) -> bool {
        matches!(self.store.disk().stamp(path), Ok(None))
    }

    /// Whether something is so while a file is there, and not only because that file went: names
    /// go before what they need, and come after it.
    fn while_there(&self, path: &Path, is_so: impl Fn() -> bool) -> bool {
        // One that cannot be looked at is there.
        let stamp = || self.store.disk().stamp(path).ok();
        for _ in 0..LOOKS_MAX {
            let before = stamp();
            if before == Some(None) || !is_so() {
                return false;
            }
            if stamp() == before {
                return true;
            }
        }
        false
    }

    /// Whether one of these objects is there, and this file of content, which it needs, is not.
    fn is_missing(&self, path: &Path, objects: &BTreeSet<ObjectId>) -> bool {
        let lacks = |id| self.while_there(&paths::object(id), || self.is_gone(path));
        self.is_gone(path) && objects.iter().any(lacks)
    }

    fn unexpected(&mut self, path: &Path) {
        self.find("name-unexpected", path, "this is no part of a store");
    }

    /// The names of the releases of these objects.
    fn touched<'b>(&self, objects: impl IntoIterator<Item = &'b ObjectId>) -> Vec<String> {
        let names: BTreeSet<&String> =
            objects.into_iter().filter_map(|id| self.releases_of.get(id)).flatten().collect();
        names.into_iter().cloned().collect()
    }
}

/// The sentence for an error: without the path, which stands beside it.
fn reason(error: StoreError) -> String {
    match error {
        StoreError::Damaged { reason, .. } => reason,
        StoreError::NewerFormat { found, known, .. } => {
            format!("it has format {found}, and this program knows up to {known}")
        }
        StoreError::Io { action, source, .. } => format!("{action} it failed: {source}"),
        other => other.to_string(),
    }
}

fn list<D: Disk>(disk: &D, path: &Path) -> Result<Vec<Listed>, StoreError> {
    disk.list(path).map_err(|error| io_error(disk, "listing", path, error))
}

impl Found {
    fn list<D: Disk>(disk: &D, check: &mut Check<'_, D>) -> Result<Self, StoreError> {
        let mut found = Self::default();
        let generations = Path::new(paths::GENERATIONS);
        for Listed { name, kind } in list(disk, generations)? {
            let path = generations.join(&name);
            let number = name.to_str().and_then(paths::generation_number);
            if kind == ListedKind::File && number.is_some() {
                found.generations.push(path);
            } else {
                check.unexpected(&path);
            }
        }
        let releases = Path::new(paths::RELEASES);
        for Listed { name, kind } in list(disk, releases)? {
            let dir = releases.join(&name);
            let is_package = name.to_str().is_some_and(|n| resolver::PackageName::new(n).is_ok());
            if kind != ListedKind::Dir || !is_package {
                check.unexpected(&dir);
                continue;
            }
            for Listed { name, kind } in list(disk, &dir)? {
                let path = dir.join(&name);
                if kind == ListedKind::File {
                    found.releases.push(path);
                } else {
                    check.unexpected(&path);
                }
            }
        }
        // A mark says nothing that could be wrong: whoever follows it asks what is needed.
        for Listed { name, kind } in list(disk, Path::new(paths::TRASH))? {
            let is_mark = name.to_str().is_some_and(|name| name.parse::<ObjectId>().is_ok());
            if kind != ListedKind::File || !is_mark {
                check.unexpected(&Path::new(paths::TRASH).join(&name));
            }
        }
        found.objects = sharded(disk, paths::OBJECTS, check)?;
        found.blobs = sharded(disk, paths::BLOBS, check)?;
        found.outboards = sharded(disk, paths::OUTBOARDS, check)?;
        Ok(found)
    }

    fn count(&self) -> u64 {
        let files = self.generations.len()
            + self.releases.len()
            + self.objects.len()
            + self.blobs.len()
            + self.outboards.len();
        files as u64
    }
}

/// The ids below a directory of `ab/<64 digits>`.
fn sharded<D: Disk, T: std::str::FromStr + Ord>(
    disk: &D,
    top: &str,
    check: &mut Check<'_, D>,
) -> Result<BTreeSet<T>, StoreError> {
    let top = Path::new(top);
    let mut ids = BTreeSet::new();
    for shard in list(disk, top)? {
        let dir = top.join(&shard.name);
        if shard.kind != ListedKind::Dir || !is_shard(&shard.name) {
            check.unexpected(&dir);
            continue;
        }
        for Listed { name, kind } in list(disk, &dir)? {
            let in_shard = |text: &&str| shard.name.to_str().is_some_and(|s| text.starts_with(s));
            let id = name.to_str().filter(in_shard).and_then(|text| text.parse().ok());
            match id {
                Some(id) if kind == ListedKind::File => _ = ids.insert(id),
                _ => check.unexpected(&dir.join(&name)),
            }
        }
    }
    Ok(ids)
}

/// Two lower-case hexadecimal digits.
fn is_shard(name: &OsStr) -> bool {
    let digits = name.as_encoded_bytes();
    digits.len() == 2 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Names that belong at the top of a store.
fn is_top(listed: &Listed) -> bool {
    let Some(name) = listed.name.to_str() else { return false };
    match listed.kind {
        ListedKind::Dir => {
            paths::DIRS.contains(&name) || [TMP_DIR, paths::RUN_DIR, paths::ASIDE].contains(&name)
        }
        ListedKind::File => {
            [paths::FORMAT, paths::LOCK, paths::ADDING, paths::INDEX].contains(&name)
        }
        ListedKind::Other => false,
    }
}

#[cfg(test)]
mod tests;
