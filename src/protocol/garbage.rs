//! What is said about garbage: who needs what, and what went.

use resolver::{GenerationNumber, ObjectId, ReleaseId};
use serde::{Deserialize, Serialize};
use store_fs::Emptied;

/// What processes need, as whoever collects garbage has seen it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Objects of which something is open, mapped, a directory of a process or the root of a mount.
    pub objects: Vec<ObjectId>,
    /// Generations whose frozen trees are, in any of these ways.
    pub generations: Vec<GenerationNumber>,
    /// Releases that are put into such a tree.
    pub releases: Vec<ReleaseId>,
}

/// What a process needs of which only the number of a node is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "held", rename_all = "snake_case")]
pub enum Held {
    /// An object.
    Object {
        /// Its name.
        id: ObjectId,
    },
    /// A frozen tree.
    Tree {
        /// The generation.
        number: GenerationNumber,
        /// The releases that are put in.
        releases: Vec<ReleaseId>,
    },
}

impl From<store_fs::Held> for Held {
    fn from(held: store_fs::Held) -> Self {
        match held {
            store_fs::Held::Object(id) => Self::Object { id },
            store_fs::Held::Tree { number, releases } => Self::Tree { number, releases },
        }
    }
}

/// Names that went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Generations, ascending.
    pub generations: Vec<GenerationNumber>,
    /// Releases.
    pub releases: Vec<ReleaseId>,
    /// There is more to forget: one edit does a bounded part.
    pub more: bool,
    /// Why the kernel could not be told, when it could not.
    pub unshown: Option<String>,
}

/// What was deleted for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Objects.
    pub objects: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of these and of outboards.
    pub bytes: u64,
    /// There is more to delete: one edit does a bounded part.
    #[serde(default)]
    pub more: bool,
}

impl From<Emptied> for Deleted {
    fn from(emptied: Emptied) -> Self {
        let Emptied { objects, blobs, bytes, more } = emptied;
        Self { objects, blobs, bytes, more }
    }
}
