//! A release file as a source: it says itself what is in it.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use resolver::{Category, ObjectId, Release, ReleaseId};
use serde::Serialize;
use store_fs::release_file::{MAGIC, Wanted, receive};
use store_fs::{Disk, Received, ReleaseFile, Store, StoreError};

use crate::cli;
use crate::commands::{change, copy};
use crate::error::{CommandError, Kind};
use crate::host;
use crate::invocation::Invocation;
use crate::protocol::{Done, Edit};
use crate::render;

/// A release file, from wherever it comes.
type Input = ReleaseFile<Box<dyn Read>>;

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    releases: &'a [Row],
    files: u64,
    bytes: u64,
    new_bytes: u64,
}

#[derive(Serialize)]
struct Row {
    release: ReleaseId,
    category: Category,
    object: ObjectId,
    new: bool,
}

/// Opens a file that must be a release file.
pub(in crate::commands) fn find(path: &Path, source: &Path) -> Result<Input, CommandError> {
    let neither = || {
        let message = format!("{} is neither a directory nor a release file", path.display());
        CommandError::usage(message).hint(
            "give the directory that has bin, lib, include, ... in it, or a file that dynfs copy \
             wrote",
        )
    };
    let opening = |error| CommandError::io("opening", path, &error);
    // Looked at first: opening a fifo would wait for whoever writes to it.
    if !source.is_file() {
        return Err(neither());
    }
    let mut begin = Vec::new();
    let file = File::open(source).map_err(opening)?;
    file.take(MAGIC.len() as u64).read_to_end(&mut begin).map_err(opening)?;
    if begin != MAGIC {
        return Err(neither());
    }
    open(path, File::open(source).map_err(opening)?)
}

/// Reads the head of a release file.
pub(in crate::commands) fn open(
    path: &Path,
    input: impl Read + 'static,
) -> Result<Input, CommandError> {
    let input: Box<dyn Read> = Box::new(BufReader::new(input));
    ReleaseFile::open(input, path).map_err(|error| of_file(error, path))
}

/// An error with advice that fits, when it is the file that is bad and not the store.
pub(in crate::commands) fn of_file(error: StoreError, path: &Path) -> CommandError {
    let is_of_file = matches!(&error, StoreError::Damaged { path: bad, .. } if bad == path);
    let failed = CommandError::from(error);
    match is_of_file {
        true => CommandError { hints: Vec::new(), ..failed }
            .hint("have it copied again; nothing that is in it was added"),
        false => failed,
    }
}

pub(super) fn run(
    run: &mut Invocation,
    arguments: &cli::Add,
    file: Input,
) -> Result<(), CommandError> {
    agrees(arguments, file.releases())?;
    let given = arguments.prefix.as_deref();
    let prefix = given.unwrap_or(file.prefix().as_path()).to_owned();
    let releases = file.releases().to_vec();
    let found = run.find(given)?;
    if run.dry_run && found.is_none() {
        let store = run.imagine(Some(&prefix))?;
        let received = read(run, &store, file)?;
        let mut done = Vec::new();
        for release in &releases {
            done.push(run.rehearse(&store, &publish(release))?);
        }
        report(run, &releases, received, done)?;
        run.report.note(&format!("would make the store {}", run.store.display()));
        return Ok(());
    }
    let store = match found {
        Some(store) => store,
        None => run.open_or_create(Some(&prefix))?,
    };
    host::writable(&run.store)?;
    copy::note_prefix(run, &store, file.prefix());
    let received = read(run, &store, file)?;
    let mut done = Vec::new();
    for release in &releases {
        done.push(run.submit(&store, &publish(release))?.done);
    }
    report(run, &releases, received, done)
}

/// Looks whether everything in the file could be published, then reads it into the store.
fn read<D: Disk>(
    run: &Invocation,
    store: &Store<D>,
    file: Input,
) -> Result<Received, CommandError> {
    run.state(store)?.check_publishable_all(store, file.releases())?;
    let progress = run.report.progress("adding");
    let path = file.path().to_owned();
    let received = receive(store, file, Wanted::All, run.dry_run, &|told| progress.tell(told));
    progress.finish();
    received.map_err(|error| of_file(error, &path))
}

fn publish(release: &Release) -> Edit {
    Edit::Publish { release: Box::new(release.clone()) }
}

/// Refuses options that say something else than the file does, or that mean nothing for one.
fn agrees(arguments: &cli::Add, releases: &[Release]) -> Result<(), CommandError> {
    let only_for_directories = [
        ("--variant", !arguments.variants.is_empty()),
        ("--needs", !arguments.needs.is_empty()),
        ("--epoch", arguments.epoch.is_some()),
        ("--public", arguments.public),
    ];
    if let Some((option, _)) = only_for_directories.iter().find(|(_, given)| *given) {
        let message = format!("{option} is for a directory; a release file is added as it is");
        return Err(CommandError::usage(message).hint("leave it out"));
    }
    for Release { id, category, .. } in releases {
        for (option, given, said) in [
            ("--name", &arguments.name, id.name.to_string()),
            ("--version", &arguments.version, id.version.to_string()),
            ("--category", &arguments.category, category.to_string()),
            ("--arch", &arguments.arch, id.arch.to_string()),
        ] {
            if let Some(given) = given
                && *given != said
            {
                let message = format!("the file holds {id} in {category}, not {option} {given}");
                return Err(CommandError::new(Kind::Refused, message)
                    .hint("leave it out: a release file says what is in it"));
            }
        }
    }
    Ok(())
}

fn report(
    run: &mut Invocation,
    releases: &[Release],
    received: Received,
    done: Vec<Done>,
) -> Result<(), CommandError> {
    let mut rows = Vec::new();
    let mut untold = None;
    for (release, done) in releases.iter().zip(done) {
        let Done::Published { new, unshown, .. } = done else {
            return Err(CommandError::new(Kind::Failed, "the answer is not about adding"));
        };
        untold = unshown.or(untold);
        let Release { id, category, object, .. } = release.clone();
        rows.push(Row { release: id, category, object, new });
    }
    let Received { files, bytes, new_bytes, .. } = received;
    if run.report.wants_json() {
        let dry_run = run.dry_run;
        let document = Document { dry_run, releases: &rows, files, bytes, new_bytes };
        run.report.document(run.command, &document)?;
        return change::shown(untold.as_deref());
    }
    let (would, was) = if run.dry_run { ("would add ", "is") } else { ("", "was") };
    let size = format!("{}, {}", render::count(files, "file"), render::bytes(bytes));
    for (index, Row { release: id, category, object, .. }) in rows.iter().enumerate() {
        let total = match index {
            0 => format!("   {size}, {} new", render::bytes(new_bytes)),
            _ => String::new(),
        };
        run.report.success(&format!(
            "{would}{}  {}  {category}/{}   object {}{total}",
            id.name,
            render::version(id),
            id.name,
            render::short(object)
        ))?;
    }
    for Row { release: id, .. } in rows.iter().filter(|row| !row.new) {
        run.report.note(&format!("{id} {was} in the store already, with the same content"));
    }
    let new: Vec<&ReleaseId> = rows.iter().filter(|row| row.new).map(|row| &row.release).collect();
    if let ([only], false) = (new.as_slice(), run.dry_run) {
        run.report.hint(&format!("dynfs select {}", crate::error::exact(only)));
    }
    change::shown(untold.as_deref())
}
