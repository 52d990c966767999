//! What a process needs that has a node open, mapped, as its directory, or as the root of a mount.
//!
//! Whoever collects garbage asks. Nothing is asked for by that: an object stays in the trash.

use resolver::{GenerationNumber, ObjectId, ReleaseId};

use super::attr::{Inside, NodeAt};
use super::place::TreeName;
use super::{DynFs, Ino};
use crate::Disk;

/// What is needed behind a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// An object.
    Object(ObjectId),
    /// A frozen tree.
    Tree {
        /// The generation.
        number: GenerationNumber,
        /// The releases that are put in.
        releases: Vec<ReleaseId>,
    },
}

impl<D: Disk> DynFs<D> {
    /// What is needed behind a node; `None` for one of the live tree, which follows what is
    /// selected, and for a number that stands for nothing.
    pub fn held(&self, ino: Ino) -> Option<Held> {
        match self.stands_for(ino).ok()? {
            NodeAt::File { id, .. } | NodeAt::Inside(Inside { id, .. }) => Some(Held::Object(id)),
            NodeAt::Directory(directory) => {
                let TreeName::Frozen(name) = &directory.tree else { return None };
                let snapshot = self.snapshot.load();
                let put_in = snapshot.put_in(name)?;
                let releases = put_in.into_iter().map(|release| release.id.clone()).collect();
                Some(Held::Tree { number: name.number, releases })
            }
            NodeAt::Link { .. } => None,
        }
    }
}
