//! One thing that happens to the bytes of a file while nobody looks.

use std::path::Path;

use store_fs::disk::Caching;
use store_fs::{Disk, SimDisk};

use crate::harness::turn::Dice;

/// Bytes that a disk loses or swaps as a whole.
const BLOCKS: [usize; 3] = [16, 512, 4096];

/// One thing that happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// One bit, or a few.
    Flip,
    Truncate,
    Extend,
    /// A block of zeros.
    Hole,
    /// Two blocks, each in the other's place.
    Swap,
    /// The content of another file of the same kind.
    Other,
    /// It is gone.
    Missing,
}

impl Fault {
    pub(super) const OF_BYTES: [Self; 5] =
        [Self::Flip, Self::Truncate, Self::Extend, Self::Hole, Self::Swap];
    pub(super) const ALL: [Self; 7] = [
        Self::Flip,
        Self::Truncate,
        Self::Extend,
        Self::Hole,
        Self::Swap,
        Self::Other,
        Self::Missing,
    ];

    /// Changes bytes; they may be the same afterwards.
    pub(super) fn strike(self, bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
        let block = *dice.pick(&BLOCKS);
        match self {
            Self::Flip if bytes.is_empty() => {}
            Self::Flip => {
                for _ in 0..=dice.roll(3) {
                    let at = dice.index(bytes.len());
                    bytes[at] ^= 1 << dice.roll(8);
                }
            }
            Self::Truncate => bytes.truncate(dice.index(bytes.len().max(1))),
            Self::Extend => {
                let byte = dice.pick(&[0, b'\n', 0xff]);
                bytes.extend(std::iter::repeat_n(byte, 1 + dice.index(block)));
            }
            Self::Hole => {
                let from = dice.index(bytes.len().div_ceil(block).max(1)) * block;
                let to = bytes.len().min(from + block);
                bytes[from.min(to)..to].fill(0);
            }
            Self::Swap => {
                let blocks = bytes.len() / block;
                if blocks > 1 {
                    let (a, b) = (dice.index(blocks) * block, dice.index(blocks) * block);
                    for at in 0..block {
                        bytes.swap(a + at, b + at);
                    }
                }
            }
            Self::Other => *bytes = other.to_vec(),
            Self::Missing => bytes.clear(),
        }
    }
}

/// All bytes of a file.
pub(super) fn bytes_of(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open_file(path).expect("a good disk").expect("it was listed");
    let len = disk.len(&file).expect("a good disk");
    let mut bytes = vec![0; usize::try_from(len).expect("it is in memory")];
    disk.read_at(&file, 0, &mut bytes, Caching::Keep).expect("a good disk");
    bytes
}

/// Gives a file other bytes: in place, as a bad sector does, or as another file of its name.
pub(super) fn put(disk: &SimDisk, path: &Path, bytes: Vec<u8>, in_place: bool) {
    if in_place {
        assert!(disk.damage(path, |content| *content = bytes), "it was listed");
        return;
    }
    let written = disk.temp().and_then(|mut temp| {
        disk.write(&mut temp, &bytes)?;
        disk.sync_temp(&temp)?;
        disk.replace(&temp, path)
    });
    written.expect("a good disk");
}
