//! Names as types: each is validated once, where it enters, and cheap to clone.
//!
//! None of them can be empty, start with a dot, or hold `/`, NUL, white space or control bytes, so
//! each is safe as one component of a path. Comparison is by bytes.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest package, category, variant, architecture or profile name, in bytes.
pub const NAME_LEN_MAX: usize = 128;
/// Longest file name, in bytes (`NAME_MAX` of Linux).
pub const FILE_NAME_LEN_MAX: usize = 255;

/// Why a text is not a name of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: {reason}")]
pub struct NameError {
    /// The kind of name, in words: `package name`, `category`, ...
    pub kind: &'static str,
    /// What was given, cut after 64 characters.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub reason: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates `text`.
            ///
            /// # Errors
            ///
            /// [`NameError`] says what is wrong and what would be right.
            pub fn new(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(reason) => Err(refuse($kind, text, reason)),
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl $name {
            /// The name as text that can be kept without copying it.
            #[must_use]
            pub fn shared(&self) -> &Arc<str> {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl core::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }
    };
}

name_type! {
    /// A package's name, without its category: `openssl`. Letters, digits and `+ . _ -`, the
    /// first one a letter or digit; unique in a store whatever the category.
    PackageName, "package name", check_name
}
name_type! {
    /// The directory that a package lives in: `lib`, `app`, `lang`. Not `bin`, `so` or
    /// `pkgconfig`, which are unions.
    Category, "category", check_category
}
name_type! {
    /// A variant of a release: `debug`.
    Variant, "variant", check_name
}
name_type! {
    /// A machine architecture as Debian writes it: `amd64`, `arm64`, `all`.
    Arch, "architecture", check_name
}
name_type! {
    /// A named set of selections.
    ProfileName, "profile name", check_name
}
name_type! {
    /// The name under which a loader asks for a shared library: `liblzma.so.5`.
    Soname, "soname", check_file_name
}
name_type! {
    /// A program's name in `bin`.
    CommandName, "command name", check_file_name
}
name_type! {
    /// A printable file name: one component of a path, at most 255 bytes.
    FileName, "file name", check_file_name
}

const ALL: &str = "all";

impl Arch {
    /// What runs on every machine.
    #[must_use]
    pub fn all() -> Self {
        Self(ALL.into())
    }

    /// Whether it is [`Arch::all`].
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.as_str() == ALL
    }
}

fn refuse(kind: &'static str, text: &str, reason: &'static str) -> NameError {
    NameError { kind, text: text.chars().take(64).collect(), reason }
}

/// Letters, digits and `+ . _ -`, starting with a letter or a digit.
fn check_name(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err("it is empty");
    }
    if bytes.len() > NAME_LEN_MAX {
        return Err("it is longer than 128 bytes");
    }
    if !bytes[0].is_ascii_alphanumeric() {
        return Err("it must start with a letter or a digit");
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"+._-".contains(byte);
    if !bytes.iter().all(allowed) {
        return Err("only letters, digits and + . _ - may be in it");
    }
    Ok(())
}

fn check_category(text: &str) -> Result<(), &'static str> {
    check_name(text)?;
    match text {
        "bin" | "so" | "pkgconfig" => Err("bin, so and pkgconfig are unions of all packages"),
        _ => Ok(()),
    }
}

fn check_file_name(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err("it is empty");
    }
    if bytes.len() > FILE_NAME_LEN_MAX {
        return Err("it is longer than 255 bytes");
    }
    if bytes[0] == b'.' {
        return Err("it must not start with a dot");
    }
    if text.chars().any(|c| c == '/' || c == ':' || c.is_control() || c.is_whitespace()) {
        return Err("no slash, colon, white space or control character may be in it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn names_that_are_fine() {
        for text in ["xz", "g++", "libstdc++.so_6-dbg", "7zip", &"a".repeat(NAME_LEN_MAX)] {
            assert_eq!(PackageName::new(text).unwrap().to_string(), text);
        }
        for text in ["liblzma.so.5", "[", "x@y", "\u{e4}", &"a".repeat(FILE_NAME_LEN_MAX)] {
            assert_eq!(FileName::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn names_that_are_refused() {
        let long = "a".repeat(300);
        for text in ["", "../x", ".x", "-x", "a/b", "a b", "a\n", "a\0", "a@b", "a:b", &long] {
            assert!(PackageName::new(text).is_err(), "{text:?}");
        }
        for text in ["", ".", "..", "../x", "a/b", "a:b", "a b", "a\u{7f}", "\u{a0}", &long] {
            assert!(Soname::new(text).is_err(), "{text:?}");
        }
        for text in ["bin", "so", "pkgconfig", ".objects", ""] {
            assert!(Category::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_error_says_the_kind_and_the_reason() {
        let error = Category::new("bin").unwrap_err().to_string();
        let want = "\"bin\" is not a valid category: bin, so and pkgconfig are unions of all \
                    packages";
        assert_eq!(error, want);
        assert_eq!(Variant::new(&"/".repeat(300)).unwrap_err().text.len(), 64);
    }

    #[test]
    fn serde_checks_too() {
        let name: PackageName = serde_json::from_str("\"xz\"").unwrap();
        assert_eq!(format!("{name:?}"), "PackageName(\"xz\")");
        assert!(serde_json::from_str::<PackageName>("\"../x\"").is_err());
    }
}
