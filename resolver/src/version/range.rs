//! Beginnings of versions, and ranges of versions. Never orders anything: `order.rs` does.

use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;

use super::{Version, VersionError, check_text, refuse, split_epoch};

/// The beginning of a version, as in `openssl@3.2`: matches `3.2` itself and `3.2` followed by
/// `.`, `-` or `+`; `~` only when nothing else in the catalog matches (see [`crate::Spec`]).
/// With an epoch it matches that epoch alone (`0:` is the one that is not written in versions),
/// without one any epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionPrefix {
    epoch: Option<u32>,
    text: Box<str>,
}

impl VersionPrefix {
    /// Whether `version` starts so: equal, or followed by `.`, `-` or `+`.
    #[must_use]
    pub fn matches(&self, version: &Version) -> bool {
        self.rest(version).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '+']))
    }

    /// Whether `version` comes before what is meant, as `3.2~rc1` before `3.2`: it counts only
    /// where nothing else matches.
    #[must_use]
    pub fn matches_early(&self, version: &Version) -> bool {
        self.rest(version).is_some_and(|rest| rest.starts_with('~'))
    }

    fn rest<'a>(&self, version: &'a Version) -> Option<&'a str> {
        if self.epoch.is_some_and(|epoch| epoch != version.epoch()) {
            return None;
        }
        version.text().strip_prefix(&*self.text)
    }
}

impl FromStr for VersionPrefix {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if matches!(text, "latest" | "prev") {
            return Err(refuse(text, "latest and prev are no versions"));
        }
        let (epoch, rest) = split_epoch(text)?;
        check_text(text, rest)?;
        Ok(Self { epoch, text: rest.into() })
    }
}

impl fmt::Display for VersionPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(epoch) = self.epoch {
            write!(f, "{epoch}:")?;
        }
        f.write_str(&self.text)
    }
}

/// Which versions of a package are good enough: `*`, `3.2` (prefix), `=3.2.1`, `>=1.2`, `>=1.2,<2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VersionRange {
    /// Any version.
    #[default]
    Any,
    /// Versions that start so.
    Prefix(VersionPrefix),
    /// This version alone.
    Exact(Version),
    /// From the first (inclusive) to the second (exclusive); at least one is given.
    Between(Option<Version>, Option<Version>),
}

impl VersionRange {
    /// Whether `version` is good enough. A prefix admits early versions (`3.2~rc1` for `3.2`)
    /// here; who chooses among several takes another one first.
    #[must_use]
    pub fn contains(&self, version: &Version) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => prefix.matches(version) || prefix.matches_early(version),
            Self::Exact(exact) => exact == version,
            Self::Between(from, to) => {
                from.as_ref().is_none_or(|from| version >= from)
                    && to.as_ref().is_none_or(|to| version < to)
            }
        }
    }

    /// Whether `version` is in the range only as an early one.
    #[must_use]
    pub fn only_early(&self, version: &Version) -> bool {
        matches!(self, Self::Prefix(prefix) if prefix.matches_early(version))
    }
}

impl FromStr for VersionRange {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(exact) = text.strip_prefix('=') {
            return exact.parse().map(Self::Exact);
        }
        if let Some(to) = text.strip_prefix('<') {
            return Ok(Self::Between(None, Some(to.parse()?)));
        }
        let Some(bounds) = text.strip_prefix(">=") else {
            return text.parse().map(Self::Prefix);
        };
        let Some((from, to)) = bounds.split_once(',') else {
            return Ok(Self::Between(Some(bounds.parse()?), None));
        };
        let Some(to) = to.strip_prefix('<') else {
            return Err(refuse(text, "after the comma < and a version are expected"));
        };
        Ok(Self::Between(Some(from.parse()?), Some(to.parse()?)))
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any | Self::Between(None, None) => f.write_str("*"),
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Exact(version) => write!(f, "={version}"),
            Self::Between(Some(from), None) => write!(f, ">={from}"),
            Self::Between(None, Some(to)) => write!(f, "<{to}"),
            Self::Between(Some(from), Some(to)) => write!(f, ">={from},<{to}"),
        }
    }
}
