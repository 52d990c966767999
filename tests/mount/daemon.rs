//! Beginning and end of a mount: foreground, signals, use while unmounting, odd places.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{Rig, end_together, read, wait_until};

/// In the foreground the command says when the mount is usable, and ends with it at a signal. What
/// the daemon says comes to its standard error.
#[test]
fn in_the_foreground() {
    let Some(rig) = Rig::new("in_the_foreground", &[]) else { return };
    let mountpoint = rig.mountpoint();
    let place = mountpoint.to_str().expect("UTF-8");
    for signal in [Signal::TERM, Signal::INT] {
        let mut keeper = rig
            .command(["mount", place, "--foreground"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let output = keeper.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert!(line.starts_with("mounted "), "{line}");
        assert_eq!(rig.pid("keeper"), i32::try_from(keeper.id()).expect("a process id"));
        assert!(mountpoint.join("bin").is_dir());
        kill_process(Pid::from_child(&keeper), signal).expect("ours");
        assert!(keeper.wait().expect("ours").success());
        let mut log = String::new();
        keeper.stderr.take().expect("piped").read_to_string(&mut log).expect("UTF-8");
        for words in [" INFO keeper[", " INFO server["] {
            assert!(log.contains(words) && !log.contains('\u{1b}'), "{log}");
        }
        assert!(!mountpoint.join("bin").exists(), "it is unmounted");
    }
    println!("MOUNTED in_the_foreground");
}

/// Unmounting what is in use is refused; lazily it is detached at once, and what is open goes on
/// until it is closed. Then the daemon ends.
#[test]
fn unmounting_what_is_in_use() {
    let Some(rig) = Rig::mounted("unmounting_what_is_in_use") else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let mut file = File::open(rig.at("lib/demo/share/version")).expect("there");
    let keeper = rig.pid("keeper");
    let refused = rig.run(["umount"]);
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    rig.ok(["umount", "--lazy"]);
    assert!(!rig.at("lib").exists(), "the name is free");
    assert_eq!(rig.status()["mount"], serde_json::Value::Null);
    for command in [["umount"].as_slice(), &["mount"]] {
        let output = rig.run(command);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{words}");
        assert!(words.contains("still serves what is open"), "{words}");
    }
    let mut text = String::new();
    file.read_to_string(&mut text).expect("the daemon lives on for it");
    assert_eq!(text, "1.0");
    drop(file);
    wait_until("the daemon has ended", || !Path::new(&format!("/proc/{keeper}/exe")).exists());
    rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8")]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0");
}

/// A mount that would hide the store from its own daemon is refused.
#[test]
fn a_mount_above_its_store() {
    let Some(rig) = Rig::new("a_mount_above_its_store", &[]) else { return };
    let above = rig.store().parent().expect("below something").to_owned();
    for place in [rig.store(), above] {
        let output = rig.run(["mount", place.to_str().expect("UTF-8")]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{words}");
        assert!(words.contains("would hide the store"), "{words}");
    }
}

/// A mount point behind a symbolic link is the place that it leads to.
#[test]
fn a_mount_point_behind_a_link() {
    let Some(rig) = Rig::mounted("a_mount_point_behind_a_link") else { return };
    rig.add_plain("demo", "1.0");
    rig.ok(["select", "demo"]);
    let link = rig.scratch("link");
    std::os::unix::fs::symlink(rig.mountpoint(), &link).expect("ours");
    let link = link.to_str().expect("UTF-8");
    let pids = ["keeper", "server"].map(|role| rig.pid(role));
    end_together(&pids);
    for pid in pids {
        wait_until("it is gone", || !Path::new(&format!("/proc/{pid}/exe")).exists());
    }
    rig.ok(["mount", link]);
    assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0", "the dead mount was replaced");
}

/// Does something also when a test fails.
struct Cleanup<F: FnMut()>(F);

impl<F: FnMut()> Drop for Cleanup<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// Stores are independent, and a path may be long, hold what mount options and tables quote, and
/// be no text at all.
#[test]
fn stores_side_by_side_at_odd_places() {
    let Some(rig) = Rig::new("stores_side_by_side_at_odd_places", &[]) else { return };
    let odd = |words: &str, number: usize| {
        let mut name = words.as_bytes().to_vec();
        name.extend([b'\xff', b'0' + u8::try_from(number).expect("a digit")]);
        rig.scratch("").join(OsStr::from_bytes(&name))
    };
    let long = "a, b\\c \u{e4}".to_owned() + &"-long".repeat(30);
    let stores = [0, 1].map(|number| odd(&long, number));
    let run = |number: usize, arguments: &[&OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynfs"));
        command.arg("--store").arg(&stores[number]).args(arguments).stdin(Stdio::null());
        command.output().expect("it starts")
    };
    let _cleanup = Cleanup(|| {
        (0..2).for_each(|number| drop(run(number, &["umount".as_ref(), "--lazy".as_ref()])))
    });
    let program = |number: usize, arguments: &[&OsStr]| {
        let output = run(number, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the program prints UTF-8 whatever it is given")
    };
    let places = [0, 1].map(|number| odd("dyn,", number));
    for (number, place) in places.iter().enumerate() {
        let version = format!("{number}.0");
        let source = odd("source ", number);
        fs::create_dir_all(source.join("share")).expect("ours");
        fs::write(source.join("share/version"), &version).expect("ours");
        let prefix = rig.scratch("prefix");
        let text = |text: &'static str| OsStr::new(text);
        let add = [text("add"), source.as_os_str(), text("--name"), text("demo")];
        let more = [text("--version"), OsStr::new(&version), text("--prefix"), prefix.as_os_str()];
        program(number, &[add, more].concat());
        program(number, &[text("mount"), place.as_os_str()]);
        program(number, &[text("select"), text("demo")]);
        let file = place.join("app/demo/share/version");
        assert!(program(number, &[text("which"), file.as_os_str()]).contains("demo@"));
        let again = run(number, &[text("mount"), rig.scratch("other").as_os_str()]);
        assert_eq!(again.status.code(), Some(4), "{}", String::from_utf8_lossy(&again.stderr));
        program(number, &[text("status")]);
    }
    println!("MOUNTED stores_side_by_side_at_odd_places");
    for (number, place) in places.iter().enumerate() {
        assert_eq!(read(&place.join("app/demo/share/version")), format!("{number}.0"));
    }
    for number in 0..places.len() {
        program(number, &["umount".as_ref()]);
    }
}

/// A store that is mounted elsewhere than at its prefix says what does not work there.
#[test]
fn elsewhere_than_at_the_prefix() {
    let Some(rig) = Rig::mounted("elsewhere_than_at_the_prefix") else { return };
    rig.ok(["umount"]);
    let elsewhere = rig.scratch("elsewhere");
    let output = rig.run(["mount", elsewhere.to_str().expect("UTF-8")]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    assert!(words.contains("prefix"), "{words}");
    rig.ok(["umount"]);
    let output = rig.run(["mount", rig.mountpoint().to_str().expect("UTF-8")]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!words.contains("prefix"), "{words}");
}
