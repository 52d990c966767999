//! Programs at work on a mount: readers that check every byte they get, a selector, and somebody
//! who takes the kernel's caches away, until whoever started them is done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use crate::harness::turn::{Dice, Turn};
use crate::register::Register;
use crate::rig::{Content, PATIENCE, Rig, forget};

/// Readers at once.
const READERS: u64 = 4;
/// Files that they read.
const FILES: usize = 20;
/// Releases of the package that is selected anew all the time.
const RELEASES: u64 = 16;
/// Generations that are kept: enough of them to need each of these releases.
const GENERATIONS: &str = "40";
/// Bytes of the longest file of each.
const LONG_LEN: usize = 40_000;
/// Between two times that the caches are taken away.
const PRESSURE_PAUSE: Duration = Duration::from_millis(700);

/// Programs at work on a mount.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) rig: Rig,
    paths: Vec<PathBuf>,
    contents: Vec<Vec<u8>>,
    register: Register,
    done: AtomicBool,
    rounds: AtomicU64,
    selects: AtomicU64,
    drops: AtomicU64,
    failure: Mutex<Option<String>>,
}

/// Ends the programs, also when the one in front of them panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Load {
    /// Mounts the store and adds what they read.
    pub(crate) fn on(rig: Rig, watchdog: &str) -> Self {
        rig.ok(["mount", rig.mountpoint().to_str().expect("UTF-8"), "--watchdog", watchdog]);
        let content = |file: usize| format!("{file:08}").repeat(4_000 + 997 * file).into_bytes();
        let contents: Vec<Vec<u8>> = (0..FILES).map(content).collect();
        let name = |file: usize| format!("share/dir-{}/{file}", file % 3);
        let names: Vec<String> = (0..FILES).map(name).collect();
        let files: Vec<(&str, Content<'_>)> = names
            .iter()
            .zip(&contents)
            .map(|(name, bytes)| (name.as_str(), Content::File(bytes)))
            .collect();
        rig.add("load", "1.0", &files);
        (0..RELEASES).for_each(|release| add_release(&rig, release));
        rig.ok(["select", "load", "other@0.0"]);
        let paths = names.iter().map(|name| rig.at("app/load").join(name)).collect();
        Self {
            rig,
            paths,
            contents,
            register: Register::new(RELEASES),
            done: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            selects: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }

    /// Runs `work` while all of them work.
    pub(crate) fn during(&self, work: impl FnOnce()) {
        thread::scope(|scope| {
            let _ends = Ends(&self.done);
            for reader in 0..READERS {
                scope
                    .spawn(move || self.until_done(&self.rounds, |round| self.read(reader, round)));
            }
            scope.spawn(|| self.until_done(&self.selects, |_| self.select()));
            scope.spawn(|| {
                self.until_done(&self.drops, |_| {
                    thread::sleep(PRESSURE_PAUSE);
                    press()
                });
            });
            work();
        });
    }

    /// Runs `work`, which selects through [`Self::write`], while readers look at what is selected.
    pub(crate) fn during_looks(&self, work: impl FnOnce()) {
        thread::scope(|scope| {
            let _ends = Ends(&self.done);
            for _ in 0..READERS {
                scope.spawn(|| self.until_done(&self.rounds, |_| self.read_selected()));
            }
            work();
        });
    }

    /// Selects the next release with `work`.
    pub(crate) fn write(&self, work: impl FnOnce(&str)) {
        self.register.write(|release| work(&format!("other@{release}.0")));
    }

    fn until_done(&self, counter: &AtomicU64, work: impl Fn(u64) -> Result<(), String>) {
        while !self.done.load(Ordering::SeqCst) {
            match work(counter.load(Ordering::SeqCst)) {
                Ok(()) => _ = counter.fetch_add(1, Ordering::SeqCst),
                Err(words) => {
                    self.failure.lock().expect("no panic").get_or_insert(words);
                    return;
                }
            }
        }
    }

    /// Checks one file, one missing name, one listing and what is selected.
    fn read(&self, reader: u64, round: u64) -> Result<(), String> {
        let file = Dice::new(round.wrapping_mul(READERS) + reader).index(FILES);
        let path = &self.paths[file];
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if bytes != self.contents[file] {
            return Err(format!("wrong bytes in {}", path.display()));
        }
        forget(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let missing = self.rig.at("app/load/missing");
        match fs::symlink_metadata(&missing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return Err(format!("{}: {other:?}", missing.display())),
        }
        let place = self.rig.at("app/load/share");
        let listed = fs::read_dir(&place).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        if !listed.as_ref().is_ok_and(|listed| listed.len() == 3) {
            return Err(format!("{}: {listed:?}", place.display()));
        }
        self.read_selected()
    }

    fn read_selected(&self) -> Result<(), String> {
        let mut failed = None;
        let read = self.register.read(|| {
            selected(&self.rig.at("lib/other")).unwrap_or_else(|words| {
                failed = Some(words);
                0
            })
        });
        failed.map_or(read, Err)
    }

    fn select(&self) -> Result<(), String> {
        let mut failed = None;
        self.write(|spec| {
            let output = self.rig.run(["select", spec]);
            if !output.status.success() {
                failed = Some(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        });
        failed.map_or(Ok(()), |words| Err(format!("select: {words}")))
    }

    /// What went wrong so far.
    ///
    /// # Errors
    ///
    /// That.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.failure.lock().expect("no panic").clone().map_or(Ok(()), Err)
    }

    /// Returns when every one of them may have begun and ended something.
    ///
    /// # Errors
    ///
    /// What went wrong, or that nothing happens any more.
    pub(crate) fn goes_on(&self) -> Result<(), String> {
        let before = self.rounds.load(Ordering::SeqCst);
        let since = Instant::now();
        while self.rounds.load(Ordering::SeqCst) < before + 2 * READERS {
            self.check()?;
            if since.elapsed() > PATIENCE {
                return Err(format!("the readers wait for ever\n{}", self.rig.log()));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Collects what old generations alone need.
    ///
    /// # Errors
    ///
    /// What the command said.
    pub(crate) fn collect(&self) -> Result<(), String> {
        let output = self.rig.run(["-y", "gc", "--keep", GENERATIONS, "--keep-since", "0"]);
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("gc: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// Counts what they did since the last time.
    pub(crate) fn tally(&self, turn: &mut Turn<'_>) {
        for (what, counter) in [
            ("rounds of checked reads", &self.rounds),
            ("selects", &self.selects),
            ("drops of the caches", &self.drops),
        ] {
            turn.count_up_to(what, counter.load(Ordering::SeqCst));
        }
    }
}

/// A release of `other`: two files and a link that all say which one it is.
fn add_release(rig: &Rig, release: u64) {
    let version = format!("{release}.0");
    let word = release.to_string();
    let long = format!("{word:>8}").repeat(LONG_LEN / 8);
    let files = [
        ("include/other.h", Content::File(word.as_bytes())),
        ("share/number", Content::File(word.as_bytes())),
        ("share/long", Content::File(long.as_bytes())),
        ("share/link", Content::Link(&word)),
    ];
    rig.add("other", &version, &files);
}

/// Which release a walk finds, and whether all of it is of that one.
fn selected(place: &Path) -> Result<u64, String> {
    let fails = |error: io::Error| format!("{}: {error}", place.display());
    let directory = fs::File::open(place.join("share")).map_err(fails)?;
    let read = |name| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
        io::read_to_string(fs::File::from(file))
    };
    let (number, long) = (read("number").map_err(fails)?, read("long").map_err(fails)?);
    let link = rustix::fs::readlinkat(&directory, "link", Vec::new());
    let link = link.map_err(|errno| fails(errno.into()))?;
    if number.as_bytes() != link.as_bytes() {
        return Err(format!("torn: {number} and a link to {link:?}"));
    }
    if long != format!("{number:>8}").repeat(LONG_LEN / 8) {
        return Err(format!("torn: {number} beside {} other bytes", long.len()));
    }
    number.parse().map_err(|_| format!("wrong bytes: {number}"))
}

/// Has the kernel drop names and inodes that are not in use. Only root can; nothing otherwise.
fn press() -> Result<(), String> {
    match fs::write("/proc/sys/vm/drop_caches", "2") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(format!("drop_caches: {error}")),
    }
}
