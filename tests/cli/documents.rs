//! Every JSON document: its schema first, and the fields that others rely on.

use serde_json::Value;

use super::stage::Stage;

/// Runs a command with `--json`; its document.
fn document(stage: &Stage, arguments: &[&str], schema: &str) -> Value {
    let output = stage.run(&[&["--json"], arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let compact: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let start = format!("{{\"schema\":\"{schema}/1\"");
    assert!(compact.starts_with(&start), "{arguments:?}: {text}{error}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn list_has_releases() {
    let stage = Stage::new();
    stage.add_packages();
    stage.ok(&["select", "xz@5.2"]);
    let all = document(&stage, &["list"], "dynfs.list");
    let releases = all["releases"].as_array().unwrap();
    assert_eq!(releases.len(), 3);
    let first = &releases[0];
    assert_eq!(first["package"], "xz");
    assert_eq!(first["version"], "5.2.5");
    assert_eq!(first["variants"], serde_json::json!([]));
    assert_eq!(first["object"].as_str().unwrap().len(), 64);
    assert_eq!(first["selected"], true);
    assert_eq!(first["category"], "lib");
    assert_eq!(first["arch"], "all");
    assert_eq!(first["needs"], serde_json::json!([]));
    assert_eq!(first["origin"]["kind"], "directory");
    assert_eq!(releases[1]["selected"], false);
    let one = document(&stage, &["list", "zlib"], "dynfs.list");
    assert_eq!(one["releases"].as_array().unwrap().len(), 1);
}

#[test]
fn status_has_generation_mount_pids_and_requests_without_a_daemon() {
    let stage = Stage::new();
    stage.add_packages();
    stage.ok(&["select", "xz", "zlib"]);
    let status = document(&stage, &["status"], "dynfs.status");
    assert_eq!(status["generation"], 1);
    assert_eq!(status["mount"], Value::Null);
    assert_eq!(status["pids"], serde_json::json!({"keeper": null, "server": null}));
    assert_eq!(status["requests"], serde_json::json!({}));
    assert_eq!(status["packages"], 2);
    assert_eq!(status["selected"], 2);
    assert_eq!(status["releases"], 3);
    assert_eq!(status["objects"], 3);
}

#[test]
fn a_change_has_generations_and_changes() {
    let stage = Stage::new();
    stage.add_packages();
    for (arguments, schema, before, after) in [
        (["select", "xz@5.2"].as_slice(), "dynfs.select", 0, 1),
        (&["-n", "select", "xz@5.8"], "dynfs.select", 1, 2),
        (&["select", "xz@5.8"], "dynfs.select", 1, 2),
        (&["undo"], "dynfs.undo", 2, 3),
        (&["redo"], "dynfs.redo", 3, 4),
        (&["restore", "1"], "dynfs.restore", 4, 5),
        (&["unselect", "xz"], "dynfs.unselect", 5, 6),
    ] {
        let change = document(&stage, arguments, schema);
        assert_eq!(change["generation"]["before"], before, "{arguments:?}");
        assert_eq!(change["generation"]["after"], after, "{arguments:?}");
        assert_eq!(change["dry_run"], arguments[0] == "-n");
        assert_eq!(change["changes"][0]["package"], "xz");
        assert!(change["milliseconds"].as_f64().unwrap() >= 0.0);
    }
    let again = document(&stage, &["restore", "6"], "dynfs.restore");
    assert_eq!(again["changes"], serde_json::json!([]));
    assert_eq!(again["generation"]["after"], 6);
}

#[test]
fn the_other_documents() {
    let stage = Stage::new();
    stage.file("a/bin/a", "a", 0o755);
    let add = ["-n", "add", "a", "--name", "a", "--version", "1", "--prefix", "/dyn"];
    let mut rehearsed = document(&stage, &add, "dynfs.add");
    assert_eq!(rehearsed["dry_run"], true);
    assert!(!stage.path("store").exists());
    let added = document(&stage, &add[1..], "dynfs.add");
    rehearsed["dry_run"] = false.into();
    assert_eq!(rehearsed, added);
    assert_eq!(added["new"], true);
    assert_eq!(added["release"]["version"], "1");
    assert_eq!(added["files"], 1);
    stage.ok(&["select", "a"]);
    let shown = document(&stage, &["show", "a"], "dynfs.show");
    assert_eq!(shown["selected"]["since"], 1);
    assert_eq!(shown["provides"]["commands"], serde_json::json!(["a"]));
    let which = document(&stage, &["which", "/dyn/bin/a"], "dynfs.which");
    assert_eq!(which["paths"][0]["release"], "a@1");
    assert_eq!(which["paths"][0]["object"], shown["object"]);
    assert_eq!(which["paths"][0]["inside"], "bin/a");
    assert_eq!(which["paths"][0]["size"], 1);
    let history = document(&stage, &["history"], "dynfs.history");
    assert_eq!(history["generations"][0]["action"]["kind"], "select");
    let diff = document(&stage, &["diff"], "dynfs.diff");
    assert_eq!(diff["changes"][0]["to"]["version"], "1");
    let fsck = document(&stage, &["fsck", "--data"], "dynfs.fsck");
    assert_eq!(fsck["findings"], serde_json::json!([]));
    assert_eq!(fsck["releases"], 1);
    stage.file("a.toml", "[packages]\n", 0o644);
    let applied = document(&stage, &["apply", "a.toml"], "dynfs.apply");
    assert_eq!(applied["changes"][0]["to"], Value::Null);
    stage.file("b/bin/b", "b", 0o755);
    stage.ok(&["add", "b", "--name", "b", "--version", "1"]);
    let removed = document(&stage, &["remove", "b"], "dynfs.remove");
    assert_eq!(removed["removed"][0]["name"], "b");
    let gc = document(&stage, &["gc", "--keep", "1", "--keep-since", "0"], "dynfs.gc");
    assert_eq!(gc["dry_run"], false);
    assert_eq!(gc["generations"], serde_json::json!([1]));
    assert_eq!(gc["releases"][0]["name"], "a");
    assert_eq!(gc["deleted"], serde_json::json!({"objects": 0, "blobs": 0, "bytes": 0}));
    assert_eq!(gc["trashed"]["objects"].as_array().unwrap().len(), 2);
    assert!(gc["trashed"]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(gc["stays"], serde_json::json!([]));
    let gc = document(&stage, &["gc", "--keep", "1", "--keep-since", "0"], "dynfs.gc");
    assert_eq!(gc["deleted"]["objects"], 2);
}

#[test]
fn copies_and_repairs_have_documents() {
    let stage = Stage::new();
    stage.add_packages();
    let copied = document(&stage, &["copy", "xz@5.2", "zlib", "--to", "set"], "dynfs.copy");
    assert_eq!((&copied["kind"], &copied["to"]), (&"file".into(), &"set".into()));
    assert_eq!(copied["releases"][0]["version"], "5.2.5");
    let bytes = std::fs::metadata(stage.path("set")).unwrap().len();
    assert_eq!(copied["bytes"], bytes);
    stage.ok(&["--store", "other", "add", "xz-5.8.1", "--name", "xz", "--version", "5.8.1"]);
    let added = document(&stage, &["--store", "other", "add", "set"], "dynfs.add");
    assert_eq!(added["releases"][0]["release"]["name"], "xz");
    assert_eq!(added["releases"][1]["category"], "lib");
    assert_eq!(added["releases"][1]["new"], true);
    let copied = document(&stage, &["copy", "xz@5.8", "--to", "other"], "dynfs.copy");
    assert_eq!((&copied["kind"], &copied["bytes"]), (&"store".into(), &0.into()));
    stage.prepare("flip store/objects/*");
    let rehearsed = document(&stage, &["-n", "fsck", "--repair", "--from", "other"], "dynfs.fsck");
    assert_eq!(rehearsed["findings"][0]["code"], "object-damaged");
    assert!(rehearsed["repair"]["aside"][0].as_str().unwrap().starts_with("objects/"));
    let repaired = document(&stage, &["fsck", "--repair", "--from", "other"], "dynfs.fsck");
    assert_eq!(repaired["findings"], serde_json::json!([]));
    assert_eq!(repaired["repair"]["found"], rehearsed["findings"]);
    assert_eq!(repaired["repair"]["objects"], 1);
    assert!(repaired["repair"]["aside"][0].as_str().unwrap().starts_with("aside/"));
    let checked = document(&stage, &["fsck"], "dynfs.fsck");
    assert_eq!(checked.get("repair"), None);
}

/// The README names the two commands that have none.
#[test]
fn two_commands_have_no_document() {
    let stage = Stage::new();
    for arguments in [["--json", "demo"].as_slice(), &["--json", "completions", "bash"]] {
        let output = stage.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    let readme = include_str!("../../README.md");
    assert!(readme.contains("every one but `demo` and `completions` has `--json`"));
}
