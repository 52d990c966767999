//! `undo` and `redo` by table, and against an explicit pair of stacks of states.

use proptest::prelude::*;

use super::*;

fn targets(actions: &[(u64, Action)]) -> (Option<u64>, Option<u64>) {
    let line: Vec<_> =
        actions.iter().map(|(number, action)| (GenerationNumber(*number), action)).collect();
    (undo_target(&line).map(|n| n.0), redo_target(&line).map(|n| n.0))
}

fn undo(to: u64) -> Action {
    Action::Undo { to: GenerationNumber(to) }
}

fn redo(to: u64) -> Action {
    Action::Redo { to: GenerationNumber(to) }
}

fn restore(to: u64) -> Action {
    Action::Restore { to: GenerationNumber(to) }
}

#[test]
fn as_ctrl_z() {
    let (a, b) = (Action::Apply, Action::Apply);
    let mut line = alloc::vec![];
    assert_eq!(targets(&line), (None, None));
    for (action, want) in [
        (a, (Some(0), None)),
        (b, (Some(1), None)),
        (undo(1), (Some(0), Some(2))),
        (undo(0), (None, Some(1))),
        (redo(1), (Some(0), Some(2))),
        (redo(2), (Some(1), None)),
        (undo(1), (Some(0), Some(2))),
        (restore(2), (Some(1), None)),
        (undo(1), (Some(0), Some(8))),
    ] {
        line.push((u64::try_from(line.len()).unwrap() + 1, action));
        assert_eq!(targets(&line), want, "after {line:?}");
    }
}

#[test]
fn when_the_first_generations_are_gone() {
    assert_eq!(targets(&[(7, undo(3))]), (None, None));
    assert_eq!(targets(&[(7, undo(3)), (8, Action::Apply)]), (Some(7), None));
    // The state of 2 is that of 8, since 2 itself is gone.
    assert_eq!(targets(&[(7, undo(3)), (8, redo(2))]), (Some(7), None));
    assert_eq!(targets(&[(7, undo(3)), (8, redo(2)), (9, undo(3))]), (None, Some(8)));
    assert_eq!(targets(&[(7, Action::Apply), (8, undo(2))]), (None, Some(7)));
}

/// Two stacks of states, nothing else: what Ctrl-Z is.
#[derive(Default)]
struct Model {
    past: Vec<u32>,
    present: u32,
    future: Vec<u32>,
}

proptest! {
    #[test]
    fn the_states_are_those_of_two_stacks(steps in prop::collection::vec(0_u8..4, 0..40)) {
        let mut model = Model::default();
        let mut states = alloc::vec![0_u32];
        let mut line: Vec<(u64, Action)> = Vec::new();
        for (fresh, step) in steps.into_iter().enumerate() {
            let (back, forward) = targets(&line);
            prop_assert_eq!(back.is_some(), !model.past.is_empty());
            prop_assert_eq!(forward.is_some(), !model.future.is_empty());
            let number = u64::try_from(line.len()).unwrap() + 1;
            let action = match (step, back, forward) {
                (0, Some(to), _) => {
                    model.future.push(model.present);
                    model.present = model.past.pop().unwrap();
                    prop_assert_eq!(states[usize::try_from(to).unwrap()], model.present);
                    undo(to)
                }
                (1, _, Some(to)) => {
                    model.past.push(model.present);
                    model.present = model.future.pop().unwrap();
                    prop_assert_eq!(states[usize::try_from(to).unwrap()], model.present);
                    redo(to)
                }
                (0 | 1, _, _) => continue,
                (_, _, _) => {
                    model.past.push(model.present);
                    model.future.clear();
                    model.present = u32::try_from(fresh).unwrap() + 1;
                    if step == 2 { Action::Apply } else { restore(0) }
                }
            };
            line.push((number, action));
            states.push(model.present);
        }
    }

    #[test]
    fn a_line_without_its_beginning_gives_the_same_states(
        steps in prop::collection::vec(0_u8..4, 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut states = alloc::vec![0_u64];
        let mut line: Vec<(u64, Action)> = Vec::new();
        for step in steps {
            let number = u64::try_from(line.len()).unwrap() + 1;
            let (action, state) = match (step, targets(&line)) {
                (0, (Some(to), _)) => (undo(to), states[usize::try_from(to).unwrap()]),
                (1, (_, Some(to))) => (redo(to), states[usize::try_from(to).unwrap()]),
                _ => (Action::Apply, number),
            };
            line.push((number, action));
            states.push(state);
        }
        let rest = &line[cut.index(line.len())..];
        let (back, forward) = targets(rest);
        let (full_back, full_forward) = targets(&line);
        let state = |number: Option<u64>| number.map(|n| states[usize::try_from(n).unwrap()]);
        if let Some(to) = back {
            prop_assert_eq!(state(Some(to)), state(full_back));
        }
        if let Some(to) = forward {
            prop_assert_eq!(state(Some(to)), state(full_forward));
        }
    }
}
