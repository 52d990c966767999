//! `dynfs mount`: makes the store when there is none, starts the daemon, returns when it is usable.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use store_fs::{OsDisk, Store, StoreError};

use crate::cli;
use crate::error::CommandError;
use crate::host;
use crate::invocation::{Invocation, absolute};
use crate::log::Log;
use crate::mount::{self, MountOptions, Mounted};

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    store: String,
    mountpoint: String,
    keeper: Option<u32>,
    notes: &'a [String],
}

pub(super) fn run(
    run: &mut Invocation,
    arguments: &cli::Mount,
    log: Log,
) -> Result<(), CommandError> {
    let wanted = arguments.mountpoint.as_deref().map(text_absolute).transpose()?;
    let mountpoint = if run.dry_run { rehearse(run, wanted)? } else { prepare(run, wanted)? };
    let line = format!("{} on {}", run.store.display(), mountpoint.display());
    if run.dry_run {
        return match run.report.wants_json() {
            true => run.report.document(run.command, &document(run, &mountpoint, None, &[])),
            false => run.report.success(&format!("would mount {line}")),
        };
    }
    run.store = absolute(&run.store)?;
    let elsewhere = elsewhere(run, &mountpoint)?;
    let options = MountOptions {
        store: run.store.clone(),
        mountpoint,
        foreground: arguments.foreground,
        watchdog: Duration::from_secs(arguments.watchdog),
        unanswered: Duration::from_secs(arguments.unanswered),
        log,
    };
    let mut told = Ok(());
    // In the foreground this is called while the mount is up, and `mount` returns when it is gone.
    mount::mount(&options, &mut |mounted| {
        let notes: Vec<String> = mounted.notes.iter().cloned().chain(elsewhere.clone()).collect();
        told = tell(run, &line, mounted, &notes);
    })?;
    told
}

fn tell(
    run: &mut Invocation,
    line: &str,
    mounted: &Mounted,
    notes: &[String],
) -> Result<(), CommandError> {
    if run.report.wants_json() {
        let document = document(run, &mounted.mountpoint, Some(mounted.keeper), notes);
        return run.report.document(run.command, &document);
    }
    run.report.success(&format!("mounted {line}   dynfs status; dynfs umount"))?;
    for note in notes {
        run.report.note(note);
    }
    Ok(())
}

fn document<'a>(
    run: &Invocation,
    mountpoint: &Path,
    keeper: Option<u32>,
    notes: &'a [String],
) -> Document<'a> {
    Document {
        dry_run: run.dry_run,
        store: run.store.display().to_string(),
        mountpoint: mountpoint.display().to_string(),
        keeper,
        notes,
    }
}

/// What does not work when a store is not mounted at its prefix.
fn elsewhere(run: &Invocation, mountpoint: &Path) -> Result<Option<String>, CommandError> {
    let store = Store::open(OsDisk::open(&run.store)?)?;
    let prefix = store.format().prefix.as_path();
    Ok((prefix != mountpoint).then(|| {
        let prefix = prefix.display();
        format!(
            "the store's prefix is {prefix}: programs, scripts and libraries built for {prefix} \
             look for each other there and not here"
        )
    }))
}

/// Opens or makes the store; the place to mount it at. A new store takes the mount point that was
/// asked for as its prefix.
fn prepare(run: &mut Invocation, wanted: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    let opened = OsDisk::open(&run.store).and_then(Store::open);
    let store = match opened {
        Err(StoreError::Absent { .. }) => run.open_or_create(wanted.as_deref())?,
        other => other?.into(),
    };
    // The daemon would say so too, but not as well.
    run.state(&store)?.whole()?;
    host::writable(&run.store)?;
    Ok(wanted.unwrap_or_else(|| store.format().prefix.as_path().to_owned()))
}

fn rehearse(run: &Invocation, wanted: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    let place = match (wanted, OsDisk::open(&run.store).and_then(Store::open)) {
        (wanted, Err(StoreError::Absent { .. })) => {
            run.imagine(wanted.as_deref())?.format().prefix.as_path().to_owned()
        }
        (wanted, store) => {
            let store = store?;
            run.state(&store)?.whole()?;
            host::writable(&run.store)?;
            wanted.unwrap_or_else(|| store.format().prefix.as_path().to_owned())
        }
    };
    Ok(mount::check(&run.store, &place)?)
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
