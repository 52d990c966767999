//! All that anybody can see of a store: every path below the mount, and every record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use resolver::{BlobId, View};
use store_fs::digest::digest;
use store_fs::{Attr, DynFs, FsError, Ino, Kind, Memory, Shown, SimDisk, Store, StoreError};

use crate::parcel::{host, words};

/// What a path or a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Dir,
    File {
        content: BlobId,
        size: u64,
        executable: bool,
        mtime: i64,
    },
    Link(Vec<u8>),
    /// What a record says, hashed.
    Record(BlobId),
    /// An error instead of an answer.
    Error,
}

/// Things by their paths below the mount; records by theirs in the store.
pub(crate) type Seen = BTreeMap<String, Thing>;

/// A file system as a server shows it that starts now, or withholds what cannot be read.
pub(crate) fn serve(store: &Arc<Store<SimDisk>>) -> Result<DynFs<SimDisk>, StoreError> {
    let (catalog, _) = store.catalog_from_files(host())?;
    let newest = store.newest();
    let (view, generation) = match &newest {
        Ok(Some(newest)) => (View::compile(&newest.system, &catalog), newest.number),
        _ => Default::default(),
    };
    let shown = Shown {
        generation,
        view: Arc::new(view),
        catalog: Arc::new(catalog),
        generations: Arc::new(store.generations()?.into_iter().collect()),
    };
    let memory = Memory::create().expect("memory files can be made");
    let fs = DynFs::new(Arc::clone(store), Arc::new(memory), shown);
    if let Err(error) = newest {
        fs.withhold(&words(error));
    }
    Ok(fs)
}

/// All that there is of a whole store; nothing where there is none.
///
/// # Errors
///
/// In words, when something of it cannot be read.
pub(crate) fn look(disk: &SimDisk) -> Result<Seen, String> {
    let seen = look_over_damage(disk, false)?;
    match seen.iter().find(|(_, thing)| **thing == Thing::Error) {
        Some((path, _)) => Err(format!("{path} cannot be read")),
        None => Ok(seen),
    }
}

/// The same of a store that may be damaged: errors are things too, and damaged records are none.
///
/// # Errors
///
/// In words, when it does not even open, or its index says something else than its records.
pub(crate) fn look_over_damage(disk: &SimDisk, is_damaged: bool) -> Result<Seen, String> {
    let store = match Store::open(disk.clone()) {
        Err(StoreError::Absent { .. }) => return Ok(Seen::new()),
        store => Arc::new(store.map_err(words)?),
    };
    let fs = serve(&store).map_err(words)?;
    let shown = fs.shown();
    let (catalog, problems) = store.catalog(host()).map_err(words)?;
    if let Some(problem) = problems.into_iter().find(|_| !is_damaged) {
        return Err(words(problem));
    }
    let all = |catalog: &resolver::Catalog| -> Vec<_> {
        catalog.packages().flat_map(|(_, releases)| releases.to_vec()).collect()
    };
    // What a damaged record held the index may still know.
    let by_index = all(&catalog).into_iter();
    let by_index = by_index.filter(|one| !is_damaged || shown.catalog.get(&one.id).is_some());
    if by_index.collect::<Vec<_>>() != all(&shown.catalog) {
        return Err("the index says something else than the records".into());
    }
    if fs.is_withheld() && !is_damaged {
        return Err("the newest generation cannot be read".into());
    }
    let mut seen = Walk::new(&fs).all(&names(&shown));
    for release in all(&shown.catalog) {
        let text = serde_json::to_string(&*release).expect("plain values");
        let record = Thing::Record(digest(text.as_bytes()).id);
        seen.insert(format!("releases/{}", release.id), record);
    }
    for number in shown.generations.iter() {
        let record = match store.generation(*number) {
            Ok(generation) => Thing::Record(digest(format!("{generation:?}").as_bytes()).id),
            Err(_) => Thing::Error,
        };
        seen.insert(format!("generations/{number}"), record);
    }
    Ok(seen)
}

/// Paths that no listing leads to: releases by version, and frozen trees.
pub(crate) fn names(shown: &Shown) -> BTreeSet<String> {
    let releases = shown.catalog.packages().flat_map(|(_, releases)| releases);
    let by_version = releases.map(|one| format!("{}/{}", one.category, one.id.mount_name()));
    let frozen = shown.generations.iter().map(|number| format!(".generations/{number}"));
    by_version.chain(frozen).collect()
}

/// A walk through everything, in which each file is read once.
pub(crate) struct Walk<'a> {
    fs: &'a DynFs<SimDisk>,
    files: BTreeMap<Ino, Thing>,
    seen: Seen,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(fs: &'a DynFs<SimDisk>) -> Self {
        Self { fs, files: BTreeMap::new(), seen: Seen::new() }
    }

    /// The live tree, and what these names lead to. What is not there is left out.
    pub(crate) fn all(mut self, names: &BTreeSet<String>) -> Seen {
        self.dir(String::new(), Ino::ROOT);
        for name in names {
            let parts = name.split('/');
            let found = parts.into_iter().try_fold(Some(Ino::ROOT), |at, part| match at {
                Some(at) => Ok(self.fs.lookup(at, part.as_bytes())?.map(|entry| entry.attr.ino)),
                None => Ok::<_, FsError>(None),
            });
            match found {
                Ok(Some(ino)) => self.dir(name.clone(), ino),
                Ok(None) | Err(FsError::Absent) => {}
                Err(_) => _ = self.seen.insert(name.clone(), Thing::Error),
            }
        }
        self.seen
    }

    fn dir(&mut self, path: String, ino: Ino) {
        let mut names = Vec::new();
        let listed = self.fs.readdir(ino, 0, false, &mut |line| {
            if !matches!(line.name, b"." | b"..") {
                names.push(line.name.to_vec());
            }
            false
        });
        let thing = if listed.is_ok() { Thing::Dir } else { Thing::Error };
        self.seen.insert(path.clone(), thing);
        for name in names {
            let text = String::from_utf8_lossy(&name);
            let below = if path.is_empty() { text.into_owned() } else { format!("{path}/{text}") };
            match self.fs.lookup(ino, &name) {
                Ok(Some(entry)) if entry.attr.kind == Kind::Dir => self.dir(below, entry.attr.ino),
                Ok(Some(entry)) => {
                    let thing = self.leaf(&entry.attr);
                    self.seen.insert(below, thing);
                }
                // A listed name that is not there is as bad as one that cannot be read.
                Ok(None) | Err(_) => _ = self.seen.insert(below, Thing::Error),
            }
        }
    }

    fn leaf(&mut self, attr: &Attr) -> Thing {
        if attr.kind == Kind::Symlink {
            return self.fs.readlink(attr.ino).map_or(Thing::Error, Thing::Link);
        }
        if let Some(known) = self.files.get(&attr.ino) {
            return known.clone();
        }
        let mut bytes = Vec::new();
        let len = u32::try_from(attr.size).unwrap_or(u32::MAX).saturating_add(1);
        let thing = match self.fs.read(attr.ino, 0, len, &mut bytes) {
            Ok(()) => Thing::File {
                content: digest(&bytes).id,
                size: attr.size,
                executable: attr.perm & 0o111 != 0,
                mtime: attr.mtime,
            },
            Err(_) => Thing::Error,
        };
        self.files.insert(attr.ino, thing.clone());
        thing
    }
}
