//! Repairs below a running mount: what programs have open is good again, and what was missing is
//! seen again, without an unmount.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::rig::{Content, Rig, kill, names, read};

/// More than one group of hashes.
const LARGE: usize = 300_000;

fn flip(rig: &Rig, path: &str) {
    let path = rig.store().join(path);
    let mut bytes = fs::read(&path).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
    fs::write(&path, bytes).expect("ours");
}

fn which(rig: &Rig, path: &Path, kind: &str) -> String {
    let output = rig.ok([Path::new("--json"), Path::new("which"), path]);
    let document: Value = serde_json::from_str(&output).expect("JSON");
    let id = document["paths"][0][kind].as_str().expect("a hash").to_owned();
    format!("{kind}s/{}/{id}", &id[..2])
}

/// Reads a whole open file past the page cache.
fn read_open(file: &File) -> io::Result<Vec<u8>> {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?;
    let mut bytes = vec![0; LARGE];
    file.read_exact_at(&mut bytes, 0).map(|()| bytes)
}

fn is_io_error<T: std::fmt::Debug>(result: io::Result<T>) {
    let error = result.expect_err("damaged");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
}

/// Another store with the releases of a file.
fn other_store(rig: &Rig, file: &str) -> String {
    let other = rig.scratch("other").to_str().expect("UTF-8").to_owned();
    let mut add = Command::new(env!("CARGO_BIN_EXE_dynfs"));
    let status = add.args(["--store", &other, "-q", "add", file]).status().expect("it starts");
    assert!(status.success());
    other
}

/// More than one group of bytes, all of them different.
fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at ^ (at >> 7)) as u8).collect()
}

fn copy(rig: &Rig, specs: &[&str]) -> String {
    let file = rig.scratch("good.dynfs").to_str().expect("UTF-8").to_owned();
    rig.ok([&["copy"], specs, &["--to", &file]].concat());
    file
}

/// Content that was bad is good again to a program that has the file open all the while.
#[test]
fn what_is_open_reads_good_bytes_after_a_repair() {
    let Some(rig) = Rig::mounted("what_is_open_reads_good_bytes_after_a_repair") else { return };
    let bytes = large();
    rig.add("big", "1.0", &[("share/large", Content::File(&bytes))]);
    rig.ok(["select", "big"]);
    let file = copy(&rig, &["big"]);
    let path = rig.at("app/big/share/large");
    let open = File::open(&path).expect("shown");
    assert!(read_open(&open).expect("good") == bytes);
    let server = rig.pid("server");
    for from in [file.clone(), other_store(&rig, &file)] {
        let blob = which(&rig, &path, "blob");
        flip(&rig, &blob);
        is_io_error(read_open(&open));
        // Found, and nowhere to be had: out of the way, and an error as before.
        assert_eq!(rig.run(["fsck", "--repair"]).status.code(), Some(7));
        assert!(!rig.store().join(&blob).exists());
        is_io_error(read_open(&open));
        rig.ok(["fsck", "--repair", "--from", &from]);
        assert!(read_open(&open).expect("good again") == bytes);
        assert!(fs::read(&path).expect("good again") == bytes);
    }
    // An outboard follows from its blob.
    let blob = which(&rig, &path, "blob");
    fs::remove_file(rig.store().join(blob.replacen("blobs", "outboards", 1))).expect("ours");
    let pid = rig.kill_server();
    rig.wait_for_other_server(pid);
    is_io_error(read_open(&open));
    rig.ok(["fsck", "--repair"]);
    assert!(read_open(&open).expect("good again") == bytes);
    assert_ne!(rig.pid("server"), server);
    assert_eq!(names(&rig.store().join("aside")).len(), 2, "bad files are kept");
    rig.ok(["fsck", "--data"]);
}

/// What `status` says cannot be served.
fn damaged(rig: &Rig) -> Vec<Value> {
    rig.status()["damaged"].as_array().expect("a list").clone()
}

/// Damage that programs have met is in the status, whichever server is asked, until it is good.
#[test]
fn damage_is_in_the_status_until_it_is_good() {
    let Some(rig) = Rig::mounted("damage_is_in_the_status_until_it_is_good") else { return };
    let bytes = large();
    rig.add("big", "1.0", &[("share/large", Content::File(&bytes))]);
    rig.ok(["select", "big"]);
    let file = copy(&rig, &["big"]);
    let path = rig.at("app/big/share/large");
    let open = File::open(&path).expect("shown");
    for good in [&["fsck", "--repair", "--from", &file][..], &["add", &file]] {
        let is_added = good[0] == "add";
        let blob = which(&rig, &path, "blob");
        flip(&rig, &blob);
        assert_eq!(damaged(&rig), Vec::<Value>::new(), "nobody has met it");
        is_io_error(read_open(&open));
        let said = damaged(&rig);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0]["paths"], serde_json::json!(["app/big@1.0/share/large"]));
        assert_eq!(said[0]["file"], rig.store().join(&blob).to_str().expect("UTF-8"));
        assert!(said[0]["reason"].as_str().expect("words").contains("is damaged"), "{said:?}");
        // The next server has met nothing, and says the same.
        let server = rig.kill_server();
        rig.wait_for_other_server(server);
        assert_eq!(damaged(&rig), said);
        let output = rig.run(["status"]);
        let [text, hint] = [output.stdout, output.stderr].map(|b| String::from_utf8(b).expect("?"));
        let named = |line: &str| line.starts_with("damaged") && line.contains("app/big@1.0/");
        assert!(text.lines().any(named), "{text}");
        assert!(hint.contains("dynfs fsck --repair --from"), "{hint}");
        // Another part of it is good, which says nothing of this one.
        open.read_exact_at(&mut [0; 4096], 0).expect("good");
        assert_eq!(damaged(&rig), said);
        if is_added {
            // Out of the way, which makes nothing good.
            assert_eq!(rig.run(["fsck", "--repair"]).status.code(), Some(7));
            let reason = damaged(&rig)[0]["reason"].to_string();
            assert!(reason.contains("it is missing"), "{reason}");
        }
        rig.ok(good);
        assert!(read_open(&open).expect("good again") == bytes, "{good:?}");
        assert_eq!(damaged(&rig), Vec::<Value>::new(), "{good:?}");
    }
}

/// A damaged object is said once, however much of it was asked for, and not when it has gone.
#[test]
fn a_damaged_object_is_in_the_status_once() {
    let Some(rig) = Rig::mounted("a_damaged_object_is_in_the_status_once") else { return };
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    let file = copy(&rig, &["demo@1.0"]);
    rig.ok(["select", "demo@1.0"]);
    let repair = ["fsck", "--repair", "--from", &file];
    let rounds =
        [("lib/demo", "1.0", &repair[..]), ("lib/demo@2.0", "2.0", &["remove", "demo@2.0"])];
    for (path, version, good) in rounds {
        let object = which(&rig, &rig.at(path), "object");
        flip(&rig, &object);
        let server = rig.kill_server();
        rig.wait_for_other_server(server);
        for name in ["share", "include", "missing"] {
            is_io_error(fs::metadata(rig.at(path).join(name)));
        }
        let said = damaged(&rig);
        assert_eq!(said.len(), 1, "{said:?}");
        // With the release, also when it was the selected one that was asked for.
        let at = said[0]["paths"][0].as_str().expect("a path");
        assert!(at.starts_with(&format!("lib/demo@{version}")), "{said:?}");
        assert_eq!(said[0]["file"], rig.store().join(&object).to_str().expect("UTF-8"));
        rig.ok(good);
        assert_eq!(damaged(&rig), Vec::<Value>::new(), "{good:?}");
    }
}

/// Adding a release again, or another one that shares content, replaces what is bad by the good
/// copy that is in hand: small and large blobs, outboards and objects.
#[test]
fn adding_again_makes_bad_content_good() {
    let Some(rig) = Rig::mounted("adding_again_makes_bad_content_good") else { return };
    let large = large();
    let files = [("share/large", Content::File(&large)), ("share/small", Content::File(b"small"))];
    rig.add("big", "1.0", &files);
    rig.ok(["select", "big"]);
    let (path, small) = (rig.at("app/big/share/large"), rig.at("app/big/share/small"));
    let open = File::open(&path).expect("shown");
    assert!(read_open(&open).expect("good") == large);
    let blobs = [which(&rig, &path, "blob"), which(&rig, &small, "blob")];
    let outboard = blobs[0].replacen("blobs", "outboards", 1);
    let again = || {
        rig.add("big", "1.0", &[]);
    };
    let other = || {
        rig.add("other", "1.0", &files);
        assert!(fs::read(rig.at("app/other@1.0/share/large")).expect("good") == large);
        assert_eq!(read(&rig.at("app/other@1.0/share/small")), "small");
    };
    let rounds: [(&str, &dyn Fn()); 2] = [("again", &again), ("another release", &other)];
    for (number, (what, add)) in rounds.into_iter().enumerate() {
        blobs.iter().chain([&outboard]).for_each(|path| flip(&rig, path));
        is_io_error(read_open(&open));
        assert_eq!(rig.run(["fsck", "--data"]).status.code(), Some(7), "{what}");
        add();
        assert!(read_open(&open).expect("good again") == large, "{what}");
        assert_eq!(read(&small), "small", "{what}");
        assert_eq!(names(&rig.store().join("aside")).len(), number + 1, "bad files are kept");
        rig.ok(["fsck", "--data"]);
    }
    // One that is cut short is as bad, and so is an object.
    let object = which(&rig, &rig.at("app/big"), "object");
    flip(&rig, &object);
    let blob = rig.store().join(&blobs[0]);
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).expect("ours");
    File::options().write(true).open(&blob).expect("ours").set_len(7).expect("ours");
    again();
    assert!(read_open(&open).expect("good again") == large);
    rig.ok(["fsck", "--data"]);
}

/// What is collected while `fsck` looks is no finding.
#[test]
fn fsck_beside_collections_finds_nothing() {
    const ROUNDS: u32 = 40;
    let Some(rig) = Rig::mounted("fsck_beside_collections_finds_nothing") else { return };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for arguments in [&["fsck", "--data"][..], &["fsck"]] {
            let (rig, done) = (&rig, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    rig.ok(arguments);
                }
            });
        }
        for round in 0..ROUNDS {
            // Some content comes and goes, some comes again.
            let version = format!("{}.0", round % 4);
            let many: Vec<_> = (0..50).map(|n| (format!("share/{n}"), [round as u8, n])).collect();
            let files: Vec<_> =
                many.iter().map(|(path, bytes)| (path.as_str(), Content::File(bytes))).collect();
            let name = format!("demo{}", round % 3);
            let source = rig.scratch(&format!("source-{name}-{version}"));
            fs::remove_dir_all(source).ok();
            rig.ok(["gc", "--keep", "2", "--keep-since", "0"]);
            rig.run(["remove", &format!("{name}@{version}")]);
            rig.add(&name, &version, &files);
            rig.ok(["select", &format!("{name}@{version}")]);
            rig.ok(["gc", "--keep", "2", "--keep-since", "0"]);
        }
        done.store(true, Ordering::Relaxed);
    });
    rig.ok(["fsck", "--data"]);
}

/// An object whose names were bad, and a release whose record was gone, are there again.
#[test]
fn trees_and_records_come_back_below_a_mount() {
    let Some(rig) = Rig::mounted("trees_and_records_come_back_below_a_mount") else { return };
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    rig.ok(["select", "demo@1.0"]);
    rig.ok(["select", "demo@2.0"]);
    let file = copy(&rig, &["demo@1.0", "demo@2.0"]);
    let object = which(&rig, &rig.at("lib/demo"), "object");
    flip(&rig, &object);
    fs::remove_file(rig.store().join("releases/demo/1.0,all")).expect("ours");
    let pid = rig.kill_server();
    rig.wait_for_other_server(pid);
    is_io_error(fs::read(rig.at("lib/demo/share/version")));
    let old = rig.at("lib/demo@1.0/share/version");
    assert!(!old.exists(), "cached as a miss");
    rig.ok(["fsck", "--repair", "--from", &file]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
    assert_eq!(read(&old), "1.0");
    rig.ok(["undo"]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
    rig.ok(["fsck", "--data"]);
}

/// A generation that goes is told to the kernel; the newest one is written again by a daemon that
/// knows it, and never stepped back from.
#[test]
fn generations_are_repaired_below_a_mount() {
    let Some(rig) = Rig::mounted("generations_are_repaired_below_a_mount") else { return };
    for version in ["1.0", "2.0", "3.0"] {
        rig.add_plain("demo", version);
        rig.ok(["select", &format!("demo@{version}")]);
    }
    let frozen = |number: u64| rig.at(&format!(".generations/{number}/lib/demo/share/version"));
    assert_eq!(read(&frozen(2)), "2.0");
    let good = fs::read(rig.store().join("generations/3")).expect("there");
    flip(&rig, "generations/2");
    flip(&rig, "generations/3");
    let said = rig.ok(["fsck", "--repair"]);
    assert!(said.contains("wrote generation 3 again"), "{said}");
    assert_eq!(fs::read(rig.store().join("generations/3")).expect("there"), good);
    assert!(!frozen(2).exists(), "the kernel was told");
    assert_eq!(names(&rig.at(".generations")), ["0", "1", "3"]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "3.0");
    let pid = rig.kill_server();
    rig.wait_for_other_server(pid);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "3.0");
    rig.ok(["fsck", "--data"]);
    // With a server that does not know it: only `restore` goes on.
    let server = rig.pid("server");
    flip(&rig, "generations/3");
    kill(server);
    is_io_error(fs::metadata(rig.at("lib/never-seen")));
    for arguments in [&["fsck", "--repair"][..], &["fsck", "--repair", "--step-back"]] {
        assert_eq!(rig.run(arguments).status.code(), Some(7), "{arguments:?}");
        assert!(rig.store().join("generations/3").exists());
    }
    rig.ok(["restore", "1"]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
    rig.ok(["fsck", "--repair"]);
    assert!(!rig.store().join("generations/3").exists());
    rig.ok(["fsck", "--data"]);
    rig.ok(["select", "demo@2.0"]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
}

/// A release file is added through the daemon: what was missing is seen.
#[test]
fn a_release_file_comes_into_a_mounted_store() {
    let Some(rig) = Rig::mounted("a_release_file_comes_into_a_mounted_store") else { return };
    rig.add_plain("demo", "1.0");
    let file = copy(&rig, &["demo"]);
    rig.ok(["remove", "demo"]);
    let path = rig.at("lib/demo@1.0/share/version");
    assert!(!path.exists());
    rig.ok(["add", &file]);
    assert_eq!(read(&path), "1.0");
    // A copy into a mounted store goes through its daemon, too.
    let other = other_store(&rig, &file);
    rig.ok(["remove", "demo"]);
    assert!(!path.exists());
    let mut copy = Command::new(env!("CARGO_BIN_EXE_dynfs"));
    copy.args(["--store", &other, "copy", "demo", "--to"]).arg(rig.store());
    assert!(copy.status().expect("it starts").success());
    assert_eq!(read(&path), "1.0");
}
