//! Sentences for people. Never decides anything.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::draft::Draft;
use super::{Note, selected};
use crate::{Need, Release, ReleaseId, VersionRange, Why};

/// Most releases that one sentence lists.
const LISTED_MAX: usize = 5;

/// `curl 8.1`, `curl 8.1,debug`.
pub(super) fn release(id: &ReleaseId) -> String {
    id.to_string().replacen('@', " ", 1)
}

/// What is needed: `openssl 3.2 or one of its followers`.
pub(super) fn need(need: &Need) -> String {
    match need {
        Need::Soname(soname) => soname.to_string(),
        Need::Package(name, range) => match range {
            VersionRange::Any | VersionRange::Between(None, None) => name.to_string(),
            VersionRange::Prefix(prefix) => format!("{name} {prefix} or one of its followers"),
            VersionRange::Exact(version) => format!("exactly {name} {version}"),
            VersionRange::Between(Some(from), None) => format!("{name} {from} or newer"),
            VersionRange::Between(None, Some(to)) => format!("{name} older than {to}"),
            VersionRange::Between(Some(from), Some(to)) => {
                format!("{name} {from} or newer but older than {to}")
            }
        },
    }
}

/// Why a need cannot be met.
pub(super) fn unmet(draft: &Draft<'_>, who: &Release, wanted: &Need) -> String {
    format!("{} needs {}, and {}", release(&who.id), need(wanted), obstacle(draft, wanted))
}

fn obstacle(draft: &Draft<'_>, wanted: &Need) -> String {
    let name = match wanted {
        Need::Package(name, _) => name.clone(),
        Need::Soname(soname) => {
            let mut before = selected::with_soname(&draft.current.packages, draft.catalog, soname);
            let package = before
                .next()
                .map(|(selection, _)| selection.release.name.clone())
                .or_else(|| draft.catalog.soname_packages(soname).next().cloned());
            match package {
                Some(name) => name,
                None => return "no package in the store provides it".to_string(),
            }
        }
    };
    let in_range = |r: &Release| match wanted {
        Need::Package(_, range) => range.contains(&r.id.version),
        Need::Soname(soname) => r.provides.sonames.contains_key(soname),
    };
    let plain = |r: &Release| draft.catalog.is_native(r) && r.id.variants.is_empty();
    let releases = draft.catalog.releases(&name);
    if releases.is_empty() {
        return format!("the store has no {name}");
    }
    if !releases.iter().any(|r| plain(r) && in_range(r)) {
        return match wanted {
            Need::Soname(_) => format!("no plain release of {name} has it"),
            Need::Package(..) => {
                let ids: Vec<String> = releases.iter().map(|r| text_of(draft, r)).collect();
                format!("the store has {name} {}", list(&ids))
            }
        };
    }
    let suiting = releases.iter().filter(|r| plain(r) && in_range(r));
    let blocker = suiting.rev().find_map(|r| draft.blocker(r, false));
    let other = || match blocker {
        Some((who, wanted)) => format!("{} needs {}", release(&who.id), need(wanted)),
        None => format!("no release of {name} suits all that need it"),
    };
    let Some(selection) = draft.packages.get(&name) else { return other() };
    let id = release(&selection.release);
    match &selection.why {
        Why::Asked(spec) if draft.fixed.contains(&name) || blocker.is_none() => {
            format!("{id} is selected, asked for as {spec}")
        }
        Why::NeededBy(needer) if blocker.is_none_or(|(who, _)| who.id.name == *needer) => {
            format!("{id} is selected, needed by {needer}")
        }
        Why::Asked(_) | Why::NeededBy(_) => other(),
    }
}

fn text_of(draft: &Draft<'_>, r: &Release) -> String {
    let id = r.id.to_string();
    let version = id.split_once('@').map_or("", |(_, version)| version);
    match draft.catalog.is_native(r) {
        true => version.to_string(),
        false => format!("{version} for {}", r.id.arch),
    }
}

/// `a`, `a and b`, `a, b and c`; of many the last ones.
fn list(texts: &[String]) -> String {
    let more = texts.len().saturating_sub(LISTED_MAX);
    let shown = &texts[more..];
    let text = match shown.split_last() {
        None => return String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    };
    match more {
        0 => text,
        more => format!("{text} ({more} older not listed)"),
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Brought { release: id, needed_by } => {
                write!(f, "{} comes along, since {needed_by} needs it", release(id))
            }
            Self::Chosen { soname, chosen, others } => {
                let others: Vec<String> = others.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "{chosen} was chosen for {soname}, which {} could provide too",
                    list(&others)
                )
            }
            Self::Dropped { release: id } => {
                write!(f, "{} goes too, since nothing needs it any more", release(id))
            }
            Self::Uncontested { package } => {
                write!(f, "{package} is in no contest: no other selected package has a name of it")
            }
            Self::Unheard { kind, name, package } => {
                write!(f, "{package} does not provide the {kind} {name}, so that is not recorded")
            }
            Self::Unknown { releases } => {
                let ids: Vec<String> = releases.iter().map(release).collect();
                write!(f, "what {} may need is not known, since it cannot be read", list(&ids))
            }
            Self::VariantOnly { release: id, soname, variant } => write!(
                f,
                "{} needs {soname}, which only {} has; not asked for, so the system's is used",
                release(id),
                release(variant)
            ),
            Self::Already { release: id } => write!(f, "{} is selected already", release(id)),
            Self::Contested(contested) => {
                let losers: Vec<String> =
                    contested.losers.iter().map(ToString::to_string).collect();
                let (kind, name) = (contested.kind, &contested.name);
                let (winner, losers) = (&contested.winner, list(&losers));
                write!(f, "{winner} provides the {kind} {name}, which {losers} could provide too")
            }
        }
    }
}
