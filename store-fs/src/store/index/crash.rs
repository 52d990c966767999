//! What a power cut could leave of the index if its database were written in place, which it never
//! is: it is made in memory, written under no name, synced and renamed. So this is a second line,
//! tried all the same: whatever is found is what was committed, or is refused and made anew.
//!
//! ```text
//! synced           there
//! written since    each sector of 512 bytes there or not, in any order
//! made longer      or not, as far as nothing was written there
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;
use resolver::{ObjectId, Origin, Provides, Release, ReleaseId};

use super::{CACHE_LEN, Image, Index, Row, TABLE, Value, sealed, span};
use crate::disk::Stamp;

/// What a drive writes as a whole.
const SECTOR: usize = 512;
/// Rows of the index; enough for a tree of several pages.
const ROWS: u64 = 60;
/// Commits after the first.
const COMMITS: u64 = 3;

/// An index by what its records say.
type Rows = BTreeMap<PathBuf, (Stamp, Release)>;

/// Everything that a power cut may leave while an index is written in place, again and again.
#[derive(Debug)]
pub struct IndexCuts {
    cuts: Vec<Cut>,
    /// What each commit made of it.
    commits: Vec<Rows>,
}

/// One moment.
#[derive(Clone, Debug)]
struct Cut {
    durable: Arc<Vec<u8>>,
    waiting: Vec<Change>,
    /// Commits that were answered by then.
    commits: usize,
}

#[derive(Clone, Debug)]
enum Change {
    Len(usize),
    Write(usize, Arc<Vec<u8>>),
}

/// A database file of which is known what was synced.
#[derive(Clone, Debug, Default)]
struct Drive {
    now: Image,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    durable: Arc<Vec<u8>>,
    waiting: Vec<Change>,
    commits: usize,
    cuts: Vec<Cut>,
}

impl Drive {
    fn change(&self, change: Option<Change>) {
        let mut log = self.log.lock();
        let cut = Cut {
            durable: Arc::clone(&log.durable),
            waiting: log.waiting.clone(),
            commits: log.commits,
        };
        log.cuts.push(cut);
        match change {
            Some(change) => log.waiting.push(change),
            None => {
                log.waiting.clear();
                log.durable = Arc::new(self.now.0.lock().clone());
            }
        }
    }
}

impl StorageBackend for Drive {
    fn len(&self) -> io::Result<u64> {
        self.now.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.now.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Some(Change::Len(span(len, 0)?.start)));
        self.now.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(None);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = span(offset, data.len())?.start;
        self.change(Some(Change::Write(at, Arc::new(data.to_vec()))));
        self.now.write(offset, data)
    }
}

impl IndexCuts {
    /// Writes an index, and changes it a few times: rows come, change and go.
    ///
    /// # Panics
    ///
    /// When a database in memory cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let drive = Drive::default();
        let mut commits = vec![Rows::new()];
        let database = redb::Database::builder()
            .set_cache_size(CACHE_LEN)
            .create_with_backend(drive.clone())
            .expect("memory takes it");
        for commit in 0..=COMMITS {
            let rows = rows(commit);
            let transaction = database.begin_write().expect("memory takes it");
            {
                let mut table = transaction.open_table(TABLE).expect("memory takes it");
                table.retain(|path, _| rows.contains_key(&PathBuf::from(path))).expect("memory");
                for (path, (stamp, release)) in &rows {
                    let value = postcard::to_allocvec(&Value::from_release(*stamp, release));
                    let path = path.to_str().expect("ASCII");
                    table.insert(path, value.expect("plain values").as_slice()).expect("memory");
                }
            }
            transaction.commit().expect("memory takes it");
            drive.log.lock().commits += 1;
            commits.push(rows);
        }
        drop(database);
        let cuts = std::mem::take(&mut drive.log.lock().cuts);
        Self { cuts, commits }
    }

    /// Looks at one state; `choose` picks the moment, and then what is found of each sector. The
    /// bytes that were looked at, hashed, and whether they were an index.
    ///
    /// # Errors
    ///
    /// In words, when they are taken for an index that was never committed at that moment.
    pub fn check(
        &self,
        choose: &mut dyn FnMut(usize) -> usize,
    ) -> Result<(blake3::Hash, bool), String> {
        let cut = &self.cuts[choose(self.cuts.len())];
        let bytes = cut.image(choose);
        let mark = blake3::hash(&bytes);
        if Index::decode(bytes.clone()).is_ok() {
            return Err("bytes without a seal are taken for an index".into());
        }
        // Not even when everything else is as it must be.
        let Ok(index) = Index::decode(sealed(bytes)) else { return Ok((mark, false)) };
        let of = |(path, row): (&PathBuf, &Row)| {
            (path.clone(), (row.stamp, Release::clone(&row.release)))
        };
        let found: Rows = index.rows.iter().map(of).collect();
        let may_be = self.commits.iter().skip(cut.commits).take(2);
        match may_be.into_iter().any(|rows| *rows == found) {
            true => Ok((mark, true)),
            false => {
                let (rows, commits) = (found.len(), cut.commits);
                Err(format!("{rows} rows after {commits} commits are those of no commit"))
            }
        }
    }
}

impl Default for IndexCuts {
    fn default() -> Self {
        Self::new()
    }
}

impl Cut {
    /// The file as it may be found.
    fn image(&self, choose: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
        // All but one of a kind, or each on its own.
        let (way, one) = (choose(4), choose(self.waiting.len().max(1)));
        let mut keeps = |number: usize| match way {
            0 => number != one,
            1 => number == one,
            2 => number < one,
            _ => choose(2) == 0,
        };
        let mut kept = Vec::new();
        for (number, change) in self.waiting.iter().enumerate() {
            match change {
                Change::Len(_) if keeps(number) => kept.push(change.clone()),
                Change::Len(_) => {}
                Change::Write(at, bytes) => {
                    let whole = way < 3 && keeps(number);
                    // The one that is lost or kept alone, or the last one, is torn.
                    let torn = way == 3 || number == one;
                    for (sector, part) in bytes.chunks(SECTOR).enumerate() {
                        if (whole && !torn) || (torn && keeps(number)) {
                            kept.push(Change::Write(at + sector * SECTOR, Arc::new(part.to_vec())));
                        }
                    }
                }
            }
        }
        if way == 3 {
            for last in (1..kept.len()).rev() {
                kept.swap(last, choose_one(choose, last + 1));
            }
        }
        let mut image = Vec::clone(&self.durable);
        for change in kept {
            change.apply(&mut image);
        }
        image
    }
}

fn choose_one(choose: &mut dyn FnMut(usize) -> usize, of: usize) -> usize {
    choose(of).min(of - 1)
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Len(len) => image.resize(*len, 0),
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*at..end].copy_from_slice(bytes);
            }
        }
    }
}

/// The rows that a commit makes: some are new, some changed, some gone.
fn rows(commit: u64) -> Rows {
    let is_there = |number: &u64| !(number + commit).is_multiple_of(7);
    (0..ROWS + commit).filter(is_there).map(|number| row(number, commit)).collect()
}

fn row(number: u64, commit: u64) -> (PathBuf, (Stamp, Release)) {
    let version = format!("{number}.{}", if number.is_multiple_of(3) { commit } else { 0 });
    let id = ReleaseId {
        name: format!("package{}", number / 4).parse().expect("a name"),
        version: version.parse().expect("a version"),
        arch: "amd64".parse().expect("a name"),
        variants: Default::default(),
    };
    let path = super::path::release(&id).expect("a short name");
    let release = Release {
        id,
        category: "lib".parse().expect("a name"),
        object: ObjectId::from_bytes(*blake3::hash(version.as_bytes()).as_bytes()),
        needs: vec!["zlib>=1.2,<2".parse().expect("a need"); 10],
        provides: Provides::default(),
        build_ids: vec!["00ff".to_owned(); usize::try_from(number % 9).expect("small")],
        origin: Origin { kind: "directory".to_owned(), name: "/src".to_owned() },
    };
    let stamp = Stamp { inode: number, len: commit, changed_secs: 1, changed_nanos: 2 };
    (path, (stamp, release))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dice that never run out.
    fn dice(mut seed: u64) -> impl FnMut(usize) -> usize {
        move |sides| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            usize::try_from(seed >> 33).expect("31 bits") % sides
        }
    }

    #[test]
    fn whatever_a_power_cut_leaves_is_what_was_committed_or_refused() {
        let cuts = IndexCuts::new();
        let mut outcomes = [0; 2];
        for seed in 0..500 {
            let (_, is_index) = cuts.check(&mut dice(seed)).unwrap_or_else(|error| {
                panic!("seed {seed}: {error}");
            });
            outcomes[usize::from(is_index)] += 1;
        }
        assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
        assert!(cuts.cuts.len() > 20, "{}", cuts.cuts.len());
    }
}
