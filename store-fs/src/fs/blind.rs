//! What a kernel is told when nobody knows what it was told before: everything in the live tree.

use std::sync::Arc;

use resolver::{GenerationNumber, View};

use super::place::{Directory, Role, TreeName};
use super::{Announcement, DynFs, Ino, Shown};
use crate::Disk;
use crate::object::ROOT_ENTRY;

impl<D: Disk> DynFs<D> {
    /// What a kernel must be told now that was told of a state which cannot be read any more. Names
    /// that it found are in the slot table; names that it missed and that are there now are what
    /// differs from an empty state. All packages lose what is cached of them.
    pub fn catch_up_blindly(&self, promised: &[String]) -> Announcement {
        let now = self.shown();
        let nothing = Shown {
            generation: GenerationNumber(0),
            view: Arc::new(View::default()),
            catalog: Arc::clone(&now.catalog),
            generations: Arc::default(),
        };
        let mut announcement = self.catch_up(&nothing, promised);
        for (slot, parent, name) in self.slots.places() {
            if slot != parent && self.directories.get(parent).is_some_and(is_live) {
                announcement.entries.push((Ino::new(parent, ROOT_ENTRY), name));
            }
            if self.directories.get(slot).is_some_and(is_live) {
                announcement.lists.push(Ino::new(slot, ROOT_ENTRY));
            }
        }
        // The root has no place of its own in the table.
        announcement.lists.push(Ino::ROOT);
        // Deeper directories have higher slots, and are told of first.
        announcement.entries.sort_by(|a, b| b.cmp(a));
        announcement.entries.dedup();
        announcement.lists.sort();
        announcement.lists.dedup();
        announcement.waiting(&self.slots)
    }
}

fn is_live(directory: &Directory) -> bool {
    matches!((&directory.tree, &directory.role), (TreeName::Live, Role::View(_)))
}
