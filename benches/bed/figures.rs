//! What criterion does not print: the high percentiles of single measurements.

use std::fmt;
use std::time::Duration;

/// Single measurements of one thing.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    samples: Vec<Duration>,
}

impl Figures {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.samples.push(sample);
    }

    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// The smallest sample that `percent` of all samples do not exceed; zero of none.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// `p50 3.10  p99 5.20  max 9.00 ms`.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [50, 99, 100].map(|p| self.percentile(p).as_secs_f64() * 1e3);
        write!(f, "p50 {p50:7.3}  p99 {p99:7.3}  max {max:7.3} ms")
    }
}
