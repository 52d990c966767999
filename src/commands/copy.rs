//! `dynfs copy`: releases into a file, or into another store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use resolver::{Release, ReleaseId};
use serde::Serialize;
use store_fs::release_file::write;
use store_fs::{Disk, OsDisk, Prefix, Store, Telling, transfer};

use super::{add, change, show};
use crate::cli;
use crate::client;
use crate::error::{CommandError, Kind};
use crate::host;
use crate::invocation::{Invocation, absolute, specs};
use crate::protocol::{Done, Edit};
use crate::render;

/// What everybody may do with a release file: read it, as far as the umask allows.
const FILE_MODE: u32 = 0o666;

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    #[serde(serialize_with = "crate::path_text::serialize")]
    to: &'a Path,
    kind: &'static str,
    releases: Vec<&'a ReleaseId>,
    bytes: u64,
}

/// Where to.
enum Target {
    Store(Arc<Store<OsDisk>>),
    File(PathBuf),
    Output,
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Copy) -> Result<(), CommandError> {
    let specs = specs(&arguments.specs)?;
    let store = run.open()?;
    let state = run.state(&store)?;
    let mut releases: Vec<Release> = Vec::new();
    for spec in &specs {
        let release = show::one(&store, &state, spec)?;
        if !releases.iter().any(|known| known.id == release.id) {
            releases.push(Release::clone(release));
        }
    }
    let target = target(run, &arguments.to)?;
    let progress = run.report.progress("copying");
    let telling = |told| progress.tell(told);
    let done = match &target {
        Target::Store(to) => to_store(run, &store, to, &releases, &telling),
        Target::File(path) => to_file(run, &store, path, &releases, &telling),
        Target::Output => to_output(run, &store, &releases, &telling),
    };
    progress.finish();
    let bytes = done?;
    report(run, &arguments.to, &target, &releases, bytes)
}

fn target(run: &mut Invocation, to: &Path) -> Result<Target, CommandError> {
    if to == Path::new("-") {
        if run.report.wants_json() || (io::stdout().is_terminal() && !run.dry_run) {
            let error = CommandError::usage("a release file cannot go to this standard output");
            return Err(
                error.hint("give --to FILE, or dynfs copy ... --to - | ssh HOST dynfs add -")
            );
        }
        return Ok(Target::Output);
    }
    if !to.is_dir() {
        return Ok(Target::File(to.to_owned()));
    }
    let path = other_store(&run.store, to)?;
    let store = Store::open(OsDisk::open(&path)?).map_err(|error| {
        CommandError::from(error).hint("a release file is added with dynfs --store DIR add FILE")
    })?;
    host::writable(&path)?;
    Ok(Target::Store(Arc::new(store)))
}

/// The path of another store than our own.
pub(super) fn other_store(own: &Path, path: &Path) -> Result<PathBuf, CommandError> {
    if absolute(path)? == own {
        let message = format!("{} is the store itself", path.display());
        return Err(CommandError::new(Kind::Refused, message).hint("give another one"));
    }
    add::source::find(own, path)
}

/// Says that releases were built for another prefix than that of the store.
pub(super) fn note_prefix<D: Disk>(run: &mut Invocation, store: &Store<D>, prefix: &Prefix) {
    let here = store.format().prefix.as_path();
    if here != prefix.as_path() {
        run.report.note(&format!(
            "built for the prefix {}, and the store has {}: programs may not find each other",
            prefix.as_path().display(),
            here.display()
        ));
    }
}

/// Brings content and then records; the bytes that were new.
fn to_store(
    run: &mut Invocation,
    from: &Store<OsDisk>,
    to: &Arc<Store<OsDisk>>,
    releases: &[Release],
    telling: Telling<'_>,
) -> Result<u64, CommandError> {
    note_prefix(run, to, &from.format().prefix);
    run.state(to)?.check_publishable_all(to, releases)?;
    let objects: BTreeSet<_> = releases.iter().map(|release| release.object).collect();
    let received = transfer::copy(from, to, &objects, run.dry_run, telling)?;
    let mut untold = None;
    for release in releases.iter().filter(|_| !run.dry_run) {
        let edit = Edit::Publish { release: Box::new(release.clone()) };
        if let Done::Published { unshown, .. } = client::submit(to, &edit)? {
            untold = unshown.or(untold);
        }
    }
    change::shown(untold.as_deref())?;
    Ok(received.new_bytes)
}

/// Writes a file under no name that means anything, and links it when it is whole and durable; the
/// bytes of it.
fn to_file(
    run: &Invocation,
    store: &Store<OsDisk>,
    path: &Path,
    releases: &[Release],
    telling: Telling<'_>,
) -> Result<u64, CommandError> {
    let creating = |error: &io::Error| {
        let failed = CommandError::io("creating", path, error).hint("check the path");
        match error.kind() {
            io::ErrorKind::NotFound => CommandError { kind: Kind::NotFound, ..failed },
            _ => failed,
        }
    };
    if path.symlink_metadata().is_ok() {
        let message = format!("{} is there already", path.display());
        return Err(CommandError::new(Kind::Refused, message).hint("give a new --to FILE"));
    }
    if run.dry_run {
        return to_sink(store, io::sink(), path, releases, telling);
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let parent = File::open(dir).map_err(|error| creating(&error))?;
    let mode = std::fs::Permissions::from_mode(FILE_MODE);
    let mut file = tempfile::Builder::new()
        .prefix(".dynfs-copy-")
        .permissions(mode)
        .tempfile_in(dir)
        .map_err(|error| creating(&error))?;
    let bytes = to_sink(store, file.as_file_mut(), path, releases, telling)?;
    file.as_file().sync_all().map_err(|error| creating(&error))?;
    file.persist_noclobber(path).map_err(|error| creating(&error.error))?;
    parent.sync_all().map_err(|error| creating(&error))?;
    Ok(bytes)
}

fn to_output(
    run: &Invocation,
    store: &Store<OsDisk>,
    releases: &[Release],
    telling: Telling<'_>,
) -> Result<u64, CommandError> {
    let path = Path::new("standard output");
    match run.dry_run {
        true => to_sink(store, io::sink(), path, releases, telling),
        false => to_sink(store, io::stdout().lock(), path, releases, telling),
    }
}

fn to_sink(
    store: &Store<OsDisk>,
    out: impl Write,
    path: &Path,
    releases: &[Release],
    telling: Telling<'_>,
) -> Result<u64, CommandError> {
    let mut counted = Counted { out: BufWriter::new(out), bytes: 0 };
    write(store, releases, &mut counted, path, telling)?;
    Ok(counted.bytes)
}

/// Counts what goes through.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn report(
    run: &mut Invocation,
    to: &Path,
    target: &Target,
    releases: &[Release],
    bytes: u64,
) -> Result<(), CommandError> {
    let kind = match target {
        Target::Store(_) => "store",
        Target::File(_) => "file",
        // That is where the data went.
        Target::Output => return Ok(()),
    };
    if run.report.wants_json() {
        let releases = releases.iter().map(|release| &release.id).collect();
        let document = Document { dry_run: run.dry_run, to, kind, releases, bytes };
        return run.report.document(run.command, &document);
    }
    let names: Vec<String> = releases.iter().map(|release| release.id.to_string()).collect();
    let verb = if run.dry_run { "would copy" } else { "copied" };
    let new = if kind == "store" { " new" } else { "" };
    run.report.success(&format!(
        "{verb} {} to {kind} {}   {}{new}",
        names.join(" "),
        to.display(),
        render::bytes(bytes)
    ))?;
    if kind == "file" && !run.dry_run {
        run.report.hint(&format!("dynfs add {}", to.display()));
    }
    Ok(())
}
