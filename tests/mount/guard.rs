//! Keeper and server watch each other: who dies is replaced, who hangs too, and a request that
//! kills servers is given up for itself alone.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::rig::{Rig, kill, read, send, wait_until};

fn gone(pid: i32) -> bool {
    !Path::new(&format!("/proc/{pid}/exe")).exists()
}

/// Waits until another keeper than this one lives.
fn wait_for_other_keeper(rig: &Rig, before: i32) -> i32 {
    wait_until("another keeper lives", || {
        rig.pid_now("keeper").is_some_and(|pid| pid != before && !gone(pid))
    });
    rig.pid("keeper")
}

/// A keeper that dies is replaced by its server; the next one replaces servers as the first did,
/// and everything ends with the mount.
#[test]
fn a_keeper_that_dies_is_replaced() {
    let Some(rig) = Rig::mounted("a_keeper_that_dies_is_replaced") else { return };
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    rig.ok(["select", "demo@1.0"]);
    let mut open = File::open(rig.at("lib/demo/share/version")).expect("there");
    let mut keeper = rig.pid("keeper");
    for round in 0..3 {
        let server = rig.pid("server");
        kill(keeper);
        keeper = wait_for_other_keeper(&rig, keeper);
        assert_eq!(rig.pid("server"), server, "the server went on");
        let version = if round % 2 == 0 { "2.0" } else { "1.0" };
        rig.ok(["select", &format!("demo@{version}")]);
        assert_eq!(read(&rig.at("lib/demo/share/version")), version);
        kill(server);
        rig.wait_for_other_server(server);
        assert_eq!(rig.pid("keeper"), keeper, "it replaced the server");
        assert_eq!(read(&rig.at("lib/demo@1.0/share/version")), "1.0");
    }
    assert_eq!(rig.status()["notes"], serde_json::json!([]));
    let again = rig.run(["mount", rig.mountpoint().to_str().expect("UTF-8")]);
    let words = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(4), "{words}");
    assert!(words.contains(&keeper.to_string()), "the second daemon is refused: {words}");
    let busy = rig.run(["umount"]);
    assert_eq!(busy.status.code(), Some(4), "{}", String::from_utf8_lossy(&busy.stderr));
    let mut text = String::new();
    open.read_to_string(&mut text).expect("open all the time");
    assert_eq!(text, "1.0");
    drop(open);
    let server = rig.pid("server");
    rig.ok(["umount"]);
    wait_until("both have ended", || gone(keeper) && gone(server));
}

/// When memory runs out the kernel kills nearly everybody else first, also of those who came to
/// replace the first two. Where it cannot be asked for that, root is told so, and others know.
#[test]
fn the_kernel_is_asked_to_spare_both() {
    let test = "the_kernel_is_asked_to_spare_both";
    let Some(rig) = Rig::mounted(test) else { return };
    let warning = "may kill this process when memory runs out";
    let is_root = rustix::process::geteuid().is_root();
    // Lasts no longer than the shell.
    let ask = "echo -1000 2>/dev/null > /proc/self/oom_score_adj";
    let asked = Command::new("sh").args(["-c", ask]).stderr(Stdio::null()).status();
    if !asked.expect("a shell").success() {
        assert_eq!(rig.log().contains(warning), is_root, "{}", rig.log());
        println!("SKIPPED {test}: this process may not ask the kernel to spare it");
        return;
    }
    let score = |pid: i32| read(Path::new(&format!("/proc/{pid}/oom_score_adj")));
    let are_spared = |keeper: i32, server: i32| {
        // The next keeper asks a moment after it has been named.
        wait_until("the keeper is spared", || score(keeper).trim() == "-1000");
        assert_eq!(score(server).trim(), "-900");
    };
    let [keeper, server] = ["keeper", "server"].map(|role| rig.pid(role));
    are_spared(keeper, server);
    kill(server);
    rig.wait_for_other_server(server);
    are_spared(keeper, rig.pid("server"));
    kill(keeper);
    are_spared(wait_for_other_keeper(&rig, keeper), rig.pid("server"));
    assert!(!rig.log().contains(warning), "{}", rig.log());
}

/// A server that dies after it has started its next keeper, and before that one watches anything,
/// is replaced all the same.
#[test]
fn a_server_that_dies_before_its_next_keeper_watches() {
    let test = "a_server_that_dies_before_its_next_keeper_watches";
    let scratch = tempfile::tempdir().expect("a place");
    let token = scratch.path().join("token");
    let stop = format!("adopt:{}", token.display());
    let Some(rig) = Rig::mounted_with(test, &[("DYNFS_TEST_STOP", stop.as_str())]) else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    fs::write(&token, "").expect("ours");
    let [keeper, server] = ["keeper", "server"].map(|role| rig.pid(role));
    kill(keeper);
    wait_until("the next keeper has begun", || !token.exists());
    let next = wait_for_other_keeper(&rig, keeper);
    kill(server);
    // Whoever it falls to has waited for it, so nothing but a descriptor can tell who it was.
    wait_until("nothing is left of the server", || !Path::new(&format!("/proc/{server}")).exists());
    send(next, Signal::CONT);
    rig.wait_for_other_server(server);
    assert_eq!(rig.pid("keeper"), next);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
}

/// Whoever can open a lock file can lock it, and so keep everybody else from the store.
#[test]
fn only_the_owner_can_open_a_lock() {
    let Some(rig) = Rig::mounted("only_the_owner_can_open_a_lock") else { return };
    let locks = ["run/keeper", "run/server", "lock", "adding"].map(|name| rig.store().join(name));
    rig.add_plain("demo", "1.0");
    for lock in &locks {
        let mode = fs::metadata(lock).expect("made by now").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", lock.display());
        // As earlier ones left it.
        fs::set_permissions(lock, fs::Permissions::from_mode(0o644)).expect("ours");
    }
    let [keeper, server] = ["keeper", "server"].map(|role| rig.pid(role));
    kill(server);
    rig.wait_for_other_server(server);
    kill(keeper);
    wait_for_other_keeper(&rig, keeper);
    rig.add_plain("demo", "2.0");
    rig.ok(["select", "demo"]);
    wait_until("they are closed again", || {
        locks.iter().all(|lock| fs::metadata(lock).is_ok_and(|found| found.mode() & 0o077 == 0))
    });
}

/// Fewer files than a keeper or a server has open, and as many as each asks the kernel to watch.
const FEW: u64 = 6;

/// Lets a process that was started here have so many files open; how many it could.
fn let_open(pid: i32, files: Option<u64>) -> Option<u64> {
    let limit = Rlimit { current: files, ..getrlimit(Resource::Nofile) };
    prlimit(Pid::from_raw(pid), Resource::Nofile, limit).expect("its owner may").current
}

/// A keeper that cannot start a server tries until it can, and whoever asks the mount waits.
#[test]
fn a_server_that_cannot_be_started_now() {
    let Some(rig) = Rig::mounted("a_server_that_cannot_be_started_now") else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let [keeper, server] = ["keeper", "server"].map(|role| rig.pid(role));
    let usual = let_open(keeper, Some(FEW));
    kill(server);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(&rig.at("lib/demo/share/version")));
        wait_until("it was tried twice", || {
            rig.log().lines().filter(|line| line.contains("starting the server")).count() >= 2
        });
        assert!(!reader.is_finished());
        let_open(keeper, usual);
        assert_eq!(reader.join().expect("answered"), "1.0");
    });
    rig.wait_for_other_server(server);
}

/// A server that has no file left for another connection lets it wait, and goes on with those that
/// it has.
#[test]
fn a_connection_for_which_there_is_no_file() {
    let Some(rig) = Rig::mounted("a_connection_for_which_there_is_no_file") else { return };
    let mut before = UnixStream::connect(rig.store().join("run/control")).expect("it listens");
    let mut hello = || {
        before.write_all(b"{\"call\":\"hello\",\"protocol\":1}\n").expect("it listens");
        assert_ne!(before.read(&mut [0; 1000]).expect("open all the time"), 0);
    };
    hello();
    let server = rig.pid("server");
    let usual = let_open(server, Some(FEW));
    thread::scope(|scope| {
        let status = scope.spawn(|| rig.ok(["status"]));
        wait_until("the connection waits", || rig.log().contains("connection has to wait"));
        hello();
        assert!(!status.is_finished());
        let_open(server, usual);
        status.join().expect("answered");
    });
    assert_eq!(rig.pid("server"), server);
}

/// A mount whose server cannot be started can still be ended.
#[test]
fn an_unmount_while_no_server_can_be_started() {
    let Some(rig) = Rig::mounted("an_unmount_while_no_server_can_be_started") else { return };
    let [keeper, server] = ["keeper", "server"].map(|role| rig.pid(role));
    let usual = let_open(keeper, Some(FEW));
    kill(server);
    wait_until("it was tried", || rig.log().contains("starting the server"));
    send(keeper, Signal::TERM);
    if !rustix::process::geteuid().is_root() {
        // Others unmount by a program, for which there is no room either: it is not forgotten.
        wait_until("it was tried, too", || rig.log().contains("fusermount3"));
        let_open(keeper, usual);
    }
    wait_until("the keeper has ended", || gone(keeper));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("there");
    assert!(!mounts.contains(rig.mountpoint().to_str().expect("UTF-8")));
}

/// A keeper that dies and a mount at that very moment do not make two daemons.
#[test]
fn a_mount_while_the_keeper_is_replaced() {
    let Some(rig) = Rig::mounted("a_mount_while_the_keeper_is_replaced") else { return };
    for _ in 0..5 {
        let (keeper, server) = (rig.pid("keeper"), rig.pid("server"));
        kill(keeper);
        let again = rig.run(["mount", rig.mountpoint().to_str().expect("UTF-8")]);
        let words = String::from_utf8_lossy(&again.stderr).into_owned();
        assert_eq!(again.status.code(), Some(4), "{words}");
        wait_for_other_keeper(&rig, keeper);
        assert_eq!(rig.pid("server"), server);
    }
}

/// A server that is stopped, as one that hangs, is replaced, and who waits is answered.
#[test]
fn a_server_that_hangs_is_replaced() {
    let Some(rig) = Rig::new("a_server_that_hangs_is_replaced", &[]) else { return };
    rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8"), "--watchdog", "1"]);
    println!("MOUNTED a_server_that_hangs_is_replaced");
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let server = rig.pid("server");
    let stopped = Pid::from_raw(server).expect("a process id");
    kill_process(stopped, Signal::STOP).expect("ours");
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0", "answered by the next server");
    rig.wait_for_other_server(server);
    assert!(rig.log().contains("hung and was killed"), "{}", rig.log());
}

/// A server that is stopped before it serves is replaced too, the first one as well as a later
/// one, and one that dies then is no reason not to mount.
#[test]
fn a_server_that_never_serves_is_replaced() {
    for (variable, what) in [("DYNFS_TEST_STOP", "server"), ("DYNFS_TEST_CRASH", "starting")] {
        let scratch = tempfile::tempdir().expect("a place");
        let token = scratch.path().join("token");
        let value = format!("{what}:{}", token.display());
        let test = format!("a_server_that_never_serves_is_replaced ({what})");
        let Some(rig) = Rig::new(&test, &[(variable, value.as_str())]) else { return };
        fs::write(&token, "").expect("ours");
        rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8"), "--watchdog", "1"]);
        println!("MOUNTED {test}");
        assert!(!token.exists(), "the first server was to be hit");
        rig.add_plain("demo", "1.0");
        rig.ok(["select", "demo"]);
        fs::write(&token, "").expect("ours");
        let server = rig.kill_server();
        assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
        assert!(!token.exists(), "the next server was to be hit");
        rig.wait_for_other_server(server);
    }
}

/// A request that is never answered is taken from its server and given to the next one; one that
/// hangs that too is answered with an error, and nothing else is.
#[test]
fn a_request_that_hangs() {
    let scratch = tempfile::tempdir().expect("a place");
    let token = scratch.path().join("token");
    let stall = format!("stalled:{}", token.display());
    let environment = [("DYNFS_TEST_STALL", stall.as_str())];
    let Some(rig) = Rig::new("a_request_that_hangs", &environment) else { return };
    rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8"), "--watchdog", "1"]);
    println!("MOUNTED a_request_that_hangs");
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    fs::write(&token, "").expect("ours");
    let look = |name: &str| fs::metadata(rig.at(name)).map(drop).map_err(|e| e.raw_os_error());
    let missing = Err(Some(Errno::NOENT.raw_os_error()));
    assert_eq!(look("lib/stalled"), missing, "the next server answers");
    fs::write(&token, "").expect("ours");
    let answer = thread::scope(|scope| {
        let waiting = scope.spawn(|| look("bin/stalled"));
        wait_until("the first server hangs", || !token.exists());
        fs::write(&token, "").expect("ours");
        wait_until("the second server hangs", || !token.exists());
        assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0", "everything else goes on");
        waiting.join().expect("answered")
    });
    assert_eq!(answer, Err(Some(Errno::IO.raw_os_error())));
    assert!(rig.log().contains("stalled"), "{}", rig.log());
    assert_eq!(look("bin/stalled"), missing, "asked again, it is another request");
}

/// A request that kills the server twice is answered with an error and named in the log; whoever
/// asked for something else at the same time sees nothing of it.
#[test]
fn a_request_that_kills_the_server() {
    let environment = [("DYNFS_TEST_POISON", "poison:")];
    let Some(rig) = Rig::mounted_with("a_request_that_kills_the_server", &environment) else {
        return;
    };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for round in 0..50 {
                assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
                assert!(!rig.at(&format!("lib/missing-{round}")).exists());
                thread::sleep(Duration::from_millis(2));
            }
        });
        for _ in 0..3 {
            let error = fs::metadata(rig.at("lib/poison")).expect_err("it cannot be answered");
            assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
        }
        reader.join().expect("no error");
    });
    assert!(rig.log().contains("poison"), "{}", rig.log());
}
