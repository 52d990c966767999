//! The encoding: one tree, one id; nothing but the canonical bytes; no panic whatever is asked.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn blob(seed: u8) -> BlobId {
    BlobId::from_bytes([seed; 32])
}

/// A tree as a plain map: the reference that everything is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plain {
    Dir,
    File(BlobId, u64, i64, bool),
    Symlink(Vec<u8>),
}

type Paths = BTreeMap<Vec<u8>, Plain>;

fn put(builder: &mut TreeBuilder, path: &[u8], plain: &Plain) -> Result<(), StoreError> {
    match plain {
        Plain::Dir => builder.dir(path),
        Plain::File(blob, size, mtime, x) => builder.file(path, *blob, *size, *mtime, *x),
        Plain::Symlink(target) => builder.symlink(path, target),
    }
}

fn build<'a>(entries: impl IntoIterator<Item = (&'a Vec<u8>, &'a Plain)>) -> (ObjectId, Vec<u8>) {
    let mut builder = TreeBuilder::new();
    for (path, plain) in entries {
        put(&mut builder, path, plain).unwrap();
    }
    builder.encode().unwrap()
}

/// Everything a tree says, through its public face.
fn paths_of(tree: &Tree) -> Paths {
    let mut paths = Paths::new();
    for entry in 2..=tree.rows() {
        let plain = match tree.row(entry).unwrap().node {
            Node::Dir { .. } => Plain::Dir,
            Node::File { blob, size, mtime, executable } => {
                Plain::File(blob, size, mtime, executable)
            }
            Node::Symlink { target } => Plain::Symlink(target.to_vec()),
        };
        paths.insert(tree.path(entry).unwrap(), plain);
    }
    paths
}

/// Decodes bytes that have no right hash.
fn decode_any(bytes: &[u8]) -> Result<Tree, StoreError> {
    let id = ObjectId::from_bytes(*blake3::hash(bytes).as_bytes());
    Tree::decode(id, bytes.to_vec())
}

fn sample() -> Paths {
    let long = vec![0xff; NAME_LEN_MAX];
    [
        (b"bin/xz".to_vec(), Plain::File(blob(1), 90_000, 1_700_000_000, true)),
        (b"bin/unxz".to_vec(), Plain::Symlink(b"xz".to_vec())),
        (b"bin".to_vec(), Plain::Dir),
        (b"lib/liblzma.so.5".to_vec(), Plain::Symlink(b"liblzma.so.5.8.1".to_vec())),
        (b"lib/liblzma.so.5.8.1".to_vec(), Plain::File(blob(2), 1 << 40, -1, false)),
        (b"lib".to_vec(), Plain::Dir),
        (b"share".to_vec(), Plain::Dir),
        (b"share/empty".to_vec(), Plain::Dir),
        (b"share/doc".to_vec(), Plain::Dir),
        (b"share/doc/a\nb \xc3\x28".to_vec(), Plain::File(blob(3), 0, 0, false)),
        (long, Plain::File(blob(4), FILE_SIZE_MAX, i64::MIN, true)),
        (b"far".to_vec(), Plain::Symlink(vec![b'x'; TARGET_LEN_MAX])),
    ]
    .into_iter()
    .collect()
}

#[test]
fn what_goes_in_comes_out() {
    let paths = sample();
    let (id, bytes) = build(&paths);
    let tree = Tree::decode(id, bytes.clone()).unwrap();
    assert_eq!(tree.id(), id);
    assert_eq!(tree.encoding(), bytes);
    assert_eq!(tree.rows() as usize, paths.len() + 1);
    assert_eq!(paths_of(&tree), paths);
    for path in paths.keys() {
        let entry = tree.find(path).unwrap();
        assert_eq!(tree.path(entry).as_deref(), Some(&path[..]));
    }
}

/// The format is for ever: these bytes and this name must never change.
#[test]
fn the_encoding_is_pinned() {
    let mut builder = TreeBuilder::new();
    builder.file(b"bin/xz", blob(0xb1), 3, -2, true).unwrap();
    builder.symlink(b"l", b"bin/xz").unwrap();
    let (id, bytes) = builder.encode().unwrap();
    let row = |fields: &[(usize, &[u8])]| {
        let mut row = [0; 64];
        for (at, value) in fields {
            row[*at..*at + value.len()].copy_from_slice(value);
        }
        row.to_vec()
    };
    let expected = [
        row(&[(0, b"dynfsobj"), (8, &[1]), (12, &[4]), (16, &[12])]),
        row(&[(0, &[1]), (8, &[1]), (16, &[2]), (20, &[2]), (24, &[1])]),
        row(&[(0, &[1]), (2, &[3]), (8, &[1]), (16, &[4]), (20, &[1])]),
        row(&[(0, &[3]), (2, &[1]), (4, &[3]), (8, &[1]), (16, &[4]), (20, &[6])]),
        row(&[
            (0, &[2, 1]),
            (2, &[2]),
            (4, &[10]),
            (8, &[2]),
            (16, &[0xb1; 32]),
            (48, &[3]),
            (56, &(-2_i64).to_le_bytes()),
        ]),
        b"binlbin/xzxz".to_vec(),
    ]
    .concat();
    assert_eq!(bytes, expected);
    assert_eq!(id.to_string(), "ffdf6ee4d9387aeb3070a51c6c45a414ebe5ccf425686def770e7b7997dd2798");
}

#[test]
fn the_empty_tree_is_a_root() {
    let (id, bytes) = TreeBuilder::new().encode().unwrap();
    assert_eq!(bytes.len(), 2 * at::ROW_LEN);
    let tree = Tree::decode(id, bytes).unwrap();
    let node = Node::Dir { children: 2..2, subdirs: 0 };
    assert_eq!(tree.row(ROOT_ENTRY), Some(Row { name: b"", parent: ROOT_ENTRY, node }));
    assert_eq!(tree.path(ROOT_ENTRY), Some(Vec::new()));
    assert_eq!(tree.find(b""), Some(ROOT_ENTRY));
}

#[test]
fn children_are_consecutive_sorted_and_counted() {
    let (id, bytes) = build(&sample());
    let tree = Tree::decode(id, bytes).unwrap();
    let mut next = ROOT_ENTRY + 1;
    for entry in 1..=tree.rows() {
        let Node::Dir { children, subdirs } = tree.row(entry).unwrap().node else {
            assert_eq!(tree.children(entry), None);
            continue;
        };
        assert_eq!(tree.children(entry), Some(children.clone()));
        assert_eq!(children.start, next);
        next = children.end;
        let rows: Vec<_> = children.clone().map(|child| tree.row(child).unwrap()).collect();
        assert!(rows.is_sorted_by(|a, b| a.name < b.name));
        assert!(rows.iter().all(|row| row.parent == entry));
        let dirs = rows.iter().filter(|row| matches!(row.node, Node::Dir { .. })).count();
        assert_eq!(dirs, subdirs as usize);
        for (child, row) in children.zip(&rows) {
            assert_eq!(tree.child(entry, row.name), Some(child));
        }
    }
    assert_eq!(next, tree.rows() + 1);
}

#[test]
fn questions_from_outside_are_answered_with_nothing() {
    let (id, bytes) = build(&sample());
    let tree = Tree::decode(id, bytes).unwrap();
    let file = tree.find(b"bin/xz").unwrap();
    for entry in [0, tree.rows() + 1, 1 << 25, 1 << 26, u32::MAX] {
        assert_eq!(tree.row(entry), None);
        assert_eq!(tree.children(entry), None);
        assert_eq!(tree.child(entry, b"bin"), None);
        assert_eq!(tree.path(entry), None);
    }
    assert_eq!(tree.child(file, b"xz"), None, "a file has no children");
    for name in [&b""[..], b".", b"..", b"bin/xz", b"\0", b"zzz", &[0xff; 300]] {
        assert_eq!(tree.child(ROOT_ENTRY, name), None, "{name:?}");
    }
    for path in [&b"/"[..], b"/bin", b"bin/", b"bin//xz", b"bin/xz/x", b"bin/../bin", b"./bin"] {
        assert_eq!(tree.find(path), None, "{path:?}");
    }
}

#[test]
fn unusable_entries_are_refused_and_change_nothing() {
    let name = vec![b'n'; NAME_LEN_MAX + 1];
    let deep = vec!["d"; DEPTH_MAX + 1].join("/").into_bytes();
    let file = Plain::File(blob(0), 0, 0, false);
    let link = Plain::Symlink(b"x".to_vec());
    let cases: [(&[u8], Plain, &str); 20] = [
        (b"/etc/x", file.clone(), "absolute path"),
        (b"/", Plain::Dir, "absolute path"),
        (b"../x", file.clone(), "`..`"),
        (b"a/../../x", Plain::Dir, "`..`"),
        (b"a/./x", link.clone(), "`.`"),
        (b".", Plain::Dir, "`.`"),
        (b"", file.clone(), "empty name"),
        (b"a//b", file.clone(), "empty name"),
        (b"a/", Plain::Dir, "empty name"),
        (b"a\0b", file.clone(), "NUL"),
        (&name, file.clone(), "limit of 255"),
        (&deep, Plain::Dir, "limit of 1024"),
        (b"big", Plain::File(blob(0), FILE_SIZE_MAX + 1, 0, false), "limit of 9223372036854775807"),
        (b"l", Plain::Symlink(Vec::new()), "without a target"),
        (b"l", Plain::Symlink(b"a\0".to_vec()), "NUL"),
        (b"l", Plain::Symlink(vec![b'x'; TARGET_LEN_MAX + 1]), "limit of 4095"),
        (b"bin/xz", file.clone(), "a file already"),
        (b"bin/xz", Plain::Dir, "a file already"),
        (b"bin/xz/new/deeper", file, "part of the path is a file"),
        (b"bin", link, "a directory already"),
    ];
    let before = build(&sample());
    for (path, plain, reason) in cases {
        let mut builder = TreeBuilder::new();
        for (path, plain) in &sample() {
            put(&mut builder, path, plain).unwrap();
        }
        let error = put(&mut builder, path, &plain).unwrap_err().to_string();
        assert!(error.contains(reason), "{error:?} should say {reason:?}");
        assert_eq!(builder.encode().unwrap(), before, "{error}");
    }
}

#[test]
fn the_deepest_path_works() {
    let deep = vec!["d"; DEPTH_MAX].join("/").into_bytes();
    let mut builder = TreeBuilder::new();
    builder.dir(&deep).unwrap();
    let (id, bytes) = builder.encode().unwrap();
    let tree = Tree::decode(id, bytes).unwrap();
    assert_eq!(tree.rows() as usize, DEPTH_MAX + 1);
    assert_eq!(tree.path(tree.rows()), Some(deep));
}

#[test]
fn a_tree_that_is_too_deep_is_not_decoded() {
    // The encoder has no limit of its own, so its bytes can be made too deep by hand.
    let deep = vec!["d"; DEPTH_MAX].join("/").into_bytes();
    let mut builder = TreeBuilder::new();
    builder.dir(&deep).unwrap();
    let (_, mut bytes) = builder.encode().unwrap();
    let heap = bytes.split_off(bytes.len() - DEPTH_MAX);
    let rows = u32::try_from(DEPTH_MAX).unwrap() + 2;
    let last = bytes.len() - at::ROW_LEN;
    let mut row: at::Slot = *bytes[last..].first_chunk().unwrap();
    at::put(&mut row, at::NAME_AT, (rows - 2).to_le_bytes());
    at::put(&mut row, at::PARENT, (rows - 1).to_le_bytes());
    at::put(&mut row, at::DIR_FIRST, (rows + 1).to_le_bytes());
    bytes[last + at::DIR_COUNT] = 1;
    bytes[last + at::DIR_SUBDIRS] = 1;
    bytes.extend_from_slice(&row);
    bytes.extend_from_slice(&heap);
    bytes.push(b'd');
    bytes[at::HEADER_ROWS..][..4].copy_from_slice(&rows.to_le_bytes());
    bytes[at::HEADER_HEAP_LEN..][..4].copy_from_slice(&(rows - 1).to_le_bytes());
    assert_eq!(decode::check(&bytes), Err(decode::Fault::Depth { row: rows }));
}

#[test]
fn bytes_with_another_hash_are_refused() {
    let (id, bytes) = build(&sample());
    let other = ObjectId::from_bytes([0; 32]);
    for (id, bytes) in [(other, bytes.clone()), (id, [&bytes[..], &[0]].concat()), (id, vec![])] {
        let error = Tree::decode(id, bytes).unwrap_err().to_string();
        assert_eq!(error, format!("{id} is damaged: its bytes do not have this hash"));
    }
}

#[test]
fn truncated_bytes_are_refused_at_every_length() {
    let (_, bytes) = build(&sample());
    for len in 0..bytes.len() {
        assert!(decode_any(&bytes[..len]).is_err(), "{len}");
    }
}

/// Every byte, every value: what is accepted is another tree, and its only encoding.
#[test]
fn any_changed_byte_is_refused_or_another_tree() {
    let mut paths = sample();
    paths.retain(|path, _| path.len() < 40 && path != b"far");
    let (id, bytes) = build(&paths);
    let mut accepted = 0;
    for at in 0..bytes.len() {
        for value in 0..=u8::MAX {
            if bytes[at] == value {
                continue;
            }
            let mut changed = bytes.clone();
            changed[at] = value;
            if decode::check(&changed).is_err() {
                continue;
            }
            accepted += 1;
            let tree = decode_any(&changed).unwrap();
            let other = paths_of(&tree);
            assert_ne!(other, paths, "byte {at} = {value}");
            assert_eq!(build(&other), (tree.id(), changed), "byte {at} = {value}");
            assert_ne!(tree.id(), id);
        }
    }
    assert!(accepted > 1000, "names, blobs, sizes and times may be others: {accepted}");
}

#[test]
fn each_fault_is_named() {
    use decode::Fault;
    // Rows: 1 root, 2 a (directory), 3 b (file), 4 c (symlink to x), 5 a/d (directory).
    let mut builder = TreeBuilder::new();
    builder.dir(b"a/d").unwrap();
    builder.file(b"b", blob(1), 1, 1, false).unwrap();
    builder.symlink(b"c", b"x").unwrap();
    let (_, bytes) = builder.encode().unwrap();
    let heap = 6 * at::ROW_LEN;
    let place = |row: usize, field: usize| row * at::ROW_LEN + field;
    let cases = [
        (0, b'D', Fault::Magic),
        (at::HEADER_VERSION, 2, Fault::Version(2)),
        (at::HEADER_ROWS, 0, Fault::Rows(0)),
        (at::HEADER_ROWS + 3, 1, Fault::Rows(0x0100_0005)),
        (at::HEADER_ROWS, 6, Fault::Length { found: heap + 5, promised: 453 }),
        (at::HEADER_HEAP_LEN + 3, 0x80, Fault::Heap(0x8000_0005)),
        (at::HEADER_HEAP_LEN, 6, Fault::Length { found: heap + 5, promised: 390 }),
        (63, 1, Fault::NotZero { row: 0 }),
        (place(3, 15), 1, Fault::NotZero { row: 3 }),
        (place(2, 63), 1, Fault::NotZero { row: 2 }),
        (place(4, 63), 1, Fault::NotZero { row: 4 }),
        (place(3, at::KIND), 9, Fault::Kind { row: 3, kind: 9 }),
        (place(3, at::FLAGS), 2, Fault::Flags { row: 3 }),
        (place(2, at::FLAGS), 1, Fault::Flags { row: 2 }),
        (place(1, at::KIND), at::KIND_FILE, Fault::Root),
        (place(1, at::PARENT), 2, Fault::Root),
        (place(1, at::NAME_LEN), 1, Fault::Root),
        (place(2, at::NAME_LEN), 0, Fault::Name { row: 2, fault: NameFault::Empty }),
        (place(2, at::NAME_LEN + 1), 1, Fault::Place { row: 2 }),
        (place(2, at::NAME_AT), 1, Fault::Place { row: 2 }),
        (heap, b'/', Fault::Name { row: 2, fault: NameFault::Byte }),
        (heap + 1, b'.', Fault::Name { row: 3, fault: NameFault::Dots }),
        (heap + 1, b'a', Fault::Order { row: 3 }),
        (heap + 3, 0, Fault::Target { row: 4, fault: TargetFault::Byte }),
        (place(4, at::LINK_LEN), 0, Fault::Target { row: 4, fault: TargetFault::Empty }),
        (place(4, at::LINK_AT), 2, Fault::Place { row: 4 }),
        (place(3, at::PARENT), 2, Fault::Parent { row: 3 }),
        (place(1, at::DIR_COUNT), 0, Fault::Subdirs { row: 1 }),
        (place(1, at::DIR_COUNT), 5, Fault::Children { row: 1 }),
        (place(1, at::DIR_FIRST), 3, Fault::Children { row: 1 }),
        (place(5, at::DIR_FIRST), 5, Fault::Children { row: 5 }),
        (place(1, at::DIR_SUBDIRS), 2, Fault::Subdirs { row: 1 }),
        (place(5, at::DIR_SUBDIRS), 1, Fault::Subdirs { row: 5 }),
        (place(2, at::DIR_SUBDIRS), 0, Fault::Subdirs { row: 2 }),
        (place(3, at::FILE_SIZE + 7), 0x80, Fault::Size { row: 3 }),
    ];
    for (at, value, fault) in cases {
        let mut changed = bytes.clone();
        changed[at] = value;
        assert_eq!(decode::check(&changed), Err(fault), "byte {at}");
    }
    let mut changed = bytes.clone();
    changed[place(2, at::DIR_COUNT)] = 0;
    changed[place(2, at::DIR_SUBDIRS)] = 0;
    changed[place(5, at::DIR_FIRST)] = 5;
    assert_eq!(decode::check(&changed), Err(Fault::Orphan { row: 5 }));
    let mut changed = bytes.clone();
    changed[at::HEADER_HEAP_LEN] += 1;
    changed.push(b'x');
    assert_eq!(decode::check(&changed), Err(Fault::Rest));
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[abc]{1,2}".prop_map(String::into_bytes),
        prop::collection::vec(
            any::<u8>().prop_filter("no name holds these", |byte| ![0, b'/'].contains(byte)),
            1..6
        )
        .prop_filter("dots", |name| name != b"." && name != b".."),
    ]
}

fn any_plain() -> impl Strategy<Value = Plain> {
    prop_oneof![
        Just(Plain::Dir),
        (any::<u8>(), 0..=FILE_SIZE_MAX, any::<i64>(), any::<bool>())
            .prop_map(|(seed, size, mtime, x)| Plain::File(blob(seed), size, mtime, x)),
        prop::collection::vec(1..=u8::MAX, 1..20).prop_map(Plain::Symlink),
    ]
}

/// A tree that holds together, all directories named.
fn any_paths() -> impl Strategy<Value = Paths> {
    let path = prop::collection::vec(any_name(), 1..5);
    prop::collection::vec((path, any_plain()), 0..40).prop_map(|entries| {
        let mut paths = Paths::new();
        for (names, plain) in entries {
            let all: Vec<_> = (1..=names.len()).map(|n| names[..n].join(&b'/')).collect();
            let (path, parents) = all.split_last().unwrap();
            let fits = |parent| paths.get(parent).is_none_or(|plain| *plain == Plain::Dir);
            if paths.contains_key(path) || !parents.iter().all(fits) {
                continue;
            }
            for parent in parents {
                paths.insert(parent.clone(), Plain::Dir);
            }
            paths.insert(path.clone(), plain);
        }
        paths
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_tree_comes_back(paths in any_paths()) {
        let (id, bytes) = build(&paths);
        let tree = Tree::decode(id, bytes).unwrap();
        prop_assert_eq!(paths_of(&tree), paths);
    }

    #[test]
    fn the_order_of_insertion_leaves_no_trace(
        (paths, shuffled) in any_paths().prop_flat_map(|paths| {
            let list: Vec<_> = paths.clone().into_iter().collect();
            (Just(paths), Just(list).prop_shuffle())
        }),
    ) {
        prop_assert_eq!(build(shuffled.iter().map(|(path, plain)| (path, plain))), build(&paths));
    }

    #[test]
    fn parents_are_made(paths in any_paths()) {
        let has_children = |path: &Vec<u8>| {
            let below = [path, &b"/"[..]].concat();
            paths.keys().any(|other| other.starts_with(&below))
        };
        let leaves = paths.iter().filter(|(path, _)| !has_children(path));
        prop_assert_eq!(build(leaves), build(&paths));
    }

    #[test]
    fn different_trees_have_different_ids(one in any_paths(), other in any_paths()) {
        prop_assert_eq!(build(&one).0 == build(&other).0, one == other);
    }

    #[test]
    fn changed_bytes_never_panic_and_are_canonical_or_refused(
        paths in any_paths(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (_, mut bytes) = build(&paths);
        for (place, value) in changes {
            let at = place.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(tree) = decode_any(&bytes) {
            prop_assert_eq!(build(&paths_of(&tree)), (tree.id(), bytes));
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_tree(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(decode_any(&bytes).is_err());
    }
}
