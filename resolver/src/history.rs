//! Where `undo` and `redo` lead, computed from the causes of the generations.
//!
//! `undo` has the meaning of Ctrl-Z: twice goes back twice; `redo` comes forward again; any other
//! change forgets what could have been redone. Generation 0, the empty state, can be undone to.
//!
//! When the first generations of the line are gone, the oldest one left is where `undo` ends.
//! Never reads a state: numbers and causes are enough.

use alloc::vec::Vec;

use crate::{Action, GenerationNumber};

/// The generation whose state `undo` brings back; `None` when there is nothing before.
/// `line` holds every generation in ascending order with what made it.
#[must_use]
pub fn undo_target(line: &[(GenerationNumber, &Action)]) -> Option<GenerationNumber> {
    Replay::of(line).past.pop()
}

/// The generation whose state `redo` brings back; `None` when nothing was undone.
#[must_use]
pub fn redo_target(line: &[(GenerationNumber, &Action)]) -> Option<GenerationNumber> {
    Replay::of(line).future.pop()
}

/// The two stacks of Ctrl-Z, as the causes leave them.
#[derive(Default)]
struct Replay {
    past: Vec<GenerationNumber>,
    present: GenerationNumber,
    future: Vec<GenerationNumber>,
}

impl Replay {
    fn of(line: &[(GenerationNumber, &Action)]) -> Self {
        let mut replay = Self::default();
        let mut rest = line;
        if let Some(((number, _), others)) = line.split_first()
            && number.0 > 1
        {
            // What its cause refers to is gone: it is simply the oldest state.
            replay.present = *number;
            rest = others;
        }
        for (number, action) in rest {
            replay.step(line, *number, action);
        }
        replay
    }

    fn step(
        &mut self,
        line: &[(GenerationNumber, &Action)],
        number: GenerationNumber,
        action: &Action,
    ) {
        match action {
            Action::Undo { to } => {
                let popped = self.past.pop();
                self.future.push(self.present);
                self.present = still_there(line, *to).or(popped).unwrap_or(number);
            }
            Action::Redo { to } => {
                let popped = self.future.pop();
                self.past.push(self.present);
                self.present = still_there(line, *to).or(popped).unwrap_or(number);
            }
            Action::Select { .. }
            | Action::Unselect { .. }
            | Action::Apply
            | Action::Restore { .. } => {
                self.past.push(self.present);
                self.future.clear();
                self.present = number;
            }
        }
    }
}

/// `to`, when its state can be had: it is in the line, or it is the empty state.
fn still_there(
    line: &[(GenerationNumber, &Action)],
    to: GenerationNumber,
) -> Option<GenerationNumber> {
    let found = line.binary_search_by_key(&to, |(number, _)| *number).is_ok();
    (found || to.0 == 0).then_some(to)
}

#[cfg(test)]
mod tests;
