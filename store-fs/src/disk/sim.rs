//! A disk in memory with a volatile and a durable layer, which fails and crashes on request.
//!
//! It is stricter than real file systems. Content is durable only after it was synced itself or
//! everything was; a name only after its directory was synced or everything was, and only if the
//! directory's own name is. What is not durable may or may not be there after a crash, each piece
//! on its own, in any combination; content that was not synced may be there as zeros or in part.
//!
//! Every call of a [`Disk`] method is one operation, so that a test can say: fail the n-th, or
//! crash before the n-th.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Caching, Disk, Listed, ListedKind, Lock, Locking, Stamp};

/// `ENOSPC`: what a failing operation answers.
const FULL: i32 = 28;
/// `EIO`: what every operation answers after a crash.
const GONE: i32 = 5;

/// What becomes of that which was not durable when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it is lost.
    Everything,
    /// None is, as when only the process was killed.
    Nothing,
    /// Each piece is lost or not, as a generator with this seed decides.
    Some(u64),
}

/// A disk in memory with a volatile and a durable layer, which fails and crashes on request. A
/// clone is the same disk, as another process would see it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

/// A file being written.
#[derive(Debug)]
pub struct SimTemp(Arc<Inode>);

/// A file open for reading.
#[derive(Debug)]
pub struct SimFile(Arc<Inode>);

/// A held lock.
#[derive(Debug)]
pub struct SimLock {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        match state.locks.get_mut(&self.path) {
            Some(Holders::Sharing(count)) if *count > 1 => *count -= 1,
            _ => _ = state.locks.remove(&self.path),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    now: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Nameless files, so that syncing everything reaches them.
    temps: Vec<Weak<Inode>>,
    locks: BTreeMap<PathBuf, Holders>,
    next_inode: u64,
    operations: u64,
    fail_at: Option<u64>,
    crash_at: Option<u64>,
    read_only: bool,
}

/// Who holds a lock.
#[derive(Debug)]
enum Holders {
    Alone,
    Sharing(usize),
}

#[derive(Clone, Debug)]
enum Node {
    Dir,
    File(Arc<Inode>),
}

#[derive(Debug)]
struct Inode {
    number: u64,
    content: Mutex<Content>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self { root: PathBuf::from("/sim"), state: Arc::default() }
    }
}

impl SimDisk {
    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// The operation of this number (counted from now, the next one is 1) will answer `ENOSPC`,
    /// once. A write that fails so may have written a part.
    pub fn fail_at(&self, operation: u64) {
        let mut state = self.state.lock();
        state.fail_at = Some(state.operations + operation);
    }

    /// The operation of this number (counted from now, the next one is 1) and all later ones will
    /// not happen: they answer `EIO`.
    pub fn crash_at(&self, operation: u64) {
        let mut state = self.state.lock();
        state.crash_at = Some(state.operations + operation);
    }

    /// From now on, or no longer, whatever changes something answers `EROFS`.
    pub fn set_read_only(&self, read_only: bool) {
        self.state.lock().read_only = read_only;
    }

    /// The disk as it is found after a power cut now.
    #[must_use]
    pub fn crash_image(&self, loss: Loss) -> Self {
        let state = self.state.lock();
        let mut dice = Dice(match loss {
            Loss::Some(seed) => seed,
            Loss::Everything | Loss::Nothing => 0,
        });
        let mut keeps = || match loss {
            Loss::Everything => false,
            Loss::Nothing => true,
            Loss::Some(_) => dice.roll(2) == 0,
        };
        let mut found = BTreeMap::new();
        let paths: BTreeSet<_> = state.now.keys().chain(state.durable.keys()).collect();
        for path in paths {
            let (now, durable) = (state.now.get(path), state.durable.get(path));
            let node = if same(now, durable) || keeps() { now } else { durable };
            // A parent sorts before what is in it.
            if let Some(node) = node
                && (top(path) || path.parent().is_some_and(|dir| found.contains_key(dir)))
            {
                found.insert(path.clone(), node.clone());
            }
        }
        let mut inodes = BTreeMap::new();
        for node in found.values_mut() {
            if let Node::File(inode) = node {
                let after = inodes
                    .entry(inode.number)
                    .or_insert_with(|| Arc::new(inode.after_crash(loss, &mut dice)));
                *inode = Arc::clone(after);
            }
        }
        let image = State {
            now: found.clone(),
            durable: found,
            next_inode: state.next_inode,
            ..State::default()
        };
        Self { root: self.root.clone(), state: Arc::new(Mutex::new(image)) }
    }

    /// Changes the content of a file behind everybody's back; `false` when there is no such file.
    /// Not an operation.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let state = self.state.lock();
        let Some(Node::File(inode)) = state.now.get(path) else { return false };
        let mut content = inode.content.lock();
        change(&mut content.now);
        content.durable = content.now.clone();
        true
    }

    /// The paths of all files, sorted. Not an operation.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        let files = state.now.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// Every process that held a lock has been killed. Not an operation.
    pub fn release_locks(&self) {
        self.state.lock().locks.clear();
    }

    fn held(&self, path: &Path) -> Locking {
        let (path, state) = (path.to_owned(), Arc::clone(&self.state));
        Locking::Mine(Lock::Sim(SimLock { path, state }))
    }

    /// Begins an operation that only looks.
    fn look(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        crate::sync::step();
        let mut state = self.state.lock();
        state.step()?;
        Ok(state)
    }

    /// Begins an operation that changes something.
    fn change(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let mut state = self.look()?;
        if state.read_only {
            return Err(rustix::io::Errno::ROFS.into());
        }
        state.temps.retain(|temp| temp.strong_count() > 0);
        Ok(state)
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.crash_at.is_some_and(|at| self.operations >= at) {
            return Err(io::Error::from_raw_os_error(GONE));
        }
        if self.fail_at == Some(self.operations) {
            return Err(io::Error::from_raw_os_error(FULL));
        }
        Ok(())
    }

    /// Makes the file that a lock is on.
    fn lock_file(&mut self, path: &Path) {
        if !self.now.contains_key(path) {
            self.next_inode += 1;
            let inode = Inode { number: self.next_inode, content: Mutex::default() };
            self.now.insert(path.to_owned(), Node::File(Arc::new(inode)));
        }
    }

    fn needs_parent(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new(""));
        match self.now.get(dir) {
            Some(Node::Dir) => Ok(()),
            None if dir.as_os_str().is_empty() => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Inode {
    fn after_crash(&self, loss: Loss, dice: &mut Dice) -> Self {
        let content = self.content.lock();
        let kept = match loss {
            Loss::Nothing => content.now.clone(),
            _ if content.now == content.durable => content.now.clone(),
            Loss::Everything => content.durable.clone(),
            Loss::Some(_) => match dice.roll(4) {
                0 => content.now.clone(),
                1 => content.durable.clone(),
                // The length was written, the data was not.
                2 => vec![0; content.now.len()],
                _ => content.now[..content.now.len() / 2].to_vec(),
            },
        };
        let content = Content { durable: kept.clone(), now: kept };
        Self { number: self.number, content: Mutex::new(content) }
    }

    fn sync(&self) {
        let mut content = self.content.lock();
        content.durable = content.now.clone();
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let content = self.content.lock();
        let rest = usize::try_from(offset).ok().and_then(|offset| content.now.get(offset..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        count
    }
}

/// A small generator of pseudo-random numbers (`splitmix64`).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % sides
    }
}

fn same(a: Option<&Node>, b: Option<&Node>) -> bool {
    match (a, b) {
        (None, None) | (Some(Node::Dir), Some(Node::Dir)) => true,
        (Some(Node::File(a)), Some(Node::File(b))) => a.number == b.number,
        _ => false,
    }
}

fn top(path: &Path) -> bool {
    path.parent().is_none_or(|dir| dir.as_os_str().is_empty())
}

impl Disk for SimDisk {
    type Temp = SimTemp;
    type File = SimFile;

    fn root(&self) -> &Path {
        &self.root
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.change()?;
        state.needs_parent(path)?;
        if state.now.contains_key(path) {
            return Ok(false);
        }
        state.now.insert(path.to_owned(), Node::Dir);
        Ok(true)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let state = self.look()?;
        if let Some(Node::File(_)) = state.now.get(path) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let here = state.now.iter().filter(|(name, _)| {
            let dir = name.parent().unwrap_or(Path::new(""));
            dir == path
        });
        let mut listed: Vec<_> = here
            .filter_map(|(name, node)| {
                let kind = match node {
                    Node::Dir => ListedKind::Dir,
                    Node::File(_) => ListedKind::File,
                };
                Some(Listed { name: name.file_name()?.to_owned(), kind })
            })
            .collect();
        listed.sort_unstable();
        Ok(listed)
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        let state = self.look()?;
        let Some(Node::File(inode)) = state.now.get(path) else { return Ok(None) };
        let len = inode.content.lock().now.len() as u64;
        Ok(Some(Stamp { inode: inode.number, len, changed_secs: 0, changed_nanos: 0 }))
    }

    fn open_file(&self, path: &Path) -> io::Result<Option<SimFile>> {
        let state = self.look()?;
        match state.now.get(path) {
            Some(Node::File(inode)) => Ok(Some(SimFile(Arc::clone(inode)))),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Ok(None),
        }
    }

    fn len(&self, file: &SimFile) -> io::Result<u64> {
        drop(self.look()?);
        Ok(file.0.content.lock().now.len() as u64)
    }

    fn read_at(
        &self,
        file: &SimFile,
        offset: u64,
        buffer: &mut [u8],
        _caching: Caching,
    ) -> io::Result<usize> {
        drop(self.look()?);
        Ok(file.0.read(offset, buffer))
    }

    fn temp(&self) -> io::Result<SimTemp> {
        let mut state = self.change()?;
        state.next_inode += 1;
        let inode = Arc::new(Inode { number: state.next_inode, content: Mutex::default() });
        state.temps.push(Arc::downgrade(&inode));
        Ok(SimTemp(inode))
    }

    fn write(&self, temp: &mut SimTemp, bytes: &[u8]) -> io::Result<()> {
        let begun = self.change().map(drop);
        let written = if begun.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        temp.0.content.lock().now.extend_from_slice(written);
        begun
    }

    fn reflink(&self, temp: &mut SimTemp, source: &File) -> io::Result<bool> {
        drop(self.change()?);
        let len = usize::try_from(source.metadata()?.len())
            .map_err(|_| io::Error::from_raw_os_error(FULL))?;
        let mut bytes = vec![0; len];
        source.read_exact_at(&mut bytes, 0)?;
        temp.0.content.lock().now = bytes;
        Ok(true)
    }

    fn read_temp(&self, temp: &SimTemp, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        drop(self.look()?);
        Ok(temp.0.read(offset, buffer))
    }

    fn sync_temp(&self, temp: &SimTemp) -> io::Result<()> {
        drop(self.change()?);
        temp.0.sync();
        Ok(())
    }

    fn link(&self, temp: &SimTemp, path: &Path) -> io::Result<bool> {
        let mut state = self.change()?;
        state.needs_parent(path)?;
        if state.now.contains_key(path) {
            return Ok(false);
        }
        state.now.insert(path.to_owned(), Node::File(Arc::clone(&temp.0)));
        Ok(true)
    }

    fn replace(&self, temp: &SimTemp, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        state.needs_parent(path)?;
        state.now.insert(path.to_owned(), Node::File(Arc::clone(&temp.0)));
        Ok(())
    }

    fn alias(&self, path: &Path, other: &Path) -> io::Result<bool> {
        let mut state = self.change()?;
        state.needs_parent(other)?;
        if state.now.contains_key(other) {
            return Ok(false);
        }
        let Some(Node::File(inode)) = state.now.get(path) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let node = Node::File(Arc::clone(inode));
        state.now.insert(other.to_owned(), node);
        Ok(true)
    }

    fn remove(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.change()?;
        if let Some(Node::Dir) = state.now.get(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(state.now.remove(path).is_some())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let State { now, durable, .. } = &mut *state;
        if !path.as_os_str().is_empty() && !matches!(now.get(path), Some(Node::Dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let here = |name: &PathBuf| name.parent().unwrap_or(Path::new("")) == path;
        durable.retain(|name, _| !here(name) || now.contains_key(name));
        let fresh = now.iter().filter(|(name, _)| here(name));
        durable.extend(fresh.map(|(name, node)| (name.clone(), node.clone())));
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.change()?;
        for temp in &state.temps {
            if let Some(inode) = temp.upgrade() {
                inode.sync();
            }
        }
        for node in state.now.values() {
            if let Node::File(inode) = node {
                inode.sync();
            }
        }
        state.durable = state.now.clone();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Locking> {
        let mut state = self.change()?;
        if state.locks.contains_key(path) {
            return Ok(Locking::Held(std::process::id()));
        }
        state.locks.insert(path.to_owned(), Holders::Alone);
        state.lock_file(path);
        Ok(self.held(path))
    }

    fn share(&self, path: &Path) -> io::Result<Locking> {
        let mut state = self.change()?;
        match state.locks.entry(path.to_owned()).or_insert(Holders::Sharing(0)) {
            Holders::Alone => return Ok(Locking::Held(std::process::id())),
            Holders::Sharing(count) => *count += 1,
        }
        state.lock_file(path);
        Ok(self.held(path))
    }

    fn sweep(&self) -> io::Result<()> {
        drop(self.change()?);
        Ok(())
    }
}
