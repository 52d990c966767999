//! What was asked for on the command line.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::turn::Campaign;

/// What the test harness of the language understands and `cargo test` may hand to every test.
const NOT_FOR_US: [&str; 4] = ["--nocapture", "--no-capture", "--quiet", "-q"];

/// What was asked for on the command line.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// The figures of the long form.
    pub(crate) long: bool,
    /// Where progress is kept.
    pub(crate) state: Option<PathBuf>,
    /// What all cases are made from.
    pub(crate) seed: u64,
    /// Only the case of this number.
    pub(crate) case: Option<u64>,
    /// How many units, instead of the campaign's own figure.
    pub(crate) units: Option<u64>,
    names: Vec<String>,
}

impl Options {
    /// # Errors
    ///
    /// What is wrong with them, in words.
    pub(crate) fn read(
        arguments: impl Iterator<Item = String>,
        campaigns: &[Campaign],
    ) -> Result<Self, String> {
        let mut options = Self { seed: new_seed(), ..Self::default() };
        let mut is_ours = false;
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                word if NOT_FOR_US.contains(&word) || word.starts_with("--test-threads") => {
                    continue;
                }
                "--long" => options.long = true,
                "--state" => options.state = Some(value()?.into()),
                "--seed" => options.seed = number(&value()?)?,
                "--case" => options.case = Some(number(&value()?)?),
                "--units" => options.units = Some(number(&value()?)?),
                word if word.starts_with('-') => return Err(unknown(word, campaigns)),
                _ => {
                    options.names.push(argument);
                    continue;
                }
            }
            is_ours = true;
        }
        let names = |word: &&String| !campaigns.iter().any(|campaign| campaign.name == *word);
        // A word alone may be the name of another test, which `cargo test` hands to all of them.
        match options.names.iter().find(names) {
            Some(word) if is_ours => Err(unknown(word, campaigns)),
            _ => Ok(options),
        }
    }

    pub(crate) fn wants(&self, campaign: &Campaign) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == campaign.name)
    }
}

fn unknown(word: &str, campaigns: &[Campaign]) -> String {
    let names: Vec<&str> = campaigns.iter().map(|campaign| campaign.name).collect();
    format!(
        "{word} is no campaign and no option\n\
         options: --long --state FILE --seed N --case N --units N\n\
         campaigns: {}",
        names.join(" ")
    )
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}
