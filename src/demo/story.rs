//! The demo from beginning to end: each step with its commands, what they say, and what must hold.

mod ending;
#[cfg(test)]
mod rehearsal;
mod swaps;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Options;
use super::cleanup::Room;
use super::debugger::Debugger;
use super::library::{self, Flavour, Library};
use super::maps::Mapping;
use super::needs::{self, Compiler};
use super::process::{self, Interrupt};
use super::program::{self, Programs, Resident};
use super::screen::{self, Screen};
use super::sources::{NEW, OLD, Upstream};
use super::stop::Stop;

/// Plays the whole demo and cleans up after it.
pub(super) fn run<W: Write>(
    options: &Options,
    screen: &mut Screen<W>,
    interrupt: &Interrupt,
) -> Result<(), Stop> {
    needs::fuse()?;
    let compiler = Compiler::find(interrupt)?;
    let program = std::env::current_exe()
        .map_err(|source| Stop::io("cannot find the dynfs program", source))?;
    let room = Room::make(program)?;
    let outcome = Story::begin(options, screen, interrupt, &compiler, &room).and_then(Story::tell);
    let interrupted = matches!(outcome, Err(Stop::Interrupted));
    let worth = outcome.is_ok() || matches!(room.is_mounted(), Ok(true));
    if options.keep && worth && !interrupted {
        ending::what_next(screen, &room);
        room.keep();
        return outcome;
    }
    let cleared = ending::clear(screen, room, outcome.is_ok());
    match (outcome, cleared) {
        (Err(stop), Err(also)) => {
            screen::complain(&also);
            Err(stop)
        }
        (outcome, cleared) => outcome.and(cleared),
    }
}

/// What the steps hand to each other.
struct Story<'a, W> {
    screen: &'a mut Screen<W>,
    interrupt: &'a Interrupt,
    compiler: &'a Compiler,
    room: &'a Room,
    programs: Programs,
    debugger: Debugger,
    /// The virtual path that everything is built against.
    package: PathBuf,
    /// Of the program files, right after they were built.
    hashes: Vec<blake3::Hash>,
    /// What was typed, and how long it took.
    swaps: Vec<(String, Duration)>,
    built: Duration,
    stay: Option<Stay>,
    requests: Option<u64>,
}

/// The program that keeps running, and the library that it had mapped from the start.
struct Stay {
    resident: Resident,
    library: Mapping,
    version: &'static str,
}

impl<'a, W: Write> Story<'a, W> {
    fn begin(
        options: &Options,
        screen: &'a mut Screen<W>,
        interrupt: &'a Interrupt,
        compiler: &'a Compiler,
        room: &'a Room,
    ) -> Result<Self, Stop> {
        let count = options.programs.clamp(1, Options::MOST_PROGRAMS);
        Ok(Self {
            screen,
            interrupt,
            compiler,
            room,
            programs: Programs::prepare(room.directory(), count)?,
            debugger: Debugger::prepare(room.directory())?,
            package: room.mountpoint().join("lib/xz"),
            hashes: Vec::new(),
            swaps: Vec::new(),
            built: Duration::ZERO,
            stay: None,
            requests: None,
        })
    }

    fn tell(mut self) -> Result<(), Stop> {
        let title =
            "dynfs demo: a library swapped below programs that are built, and one that runs";
        self.screen.title(title);
        let libraries = self.compile_libraries()?;
        self.tell_with(&libraries)
    }

    fn tell_with(mut self, libraries: &[Library; 3]) -> Result<(), Stop> {
        self.mount()?;
        self.add(libraries)?;
        self.build_programs()?;
        self.start_resident()?;
        self.swap()?;
        self.undo_and_redo()?;
        self.side_by_side()?;
        self.warm_starts()?;
        self.debug()?;
        self.summary();
        Ok(())
    }

    /// Two releases from the cache, and the debug variant for this very mount point.
    fn compile_libraries(&mut self) -> Result<[Library; 3], Stop> {
        self.screen.step("Two releases of a real library: liblzma of xz, from its own sources");
        let cache = library::cache_directory(self.room.directory());
        let old = library::cached(&OLD, self.compiler, &cache, self.interrupt)?;
        self.screen.note(&library_row(&OLD, "", Flavour::Plain, &old));
        let new = library::cached(&NEW, self.compiler, &cache, self.interrupt)?;
        self.screen.note(&library_row(&NEW, "", Flavour::Plain, &new));
        let carrier = NEW.locate(&cache, self.interrupt)?;
        let flavour = Flavour::Debug { package: &self.package };
        let debug = library::compile(
            &NEW,
            &carrier,
            self.compiler,
            flavour,
            self.room.directory().join("debug"),
            self.interrupt,
        )?;
        self.screen.note(&library_row(&NEW, ",debug", flavour, &debug));
        Ok([old, new, debug])
    }

    fn mount(&mut self) -> Result<(), Stop> {
        let (directory, mountpoint) = (self.room.directory(), self.room.mountpoint());
        self.screen.step("An empty store, mounted");
        self.screen.command(&["cd".into(), directory.display().to_string()]);
        let export = format!("DYNFS_STORE={}", self.room.dynfs().store().display());
        self.screen.command(&["export".into(), export]);
        self.dynfs(&["mount", &text(mountpoint)?])?;
        Ok(())
    }

    fn add(&mut self, [old, new, debug]: &[Library; 3]) -> Result<(), Stop> {
        self.screen.step("The releases become packages: each one is an immutable object");
        for (upstream, library, variant) in
            [(&OLD, old, None), (&NEW, new, None), (&NEW, debug, Some("debug"))]
        {
            let directory = text(&library.directory)?;
            let mut words = vec!["add", &directory, "--name", "xz", "--version", upstream.version];
            if let Some(variant) = variant {
                words.extend(["--variant", variant]);
            }
            self.dynfs(&words)?;
        }
        let there = self.room.dynfs().releases()?;
        let mut names: Vec<_> = there.iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        let wanted = [release(&OLD, ""), release(&NEW, ""), release(&NEW, ",debug")];
        let listed = "`dynfs list --json` has the three releases, and none is selected";
        let holds = names == wanted && there.iter().all(|(_, selected)| !selected);
        self.screen.claim(listed, holds, || format!("it has {there:?}"))
    }

    /// The only time in this demo that a program is compiled.
    fn build_programs(&mut self) -> Result<(), Stop> {
        let count = self.programs.count();
        self.screen.step(&format!("{count} programs, built once against the virtual path"));
        self.change(&["select", "xz@5.2"])?;
        let example = self.programs.compilation(0, self.compiler, &self.package);
        self.screen.command(&process::words(&example));
        let start = Instant::now();
        self.programs.compile(self.compiler, &self.package, self.interrupt)?;
        self.built = start.elapsed();
        let took = screen::duration(self.built);
        self.screen.note(&format!("... and so on, with another NUMBER each: {count} in {took}"));
        self.hashes = self.programs.hashes()?;
        let hash = program::together(&self.hashes);
        self.screen.note(&format!("BLAKE3 over the hashes of all program files: {hash}"));
        self.everyone_says(&OLD)?;
        self.realpath()
    }

    /// Nothing that a build writes down may name an object or a version.
    fn realpath(&mut self) -> Result<(), Stop> {
        let path = self.package.join("lib/liblzma.so.5");
        self.screen.command(&["realpath".into(), path.display().to_string()]);
        let real = fs::canonicalize(&path)
            .map_err(|source| Stop::io(format!("cannot resolve {}", path.display()), source))?;
        self.screen.output(&real.display().to_string());
        let claim = "the virtual path is the real path: nothing names an object or a version";
        self.screen.claim(claim, real == path, || format!("it is {}", real.display()))
    }

    fn start_resident(&mut self) -> Result<(), Stop> {
        self.screen.step("One of them keeps running");
        let last = self.programs.count() - 1;
        let command = self.programs.command(last);
        let mut words = process::words(&command);
        words.extend(["--stay".into(), "&".into()]);
        self.screen.command(&words);
        let mut resident = Resident::start(command)?;
        let report = resident.report(self.interrupt)?;
        self.screen.output(&report.line);
        let library = self.show_mapped(&resident)?;
        self.which()?;
        let claim = format!("it runs with {} and has that release's file mapped", OLD.version);
        let same = self.is_of(&library, &OLD)?;
        let holds = same && report.runs_with == OLD.version;
        self.screen.claim(&claim, holds, || format!("{}; mapped: {library}", report.line))?;
        self.stay = Some(Stay { resident, library, version: OLD.version });
        Ok(())
    }

    /// Runs a dynfs command in front of the user, unless the demo is to end.
    fn dynfs(&mut self, words: &[&str]) -> Result<Duration, Stop> {
        self.interrupt.check()?;
        let ended = self.room.dynfs().show(self.screen, words)?;
        self.interrupt.check()?;
        Ok(ended.took)
    }

    /// The same, for a command that swaps something.
    fn change(&mut self, words: &[&str]) -> Result<(), Stop> {
        let took = self.dynfs(words)?;
        self.swaps.push((words.join(" "), took));
        Ok(())
    }

    fn which(&mut self) -> Result<(), Stop> {
        let path = text(&self.package.join("lib/liblzma.so.5"))?;
        self.dynfs(&["which", &path])?;
        Ok(())
    }
}

fn library_row(
    upstream: &Upstream,
    variant: &str,
    flavour: Flavour<'_>,
    library: &Library,
) -> String {
    let made = match library.compiled {
        Some((files, took)) => format!("{files} C files compiled in {}", screen::duration(took)),
        None => "compiled earlier".to_owned(),
    };
    let carrier = format!("crate {} {}", upstream.carrier, upstream.carrier_version);
    let flags = flavour.flags().join(" ");
    format!(
        "{:<15} {carrier:<24} cc {flags:<7} {made}",
        format!("xz {}{variant}", upstream.version)
    )
}

/// A release as it is typed.
fn release(upstream: &Upstream, variant: &str) -> String {
    format!("xz@{}{variant}", upstream.version)
}

/// The command line of dynfs takes any path; the demo's own are made from text.
fn text(path: &Path) -> Result<String, Stop> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Stop::Missing(format!("{} is not UTF-8: set TMPDIR to another path", path.display()))
    })
}
