//! One selection as one line of a generation.
//!
//! ```text
//! ["lib/zlib@1.3","<64 digits>"]
//! ["lib/openssl@3.2.1,debug","<64 digits>",{"asked":"@3.2,debug","previous":"3.1,debug"}]
//! ```
//!
//! Ten thousand of them are written on the path of a select, so a line is short and put together
//! by hand: what every selection has comes first, without names, and what equals the usual case is
//! left out. Never touches a disk.

use std::io::Write;

use resolver::generation::Previous;
use resolver::{
    Arch, Category, NameError, ObjectId, PackageName, Pick, ReleaseId, Selection, Spec, Variant,
    Variants, Version, Why,
};
use serde::Deserialize;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A selection as it is read: category and release, object, and what is unusual.
#[derive(Deserialize)]
pub(crate) struct Line(String, ObjectId, #[serde(default)] Unusual);

#[derive(Default, Deserialize)]
struct Unusual {
    #[serde(default)]
    arch: Option<Arch>,
    #[serde(default)]
    asked: Option<String>,
    #[serde(default)]
    needed_by: Option<PackageName>,
    #[serde(default)]
    previous: Option<String>,
}

impl Line {
    /// `arch` is that of a line that names none.
    ///
    /// # Errors
    ///
    /// Why it is not a selection, for people.
    pub(crate) fn read(self, arch: &Arch) -> Result<Selection, String> {
        let Self(text, object, unusual) = self;
        let (category, release) =
            text.split_once('/').ok_or_else(|| format!("{text:?} has no category"))?;
        let (name, build) =
            release.split_once('@').ok_or_else(|| format!("{text:?} has no version"))?;
        let category = Category::new(category).map_err(|error| error.to_string())?;
        let name = PackageName::new(name).map_err(|error| error.to_string())?;
        let (version, variants) = read_build(build)?;
        let arch = unusual.arch.unwrap_or_else(|| arch.clone());
        let why = match (unusual.needed_by, unusual.asked) {
            (Some(needer), None) => Why::NeededBy(needer),
            (None, asked) => Why::Asked(read_asked(&name, asked.as_deref().unwrap_or_default())?),
            (Some(_), Some(_)) => return Err(format!("{name} is asked for and needed")),
        };
        let previous = unusual.previous.as_deref().map(read_build).transpose()?;
        let previous = previous.map(|(version, variants)| Previous { version, variants });
        let release = ReleaseId { name, version, arch, variants };
        Ok(Selection { release, category, object, why, previous })
    }
}

/// `3.2.1,debug`.
fn read_build(text: &str) -> Result<(Version, Variants), String> {
    let mut parts = text.split(',');
    let version = parts.next().unwrap_or_default().parse::<Version>();
    let version = version.map_err(|error| error.to_string())?;
    let variants: Result<Variants, NameError> = parts.map(Variant::new).collect();
    Ok((version, variants.map_err(|error| error.to_string())?))
}

/// A spec without its name, or the whole one where that is another package's.
fn read_asked(name: &PackageName, text: &str) -> Result<Spec, String> {
    let of_this = text.is_empty() || text.starts_with(['@', ',', '#']);
    let spec = if of_this { format!("{name}{text}").parse() } else { text.parse::<Spec>() };
    spec.map_err(|error| error.to_string())
}

/// Appends a selection as a JSON array. `usual` is the architecture that is left out. Nothing
/// needs to be escaped: names, versions and specs hold letters, digits and `+ . _ - ~ : @ = , #`
/// alone.
pub(super) fn write(out: &mut Vec<u8>, selection: &Selection, usual: &Arch) {
    let Selection { release, category, object, why, previous } = selection;
    put(out, "[\"");
    put(out, category.as_str());
    put(out, "/");
    put(out, release.name.as_str());
    put(out, "@");
    build(out, &release.version, &release.variants);
    put(out, "\",\"");
    digits(out, object);
    put(out, "\"");
    let mut unusual = Fields { out, any: false };
    if release.arch != *usual {
        unusual.field("arch", |out| put(out, release.arch.as_str()));
    }
    match why {
        Why::Asked(spec) if spec.name != release.name => {
            unusual.field("asked", |out| {
                put(out, spec.name.as_str());
                asked(out, spec);
            });
        }
        Why::Asked(Spec { pick: Pick::Any, variants, object: None, .. }) if variants.is_empty() => {
        }
        Why::Asked(spec) => unusual.field("asked", |out| asked(out, spec)),
        Why::NeededBy(needer) => unusual.field("needed_by", |out| put(out, needer.as_str())),
    }
    if let Some(Previous { version, variants }) = previous {
        unusual.field("previous", |out| build(out, version, variants));
    }
    unusual.end();
    put(out, "]");
}

/// The object at the end of a line, which is there when it has a field.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    any: bool,
}

impl Fields<'_> {
    fn field(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        put(self.out, if self.any { ",\"" } else { ",{\"" });
        put(self.out, name);
        put(self.out, "\":\"");
        write(self.out);
        put(self.out, "\"");
        self.any = true;
    }

    fn end(self) {
        if self.any {
            put(self.out, "}");
        }
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// What needs a formatter: rare.
fn put_shown(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

/// `1:3.2.1,debug`.
fn build(out: &mut Vec<u8>, version: &Version, variants: &Variants) {
    if version.epoch() != 0 {
        put_shown(out, format_args!("{}:", version.epoch()));
    }
    put(out, version.text());
    for variant in variants {
        put(out, ",");
        put(out, variant.as_str());
    }
}

/// A spec behind its name.
fn asked(out: &mut Vec<u8>, spec: &Spec) {
    match &spec.pick {
        Pick::Any => {}
        Pick::Prefix(prefix) => put_shown(out, format_args!("@{prefix}")),
        Pick::Exact(exact) => put_shown(out, format_args!("@={exact}")),
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
                release: ReleaseId { name, version, arch: Arch::all(), variants },
                category: Category::new("lib").unwrap(),
                object: ObjectId::from_bytes(object),
                why,
                previous,
            },
        )
    }

    proptest! {
        #[test]
        fn a_line_and_back(selection in selection(), usual in "all|amd64") {
            let usual = Arch::new(&usual).unwrap();
            let mut line = Vec::new();
            write(&mut line, &selection, &usual);
            prop_assert!(!line.contains(&b'\n'));
            let read: Line = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(read.read(&usual), Ok(selection));
        }
    }

    #[test]
    fn what_is_usual_is_left_out() {
        let name = PackageName::new("openssl").unwrap();
        let amd64 = Arch::new("amd64").unwrap();
        let mut selection = Selection {
            release: ReleaseId {
                name: name.clone(),
                version: "1:3.2.1".parse().unwrap(),
                arch: amd64.clone(),
                variants: Variants::new(),
            },
            category: Category::new("lib").unwrap(),
            object: ObjectId::from_bytes([0xab; 32]),
            why: Why::Asked("openssl".parse().unwrap()),
            previous: None,
        };
        let line = |selection: &Selection| {
            let mut line = Vec::new();
            write(&mut line, selection, &amd64);
            String::from_utf8(line).unwrap().replace(&"ab".repeat(32), "<id>")
        };
        assert_eq!(line(&selection), r#"["lib/openssl@1:3.2.1","<id>"]"#);
        selection.why = Why::Asked("openssl@3.2,debug".parse().unwrap());
        selection.release.variants.insert(Variant::new("debug").unwrap());
        selection.previous =
            Some(Previous { version: "3.1".parse().unwrap(), variants: Variants::new() });
        let unusual = r#"{"asked":"@3.2,debug","previous":"3.1"}"#;
        assert_eq!(line(&selection), format!(r#"["lib/openssl@1:3.2.1,debug","<id>",{unusual}]"#));
        selection.why = Why::NeededBy(PackageName::new("curl").unwrap());
        selection.previous = None;
        selection.release.arch = Arch::all();
        let unusual = r#"{"arch":"all","needed_by":"curl"}"#;
        assert_eq!(line(&selection), format!(r#"["lib/openssl@1:3.2.1,debug","<id>",{unusual}]"#));
    }

    #[test]
    fn what_is_no_selection_is_refused() {
        let id = "ab".repeat(32);
        for text in
            ["xz@1", "lib/xz", "lib/@1", "/xz@1", "lib/xz@", "lib/xz@1,", "lib/xz@1/2", "bin/xz@1"]
        {
            let line: Line = serde_json::from_str(&format!(r#"["{text}","{id}"]"#)).unwrap();
            assert!(line.read(&Arch::all()).is_err(), "{text}");
        }
        for unusual in
            [r#"{"asked":"@1@2"}"#, r#"{"asked":"@1","needed_by":"curl"}"#, r#"{"previous":""}"#]
        {
            let line = format!(r#"["lib/xz@1","{id}",{unusual}]"#);
            let line: Line = serde_json::from_str(&line).unwrap();
            assert!(line.read(&Arch::all()).is_err(), "{unusual}");
        }
    }
}
