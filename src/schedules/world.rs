//! Names that programs look at, and the releases behind them.

use resolver::{Arch, Category, Origin, Provides, Release, ReleaseId};
use store_fs::{SimDisk, Store, TreeBuilder};

/// Every path that anybody looks at; what is in front of the last slash is one of them too.
pub(crate) const PATHS: [&str; 22] = [
    "lib",
    "app",
    "bin",
    "lib/x",
    "lib/y",
    "lib/x@1",
    "lib/x@2",
    "app/z",
    "app/z@1",
    "bin/x-tool",
    "bin/z-tool",
    ".generations",
    ".generations/1",
    ".generations/1/lib",
    ".generations/1/lib/x",
    ".generations/2",
    ".generations/2/lib",
    ".generations/2/lib/x@1",
    ".generations/2/app",
    ".generations/2;x@1",
    ".generations/2;x@1/lib",
    ".generations/2;x@1/lib/x",
];

/// The directories of which anybody asks for a listing or the attributes.
pub(crate) const DIRECTORIES: [&str; 7] =
    ["", "lib", "app", "bin", ".generations", ".generations/2", ".generations/2;x@1/lib"];

/// `x@1`, in `lib` unless its name is `z`; `x@1'` is other content under the name `x@1`.
pub(crate) fn release(store: &Store<SimDisk>, text: &str) -> Release {
    let (name, version) = text.trim_end_matches('\'').split_once('@').expect("name and version");
    let addition = store.add().expect("nobody collects");
    let mut tree = TreeBuilder::new();
    let blob = addition.bytes(text.as_bytes()).expect("there is room");
    let len = text.len() as u64;
    tree.file(b"bin/tool", blob, len, 77, true).expect("a path");
    tree.file(b"readme", blob, len, 78, false).expect("a path");
    let commands = [format!("{name}-tool").parse().expect("a name")].into();
    Release {
        id: ReleaseId {
            name: name.parse().expect("a name"),
            version: version.parse().expect("a version"),
            arch: Arch::new("amd64").expect("a name"),
            variants: [].into(),
        },
        category: Category::new(if name == "z" { "app" } else { "lib" }).expect("a name"),
        object: addition.finish(tree).expect("there is room").id(),
        needs: Vec::new(),
        provides: Provides { commands, ..Provides::default() },
        build_ids: Vec::new(),
        origin: Origin::default(),
    }
}
