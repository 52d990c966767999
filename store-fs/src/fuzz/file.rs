//! Any bytes as a release file: as a whole one, as what its head says, and as the releases and the
//! trees of one that is made from them and then changed.

use std::collections::BTreeMap;

use resolver::{Release, ReleaseId};

use super::recipe::Recipe;
use super::records::release_of_line;
use crate::release_file::{MAGIC, blobs_of, check_release_file, head_of};
use crate::store::{path as paths, record};
use crate::{Tree, TreeBuilder};

/// Most releases in a file that is made.
const RELEASES_MAX: usize = 8;

/// A release file, whole; one whose head has these lines; and one that is made of releases (lines)
/// and, behind a zero byte, the recipe of the tree that every second one of them has.
pub fn release_file(bytes: &[u8]) -> bool {
    let whole = check_release_file(bytes).is_ok();
    let head = record::sealed(record::RELEASE_FILE, bytes);
    let headed = check_release_file(&framed(&head, bytes)).is_ok();
    whole | headed | made(bytes)
}

fn framed(head: &[u8], rest: &[u8]) -> Vec<u8> {
    let len = u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&MAGIC[..], &len, head, rest].concat()
}

/// What was written is understood, and no byte of it can be another.
fn made(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let lines = parts.next().unwrap_or_default();
    let mut recipe = Recipe::read(parts.next().unwrap_or_default());
    let releases = releases(lines);
    if releases.is_empty() || !recipe.is_whole {
        return false;
    }
    let builders = [std::mem::take(&mut recipe.tree), TreeBuilder::new()];
    let trees = builders.map(|builder| {
        let (id, bytes) = builder.encode().expect("the builder took every entry");
        Tree::decode(id, bytes).expect("what was encoded is an encoding")
    });
    let mut file = write(releases, &trees, &recipe);
    check_release_file(&file).expect("what was written can be read");
    let longer = [&file[..], &[0]].concat();
    assert!(check_release_file(&longer).is_err(), "nothing is behind its end");
    let is_other = recipe.change(&mut file);
    assert_eq!(check_release_file(&file).is_err(), is_other, "a hash covers every byte");
    let cut = &file[..file.len() - 1];
    assert!(check_release_file(cut).is_err(), "a file that was cut is not whole");
    true
}

/// By the path of their record, each once.
fn releases(lines: &[u8]) -> Vec<Release> {
    let lines = lines.split(|byte| *byte == b'\n').take(RELEASES_MAX);
    let releases = lines.filter_map(release_of_line);
    let place = |id: &ReleaseId| paths::release(id).expect("it was read from there");
    let sorted: BTreeMap<_, Release> =
        releases.map(|release| (place(&release.id), release)).collect();
    sorted.into_values().collect()
}

fn write(mut releases: Vec<Release>, trees: &[Tree; 2], recipe: &Recipe) -> Vec<u8> {
    for (release, tree) in releases.iter_mut().zip(trees.iter().cycle()) {
        release.object = tree.id();
    }
    // With one release there is one tree, and so there is when both are empty.
    let used = if releases.len() == 1 || trees[0].id() == trees[1].id() { 1 } else { 2 };
    let trees = &trees[..used];
    let objects = trees.iter().map(|tree| (tree.id(), tree.encoding().len() as u64)).collect();
    let head = head_of(releases, objects);
    let mut rest: Vec<u8> = trees.iter().flat_map(|tree| tree.encoding()).copied().collect();
    let blobs = blobs_of(trees, std::path::Path::new("file")).expect("a content has one length");
    for (blob, _) in blobs {
        rest.extend_from_slice(&recipe.contents[&blob]);
    }
    framed(&head, &rest)
}
