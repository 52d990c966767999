//! A disk in memory with a volatile and a durable layer, which fails and crashes on request.
//!
//! It is stricter than real file systems. Content is durable only after it was synced itself or
//! everything was; a name only after its directory was synced or everything was, and only if the
//! directory's own name is. What is not durable may or may not be there after a crash, each piece
//! on its own, in any combination: see [`PowerCut`].
//!
//! Every call of a [`Disk`] method is one operation, so that a test can say: fail the n-th, or
//! crash before the n-th.

mod power_cut;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

pub use self::power_cut::PowerCut;
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
    pub(super) was_abandoned: bool,
    pub(super) is_abandoned: bool,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        match state.locks.get_mut(&self.path) {
            Some(Holders::Sharing(count)) if *count > 1 => *count -= 1,
            Some(Holders::Sharing(_)) | None => _ = state.locks.remove(&self.path),
            Some(Holders::Alone) => {
                state.locks.remove(&self.path);
                if self.is_abandoned || state.has_crashed() {
                    state.abandoned.insert(self.path.clone());
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    now: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// What names stood for between `durable` and `now`, oldest first: that may be found too.
    between: BTreeMap<PathBuf, Vec<Option<Node>>>,
    /// Nameless files, so that syncing everything reaches them.
    temps: Vec<Weak<Inode>>,
    locks: BTreeMap<PathBuf, Holders>,
    abandoned: BTreeSet<PathBuf>,
    /// What a power cut would have left before each change, and the operation that made it.
    cuts: Option<Vec<(u64, PowerCut)>>,
    next_inode: u64,
    operations: u64,
    fail_at: Option<u64>,
    crash_at: Option<u64>,
    read_only: bool,
    forgets_syncs: bool,
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

/// Shared between the copies of a disk, as long as nobody writes.
#[derive(Clone, Debug, Default)]
struct Content {
    now: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
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

    /// From now on syncing answers well and does nothing, as a drive does that lies: so a test sees
    /// that it would see what is missing.
    pub fn forget_syncs(&self) {
        self.state.lock().forgets_syncs = true;
    }

    /// Another disk in the same state, volatile layer and all. Locks are not held there and no
    /// operation of it is to fail: as after the death of all processes, when the power stays on.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state.lock();
        let mut copies = BTreeMap::new();
        let mut copy = |node: &Node| match node {
            Node::Dir => Node::Dir,
            Node::File(inode) => {
                let copy = copies.entry(inode.number).or_insert_with(|| Arc::new(inode.copy()));
                Node::File(Arc::clone(copy))
            }
        };
        let mut layer = |nodes: &BTreeMap<PathBuf, Node>| -> BTreeMap<PathBuf, Node> {
            nodes.iter().map(|(path, node)| (path.clone(), copy(node))).collect()
        };
        let (now, durable) = (layer(&state.now), layer(&state.durable));
        let versions = |(path, nodes): (&PathBuf, &Vec<Option<Node>>)| {
            (path.clone(), nodes.iter().map(|node| node.as_ref().map(&mut copy)).collect())
        };
        let between = state.between.iter().map(versions).collect();
        let (next_inode, abandoned) = (state.next_inode, state.abandoned.clone());
        let fork = State { now, durable, between, next_inode, abandoned, ..State::default() };
        Self { root: self.root.clone(), state: Arc::new(Mutex::new(fork)) }
    }

    /// What a power cut now may leave.
    #[must_use]
    pub fn power_cut(&self) -> PowerCut {
        PowerCut::of(&self.root, &self.state.lock())
    }

    /// What a power cut may leave before each operation of `act` that changes something, with the
    /// number of that operation (as for [`SimDisk::crash_at`]), and after the last. Nothing else
    /// happens between two of them that a power cut could tell.
    pub fn power_cuts<T>(&self, act: impl FnOnce() -> T) -> (T, Vec<(u64, PowerCut)>) {
        let begin = {
            let mut state = self.state.lock();
            state.cuts = Some(Vec::new());
            state.operations
        };
        let done = act();
        let mut state = self.state.lock();
        let mut cuts = state.cuts.take().unwrap_or_default();
        cuts.push((state.operations + 1, PowerCut::of(&self.root, &state)));
        cuts.iter_mut().for_each(|(operation, _)| *operation -= begin);
        (done, cuts)
    }

    /// The disk as it is found after a power cut now.
    #[must_use]
    pub fn crash_image(&self, loss: Loss) -> Self {
        let mut dice = Dice(match loss {
            Loss::Some(seed) => seed,
            Loss::Everything | Loss::Nothing => 0,
        });
        self.power_cut().image(&mut |states| match loss {
            Loss::Everything => 0,
            Loss::Nothing => states - 1,
            Loss::Some(_) => dice.below(states),
        })
    }

    /// Changes the content of a file behind everybody's back; `false` when there is no such file.
    /// Not an operation.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let state = self.state.lock();
        let Some(Node::File(inode)) = state.now.get(path) else { return false };
        let mut content = inode.content.lock();
        change(Arc::make_mut(&mut content.now));
        content.durable = Arc::clone(&content.now);
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
        let mut state = self.state.lock();
        let locks = std::mem::take(&mut state.locks);
        let alone = locks.into_iter().filter(|(_, holders)| matches!(holders, Holders::Alone));
        state.abandoned.extend(alone.map(|(path, _)| path));
    }

    fn held(&self, path: &Path, was_abandoned: bool) -> Locking {
        let (path, state) = (path.to_owned(), Arc::clone(&self.state));
        Locking::Mine(Lock::Sim(SimLock { path, state, was_abandoned, is_abandoned: false }))
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
        if state.cuts.is_some() {
            let cut = (state.operations, PowerCut::of(&self.root, &state));
            state.cuts.iter_mut().for_each(|cuts| cuts.push(cut.clone()));
        }
        Ok(state)
    }
}

impl State {
    fn has_crashed(&self) -> bool {
        self.crash_at.is_some_and(|at| self.operations >= at)
    }

    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.has_crashed() {
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
            self.name(path, Some(Node::File(Arc::new(inode))));
        }
    }

    /// Makes a name stand for something else, or for nothing; what it stood for.
    fn name(&mut self, path: &Path, node: Option<Node>) -> Option<Node> {
        let before = match node {
            Some(node) => self.now.insert(path.to_owned(), node),
            None => self.now.remove(path),
        };
        if !same(before.as_ref(), self.durable.get(path)) {
            self.between.entry(path.to_owned()).or_default().push(before.clone());
        }
        before
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
    fn copy(&self) -> Self {
        Self { number: self.number, content: Mutex::new(self.content.lock().clone()) }
    }

    fn sync(&self) {
        let mut content = self.content.lock();
        content.durable = Arc::clone(&content.now);
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

    fn below(&mut self, len: usize) -> usize {
        usize::try_from(self.roll(len as u64)).expect("below a usize")
    }
}

fn same(a: Option<&Node>, b: Option<&Node>) -> bool {
    match (a, b) {
        (None, None) | (Some(Node::Dir), Some(Node::Dir)) => true,
        (Some(Node::File(a)), Some(Node::File(b))) => a.number == b.number,
        _ => false,
    }
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
        state.name(path, Some(Node::Dir));
        Ok(true)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let state = self.look()?;
        if let Some(Node::File(_)) = state.now.get(path) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        // Whatever is below a directory sorts right behind it.
        let behind = (Bound::Excluded(path), Bound::Unbounded);
        let below = state.now.range::<Path, _>(behind);
        let below = below.take_while(|(name, _)| name.starts_with(path));
        let here = below.filter(|(name, _)| name.parent() == Some(path));
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
        Arc::make_mut(&mut temp.0.content.lock().now).extend_from_slice(written);
        begun
    }

    fn reflink(&self, temp: &mut SimTemp, source: &File) -> io::Result<bool> {
        drop(self.change()?);
        let len = usize::try_from(source.metadata()?.len())
            .map_err(|_| io::Error::from_raw_os_error(FULL))?;
        let mut bytes = vec![0; len];
        source.read_exact_at(&mut bytes, 0)?;
        temp.0.content.lock().now = Arc::new(bytes);
        Ok(true)
    }

    fn read_temp(&self, temp: &SimTemp, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        drop(self.look()?);
        Ok(temp.0.read(offset, buffer))
    }

    fn sync_temp(&self, temp: &SimTemp) -> io::Result<()> {
        let state = self.change()?;
        if !state.forgets_syncs {
            temp.0.sync();
        }
        Ok(())
    }

    fn link(&self, temp: &SimTemp, path: &Path) -> io::Result<bool> {
        let mut state = self.change()?;
        state.needs_parent(path)?;
        if state.now.contains_key(path) {
            return Ok(false);
        }
        state.name(path, Some(Node::File(Arc::clone(&temp.0))));
        Ok(true)
    }

    fn replace(&self, temp: &SimTemp, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        state.needs_parent(path)?;
        state.name(path, Some(Node::File(Arc::clone(&temp.0))));
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
        state.name(other, Some(node));
        Ok(true)
    }

    fn remove(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.change()?;
        if let Some(Node::Dir) = state.now.get(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let is_there = state.now.contains_key(path);
        Ok(is_there && state.name(path, None).is_some())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.change()?;
        let State { now, durable, between, forgets_syncs, .. } = &mut *state;
        if !path.as_os_str().is_empty() && !matches!(now.get(path), Some(Node::Dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if *forgets_syncs {
            return Ok(());
        }
        let here = |name: &PathBuf| name.parent().unwrap_or(Path::new("")) == path;
        between.retain(|name, _| !here(name));
        durable.retain(|name, _| !here(name) || now.contains_key(name));
        let fresh = now.iter().filter(|(name, _)| here(name));
        durable.extend(fresh.map(|(name, node)| (name.clone(), node.clone())));
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.change()?;
        if state.forgets_syncs {
            return Ok(());
        }
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
        state.between.clear();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Locking> {
        let mut state = self.change()?;
        if state.locks.contains_key(path) {
            return Ok(Locking::Held(std::process::id()));
        }
        state.locks.insert(path.to_owned(), Holders::Alone);
        state.lock_file(path);
        let was_abandoned = state.abandoned.remove(path);
        Ok(self.held(path, was_abandoned))
    }

    fn share(&self, path: &Path) -> io::Result<Locking> {
        let mut state = self.change()?;
        match state.locks.entry(path.to_owned()).or_insert(Holders::Sharing(0)) {
            Holders::Alone => return Ok(Locking::Held(std::process::id())),
            Holders::Sharing(count) => *count += 1,
        }
        state.lock_file(path);
        Ok(self.held(path, false))
    }

    fn sweep(&self) -> io::Result<()> {
        drop(self.change()?);
        Ok(())
    }
}
