//! What people type to name a release: `openssl`, `openssl@3.2`, `openssl@=3.2.1`,
//! `openssl@latest`, `openssl@prev`, `openssl@3.2,debug`, `openssl#a94e`, `openssl@3.2#a94e`.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use crate::hash::HASH_LEN;
use crate::{
    NameError, ObjectId, PackageName, ReleaseId, Variant, Variants, Version, VersionError,
    VersionPrefix,
};

/// Longest spec or need, in bytes: what names of releases and their variants can use, and more.
pub const SPEC_LEN_MAX: usize = 1024;

/// Which version of the package is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pick {
    /// `name`: the newest release.
    Any,
    /// `name@3.2`: the newest that starts so; never `3.20`.
    Prefix(VersionPrefix),
    /// `name@=3.2.1`: this one.
    Exact(Version),
    /// `name@latest`: the newest, and so it stays in the record of the request.
    Latest,
    /// `name@prev`: the release that was selected before the present one.
    Prev,
}

/// A request for one release of one package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spec {
    /// The package.
    pub name: PackageName,
    /// Which version.
    pub pick: Pick,
    /// Exactly these variants: none means the plain build, since a variant is chosen only when it
    /// is asked for. See [`Spec::means_build`].
    pub variants: Variants,
    /// The first hexadecimal digits of the object, after `#`; ambiguity is an error.
    pub object: Option<ObjectPrefix>,
}

/// One to 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectPrefix(String);

/// Why a text is not a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The part before `@` is not a name, or a variant is not.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The part after `@` is not a version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The part after `#` is not one to 64 hexadecimal digits.
    #[error("{text:?} is not an object prefix: expected 1 to 64 hexadecimal digits")]
    Object {
        /// What was given, cut after 64 characters.
        text: String,
    },
    /// The whole is longer than [`SPEC_LEN_MAX`].
    #[error("{text:?}... is longer than 1024 bytes")]
    TooLong {
        /// Its first 64 characters.
        text: String,
    },
}

impl ObjectPrefix {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name of `object` starts so.
    #[must_use]
    pub fn matches(&self, object: &ObjectId) -> bool {
        object.to_string().starts_with(&self.0)
    }
}

impl Spec {
    /// Whether a release is the build that was asked for, whatever its version: exactly these
    /// variants, among which the architecture may be named too. Who names an object and no variant
    /// means whatever build that is.
    #[must_use]
    pub fn means_build(&self, id: &ReleaseId) -> bool {
        if self.object.is_some() && self.variants.is_empty() {
            return true;
        }
        let is_arch = |v: &&Variant| v.as_str() == id.arch.as_str() && !id.variants.contains(*v);
        self.variants.iter().filter(|variant| !is_arch(variant)).eq(&id.variants)
    }
}

impl FromStr for ObjectPrefix {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if (1..=2 * HASH_LEN).contains(&text.len()) && text.bytes().all(digit) {
            Ok(Self(text.into()))
        } else {
            Err(SpecError::Object { text: text.chars().take(64).collect() })
        }
    }
}

impl fmt::Display for ObjectPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pick {
    type Err = SpecError;

    /// What follows `@`, so never [`Pick::Any`].
    fn from_str(text: &str) -> Result<Self, SpecError> {
        Ok(match text {
            "latest" => Self::Latest,
            "prev" => Self::Prev,
            _ => match text.strip_prefix('=') {
                Some(exact) => Self::Exact(exact.parse()?),
                None => Self::Prefix(text.parse()?),
            },
        })
    }
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        if text.len() > SPEC_LEN_MAX {
            return Err(SpecError::TooLong { text: text.chars().take(64).collect() });
        }
        let (head, object) = match text.split_once('#') {
            Some((head, object)) => (head, Some(object.parse()?)),
            None => (text, None),
        };
        let (head, variants) = match head.split_once(',') {
            Some((head, variants)) => (head, parse_variants(variants)?),
            None => (head, Variants::new()),
        };
        let (name, pick) = match head.split_once('@') {
            Some((name, pick)) => (name, Some(pick)),
            None => (head, None),
        };
        let name = PackageName::new(name)?;
        let pick = pick.map_or(Ok(Pick::Any), str::parse)?;
        Ok(Self { name, pick, variants, object })
    }
}

/// Names between commas; the same one twice counts once.
pub(crate) fn parse_variants(text: &str) -> Result<Variants, NameError> {
    text.split(',').map(Variant::new).collect()
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        match &self.pick {
            Pick::Any => Ok(()),
            Pick::Prefix(prefix) => write!(f, "@{prefix}"),
            Pick::Exact(version) => write!(f, "@={version}"),
            Pick::Latest => f.write_str("@latest"),
            Pick::Prev => f.write_str("@prev"),
        }?;
        self.variants.iter().try_for_each(|variant| write!(f, ",{variant}"))?;
        self.object.iter().try_for_each(|object| write!(f, "#{object}"))
    }
}

impl serde::Serialize for Spec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Spec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in [
            "openssl",
            "openssl@3.2",
            "openssl@1:3.2",
            "openssl@=3.2.1",
            "openssl@=1:3.2.1-4",
            "openssl@latest",
            "openssl@prev",
            "openssl@3.2,debug",
            "openssl@3.2,debug,static",
            "openssl,debug",
            "openssl#a94e",
            "openssl@3.2#a94e",
            "openssl@3.2,debug#0",
            "g++@12",
        ] {
            let spec: Spec = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(spec.to_string(), text);
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec);
        }
    }

    #[test]
    fn variants_have_no_order() {
        let one: Spec = "x@1,static,debug".parse().unwrap();
        assert_eq!(one, "x@1,debug,static,debug".parse().unwrap());
    }

    #[test]
    fn other_texts_are_refused() {
        let hash = "a".repeat(65);
        for text in [
            "",
            "../x",
            "@1",
            "x@",
            "x@=",
            "x@1@2",
            "x@@1",
            "x#",
            "x#A9",
            "x#g",
            "x@1#a#b",
            "x,",
            "x@1,",
            "x@1,,debug",
            "x@1,../y",
            "x y",
            "x\n",
            "x@1\u{7}",
            "x@\0",
            "x@>=1",
            "x@*",
            ",debug",
            "#a",
            "x@../y",
            "x@..",
            "x@1/2",
        ] {
            assert!(text.parse::<Spec>().is_err(), "{text:?}");
        }
        for text in [
            "a".repeat(300),
            alloc::format!("x@{}", "1".repeat(300)),
            alloc::format!("x#{hash}"),
            alloc::format!("x{}", ",d".repeat(SPEC_LEN_MAX)),
        ] {
            assert!(text.parse::<Spec>().is_err(), "{text:?}");
        }
    }
}
