//! The framing against friends and against hostile bytes.

use super::*;

/// A stream with given input, handed out in small pieces, and collected output.
struct Script {
    input: Vec<u8>,
    at: usize,
    piece: usize,
    output: Vec<u8>,
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.piece.min(buffer.len()).min(self.input.len() - self.at);
        buffer[..len].copy_from_slice(&self.input[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn script(input: &[u8], piece: usize) -> Wire<Script> {
    Wire::new(Script { input: input.to_vec(), at: 0, piece, output: Vec::new() })
}

fn receive(input: &[u8], limit: usize) -> Result<Option<Call>, WireError> {
    script(input, 7).receive(limit)
}

#[test]
fn calls_come_one_a_line_however_they_are_cut() {
    let request = RequestId("0123456789abcdef0123456789abcdef".to_owned());
    let calls = [
        Call::Hello { protocol: PROTOCOL },
        Call::Status,
        Call::Edit { request: request.clone(), again: true, edit: Edit::Undo },
        Call::Outcome { request },
        Call::Unmount { lazy: true },
    ];
    for piece in [1, 3, 1000] {
        let mut sender = script(b"", 1);
        for call in &calls {
            sender.send(call).unwrap();
        }
        let mut receiver = script(&sender.stream.output, piece);
        for call in &calls {
            assert_eq!(receiver.receive::<Call>(LINE_LEN_MAX).unwrap().as_ref(), Some(call));
        }
        assert_eq!(receiver.receive::<Call>(LINE_LEN_MAX).unwrap(), None);
    }
}

#[test]
fn a_line_in_pieces_is_not_cut_short() {
    assert!(matches!(receive(b"{\"call\":\"status\"}", 100), Err(WireError::Truncated)));
    assert!(matches!(receive(b"{", 100), Err(WireError::Truncated)));
    assert!(matches!(receive(b"", 100), Ok(None)));
}

#[test]
fn garbage_is_refused() {
    let deep = [vec![b'['; 100_000], b"\n".to_vec()].concat();
    for line in [
        b"\n".as_slice(),
        b"null\n",
        b"{}\n",
        b"\xff\xfe\n",
        b"{\"call\":\"format_the_disk\"}\n",
        b"{\"call\":\"edit\",\"request\":1,\"again\":false,\"edit\":{\"edit\":\"undo\"}}\n",
        b"{\"call\":\"hello\",\"protocol\":-1}\n",
        b"{\"call\":\"status\"} {\"call\":\"status\"}\n",
        &deep,
    ] {
        assert!(matches!(receive(line, LINE_LEN_MAX), Err(WireError::Garbage(_))), "{line:?}");
    }
}

#[test]
fn a_line_without_end_costs_no_more_than_the_limit() {
    let mut wire = script(&vec![b' '; 1_000_000], CHUNK_LEN);
    let refused = wire.receive::<Call>(READER_LINE_LEN_MAX);
    assert!(matches!(refused, Err(WireError::TooLong { limit: READER_LINE_LEN_MAX })));
    assert!(wire.buffer.len() <= READER_LINE_LEN_MAX + CHUNK_LEN);
}

#[test]
fn the_limit_is_exact() {
    let line = b"{\"call\":\"status\"}\n";
    assert!(matches!(receive(line, line.len() - 1), Ok(Some(Call::Status))));
    assert!(matches!(receive(line, line.len() - 2), Err(WireError::TooLong { .. })));
}

#[test]
fn ten_thousand_specs_fit() {
    let longest = "x".repeat(resolver::name::NAME_LEN_MAX);
    let line = format!("\"{longest}@={}\",", "1".repeat(resolver::version::VERSION_LEN_MAX));
    assert!(line.len() * 10_000 < LINE_LEN_MAX);
}
