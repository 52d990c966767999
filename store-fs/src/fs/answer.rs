//! What a name stands for.
//!
//! In virtual directories of the live tree the answer comes from memory alone: the kernel, told to
//! forget a name there, waits for the lookups that run in that directory.

use std::sync::Arc;

use resolver::{ObjectId, Target, VirtualDir};

use super::attr::{Inside, NodeAt, entry, link_attr, node_attr};
use super::place::{Directory, FrozenName, Role, TreeName};
use super::snapshot::Snapshot;
use super::{Attr, DynFs, Entry, FsError, Ino, Kind, NAME_LEN_MAX};
use crate::object::ROOT_ENTRY;
use crate::slots::Key;
use crate::{Disk, Node};

/// What a name in a virtual directory stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Another virtual directory.
    Directory,
    /// An object, whole.
    Package(ObjectId),
    /// An entry of a union, with its text.
    Link(Arc<str>),
}

impl From<Target> for Answer {
    fn from(target: Target) -> Self {
        match target {
            Target::Dir(_) => Self::Directory,
            Target::Package(id) => Self::Package(id),
            Target::Link(text) => Self::Link(text),
        }
    }
}

/// The node of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// The virtual directory at this slot.
    Directory(u32),
    /// An object.
    Package {
        /// Its slot at its place.
        shown: u32,
        /// Its slot.
        object: u32,
        /// Its name.
        id: ObjectId,
    },
    /// An entry of a union.
    Link {
        /// Its slot.
        slot: u32,
        /// Bytes of its text.
        len: usize,
    },
}

impl Found {
    /// The inode and its kind.
    pub(super) fn ino(&self) -> (Ino, Kind) {
        match *self {
            Self::Directory(slot) => (Ino::new(slot, ROOT_ENTRY), Kind::Dir),
            Self::Package { shown, .. } => (Ino::new(shown, ROOT_ENTRY), Kind::Dir),
            Self::Link { slot, .. } => (Ino::new(slot, ROOT_ENTRY), Kind::Symlink),
        }
    }
}

impl<D: Disk> DynFs<D> {
    /// The node of a name; `None` is a miss, to be cached for ever.
    ///
    /// # Errors
    ///
    /// [`FsError`].
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Entry>, FsError> {
        if name.len() > NAME_LEN_MAX {
            return Err(FsError::NameTooLong);
        }
        match self.node(parent)? {
            NodeAt::Directory(directory) => {
                let Ok(text) = std::str::from_utf8(name) else { return Ok(None) };
                let (_, answer) = self.of_one_state(|snapshot| {
                    let Some(answer) = self.answer(snapshot, directory, text)? else {
                        return Ok(None);
                    };
                    let (_, found) = self.found(directory, name, &answer)?;
                    self.found_attr(snapshot, &found).map(entry).map(Some)
                })?;
                Ok(answer)
            }
            NodeAt::Inside(inside) => self.lookup_inside(&inside, name),
            NodeAt::Link { .. } | NodeAt::File { .. } => Err(FsError::NotDirectory(parent)),
        }
    }

    /// An answer, and the state that it is of: one that was still shown when every name in it had
    /// its slot. Whoever shows the next state looks among the slots for names that it must tell the
    /// kernel, and a name that came there later, with an answer from before, would not be told.
    pub(super) fn of_one_state<T>(
        &self,
        answer: impl Fn(&Snapshot) -> Result<T, FsError>,
    ) -> Result<(Arc<Snapshot>, T), FsError> {
        let mut snapshot = self.snapshot.load_full();
        loop {
            let answer = answer(&snapshot)?;
            let now = self.snapshot.load_full();
            if Arc::ptr_eq(&now, &snapshot) {
                return Ok((snapshot, answer));
            }
            snapshot = now;
        }
    }

    fn lookup_inside(&self, inside: &Inside, name: &[u8]) -> Result<Option<Entry>, FsError> {
        let tree = self.store.object(&inside.id)?;
        let ino = Ino::new(inside.shown, inside.row);
        match tree.row(inside.row).ok_or(FsError::UnknownInode(ino))?.node {
            Node::Dir { .. } => {}
            Node::Symlink { .. } => return Err(FsError::NotDirectory(ino)),
            Node::File { .. } => return Err(FsError::UnknownInode(ino)),
        }
        let child = tree.child(inside.row, name).and_then(|row| Some((row, tree.row(row)?.node)));
        Ok(child.map(|(row, node)| entry(node_attr(inside.ino(row, kind(&node)), &node))))
    }

    /// What a name in a virtual directory stands for in this state.
    pub(super) fn answer(
        &self,
        snapshot: &Snapshot,
        directory: &Directory,
        name: &str,
    ) -> Result<Option<Answer>, FsError> {
        match &directory.role {
            Role::View(VirtualDir::Root) => self.root_answer(snapshot, directory, name),
            Role::View(VirtualDir::Category(category)) if name.contains('@') => {
                let release = snapshot.shown.catalog.by_mount_name(category, name);
                Ok(release.map(|release| Answer::Package(release.object)))
            }
            Role::View(dir) => {
                let target = match &directory.tree {
                    TreeName::Live => snapshot.live()?.get(dir, name),
                    TreeName::Frozen(_) => snapshot.view(&self.store, directory)?.get(dir, name),
                };
                Ok(target.map(Answer::from))
            }
            Role::Generations => match FrozenName::parse(0, name) {
                Some(frozen) if snapshot.put_in(&frozen).is_some() => Ok(Some(Answer::Directory)),
                Some(frozen) if frozen.releases.is_some() => Err(FsError::Absent),
                _ => Ok(None),
            },
            Role::Objects => {
                let known = name.parse().ok().filter(|id| snapshot.known.objects.contains(id));
                Ok(known.map(Answer::Package))
            }
            Role::Empty => Ok(None),
        }
    }

    fn root_answer(
        &self,
        snapshot: &Snapshot,
        directory: &Directory,
        name: &str,
    ) -> Result<Option<Answer>, FsError> {
        let live = matches!(directory.tree, TreeName::Live);
        let there = match name {
            "bin" | "so" | ".root" => true,
            ".generations" | ".objects" | ".profiles" => live,
            _ if name.starts_with('.') => false,
            _ if snapshot.known.categories.contains(name) => true,
            _ => snapshot.view(&self.store, directory)?.get(&VirtualDir::Root, name).is_some(),
        };
        Ok(there.then_some(Answer::Directory))
    }

    /// The number of a name and the node of what it stands for, remembered from now on.
    pub(super) fn found(
        &self,
        directory: &Directory,
        name: &[u8],
        answer: &Answer,
    ) -> Result<(u32, Found), FsError> {
        let share = directory.share();
        let place = self.slots.intern(Key::Place { parent: directory.slot, name }, share)?;
        let found = match answer {
            Answer::Directory => Found::Directory(place),
            Answer::Package(id) => {
                let object = self.slots.intern(Key::Object(id), share)?;
                let shown = self.slots.intern(Key::Shown { place, object }, share)?;
                Found::Package { shown, object, id: *id }
            }
            Answer::Link(text) => {
                let key = Key::Link { place, target: text.as_bytes() };
                Found::Link { slot: self.slots.intern(key, share)?, len: text.len() }
            }
        };
        Ok((place, found))
    }

    /// The attributes of what was found.
    pub(super) fn found_attr(&self, snapshot: &Snapshot, found: &Found) -> Result<Attr, FsError> {
        match *found {
            Found::Directory(slot) => {
                let ino = Ino::new(slot, ROOT_ENTRY);
                let directory = self.directories.get(slot).ok_or(FsError::UnknownInode(ino))?;
                self.dir_attr(snapshot, directory)
            }
            Found::Package { shown, object, id } => self.package_attr(shown, object, &id),
            Found::Link { slot, len } => Ok(link_attr(Ino::new(slot, ROOT_ENTRY), len)),
        }
    }
}

/// The kind of a row.
pub(super) fn kind(node: &Node<'_>) -> Kind {
    match node {
        Node::Dir { .. } => Kind::Dir,
        Node::File { .. } => Kind::File,
        Node::Symlink { .. } => Kind::Symlink,
    }
}
