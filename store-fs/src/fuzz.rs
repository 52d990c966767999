//! One function for each thing that is decoded: takes any bytes, never panics, and says whether it
//! understood any of them. For fuzzers, and for the tests that feed them at random or from the
//! corpus. Never touches a disk.
//!
//! A hash would turn nearly everything away at the door. So the bytes are tried as they are, with
//! the hash that they would need, and as a description of something that is right or nearly so.
//! What is understood must stand every question, and must come back the same when it is written
//! and read again.

mod file;
mod recipe;
mod records;
mod tree;

use resolver::BlobId;

use crate::digest::{GROUP_LEN, Outboard, digest, proves};
use crate::store::Index;

pub use file::release_file;
pub use records::{format, generation, release};
pub use tree::object;

pub use crate::store::IndexCuts;

/// Most bytes of content that an outboard is tried for: a tree of five groups.
const CONTENT_LEN_MAX: usize = 4 * GROUP_LEN + 2;

/// An index, and the value of one of its rows. A database whose hash is right was written by this
/// program, so its pages are not tried.
pub fn index(bytes: &[u8]) -> bool {
    let whole = Index::decode(bytes.to_vec()).is_ok();
    whole | Index::understands(bytes)
}

/// An outboard, for a blob of as many groups as it has values; and the outboard of a content that
/// is as long as the first three bytes say and repeats the others.
pub fn outboard(bytes: &[u8]) -> bool {
    let len = (bytes.len() as u64 / 32).saturating_mul(GROUP_LEN as u64);
    if let Some(outboard) = Outboard::verify(&BlobId::from_bytes([7; 32]), len, bytes.to_vec()) {
        assert!(!outboard.proves(u64::MAX, bytes), "there is no such group");
    }
    let Some(([a, b, c], pattern @ [flipped, ..])) = bytes.split_first_chunk() else {
        return false;
    };
    let len = usize::try_from(u32::from_le_bytes([*a, *b, *c, 0])).unwrap_or(0) % CONTENT_LEN_MAX;
    let content: Vec<u8> = pattern.iter().copied().cycle().take(len).collect();
    groups_are_proven(&content, usize::from(*flipped));
    true
}

fn groups_are_proven(content: &[u8], flipped: usize) {
    let digest = digest(content);
    assert!(proves(&digest.id, content), "a content has its name");
    let (id, len, values) = (digest.id, digest.len, digest.outboard);
    let mut bad = values.clone();
    if let Some(byte) = bad.get_mut(flipped) {
        *byte ^= 1;
        assert!(Outboard::verify(&id, len, bad).is_none(), "another list is not its outboard");
    }
    let outboard = Outboard::verify(&id, len, values).expect("an outboard proves itself");
    for (index, group) in content.chunks(GROUP_LEN).enumerate() {
        let number = index as u64;
        assert!(outboard.proves(number, group), "group {number} is what it is");
        let is_next = content.chunks(GROUP_LEN).nth(index + 1) == Some(group);
        assert_eq!(outboard.proves(number + 1, group), is_next, "and in no other place");
        let mut other = group.to_vec();
        let at = flipped % other.len();
        other[at] ^= 1;
        assert!(!outboard.proves(number, &other), "and nothing else");
        assert!(!outboard.proves(number, &group[1..]), "nor a part of it");
    }
}

#[cfg(test)]
mod tests;
