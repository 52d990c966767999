//! `dynfs demo`: a real library swapped below real, already built, already running programs.
//!
//! The demo is a user. It types `dynfs` commands, compiles, runs programs and looks at what they
//! say; every sentence that it prints about the result has been checked, and a false one ends it.
//! It never calls the library: what it shows, anybody can type.
//!
//! ```text
//! <temporary directory>/
//!   store/       the store
//!   dyn/         the mount point, which is also the store's prefix
//!   debug/       the debug variant: its DWARF names files below the mount point
//!   program.c    the source of all programs
//!   programs/    the programs, each compiled once
//! <cache>/dynfs-demo/
//!   fetch/       the manifests that bring the sources of xz
//!   xz-<version>-<key>/   a compiled release; the key covers everything that it was made from
//! ```

mod cleanup;
mod debugger;
mod dynfs;
mod library;
mod maps;
mod needs;
mod process;
mod program;
mod requests;
mod screen;
mod sources;
mod stop;
mod story;

use std::process::ExitCode;

use process::Interrupt;
use screen::Screen;
use stop::Stop;

/// What `dynfs demo` was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Leave the store mounted at the end and say what to type next.
    pub keep: bool,
    /// How many programs are built and swapped below, 1 to [`Options::MOST_PROGRAMS`].
    pub programs: u32,
}

impl Options {
    /// More programs than this would fill the disk before they show anything new.
    pub const MOST_PROGRAMS: u32 = 1000;
}

impl Default for Options {
    fn default() -> Self {
        Self { keep: false, programs: 40 }
    }
}

/// Runs the demo. It prints to standard output, and the reason for a failure to standard error.
///
/// Exit codes: 0 everything was as promised; 1 something was not, or a tool is missing; 6 there is
/// no FUSE; 130 it was interrupted. In each case it has cleaned up, unless asked to keep.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let mut screen = Screen::new(anstream::stdout());
    let outcome = Interrupt::on_signals()
        .map_err(|source| Stop::io("cannot listen for signals", source))
        .and_then(|interrupt| story::run(options, &mut screen, &interrupt));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            screen::complain(&stop);
            ExitCode::from(stop.exit_code())
        }
    }
}
