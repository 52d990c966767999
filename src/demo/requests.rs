//! The request counters of `dynfs status --json`, compared. Counts only, never times.

use std::collections::BTreeMap;

use serde_json::Value;

/// Requests from the kernel since the mount, by operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Requests(BTreeMap<String, u64>);

/// An operation, and its count before and after.
pub(crate) type Change = (String, u64, u64);

impl Requests {
    /// The `requests` of a status document; `None` if there are none or one is not a number.
    pub(super) fn read(status: &Value) -> Option<Self> {
        let counts = status.get("requests")?.as_object()?;
        counts
            .iter()
            .map(|(name, count)| Some((name.clone(), count.as_u64()?)))
            .collect::<Option<_>>()
            .map(Self)
    }

    /// All operations together.
    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// What changed from `self` to `later`: operation, before, after. A counter that went back is
    /// a change too: somebody lost it.
    pub(super) fn changes(&self, later: &Self) -> Vec<Change> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(later.0.keys()).collect();
        names
            .into_iter()
            .map(|name| (name.clone(), self.count(name), later.count(name)))
            .filter(|(_, before, after)| before != after)
            .collect()
    }

    fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

impl std::fmt::Display for Requests {
    /// The operations that happened, most frequent first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut counts: Vec<_> = self.0.iter().filter(|(_, count)| **count > 0).collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let words: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        f.write_str(&words.join(", "))
    }
}

/// What the kernel has taken from its caches since the machine was started. It may at any time, for
/// whoever wants memory; what was warm is cold then.
pub(super) fn reclaimed() -> Vec<String> {
    let counters = ["drop_", "slabs_scanned", "pgsteal_", "pginodesteal", "kswapd_inodesteal"];
    let ours = |line: &&str| counters.iter().any(|counter| line.starts_with(counter));
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    text.lines().filter(ours).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn requests(counts: Value) -> Requests {
        Requests::read(&json!({ "requests": counts })).expect("counts")
    }

    #[test]
    fn only_what_changed_is_a_change() {
        let before = requests(json!({ "lookup": 5, "read": 2, "open": 1 }));
        let after = requests(json!({ "lookup": 5, "read": 3, "getattr": 4, "open": 0 }));
        let names = |changes: Vec<(String, u64, u64)>| {
            changes.iter().map(|(name, a, b)| format!("{name} {a} {b}")).collect::<Vec<_>>()
        };
        assert_eq!(names(before.changes(&after)), ["getattr 0 4", "open 1 0", "read 2 3"]);
        assert!(before.changes(&before).is_empty());
    }

    #[test]
    fn an_operation_never_seen_is_the_same_as_one_seen_zero_times() {
        assert!(requests(json!({})).changes(&requests(json!({ "open": 0 }))).is_empty());
    }

    #[test]
    fn shown_by_frequency_without_zeros() {
        let counts = requests(json!({ "lookup": 5, "read": 20, "open": 0 }));
        assert_eq!(counts.to_string(), "20 read, 5 lookup");
        assert_eq!(counts.total(), 25);
    }

    #[test]
    fn a_document_without_counts_is_refused() {
        for bad in [json!({}), json!({ "requests": 3 }), json!({ "requests": { "open": "x" } })] {
            assert_eq!(Requests::read(&bad), None, "{bad}");
        }
    }
}
