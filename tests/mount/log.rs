//! The daemon's log: what it names, and that it is bounded.

use std::fs;
use std::io::Write;
use std::time::Instant;

use crate::rig::{Content, Rig, damage, read, wait_until};

/// More than a log may hold before a new one begins, in bytes.
const FULL: usize = 4 * 1024 * 1024 + 1;
/// Lines of one place in the program within a second.
const LINES_MAX: u128 = 20;

/// Starts, deaths, changes and who made them are in the log, in lines that begin with the time and
/// the process, without colours.
#[test]
fn the_log_tells_what_happened() {
    let Some(rig) = Rig::mounted("the_log_tells_what_happened") else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let (keeper, server) = (rig.pid("keeper"), rig.kill_server());
    rig.wait_for_other_server(server);
    let successor = rig.pid("server");
    rig.ok(["umount"]);
    let uid = rustix::process::geteuid().as_raw();
    let log = rig.log();
    let steps = [
        format!(" INFO keeper[{keeper}] mounted {} on ", rig.store().display()),
        format!(" INFO server[{server}] takes over "),
        format!(" INFO server[{server}] serves generation=0"),
        format!(" INFO server[{server}] added demo@1.0 uid={uid}"),
        format!(" INFO server[{server}] generation 0 -> 1 uid={uid}"),
        format!(" keeper[{keeper}] the server died: signal: 9 (SIGKILL)"),
        format!(" INFO server[{successor}] takes over "),
        format!(" INFO server[{successor}] serves generation=1"),
        format!(" INFO keeper[{keeper}] unmounted "),
    ];
    let mut rest = log.as_str();
    for step in steps {
        let at = rest.find(&step).unwrap_or_else(|| panic!("{step:?} is not in its place: {log}"));
        rest = &rest[at + step.len()..];
    }
    for line in log.lines() {
        let time = line.split(' ').next().unwrap_or_default();
        assert!(time.len() >= 20 && time.contains('T') && time.ends_with('Z'), "{line}");
    }
    assert!(!log.contains('\u{1b}'), "{log}");
}

/// What the kernel could not be told is in the log.
#[test]
fn an_announcement_that_failed_is_in_the_log() {
    let scratch = tempfile::tempdir().expect("a place");
    let token = scratch.path().join("token");
    let deaf = format!("kernel:{}", token.display());
    let test = "an_announcement_that_failed_is_in_the_log";
    let Some(rig) = Rig::mounted_with(test, &[("DYNFS_TEST_DEAF", &deaf)]) else { return };
    rig.add_plain("demo", "1.0");
    fs::write(&token, "").expect("ours");
    assert!(!rig.run(["select", "demo"]).status.success());
    let log = rig.log();
    assert!(log.contains("could not be told of a change: a test wants it so"), "{log}");
}

/// `-v` of `mount` has the daemon say more.
#[test]
fn a_daemon_that_says_more() {
    let Some(rig) = Rig::new("a_daemon_that_says_more", &[]) else { return };
    let place = rig.mountpoint();
    let place = place.to_str().expect("UTF-8");
    for (arguments, says) in [(["mount", place].as_slice(), false), (&["mount", place, "-v"], true)]
    {
        rig.ok(arguments);
        assert!(fs::metadata(rig.at(".generations/0;missing@1")).is_err());
        assert_eq!(rig.log().contains(" DEBUG server["), says, "{}", rig.log());
        rig.ok(["umount"]);
    }
    println!("MOUNTED a_daemon_that_says_more");
}

/// The same damage met a thousand times is a few lines, and how many there were.
#[test]
fn a_flood_does_not_fill_the_log() {
    let Some(rig) = Rig::mounted("a_flood_does_not_fill_the_log") else { return };
    rig.add("demo", "1.0", &[("share/bad", Content::File(b"precious"))]);
    rig.ok(["select", "demo"]);
    let bad = rig.at("app/demo/share/bad");
    damage(&rig, &bad);
    let start = Instant::now();
    for _ in 0..1000 {
        fs::read(&bad).expect_err("damaged");
    }
    let periods = start.elapsed().as_secs() + 2;
    let lines = |log: &str| log.lines().filter(|line| line.contains(" ERROR ")).count() as u128;
    let log = rig.log();
    assert!(lines(&log) <= LINES_MAX * u128::from(periods), "{} lines", lines(&log));
    assert!(log.contains("(more like it are counted, not said)"), "{log}");
    wait_until("what was not said is counted", || {
        fs::read(&bad).expect_err("damaged");
        rig.log().contains(" more like it)\n")
    });
}

/// A log that is full becomes the old one, when a daemon starts and while it runs; all its
/// processes go on in the new one.
#[test]
fn a_full_log_begins_anew() {
    let Some(rig) = Rig::mounted("a_full_log_begins_anew") else { return };
    rig.ok(["umount"]);
    let path = rig.store().join("run/log");
    let fill = || {
        let mut log = fs::OpenOptions::new().append(true).open(&path).expect("it is there");
        log.write_all(&vec![b'\n'; FULL]).expect("ours");
    };
    let old_len = || fs::metadata(path.with_extension("1")).map_or(0, |data| data.len());
    fill();
    rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8")]);
    let log = rig.log();
    assert!(log.len() < FULL && log.contains("keeper[") && log.contains("server["), "{log}");
    assert!(old_len() >= FULL as u64);
    fs::remove_file(path.with_extension("1")).expect("ours");
    fill();
    rig.add_plain("demo", "1.0");
    assert!(old_len() >= FULL as u64);
    let server = rig.kill_server();
    rig.wait_for_other_server(server);
    let log = rig.log();
    for words in ["added demo@1.0", "the server died", "takes over"] {
        assert!(log.contains(words), "{words:?} is not in {log}");
    }
}

/// A daemon whose words nobody takes goes on: a line that cannot be written at once is lost.
#[test]
fn nobody_waits_for_the_log() {
    let Some(rig) = Rig::new("nobody_waits_for_the_log", &[]) else { return };
    // The reader is ours alone: should this fail, whoever waits ends with it.
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (_reader, writer) = rustix::pipe::pipe_with(flags).expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("ours");
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("ours");
    let place = rig.mountpoint();
    // Without words of the command's own, which would wait.
    let arguments = ["mount", place.to_str().expect("UTF-8"), "--foreground", "--quiet"];
    let mut keeper = rig.command(arguments).stderr(writer).spawn().expect("it starts");
    wait_until("it is mounted", || rig.at("bin").is_dir());
    println!("MOUNTED nobody_waits_for_the_log");
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let server = rig.kill_server();
    rig.wait_for_other_server(server);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
    rig.ok(["umount"]);
    assert!(keeper.wait().expect("ours").success());
}
