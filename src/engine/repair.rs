//! Repairs that take a name from a file: the single writer's, so that no two processes ever move
//! different files from one name. Bringing good content needs no writer, as adding does not.
//!
//! Content and records that nobody selects by are moved without a word to the kernel: what was bad
//! was an error, and errors are not cached. A generation that goes is told like any other change.

use std::sync::Arc;

use resolver::{GenerationNumber, Timestamp, View};
use store_fs::{BadFile, Disk};

use super::{Engine, EngineError, Inner, State};
use crate::protocol::Done;

/// What is asked for.
pub(super) struct Repair<'a> {
    pub(super) aside: &'a [BadFile],
    pub(super) newest: bool,
    pub(super) index: bool,
    pub(super) at: Timestamp,
}

impl<D: Disk> Engine<D> {
    /// Moves bad files aside and writes the index anew.
    pub(super) fn repair(
        &self,
        inner: &mut Inner,
        repair: &Repair<'_>,
    ) -> Result<Done, EngineError> {
        let newest = self.store.generations()?.last().copied();
        let is_known =
            inner.state.newest_damaged.is_none() && newest == Some(inner.state.current.number);
        // A record that cannot be read keeps its place until a good one takes it: without it, the
        // release would be forgotten.
        let may_go = |file: &&BadFile| match (file.generation(), file.release()) {
            (Some(number), _) => Some(number) != newest || (repair.newest && !is_known),
            (None, release) => release.is_none(),
        };
        let files: Vec<BadFile> = repair.aside.iter().filter(may_go).cloned().collect();
        let generations: Vec<_> = files.iter().filter_map(BadFile::generation).collect();
        if !generations.is_empty() {
            let name = |number: &GenerationNumber| format!(".generations/{number}");
            self.promise(&generations.iter().map(name).collect::<Vec<_>>())?;
        }
        let mut renewed = None;
        if is_known && repair.aside.iter().any(|file| file.generation() == newest) {
            let is_new =
                self.store.renew_generation(&inner.writer, &inner.state.current, repair.at)?;
            renewed = newest.filter(|_| is_new);
        }
        let aside = self.store.set_aside(&inner.writer, &files, repair.at)?;
        if repair.index {
            self.store.renew_index(&inner.writer, self.host.clone())?;
        }
        let mut unshown = None;
        if repair.index || !generations.is_empty() {
            unshown = self.look_again(inner)?;
        }
        Ok(Done::Repaired { aside, renewed, unshown })
    }

    /// Reads the state anew, and shows it. What is selected may be unknown as before.
    fn look_again(&self, inner: &mut Inner) -> Result<Option<String>, EngineError> {
        inner.stale = true;
        inner.state = State::load_to_write(&self.store, &inner.writer, &self.host)?;
        inner.view = Arc::new(View::compile(&inner.state.current.system, &inner.state.catalog));
        inner.stale = false;
        match inner.state.whole() {
            Ok(()) => Ok(self.tell(inner)),
            Err(_) => Ok(None),
        }
    }
}
