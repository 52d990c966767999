//! Bytes as a description of trees and of changes to what came of them: what makes any bytes
//! nearly right. Never fails: what cannot be done is left out.
//!
//! ```text
//! 0..=183   an entry: kind and parent follow in one byte each, a name (its length first), and
//!           what its kind needs
//! 184..=191 1 to 8 times 32 directories inside each other, below the last one
//! 192..=255 a change: a place (two bytes) and what is put into it by exclusive or
//! ```

use std::collections::BTreeMap;

use resolver::BlobId;

use crate::TreeBuilder;
use crate::digest::digest;

/// Most entries: enough for every rule, and few enough to be fast.
const ENTRIES_MAX: usize = 1500;

/// A tree, the contents that its files have, and changes to what is made from them.
pub(super) struct Recipe {
    pub(super) tree: TreeBuilder,
    pub(super) contents: BTreeMap<BlobId, Vec<u8>>,
    /// Whether every file has a content that is there.
    pub(super) is_whole: bool,
    changes: Vec<(u16, u8)>,
}

impl Recipe {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut recipe = Self {
            tree: TreeBuilder::new(),
            contents: BTreeMap::new(),
            is_whole: true,
            changes: Vec::new(),
        };
        let mut rest = bytes.iter().copied();
        let mut dirs = vec![Vec::new()];
        while let Some(step) = rest.next()
            && dirs.len() < ENTRIES_MAX
        {
            match step {
                0..=183 => recipe.entry(&mut rest, &mut dirs),
                184..=191 => recipe.chain(usize::from(step - 183) * 32, &mut dirs),
                192..=255 => {
                    let place = u16::from_le_bytes([next(&mut rest), next(&mut rest)]);
                    recipe.changes.push((place, next(&mut rest)));
                }
            }
        }
        recipe
    }

    fn entry(&mut self, rest: &mut impl Iterator<Item = u8>, dirs: &mut Vec<Vec<u8>>) {
        let (kind, parent) = (next(rest), usize::from(next(rest)));
        let mut path = dirs[parent % dirs.len()].clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.append(&mut text(rest));
        match kind % 4 {
            0 if self.tree.dir(&path).is_ok() => dirs.push(path),
            0 => {}
            1 => {
                let target = text(rest);
                drop(self.tree.symlink(&path, &target));
            }
            // With content that is there.
            2 => {
                let content = text(rest);
                let (id, len) = (digest(&content).id, content.len() as u64);
                if self.tree.file(&path, id, len, 0, kind > 127).is_ok() {
                    self.contents.insert(id, content);
                }
            }
            // With numbers that mean nothing, up to sizes that are too large.
            _ => {
                let (size, mtime) = (number(rest), number(rest).cast_signed());
                let id = BlobId::from_bytes([next(rest); 32]);
                self.is_whole &= self.tree.file(&path, id, size, mtime, kind > 127).is_err();
            }
        }
    }

    /// Below the last one, so that the limit of depth can be met.
    fn chain(&mut self, count: usize, dirs: &mut Vec<Vec<u8>>) {
        let mut path = dirs.last().cloned().unwrap_or_default();
        for _ in 0..count {
            path.extend_from_slice(if path.is_empty() { b"d" } else { b"/d" });
        }
        if self.tree.dir(&path).is_ok() {
            dirs.push(path);
        }
    }

    /// Puts the changes into what was made; whether any byte is another one now.
    pub(super) fn change(&self, bytes: &mut [u8]) -> bool {
        let before = bytes.to_vec();
        for (place, change) in &self.changes {
            let len = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(usize::from(*place) % len) {
                *byte ^= change;
            }
        }
        before != bytes
    }
}

fn next(rest: &mut impl Iterator<Item = u8>) -> u8 {
    rest.next().unwrap_or(0)
}

/// As many bytes as the first one says.
fn text(rest: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    let len = usize::from(next(rest));
    rest.take(len).collect()
}

fn number(rest: &mut impl Iterator<Item = u8>) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|_| next(rest)))
}
