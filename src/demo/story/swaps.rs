//! The steps that swap, and what must hold after each of them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::super::debugger::{Answer, Backtrace, FUNCTION};
use super::super::maps::{self, Mapping};
use super::super::needs;
use super::super::process;
use super::super::program::{self, Resident};
use super::super::requests::{self, Change, Requests};
use super::super::screen;
use super::super::sources::{NEW, OLD, Upstream};
use super::super::stop::Stop;
use super::{Story, release};

/// How often they are counted when the kernel drops its caches meanwhile.
const ATTEMPTS_MAX: u32 = 10;
/// Starts of one program whose requests are counted.
const STARTS: u32 = 100;

impl<W: Write> Story<'_, W> {
    pub(super) fn swap(&mut self) -> Result<(), Stop> {
        self.screen.step("The swap");
        self.change(&["select", "xz@5.8"])?;
        self.everyone_says(&NEW)?;
        self.screen
            .note("The name now leads to the new release, the running program to its old one:");
        self.which()?;
        let Some(stay) = self.stay.take() else { return Ok(()) };
        let library = self.show_mapped(&stay.resident)?;
        self.stay = Some(stay);
        let claim = format!("that is the file of the release {} and of no other", OLD.version);
        let holds = self.is_of(&library, &OLD)? && !self.is_of(&library, &NEW)?;
        self.screen.claim(&claim, holds, || format!("mapped: {library}"))
    }

    /// Device, inode and path of liblzma in a running program.
    pub(super) fn show_mapped(&mut self, resident: &Resident) -> Result<Mapping, Stop> {
        let library = mapped(resident)?;
        let filter = "'/liblzma/ {print $4, $5, $6, $7; exit}'";
        let maps = format!("/proc/{}/maps", resident.pid());
        self.screen.command(&["awk".into(), filter.into(), maps]);
        self.screen.output(&library.to_string());
        Ok(library)
    }

    pub(super) fn undo_and_redo(&mut self) -> Result<(), Stop> {
        self.screen.step("Back and forth");
        self.change(&["undo"])?;
        self.everyone_says(&OLD)?;
        self.change(&["redo"])?;
        self.everyone_says(&NEW)
    }

    /// Both releases at the same time, for two runs of one program.
    pub(super) fn side_by_side(&mut self) -> Result<(), Stop> {
        self.screen.step("Side by side: another release for one process");
        let other = self.package.with_file_name(release(&OLD, "")).join("lib");
        let mut pinned = self.programs.command(0);
        pinned.env("LD_LIBRARY_PATH", &other);
        let mut words = vec![format!("LD_LIBRARY_PATH={}", other.display())];
        words.extend(process::words(&pinned));
        let pinned = self.run_shown(&mut pinned, words)?;
        let mut plain = self.programs.command(0);
        let words = process::words(&plain);
        let plain = self.run_shown(&mut plain, words)?;
        let claim = format!("one says {}, the other {}", OLD.version, NEW.version);
        let holds = pinned.runs_with == OLD.version && plain.runs_with == NEW.version;
        self.screen.claim(&claim, holds, || format!("{}\n{}", pinned.line, plain.line))
    }

    fn run_shown(
        &mut self,
        command: &mut Command,
        words: Vec<String>,
    ) -> Result<program::Report, Stop> {
        self.screen.command(&words);
        let report = program::report(command, self.interrupt)?;
        self.screen.output(&report.line);
        Ok(report)
    }

    /// The kernel answers from its caches; the count of requests is the proof, not the time.
    pub(super) fn warm_starts(&mut self) -> Result<(), Stop> {
        self.screen.step(&format!("What it costs: {STARTS} further starts of a program"));
        let mut command = self.programs.command(0);
        program::report(&mut command, self.interrupt)?;
        let before = self.room.dynfs().requests()?;
        self.screen.command(&super::super::dynfs::words(&["status", "--json"]));
        self.screen.output(&format!("requests since the mount: {before}"));
        let name = process::typed(&command);
        let words = format!("for i in $(seq {STARTS}); do {name} >/dev/null; done");
        self.screen.command(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let (each, after, changes) = self.count_starts(&mut command, before)?;
        self.screen.command(&super::super::dynfs::words(&["status", "--json"]));
        self.screen.output(&format!("requests since the mount: {after}"));
        let each = screen::duration(each);
        let claim = format!("0 requests for {STARTS} starts of {each} each");
        self.screen.claim(&claim, changes.is_empty(), || {
            let lines = changes.iter().map(|(name, a, b)| format!("{name}: {a} -> {b}"));
            lines.collect::<Vec<_>>().join("\n")
        })?;
        self.requests = Some(after.total());
        Ok(())
    }

    /// Starts a program again and again, and anew when the kernel dropped its caches meanwhile.
    fn count_starts(
        &mut self,
        command: &mut Command,
        mut before: Requests,
    ) -> Result<(Duration, Requests, Vec<Change>), Stop> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (reclaimed, start) = (requests::reclaimed(), Instant::now());
            for _ in 0..STARTS {
                program::report(command, self.interrupt)?;
            }
            let each = start.elapsed() / STARTS;
            let after = self.room.dynfs().requests()?;
            let changes = before.changes(&after);
            let disturbed = requests::reclaimed() != reclaimed && attempts < ATTEMPTS_MAX;
            if changes.is_empty() || !disturbed {
                return Ok((each, after, changes));
            }
            self.screen.output("the kernel dropped its caches meanwhile, so this is counted again");
            program::report(command, self.interrupt)?;
            before = self.room.dynfs().requests()?;
        }
    }

    /// The question that began the project.
    pub(super) fn debug(&mut self) -> Result<(), Stop> {
        self.screen.step("The question that began it: debug a library below a built program");
        let found = needs::debugger().is_some();
        let plain = if found { self.ask_debugger()? } else { None };
        let sources = self.package.join("src");
        if let Some(plain) = &plain {
            let claim = "the release as it is knows no files and no lines of the library";
            let holds = !plain.is_complete(&sources);
            self.screen.claim(claim, holds, || plain.frames.join("\n"))?;
        }
        self.change(&["select", "xz@5.8,debug"])?;
        self.everyone_says(&NEW)?;
        let selected = self.room.dynfs().releases()?;
        let claim = "`dynfs list --json` says that the debug variant is selected";
        let wanted =
            |(name, selected): &(String, bool)| *selected == (*name == release(&NEW, ",debug"));
        self.screen.claim(claim, selected.iter().all(wanted), || format!("{selected:?}"))?;
        if !found {
            self.screen.note("There is no debugger: `apt install gdb` to see the rest.");
            return Ok(());
        }
        if let (Some(_), Some(backtrace)) = (plain, self.ask_debugger()?) {
            let claim = "every frame has its file and line, nothing was rebuilt";
            let holds = backtrace.is_complete(&sources);
            self.screen.claim(claim, holds, || backtrace.frames.join("\n"))?;
        }
        Ok(())
    }

    /// `None` if programs may not be traced here, which has been said then.
    fn ask_debugger(&mut self) -> Result<Option<Backtrace>, Stop> {
        let program = self.programs.command(0);
        self.screen.command(&process::words(&self.debugger.command(&program)));
        match self.debugger.ask(&program, self.interrupt)? {
            Answer::Stopped(backtrace) => {
                self.screen.output(&backtrace.frames.join("\n"));
                if let Some(source) = &backtrace.source {
                    self.screen.output(&format!("{FUNCTION} is about to do line {source}"));
                }
                Ok(Some(backtrace))
            }
            Answer::NotAllowed(said) => {
                let note = format!("The debugger may not trace programs here: {said}");
                self.screen.note(&note);
                Ok(None)
            }
        }
    }

    /// What must hold after every swap: all programs use the release, no file of theirs changed,
    /// and the one that runs has what it had.
    pub(super) fn everyone_says(&mut self, upstream: &Upstream) -> Result<(), Stop> {
        let reports = self.programs.run(self.interrupt)?;
        if let Some(first) = reports.first() {
            self.screen.output(&format!("{}\n...", first.line));
        }
        let count = reports.len();
        let is_right = |report: &program::Report| {
            report.runs_with == upstream.version && report.built_with == OLD.version
        };
        let claim = format!("all {count} programs work and say {}", upstream.version);
        let holds = reports.iter().all(is_right);
        self.screen.claim(&claim, holds, || {
            let wrong = reports.iter().filter(|report| !is_right(report));
            wrong.map(|report| report.line.clone()).collect::<Vec<_>>().join("\n")
        })?;
        let now = self.programs.hashes()?;
        let changed = self.programs.changed(&self.hashes, &now);
        let hash = program::together(&now);
        let claim = format!("all {count} program files are unchanged: {hash}");
        self.screen
            .claim(&claim, changed.is_empty(), || format!("changed: {}", changed.join(" ")))?;
        self.resident_keeps()
    }

    fn resident_keeps(&mut self) -> Result<(), Stop> {
        let Some(stay) = &mut self.stay else { return Ok(()) };
        let report = stay.resident.report(self.interrupt)?;
        let library = mapped(&stay.resident)?;
        let (inode, version) = (library.inode, stay.version);
        let claim = format!("the one that runs works and has {version} mapped, inode {inode}");
        let holds = report.runs_with == version
            && (library.device, inode) == (stay.library.device, stay.library.inode);
        self.screen.claim(&claim, holds, || format!("{}; mapped: {library}", report.line))
    }

    /// Is the mapped file that of a release? By device and inode: its name may show another now.
    pub(super) fn is_of(&self, library: &Mapping, upstream: &Upstream) -> Result<bool, Stop> {
        let pinned = self.package.with_file_name(release(upstream, ""));
        identity(&pinned.join("lib/liblzma.so.5"))
            .map(|identity| identity == (library.device, library.inode))
    }
}

/// The file of liblzma that a running program has mapped.
fn mapped(resident: &Resident) -> Result<Mapping, Stop> {
    let maps = resident.maps()?;
    maps::library(&maps, "liblzma.so").ok_or_else(|| Stop::Wrong {
        claim: "the program that stays has liblzma mapped".into(),
        found: maps,
    })
}

/// Device and inode of a file, as `/proc/PID/maps` writes them.
fn identity(path: &Path) -> Result<((u32, u32), u64), Stop> {
    let found = fs::metadata(path)
        .map_err(|source| Stop::io(format!("cannot look at {}", path.display()), source))?;
    let device = found.dev();
    Ok(((rustix::fs::major(device), rustix::fs::minor(device)), found.ino()))
}
