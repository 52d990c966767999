//! Any bytes as records: whole ones, and the lines of ones that then get their first and last line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use resolver::history::{redo_target, undo_target};
use resolver::{
    Action, Arch, Catalog, Cause, Generation, GenerationNumber, ObjectId, PackageName, Providers,
    Release, Selection, Selections, SharedMap, Target, Timestamp, View, VirtualDir,
};
use serde::Deserialize;

use crate::StoreError;
use crate::digest::digest;
use crate::store::record;
use crate::store::{
    Format, Index, Prefix, SelectionLine, decode_generation, decode_release, encode_generation,
    encode_release, path as paths,
};

/// Most lines that are tried as releases of one catalog.
const LINES_MAX: usize = 16;

/// A release record, and the lines of several, each of which goes into one catalog.
pub fn release(bytes: &[u8]) -> bool {
    let path = Path::new("releases/xz/5.2.5,amd64");
    let whole = [decode_release(path, bytes), sealed_release(path, bytes)];
    let lines = bytes.split(|byte| *byte == b'\n').take(LINES_MAX);
    let mut releases: Vec<Release> = lines.filter_map(release_of_line).collect();
    releases.extend(whole.into_iter().flatten());
    releases.iter().for_each(release_again);
    catalog(&releases);
    !releases.is_empty()
}

fn sealed_release(path: &Path, lines: &[u8]) -> Result<Release, StoreError> {
    decode_release(path, &record::sealed(record::RELEASE, lines))
}

/// A record is read as its line is, where it belongs.
pub(super) fn release_of_line(line: &[u8]) -> Option<Release> {
    let release: Release = serde_json::from_slice(line).ok()?;
    // A name that is too long for a file.
    let path = paths::release(&release.id).ok()?;
    // An unknown field may make the line look like the first one of a record.
    let record = record::framed(record::RELEASE, &[line, b"\n"].concat());
    let framed = decode_release(&path, &record);
    assert_eq!(framed.expect("the line is understood"), release);
    let elsewhere = Path::new("releases/elsewhere/1,amd64");
    assert!(path == elsewhere || decode_release(elsewhere, &record).is_err());
    Some(release)
}

fn release_again(release: &Release) {
    let path = paths::release(&release.id).expect("it was read from there");
    let bytes = encode_release(release).expect("it is no longer than what was read");
    let again = decode_release(&path, &bytes).expect("what was written can be read");
    assert_eq!(again, *release, "and is the same");
    assert!(encode_release(&again).is_ok_and(|again| again == bytes), "in the same bytes");
    assert_eq!(paths::release_at(&path).as_ref(), Some(&release.id), "a path names its release");
    Index::keeps(release);
}

/// What is in a catalog is found there by each of its names, and when it is out it is not.
fn catalog(releases: &[Release]) {
    let Some(first) = releases.first() else { return };
    let mut catalog = Catalog::new(first.id.arch.clone());
    for release in releases {
        drop(catalog.insert(Arc::new(release.clone())));
    }
    for release in releases {
        let Some(found) = catalog.get(&release.id).cloned() else {
            assert!(catalog.category(&release.id.name).is_some(), "only another one keeps it out");
            continue;
        };
        assert_eq!(found.id, release.id);
        let name = found.id.mount_name();
        let shown = catalog.by_mount_name(&found.category, &name);
        // One for another machine has the same name, and is not shown under it.
        assert!(shown.is_some() || !catalog.is_native(&found), "{name} is seen");
        let is_right =
            |shown: &Arc<Release>| catalog.is_native(shown) && shown.id.mount_name() == name;
        assert!(shown.is_none_or(is_right), "a name shows the release that it names");
        assert!(catalog.releases(&found.id.name).is_sorted_by_key(|release| &release.id.version));
    }
    for release in releases {
        let there = catalog.get(&release.id).is_some();
        assert_eq!(catalog.remove(&release.id).is_some(), there);
        assert!(catalog.get(&release.id).is_none());
    }
    assert_eq!(catalog.packages().count(), 0, "everything went");
}

/// What the first line of a generation says of it, as far as it matters here.
#[derive(Deserialize)]
struct Head {
    number: GenerationNumber,
    parent: Option<GenerationNumber>,
    at: Timestamp,
    cause: Cause,
    #[serde(default)]
    providers: Providers,
}

/// A generation: a whole one, the lines of one, and one that is made of those lines that are right.
pub fn generation(bytes: &[u8]) -> bool {
    let lines = bytes.split(|byte| *byte == b'\n').take(LINES_MAX);
    let head = lines.clone().take(2).find_map(|line| serde_json::from_slice::<Head>(line).ok());
    let number = head.as_ref().map_or(GenerationNumber(7), |head| head.number);
    let path = paths::generation(number);
    let whole = decode_generation(number, &path, bytes);
    let sealed = decode_generation(number, &path, &record::sealed(record::GENERATION, bytes));
    let made = made_generation(head, lines);
    let mut understood = false;
    for generation in [whole.ok(), sealed.ok(), made].into_iter().flatten() {
        let path = paths::generation(generation.number);
        generation_again(&generation, &path);
        view(&generation);
        understood = true;
    }
    understood
}

fn made_generation<'a>(
    head: Option<Head>,
    lines: impl Iterator<Item = &'a [u8]>,
) -> Option<Generation> {
    let selections = lines.filter_map(selection);
    let packages: SharedMap<PackageName, Selection> =
        selections.map(|selection| (selection.release.name.clone(), selection)).collect();
    if head.is_none() && packages.is_empty() {
        return None;
    }
    let head = head.unwrap_or_else(|| Head {
        number: GenerationNumber(7),
        parent: None,
        at: Timestamp(0),
        cause: Cause { action: Action::Apply, uid: 0, request: None },
        providers: Providers::default(),
    });
    let Head { number, parent, at, cause, providers } = head;
    let parent = parent.filter(|parent| *parent < number);
    Some(Generation { number, parent, at, cause, system: Selections { packages, providers } })
}

/// A line of a generation; or its parts between bars, as `lib/xz@1,debug|asked|@1|previous|0.9`.
fn selection(line: &[u8]) -> Option<Selection> {
    if let Ok(line) = serde_json::from_slice::<SelectionLine>(line) {
        return line.read(&Arch::all()).ok();
    }
    let mut parts = std::str::from_utf8(line).ok()?.split('|');
    let release = parts.next()?;
    let mut unusual = serde_json::Map::new();
    while let (Some(field), Some(value)) = (parts.next(), parts.next()) {
        unusual.insert(field.to_owned(), value.into());
    }
    let object = ObjectId::from_bytes(*digest(line).id.as_bytes());
    let line = serde_json::json!([release, object, unusual]);
    serde_json::from_value::<SelectionLine>(line).ok()?.read(&Arch::all()).ok()
}

fn generation_again(generation: &Generation, path: &Path) {
    let bytes = encode_generation(generation).expect("it is about as long as what was read");
    let again = decode_generation(generation.number, path, &bytes);
    let again = again.expect("what was written can be read");
    assert_eq!(again, *generation, "and is the same");
    assert!(encode_generation(&again).is_ok_and(|again| again == bytes), "in the same bytes");
    let next = GenerationNumber(generation.number.0.wrapping_add(1));
    assert!(decode_generation(next, path, &bytes).is_err(), "it is no other generation");
    let line = [(generation.number, &generation.cause.action)];
    let known = |target: Option<GenerationNumber>| target.is_none_or(|to| to <= line[0].0);
    assert!(known(undo_target(&line)) && known(redo_target(&line)), "nobody undoes into nowhere");
}

/// A view shows what is selected, also where no release is known any more.
fn view(generation: &Generation) {
    let view = View::compile(&generation.system, &Catalog::new(Arch::all()));
    for (name, selection) in &generation.system.packages {
        assert_eq!(*name, selection.release.name);
        let dir = VirtualDir::Category(selection.category.clone());
        let root = view.get(&VirtualDir::Root, selection.category.as_str());
        assert_eq!(root, Some(Target::Dir(dir.clone())), "its category is there");
        let package = view.get(&dir, name.as_str());
        assert_eq!(package, Some(Target::Package(selection.object)), "a package is its object");
    }
    let none = View::default();
    let packages = generation.system.packages.keys().count();
    let told = none.changed(&view).entries;
    let told = told.iter().filter(|(dir, _)| matches!(dir, VirtualDir::Category(_)));
    assert_eq!(told.count(), packages, "each package is announced once");
    assert_eq!(view.changed(&view), none.changed(&none), "nothing unchanged is announced");
}

/// A format record: a whole one, the line of one, and one that has the first line of these bytes
/// as its prefix and the others as its features.
pub fn format(bytes: &[u8]) -> bool {
    let sealed = record::sealed(record::FORMAT, bytes);
    let read = [Format::decode(bytes).ok(), Format::decode(&sealed).ok(), made_format(bytes)];
    let mut understood = false;
    for format in read.into_iter().flatten() {
        let bytes = format.encode().expect("it is about as long as what was read");
        let again = Format::decode(&bytes).expect("what was written can be read");
        assert_eq!(again, format, "and is the same");
        assert!(again.encode().is_ok_and(|again| again == bytes), "in the same bytes");
        assert!(format.prefix.as_path().is_absolute());
        let is_known = format.read_only_compatible.is_empty();
        assert_eq!(format.check_writable().is_ok(), is_known, "no feature is known yet");
        understood = true;
    }
    understood
}

fn made_format(bytes: &[u8]) -> Option<Format> {
    let mut lines = bytes.split(|byte| *byte == b'\n').take(LINES_MAX);
    let prefix = Prefix::new(Path::new(OsStr::from_bytes(lines.next()?))).ok()?;
    let mut format = Format::new(prefix);
    for (number, feature) in lines.enumerate() {
        let feature = String::from_utf8_lossy(feature).into_owned();
        match number % 2 {
            0 => format.compatible.push(feature),
            _ => format.read_only_compatible.push(feature),
        }
    }
    Some(format)
}
