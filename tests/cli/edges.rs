//! What a transcript cannot say: locks, users, pipes, colours.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use dynfs::control;
use dynfs::engine::{Caller, Engine, Unmounted};
use dynfs::protocol::{Answer, Call, LINE_LEN_MAX, LiveStatus, Wire};
use store_fs::{OsDisk, Store};

use super::stage::Stage;

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_writer_is_refused_with_the_pid_of_the_first() {
    let stage = Stage::new();
    stage.add_packages();
    let store = Store::open(OsDisk::open(&stage.path("store")).unwrap()).unwrap();
    let writer = store.writer().unwrap();
    let refused = stage.run(&["select", "xz"]);
    assert_eq!(code(&refused), 6, "{}", error(&refused));
    let pid = std::process::id().to_string();
    assert!(error(&refused).contains(&format!("process {pid} ")), "{}", error(&refused));
    // Reading, and asking what would happen, need no lock.
    stage.ok(&["list"]);
    stage.ok(&["-n", "select", "xz"]);
    drop(writer);
    stage.ok(&["select", "xz"]);
}

#[test]
fn a_socket_that_nobody_serves_is_no_obstacle() {
    let stage = Stage::new();
    stage.add_packages();
    std::fs::create_dir(stage.path("store/run")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(stage.path("store/run/control")).unwrap());
    stage.ok(&["select", "xz"]);
    assert!(stage.ok(&["status"]).contains("not mounted"));
}

#[test]
fn a_store_of_another_user_is_read_and_not_written() {
    if !rustix::process::geteuid().is_root() {
        return println!("SKIPPED: only root can become another user");
    }
    let stage = Stage::new();
    stage.add_packages();
    stage.ok(&["select", "xz@5.2"]);
    let nobody =
        |arguments: &[&str]| stage.command(arguments).uid(65_534).gid(65_534).output().unwrap();
    for arguments in [["list"].as_slice(), &["history"], &["show", "xz"], &["fsck"], &["status"]] {
        let output = nobody(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", error(&output));
    }
    stage.file("more/bin/more", "more", 0o755);
    for arguments in [
        ["select", "xz@5.8"].as_slice(),
        &["undo"],
        &["remove", "zlib"],
        &["add", "more", "--name", "more", "--version", "1"],
    ] {
        let output = nobody(arguments);
        assert_eq!(code(&output), 5, "{arguments:?}: {}", error(&output));
        assert!(error(&output).contains("hint: "), "{}", error(&output));
    }
    assert!(stage.ok(&["history"]).starts_with("@  1 "));
}

/// Every file and directory below one, and when it was last changed.
fn everything(below: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![below.to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(seen) = std::fs::symlink_metadata(&path) else { continue };
        if seen.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        }
        found.insert(path, (seen.ino(), seen.ctime(), seen.ctime_nsec()));
    }
    found
}

/// Also where the index was lost, which a writer would make anew.
#[test]
fn who_only_reads_writes_nothing() {
    let stage = Stage::new();
    stage.add_packages();
    stage.ok(&["select", "xz@5.2"]);
    std::fs::remove_file(stage.path("store/index.redb")).unwrap();
    let before = everything(&stage.path("store"));
    for arguments in [
        ["list"].as_slice(),
        &["show", "xz"],
        &["history"],
        &["diff"],
        &["status"],
        &["fsck", "--data"],
        &["-n", "select", "xz@5.8"],
        &["-n", "undo"],
        &["-n", "remove", "zlib"],
        &["-n", "mount", "mountpoint"],
        &["-n", "add", "xz-5.8.1", "--name", "new", "--version", "1"],
    ] {
        stage.run(arguments);
        assert_eq!(everything(&stage.path("store")), before, "{arguments:?}");
    }
    assert!(stage.ok(&["status"]).contains("2 packages"));
    stage.ok(&["select", "xz@5.8"]);
    assert!(stage.path("store/index.redb").exists());
}

/// Runs a command in a shell that did something to itself before.
fn after(stage: &Stage, preparation: &str, arguments: &[&str]) -> Output {
    let command = stage.command(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{preparation}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(stage.path("")).output().unwrap()
}

#[test]
fn a_store_can_be_read_by_everybody_whatever_the_umask_was() {
    let stage = Stage::new();
    stage.file("xz/bin/xz", "xz", 0o755);
    let add = ["--store", "a/b/store", "add", "xz", "--name", "xz", "--version", "1"];
    let output = after(&stage, "umask 077", &add);
    assert_eq!(code(&output), 0, "{}", error(&output));
    let mut waiting = vec![stage.path("a")];
    let mut seen = 0;
    while let Some(directory) = waiting.pop() {
        let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "{}", directory.display());
        let entries = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        waiting.extend(entries.filter(|path| path.is_dir()));
        seen += 1;
    }
    assert!(seen > 10, "{seen} directories");
}

#[test]
fn too_many_open_files_are_told_from_missing_permission() {
    let stage = Stage::new();
    let deep: Vec<String> = (0..40).map(|depth| depth.to_string()).collect();
    stage.file(&format!("deep/{}/file", deep.join("/")), "x", 0o644);
    let add = ["add", "deep", "--name", "deep", "--version", "1"];
    let output = after(&stage, "ulimit -n 32", &add);
    assert_eq!(code(&output), 1, "{}", error(&output));
    assert!(error(&output).contains("(os error 24)"), "{}", error(&output));
    assert!(
        error(&output).contains("hint: raise the limit on open files with ulimit -n"),
        "{}",
        error(&output)
    );
    stage.ok(&add);
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let stage = Stage::new();
    stage.add_packages();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = stage.command(&["list"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", error(&output));
    assert_eq!(error(&output), "");
}

#[test]
fn colours_are_shown_when_asked_for_and_never_otherwise() {
    let stage = Stage::new();
    let plain = stage.run(&["list"]);
    assert!(!error(&plain).contains('\u{1b}'), "not a terminal");
    let coloured = stage.run(&["--color", "always", "list"]);
    assert!(error(&coloured).contains('\u{1b}'));
    let no_color = stage.command(&["list"]).env("NO_COLOR", "1").output().unwrap();
    assert!(!error(&no_color).contains('\u{1b}'));
}

#[test]
fn completions_name_every_command() {
    let stage = Stage::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = stage.ok(&["completions", shell]);
        for command in ["select", "unselect", "which", "umount", "completions"] {
            assert!(script.contains(command), "{shell} {command}");
        }
    }
}

#[test]
fn an_argument_that_is_not_text_is_a_usage_error() {
    use std::os::unix::ffi::OsStrExt;
    let stage = Stage::new();
    let argument = std::ffi::OsStr::from_bytes(b"\xff");
    let output = stage.command(&["show"]).arg(argument).output().unwrap();
    assert_eq!(code(&output), 2, "{}", error(&output));
}

/// A served store: as a daemon without a mount would.
fn served(stage: &Stage, lost: usize, body: impl FnOnce()) {
    let root = stage.path("store").canonicalize().unwrap();
    let store = Arc::new(Store::open(OsDisk::open(&root).unwrap()).unwrap());
    let writer = store.writer().unwrap();
    let host = dynfs::host::arch();
    let engine = Arc::new(Engine::open(store, writer, Box::new(Unmounted), host).unwrap());
    let listener = control::bind(&root).unwrap();
    let service = control::Control {
        engine: Arc::clone(&engine).into(),
        live: Arc::new(|| LiveStatus {
            keeper_pid: Some(11),
            server_pid: 12,
            ..LiveStatus::default()
        }),
        held: Arc::new(|inodes| vec![None; inodes.len()]),
        owner: control::owner_of(&root).unwrap(),
        unmount: None,
        reexec: None,
    };
    let (stop, stopper) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            for _ in 0..lost {
                lose(&listener, &engine);
            }
            control::serve(&listener, &service, stop.as_fd())
        });
        // Closed also when the body panics, so that the server ends.
        let stopper = stopper;
        body();
        drop(stopper);
        server.join().unwrap().unwrap();
    });
}

/// Serves one connection up to its edit, carries that out, and dies before the answer.
fn lose(listener: &UnixListener, engine: &Engine<OsDisk>) {
    let mut wire = Wire::new(listener.accept().unwrap().0);
    while let Ok(Some(call)) = wire.receive::<Call>(LINE_LEN_MAX) {
        match call {
            Call::Hello { protocol } => wire.send(&Answer::Hello { protocol }).unwrap(),
            Call::Edit { request, again, edit } => {
                let at = dynfs::host::now();
                let by = Caller { uid: 0, request: Some(request), again, at };
                engine.edit(&edit, &by).unwrap();
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn with_a_daemon_changes_go_through_its_socket() {
    let stage = Stage::new();
    stage.add_packages();
    served(&stage, 0, || {
        // The daemon holds the lock, so that only it can have done this.
        stage.ok(&["select", "xz@5.2"]);
        stage.file("more/bin/more", "more", 0o755);
        stage.ok(&["add", "more", "--name", "more", "--version", "1"]);
        stage.ok(&["remove", "more"]);
        assert_eq!(code(&stage.run(&["select", "nothing"])), 3);
        let status = stage.ok(&["status"]);
        assert!(status.contains("keeper 11, server 12"), "{status}");
    });
    assert!(stage.ok(&["history"]).starts_with("@  1 "));
}

#[test]
fn a_change_whose_answer_was_lost_is_made_once() {
    let stage = Stage::new();
    stage.add_packages();
    served(&stage, 1, || {
        let line = stage.ok(&["select", "xz@5.2"]);
        assert!(line.starts_with("xz  none -> 5.2.5   generation 0 -> 1 "), "{line}");
    });
    assert_eq!(stage.ok(&["history"]).lines().count(), 1);
}
