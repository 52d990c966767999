//! A kernel that keeps everything for ever: hits, misses, attributes, listings, texts and pages. It
//! forgets what it is told to, and what a test makes it forget; nothing else. Files are open until
//! they are closed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use store_fs::{Attr, Disk, DynFs, FsError, Ino, Kernel, Kind};

/// Bytes that one read of an open file asks for; the files of the model are a little longer.
const PIECE: u32 = 5;

/// The kernel's caches.
#[derive(Debug, Default)]
pub(crate) struct KernelModel {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests that reached the file system.
    requests: u64,
    entries: BTreeMap<(Ino, Vec<u8>), Option<Ino>>,
    attrs: BTreeMap<Ino, Attr>,
    lists: BTreeMap<Ino, BTreeSet<Vec<u8>>>,
    texts: BTreeMap<Ino, Vec<u8>>,
    pages: BTreeMap<Ino, Vec<u8>>,
    /// I2: what every node of an object was when it was first seen; never forgotten.
    seen: BTreeMap<Ino, (Kind, Option<Vec<u8>>)>,
    /// Open files, and what they were opened on.
    handles: Vec<(Ino, Vec<u8>)>,
}

impl Kernel for KernelModel {
    fn drop_entry(&self, parent: Ino, name: &[u8]) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        let mut gone: Vec<Ino> =
            state.entries.remove(&(parent, name.to_vec())).flatten().into_iter().collect();
        while let Some(dir) = gone.pop() {
            let below: Vec<_> = state
                .entries
                .range((dir, Vec::new())..)
                .take_while(|((at, _), _)| *at == dir)
                .map(|(key, _)| key.clone())
                .collect();
            for key in below {
                gone.extend(state.entries.remove(&key).flatten());
            }
        }
        Ok(())
    }

    /// Also the attributes, as `FUSE_NOTIFY_INVAL_INODE` does.
    fn drop_list(&self, dir: Ino) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.lists.remove(&dir);
        state.attrs.remove(&dir);
        Ok(())
    }
}

impl KernelModel {
    /// Requests that reached the file system so far.
    pub(crate) fn requests(&self) -> u64 {
        self.state.borrow().requests
    }

    /// Forgets about one in `part` of everything, as memory pressure does.
    pub(crate) fn reclaim(&self, part: usize) {
        let mut state = self.state.borrow_mut();
        let mut turn = 0;
        let mut keep = || {
            turn += 1;
            turn % part != 0
        };
        state.entries.retain(|_, _| keep());
        state.attrs.retain(|_, _| keep());
        state.lists.retain(|_, _| keep());
        state.texts.retain(|_, _| keep());
        state.pages.retain(|_, _| keep());
    }

    /// The node of a path below the mount, component by component through the cache.
    pub(crate) fn walk<D: Disk>(&self, fs: &DynFs<D>, path: &str) -> Result<Option<Ino>, FsError> {
        let mut at = Ino::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            // Nothing is below a file or a link; the kernel knows every inode's type by itself.
            if self.state.borrow().seen.get(&at).is_some_and(|(kind, _)| *kind != Kind::Dir) {
                return Ok(None);
            }
            let cached = self.state.borrow().entries.get(&(at, name.into())).copied();
            let found = match cached {
                Some(found) => found,
                None => self.lookup(fs, at, name)?,
            };
            match found {
                Some(child) => at = child,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn lookup<D: Disk>(
        &self,
        fs: &DynFs<D>,
        parent: Ino,
        name: &str,
    ) -> Result<Option<Ino>, FsError> {
        self.state.borrow_mut().requests += 1;
        let entry = match fs.lookup(parent, name.as_bytes()) {
            // A bare ENOENT is a miss that is not cached.
            Err(FsError::Absent) => return Ok(None),
            answer => answer?,
        };
        let mut state = self.state.borrow_mut();
        if let Some(entry) = entry {
            state.check_kind(&entry.attr);
            state.attrs.insert(entry.attr.ino, entry.attr);
        }
        let ino = entry.map(|entry| entry.attr.ino);
        state.entries.insert((parent, name.into()), ino);
        Ok(ino)
    }

    /// `stat`.
    pub(crate) fn attr<D: Disk>(&self, fs: &DynFs<D>, ino: Ino) -> Result<Attr, FsError> {
        if let Some(attr) = self.state.borrow().attrs.get(&ino) {
            return Ok(*attr);
        }
        let attr = fs.attr(ino)?;
        let mut state = self.state.borrow_mut();
        state.requests += 1;
        state.check_kind(&attr);
        state.attrs.insert(ino, attr);
        Ok(attr)
    }

    /// The names in a directory, asked for in pieces of `piece` lines. Lines that carry attributes
    /// become entries, as with READDIRPLUS.
    pub(crate) fn list<D: Disk>(
        &self,
        fs: &DynFs<D>,
        dir: Ino,
        piece: usize,
    ) -> Result<BTreeSet<Vec<u8>>, FsError> {
        if let Some(names) = self.state.borrow().lists.get(&dir) {
            return Ok(names.clone());
        }
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let before = names.len();
            let mut plus = Vec::new();
            fs.readdir(dir, offset, true, &mut |line| {
                if names.len() == before + piece {
                    return true;
                }
                assert!(line.offset > offset, "offsets go up");
                offset = line.offset;
                names.push(line.name.to_vec());
                plus.extend(line.entry.map(|entry| (line.name.to_vec(), entry)));
                false
            })?;
            let mut state = self.state.borrow_mut();
            state.requests += 1;
            for (name, entry) in plus {
                state.check_kind(&entry.attr);
                state.attrs.insert(entry.attr.ino, entry.attr);
                state.entries.insert((dir, name), Some(entry.attr.ino));
            }
            if names.len() == before {
                break;
            }
        }
        assert_eq!(names[..2], [b".".to_vec(), b"..".to_vec()]);
        let listed: BTreeSet<Vec<u8>> = names[2..].iter().cloned().collect();
        assert_eq!(listed.len() + 2, names.len(), "no name twice: {names:?}");
        self.state.borrow_mut().lists.insert(dir, listed.clone());
        Ok(listed)
    }

    /// `readlink`.
    pub(crate) fn text<D: Disk>(&self, fs: &DynFs<D>, ino: Ino) -> Result<Vec<u8>, FsError> {
        if let Some(text) = self.state.borrow().texts.get(&ino) {
            return Ok(text.clone());
        }
        let text = fs.readlink(ino)?;
        let mut state = self.state.borrow_mut();
        state.requests += 1;
        state.check_content(ino, Kind::Symlink, &text);
        state.texts.insert(ino, text.clone());
        Ok(text)
    }

    /// All bytes of a file.
    pub(crate) fn bytes<D: Disk>(&self, fs: &DynFs<D>, ino: Ino) -> Result<Vec<u8>, FsError> {
        if let Some(bytes) = self.state.borrow().pages.get(&ino) {
            return Ok(bytes.clone());
        }
        let mut bytes = Vec::new();
        fs.read(ino, 0, 1 << 20, &mut bytes)?;
        let mut state = self.state.borrow_mut();
        state.requests += 1;
        state.check_content(ino, Kind::File, &bytes);
        state.pages.insert(ino, bytes.clone());
        Ok(bytes)
    }

    /// Keeps a file open that holds these bytes now.
    pub(crate) fn open(&self, ino: Ino, bytes: Vec<u8>) {
        self.state.borrow_mut().handles.push((ino, bytes));
    }

    /// The nodes of all open files.
    pub(crate) fn open_nodes(&self) -> BTreeSet<Ino> {
        self.state.borrow().handles.iter().map(|(ino, _)| *ino).collect()
    }

    /// Closes one of the open files.
    pub(crate) fn close(&self, handle: usize) {
        let handles = &mut self.state.borrow_mut().handles;
        if let Some(handle) = handle.checked_rem(handles.len()) {
            handles.swap_remove(handle);
        }
    }

    /// I2: reads every open file to its end, past all caches.
    pub(crate) fn check_open<D: Disk>(&self, fs: &DynFs<D>) {
        for (ino, opened_on) in &self.state.borrow().handles {
            let mut bytes = Vec::new();
            loop {
                let at = bytes.len();
                let read = fs.read(*ino, at as u64, PIECE, &mut bytes);
                read.unwrap_or_else(|error| panic!("I2: {ino:?} is open: {error}"));
                if bytes.len() == at {
                    break;
                }
            }
            assert_eq!(&bytes, opened_on, "I2: {ino:?} is open");
        }
    }
}

impl State {
    /// I2: a number that was one kind of node is that kind for ever.
    fn check_kind(&mut self, attr: &Attr) {
        let (kind, _) = self.seen.entry(attr.ino).or_insert((attr.kind, None));
        assert_eq!(*kind, attr.kind, "I2: {:?} changed its type", attr.ino);
    }

    /// I2: and it has the same content for ever.
    fn check_content(&mut self, ino: Ino, kind: Kind, content: &[u8]) {
        let (seen, bytes) = self.seen.entry(ino).or_insert((kind, None));
        assert_eq!(*seen, kind, "I2: {ino:?} changed its type");
        let bytes = bytes.get_or_insert_with(|| content.to_vec());
        assert_eq!(bytes, content, "I2: {ino:?} changed its content");
    }
}
