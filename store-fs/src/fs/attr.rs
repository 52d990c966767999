//! What a node is: its attributes, its text, its bytes, and how much there is of everything.

use std::collections::HashMap;
use std::sync::Arc;

use resolver::{ObjectId, Target, VirtualDir};

use super::place::{Directory, Role, TreeName};
use super::snapshot::Snapshot;
use super::{Attr, DynFs, Entry, FOR_EVER, FsError, Ino, Kind, Statistics};
use crate::object::ROOT_ENTRY;
use crate::slots::{Key, Share, Slot};
use crate::sync::Mutex;
use crate::{Disk, Node, Tree};

/// `st_size` of every directory: a constant, since a view has none.
const DIR_SIZE: u64 = 4096;
/// `st_mtime` of everything but regular files, in seconds since 1970.
const MTIME: i64 = 1;
/// Directories of the root of the live tree that are always listed: `bin` and `so`.
const UNIONS: u32 = 2;
/// Bytes of a block in [`Statistics`].
const BLOCK: u64 = 4096;
/// Objects that one call of [`DynFs::statistics`] looks at for the first time.
const MEASURED_PER_CALL: usize = 256;

/// Sizes of objects that were measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    objects: Mutex<HashMap<ObjectId, Statistics>>,
}

/// What an inode number stands for.
#[derive(Debug)]
pub(super) enum NodeAt<'a> {
    /// A virtual directory.
    Directory(&'a Directory),
    /// An entry of a union.
    Link {
        /// Its text.
        target: Vec<u8>,
    },
    /// A row of an object: one of its files.
    File {
        /// The object.
        id: ObjectId,
        /// The row.
        row: u32,
    },
    /// A row of an object seen at a place: one of its directories or symbolic links.
    Inside(Inside),
}

/// A directory or symbolic link of an object, as seen at a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    /// The slot of the object seen at the place.
    pub(super) shown: u32,
    /// The slot of the place.
    pub(super) place: u32,
    /// The slot of the object.
    pub(super) object: u32,
    /// The object.
    pub(super) id: ObjectId,
    /// The row.
    pub(super) row: u32,
}

impl Inside {
    /// The inode of a row of the same object at the same place.
    pub(super) fn ino(&self, row: u32, kind: Kind) -> Ino {
        match kind {
            Kind::File => Ino::new(self.object, row),
            Kind::Dir | Kind::Symlink => Ino::new(self.shown, row),
        }
    }
}

impl<D: Disk> DynFs<D> {
    /// The attributes of a node.
    ///
    /// # Errors
    ///
    /// [`FsError`].
    pub fn attr(&self, ino: Ino) -> Result<Attr, FsError> {
        match self.node(ino)? {
            NodeAt::Directory(directory) => self.dir_attr(&self.snapshot.load(), directory),
            NodeAt::Link { target } => Ok(link_attr(ino, target.len())),
            NodeAt::File { id, row } => {
                match self.store.object(&id)?.row(row).map(|row| row.node) {
                    Some(node @ Node::File { .. }) => Ok(node_attr(ino, &node)),
                    _ => Err(FsError::UnknownInode(ino)),
                }
            }
            NodeAt::Inside(inside) if inside.row == ROOT_ENTRY => {
                self.package_attr(inside.shown, inside.object, &inside.id)
            }
            NodeAt::Inside(inside) => {
                let tree = self.store.object(&inside.id)?;
                match tree.row(inside.row).map(|row| row.node) {
                    None | Some(Node::File { .. }) => Err(FsError::UnknownInode(ino)),
                    Some(node) => Ok(node_attr(ino, &node)),
                }
            }
        }
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    ///
    /// [`FsError`].
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>, FsError> {
        match self.node(ino)? {
            NodeAt::Link { target } => Ok(target),
            NodeAt::Inside(inside) => {
                let tree = self.store.object(&inside.id)?;
                match tree.row(inside.row).ok_or(FsError::UnknownInode(ino))?.node {
                    Node::Symlink { target } => Ok(target.to_vec()),
                    _ => Err(FsError::NotSymlink(ino)),
                }
            }
            NodeAt::Directory(_) | NodeAt::File { .. } => Err(FsError::NotSymlink(ino)),
        }
    }

    /// Appends up to `len` verified bytes of a file to `buffer`; fewer at its end.
    ///
    /// # Errors
    ///
    /// [`FsError`]; then `buffer` is as it was.
    pub fn read(
        &self,
        ino: Ino,
        offset: u64,
        len: u32,
        buffer: &mut Vec<u8>,
    ) -> Result<(), FsError> {
        let NodeAt::File { id, row } = self.node(ino)? else { return Err(FsError::NotFile(ino)) };
        let tree = self.store.object(&id)?;
        let Some(Node::File { blob, size, .. }) = tree.row(row).map(|row| row.node) else {
            return Err(FsError::UnknownInode(ino));
        };
        if offset < size {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            self.store.read(&blob, size, offset, len, buffer)?;
        }
        Ok(())
    }

    /// Size and use. Objects that nobody has looked at since the mount count as nothing, and one
    /// call measures a bounded number of the others for the first time.
    pub fn statistics(&self) -> Statistics {
        let shown = self.shown();
        let mut sum = Statistics::default();
        let mut left = MEASURED_PER_CALL;
        let categories = shown.view.list(&VirtualDir::Root).unwrap_or_default();
        for (_, category) in categories {
            let Target::Dir(dir @ VirtualDir::Category(_)) = category else { continue };
            for (_, target) in shown.view.list(&dir).unwrap_or_default() {
                let Target::Package(id) = target else { continue };
                if let Some(part) = self.measure(&id, &mut left) {
                    sum.blocks = sum.blocks.saturating_add(part.blocks);
                    sum.files = sum.files.saturating_add(part.files);
                }
            }
        }
        sum
    }

    /// The node that somebody asks for, which takes its object out of the trash.
    pub(super) fn node(&self, ino: Ino) -> Result<NodeAt<'_>, FsError> {
        let node = self.stands_for(ino)?;
        if let NodeAt::File { id, .. } | NodeAt::Inside(Inside { id, .. }) = &node {
            self.store.asked_for(id);
        }
        Ok(node)
    }

    /// What an inode number stands for.
    pub(super) fn stands_for(&self, ino: Ino) -> Result<NodeAt<'_>, FsError> {
        let (slot, row) = ino.parts();
        if row == ROOT_ENTRY
            && let Some(directory) = self.directories.get(slot)
        {
            return Ok(NodeAt::Directory(directory));
        }
        match self.slots.get(slot) {
            Some(Slot::Object(id)) => Ok(NodeAt::File { id, row }),
            Some(Slot::Shown { place, object }) => match self.slots.get(object) {
                Some(Slot::Object(id)) => {
                    Ok(NodeAt::Inside(Inside { shown: slot, place, object, id, row }))
                }
                _ => Err(FsError::UnknownInode(ino)),
            },
            Some(Slot::Link { target, .. }) if row == ROOT_ENTRY => Ok(NodeAt::Link { target }),
            _ => Err(FsError::UnknownInode(ino)),
        }
    }

    /// The attributes of a virtual directory. The top of a frozen tree never needs its view.
    pub(super) fn dir_attr(
        &self,
        snapshot: &Snapshot,
        directory: &Directory,
    ) -> Result<Attr, FsError> {
        let ino = Ino::new(directory.slot, ROOT_ENTRY);
        let links = match (&directory.role, &directory.tree) {
            (Role::View(VirtualDir::Root), TreeName::Live) => {
                2 + UNIONS + count(snapshot.live_categories().len())
            }
            (Role::View(VirtualDir::Root), TreeName::Frozen(_)) => 1,
            (Role::View(dir @ VirtualDir::Category(_)), _) => {
                match snapshot.view(&self.store, directory) {
                    Ok(view) => 2 + count(view.list(dir).map_or(0, |packages| packages.len())),
                    // Not known, and no reason to withhold the releases by version that are in it.
                    Err(FsError::Withheld(_)) => 1,
                    Err(error) => return Err(error),
                }
            }
            (Role::Generations, _) => 2 + count(snapshot.shown.numbers().count()),
            (Role::View(VirtualDir::Bin | VirtualDir::So) | Role::Objects | Role::Empty, _) => 2,
        };
        Ok(directory_attr(ino, links))
    }

    /// The attributes of an object's root as seen at a place.
    pub(super) fn package_attr(
        &self,
        shown: u32,
        object: u32,
        id: &ObjectId,
    ) -> Result<Attr, FsError> {
        let links = match self.slots.root_links(object) {
            Some(links) => links,
            None => self.learn_root(object, &*self.store.object(id)?),
        };
        Ok(directory_attr(Ino::new(shown, ROOT_ENTRY), links))
    }

    /// Looks at an object before its name is shown, so that no lookup has to. What cannot be read
    /// is the affair of whoever asks for it.
    pub(super) fn look_ahead(&self, id: &ObjectId) {
        if let Ok(object) = self.slots.intern(Key::Object(id), Share::Live)
            && self.slots.root_links(object).is_none()
            && let Ok(tree) = self.store.object(id)
        {
            self.learn_root(object, &tree);
        }
    }

    fn learn_root(&self, object: u32, tree: &Tree) -> u32 {
        let links = match tree.row(ROOT_ENTRY).map(|row| row.node) {
            Some(Node::Dir { subdirs, .. }) => subdirs.saturating_add(2),
            _ => 2,
        };
        self.slots.set_root_links(object, links);
        links
    }

    fn measure(&self, id: &ObjectId, left: &mut usize) -> Option<Statistics> {
        if let Some(known) = self.measured.objects.lock().get(id) {
            return Some(*known);
        }
        let object = self.slots.find(Key::Object(id))?;
        self.slots.root_links(object)?;
        *left = left.checked_sub(1)?;
        let measured = measure_tree(&self.store.object(id).ok()?);
        self.measured.objects.lock().insert(*id, measured);
        Some(measured)
    }
}

fn measure_tree(tree: &Arc<Tree>) -> Statistics {
    let blocks = (ROOT_ENTRY..=tree.rows())
        .filter_map(|row| match tree.row(row)?.node {
            Node::File { size, .. } => Some(size.div_ceil(BLOCK)),
            Node::Dir { .. } | Node::Symlink { .. } => None,
        })
        .fold(0, u64::saturating_add);
    Statistics { blocks, files: u64::from(tree.rows()) }
}

/// The answer to a lookup, to be kept for ever.
pub(super) fn entry(attr: Attr) -> Entry {
    Entry { attr, ttl: FOR_EVER }
}

/// The attributes of a row of an object.
pub(super) fn node_attr(ino: Ino, node: &Node<'_>) -> Attr {
    match node {
        Node::Dir { subdirs, .. } => directory_attr(ino, subdirs.saturating_add(2)),
        Node::File { size, mtime, executable, .. } => {
            let perm = if *executable { 0o555 } else { 0o444 };
            Attr { ino, kind: Kind::File, size: *size, perm, nlink: 1, mtime: *mtime }
        }
        Node::Symlink { target } => link_attr(ino, target.len()),
    }
}

pub(super) fn link_attr(ino: Ino, len: usize) -> Attr {
    let size = len as u64;
    Attr { ino, kind: Kind::Symlink, size, perm: 0o777, nlink: 1, mtime: MTIME }
}

fn directory_attr(ino: Ino, nlink: u32) -> Attr {
    Attr { ino, kind: Kind::Dir, size: DIR_SIZE, perm: 0o555, nlink, mtime: MTIME }
}

fn count(names: usize) -> u32 {
    u32::try_from(names).unwrap_or(u32::MAX - 4)
}
