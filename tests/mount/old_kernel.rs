//! A kernel that cannot hand out again what a dead server had read (before Linux 6.9): the next
//! server answers what was noted of it. Played here by not asking the kernel for that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;

use crate::rig::{Rig, kill, names, read, wait_until};

/// Whatever is asked of a server that dies before it answers, the next one answers it.
#[test]
fn what_a_dead_server_had_read_is_answered() {
    type Ask = fn(&Rig) -> String;
    let asked: [(&str, Ask); 8] = [
        ("missing", |rig| rig.at("lib/missing").exists().to_string()),
        ("demo", |rig| rig.at("lib/demo").is_dir().to_string()),
        ("=read", |rig| read(&rig.at("lib/demo/share/version"))),
        ("=readlink", |rig| {
            fs::read_link(rig.at("bin/tool")).expect("a link").display().to_string()
        }),
        ("=readdir", |rig| names(&rig.at("lib/demo/share")).join(" ")),
        ("=readdirplus", |rig| names(&rig.at("lib/demo")).join(" ")),
        ("=getattr", |rig| fs::metadata(rig.mountpoint()).expect("there").mode().to_string()),
        ("=statfs", |rig| {
            let statistics = rustix::fs::statvfs(rig.mountpoint()).expect("there");
            (statistics.f_bsize, statistics.f_namemax).0.to_string()
        }),
    ];
    let expected = ["false", "true", "1.0", "../lib/demo/bin/tool", "version", "", "16749", "4096"];
    for ((what, ask), expected) in asked.into_iter().zip(expected) {
        let scratch = tempfile::tempdir().expect("a place");
        let token = scratch.path().join("token");
        let stall = format!("{what}:{}", token.display());
        let environment = [("DYNFS_TEST_OLD_KERNEL", "1"), ("DYNFS_TEST_STALL", stall.as_str())];
        let test = format!("what_a_dead_server_had_read_is_answered ({what})");
        let Some(rig) = Rig::new(&test, &environment) else { return };
        let output = rig.run(["mount", rig.mountpoint().to_str().expect("UTF-8")]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && words.contains("Linux 6.9 can"), "{words}");
        println!("MOUNTED {test}");
        rig.add_plain("demo", "1.0");
        rig.add(
            "demo",
            "2.0",
            &[
                ("share/version", crate::rig::Content::File(b"1.0")),
                ("bin/tool", crate::rig::Content::Program(b"tool")),
            ],
        );
        rig.ok(["select", "demo@2.0"]);
        fs::write(&token, "").expect("ours");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| ask(&rig));
            wait_until("the server has read it, or never will", || {
                !token.exists() || waiting.is_finished()
            });
            let stalled = !token.exists();
            kill(rig.pid("server"));
            let found = waiting.join().expect("answered");
            match what {
                // Whether a listing asks for attributes is the kernel's choice.
                "=readdir" | "=readdirplus" | "=getattr" => {}
                _ => assert!(stalled, "{what} was never asked"),
            }
            if !expected.is_empty() {
                assert_eq!(found, expected, "{what}");
            }
        });
        assert_eq!(read(&rig.at("lib/demo/share/version")), "1.0", "{what}: it goes on");
    }
}
