//! Names that look like a name that is not there. Never answers more than three.

use alloc::string::String;
use alloc::vec::Vec;

use crate::PackageName;
use crate::name::NAME_LEN_MAX;

const SIMILAR_MAX: usize = 3;

/// The nearest of `names`: those that begin with it, then those that hold it, then those that
/// are few edits away. Letters in the other case count as the same.
pub(crate) fn nearest<'a>(
    name: &str,
    names: impl Iterator<Item = &'a PackageName>,
) -> Vec<PackageName> {
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Vec::new();
    }
    let wanted = name.to_ascii_lowercase();
    let mut found: Vec<(u8, usize, &PackageName)> = names
        .filter_map(|other| rank(&wanted, other.as_str()).map(|(a, b)| (a, b, other)))
        .collect();
    found.sort_unstable();
    found.into_iter().take(SIMILAR_MAX).map(|(_, _, other)| other.clone()).collect()
}

fn rank(wanted: &str, other: &str) -> Option<(u8, usize)> {
    let other: String = other.to_ascii_lowercase();
    let apart = wanted.len().abs_diff(other.len());
    if other.starts_with(wanted) {
        return Some((0, apart));
    }
    if wanted.len() > 1 && other.contains(wanted) {
        return Some((1, apart));
    }
    let allowed = (wanted.len() / 3).clamp(1, 3);
    if apart > allowed {
        return None;
    }
    let edits = distance(wanted.as_bytes(), other.as_bytes());
    (edits <= allowed && edits < wanted.len()).then_some((2, edits))
}

/// How many bytes must be put in, taken out, replaced, or swapped with their neighbour.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = Vec::from([i + 1]);
        for (j, to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut edits = replaced.min(row[j] + 1).min(last[j + 1] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                edits = edits.min(before[j - 1] + 1);
            }
            row.push(edits);
        }
        before = core::mem::replace(&mut last, row);
    }
    last[b.len()]
}
