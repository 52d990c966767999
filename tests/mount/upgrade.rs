//! A server is replaced by one of another program, under load, and nobody notices.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;

use crate::rig::{Content, Rig, read};

/// A copy of the program under test, as another version would be.
fn other_program(rig: &Rig, name: &str) -> PathBuf {
    let path = rig.scratch(name);
    fs::copy(env!("CARGO_BIN_EXE_dynfs"), &path).expect("copied");
    path
}

/// What a process runs.
fn program_of(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).expect("it lives")
}

/// The keeper is replaced as well, and a server that dies afterwards is replaced by one of the new
/// program, whose file need not be there any more.
#[test]
fn the_keeper_is_replaced_too() {
    let Some(rig) = Rig::mounted("the_keeper_is_replaced_too") else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let program = other_program(&rig, "other");
    let before = ["keeper", "server"].map(|role| rig.pid(role));
    rig.ok(["reexec", "--exe", program.to_str().expect("UTF-8")]);
    fs::remove_file(&program).expect("ours");
    let server = rig.kill_server();
    rig.wait_for_other_server(server);
    let program = program_of(rig.pid("server"));
    assert!(program.to_string_lossy().contains("/other"), "{}", program.display());
    assert_eq!(rig.pid("keeper"), before[0]);
    rig.ok(["reexec", "--keeper"]);
    let after = ["keeper", "server"].map(|role| rig.pid(role));
    assert!(before.iter().zip(&after).all(|(before, after)| before != after));
    for pid in after {
        assert_eq!(program_of(pid), Path::new(env!("CARGO_BIN_EXE_dynfs")));
    }
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
    let server = rig.kill_server();
    rig.wait_for_other_server(server);
    assert_eq!(rig.pid("keeper"), after[0]);
}

/// A program that cannot serve is dropped, and the server that serves stays.
#[test]
fn what_cannot_serve_is_dropped() {
    let Some(rig) = Rig::mounted("what_cannot_serve_is_dropped") else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let script = rig.scratch("script");
    crate::rig::write(&script, b"#!/bin/sh\nexit 3\n", 0o755);
    let pids = ["keeper", "server"].map(|role| rig.pid(role));
    for (program, words) in [
        (Path::new("/bin/false"), "exit status: 1"),
        (Path::new("/bin/true"), "exit status: 0"),
        (script.as_path(), "it is a script, and must be a program"),
    ] {
        let output = rig.run(["reexec".as_ref(), "--exe".as_ref(), program.as_os_str()]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("nothing was replaced") && errors.contains(words), "{errors}");
        assert_eq!(["keeper", "server"].map(|role| rig.pid(role)), pids);
    }
    let missing = rig.run(["reexec", "--exe", "/no/such/program"]);
    assert_eq!(missing.status.code(), Some(3), "{}", String::from_utf8_lossy(&missing.stderr));
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
}

/// A server whose pages the mount has would have to answer before it can run.
#[test]
fn a_program_below_the_mount_cannot_serve_it() {
    let Some(rig) = Rig::mounted("a_program_below_the_mount_cannot_serve_it") else { return };
    let tool = std::fs::read("/bin/true").expect("coreutils");
    rig.add("tool", "1.0", &[("bin/tool", Content::Program(&tool))]);
    rig.ok(["select", "tool"]);
    let server = rig.pid("server");
    let exe = rig.at("app/tool/bin/tool");
    let output = rig.run(["reexec".as_ref(), "--exe".as_ref(), exe.as_os_str()]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{errors}");
    assert!(errors.contains("is served by dynfs"), "{errors}");
    assert_eq!(rig.pid("server"), server);
}

/// What a server would crash at, a standby crashes at first. It is dropped, and nobody notices.
#[test]
fn what_crashes_in_its_proof_is_dropped() {
    let test = "what_crashes_in_its_proof_is_dropped";
    let scratch = tempfile::tempdir().expect("a place");
    let token = scratch.path().join("token");
    let crash = format!("proving:{}", token.display());
    let Some(rig) = Rig::mounted_with(test, &[("DYNFS_TEST_CRASH", &crash)]) else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let path = rig.at("lib/demo/share/version");
    let pids = ["keeper", "server"].map(|role| rig.pid(role));
    fs::write(&token, "").expect("ours");
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| rig.run(["reexec"]));
        while !upgrade.is_finished() {
            let other = rig.at("lib/never-seen");
            assert_eq!(read(&path), "1.0");
            assert_eq!(fs::metadata(other).expect_err("a miss").kind(), ErrorKind::NotFound);
        }
        let output = upgrade.join().expect("it ends");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let words = ["nothing was replaced", "the new server cannot serve"];
        assert!(words.iter().all(|words| errors.contains(words)), "{errors}");
    });
    assert!(!token.exists(), "it has read no file");
    assert_eq!(["keeper", "server"].map(|role| rig.pid(role)), pids);
    assert_eq!(rig.status()["restarts"], 0);
    // The next one proves itself.
    rig.ok(["reexec"]);
    assert_ne!(rig.pid("server"), pids[1]);
    assert_eq!(read(&path), "1.0");
}

/// The last resort: whoever waits gets an error, and the place is free for another mount.
#[test]
fn an_abort_ends_what_waits() {
    let Some(rig) = Rig::new("an_abort_ends_what_waits", &[]) else { return };
    let place = rig.mountpoint();
    let place = place.to_str().expect("UTF-8");
    rig.ok(["mount", place, "--watchdog", "0"]);
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let refused = rig.run(["abort"]);
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    let pids = ["keeper", "server"].map(|role| rig.pid(role));
    let path = rig.at("lib/demo/share/version");
    crate::rig::stop(&pids);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| fs::read(&path));
        thread::sleep(std::time::Duration::from_millis(100));
        let output = rig.run(["-y", "abort"]);
        // Whatever became of it, nobody waits for ever.
        crate::rig::end_together(&pids);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        waiting.join().expect("it ends").expect_err("an error is better than a hang");
    });
    println!("MOUNTED an_abort_ends_what_waits");
    rig.ok(["mount", place]);
    assert_eq!(read(&path), "1.0");
    // Nobody is in it now.
    rig.ok(["-y", "abort"]);
    rig.ok(["mount", place]);
    assert_eq!(read(&path), "1.0");
}
