//! Any bytes as what users type and as the file that they write for `apply`.

use std::cmp::Ordering;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use resolver::{Arch, Catalog, Category, Need, Spec, Version, VersionPrefix, VersionRange};

use crate::apply_file;

/// A file for `apply`; and on each line a spec, a need, a version and a range, as users write
/// them, and the name of a release below the mount.
pub fn spec(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut understood = file(text);
    let lines: Vec<&str> = text.split('\n').take(8).collect();
    for line in &lines {
        understood |= again::<Spec>(line) | again::<Need>(line);
        understood |= again::<VersionRange>(line) | again::<VersionPrefix>(line);
        understood |= version(line);
        let catalog = Catalog::new(Arch::all());
        let lib = Category::new("lib").expect("a name");
        assert!(catalog.by_mount_name(&lib, line).is_none(), "nothing is there");
    }
    order(&lines);
    understood
}

/// What it says is what it is, and says it in one way.
fn again<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    let said = value.to_string();
    let again = said.parse::<T>().expect("what was said is understood");
    assert_eq!(again, value, "as it was meant");
    assert_eq!(again.to_string(), said, "in the same words");
    true
}

fn version(text: &str) -> bool {
    let Ok(version) = text.parse::<Version>() else { return false };
    again::<Version>(text);
    let name = version.file_name();
    assert!(!name.contains(['/', ':', ',', '_']), "{name} is one part of a file's name");
    assert_eq!(Version::from_file_name(&name).as_ref(), Ok(&version), "{name} is this version");
    let exact: VersionRange = format!("={text}").parse().expect("a version is a range");
    assert!(exact.contains(&version) && !exact.only_early(&version));
    if let Ok(prefix) = text.parse::<VersionPrefix>() {
        assert!(prefix.matches(&version), "a version begins like itself");
    }
    true
}

/// The order of versions is total and agrees with equality and with ranges.
fn order(lines: &[&str]) {
    let versions: Vec<Version> = lines.iter().filter_map(|line| line.parse().ok()).collect();
    for a in &versions {
        for b in &versions {
            let order = a.cmp(b);
            assert_eq!(b.cmp(a), order.reverse(), "{a} and {b}");
            assert_eq!(order == Ordering::Equal, a == b, "{a} and {b}");
            let below: VersionRange = format!("<{b}").parse().expect("a range");
            let above: VersionRange = format!(">={b}").parse().expect("a range");
            assert_eq!(below.contains(a), order == Ordering::Less, "{a} and {b}");
            assert_ne!(below.contains(a), above.contains(a), "{a} and {b}");
            for c in &versions {
                assert!(!(a <= b && b <= c) || a <= c, "{a}, {b} and {c}");
            }
        }
    }
}

/// What the file asks for is one spec for each package, each of which can be said again.
fn file(text: &str) -> bool {
    let Ok((specs, _)) = apply_file::read(text) else { return false };
    for spec in &specs {
        assert_eq!(spec.to_string().parse().as_ref(), Ok(spec), "as it was meant");
    }
    assert!(specs.is_sorted_by(|a, b| a.name < b.name), "one of each package");
    !specs.is_empty()
}
