//! The decision: from the catalog, the present selections and a request to the next selections.
//!
//! Pure and deterministic: same arguments, same bytes. Several packages switch together or not at
//! all, and what a release needs comes along.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

mod ask;
mod contest;
mod draft;
mod needs;
pub(crate) mod selected;
mod trim;
mod unselect;
mod words;

use draft::Draft;

use crate::{Catalog, Category, PackageName, Providers, ReleaseId, Selections, Spec, Why};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Select these; keep all else.
    Select {
        /// What was asked for, one spec a package.
        specs: Vec<Spec>,
        /// Who shall provide contested names (`--provider PACKAGE`): wins every contest it is in.
        providers: Vec<PackageName>,
    },
    /// Select these no more; what only they needed goes too.
    Unselect {
        /// The packages.
        packages: Vec<PackageName>,
    },
    /// Make the selections equal to these, needs included.
    Apply {
        /// What was asked for, one spec a package.
        specs: Vec<Spec>,
        /// Decided contests.
        providers: Providers,
    },
    /// Make the selections equal to those of an earlier generation.
    Restore {
        /// Those selections.
        selections: Box<Selections>,
    },
}

/// The next selections, and how they differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What will be selected.
    pub next: Selections,
    /// Packages whose release changes, by name. Empty: nothing to do.
    pub changes: Vec<Change>,
    /// What the user should be told beside the changes.
    pub notes: Vec<Note>,
}

/// One package's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The package.
    pub package: PackageName,
    /// Where it lives.
    pub category: Category,
    /// What was selected.
    pub from: Option<ReleaseId>,
    /// What will be.
    pub to: Option<ReleaseId>,
    /// Why, when something will be.
    pub why: Option<Why>,
}

/// Something the user should be told; `Display` is one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// A release came along.
    Brought {
        /// What came.
        release: ReleaseId,
        /// Who needs it.
        needed_by: PackageName,
    },
    /// One of several packages that have a needed soname came along.
    Chosen {
        /// What is needed.
        soname: crate::Soname,
        /// Who came.
        chosen: PackageName,
        /// Who could have come.
        others: Vec<PackageName>,
    },
    /// A package that nobody needs any more went.
    Dropped {
        /// What went.
        release: ReleaseId,
    },
    /// Several selected packages provide the same name.
    Contested(Contested),
    /// A package that was asked to provide what several have is in no contest.
    Uncontested {
        /// The package.
        package: PackageName,
    },
    /// A package that a file records as a provider does not have the name.
    Unheard {
        /// `command` or `soname`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The package.
        package: PackageName,
    },
    /// Selected releases whose records cannot be read, so that nobody knows what they need.
    Unknown {
        /// The releases, by name.
        releases: Vec<ReleaseId>,
    },
    /// The only releases that have a needed soname are of variants, which only come when they are
    /// asked for; the system's is expected.
    VariantOnly {
        /// Who needs it.
        release: ReleaseId,
        /// What is needed.
        soname: crate::Soname,
        /// A release that has it.
        variant: ReleaseId,
    },
    /// The release is selected already.
    Already {
        /// The release.
        release: ReleaseId,
    },
}

/// Several selected packages provide the same command or soname.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contested {
    /// `command` or `soname`.
    pub kind: &'static str,
    /// The name.
    pub name: String,
    /// Who provides it now and after.
    pub winner: PackageName,
    /// Who could.
    pub losers: Vec<PackageName>,
}

/// Why a request is not carried out. `Display` explains as a sentence who needs what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No such package. Exit code 3.
    #[error("no package is named {name}")]
    UnknownPackage {
        /// What was asked for.
        name: PackageName,
        /// Names that look like it, nearest first.
        similar: Vec<PackageName>,
    },
    /// The package has no such release. Exit code 3.
    #[error("no release of {} matches {spec}", spec.name)]
    NoRelease {
        /// What was asked for.
        spec: Spec,
        /// What there is, newest first.
        available: Vec<ReleaseId>,
    },
    /// Several releases match an object prefix. Exit code 4.
    #[error("{spec} is ambiguous")]
    Ambiguous {
        /// What was asked for.
        spec: Spec,
        /// What it could mean.
        candidates: Vec<ReleaseId>,
    },
    /// Built for another kind of machine. Exit code 4.
    #[error("{release} is built for {}, and this machine is {host}", release.arch)]
    ForeignArch {
        /// The release.
        release: ReleaseId,
        /// This machine's architecture.
        host: crate::Arch,
    },
    /// A package is not selected, so it cannot be unselected. Exit code 3.
    #[error("{name} is not selected")]
    NotSelected {
        /// The package.
        name: PackageName,
        /// Selected packages that look like it.
        similar: Vec<PackageName>,
    },
    /// Needs that cannot all be met. Exit code 4.
    #[error("{explanation}")]
    Conflict {
        /// Sentences: who needs what, and why it cannot be.
        explanation: String,
    },
    /// A generation names a release that the catalog does not have. Exit code 7.
    #[error("{release} is missing from the store")]
    Missing {
        /// The release.
        release: ReleaseId,
    },
    /// The record of a release that is meant, or could be, cannot be read. Exit code 7.
    #[error("what the store says of {release} cannot be read")]
    Unreadable {
        /// The release.
        release: ReleaseId,
    },
    /// The same package is asked for twice with different specs. Exit code 2.
    #[error("{name} is asked for twice")]
    Twice {
        /// The package.
        name: PackageName,
    },
}

/// Decides what will be selected.
///
/// # Errors
///
/// [`Refusal`], which explains itself and changes nothing.
pub fn plan(catalog: &Catalog, current: &Selections, request: &Request) -> Result<Plan, Refusal> {
    let mut draft = Draft::new(catalog, current);
    match request {
        Request::Select { specs, providers } => {
            draft.ask(specs)?;
            draft.settle()?;
            draft.trim(&current.packages);
            draft.check_providers(providers)?;
            Ok(draft.finish(contest::Preference::Packages(providers)))
        }
        Request::Unselect { packages } => {
            draft.unselect(packages)?;
            Ok(draft.finish(contest::Preference::Packages(&[])))
        }
        Request::Apply { specs, providers } => {
            draft.packages.clear();
            draft.anew = true;
            draft.ask(specs)?;
            draft.settle()?;
            draft.trim(&Default::default());
            draft.drop_unneeded()?;
            Ok(draft.finish(contest::Preference::Records(providers)))
        }
        Request::Restore { selections } => {
            draft.restore(selections)?;
            Ok(draft.finish(contest::Preference::Restored(&selections.providers)))
        }
    }
}

#[cfg(test)]
mod tests;
