//! What a store says now: the catalog, the newest generation and the line of generations.
//!
//! Reading commands use it directly; the engine keeps one and changes it as it writes. It decides
//! what an edit would do and never writes anything.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use resolver::history::{redo_target, undo_target};
use resolver::{
    Action, Arch, Catalog, Cause, Generation, GenerationNumber, Note, Plan, Refusal, ReleaseId,
    Request, Selections, Timestamp, plan,
};
use store_fs::{Disk, Store, StoreError, Writer};

use super::{EngineError, Numbers};
use crate::protocol::Edit;

/// The state of a store as read from its files.
#[derive(Debug)]
pub struct State {
    /// Every release.
    pub catalog: Arc<Catalog>,
    /// Release records that are damaged, and so not in the catalog.
    pub damaged: Vec<StoreError>,
    /// The newest generation; number 0 and empty before the first. Empty also when it is damaged.
    pub current: Generation,
    /// The newest generation cannot be read: `current` has its number, and nothing else is known.
    pub newest_damaged: Option<NewestDamaged>,
    /// The numbers of all generations.
    pub generations: Numbers,
    /// What made each generation, as far as it was needed.
    actions: BTreeMap<GenerationNumber, Action>,
}

/// The newest generation cannot be read. Nothing goes on from an older one by itself: that would be
/// a silent step back. `restore` of one that is named does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the newest generation, {}, is damaged: {reason}", path.display())]
pub struct NewestDamaged {
    /// Its number.
    pub number: GenerationNumber,
    /// Its file.
    pub path: PathBuf,
    /// In what way.
    pub reason: String,
    /// The newest one that can be read; 0 when there is none.
    pub readable: GenerationNumber,
}

/// Generations and what made them, and the damage that ends the line.
type Line<'a> = (Vec<(GenerationNumber, &'a Action)>, Option<EngineError>);

/// A generation of which nothing is known but its number; with 0, the empty state before the first.
fn blank(number: GenerationNumber) -> Generation {
    Generation {
        number,
        parent: None,
        at: Timestamp(0),
        cause: Cause { action: Action::Apply, uid: 0, request: None },
        system: Selections::default(),
    }
}

/// Fails when the tree of a release that would come cannot be read: what is there must not give
/// way to an error. Its files are not read.
fn check_objects<D: Disk>(store: &Store<D>, plan: &Plan) -> Result<(), StoreError> {
    for change in &plan.changes {
        if change.to.is_some()
            && let Some(selection) = plan.next.packages.get(&change.package)
        {
            store.object(&selection.object)?;
        }
    }
    Ok(())
}

impl State {
    /// Reads it. Damage to the newest generation is not an error here: much can be said and done
    /// without it, and everything that cannot asks [`State::whole`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]; [`StoreError::NewerFormat`].
    pub fn load<D: Disk>(store: &Store<D>, host: &Arch) -> Result<Self, StoreError> {
        Self::beside(store, store.catalog(host.clone())?)
    }

    /// The same for the writer, who brings the index up to date.
    ///
    /// # Errors
    ///
    /// As [`State::load`].
    pub(super) fn load_to_write<D: Disk>(
        store: &Store<D>,
        writer: &Writer,
        host: &Arch,
    ) -> Result<Self, StoreError> {
        Self::beside(store, store.catalog_and_index(writer, host.clone())?)
    }

    /// Reads the rest.
    fn beside<D: Disk>(
        store: &Store<D>,
        (mut catalog, damaged): (Catalog, Vec<StoreError>),
    ) -> Result<Self, StoreError> {
        let (current, newest_damaged) = match store.newest() {
            Ok(newest) => (newest.unwrap_or_else(|| blank(GenerationNumber(0))), None),
            Err(StoreError::Damaged { path, reason }) => {
                let numbers = store.generations()?;
                let number = numbers.last().copied().unwrap_or_default();
                let mut older = numbers.into_iter().rev().skip(1);
                let readable = older.find(|number| store.generation(*number).is_ok());
                let readable = readable.unwrap_or_default();
                (blank(number), Some(NewestDamaged { number, path, reason, readable }))
            }
            Err(error) => return Err(error),
        };
        // A record that was lost is as unreadable as one that is damaged.
        for selection in current.system.packages.values() {
            if catalog.get(&selection.release).is_none() {
                catalog.insert_unreadable(selection.release.clone());
            }
        }
        // Listed after the newest was read: a concurrent writer may have gone on meanwhile.
        let mut generations: BTreeSet<_> = store.generations()?.into_iter().collect();
        generations.retain(|number| *number <= current.number);
        Ok(Self {
            catalog: Arc::new(catalog),
            damaged,
            current,
            newest_damaged,
            generations: Arc::new(generations),
            actions: BTreeMap::new(),
        })
    }

    /// Fails when the newest generation is damaged.
    ///
    /// # Errors
    ///
    /// [`NewestDamaged`].
    pub fn whole(&self) -> Result<(), NewestDamaged> {
        self.newest_damaged.clone().map_or(Ok(()), Err)
    }

    /// The damage to the record of a release that [`Catalog::is_unreadable`].
    #[must_use]
    pub fn damage_to<D: Disk>(&self, store: &Store<D>, id: &ReleaseId) -> StoreError {
        let wanted = store.record_path(id).unwrap_or_default();
        let found = self.damaged.iter().find_map(|error| match error {
            StoreError::Damaged { path, reason } if *path == wanted => {
                Some(StoreError::Damaged { path: path.clone(), reason: reason.clone() })
            }
            StoreError::NewerFormat { path, found, known } if *path == wanted => {
                let (path, found, known) = (path.clone(), *found, *known);
                Some(StoreError::NewerFormat { path, found, known })
            }
            _ => None,
        });
        let reason = "it is missing, or cannot be read".into();
        found.unwrap_or(StoreError::Damaged { path: wanted, reason })
    }

    /// What the user should be told of a plan. Whoever applies a file knows that most of it is
    /// selected already.
    #[must_use]
    pub fn notes(&self, plan: &Plan, edit: &Edit) -> Vec<String> {
        let applied = matches!(edit, Edit::Apply { .. });
        let told = |note: &&Note| !(applied && matches!(note, Note::Already { .. }));
        let unknown = self.newest_damaged.iter().map(|damaged| {
            format!("generation {} is damaged: what it had selected is not known", damaged.number)
        });
        let came = |note: &Note| matches!(note, Note::Brought { .. } | Note::Chosen { .. });
        let unread = plan.notes.iter().any(came).then_some(&self.damaged).into_iter().flatten();
        let unread =
            unread.map(|error| format!("not considered, since it cannot be read: {error}"));
        let notes = plan.notes.iter().filter(told).map(ToString::to_string);
        notes.chain(unread).chain(unknown).collect()
    }

    /// The selections of a generation; those of generation 0 are empty.
    ///
    /// # Errors
    ///
    /// [`EngineError::Newest`], [`EngineError::NoGeneration`]; [`StoreError::Damaged`],
    /// [`StoreError::Io`].
    pub fn selections<D: Disk>(
        &self,
        store: &Store<D>,
        number: GenerationNumber,
    ) -> Result<Cow<'_, Selections>, EngineError> {
        if number == self.current.number {
            self.whole()?;
            return Ok(Cow::Borrowed(&self.current.system));
        }
        if number.0 == 0 {
            return Ok(Cow::Owned(Selections::default()));
        }
        if !self.generations.contains(&number) {
            let below = self.generations.range(..number).next_back().copied();
            let above = self.generations.range(number..).next().copied();
            let nearest = [Some(below.unwrap_or_default()), above].into_iter().flatten().collect();
            return Err(EngineError::NoGeneration { number, nearest });
        }
        Ok(Cow::Owned(store.generation(number)?.system))
    }

    /// What an edit of the selections would do.
    ///
    /// # Errors
    ///
    /// [`EngineError`].
    ///
    /// # Panics
    ///
    /// When the edit is not one of the selections: those are not planned.
    pub fn decide<D: Disk>(
        &mut self,
        store: &Store<D>,
        edit: &Edit,
    ) -> Result<(Plan, Action), EngineError> {
        if !matches!(edit, Edit::Restore { .. }) {
            self.whole()?;
        }
        let (request, action) = match edit {
            Edit::Select { specs, providers } => (
                Request::Select { specs: specs.clone(), providers: providers.clone() },
                Action::Select { specs: specs.clone() },
            ),
            Edit::Unselect { packages } => (
                Request::Unselect { packages: packages.clone() },
                Action::Unselect { packages: packages.clone() },
            ),
            Edit::Apply { specs, providers } => (
                Request::Apply { specs: specs.clone(), providers: providers.clone() },
                Action::Apply,
            ),
            Edit::Undo => {
                let (line, damage) = self.line(store)?;
                let to = undo_target(&line).ok_or(damage.unwrap_or(EngineError::NothingToUndo))?;
                (self.back_to(store, to)?, Action::Undo { to })
            }
            Edit::Redo => {
                let (line, damage) = self.line(store)?;
                let to = redo_target(&line).ok_or(damage.unwrap_or(EngineError::NothingToRedo))?;
                (self.back_to(store, to)?, Action::Redo { to })
            }
            Edit::Restore { to } => (self.back_to(store, *to)?, Action::Restore { to: *to }),
            Edit::Publish { .. }
            | Edit::Remove { .. }
            | Edit::Repair { .. }
            | Edit::Forget { .. }
            | Edit::EmptyTrash { .. }
            | Edit::Trash { .. } => unreachable!("only edits of the selections are planned"),
        };
        let plan = plan(&self.catalog, &self.current.system, &request);
        let plan = plan.map_err(|refusal| match refusal {
            Refusal::Unreadable { release } => self.damage_to(store, &release).into(),
            refusal => EngineError::from(refusal),
        })?;
        check_objects(store, &plan)?;
        Ok((plan, action))
    }

    fn back_to<D: Disk>(
        &self,
        store: &Store<D>,
        to: GenerationNumber,
    ) -> Result<Request, EngineError> {
        let selections = self.selections(store, to)?.into_owned();
        Ok(Request::Restore { selections: Box::new(selections) })
    }

    /// The generations with what made each, ascending, back to the first one, to behind a gap that
    /// garbage collection left, or to behind a damaged one, which comes second. Each file is read
    /// at most once.
    fn line<D: Disk>(&mut self, store: &Store<D>) -> Result<Line<'_>, StoreError> {
        let mut damage = None;
        let mut first = self.current.number;
        for number in self.generations.iter().rev() {
            // What stays below a gap stays for those who use it, and is no step of the line.
            if number.0 + 1 < first.0 {
                break;
            }
            first = *number;
            if self.actions.contains_key(number) {
                continue;
            }
            let action = match *number == self.current.number {
                true => self.current.cause.action.clone(),
                false => match store.generation(*number) {
                    Ok(generation) => generation.cause.action,
                    Err(error @ StoreError::Damaged { .. }) => {
                        damage = Some(EngineError::Store(error));
                        break;
                    }
                    Err(error) => return Err(error),
                },
            };
            self.actions.insert(*number, action);
        }
        let line = self.actions.range(first..);
        Ok((line.map(|(number, action)| (*number, action)).collect(), damage))
    }

    /// Whether a plan is to be recorded. Undo and redo always are: they are steps in the line even
    /// when two neighbouring states are equal. So is whatever follows a damaged generation.
    #[must_use]
    pub fn worth_a_generation(&self, plan: &Plan, action: &Action) -> bool {
        plan.next != self.current.system
            || self.newest_damaged.is_some()
            || matches!(action, Action::Undo { .. } | Action::Redo { .. })
    }

    /// Takes generations out.
    pub(super) fn forget(&mut self, numbers: &[GenerationNumber]) {
        let generations = Arc::make_mut(&mut self.generations);
        for number in numbers {
            generations.remove(number);
            self.actions.remove(number);
        }
    }

    /// Takes the next generation.
    pub(super) fn append(&mut self, next: Generation) {
        Arc::make_mut(&mut self.generations).insert(next.number);
        self.current = next;
        self.newest_damaged = None;
    }
}
