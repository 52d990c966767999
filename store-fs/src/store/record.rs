//! Records: what people may read and compare with `diff`, and a program can check.
//!
//! ```text
//! {"record":"generation","version":1}      what it is
//! {...}                                    content: JSON, one value on each line
//! {"blake3":"<64 digits>"}                 hash of every byte above this line
//! ```
//!
//! A field that is not known is ignored; a version that is not known is refused. This module knows
//! the frame and not what is in it, and never touches a disk.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::StoreError;

const TRAILER_HEAD: &[u8] = b"{\"blake3\":\"";
const TRAILER_TAIL: &[u8] = b"\"}\n";
/// Bytes of the last line.
const TRAILER_LEN: usize = TRAILER_HEAD.len() + 64 + TRAILER_TAIL.len();

/// The kind of a record and the newest version that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordKind {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    /// Most bytes of one record.
    pub(crate) len_max: u64,
}

pub(crate) const FORMAT: RecordKind = RecordKind { name: "format", version: 1, len_max: 64 * 1024 };
pub(crate) const RELEASE: RecordKind =
    RecordKind { name: "release", version: 1, len_max: 16 * 1024 * 1024 };
pub(crate) const GENERATION: RecordKind =
    RecordKind { name: "generation", version: 1, len_max: 256 * 1024 * 1024 };

/// The head of a release file.
pub(crate) const RELEASE_FILE: RecordKind =
    RecordKind { name: "release-file", version: 1, len_max: 64 * 1024 * 1024 };

/// A record of this kind with these lines behind its first one, whatever they are.
pub(crate) fn framed(kind: RecordKind, lines: &[u8]) -> Vec<u8> {
    seal_any(RecordWriter::new(kind, lines.len()), lines)
}

/// The same, unless they look as if they had a first line of their own, as a whole record without
/// its last one has.
pub(crate) fn sealed(kind: RecordKind, lines: &[u8]) -> Vec<u8> {
    match lines.starts_with(b"{\"record\":") {
        true => seal_any(RecordWriter { kind, bytes: Vec::new() }, lines),
        false => framed(kind, lines),
    }
}

fn seal_any(mut writer: RecordWriter, lines: &[u8]) -> Vec<u8> {
    writer.kind.len_max = u64::MAX;
    writer.bytes.extend_from_slice(lines);
    writer.seal().unwrap_or_default()
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    record: std::borrow::Cow<'a, str>,
    version: u32,
}

/// A record being written.
#[derive(Debug)]
pub(crate) struct RecordWriter {
    kind: RecordKind,
    bytes: Vec<u8>,
}

impl RecordWriter {
    pub(crate) fn new(kind: RecordKind, capacity: usize) -> Self {
        let mut writer = Self { kind, bytes: Vec::with_capacity(capacity + 256) };
        writer.line(&Header { record: kind.name.into(), version: kind.version });
        writer
    }

    /// Appends one line.
    pub(crate) fn line(&mut self, value: &impl Serialize) {
        serde_json::to_writer(&mut self.bytes, value)
            .expect("a vector takes every byte, and no record has a map with keys but texts");
        self.bytes.push(b'\n');
    }

    /// Appends one line that `write` puts together: one JSON value without a line feed.
    pub(crate) fn line_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        debug_assert!(!self.bytes[start..].contains(&b'\n'), "one line");
        self.bytes.push(b'\n');
    }

    /// All bytes of the record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Limit`] when it is longer than a reader would accept.
    pub(crate) fn seal(mut self) -> Result<Vec<u8>, StoreError> {
        let hash = blake3::hash(&self.bytes).to_hex();
        self.bytes.extend_from_slice(TRAILER_HEAD);
        self.bytes.extend_from_slice(hash.as_bytes());
        self.bytes.extend_from_slice(TRAILER_TAIL);
        if self.bytes.len() as u64 > self.kind.len_max {
            return Err(StoreError::Limit {
                what: format!("the length of a {} record", self.kind.name),
                limit: self.kind.len_max,
            });
        }
        Ok(self.bytes)
    }
}

/// The lines of a record that was checked.
#[derive(Debug)]
pub(crate) struct RecordReader<'a> {
    path: &'a Path,
    rest: &'a [u8],
}

impl<'a> RecordReader<'a> {
    /// Checks trailer, kind and version. `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`], [`StoreError::NewerFormat`].
    pub(crate) fn open(
        kind: RecordKind,
        path: &'a Path,
        bytes: &'a [u8],
    ) -> Result<Self, StoreError> {
        let damaged = |reason: &str| damaged(path, reason);
        let body_len = bytes
            .len()
            .checked_sub(TRAILER_LEN)
            .ok_or_else(|| damaged("it is too short to be a record"))?;
        let (body, trailer) = bytes.split_at(body_len);
        let digits = trailer
            .strip_prefix(TRAILER_HEAD)
            .and_then(|rest| rest.strip_suffix(TRAILER_TAIL))
            .ok_or_else(|| damaged("its last line is not a hash: it was cut or changed"))?;
        if digits != blake3::hash(body).to_hex().as_bytes() {
            return Err(damaged("its hash is not the one in its last line"));
        }
        let mut reader = Self { path, rest: body };
        let header: Header<'_> = reader.line()?;
        if header.record != kind.name {
            return Err(damaged(&format!("it is a {} record, not a {}", header.record, kind.name)));
        }
        if header.version > kind.version {
            let (found, known) = (header.version, kind.version);
            return Err(StoreError::NewerFormat { path: path.to_owned(), found, known });
        }
        Ok(reader)
    }

    /// The next line.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`].
    pub(crate) fn line<T: Deserialize<'a>>(&mut self) -> Result<T, StoreError> {
        let end = self
            .rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or_else(|| damaged(self.path, "a line is missing"))?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        serde_json::from_slice(line).map_err(|error| damaged(self.path, &error.to_string()))
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`].
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        if self.rest.is_empty() { Ok(()) } else { Err(damaged(self.path, "it has lines too many")) }
    }
}

pub(crate) fn damaged(path: &Path, reason: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: RecordKind = RecordKind { name: "test", version: 3, len_max: 1000 };

    fn record(kind: RecordKind, lines: &[&str]) -> Vec<u8> {
        let mut writer = RecordWriter::new(kind, 0);
        for line in lines {
            writer.line(line);
        }
        writer.seal().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<String, StoreError> {
        let mut reader = RecordReader::open(KIND, Path::new("here"), bytes)?;
        let line = reader.line()?;
        reader.finish()?;
        Ok(line)
    }

    #[test]
    fn text_and_back() {
        let bytes = record(KIND, &["content"]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.starts_with("{\"record\":\"test\",\"version\":3}\n\"content\"\n{\"blake3\":"));
        assert_eq!(read(&bytes).unwrap(), "content");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = record(KIND, &["content"]);
        for len in 0..bytes.len() {
            assert!(matches!(read(&bytes[..len]), Err(StoreError::Damaged { .. })), "{len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&flipped), Err(StoreError::Damaged { .. })), "{bit}");
        }
    }

    #[test]
    fn a_record_that_is_not_what_is_wanted_is_refused() {
        let newer = record(RecordKind { version: 4, ..KIND }, &["content"]);
        let error = read(&newer).unwrap_err();
        assert!(matches!(error, StoreError::NewerFormat { found: 4, known: 3, .. }));
        for bytes in [
            record(RecordKind { name: "other", ..KIND }, &["content"]),
            record(KIND, &[]),
            record(KIND, &["content", "more"]),
        ] {
            assert!(matches!(read(&bytes), Err(StoreError::Damaged { .. })));
        }
    }

    #[test]
    fn a_record_longer_than_a_reader_accepts_is_not_written() {
        let mut writer = RecordWriter::new(KIND, 0);
        writer.line(&"x".repeat(1000));
        assert!(matches!(writer.seal(), Err(StoreError::Limit { limit: 1000, .. })));
    }
}
