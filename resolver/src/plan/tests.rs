//! What every plan keeps to, tried on random stores and requests.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::universe::{Step, catalog, shown, steps};
use crate::{Need, Release, Selection};

fn release<'a>(catalog: &'a Catalog, selection: &Selection) -> &'a Release {
    catalog.get(&selection.release).unwrap_or_else(|| panic!("{} is gone", selection.release))
}

/// The first need of a selected release that is not met. A soname that no plain release has is the
/// system's, but not one that was selected `before`.
fn unmet(
    catalog: &Catalog,
    before: &Selections,
    selections: &Selections,
) -> Option<(ReleaseId, Need)> {
    let selected = || selections.packages.values();
    let met = |need: &Need| match need {
        Need::Package(name, range) => {
            selected().any(|s| s.release.name == *name && range.contains(&s.release.version))
        }
        Need::Soname(soname) => {
            let has = |r: &Release| r.provides.sonames.contains_key(soname);
            let plain = |r: &Release| r.id.variants.is_empty() && catalog.is_native(r);
            selected().any(|s| has(release(catalog, s)))
                || !before.packages.values().any(|s| has(release(catalog, s)))
                    && !catalog.packages().flat_map(|(_, all)| all).any(|r| plain(r) && has(r))
        }
    };
    selected().find_map(|selection| {
        let who = release(catalog, selection);
        who.needs.iter().find(|need| !met(need)).map(|need| (who.id.clone(), need.clone()))
    })
}

/// Runs `steps` and gives each answer to `check` with the state before it.
fn run(
    catalog: &Catalog,
    steps: &[Step],
    mut check: impl FnMut(&Selections, &Request, &Answer) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut states = vec![Selections::default()];
    for step in steps {
        let request = step.request(&states);
        let current = states[states.len() - 1].clone();
        let answer = plan(catalog, &current, &request);
        check(&current, &request, &answer)?;
        if let Ok(plan) = answer {
            states.push(plan.next);
        }
    }
    Ok(())
}

/// What `plan` answers.
type Answer = Result<Plan, Refusal>;

fn many_cases() -> ProptestConfig {
    ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(many_cases())]

    /// Same arguments, same answer, also from a catalog that was filled in another order.
    #[test]
    fn a_plan_is_determined(catalog in catalog(), steps in steps()) {
        let mut other = Catalog::new(catalog.host().clone());
        let all: Vec<_> = catalog.packages().flat_map(|(_, all)| all).collect();
        for release in all.into_iter().rev() {
            other.insert(release.clone()).unwrap();
        }
        run(&catalog, &steps, |current, request, answer| {
            prop_assert_eq!(&plan(&other, current, request), answer);
            Ok(())
        })?;
    }

    #[test]
    fn every_need_is_met(catalog in catalog(), steps in steps()) {
        run(&catalog, &steps, |current, request, answer| {
            if let Ok(plan) = answer {
                let before = match request {
                    Request::Select { .. } => current,
                    _ => &Selections::default(),
                };
                let unmet = unmet(&catalog, before, &plan.next);
                prop_assert_eq!(unmet, None, "{:?}\n{:?}\n{:?}", shown(current), request, plan);
            }
            Ok(())
        })?;
    }

    /// What is said to change is what differs, and what came along or went has a reason.
    #[test]
    fn changes_are_what_differs(catalog in catalog(), steps in steps()) {
        run(&catalog, &steps, |current, _, answer| {
            let Ok(plan) = answer else { return Ok(()) };
            let id = |s: &Selections, name: &PackageName| {
                s.packages.get(name).map(|selection| selection.release.clone())
            };
            let mut names: Vec<_> =
                current.packages.keys().chain(plan.next.packages.keys()).cloned().collect();
            names.sort();
            names.dedup();
            names.retain(|name| id(current, name) != id(&plan.next, name));
            let changed: Vec<_> = plan.changes.iter().map(|c| c.package.clone()).collect();
            prop_assert_eq!(&changed, &names);
            for change in &plan.changes {
                prop_assert_eq!(&change.from, &id(current, &change.package));
                prop_assert_eq!(&change.to, &id(&plan.next, &change.package));
            }
            Ok(())
        })?;
    }

    /// Everything that is selected under one name is recorded, and by somebody who has it.
    #[test]
    fn contests_are_recorded(catalog in catalog(), steps in steps()) {
        run(&catalog, &steps, |_, _, answer| {
            let Ok(plan) = answer else { return Ok(()) };
            let mut commands = alloc::collections::BTreeMap::<_, Vec<_>>::new();
            let mut sonames = alloc::collections::BTreeMap::<_, Vec<_>>::new();
            for (name, selection) in &plan.next.packages {
                let provides = &release(&catalog, selection).provides;
                for command in &provides.commands {
                    commands.entry(command).or_default().push(name);
                }
                for soname in provides.sonames.keys() {
                    sonames.entry(soname).or_default().push(name);
                }
            }
            commands.retain(|_, names| names.len() > 1);
            sonames.retain(|_, names| names.len() > 1);
            let providers = &plan.next.providers;
            prop_assert!(providers.commands.keys().eq(commands.keys().copied()));
            prop_assert!(providers.sonames.keys().eq(sonames.keys().copied()));
            for (command, winner) in &providers.commands {
                prop_assert!(commands[command].contains(&winner));
            }
            for (soname, winner) in &providers.sonames {
                prop_assert!(sonames[soname].contains(&winner));
            }
            Ok(())
        })?;
    }

    #[test]
    fn restore_brings_everything_back(catalog in catalog(), steps in steps()) {
        run(&catalog, &steps, |current, _, answer| {
            let Ok(there) = answer else { return Ok(()) };
            let back = Request::Restore { selections: Box::new(current.clone()) };
            let back = plan(&catalog, &there.next, &back).unwrap();
            prop_assert_eq!(&back.next, current);
            prop_assert_eq!(back.changes.len(), there.changes.len());
            Ok(())
        })?;
    }

    #[test]
    fn apply_twice_is_apply_once(catalog in catalog(), steps in steps()) {
        run(&catalog, &steps, |_, request, answer| {
            let (Request::Apply { .. }, Ok(once)) = (request, answer) else { return Ok(()) };
            let twice = plan(&catalog, &once.next, request);
            prop_assert_eq!(twice.as_ref().map(|twice| &twice.next), Ok(&once.next));
            prop_assert!(twice.is_ok_and(|twice| twice.changes.is_empty()));
            Ok(())
        })?;
    }

    /// Whatever `select` changes and was not named: put back alone, some need would be broken.
    #[test]
    fn select_changes_nothing_without_need(catalog in catalog(), steps in steps()) {
        run(&catalog, &steps, |current, request, answer| {
            let (Request::Select { specs, .. }, Ok(plan)) = (request, answer) else {
                return Ok(());
            };
            for change in &plan.changes {
                if specs.iter().any(|spec| spec.name == change.package) {
                    continue;
                }
                let came_along = |s: &Selection| matches!(s.why, Why::NeededBy(_));
                let may_go = current.packages.get(&change.package).is_some_and(came_along);
                prop_assert!(change.to.is_some() || may_go, "{change:?} went");
                let mut without = plan.next.clone();
                match current.packages.get(&change.package) {
                    Some(old) => without.packages.insert(change.package.clone(), old.clone()),
                    None => without.packages.remove(&change.package),
                };
                let broken = unmet(&catalog, current, &without).is_some();
                prop_assert!(broken, "{change:?}\n{:?}\n{plan:?}", shown(current));
            }
            for (name, selection) in &current.packages {
                if plan.changes.iter().all(|c| c.package != *name)
                    && specs.iter().all(|spec| spec.name != *name)
                {
                    prop_assert_eq!(plan.next.packages.get(name), Some(selection));
                }
            }
            Ok(())
        })?;
    }

    /// Who is said to need what came along does need it.
    #[test]
    fn what_comes_along_is_needed(catalog in catalog(), steps in steps()) {
        run(&catalog, &steps, |current, request, answer| {
            let Ok(plan) = answer else { return Ok(()) };
            for note in &plan.notes {
                let Note::Brought { release: id, needed_by } = note else { continue };
                let provides = &catalog.get(id).unwrap().provides;
                let who = release(&catalog, &plan.next.packages[needed_by]);
                let needs = |need: &Need| match need {
                    Need::Package(name, range) => *name == id.name && range.contains(&id.version),
                    Need::Soname(soname) => provides.sonames.contains_key(soname),
                };
                let (before, names) = (shown(current), "is not needed");
                prop_assert!(who.needs.iter().any(needs), "{note} {names} {before:?} {request:?}");
            }
            Ok(())
        })?;
    }

    /// What only came along stays only as long as something asked for leads to it.
    #[test]
    fn unselect_keeps_what_is_asked_for(catalog in catalog(), steps in steps()) {
        run(&catalog, &steps, |current, request, answer| {
            let (Request::Unselect { packages }, Ok(plan)) = (request, answer) else {
                return Ok(());
            };
            for (name, selection) in &current.packages {
                let asked = matches!(selection.why, Why::Asked(_));
                if asked && !packages.contains(name) {
                    prop_assert_eq!(plan.next.packages.get(name), Some(selection));
                }
            }
            for (name, selection) in &plan.next.packages {
                prop_assert!(current.packages.contains_key(name) && !packages.contains(name));
                if let Why::NeededBy(who) = &selection.why {
                    prop_assert!(plan.next.packages.contains_key(who), "{name} for {who}");
                }
            }
            Ok(())
        })?;
    }
}
