//! Any bytes at random, and samples that are nearly right.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::disk::beds::SimBed;
use crate::store::tests::{add, content, generation as generation_of, new_store, release as of};

const ALL: [fn(&[u8]) -> bool; 7] =
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
    let content = ["blobs", "lock"].map(Path::new);
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
    let lines = |bytes: &Vec<u8>| bytes.strip_suffix(b"\"}\n").map(|b| b[..b.len() - 75].to_vec());
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
        ALL.iter().for_each(|decode| _ = decode(&bytes));
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
        ALL.iter().for_each(|decode| _ = decode(&bytes));
    }
}
