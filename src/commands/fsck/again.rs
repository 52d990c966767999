//! Which release to add again, and how: said where content is missing or bad.

use std::collections::BTreeMap;
use std::sync::Arc;

use resolver::Release;
use store_fs::FsckReport;

use crate::invocation::Invocation;

/// Findings that end when a release is added again.
const CODES: [&str; 4] = ["blob-damaged", "blob-missing", "object-damaged", "release-dangling"];

/// Puts the command in the place of the hint, wherever the record says where a release came from.
pub(super) fn say_how(run: &Invocation, report: &mut FsckReport) {
    if report.findings.is_empty() {
        return;
    }
    // A store that does not open has other hints.
    let Some(state) = run.open().ok().and_then(|store| run.state(&store).ok()) else { return };
    let all = state.catalog.packages().flat_map(|(_, releases)| releases);
    let releases: BTreeMap<String, &Arc<Release>> =
        all.map(|release| (release.id.to_string(), release)).collect();
    for finding in report.findings.iter_mut().filter(|finding| CODES.contains(&finding.code)) {
        let mut touched = finding.releases.iter().filter_map(|name| releases.get(name));
        let Some(add) = touched.find_map(|release| add(release)) else { continue };
        finding.hint = Some(match finding.code.ends_with("-damaged") {
            true => format!("dynfs fsck --repair [--from STORE|FILE]; without a copy then {add}"),
            false => format!("dynfs fsck --repair --from STORE|FILE; or {add}"),
        });
    }
}

/// The command that added a release, as far as its record says.
fn add(release: &Release) -> Option<String> {
    if release.origin.kind != "directory" {
        return None;
    }
    let mut words = vec!["dynfs".to_owned(), "add".to_owned(), release.origin.name.clone()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    option("--name", release.id.name.to_string());
    option("--version", release.id.version.to_string());
    option("--category", release.category.to_string());
    option("--arch", release.id.arch.to_string());
    for variant in &release.id.variants {
        option("--variant", variant.to_string());
    }
    for need in &release.needs {
        option("--needs", need.to_string());
    }
    Some(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(quoted("/src/xz-5.2"), "/src/xz-5.2");
        assert_eq!(quoted("zlib>=1.2,<2"), "'zlib>=1.2,<2'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
