//! What commands and the daemon say to each other over the control socket.
//!
//! ```text
//! client                                   server
//!   {"call":"hello","protocol":1,...}\n  ->
//!                                        <-  {"answer":"hello","protocol":1,...}\n
//!   {"call":"edit","request":"9f..",..}\n ->
//!                                        <-  {"answer":"done",...}\n  or  {"answer":"failed",..}\n
//! ```
//!
//! One JSON document a line, one answer a call, at most [`LINE_LEN_MAX`] bytes a line. An edit
//! carries a [`RequestId`], so a client whose connection broke before the answer can ask what
//! became of it. Nothing here opens a socket; [`Wire`] speaks over any stream.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use resolver::{
    Category, GenerationNumber, ObjectId, PackageName, Providers, Release, ReleaseId, RequestId,
    Spec, Timestamp, Why,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store_fs::BadFile;

use crate::error::CommandError;

mod garbage;

pub use garbage::{Deleted, Forgotten, Held, Used};

/// Version of the protocol.
pub const PROTOCOL: u32 = 1;

/// Longest line, in bytes: room for 10,000 specs and as many changes.
pub const LINE_LEN_MAX: usize = 16 * 1024 * 1024;

/// Longest line of a caller who may not change the store.
pub const READER_LINE_LEN_MAX: usize = 4 * 1024;

/// Bytes that are read at once.
const CHUNK_LEN: usize = 64 * 1024;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// First on a connection.
    Hello {
        /// [`PROTOCOL`] of the client.
        protocol: u32,
    },
    /// How the daemon is.
    Status,
    /// Change the store.
    Edit {
        /// The client's name for this call.
        request: RequestId,
        /// Sent before, on a connection that broke.
        again: bool,
        /// What to change.
        edit: Edit,
    },
    /// What became of an edit.
    Outcome {
        /// Its name.
        request: RequestId,
    },
    /// Replace a process of the daemon under load. Answered when it is the keeper, or when it was
    /// not done; a server that is replaced cannot answer.
    Reexec {
        /// Which.
        what: Replaced,
    },
    /// What processes need that hold these nodes of the mount.
    Held {
        /// Their numbers, as the kernel shows them.
        inodes: Vec<u64>,
    },
    /// Unmount and end.
    Unmount {
        /// Even while it is in use.
        lazy: bool,
    },
}

/// A process of the daemon that is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "snake_case")]
pub enum Replaced {
    /// The server, by one of this program.
    Server {
        /// An absolute path.
        #[serde(with = "crate::path_text")]
        exe: std::path::PathBuf,
    },
    /// The keeper, by one of the program that the server runs.
    Keeper,
}

/// A change of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "snake_case")]
pub enum Edit {
    /// Select these; keep all else.
    Select {
        /// One spec a package.
        specs: Vec<Spec>,
        /// Who wins every contest it is in.
        providers: Vec<PackageName>,
    },
    /// Select these no more.
    Unselect {
        /// The packages.
        packages: Vec<PackageName>,
    },
    /// Make the selections equal to these.
    Apply {
        /// One spec a package.
        specs: Vec<Spec>,
        /// Decided contests.
        providers: Providers,
    },
    /// Back to the state before the last change.
    Undo,
    /// Forward again.
    Redo,
    /// Back to the state of one generation.
    Restore {
        /// Its number; 0 is the empty state.
        to: GenerationNumber,
    },
    /// Add a release whose object is in the store.
    Publish {
        /// Its record.
        release: Box<Release>,
    },
    /// Remove release records.
    Remove {
        /// Their names.
        releases: Vec<ReleaseId>,
    },
    /// Move bad files aside, so that good ones can take their names.
    Repair {
        /// The files, as they were found; those that changed since are left alone.
        aside: Vec<BadFile>,
        /// The newest generation too, when it is among them and nobody knows what it said.
        newest: bool,
        /// Write the index anew.
        index: bool,
    },
    /// Remove generations that are not kept, and release records that no kept one selects.
    Forget {
        /// The newest generations that stay, whatever their age.
        keep: u64,
        /// What was made then or later stays; without it, age keeps nothing.
        since: Option<Timestamp>,
        /// What processes need.
        used: Used,
    },
    /// Delete what is in the trash and still not needed, and blobs that no object names.
    EmptyTrash {
        /// Objects that processes need.
        used: Vec<ObjectId>,
    },
    /// Put objects that nothing needs into the trash.
    Trash {
        /// Objects that processes need.
        used: Vec<ObjectId>,
    },
}

impl Edit {
    /// Whether what it changes is a generation, so that the request's name is found in it.
    #[must_use]
    pub const fn makes_a_generation(&self) -> bool {
        match self {
            Self::Select { .. }
            | Self::Unselect { .. }
            | Self::Apply { .. }
            | Self::Undo
            | Self::Redo
            | Self::Restore { .. } => true,
            Self::Publish { .. }
            | Self::Remove { .. }
            | Self::Repair { .. }
            | Self::Forget { .. }
            | Self::EmptyTrash { .. }
            | Self::Trash { .. } => false,
        }
    }
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To hello.
    Hello {
        /// [`PROTOCOL`] of the daemon.
        protocol: u32,
    },
    /// To status.
    Status(Box<DaemonStatus>),
    /// The edit is done: durable, and visible unless it says otherwise.
    Done(Done),
    /// To outcome.
    Outcome {
        /// `None`: it was never done.
        done: Option<Done>,
    },
    /// The keeper was replaced.
    Replaced,
    /// To held, in the same order; `None` for what nothing needs.
    Held {
        /// What is needed.
        held: Vec<Option<Held>>,
    },
    /// Unmounting has begun.
    Unmounting,
    /// Not done.
    Failed(CommandError),
}

/// How a daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// What it shows.
    pub generation: GenerationNumber,
    /// What the mount knows of itself.
    pub live: LiveStatus,
}

/// What the mount knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveStatus {
    /// Where it is mounted.
    #[serde(with = "crate::path_text")]
    pub mountpoint: std::path::PathBuf,
    /// Process id of the keeper; none while its server has not yet started another.
    pub keeper_pid: Option<u32>,
    /// Process id of the server.
    pub server_pid: u32,
    /// Servers that the keeper has replaced.
    pub server_restarts: u64,
    /// Seconds since 1970 at which the mount was made.
    pub mounted_at: i64,
    /// The generation that the kernel was last told of completely.
    pub announced: GenerationNumber,
    /// Requests of the kernel since the mount, by operation.
    pub requests: Vec<(String, u64)>,
    /// Things the user should know, one sentence each.
    pub notes: Vec<String>,
    /// What programs have met and cannot be served: the last so many files of the store. A server
    /// before the first that says it says nothing.
    #[serde(default)]
    pub damaged: Vec<Damaged>,
}

/// A file of the store that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Where it was met, below the mount: one path for each release, as `app/demo@1.0/share/x`.
    pub paths: Vec<String>,
    /// The file: a blob, an object, or another one.
    pub file: Option<String>,
    /// What is wrong, in words.
    pub reason: String,
}

/// An edit that was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "done", rename_all = "snake_case")]
pub enum Done {
    /// The selections.
    Switched(Switched),
    /// A release was added, or was there.
    Published {
        /// Its name.
        release: ReleaseId,
        /// Whether it was not there before.
        new: bool,
        /// Why the kernel could not be told, when it could not.
        unshown: Option<String>,
    },
    /// Bad files were moved aside.
    Repaired {
        /// Where they are now, below the store's directory.
        aside: Vec<PathBuf>,
        /// A generation that was written again from what the daemon knew of it.
        renewed: Option<GenerationNumber>,
        /// Why the kernel could not be told, when it could not.
        unshown: Option<String>,
    },
    /// Release records were removed.
    Removed {
        /// Their names.
        releases: Vec<ReleaseId>,
        /// Why the kernel could not be told, when it could not.
        unshown: Option<String>,
    },
    /// Names went.
    Forgotten(Forgotten),
    /// The trash was emptied.
    Emptied(Deleted),
    /// Objects went into the trash.
    Trashed {
        /// Their names.
        objects: Vec<ObjectId>,
    },
}

/// How the selections changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Switched {
    /// The generation before.
    pub before: GenerationNumber,
    /// The generation after; the same when there was nothing to do.
    pub after: GenerationNumber,
    /// Packages whose release changed, by name.
    pub changes: Vec<Swap>,
    /// What the user should be told beside that, one sentence each.
    pub notes: Vec<String>,
    /// Why the kernel could not be told, when it could not.
    pub unshown: Option<String>,
}

/// One package's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// The package.
    pub package: PackageName,
    /// Where it lives.
    pub category: Category,
    /// What was selected.
    pub from: Option<ReleaseId>,
    /// What is selected.
    pub to: Option<ReleaseId>,
    /// Why, when something is.
    pub why: Option<Why>,
}

impl From<&resolver::Change> for Swap {
    fn from(change: &resolver::Change) -> Self {
        Self {
            package: change.package.clone(),
            category: change.category.clone(),
            from: change.from.clone(),
            to: change.to.clone(),
            why: change.why.clone(),
        }
    }
}

/// The swaps that lead from one state to another, by package.
#[must_use]
pub fn swaps(from: &resolver::Selections, to: &resolver::Selections) -> Vec<Swap> {
    let names: BTreeSet<_> = from.packages.keys().chain(to.packages.keys()).collect();
    let swap = |name: &PackageName| {
        let (old, new) = (from.packages.get(name), to.packages.get(name));
        let present = new.or(old)?;
        (old.map(|old| &old.release) != new.map(|new| &new.release)).then(|| Swap {
            package: name.clone(),
            category: present.category.clone(),
            from: old.map(|old| old.release.clone()),
            to: new.map(|new| new.release.clone()),
            why: new.map(|new| new.why.clone()),
        })
    };
    names.into_iter().filter_map(swap).collect()
}

/// Why a line could not be sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The operating system's.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The other side went away in the middle of a line.
    #[error("the connection ended in the middle of a line")]
    Truncated,
    /// A line is longer than allowed.
    #[error("a line is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// A line is not the JSON that was expected.
    #[error("a line is not understood")]
    Garbage(#[source] serde_json::Error),
}

/// Lines of JSON over a stream.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    /// Received and not yet handed out.
    buffer: Vec<u8>,
}

impl<S: Read + Write> Wire<S> {
    /// Speaks over `stream`, which must block and should have time limits.
    pub const fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The stream itself.
    pub const fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sends one line.
    ///
    /// # Errors
    ///
    /// [`WireError::Io`]; [`WireError::TooLong`] before anything is sent.
    pub fn send<T: Serialize>(&mut self, document: &T) -> Result<(), WireError> {
        let mut line = serde_json::to_vec(document).map_err(WireError::Garbage)?;
        if line.len() >= LINE_LEN_MAX {
            return Err(WireError::TooLong { limit: LINE_LEN_MAX });
        }
        line.push(b'\n');
        self.stream.write_all(&line)?;
        Ok(self.stream.flush()?)
    }

    /// Receives one line of at most `limit` bytes; `None` when the other side has ended.
    ///
    /// # Errors
    ///
    /// [`WireError`]; after any but [`WireError::TooLong`], which may be tried again with a higher
    /// limit, the stream is of no more use.
    pub fn receive<T: DeserializeOwned>(&mut self, limit: usize) -> Result<Option<T>, WireError> {
        let mut searched = 0;
        let end = loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                break searched + at;
            }
            searched = self.buffer.len();
            if searched > limit {
                return Err(WireError::TooLong { limit });
            }
            if !self.fill()? {
                return if searched == 0 { Ok(None) } else { Err(WireError::Truncated) };
            }
        };
        if end > limit {
            return Err(WireError::TooLong { limit });
        }
        let document = serde_json::from_slice(&self.buffer[..end]).map_err(WireError::Garbage)?;
        self.buffer.drain(..=end);
        // A long line takes no memory once it is read.
        self.buffer.shrink_to(CHUNK_LEN);
        Ok(Some(document))
    }

    /// Reads some more; `false` at the end.
    fn fill(&mut self) -> Result<bool, WireError> {
        let mut chunk = vec![0; CHUNK_LEN];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(len) => {
                    self.buffer.extend_from_slice(&chunk[..len]);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Wire<std::os::unix::net::UnixStream> {
    /// Waits for an answer no longer than this.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn set_patience(&self, patience: std::time::Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }
}

#[cfg(test)]
mod tests;
