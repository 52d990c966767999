//! Generations: written under no name, synced, and then linked to their number.
//!
//! ```text
//! {"record":"generation","version":1}
//! {"number":18,"parent":17,"at":1700000000,"cause":{...},"arch":"amd64",...,"selections":2}
//! ["lib/openssl@3.2.1","<64 digits>",{"asked":"@3.2"}]
//! ["lib/zlib@1.3","<64 digits>"]                             one line each, by package name
//! {"blake3":"..."}
//! ```
//!
//! There is no head file that could point elsewhere: the highest number is the newest.

use std::path::Path;

use resolver::generation::Cause;
use resolver::{Arch, Generation, GenerationNumber, Providers, Selections, SharedMap, Timestamp};
use serde::{Deserialize, Serialize};

use super::record::{self, RecordReader, RecordWriter};
use super::{Store, Writer, located, path, read_file, selection};
use crate::{Disk, StoreError};

/// Bytes of one selection's line, about: a first guess of the size of a record.
const LINE_LEN: usize = 128;

#[derive(Serialize)]
struct HeadToWrite<'a> {
    number: GenerationNumber,
    parent: Option<GenerationNumber>,
    at: Timestamp,
    cause: &'a Cause,
    providers: &'a Providers,
    arch: &'a Arch,
    selections: usize,
}

#[derive(Deserialize)]
struct Head {
    number: GenerationNumber,
    parent: Option<GenerationNumber>,
    at: Timestamp,
    cause: Cause,
    providers: Providers,
    arch: Arch,
    selections: u64,
}

pub(crate) fn encode(generation: &Generation) -> Result<Vec<u8>, StoreError> {
    let Generation { number, parent, at, cause, system } = generation;
    let usual = usual_arch(system);
    let capacity = system.packages.len() * LINE_LEN;
    let mut writer = RecordWriter::new(record::GENERATION, capacity);
    writer.line(&HeadToWrite {
        number: *number,
        parent: *parent,
        at: *at,
        cause,
        providers: &system.providers,
        arch: &usual,
        selections: system.packages.len(),
    });
    for selection in system.packages.values() {
        writer.line_with(|out| selection::write(out, selection, &usual));
    }
    writer.seal()
}

/// What most lines need not say: the machine's, and `all` where nothing is built for a machine.
fn usual_arch(system: &Selections) -> Arch {
    let mut archs = system.packages.values().map(|selection| &selection.release.arch);
    archs.find(|arch| !arch.is_all()).cloned().unwrap_or_else(Arch::all)
}

pub(crate) fn decode(
    number: GenerationNumber,
    path: &Path,
    bytes: &[u8],
) -> Result<Generation, StoreError> {
    let mut reader = RecordReader::open(record::GENERATION, path, bytes)?;
    let head: Head = reader.line()?;
    if head.number != number {
        let reason = format!("it holds generation {}", head.number);
        return Err(record::damaged(path, &reason));
    }
    if head.parent.is_some_and(|parent| parent >= number) {
        return Err(record::damaged(path, "its parent is not older than itself"));
    }
    let mut packages = SharedMap::new();
    for _ in 0..head.selections {
        let selection = reader.line::<selection::Line>()?.read(&head.arch);
        let selection = selection.map_err(|reason| record::damaged(path, &reason))?;
        let name = selection.release.name.clone();
        let in_order = packages.last_key_value().is_none_or(|(last, _)| *last < name);
        if !in_order {
            return Err(record::damaged(path, &format!("{name} is not in its place")));
        }
        packages.insert(name, selection);
    }
    reader.finish()?;
    let system = Selections { packages, providers: head.providers };
    let Head { parent, at, cause, .. } = head;
    Ok(Generation { number, parent, at, cause, system })
}

impl<D: Disk> Store<D> {
    /// The numbers of all generations, ascending. What has such a name and is no file counts too:
    /// reading it is an error, and leaving it out would be a silent step back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn generations(&self) -> Result<Vec<GenerationNumber>, StoreError> {
        let dir = Path::new(path::GENERATIONS);
        let listed = self.disk.list(dir).map_err(|error| self.io("listing", dir, error))?;
        let mut numbers: Vec<_> = listed
            .iter()
            .filter_map(|listed| path::generation_number(listed.name.to_str()?))
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// One generation, verified.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoGeneration`], [`StoreError::Damaged`], [`StoreError::NewerFormat`],
    /// [`StoreError::Io`].
    pub fn generation(&self, number: GenerationNumber) -> Result<Generation, StoreError> {
        let path = path::generation(number);
        let bytes = read_file(&self.disk, &path, record::GENERATION.len_max)?
            .ok_or(StoreError::NoGeneration { number })?;
        decode(number, &path, &bytes).map_err(|error| located(&self.disk, &path, error))
    }

    /// The generation of the highest number, or `None` in a store without any. A damaged highest
    /// one is an error and never a silent step back.
    ///
    /// # Errors
    ///
    /// As [`Store::generation`].
    pub fn newest(&self) -> Result<Option<Generation>, StoreError> {
        self.generations()?.last().map(|number| self.generation(*number)).transpose()
    }

    /// Removes generations, oldest first; durable when it returns. One that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]; then some may be gone, and those may be there again after a power cut.
    pub fn remove_generations(
        &self,
        _writer: &Writer,
        numbers: &[GenerationNumber],
    ) -> Result<(), StoreError> {
        for number in numbers {
            let path = path::generation(*number);
            self.disk.remove(&path).map_err(|error| self.io("removing", &path, error))?;
        }
        self.sync_dir(Path::new(path::GENERATIONS))
    }

    /// Writes a generation under no name, synced.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`], [`StoreError::Limit`].
    pub fn write_generation<'a>(
        &'a self,
        _writer: &'a Writer,
        generation: &Generation,
    ) -> Result<Unpublished<'a, D>, StoreError> {
        let path = path::generation(generation.number);
        let temp = self.write_temp(&path, &encode(generation)?)?;
        self.disk.sync_temp(&temp).map_err(|error| self.io("syncing", &path, error))?;
        Ok(Unpublished { store: self, temp, number: generation.number })
    }
}

/// A generation that is durable and that nobody sees yet.
#[must_use = "a generation that is not published never existed"]
#[derive(Debug)]
pub struct Unpublished<'a, D: Disk> {
    store: &'a Store<D>,
    temp: D::Temp,
    number: GenerationNumber,
}

impl<D: Disk> Unpublished<'_, D> {
    /// Gives it its number and syncs the directory: from here on it is the newest generation.
    ///
    /// # Errors
    ///
    /// [`StoreError::Lost`] when the number is taken; [`StoreError::Io`].
    pub fn publish(self) -> Result<(), StoreError> {
        let path = path::generation(self.number);
        if !self.store.link(&self.temp, &path)? {
            return Err(StoreError::Lost { number: self.number });
        }
        self.store.sync_dir(Path::new(path::GENERATIONS)).inspect_err(|_| {
            // The caller hears that it failed, so it must not be found there. If this fails too,
            // the disk is beyond help, and the generation is at least whole.
            drop(self.store.disk.remove(&path));
        })
    }
}
