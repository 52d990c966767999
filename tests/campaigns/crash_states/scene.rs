//! One operation on one store, and what may be seen of it when the power goes in the middle.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use store_fs::disk::Caching;
use store_fs::{Disk, Finding, FsckOptions, Loss, PowerCut, SimDisk, Store, fsck};

use crate::parcel::{host, words};
use crate::seen::{Seen, look, look_over_damage};

/// Something that a process does to a store.
pub(super) type Act = Box<dyn Fn(&SimDisk) -> Result<(), String>>;

/// One operation on one store.
pub(super) struct Scene {
    pub(super) name: String,
    base: SimDisk,
    act: Act,
    /// What else must be repeated, before the operation, by whoever starts again.
    before: Option<Act>,
    /// What may be seen beside what the operation makes; the last is what it begins with.
    olds: Vec<Seen>,
    new: Seen,
    /// What may be seen beside those while somebody repeats what was before.
    again: Vec<Seen>,
    rule: Rule,
}

/// What may be seen between the old and the new state.
pub(super) enum Rule {
    /// Nothing: it is one of the two as a whole.
    OneStep,
    /// What is new of several things, each on its own.
    Steps,
    /// The same, of a damaged store that is repaired: what was bad may still be, and nothing else.
    Mends(Damage),
}

/// What is bad in a store.
pub(super) struct Damage {
    found: BTreeSet<PathBuf>,
    /// The bad files, which are never lost.
    files: Vec<Vec<u8>>,
}

/// The power goes: at which operation of the disk, and whether everything was done by then.
pub(super) struct Cut {
    pub(super) step: u64,
    pub(super) left: PowerCut,
    pub(super) is_done: bool,
}

impl Scene {
    /// An operation on a store of which everything is durable.
    pub(super) fn new(name: &str, rule: Rule, base: &SimDisk, act: Act) -> Self {
        Self::over(name.to_owned(), rule, base.crash_image(Loss::Nothing), None, act)
    }

    /// A repair, after `damage` to the files whose paths begin like this.
    pub(super) fn mending(name: &str, base: &SimDisk, damage: &[&str], act: Act) -> Self {
        let disk = base.crash_image(Loss::Nothing);
        let mut files = Vec::new();
        for begin in damage {
            let all = disk.files();
            let path = all.iter().find(|path| path.to_string_lossy().starts_with(begin));
            let path = path.unwrap_or_else(|| panic!("no file of {begin}"));
            disk.damage(path, |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                files.push(bytes.clone());
            });
            // The index is written anew, and is no file that could be missed.
            if path.ends_with("index.redb") {
                files.pop();
            }
        }
        let found = findings(&disk, true).expect("a store that opens");
        assert!(!found.is_empty(), "{name}: nothing is found");
        let found = found.into_iter().map(|finding| finding.path).collect();
        Self::new(name, Rule::Mends(Damage { found, files }), &disk, act)
    }

    fn over(
        name: String,
        rule: Rule,
        base: SimDisk,
        killed: Option<(Act, Seen)>,
        act: Act,
    ) -> Self {
        let must = |what: Result<Seen, String>| {
            what.unwrap_or_else(|error| panic!("{name} cannot be prepared: {error}"))
        };
        let disk = base.fork();
        let is_damaged = matches!(rule, Rule::Mends(_));
        let begin = must(look_over_damage(&disk, is_damaged));
        let (before, first) = killed.unzip();
        let olds: Vec<Seen> = first.into_iter().chain([begin]).collect();
        must(act(&disk).map(|()| Seen::new()));
        let new = must(look(&disk));
        let mut again = Vec::new();
        if let Some(before) = &before {
            let disk = base.fork();
            for act in [before, &act] {
                must(act(&disk).map(|()| Seen::new()));
                again.push(must(look(&disk)));
            }
        }
        Self { name, base, act, before, olds, new, again, rule }
    }

    /// Scenes in which one process was killed in the middle of `first`, at any step that leaves
    /// another disk, and the next does `act`.
    pub(super) fn after_kills(
        name: &str,
        base: &SimDisk,
        first: fn() -> Act,
        act: fn() -> Act,
    ) -> Vec<Self> {
        let base = base.crash_image(Loss::Nothing);
        let begin = look(&base).expect("a good store");
        let mut scenes = Vec::new();
        let mut last = None;
        let whole = base.fork();
        let (_, cuts) = whole.power_cuts(|| first()(&whole));
        for (step, left) in &cuts[..cuts.len() - 1] {
            let mark = (left.mark(&mut |states| states - 1), left.mark(&mut |_| 0));
            if last.replace(mark) == Some(mark) {
                continue;
            }
            let disk = base.fork();
            disk.crash_at(*step);
            drop(first()(&disk));
            let name = format!("{name}, killed at {step}");
            let killed = Some((first(), begin.clone()));
            scenes.push(Self::over(name, Rule::Steps, disk.fork(), killed, act()));
        }
        scenes
    }

    /// Every moment at which the power can go and leave something else than the moment before.
    pub(super) fn cuts(&self, forgets_syncs: bool) -> Vec<Cut> {
        let disk = self.base.fork();
        if forgets_syncs {
            disk.forget_syncs();
        }
        let (done, cuts) = disk.power_cuts(|| (self.act)(&disk));
        let last = cuts.len() - 1;
        let is_done = |number| number == last && done.is_ok();
        let cuts = cuts.into_iter().enumerate();
        cuts.map(|(number, (step, left))| Cut { step, left, is_done: is_done(number) }).collect()
    }

    /// Looks at a disk that was found after the power went. What is wrong with it, in words.
    pub(super) fn check(&self, cut: &Cut, image: &SimDisk) -> Result<(), String> {
        self.may_be(image, cut.is_done, &[])?;
        // And whoever comes next can do it.
        if let Some(before) = &self.before {
            before(image).map_err(|error| format!("before, again: {error}"))?;
        }
        (self.act)(image).map_err(|error| format!("again: {error}"))?;
        let seen = look(image).map_err(|error| format!("done again: {error}"))?;
        if self.before.is_none() && seen != self.new {
            return Err(format!("done again, there is {}", difference(&seen, &self.new)));
        }
        is_silent(image, false).map_err(|error| format!("done again: {error}"))
    }

    /// The power goes once more while whoever comes next is at work.
    pub(super) fn check_twice(
        &self,
        image: &SimDisk,
        step: u64,
        choose: &mut dyn FnMut(usize) -> usize,
    ) -> Result<(), String> {
        image.crash_at(step);
        if look(image).is_ok() && self.before.as_ref().is_none_or(|before| before(image).is_ok()) {
            drop((self.act)(image));
        }
        self.may_be(&image.power_cut().image(choose), false, &self.again)
    }

    /// Whether a disk may be found like this.
    fn may_be(&self, image: &SimDisk, is_done: bool, also: &[Seen]) -> Result<(), String> {
        let Rule::Mends(Damage { found, files }) = &self.rule else {
            self.may_be_seen(&look(image)?, is_done, also)?;
            return is_silent(image, true);
        };
        self.may_be_seen(&look_over_damage(image, true)?, is_done, also)?;
        for finding in findings(image, true)? {
            // What was bad is missing now.
            let follows = matches!(finding.code, "release-dangling" | "generation-dangling");
            if is_done || !(follows || found.contains(&finding.path)) {
                return Err(format!("fsck finds {finding:?}"));
            }
        }
        let present: HashSet<Vec<u8>> =
            image.files().iter().map(|path| bytes(image, path)).collect();
        match files.iter().all(|file| present.contains(file)) {
            true => Ok(()),
            false => Err("a bad file is lost".into()),
        }
    }

    fn may_be_seen(&self, seen: &Seen, is_done: bool, also: &[Seen]) -> Result<(), String> {
        let [.., begin] = self.olds.as_slice() else { unreachable!("a scene begins somehow") };
        if matches!(self.rule, Rule::OneStep) && seen != &self.new && (is_done || seen != begin) {
            return Err(format!("neither old nor new: {}", difference(seen, &self.new)));
        }
        let all = self.olds.iter().chain(also).chain([&self.new, seen]);
        let mut paths: Vec<&String> = all.flat_map(|seen| seen.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            let (now, new) = (seen.get(path), self.new.get(path));
            let is_old = self.olds.iter().chain(also).any(|old| old.get(path) == now);
            let is_changed = begin.get(path) != new;
            if now != new && (!is_old || (is_done && is_changed)) {
                return Err(format!("{path} is {now:?} and should be {new:?}"));
            }
        }
        Ok(())
    }
}

fn bytes(disk: &SimDisk, path: &std::path::Path) -> Vec<u8> {
    let file = disk.open_file(path).expect("a good disk").expect("it was listed");
    let len = disk.len(&file).expect("a good disk");
    let mut bytes = vec![0; usize::try_from(len).expect("it is in memory")];
    disk.read_at(&file, 0, &mut bytes, Caching::Keep).expect("a good disk");
    bytes
}

/// What `fsck` finds; nothing where there is no store.
fn findings(disk: &SimDisk, data: bool) -> Result<Vec<Finding>, String> {
    let store = match Store::open(disk.clone()) {
        Err(store_fs::StoreError::Absent { .. }) => return Ok(Vec::new()),
        store => store.map_err(words)?,
    };
    let report = fsck(&store, &host(), FsckOptions { data }, &|_, _| {});
    Ok(report.map_err(words)?.findings)
}

/// Fails with the first thing that `fsck` finds.
fn is_silent(disk: &SimDisk, data: bool) -> Result<(), String> {
    match findings(disk, data)?.first() {
        None => Ok(()),
        Some(found) => Err(format!("fsck finds {found:?}")),
    }
}

/// The first path at which two differ.
fn difference(seen: &Seen, wanted: &Seen) -> String {
    let mut paths = seen.keys().chain(wanted.keys());
    let path = paths.find(|path| seen.get(*path) != wanted.get(*path));
    match path {
        None => "no difference".into(),
        Some(path) => format!("{path}: {:?}, not {:?}", seen.get(path), wanted.get(path)),
    }
}
