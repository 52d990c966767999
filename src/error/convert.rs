//! From the errors of every layer to exit codes and hints: one table, nothing is decided elsewhere.

use std::io;

use resolver::catalog::CatalogError;
use resolver::{NameError, PackageName, Refusal, ReleaseId, SpecError, VersionError};
use rustix::io::Errno;
use store_fs::StoreError;
use tools::directory::DirectoryError;

use super::{CommandError, Kind};
use crate::engine::{EngineError, NewestDamaged};
use crate::mount::MountError;

/// Names in one hint; more would not be read.
const NAMES_MAX: usize = 8;

impl From<SpecError> for CommandError {
    fn from(error: SpecError) -> Self {
        Self::usage(error.to_string())
            .hint("a release is named like openssl, openssl@3.2, openssl@=3.2.1 or openssl#a94e")
    }
}

impl From<NameError> for CommandError {
    fn from(error: NameError) -> Self {
        Self::usage(error.to_string()).hint("dynfs list shows the names in the store")
    }
}

impl From<VersionError> for CommandError {
    fn from(error: VersionError) -> Self {
        Self::usage(error.to_string())
            .hint("a version holds letters, digits and . + ~ - and starts with a digit: 3.2.1")
    }
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let (kind, hint) = match &refusal {
            Refusal::UnknownPackage { similar, .. } => (Kind::NotFound, nearest(similar)),
            Refusal::NoRelease { spec, available } => (
                Kind::NotFound,
                match available.is_empty() {
                    true => format!("dynfs list {}", spec.name),
                    false => format!("there is {}", releases(available)),
                },
            ),
            Refusal::Ambiguous { candidates, .. } => {
                (Kind::Refused, format!("it could be {}", releases(candidates)))
            }
            Refusal::ForeignArch { release, .. } => {
                (Kind::Refused, format!("dynfs list {}", release.name))
            }
            Refusal::NotSelected { similar, .. } => (Kind::NotFound, nearest(similar)),
            Refusal::Conflict { .. } => {
                let hint = "name what must change in the same command; dynfs add what is missing";
                (Kind::Refused, hint.to_owned())
            }
            Refusal::Missing { .. } | Refusal::Unreadable { .. } => {
                (Kind::Integrity, "dynfs fsck".to_owned())
            }
            Refusal::Twice { .. } => (Kind::Usage, "name each package once".to_owned()),
            _ => (Kind::Failed, "dynfs list".to_owned()),
        };
        Self::new(kind, message).hint(hint)
    }
}

fn nearest(similar: &[PackageName]) -> String {
    match similar.is_empty() {
        true => "dynfs list".to_owned(),
        false => format!("did you mean {}?", join(similar, " or ")),
    }
}

/// With the architecture where two would look alike without.
fn releases(ids: &[ReleaseId]) -> String {
    let text = |id: &ReleaseId| {
        let alike = ids.iter().filter(|other| other.to_string() == id.to_string()).count();
        match alike {
            1 => id.to_string(),
            _ => format!("{id},{}", id.arch),
        }
    };
    join(&ids.iter().map(text).collect::<Vec<_>>(), ", ")
}

/// The first few of them as one text.
fn join<T: ToString>(items: &[T], separator: &str) -> String {
    let mut words: Vec<String> = items.iter().take(NAMES_MAX).map(ToString::to_string).collect();
    if items.len() > NAMES_MAX {
        words.push(format!("{} more", items.len() - NAMES_MAX));
    }
    words.join(separator)
}

impl From<CatalogError> for CommandError {
    fn from(error: CatalogError) -> Self {
        let hint = match &error {
            CatalogError::OtherContent { id } => {
                format!("give it another version, or first dynfs remove {}", exact(id))
            }
            CatalogError::OtherCategory { present, .. } => format!("--category {present}"),
            _ => "dynfs list".to_owned(),
        };
        Self::new(Kind::Refused, error.to_string()).hint(hint)
    }
}

/// The spec that means this release and no other.
pub(crate) fn exact(id: &ReleaseId) -> String {
    let variants: String = id.variants.iter().map(|variant| format!(",{variant}")).collect();
    format!("{}@={}{variants}", id.name, id.version)
}

/// Whether there is no room: on the disk, or in what the user may use of it.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What helps when no more files can be opened: by this process, or on the whole machine.
fn too_many_files(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::MFILE => Some("raise the limit on open files with ulimit -n, and try again"),
        Errno::NFILE => Some("end what has many files open, or raise sysctl fs.file-max"),
        _ => None,
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let (kind, hint) = match &error {
            StoreError::Absent { .. } => (
                Kind::NotFound,
                "dynfs add DIR --name NAME --version VERSION makes one; --store names another",
            ),
            StoreError::NotDirectory { .. } => (Kind::Usage, "give a directory as --store DIR"),
            StoreError::Occupied { .. } => {
                (Kind::Refused, "give a new or an empty directory as --store DIR")
            }
            StoreError::Io { source, .. } => match Kind::of_io(source) {
                Kind::Permission => (Kind::Permission, CommandError::way_in(source)),
                _ if is_full(source) => {
                    (Kind::Failed, "free some space and try again; the state is as it was")
                }
                kind => (kind, too_many_files(source).unwrap_or("dynfs fsck")),
            },
            StoreError::Damaged { .. } | StoreError::NoObject { .. } => {
                (Kind::Integrity, "dynfs fsck names everything that is wrong")
            }
            StoreError::NewerFormat { .. } | StoreError::UnknownFeatures { .. } => {
                (Kind::Refused, "use the newer dynfs that made it")
            }
            StoreError::Locked { .. } | StoreError::Adding | StoreError::Collecting => {
                (Kind::Unavailable, "try again when it has finished")
            }
            StoreError::NoGeneration { .. } => (Kind::NotFound, "dynfs history"),
            StoreError::OtherContent { .. } => (Kind::Refused, "give it another version"),
            StoreError::Limit { .. } => (Kind::Refused, "split it into several packages"),
            _ => (Kind::Failed, "dynfs fsck"),
        };
        Self::new(kind, error.to_string()).with_sources(&error).hint(hint)
    }
}

impl From<DirectoryError> for CommandError {
    fn from(error: DirectoryError) -> Self {
        let (kind, hint) = match error {
            DirectoryError::Store(store) => return store.into(),
            DirectoryError::Special { .. } => {
                (Kind::Refused, "leave it out: an object holds files, directories and symlinks")
            }
            DirectoryError::Private { .. } => (
                Kind::Refused,
                "everything in a store can be read by everyone: remove it, or give --public",
            ),
            DirectoryError::Changed { .. } => {
                (Kind::Refused, "try again when nothing writes to it any more")
            }
            DirectoryError::Io { ref source, .. } => match source.kind() {
                io::ErrorKind::NotFound => (Kind::NotFound, "check the path"),
                _ => (
                    Kind::of_io(source),
                    too_many_files(source).unwrap_or("check the path and its permissions"),
                ),
            },
            _ => (Kind::Failed, "check the directory"),
        };
        Self::new(kind, error.to_string()).with_sources(&error).hint(hint)
    }
}

impl From<NewestDamaged> for CommandError {
    fn from(error: NewestDamaged) -> Self {
        let older = match error.readable.0 {
            0 => {
                "dynfs restore 0 goes on from the empty state; no other one can be read".to_owned()
            }
            number => format!("dynfs history; dynfs restore {number} goes on from an older one"),
        };
        Self::new(Kind::Integrity, error.to_string()).hint(older)
    }
}

impl From<EngineError> for CommandError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Unproven { ref release, .. } => {
                let hint = format!("dynfs remove {}, then add it again", exact(release));
                Self::new(Kind::Integrity, message).with_sources(&error).hint(hint)
            }
            EngineError::Store(error) => error.into(),
            EngineError::Newest(error) => error.into(),
            EngineError::Refused(refusal) => (*refusal).into(),
            EngineError::Catalog(error) => (*error).into(),
            EngineError::NothingToUndo | EngineError::NothingToRedo => {
                Self::new(Kind::Refused, message).hint("dynfs history")
            }
            EngineError::NoGeneration { nearest, .. } => Self::new(Kind::NotFound, message)
                .hint(format!("dynfs history; the nearest is {}", join(&nearest, " or "))),
            EngineError::NotThere { release } => {
                Self::new(Kind::NotFound, message).hint(format!("dynfs list {}", release.name))
            }
            EngineError::InUse { .. } => Self::new(Kind::Refused, message)
                .hint("dynfs history; a release can go when no kept generation selects it"),
            EngineError::Unknown { first } => Self::new(Kind::Integrity, message)
                .with_sources(&*first)
                .hint("dynfs fsck names everything that is wrong; nothing goes until it is right"),
            EngineError::BadRequestId => Self::usage(message),
        }
    }
}

impl From<MountError> for CommandError {
    fn from(error: MountError) -> Self {
        let (kind, hint) = match &error {
            MountError::NoFuse { remedy, .. } => (Kind::Unavailable, *remedy),
            MountError::Busy { .. } => (Kind::Refused, "give another MOUNTPOINT"),
            MountError::NotDirectory { .. } => (Kind::Usage, "give a directory as MOUNTPOINT"),
            MountError::Served { .. } => (Kind::Refused, "dynfs status; dynfs umount ends it"),
            MountError::AboveStore { .. } => {
                (Kind::Refused, "mount beside the store, not above it")
            }
            MountError::Detached { .. } => {
                (Kind::Refused, "it ends when that is closed; fuser or lsof say who has it")
            }
            MountError::Orphaned => {
                (Kind::Unavailable, "dynfs umount ends it; run/log in the store says why")
            }
            MountError::NotMounted => (Kind::Unavailable, "dynfs mount"),
            MountError::InUse { .. } => (Kind::Refused, "end what uses it, or dynfs umount --lazy"),
            MountError::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => (Kind::NotFound, "check the path"),
                _ => (Kind::of_io(source), "check the path and its permissions"),
            },
            MountError::Start { .. } => (
                Kind::Unavailable,
                "run/log in the store says more, or dynfs mount --foreground -v",
            ),
        };
        Self::new(kind, error.to_string()).with_sources(&error).hint(hint)
    }
}
