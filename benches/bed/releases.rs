//! Packages and releases by number: the same ones in every run. Touches no disk.

use resolver::{
    Category, CommandName, FileName, ObjectId, Origin, PackageName, Provides, Release, ReleaseId,
    Soname, Spec, Variants, Version,
};

/// The releases of every package; the first one is selected at the beginning.
pub(crate) const VERSIONS: [&str; 2] = ["1.4.2-3", "2.0.11-1"];

/// The package of a number. Every second one is a library.
pub(crate) fn package(number: usize) -> PackageName {
    PackageName::new(&format!("package-{number:05}")).expect("a valid name")
}

/// Where that package lives.
pub(crate) fn category(number: usize) -> Category {
    Category::new(if is_library(number) { "lib" } else { "app" }).expect("a valid name")
}

/// The version of a turn: 0 or 1.
pub(crate) fn version(turn: usize) -> Version {
    VERSIONS[turn % VERSIONS.len()].parse().expect("a valid version")
}

/// `package-00042@=1.4.2-3`.
pub(crate) fn spec(number: usize, turn: usize) -> Spec {
    format!("{}@={}", package(number), version(turn)).parse().expect("a valid spec")
}

/// One release. The file behind a library's soname has the version in its name, so a swap changes
/// an entry of the union `so` too.
pub(crate) fn release(number: usize, turn: usize, object: ObjectId) -> Release {
    let mut provides = Provides::default();
    let command = CommandName::new(&format!("command-{number:05}")).expect("a valid name");
    provides.commands.insert(command);
    if is_library(number) {
        let soname = format!("libpackage{number:05}.so.1");
        let file = FileName::new(&format!("{soname}.{turn}")).expect("a valid name");
        provides.sonames.insert(Soname::new(&soname).expect("a valid name"), file);
    }
    let id = ReleaseId {
        name: package(number),
        version: version(turn),
        arch: dynfs::host::arch(),
        variants: Variants::new(),
    };
    let origin = Origin { kind: "directory".into(), name: format!("/source/{id}") };
    Release {
        id,
        category: category(number),
        object,
        needs: Vec::new(),
        provides,
        build_ids: Vec::new(),
        origin,
    }
}

const fn is_library(number: usize) -> bool {
    number.is_multiple_of(2)
}
