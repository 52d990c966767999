//! The index: what the release records say, in a database, so that a command need not open
//! thousands of small files. It may be deleted at any time; it never decides anything.
//!
//! ```text
//! a redb database      table "releases": path of the record -> its stamp and content (postcard)
//! "dynfsidx"           8 bytes
//! version              4 bytes, little-endian: 1
//! hash                 32 bytes: BLAKE3 of everything above
//! ```
//!
//! The file is read and checked whole before the database looks at it: a database that trusts its
//! pages would answer wrongly, or stop the program, over a flipped bit. It is written whole beside
//! the old one, synced and then renamed, so no process ever waits for another. A row counts only
//! while its record's stamp is the same. Only the writer of the store writes it: whoever reads goes
//! without what it lacks, and is slower for that.

mod crash;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};
use resolver::{
    Arch, Category, CommandName, FileName, Need, ObjectId, Origin, PackageName, Provides, Release,
    ReleaseId, Soname, Variant, Version,
};
use serde::{Deserialize, Serialize};

pub use self::crash::IndexCuts;
use super::{path, read_file};
use crate::Disk;
use crate::disk::Stamp;

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("releases");
const MAGIC: &[u8; 8] = b"dynfsidx";
const VERSION: u32 = 1;
const TRAILER_LEN: usize = MAGIC.len() + 4 + blake3::OUT_LEN;
/// Most bytes of an index.
const INDEX_LEN_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes of the database's own cache; the whole file is in memory anyway.
const CACHE_LEN: usize = 1024 * 1024;

/// Why an index cannot be used: completes the sentence "the index ...".
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("is missing")]
    Missing,
    #[error("is damaged: {0}")]
    Damaged(String),
}

/// What the index knows of one record.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) stamp: Stamp,
    pub(crate) release: Arc<Release>,
}

/// The rows of an index, by the path of the record.
#[derive(Debug, Default)]
pub(crate) struct Index {
    rows: BTreeMap<PathBuf, Row>,
}

impl Index {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn insert(&mut self, path: PathBuf, row: Row) {
        self.rows.insert(path, row);
    }

    /// Takes the release of a record out, if it is known in this very state.
    pub(crate) fn take(&mut self, path: &Path, stamp: &Stamp) -> Option<Release> {
        let row = self.rows.remove(path)?;
        (row.stamp == *stamp).then(|| Arc::unwrap_or_clone(row.release))
    }

    /// Takes out what is known of a record, in whatever state it was then.
    pub(super) fn take_row(&mut self, path: &Path) -> Option<Row> {
        self.rows.remove(path)
    }

    /// Reads the index.
    pub(crate) fn load<D: Disk>(disk: &D) -> Result<Self, IndexError> {
        let bytes = read_file(disk, Path::new(path::INDEX), INDEX_LEN_MAX)
            .map_err(|error| IndexError::Damaged(error.to_string()))?
            .ok_or(IndexError::Missing)?;
        Self::decode(bytes)
    }

    /// The index in these bytes.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, IndexError> {
        Ok(Self { rows: decode(bytes).map_err(IndexError::Damaged)? })
    }

    /// Whether these bytes are the value of a row, which then holds whatever release it is.
    pub(crate) fn understands(value: &[u8]) -> bool {
        let Ok(value) = postcard::from_bytes::<Value>(value) else { return false };
        Self::keeps(&value.into_release().1);
        true
    }

    /// Asserts that a release comes out as it went in.
    pub(crate) fn keeps(release: &Release) {
        let stamp = Stamp { inode: 1, len: u64::MAX, changed_secs: i64::MIN, changed_nanos: 0 };
        let value = postcard::to_allocvec(&Value::from_release(stamp, release));
        let value = value.expect("a vector takes every byte, and every length is known");
        let again = postcard::from_bytes::<Value>(&value).map(Value::into_release);
        assert_eq!(again.expect("what was written can be read"), (stamp, release.clone()));
    }

    /// Replaces the index.
    pub(crate) fn save<D: Disk>(&self, disk: &D) -> Result<(), String> {
        let bytes = encode(&self.rows).map_err(|error| error.to_string())?;
        let save = || {
            let mut temp = disk.temp()?;
            disk.write(&mut temp, &bytes)?;
            // Not for its own sake: after a power cut a torn index would be reported as damage.
            disk.sync_temp(&temp)?;
            disk.replace(&temp, Path::new(path::INDEX))
        };
        save().map_err(|error: io::Error| format!("it cannot be written: {error}"))
    }
}

fn decode(mut bytes: Vec<u8>) -> Result<BTreeMap<PathBuf, Row>, String> {
    let len = bytes.len().checked_sub(TRAILER_LEN).ok_or("it is too short")?;
    let hashed = bytes.len() - blake3::OUT_LEN;
    if blake3::hash(&bytes[..hashed]).as_bytes() != &bytes[hashed..] {
        return Err("its hash is not the one at its end".to_owned());
    }
    let version = bytes[len..hashed].strip_prefix(MAGIC).ok_or("it is no index")?;
    if version != VERSION.to_le_bytes() {
        return Err("it has another version".to_owned());
    }
    bytes.truncate(len);
    let rows = read_rows(Image(Arc::new(Mutex::new(bytes)))).map_err(|error| error.to_string())?;
    let mut releases = BTreeMap::new();
    for (path, value) in rows {
        let path = PathBuf::from(path);
        let (stamp, release) = postcard::from_bytes::<Value>(&value)
            .map(Value::into_release)
            .map_err(|error| error.to_string())?;
        if path::release(&release.id).ok().as_ref() != Some(&path) {
            return Err(format!("it has {} in another place", release.id));
        }
        releases.insert(path, Row { stamp, release: Arc::new(release) });
    }
    Ok(releases)
}

fn read_rows(image: Image) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let database = open(image)?;
    let transaction = database.begin_read()?;
    let table = transaction.open_table(TABLE)?;
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (path, value) = row?;
        rows.push((path.value().to_owned(), value.value().to_owned()));
    }
    Ok(rows)
}

fn encode(rows: &BTreeMap<PathBuf, Row>) -> Result<Vec<u8>, redb::Error> {
    let image = Image::default();
    let database = open(image.clone())?;
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (path, row) in rows {
            let value = postcard::to_allocvec(&Value::from_release(row.stamp, &row.release))
                .expect("a vector takes every byte, and every length is known");
            // Every path was built from checked names.
            let path = path.to_str().expect("the path of a release record is ASCII");
            table.insert(path, value.as_slice())?;
        }
    }
    transaction.commit()?;
    drop(database);
    let bytes = std::mem::take(&mut *image.0.lock());
    Ok(sealed(bytes))
}

/// A database with what makes it an index.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

fn open(image: Image) -> Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(CACHE_LEN).create_with_backend(image)
}

/// A database file in memory.
#[derive(Clone, Debug, Default)]
struct Image(Arc<Mutex<Vec<u8>>>);

fn span(offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
    let outside = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let from = usize::try_from(offset).map_err(|_| outside())?;
    Ok(from..from.checked_add(len).ok_or_else(outside)?)
}

impl StorageBackend for Image {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock();
        let part = bytes.get(span(offset, out.len())?).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.0.lock().resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.lock();
        let part = bytes.get_mut(span(offset, data.len())?).ok_or(io::ErrorKind::UnexpectedEof)?;
        part.copy_from_slice(data);
        Ok(())
    }
}

/// A release as postcard can write it: no flattened and no skipped fields.
#[derive(Serialize, Deserialize)]
struct Value {
    stamp: Stamp,
    name: PackageName,
    version: Version,
    arch: Arch,
    variants: Vec<Variant>,
    category: Category,
    object: ObjectId,
    needs: Vec<Need>,
    commands: Vec<CommandName>,
    sonames: Vec<(Soname, FileName)>,
    build_ids: Vec<String>,
    origin: Origin,
}

impl Value {
    fn from_release(stamp: Stamp, release: &Release) -> Self {
        let Release { id, category, object, needs, provides, build_ids, origin } = release.clone();
        let ReleaseId { name, version, arch, variants } = id;
        Self {
            stamp,
            name,
            version,
            arch,
            variants: variants.into_iter().collect(),
            category,
            object,
            needs,
            commands: provides.commands.into_iter().collect(),
            sonames: provides.sonames.into_iter().collect(),
            build_ids,
            origin,
        }
    }

    fn into_release(self) -> (Stamp, Release) {
        let Self { name, version, arch, category, object, needs, build_ids, origin, .. } = self;
        let variants = self.variants.into_iter().collect();
        let provides = Provides {
            commands: self.commands.into_iter().collect(),
            sonames: self.sonames.into_iter().collect(),
        };
        let id = ReleaseId { name, version, arch, variants };
        let release = Release { id, category, object, needs, provides, build_ids, origin };
        (self.stamp, release)
    }
}
