//! Any bytes as lines of the control socket, in both directions.

use std::fmt::Debug;
use std::io::{self, Cursor, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{Answer, Call, LINE_LEN_MAX, READER_LINE_LEN_MAX, Wire, WireError};

/// Most lines of which the good ones are tried without the others.
const LINES_MAX: usize = 16;

/// Lines of the control socket. What was understood can be said again and is understood the same,
/// in whatever pieces it arrives.
pub fn protocol(bytes: &[u8]) -> bool {
    let calls = lines::<Call>(bytes);
    let answers = lines::<Answer>(bytes);
    calls | answers
}

/// All lines, and those that are understood, since the first other one is where a stream ends.
fn lines<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let understood = stream::<T>(bytes);
    let mut good = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').take(LINES_MAX) {
        if serde_json::from_slice::<T>(line).is_ok() {
            good.extend_from_slice(line);
            good.push(b'\n');
        }
    }
    let found = !good.is_empty() && good != bytes;
    assert!(!found || stream::<T>(&good), "a line is understood as what is in it");
    understood || found
}

fn stream<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let (whole, end) = received::<T>(Cursor::new(bytes.to_vec()), LINE_LEN_MAX);
    let (pieces, same_end) = received::<T>(Trickle::new(bytes), LINE_LEN_MAX);
    assert_eq!(pieces, whole, "pieces of a line are the line");
    assert_eq!(same_end, end, "and it ends the same");
    let (short, short_end) = received::<T>(Trickle::new(bytes), READER_LINE_LEN_MAX);
    assert!(whole.starts_with(&short), "a limit ends it sooner");
    assert!(short_end == end || short_end.starts_with("too long"), "{short_end} is not {end}");
    let mut stream = Wire::new(Cursor::new(Vec::new()));
    for document in &whole {
        stream.send(document).expect("a vector takes every byte, and it was no longer before");
        let line = serde_json::to_vec(document).expect("it was sent");
        assert!(!line.contains(&b'\n'), "one line");
        let again = serde_json::from_slice::<T>(&line).expect("what was said is understood");
        assert_eq!(again, *document, "as it was meant");
    }
    !whole.is_empty()
}

/// What arrives before the end, and what the end is.
fn received<T: DeserializeOwned>(stream: impl Read + Write, limit: usize) -> (Vec<T>, String) {
    let mut wire = Wire::new(stream);
    let mut documents = Vec::new();
    loop {
        match wire.receive(limit) {
            Ok(Some(document)) => documents.push(document),
            Ok(None) => return (documents, "whole".to_owned()),
            Err(WireError::Io(error)) => return (documents, format!("failed: {error}")),
            Err(WireError::Truncated) => return (documents, "cut".to_owned()),
            Err(WireError::TooLong { limit }) => return (documents, format!("too long: {limit}")),
            Err(WireError::Garbage(error)) => return (documents, format!("garbage: {error}")),
        }
    }
}

/// A stream that gives a few bytes at a time, more or less, and is interrupted in between.
struct Trickle<'a> {
    rest: &'a [u8],
    reads: usize,
}

impl<'a> Trickle<'a> {
    const fn new(rest: &'a [u8]) -> Self {
        Self { rest, reads: 0 }
    }
}

impl Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.reads.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // Few pieces of a long stream: each is searched for an end.
        let most = self.reads % 7 + self.rest.len() / 16 + 1;
        let (now, later) = self.rest.split_at(most.min(self.rest.len()).min(out.len()));
        out[..now.len()].copy_from_slice(now);
        self.rest = later;
        Ok(now.len())
    }
}

impl Write for Trickle<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
