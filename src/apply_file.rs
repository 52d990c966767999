//! The file that `dynfs apply` reads and `dynfs list --toml` writes.
//!
//! ```toml
//! [packages]
//! openssl = "3.2"           # openssl@3.2
//! xz = "=5.8.1,debug"       # xz@=5.8.1,debug
//! zlib = "*"                # zlib
//! curl = "#a94e"            # curl#a94e
//!
//! [providers.commands]
//! vi = "vim"
//! ```
//!
//! Packages that only others need are not in it: they come along again.

use std::collections::BTreeMap;

use resolver::{PackageName, Pick, Providers, Selection, Selections, Spec, Why};
use serde::{Deserialize, Serialize};

use crate::error::CommandError;

/// The value that means `name` alone.
const ANY: &str = "*";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    packages: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    providers: Option<Providers>,
}

/// Reads a file.
///
/// # Errors
///
/// Usage, naming the line or the package.
pub(crate) fn read(text: &str) -> Result<(Vec<Spec>, Providers), CommandError> {
    let file: File = toml::from_str(text).map_err(|error| {
        CommandError::usage("the file is not understood")
            .because(&error)
            .hint("dynfs list --toml writes one")
    })?;
    let specs = file
        .packages
        .iter()
        .map(|(name, value)| {
            PackageName::new(name)?;
            let text = spec_text(name, value).ok_or_else(|| {
                CommandError::usage(format!("{value:?} is no version of {name}"))
                    .hint("write \"3.2\", \"=3.2.1,debug\", \"*\", \"*,debug\" or \"#a94e\"")
            })?;
            Ok(text.parse::<Spec>()?)
        })
        .collect::<Result<_, CommandError>>()?;
    Ok((specs, file.providers.unwrap_or_default()))
}

/// `xz`, `5.8,debug` -> `xz@5.8,debug`; `None` when only the two together would mean something.
fn spec_text(name: &str, value: &str) -> Option<String> {
    match value.strip_prefix(ANY) {
        Some(rest) if rest.is_empty() || rest.starts_with([',', '#']) => {
            Some(format!("{name}{rest}"))
        }
        Some(_) => None,
        None if value.starts_with('#') => Some(format!("{name}{value}")),
        None => Some(format!("{name}@{value}")),
    }
}

/// Writes the selections that somebody asked for.
pub(crate) fn write(selections: &Selections) -> String {
    let packages = selections
        .packages
        .iter()
        .filter_map(|(name, selection)| Some((name.to_string(), value(name, selection)?)))
        .collect();
    let providers = &selections.providers;
    let providers = (*providers != Providers::default()).then(|| providers.clone());
    let file = File { packages, providers };
    toml::to_string(&file).expect("maps of texts are always TOML")
}

/// The value for one package; `None` when only another package needs it.
fn value(name: &PackageName, selection: &Selection) -> Option<String> {
    let Why::Asked(spec) = &selection.why else { return None };
    if spec.pick == Pick::Prev {
        // What was selected before means another release each time: write the one it meant.
        let variants: String =
            selection.release.variants.iter().map(|variant| format!(",{variant}")).collect();
        return Some(format!("={}{variants}", selection.release.version));
    }
    let text = spec.to_string();
    let rest = text.strip_prefix(name.as_str())?;
    Some(match rest.strip_prefix('@') {
        Some(version) => version.to_owned(),
        None if rest.starts_with('#') => rest.to_owned(),
        None => format!("{ANY}{rest}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_specs() {
        for (value, text) in [
            ("3.2", "xz@3.2"),
            ("=5.8.1,debug", "xz@=5.8.1,debug"),
            ("latest", "xz@latest"),
            ("*", "xz"),
            ("*,debug", "xz,debug"),
            ("#a94e", "xz#a94e"),
            ("3.2#a94e", "xz@3.2#a94e"),
        ] {
            assert_eq!(spec_text("xz", value).as_deref(), Some(text));
        }
    }

    #[test]
    fn unknown_tables_and_bad_names_are_refused() {
        for text in [
            "[package]\nxz = '1'",
            "packages = 3",
            "[packages]\n'../x' = '1'",
            "[packages]\nxz = ''",
            "[packages]\nxz = 1",
            "[packages]\nx = '*z'",
            "[packages]\nxz = '*@1'",
            "[providers.command]\nvi = 'vim'\n[x]",
            "\u{0}",
        ] {
            assert_eq!(read(text).unwrap_err().kind, crate::error::Kind::Usage, "{text:?}");
        }
    }
}
