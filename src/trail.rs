//! Follows a path below the mount through views and objects, as a kernel would, without one.
//!
//! Symbolic links of the unions and inside objects are followed, `..` goes to where the path really
//! came from, and nothing but the store is read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use resolver::{
    BlobId, Catalog, Category, GenerationNumber, ObjectId, Pick, Release, ReleaseId, Selection,
    Selections, Spec, Target, View, VirtualDir, Why,
};
use store_fs::object::ROOT_ENTRY;
use store_fs::{Disk, Node, Store, StoreError, Tree};

use crate::engine::{EngineError, State};

/// Symbolic links in one path, as in Linux.
const LINKS_MAX: usize = 40;
/// Components of one path, links included.
const COMPONENTS_MAX: usize = 10_000;

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Below the mount, links followed.
    pub(crate) path: Vec<u8>,
    /// What is there.
    pub(crate) what: What,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A directory that no object holds.
    Virtual,
    /// A symbolic link leads out of the mount, to this path.
    Outside(Vec<u8>),
    /// Something inside an object.
    Object {
        /// The object.
        object: ObjectId,
        /// The release it was reached through, when it has a name.
        release: Option<ReleaseId>,
        /// The path inside the object.
        inside: Vec<u8>,
        /// Content and size of a regular file.
        file: Option<(BlobId, u64)>,
    },
}

/// One tree of names: the live one or that of a generation.
#[derive(Clone)]
struct World {
    is_live: bool,
    view: Arc<View>,
    selections: Arc<Selections>,
}

/// A place on the way.
#[derive(Clone)]
enum Place {
    Virtual(World, VirtualDir),
    Generations,
    Objects,
    /// `.root` and `.profiles`.
    Empty,
    Inside {
        tree: Arc<Tree>,
        row: u32,
        release: Option<ReleaseId>,
    },
}

/// What a name stands for.
enum Step {
    To(Place),
    Link(Vec<u8>),
    Missing,
}

/// Follows `components` from the root of the mount; `None` when there is nothing. `roots` are the
/// directories that absolute links may point below.
///
/// # Errors
///
/// [`EngineError`] when something on the way is damaged.
pub(crate) fn follow<D: Disk>(
    store: &Store<D>,
    state: &State,
    roots: &[PathBuf],
    components: &[Vec<u8>],
) -> Result<Option<Found>, EngineError> {
    let live = World { is_live: true, ..frozen(state, &state.current.system) };
    let root = Place::Virtual(live, VirtualDir::Root);
    let mut way: Vec<(Vec<u8>, Place)> = Vec::new();
    let mut ahead: Vec<Vec<u8>> = components.iter().rev().cloned().collect();
    let (mut links, mut steps) = (0, 0);
    while let Some(name) = ahead.pop() {
        steps += 1;
        if steps > COMPONENTS_MAX {
            return Ok(None);
        }
        match name.as_slice() {
            b"." | b"" => continue,
            b".." if way.pop().is_none() => return Ok(None),
            b".." => continue,
            _ => {}
        }
        let here = way.last().map_or(&root, |(_, place)| place);
        match step(store, state, here, &name)? {
            Step::To(place) => way.push((name, place)),
            Step::Missing => return Ok(None),
            Step::Link(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Ok(None);
                }
                let rest = match target.strip_prefix(b"/") {
                    Some(_) => match below_root(&target, roots) {
                        Some(rest) => {
                            way.clear();
                            rest
                        }
                        None => {
                            ahead.push(target);
                            ahead.reverse();
                            let what = What::Outside(ahead.join(&b'/'));
                            return Ok(Some(Found { path: Vec::new(), what }));
                        }
                    },
                    None => target,
                };
                ahead.extend(rest.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            }
        }
    }
    let path = way.iter().map(|(name, _)| name.as_slice()).collect::<Vec<_>>().join(&b'/');
    let last = way.pop().map_or(root, |(_, place)| place);
    Ok(Some(Found { path, what: arrive(last) }))
}

/// The rest of an absolute link that points below one of the roots.
fn below_root(target: &[u8], roots: &[PathBuf]) -> Option<Vec<u8>> {
    let target = std::path::Path::new(OsStr::from_bytes(target));
    let rest = roots.iter().find_map(|root| target.strip_prefix(root).ok())?;
    Some(rest.as_os_str().as_bytes().to_vec())
}

/// The tree of a generation.
fn frozen(state: &State, selections: &Selections) -> World {
    World {
        is_live: false,
        view: Arc::new(View::compile(selections, &state.catalog)),
        selections: Arc::new(selections.clone()),
    }
}

fn step<D: Disk>(
    store: &Store<D>,
    state: &State,
    here: &Place,
    name: &[u8],
) -> Result<Step, EngineError> {
    match here {
        Place::Virtual(world, dir) => virtual_step(store, state, world, dir, name),
        Place::Empty => Ok(Step::Missing),
        Place::Generations => generation_step(store, state, name),
        Place::Objects => {
            let Some(id) = text(name).and_then(|text| text.parse::<ObjectId>().ok()) else {
                return Ok(Step::Missing);
            };
            match store.object(&id) {
                Err(StoreError::NoObject { .. }) => Ok(Step::Missing),
                tree => Ok(Step::To(Place::Inside {
                    release: release_of(&state.catalog, &id),
                    tree: tree?,
                    row: ROOT_ENTRY,
                })),
            }
        }
        Place::Inside { tree, row, release } => Ok(match tree.child(*row, name) {
            Some(row) => match tree.row(row).map(|row| row.node) {
                Some(Node::Symlink { target }) => Step::Link(target.to_vec()),
                Some(_) => Step::To(Place::Inside {
                    tree: Arc::clone(tree),
                    row,
                    release: release.clone(),
                }),
                None => Step::Missing,
            },
            None => Step::Missing,
        }),
    }
}

/// `18`, or `18;xz@5.8.1;...`: a generation with those releases put in.
fn generation_step<D: Disk>(
    store: &Store<D>,
    state: &State,
    name: &[u8],
) -> Result<Step, EngineError> {
    let mut parts = text(name).unwrap_or_default().split(';');
    let number = parts.next().and_then(decimal);
    let Some(number) = number.filter(|number| state.generations.contains(number)) else {
        return Ok(Step::Missing);
    };
    let mut put_in: Vec<&Arc<Release>> = Vec::new();
    for part in parts {
        let release = released(&state.catalog, part);
        // One name for one tree: in the order of packages, each once.
        match release.filter(|new| put_in.last().is_none_or(|last| last.id.name < new.id.name)) {
            Some(release) => put_in.push(release),
            None => return Ok(Step::Missing),
        }
    }
    let mut selections = state.selections(store, number)?.into_owned();
    for release in put_in {
        selections.packages.insert(release.id.name.clone(), chosen(release));
    }
    Ok(Step::To(Place::Virtual(frozen(state, &selections), VirtualDir::Root)))
}

/// The release of a name such as `xz@5.8.1,debug`.
fn released<'a>(catalog: &'a Catalog, mount_name: &str) -> Option<&'a Arc<Release>> {
    let (package, _) = mount_name.split_once('@')?;
    let category = catalog.category(&package.parse().ok()?)?;
    catalog.by_mount_name(category, mount_name)
}

/// A selection of exactly this release.
fn chosen(release: &Release) -> Selection {
    let Release { id, category, object, .. } = release;
    let spec = Spec {
        name: id.name.clone(),
        pick: Pick::Exact(id.version.clone()),
        variants: id.variants.clone(),
        object: None,
    };
    Selection {
        release: id.clone(),
        category: category.clone(),
        object: *object,
        why: Why::Asked(spec),
        previous: None,
    }
}

fn virtual_step<D: Disk>(
    store: &Store<D>,
    state: &State,
    world: &World,
    dir: &VirtualDir,
    name: &[u8],
) -> Result<Step, EngineError> {
    let Some(name) = text(name) else { return Ok(Step::Missing) };
    match (dir, name) {
        (VirtualDir::Root, ".root") => return Ok(Step::To(Place::Empty)),
        (VirtualDir::Root, ".profiles") if world.is_live => return Ok(Step::To(Place::Empty)),
        (VirtualDir::Root, ".generations") if world.is_live => {
            return Ok(Step::To(Place::Generations));
        }
        (VirtualDir::Root, ".objects") if world.is_live => return Ok(Step::To(Place::Objects)),
        _ => {}
    }
    match world.view.get(dir, name) {
        Some(Target::Dir(dir)) => return Ok(Step::To(Place::Virtual(world.clone(), dir))),
        Some(Target::Link(target)) => return Ok(Step::Link(target.as_bytes().to_vec())),
        Some(Target::Package(object)) => {
            let release = world.selections.packages.get(name).map(|found| found.release.clone());
            return inside(store, &object, release);
        }
        None => {}
    }
    match dir {
        VirtualDir::Category(category) => {
            if let Some(release) = state.catalog.by_mount_name(category, name) {
                return inside(store, &release.object, Some(release.id.clone()));
            }
        }
        // A category without a selected package has releases under their full names.
        VirtualDir::Root => {
            if let Ok(category) = Category::new(name)
                && state.catalog.has_category(&category)
            {
                let dir = VirtualDir::Category(category);
                return Ok(Step::To(Place::Virtual(world.clone(), dir)));
            }
        }
        VirtualDir::Bin | VirtualDir::So => {}
    }
    if world.is_live {
        // What nobody knows must not be called missing.
        state.whole()?;
    }
    Ok(Step::Missing)
}

fn inside<D: Disk>(
    store: &Store<D>,
    object: &ObjectId,
    release: Option<ReleaseId>,
) -> Result<Step, EngineError> {
    Ok(Step::To(Place::Inside { tree: store.object(object)?, row: ROOT_ENTRY, release }))
}

/// The release of an object, when it is exactly one.
fn release_of(catalog: &Catalog, id: &ObjectId) -> Option<ReleaseId> {
    let releases = || catalog.packages().flat_map(|(_, releases)| releases);
    let mut matching = releases().filter(|release| release.object == *id);
    let only = matching.next()?;
    matching.next().is_none().then(|| only.id.clone())
}

fn text(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok()
}

/// A number as it is written below `.generations`: no sign, no leading zero.
fn decimal(text: &str) -> Option<GenerationNumber> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(GenerationNumber(number))
}

fn arrive(place: Place) -> What {
    let Place::Inside { tree, row, release } = place else { return What::Virtual };
    let file = match tree.row(row).map(|row| row.node) {
        Some(Node::File { blob, size, .. }) => Some((blob, size)),
        _ => None,
    };
    What::Object { object: tree.id(), release, inside: tree.path(row).unwrap_or_default(), file }
}
