//! The command line as types. Parsing does nothing but parse: names and specs stay texts here, so
//! that every command refuses them in the same words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::demo;

/// What scripts rely on.
const AFTER_HELP: &str = "\
Exit codes:
  0  done, or there was nothing to do
  1  failed
  2  the command was not understood
  3  no such package, release, generation, path or store
  4  refused, for a reason that is said
  5  you may not
  6  no daemon, no mount, or the store is busy
  7  something in the store is damaged

Data goes to standard output and everything else, errors too, to standard error. With --json the
data is one document, which starts with {\"schema\":\"dynfs.<command>/1\"; errors stay text.";

/// Immutable packages behind stable virtual paths: swap a dependency without rebuilding anything.
#[derive(Debug, Parser)]
#[command(name = "dynfs", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The store's directory [default: $DYNFS_STORE, /var/lib/dynfs as root, else
    /// $XDG_DATA_HOME/dynfs]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Print one JSON document; errors stay text, on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say what would be done, and change nothing
    #[arg(short = 'n', long, global = true)]
    pub(crate) dry_run: bool,
    /// Answer every question with yes
    #[arg(short = 'y', long, global = true)]
    pub(crate) yes: bool,
    /// Say nothing but what was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on standard error, a daemon in its log; twice: even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colours: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    #[arg(hide_possible_values = true)]
    pub(crate) color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount the store: its selected packages appear below the mount point
    Mount(Mount),
    /// Unmount the store and end its daemon
    Umount(Umount),
    /// Replace the daemon's server by one of another program, under load
    Reexec(Reexec),
    /// Give up a mount that hangs: everything that uses it gets errors
    Abort,
    /// Add a directory tree as a release, or the releases of a file that `dynfs copy` wrote
    Add(Add),
    /// Copy releases to a file or another store
    Copy(Copy),
    /// List packages, or the releases of one
    List(List),
    /// Show everything about one release
    Show(Show),
    /// Say which release and file is behind a path below the mount
    Which(Which),
    /// Select releases: programs that start from now on use them
    Select(Select),
    /// Select packages no more
    Unselect(Unselect),
    /// Remove releases that no generation selects
    Remove(Remove),
    /// Make the selections equal to a file, as `dynfs list --toml` writes one
    Apply(Apply),
    /// Go back to the state before the last change; again goes further back
    Undo,
    /// Come forward again
    Redo,
    /// Go back to the state of one generation
    Restore(Restore),
    /// List all generations, the newest first
    History,
    /// Show what differs between two generations
    Diff(Diff),
    /// Check the store
    Fsck(Fsck),
    /// Remove what nothing needs: old generations, releases, objects and blobs
    Gc(Gc),
    /// Show mount, generation, processes and request counters
    Status,
    /// Swap a real library below running programs, on a temporary store
    Demo(Demo),
    /// Write shell completions to standard output
    Completions(Completions),
}

#[derive(Args, Debug)]
pub(crate) struct Mount {
    /// Where to mount [default: the store's prefix]
    pub(crate) mountpoint: Option<PathBuf>,
    /// Stay in the foreground until unmounted
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Replace a server that hangs for so long; 0 never does
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) watchdog: u64,
    /// Where the kernel (before Linux 6.9) does not hand out again what a dead server had read:
    /// mount anew when requests stay unanswered for so long, since an error is better than a
    /// hang; 0 never does
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) unanswered: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Umount {
    /// Detach it even while it is in use
    #[arg(long)]
    pub(crate) lazy: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Reexec {
    /// The program [default: this one]
    #[arg(long, value_name = "PATH")]
    pub(crate) exe: Option<PathBuf>,
    /// Replace the keeper as well
    #[arg(long)]
    pub(crate) keeper: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Add {
    /// The directory: its bin, lib, include, ... become the package's. Or a release file, - for
    /// standard input, which says everything else itself
    #[arg(value_name = "DIR|FILE")]
    pub(crate) source: PathBuf,
    /// The package; a directory needs it
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The version, as Debian writes them; a directory needs it
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// The architecture as Debian names it [default: that of its ELF files, else all]
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    /// A variant, such as debug; may be repeated
    #[arg(long = "variant", value_name = "VARIANT")]
    pub(crate) variants: Vec<String>,
    /// The directory that the package lives in [default: lib or app, by what is in it]
    #[arg(long)]
    pub(crate) category: Option<String>,
    /// What must be selected with it, such as 'zlib>=1.2' or so:libz.so.1; may be repeated
    #[arg(long, value_name = "SPEC")]
    pub(crate) needs: Vec<String>,
    /// Clamp file times to at most this
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) epoch: Option<i64>,
    /// Take also files that others cannot read
    #[arg(long)]
    pub(crate) public: bool,
    /// The prefix of a store that does not exist yet
    #[arg(long, value_name = "DIR")]
    pub(crate) prefix: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Copy {
    /// Releases, such as openssl@3.2; a bare name means what is selected, or the newest
    #[arg(required = true, value_name = "SPEC")]
    pub(crate) specs: Vec<String>,
    /// The directory of another store, or a new file with all of them; - is standard output
    #[arg(long, value_name = "STORE|FILE")]
    pub(crate) to: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// List the releases of this package
    pub(crate) package: Option<String>,
    /// Write the selections as a file for `dynfs apply`
    #[arg(long, conflicts_with_all = ["package", "json"])]
    pub(crate) toml: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The release, such as openssl or openssl@3.2
    pub(crate) spec: String,
}

#[derive(Args, Debug)]
pub(crate) struct Which {
    /// Paths below the mount point or the prefix
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Select {
    /// Releases, such as openssl@3.2
    #[arg(required = true, value_name = "SPEC")]
    pub(crate) specs: Vec<String>,
    /// Who shall provide commands and sonames that several packages have; may be repeated
    #[arg(long = "provider", value_name = "PACKAGE")]
    pub(crate) providers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Unselect {
    /// Packages
    #[arg(required = true, value_name = "PACKAGE")]
    pub(crate) packages: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Releases, each of them exactly one
    #[arg(required = true, value_name = "SPEC")]
    pub(crate) specs: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// A TOML file; - reads standard input
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The generation; 0 is the empty state
    pub(crate) generation: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// The older generation [default: the one before]
    pub(crate) from: Option<u64>,
    /// The newer generation [default: the newest]
    pub(crate) to: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Fsck {
    /// Hash every file again
    #[arg(long)]
    pub(crate) data: bool,
    /// Make good what can be: hashes every file, moves bad ones aside, computes what follows from
    /// the rest
    #[arg(long)]
    pub(crate) repair: bool,
    /// Where good copies are: another store, or a file that `dynfs copy` wrote; may be repeated
    #[arg(long, value_name = "STORE|FILE", requires = "repair")]
    pub(crate) from: Vec<PathBuf>,
    /// Move the newest generation aside as well when it is damaged: the one before is the newest
    /// then. Not while it is mounted; dynfs restore N goes on without this
    #[arg(long, requires = "repair")]
    pub(crate) step_back: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Gc {
    /// Keep so many of the newest generations; the newest one always stays
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) keep: u64,
    /// Keep also generations and releases that are younger than this: 36h, 14d, 2w, or 0
    #[arg(long, value_name = "TIME", default_value = "14d")]
    pub(crate) keep_since: String,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Leave it mounted at the end
    #[arg(long)]
    pub(crate) keep: bool,
    /// How many programs to build and swap the library below, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = demo::Options::default().programs)]
    #[arg(value_parser = clap::value_parser!(u32).range(PROGRAMS))]
    pub(crate) programs: u32,
}

/// How many programs the demo can build.
const PROGRAMS: std::ops::RangeInclusive<i64> = 1..=demo::Options::MOST_PROGRAMS as i64;

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

/// Shells that completions can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}
