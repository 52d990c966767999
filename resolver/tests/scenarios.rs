//! Runs every file of `scenarios/`: a store, requests, and what is expected with its words.
//!
//! ```toml
//! releases = ["curl 8.1 needs=openssl@3.2;zlib commands=curl", ...]
//! # further keys: arch= variants= sonames= object= category=
//! steps = [{ select = ["curl"], selected = ["curl@8.1"], notes = ["..."], changes = 1 }]
//! ```
//! A step has one of `select` (with `providers`), `unselect`, `apply`, `restore` (number of an
//! earlier step, 0 is empty); and `selected`, or `refused` with its `kind`. `commands` and
//! `sonames` are the providers of an `apply`. `remove_first` takes a release out of the store
//! before the step, `damage_first` makes one unreadable, then `add_first` puts one in.

use std::collections::BTreeMap;
use std::sync::Arc;

use resolver::{
    Arch, Catalog, CommandName, PackageName, Providers, Release, Request, Selections, Soname, Spec,
    View, plan,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    releases: Vec<String>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    select: Option<Vec<Spec>>,
    #[serde(default)]
    providers: Vec<PackageName>,
    unselect: Option<Vec<PackageName>>,
    apply: Option<Vec<Spec>>,
    restore: Option<usize>,
    #[serde(default)]
    commands: BTreeMap<CommandName, PackageName>,
    #[serde(default)]
    sonames: BTreeMap<Soname, PackageName>,
    remove_first: Option<String>,
    damage_first: Option<String>,
    add_first: Option<String>,
    selected: Option<Vec<String>>,
    #[serde(default)]
    notes: Vec<String>,
    refused: Option<String>,
    kind: Option<String>,
    changes: Option<usize>,
}

fn release(line: &str) -> Release {
    let mut words = line.split(' ');
    let (name, version) = (words.next().expect("a name"), words.next().expect("a version"));
    let mut json = serde_json::json!({
        "name": name, "version": version, "arch": "amd64", "category": "lib",
        "object": "", "origin": {"kind": "directory", "name": line},
        "provides": {"commands": [], "sonames": {}},
    });
    let mut sum: u64 = 5381;
    line.bytes().for_each(|byte| sum = sum.wrapping_mul(33) ^ u64::from(byte));
    json["object"] = format!("{:064x}", u128::from(sum) << 64).into();
    for word in words {
        let (key, value) = word.split_once('=').expect("key=value");
        let list = || value.split(';').map(String::from).collect::<Vec<_>>();
        match key {
            "arch" => json["arch"] = value.into(),
            "needs" => json["needs"] = list().into(),
            "variants" => json["variants"] = list().into(),
            "category" => json["category"] = value.into(),
            "object" => json["object"] = format!("{value:0<64}").into(),
            "commands" => json["provides"]["commands"] = list().into(),
            "sonames" => {
                for soname in list() {
                    json["provides"]["sonames"][&soname] = soname.as_str().into();
                }
            }
            _ => panic!("unknown key in {line}"),
        }
    }
    serde_json::from_value(json).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn run(name: &str, text: &str) -> usize {
    let scenario: Scenario = toml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(!scenario.steps.is_empty(), "{name} expects nothing");
    let mut catalog = Catalog::new(Arch::new("amd64").expect("a name"));
    for line in &scenario.releases {
        catalog.insert(Arc::new(release(line))).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let mut states = vec![Selections::default()];
    for (number, step) in scenario.steps.iter().enumerate() {
        let at = format!("{name}, step {}", number + 1);
        let next = check(&at, &mut catalog, &states, step);
        states.push(next);
    }
    scenario.steps.len()
}

fn check(at: &str, catalog: &mut Catalog, states: &[Selections], step: &Step) -> Selections {
    assert!(step.selected.is_some() != step.refused.is_some(), "{at} expects nothing");
    if let Some(line) = &step.remove_first {
        assert!(catalog.remove(&release(line).id).is_some(), "{at}: nothing to remove");
    }
    if let Some(line) = &step.damage_first {
        let damaged = catalog.remove(&release(line).id);
        let damaged = damaged.unwrap_or_else(|| panic!("{at}: nothing to damage"));
        catalog.insert_unreadable(damaged.id.clone());
    }
    if let Some(line) = &step.add_first {
        catalog.insert(Arc::new(release(line))).unwrap_or_else(|e| panic!("{at}: {e}"));
    }
    let current = states.last().expect("begins with the empty state");
    let request = if let Some(specs) = &step.select {
        Request::Select { specs: specs.clone(), providers: step.providers.clone() }
    } else if let Some(packages) = &step.unselect {
        Request::Unselect { packages: packages.clone() }
    } else if let Some(specs) = &step.apply {
        let (commands, sonames) = (step.commands.clone(), step.sonames.clone());
        Request::Apply { specs: specs.clone(), providers: Providers { commands, sonames } }
    } else {
        let number = step.restore.unwrap_or_else(|| panic!("{at} asks for nothing"));
        Request::Restore { selections: Box::new(states[number].clone()) }
    };
    let answer = plan(catalog, current, &request);
    assert_eq!(answer, plan(catalog, current, &request), "{at}: not deterministic");
    match answer {
        Err(refusal) => {
            assert_eq!(Some(refusal.to_string()), step.refused, "{at}");
            let debug = format!("{refusal:?}");
            let kind = step.kind.as_ref().unwrap_or_else(|| panic!("{at} names no kind"));
            assert!(debug.starts_with(kind.as_str()), "{at}: {debug}");
            current.clone()
        }
        Ok(plan) => {
            let selected: Vec<String> =
                plan.next.packages.values().map(|s| s.release.to_string()).collect();
            assert_eq!(Some(selected), step.selected, "{at}");
            let notes: Vec<String> = plan.notes.iter().map(ToString::to_string).collect();
            assert_eq!(notes, step.notes, "{at}");
            if let Some(changes) = step.changes {
                assert_eq!(plan.changes.len(), changes, "{at}");
            }
            let before = View::compile(current, catalog);
            let after = View::compile(&plan.next, catalog);
            assert_eq!(before.advance(&plan, catalog), after, "{at}: advance");
            plan.next
        }
    }
}

#[test]
fn every_scenario() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let (mut files, mut failed) = (0, Vec::new());
    for entry in std::fs::read_dir(&directory).expect("the scenarios are there") {
        let path = entry.expect("a readable directory").path();
        let text = std::fs::read_to_string(&path).expect("a readable scenario");
        let name = path.display().to_string();
        // All are run, so that one look shows all that is wrong.
        if std::panic::catch_unwind(|| run(&name, &text)).is_err() {
            failed.push(name);
        }
        files += 1;
    }
    assert_eq!(failed, [""; 0], "these went wrong, as said above");
    assert!(files >= 31, "only {files} scenarios");
}
