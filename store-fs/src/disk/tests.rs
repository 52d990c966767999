//! What every disk promises, and what only a simulated one can show.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::beds::{Bed, OsBed, PlainBed, on_every_disk};
use super::*;

on_every_disk! {
    written_linked_and_read_back,
    a_taken_name_is_left_alone,
    a_temporary_file_that_is_dropped_leaves_nothing,
    a_name_is_replaced_only_on_request,
    a_file_can_have_another_name,
    lists_are_sorted_and_say_what_is_there,
    what_is_not_there_is_no_error,
    a_link_into_no_directory_is_not_found,
    a_lock_is_held_once_and_until_it_is_dropped,
    a_lock_that_was_abandoned_says_so_once,
    a_lock_is_shared_by_many_or_held_by_one,
    a_stamp_tells_two_files_apart,
    zeros_are_read_back_wherever_they_are,
}

fn put<D: Disk>(disk: &D, path: &str, bytes: &[u8]) -> bool {
    let mut temp = disk.temp().unwrap();
    disk.write(&mut temp, bytes).unwrap();
    disk.sync_temp(&temp).unwrap();
    disk.link(&temp, Path::new(path)).unwrap()
}

fn get<D: Disk>(disk: &D, path: &str) -> Option<Vec<u8>> {
    let file = disk.open_file(Path::new(path)).unwrap()?;
    let mut bytes = vec![0; usize::try_from(disk.len(&file).unwrap()).unwrap()];
    for caching in [Caching::Keep, Caching::Drop, Caching::Drop] {
        assert_eq!(disk.read_at(&file, 0, &mut bytes, caching).unwrap(), bytes.len());
    }
    Some(bytes)
}

fn written_linked_and_read_back<B: Bed>(bed: &B) {
    let disk = bed.disk();
    let mut temp = disk.temp().unwrap();
    disk.write(&mut temp, b"hello ").unwrap();
    disk.write(&mut temp, b"world").unwrap();
    let mut part = [0; 100];
    assert_eq!(disk.read_temp(&temp, 6, &mut part).unwrap(), 5);
    assert_eq!(&part[..5], b"world");
    assert!(disk.link(&temp, Path::new("a")).unwrap());
    drop(temp);
    assert_eq!(get(&bed.disk(), "a").unwrap(), b"hello world");
    let file = disk.open_file(Path::new("a")).unwrap().unwrap();
    for caching in [Caching::Keep, Caching::Drop] {
        assert_eq!(disk.read_at(&file, 8, &mut part, caching).unwrap(), 3);
        assert_eq!(&part[..3], b"rld");
        assert_eq!(disk.read_at(&file, 11, &mut part, caching).unwrap(), 0);
        assert_eq!(disk.read_at(&file, 1 << 40, &mut part, caching).unwrap(), 0);
    }
}

fn a_taken_name_is_left_alone<B: Bed>(bed: &B) {
    let disk = bed.disk();
    assert!(put(&disk, "a", b"one"));
    assert!(!put(&disk, "a", b"two"));
    assert_eq!(get(&disk, "a").unwrap(), b"one");
}

fn a_temporary_file_that_is_dropped_leaves_nothing<B: Bed>(bed: &B) {
    let disk = bed.disk();
    let mut temp = disk.temp().unwrap();
    disk.write(&mut temp, b"gone").unwrap();
    drop(temp);
    assert_eq!(disk.list(Path::new("tmp")).unwrap(), []);
}

fn a_name_is_replaced_only_on_request<B: Bed>(bed: &B) {
    let disk = bed.disk();
    assert!(put(&disk, "a", b"one"));
    let mut temp = disk.temp().unwrap();
    disk.write(&mut temp, b"two").unwrap();
    disk.replace(&temp, Path::new("a")).unwrap();
    drop(temp);
    assert_eq!(get(&disk, "a").unwrap(), b"two");
    assert_eq!(disk.list(Path::new("tmp")).unwrap(), []);
}

fn a_file_can_have_another_name<B: Bed>(bed: &B) {
    let disk = bed.disk();
    let [a, b, c] = ["a", "b", "c"].map(Path::new);
    put(&disk, "a", b"first");
    put(&disk, "c", b"other");
    assert!(disk.alias(a, b).unwrap());
    assert!(!disk.alias(a, c).unwrap());
    assert!(disk.remove(a).unwrap());
    assert_eq!((get(&disk, "a"), get(&disk, "b").unwrap()), (None, b"first".to_vec()));
    assert_eq!(get(&disk, "c").unwrap(), b"other");
    assert_eq!(disk.alias(a, Path::new("d")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.alias(b, Path::new("no/d")).unwrap_err().kind(), ErrorKind::NotFound);
}

fn lists_are_sorted_and_say_what_is_there<B: Bed>(bed: &B) {
    let disk = bed.disk();
    assert!(disk.create_dir(Path::new("d")).unwrap());
    assert!(!disk.create_dir(Path::new("d")).unwrap());
    assert!(put(&disk, "d/b", b""));
    assert!(put(&disk, "d/a", b""));
    disk.create_dir(Path::new("d/c")).unwrap();
    let listed = disk.list(Path::new("d")).unwrap();
    let listed: Vec<_> = listed.iter().map(|l| (l.name.to_str().unwrap(), l.kind)).collect();
    let (file, dir) = (ListedKind::File, ListedKind::Dir);
    assert_eq!(listed, [("a", file), ("b", file), ("c", dir)]);
    assert!(disk.remove(Path::new("d/a")).unwrap());
    assert!(!disk.remove(Path::new("d/a")).unwrap());
    assert_eq!(disk.list(Path::new("d")).unwrap().len(), 2);
}

fn what_is_not_there_is_no_error<B: Bed>(bed: &B) {
    let disk = bed.disk();
    assert!(disk.open_file(Path::new("no")).unwrap().is_none());
    assert!(disk.stamp(Path::new("no")).unwrap().is_none());
    assert_eq!(disk.list(Path::new("no")).unwrap(), []);
    disk.create_dir(Path::new("d")).unwrap();
    assert!(disk.stamp(Path::new("d")).unwrap().is_none(), "a directory is no file");
    disk.sweep().unwrap();
}

fn a_link_into_no_directory_is_not_found<B: Bed>(bed: &B) {
    let disk = bed.disk();
    let temp = disk.temp().unwrap();
    let error = disk.link(&temp, Path::new("no/a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

fn a_lock_is_held_once_and_until_it_is_dropped<B: Bed>(bed: &B) {
    let path = Path::new("lock");
    let first = bed.disk().lock(path).unwrap();
    assert!(matches!(first, Locking::Mine(_)));
    let second = bed.disk().lock(path).unwrap();
    assert!(matches!(second, Locking::Held(pid) if pid == std::process::id()), "{second:?}");
    drop(first);
    assert!(matches!(bed.disk().lock(path).unwrap(), Locking::Mine(_)));
}

fn a_lock_that_was_abandoned_says_so_once<B: Bed>(bed: &B) {
    let take = || match bed.disk().lock(Path::new("lock")).unwrap() {
        Locking::Mine(lock) => lock,
        Locking::Held(_) => panic!("nobody holds it"),
    };
    assert!(!take().was_abandoned());
    let mut lock = take();
    assert!(!lock.was_abandoned());
    lock.abandon();
    drop(lock);
    assert!(take().was_abandoned());
    assert!(!take().was_abandoned());
}

fn a_lock_is_shared_by_many_or_held_by_one<B: Bed>(bed: &B) {
    let path = Path::new("adding");
    let share = || bed.disk().share(path).unwrap();
    let first = share();
    let second = share();
    assert!(matches!((&first, &second), (Locking::Mine(_), Locking::Mine(_))));
    drop(first);
    assert!(matches!(bed.disk().lock(path).unwrap(), Locking::Held(_)));
    drop(second);
    let alone = bed.disk().lock(path).unwrap();
    assert!(matches!(alone, Locking::Mine(_)));
    assert!(matches!(share(), Locking::Held(_)));
    drop(alone);
    assert!(matches!(share(), Locking::Mine(_)));
}

fn a_stamp_tells_two_files_apart<B: Bed>(bed: &B) {
    let disk = bed.disk();
    put(&disk, "a", b"one");
    let first = disk.stamp(Path::new("a")).unwrap().unwrap();
    assert_eq!(first.len, 3);
    assert_eq!(disk.stamp(Path::new("a")).unwrap().unwrap(), first);
    put(&disk, "b", b"one");
    assert_ne!(disk.stamp(Path::new("b")).unwrap().unwrap(), first);
}

fn zeros_are_read_back_wherever_they_are<B: Bed>(bed: &B) {
    let disk = bed.disk();
    for (number, lengths) in [
        // Of zeros, and of something else behind them.
        vec![(5 * 4096, 0)],
        vec![(4095, 1), (4096, 1), (8192, 4095)],
        vec![(0, 10), (20_000, 10), (12_000, 0)],
        vec![(100, 4096), (4096, 4096), (4097, 0)],
    ]
    .into_iter()
    .enumerate()
    {
        let content: Vec<u8> = lengths
            .iter()
            .flat_map(|(zeros, others)| [vec![0; *zeros], vec![7; *others]].concat())
            .collect();
        for piece in [1000, 4096, 5000, 1 << 20] {
            let mut temp = disk.temp().unwrap();
            for part in content.chunks(piece) {
                disk.write(&mut temp, part).unwrap();
            }
            let name = format!("{number}-{piece}");
            assert!(disk.link(&temp, Path::new(&name)).unwrap());
            assert!(get(&disk, &name).unwrap() == content, "{name}");
        }
    }
}

#[test]
fn zeros_take_no_room() {
    use std::os::unix::fs::MetadataExt;
    let bed = OsBed::default();
    let disk = bed.disk();
    let mut temp = disk.temp().unwrap();
    disk.write(&mut temp, b"beginning").unwrap();
    for _ in 0..64 {
        disk.write(&mut temp, &[0; 1 << 20]).unwrap();
    }
    assert!(disk.link(&temp, Path::new("a")).unwrap());
    let file = fs::metadata(disk.root().join("a")).unwrap();
    assert_eq!(file.len(), 9 + (64 << 20));
    assert!(file.blocks() * 512 < 1 << 20, "{} blocks", file.blocks());
}

#[test]
fn a_reflink_is_a_copy_or_nothing() {
    fn check<B: Bed>(bed: &B) {
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(b"shared").unwrap();
        let disk = bed.disk();
        let mut temp = disk.temp().unwrap();
        let done = disk.reflink(&mut temp, &source).unwrap();
        let mut bytes = [0; 10];
        let count = disk.read_temp(&temp, 0, &mut bytes).unwrap();
        assert_eq!(&bytes[..count], if done { b"shared".as_slice() } else { b"" });
    }
    check(&OsBed::default());
    check(&super::beds::SimBed::default());
}

#[test]
fn an_absent_directory_is_no_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let error = OsDisk::open(&path).unwrap_err();
    assert!(matches!(error, crate::StoreError::Absent { path: p } if p == path));
    assert_eq!(OsDisk::create(&path).unwrap().root(), path);
    OsDisk::open(&path).unwrap();
}

#[test]
fn files_are_readable_by_everybody_and_writable_by_nobody() {
    use std::os::unix::fs::PermissionsExt;
    let (os, plain) = (OsBed::default(), PlainBed::default());
    for disk in [os.disk(), plain.disk()] {
        put(&disk, "a", b"x");
        let mode = fs::metadata(disk.root().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o444);
    }
}

#[test]
fn leftovers_of_the_dead_are_swept_and_those_of_the_living_stay() {
    let bed = PlainBed::default();
    let disk = bed.disk();
    let mut temp = disk.temp().unwrap();
    disk.write(&mut temp, b"in progress").unwrap();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let dead = child.id();
    child.wait().unwrap();
    let tmp = disk.root().join("tmp");
    fs::write(tmp.join(format!("{dead}-0")), b"left").unwrap();
    fs::write(tmp.join("1-0"), b"of process 1, which lives").unwrap();
    fs::write(tmp.join("stranger"), b"not ours").unwrap();
    disk.sweep().unwrap();
    let left = disk.list(Path::new("tmp")).unwrap();
    let left: Vec<_> = left.iter().map(|l| l.name.to_str().unwrap()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(!left.contains(&format!("{dead}-0").as_str()));
    assert!(disk.link(&temp, Path::new("a")).unwrap());
}

#[test]
fn only_what_was_synced_survives_the_loss_of_everything() {
    let disk = SimDisk::default();
    disk.create_dir(Path::new("d")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    put(&disk, "d/kept", b"kept");
    disk.sync_dir(Path::new("d")).unwrap();
    put(&disk, "d/lost", b"name not synced");
    let temp = disk.temp().unwrap();
    disk.link(&temp, Path::new("e")).unwrap();
    disk.remove(Path::new("d/kept")).unwrap();
    let after = disk.crash_image(Loss::Everything);
    assert_eq!(after.files(), [Path::new("d/kept")]);
    assert_eq!(get(&after, "d/kept").unwrap(), b"kept");
    let after = disk.crash_image(Loss::Nothing);
    assert_eq!(after.files(), [Path::new("d/lost"), Path::new("e")]);
}

#[test]
fn content_that_was_not_synced_is_not_reliable() {
    let disk = SimDisk::default();
    let mut temp = disk.temp().unwrap();
    disk.write(&mut temp, b"12345678").unwrap();
    disk.link(&temp, Path::new("a")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    let found: std::collections::BTreeSet<_> =
        (0..64).map(|seed| get(&disk.crash_image(Loss::Some(seed)), "a").unwrap()).collect();
    let (zeros, tail, head) = (b"\0\0\0\0\0\0\0\0", b"\0\0\0\x005678", b"1234\0\0\0\0");
    let expected = [&b""[..], zeros, tail, b"1234", head, b"12345678"];
    assert!(found.iter().eq(expected), "{found:?}");
    disk.sync_all().unwrap();
    assert_eq!(get(&disk.crash_image(Loss::Everything), "a").unwrap(), b"12345678");
}

#[test]
fn a_name_is_as_durable_as_its_directory() {
    let disk = SimDisk::default();
    disk.create_dir(Path::new("d")).unwrap();
    put(&disk, "d/a", b"x");
    disk.sync_dir(Path::new("d")).unwrap();
    assert!(disk.crash_image(Loss::Everything).files().is_empty());
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(disk.crash_image(Loss::Everything).files(), [Path::new("d/a")]);
}

#[test]
fn operations_fail_once_and_crash_for_good() {
    let disk = SimDisk::default();
    disk.fail_at(2);
    disk.create_dir(Path::new("a")).unwrap();
    let error = disk.create_dir(Path::new("b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    disk.create_dir(Path::new("b")).unwrap();
    disk.crash_at(1);
    disk.create_dir(Path::new("c")).unwrap_err();
    disk.list(Path::new("")).unwrap_err();
    let after = disk.crash_image(Loss::Nothing);
    assert_eq!(after.list(Path::new("")).unwrap().len(), 2);
}

/// Each combination once: a name in a directory that is lost is no choice, nor is its content.
#[test]
fn every_state_that_a_power_cut_can_leave_is_there_once() {
    let disk = SimDisk::default();
    disk.create_dir(Path::new("d")).unwrap();
    put(&disk, "d/a", b"12345678");
    disk.sync_all().unwrap();
    disk.remove(Path::new("d/a")).unwrap();
    disk.create_dir(Path::new("e")).unwrap();
    let temp = disk.temp().unwrap();
    disk.sync_temp(&temp).unwrap();
    disk.link(&temp, Path::new("e/b")).unwrap();
    let cut = disk.power_cut();
    let states = cut.states(100).unwrap();
    let found: std::collections::BTreeSet<_> = states
        .iter()
        .map(|choices| {
            let mut choices = choices.iter();
            let image = cut.image(&mut |_| *choices.next().unwrap());
            (image.list(Path::new("")).unwrap().len(), image.files())
        })
        .collect();
    // The file or not; and no directory, the directory, or it with the other file.
    assert_eq!((states.len(), found.len()), (6, 6), "{found:?}");
    assert!(cut.states(5).is_none());
    let mark = |cut: &crate::PowerCut, choices: &[usize]| {
        let mut choices = choices.iter();
        cut.mark(&mut |_| *choices.next().unwrap())
    };
    let marks: std::collections::BTreeSet<_> =
        states.iter().map(|choices| mark(&cut, choices)).collect();
    assert_eq!(marks.len(), 6);
    disk.sync_dir(Path::new("d")).unwrap();
    let later = disk.fork().power_cut();
    let states = later.states(100).unwrap();
    assert_eq!(states.len(), 3);
    assert!(states.iter().all(|choices| marks.contains(&mark(&later, choices))));
}

/// Between what was durable and what is there now there may be more that can be found.
#[test]
fn what_a_name_stood_for_in_between_may_be_found() {
    let disk = SimDisk::default();
    let put = |text: &[u8]| {
        let mut temp = disk.temp().unwrap();
        disk.write(&mut temp, text).unwrap();
        disk.sync_temp(&temp).unwrap();
        disk.replace(&temp, Path::new("a")).unwrap();
    };
    for text in [&b"one"[..], b"two"] {
        put(text);
    }
    disk.remove(Path::new("a")).unwrap();
    put(b"three");
    let cut = disk.power_cut();
    let found: Vec<_> =
        (0..4).map(|state| get(&cut.image(&mut |_| state), "a").unwrap_or_default()).collect();
    assert_eq!(found, [&b""[..], b"one", b"two", b"three"]);
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(disk.power_cut().states(9).unwrap().len(), 1);
    disk.forget_syncs();
    disk.remove(Path::new("a")).unwrap();
    disk.sync_all().unwrap();
    assert_eq!(disk.power_cut().states(9).unwrap().len(), 2);
}
