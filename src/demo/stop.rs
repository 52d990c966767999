//! Why a demo ended early, in words for the person in front of it. Never holds a way to go on.

use std::io;
use std::path::PathBuf;

/// The reason for an early end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// There is no FUSE here; one sentence that says what to install or do.
    #[error("{0}")]
    NoFuse(String),
    /// A tool is missing; one sentence that says what to install.
    #[error("{0}")]
    Missing(String),
    /// Something that the demo promised is not so.
    #[error("this should hold and does not: {claim}\n{found}")]
    Wrong { claim: String, found: String },
    /// A command failed.
    #[error("`{command}` failed ({status})\n{said}")]
    Command { command: String, status: String, code: Option<i32>, said: String },
    /// A command did not end in time and was killed.
    #[error("`{command}` did not end within {seconds} s and was killed")]
    TooLong { command: String, seconds: u64 },
    /// A command printed what this demo does not understand.
    #[error("`{command}` printed something unexpected: {said}")]
    Unreadable { command: String, said: String },
    /// A signal asked the demo to end.
    #[error("interrupted")]
    Interrupted,
    /// The operating system refused.
    #[error("{action}: {source}")]
    Io { action: String, source: io::Error },
    /// The mount would not go away; nothing was deleted.
    #[error("cannot unmount {}: {said}\nThe directory {} was left as it is; \
             try `umount --lazy` or `fusermount3 -u -z` on the mount and delete it then",
            mountpoint.display(), directory.display())]
    StillMounted { mountpoint: PathBuf, directory: PathBuf, said: String },
}

impl Stop {
    /// An error of the operating system while doing `action`.
    pub(super) fn io(action: impl Into<String>, source: io::Error) -> Self {
        Self::Io { action: action.into(), source }
    }

    /// The exit code of the demo; the numbers are those of every dynfs command.
    pub(super) fn exit_code(&self) -> u8 {
        const FAILED: u8 = 1;
        const UNAVAILABLE: u8 = 6;
        const INTERRUPTED: u8 = 130;
        match self {
            Self::NoFuse(_) => UNAVAILABLE,
            Self::Command { code: Some(code), .. } if *code == i32::from(UNAVAILABLE) => {
                UNAVAILABLE
            }
            Self::Interrupted => INTERRUPTED,
            _ => FAILED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_mount_keeps_its_exit_code_and_everything_else_is_a_failure() {
        let command = |code| Stop::Command {
            command: "dynfs mount /x".into(),
            status: "exit status".into(),
            code,
            said: String::new(),
        };
        for (stop, code) in [
            (Stop::NoFuse("no".into()), 6),
            (Stop::Missing("no".into()), 1),
            (command(Some(6)), 6),
            (command(Some(4)), 1),
            (command(None), 1),
            (Stop::Interrupted, 130),
            (Stop::Wrong { claim: "a".into(), found: "b".into() }, 1),
        ] {
            assert_eq!(stop.exit_code(), code, "{stop}");
        }
    }
}
