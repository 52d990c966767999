//! BLAKE3 in groups of [`GROUP_LEN`] bytes: the names of blobs, and the proof of any part of one.
//!
//! A blob's name is its plain BLAKE3 hash, the one that `b3sum` prints. BLAKE3 is a binary tree, so
//! the hash of a long blob is made from the chaining values of its groups:
//!
//! ```text
//!                root = id                    content   |  g0  |  g1  |  g2  |  g3  | g4 |
//!               /         \                             0     64K   128K   192K   256K  len
//!            p03           v4
//!           /    \                            outboard  | v0 | v1 | v2 | v3 | v4 |
//!        p01      p23                                   0   32   64   96  128  160
//!       /   \    /   \
//!      v0   v1  v2   v3                       left part: the largest power of two of groups
//!                                             that leaves something for the right part
//! ```
//!
//! The outboard is the flat list of the `v`. It proves itself by merging to the name, and then
//! proves each group alone. At most one group needs no outboard: the name proves it.
//!
//! Nothing here reads a file, and nothing that is given is trusted: lengths, lists and group
//! numbers may come from a damaged disk.

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};
use resolver::BlobId;

/// Bytes that are verified together. A blob of at most one group needs no tree beside it.
pub const GROUP_LEN: usize = 64 * 1024;

/// Bytes of one chaining value in an outboard.
pub const VALUE_LEN: usize = 32;

/// Number of groups in content of `len` bytes.
#[must_use]
pub const fn groups(len: u64) -> u64 {
    len.div_ceil(GROUP_LEN as u64)
}

/// Bytes of the outboard that belongs to content of `len` bytes: 0 for at most one group.
#[must_use]
pub const fn outboard_len(len: u64) -> u64 {
    let groups = groups(len);
    if groups <= 1 { 0 } else { groups * VALUE_LEN as u64 }
}

/// Everything that is known of some content once it was hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The content's name: its plain BLAKE3 hash.
    pub id: BlobId,
    /// Bytes.
    pub len: u64,
    /// Chaining values of the groups, 32 bytes each, in order; empty for at most one group. Stored
    /// beside the blob.
    pub outboard: Vec<u8>,
}

/// Hashes content that comes in pieces. Every byte is hashed once.
#[derive(Clone, Debug, Default)]
pub struct BlobHasher {
    /// Chaining values of the groups that are behind us.
    values: Vec<ChainingValue>,
    /// The group at hand.
    group: Hasher,
    /// Bytes in it. A full group stays at hand until more bytes come, because the only group of a
    /// blob is its root and is finished in another way.
    filled: usize,
}

impl BlobHasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes, any number of them.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == GROUP_LEN {
                self.begin_group();
            }
            let (now, later) = bytes.split_at(bytes.len().min(GROUP_LEN - self.filled));
            self.group.update(now);
            self.filled += now.len();
            bytes = later;
        }
    }

    fn begin_group(&mut self) {
        self.values.push(self.group.finalize_non_root());
        // Not `reset`: it keeps the old offset's chunk counter, and `set_input_offset` trips on it.
        self.group = Hasher::new();
        self.group.set_input_offset(self.values.len() as u64 * GROUP_LEN as u64);
        self.filled = 0;
    }

    /// The digest of all bytes so far.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        let len = self.values.len() as u64 * GROUP_LEN as u64 + self.filled as u64;
        if self.values.is_empty() {
            let id = blob_id(self.group.finalize());
            return Digest { id, len, outboard: Vec::new() };
        }
        self.values.push(self.group.finalize_non_root());
        Digest { id: blob_id(root(&self.values)), len, outboard: self.values.concat() }
    }
}

/// The digest of bytes in memory.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    let mut hasher = BlobHasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// The verified chaining values of one blob's groups: proves any group on its own.
#[derive(Debug)]
pub struct Outboard {
    id: BlobId,
    len: u64,
    values: Vec<u8>,
}

impl Outboard {
    /// Checks that the chaining values merge into `id` for content of `len` bytes; `None` when
    /// they do not, whatever the bytes are. For at most one group `values` must be empty.
    #[must_use]
    pub fn verify(id: &BlobId, len: u64, values: Vec<u8>) -> Option<Self> {
        if values.len() as u64 != outboard_len(len) {
            return None;
        }
        if !values.is_empty() {
            let (list, _) = values.as_chunks::<VALUE_LEN>();
            if blob_id(root(list)) != *id {
                return None;
            }
        }
        Some(Self { id: *id, len, values })
    }

    /// Whether `bytes` are the whole group of this number (the last one may be short).
    #[must_use]
    pub fn proves(&self, group: u64, bytes: &[u8]) -> bool {
        if bytes.len() as u64 != self.group_len(group) {
            return false;
        }
        if self.values.is_empty() {
            // The only group. Content without bytes has none; group 0 then stands for the blob.
            return group == 0 && proves(&self.id, bytes);
        }
        let value = usize::try_from(group).ok().and_then(|group| {
            let (list, _) = self.values.as_chunks::<VALUE_LEN>();
            list.get(group)
        });
        value.is_some_and(|value| {
            let mut hasher = Hasher::new();
            hasher.set_input_offset(group * GROUP_LEN as u64);
            hasher.update(bytes);
            hasher.finalize_non_root() == *value
        })
    }

    /// Bytes in the group of this number; 0 for one that is not there.
    fn group_len(&self, group: u64) -> u64 {
        let start = group.saturating_mul(GROUP_LEN as u64);
        self.len.saturating_sub(start).min(GROUP_LEN as u64)
    }

    /// Bytes of memory that this value holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.values.capacity()
    }
}

/// Whether `bytes` are the whole content of `id`.
#[must_use]
pub fn proves(id: &BlobId, bytes: &[u8]) -> bool {
    blob_id(blake3::hash(bytes)) == *id
}

fn blob_id(hash: blake3::Hash) -> BlobId {
    BlobId::from_bytes(*hash.as_bytes())
}

/// The hash of content from the chaining values of its groups, of which there are at least two.
fn root(values: &[ChainingValue]) -> blake3::Hash {
    let (left, right) = values.split_at(left_groups(values.len()));
    merge_subtrees_root(&merge(left), &merge(right), Mode::Hash)
}

/// The chaining value of a part of the tree. Recursion is as deep as the logarithm of the count.
fn merge(values: &[ChainingValue]) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let (left, right) = values.split_at(left_groups(values.len()));
    merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
}

/// Groups in the left part of a tree of `count` groups: the largest power of two below `count`.
/// Since a group is a power of two of BLAKE3's chunks, this is BLAKE3's own rule.
const fn left_groups(count: usize) -> usize {
    count.div_ceil(2).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that differ from group to group and inside each.
    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)).to_le_bytes()[0]).collect()
    }

    const LENGTHS: [usize; 16] = [
        0,
        1,
        1023,
        1024,
        1025,
        GROUP_LEN - 1,
        GROUP_LEN,
        GROUP_LEN + 1,
        2 * GROUP_LEN - 1,
        2 * GROUP_LEN,
        2 * GROUP_LEN + 1,
        3 * GROUP_LEN,
        4 * GROUP_LEN,
        5 * GROUP_LEN + 777,
        7 * GROUP_LEN,
        9 * GROUP_LEN - 1,
    ];

    fn group_of(bytes: &[u8], group: usize) -> &[u8] {
        let start = (group * GROUP_LEN).min(bytes.len());
        &bytes[start..(start + GROUP_LEN).min(bytes.len())]
    }

    #[test]
    fn the_name_is_the_plain_hash_and_every_group_is_proven() {
        for len in LENGTHS {
            let bytes = content(len);
            let digest = digest(&bytes);
            assert_eq!(digest.id.as_bytes(), blake3::hash(&bytes).as_bytes(), "{len}");
            assert_eq!(digest.len, len as u64);
            assert_eq!(digest.outboard.len() as u64, outboard_len(len as u64));
            let outboard = Outboard::verify(&digest.id, digest.len, digest.outboard).unwrap();
            let count = len.div_ceil(GROUP_LEN).max(1);
            for group in 0..count {
                assert!(outboard.proves(group as u64, group_of(&bytes, group)), "{len} {group}");
            }
            assert!(proves(&digest.id, &bytes));
            for beyond in [count as u64, u64::MAX / GROUP_LEN as u64, u64::MAX] {
                assert!(!outboard.proves(beyond, &[]), "{len} {beyond}");
                assert!(!outboard.proves(beyond, &bytes), "{len} {beyond}");
            }
        }
    }

    #[test]
    fn left_parts_are_those_of_blake3() {
        for count in 2..2000_usize {
            let len = count as u64 * GROUP_LEN as u64;
            let left = blake3::hazmat::left_subtree_len(len) / GROUP_LEN as u64;
            assert_eq!(left_groups(count) as u64, left, "{count}");
        }
    }

    #[test]
    fn a_group_does_not_stand_for_another() {
        let bytes = vec![7; 3 * GROUP_LEN];
        let digest = digest(&bytes);
        let outboard = Outboard::verify(&digest.id, digest.len, digest.outboard).unwrap();
        let other = content(GROUP_LEN);
        for group in 0..3 {
            assert!(outboard.proves(group, &bytes[..GROUP_LEN]));
            assert!(!outboard.proves(group, &bytes[1..GROUP_LEN]), "too short");
            assert!(!outboard.proves(group, &bytes[..=GROUP_LEN]), "too long");
            assert!(!outboard.proves(group, &other));
        }
        // Equal bytes at different places have different values, so an order can not be swapped.
        let values: Vec<_> = outboard.values.as_chunks::<VALUE_LEN>().0.to_vec();
        assert_ne!(values[0], values[1]);
    }

    #[test]
    fn any_flipped_bit_of_an_outboard_is_found() {
        let digest = digest(&content(3 * GROUP_LEN + 5));
        for bit in 0..digest.outboard.len() * 8 {
            let mut values = digest.outboard.clone();
            values[bit / 8] ^= 1 << (bit % 8);
            assert!(Outboard::verify(&digest.id, digest.len, values).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn outboards_of_a_wrong_size_are_refused() {
        let digest = digest(&content(3 * GROUP_LEN));
        let id = digest.id;
        let whole = digest.outboard;
        assert!(Outboard::verify(&id, digest.len, whole[..64].to_vec()).is_none());
        assert!(Outboard::verify(&id, digest.len, whole[..95].to_vec()).is_none());
        assert!(Outboard::verify(&id, digest.len, [&whole[..], &[0]].concat()).is_none());
        assert!(Outboard::verify(&id, digest.len, Vec::new()).is_none());
        assert!(Outboard::verify(&id, digest.len + 1, whole.clone()).is_none(), "a fourth group");
        assert!(Outboard::verify(&id, u64::MAX, whole.clone()).is_none());
        assert!(Outboard::verify(&id, 5, whole).is_none(), "one group has no outboard");
        let other = BlobId::from_bytes([0; 32]);
        let small = Outboard::verify(&other, 5, Vec::new()).unwrap();
        assert!(!small.proves(0, b"hello"), "the name itself decides");
    }

    #[test]
    fn a_wrong_length_within_the_last_group_proves_nothing() {
        let bytes = content(2 * GROUP_LEN - 10);
        let digest = digest(&bytes);
        let longer = Outboard::verify(&digest.id, digest.len + 1, digest.outboard).unwrap();
        assert!(longer.proves(0, group_of(&bytes, 0)));
        assert!(!longer.proves(1, group_of(&bytes, 1)));
        let padded = [group_of(&bytes, 1), &[0]].concat();
        assert!(!longer.proves(1, &padded));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn pieces_of_any_size_give_the_same_digest(
            len in 0..6 * GROUP_LEN,
            pieces in prop::collection::vec(0..2 * GROUP_LEN, 0..12),
        ) {
            let bytes = content(len);
            let mut hasher = BlobHasher::new();
            let mut rest = &bytes[..];
            for piece in pieces {
                let (now, later) = rest.split_at(piece.min(rest.len()));
                hasher.update(now);
                rest = later;
            }
            hasher.update(rest);
            let pieced = hasher.finish();
            prop_assert_eq!(pieced.id, blob_id(blake3::hash(&bytes)));
            prop_assert_eq!(pieced, digest(&bytes));
        }

        #[test]
        fn any_flipped_bit_of_the_content_is_found(
            len in 1..4 * GROUP_LEN,
            place in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let mut bytes = content(len);
            let digest = digest(&bytes);
            let outboard = Outboard::verify(&digest.id, digest.len, digest.outboard).unwrap();
            let at = place.index(len);
            bytes[at] ^= 1 << bit;
            prop_assert!(!proves(&digest.id, &bytes));
            for group in 0..len.div_ceil(GROUP_LEN) {
                let hit = at / GROUP_LEN == group;
                let proven = outboard.proves(group as u64, group_of(&bytes, group));
                prop_assert_eq!(proven, !hit);
            }
        }
    }
}
