//! Any bytes as an object: as its encoding, and as the recipe of one that is then changed.

use std::path::Path;

use resolver::ObjectId;

use super::recipe::Recipe;
use crate::digest::digest;
use crate::object::ROOT_ENTRY;
use crate::release_file::blobs_of;
use crate::{Node, Tree, TreeBuilder};

/// Most rows of a tree of which every path is walked.
const PATHS_MAX: u32 = 64;

/// The encoding of an object, and every question to the tree that it is.
pub fn object(bytes: &[u8]) -> bool {
    let as_it_is = encoding(bytes.to_vec());
    as_it_is | made(bytes)
}

/// What was encoded is understood; with a change it may be, and then it is another tree.
fn made(bytes: &[u8]) -> bool {
    let mut recipe = Recipe::read(bytes);
    let tree = std::mem::take(&mut recipe.tree);
    let (id, mut bytes) = tree.encode().expect("the builder took every entry");
    if recipe.change(&mut bytes) {
        assert!(Tree::decode(id, bytes.clone()).is_err(), "other bytes have another name");
        return encoding(bytes);
    }
    assert!(encoding(bytes), "what was encoded is an encoding");
    true
}

fn encoding(bytes: Vec<u8>) -> bool {
    let id = ObjectId::from_bytes(*digest(&bytes).id.as_bytes());
    let Ok(tree) = Tree::decode(id, bytes) else { return false };
    every_row_answers(&tree);
    only_this_encoding(&tree);
    // Two lengths of one blob are refused there, and nothing else.
    drop(blobs_of([&tree], Path::new("object")));
    true
}

/// Every row, its path and its children agree; what is not there is not found.
fn every_row_answers(tree: &Tree) {
    // A path may be as long as the tree is deep: of a large one only the last is walked.
    let all = tree.rows() <= PATHS_MAX;
    for entry in ROOT_ENTRY..=tree.rows() {
        let row = tree.row(entry).expect("every row is there");
        if all || entry == tree.rows() {
            let path = tree.path(entry).expect("every row has a path");
            assert_eq!(tree.find(&path), Some(entry), "a path leads where it came from");
        }
        if entry != ROOT_ENTRY {
            assert_eq!(tree.child(row.parent, row.name), Some(entry), "a row is a child");
        }
        let Node::Dir { children, subdirs } = row.node else {
            assert_eq!(tree.children(entry), None, "only directories have children");
            assert_eq!(tree.child(entry, row.name), None, "only directories have children");
            continue;
        };
        let nodes = children.clone().map(|child| tree.row(child).expect("a child is a row"));
        let dirs = nodes.filter(|child| child.parent == entry);
        let dirs = dirs.filter(|child| matches!(child.node, Node::Dir { .. })).count();
        assert_eq!(Some(subdirs), u32::try_from(dirs).ok(), "its directories are counted");
        assert_eq!(tree.child(entry, b""), None, "nothing has no name");
        assert_eq!(tree.child(entry, &[0xff; 256]), None, "no name is so long");
        assert_eq!(tree.children(entry), Some(children));
    }
    for entry in [0, tree.rows() + 1, u32::MAX] {
        assert!(tree.row(entry).is_none() && tree.path(entry).is_none(), "there is no such row");
        assert_eq!(tree.child(entry, b"x"), None);
    }
    assert_eq!(tree.find(b""), Some(ROOT_ENTRY), "every tree has a root");
    assert_eq!(tree.find(b"/"), None, "and no path has a slash for a name");
}

/// One tree has one encoding: built again from its rows it has the same bytes.
fn only_this_encoding(tree: &Tree) {
    let mut builder = TreeBuilder::new();
    for entry in (ROOT_ENTRY + 1..=tree.rows()).rev() {
        let node = tree.row(entry).expect("every row is there").node;
        if matches!(&node, Node::Dir { children, .. } if !children.is_empty()) {
            // It comes with its children.
            continue;
        }
        let path = tree.path(entry).expect("every row has a path");
        match node {
            Node::Dir { .. } => builder.dir(&path),
            Node::Symlink { target } => builder.symlink(&path, target),
            Node::File { blob, size, mtime, executable } => {
                builder.file(&path, blob, size, mtime, executable)
            }
        }
        .expect("what can be decoded can be encoded");
    }
    assert_eq!(builder.rows(), tree.rows());
    let (id, bytes) = builder.encode().expect("the same tree has the same lengths");
    assert!(bytes == tree.encoding(), "one tree has one encoding");
    assert_eq!(id, tree.id());
    assert!(tree.memory() >= bytes.len(), "a cache counts all of it");
}
