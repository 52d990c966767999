//! A sorted map in shared chunks: a copy costs a pointer for each chunk, a change copies one
//! chunk, and comparing two copies looks only into the chunks that they do not share.
//!
//! ```text
//! SharedMap   [ chunk ]  [ chunk ]  [ chunk ]     the chunks in order, none of them empty
//!                 |          |          |
//!             a:1 b:2    c:3 d:4    e:5 f:6       1 to CHUNK_MAX entries, sorted by key
//! ```
//!
//! The states before and after one plan differ in a few of many thousand entries; that is what
//! this is for. Never exposes its chunks: two maps are equal when their entries are.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::marker::PhantomData;
use core::{fmt, mem};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Most entries of one chunk; with half as many after a split.
const CHUNK_MAX: usize = 64;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// A sorted map that is cheap to copy. Its methods mean what those of `BTreeMap` mean.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    chunks: Vec<Chunk<K, V>>,
    len: usize,
}

impl<K, V> SharedMap<K, V> {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries, by key.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|(key, value)| (key, value))
    }

    /// The keys in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// The values, by key.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// The entry with the greatest key.
    #[must_use]
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.chunks.last()?.last().map(|(key, value)| (key, value))
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.len = 0;
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// The value of `key`.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The value of `key`, with the key as it is in the map.
    #[must_use]
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key).ok()?;
        self.chunks[chunk].get(at).map(|(key, value)| (key, value))
    }

    /// Whether `key` is there.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Where `key` is, or where it would be put: chunk and place in it.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<(usize, usize), (usize, usize)>
    where
        K: Borrow<Q>,
    {
        let first = |chunk: &Chunk<K, V>| chunk.first().is_some_and(|(k, _)| k.borrow() <= key);
        let chunk = self.chunks.partition_point(first).saturating_sub(1);
        let entries = self.chunks.get(chunk).map_or(&[][..], |chunk| &chunk[..]);
        match entries.binary_search_by(|(k, _)| k.borrow().cmp(key)) {
            Ok(at) => Ok((chunk, at)),
            Err(at) => Err((chunk, at)),
        }
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// The value of `key`, to be changed; copies its chunk when that is shared.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key).ok()?;
        Arc::make_mut(&mut self.chunks[chunk]).get_mut(at).map(|(_, value)| value)
    }

    /// The values by key, to be changed; copies each shared chunk that is reached.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.chunks.iter_mut().flat_map(Arc::make_mut).map(|(_, value)| value)
    }

    /// Puts `value` under `key`; answers what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok((chunk, at)) => {
                let entries = Arc::make_mut(&mut self.chunks[chunk]);
                Some(mem::replace(&mut entries[at].1, value))
            }
            Err((chunk, at)) => {
                if self.chunks.is_empty() {
                    self.chunks.push(Arc::default());
                }
                let entries = Arc::make_mut(&mut self.chunks[chunk]);
                entries.insert(at, (key, value));
                if entries.len() > CHUNK_MAX {
                    // At the end, as when it is filled in order, the full chunk stays full.
                    let cut = if at == CHUNK_MAX { CHUNK_MAX } else { CHUNK_MAX / 2 };
                    let rest = entries.split_off(cut);
                    self.chunks.insert(chunk + 1, Arc::new(rest));
                }
                self.len += 1;
                None
            }
        }
    }

    /// Takes `key` out; answers what was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key).ok()?;
        let entries = Arc::make_mut(&mut self.chunks[chunk]);
        let (_, value) = entries.remove(at);
        if entries.is_empty() {
            self.chunks.remove(chunk);
        }
        self.len -= 1;
        Some(value)
    }

    /// Keeps the entries that `keep` answers `true` for; chunks that lose none stay shared.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        for chunk in &mut self.chunks {
            let kept: Vec<bool> = chunk.iter().map(|(key, value)| keep(key, value)).collect();
            if kept.contains(&false) {
                let mut kept = kept.into_iter();
                Arc::make_mut(chunk).retain(|_| kept.next() == Some(true));
            }
        }
        self.chunks.retain(|chunk| !chunk.is_empty());
        self.len = self.chunks.iter().map(|chunk| chunk.len()).sum();
    }
}

/// One key in which two maps differ: what it is in the one and in the other, at least one `Some`.
pub type Difference<'a, K, V> = (&'a K, Option<&'a V>, Option<&'a V>);

impl<K: Ord, V: PartialEq> SharedMap<K, V> {
    /// Where `self` and `next` differ, by key. Chunks that both share are not looked into.
    pub fn differences<'a>(&'a self, next: &'a Self) -> Vec<Difference<'a, K, V>> {
        let (mut old, mut new) = (Cursor::new(self), Cursor::new(next));
        let mut found = Vec::new();
        loop {
            if old.skip_shared(&mut new) {
                continue;
            }
            let order = match (old.entry(), new.entry()) {
                (None, None) => return found,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let before = if order.is_le() { old.take() } else { None };
            let after = if order.is_ge() { new.take() } else { None };
            if before.map(|(_, value)| value) != after.map(|(_, value)| value)
                && let Some((key, _)) = before.or(after)
            {
                found.push((key, before.map(|(_, v)| v), after.map(|(_, v)| v)));
            }
        }
    }
}

/// A place in a map: at the beginning of a chunk, or inside.
struct Cursor<'a, K, V> {
    chunks: &'a [Chunk<K, V>],
    at: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn new(map: &'a SharedMap<K, V>) -> Self {
        Self { chunks: &map.chunks, at: 0 }
    }

    fn entry(&self) -> Option<&'a (K, V)> {
        self.chunks.first()?.get(self.at)
    }

    fn take(&mut self) -> Option<&'a (K, V)> {
        let entry = self.entry()?;
        self.at += 1;
        if self.at == self.chunks.first()?.len() {
            (self.chunks, self.at) = (&self.chunks[1..], 0);
        }
        Some(entry)
    }

    /// Steps over a chunk that both have, when both stand at its beginning.
    fn skip_shared(&mut self, other: &mut Self) -> bool {
        let ([mine, rest @ ..], [theirs, others @ ..]) = (self.chunks, other.chunks) else {
            return false;
        };
        let shared = self.at == 0 && other.at == 0 && Arc::ptr_eq(mine, theirs);
        if shared {
            (self.chunks, other.chunks) = (rest, others);
        }
        shared
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differences(other).is_empty()
    }
}

impl<K: Ord, V: Eq> Eq for SharedMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord, Q: Ord + ?Sized, V> core::ops::Index<&Q> for SharedMap<K, V>
where
    K: Borrow<Q>,
{
    type Output = V;

    /// Panics when `key` is not there, as `BTreeMap` does.
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("a key that is indexed is in the map")
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for SharedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(key, value)| drop(self.insert(key, value)));
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

/// Entries by key, as `for (key, value) in &map`.
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    chunks: core::slice::Iter<'a, Chunk<K, V>>,
    entries: core::slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.entries.next() {
                return Some((key, value));
            }
            self.entries = self.chunks.next()?.iter();
        }
    }
}

impl<'a, K, V> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        Iter { chunks: self.chunks.iter(), entries: [].iter() }
    }
}

impl<K: Serialize, V: Serialize> Serialize for SharedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, K, V> Deserialize<'de> for SharedMap<K, V>
where
    K: Deserialize<'de> + Ord + Clone,
    V: Deserialize<'de> + Clone,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<K, V>(PhantomData<(K, V)>);

impl<'de, K, V> Visitor<'de> for Entries<K, V>
where
    K: Deserialize<'de> + Ord + Clone,
    V: Deserialize<'de> + Clone,
{
    type Value = SharedMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = SharedMap::new();
        while let Some((key, value)) = access.next_entry()? {
            map.insert(key, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests;
