//! One of the trees as a case sees it: descriptors, a working directory, and what data goes into.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, inotify, open, openat, readlinkat};
use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, pipe_with};

/// Descriptors that a case plays with.
pub(super) const SLOTS: usize = 12;

/// What a path begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A descriptor of the top.
    Top,
    /// The working directory.
    Here,
    /// The root of the machine: the path of the top goes in front.
    Root,
    /// A descriptor of the case.
    Slot(usize),
}

/// A path of a call.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) start: Start,
    pub(super) path: Vec<u8>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = String::from_utf8_lossy(&self.path[..self.path.len().min(300)]);
        write!(f, "{:?}:{shown:?} ({} bytes)", self.start, self.path.len())
    }
}

/// One of the trees.
#[derive(Debug)]
pub(super) struct Side {
    /// Its path from the root of the machine.
    base: PathBuf,
    top: OwnedFd,
    here: OwnedFd,
    slots: [Option<OwnedFd>; SLOTS],
    pub(super) watches: OwnedFd,
    pub(super) pipe: (OwnedFd, OwnedFd),
    pub(super) sink: OwnedFd,
}

impl Side {
    pub(super) fn new(base: &Path) -> Self {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = || open(base, directory, Mode::empty()).expect("it is there");
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Self {
            base: base.to_owned(),
            top: top(),
            here: top(),
            slots: Default::default(),
            watches: inotify::init(flags).expect("a queue"),
            pipe: pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe"),
            sink: rustix::fs::memfd_create("sink", MemfdFlags::CLOEXEC).expect("memory"),
        }
    }

    /// Calls with the directory and the path that a place stands for here.
    pub(super) fn at<T>(
        &self,
        place: &Place,
        call: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<T>,
    ) -> Result<T> {
        match place.start {
            Start::Top => call(self.top.as_fd(), &place.path),
            Start::Here => {
                self.enter();
                call(CWD, &place.path)
            }
            Start::Root => {
                self.enter();
                call(CWD, &self.absolute(&place.path))
            }
            Start::Slot(slot) => call(self.slot(slot)?, &place.path),
        }
    }

    /// The same for calls that know no directory but the working directory.
    pub(super) fn by_name<T>(
        &self,
        place: &Place,
        call: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        match place.start {
            Start::Top | Start::Root => call(&self.absolute(&place.path)),
            Start::Here | Start::Slot(_) => {
                self.enter();
                call(&place.path)
            }
        }
    }

    fn absolute(&self, path: &[u8]) -> Vec<u8> {
        [self.base.as_os_str().as_bytes(), b"/", path].concat()
    }

    /// Makes its working directory that of this thread.
    fn enter(&self) {
        rustix::process::fchdir(&self.here).expect("it was entered before");
    }

    pub(super) fn slot(&self, slot: usize) -> Result<BorrowedFd<'_>> {
        self.slots[slot].as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    pub(super) fn put(&mut self, slot: usize, fd: Option<OwnedFd>) {
        self.slots[slot] = fd;
    }

    /// Where a descriptor leads, from the top; `None` when that is elsewhere.
    pub(super) fn path_of(&self, fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
        use std::os::fd::AsRawFd;
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let path = readlinkat(CWD, link, Vec::new()).ok()?.into_bytes();
        self.below(&path)
    }

    fn below(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = Path::new(OsStr::from_bytes(path)).strip_prefix(&self.base).ok()?;
        Some(rest.as_os_str().as_bytes().to_vec())
    }

    /// Goes where a call of `chdir` or `fchdir` leads; where that is, from the top.
    pub(super) fn go(&mut self, call: impl FnOnce(&Self) -> Result<()>) -> Result<Option<Vec<u8>>> {
        self.enter();
        call(self)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.here = openat(CWD, ".", flags, Mode::empty())?;
        Ok(self.below(&rustix::process::getcwd(Vec::new())?.into_bytes()))
    }

    /// Goes back to the top.
    pub(super) fn go_home(&mut self) {
        self.here = self.top.try_clone().expect("a descriptor");
    }
}
