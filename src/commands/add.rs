//! `dynfs add`: reads a directory into the store, then asks the writer to publish the release.

use std::path::Path;

use resolver::{
    Arch, Category, NameError, Need, ObjectId, Origin, PackageName, Release, ReleaseId, Variant,
    Variants, Version,
};
use serde::Serialize;
use store_fs::object::ROOT_ENTRY;
use store_fs::{Node, OsDisk, Store};
use tools::directory::{self, Added, DirectoryOptions};

use super::change;
use crate::cli;
use crate::error::{CommandError, Kind};
use crate::host;
use crate::invocation::Invocation;
use crate::protocol::{Done, Edit};
use crate::render;

mod source;

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
    let wanted = validate(arguments)?;
    let source = source::find(&run.store, &arguments.directory)?;
    if run.dry_run {
        return rehearse(run, &wanted, &source, arguments.prefix.as_deref());
    }
    let prefix = arguments.prefix.as_deref();
    let store = run.open_or_create(prefix)?;
    source::outside(&source, &run.store, "the store")?;
    host::writable(&run.store)?;
    let options = DirectoryOptions { epoch: arguments.epoch, public: arguments.public };
    let progress = run.report.progress("adding");
    let added = directory::add(&store, &source, &options, &progress);
    progress.finish();
    let added = added?;
    let release = release(run, &store, wanted, &source, &added)?;
    let edit = Edit::Publish { release: Box::new(release.clone()) };
    let carried = run.submit(&store, &edit)?;
    let Done::Published { new, unshown, .. } = carried.done else {
        return Err(CommandError::new(Kind::Failed, "the answer is not about adding"));
    };
    report(run, &release, &added, new)?;
    change::shown(unshown.as_deref())
}

fn validate(arguments: &cli::Add) -> Result<Wanted, CommandError> {
    let variants = arguments.variants.iter().map(|text| Variant::new(text));
    Ok(Wanted {
        name: PackageName::new(&arguments.name)?,
        version: arguments.version.parse()?,
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

fn rehearse(
    run: &mut Invocation,
    wanted: &Wanted,
    source: &Path,
    prefix: Option<&Path>,
) -> Result<(), CommandError> {
    let store = run.find(prefix)?;
    let is_it = |release: &ReleaseId| {
        release.version == wanted.version
            && release.variants == wanted.variants
            && wanted.arch.as_ref().is_none_or(|arch| *arch == release.arch)
    };
    let present = match &store {
        Some(store) => {
            let catalog = run.state(store)?.catalog;
            catalog.releases(&wanted.name).iter().find(|known| is_it(&known.id)).cloned()
        }
        None => None,
    };
    if run.report.wants_json() {
        #[derive(Serialize)]
        struct Rehearsed<'a> {
            dry_run: bool,
            package: &'a PackageName,
            version: &'a Version,
            variants: &'a Variants,
            source: String,
            /// A release of this name is in the store, with this object.
            present: Option<ObjectId>,
        }
        let source = source.display().to_string();
        let (package, version) = (&wanted.name, &wanted.version);
        let variants = &wanted.variants;
        let present = present.map(|release| release.object);
        let document = Rehearsed { dry_run: true, package, version, variants, source, present };
        return run.report.document(run.command, &document);
    }
    let variants = render::variants(&wanted.variants);
    run.report.success(&format!(
        "would add {} as {}@{}{variants}",
        source.display(),
        wanted.name,
        wanted.version
    ))?;
    if let Some(release) = present {
        let id = &release.id;
        run.report.note(&format!("{id} is in the store: only the same content can be added"));
    }
    if store.is_none() {
        run.report.note(&format!("would make the store {}", run.store.display()));
    }
    Ok(())
}

/// The record of what was read.
fn release(
    run: &Invocation,
    store: &Store<OsDisk>,
    wanted: Wanted,
    source: &Path,
    added: &Added,
) -> Result<Release, CommandError> {
    let category = match wanted.category {
        Some(category) => category,
        None => match run.state(store)?.catalog.category(&wanted.name) {
            Some(category) => category.clone(),
            None => guess(store, added)?,
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
        object: added.object,
        needs: wanted.needs,
        provides: added.provides.clone(),
        build_ids: added.build_ids.clone(),
        origin: Origin { kind: "directory".to_owned(), name: source.display().to_string() },
    })
}

/// `lib` for what others build against or load, else `app`.
fn guess(store: &Store<OsDisk>, added: &Added) -> Result<Category, CommandError> {
    let tree = store.object(&added.object)?;
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
    new: bool,
) -> Result<(), CommandError> {
    if run.report.wants_json() {
        let dropped = added.dropped.iter().map(|dropped| Dropped {
            path: dropped.path.display().to_string(),
            what: dropped.what.clone(),
        });
        let document = Document {
            dry_run: false,
            release: &release.id,
            category: &release.category,
            object: release.object,
            new,
            files: added.files,
            bytes: added.bytes,
            new_bytes: added.new_bytes,
            dropped: dropped.collect(),
        };
        return run.report.document(run.command, &document);
    }
    let id = &release.id;
    let size = format!("{}, {}", render::count(added.files, "file"), render::bytes(added.bytes));
    run.report.success(&format!(
        "{}  {}  {}/{}   {size}, {} new   object {}",
        id.name,
        render::version(id),
        release.category,
        id.name,
        render::bytes(added.new_bytes),
        render::short(release.object)
    ))?;
    if !new {
        run.report.note(&format!("{id} was in the store already, with the same content"));
    }
    for dropped in added.dropped.iter().take(DROPPED_SHOWN) {
        run.report.note(&format!("{}: {} is not kept", dropped.path.display(), dropped.what));
    }
    if let Some(more) = added.dropped.len().checked_sub(DROPPED_SHOWN + 1) {
        run.report.note(&format!("and {} more attributes are not kept", more + 1));
    }
    if new {
        run.report.hint(&format!("dynfs select {}", crate::error::exact(id)));
    }
    Ok(())
}
