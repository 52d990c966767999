//! What a view answers by table, and `advance` and `changed` against the slow and plain way.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::universe::{catalog, name, steps};
use crate::{Arch, Release, Request, plan};

/// Every directory that either view could have.
fn directories(views: [&View; 2]) -> Vec<VirtualDir> {
    let mut all = vec![VirtualDir::Root, VirtualDir::Bin, VirtualDir::So];
    for (_, target) in views.iter().filter_map(|v| v.list(&VirtualDir::Root)).flatten() {
        if let Target::Dir(dir) = target {
            all.push(dir);
        }
    }
    all.sort();
    all.dedup();
    all
}

/// Every name of every directory compared.
fn difference(before: &View, after: &View) -> Changed {
    let mut changed = Changed::default();
    for dir in directories([before, after]) {
        let names = |view: &View| -> Vec<String> {
            let list = view.list(&dir).unwrap_or_default();
            list.iter().map(|(name, _)| name.to_string()).collect()
        };
        let (old, new) = (names(before), names(after));
        let mut all: Vec<String> = old.iter().chain(&new).cloned().collect();
        all.sort();
        all.dedup();
        all.retain(|name| before.get(&dir, name) != after.get(&dir, name));
        changed.entries.extend(all.into_iter().map(|name| (dir.clone(), name)));
        if old != new {
            changed.lists.push(dir);
        }
    }
    changed
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn advance_is_compile_and_changed_is_the_difference(catalog in catalog(), steps in steps()) {
        let mut states = vec![Selections::default()];
        let mut views = vec![View::default()];
        for step in &steps {
            let current = &states[states.len() - 1];
            let Ok(plan) = plan(&catalog, current, &step.request(&states)) else { continue };
            let before = &views[views.len() - 1];
            let after = before.advance(&plan, &catalog);
            let compiled = View::compile(&plan.next, &catalog);
            prop_assert_eq!(&after, &compiled);
            prop_assert_eq!(before.changed(&after), difference(before, &after));
            // Also where nothing is shared, and backwards.
            prop_assert_eq!(before.changed(&compiled), difference(before, &compiled));
            prop_assert_eq!(compiled.changed(before), difference(&compiled, before));
            prop_assert_eq!(after.changed(&compiled), Changed::default());
            for old in &views {
                prop_assert_eq!(old.changed(&after), difference(old, &after));
            }
            states.push(plan.next);
            views.push(after);
        }
    }

    /// What is listed can be got, and nothing else can.
    #[test]
    fn list_and_get_agree(catalog in catalog(), steps in steps()) {
        let mut states = vec![Selections::default()];
        for step in &steps {
            let current = &states[states.len() - 1];
            let Ok(plan) = plan(&catalog, current, &step.request(&states)) else { continue };
            states.push(plan.next);
        }
        let view = View::compile(&states[states.len() - 1], &catalog);
        for dir in directories([&view, &view]) {
            let list = view.list(&dir).unwrap();
            prop_assert!(list.windows(2).all(|pair| pair[0].0 < pair[1].0));
            for (name, target) in &list {
                prop_assert_eq!(view.get(&dir, name), Some(target.clone()));
            }
            for name in ["", ".", "x", "l.so.1", "a", "lib", "bin", "so", "app"] {
                let listed = list.iter().any(|(other, _)| &**other == name);
                prop_assert_eq!(view.get(&dir, name).is_some(), listed);
            }
        }
    }
}

fn release(package: &str, version: &str, category: &str, provides: &str) -> Release {
    let bytes = package.bytes().chain(version.bytes()).map(u64::from);
    let object = format!("{:064x}", bytes.fold(7, |sum, byte| sum * 31 + byte));
    let json = format!(
        r#"{{"name":"{package}","version":"{version}","arch":"amd64","category":"{category}",
        "object":"{object}","origin":{{"kind":"directory","name":"x"}},"provides":{provides}}}"#
    );
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

struct Bench {
    catalog: Catalog,
    current: Selections,
    view: View,
}

impl Bench {
    fn new(releases: Vec<Release>) -> Self {
        let mut catalog = Catalog::new(Arch::new("amd64").unwrap());
        for release in releases {
            catalog.insert(Arc::new(release)).unwrap();
        }
        Self { catalog, current: Selections::default(), view: View::default() }
    }

    /// What changes, as `dir/name` and `dir/`.
    fn step(&mut self, request: &Request) -> Vec<String> {
        let plan = plan(&self.catalog, &self.current, request).unwrap();
        let next = self.view.advance(&plan, &self.catalog);
        assert_eq!(next, View::compile(&plan.next, &self.catalog));
        let changed = self.view.changed(&next);
        (self.current, self.view) = (plan.next, next);
        let mut texts: Vec<String> =
            changed.entries.iter().map(|(dir, name)| format!("{}/{name}", text(dir))).collect();
        texts.extend(changed.lists.iter().map(|dir| format!("{}/", text(dir))));
        texts
    }

    fn select(&mut self, spec: &str, provider: &[&str]) -> Vec<String> {
        let providers = provider.iter().map(|text| name(text)).collect();
        self.step(&Request::Select { specs: vec![name(spec)], providers })
    }

    fn unselect(&mut self, package: &str) -> Vec<String> {
        self.step(&Request::Unselect { packages: vec![name(package)] })
    }

    fn link(&self, dir: VirtualDir, name: &str) -> String {
        match self.view.get(&dir, name) {
            Some(Target::Link(text)) => text.to_string(),
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn text(dir: &VirtualDir) -> String {
    match dir {
        VirtualDir::Root => String::new(),
        VirtualDir::Category(category) => format!("/{category}"),
        VirtualDir::Bin => "/bin".to_string(),
        VirtualDir::So => "/so".to_string(),
    }
}

const XZ: &str = r#"{"commands":["xz"],"sonames":{"liblzma.so.5":"liblzma.so.5.2.5"}}"#;
const NEWER_XZ: &str = r#"{"commands":["xz"],"sonames":{"liblzma.so.5":"liblzma.so.5.8.1"}}"#;

#[test]
fn texts_of_links() {
    let mut bench = Bench::new(vec![
        release("xz", "5.2", "lib", XZ),
        release("xz", "5.8.1", "lib", NEWER_XZ),
        release("curl", "8", "app", r#"{"commands":["curl"]}"#),
    ]);
    bench.select("xz@5.2", &[]);
    bench.select("curl", &[]);
    assert_eq!(bench.link(VirtualDir::Bin, "xz"), "../lib/xz/bin/xz");
    assert_eq!(bench.link(VirtualDir::Bin, "curl"), "../app/curl/bin/curl");
    assert_eq!(bench.link(VirtualDir::So, "liblzma.so.5"), "../lib/xz/lib/liblzma.so.5.2.5");
    // Another file behind the soname is another link; the command's link stays.
    assert_eq!(bench.select("xz@5.8", &[]), ["/lib/xz", "/so/liblzma.so.5"]);
    assert_eq!(bench.link(VirtualDir::So, "liblzma.so.5"), "../lib/xz/lib/liblzma.so.5.8.1");
}

#[test]
fn categories_appear_and_vanish() {
    let mut bench = Bench::new(vec![
        release("xz", "5.2", "lib", XZ),
        release("zlib", "1", "lib", "{}"),
        release("curl", "8", "app", "{}"),
    ]);
    let lib = VirtualDir::Category(name("lib"));
    assert_eq!(bench.view.list(&lib), None);
    assert_eq!(
        bench.select("xz", &[]),
        ["/lib", "/lib/xz", "/bin/xz", "/so/liblzma.so.5", "/", "/lib/", "/bin/", "/so/"]
    );
    assert_eq!(bench.select("zlib", &[]), ["/lib/zlib", "/lib/"]);
    assert_eq!(bench.select("curl", &[]), ["/app", "/app/curl", "/", "/app/"]);
    let root = bench.view.list(&VirtualDir::Root).unwrap();
    let names: Vec<_> = root.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["app", "bin", "lib", "so"]);
    assert_eq!(bench.unselect("zlib"), ["/lib/zlib", "/lib/"]);
    assert_eq!(bench.unselect("curl"), ["/app", "/app/curl", "/", "/app/"]);
    assert_eq!(bench.view.get(&VirtualDir::Root, "app"), None);
    assert_eq!(bench.select("xz", &[]), [""; 0]);
    assert_eq!(
        bench.unselect("xz"),
        ["/lib", "/lib/xz", "/bin/xz", "/so/liblzma.so.5", "/", "/lib/", "/bin/", "/so/"]
    );
    assert_eq!(bench.view, View::default());
}

#[test]
fn contested_names_move_between_packages() {
    let both = r#"{"commands":["ed"],"sonames":{"l.so":"l.so.1"}}"#;
    let mut bench = Bench::new(vec![
        release("b", "1", "lib", both),
        release("a", "1", "app", both),
        release("a", "2", "app", "{}"),
    ]);
    bench.select("b", &[]);
    // The one already there keeps the names.
    assert_eq!(bench.select("a@1", &[]), ["/app", "/app/a", "/", "/app/"]);
    assert_eq!(bench.link(VirtualDir::Bin, "ed"), "../lib/b/bin/ed");
    assert_eq!(bench.select("a@1", &["a"]), ["/bin/ed", "/so/l.so"]);
    assert_eq!(bench.link(VirtualDir::Bin, "ed"), "../app/a/bin/ed");
    assert_eq!(bench.link(VirtualDir::So, "l.so"), "../app/a/lib/l.so.1");
    assert_eq!(bench.select("a@2", &[]), ["/app/a", "/bin/ed", "/so/l.so"]);
    assert_eq!(bench.link(VirtualDir::Bin, "ed"), "../lib/b/bin/ed");
    assert_eq!(
        bench.unselect("b"),
        ["/lib", "/lib/b", "/bin/ed", "/so/l.so", "/", "/lib/", "/bin/", "/so/"]
    );
}

/// A package whose releases were all removed may come back elsewhere: its links move too.
#[test]
fn a_package_changes_its_category() {
    let mut bench = Bench::new(vec![release("xz", "5.2", "lib", XZ)]);
    bench.select("xz", &[]);
    let old = release("xz", "5.2", "lib", XZ);
    bench.catalog.remove(&old.id).unwrap();
    bench.catalog.insert(Arc::new(release("xz", "5.2", "app", XZ))).unwrap();
    assert_eq!(
        bench.select("xz", &[]),
        [
            "/app",
            "/lib",
            "/app/xz",
            "/lib/xz",
            "/bin/xz",
            "/so/liblzma.so.5",
            "/",
            "/app/",
            "/lib/"
        ]
    );
    assert_eq!(bench.link(VirtualDir::Bin, "xz"), "../app/xz/bin/xz");
}

/// A release that left the catalog while selected: its package is shown, its links are not.
#[test]
fn a_release_that_is_gone() {
    let mut bench =
        Bench::new(vec![release("xz", "5.2", "lib", XZ), release("zlib", "1", "lib", "{}")]);
    bench.select("xz", &[]);
    bench.catalog.remove(&release("xz", "5.2", "lib", XZ).id).unwrap();
    let view = View::compile(&bench.current, &bench.catalog);
    assert!(view.get(&VirtualDir::Category(name("lib")), "xz").is_some());
    assert_eq!(view.list(&VirtualDir::Bin), Some(Vec::new()));
    let gone = bench.unselect("xz");
    assert!(gone.contains(&"/bin/xz".to_string()), "{gone:?}");
}
