//! Single faults in every kind of file of a store, and in release files: nobody is ever given a
//! wrong byte, and `fsck` finds them all.
//!
//! A fault strikes before anybody has looked, or between two looks of a server that goes on. Then
//! every path below the mount is what it was, or an error where the file is needed:
//!
//! ```text
//! blob          its files are errors                 nothing else
//! outboard      its files may be errors              nothing else
//! object        its packages may be errors           nothing else
//! record        the release is not there by version, nor in unions: what it was is not known
//! generation    its frozen tree, and the live tree of the newest, are errors
//! format        the store does not open
//! the rest      nothing
//! ```
//!
//! What `fsck` cannot find, because it is no damage: see [`is_no_damage`].

use std::path::Path;

use store_fs::fsck::fsck_disk;
use store_fs::release_file::{Wanted, check_release_file, receive};
use store_fs::{DynFs, FsckOptions, Loss, ReleaseFile, SimDisk};

use crate::harness::turn::{Campaign, Dice, Turn};
use crate::parcel::{host, new_store, open, words};
use crate::seen::{Seen, Thing, Walk};

#[path = "faults/fault.rs"]
mod fault;
#[path = "faults/victim.rs"]
mod victim;

use fault::{Fault, bytes_of, put};
use victim::{KINDS, Victim, find, served};

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "faults",
    what: "single faults in files: detected before a byte reaches a program",
    unit: "faults",
    per_case: 1,
    short: 2_000,
    long: 100_000,
    run,
};

/// One case in so many strikes a release file.
const RELEASE_FILE_SHARE: u64 = 8;
/// Parts of files that are read beside the whole files.
const RANGES: usize = 6;

/// What was struck, and how.
#[derive(Clone, Copy, Debug)]
struct Strike<'a> {
    kind: &'static str,
    path: &'a Path,
    fault: Fault,
    /// After the store was opened and read, and not before.
    between: bool,
}

fn run(turn: &mut Turn<'_>) {
    let victim = Victim::new();
    let empty = SimDisk::default();
    new_store(&empty).expect("an empty disk");
    let empty = empty.crash_image(Loss::Nothing);
    while let Some(mut case) = turn.next() {
        let dice = &mut case.dice;
        let done = match dice.roll(RELEASE_FILE_SHARE) {
            0 => strike_file(&victim, &empty, dice),
            _ => strike(&victim, dice),
        };
        match done {
            Ok(what) => turn.count(what, 1),
            Err(error) => return turn.violation(&error),
        }
    }
}

/// A fault in a release file: nothing of it is stored.
fn strike_file(victim: &Victim, empty: &SimDisk, dice: &mut Dice) -> Result<&'static str, String> {
    let (mut fault, mut bytes) = (Fault::Flip, victim.release_file.clone());
    while bytes == victim.release_file {
        fault = *dice.pick(&Fault::OF_BYTES);
        fault.strike(&mut bytes, &[], dice);
    }
    let disk = empty.fork();
    let store = open(&disk)?;
    let file = ReleaseFile::open(bytes.as_slice(), Path::new("file"));
    let received = file.and_then(|file| receive(&store, file, Wanted::All, false, &|_| ()));
    let objects = disk.files().iter().filter(|path| path.starts_with("objects")).count();
    let is_refused = received.is_err() && objects == 0 && check_release_file(&bytes).is_err();
    match is_refused {
        true => Ok("in release files"),
        false => Err(format!("{fault:?} in a release file: {received:?}, {objects} objects")),
    }
}

fn strike(victim: &Victim, dice: &mut Dice) -> Result<&'static str, String> {
    let disk = victim.disk.fork();
    // One that changes nothing is none.
    let (strike, after) = loop {
        let kind = *dice.pick(&KINDS);
        let path = dice.pick(&victim.files[kind]).as_path();
        let fault = *dice.pick(&Fault::ALL);
        let before = bytes_of(&disk, path);
        let mut after = before.clone();
        let other = victim.other(kind, dice.index(1_000));
        fault.strike(&mut after, &other, dice);
        if after != before || fault == Fault::Missing {
            let between = dice.roll(2) == 0;
            break (Strike { kind, path, fault, between }, after);
        }
    };
    let Strike { kind, path, fault, between } = strike;
    let in_place = dice.roll(2) == 0;
    let hit = || match fault {
        Fault::Missing => assert!(store_fs::Disk::remove(&disk, path).expect("a good disk")),
        _ => put(&disk, path, after, in_place),
    };
    let say = |error: String| format!("{strike:?}, in place {in_place}: {error}");
    if between {
        let fs = served(&disk).map_err(&say)?;
        if dice.roll(2) == 0 {
            ask(victim, &fs, None, dice).map_err(&say)?;
        }
        hit();
        ask(victim, &fs, Some(&strike), dice).map_err(&say)?;
    } else {
        hit();
        match served(&disk) {
            Ok(_) if kind == "format" => return Err(say("it opens".into())),
            Ok(fs) => ask(victim, &fs, Some(&strike), dice).map_err(&say)?,
            Err(_) if kind == "format" => {}
            Err(error) => return Err(say(error)),
        }
    }
    look_for(victim, &disk, &strike).map_err(say)?;
    Ok(if between { "between reads" } else { "before the first read" })
}

/// Walks through everything, and reads parts of files.
fn ask(
    victim: &Victim,
    fs: &DynFs<SimDisk>,
    strike: Option<&Strike<'_>>,
    dice: &mut Dice,
) -> Result<(), String> {
    let seen = Walk::new(fs).all(&victim.names);
    let right = match strike {
        // There is no other pointer to the newest than its own name.
        Some(strike) if strike.fault == Fault::Missing && !strike.between => {
            if strike.path == victim.newest { &victim.before_newest } else { &victim.right }
        }
        _ => &victim.right,
    };
    if let Some(path) = seen.keys().find(|path| !right.contains_key(*path)) {
        return Err(format!("{path} came from nowhere"));
    }
    for (path, thing) in right {
        let now = seen.get(path);
        let must_fail = strike.is_some_and(|strike| must_fail(victim, strike, path, thing));
        if now == Some(thing) && !must_fail {
            continue;
        }
        let is_fine = match now {
            Some(Thing::Error) => strike.is_some_and(|s| may_fail(victim, s, path, thing)),
            None => strike.is_some_and(|s| may_be_absent(victim, s, path, &seen)),
            Some(_) => false,
        };
        if !is_fine {
            return Err(format!("{path} is {now:?}, not {thing:?}"));
        }
    }
    // What a generation has that is the newest for want of another is no part of `contents`.
    let is_known = |path: &String| right.get(path) == victim.right.get(path);
    read_parts(victim, fs, &seen, &is_known, dice)
}

/// Parts of files are the same parts of the right content, or errors where the whole was one.
fn read_parts(
    victim: &Victim,
    fs: &DynFs<SimDisk>,
    seen: &Seen,
    is_known: &dyn Fn(&String) -> bool,
    dice: &mut Dice,
) -> Result<(), String> {
    let all: Vec<_> = victim.contents.iter().filter(|(path, _)| is_known(path)).collect();
    for _ in 0..RANGES {
        let (path, content) = *dice.pick(&all);
        let Some(ino) = find(fs, path) else { continue };
        let from = dice.index(content.len() + 2);
        let len = dice.index(content.len() + 2);
        let mut part = Vec::new();
        let read = fs.read(ino, from as u64, u32::try_from(len).unwrap_or(u32::MAX), &mut part);
        let to = content.len().min(from + len);
        let is_right = part == content[from.min(to)..to];
        let was_error = seen.get(path) == Some(&Thing::Error);
        match read {
            Ok(()) if !is_right => return Err(format!("{path} from {from}: wrong bytes")),
            Err(error) if !was_error => return Err(format!("{path} from {from}: {error}")),
            Err(_) if !part.is_empty() => return Err(format!("{path}: an error with bytes")),
            _ => {}
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The name below the mount of the release whose record is `releases/xz/5.8.1,amd64,debug`.
fn by_version(record: &Path) -> String {
    let package = record.parent().map(file_name).unwrap_or_default();
    let parts: Vec<&str> = file_name(record).split(',').collect();
    let variants: String = parts[2..].iter().map(|variant| format!(",{variant}")).collect();
    format!("{package}@{}{variants}", parts[0])
}

/// Whether a path needs the file so much that it cannot be what it was.
fn must_fail(victim: &Victim, strike: &Strike<'_>, path: &str, thing: &Thing) -> bool {
    let name = file_name(strike.path);
    let is_its = |thing: &Thing| match thing {
        Thing::File { content, size, .. } => *size > 0 && content.to_string() == name,
        _ => false,
    };
    match strike.kind {
        // It is read anew each time.
        "blobs" => is_its(thing),
        // All else is kept in memory when it was verified.
        _ if strike.between => false,
        "outboards" => is_its(thing),
        "objects" => victim.places.get(strike.path).is_some_and(|p| p.iter().any(|p| p == path)),
        "generations" => path == format!(".generations/{name}"),
        "releases" => path.split('/').nth(1) == Some(&by_version(strike.path)),
        _ => false,
    }
}

/// Whether a path may be an error.
fn may_fail(victim: &Victim, strike: &Strike<'_>, path: &str, thing: &Thing) -> bool {
    let below = |place: &str| {
        path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let is_live = !path.starts_with('.') && !path.contains('@');
    match strike.kind {
        "blobs" => must_fail(victim, strike, path, thing),
        "outboards" => matches!(thing, Thing::File { content, .. }
            if content.to_string() == file_name(strike.path)),
        "objects" => {
            let places = victim.places.get(strike.path);
            places.is_some_and(|places| places.iter().any(|place| below(place)))
        }
        "generations" => {
            below(&format!(".generations/{}", file_name(strike.path)))
                || (is_live && !strike.between && strike.path == victim.newest)
        }
        _ => false,
    }
}

/// Whether a path may be missing: below what is an error, or because nothing says any more that it
/// was ever there.
fn may_be_absent(victim: &Victim, strike: &Strike<'_>, path: &str, seen: &Seen) -> bool {
    let mut above = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
    if above.any(|above| seen.get(above) == Some(&Thing::Error)) {
        return may_fail(victim, strike, path, &Thing::Dir);
    }
    let place = |path: &Path| path.to_str().map(str::to_owned).unwrap_or_default();
    match strike.kind {
        "releases" => {
            // That release, or the union's names of the package.
            let package = strike.path.parent().map(file_name).unwrap_or_default();
            path.split('/').nth(1) == Some(&by_version(strike.path))
                || path.ends_with(&format!("bin/{package}"))
                || path.ends_with(&format!("so/lib{package}.so.1"))
        }
        "generations" if strike.fault == Fault::Missing => {
            path.starts_with(&format!(".{}", place(strike.path)))
        }
        _ => false,
    }
}

/// `fsck` finds it; and what can be made again is made again by the next writer.
fn look_for(victim: &Victim, disk: &SimDisk, strike: &Strike<'_>) -> Result<(), String> {
    let options = FsckOptions { data: true };
    let looked = fsck_disk(disk.clone(), &host(), options, &|_, _| {});
    let found = match looked {
        Ok(report) => report.findings.len(),
        // A store without a format record is none.
        Err(_) if strike.kind == "format" => 1,
        Err(error) => return Err(words(error)),
    };
    if found == 0 && !is_no_damage(victim, strike) {
        return Err("fsck finds nothing".into());
    }
    if strike.kind == "index.redb" {
        let store = open(disk)?;
        let writer = store.writer().map_err(words)?;
        let (catalog, _) = store.catalog_and_index(&writer, host()).map_err(words)?;
        let report = fsck_disk(disk.clone(), &host(), options, &|_, _| {}).map_err(words)?;
        if catalog.len() != 4 || !report.findings.is_empty() {
            return Err(format!("the index was not made anew: {:?}", report.findings));
        }
    }
    Ok(())
}

/// What is no damage, and why:
///
/// * a mark in the trash, `lock` and `adding` say what they say by being there or being locked;
///   their content is never read, and a mark may be lost;
/// * an index that is missing is one that was never made;
/// * a generation that is missing was collected, as far as anybody can tell: numbers have gaps, and
///   there is no other pointer to the newest;
/// * a release record that is missing and that no generation selects was removed;
/// * an object that nothing needs may be missing: it was collected.
fn is_no_damage(victim: &Victim, strike: &Strike<'_>) -> bool {
    let is_missing = strike.fault == Fault::Missing;
    match strike.kind {
        "trash" | "lock" | "adding" => true,
        "index.redb" | "generations" => is_missing,
        "releases" => is_missing && victim.unselected.contains(strike.path),
        "objects" => is_missing && victim.garbage.contains(strike.path),
        _ => false,
    }
}
