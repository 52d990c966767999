//! `dynfs diff`: what differs between two generations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use resolver::{GenerationNumber, PackageName, Providers};
use serde::Serialize;

use crate::cli;
use crate::error::CommandError;
use crate::invocation::Invocation;
use crate::protocol::{Swap, swaps};
use crate::render;

#[derive(Serialize)]
struct Document<'a> {
    from: GenerationNumber,
    to: GenerationNumber,
    changes: &'a [Swap],
    providers: &'a [Provider],
}

/// A contested name that another package provides.
#[derive(Serialize)]
struct Provider {
    kind: &'static str,
    name: String,
    from: Option<PackageName>,
    to: Option<PackageName>,
}

pub(super) fn run(run: &mut Invocation, arguments: &cli::Diff) -> Result<(), CommandError> {
    let store = run.open()?;
    let state = run.state(&store)?;
    let to = arguments.to.map_or(state.current.number, GenerationNumber);
    let from = match arguments.from {
        Some(number) => GenerationNumber(number),
        None => state.current.parent.unwrap_or_default(),
    };
    let (old, new) = (state.selections(&store, from)?, state.selections(&store, to)?);
    let changes = swaps(&old, &new);
    let providers = provider_changes(&old.providers, &new.providers);
    if run.report.wants_json() {
        let document = Document { from, to, changes: &changes, providers: &providers };
        return run.report.document(run.command, &document);
    }
    let mut rows: Vec<[String; 2]> = changes.iter().map(render::swap).collect();
    rows.extend(providers.iter().map(|change| {
        let side = |package: &Option<PackageName>| {
            package.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
        };
        let text = format!("{} -> {}", side(&change.from), side(&change.to));
        [format!("{} {}", change.kind, change.name), text]
    }));
    run.report.data(&render::table(&rows))?;
    if rows.is_empty() {
        run.report.note(&format!("generations {from} and {to} select the same"));
    }
    Ok(())
}

fn provider_changes(old: &Providers, new: &Providers) -> Vec<Provider> {
    let mut changes = compare("command", &old.commands, &new.commands);
    changes.extend(compare("soname", &old.sonames, &new.sonames));
    changes
}

fn compare<K: Ord + Display>(
    kind: &'static str,
    old: &BTreeMap<K, PackageName>,
    new: &BTreeMap<K, PackageName>,
) -> Vec<Provider> {
    let names: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(name) != new.get(name))
        .map(|name| Provider {
            kind,
            name: name.to_string(),
            from: old.get(name).cloned(),
            to: new.get(name).cloned(),
        })
        .collect()
}
