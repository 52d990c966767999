//! One run of one command: its options, the store it works on and where it reports to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use resolver::{PackageName, Spec};
use store_fs::{Disk, OsDisk, Prefix, SimDisk, Store, StoreError};

use crate::client;
use crate::control;
use crate::engine::State;
use crate::error::{CommandError, Kind};
use crate::host::{self, Stopwatch};
use crate::protocol::{Done, Edit, Switched};
use crate::report::Report;

/// One run of one command.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The command's name, which is that of its JSON schema.
    pub(crate) command: &'static str,
    /// The store's directory, absolute; it need not exist.
    pub(crate) store: PathBuf,
    /// Change nothing.
    pub(crate) dry_run: bool,
    /// Ask no question: the answer is yes.
    pub(crate) yes: bool,
    /// Where to report to.
    pub(crate) report: Report,
}

/// What became of an edit, and how long it took from sending to answer.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) done: Done,
    pub(crate) time: Duration,
}

impl Invocation {
    /// Opens the store.
    ///
    /// # Errors
    ///
    /// That of the store.
    pub(crate) fn open(&self) -> Result<Arc<Store<OsDisk>>, CommandError> {
        Ok(Arc::new(Store::open(OsDisk::open(&self.store)?)?))
    }

    /// Opens the store where there is one.
    ///
    /// # Errors
    ///
    /// That of the store; refused when it has another prefix than the one asked for.
    pub(crate) fn find(
        &self,
        prefix: Option<&Path>,
    ) -> Result<Option<Arc<Store<OsDisk>>>, CommandError> {
        let store = match OsDisk::open(&self.store).and_then(Store::open) {
            Err(StoreError::Absent { .. }) => return Ok(None),
            store => store?,
        };
        let present = store.format().prefix.as_path();
        if let Some(wanted) = prefix.filter(|wanted| *wanted != present) {
            let message = format!(
                "the store {} has the prefix {}, not {}",
                self.store.display(),
                present.display(),
                wanted.display()
            );
            return Err(CommandError::new(Kind::Refused, message)
                .hint("a prefix is fixed when a store is made: give another --store DIR"));
        }
        Ok(Some(Arc::new(store)))
    }

    /// Opens the store, or makes one with `prefix` or the default one where there is none.
    ///
    /// # Errors
    ///
    /// That of the store; refused when it is there with another prefix than the one asked for.
    pub(crate) fn open_or_create(
        &mut self,
        prefix: Option<&Path>,
    ) -> Result<Arc<Store<OsDisk>>, CommandError> {
        if let Some(store) = self.find(prefix)? {
            return Ok(store);
        }
        let prefix = new_prefix(prefix)?;
        let store = Store::create(OsDisk::create(&self.store)?, &prefix)?;
        // The store's path may have led through symlinks that did not exist before.
        self.store = absolute(&self.store)?;
        Ok(Arc::new(store))
    }

    /// An empty store in memory, for a dry run where there is none: it stands for the one that
    /// would be made.
    ///
    /// # Errors
    ///
    /// As [`Invocation::open_or_create`].
    pub(crate) fn imagine(&self, prefix: Option<&Path>) -> Result<Store<SimDisk>, CommandError> {
        let prefix = new_prefix(prefix)?;
        match OsDisk::open(&self.store) {
            Err(StoreError::Absent { .. }) => {}
            disk => drop(Store::is_vacant(&disk?)?),
        }
        Ok(Store::create(SimDisk::default(), &prefix)?)
    }

    /// Reads the state of the store.
    ///
    /// # Errors
    ///
    /// That of the store.
    pub(crate) fn state<D: Disk>(&self, store: &Store<D>) -> Result<State, CommandError> {
        Ok(State::load(store, &host::arch())?)
    }

    /// Carries out an edit of the selections or, in a dry run, says what it would do.
    ///
    /// # Errors
    ///
    /// The engine's and the daemon's.
    pub(crate) fn submit(
        &self,
        store: &Arc<Store<OsDisk>>,
        edit: &Edit,
    ) -> Result<Carried, CommandError> {
        let watch = Stopwatch::start();
        let done = if self.dry_run {
            let mut done = self.rehearse(store, edit)?;
            match (self.may_edit(), &mut done) {
                (Ok(()), _) => {}
                // What would be selected may be asked by everybody.
                (Err(error), Done::Switched(switched)) => {
                    switched.notes.push(format!("it would be refused: {}", error.message));
                }
                (Err(error), _) => return Err(error),
            }
            done
        } else {
            client::submit(store, edit)?
        };
        Ok(Carried { done, time: watch.elapsed() })
    }

    /// Whether this user may change the store: through its daemon, or else by itself.
    fn may_edit(&self) -> Result<(), CommandError> {
        if control::connect(&self.store).is_ok_and(|stream| stream.is_none()) {
            return host::writable(&self.store);
        }
        let owner = control::owner_of(&self.store);
        let owner = owner.map_err(|error| CommandError::io("asking", &self.store, &error))?;
        match control::may_change(host::uid(), owner) || owner == 0 && host::is_in(control::GROUP) {
            true => Ok(()),
            false => Err(control::denied_edit()),
        }
    }

    /// What an edit would do. Needs no daemon and no lock, since it only reads.
    ///
    /// # Errors
    ///
    /// The engine's.
    pub(crate) fn rehearse<D: Disk>(
        &self,
        store: &Store<D>,
        edit: &Edit,
    ) -> Result<Done, CommandError> {
        let mut state = self.state(store)?;
        match edit {
            Edit::Publish { release } => {
                let new = state.check_publishable(store, release)?;
                Ok(Done::Published { release: release.id.clone(), new, unshown: None })
            }
            Edit::Remove { releases } => {
                state.check_unused(store, releases)?;
                Ok(Done::Removed { releases: releases.clone(), unshown: None })
            }
            // What it would move is what it was given.
            Edit::Repair { aside, .. } => Ok(Done::Repaired {
                aside: aside.iter().map(|file| file.path().to_owned()).collect(),
                renewed: None,
                unshown: None,
            }),
            Edit::Forget { .. } | Edit::EmptyTrash { .. } | Edit::Trash { .. } => {
                unreachable!("collecting is rehearsed by its own command")
            }
            selecting => {
                let (plan, action) = state.decide(store, selecting)?;
                let before = state.current.number;
                let step = u64::from(state.worth_a_generation(&plan, &action));
                Ok(Done::Switched(Switched {
                    before,
                    after: resolver::GenerationNumber(before.0 + step),
                    changes: plan.changes.iter().map(Into::into).collect(),
                    notes: state.notes(&plan, selecting),
                    unshown: None,
                }))
            }
        }
    }

    /// Names what is damaged after the rest was shown.
    ///
    /// # Errors
    ///
    /// [`Kind::Integrity`] when anything is.
    pub(crate) fn complain(&mut self, state: &State) -> Result<(), CommandError> {
        let Err(newest) = state.whole() else { return named(&state.damaged) };
        if let Err(error) = named(&state.damaged) {
            self.report.error(&error);
        }
        Err(newest.into())
    }
}

/// The prefix of a new store: as asked for, or the default one.
fn new_prefix(wanted: Option<&Path>) -> Result<Prefix, CommandError> {
    let prefix = match wanted {
        Some(prefix) => prefix.to_owned(),
        None => host::default_prefix()?,
    };
    Prefix::new(&prefix).map_err(|error| {
        let reason = match error {
            StoreError::Damaged { reason, .. } => reason,
            other => other.to_string(),
        };
        CommandError::usage(format!("{}: {reason}", prefix.display()))
            .hint("a prefix is an absolute path without colon and white space, like /dyn")
    })
}

/// Names damaged files of the store.
///
/// # Errors
///
/// [`Kind::Integrity`] when there are any.
pub(crate) fn named(damaged: &[StoreError]) -> Result<(), CommandError> {
    let Some(first) = damaged.first() else { return Ok(()) };
    let mut error = CommandError::new(Kind::Integrity, first.to_string());
    error.causes.extend(damaged[1..].iter().map(ToString::to_string));
    Err(error.hint("dynfs fsck names everything that is wrong"))
}

/// The path without symlinks when it exists, else made absolute text-wise.
///
/// # Errors
///
/// Usage for an empty path.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    std::path::absolute(path).map_err(|error| {
        CommandError::usage(format!("{:?} is not a path", path.display().to_string()))
            .because(&error)
            .hint("give a directory")
    })
}

/// Parses specs, each package once.
///
/// # Errors
///
/// Usage, with a hint.
pub(crate) fn specs(texts: &[String]) -> Result<Vec<Spec>, CommandError> {
    texts.iter().map(|text| Ok(text.parse::<Spec>()?)).collect()
}

/// Parses package names.
///
/// # Errors
///
/// Usage, with a hint.
pub(crate) fn packages(texts: &[String]) -> Result<Vec<PackageName>, CommandError> {
    texts.iter().map(|text| Ok(PackageName::new(text)?)).collect()
}
