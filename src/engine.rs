//! The single writer: plan, make durable, show, answer.
//!
//! ```text
//! selections:  plan -> write_generation -> publish -> show -> answer
//! catalog:     promise names -> publish or remove the record -> show -> answer
//! repair:      promise names -> move bad files aside -> show what that changes -> answer
//! garbage:     promise names -> remove generations and records -> show -> answer;
//!              then, when nobody has been seen to use what they named, trash and deletion
//! ```
//!
//! The same engine runs in the daemon and, under the store's lock file, inside a command. It never
//! reads a clock or the environment: who asks and when are arguments.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use resolver::catalog::CatalogError;
use resolver::{
    Action, Arch, Cause, Generation, GenerationNumber, Refusal, Release, ReleaseId, RequestId,
    Selections, Timestamp, View,
};
use store_fs::sync::{ArcSwap, Mutex};
use store_fs::{Disk, Shown, Store, StoreError, Writer};

use crate::protocol::{Done, Edit, Switched, swaps};

mod garbage;
mod records;
mod repair;
pub mod state;

pub use garbage::{Forgettable, Keep};
pub use state::{NewestDamaged, State};

/// Digits of a [`RequestId`].
const REQUEST_ID_LEN: usize = 32;
/// The index is written anew when it lacks more than this share of the releases: whoever reads it
/// reads the rest from the records.
const UNINDEXED_SHARE: usize = 8;
/// How many generations back it is looked for the one that a request has made.
const OUTCOME_DEPTH_MAX: usize = 64;

/// Makes a change visible. Two implementations: the mounted file system, and nothing at all for a
/// command that runs without a daemon.
pub trait Show: Send + Sync + 'static {
    /// Names that are about to change outside of a generation, noted so that they will be
    /// announced even if this process dies first.
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn promise(&self, names: &[String]) -> io::Result<()>;

    /// Shows `next`, and returns when the kernel has been told of it and of every promised name.
    ///
    /// # Errors
    ///
    /// The kernel's; the change is visible to the file system all the same.
    fn show(&self, next: Shown) -> io::Result<()>;
}

/// Nobody looks: the store is not mounted.
#[derive(Clone, Copy, Debug)]
pub struct Unmounted;

impl Show for Unmounted {
    fn promise(&self, _names: &[String]) -> io::Result<()> {
        Ok(())
    }

    fn show(&self, _next: Shown) -> io::Result<()> {
        Ok(())
    }
}

/// Why an edit was not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was asked for cannot be done without the newest generation.
    #[error(transparent)]
    Newest(#[from] NewestDamaged),
    /// There is no such generation.
    #[error("there is no generation {number}")]
    NoGeneration {
        /// The number.
        number: GenerationNumber,
        /// The nearest ones below and above it; generation 0, the empty state, is always there.
        nearest: Vec<GenerationNumber>,
    },
    /// The plan's.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The catalog's.
    #[error(transparent)]
    Catalog(Box<CatalogError>),
    /// There is no earlier state.
    #[error("there is nothing to undo")]
    NothingToUndo,
    /// Nothing was undone.
    #[error("there is nothing to redo")]
    NothingToRedo,
    /// The release to be removed is not in the catalog.
    #[error("{release} is not in the store")]
    NotThere {
        /// The release.
        release: Box<ReleaseId>,
    },
    /// A release's record is damaged, and nothing says what it held. Exit code 7.
    #[error("what {release} held is not known, since its record is damaged")]
    Unproven {
        /// The release.
        release: Box<ReleaseId>,
        /// The damage.
        source: StoreError,
    },
    /// Kept generations select the release to be removed.
    #[error("{release} is selected by generation {}", numbers(generations))]
    InUse {
        /// The release.
        release: Box<ReleaseId>,
        /// Those generations, ascending.
        generations: Vec<GenerationNumber>,
    },
    /// Records cannot be read, so what is garbage cannot be known.
    #[error("what is garbage cannot be known: {first}")]
    Unknown {
        /// One of them.
        first: Box<StoreError>,
    },
    /// A client sent a request id of another shape.
    #[error("a request id must have {REQUEST_ID_LEN} lower-case hexadecimal digits")]
    BadRequestId,
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<CatalogError> for EngineError {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(Box::new(error))
    }
}

/// Numbers as people write them, runs joined: `1-4, 7`.
fn numbers(generations: &[GenerationNumber]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for GenerationNumber(number) in generations {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Who asks, under what name, and when.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user id.
    pub uid: u32,
    /// The caller's name for the call.
    pub request: Option<RequestId>,
    /// Sent before, on a connection that broke.
    pub again: bool,
    /// When.
    pub at: Timestamp,
}

/// The single writer of a store.
pub struct Engine<D: Disk> {
    store: Arc<Store<D>>,
    show: Box<dyn Show>,
    host: Arch,
    /// What is, or would be, shown; changed only by whoever holds `inner`.
    shown: ArcSwap<Shown>,
    inner: Mutex<Inner>,
}

/// What one edit at a time works on.
struct Inner {
    writer: Writer,
    state: State,
    view: Arc<View>,
    /// A publish failed half-way: what is on disk must be read again before the next edit.
    stale: bool,
    /// What is shown could not be told to whoever looks.
    untold: bool,
    /// Changes of the catalog that the index does not have.
    unindexed: usize,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.stale {
            self.writer.abandon();
        }
    }
}

impl<D: Disk> fmt::Debug for Engine<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("generation", &self.shown.load().generation).finish()
    }
}

impl<D: Disk> Engine<D> {
    /// Reads the catalog and the newest generation. Shows nothing.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`]; [`EngineError::Newest`], since nothing else may be shown instead.
    pub fn open(
        store: Arc<Store<D>>,
        writer: Writer,
        show: Box<dyn Show>,
        host: Arch,
    ) -> Result<Self, EngineError> {
        let state = State::load_to_write(&store, &writer, &host)?;
        state.whole()?;
        Ok(Self::over(state, store, writer, show, host))
    }

    /// The same where nobody looks, so that a damaged newest generation stops only the edits that
    /// need it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`].
    pub fn open_unmounted(
        store: Arc<Store<D>>,
        writer: Writer,
        host: Arch,
    ) -> Result<Self, EngineError> {
        Self::open_over_damage(store, writer, Box::new(Unmounted), host)
    }

    /// The same for a daemon that withholds what is selected: whatever is shown next is whole.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`].
    pub fn open_over_damage(
        store: Arc<Store<D>>,
        writer: Writer,
        show: Box<dyn Show>,
        host: Arch,
    ) -> Result<Self, EngineError> {
        let state = State::load_to_write(&store, &writer, &host)?;
        Ok(Self::over(state, store, writer, show, host))
    }

    fn over(
        state: State,
        store: Arc<Store<D>>,
        writer: Writer,
        show: Box<dyn Show>,
        host: Arch,
    ) -> Self {
        let view = Arc::new(View::compile(&state.current.system, &state.catalog));
        let shown = ArcSwap::from_pointee(present(&state, &view));
        let inner =
            Mutex::new(Inner { writer, state, view, stale: false, untold: false, unindexed: 0 });
        Self { store, show, host, shown, inner }
    }

    /// What is, or would be, shown now. Cheap; never waits for an edit.
    pub fn shown(&self) -> Shown {
        Shown::clone(&self.shown.load())
    }

    /// Carries out a change: durable and visible when it returns.
    ///
    /// # Errors
    ///
    /// [`EngineError`]; then nothing was changed.
    pub fn edit(&self, edit: &Edit, by: &Caller) -> Result<Done, EngineError> {
        if let Some(request) = &by.request {
            check(request)?;
        }
        let mut inner = self.inner.lock();
        self.refresh(&mut inner)?;
        if by.again
            && let Some(request) = &by.request
            && let Some(done) = self.find(&inner.state, request)?
        {
            return Ok(done);
        }
        let done = match edit {
            Edit::Publish { release } => self.publish(&mut inner, release, by.at)?,
            Edit::Remove { releases } => self.remove(&mut inner, releases, by.again)?,
            Edit::Repair { aside, newest, index } => {
                let repair = repair::Repair { aside, newest: *newest, index: *index, at: by.at };
                return self.repair(&mut inner, &repair);
            }
            Edit::Forget { keep, since, used } => {
                self.forget(&mut inner, &Keep { count: *keep, since: *since }, used)?
            }
            // They change nothing that is shown, or indexed.
            Edit::EmptyTrash { used } => return self.empty_trash(&mut inner, used),
            Edit::Trash { used } => return self.trash(&mut inner, used),
            selecting => return self.switch(&mut inner, selecting, by),
        };
        self.renew_index(&mut inner);
        Ok(done)
    }

    /// What became of an earlier edit of the selections; `None` when it was not carried out.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`]; [`EngineError::BadRequestId`].
    pub fn outcome(&self, request: &RequestId) -> Result<Option<Done>, EngineError> {
        check(request)?;
        let mut inner = self.inner.lock();
        self.refresh(&mut inner)?;
        self.find(&inner.state, request)
    }

    /// Looks for a request in the causes of the newest generations.
    fn find(&self, state: &State, request: &RequestId) -> Result<Option<Done>, EngineError> {
        let generation = match state.current.cause.request.as_ref() == Some(request) {
            true => state.current.clone(),
            false => match made_by(&self.store, state.generations.iter().copied(), request)? {
                Some(generation) => generation,
                None => return Ok(None),
            },
        };
        let before = generation.parent.unwrap_or_default();
        let system = match state.selections(&self.store, before) {
            // Collected as garbage since: what changed is not known any more.
            Err(EngineError::NoGeneration { .. }) => Cow::Borrowed(&generation.system),
            system => system?,
        };
        Ok(Some(Done::Switched(Switched {
            before,
            after: generation.number,
            changes: swaps(&system, &generation.system),
            notes: Vec::new(),
            unshown: None,
        })))
    }

    /// Reads the store again when an earlier edit left doubt about what is on disk.
    fn refresh(&self, inner: &mut Inner) -> Result<(), EngineError> {
        if !inner.stale {
            return Ok(());
        }
        // What is seen now may be built on, so it must not be lost.
        self.store.settle(&inner.writer)?;
        let state = State::load_to_write(&self.store, &inner.writer, &self.host)?;
        state.whole()?;
        inner.state = state;
        inner.view = Arc::new(View::compile(&inner.state.current.system, &inner.state.catalog));
        inner.stale = false;
        if let Some(reason) = self.tell(inner) {
            tracing::warn!(reason, "what is on disk could not be shown");
        }
        Ok(())
    }

    /// Appends a generation.
    fn switch(&self, inner: &mut Inner, edit: &Edit, by: &Caller) -> Result<Done, EngineError> {
        let (plan, action) = inner.state.decide(&self.store, edit)?;
        let before = inner.state.current.number;
        let mut switched = Switched {
            before,
            after: before,
            changes: plan.changes.iter().map(Into::into).collect(),
            notes: inner.state.notes(&plan, edit),
            unshown: None,
        };
        if !inner.state.worth_a_generation(&plan, &action) {
            if inner.untold {
                switched.unshown = self.tell(inner);
            }
            return Ok(Done::Switched(switched));
        }
        let view = Arc::new(inner.view.advance(&plan, &inner.state.catalog));
        let next = self.record(inner, plan.next, action, by)?;
        switched.after = next.number;
        inner.view = view;
        inner.state.append(next);
        switched.unshown = self.tell(inner);
        Ok(Done::Switched(switched))
    }

    /// Makes the next generation durable and the newest.
    fn record(
        &self,
        inner: &mut Inner,
        system: Selections,
        action: Action,
        by: &Caller,
    ) -> Result<Generation, EngineError> {
        let parent = inner.state.current.number;
        let next = Generation {
            number: GenerationNumber(parent.0 + 1),
            parent: (parent.0 > 0).then_some(parent),
            at: by.at,
            cause: Cause { action, uid: by.uid, request: by.request.clone() },
            system,
        };
        inner.stale = true;
        self.store.write_generation(&inner.writer, &next)?.publish()?;
        inner.stale = false;
        Ok(next)
    }

    /// Shows the state; a reason when the kernel could not be told.
    fn tell(&self, inner: &mut Inner) -> Option<String> {
        let next = present(&inner.state, &inner.view);
        self.shown.store(Arc::new(next.clone()));
        let told = self.show.show(next);
        inner.untold = told.is_err();
        told.err().map(|error| error.to_string())
    }
}

/// What is to be shown of a state.
fn present(state: &State, view: &Arc<View>) -> Shown {
    Shown {
        generation: state.current.number,
        view: Arc::clone(view),
        catalog: Arc::clone(&state.catalog),
        generations: Arc::clone(&state.generations),
    }
}

/// The generation that a request has made, if it is among the newest of these.
///
/// # Errors
///
/// Those of the store, but for a generation that is damaged or has been collected meanwhile.
pub(crate) fn made_by<D: Disk>(
    store: &Store<D>,
    generations: impl DoubleEndedIterator<Item = GenerationNumber>,
    request: &RequestId,
) -> Result<Option<Generation>, StoreError> {
    for number in generations.rev().take(OUTCOME_DEPTH_MAX) {
        match store.generation(number) {
            Ok(generation) if generation.cause.request.as_ref() == Some(request) => {
                return Ok(Some(generation));
            }
            Ok(_) | Err(StoreError::NoGeneration { .. }) => {}
            // Damage to an old generation must not stop new ones.
            Err(StoreError::Damaged { path, .. }) => {
                tracing::warn!(path = %path.display(), "a damaged generation is left out");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A request id comes from outside and goes into a record: it must be 32 digits.
fn check(request: &RequestId) -> Result<(), EngineError> {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match request.0.len() == REQUEST_ID_LEN && request.0.bytes().all(digit) {
        true => Ok(()),
        false => Err(EngineError::BadRequestId),
    }
}

/// Names below the mount that a release record makes or takes away.
fn names_of(release: &Release) -> Vec<String> {
    vec![
        release.category.to_string(),
        format!("{}/{}", release.category, release.id.mount_name()),
        format!(".objects/{}", release.object),
    ]
}

/// The generations, shared with what is shown.
type Numbers = Arc<BTreeSet<GenerationNumber>>;

#[cfg(test)]
mod tests;
