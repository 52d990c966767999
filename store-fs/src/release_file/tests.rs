//! Release files: there and back, and everything that a hostile or a broken one can be.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::digest::GROUP_LEN;
use crate::disk::beds::SimBed;
use crate::store::tests::{add, content, host, new_store, release};
use crate::{Disk, FsckOptions, SimDisk, Store, TreeBuilder, fsck};

const NOBODY: Telling<'static> = &|_| ();

fn store() -> Store<SimDisk> {
    new_store(&SimBed::default())
}

fn written(store: &Store<impl Disk>, releases: &[Release]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(store, releases, &mut bytes, Path::new("file"), NOBODY).unwrap();
    bytes
}

fn received(store: &Store<SimDisk>, bytes: &[u8]) -> Result<Received, StoreError> {
    let file = ReleaseFile::open(bytes, Path::new("file"))?;
    receive(store, file, Wanted::All, false, NOBODY)
}

/// A release with two small files, one of them empty.
fn small() -> (Store<SimDisk>, Release) {
    let store = store();
    let addition = store.add().unwrap();
    let mut tree = TreeBuilder::new();
    for (path, bytes) in [(&b"bin/xz"[..], &b"program"[..]), (b"share/empty", b"")] {
        let blob = addition.bytes(bytes).unwrap();
        tree.file(path, blob, bytes.len() as u64, 1, true).unwrap();
    }
    tree.symlink(b"lib", b"../../../etc").unwrap();
    let object = addition.finish(tree).unwrap().id();
    (store, release("xz", "1:5.2", object))
}

/// Fails with damage to the file or a limit, and nothing is there afterwards.
fn is_refused(bytes: &[u8], what: &str) {
    let store = store();
    let error = received(&store, bytes).expect_err(what);
    let by_name = match &error {
        StoreError::Damaged { path, .. } => path == Path::new("file"),
        StoreError::Limit { .. } | StoreError::NewerFormat { .. } => true,
        _ => false,
    };
    assert!(by_name, "{what}: {error:?}");
    assert!(store.disk().files().iter().all(|path| !path.starts_with("objects")), "{what}");
    let report = fsck(&store, &host(), FsckOptions { data: true }, &|_, _| {}).unwrap();
    assert_eq!(report.findings, [], "{what}");
    check_release_file(bytes).expect_err(what);
}

#[test]
fn a_set_of_releases_there_and_back() {
    let from = store();
    let objects = [content(5), content(3 * GROUP_LEN + 1), content(5)];
    let objects: Vec<ObjectId> = objects.iter().map(|bytes| add(&from, bytes).unwrap()).collect();
    assert_eq!(objects[0], objects[2]);
    let releases = [
        release("zlib", "1.3", objects[1]),
        release("xz", "5.2", objects[0]),
        release("xz", "5.8", objects[2]),
    ];
    let bytes = written(&from, &releases);
    assert_eq!(bytes, written(&from, &[&releases[1..], &releases].concat()), "one encoding");
    let to = store();
    let file = ReleaseFile::open(bytes.as_slice(), Path::new("file")).unwrap();
    assert_eq!(file.prefix(), &from.format().prefix);
    let names: Vec<String> = file.releases().iter().map(|r| r.id.to_string()).collect();
    assert_eq!(names, ["xz@5.2,debug", "xz@5.8,debug", "zlib@1.3,debug"]);
    assert!(file.releases().contains(&releases[0]));
    let done = receive(&to, file, Wanted::All, false, NOBODY).unwrap();
    let len = 5 + 3 * GROUP_LEN as u64 + 1;
    assert_eq!(done, Received { objects: 2, files: 2, bytes: len, new_bytes: len });
    assert_eq!(received(&to, &bytes).unwrap().new_bytes, 0);
    let writer = to.writer().unwrap();
    for release in &releases {
        to.publish_release(&writer, release).unwrap();
    }
    let report = fsck(&to, &host(), FsckOptions { data: true }, &|_, _| {}).unwrap();
    assert_eq!((report.findings.as_slice(), report.blobs), ([].as_slice(), 2));
    assert_eq!(written(&to, &releases), bytes);
}

/// A repair takes what it needs; the rest is read and stored nowhere.
#[test]
fn only_what_is_wanted_is_stored() {
    let from = store();
    let objects = [&b"one"[..], b"two", b"three"].map(|bytes| add(&from, bytes).unwrap());
    let releases = [1, 2, 3].map(|n| release("xz", &n.to_string(), objects[n - 1]));
    let bytes = written(&from, &releases);
    let to = store();
    let file = || ReleaseFile::open(bytes.as_slice(), Path::new("file")).unwrap();
    let (objects, blobs) =
        (BTreeSet::from([objects[1]]), BTreeSet::from([crate::digest::digest(b"three").id]));
    let wanted = Wanted::These { objects: &objects, blobs: &blobs };
    let done = receive(&to, file(), wanted, false, NOBODY).unwrap();
    assert_eq!((done.objects, done.files, done.bytes), (1, 2, 8));
    let count = |dir: &str| to.disk().files().iter().filter(|path| path.starts_with(dir)).count();
    assert_eq!((count("objects"), count("blobs")), (1, 2));
    let mut cut = bytes.clone();
    cut.pop();
    let file = ReleaseFile::open(cut.as_slice(), Path::new("file")).unwrap();
    assert!(receive(&to, file, wanted, false, NOBODY).is_err(), "all of it is verified");
}

#[test]
fn a_rehearsal_writes_nothing() {
    let (from, release) = small();
    let bytes = written(&from, &[release]);
    let to = store();
    let before = to.disk().files();
    let file = ReleaseFile::open(bytes.as_slice(), Path::new("file")).unwrap();
    let done = receive(&to, file, Wanted::All, true, NOBODY).unwrap();
    assert_eq!((done.files, done.new_bytes), (2, 7));
    assert_eq!(to.disk().files(), before);
}

/// Every flipped bit, every cut and every byte too many is found.
#[test]
fn every_flipped_bit_and_every_cut_of_a_release_file_is_found() {
    let (from, release) = small();
    let bytes = written(&from, &[release]);
    check_release_file(&bytes).unwrap();
    for len in 0..bytes.len() {
        is_refused(&bytes[..len], &format!("cut at {len}"));
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check_release_file(&flipped).expect_err("a flipped bit");
        if bit % 8 == 3 {
            is_refused(&flipped, &format!("bit {bit}"));
        }
    }
    is_refused(&[&bytes[..], &[0]].concat(), "one byte more");
    is_refused(&[&bytes[..], &bytes].concat(), "twice");
}

/// A file with this head, which is sealed as it must be, and this content.
fn forged(lines: &[String], rest: &[u8]) -> Vec<u8> {
    let mut writer = RecordWriter::new(record::RELEASE_FILE, 0);
    for line in lines {
        writer.line_with(|out| out.extend_from_slice(line.as_bytes()));
    }
    let head = writer.seal().unwrap();
    let len = u32::try_from(head.len()).unwrap();
    [&MAGIC[..], &len.to_le_bytes(), &head, rest].concat()
}

/// What somebody could write on purpose: hashes are right, and what they cover is not.
#[test]
fn a_forged_release_file_is_refused() {
    let (from, xz) = small();
    let whole = written(&from, std::slice::from_ref(&xz));
    let encoding = from.object(&xz.object).unwrap().encoding().to_vec();
    let rest = &whole[whole.len() - encoding.len() - 7..];
    let release = serde_json::to_string(&xz).unwrap();
    let object = format!("[\"{}\",{}]", xz.object, encoding.len());
    let counts = |releases: u64, objects: u64| {
        format!("{{\"prefix\":\"/dyn\",\"releases\":{releases},\"objects\":{objects}}}")
    };
    let good = [counts(1, 1), release.clone(), object.clone()];
    check_release_file(&forged(&good, rest)).unwrap();
    let other = ObjectId::from_bytes([7; 32]);
    let renamed = |from: &str, to: &str| {
        assert!(release.contains(from));
        vec![counts(1, 1), release.replacen(from, to, 1), object.clone()]
    };
    for (what, lines) in [
        ("no release", vec![counts(0, 0)]),
        ("more releases than may be", vec![counts(u64::MAX, 1), release.clone(), object.clone()]),
        ("a release twice", vec![counts(2, 1), release.clone(), release.clone(), object.clone()]),
        ("an object twice", vec![counts(1, 2), release.clone(), object.clone(), object.clone()]),
        ("objects that are not counted", vec![counts(1, 9), release.clone(), object.clone()]),
        ("no object", vec![counts(1, 0), release.clone()]),
        ("a line too many", vec![counts(1, 1), release.clone(), object.clone(), "1".to_owned()]),
        ("another object", vec![counts(1, 1), release.clone(), format!("[\"{other}\",1]")]),
        (
            "an object that is too long",
            vec![counts(1, 1), release.clone(), format!("[\"{}\",{}]", xz.object, u64::MAX)],
        ),
        (
            "an object that is shorter than it says",
            vec![counts(1, 1), release.clone(), format!("[\"{}\",{}]", xz.object, 1 << 29)],
        ),
        ("a way out as a name", renamed("\"xz\"", "\"../xz\"")),
        ("a way out as a version", renamed("\"1:5.2\"", "\"../5.2\"")),
        ("a way out as a category", renamed("\"lib\"", "\"../lib\"")),
        ("a way out as a variant", renamed("\"debug\"", "\"a/b\"")),
        ("a way out as a soname", renamed("libssl.so.3.2", "../../x")),
        ("a way out as a command", renamed("\"openssl\"", "\"../x\"")),
        ("a prefix that is none", {
            vec![good[0].replace("/dyn", "../dyn"), release.clone(), object.clone()]
        }),
    ] {
        is_refused(&forged(&lines, rest), what);
    }
    let swapped = [&rest[encoding.len()..], &rest[..encoding.len()]].concat();
    is_refused(&forged(&good, &swapped), "another order");
    let mut endless = forged(&good, rest);
    endless[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    is_refused(&endless, "a head that is too long");
}

/// One blob of two lengths would be whichever came first.
#[test]
fn a_blob_with_two_lengths_is_refused() {
    let from = store();
    let addition = from.add().unwrap();
    let blob = addition.bytes(b"12345").unwrap();
    let mut tree = TreeBuilder::new();
    tree.file(b"a", blob, 5, 0, false).unwrap();
    tree.file(b"b", blob, 4, 0, false).unwrap();
    let (object, encoding) = tree.encode().unwrap();
    let release = serde_json::to_string(&release("xz", "5", object)).unwrap();
    let lines = [
        "{\"prefix\":\"/dyn\",\"releases\":1,\"objects\":1}".to_owned(),
        release,
        format!("[\"{object}\",{}]", encoding.len()),
    ];
    is_refused(&forged(&lines, &[&encoding[..], b"12345"].concat()), "two lengths");
}

/// The names of an endless file: nothing is allocated for what was only promised.
#[test]
fn a_huge_size_that_is_only_promised_costs_nothing() {
    let mut tree = TreeBuilder::new();
    let blob = crate::digest::digest(b"x").id;
    tree.file(b"a", blob, crate::object::FILE_SIZE_MAX, 0, false).unwrap();
    tree.file(b"b", crate::digest::digest(b"y").id, crate::object::FILE_SIZE_MAX, 0, false)
        .unwrap();
    let (object, encoding) = tree.encode().unwrap();
    let lines = [
        "{\"prefix\":\"/dyn\",\"releases\":1,\"objects\":1}".to_owned(),
        serde_json::to_string(&release("xz", "5", object)).unwrap(),
        format!("[\"{object}\",{}]", encoding.len()),
    ];
    is_refused(&forged(&lines, &[&encoding[..], b"x"].concat()), "a huge size");
}

#[test]
fn what_the_store_does_not_have_whole_is_not_written() {
    let (from, release) = small();
    let blob = crate::store::path::blob(&crate::digest::digest(b"program").id);
    from.disk().damage(&blob, |bytes| bytes[0] ^= 1);
    let mut out = Vec::new();
    let failed = write(&from, &[release], &mut out, Path::new("file"), NOBODY).unwrap_err();
    assert!(matches!(failed, StoreError::Damaged { path, .. } if path.ends_with(blob)));
    check_release_file(&out).unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_releases_there_and_back(
        files in prop::collection::vec(
            ("[a-z]{1,3}/[a-z]{1,3}", 0..3 * GROUP_LEN, any::<i64>(), any::<bool>(), 0..4_usize),
            0..12,
        ),
    ) {
        let from = store();
        let mut releases = Vec::new();
        for part in 0..4_usize {
            let addition = from.add().unwrap();
            let mut tree = TreeBuilder::new();
            for (path, len, mtime, executable, _) in files.iter().filter(|f| f.4 >= part) {
                let blob = addition.bytes(&content(*len)).unwrap();
                // A path may be taken.
                drop(tree.file(path.as_bytes(), blob, *len as u64, *mtime, *executable));
            }
            let object = addition.finish(tree).unwrap().id();
            releases.push(release("xz", &format!("{part}"), object));
        }
        let bytes = written(&from, &releases);
        let to = store();
        received(&to, &bytes).unwrap();
        prop_assert_eq!(written(&to, &releases), bytes);
        let report = fsck(&to, &host(), FsckOptions { data: true }, &|_, _| {}).unwrap();
        prop_assert_eq!(report.findings, []);
    }

    #[test]
    fn no_bytes_make_the_reader_of_release_files_fall(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        prop_assert!(check_release_file(&[&MAGIC[..], &bytes].concat()).is_err());
        prop_assert!(check_release_file(&bytes).is_err());
    }
}
