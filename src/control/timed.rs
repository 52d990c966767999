//! A connection on which each line, in or out, has a deadline, and room for the long ones.
//!
//! A time limit for each read or write would let a caller that moves one byte now and then go on
//! for ever; so the bytes are waited for here. Never blocks longer than its deadline.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A stream with a deadline, after which nothing is read or written until it is renewed.
#[derive(Debug)]
pub(super) struct Timed {
    stream: UnixStream,
    patience: Duration,
    deadline: Instant,
}

impl Timed {
    pub(super) fn new(stream: UnixStream, patience: Duration) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, patience, deadline: Instant::now() + patience })
    }

    /// Begins another line: it may take as long as the one before.
    pub(super) fn renew(&mut self) {
        self.deadline = Instant::now() + self.patience;
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Does `act` as soon as it can be done.
    fn when<T>(
        &mut self,
        ready: PollFlags,
        mut act: impl FnMut(&mut UnixStream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            self.wait(ready)?;
            match act(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    fn wait(&self, ready: PollFlags) -> io::Result<()> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            // Also for a caller that always has something ready.
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.stream, ready)], Some(&left)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.when(PollFlags::IN, |stream| stream.read(buffer))
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.when(PollFlags::OUT, |stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Room for so many long lines in memory.
#[derive(Debug)]
pub(super) struct Room {
    free: Mutex<usize>,
    left: Condvar,
}

/// One place of a [`Room`], free again when this goes.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Room);

impl Room {
    pub(super) const fn new(places: usize) -> Self {
        Self { free: Mutex::new(places), left: Condvar::new() }
    }

    /// A place, waited for until the deadline.
    pub(super) fn take(&self, deadline: Instant) -> io::Result<Place<'_>> {
        let mut free = self.free.lock();
        self.left.wait_while_until(&mut free, |free| *free == 0, deadline);
        if *free == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        *free -= 1;
        Ok(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.left.notify_one();
    }
}
