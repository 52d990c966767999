//! Looks at content: objects, and the blobs and outboards that they need.

use resolver::BlobId;

use super::{Check, Expected, Found, reason};
use crate::digest::BlobHasher;
use crate::disk::Caching;
use crate::object::Node;
use crate::store::{io_error, outboard_len, path as paths};
use crate::{Disk, StoreError, Tree};

/// What brings back content that is missing.
pub(super) const AGAIN: &str =
    "dynfs fsck --repair --from STORE|FILE; or dynfs add the release again from its source";
/// What brings back content that is damaged.
const AGAIN_WITHOUT: &str = "dynfs fsck --repair [--from STORE|FILE]; without a copy then dynfs \
                             add the release again from its source";
/// What brings back an outboard.
const COMPUTED: &str = "dynfs fsck --repair computes it from its blob";
/// Bytes that are hashed at once.
const PIECE_LEN: usize = 1024 * 1024;

impl<D: Disk> Check<'_, D> {
    pub(super) fn objects(&mut self, found: &Found) {
        for id in &found.objects {
            self.objects.insert(*id);
            match self.store.load_object(id) {
                Ok(Some(tree)) => self.expect_blobs(&tree),
                // Collected since it was listed.
                Ok(None) => _ = self.objects.remove(id),
                Err(error) => {
                    self.bad(&paths::object(id), &error);
                    self.report.needed.objects.insert(*id);
                    let touched = self.touched([id]);
                    self.find_for("object-damaged", &paths::object(id), reason(error), touched);
                    self.hint(AGAIN_WITHOUT);
                }
            }
            self.report.objects += 1;
            self.step();
        }
    }

    fn expect_blobs(&mut self, tree: &Tree) {
        for entry in 1..=tree.rows() {
            if let Some(Node::File { blob, size, .. }) = tree.row(entry).map(|row| row.node) {
                let expected = self.expected.entry(blob).or_default();
                expected.size = size;
                expected.objects.insert(tree.id());
            }
        }
    }

    /// Looks at every blob that is there, and for every blob that should be.
    pub(super) fn blobs(&mut self, found: &Found) {
        let expected = std::mem::take(&mut self.expected);
        for id in &found.blobs {
            if let Err(error) = self.blob(id, expected.get(id)) {
                self.bad_blob(id, error, expected.get(id));
            }
            self.report.blobs += 1;
            self.step();
        }
        for (id, expected) in &expected {
            let path = paths::blob(id);
            if self.is_missing(&path, &expected.objects) {
                self.report.needed.blobs.insert(*id, expected.size);
                let touched = self.touched(&expected.objects);
                self.find_for("blob-missing", &path, "it is missing", touched);
                self.hint(AGAIN);
            } else if !found.blobs.contains(id)
                && let Err(error) = self.blob(id, Some(expected))
            {
                self.bad_blob(id, error, Some(expected));
            }
        }
        self.expected = expected;
    }

    fn bad_blob(&mut self, id: &BlobId, error: StoreError, expected: Option<&Expected>) {
        self.bad(&paths::blob(id), &error);
        if let Some(expected) = expected {
            self.report.needed.blobs.insert(*id, expected.size);
        }
        let touched = self.users(expected);
        self.find_for("blob-damaged", &paths::blob(id), reason(error), touched);
        self.hint(AGAIN_WITHOUT);
    }

    fn users(&self, expected: Option<&Expected>) -> Vec<String> {
        expected.map(|expected| self.touched(&expected.objects)).unwrap_or_default()
    }

    fn blob(&mut self, id: &BlobId, expected: Option<&Expected>) -> Result<(), StoreError> {
        let path = paths::blob(id);
        let disk = self.store.disk();
        let reading = |error| io_error(disk, "reading", &path, error);
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        // One that is not there any more is looked for again, if anything needs it.
        let Some(file) = disk.open_file(&path).map_err(reading)? else { return Ok(()) };
        let len = disk.len(&file).map_err(reading)?;
        if let Some(expected) = expected
            && len != expected.size
        {
            return Err(damaged(format!("it has {len} bytes instead of {}", expected.size)));
        }
        if !self.options.data {
            return Ok(());
        }
        let mut hasher = BlobHasher::new();
        let mut piece = vec![0; PIECE_LEN];
        let mut at = 0;
        loop {
            let count = disk.read_at(&file, at, &mut piece, Caching::Drop).map_err(reading)?;
            if count == 0 {
                break;
            }
            hasher.update(&piece[..count]);
            at += count as u64;
            self.report.bytes += count as u64;
        }
        if hasher.finish().id == *id {
            Ok(())
        } else {
            Err(damaged("its content is not that of its name".to_owned()))
        }
    }

    /// Looks at every outboard that is there and whose blob's length is known, and for every
    /// outboard that should be.
    pub(super) fn outboards(&mut self, found: &Found) {
        let expected = std::mem::take(&mut self.expected);
        for id in &found.outboards {
            let size = expected.get(id).map(|expected| expected.size);
            let path = paths::outboard(id);
            let bad = size.and_then(|size| self.store.load_outboard(id, size).err());
            if let Some(error) = bad
                && !self.is_gone(&path)
            {
                self.bad(&path, &error);
                self.report.needed.outboards.insert(*id);
                let touched = self.users(expected.get(id));
                self.find_for("outboard-damaged", &path, reason(error), touched);
                self.hint(COMPUTED);
            }
            self.step();
        }
        for (id, expected) in &expected {
            let path = paths::outboard(id);
            if outboard_len(expected.size) > 0 && self.is_missing(&path, &expected.objects) {
                self.report.needed.outboards.insert(*id);
                let touched = self.touched(&expected.objects);
                self.find_for("outboard-missing", &path, "it is missing", touched);
                self.hint(COMPUTED);
            }
        }
        self.expected = expected;
    }
}
