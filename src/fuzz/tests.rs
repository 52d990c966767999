//! Any bytes at random, and lines that are nearly right.

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
