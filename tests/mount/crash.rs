//! The server may die at any moment, and no program notices.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::rig::{Rig, end_together, forget, read, send, wait_until};

/// Request counters survive a restart of the server, and inode numbers mean what they meant.
#[test]
fn what_survives_a_server() {
    let Some(rig) = Rig::mounted("what_survives_a_server") else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let path = rig.at("lib/demo/share/version");
    let inode = fs::metadata(&path).expect("there").ino();
    let directory = fs::metadata(rig.at("lib/demo/share")).expect("there").ino();
    let lookups = rig.requests()["lookup"];
    assert!(lookups > 0);
    let pid = rig.kill_server();
    rig.wait_for_other_server(pid);
    assert!(rig.requests()["lookup"] >= lookups);
    assert_eq!(fs::metadata(&path).expect("there").ino(), inode);
    assert_eq!(fs::metadata(rig.at("lib/demo/share")).expect("there").ino(), directory);
    forget(&path).expect("there");
    assert_eq!(read(&path), "1.0");
}

/// A server that dies between show and announce: the select is done, its client learns so, and the
/// next server tells the kernel what the dead one had not.
#[test]
fn killed_between_show_and_answer() {
    for point in ["published", "shown", "announced"] {
        let scratch = tempfile::tempdir().expect("a place");
        let token = scratch.path().join("token");
        let crash = format!("{point}:{}", token.display());
        let name = format!("killed_between_show_and_answer ({point})");
        let environment = [("DYNFS_TEST_CRASH", crash.as_str())];
        let Some(rig) = Rig::mounted_with(&name, &environment) else { return };
        rig.add_plain("demo", "1.0");
        rig.add_plain("demo", "2.0");
        rig.ok(["select", "demo@1.0"]);
        assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
        assert!(!rig.at(".generations/2").exists(), "a miss is cached");
        let pid = rig.pid("server");
        fs::write(&token, "").expect("ours");
        rig.ok(["select", "demo@2.0"]);
        assert!(!token.exists(), "the server did not crash at {point}");
        assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0", "stale after {point}");
        assert!(rig.at(".generations/2").exists(), "a stale miss after {point}");
        assert_ne!(rig.pid("server"), pid);
        assert_eq!(generations(&rig), 2, "it was done once");
    }
}

/// The same for a command that is another one when it is given twice.
#[test]
fn an_undo_whose_server_is_killed_is_done_once() {
    for point in ["published", "shown", "announced"] {
        let scratch = tempfile::tempdir().expect("a place");
        let token = scratch.path().join("token");
        let crash = format!("{point}:{}", token.display());
        let name = format!("an_undo_whose_server_is_killed_is_done_once ({point})");
        let Some(rig) = Rig::mounted_with(&name, &[("DYNFS_TEST_CRASH", crash.as_str())]) else {
            return;
        };
        three_selects(&rig);
        fs::write(&token, "").expect("ours");
        rig.ok(["undo"]);
        assert!(!token.exists(), "the server did not crash at {point}");
        assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0", "undone once after {point}");
        assert_eq!(generations(&rig), 4, "after {point}");
    }
}

/// The next server hangs before it can say what became of a change: the one after it does.
#[test]
fn a_change_whose_next_server_hangs() {
    let scratch = tempfile::tempdir().expect("a place");
    let [crashes, stops] = ["crashes", "stops"].map(|token| scratch.path().join(token));
    let crash = format!("published:{}", crashes.display());
    let stop = format!("server:{}", stops.display());
    let environment = [("DYNFS_TEST_CRASH", crash.as_str()), ("DYNFS_TEST_STOP", stop.as_str())];
    let Some(rig) = Rig::new("a_change_whose_next_server_hangs", &environment) else { return };
    // Longer than a greeting may take.
    rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8"), "--watchdog", "7"]);
    println!("MOUNTED a_change_whose_next_server_hangs");
    three_selects(&rig);
    for token in [&crashes, &stops] {
        fs::write(token, "").expect("ours");
    }
    rig.ok(["undo"]);
    assert!(!crashes.exists() && !stops.exists(), "one server crashed, the next one stopped");
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
    assert_eq!(generations(&rig), 4, "it was done once");
}

/// Three generations: 1.0, 2.0 and 3.0.
fn three_selects(rig: &Rig) {
    for version in ["1.0", "2.0", "3.0"] {
        rig.add_plain("demo", version);
        rig.ok(["select", &format!("demo@{version}")]);
    }
}

fn generations(rig: &Rig) -> usize {
    let history = rig.ok(["--json", "history"]);
    let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
    history["generations"].as_array().expect("a list").len()
}

/// Killed while its announcing thread waits in the kernel behind an unanswered lookup, a server
/// stays a zombie leader with a living thread, which no wait reports; one that crashed waits for
/// that thread to write its core. The keeper must see either.
#[test]
fn killed_while_announcing_behind_a_lookup() {
    for signal in [Signal::KILL, Signal::ABORT] {
        let scratch = tempfile::tempdir().expect("a place");
        let token = scratch.path().join("token");
        let stall = format!("stalled:{}", token.display());
        let test = format!("killed_while_announcing_behind_a_lookup ({})", signal.as_raw());
        let Some(rig) = Rig::mounted_with(&test, &[("DYNFS_TEST_STALL", stall.as_str())]) else {
            return;
        };
        rig.add_plain("demo", "1.0");
        rig.add_plain("demo", "2.0");
        rig.ok(["select", "demo@1.0"]);
        assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
        fs::write(&token, "").expect("ours");
        let path = rig.at("lib/stalled");
        thread::scope(|scope| {
            // One thread's lookup is never answered by this server ...
            let waiting = scope.spawn(move || path.exists());
            wait_until("the lookup has reached the server", || !token.exists());
            // ... so the announcement of a change in the same directory waits in the kernel.
            let pid = rig.pid("server");
            let_dump(pid);
            let select = scope.spawn(|| rig.ok(["select", "demo@2.0"]));
            wait_until("the announcing thread waits in the kernel", || has_stuck_thread(pid));
            send(pid, signal);
            assert!(!waiting.join().expect("answered"), "the next server answers the lookup");
            select.join().expect("the client learns that it was done");
            let next = rig.kill_server();
            rig.wait_for_other_server(next);
            wait_until("nothing is left of the dead", || {
                [pid, next].iter().all(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
            });
        });
        assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
    }
}

/// Lets a process write a core, of no length where that goes into a file.
fn let_dump(pid: i32) {
    let limit = Rlimit { current: Some(1), ..getrlimit(Resource::Core) };
    prlimit(Pid::from_raw(pid), Resource::Core, limit).expect("its owner may");
}

/// Forgetting a list waits for nothing in the kernel, so what is on its way above it is waited for
/// first: else a lookup that was answered before the change would bring old attributes after it.
#[test]
fn a_list_is_forgotten_behind_a_lookup_above_it() {
    let scratch = tempfile::tempdir().expect("a place");
    let token = scratch.path().join("token");
    let stall = format!("stalled:{}", token.display());
    let environment = [("DYNFS_TEST_STALL", stall.as_str())];
    let Some(rig) = Rig::mounted_with("a_list_is_forgotten_behind_a_lookup_above_it", &environment)
    else {
        return;
    };
    rig.add_plain("demo", "1.0");
    rig.add_plain("other", "1.0");
    rig.ok(["select", "demo"]);
    let links = || fs::metadata(rig.at("lib")).expect("a directory").nlink();
    assert_eq!(links(), 3);
    fs::write(&token, "").expect("ours");
    let path = rig.at("stalled");
    thread::scope(|scope| {
        let waiting = scope.spawn(move || path.exists());
        wait_until("the lookup has reached the server", || !token.exists());
        let pid = rig.pid("server");
        // Nothing in the root changes, but the list and the links of a directory in it.
        let select = scope.spawn(|| rig.ok(["select", "other"]));
        wait_until("the announcing thread waits in the kernel", || has_stuck_thread(pid));
        send(pid, Signal::KILL);
        assert!(!waiting.join().expect("answered"), "the next server answers the lookup");
        select.join().expect("the client learns that it was done");
    });
    assert_eq!(links(), 4);
}

/// A kernel that could not be told of a swap is told of everything by the same command given
/// again, by the next change of anything, and by the next server.
#[test]
fn a_kernel_that_could_not_be_told() {
    for name in ["again", "another change", "the next server"] {
        let scratch = tempfile::tempdir().expect("a place");
        let token = scratch.path().join("token");
        let deaf = format!("kernel:{}", token.display());
        let test = format!("a_kernel_that_could_not_be_told ({name})");
        let Some(rig) = Rig::mounted_with(&test, &[("DYNFS_TEST_DEAF", &deaf)]) else { return };
        rig.add_plain("demo", "1.0");
        rig.add_plain("demo", "2.0");
        rig.add_plain("other", "1.0");
        rig.ok(["select", "demo@1.0"]);
        let version = || read(&rig.at("lib/demo/share/version"));
        assert_eq!(version(), "1.0");
        assert!(!rig.at("lib/other").exists(), "a miss is cached");
        fs::write(&token, "").expect("ours");
        let untold = rig.run(["select", "demo@2.0"]);
        let words = String::from_utf8_lossy(&untold.stderr).into_owned();
        assert_eq!(untold.status.code(), Some(1), "{words}");
        assert!(words.contains("recorded") && words.contains("given again"), "{words}");
        assert_eq!(version(), "1.0", "the kernel knows no better");
        match name {
            "again" => drop(rig.ok(["select", "demo@2.0"])),
            "another change" => drop(rig.ok(["select", "other"])),
            _ => rig.wait_for_other_server(rig.kill_server()),
        }
        wait_until("the kernel is told", || version() == "2.0");
        assert_eq!(rig.at("lib/other").exists(), name == "another change");
        assert_eq!(rig.status()["generation"], if name == "another change" { 3 } else { 2 });
    }
}

/// Two daemons cannot serve one store, and a mount that lost both processes is replaced.
#[test]
fn one_daemon_and_its_remains() {
    let Some(rig) = Rig::mounted("one_daemon_and_its_remains") else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let elsewhere = rig.scratch("elsewhere");
    let second = rig.run(["mount", elsewhere.to_str().expect("UTF-8")]);
    assert_eq!(second.status.code(), Some(4));
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(words.contains(&rig.pid("keeper").to_string()), "{words}");

    let (keeper, server) = (rig.pid("keeper"), rig.pid("server"));
    end_together(&[keeper, server]);
    wait_until("both are gone", || {
        [keeper, server].iter().all(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
    });
    rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8")]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
}

/// Whether a thread of the process sleeps uninterruptibly.
fn has_stuck_thread(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        fs::read_to_string(thread.path().join("stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" D")))
    })
}
