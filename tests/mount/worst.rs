//! Bad days: a full disk, a read-only one, and files that changed below a running mount.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::rig::{Content, Rig, kill, read, wait_until};

/// More than one group of hashes.
const LARGE: usize = 300_000;
/// Bytes that are read at once when damage may be near.
const PIECE: usize = 4096;
/// Size of a small disk.
const DISK_LEN: usize = 8 * 1024 * 1024;

/// What `fsck` finds in a whole store.
const NONE: [&str; 0] = [];

/// Bytes that do not repeat.
fn large() -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..LARGE).map(next).collect()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails with this exit code, and words that hold each of `parts` and a next command.
fn fails(rig: &Rig, arguments: &[&str], code: i32, parts: &[&str]) {
    let output = rig.run(arguments);
    let words = words(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {words}");
    for part in parts.iter().chain(&["hint: "]) {
        assert!(words.contains(part), "{arguments:?} does not say {part:?}: {words}");
    }
}

/// What `fsck --data` finds.
fn findings(rig: &Rig) -> Vec<String> {
    let output = rig.run(["--json", "fsck", "--data"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = document["findings"].as_array().expect("a list");
    assert_eq!(output.status.code(), Some(if findings.is_empty() { 0 } else { 7 }));
    let text = |finding: &Value| {
        let [code, path] = ["code", "path"].map(|key| finding[key].as_str().expect("a text"));
        format!("{code} {path}")
    };
    findings.iter().map(text).collect()
}

/// The file of the store that holds the content, or the object, of a path below the mount.
fn file_of(rig: &Rig, path: &Path, kind: &str) -> String {
    let output = rig.ok([Path::new("--json"), Path::new("which"), path]);
    let document: Value = serde_json::from_str(&output).expect("JSON");
    let id = document["paths"][0][kind].as_str().expect("a hash").to_owned();
    format!("{kind}s/{}/{id}", &id[..2])
}

/// Changes one bit in the middle of a file of the store.
fn flip(rig: &Rig, path: &str) {
    let path = rig.store().join(path);
    let mut bytes = fs::read(&path).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
    fs::write(&path, bytes).expect("ours");
}

/// Reads a file piece by piece past the page cache: how many pieces failed. No wrong byte is
/// ever read.
fn failed_pieces(path: &Path, expected: &[u8]) -> usize {
    let file = fs::File::open(path).expect("opening needs no content");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a regular file");
    let mut failed = 0;
    for (index, expected) in expected.chunks(PIECE).enumerate() {
        let mut piece = vec![0; expected.len()];
        match file.read_exact_at(&mut piece, (index * PIECE) as u64) {
            Ok(()) => assert!(piece == expected, "a damaged byte in piece {index}"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
                failed += 1;
            }
        }
    }
    failed
}

/// No damaged byte is served: a read of damaged content is an error, everything else works, and
/// what `fsck` says brings it back.
#[test]
fn content_damaged_below_a_mount() {
    let Some(rig) = Rig::mounted("content_damaged_below_a_mount") else { return };
    let bytes = large();
    rig.add("bad", "1.0", &[("share/large", Content::File(&bytes))]);
    rig.add_plain("good", "1.0");
    rig.add_plain("good", "2.0");
    rig.ok(["select", "bad", "good@1.0"]);
    let path = rig.at("app/bad/share/large");
    assert_eq!(failed_pieces(&path, &bytes), 0);
    let blob = file_of(&rig, &path, "blob");
    flip(&rig, &blob);
    let failed = failed_pieces(&path, &bytes);
    assert!(0 < failed && failed < bytes.len() / PIECE, "{failed} pieces failed");
    // Nothing is remembered as good or bad by a server that was there before.
    let pid = rig.kill_server();
    rig.wait_for_other_server(pid);
    assert!(failed_pieces(&path, &bytes) > 0);
    assert_eq!(findings(&rig), [format!("blob-damaged {blob}")]);
    rig.ok(["select", "good@2.0"]);
    assert_eq!(read(&rig.at("lib/good/share/version")), "2.0");
    rig.ok(["undo"]);
    // The hint.
    fs::remove_file(rig.store().join(&blob)).expect("ours");
    let source = rig.scratch("source-bad-1.0");
    rig.ok(["add", source.to_str().expect("UTF-8"), "--name", "bad", "--version", "1.0"]);
    assert_eq!(findings(&rig), NONE);
    assert_eq!(failed_pieces(&path, &bytes), 0);
}

/// An object whose names are damaged is an error to who walks into it, and to nobody else.
#[test]
fn an_object_damaged_below_a_mount() {
    let Some(rig) = Rig::mounted("an_object_damaged_below_a_mount") else { return };
    rig.add_plain("bad", "1.0");
    rig.add("good", "1.0", &[("bin/good", Content::Program(b"#!/bin/sh\n"))]);
    rig.ok(["select", "bad", "good"]);
    let object = file_of(&rig, &rig.at("lib/bad"), "object");
    flip(&rig, &object);
    // The kernel has seen nothing of it, and the next server has not either.
    let pid = rig.kill_server();
    rig.wait_for_other_server(pid);
    let error = fs::read(rig.at("lib/bad/share/version")).expect_err("damaged");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    assert_eq!(read(&rig.at("app/good/bin/good")), "#!/bin/sh\n");
    assert_eq!(findings(&rig), [format!("object-damaged {object}")]);
    rig.ok(["unselect", "bad"]);
    assert!(!rig.at("lib/bad").exists());
    rig.ok(["list"]);
}

/// Damage to an old generation or a release record stops nothing that does not need it.
#[test]
fn records_damaged_below_a_mount() {
    let Some(rig) = Rig::mounted("records_damaged_below_a_mount") else { return };
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    rig.add_plain("other", "1.0");
    rig.ok(["select", "demo@1.0"]);
    rig.ok(["select", "demo@2.0"]);
    flip(&rig, "generations/1");
    fails(&rig, &["restore", "1"], 7, &["generations/1 is damaged"]);
    fails(&rig, &["undo"], 7, &["generations/1 is damaged"]);
    fails(&rig, &["remove", "other"], 7, &["generations/1 is damaged"]);
    let error = fs::read(rig.at(".generations/1/lib/demo/share/version")).expect_err("damaged");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
    rig.ok(["select", "other"]);
    rig.ok(["undo"]);
    flip(&rig, "releases/other/1.0,all");
    fails(&rig, &["list"], 7, &["releases/other/1.0,all is damaged"]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
    // The daemon has read the record long ago, and adding it again replaces it all the same.
    let source = rig.scratch("source-other-1.0");
    let add = ["add", source.to_str().expect("UTF-8"), "--name", "other", "--version", "1.0"];
    rig.ok(add);
    rig.ok(["list"]);
    assert_eq!(findings(&rig), ["generation-damaged generations/1"]);
    // An index that is nonsense is made anew, by whoever adds and by nobody else.
    fs::remove_file(rig.store().join("index.redb")).expect("ours");
    fs::write(rig.store().join("index.redb"), "nonsense").expect("ours");
    rig.ok(["list"]);
    assert_eq!(findings(&rig), ["generation-damaged generations/1", "index-damaged index.redb"]);
    rig.ok(add);
    assert_eq!(findings(&rig), ["generation-damaged generations/1"]);
}

/// The newest generation damaged while it is shown: what is shown stays, and `restore` goes on.
#[test]
fn the_newest_generation_damaged_below_a_mount() {
    const TEST: &str = "the_newest_generation_damaged_below_a_mount";
    let Some(rig) = Rig::mounted(TEST) else { return };
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    rig.ok(["select", "demo@1.0"]);
    rig.ok(["select", "demo@2.0"]);
    flip(&rig, "generations/2");
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
    fails(&rig, &["status"], 7, &["generations/2, is damaged", "dynfs restore 1"]);
    rig.ok(["restore", "1"]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
    assert_eq!(rig.status()["generation"], 3);
    let mountpoint = rig.mountpoint();
    rig.ok(["umount"]);
    flip(&rig, "generations/3");
    let mountpoint = mountpoint.to_str().expect("UTF-8");
    fails(&rig, &["mount", mountpoint], 7, &["generations/3, is damaged", "dynfs restore"]);
    rig.ok(["restore", "0"]);
    rig.ok(["select", "demo"]);
    rig.ok(["mount", mountpoint]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
}

/// The newest generation damaged and the server gone: nobody guesses what was selected. What is
/// selected is an error, the rest goes on, and `restore` ends it without an unmount.
#[test]
fn the_newest_generation_damaged_and_the_server_killed() {
    let Some(rig) = Rig::mounted("the_newest_generation_damaged_and_the_server_killed") else {
        return;
    };
    for version in ["1.0", "2.0"] {
        rig.add_plain("demo", version);
        rig.add_plain("other", version);
    }
    rig.ok(["select", "demo@1.0"]);
    rig.ok(["select", "demo@2.0", "other@2.0"]);
    assert_eq!(read(&rig.at("lib/other/share/version")), "2.0");
    let server = rig.pid("server");
    flip(&rig, "generations/2");
    kill(server);
    let io_error = Some(rustix::io::Errno::IO.raw_os_error());
    let error = fs::metadata(rig.at("lib/never-seen")).expect_err("nobody knows");
    assert_eq!(error.raw_os_error(), io_error);
    assert_eq!(read(&rig.at("lib/other/share/version")), "2.0", "what is known goes on");
    assert_eq!(read(&rig.at("lib/demo@1.0/share/version")), "1.0");
    assert_eq!(read(&rig.at(".generations/1/lib/demo/share/version")), "1.0");
    fails(&rig, &["select", "demo@1.0"], 7, &["generations/2, is damaged"]);
    rig.ok(["restore", "1"]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
    assert!(!rig.at("lib/other").exists(), "it was selected in the damaged one alone");
    assert!(!rig.at("lib/never-seen").exists());
    rig.ok(["select", "demo@2.0"]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
}

/// A source tree inside the mount is refused, also behind a symlink, without a look into it.
#[test]
fn a_source_inside_the_mount() {
    let Some(rig) = Rig::mounted("a_source_inside_the_mount") else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    symlink(rig.at("lib/demo"), rig.scratch("package")).expect("ours");
    symlink(rig.mountpoint(), rig.scratch("all")).expect("ours");
    let before = (rig.ok(["list"]), rig.requests());
    for source in [
        rig.at("lib/demo"),
        rig.mountpoint(),
        rig.scratch("package"),
        rig.scratch("all/lib/demo/share"),
    ] {
        let add = ["add", source.to_str().expect("UTF-8"), "--name", "copy", "--version", "1.0"];
        fails(&rig, &add, 4, &["is inside of the mount", "copy what you want"]);
    }
    let around = rig.scratch("");
    let add = ["add", around.to_str().expect("UTF-8"), "--name", "copy", "--version", "1.0"];
    fails(&rig, &add, 4, &["the mount", "is inside of", "copy what you want"]);
    // And nobody has looked into it, since a mount that hangs must not hang this.
    assert_eq!((rig.ok(["list"]), rig.requests()), before);
}

/// A rehearsal says what would be done, and does nothing: no store, no mount, no generation.
#[test]
fn a_rehearsal_changes_nothing() {
    const TEST: &str = "a_rehearsal_changes_nothing";
    let Some(rig) = Rig::new(TEST, &[]) else { return };
    let mountpoint = rig.mountpoint();
    let mountpoint = mountpoint.to_str().expect("UTF-8");
    assert!(rig.ok(["-n", "mount", mountpoint]).starts_with("would mount "));
    assert!(!rig.store().exists() && !rig.mountpoint().exists());
    fails(&rig, &["-n", "umount"], 6, &["is not mounted"]);
    rig.ok(["mount", mountpoint]);
    println!("MOUNTED {TEST}");
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    rig.ok(["select", "demo@1.0"]);
    let source = rig.scratch("source-demo-2.0");
    let source = source.to_str().expect("UTF-8");
    for (arguments, would) in [
        (["select", "demo"].as_slice(), "would be generation 1 -> 2"),
        (&["unselect", "demo"], "would be generation 1 -> 2"),
        (&["undo"], "would be generation 1 -> 2"),
        (&["restore", "0"], "would be generation 1 -> 2"),
        (&["apply", "/dev/null"], "would be generation 1 -> 2"),
        (&["remove", "demo@2.0"], "would remove demo@2.0"),
        (&["add", source, "--name", "more", "--version", "1.0"], "would add "),
        (&["umount"], "would unmount "),
    ] {
        let said = rig.ok([["-n"].as_slice(), arguments].concat());
        assert!(said.contains(would), "{arguments:?}: {said}");
    }
    assert_eq!(rig.status()["generation"], 1);
    assert_eq!(rig.status()["releases"], 2);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
}

/// A file system of its own, unmounted at the end.
struct Disk(tempfile::TempDir);

impl Disk {
    /// An empty one of [`DISK_LEN`]; `None`, with the reason printed, where none can be had.
    fn small(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED {test}: only root can mount a small disk");
            return None;
        }
        let place = tempfile::Builder::new().prefix("dynfs-disk-").tempdir().expect("a place");
        let size = format!("size={DISK_LEN},mode=755");
        let mounted = mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], place.path());
        if !mounted.status.success() {
            println!("SKIPPED {test}: no small disk: {}", words(&mounted));
            return None;
        }
        Some(Self(place))
    }

    /// The same once more, mounted above it.
    fn above(&self) -> Above {
        let place = self.0.path();
        let mounted = mount(&["--bind", place.to_str().expect("UTF-8")], place);
        assert!(mounted.status.success(), "{}", words(&mounted));
        Above(place.to_owned())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Leaves no free byte.
    fn fill(&self) {
        let mut filler = fs::File::create(self.at("filler")).expect("ours");
        let full = std::iter::repeat_with(|| filler.write_all(&[0; PIECE]))
            .take(2 * DISK_LEN / PIECE)
            .find_map(Result::err);
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    }

    fn free(&self) {
        fs::remove_file(self.at("filler")).expect("ours");
    }
}

/// A rig whose store is on a small disk, not yet mounted.
fn on_small_disk(test: &str) -> Option<(Disk, Rig)> {
    let disk = Disk::small(test)?;
    let rig = Rig::new(test, &[])?;
    fs::create_dir(disk.at("store")).expect("ours");
    symlink(disk.at("store"), rig.store()).expect("ours");
    Some((disk, rig))
}

/// Goes before what it is above.
struct Above(PathBuf);

impl Drop for Above {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

fn mount(arguments: &[&str], place: &Path) -> Output {
    Command::new("mount").args(arguments).arg(place).output().expect("mount starts")
}

/// What a full disk leaves is the old state, whole, and it goes on when there is room again.
fn full_disk(rig: &Rig, disk: &Disk, shown: impl Fn() -> Option<String>) {
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    rig.ok(["select", "demo@1.0"]);
    rig.ok(["select", "demo@2.0"]);
    let source = rig.scratch("source-huge");
    fs::create_dir(&source).expect("ours");
    for (index, piece) in large().chunks(LARGE / 30).enumerate() {
        let bytes: Vec<u8> = piece.iter().cycle().take(DISK_LEN / 20).copied().collect();
        fs::write(source.join(index.to_string()), bytes).expect("ours");
    }
    let source = source.to_str().expect("UTF-8").to_owned();
    let add = ["add", &source, "--name", "huge", "--version", "1.0"];
    let full = ["No space left on device", "free some space"];
    fails(rig, &add, 1, &full);
    disk.fill();
    let before = [rig.ok(["list"]), rig.ok(["diff", "0", "2"])];
    for arguments in [["select", "demo@1.0"].as_slice(), &["undo"], &["restore", "0"], &add] {
        fails(rig, arguments, 1, &full);
        assert_eq!(shown().unwrap_or_else(|| "2.0".to_owned()), "2.0");
    }
    assert_eq!([rig.ok(["list"]), rig.ok(["diff", "0", "2"])], before);
    assert_eq!(findings(rig), NONE);
    disk.free();
    assert!(rig.ok(["undo"]).starts_with("demo  2.0 -> 1.0   generation 2 -> 3 "));
    assert_eq!(shown().unwrap_or_else(|| "1.0".to_owned()), "1.0");
    assert_eq!(findings(rig), NONE);
}

/// A full disk, without a daemon.
#[test]
fn a_full_disk_without_a_mount() {
    const TEST: &str = "a_full_disk_without_a_mount";
    let Some((disk, rig)) = on_small_disk(TEST) else { return };
    full_disk(&rig, &disk, || None);
}

/// A full disk below a mount: what is shown is the old state.
#[test]
fn a_full_disk_below_a_mount() {
    const TEST: &str = "a_full_disk_below_a_mount";
    let Some((disk, rig)) = on_small_disk(TEST) else { return };
    rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8")]);
    println!("MOUNTED {TEST}");
    full_disk(&rig, &disk, || Some(read(&rig.at("lib/demo/share/version"))));
}

/// A store that becomes read-only below a mount goes on being served, whoever dies.
#[test]
fn a_store_that_becomes_read_only() {
    const TEST: &str = "a_store_that_becomes_read_only";
    let Some((disk, rig)) = on_small_disk(TEST) else { return };
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8")]);
    println!("MOUNTED {TEST}");
    rig.ok(["select", "demo@1.0"]);
    // What has a file open for writing is in the way of a change of the mount itself, so another
    // one is put above it; whoever opens anything from now on finds that.
    let place = disk.0.path();
    let _above = disk.above();
    let remounted = mount(&["-o", "remount,bind,ro"], place);
    assert!(remounted.status.success(), "{}", words(&remounted));
    let version = || read(&rig.at("lib/demo/share/version"));
    for role in ["server", "keeper", "server"] {
        let before = rig.pid(role);
        kill(before);
        assert_eq!(version(), "1.0", "{role}");
        wait_until("another one lives", || rig.pid_now(role).is_some_and(|pid| pid != before));
    }
    assert_eq!(version(), "1.0");
    fails(&rig, &["select", "demo@2.0"], 6, &["Read-only file system"]);
    let remounted = mount(&["-o", "remount,bind,rw"], place);
    assert!(remounted.status.success(), "{}", words(&remounted));
    wait_until("it can be changed again", || rig.run(["select", "demo@2.0"]).status.success());
    assert_eq!(version(), "2.0");
}

/// A store on a read-only file system can be read, and says what it is to who wants to write.
#[test]
fn a_read_only_store() {
    const TEST: &str = "a_read_only_store";
    let Some((disk, rig)) = on_small_disk(TEST) else { return };
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    rig.ok(["select", "demo@1.0"]);
    rig.ok(["select", "demo@2.0"]);
    let remounted = mount(&["-o", "remount,ro"], disk.0.path());
    assert!(remounted.status.success(), "{}", words(&remounted));
    for arguments in [
        ["list"].as_slice(),
        &["list", "demo"],
        &["list", "--toml"],
        &["show", "demo"],
        &["status"],
        &["history"],
        &["diff"],
        &["fsck", "--data"],
        &["-n", "select", "demo@1.0"],
        &["-n", "undo"],
    ] {
        rig.ok(arguments);
    }
    let mountpoint = rig.mountpoint();
    let source = rig.scratch("source-demo-1.0");
    let source = source.to_str().expect("UTF-8");
    for arguments in [
        ["select", "demo@1.0"].as_slice(),
        &["unselect", "demo"],
        &["undo"],
        &["restore", "0"],
        &["remove", "demo@1.0"],
        &["add", source, "--name", "more", "--version", "1.0"],
        &["mount", mountpoint.to_str().expect("UTF-8")],
    ] {
        fails(&rig, arguments, 5, &["Read-only file system", "mount its file system for writing"]);
    }
    let remounted = mount(&["-o", "remount,rw"], disk.0.path());
    assert!(remounted.status.success(), "{}", words(&remounted));
    rig.ok(["undo"]);
    assert_eq!(findings(&rig), NONE);
}
