//! A kernel that cannot hand out again what a dead server had read (before Linux 6.9): the next
//! server answers what was noted of it, and has the rest asked again. Played here by not asking the
//! kernel for that.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::rig::{Content, Rig, forget, kill, read, wait_until};

/// What is asked, how, and the answer; an empty one is not looked at.
type Ask = fn(&Rig) -> io::Result<String>;
const ASKED: [(&str, Ask, &str); 8] = [
    ("missing", |rig| rig.at("lib/missing").try_exists().map(|is| is.to_string()), "false"),
    ("demo", |rig| fs::metadata(rig.at("lib/demo")).map(|it| it.is_dir().to_string()), "true"),
    ("=read", |rig| fs::read_to_string(rig.at("lib/demo/share/version")), "1.0"),
    (
        "=readlink",
        |rig| fs::read_link(rig.at("bin/tool")).map(|target| target.display().to_string()),
        "../lib/demo/bin/tool",
    ),
    ("=readdir", |rig| listed(rig, "lib/demo/share"), "version"),
    ("=readdirplus", |rig| listed(rig, "lib/demo"), ""),
    ("=getattr", |rig| fs::metadata(rig.mountpoint()).map(|it| it.mode().to_string()), "16749"),
    (
        "=statfs",
        |rig| Ok(rustix::fs::statvfs(rig.mountpoint())?.f_bsize).map(|size| size.to_string()),
        "4096",
    ),
];

fn listed(rig: &Rig, path: &str) -> io::Result<String> {
    let entries = fs::read_dir(rig.at(path))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names.join(" "))
}

/// A mounted store with a release, whose daemon has faults on request.
fn rig_with(test: &str, faults: &[(&str, &str)]) -> Option<Rig> {
    let environment = [faults, &[("DYNFS_TEST_OLD_KERNEL", "1")]].concat();
    let rig = Rig::new(test, &environment)?;
    let place = rig.mountpoint();
    let output = rig.run(["mount", place.to_str().expect("UTF-8"), "--unanswered", "2"]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && words.contains("Linux 6.9 can"), "{words}");
    println!("MOUNTED {test}");
    let content =
        [("share/version", Content::File(b"1.0")), ("bin/tool", Content::Program(b"tool"))];
    rig.add_plain("demo", "1.0");
    rig.add("demo", "2.0", &content);
    rig.ok(["select", "demo@2.0"]);
    Some(rig)
}

/// Whatever is asked of a server that dies before it answers, the next one answers it.
#[test]
fn what_a_dead_server_had_read_is_answered() {
    for (what, ask, expected) in ASKED {
        let scratch = tempfile::tempdir().expect("a place");
        let token = scratch.path().join("token");
        let stall = format!("{what}:{}", token.display());
        let test = format!("what_a_dead_server_had_read_is_answered ({what})");
        let Some(rig) = rig_with(&test, &[("DYNFS_TEST_STALL", &stall)]) else { return };
        fs::write(&token, "").expect("ours");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| ask(&rig));
            wait_until("the server has read it, or never will", || {
                !token.exists() || waiting.is_finished()
            });
            assert_asked(what, !token.exists());
            kill(rig.pid("server"));
            let found = waiting.join().expect("answered").expect("no error");
            assert!(expected.is_empty() || found == expected, "{what}: {found}");
        });
        assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0", "{what}: it goes on");
    }
}

/// Whatever a server had read and not even noted when it died is asked again by the kernel, unseen
/// by the program but for a listing; and nothing waits for ever.
#[test]
fn what_a_dead_server_had_not_noted_is_asked_again() {
    for (what, ask, expected) in ASKED {
        let scratch = tempfile::tempdir().expect("a place");
        let token = scratch.path().join("token");
        let lose = format!("{what}:{}", token.display());
        let test = format!("what_a_dead_server_had_not_noted_is_asked_again ({what})");
        let Some(rig) = rig_with(&test, &[("DYNFS_TEST_LOSE", &lose)]) else { return };
        fs::write(&token, "").expect("ours");
        let found = ask(&rig);
        let was_lost = !token.exists();
        assert_asked(what, was_lost);
        match found {
            Ok(found) => assert!(expected.is_empty() || found == expected, "{what}: {found}"),
            Err(error) => {
                assert!(what.starts_with("=readdir") && is_stale(&error), "{what}: {error}");
            }
        }
        if was_lost {
            wait_until("the next server says what was lost", || rig.log().contains("lost=1"));
        }
        assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0", "{what}: it goes on");
        assert!(!rig.log().contains("mounted anew"), "{what}");
    }
}

/// Whether a listing asks for attributes, and which listing is asked for, is the kernel's choice.
fn assert_asked(what: &str, was_asked: bool) {
    assert!(was_asked || ["=readdir", "=readdirplus", "=getattr"].contains(&what), "{what}");
}

/// The net below: were a request never answered, who waits for it gets an error in the end, and the
/// store is mounted anew; also by a keeper that has taken the place of another one.
#[test]
fn requests_that_stay_unanswered_end_the_connection() {
    for keeper_dies in [false, true] {
        let scratch = tempfile::tempdir().expect("a place");
        let token = scratch.path().join("token");
        let lose = format!("lost:{}", token.display());
        let test = format!("requests_that_stay_unanswered_end_the_connection ({keeper_dies})");
        let faults = [("DYNFS_TEST_LOSE", lose.as_str()), ("DYNFS_TEST_KEEP_LOST", "1")];
        let Some(rig) = rig_with(&test, &faults) else { return };
        if rig.log().contains("cannot be seen") {
            println!("SKIPPED {test}: this user cannot see what the kernel waits for");
            return;
        }
        if keeper_dies {
            let keeper = rig.pid("keeper");
            kill(keeper);
            let is_other = |pid| pid != keeper;
            wait_until("another keeper has come", || rig.pid_now("keeper").is_some_and(is_other));
        }
        let keeper = rig.pid("keeper");
        let path = rig.at("lib/demo/share/version");
        let open = File::open(&path).expect("there");
        fs::write(&token, "").expect("ours");
        let error = fs::metadata(rig.at("lib/lost")).expect_err("nobody answers");
        assert_ne!(error.kind(), io::ErrorKind::NotFound, "that would be an answer");
        assert!(!token.exists(), "it was never asked");
        wait_until("it is mounted anew", || {
            fs::read_to_string(&path).is_ok_and(|version| version == "1.0")
        });
        assert!(open.read_at(&mut [0; 3], 0).is_err(), "what was open before is lost");
        let status = rig.status();
        assert_eq!(status["pids"]["keeper"], keeper);
        assert!(status["notes"].to_string().contains("mounted anew (once)"), "{status}");
        assert!(rig.log().contains("stay unanswered for 2 s"), "{}", rig.log());
        rig.add_plain("demo", "3.0");
        rig.ok(["select", "demo@3.0"]);
        assert_eq!(read(&path), "3.0", "the kernel is told of changes");
    }
}

/// Load alone, after servers have died, never looks like requests that were lost; nor does any
/// program see an error of the deaths, of which `DYNFS_TEST_KILLS` says the number.
#[test]
fn load_and_kills_end_no_connection() {
    let kills = std::env::var("DYNFS_TEST_KILLS").ok().and_then(|text| text.parse().ok());
    let Some(rig) = rig_with("load_and_kills_end_no_connection", &[]) else { return };
    kill_under_load(&rig, kills.unwrap_or(5), Duration::from_secs(5));
    let words = rig.log();
    assert!(!words.contains("stay unanswered for"), "{words}");
    assert!(!words.contains("nobody looks for"), "{words}");
}

/// Kills the server of a mounted store so often below readers that check every byte, which go on
/// for a while after the last time.
fn kill_under_load(rig: &Rig, kills: u64, afterwards: Duration) {
    let content = |file: usize| format!("{file:08}").repeat(4_000 + 997 * file).into_bytes();
    let contents: Vec<Vec<u8>> = (0..20).map(content).collect();
    let paths: Vec<String> = (0..20).map(|file| format!("share/dir-{}/{file}", file % 3)).collect();
    let files: Vec<(&str, Content<'_>)> = paths
        .iter()
        .zip(&contents)
        .map(|(path, bytes)| (path.as_str(), Content::File(bytes)))
        .collect();
    rig.add("load", "1.0", &files);
    rig.add_plain("other", "1.0");
    rig.add_plain("other", "2.0");
    rig.ok(["select", "load", "other@1.0"]);
    let can_resend = rig.kernel_can_resend();
    let done = AtomicBool::new(false);
    let operations = AtomicU64::new(0);
    thread::scope(|scope| {
        for reader in 0..4 {
            let (done, operations, paths, contents) = (&done, &operations, &paths, &contents);
            scope.spawn(move || {
                let mut turn = reader;
                while !done.load(Ordering::Relaxed) {
                    turn += 1;
                    let file = turn % paths.len();
                    let path = rig.at("app/load").join(&paths[file]);
                    let bytes = fs::read(&path).expect("no program sees an error");
                    assert_eq!(bytes.len(), contents[file].len());
                    assert!(bytes == contents[file], "wrong bytes in {}", path.display());
                    // Drop what the kernel has cached of it, so that the server is needed.
                    forget(&path).expect("there");
                    assert!(!rig.at("app/load/missing").exists());
                    let listed = fs::read_dir(rig.at("app/load/share"))
                        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
                    match listed {
                        Ok(listed) => assert_eq!(listed.len(), 3),
                        Err(error) if !can_resend && is_stale(&error) => {}
                        Err(error) => panic!("no program sees an error: {error}"),
                    }
                    operations.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..kills {
            let before = operations.load(Ordering::Relaxed);
            let pid = rig.kill_server();
            rig.wait_for_other_server(pid);
            let version = if round % 2 == 0 { "2.0" } else { "1.0" };
            rig.ok(["select", &format!("other@{version}")]);
            assert_eq!(read(&rig.at("lib/other/share/version")), version);
            wait_until("the readers go on", || operations.load(Ordering::Relaxed) > before + 8);
        }
        thread::sleep(afterwards);
        done.store(true, Ordering::Relaxed);
    });
    let lost = rig.log().lines().filter_map(|line| line.split_once("lost=")).fold(0, |sum, it| {
        let digits = it.1.split(|c: char| !c.is_ascii_digit()).next();
        sum + digits.and_then(|digits| digits.parse::<u64>().ok()).expect("a number")
    });
    let operations = operations.load(Ordering::Relaxed);
    println!("{kills} kills, {operations} rounds of checked reads, {lost} lost requests");
}

/// What a listing may give whose request a dead server had read and not noted, where the kernel
/// cannot hand it out again. Everything else is asked again unseen.
fn is_stale(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::StaleNetworkFileHandle
}
