//! What programs see through the caches of a kernel, while states are shown and announced.
//!
//! Each answer must be that of one state, not older than the last one announced before the
//! question (or shown, if no cache answered), nor newer than the last one begun to be shown when
//! it came. What every state answers is asked of it first, by one thread.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use shuttle::rand::{Rng, thread_rng};
use store_fs::{DynFs, FsError, Held, Ino, Kind, Memory, Shown, SimDisk, Store};

use super::kernel::{Answers, Caching};
use super::world::{DIRECTORIES, PATHS};

/// What a program makes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Missing,
    Directory,
    Object(Held),
    Text(Vec<u8>),
}

/// A listing, and the links of the directory.
type Listed = (BTreeMap<String, Seen>, u32);

/// What each state answers.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    paths: Vec<BTreeMap<&'static str, Seen>>,
    lists: Vec<BTreeMap<&'static str, Listed>>,
}

impl Truth {
    /// Asks one more state.
    pub(crate) fn ask(&mut self, store: &Arc<Store<SimDisk>>, shown: &Shown) {
        let memory = Arc::new(Memory::create().expect("memory"));
        let fs = DynFs::new(Arc::clone(store), memory, shown.clone());
        let walk = |path: &str| {
            path.split('/').filter(|name| !name.is_empty()).try_fold(Ino::ROOT, |at, name| {
                Answers::lookup(&fs, at, name).ok().flatten().map(|entry| entry.attr.ino)
            })
        };
        let seen = |path| walk(path).map_or(Seen::Missing, |ino| see(&fs, ino));
        self.paths.push(PATHS.map(|path| (path, seen(path))).into());
        let list = |path| {
            let dir = walk(path)?;
            let lines = fs.list(dir).ok()?.into_iter();
            let lines = lines.map(|(name, ino, _)| (name, see(&fs, ino))).collect();
            Some((path, (lines, fs.attr(dir).ok()?.nlink)))
        };
        self.lists.push(DIRECTORIES.into_iter().filter_map(list).collect());
    }
}

/// What a node is, whatever is shown.
fn see(fs: &DynFs<SimDisk>, ino: Ino) -> Seen {
    if let Ok(text) = fs.readlink(ino) {
        return Seen::Text(text);
    }
    match fs.held(ino) {
        Some(object @ Held::Object(_)) => Seen::Object(object),
        _ => Seen::Directory,
    }
}

/// How far things have come, as numbers of states.
pub(crate) trait Progress {
    /// The last one that is announced.
    fn announced(&self) -> usize;
    /// The last one that is shown for certain.
    fn shown(&self) -> usize;
    /// The last one that may be shown.
    fn begun(&self) -> usize;
}

/// A program.
#[derive(Clone, Copy)]
pub(crate) struct Program<'a> {
    pub(crate) kernel: &'a Caching,
    pub(crate) fs: &'a dyn Answers,
    /// Says what nodes are.
    pub(crate) oracle: &'a DynFs<SimDisk>,
    pub(crate) truth: &'a Truth,
    pub(crate) progress: &'a dyn Progress,
}

/// The directory that everybody asks about, in half of the schedules: what happens to one at the
/// same time is rare when each looks elsewhere.
pub(crate) fn subject() -> Option<&'static str> {
    let number = thread_rng().gen_range(0..2 * DIRECTORIES.len());
    DIRECTORIES.get(number).copied()
}

impl Program<'_> {
    /// The states that a question may be answered from whose answer comes now.
    fn range(&self, since: usize) -> RangeInclusive<usize> {
        since..=self.progress.begun()
    }

    /// The node of a path, each component checked.
    fn walk(&self, path: &str) -> Option<Ino> {
        let mut at = Ino::ROOT;
        let mut end = 0;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let parent = &path[..end];
            end += name.len() + usize::from(end > 0);
            at = self.step_to(at, parent, &path[..end], name)?;
        }
        Some(at)
    }

    fn step_to(&self, at: Ino, parent: &str, path: &str, name: &str) -> Option<Ino> {
        let announced = self.progress.announced();
        let shown = self.progress.shown();
        let (answer, was_cached) = self.kernel.lookup(self.fs, at, name);
        let states = self.range(if was_cached { announced } else { shown });
        let (seen, ino) = match answer {
            Ok(ino) => (ino.map_or(Seen::Missing, |ino| see(self.oracle, ino)), ino),
            Err(error) => {
                self.is_gone(parent, announced, &error);
                return None;
            }
        };
        // Where no name leads any more, an answer is as good as none: nobody gets there again.
        if self.was_gone(parent, announced) {
            return ino;
        }
        let allowed: Vec<&Seen> = states.map(|state| &self.truth.paths[state][path]).collect();
        assert!(allowed.contains(&&seen), "{path} was {seen:?}, cached: {was_cached}: {allowed:?}");
        ino
    }

    /// An error is right only where the directory was not there in some state since.
    fn is_gone(&self, dir: &str, since: usize, error: &FsError) {
        assert!(matches!(error, FsError::UnknownInode(_)), "{dir}: {error}");
        assert!(self.was_gone(dir, since), "{dir} was there all the time: {error}");
    }

    fn was_gone(&self, dir: &str, since: usize) -> bool {
        self.range(since).any(|state| self.truth.paths[state].get(dir) == Some(&Seen::Missing))
    }

    /// Lists a directory, or asks for its attributes.
    fn look(&self, path: &str, list: bool) {
        let Some(dir) = self.walk(path) else { return };
        let since = self.progress.announced();
        let looked = match list {
            true => self.kernel.list(self.fs, dir).map(|(lines, was_cached)| {
                let see = |(name, ino)| (name, see(self.oracle, ino));
                let lines: BTreeMap<String, Seen> = lines.into_iter().map(see).collect();
                self.is_of_one(path, since, &format!("lists {lines:?}"), |(known, _)| {
                    match was_cached {
                        true => known.keys().eq(lines.keys()),
                        false => *known == lines,
                    }
                });
            }),
            false => self.kernel.attr(self.fs, dir).map(|attr| {
                assert_eq!(attr.kind, Kind::Dir);
                let has = format!("has {} links", attr.nlink);
                self.is_of_one(path, since, &has, |(_, links)| *links == attr.nlink);
            }),
        };
        if let Err(error) = looked {
            self.is_gone(path, since, &error);
        }
    }

    /// What was seen of a directory is right in some state, unless no name leads there any more.
    fn is_of_one(&self, path: &str, since: usize, seen: &str, same: impl Fn(&Listed) -> bool) {
        if self.was_gone(path, since) {
            return;
        }
        let states = self.range(since).filter_map(|state| self.truth.lists[state].get(path));
        let allowed: Vec<&Listed> = states.collect();
        assert!(allowed.iter().any(|listed| same(listed)), "{path:?} {seen}: {allowed:?}");
    }

    /// Asks anything; of one directory, if there is one that everybody asks about.
    pub(crate) fn ask(&self, of: Option<&str>) {
        let mut dice = thread_rng();
        let list = dice.gen_range(0..2) == 0;
        match (of, dice.gen_range(0..2)) {
            (Some(path), _) => self.look(path, list),
            (None, 0) => self.look(DIRECTORIES[dice.gen_range(0..DIRECTORIES.len())], list),
            (None, _) => drop(self.walk(PATHS[dice.gen_range(0..PATHS.len())])),
        }
    }

    /// Nothing that is cached is older than what was announced; in and above one directory, if
    /// there is one that everybody asked about.
    pub(crate) fn check_all(&self, of: Option<&str>) {
        for path in PATHS {
            if of.is_none_or(|of| path.starts_with(of) || of.starts_with(path)) {
                self.walk(path);
            }
        }
        for path in DIRECTORIES.into_iter().filter(|path| of.is_none_or(|of| *path == of)) {
            self.look(path, true);
            self.look(path, false);
        }
    }
}
