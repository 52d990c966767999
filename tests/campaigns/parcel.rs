//! Stores on simulated disks, and what campaigns put into them.

use std::path::Path;
use std::sync::Arc;

use dynfs::engine::{Caller, Engine};
use dynfs::protocol::{Done, Edit, Used};
use resolver::{
    Arch, CommandName, FileName, Origin, Provides, Release, ReleaseId, RequestId, Soname, Timestamp,
};
use store_fs::{Prefix, SimDisk, Store, StoreError, TreeBuilder};

use crate::harness::turn::Dice;

/// Bytes of a file that needs an outboard, just so.
pub(crate) const LARGE: usize = 65_536 + 100;

/// A release to be: `name@version,variant` in a category, and its files.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) category: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) variants: &'static [&'static str],
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

pub(crate) fn host() -> Arch {
    Arch::new("amd64").expect("a name")
}

pub(crate) fn new_store(disk: &SimDisk) -> Result<Store<SimDisk>, StoreError> {
    Store::create(disk.clone(), &Prefix::new(Path::new("/dyn")).expect("a prefix"))
}

pub(crate) fn words(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// Bytes that are the same for the same salt and length.
pub(crate) fn content(salt: &str, len: usize) -> Vec<u8> {
    let seed = salt.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
    let mut dice = Dice::new(seed);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| dice.bits().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

impl Parcel {
    /// A library with a program, `files` more files and, if so, a large one.
    pub(crate) fn new(
        category: &'static str,
        name: &'static str,
        version: &'static str,
        (files, is_large): (usize, bool),
    ) -> Self {
        let of = |path: &str| format!("{name} {version} {path}");
        let small = |path: String| (path.clone(), of(&path).into_bytes());
        let mut all = vec![small(format!("bin/{name}")), small(format!("lib/lib{name}.so.1.0"))];
        all.extend((0..files).map(|number| small(format!("share/{number}"))));
        if is_large {
            all.push(("share/large".into(), content(&of("large"), LARGE)));
        }
        Self { category, name, version, variants: &[], files: all }
    }

    pub(crate) fn id(&self) -> ReleaseId {
        ReleaseId {
            name: self.name.parse().expect("a name"),
            version: self.version.parse().expect("a version"),
            arch: host(),
            variants: self.variants.iter().map(|v| v.parse().expect("a variant")).collect(),
        }
    }

    /// Adds its object; the release that is to be published then.
    pub(crate) fn add(&self, store: &Store<SimDisk>) -> Result<Release, StoreError> {
        let addition = store.add()?;
        let mut tree = TreeBuilder::new();
        for (path, bytes) in &self.files {
            let blob = addition.bytes(bytes)?;
            let is_program = path.starts_with("bin/");
            tree.file(path.as_bytes(), blob, bytes.len() as u64, 1_000_000_000, is_program)?;
        }
        let (name, soname) = (self.name, format!("lib{}.so.1", self.name));
        tree.symlink(format!("lib/{soname}").as_bytes(), format!("{soname}.0").as_bytes())?;
        tree.dir(b"share/empty")?;
        let object = addition.finish(tree)?.id();
        let library = FileName::new(&format!("{soname}.0")).expect("a name");
        Ok(Release {
            id: self.id(),
            category: self.category.parse().expect("a category"),
            object,
            needs: Vec::new(),
            provides: Provides {
                commands: [CommandName::new(name).expect("a name")].into(),
                sonames: [(Soname::new(&soname).expect("a name"), library)].into(),
            },
            build_ids: Vec::new(),
            origin: Origin { kind: "directory".into(), name: "/src".into() },
        })
    }
}

/// The store on a disk, as one more process finds it.
pub(crate) fn open(disk: &SimDisk) -> Result<Arc<Store<SimDisk>>, String> {
    Store::open(disk.clone()).map(Arc::new).map_err(words)
}

/// Carries out an edit as a command without a daemon does. The same edit again is the same request.
pub(crate) fn submit(store: &Arc<Store<SimDisk>>, edit: &Edit) -> Result<Done, String> {
    let text = format!("{edit:?}");
    let digits = store_fs::digest::digest(text.as_bytes()).id.to_string();
    submit_as(store, edit, Some(RequestId(digits[..32].to_owned())))
}

fn submit_as(
    store: &Arc<Store<SimDisk>>,
    edit: &Edit,
    request: Option<RequestId>,
) -> Result<Done, String> {
    let by = Caller { uid: 0, request, again: true, at: Timestamp(1_700_000_000) };
    let writer = store.writer().map_err(words)?;
    let engine = Engine::open_unmounted(Arc::clone(store), writer, host()).map_err(words)?;
    engine.edit(edit, &by).map_err(words)
}

/// Adds parcels, as `dynfs add` does.
pub(crate) fn add_all(disk: &SimDisk, parcels: &[Parcel]) -> Result<(), String> {
    for parcel in parcels {
        let store = open(disk)?;
        let _adding = store.adding().map_err(words)?;
        let release = parcel.add(&store).map_err(words)?;
        submit(&store, &Edit::Publish { release: Box::new(release) })?;
    }
    Ok(())
}

pub(crate) fn select(spec: &str) -> Edit {
    Edit::Select { specs: vec![spec.parse().expect("a spec")], providers: Vec::new() }
}

/// Edits one after the other, each by a command of its own.
pub(crate) fn edits(disk: &SimDisk, edits: &[Edit]) -> Result<(), String> {
    edits.iter().try_for_each(|edit| submit(&open(disk)?, edit).map(drop))
}

/// The same by commands that nobody repeats.
///
/// # Panics
///
/// When they are not carried out.
pub(crate) fn prepare(disk: &SimDisk, edits: &[Edit]) {
    for edit in edits {
        let done = open(disk).and_then(|store| submit_as(&store, edit, None));
        drop(done.unwrap_or_else(|error| panic!("{edit:?}: {error}")));
    }
}

/// One collection of garbage that keeps so many generations, as `dynfs gc` does when no process
/// uses anything.
pub(crate) fn collect(disk: &SimDisk, keep: u64) -> Result<(), String> {
    edits(
        disk,
        &[
            Edit::Forget { keep, since: None, used: Used::default() },
            Edit::EmptyTrash { used: Vec::new() },
            Edit::Trash { used: Vec::new() },
        ],
    )
}
