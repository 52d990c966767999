//! The format record: what a program must know before it touches anything else in a store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::path;
use super::record::{self, RecordReader, RecordWriter};
use crate::StoreError;

/// The format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Longest prefix, in bytes.
const PREFIX_LEN_MAX: usize = 255;

/// Features that this program knows: none yet.
const KNOWN_READ_ONLY_COMPATIBLE: [&str; 0] = [];
const KNOWN_INCOMPATIBLE: [&str; 0] = [];

/// The absolute virtual root that a store's programs are built for, such as `/dyn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(PathBuf);

impl Prefix {
    /// An absolute, normal path of at most 255 bytes of UTF-8 without `:` and white space.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] naming what is wrong.
    pub fn new(path: &Path) -> Result<Self, StoreError> {
        match check_prefix(path) {
            Ok(()) => Ok(Self(path.to_owned())),
            Err(reason) => {
                Err(record::damaged(path, &format!("it cannot be a prefix, because {reason}")))
            }
        }
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

fn check_prefix(path: &Path) -> Result<(), &'static str> {
    let Some(text) = path.to_str() else { return Err("it is not UTF-8") };
    if text.len() > PREFIX_LEN_MAX {
        return Err("it is longer than 255 bytes");
    }
    if text.chars().any(|c| c == ':' || c.is_whitespace() || c.is_control()) {
        return Err("a colon, white space or control character is in it");
    }
    let Some(names) = text.strip_prefix('/') else { return Err("it is not absolute") };
    if names.is_empty() {
        return Err("it is the root of all files");
    }
    if names.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err("it is not normal: no `.`, no `..`, no empty name and no slash at its end");
    }
    Ok(())
}

/// The format record of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Version of the format.
    pub version: u32,
    /// The prefix, fixed at creation.
    pub prefix: Prefix,
    /// Features that a program may ignore.
    pub compatible: Vec<String>,
    /// Features without which a program may read but not write.
    pub read_only_compatible: Vec<String>,
    /// Features without which a program may do nothing.
    pub incompatible: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    version: u32,
    prefix: PathBuf,
    compatible: Vec<String>,
    read_only_compatible: Vec<String>,
    incompatible: Vec<String>,
}

impl Format {
    /// The format of a new store.
    pub(crate) fn new(prefix: Prefix) -> Self {
        Self {
            version: FORMAT_VERSION,
            prefix,
            compatible: Vec::new(),
            read_only_compatible: Vec::new(),
            incompatible: Vec::new(),
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let mut writer = RecordWriter::new(record::FORMAT, 0);
        writer.line(&Line {
            version: self.version,
            prefix: self.prefix.as_path().to_owned(),
            compatible: self.compatible.clone(),
            read_only_compatible: self.read_only_compatible.clone(),
            incompatible: self.incompatible.clone(),
        });
        writer.seal()
    }

    /// Reads a record and refuses what this program cannot read.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = RecordReader::open(record::FORMAT, Path::new(path::FORMAT), bytes)?;
        let line: Line = reader.line()?;
        if line.version > FORMAT_VERSION {
            let (path, known) = (path::FORMAT.into(), FORMAT_VERSION);
            return Err(StoreError::NewerFormat { path, found: line.version, known });
        }
        refuse_unknown(&line.incompatible, &KNOWN_INCOMPATIBLE)?;
        reader.finish()?;
        Ok(Self {
            version: line.version,
            prefix: Prefix::new(&line.prefix)?,
            compatible: line.compatible,
            read_only_compatible: line.read_only_compatible,
            incompatible: line.incompatible,
        })
    }

    /// Refuses to write what this program can only read.
    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        refuse_unknown(&self.read_only_compatible, &KNOWN_READ_ONLY_COMPATIBLE)
    }
}

fn refuse_unknown(features: &[String], known: &[&str]) -> Result<(), StoreError> {
    let unknown = features.iter().filter(|feature| !known.contains(&feature.as_str()));
    let features: Vec<_> = unknown.cloned().collect();
    if features.is_empty() { Ok(()) } else { Err(StoreError::UnknownFeatures { features }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format() -> Format {
        Format::new(Prefix::new(Path::new("/dyn")).unwrap())
    }

    #[test]
    fn prefixes() {
        for good in ["/dyn", "/run/user/1000/dyn", "/opt/d\u{fc}n"] {
            assert_eq!(Prefix::new(Path::new(good)).unwrap().as_path(), Path::new(good));
        }
        let long = format!("/{}", "x".repeat(255));
        let bad = ["", "/", "dyn", "/dyn/", "//dyn", "/a/../b", "/a/./b", "/a b", "/a:b", "/a\n"];
        for bad in bad.into_iter().chain([long.as_str()]) {
            assert!(
                matches!(Prefix::new(Path::new(bad)), Err(StoreError::Damaged { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn text_and_back() {
        let mut format = format();
        format.compatible.push("colours".to_owned());
        assert_eq!(Format::decode(&format.encode().unwrap()).unwrap(), format);
    }

    #[test]
    fn what_is_newer_is_refused_with_both_versions() {
        let newer = Format { version: 7, ..format() };
        let error = Format::decode(&newer.encode().unwrap()).unwrap_err();
        assert!(matches!(error, StoreError::NewerFormat { found: 7, known: FORMAT_VERSION, .. }));
    }

    #[test]
    fn an_unknown_feature_stops_as_much_as_it_must() {
        let features = vec!["colours".to_owned()];
        let ignored = Format { compatible: features.clone(), ..format() };
        ignored.check_writable().unwrap();
        let read_only = Format { read_only_compatible: features.clone(), ..format() };
        let read_only = Format::decode(&read_only.encode().unwrap()).unwrap();
        let unknown = |error| {
            matches!(error, StoreError::UnknownFeatures { features } if
            features == ["colours"])
        };
        assert!(unknown(read_only.check_writable().unwrap_err()));
        let stopped = Format { incompatible: features, ..format() };
        assert!(unknown(Format::decode(&stopped.encode().unwrap()).unwrap_err()));
    }
}
