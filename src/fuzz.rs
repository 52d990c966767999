//! As [`store_fs::fuzz`], for what clients and users write: takes any bytes and never panics.

use std::io::Cursor;

use resolver::{Need, Spec, Version, VersionRange};

use crate::protocol::{Answer, Call, LINE_LEN_MAX, Wire};

/// Lines of the control socket, in both directions.
pub fn protocol(bytes: &[u8]) {
    let mut calls = Wire::new(Cursor::new(bytes.to_vec()));
    while let Ok(Some(call)) = calls.receive::<Call>(LINE_LEN_MAX) {
        drop(calls_back(&call));
    }
    let mut answers = Wire::new(Cursor::new(bytes.to_vec()));
    while let Ok(Some(_)) = answers.receive::<Answer>(LINE_LEN_MAX) {}
}

/// What was understood can be said again.
fn calls_back(call: &Call) -> Vec<u8> {
    serde_json::to_vec(call).expect("what was read from JSON can be written as JSON")
}

/// A spec, a need, a version and a range, as users write them.
pub fn spec(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(spec) = text.parse::<Spec>() {
        assert_eq!(spec.to_string().parse(), Ok(spec), "a spec is what it says");
    }
    drop(text.parse::<Need>().map(|need| need.to_string()));
    drop(text.parse::<VersionRange>().map(|range| range.to_string()));
    if let Ok(version) = text.parse::<Version>() {
        assert_eq!(Version::from_file_name(&version.file_name()), Ok(version));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_bytes_make_the_protocol_or_a_spec_fall(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            text in "[a-z0-9@=,#:.<>~+-]{0,40}",
            json in "[{}\\[\\]\":,a-z0-9\n]{0,80}",
        ) {
            for bytes in [&bytes[..], text.as_bytes(), json.as_bytes()] {
                protocol(bytes);
                spec(bytes);
            }
        }

        #[test]
        fn no_call_that_is_nearly_right_makes_the_protocol_fall(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            which in 0..4_usize,
        ) {
            let mut line = [
                r#"{"call":"hello","protocol":1}"#,
                r#"{"call":"edit","request":"00","again":false,"edit":{"edit":"undo"}}"#,
                concat!(
                    r#"{"call":"edit","request":"0","again":true,"edit":{"edit":"repair","#,
                    r#""newest":true,"index":true,"aside":[{"path":"blobs/ab/x","inode":1,"#,
                    r#""len":2,"changed_secs":-3,"changed_nanos":4}]}}"#,
                ),
                r#"{"answer":"failed","kind":"usage","message":"m","causes":[],"hints":[]}"#,
            ][which].to_owned().into_bytes();
            line.push(b'\n');
            let at = at.index(line.len());
            line[at] = byte;
            protocol(&line);
        }
    }
}
