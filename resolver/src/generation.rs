//! Generations: immutable, numbered, complete states of what is selected, in one line.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Category, CommandName, ObjectId, PackageName, ReleaseId, SharedMap, Soname, Spec, Variants,
    Version,
};

/// Position in the line of generations, from 1; 0 is the empty state before the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct GenerationNumber(pub u64);

impl fmt::Display for GenerationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Seconds since 1970-01-01 UTC. A value: only the program's edge asks a clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Names one call of one client, so that it can ask later what became of it. 128 random bits as
/// hexadecimal text, chosen by the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub String);

/// A complete state of the system's selections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub number: GenerationNumber,
    /// The generation that it was made from; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<GenerationNumber>,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: Cause,
    /// What is selected.
    pub system: Selections,
}

/// What is selected, and who provides what several packages could.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selections {
    /// Package -> selected release.
    #[serde(default)]
    pub packages: SharedMap<PackageName, Selection>,
    /// Decided contests.
    #[serde(default)]
    pub providers: Providers,
}

/// One package's selected release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The release; its package is the key it stands under.
    #[serde(flatten)]
    pub release: ReleaseId,
    /// Where the package lives.
    pub category: Category,
    /// The release's tree: a view can be served from a generation alone.
    pub object: ObjectId,
    /// The request that made it.
    pub why: Why,
    /// The release that was selected before this one, for `@prev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
}

/// The release of the same package that a selection replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its version.
    pub version: Version,
    /// Its variants.
    #[serde(default, skip_serializing_if = "Variants::is_empty")]
    pub variants: Variants,
}

/// Why a release is selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Somebody asked for it, in these words.
    Asked(Spec),
    /// Another package needs it.
    NeededBy(PackageName),
}

/// Which package provides a command or soname that several selected packages have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Providers {
    /// Contested commands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commands: BTreeMap<CommandName, PackageName>,
    /// Contested sonames.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sonames: BTreeMap<Soname, PackageName>,
}

/// What made a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The kind of change and what was asked for.
    pub action: Action,
    /// The user id of the caller.
    pub uid: u32,
    /// The caller's name for the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
}

/// The kind of change, typed: nothing is ever read back out of prose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// `select`.
    Select {
        /// What was asked for.
        specs: Vec<Spec>,
    },
    /// `unselect`.
    Unselect {
        /// The packages.
        packages: Vec<PackageName>,
    },
    /// `apply`.
    Apply,
    /// `undo`: back to the state of a generation.
    Undo {
        /// The generation whose state this is.
        to: GenerationNumber,
    },
    /// `redo`: forward again.
    Redo {
        /// The generation whose state this is.
        to: GenerationNumber,
    },
    /// `restore`.
    Restore {
        /// The generation whose state this is.
        to: GenerationNumber,
    },
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn selection() -> Selection {
        let json = r#"{"name":"xz","version":"1:5.2","arch":"amd64","variants":["debug"],
            "category":"lib","object":"OBJECT","why":{"asked":"xz@5.2,debug"},
            "previous":{"version":"5.1"},"later":{"x":1}}"#;
        serde_json::from_str(&json.replace("OBJECT", &"0b".repeat(32))).unwrap()
    }

    #[test]
    fn a_selection_as_one_line_of_json_and_back() {
        let line = serde_json::to_string(&selection()).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Selection>(&line).unwrap(), selection());
        let mut needed = selection();
        needed.why = Why::NeededBy(PackageName::new("curl").unwrap());
        needed.release.variants.clear();
        needed.previous = None;
        let line = serde_json::to_string(&needed).unwrap();
        assert_eq!(serde_json::from_str::<Selection>(&line).unwrap(), needed);
    }

    #[test]
    fn a_generation_as_json_and_back() {
        let name = PackageName::new("xz").unwrap();
        let mut system = Selections::default();
        system.packages.insert(name.clone(), selection());
        system.providers.commands.insert(CommandName::new("xz").unwrap(), name.clone());
        let specs = Vec::from(["xz@5.2,debug".parse().unwrap()]);
        for action in [
            Action::Select { specs },
            Action::Unselect { packages: Vec::from([name]) },
            Action::Apply,
            Action::Undo { to: GenerationNumber(0) },
            Action::Redo { to: GenerationNumber(2) },
            Action::Restore { to: GenerationNumber(3) },
        ] {
            let generation = Generation {
                number: GenerationNumber(4),
                parent: Some(GenerationNumber(3)),
                at: Timestamp(-1),
                cause: Cause { action, uid: 0, request: Some(RequestId("ab".to_string())) },
                system: system.clone(),
            };
            let json = serde_json::to_string(&generation).unwrap();
            assert_eq!(serde_json::from_str::<Generation>(&json).unwrap(), generation);
        }
    }
}
