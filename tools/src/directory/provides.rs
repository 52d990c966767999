//! What an object adds to the unions: programs of its `bin`, shared libraries of its `lib`.
//!
//! A function of the tree and of the sonames of its blobs. Symbolic links are followed as far as
//! they stay inside the tree; a link that leaves it, or is absolute, provides nothing, because what
//! it leads to is not part of the package.

use std::collections::{HashMap, VecDeque};

use resolver::{BlobId, CommandName, FileName, Provides, Soname};
use store_fs::object::ROOT_ENTRY;
use store_fs::{Node, Tree};

/// Most symbolic links in the way to one file (`MAXSYMLINKS` of Linux).
const LINKS_MAX: usize = 40;
/// Most components looked at in the way to one file, those of links included.
const COMPONENTS_MAX: usize = 4096;

pub(super) fn provides(tree: &Tree, sonames: &HashMap<BlobId, String>) -> Provides {
    let mut provides = Provides::default();
    for (name, file) in files_in(tree, b"bin") {
        if file.executable
            && let Some(command) = text(name).and_then(|name| CommandName::new(name).ok())
        {
            provides.commands.insert(command);
        }
    }
    let libraries: Vec<_> = files_in(tree, b"lib").collect();
    // Plain files first, so that a soname without a file of its name falls to the library itself
    // and not to one of the links to it. Inside each group the names are in order.
    let (links, plain): (Vec<_>, Vec<_>) = libraries.iter().partition(|(_, file)| file.linked);
    for (name, file) in plain.into_iter().chain(links) {
        let Some(soname) = sonames.get(&file.blob) else { continue };
        let own_name = libraries.iter().any(|(name, _)| *name == soname.as_bytes());
        let name = if own_name { Some(soname.as_str()) } else { text(name) };
        let file = name.and_then(|name| FileName::new(name).ok());
        if let (Ok(soname), Some(file)) = (Soname::new(soname), file) {
            provides.sonames.entry(soname).or_insert(file);
        }
    }
    provides
}

fn text(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok()
}

/// A regular file, perhaps at the end of links.
struct Found {
    blob: BlobId,
    executable: bool,
    linked: bool,
}

/// The files directly in a directory of the root, those that links lead to included.
fn files_in<'a>(tree: &'a Tree, dir: &[u8]) -> impl Iterator<Item = (&'a [u8], Found)> {
    let dir = resolve(tree, ROOT_ENTRY, dir);
    let children = dir.and_then(|dir| tree.children(dir)).unwrap_or(0..0);
    children.filter_map(move |entry| {
        let row = tree.row(entry)?;
        let linked = matches!(row.node, Node::Symlink { .. });
        let end = if linked { resolve(tree, row.parent, row.name)? } else { entry };
        let Node::File { blob, executable, .. } = tree.row(end)?.node else { return None };
        Some((row.name, Found { blob, executable, linked }))
    })
}

/// The row that a path leads to from a directory, as the kernel would go; `None` when it is
/// nowhere in the tree.
fn resolve(tree: &Tree, dir: u32, path: &[u8]) -> Option<u32> {
    let mut at = dir;
    let mut links = 0;
    let mut steps = 0;
    let mut ahead: VecDeque<&[u8]> = path.split(|byte| *byte == b'/').collect();
    while let Some(name) = ahead.pop_front() {
        steps += 1;
        if steps > COMPONENTS_MAX {
            return None;
        }
        // Whatever follows, even nothing behind a slash, needs a directory here.
        tree.children(at)?;
        match name {
            b"" | b"." => {}
            b".." if at == ROOT_ENTRY => return None,
            b".." => at = tree.row(at)?.parent,
            _ => {
                let child = tree.child(at, name)?;
                let Node::Symlink { target } = tree.row(child)?.node else {
                    at = child;
                    continue;
                };
                links += 1;
                if links > LINKS_MAX || target.starts_with(b"/") {
                    return None;
                }
                for part in target.split(|byte| *byte == b'/').rev() {
                    ahead.push_front(part);
                }
            }
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use store_fs::TreeBuilder;

    use super::*;

    /// Each entry is a path and, for a link, its target; an `x` in front of a file's first byte
    /// makes it executable, and the blob is the byte.
    enum Entry {
        Program(u8),
        File(u8),
        Link(&'static [u8]),
    }
    use Entry::{File, Link, Program};

    fn blob(seed: u8) -> BlobId {
        BlobId::from_bytes([seed; 32])
    }

    fn tree(entries: &[(&[u8], Entry)]) -> Tree {
        let mut builder = TreeBuilder::new();
        for (path, entry) in entries {
            match entry {
                Program(seed) => builder.file(path, blob(*seed), 1, 0, true).unwrap(),
                File(seed) => builder.file(path, blob(*seed), 1, 0, false).unwrap(),
                Link(target) => builder.symlink(path, target).unwrap(),
            }
        }
        let (id, bytes) = builder.encode().unwrap();
        Tree::decode(id, bytes).unwrap()
    }

    fn commands(entries: &[(&[u8], Entry)]) -> Vec<String> {
        let provides = provides(&tree(entries), &HashMap::new());
        provides.commands.iter().map(ToString::to_string).collect()
    }

    fn libraries(entries: &[(&[u8], Entry)], sonames: &[(u8, &str)]) -> Vec<(String, String)> {
        let sonames = sonames.iter().map(|(seed, name)| (blob(*seed), (*name).to_owned()));
        let provides = provides(&tree(entries), &sonames.collect());
        let lines = provides.sonames.iter();
        lines.map(|(soname, file)| (soname.to_string(), file.to_string())).collect()
    }

    #[test]
    fn commands_are_programs_and_links_to_them() {
        let found = commands(&[
            (b"bin/xz", Program(1)),
            (b"bin/unxz", Link(b"xz")),
            (b"bin/chain", Link(b"./unxz")),
            (b"bin/tool", Link(b"../libexec/d/../tool")),
            (b"libexec/tool", Program(2)),
            (b"libexec/d/x", File(2)),
            (b"bin/through", Link(b"../exec/tool")),
            (b"exec", Link(b"libexec")),
            (b"bin/readme", File(3)),
            (b"bin/sub/deep", Program(4)),
            (b"sbin/other", Program(5)),
            (b"bin/dangling", Link(b"nothing")),
            (b"bin/outside", Link(b"../../usr/bin/sh")),
            (b"bin/absolute", Link(b"/bin/xz")),
            (b"bin/itself", Link(b"itself")),
            (b"bin/data", Link(b"readme")),
            (b"bin/dir", Link(b"sub")),
            (b"bin/slash", Link(b"xz/")),
            (b"bin/under", Link(b"xz/..")),
            (b"bin/with space", Program(6)),
            (b"bin/.hidden", Program(6)),
            (b"bin/\xff", Program(6)),
            (b"bin/a:b", Program(6)),
        ]);
        assert_eq!(found, ["chain", "through", "tool", "unxz", "xz"]);
    }

    #[test]
    fn a_bin_that_is_a_link_counts() {
        assert_eq!(commands(&[(b"bin", Link(b"usr/bin")), (b"usr/bin/x", Program(1))]), ["x"]);
        assert!(commands(&[(b"bin", Program(1))]).is_empty());
        assert!(commands(&[(b"bin", Link(b"../bin"))]).is_empty());
        assert!(commands(&[]).is_empty());
    }

    #[test]
    fn long_chains_of_links_end() {
        let names: Vec<_> = (0..60).map(|n| format!("bin/l{n:02}").into_bytes()).collect();
        let mut builder = TreeBuilder::new();
        builder.file(b"bin/l60", blob(1), 1, 0, true).unwrap();
        for (n, name) in names.iter().enumerate() {
            builder.symlink(name, format!("l{:02}", n + 1).as_bytes()).unwrap();
        }
        let (id, bytes) = builder.encode().unwrap();
        let tree = Tree::decode(id, bytes).unwrap();
        let found = provides(&tree, &HashMap::new()).commands;
        assert_eq!(found.len(), 41, "the program and the 40 links from which Linux would reach it");
        assert!(found.contains("l20") && !found.contains("l19"));
    }

    #[test]
    fn links_that_multiply_end() {
        // Each link goes through the one before it twice: 2^30 steps without a bound.
        let mut builder = TreeBuilder::new();
        builder.symlink(b"d0", b".").unwrap();
        for n in 1..30 {
            let target = format!("d{0}/d{0}", n - 1);
            builder.symlink(format!("d{n}").as_bytes(), target.as_bytes()).unwrap();
        }
        builder.symlink(b"bin", b"d29").unwrap();
        let (id, bytes) = builder.encode().unwrap();
        let tree = Tree::decode(id, bytes).unwrap();
        assert_eq!(provides(&tree, &HashMap::new()), Provides::default());
    }

    #[test]
    fn a_soname_is_served_by_the_file_of_its_name() {
        let found = libraries(
            &[
                (b"lib/libx.so", Link(b"libx.so.1")),
                (b"lib/libx.so.1", Link(b"libx.so.1.2.3")),
                (b"lib/libx.so.1.2.3", File(1)),
                (b"lib/liby.so.2", File(2)),
                (b"lib/libplain.so", File(9)),
                (b"lib/sub/libz.so.3", File(3)),
            ],
            &[(1, "libx.so.1"), (2, "liby.so.2"), (3, "libz.so.3")],
        );
        let expected = [("libx.so.1", "libx.so.1"), ("liby.so.2", "liby.so.2")];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn without_such_a_file_by_the_library_itself() {
        let found = libraries(
            &[
                (b"lib/a-link.so", Link(b"libx-1.2.so")),
                (b"lib/libx-1.2.so", File(1)),
                (b"lib/libx-1.3.so", File(1)),
                (b"lib/other.so", Link(b"../lib64/o")),
                (b"lib64/o", File(2)),
                (b"lib/libdir.so.4", Link(b"../lib64")),
                (b"lib/d.so", File(4)),
            ],
            &[(1, "libx.so.1"), (2, "libo.so.2"), (4, "libdir.so.4")],
        );
        let expected =
            [("libdir.so.4", "d.so"), ("libo.so.2", "other.so"), ("libx.so.1", "libx-1.2.so")];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn names_that_are_none_are_skipped() {
        let found = libraries(
            &[(b"lib/a", File(1)), (b"lib/b", File(2)), (b"lib/c d", File(3))],
            &[(1, "has space.so"), (2, "../evil"), (3, "libc.so.3")],
        );
        assert!(found.is_empty(), "{found:?}");
    }
}
