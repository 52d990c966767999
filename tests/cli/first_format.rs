//! A store that the first format's program wrote, used by this one. It is never regenerated.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use resolver::Arch;
use serde_json::Value;
use store_fs::digest::digest;
use store_fs::{Node, OsDisk, Store};

use super::stage::Stage;

fn fixture(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-v1").join(below)
}

/// Copies a directory, with the modes that a store has.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
            continue;
        }
        fs::copy(entry.path(), &to).unwrap();
        let is_lock = ["lock", "adding"].map(Path::new).contains(&Path::new(&entry.file_name()));
        let mode = if is_lock { 0o644 } else { 0o444 };
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// A stage with a copy of the store, and with the release file.
fn stage() -> Stage {
    let stage = Stage::new();
    copy(&fixture("store"), &stage.path("store"));
    // Directories that were empty.
    for dir in ["releases/old", "tmp"] {
        fs::create_dir(stage.path("store").join(dir)).unwrap();
    }
    fs::copy(fixture("releases.dynfs"), stage.path("releases.dynfs")).unwrap();
    stage
}

fn json(stage: &Stage, arguments: &[&str]) -> Value {
    serde_json::from_str(&stage.ok(&[&["--json"], arguments].concat())).unwrap()
}

fn expected(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
}

/// Whether a document says what it must. It may have more fields.
fn says(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| found.get(name).is_some_and(|f| says(f, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| says(f, w))
        }
        _ => found == wanted,
    }
}

/// One line for everything in every release, read and verified.
fn contents(store: &Path) -> String {
    let store = Store::open(OsDisk::open(store).unwrap()).unwrap();
    let (catalog, problems) = store.catalog(Arch::all()).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    let mut text = String::new();
    for release in catalog.packages().flat_map(|(_, releases)| releases) {
        let tree = store.object(&release.object).unwrap();
        for number in 1..=tree.rows() {
            let path = String::from_utf8(tree.path(number).unwrap()).unwrap();
            let what = match tree.row(number).unwrap().node {
                Node::Dir { .. } => "directory".to_owned(),
                Node::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
                Node::File { blob, size, mtime, executable } => {
                    let mut bytes = Vec::new();
                    store.read(&blob, size, 0, usize::MAX, &mut bytes).unwrap();
                    let kind = if executable { "program" } else { "file" };
                    format!("{kind} {mtime} {} {}", bytes.len(), digest(&bytes).id)
                }
            };
            text.push_str(&format!("{} /{path} {what}\n", release.id));
        }
    }
    text
}

fn is_good(stage: &Stage, store: &[&str]) {
    let report = json(stage, &[store, &["fsck", "--data"]].concat());
    assert_eq!(report["findings"], serde_json::json!([]));
}

#[test]
fn a_store_of_the_first_format_says_what_it_said() {
    let stage = stage();
    let index = fs::read(stage.path("store/index.redb")).unwrap();
    is_good(&stage, &[]);
    for (command, document) in [("list", "list.json"), ("history", "history.json")] {
        let (found, wanted) = (json(&stage, &[command]), expected(document));
        assert!(says(&found, &wanted), "{command} says {found:#}");
    }
    let which = json(&stage, &["which", "/dyn/lib/xz/lib/liblzma.so.5"]).to_string();
    for part in ["5.2.5", "2b3f6919c3c6b05309e181289d94aac51c3b328bd70f98b3e1672fd1f303e0d9"] {
        assert!(which.contains(part), "{which}");
    }
    let wanted = fs::read_to_string(fixture("contents.txt")).unwrap();
    assert_eq!(contents(&stage.path("store")), wanted);
    // Whoever only reads has changed nothing.
    assert_eq!(fs::read(stage.path("store/index.redb")).unwrap(), index);
}

#[test]
fn a_store_of_the_first_format_goes_on() {
    let stage = stage();
    let index = fs::read(stage.path("store/index.redb")).unwrap();
    let step = |arguments: &[&str], generation: u64, xz: &str| {
        let done = json(&stage, arguments);
        assert_eq!(done["generation"]["after"], generation, "{done}");
        let list = json(&stage, &["list", "xz"]);
        let selected = list["releases"].as_array().unwrap().iter().find(|r| r["selected"] == true);
        assert_eq!(selected.unwrap()["object"].as_str().unwrap()[..4], *xz, "{arguments:?}");
        is_good(&stage, &[]);
    };
    step(&["redo"], 5, "10b4");
    step(&["undo"], 6, "2b3f");
    step(&["select", "xz@=5.8.1"], 7, "ca82");
    step(&["restore", "3"], 8, "10b4");
    step(&["undo"], 9, "ca82");
    // It was of other files: it has their change times in it.
    let renewed = fs::read(stage.path("store/index.redb")).unwrap();
    assert_ne!(renewed, index, "the index was made anew");
    fs::remove_file(stage.path("store/index.redb")).unwrap();
    assert_eq!(json(&stage, &["list"])["releases"].as_array().unwrap().len(), 6);
    let deleted = json(&stage, &["gc", "--keep", "99"]);
    assert_eq!(deleted["deleted"]["objects"], 1, "{deleted}");
    assert!(fs::read_dir(stage.path("store/trash")).unwrap().next().is_none());
    is_good(&stage, &[]);
    let wanted = fs::read_to_string(fixture("contents.txt")).unwrap();
    assert_eq!(contents(&stage.path("store")), wanted);
}

#[test]
fn a_release_file_of_the_first_format_can_be_added() {
    let stage = stage();
    let new = stage.path("new");
    let store = ["--store", new.to_str().unwrap()];
    stage.ok(&[&store[..], &["add", "releases.dynfs"]].concat());
    is_good(&stage, &store);
    let all = fs::read_to_string(fixture("contents.txt")).unwrap();
    let is_in = |line: &&str| {
        ["curl@8.4 ", "xz@5.8.1,debug ", "zlib@1:1.3 "].iter().any(|id| line.starts_with(id))
    };
    let wanted: String = all.lines().filter(is_in).map(|line| format!("{line}\n")).collect();
    assert_eq!(contents(&new), wanted);
    stage.ok(&[&store[..], &["select", "curl", "xz@5.8.1,debug"]].concat());
    // In the store that it is from, all of it is there.
    let again = json(&stage, &["add", "releases.dynfs"]);
    assert_eq!(again["new_bytes"], 0);
}
