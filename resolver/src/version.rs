//! Versions as Debian writes and orders them, and ranges of them.

mod order;
mod range;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::cmp::Ordering;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use range::{VersionPrefix, VersionRange};

/// Longest version, in bytes, epoch included.
pub const VERSION_LEN_MAX: usize = 128;

/// Why a text is not a version or a range of versions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid version: {reason}")]
pub struct VersionError {
    /// What was given, cut after 64 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// `[epoch:]text`, the text of `[A-Za-z0-9.+~-]`, ordered as `dpkg --compare-versions` does. Where
/// Debian calls two different texts equal (`1.0` and `1.00`), the bytes decide, so that the order
/// is total and agrees with equality.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    epoch: u32,
    text: Box<str>,
}

impl Version {
    /// The epoch, 0 when none is written.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The version without its epoch.
    #[must_use]
    pub const fn text(&self) -> &str {
        &self.text
    }

    /// As it is written below the mount and in file names: `1%3a2.0`, since no name there holds
    /// a colon.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self.epoch {
            0 => self.text.to_string(),
            epoch => format!("{epoch}%3a{}", self.text),
        }
    }

    /// The inverse of [`Version::file_name`].
    ///
    /// # Errors
    ///
    /// [`VersionError`] for anything that `file_name` does not write.
    pub fn from_file_name(text: &str) -> Result<Self, VersionError> {
        let version = match text.split_once("%3a") {
            Some((epoch, rest)) => Self { epoch: parse_epoch(text, epoch)?, text: rest.into() },
            None => Self { epoch: 0, text: text.into() },
        };
        // A colon is longer here, and what is too long is the version and not its spelling.
        check_text(&version.to_string(), &version.text)?;
        if version.file_name() == text {
            Ok(version)
        } else {
            Err(refuse(text, "its epoch is not written as file names write it"))
        }
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let (epoch, rest) = split_epoch(text)?;
        check_text(text, rest)?;
        Ok(Self { epoch: epoch.unwrap_or(0), text: rest.into() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            0 => f.write_str(&self.text),
            epoch => write!(f, "{epoch}:{}", self.text),
        }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (upstream, revision) = split_revision(&self.text);
        let (other_upstream, other_revision) = split_revision(&other.text);
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| order::compare(upstream, other_upstream))
            .then_with(|| order::compare(revision, other_revision))
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn split_revision(text: &str) -> (&[u8], &[u8]) {
    match text.rsplit_once('-') {
        Some((upstream, revision)) => (upstream.as_bytes(), revision.as_bytes()),
        None => (text.as_bytes(), b""),
    }
}

fn split_epoch(text: &str) -> Result<(Option<u32>, &str), VersionError> {
    match text.split_once(':') {
        Some((epoch, rest)) => Ok((Some(parse_epoch(text, epoch)?), rest)),
        None => Ok((None, text)),
    }
}

fn parse_epoch(text: &str, epoch: &str) -> Result<u32, VersionError> {
    if epoch.is_empty() || !epoch.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse(text, "the epoch before the colon is not a number"));
    }
    epoch.parse().map_err(|_| refuse(text, "the epoch before the colon is too large"))
}

/// `text` is the whole, for the message; `rest` is what follows the epoch.
fn check_text(text: &str, rest: &str) -> Result<(), VersionError> {
    let bytes = rest.as_bytes();
    if bytes.is_empty() {
        return Err(refuse(text, "it is empty"));
    }
    if text.len() > VERSION_LEN_MAX {
        return Err(refuse(text, "it is longer than 128 bytes"));
    }
    if !bytes[0].is_ascii_alphanumeric() {
        return Err(refuse(text, "it must start with a letter or a digit"));
    }
    if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b".+~-".contains(byte)) {
        return Err(refuse(text, "only letters, digits and . + ~ - may be in it"));
    }
    if bytes.ends_with(b"-") {
        return Err(refuse(text, "nothing follows the last -"));
    }
    Ok(())
}

fn refuse(text: &str, reason: &'static str) -> VersionError {
    VersionError { text: text.chars().take(64).collect(), reason }
}

#[cfg(test)]
mod tests;
