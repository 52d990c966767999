//! `dynfs mount`: makes the store when there is none, starts the daemon, returns when it is usable.

use std::path::{Path, PathBuf};

use serde::Serialize;
use store_fs::{OsDisk, Store, StoreError};

use crate::cli;
use crate::error::CommandError;
use crate::host;
use crate::invocation::{Invocation, absolute};
use crate::mount::{self, MountOptions};

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    store: String,
    mountpoint: String,
    keeper: Option<u32>,
    notes: &'a [String],
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Mount) -> Result<(), CommandError> {
    let wanted = arguments.mountpoint.as_deref().map(text_absolute).transpose()?;
    let mountpoint = if run.dry_run { rehearse(run, wanted)? } else { prepare(run, wanted)? };
    let mut document = Document {
        dry_run: run.dry_run,
        store: run.store.display().to_string(),
        mountpoint: mountpoint.display().to_string(),
        keeper: None,
        notes: &[],
    };
    let line = format!("{} on {}", run.store.display(), mountpoint.display());
    if run.dry_run {
        return match run.report.wants_json() {
            true => run.report.document(run.command, &document),
            false => run.report.success(&format!("would mount {line}")),
        };
    }
    run.store = absolute(&run.store)?;
    let options =
        MountOptions { store: run.store.clone(), mountpoint, foreground: arguments.foreground };
    let mounted = mount::mount(&options, &mut |_| ())?;
    document.keeper = Some(mounted.keeper);
    document.notes = &mounted.notes;
    if run.report.wants_json() {
        return run.report.document(run.command, &document);
    }
    if !arguments.foreground {
        run.report.success(&format!("mounted {line}   dynfs status; dynfs umount"))?;
    }
    for note in &mounted.notes {
        run.report.note(note);
    }
    Ok(())
}

/// Opens or makes the store; the place to mount it at. A new store takes the mount point that was
/// asked for as its prefix.
fn prepare(run: &mut Invocation, wanted: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    let opened = OsDisk::open(&run.store).and_then(Store::open);
    let store = match opened {
        Err(StoreError::Absent { .. }) => run.open_or_create(wanted.as_deref())?,
        other => other?.into(),
    };
    Ok(wanted.unwrap_or_else(|| store.format().prefix.as_path().to_owned()))
}

fn rehearse(run: &Invocation, wanted: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    match (wanted, OsDisk::open(&run.store).and_then(Store::open)) {
        (Some(wanted), Ok(_) | Err(StoreError::Absent { .. })) => Ok(wanted),
        (None, Err(StoreError::Absent { .. })) => host::default_prefix(),
        (None, Ok(store)) => Ok(store.format().prefix.as_path().to_owned()),
        (_, Err(error)) => Err(error.into()),
    }
}

/// Absolute by text alone: the mount point may be a dead mount, on which every look fails.
fn text_absolute(path: &Path) -> Result<PathBuf, CommandError> {
    let base = host::working_directory()?;
    let mut whole = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            std::path::Component::ParentDir => {
                whole.pop();
            }
            std::path::Component::CurDir => {}
            other => whole.push(other),
        }
    }
    match path.as_os_str().is_empty() {
        true => Err(CommandError::usage("the mount point is empty").hint("dynfs mount /dyn")),
        false => Ok(whole),
    }
}
