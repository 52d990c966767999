//! One function for each thing that is decoded: takes any bytes and never panics. For fuzzers, and
//! for the tests that feed them at random. Never touches a disk.
//!
//! Where a hash would turn nearly everything away at the door, the bytes are also tried with the
//! hash that they would need.

use std::path::Path;

use resolver::{BlobId, GenerationNumber, ObjectId};

use crate::Tree;
use crate::digest::{Outboard, digest};
use crate::object::ROOT_ENTRY;
use crate::release_file::{MAGIC, check_release_file};
pub use crate::store::IndexCuts;
use crate::store::{Format, Index, decode_generation, decode_release, record};

/// The encoding of an object, and every question to the tree that it is.
pub fn object(bytes: &[u8]) {
    let id = ObjectId::from_bytes(*digest(bytes).id.as_bytes());
    let Ok(tree) = Tree::decode(id, bytes.to_vec()) else { return };
    for row in 0..=tree.rows().saturating_add(1) {
        let name = tree.row(row).map(|row| row.name.to_vec()).unwrap_or_default();
        drop((tree.path(row), tree.children(row), tree.child(row, &name)));
    }
    let last = tree.path(tree.rows()).unwrap_or_default();
    assert_eq!(tree.find(&last), Some(tree.rows()), "a path leads where it came from");
    assert_eq!(tree.find(&[]), Some(ROOT_ENTRY), "every tree has a root");
}

/// A release record.
pub fn release(bytes: &[u8]) {
    let path = Path::new("releases/xz/5.2.5,amd64");
    drop(decode_release(path, bytes));
    drop(decode_release(path, &record::sealed(record::RELEASE, bytes)));
}

/// A generation.
pub fn generation(bytes: &[u8]) {
    let (number, path) = (GenerationNumber(7), Path::new("generations/7"));
    drop(decode_generation(number, path, bytes));
    drop(decode_generation(number, path, &record::sealed(record::GENERATION, bytes)));
}

/// A format record.
pub fn format(bytes: &[u8]) {
    drop(Format::decode(bytes));
    drop(Format::decode(&record::sealed(record::FORMAT, bytes)));
}

/// An index.
pub fn index(bytes: &[u8]) {
    drop(Index::decode(bytes.to_vec()));
}

/// An outboard, for a blob of as many groups as it has values.
pub fn outboard(bytes: &[u8]) {
    let id = BlobId::from_bytes([7; 32]);
    let len = (bytes.len() as u64 / 32).saturating_mul(65_536);
    if let Some(outboard) = Outboard::verify(&id, len, bytes.to_vec()) {
        assert!(!outboard.proves(u64::MAX, bytes), "there is no such group");
    }
}

/// A release file, whole; and one whose head has these lines.
pub fn release_file(bytes: &[u8]) {
    drop(check_release_file(bytes));
    let head = record::sealed(record::RELEASE_FILE, bytes);
    let len = u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes();
    drop(check_release_file(&[&MAGIC[..], &len, &head, bytes].concat()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::beds::SimBed;
    use crate::store::tests::{
        add, content, generation as generation_of, new_store, release as of,
    };

    const ALL: [fn(&[u8]); 7] =
        [object, release, generation, format, index, outboard, release_file];

    /// The files of a small store, and a release file.
    fn samples() -> Vec<Vec<u8>> {
        let bed = SimBed::default();
        let store = new_store(&bed);
        let release = of("xz", "5.2.5", add(&store, &content(200_000)).unwrap());
        let writer = store.writer().unwrap();
        store.publish_release(&writer, &release).unwrap();
        let generation = generation_of(7, std::slice::from_ref(&release));
        store.write_generation(&writer, &generation).unwrap().publish().unwrap();
        store.catalog_and_index(&writer, release.id.arch.clone()).unwrap();
        let files = bed.0.files();
        let content = ["blobs", "lock"].map(std::path::Path::new);
        let small = files.iter().filter(|path| !content.iter().any(|dir| path.starts_with(dir)));
        let read = |path: &std::path::PathBuf| {
            crate::store::read_file(&bed.0, path, u64::MAX).unwrap().unwrap()
        };
        // A lock is an empty file, of which nothing can be changed.
        let mut samples: Vec<Vec<u8>> = small.map(read).filter(|file| !file.is_empty()).collect();
        let mut file = Vec::new();
        crate::release_file::write(&store, &[release], &mut file, Path::new("f"), &|_| ()).unwrap();
        samples.push(file);
        // Without the last line of a record: what is sealed again.
        let lines =
            |bytes: &Vec<u8>| bytes.strip_suffix(b"\"}\n").map(|b| b[..b.len() - 75].to_vec());
        let bodies: Vec<Vec<u8>> = samples.iter().filter_map(lines).collect();
        assert_eq!(bodies.len(), 3);
        samples.extend(bodies);
        samples
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_decoder_falls_over_any_bytes(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            ALL.iter().for_each(|decode| decode(&bytes));
        }

        #[test]
        fn no_decoder_falls_over_what_is_nearly_right(
            sample in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            thread_local!(static SAMPLES: Vec<Vec<u8>> = samples());
            let mut bytes = SAMPLES.with(|samples| sample.get(samples).clone());
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            ALL.iter().for_each(|decode| decode(&bytes));
        }
    }
}
