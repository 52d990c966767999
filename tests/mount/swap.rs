//! What programs see when the selection changes below them.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::register::Register;
use crate::rig::{Content, Rig, damage, names, read};

/// A program started after `select` returned sees the new release; the path stays what it was.
#[test]
fn a_select_is_visible_when_it_returns() {
    let Some(rig) = Rig::mounted("a_select_is_visible_when_it_returns") else { return };
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    for round in 0..5 {
        for version in ["1.0", "2.0"] {
            rig.ok(["select", &format!("demo@{version}")]);
            assert_eq!(read(&rig.at("lib/demo/share/version")), version, "round {round}");
        }
    }
    rig.ok(["undo"]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
    rig.ok(["redo"]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0");
}

/// `realpath` of anything in a package stays below the package's virtual path: no object, no
/// `@version`, no store appears.
#[test]
fn realpath_is_the_identity() {
    let Some(rig) = Rig::mounted("realpath_is_the_identity") else { return };
    rig.add(
        "demo",
        "1.0",
        &[
            ("include/a.h", Content::File(b"")),
            ("lib/libdemo.so.1.7", Content::File(b"library")),
            ("lib/libdemo.so.1", Content::Link("libdemo.so.1.7")),
        ],
    );
    rig.ok(["select", "demo@1.0"]);
    let real = |path: &str| fs::canonicalize(rig.at(path)).expect("there");
    assert_eq!(real("lib/demo/include/a.h"), rig.at("lib/demo/include/a.h"));
    assert_eq!(real("lib/demo/lib/libdemo.so.1"), rig.at("lib/demo/lib/libdemo.so.1.7"));
}

/// A name that was missing, and a listing that was read before it came, are seen anew.
#[test]
fn cached_misses_and_listings_are_told() {
    let Some(rig) = Rig::mounted("cached_misses_and_listings_are_told") else { return };
    let program = Content::Program(b"#!/bin/sh\n");
    rig.add("first", "1.0", &[("bin/first", program), ("include/a.h", Content::File(b""))]);
    rig.ok(["select", "first"]);
    for place in ["lib/first@2.0", "lib/second", "bin/second", "so/libsecond.so.1", "app"] {
        assert!(!rig.at(place).exists(), "{place}");
    }
    assert!(!rig.at(".generations/3").exists());
    assert_eq!(names(&rig.at("bin")), ["first"]);
    assert_eq!(names(&rig.at("lib")), ["first"]);

    rig.add_plain("first", "2.0");
    assert_eq!(read(&rig.at("lib/first@2.0/share/version")), "2.0", "a miss was cached");
    rig.add("second", "1.0", &[("bin/second", Content::Program(b"#!/bin/sh\n"))]);
    rig.ok(["select", "second"]);
    assert_eq!(names(&rig.at("bin")), ["first", "second"], "a listing was cached");
    assert!(rig.at("bin/second").exists());
    assert_eq!(names(&rig.at("app")), ["second"], "a category appeared");
    // Nobody has asked for any of its names, so nothing but the listings can be told.
    rig.add(
        "third",
        "1.0",
        &[("bin/third", Content::Program(b"#!/bin/sh\n")), ("share/third", Content::File(b""))],
    );
    rig.ok(["select", "third"]);
    assert_eq!(names(&rig.at("bin")), ["first", "second", "third"], "a listing was cached");
    assert_eq!(names(&rig.at("app")), ["second", "third"], "a listing was cached");
    rig.ok(["unselect", "third"]);
    assert_eq!(names(&rig.at("app")), ["second"]);
    rig.ok(["unselect", "first"]);
    assert_eq!(names(&rig.at("bin")), ["second"]);
    assert!(!rig.at("lib/first").exists());
    assert!(rig.at(".generations/3/bin/first").exists(), "a generation appeared");
    assert_eq!(names(&rig.at(".generations/1/bin")), ["first"], "and older ones stay");
}

/// Open files, mappings, directory descriptors and a working directory below a package keep the
/// old release; new path walks see the new one.
#[test]
fn what_is_open_keeps_the_old_release() {
    let Some(rig) = Rig::mounted("what_is_open_keeps_the_old_release") else { return };
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "2.0");
    rig.ok(["select", "demo@1.0"]);
    let mut file = File::open(rig.at("lib/demo/share/version")).expect("there");
    let directory = File::open(rig.at("lib/demo/share")).expect("there");
    // A shell that waits in the old directory until it is told to look.
    let mut shell = Command::new("sh")
        .args(["-c", "read _; cat version; cat \"$OLD/version\"; pwd -P"])
        .current_dir(rig.at("lib/demo/share"))
        .env("OLD", rig.at("lib/demo/share"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    rig.ok(["select", "demo@2.0"]);

    let mut text = String::new();
    file.read_to_string(&mut text).expect("still readable");
    assert_eq!(text, "1.0", "an open file");
    let below = format!("/proc/self/fd/{}/version", directory.as_raw_fd());
    assert_eq!(read(Path::new(&below)), "1.0", "a directory descriptor");
    assert_eq!(read(&rig.at("lib/demo/share/version")), "2.0", "a new walk");
    drop(shell.stdin.take());
    let output = shell.wait_with_output().expect("it ends");
    let place = rig.at("lib/demo/share");
    let expected = format!("1.02.0{}\n", place.display());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "a working directory");
}

/// Every release can be reached whatever is selected, and files of one object are one inode.
#[test]
fn releases_side_by_side() {
    let Some(rig) = Rig::mounted("releases_side_by_side") else { return };
    rig.add_plain("demo", "1.0");
    rig.add_plain("demo", "1:2.0");
    rig.ok(["select", "demo@=1.0"]);
    assert_eq!(read(&rig.at("lib/demo@1.0/share/version")), "1.0");
    assert_eq!(read(&rig.at("lib/demo@1%3a2.0/share/version")), "1:2.0");
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
    let inode = |path: &str| fs::metadata(rig.at(path)).expect("there").ino();
    assert_eq!(inode("lib/demo/share/version"), inode("lib/demo@1.0/share/version"));
    assert_ne!(inode("lib/demo/share"), inode("lib/demo@1.0/share"), "directories are places");
    assert_eq!(names(&rig.at("lib")), ["demo"], "side by side is not listed");
    assert_eq!(names(&rig.mountpoint()), ["bin", "lib", "so"], "nor are the dotted places");
}

/// Warm work never reaches the daemon, also after other packages were swapped.
#[test]
fn warm_work_costs_no_request() {
    let Some(rig) = Rig::mounted("warm_work_costs_no_request") else { return };
    for version in ["1.0", "2.0"] {
        rig.add_plain("demo", version);
        rig.add_plain("other", version);
    }
    rig.ok(["select", "demo@1.0", "other@1.0"]);
    let work = || {
        assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
        assert_eq!(names(&rig.at("lib/demo/share")), ["version"]);
        assert!(!rig.at("lib/demo/share/missing").exists());
        fs::metadata(rig.at("lib/demo/include/a.h")).expect("there");
    };
    rig.costs_nothing("warm", work);
    let before = rig.requests();
    rig.ok(["select", "other@2.0"]);
    assert_eq!(rig.requests(), before, "a swap asks for nothing");
    rig.costs_nothing("after a swap of another package", work);
}

/// A damaged blob gives EIO for its file and leaves the rest alone; no damaged byte is served. The
/// log names the blob, and where it belongs.
#[test]
fn damage_is_an_error_and_never_content() {
    let Some(rig) = Rig::mounted("damage_is_an_error_and_never_content") else { return };
    let content = b"precious".repeat(20_000);
    let files = [("share/good", Content::File(b"good")), ("share/bad", Content::File(&content))];
    rig.add("demo", "1.0", &files);
    rig.ok(["select", "demo"]);
    let bad = rig.at("app/demo/share/bad");
    let blob = damage(&rig, &bad);
    let error = fs::read(&bad).map(|bytes| bytes.len()).expect_err("damaged");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    assert_eq!(read(&rig.at("app/demo/share/good")), "good");
    let fsck = rig.run(["fsck", "--data"]);
    assert_eq!(fsck.status.code(), Some(7));
    let log = rig.log();
    let named = |line: &str| line.contains(&blob) && line.contains(" at=app/demo@1.0/share/bad ");
    assert!(log.lines().any(|line| line.contains(" ERROR server[") && named(line)), "{log}");
    // A release that shares the object is named, too.
    let source = rig.scratch("source-demo-1.0");
    let source = source.to_str().expect("UTF-8");
    rig.ok(["add", source, "--name", "twin", "--version", "2.0"]);
    // Adding it has made it good.
    damage(&rig, &bad);
    assert!(fs::read(&bad).is_err(), "damaged again");
    let log = rig.log();
    assert!(log.contains(" at=app/demo@1.0/share/bad = app/twin@2.0/share/bad "), "{log}");
}

/// The checker itself can fail.
#[test]
fn the_register_knows_what_is_stale() {
    let register = Register::new(8);
    register.read(|| 0).expect("the value at the beginning");
    register.write(|value| assert_eq!(value, 1));
    register.read(|| 1).expect("the newest");
    register.read(|| 0).expect_err("replaced before the read began");
    register.read(|| 2).expect_err("never written");
}

/// Also when two reads overlap one write, and the later one sees the older value.
#[test]
fn the_register_knows_what_goes_backwards() {
    let register = Register::new(8);
    register.write(|_| {
        register.read(|| 0).expect("the write has not ended");
        register.read(|| 1).expect("the write has begun");
        register.read(|| 0).expect_err("somebody has seen the newer one already");
    });
}
