//! The server and the keeper die in every way there is, at random times, under load: no program
//! sees an error, a wrong byte or what was selected before.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, pidfd_send_signal, prlimit,
};

use crate::harness::turn::{Campaign, Case, Dice, Turn};
use crate::load::Load;
use crate::rig::{PATIENCE, Rig};

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "kills",
    what: "deaths of mixed kinds at random times under checksummed load",
    unit: "deaths",
    per_case: 1,
    short: 200,
    long: 10_000,
    run,
};

/// Cases after which old generations are collected.
const COLLECT_EVERY: u64 = 50;
/// Lines of the log that are shown when something went wrong.
const LOG_LINES: usize = 30;
/// How long a server waits for its memory to run out, before it is killed as the kernel would.
const STARVING: Duration = Duration::from_millis(50);

/// How something dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// The server gets this signal.
    Signal(Signal),
    /// The server aborts at this point of a select. Only in debug builds.
    At(&'static str),
    /// A handler panics. Only in debug builds.
    Panic,
    /// The server can get no more memory.
    Starved,
    /// The server hangs, and the watchdog kills it.
    Stopped,
    /// The keeper is killed.
    Keeper,
}

impl Death {
    fn name(self) -> String {
        match self {
            Self::Signal(signal) => format!("signal {}", signal.as_raw()),
            Self::At(point) => format!("aborted when {point}"),
            Self::Panic => "panicked".into(),
            Self::Starved => "out of memory".into(),
            Self::Stopped => "stopped".into(),
            Self::Keeper => "keeper killed".into(),
        }
    }

    /// A hang costs seconds, so it is rare.
    fn roll(dice: &mut Dice) -> Self {
        let points = if cfg!(debug_assertions) { 20 } else { 0 };
        match dice.roll(80 + points) {
            0 => Self::Stopped,
            1..10 => Self::Keeper,
            10..15 => Self::Starved,
            15..25 => Self::Signal(Signal::SEGV),
            25..35 => Self::Signal(Signal::ABORT),
            35..40 => Self::Signal(Signal::BUS),
            40..80 => Self::Signal(Signal::KILL),
            80..85 => Self::Panic,
            85..90 => Self::At("published"),
            90..95 => Self::At("shown"),
            _ => Self::At("announced"),
        }
    }
}

fn run(turn: &mut Turn<'_>) {
    let scratch = tempfile::tempdir().expect("a place");
    let [point, panic] = ["point", "panic"].map(|name| scratch.path().join(name));
    let crash = format!("any:{}", point.display());
    let panics = format!("=read:{}", panic.display());
    let environment = [("DYNFS_TEST_CRASH", crash.as_str()), ("DYNFS_TEST_PANIC", panics.as_str())];
    let Some(rig) = Rig::new("campaign kills", &environment) else {
        return turn.skip("nothing can be mounted");
    };
    let load = Load::on(rig, "1");
    load.during(|| {
        while let Some(case) = turn.next() {
            if let Err(words) = one(&load, case, turn, &point, &panic) {
                turn.violation(&format!("{words}\n{}", last_of_log(&load)));
            }
            load.tally(turn);
        }
    });
    if let Err(words) = load.check() {
        turn.violation(&words);
    }
}

fn one(
    load: &Load,
    mut case: Case,
    turn: &mut Turn<'_>,
    point: &Path,
    panic: &Path,
) -> Result<(), String> {
    // Mostly short, so that many of them hit a server that has just begun.
    let longest = if case.dice.roll(4) == 0 { 500 } else { 80 };
    let pause = Duration::from_micros(1_000 * 5 + case.dice.roll(1_000 * longest));
    let death = Death::roll(&mut case.dice);
    let role = if matches!(death, Death::Keeper) { "keeper" } else { "server" };
    let pid = load.rig.pid(role);
    let process = Pid::from_raw(pid).ok_or("no process")?;
    // It may die of a fault that an earlier case had prepared, and its number be used again.
    let process = pidfd_open(process, PidfdFlags::empty()).map_err(|error| error.to_string())?;
    thread::sleep(pause);
    match death {
        Death::Signal(signal) => send(&process, signal),
        Death::Stopped => send(&process, Signal::STOP),
        Death::Keeper => send(&process, Signal::KILL),
        Death::At(name) => fs::write(point, name).map_err(|error| error.to_string())?,
        Death::Panic => fs::write(panic, "").map_err(|error| error.to_string())?,
        Death::Starved => starve(pid, &process),
    }
    let begin = Instant::now();
    while load.rig.pid_now(role).is_none_or(|now| now == pid) {
        load.check()?;
        if begin.elapsed() > PATIENCE {
            return Err(format!("no other {role} came ({})\n{}", death.name(), remains(pid)));
        }
        // The language's own handler of a bad access gives way at the first one, and expects that
        // the access is tried again.
        if let Death::Signal(signal @ (Signal::SEGV | Signal::BUS)) = death {
            send(&process, signal);
        }
        thread::sleep(Duration::from_millis(1));
    }
    turn.count(&death.name(), 1);
    load.goes_on()?;
    if case.number % COLLECT_EVERY == COLLECT_EVERY - 1 {
        load.collect()?;
    }
    load.check()
}

fn send(process: &OwnedFd, signal: Signal) {
    // It may be dead already.
    pidfd_send_signal(process, signal).ok();
}

/// No more memory than it has; and in case that is enough for it, an end as the kernel makes one.
fn starve(pid: i32, process: &OwnedFd) {
    let limit = Rlimit { current: Some(0), maximum: Some(0) };
    prlimit(Pid::from_raw(pid), Resource::As, limit).ok();
    thread::sleep(STARVING);
    send(process, Signal::KILL);
}

/// What can be learned of a process that should be dead.
fn remains(pid: i32) -> String {
    let mut words = String::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        for file in ["stat", "syscall", "stack"] {
            let text = fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            words.push_str(&text.lines().take(4).collect::<Vec<_>>().join(" < "));
            words.push('\n');
        }
    }
    words
}

fn last_of_log(load: &Load) -> String {
    let log = load.rig.log();
    let last = log.lines().count().saturating_sub(LOG_LINES);
    log.lines().skip(last).collect::<Vec<_>>().join("\n")
}
