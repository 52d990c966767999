//! Order, indexes and questions of the catalog.

use alloc::format;
use alloc::string::{String, ToString};

use super::*;

fn release(name: &str, version: &str, more: &str) -> Arc<Release> {
    let object = format!("{:064x}", version.len() + more.len());
    let json = format!(
        r#"{{"name":"{name}","version":"{version}","object":"{object}",
        "origin":{{"kind":"directory","name":"x"}},{more}}}"#
    );
    Arc::new(serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}")))
}

const PLAIN: &str = r#""arch":"amd64","category":"lib""#;
const DEBUG: &str = r#""arch":"amd64","category":"lib","variants":["debug"]"#;

fn catalog() -> Catalog {
    let mut catalog = Catalog::new(Arch::new("amd64").unwrap());
    for (version, more) in [
        ("3.20", PLAIN),
        ("3.2.1", PLAIN),
        ("3.2.1", DEBUG),
        ("3.2~rc1", PLAIN),
        ("1:1.0", PLAIN),
        ("3.9", r#""arch":"arm64","category":"lib""#),
        ("3.2.1", r#""arch":"all","category":"lib","provides":{"sonames":{"libx.so.1":"l"}}"#),
    ] {
        assert_eq!(catalog.insert(release("x", version, more)), Ok(true));
    }
    catalog
}

fn matching(catalog: &Catalog, spec: &str) -> Vec<String> {
    let spec = spec.parse().unwrap();
    catalog.matching(&spec).iter().map(|r| format!("{}_{}", r.id, r.id.arch)).collect()
}

#[test]
fn releases_are_in_order() {
    let catalog = catalog();
    let names: Vec<String> = catalog
        .releases(&PackageName::new("x").unwrap())
        .iter()
        .map(|r| r.id.record_name())
        .collect();
    let want = [
        "3.2~rc1_amd64",
        "3.2.1_all",
        "3.2.1_amd64",
        "3.2.1,debug_amd64",
        "3.9_arm64",
        "3.20_amd64",
        "1%3a1.0_amd64",
    ];
    assert_eq!(names, want);
}

#[test]
fn matching_is_best_first() {
    let catalog = catalog();
    assert_eq!(matching(&catalog, "x@3.2"), ["x@3.2.1_amd64", "x@3.2.1_all"]);
    assert_eq!(matching(&catalog, "x@3.2~rc1"), ["x@3.2~rc1_amd64"]);
    assert_eq!(matching(&catalog, "x@3.2,debug"), ["x@3.2.1,debug_amd64"]);
    assert_eq!(matching(&catalog, "x@=1.0"), [""; 0]);
    assert_eq!(matching(&catalog, "x@1"), ["x@1:1.0_amd64"]);
    assert_eq!(matching(&catalog, "x").last().unwrap(), "x@3.9_arm64");
}

#[test]
fn the_nearest_releases_come_first() {
    let catalog = catalog();
    let nearest = |spec: &str| {
        let found = catalog.nearest(&spec.parse().unwrap());
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(nearest("x@3.3")[..3], ["x@3.2.1,debug", "x@3.9", "x@3.2.1"]);
    assert_eq!(nearest("x@=0.1")[0], "x@3.2~rc1");
    assert_eq!(nearest("x")[0], "x@1:1.0");
    assert_eq!(nearest("x").len(), catalog.len());
    assert_eq!(nearest("y").len(), 0);
}

#[test]
fn what_cannot_be_read_is_known_by_its_name() {
    let mut catalog = catalog();
    let id = |version: &str| release("x", version, PLAIN).id.clone();
    catalog.insert_unreadable(id("3.2.5"));
    catalog.insert_unreadable(id("3.20"));
    assert!(!catalog.is_unreadable(&id("3.20")), "that one can be read");
    let meant = |spec: &str| catalog.unreadable_match(&spec.parse().unwrap()).cloned();
    for spec in ["x@3.2", "x@=3.2.5", "x@3.2.5"] {
        assert_eq!(meant(spec), Some(id("3.2.5")), "{spec}");
    }
    // A newer one that can be read, other builds, and other versions are as good as ever.
    for spec in ["x", "x@latest", "x@3.20", "x@3.2,debug", "x@=3.2.1", "x@4", "y"] {
        assert_eq!(meant(spec), None, "{spec}");
    }
    catalog.insert(release("x", "3.2.5", PLAIN)).unwrap();
    assert_eq!(catalog.unreadable_match(&"x@3.2".parse().unwrap()), None);
}

#[test]
fn insert_twice_and_remove() {
    let mut catalog = catalog();
    let before = catalog.len();
    let same = release("x", "3.20", PLAIN);
    assert_eq!(catalog.insert(same.clone()), Ok(false));
    let other = release("x", "3.20", &format!("{PLAIN},\"later\":1"));
    assert_eq!(
        catalog.insert(other).unwrap_err().to_string(),
        "x@3.20 is already in the store with other content"
    );
    let moved = release("x", "4", r#""arch":"amd64","category":"app""#);
    assert_eq!(
        catalog.insert(moved).unwrap_err().to_string(),
        "x lives in the category lib, not app"
    );
    assert_eq!(catalog.len(), before);
    let soname = Soname::new("libx.so.1").unwrap();
    assert_eq!(catalog.providers(&soname).len(), 1);
    let ids: Vec<ReleaseId> =
        catalog.releases(&same.id.name).iter().map(|r| r.id.clone()).collect();
    for id in &ids {
        assert_eq!(catalog.get(id).map(|r| &r.id), Some(id));
        assert_eq!(catalog.remove(id).map(|r| r.id.clone()).as_ref(), Some(id));
        assert_eq!(catalog.remove(id), None);
    }
    assert!(catalog.is_empty());
    assert!(!catalog.has_category(&same.category));
    assert!(catalog.providers(&soname).is_empty());
    assert_eq!(catalog.category(&same.id.name), None);
}

#[test]
fn names_below_the_mount() {
    let catalog = catalog();
    let lib = Category::new("lib").unwrap();
    for (name, found) in [
        ("x@3.2.1", true),
        ("x@3.2.1,debug", true),
        ("x@1%3a1.0", true),
        ("x@1:1.0", false),
        ("x@3.2", false),
        ("x@3.9", false),
        ("x", false),
        ("x@3.2.1,", false),
        ("y@1", false),
        ("x@3.2.1,debug,debug", false),
        ("@", false),
    ] {
        let release = catalog.by_mount_name(&lib, name);
        assert_eq!(release.is_some(), found, "{name}");
        assert!(release.is_none_or(|r| r.id.arch.as_str() == "amd64"));
    }
    assert_eq!(catalog.by_mount_name(&Category::new("app").unwrap(), "x@3.2.1"), None);
}

#[test]
fn similar_names() {
    let mut catalog = catalog();
    for name in ["openssl", "openssh", "libopenssl", "zlib", "curl"] {
        catalog.insert(release(name, "1", PLAIN)).unwrap();
    }
    for (name, want) in [
        ("OpenSSL", "openssl libopenssl openssh"),
        ("opensl", "openssl openssh"),
        ("zlibb", "zlib"),
        ("cur", "curl"),
        ("nothing", ""),
        ("crul", "curl"),
        ("", ""),
        (&"a".repeat(300), ""),
    ] {
        let found: Vec<String> = catalog.similar(name).iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), want, "{name}");
    }
}
