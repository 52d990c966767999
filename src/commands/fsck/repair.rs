//! `dynfs fsck --repair`: what was found, made good as far as that can be done.
//!
//! ```text
//! open the sources -> the writer moves bad files aside, writes the index anew
//!                  -> bring blobs and objects -> compute outboards -> publish lost releases
//! ```
//!
//! Whatever takes a name away is an edit, carried out by the daemon where there is one. Bringing
//! content needs no writer: it names itself. Interrupted anywhere, the same command goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use resolver::{GenerationNumber, Release, ReleaseId};
use serde::Serialize;
use store_fs::{BadFile, FsckReport, Needed, OsDisk, Store};

use super::source::Source;
use crate::cli;
use crate::client;
use crate::error::CommandError;
use crate::invocation::Invocation;
use crate::protocol::{Done, Edit};
use crate::render;

/// Files of one edit: what names them must fit into a line of the protocol.
const FILES_OF_EDIT: usize = 10_000;

/// What was done, or would be.
#[derive(Debug, Default, Serialize)]
pub(super) struct Repaired {
    dry_run: bool,
    /// Where bad files are now; in a dry run, where they are.
    aside: Vec<PathBuf>,
    /// A generation that was written again from what the daemon knew.
    renewed_generation: Option<GenerationNumber>,
    /// The index was written anew.
    index: bool,
    objects: u64,
    blobs: u64,
    bytes: u64,
    outboards: u64,
    releases: Vec<ReleaseId>,
    /// What went wrong on the way; the rest went on.
    pub(super) failures: Vec<String>,
    /// What was found before.
    found: Vec<store_fs::Finding>,
    /// Something is not as it was when it was looked at: it must be looked at again, whole.
    #[serde(skip)]
    pub(super) is_unsure: bool,
}

impl Repaired {
    /// Whether the store may be another than it was.
    pub(super) fn has_changed(&self) -> bool {
        !self.dry_run && !self.found.is_empty()
    }
}

pub(super) fn repair(
    run: &mut Invocation,
    arguments: &cli::Fsck,
    report: &FsckReport,
) -> Result<Repaired, CommandError> {
    let mut needed = report.needed.clone();
    let (dry_run, found) = (run.dry_run, report.findings.clone());
    let mut done = Repaired { dry_run, found, ..Repaired::default() };
    let sources: Vec<Source> = arguments
        .from
        .iter()
        .map(|path| Source::open(&run.store, path))
        .collect::<Result<_, _>>()?;
    // A blob that could not be read for another reason than being bad is neither good nor moved.
    let bad = |path: &Path| needed.bad.iter().any(|file| file.path() == path);
    done.is_unsure = done.found.iter().any(|f| f.code == "blob-damaged" && !bad(&f.path));
    if needed.is_empty() {
        return Ok(done);
    }
    let store = run.open()?;
    let lost = lost(&needed, &sources);
    needed.objects.extend(lost.iter().map(|release| release.object));
    if dry_run {
        done.aside = needed.bad.iter().map(|file| file.path().to_owned()).collect();
        done.index = needed.index;
        done.outboards = needed.outboards.len() as u64;
        done.releases = lost.iter().map(|release| release.id.clone()).collect();
        return Ok(done);
    }
    move_aside(&store, &needed, arguments.step_back, &mut done)?;
    bring(run, &store, &mut needed, &sources, &mut done)?;
    for blob in &needed.outboards {
        match store.renew_outboard(blob) {
            Ok(is_new) => done.outboards += u64::from(is_new),
            Err(error) => tracing::info!("no outboard: {error}"),
        }
    }
    for release in lost {
        publish(&store, release, &mut done);
    }
    Ok(done)
}

/// The releases without a readable record that a source has, as the generations want them.
fn lost(needed: &Needed, sources: &[Source]) -> Vec<Release> {
    let find = |(id, object): (&ReleaseId, &Option<resolver::ObjectId>)| {
        let all = sources.iter().flat_map(Source::releases);
        let mut these = all.filter(|release| release.id == *id);
        these.find(|release| object.is_none_or(|object| release.object == object)).cloned()
    };
    needed.releases.iter().filter_map(find).collect()
}

fn move_aside(
    store: &Arc<Store<OsDisk>>,
    needed: &Needed,
    newest: bool,
    done: &mut Repaired,
) -> Result<(), CommandError> {
    let is_content = |file: &&BadFile| file.generation().is_none();
    let content: Vec<BadFile> = needed.bad.iter().filter(is_content).cloned().collect();
    let generations: Vec<BadFile> =
        needed.bad.iter().filter(|file| !is_content(file)).cloned().collect();
    for files in content.chunks(FILES_OF_EDIT) {
        submit(store, files.to_vec(), newest, false, done)?;
    }
    if needed.index {
        submit(store, Vec::new(), newest, true, done)?;
        done.index = true;
    }
    // These change what is shown, which can be refused; the rest needs none of it.
    let line = generations.into_iter().chain(needed.newest.clone());
    let line: Vec<BadFile> = line.collect();
    for files in line.chunks(FILES_OF_EDIT) {
        if let Err(error) = submit(store, files.to_vec(), newest, false, done) {
            done.failures.push(words(&error));
        }
    }
    Ok(())
}

fn submit(
    store: &Arc<Store<OsDisk>>,
    files: Vec<BadFile>,
    newest: bool,
    index: bool,
    done: &mut Repaired,
) -> Result<(), CommandError> {
    // A generation is left alone for a reason.
    let asked = files.iter().filter(|file| file.generation().is_none()).count();
    match client::submit(store, &Edit::Repair { aside: files, newest, index })? {
        Done::Repaired { aside, renewed, unshown } => {
            done.is_unsure |= aside.len() < asked;
            done.aside.extend(aside);
            done.renewed_generation = renewed.or(done.renewed_generation);
            done.failures.extend(unshown);
        }
        other => tracing::debug!(?other, "unexpected"),
    }
    Ok(())
}

/// Takes good copies, from one source after the other. One that fails does not stop the next.
fn bring(
    run: &Invocation,
    store: &Store<OsDisk>,
    needed: &mut Needed,
    sources: &[Source],
    done: &mut Repaired,
) -> Result<(), CommandError> {
    for source in sources {
        needed.forget_present(store);
        if needed.objects.is_empty() && needed.blobs.is_empty() {
            break;
        }
        let progress = run.report.progress("repairing");
        let brought = source.bring(store, needed, &|told| progress.tell(told));
        progress.finish();
        match brought {
            Ok(brought) => {
                done.objects += brought.objects;
                done.blobs += brought.files;
                done.bytes += brought.bytes;
            }
            Err(error) => done.failures.push(words(&error)),
        }
    }
    Ok(())
}

fn publish(store: &Arc<Store<OsDisk>>, release: Release, done: &mut Repaired) {
    let id = release.id.clone();
    match client::submit(store, &Edit::Publish { release: Box::new(release) }) {
        Ok(Done::Published { unshown, .. }) => {
            done.releases.push(id);
            done.failures.extend(unshown);
        }
        Ok(other) => tracing::debug!(?other, "unexpected"),
        Err(error) => done.failures.push(words(&error)),
    }
}

/// An error and its causes as one line.
fn words(error: &CommandError) -> String {
    let causes = error.causes.iter().map(|cause| format!(": {cause}"));
    error.message.clone() + &causes.collect::<String>()
}

/// One line for each thing that was done.
pub(super) fn describe(done: &Repaired) -> String {
    let mut text = String::new();
    let (moved, verb) = match done.dry_run {
        true => ("would move aside", "would write"),
        false => ("moved aside to", "wrote"),
    };
    for path in &done.aside {
        text.push_str(&format!("{moved} {}\n", path.display()));
    }
    if let Some(number) = done.renewed_generation {
        text.push_str(&format!("{verb} generation {number} again from what the daemon knew\n"));
    }
    if done.index {
        text.push_str(&format!("{verb} the index anew\n"));
    }
    if done.objects + done.blobs > 0 {
        text.push_str(&format!(
            "brought {} and {}, {}\n",
            render::count(done.objects, "object"),
            render::count(done.blobs, "blob"),
            render::bytes(done.bytes)
        ));
    }
    if done.outboards > 0 {
        text.push_str(&format!("{verb} {} anew\n", render::count(done.outboards, "outboard")));
    }
    for id in &done.releases {
        text.push_str(&format!("{verb} the record of {id} anew\n"));
    }
    for failure in &done.failures {
        text.push_str(&format!("could not: {}\n", crate::report::printable(failure)));
    }
    text
}
