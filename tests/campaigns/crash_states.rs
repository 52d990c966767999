//! Every state in which a store may be found after a power cut, for every durable operation.
//!
//! ```text
//! scene    an operation on a store, also one that a killed process has left half-way
//! cut      the power goes at one operation of the disk
//! state    of each piece that is not durable: which of its states is found
//! ```
//!
//! All states of a cut are looked at where there are few; else all in which one piece is lost or
//! one is kept, and some at random. A state that an earlier cut of the scene left too is counted
//! once, and once more after the operation was answered, when it must be the new one. The list is
//! the same in every run; the short form takes what was answered and is nearly all lost, and every
//! so many of the rest.

use std::collections::HashSet;

use store_fs::fuzz::IndexCuts;

use crate::harness::turn::{Campaign, Dice, Turn};

#[path = "crash_states/scene.rs"]
mod scene;
#[path = "crash_states/scenes.rs"]
mod scenes;

use scene::{Cut, Scene};

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "crash-states",
    what: "power cuts: the old or the new state, and fsck is silent",
    unit: "distinct states",
    per_case: 1,
    short: 5_000,
    long: 100_000,
    run,
};

/// States of one cut of which all are looked at.
const ALL_OF: usize = 4_000;
/// States of one cut that are taken at random where there are more.
const AT_RANDOM: usize = 400;
/// So many states share one that is cut a second time.
const SECOND_CUT_SHARE: u64 = 8;
/// Steps of recovery in which the second cut comes.
const RECOVERY_STEPS: u64 = 150;
/// From one state of the list to the next: a prime, so that all have their turn.
const STRIDE: usize = 7_368_787;

/// One state: of which scene and cut, and what is found of each piece.
struct State {
    scene: usize,
    cut: usize,
    choices: Vec<usize>,
}

/// What is left of a piece, by a list of choices; what it does not say is durable.
fn by(choices: &[usize]) -> impl FnMut(usize) -> usize {
    let mut choices = choices.iter();
    move |_| choices.next().copied().unwrap_or(0)
}

/// The states of a cut that are looked at, and whether these are all.
fn states(cut: &Cut, dice: &mut Dice) -> (Vec<Vec<usize>>, bool) {
    if let Some(all) = cut.left.states(ALL_OF) {
        return (all, true);
    }
    let mut chosen = Vec::new();
    let mut take = |choose: &mut dyn FnMut(usize, usize) -> usize| -> usize {
        let mut choices = Vec::new();
        cut.left.mark(&mut |states| {
            let choice = choose(choices.len(), states);
            choices.push(choice);
            choice
        });
        let pieces = choices.len();
        chosen.push(choices);
        pieces
    };
    take(&mut |_, _| 0);
    let pieces = take(&mut |_, states| states - 1);
    for one in 0..pieces {
        take(&mut |piece, states| if piece == one { 0 } else { states - 1 });
        take(&mut |piece, states| if piece == one { states - 1 } else { 0 });
    }
    for _ in 0..AT_RANDOM {
        take(&mut |_, states| dice.index(states));
    }
    (chosen, false)
}

/// The list of all states, each once.
fn list(scenes: &[Scene]) -> (Vec<Vec<Cut>>, Vec<State>) {
    let mut cuts = Vec::new();
    let (mut whole, mut in_part) = (0, 0);
    let mut list = Vec::new();
    let mut dice = Dice::new(1);
    for (scene, its) in scenes.iter().enumerate() {
        let its = its.cuts(false);
        let mut known = HashSet::new();
        for (number, cut) in its.iter().enumerate() {
            let (some, are_all) = states(cut, &mut dice);
            *(if are_all { &mut whole } else { &mut in_part }) += 1;
            for choices in some {
                // What is right before the operation was answered may be a loss after it.
                if known.insert((cut.is_done, cut.left.mark(&mut by(&choices)))) {
                    list.push(State { scene, cut: number, choices });
                }
            }
        }
        cuts.push(its);
    }
    println!("crash-states: all states of {whole} cuts, some of {in_part} more");
    (cuts, list)
}

/// In which order the list is gone through, so that each part of it has all kinds: first what was
/// answered and of which nearly all is lost that may be, few states that must be the new one.
fn order(cuts: &[Vec<Cut>], list: &[State]) -> Vec<usize> {
    let kept = |state: &State| state.choices.iter().filter(|choice| **choice > 0).count();
    let is_first = |at: &usize| {
        let state = &list[*at];
        cuts[state.scene][state.cut].is_done && kept(state) <= 1
    };
    let all = (0..list.len()).map(|number| number.wrapping_mul(STRIDE) % list.len());
    let (mut first, rest): (Vec<_>, Vec<_>) = all.partition(is_first);
    println!("crash-states: {} of them answered, and nearly all lost", first.len());
    first.extend(rest);
    first
}

fn run(turn: &mut Turn<'_>) {
    let scenes = scenes::all();
    let (cuts, list) = list(&scenes);
    sees_what_is_missing(&scenes[1]);
    let len = list.len();
    println!("crash-states: {} scenes, {} states", scenes.len(), len);
    let order = order(&cuts, &list);
    while let Some(mut case) = turn.next() {
        let number = usize::try_from(case.number).expect("below a usize");
        let Some(at) = order.get(number) else {
            return turn.violation(&format!("there are no more than {len} states"));
        };
        let state = &list[*at];
        let (scene, cut) = (&scenes[state.scene], &cuts[state.scene][state.cut]);
        let what = |error: String| {
            format!("{}, cut at {}, {:?}: {error}", scene.name, cut.step, state.choices)
        };
        if let Err(error) = scene.check(cut, &cut.left.image(&mut by(&state.choices))) {
            return turn.violation(&what(error));
        }
        if case.number % SECOND_CUT_SHARE == 0 {
            let step = 1 + case.dice.roll(RECOVERY_STEPS);
            let image = cut.left.image(&mut by(&state.choices));
            let again = scene.check_twice(&image, step, &mut |states| case.dice.index(states));
            if let Err(error) = again {
                return turn.violation(&what(format!("cut again at {step}: {error}")));
            }
            turn.count("cut a second time in recovery", 1);
        }
    }
}

/// The index, written in place by its database.
pub(crate) const INDEX: Campaign = Campaign {
    name: "index-states",
    what: "power cuts below the database of the index: what was committed, or refused",
    unit: "states",
    per_case: 1,
    short: 1_000,
    long: 20_000,
    run: run_index,
};

fn run_index(turn: &mut Turn<'_>) {
    let cuts = IndexCuts::new();
    let mut known = HashSet::new();
    while let Some(mut case) = turn.next() {
        match cuts.check(&mut |states| case.dice.index(states)) {
            Ok((mark, is_index)) => {
                turn.count("distinct", u64::from(known.insert(mark)));
                turn.count(if is_index { "committed" } else { "refused" }, 1);
            }
            Err(error) => return turn.violation(&error),
        }
    }
}

/// On a drive that lies about syncing, something is found to be wrong: else the looking is blind.
fn sees_what_is_missing(scene: &Scene) {
    let mut dice = Dice::new(2);
    let wrong = scene.cuts(true).iter().any(|cut| {
        let mut states = states(cut, &mut dice).0.into_iter();
        states.any(|choices| scene.check(cut, &cut.left.image(&mut by(&choices))).is_err())
    });
    assert!(wrong, "{}: on a drive that lies nothing was found to be wrong", scene.name);
}
