//! Listings.
//!
//! ```text
//! offset   1 = `.`   2 = `..`
//!          in an object:            row + 1 (children have row 2 or more)
//!          in a virtual directory:  slot of the name's place + 2, the order of the listing
//! ```
//!
//! A name keeps its number for the life of the mount, so a reader goes on behind an offset whatever
//! came or went, and whichever server answers.

use std::sync::Arc;

use resolver::VirtualDir;

use super::answer::{Answer, Found, kind};
use super::attr::{Inside, NodeAt, entry, node_attr};
use super::place::{Directory, Role, TreeName};
use super::snapshot::Snapshot;
use super::{DirEntry, DynFs, Entry, FsError, Ino, Kind};
use crate::object::ROOT_ENTRY;
use crate::{Disk, Node};

/// Offset of `.`.
const SELF_OFFSET: u64 = 1;
/// Offset of `..`.
const PARENT_OFFSET: u64 = 2;

/// A name in a virtual directory.
#[derive(Debug)]
pub(super) struct Line {
    name: Box<str>,
    /// The slot of the name's place.
    place: u32,
    found: Found,
}

impl Line {
    fn offset(&self) -> u64 {
        u64::from(self.place) + PARENT_OFFSET
    }
}

impl<D: Disk> DynFs<D> {
    /// Lists a directory from `offset` (0 = beginning) until `add` answers `true` for full.
    /// With `plus`, each line carries its attributes.
    ///
    /// # Errors
    ///
    /// [`FsError`], only before the first line.
    pub fn readdir(
        &self,
        ino: Ino,
        offset: u64,
        plus: bool,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        match self.node(ino)? {
            NodeAt::Directory(directory) => self.list_virtual(directory, offset, plus, add),
            NodeAt::Inside(inside) => self.list_inside(&inside, offset, plus, add),
            NodeAt::Link { .. } | NodeAt::File { .. } => Err(FsError::NotDirectory(ino)),
        }
    }

    fn list_virtual(
        &self,
        directory: &Directory,
        offset: u64,
        plus: bool,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let (snapshot, lines) = self.of_one_state(|snapshot| self.lines(snapshot, directory))?;
        let (here, up) = (directory.slot, directory.parent);
        if dots(Ino::new(here, ROOT_ENTRY), Ino::new(up, ROOT_ENTRY), offset, add) {
            return Ok(());
        }
        let first = lines.partition_point(|line| line.offset() <= offset);
        for line in &lines[first..] {
            let (ino, kind) = line.found.ino();
            let entry = if plus { self.line_entry(&snapshot, &line.found) } else { None };
            let name = line.name.as_bytes();
            if add(DirEntry { name, ino, kind, offset: line.offset(), entry }) {
                break;
            }
        }
        Ok(())
    }

    fn list_inside(
        &self,
        inside: &Inside,
        offset: u64,
        plus: bool,
        add: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), FsError> {
        let here = Ino::new(inside.shown, inside.row);
        let tree = self.store.object(&inside.id)?;
        let row = tree.row(inside.row).ok_or(FsError::UnknownInode(here))?;
        let children = match row.node {
            Node::Dir { children, .. } => children,
            Node::Symlink { .. } => return Err(FsError::NotDirectory(here)),
            Node::File { .. } => return Err(FsError::UnknownInode(here)),
        };
        let up = if inside.row == ROOT_ENTRY {
            let (parent, _) = self.slots.place(inside.place).ok_or(FsError::UnknownInode(here))?;
            Ino::new(parent, ROOT_ENTRY)
        } else {
            Ino::new(inside.shown, row.parent)
        };
        if dots(here, up, offset, add) {
            return Ok(());
        }
        // The line behind `offset` is the row of that number.
        let first = u32::try_from(offset).unwrap_or(u32::MAX).max(children.start);
        for number in first..children.end {
            let Some(child) = tree.row(number) else { break };
            let kind = kind(&child.node);
            let ino = inside.ino(number, kind);
            let entry = plus.then(|| entry(node_attr(ino, &child.node)));
            let offset = u64::from(number) + 1;
            if add(DirEntry { name: child.name, ino, kind, offset, entry }) {
                break;
            }
        }
        Ok(())
    }

    /// The names of a virtual directory in the order of their numbers, from this state's cache.
    fn lines(&self, snapshot: &Snapshot, directory: &Directory) -> Result<Arc<[Line]>, FsError> {
        if let Some(lines) = snapshot.list(directory.slot) {
            return Ok(lines);
        }
        let mut lines = self
            .names(snapshot, directory)?
            .into_iter()
            .map(|(name, answer)| {
                let (place, found) = self.found(directory, name.as_bytes(), &answer)?;
                Ok(Line { name, place, found })
            })
            .collect::<Result<Vec<Line>, FsError>>()?;
        lines.sort_unstable_by_key(|line| line.place);
        let lines: Arc<[Line]> = lines.into();
        snapshot.keep_list(directory.slot, &lines);
        Ok(lines)
    }

    /// The names that a virtual directory lists, and what they stand for.
    fn names(
        &self,
        snapshot: &Snapshot,
        directory: &Directory,
    ) -> Result<Vec<(Box<str>, Answer)>, FsError> {
        let directories = |names: Vec<String>| {
            names.into_iter().map(|name| (name.into(), Answer::Directory)).collect()
        };
        match (&directory.role, &directory.tree) {
            (Role::View(VirtualDir::Root), TreeName::Live) => {
                let categories = snapshot.live_categories();
                let unions = ["bin".to_owned(), "so".to_owned()];
                let categories = categories.iter().map(ToString::to_string);
                Ok(directories(unions.into_iter().chain(categories).collect()))
            }
            (Role::View(dir), _) => {
                let names = snapshot.view(&self.store, directory)?.list(dir).unwrap_or_default();
                Ok(names
                    .into_iter()
                    .map(|(name, target)| ((*name).into(), target.into()))
                    .collect())
            }
            (Role::Generations, _) => {
                let numbers = snapshot.shown.numbers();
                Ok(directories(numbers.map(|number| number.to_string()).collect()))
            }
            (Role::Objects | Role::Empty, _) => Ok(Vec::new()),
        }
    }

    /// The attributes of a line, as far as they are known without waiting for a disk.
    fn line_entry(&self, snapshot: &Snapshot, found: &Found) -> Option<Entry> {
        if let Found::Package { object, .. } = found {
            self.slots.root_links(*object)?;
        }
        self.found_attr(snapshot, found).ok().map(entry)
    }
}

/// The first two lines; answers whether it is full.
fn dots(here: Ino, up: Ino, offset: u64, add: &mut dyn FnMut(DirEntry<'_>) -> bool) -> bool {
    [(SELF_OFFSET, here, b".".as_slice()), (PARENT_OFFSET, up, b"..")]
        .into_iter()
        .filter(|(line, ..)| *line > offset)
        .any(|(offset, ino, name)| {
            add(DirEntry { name, ino, kind: Kind::Dir, offset, entry: None })
        })
}
