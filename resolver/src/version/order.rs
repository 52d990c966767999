//! The order of `dpkg --compare-versions` for one part of a version (upstream or revision).
//!
//! A part is read as runs of non-digits and digits in turn. Digits compare as numbers of any
//! length. In the other runs letters stand before everything else, and `~` before all, even
//! before the end (source: `lib/dpkg/version.c`, `verrevcmp`). Never allocates.

use core::cmp::Ordering;

/// Compares two upstream versions, or two revisions.
pub(super) fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        while starts_with_other(a) || starts_with_other(b) {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order.is_ne() {
                return order;
            }
            // Equal weights here are equal bytes that are not digits, so both sides have one.
            a = &a[1..];
            b = &b[1..];
        }
        let (a_digits, a_rest) = take_number(a);
        let (b_digits, b_rest) = take_number(b);
        let order = a_digits.len().cmp(&b_digits.len()).then_with(|| a_digits.cmp(b_digits));
        if order.is_ne() {
            return order;
        }
        a = a_rest;
        b = b_rest;
    }
    Ordering::Equal
}

fn starts_with_other(text: &[u8]) -> bool {
    text.first().is_some_and(|byte| !byte.is_ascii_digit())
}

fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// The digits in front without leading zeros, and what follows them.
fn take_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (&digits[zeros..], rest)
}
