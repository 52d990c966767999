//! One selection as one line of a generation.
//!
//! Ten thousand of them are written on the path of a select, so they are put together by hand; the
//! bytes are those that [`Selection`] writes of itself, which the tests compare. Never touches a
//! disk.

use std::io::Write;

use resolver::generation::Previous;
use resolver::{
    Arch, Category, ObjectId, PackageName, Pick, ReleaseId, Selection, Spec, Variants, Version, Why,
};
use serde::Deserialize;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A selection as it is read.
#[derive(Deserialize)]
pub(super) struct Line {
    name: PackageName,
    version: Version,
    arch: Arch,
    #[serde(default)]
    variants: Variants,
    category: Category,
    object: ObjectId,
    why: Why,
    #[serde(default)]
    previous: Option<Previous>,
}

impl From<Line> for Selection {
    fn from(line: Line) -> Self {
        let Line { name, version, arch, variants, category, object, why, previous } = line;
        let release = ReleaseId { name, version, arch, variants };
        Self { release, category, object, why, previous }
    }
}

/// Appends a selection as a JSON object. Nothing in it needs to be escaped: names, versions and
/// specs hold letters, digits and `+ . _ - ~ : @ = , #` alone.
pub(super) fn write(out: &mut Vec<u8>, selection: &Selection) {
    let Selection { release, category, object, why, previous } = selection;
    let ReleaseId { name, version: of_release, arch, variants: of_build } = release;
    put(out, "{\"name\":\"");
    put(out, name.as_str());
    put(out, "\",\"version\":\"");
    version(out, of_release);
    put(out, "\",\"arch\":\"");
    put(out, arch.as_str());
    put(out, "\"");
    variants(out, of_build);
    put(out, ",\"category\":\"");
    put(out, category.as_str());
    put(out, "\",\"object\":\"");
    digits(out, object);
    match why {
        Why::Asked(asked) => {
            put(out, "\",\"why\":{\"asked\":\"");
            spec(out, asked);
        }
        Why::NeededBy(needer) => {
            put(out, "\",\"why\":{\"needed_by\":\"");
            put(out, needer.as_str());
        }
    }
    put(out, "\"}");
    if let Some(previous) = previous {
        put(out, ",\"previous\":{\"version\":\"");
        version(out, &previous.version);
        put(out, "\"");
        variants(out, &previous.variants);
        put(out, "}");
    }
    put(out, "}");
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// What needs a formatter: rare.
fn put_shown(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

fn version(out: &mut Vec<u8>, version: &Version) {
    if version.epoch() != 0 {
        put_shown(out, format_args!("{}:", version.epoch()));
    }
    put(out, version.text());
}

fn variants(out: &mut Vec<u8>, variants: &Variants) {
    let mut before = ",\"variants\":[\"";
    for variant in variants {
        put(out, before);
        put(out, variant.as_str());
        before = "\",\"";
    }
    if !variants.is_empty() {
        put(out, "\"]");
    }
}

fn spec(out: &mut Vec<u8>, spec: &Spec) {
    put(out, spec.name.as_str());
    match &spec.pick {
        Pick::Any => {}
        Pick::Prefix(prefix) => put_shown(out, format_args!("@{prefix}")),
        Pick::Exact(exact) => {
            put(out, "@=");
            version(out, exact);
        }
        Pick::Latest => put(out, "@latest"),
        Pick::Prev => put(out, "@prev"),
    }
    for variant in &spec.variants {
        put(out, ",");
        put(out, variant.as_str());
    }
    if let Some(object) = &spec.object {
        put(out, "#");
        put(out, object.as_str());
    }
}

fn digits(out: &mut Vec<u8>, object: &ObjectId) {
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(object.as_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::option;
    use proptest::prelude::*;
    use resolver::{ObjectId, Variant};

    use super::*;

    fn variants() -> impl Strategy<Value = Variants> {
        btree_set("[a-z0-9][a-z0-9+._-]{0,5}".prop_map(|text| Variant::new(&text).unwrap()), 0..3)
    }

    fn version() -> impl Strategy<Value = Version> {
        "([1-9][0-9]{0,8}:)?[A-Za-z0-9][A-Za-z0-9.+~]{0,6}(-[0-9a-z])?"
            .prop_map(|text| text.parse().unwrap())
    }

    fn name() -> impl Strategy<Value = PackageName> {
        "[A-Za-z0-9][A-Za-z0-9+._-]{0,9}".prop_map(|text| PackageName::new(&text).unwrap())
    }

    fn spec() -> impl Strategy<Value = Spec> {
        let pick = prop_oneof![
            Just(Pick::Any),
            Just(Pick::Latest),
            Just(Pick::Prev),
            version().prop_map(Pick::Exact),
            "(0:|7:)?[1-9][.+~-]?[0-9]".prop_map(|text| Pick::Prefix(text.parse().unwrap())),
        ];
        let object = option::of("[0-9a-f]{1,64}".prop_map(|text| text.parse().unwrap()));
        (name(), pick, variants(), object).prop_map(|(name, pick, variants, object)| Spec {
            name,
            pick,
            variants,
            object,
        })
    }

    fn selection() -> impl Strategy<Value = Selection> {
        let why = prop_oneof![spec().prop_map(Why::Asked), name().prop_map(Why::NeededBy)];
        let previous = (version(), variants());
        let previous = previous.prop_map(|(version, variants)| Previous { version, variants });
        let release = (name(), version(), variants());
        (release, any::<[u8; 32]>(), why, option::of(previous)).prop_map(
            |((name, version, variants), object, why, previous)| Selection {
                release: ReleaseId { name, version, arch: Arch::new("all").unwrap(), variants },
                category: Category::new("lib").unwrap(),
                object: ObjectId::from_bytes(object),
                why,
                previous,
            },
        )
    }

    proptest! {
        #[test]
        fn a_line_is_what_a_selection_writes_of_itself(selection in selection()) {
            let mut line = Vec::new();
            write(&mut line, &selection);
            prop_assert_eq!(
                String::from_utf8(line.clone()).unwrap(),
                serde_json::to_string(&selection).unwrap()
            );
            let read: Line = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(Selection::from(read), selection);
        }
    }
}
