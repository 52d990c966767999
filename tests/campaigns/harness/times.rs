//! Many durations in little room: buckets that are a sixteenth of a doubling wide (4.4 %).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets in a doubling.
const STEPS: f64 = 16.0;

/// Many durations.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Times {
    /// From the number of a bucket to how many fell into it.
    buckets: BTreeMap<u32, u64>,
    worst_nanos: u64,
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.worst_nanos = self.worst_nanos.max(nanos);
        *self.buckets.entry(bucket(nanos)).or_default() += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    pub(crate) fn worst(&self) -> Duration {
        Duration::from_nanos(self.worst_nanos)
    }

    /// The least upper edge of a bucket below which this share (of 1,000) lies.
    pub(crate) fn below(&self, thousandths: u64) -> Duration {
        let wanted = (self.count() * thousandths).div_ceil(1_000);
        let mut seen = 0;
        for (number, count) in &self.buckets {
            seen += count;
            if seen >= wanted {
                return edge(*number).min(self.worst());
            }
        }
        self.worst()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1024")]
#[expect(clippy::cast_precision_loss, reason = "buckets are wider than that")]
fn bucket(nanos: u64) -> u32 {
    ((nanos as f64).log2() * STEPS) as u32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive")]
fn edge(number: u32) -> Duration {
    Duration::from_nanos(((f64::from(number) + 1.0) / STEPS).exp2() as u64)
}
