//! The watch for requests that nobody answers, on a kernel that does not hand out again what a dead
//! server had read. The next server answers them all (`store_fs::fuse`), so this is a net below: it
//! finds what that has missed, and ends the connection, because an error is better than a hang.
//!
//! The kernel says how many requests wait (`fusectl`), the memory file how many are in hand. While
//! none waits to be read, the first number is not above the second, but for the microseconds
//! between reading a request and noting it. If it is whenever one looks, for long, some are lost.
//! A moment in which one waits to be read says nothing: under load that may be each.
//!
//! Only after a server has died, since nothing else loses requests. Never reads nor answers one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use store_fs::Memory;

use crate::host;
use crate::mountinfo;

/// Where `fusectl` is, if somebody has mounted it.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";
/// Nanoseconds between looks.
const LOOK_EVERY: u64 = 400_000_000;
/// Samples of one look: a request that has just been read is noted in a later one.
const SAMPLES: usize = 8;
/// In so many looks at least, without one to the contrary, requests must seem to be lost.
const LOOKS_MIN: u32 = 4;

/// The kernel's own view of one connection.
#[derive(Debug)]
pub(super) struct Connection(OwnedFd);

impl Connection {
    /// That of the mount of a store.
    ///
    /// # Errors
    ///
    /// The operating system's: `fusectl` is not mounted, and this process may not mount it.
    pub(super) fn open(store: &Path, mountpoint: &Path) -> io::Result<Self> {
        let mounts = host::mounts().map_err(io::Error::other)?;
        let found = mountinfo::connection_of(&mounts, store, mountpoint);
        let minor = found.ok_or(io::ErrorKind::NotFound)?.to_string();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = Path::new(CONNECTIONS).join(&minor);
        if let Ok(directory) = rustix::fs::open(place, flags, Mode::empty()) {
            return Ok(Self(directory));
        }
        let connections = mount_for_us_alone()?;
        Ok(Self(rustix::fs::openat(connections, &minor, flags, Mode::empty())?))
    }

    /// How many requests have no answer yet, whoever has them.
    fn waiting(&self) -> io::Result<usize> {
        let file = rustix::fs::openat(
            &self.0,
            "waiting",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut bytes = [0; 32];
        let len = rustix::io::read(file, &mut bytes)?;
        let text = std::str::from_utf8(&bytes[..len]).map_err(io::Error::other)?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// Ends it: all that wait, and whoever asks later, get errors.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub(super) fn abort(&self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, "abort", flags, Mode::empty())?;
        rustix::io::write(file, b"1")?;
        Ok(())
    }
}

/// Mounts `fusectl` without a place: nobody else sees it, and it goes with its descriptor.
fn mount_for_us_alone() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    Ok(rustix::mount::fsmount(&context, flags, MountAttrFlags::empty())?)
}

/// What is kept from look to look.
#[derive(Debug)]
pub(super) struct Vigil {
    connection: Connection,
    limit: u64,
    looked: u64,
    /// Since when requests seem to be lost, in how many looks, and the fewest in one of them.
    lost: Option<(u64, u32, usize)>,
}

impl Vigil {
    pub(super) fn new(connection: Connection, limit: Duration) -> Self {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Self { connection, limit, looked: 0, lost: None }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Another server begins, and answers what it can.
    pub(super) fn begin_anew(&mut self) {
        self.lost = None;
    }

    /// Looks, if it is time to; how many requests were lost for too long.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub(super) fn look(
        &mut self,
        device: BorrowedFd<'_>,
        memory: &Memory,
    ) -> io::Result<Option<usize>> {
        let now = Memory::now();
        if memory.restarts() == 0 || now.saturating_sub(self.looked) < LOOK_EVERY {
            return Ok(None);
        }
        self.looked = now;
        let samples: io::Result<Vec<_>> =
            (0..SAMPLES).map(|_| self.sample(device, memory)).collect();
        let fewest = samples?.into_iter().flatten().min();
        Ok(self.take(fewest, now))
    }

    /// Draws the conclusion of a look: the fewest requests that it found lost, if it could tell.
    fn take(&mut self, fewest: Option<usize>, now: u64) -> Option<usize> {
        match fewest {
            None => return None,
            Some(0) => self.lost = None,
            Some(count) => {
                let (since, looks, fewest) = self.lost.unwrap_or((now, 0, count));
                self.lost = Some((since, looks + 1, fewest.min(count)));
            }
        }
        let (since, looks, count) = self.lost?;
        (looks >= LOOKS_MIN && now.saturating_sub(since) >= self.limit).then_some(count)
    }

    /// How many requests wait that nobody has; nothing when some wait to be read.
    fn sample(&self, device: BorrowedFd<'_>, memory: &Memory) -> io::Result<Option<usize>> {
        if has_unread(device)? {
            return Ok(None);
        }
        let waiting = self.connection.waiting()?;
        let in_hand = memory.in_flight_rows().len();
        Ok((!has_unread(device)?).then(|| waiting.saturating_sub(in_hand)))
    }
}

fn has_unread(device: BorrowedFd<'_>) -> io::Result<bool> {
    let device = device.as_fd();
    let mut fds = [PollFd::new(&device, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(fds[0].revents().contains(PollFlags::IN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vigil(limit: Duration) -> Vigil {
        let directory = std::fs::File::open("/").expect("a directory");
        Vigil::new(Connection(directory.into()), limit)
    }

    #[test]
    fn what_is_lost_is_lost_in_every_look() {
        let second = 1_000_000_000;
        let mut vigil = vigil(Duration::from_secs(10));
        for look in 0..10 {
            assert_eq!(vigil.take(Some(3), look * second), None, "look {look}");
        }
        assert_eq!(vigil.take(Some(2), 10 * second), Some(2));
        assert_eq!(vigil.take(Some(0), 11 * second), None, "all are answered");
        assert_eq!(vigil.take(Some(2), 12 * second), None, "it begins anew");
    }

    #[test]
    fn looks_that_cannot_tell_say_nothing() {
        let second = 1_000_000_000;
        let mut vigil = vigil(Duration::from_secs(1));
        assert_eq!(vigil.take(Some(1), 0), None);
        for look in 1..100 {
            assert_eq!(vigil.take(None, look * second), None, "look {look}");
        }
        for look in 100..102 {
            assert_eq!(vigil.take(Some(1), look * second), None, "too few looks");
        }
        assert_eq!(vigil.take(Some(1), 102 * second), Some(1));
        vigil.begin_anew();
        assert_eq!(vigil.take(Some(1), 103 * second), None);
    }
}
