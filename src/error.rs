//! What a command says when it fails: kind, message, causes and a next command.
//!
//! One type for both sides of the control socket, so that a failure reads the same whether the
//! daemon or the command itself met it. It never prints; that is `report`'s.

use std::error::Error;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

mod convert;

pub(crate) use convert::exact;

/// The kinds of failure, each with its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something went wrong. 1.
    Failed,
    /// The command was not understood. 2.
    Usage,
    /// No such package, release, generation or path. 3.
    NotFound,
    /// Understood, possible, and not done for a reason. 4.
    Refused,
    /// The caller may not. 5.
    Permission,
    /// No daemon, no mount, or the store is busy. 6.
    Unavailable,
    /// Something in the store is not what it must be. 7.
    Integrity,
    /// The reader of standard output went away: nothing is wrong and nothing is said. 0.
    BrokenPipe,
}

impl Kind {
    /// The exit code of the process.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Permission => 5,
            Self::Unavailable => 6,
            Self::Integrity => 7,
        }
    }

    /// The kind of an operating system's refusal.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Permission,
            _ => Self::Failed,
        }
    }
}

/// A failed command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// The kind: decides the exit code.
    pub kind: Kind,
    /// What.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to type next.
    pub hints: Vec<String>,
}

impl CommandError {
    /// A failure without a cause or hint.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// A command that was not understood.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The operating system refused `action` (a verb in the -ing form) on `path`.
    #[must_use]
    pub fn io(action: &str, path: &Path, source: &io::Error) -> Self {
        Self::new(Kind::of_io(source), format!("{action} {}", path.display())).because(source)
    }

    /// What helps who may not write to a store.
    #[must_use]
    pub fn way_in(error: &io::Error) -> &'static str {
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => {
                "mount its file system for writing, or give --store DIR; reading it works"
            }
            _ => "run it as the owner of the store, or give --store DIR",
        }
    }

    /// The same with an error and what stands behind it as its cause.
    #[must_use]
    pub fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        self.causes.push(cause.to_string());
        self.with_sources(cause)
    }

    /// The same with what stands behind `error`, but not its own words.
    #[must_use]
    pub fn with_sources(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = error.source();
        while let Some(source) = next {
            let words = source.to_string();
            if self.causes.last() != Some(&words) {
                self.causes.push(words);
            }
            next = source.source();
        }
        self
    }

    /// The same with a next command or a piece of advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}
