//! Child processes with a time limit, which a signal to the demo ends too. Never a shell.

use std::borrow::Cow;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::stop::Stop;

/// No child of the demo needs longer than this, not even the first download of the sources.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// Of what a child prints, no more than this is kept.
const MOST_OUTPUT: usize = 8 << 20;

/// Becomes readable, and stays so, when somebody wants the demo to end.
#[derive(Debug)]
pub(super) struct Interrupt {
    wanted: UnixStream,
    // Held so that a demo without signals does not see an end of file as one.
    _quiet: Option<UnixStream>,
}

impl Interrupt {
    /// Turns SIGINT, SIGTERM and SIGHUP from now on into a wish that is looked at between steps.
    pub(super) fn on_signals() -> io::Result<Self> {
        let (wanted, signal) = UnixStream::pair()?;
        for number in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::low_level::pipe::register(number, signal.try_clone()?)?;
        }
        Ok(Self { wanted, _quiet: None })
    }

    /// One that never comes.
    #[cfg(test)]
    pub(super) fn never() -> io::Result<Self> {
        let (wanted, quiet) = UnixStream::pair()?;
        Ok(Self { wanted, _quiet: Some(quiet) })
    }

    /// One that has come.
    #[cfg(test)]
    pub(super) fn already() -> io::Result<Self> {
        let (wanted, mut signal) = UnixStream::pair()?;
        io::Write::write_all(&mut signal, b"x")?;
        Ok(Self { wanted, _quiet: Some(signal) })
    }

    /// Ends the step if somebody asked for it.
    pub(super) fn check(&self) -> Result<(), Stop> {
        match ready(&[self.wanted.as_fd()], Duration::ZERO) {
            Ok(ready) if ready[0] => Err(Stop::Interrupted),
            Ok(_) => Ok(()),
            Err(source) => Err(Stop::io("cannot look for signals", source)),
        }
    }
}

/// A child that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// From before the fork until the end was seen.
    pub(super) took: Duration,
}

impl Ended {
    /// Standard output as text; what is not UTF-8 is shown as a replacement character.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs `command` to its end, whatever its exit code. Without an `interrupt` it is not disturbed.
pub(super) fn run(command: &mut Command, interrupt: Option<&Interrupt>) -> Result<Ended, Stop> {
    run_within(command, interrupt, LIMIT)
}

/// Runs `command` and fails unless its exit code is 0.
pub(super) fn succeed(command: &mut Command, interrupt: Option<&Interrupt>) -> Result<Ended, Stop> {
    let ended = run(command, interrupt)?;
    if ended.status.success() { Ok(ended) } else { Err(failed(command, &ended)) }
}

/// The failure that `ended` is.
pub(super) fn failed(command: &Command, ended: &Ended) -> Stop {
    let mut said = String::from_utf8_lossy(&ended.stderr).trim_end().to_owned();
    if said.is_empty() {
        said = ended.text().trim_end().to_owned();
    }
    Stop::Command {
        command: typed(command),
        status: ended.status.to_string(),
        code: ended.status.code(),
        said,
    }
}

/// The command as one would type it.
pub(super) fn typed(command: &Command) -> String {
    words(command).join(" ")
}

/// The command as one would type it, word by word.
pub(super) fn words(command: &Command) -> Vec<String> {
    let program = command.get_program();
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| quoted(word.to_string_lossy()))
        .collect()
}

fn quoted(word: Cow<'_, str>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_^~".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { quote(&word) }
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn run_within(
    command: &mut Command,
    interrupt: Option<&Interrupt>,
    limit: Duration,
) -> Result<Ended, Stop> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Stop::io(format!("cannot run `{}`", typed(command)), source))?;
    let watched = watch(&mut child, interrupt, start, limit);
    if watched.is_err() {
        // Its end is waited for below; that it may be gone already is all the same.
        let _gone = child.kill();
    }
    let status = child.wait().map_err(|source| Stop::io("cannot wait for a child", source))?;
    match watched {
        Ok((stdout, stderr)) => Ok(Ended { status, stdout, stderr, took: start.elapsed() }),
        Err(Watch::Interrupted) => Err(Stop::Interrupted),
        Err(Watch::TooLong) => {
            Err(Stop::TooLong { command: typed(command), seconds: limit.as_secs() })
        }
        Err(Watch::Io(source)) => Err(Stop::io(format!("while `{}` ran", typed(command)), source)),
    }
}

enum Watch {
    Interrupted,
    TooLong,
    Io(io::Error),
}

impl From<io::Error> for Watch {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

/// Collects what the child prints until it ends. Not until the pipes are closed: a daemon that the
/// child leaves behind may hold them for ever.
fn watch(
    child: &mut Child,
    interrupt: Option<&Interrupt>,
    start: Instant,
    limit: Duration,
) -> Result<(Vec<u8>, Vec<u8>), Watch> {
    let pid = Pid::from_child(child);
    let end = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
    let mut stdout = Outlet::new(child.stdout.take())?;
    let mut stderr = Outlet::new(child.stderr.take())?;
    loop {
        let left = limit.checked_sub(start.elapsed()).ok_or(Watch::TooLong)?;
        let mut files = vec![end.as_fd()];
        files.extend(interrupt.map(|interrupt| interrupt.wanted.as_fd()));
        files.extend(stdout.open.as_ref().map(AsFd::as_fd));
        files.extend(stderr.open.as_ref().map(AsFd::as_fd));
        let ready = ready(&files, left)?;
        stdout.drain()?;
        stderr.drain()?;
        if ready[0] {
            return Ok((stdout.kept, stderr.kept));
        }
        if interrupt.is_some() && ready[1] {
            return Err(Watch::Interrupted);
        }
    }
}

/// One of a child's output pipes and what has come through it.
struct Outlet<R> {
    open: Option<R>,
    kept: Vec<u8>,
}

impl<R: Read + AsFd> Outlet<R> {
    fn new(open: Option<R>) -> io::Result<Self> {
        if let Some(file) = &open {
            rustix::io::ioctl_fionbio(file, true)?;
        }
        Ok(Self { open, kept: Vec::new() })
    }

    /// Takes what is there without waiting.
    fn drain(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.open else { return Ok(()) };
        let mut page = [0; 16 << 10];
        loop {
            match file.read(&mut page) {
                Ok(0) => {
                    self.open = None;
                    return Ok(());
                }
                Ok(length) => {
                    let room = MOST_OUTPUT.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(&page[..length.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Waits until one of `files` is readable or the time is over; which of them are.
fn ready(files: &[BorrowedFd<'_>], within: Duration) -> io::Result<Vec<bool>> {
    let mut polled: Vec<_> =
        files.iter().map(|&file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
    let within = Timespec::try_from(within).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&within)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(polled.iter().map(|file| !file.revents().is_empty()).collect())
}

/// Waits until `file` has something to read.
pub(super) fn wait_readable(
    file: impl AsFd,
    interrupt: &Interrupt,
    within: Duration,
) -> Result<bool, Stop> {
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let ready = ready(&[file.as_fd(), interrupt.wanted.as_fd()], left)
            .map_err(|source| Stop::io("cannot wait for a program", source))?;
        if ready[1] {
            return Err(Stop::Interrupted);
        }
        if ready[0] || left.is_zero() {
            return Ok(ready[0]);
        }
    }
}

/// Does every job, as many at a time as there are processors; results in the order of the jobs.
/// After the first failure no further job is begun.
pub(super) fn in_parallel<J: Sync, R: Send>(
    jobs: &[J],
    work: impl Fn(&J) -> Result<R, Stop> + Sync,
) -> Result<Vec<R>, Stop> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(jobs.len()));
    let worker = || -> Result<(), Stop> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(number) else { return Ok(()) };
            let result = work(job).inspect_err(|_| next.store(jobs.len(), Ordering::Relaxed))?;
            done.lock().expect("no worker panics with the lock").push((number, result));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        // All are joined before the first failure is looked at.
        let ended: Vec<_> = running.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        ended.into_iter().try_for_each(|end| end.expect("a worker does not panic"))
    })?;
    let mut done = done.into_inner().expect("no worker panics with the lock");
    done.sort_unstable_by_key(|&(number, _)| number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_exit_code_come_back_apart() {
        let ended = run(&mut shell("echo out; echo err >&2; exit 3"), None).expect("sh runs");
        assert_eq!(ended.stdout, b"out\n");
        assert_eq!(ended.stderr, b"err\n");
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    fn more_than_a_pipe_holds_is_collected() {
        let ended = run(&mut shell("head -c 300000 /dev/zero"), None).expect("sh runs");
        assert_eq!(ended.stdout.len(), 300_000);
    }

    #[test]
    fn a_process_left_behind_with_the_pipe_is_not_waited_for() {
        let ended = run(&mut shell("sleep 30 & echo $!"), None).expect("sh runs");
        let left: i32 = ended.text().trim().parse().expect("a process id");
        let left = Pid::from_raw(left).expect("not zero");
        assert!(ended.took < Duration::from_secs(30));
        rustix::process::kill_process(left, rustix::process::Signal::KILL).expect("it still runs");
    }

    #[test]
    fn a_child_that_hangs_is_killed() {
        let limit = Duration::from_millis(50);
        let stop = run_within(&mut shell("exec sleep 100"), None, limit).expect_err("too long");
        assert!(matches!(stop, Stop::TooLong { .. }), "{stop}");
    }

    #[test]
    fn an_interrupt_ends_a_child_and_a_wait() {
        let interrupt = Interrupt::already().expect("a pair");
        let stop = run(&mut shell("exec sleep 100"), Some(&interrupt)).expect_err("interrupted");
        assert!(matches!(stop, Stop::Interrupted), "{stop}");
        assert!(matches!(interrupt.check(), Err(Stop::Interrupted)));
        let (file, _other) = UnixStream::pair().expect("a pair");
        let stop = wait_readable(&file, &interrupt, LIMIT).expect_err("interrupted");
        assert!(matches!(stop, Stop::Interrupted), "{stop}");
    }

    #[test]
    fn without_a_signal_nothing_is_interrupted() {
        let interrupt = Interrupt::never().expect("a pair");
        interrupt.check().expect("nobody asked");
        let (file, _other) = UnixStream::pair().expect("a pair");
        assert!(!wait_readable(&file, &interrupt, Duration::ZERO).expect("no failure"));
    }

    #[test]
    fn results_keep_the_order_of_the_jobs() {
        let jobs: Vec<u32> = (0..100).collect();
        let doubled = in_parallel(&jobs, |job| Ok(job * 2)).expect("no job fails");
        assert_eq!(doubled, jobs.iter().map(|job| job * 2).collect::<Vec<_>>());
    }

    #[test]
    fn one_failure_fails_all() {
        let jobs: Vec<u32> = (0..100).collect();
        let fail = |job: &u32| if *job == 7 { Err(Stop::Interrupted) } else { Ok(()) };
        assert!(matches!(in_parallel(&jobs, fail), Err(Stop::Interrupted)));
    }

    #[test]
    fn a_command_reads_as_it_is_typed() {
        let mut command = Command::new("dynfs");
        command.args(["select", "xz@5.8,debug", "", "a b", "it's"]);
        assert_eq!(typed(&command), "dynfs select xz@5.8,debug '' 'a b' 'it'\\''s'");
    }
}
