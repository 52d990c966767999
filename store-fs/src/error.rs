//! What can go wrong with a store, with the path it went wrong at.

use std::io;
use std::path::{Path, PathBuf};

use resolver::{GenerationNumber, ObjectId, ReleaseId};
use rustix::io::Errno;

/// An operation on a store failed. Nothing was changed unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no store at this place.
    #[error("there is no store at {}", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// What should be the directory of a store is none, or is below something that is none.
    #[error("{} is not a directory", path.display())]
    NotDirectory {
        /// Where.
        path: PathBuf,
    },
    /// There is no store in this directory, and something else: a store is made in an empty one.
    #[error("{} is not empty and holds no store: {} is in it", path.display(), found.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// One thing that is in it.
        found: PathBuf,
    },
    /// The operating system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done, as a verb in the -ing form: `reading`, `writing`, `syncing`.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file of the store does not hold what its name or its trailer promises.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In what way.
        reason: String,
    },
    /// The store, or a record in it, was written in a newer format.
    #[error("{} has format {found}, and this program knows up to {known}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The store uses features that this program does not know.
    #[error("the store uses unknown features: {}", features.join(", "))]
    UnknownFeatures {
        /// Their names.
        features: Vec<String>,
    },
    /// The store was made for another prefix.
    #[error(
        "the store was made for the prefix {}, not {}",
        present.display(),
        given.display()
    )]
    OtherPrefix {
        /// The prefix in its format record.
        present: PathBuf,
        /// The prefix that was asked for.
        given: PathBuf,
    },
    /// Another process is the writer.
    #[error("process {pid} is writing to the store")]
    Locked {
        /// That process; 0 when it could not be learned.
        pid: u32,
    },
    /// Somebody adds content, so what is garbage cannot be known.
    #[error("content is being added to the store")]
    Adding,
    /// Garbage is being collected, so nothing may be added.
    #[error("garbage is being collected in the store")]
    Collecting,
    /// A generation of this number was written by another writer.
    #[error("generation {number} exists already")]
    Lost {
        /// The number.
        number: GenerationNumber,
    },
    /// The store has no such generation.
    #[error("there is no generation {number}")]
    NoGeneration {
        /// The number.
        number: GenerationNumber,
    },
    /// The store has no such object.
    #[error("there is no object {id}")]
    NoObject {
        /// The object.
        id: ObjectId,
    },
    /// The release is there with other content.
    #[error("{id} is already in the store with other content")]
    OtherContent {
        /// The release.
        id: Box<ReleaseId>,
    },
    /// What was given is larger or deeper than a store holds.
    #[error("{what} is over the limit of {limit}")]
    Limit {
        /// What was counted.
        what: String,
        /// The named constant's value.
        limit: u64,
    },
}

impl StoreError {
    /// The file that cannot be used, when it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. } | Self::Damaged { path, .. } | Self::NewerFormat { path, .. } => {
                Some(path)
            }
            _ => None,
        }
    }

    /// Whether it means that a file is not what it must be. A sector that cannot be read is as bad
    /// as one that reads wrongly; a limit on open files, say, is not about the file.
    pub(crate) fn is_bad_file(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io { source, .. } => Errno::from_io_error(source) == Some(Errno::IO),
            _ => false,
        }
    }
}
