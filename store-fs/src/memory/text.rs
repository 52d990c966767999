//! Bytes in atomic words: little endian, the last word filled up with zeros.

use std::sync::atomic::Ordering;

use crate::sync::Word;
use crate::sys::WORD_LEN;

/// Words that `len` bytes fill.
pub(crate) const fn words_of(len: usize) -> usize {
    len.div_ceil(WORD_LEN)
}

/// The words of a text.
pub(crate) fn pack(text: &[u8]) -> impl Iterator<Item = u64> {
    text.chunks(WORD_LEN).map(|chunk| {
        let mut word = [0; WORD_LEN];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    })
}

/// Writes a text into words that nobody reads yet.
pub(crate) fn store_text(words: &[Word], text: &[u8]) {
    for (word, value) in words.iter().zip(pack(text)) {
        word.store(value, Ordering::Relaxed);
    }
}

/// Reads `len` bytes, or as many as the words hold.
pub(crate) fn load_text(words: &[Word], len: usize) -> Vec<u8> {
    let mut text: Vec<u8> = words[..words_of(len).min(words.len())]
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
        .collect();
    text.truncate(len);
    text
}

/// Whether the words hold exactly this text.
pub(crate) fn same_text(words: &[Word], text: &[u8]) -> bool {
    words.len() == words_of(text.len())
        && words.iter().zip(pack(text)).all(|(word, value)| word.load(Ordering::Relaxed) == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for len in [0, 1, 7, 8, 9, 255] {
            let text: Vec<u8> = (0..len).map(|byte| u8::try_from(byte).unwrap() ^ 0x5a).collect();
            let words: Vec<Word> = (0..words_of(text.len())).map(|_| Word::new(u64::MAX)).collect();
            store_text(&words, &text);
            assert_eq!(load_text(&words, text.len()), text);
            assert!(same_text(&words, &text));
            assert!(!same_text(&words, &[text.as_slice(), b"x"].concat()));
        }
    }
}
