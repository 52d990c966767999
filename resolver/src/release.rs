//! A release: one build of one version of one package, and what it needs and provides.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::SPEC_LEN_MAX;
use crate::{
    Arch, Category, CommandName, FileName, ObjectId, PackageName, Soname, SpecError, Variant,
    Version, VersionRange,
};

/// The variants of a release, without order: `debug,static` is `static,debug`.
pub type Variants = BTreeSet<Variant>;

/// Names one release in a store: `openssl@3.2.1,debug`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReleaseId {
    /// The package.
    pub name: PackageName,
    /// Its version.
    pub version: Version,
    /// For which machine it was built.
    pub arch: Arch,
    /// Its variants.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub variants: Variants,
}

/// One build of one version of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its name in the store.
    #[serde(flatten)]
    pub id: ReleaseId,
    /// Where the package lives; the same for all its releases.
    pub category: Category,
    /// The tree.
    pub object: ObjectId,
    /// What must be selected with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
    /// What it adds to the unions `bin` and `so`.
    #[serde(default)]
    pub provides: Provides,
    /// GNU build-ids of its ELF files, lower-case hexadecimal, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build_ids: Vec<String>,
    /// Where it came from.
    pub origin: Origin,
}

/// Something that a release needs. Text form: `zlib`, `zlib@1.3`, `zlib>=1.2,<2`, `so:libz.so.1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A package within a range of versions.
    Package(PackageName, VersionRange),
    /// A shared library, whichever package provides it.
    Soname(Soname),
}

/// What a release adds to the unions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provides {
    /// Programs in its `bin` directory.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub commands: BTreeSet<CommandName>,
    /// Shared libraries: soname -> file in its `lib` directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sonames: BTreeMap<Soname, FileName>,
}

/// Where a release came from, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The kind of source: `directory`, later `deb`, `tar`, `nix`.
    pub kind: String,
    /// Its name: a path, a package name and version.
    pub name: String,
}

/// As people write it: `openssl@3.2.1,debug`. The architecture is not shown, since one store
/// serves one machine.
impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)?;
        self.variants.iter().try_for_each(|variant| write!(f, ",{variant}"))
    }
}

impl ReleaseId {
    /// Its name below the mount: `openssl@1%3a3.2.1,debug`.
    #[must_use]
    pub fn mount_name(&self) -> String {
        format!("{}@{}", self.name, self.version_and_variants())
    }

    /// The stem of its record's file, unique among the releases of its package:
    /// `1%3a3.2.1,debug_amd64`.
    #[must_use]
    pub fn record_name(&self) -> String {
        format!("{}_{}", self.version_and_variants(), self.arch)
    }

    fn version_and_variants(&self) -> String {
        let mut text = self.version.file_name();
        for variant in &self.variants {
            text.push(',');
            text.push_str(variant.as_str());
        }
        text
    }
}

impl FromStr for Need {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        if text.len() > SPEC_LEN_MAX {
            return Err(SpecError::TooLong { text: text.chars().take(64).collect() });
        }
        if let Some(soname) = text.strip_prefix("so:") {
            return Ok(Self::Soname(Soname::new(soname)?));
        }
        let Some(at) = text.find(['@', '<', '>']) else {
            return Ok(Self::Package(PackageName::new(text)?, VersionRange::Any));
        };
        let (name, range) = text.split_at(at);
        let name = PackageName::new(name)?;
        let range = match range.strip_prefix('@') {
            Some(exact) if exact.starts_with('=') => exact.parse()?,
            Some(prefix) => VersionRange::Prefix(prefix.parse()?),
            None => range.parse()?,
        };
        Ok(Self::Package(name, range))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Soname(soname) => write!(f, "so:{soname}"),
            Self::Package(name, VersionRange::Any | VersionRange::Between(None, None)) => {
                write!(f, "{name}")
            }
            Self::Package(name, range @ VersionRange::Between(..)) => write!(f, "{name}{range}"),
            Self::Package(name, range) => write!(f, "{name}@{range}"),
        }
    }
}

impl Serialize for Need {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Need {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn needs_as_text_and_back() {
        for text in [
            "zlib",
            "zlib@1.3",
            "zlib@=1.3",
            "zlib>=1.2,<2",
            "zlib>=1.2",
            "zlib<2",
            "so:libz.so.1",
            "so:libc++.so",
        ] {
            let need: Need = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(need.to_string(), text);
        }
        for text in [
            "",
            "so:",
            "so:../x",
            "zlib@",
            "zlib>1",
            "zlib>=",
            "zlib=1",
            "@1",
            "zlib@1@2",
            "zlib@<2",
            "a b",
            "zlib,debug",
            &"a".repeat(2000),
        ] {
            assert!(text.parse::<Need>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_of_a_release() {
        let json = r#"{"name":"openssl","version":"1:3.2","arch":"amd64",
            "variants":["static","debug"]}"#;
        let id: ReleaseId = serde_json::from_str(json).unwrap();
        assert_eq!(id.to_string(), "openssl@1:3.2,debug,static");
        assert_eq!(id.mount_name(), "openssl@1%3a3.2,debug,static");
        assert_eq!(id.record_name(), "1%3a3.2,debug,static_amd64");
    }

    #[test]
    fn a_release_as_json_and_back() {
        let json = r#"{"name":"xz","version":"5.2","arch":"all","category":"lib","object":"OBJECT",
            "needs":["zlib>=1.2,<2","so:libc.so.6"],
            "provides":{"commands":["xz"],"sonames":{"liblzma.so.5":"liblzma.so.5.2"}},
            "origin":{"kind":"directory","name":"/x"},"later":1}"#
            .replace("OBJECT", &"0a".repeat(32));
        let release: Release = serde_json::from_str(&json).unwrap();
        assert_eq!(release.needs.len(), 2);
        let again = serde_json::to_string(&release).unwrap();
        assert_eq!(serde_json::from_str::<Release>(&again).unwrap(), release);
    }
}
