//! A kernel between programs and a file system, as Linux is one: it keeps every answer until it is
//! told otherwise, and it is asked and told at the same time.
//!
//! ```text
//! a name     looked up, and a directory listed, under the lock of the directory, shared; a name is
//!            dropped under it alone, so dropping waits for who asks in that directory. What is
//!            below a dropped name goes with it, but waits for nobody there
//! a list     dropped without any lock: one that is on its way is kept all the same
//! attributes likewise, unless the kernel has the node already: then what was asked for before it
//!            was told is not kept
//! ```
//!
//! It holds no lock of its own across a step but those that Linux holds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shuttle::sync::RwLock;
use store_fs::sync::explored::step;
use store_fs::{Attr, Disk, DynFs, Entry, FsError, Ino, Kernel};

/// One line of a listing: name, node, and attributes when they came with it.
pub(crate) type Line = (String, Ino, Option<Attr>);

/// Whoever answers.
pub(crate) trait Answers {
    fn lookup(&self, parent: Ino, name: &str) -> Result<Option<Entry>, FsError>;
    fn attr(&self, ino: Ino) -> Result<Attr, FsError>;
    fn list(&self, dir: Ino) -> Result<Vec<Line>, FsError>;
}

impl<D: Disk> Answers for DynFs<D> {
    fn lookup(&self, parent: Ino, name: &str) -> Result<Option<Entry>, FsError> {
        Self::lookup(self, parent, name.as_bytes())
    }

    fn attr(&self, ino: Ino) -> Result<Attr, FsError> {
        Self::attr(self, ino)
    }

    fn list(&self, dir: Ino) -> Result<Vec<Line>, FsError> {
        let mut lines = Vec::new();
        self.readdir(dir, 0, true, &mut |line| {
            let name = String::from_utf8_lossy(line.name).into_owned();
            if ![".", ".."].contains(&name.as_str()) {
                lines.push((name, line.ino, line.entry.map(|entry| entry.attr)));
            }
            false
        })?;
        Ok(lines)
    }
}

/// The kernel.
#[derive(Debug, Default)]
pub(crate) struct Caching {
    caches: Mutex<Caches>,
    /// The locks of directories.
    locks: Mutex<BTreeMap<Ino, Arc<RwLock<()>>>>,
}

#[derive(Debug, Default)]
struct Caches {
    entries: BTreeMap<(Ino, String), Option<Ino>>,
    lists: BTreeMap<Ino, Vec<(String, Ino)>>,
    attrs: BTreeMap<Ino, Attr>,
    /// Nodes that the kernel has, and how often it was told that their attributes changed.
    nodes: BTreeMap<Ino, u64>,
}

impl Caching {
    fn caches(&self) -> MutexGuard<'_, Caches> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_of(&self, dir: Ino) -> Arc<RwLock<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(dir).or_default())
    }

    /// What a name stands for, and whether that was known already.
    pub(crate) fn lookup(
        &self,
        fs: &dyn Answers,
        parent: Ino,
        name: &str,
    ) -> (Result<Option<Ino>, FsError>, bool) {
        let cached = || self.caches().entries.get(&(parent, name.to_owned())).copied();
        step();
        if let Some(known) = cached() {
            return (Ok(known), true);
        }
        let lock = self.lock_of(parent);
        let _shared = lock.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cached() {
            return (Ok(known), true);
        }
        let before = self.caches().nodes.clone();
        let answer = fs.lookup(parent, name);
        step();
        let entry = match answer {
            // A bare ENOENT is not kept.
            Err(FsError::Absent) => return (Ok(None), false),
            Err(error) => return (Err(error), false),
            Ok(entry) => entry,
        };
        let mut caches = self.caches();
        if let Some(entry) = &entry {
            caches.keep_attr(entry.attr, &before);
        }
        let found = entry.map(|entry| entry.attr.ino);
        caches.entries.insert((parent, name.to_owned()), found);
        (Ok(found), false)
    }

    /// The names in a directory, and whether they were known already; then a node may be that of
    /// an earlier state, since nobody is told to forget a list for that.
    pub(crate) fn list(
        &self,
        fs: &dyn Answers,
        dir: Ino,
    ) -> Result<(Vec<(String, Ino)>, bool), FsError> {
        step();
        let lock = self.lock_of(dir);
        let _shared = lock.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.caches().lists.get(&dir) {
            return Ok((known.clone(), true));
        }
        let before = self.caches().nodes.clone();
        let lines = fs.list(dir)?;
        step();
        let mut caches = self.caches();
        for (name, ino, attr) in &lines {
            if let Some(attr) = attr {
                caches.keep_attr(*attr, &before);
                caches.entries.insert((dir, name.clone()), Some(*ino));
            }
        }
        let names: Vec<_> = lines.into_iter().map(|(name, ino, _)| (name, ino)).collect();
        caches.lists.insert(dir, names.clone());
        Ok((names, false))
    }

    /// `stat`.
    pub(crate) fn attr(&self, fs: &dyn Answers, ino: Ino) -> Result<Attr, FsError> {
        step();
        if let Some(known) = self.caches().attrs.get(&ino) {
            return Ok(*known);
        }
        let before = self.caches().nodes.clone();
        let attr = fs.attr(ino)?;
        step();
        self.caches().keep_attr(attr, &before);
        Ok(attr)
    }
}

impl Caches {
    fn keep_attr(&mut self, attr: Attr, before: &BTreeMap<Ino, u64>) {
        let told = *self.nodes.entry(attr.ino).or_default();
        if told == before.get(&attr.ino).copied().unwrap_or_default() {
            self.attrs.insert(attr.ino, attr);
        }
    }

    fn drop_below(&mut self, dir: Ino) {
        let mut gone = BTreeSet::from([dir]);
        while let Some(dir) = gone.pop_first() {
            let below: Vec<_> =
                self.entries.keys().filter(|(parent, _)| *parent == dir).cloned().collect();
            gone.extend(below.iter().filter_map(|key| self.entries.remove(key).flatten()));
        }
    }
}

impl Kernel for Caching {
    fn drop_entry(&self, parent: Ino, name: &[u8]) -> io::Result<()> {
        let lock = self.lock_of(parent);
        let _alone = lock.write().unwrap_or_else(PoisonError::into_inner);
        let mut caches = self.caches();
        let name = String::from_utf8_lossy(name).into_owned();
        if let Some(Some(dropped)) = caches.entries.remove(&(parent, name)) {
            caches.drop_below(dropped);
        }
        Ok(())
    }

    fn drop_list(&self, dir: Ino) -> io::Result<()> {
        step();
        let mut caches = self.caches();
        // Of a node that it does not have the kernel keeps nothing, not even that it was told.
        if dir == Ino::ROOT || caches.nodes.contains_key(&dir) {
            *caches.nodes.entry(dir).or_default() += 1;
            caches.attrs.remove(&dir);
            caches.lists.remove(&dir);
        }
        Ok(())
    }
}
