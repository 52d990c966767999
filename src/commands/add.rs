//! `dynfs add`: reads a directory or a release file into the store, then asks the writer to
//! publish what is in it.

use std::path::Path;

use resolver::{
    Arch, Category, NameError, Need, ObjectId, Origin, PackageName, Release, ReleaseId, Variant,
    Variants, Version,
};
use serde::Serialize;
use store_fs::object::ROOT_ENTRY;
use store_fs::{Disk, Node, Store};
use tools::directory::{self, Added, DirectoryOptions};

use super::change;
use crate::cli;
use crate::error::{CommandError, Kind};
use crate::host;
use crate::invocation::Invocation;
use crate::protocol::{Done, Edit};
use crate::render;

pub(super) mod file;
pub(super) mod source;

/// Dropped attributes that are named one by one; the rest is counted.
const DROPPED_SHOWN: usize = 10;

/// What was asked for, validated.
struct Wanted {
    name: PackageName,
    version: Version,
    arch: Option<Arch>,
    variants: Variants,
    category: Option<Category>,
    needs: Vec<Need>,
}

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    release: &'a ReleaseId,
    category: &'a Category,
    object: ObjectId,
    new: bool,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    dropped: Vec<Dropped>,
}

#[derive(Serialize)]
struct Dropped {
    path: String,
    what: String,
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Add) -> Result<(), CommandError> {
    let path = &arguments.source;
    if path == Path::new("-") {
        return file::run(run, arguments, file::open(path, std::io::stdin())?);
    }
    let source = source::find(&run.store, path)?;
    if !source.is_dir() {
        return file::run(run, arguments, file::find(path, &source)?);
    }
    let wanted = validate(arguments)?;
    let prefix = arguments.prefix.as_deref();
    let (epoch, public, dry_run) = (arguments.epoch, arguments.public, run.dry_run);
    let options = DirectoryOptions { epoch, public, dry_run };
    if dry_run && run.find(prefix)?.is_none() {
        let store = run.imagine(prefix)?;
        let (release, added) = read(run, &store, wanted, &source, &options)?;
        let done = run.rehearse(&store, &publish(&release))?;
        report(run, &release, &added, done)?;
        run.report.note(&format!("would make the store {}", run.store.display()));
        return Ok(());
    }
    let store = run.open_or_create(prefix)?;
    source::outside(&source, &run.store, "the store")?;
    host::writable(&run.store)?;
    // Until the record is there, nothing says that the content is needed.
    let _adding = store.adding()?;
    let (release, added) = read(run, &store, wanted, &source, &options)?;
    let done = run.submit(&store, &publish(&release))?.done;
    report(run, &release, &added, done)
}

/// Reads the source into the store, or in a dry run as if.
fn read<D: Disk>(
    run: &Invocation,
    store: &Store<D>,
    wanted: Wanted,
    source: &Path,
    options: &DirectoryOptions,
) -> Result<(Release, Added), CommandError> {
    let progress = run.report.progress("adding");
    let added = directory::add(store, source, options, &progress);
    progress.finish();
    let added = added?;
    let release = release(run, store, wanted, source, &added)?;
    Ok((release, added))
}

fn publish(release: &Release) -> Edit {
    Edit::Publish { release: Box::new(release.clone()) }
}

fn validate(arguments: &cli::Add) -> Result<Wanted, CommandError> {
    let variants = arguments.variants.iter().map(|text| Variant::new(text));
    let (Some(name), Some(version)) = (&arguments.name, &arguments.version) else {
        let error = CommandError::usage("a directory does not say which release it is");
        return Err(error.hint("give --name NAME and --version VERSION"));
    };
    Ok(Wanted {
        name: PackageName::new(name)?,
        version: version.parse()?,
        arch: arguments.arch.as_deref().map(Arch::new).transpose()?,
        variants: variants.collect::<Result<_, NameError>>()?,
        category: arguments.category.as_deref().map(Category::new).transpose()?,
        needs: arguments
            .needs
            .iter()
            .map(|text| {
                text.parse::<Need>().map_err(|error| {
                    CommandError::usage(format!("{text:?} is not something to need"))
                        .because(&error)
                        .hint("write zlib, zlib@1.3, 'zlib>=1.2,<2' or so:libz.so.1")
                })
            })
            .collect::<Result<_, _>>()?,
    })
}

/// The record of what was read.
fn release<D: Disk>(
    run: &Invocation,
    store: &Store<D>,
    wanted: Wanted,
    source: &Path,
    added: &Added,
) -> Result<Release, CommandError> {
    let category = match wanted.category {
        Some(category) => category,
        None => match run.state(store)?.catalog.category(&wanted.name) {
            Some(category) => category.clone(),
            None => guess(added)?,
        },
    };
    let arch = match (wanted.arch, &added.arch) {
        (Some(arch), _) => arch,
        (None, Some(found)) => Arch::new(found)?,
        (None, None) => Arch::all(),
    };
    let (name, version, variants) = (wanted.name, wanted.version, wanted.variants);
    Ok(Release {
        id: ReleaseId { name, version, arch, variants },
        category,
        object: added.object.id(),
        needs: wanted.needs,
        provides: added.provides.clone(),
        build_ids: added.build_ids.clone(),
        origin: Origin { kind: "directory".to_owned(), name: source.display().to_string() },
    })
}

/// `lib` for what others build against or load, else `app`.
fn guess(added: &Added) -> Result<Category, CommandError> {
    let tree = &added.object;
    let headers = tree
        .child(ROOT_ENTRY, b"include")
        .and_then(|row| tree.row(row))
        .is_some_and(|row| matches!(row.node, Node::Dir { children, .. } if !children.is_empty()));
    let library = headers || !added.provides.sonames.is_empty();
    Ok(Category::new(if library { "lib" } else { "app" })?)
}

fn report(
    run: &mut Invocation,
    release: &Release,
    added: &Added,
    done: Done,
) -> Result<(), CommandError> {
    let Done::Published { new, unshown, .. } = done else {
        return Err(CommandError::new(Kind::Failed, "the answer is not about adding"));
    };
    match run.report.wants_json() {
        true => document(run, release, added, new)?,
        false => text(run, release, added, new)?,
    }
    change::shown(unshown.as_deref())
}

fn document(
    run: &mut Invocation,
    release: &Release,
    added: &Added,
    new: bool,
) -> Result<(), CommandError> {
    let dropped = added.dropped.iter().map(|dropped| Dropped {
        path: dropped.path.display().to_string(),
        what: dropped.what.clone(),
    });
    let document = Document {
        dry_run: run.dry_run,
        release: &release.id,
        category: &release.category,
        object: release.object,
        new,
        files: added.files,
        bytes: added.bytes,
        new_bytes: added.new_bytes,
        dropped: dropped.collect(),
    };
    run.report.document(run.command, &document)
}

fn text(
    run: &mut Invocation,
    release: &Release,
    added: &Added,
    new: bool,
) -> Result<(), CommandError> {
    let id = &release.id;
    let (would, was) = if run.dry_run { ("would add ", "is") } else { ("", "was") };
    let size = format!("{}, {}", render::count(added.files, "file"), render::bytes(added.bytes));
    run.report.success(&format!(
        "{would}{}  {}  {}/{}   {size}, {} new   object {}",
        id.name,
        render::version(id),
        release.category,
        id.name,
        render::bytes(added.new_bytes),
        render::short(release.object)
    ))?;
    if !new {
        run.report.note(&format!("{id} {was} in the store already, with the same content"));
    }
    for dropped in added.dropped.iter().take(DROPPED_SHOWN) {
        run.report.note(&format!("{}: {} is not kept", dropped.path.display(), dropped.what));
    }
    if let Some(more) = added.dropped.len().checked_sub(DROPPED_SHOWN + 1) {
        run.report.note(&format!("and {} more attributes are not kept", more + 1));
    }
    if new && !run.dry_run {
        run.report.hint(&format!("dynfs select {}", crate::error::exact(id)));
    }
    Ok(())
}
