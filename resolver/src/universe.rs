//! Small random stores and requests for property tests: few names, so that they often meet.
//! Never used outside tests.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::{
    Arch, Catalog, Category, Need, PackageName, Providers, Provides, Release, ReleaseId, Request,
    Selections, Spec,
};

const PACKAGES: &[(&str, &str)] =
    &[("a", "lib"), ("b", "lib"), ("c", "app"), ("d", "app"), ("e", "data"), ("f", "lang")];
const VERSIONS: &[&str] = &["1.0~rc1", "1.0", "1.1", "2.0~rc1", "2.0"];
const COMMANDS: &[&str] = &["x", "y", "z"];
const SONAMES: &[&str] = &["l.so.1", "l.so.2", "m.so.1"];
const RANGES: &[&str] =
    &["", "", "@1.0", "@=1.1", ">=1.1", "<2.0", ">=1.0,<2.0", "@2", "@2.0", "@3"];
const PICKS: &[&str] = &["", "", "@1.0", "@1", "@2.0", "@=1.1", "@latest", "@prev", ",debug"];

/// One step: what is asked, given the states so far.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A request that stands by itself.
    Ask(Request),
    /// Back to one of the states so far.
    Back(Index),
}

impl Step {
    /// The request; `states` is not empty.
    pub(crate) fn request(&self, states: &[Selections]) -> Request {
        match self {
            Self::Ask(request) => request.clone(),
            Self::Back(index) => {
                Request::Restore { selections: Box::new(index.get(states).clone()) }
            }
        }
    }
}

/// A name of any kind that is known to be right.
pub(crate) fn name<T: core::str::FromStr>(text: &str) -> T
where
    T::Err: core::fmt::Debug,
{
    text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// A store of at most six packages, five versions each.
pub(crate) fn catalog() -> impl Strategy<Value = Catalog> {
    vec(release(), 1..24).prop_map(|releases| {
        let mut catalog = Catalog::new(Arch::new("amd64").unwrap());
        for release in releases {
            // The same name again with other content is refused; the first one stays.
            let known = catalog.get(&release.id).is_some_and(|r| r.object != release.object);
            assert_eq!(catalog.insert(Arc::new(release)).is_err(), known);
        }
        catalog
    })
}

fn release() -> impl Strategy<Value = Release> {
    let commands = btree_set(select(COMMANDS), 0..3);
    let sonames = btree_set(select(SONAMES), 0..3);
    let id = (select(PACKAGES), select(VERSIONS), 0..12u8);
    let needs = vec(need(), 0..3);
    (id, needs, commands, sonames, any::<[u8; 32]>()).prop_map(
        |((package, version, odd), needs, commands, sonames, object)| {
            let (package, category) = package;
            let file = |soname: &&str| (name(soname), name(&format!("{soname}.{version}")));
            Release {
                id: ReleaseId {
                    name: name(package),
                    version: name(version),
                    arch: name(if odd == 0 { "arm64" } else { "amd64" }),
                    variants: (odd == 1).then(|| name("debug")).into_iter().collect(),
                },
                category: Category::new(category).unwrap(),
                object: crate::ObjectId::from_bytes(object),
                needs,
                provides: Provides {
                    commands: commands.iter().map(|text| name(text)).collect(),
                    sonames: sonames.iter().map(file).collect(),
                },
                build_ids: Vec::new(),
                origin: Default::default(),
            }
        },
    )
}

fn need() -> impl Strategy<Value = Need> {
    let package = (select(PACKAGES), select(RANGES))
        .prop_map(|((package, _), range)| name(&format!("{package}{range}")));
    let soname = select(SONAMES).prop_map(|soname| name(&format!("so:{soname}")));
    prop_oneof![3 => package, 1 => soname]
}

fn spec() -> impl Strategy<Value = Spec> {
    (select(PACKAGES), select(PICKS))
        .prop_map(|((package, _), pick)| name(&format!("{package}{pick}")))
}

fn package() -> impl Strategy<Value = PackageName> {
    select(PACKAGES).prop_map(|(package, _)| name(package))
}

fn providers() -> impl Strategy<Value = Providers> {
    let commands = proptest::collection::btree_map(select(COMMANDS), package(), 0..3);
    let sonames = proptest::collection::btree_map(select(SONAMES), package(), 0..3);
    (commands, sonames).prop_map(|(commands, sonames)| Providers {
        commands: named(commands),
        sonames: named(sonames),
    })
}

fn named<K: core::str::FromStr + Ord>(
    records: BTreeMap<&str, PackageName>,
) -> BTreeMap<K, PackageName>
where
    K::Err: core::fmt::Debug,
{
    records.into_iter().map(|(key, package)| (name(key), package)).collect()
}

/// One to eleven steps.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let select = (vec(spec(), 1..3), vec(package(), 0..2))
        .prop_map(|(specs, providers)| Step::Ask(Request::Select { specs, providers }));
    let unselect =
        vec(package(), 1..3).prop_map(|packages| Step::Ask(Request::Unselect { packages }));
    let apply = (vec(spec(), 0..4), providers())
        .prop_map(|(specs, providers)| Step::Ask(Request::Apply { specs, providers }));
    let back = any::<Index>().prop_map(Step::Back);
    vec(prop_oneof![6 => select, 2 => unselect, 2 => apply, 1 => back], 1..12)
}

/// A store and selections as text, short enough to read in a failure.
pub(crate) fn shown(selections: &Selections) -> Vec<String> {
    selections.packages.values().map(|s| format!("{} {:?}", s.release, s.why)).collect()
}
