//! The program as people meet it: whole transcripts of commands, and what a transcript cannot say.
//!
//! Each file in `cli/transcripts` is a test: it holds commands and everything that they print.
//! `DYNFS_BLESS=1 cargo test --test cli` writes what they print now; read the difference.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cli {
    mod documents;
    mod edges;
    mod first_format;
    mod killed;
    mod stage;
    mod terminal;
    mod transcripts;
}
