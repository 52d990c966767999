//! A cache of shared values, bounded by the bytes that they hold, or by one value. Never does I/O.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// Values by key; whatever was not asked for longest goes first.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    bytes_max: usize,
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    values: HashMap<K, Kept<V>>,
    /// Key by the time of its last use.
    by_use: BTreeMap<u64, K>,
    time: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Kept<V> {
    value: Arc<V>,
    bytes: usize,
    used: u64,
}

impl<K: Copy + Eq + Hash + Debug, V> Lru<K, V> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let (values, by_use) = (HashMap::new(), BTreeMap::new());
        Self { bytes_max, state: Mutex::new(State { values, by_use, time: 0, bytes: 0 }) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        let mut state = self.state.lock();
        let State { values, by_use, time, .. } = &mut *state;
        let kept = values.get_mut(key)?;
        // The most recent one is asked for again and again: nothing to move then.
        if kept.used != *time {
            *time += 1;
            by_use.remove(&kept.used);
            kept.used = *time;
            by_use.insert(*time, *key);
        }
        Some(Arc::clone(&kept.value))
    }

    /// Forgets a value.
    pub(crate) fn remove(&self, key: &K) {
        self.state.lock().forget(key);
    }

    /// Keeps a value that holds so many bytes. One that is over the bound alone is kept alone,
    /// until the next one comes: made anew for each request it would cost more than its room.
    pub(crate) fn insert(&self, key: K, value: Arc<V>, bytes: usize) {
        let mut state = self.state.lock();
        state.forget(&key);
        while state.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = state.by_use.first_key_value() else { break };
            let oldest = *oldest;
            state.forget(&oldest);
        }
        state.time += 1;
        let used = state.time;
        state.bytes += bytes;
        state.by_use.insert(used, key);
        state.values.insert(key, Kept { value, bytes, used });
    }
}

impl<K: Copy + Eq + Hash, V> State<K, V> {
    fn forget(&mut self, key: &K) {
        if let Some(kept) = self.values.remove(key) {
            self.by_use.remove(&kept.used);
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = Lru::new(10);
        for key in 0..3 {
            cache.insert(key, Arc::new(key), 3);
        }
        assert_eq!(cache.get(&0).as_deref(), Some(&0));
        cache.insert(3, Arc::new(3), 3);
        let kept: Vec<_> = (0..4).filter(|key| cache.get(key).is_some()).collect();
        assert_eq!(kept, [0, 2, 3]);
    }

    #[test]
    fn what_is_over_the_bound_alone_is_kept_alone() {
        let cache = Lru::new(10);
        cache.insert(1, Arc::new(1), 10);
        cache.insert(2, Arc::new(2), 11);
        assert!(cache.get(&2).is_some());
        assert!(cache.get(&1).is_none());
        cache.insert(3, Arc::new(3), 1);
        assert!(cache.get(&2).is_none());
        assert!(cache.get(&3).is_some());
    }

    #[test]
    fn a_key_inserted_again_is_counted_once() {
        let cache = Lru::new(10);
        for _ in 0..100 {
            cache.insert(1, Arc::new(1), 4);
        }
        cache.insert(2, Arc::new(2), 6);
        assert!(cache.get(&1).is_some() && cache.get(&2).is_some());
    }
}
