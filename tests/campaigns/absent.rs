//! No server for a minute: warm work goes on, cold work waits and then succeeds.
//!
//! What is warm is held: its names by open files, its pages by mappings, since this must not depend
//! on what else the kernel wants its memory for.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::turn::{Campaign, Turn};
use crate::rig::{Content, Rig, kill, stop, wait_until};
use crate::sys::Mapping;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "absent",
    what: "no server for 60 s (5 s in the short form): warm work goes on, cold work waits",
    unit: "absences",
    per_case: 1,
    short: 1,
    long: 3,
    run,
};

/// Files of each kind.
const FILES: usize = 20;

fn run(turn: &mut Turn<'_>) {
    let seconds = if turn.is_long() { 60 } else { 5 };
    let Some(rig) = Rig::mounted("campaign absent") else {
        return turn.skip("nothing can be mounted");
    };
    let bytes: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    let names: Vec<String> = (0..FILES).map(|file| format!("share/{file}")).collect();
    let program = fs::read("/bin/true").expect("a program that ends well");
    while let Some(case) = turn.next() {
        let [warm, cold] = ["warm", "cold"].map(|kind| format!("{kind}-{}", case.number));
        let mut files: Vec<_> =
            names.iter().map(|name| (name.as_str(), Content::File(bytes.as_slice()))).collect();
        rig.add(&cold, "1.0", &files);
        files.push(("bin/true", Content::Program(&program)));
        rig.add(&warm, "1.0", &files);
        rig.ok(["select", &warm, &cold]);
        let warm = Warm::hold(rig.at("app").join(warm), &names, &bytes);
        let cold: Vec<PathBuf> =
            names.iter().map(|name| rig.at("app").join(&cold).join(name)).collect();
        // Its names are known, its content is not.
        cold.iter().for_each(|path| _ = fs::metadata(path).expect("there"));
        warm.work(turn, "round of warm work before");
        absence(turn, &rig, &warm, &cold, &bytes, Duration::from_secs(seconds));
        turn.peak("seconds without a server", seconds);
    }
}

fn absence(
    turn: &mut Turn<'_>,
    rig: &Rig,
    warm: &Warm<'_>,
    cold: &[PathBuf],
    bytes: &[u8],
    lasts: Duration,
) {
    let [keeper, server] = ["keeper", "server"].map(|role| rig.pid(role));
    // The keeper cannot start another one, and the server cannot start another keeper.
    stop(&[keeper]);
    kill(server);
    wait_until("the server is dead", || {
        fs::read_to_string(format!("/proc/{server}/stat"))
            .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
    });
    let begin = Instant::now();
    thread::scope(|scope| {
        let waiting: Vec<_> = cold.iter().map(|path| scope.spawn(move || fs::read(path))).collect();
        while begin.elapsed() < lasts {
            warm.work(turn, "round of warm work without a server");
        }
        if waiting.iter().any(thread::ScopedJoinHandle::is_finished) {
            turn.violation("cold work did not wait");
        }
        resume(keeper);
        for waiting in waiting {
            match waiting.join().expect("no panic") {
                Ok(found) if found == bytes => turn.count("cold reads that waited", 1),
                Ok(_) => turn.violation("wrong bytes"),
                Err(error) => turn.violation(&format!("cold work failed: {error}")),
            }
        }
    });
    rig.wait_for_other_server(server);
}

/// Lets a stopped process go on.
fn resume(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a process id");
    kill_process(pid, Signal::CONT).expect("it is there");
}

/// All pages of a file, which then stay in memory.
fn pages_of(file: &File) -> Mapping {
    let len = usize::try_from(file.metadata().expect("open").len()).expect("small");
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    Mapping::new(file.as_fd(), len, libc::PROT_READ, flags, 0).expect("mapped")
}

/// What is warm, and stays so.
struct Warm<'a> {
    place: PathBuf,
    names: &'a [String],
    bytes: &'a [u8],
    _open: Vec<File>,
    _pages: Vec<Mapping>,
}

impl<'a> Warm<'a> {
    fn hold(place: PathBuf, names: &'a [String], bytes: &'a [u8]) -> Self {
        let open = |path: &str| File::open(place.join(path)).expect("there");
        let files: Vec<File> =
            names.iter().map(String::as_str).chain(["bin/true"]).map(open).collect();
        let pages = files.iter().map(pages_of).collect();
        let directories = ["", "share", "bin"].map(open);
        let open = directories.into_iter().chain(files).collect();
        Self { place, names, bytes, _open: open, _pages: pages }
    }

    /// Looks at each file, reads it, and runs the program.
    fn work(&self, turn: &mut Turn<'_>, what: &str) {
        let since = Instant::now();
        for name in self.names {
            let path = self.place.join(name);
            assert_eq!(fs::metadata(&path).expect("warm").len(), self.bytes.len() as u64);
            assert!(fs::read(&path).expect("warm") == self.bytes, "wrong bytes");
        }
        let status = Command::new(self.place.join("bin/true")).status();
        assert!(status.expect("it starts").success());
        turn.time(what, since.elapsed());
    }
}
