//! Collecting garbage below a mount that is in use.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde_json::Value;

use crate::rig::{Content, Rig, on_path, read, wait_until};

/// Keeps nothing but the newest generation.
const HARD: [&str; 5] = ["gc", "--keep", "1", "--keep-since", "0"];

fn gc(rig: &Rig) -> Value {
    let json = rig.ok([&["--json"], HARD.as_slice()].concat());
    serde_json::from_str(&json).expect("JSON")
}

/// What stays, as kind, name and reason, when `process` is among those who use it.
fn stays(outcome: &Value, process: u32) -> BTreeSet<(String, String)> {
    let stays = outcome["stays"].as_array().expect("a list").iter();
    let uses = |stay: &&Value| {
        let mut processes = stay["processes"].as_array().expect("a list").iter();
        processes.any(|one| one["pid"] == process)
    };
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    stays.filter(uses).map(|stay| (text(&stay["kind"]), text(&stay["name"]))).collect()
}

fn objects(rig: &Rig) -> usize {
    let shards = fs::read_dir(rig.store().join("objects")).expect("there");
    shards.map(|shard| fs::read_dir(shard.expect("listed").path()).expect("there").count()).sum()
}

fn trash(rig: &Rig) -> usize {
    fs::read_dir(rig.store().join("trash")).expect("there").count()
}

/// A mount with two releases of `demo`, of which the older one was selected first.
fn swapped(test: &str, between: impl FnOnce(&Rig) -> Child) -> Option<(Rig, Child)> {
    let rig = Rig::mounted(test)?;
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    rig.ok(["select", "demo@1.0"]);
    let child = between(&rig);
    rig.ok(["select", "demo@2.0"]);
    Some((rig, child))
}

/// A child that waits for its standard input to end.
fn waits(command: &mut Command) -> Child {
    // It ends with its input, so also when a test fails.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts")
}

/// Collects twice, and once more when the child has ended: the old object stays, then goes.
fn outlives(rig: &Rig, mut child: Child, look: impl Fn(&mut Child)) {
    let (pid, old) = (child.id(), ("release".to_owned(), "demo@1.0".to_owned()));
    for _ in 0..2 {
        let outcome = gc(rig);
        assert_eq!(stays(&outcome, pid), BTreeSet::from([old.clone()]), "{outcome}");
        assert_eq!((objects(rig), trash(rig)), (2, 0), "{outcome}");
    }
    // Also when no name is left.
    rig.ok(["remove", "demo@1.0"]);
    for _ in 0..2 {
        let outcome = gc(rig);
        let kinds: Vec<String> = stays(&outcome, pid).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!((kinds, objects(rig), trash(rig)), (vec!["object".into()], 2, 0), "{outcome}");
    }
    look(&mut child);
    drop(child.stdin.take());
    child.wait().expect("it ends");
    let outcome = gc(rig);
    assert_eq!(outcome["trashed"]["objects"].as_array().map(Vec::len), Some(1), "{outcome}");
    let outcome = gc(rig);
    assert_eq!((&outcome["deleted"]["objects"], objects(rig)), (&1.into(), 1), "{outcome}");
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
    rig.ok(["fsck", "--data"]);
}

/// A running program keeps the library that it has mapped, through any number of collections.
#[test]
fn a_mapped_library_outlives_collections() {
    let test = "a_mapped_library_outlives_collections";
    if !on_path("cc") {
        println!("SKIPPED {test}: there is no C compiler");
        return;
    }
    let Some(rig) = Rig::mounted(test) else { return };
    for version in ["1.0", "2.0"] {
        let (source, library) = (rig.scratch("a.c"), rig.scratch("a.so"));
        let text = format!("const char version[] = \"{version}\";\n");
        fs::write(&source, text).expect("ours");
        let flags = ["-shared", "-fPIC", "-o"];
        let built = Command::new("cc").args(flags).arg(&library).arg(&source).status();
        assert!(built.expect("it starts").success());
        let bytes = fs::read(&library).expect("built");
        rig.add("demo", version, &[("lib/liba.so", Content::File(&bytes))]);
    }
    rig.ok(["select", "demo@1.0"]);
    let path = rig.at("lib/demo/lib/liba.so");
    let path = if path.exists() { path } else { rig.at("app/demo/lib/liba.so") };
    let child = waits(Command::new("cat").env("LD_PRELOAD", &path));
    let maps = PathBuf::from(format!("/proc/{}/maps", child.id()));
    wait_until("the library is mapped", || read(&maps).contains("liba.so"));
    rig.ok(["select", "demo@2.0"]);
    let pid = child.id();
    for _ in 0..2 {
        let outcome = gc(&rig);
        let stays = stays(&outcome, pid);
        assert_eq!(stays, BTreeSet::from([("release".into(), "demo@1.0".into())]), "{outcome}");
        assert_eq!((objects(&rig), trash(&rig)), (2, 0));
    }
    assert!(read(&maps).contains("liba.so"));
    let mut child = child;
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
    let outcome = gc(&rig);
    assert_eq!(outcome["releases"][0]["version"], "1.0", "{outcome}");
    assert_eq!((objects(&rig), trash(&rig)), (2, 1), "{outcome}");
    assert_eq!(gc(&rig)["deleted"]["objects"], 1);
    assert_eq!(objects(&rig), 1);
    rig.ok(["fsck", "--data"]);
}

/// So do a working directory below it, a root, an open file, a program that runs, and the root of
/// a bind mount.
#[test]
fn a_working_directory_keeps_its_release() {
    let test = "a_working_directory_keeps_its_release";
    let stand = |rig: &Rig| {
        waits(
            Command::new("sh")
                .args(["-c", "read _; cat version"])
                .current_dir(rig.at("lib/demo/share")),
        )
    };
    let Some((rig, child)) = swapped(test, stand) else { return };
    outlives(&rig, child, |child| {
        drop(child.stdin.take());
        let mut text = String::new();
        child.stdout.take().expect("piped").read_to_string(&mut text).expect("read");
        assert_eq!(text, "1.0", "and can use it");
    });
}

/// Who looks at all processes never asks the mount, so a daemon that is dead cannot stop it.
#[test]
fn looking_at_processes_asks_the_mount_nothing() {
    let test = "looking_at_processes_asks_the_mount_nothing";
    let hold = |rig: &Rig| {
        let file = File::open(rig.at("lib/demo/share/version")).expect("there");
        waits(Command::new("cat").stderr(file).current_dir(rig.at("lib/demo/share")))
    };
    let Some((rig, mut child)) = swapped(test, hold) else { return };
    let before = rig.requests();
    let rehearsed = rig.ok(["-n", "--json", "gc", "--keep", "1", "--keep-since", "0"]);
    assert!(rehearsed.contains("demo@1.0"), "{rehearsed}");
    assert_eq!(rig.requests(), before);
    drop(child.stdin.take());
    child.wait().expect("it ends");
}

#[test]
fn an_open_file_keeps_its_release() {
    let open = |rig: &Rig| {
        let file = File::open(rig.at("lib/demo/share/version")).expect("there");
        // Open in the child alone, as its standard error.
        waits(Command::new("cat").stderr(file))
    };
    let Some((rig, child)) = swapped("an_open_file_keeps_its_release", open) else { return };
    outlives(&rig, child, |child| {
        let path = format!("/proc/{}/fd/2", child.id());
        assert_eq!(read(Path::new(&path)), "1.0");
    });
}

#[test]
fn a_bind_mount_keeps_its_release() {
    let test = "a_bind_mount_keeps_its_release";
    if !can_unshare(test) {
        return;
    }
    let bind = |rig: &Rig| {
        let place = rig.scratch("bound");
        fs::create_dir(&place).expect("ours");
        let script = "mount --bind \"$1\" \"$2\"; echo ready; read _ || exit 0";
        let mut child = in_namespace(script, &[&rig.at("lib/demo"), &place]);
        ready(&mut child);
        child
    };
    let Some((rig, mut child)) = swapped(test, bind) else { return };
    let seen = format!("/proc/{}/root{}", child.id(), rig.scratch("bound").display());
    for _ in 0..2 {
        let outcome = gc(&rig);
        assert_eq!(objects(&rig), 2, "{outcome}");
        assert_eq!(outcome["stays"][0]["name"], "demo@1.0", "{outcome}");
        assert_eq!(read(&Path::new(&seen).join("share/version")), "1.0");
    }
    drop(child.stdin.take());
    child.wait().expect("it ends");
    gc(&rig);
    assert_eq!(trash(&rig), 1);
}

/// Also one inside another mount of the store, to which only the kernel's caches lead.
#[test]
fn a_bind_mount_inside_the_mount_keeps_its_release() {
    let test = "a_bind_mount_inside_the_mount_keeps_its_release";
    if !can_unshare(test) {
        return;
    }
    let bind = |rig: &Rig| {
        // Of another content, which would keep the object.
        rig.add_plain("other", "7.0");
        rig.ok(["select", "other"]);
        let script = "mount --bind \"$1\" \"$2\"; echo ready; read _ || exit 0";
        let mut child = in_namespace(script, &[&rig.at("lib/demo@1.0"), &rig.at("lib/other")]);
        ready(&mut child);
        child
    };
    let Some((rig, child)) = swapped(test, bind) else { return };
    let seen = format!("/proc/{}/root{}", child.id(), rig.at("lib/other").display());
    stays_mounted(&rig, child, &Path::new(&seen).join("share/version"));
}

/// While something is mounted over one, nobody knows what is beneath, and nothing goes at all; but
/// for a tree whose name says it.
#[test]
fn nothing_goes_while_a_mount_cannot_be_seen() {
    let test = "nothing_goes_while_a_mount_cannot_be_seen";
    if !can_unshare(test) {
        return;
    }
    let bind = |rig: &Rig| {
        let place = rig.scratch("bound");
        fs::create_dir(&place).expect("ours");
        let script = "mount --bind \"$1\" \"$2\"; mount -t tmpfs none \"$2\"; echo ready
            read _; umount \"$2\"; echo ready; read _ || exit 0";
        let mut child = in_namespace(script, &[&rig.at("lib/demo@1.0"), &place]);
        ready(&mut child);
        child
    };
    let Some((rig, mut child)) = swapped(test, bind) else { return };
    let place = rig.scratch("bound");
    for arguments in [&HARD[..], &["-n", "gc"], &HARD, &HARD] {
        let output = rig.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {error}");
        let words = ["the mount namespace of process", "so nothing can go", "nsenter --mount"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert!(error.contains(place.to_str().expect("UTF-8")), "{error}");
        assert_eq!((objects(&rig), trash(&rig)), (2, 0));
        assert!(rig.at(".generations/1").exists());
    }
    let seen = format!("/proc/{}/root{}", child.id(), place.display());
    std::io::Write::write_all(child.stdin.as_mut().expect("piped"), b"\n").expect("it reads");
    let mut line = [0; 6];
    child.stdout.as_mut().expect("piped").read_exact(&mut line).expect("it is ready");
    stays_mounted(&rig, child, &Path::new(&seen).join("share/version"));
}

/// A release that only a mount needs stays and can be read, until that is gone.
fn stays_mounted(rig: &Rig, mut child: Child, file: &Path) {
    for _ in 0..3 {
        let outcome = gc(rig);
        let stays = outcome["stays"].as_array().expect("a list");
        assert!(stays.iter().any(|stay| stay["name"] == "demo@1.0"), "{outcome}");
        assert_eq!(trash(rig), 0, "{outcome}");
        assert_eq!(read(file), "1.0");
    }
    drop(child.stdin.take());
    child.wait().expect("it ends");
    let outcome = gc(rig);
    assert_eq!(trash(rig), 1, "{outcome}");
}

/// A process keeps what it has as its root, also when it has nothing else of it.
#[test]
fn a_root_keeps_its_release() {
    let test = "a_root_keeps_its_release";
    if !can_unshare(test) {
        return;
    }
    if !on_path("perl") {
        println!("SKIPPED {test}: there is no perl, which can change its root and go on");
        return;
    }
    let change_root = |rig: &Rig| {
        // Its program and its libraries are outside, and so is its working directory.
        let script = "chroot($ARGV[0]) or die; syswrite(STDOUT, 'ready'); <STDIN>";
        let mut command = Command::new("perl");
        let mut child = waits(command.args(["-e", script]).arg(rig.at("lib/demo")));
        ready(&mut child);
        child
    };
    let Some((rig, child)) = swapped(test, change_root) else { return };
    outlives(&rig, child, |child| {
        let process = Path::new("/proc").join(child.id().to_string());
        let path = process.join("root").join("share/version");
        assert_eq!(read(&path), "1.0");
    });
}

/// A frozen tree that is mounted somewhere keeps its generation, and what was put into it; undo
/// does not lead there.
#[test]
fn a_frozen_tree_in_use_keeps_its_generation() {
    let test = "a_frozen_tree_in_use_keeps_its_generation";
    if !can_unshare(test) {
        return;
    }
    let Some(rig) = Rig::mounted(test) else { return };
    for version in ["1.0", "2.0", "3.0", "4.0"] {
        rig.add_plain("demo", version);
    }
    rig.add_plain("other", "7.0");
    rig.ok(["select", "demo@1.0"]);
    let place = rig.scratch("bound");
    fs::create_dir(&place).expect("ours");
    let script = "mount --bind \"$1\" \"$2\"; echo ready; read _ || exit 0";
    let mut child = in_namespace(script, &[&rig.at(".generations/1;other@7.0"), &place]);
    ready(&mut child);
    for version in ["2.0", "3.0", "4.0"] {
        rig.ok(["select", &format!("demo@{version}")]);
    }
    let seen = PathBuf::from(format!("/proc/{}/root{}", child.id(), place.display()));
    for _ in 0..2 {
        let outcome = gc(&rig);
        let kept: Vec<&Value> = outcome["stays"].as_array().expect("a list").iter().collect();
        let names: Vec<&str> =
            kept.iter().map(|stay| stay["name"].as_str().expect("text")).collect();
        assert_eq!(names, ["1", "other@7.0"], "{outcome}");
        assert_eq!(read(&seen.join("lib/demo/share/version")), "1.0");
        assert_eq!(read(&seen.join("lib/other/share/version")), "7.0");
    }
    assert_eq!(objects(&rig), 3);
    assert_eq!(rig.run(["undo"]).status.code(), Some(4), "there is nothing between 1 and 4");
    assert!(!rig.at(".generations/2").exists());
    drop(child.stdin.take());
    child.wait().expect("it ends");
    gc(&rig);
    assert!(!rig.at(".generations/1").exists(), "and it goes with its last user");
    gc(&rig);
    assert_eq!(objects(&rig), 1);
    rig.ok(["fsck", "--data"]);
}

/// What is in the trash is served, and is out of it as soon as anybody asks: here through a file
/// that no process held when it was looked for.
#[test]
fn the_trash_is_served_and_gives_back_what_is_asked_for() {
    let test = "the_trash_is_served_and_gives_back_what_is_asked_for";
    let Some(rig) = Rig::mounted(test) else { return };
    let content = b"never read before ".repeat(30_000);
    rig.add("demo", "1.0", &[("share/long", Content::File(&content))]);
    rig.add("demo", "2.0", &[("share/long", Content::File(b"short"))]);
    rig.ok(["select", "demo@1.0"]);
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    {
        let file = File::open(rig.at("app/demo/share/long")).expect("there");
        send(&ours, &file);
    }
    rig.ok(["select", "demo@2.0"]);
    gc(&rig);
    assert_eq!((objects(&rig), trash(&rig)), (2, 1));
    let mut file = File::from(receive(&theirs));
    let mut found = Vec::new();
    file.read_to_end(&mut found).expect("it is served from the trash");
    assert!(found == content);
    assert_eq!(trash(&rig), 0, "it was asked for");
    gc(&rig);
    assert_eq!((objects(&rig), trash(&rig)), (2, 0), "and is seen now");
    drop(file);
    // A process that another test starts has a copy of the descriptor until it runs its program.
    wait_until("nobody uses it", || {
        gc(&rig);
        trash(&rig) == 1
    });
    // An addition brings it back, too.
    let source = rig.scratch("source-demo-1.0");
    let source = source.to_str().expect("UTF-8");
    rig.ok(["add", source, "--name", "demo", "--version", "1.0"]);
    assert_eq!(trash(&rig), 0);
    rig.ok(["select", "demo@1.0"]);
    assert!(fs::read(rig.at("app/demo/share/long")).expect("there") == content);
    rig.ok(["fsck", "--data"]);
}

/// Names that went are gone below the mount at once, and everything that is kept goes on.
#[test]
fn names_that_were_collected_are_gone() {
    let Some(rig) = Rig::mounted("names_that_were_collected_are_gone") else { return };
    for version in ["1.0", "2.0", "3.0"] {
        rig.add_plain("demo", version);
        rig.ok(["select", &format!("demo@{version}")]);
    }
    rig.add_plain("other", "1.0");
    for path in ["lib/demo@1.0", "lib/other@1.0", ".generations/1", ".generations/1;demo@2.0"] {
        assert!(rig.at(path).exists(), "{path}");
    }
    let rehearsed = rig.ok([&["-n", "--json"], HARD.as_slice()].concat());
    let rehearsed: Value = serde_json::from_str(&rehearsed).expect("JSON");
    assert!(rig.at("lib/demo@1.0").exists(), "a rehearsal changes nothing");
    let outcome = gc(&rig);
    for part in ["generations", "releases", "deleted", "stays"] {
        assert_eq!(rehearsed[part], outcome[part], "{part}");
    }
    for path in ["lib/demo@1.0", "lib/other@1.0", ".generations/1", ".generations/1;demo@2.0"] {
        assert!(!rig.at(path).exists(), "{path}");
    }
    assert_eq!(read(&rig.at("lib/demo/share/version")), "3.0");
    assert_eq!(read(&rig.at(".generations/3/lib/demo/share/version")), "3.0");
    let kept = rig.kill_server();
    rig.wait_for_other_server(kept);
    assert!(!rig.at("lib/demo@1.0").exists() && !rig.at(".generations/1").exists());
}

/// Readers see no error and no select waits while garbage is collected again and again.
#[test]
fn collecting_under_a_selector_and_readers() {
    let test = "collecting_under_a_selector_and_readers";
    let Some(rig) = Rig::mounted(test) else { return };
    for version in ["1.0", "2.0"] {
        rig.add_plain("demo", version);
    }
    rig.ok(["select", "demo@1.0"]);
    rig.ok(["select", "demo@2.0"]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let text = read(&rig.at("lib/demo/share/version"));
                    assert!(text == "1.0" || text == "2.0", "{text}");
                }
            });
        }
        scope.spawn(|| {
            for round in 0..200 {
                rig.ok(["select", &format!("demo@{}.0", round % 2 + 1)]);
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut rounds = 0;
        while !done.load(Ordering::Relaxed) {
            // Two, so that each of the two releases is always in one of them.
            rig.ok(["gc", "--keep", "2", "--keep-since", "0"]);
            rounds += 1;
        }
        assert!(rounds > 3, "{rounds}");
    });
    assert_eq!((objects(&rig), trash(&rig)), (2, 0));
    rig.ok(["fsck", "--data"]);
}

/// A collection may be killed at any moment; the next one does the rest.
#[test]
fn a_collection_killed_at_any_moment() {
    const KILLS: u32 = 20;
    let Some(rig) = Rig::mounted("a_collection_killed_at_any_moment") else { return };
    for round in 0..KILLS {
        let version = format!("{round}.0");
        let large = format!("{round}").repeat(100_000).into_bytes();
        let own = format!("{round}");
        let files =
            [("share/a", Content::File(&large)), ("share/version", Content::File(own.as_bytes()))];
        rig.add("demo", &version, &files);
        rig.ok(["select", &format!("demo@={version}")]);
        let mut command = rig.command(HARD);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ours");
        std::thread::sleep(Duration::from_millis(u64::from(round * 7 % 40)));
        // Every second time together with the server.
        let server = (round % 2 == 1).then(|| rig.kill_server());
        child.kill().expect("ours");
        child.wait().expect("it ends");
        if let Some(server) = server {
            rig.wait_for_other_server(server);
        }
        assert_eq!(read(&rig.at("app/demo/share/version")), own);
        assert!(fs::read(rig.at("app/demo/share/a")).expect("there") == large);
        rig.ok(["fsck", "--data"]);
    }
    (0..3).for_each(|_| drop(gc(&rig)));
    assert_eq!((objects(&rig), trash(&rig)), (1, 0));
    rig.ok(["fsck", "--data"]);
}

/// What is added while garbage is collected is there, whole.
#[test]
fn additions_beside_collections() {
    let Some(rig) = Rig::mounted("additions_beside_collections") else { return };
    rig.add_plain("kept", "1.0");
    rig.ok(["select", "kept"]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let output = rig.run(HARD);
                let code = output.status.code();
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(matches!(code, Some(0 | 6)), "{code:?}: {error}");
            }
        });
        for round in 0..30 {
            // The same content comes again and again, and was garbage each time.
            let files = [("share/same", Content::File(b"same")), ("share/x", Content::File(b"x"))];
            let own = format!("{round}");
            let own = [("share/own", Content::File(own.as_bytes()))];
            let files: Vec<_> = files.into_iter().chain(own).collect();
            let name = format!("demo{round}");
            rig.add(&name, "1.0", &files);
            // Its record may have been collected since, but never its content alone.
            let selected = rig.run(["select", &name]);
            match selected.status.code() {
                Some(0) => {
                    assert_eq!(read(&rig.at(&format!("app/{name}/share/same"))), "same");
                }
                code => assert_eq!(code, Some(3), "{}", String::from_utf8_lossy(&selected.stderr)),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    rig.ok(["fsck", "--data"]);
}

fn can_unshare(test: &str) -> bool {
    let can = Command::new("unshare").args(["--mount", "true"]).output();
    if can.is_ok_and(|output| output.status.success()) {
        return true;
    }
    println!("SKIPPED {test}: no mount namespace can be made");
    false
}

/// A shell in a mount namespace of its own, with paths as `$1`, `$2`.
fn in_namespace(script: &str, paths: &[&Path]) -> Child {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]).args(paths);
    waits(&mut command)
}

fn ready(child: &mut Child) {
    let mut word = [0; 5];
    let output = child.stdout.as_mut().expect("piped");
    output.read_exact(&mut word).expect("it is ready");
}

fn send(socket: &UnixStream, file: &File) {
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    assert!(message.push(SendAncillaryMessage::ScmRights(&files)));
    sendmsg(socket, &[IoSlice::new(b"x")], &mut message, SendFlags::empty()).expect("sent");
}

fn receive(socket: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let bytes = &mut [IoSliceMut::new(&mut byte)];
    recvmsg(socket, bytes, &mut message, RecvFlags::CMSG_CLOEXEC).expect("received");
    let mut files = message.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    files.next().and_then(|mut files| files.next()).expect("a file")
}
