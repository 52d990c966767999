//! What campaigns have done so far: in memory, and in the file that a long run goes on from.
//!
//! The file is written anew at most every few seconds, whole, under another name first. A run that
//! is killed repeats the cases since then, and counts them once.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::harness::options::Options;
use crate::harness::times::Times;

/// How often the file is written at most.
const PAUSE: Duration = Duration::from_secs(2);

/// What campaigns have done so far.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: Option<PathBuf>,
    written: Instant,
    kept: Kept,
    failed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    seed: u64,
    campaigns: BTreeMap<String, Record>,
}

/// What one campaign has done so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Cases that are done: the number of the next one.
    pub(crate) done: u64,
    /// What was counted besides.
    pub(crate) counts: BTreeMap<String, u64>,
    /// What was timed.
    pub(crate) times: BTreeMap<String, Times>,
    /// How long it ran.
    pub(crate) seconds: f64,
    /// What went wrong.
    pub(crate) violations: Vec<String>,
    /// Why it did not run.
    pub(crate) skipped: Option<String>,
}

impl Ledger {
    /// # Errors
    ///
    /// In words, when there is a file and it cannot be read.
    pub(crate) fn open(options: &Options) -> Result<Self, String> {
        let kept = match &options.state {
            Some(path) if path.exists() => {
                let bytes =
                    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
                serde_json::from_slice(&bytes)
                    .map_err(|error| format!("{}: {error}", path.display()))?
            }
            _ => Kept { seed: options.seed, campaigns: BTreeMap::new() },
        };
        Ok(Self { path: options.state.clone(), written: Instant::now(), kept, failed: false })
    }

    pub(crate) fn seed(&self) -> u64 {
        self.kept.seed
    }

    pub(crate) fn record(&self, name: &str) -> Option<&Record> {
        self.kept.campaigns.get(name)
    }

    /// Whether anything went wrong, now or in an earlier part of the run.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed || self.kept.campaigns.values().any(|record| !record.violations.is_empty())
    }

    /// Takes the newest state of a campaign, and writes the file when it is time or `now`.
    pub(crate) fn take(&mut self, name: &str, record: &Record, now: bool) {
        self.kept.campaigns.insert(name.to_owned(), record.clone());
        let Some(path) = &self.path else { return };
        if !now && self.written.elapsed() < PAUSE {
            return;
        }
        self.written = Instant::now();
        let bytes = serde_json::to_vec_pretty(&self.kept).expect("plain values");
        let other = path.with_extension("new");
        let written = fs::write(&other, bytes).and_then(|()| fs::rename(&other, path));
        if let Err(error) = written {
            eprintln!("{}: {error}", path.display());
            self.failed = true;
        }
    }
}
