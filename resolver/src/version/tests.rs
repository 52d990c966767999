//! Versions against a table of answers of dpkg, prefixes and ranges by table.

use alloc::string::{String, ToString};

use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// Each row in rising order, as `dpkg --compare-versions` orders it.
#[test]
fn order_is_that_of_dpkg() {
    let rows: &[&[&str]] = &[
        &["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+b", "1.0.1", "1.1"],
        &["1.0~rc1-1", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0-2", "1.0-10"],
        &["9", "10", "1:0.1", "2:0", "10:0"],
        &["1.0-1", "1.0-a", "1.0a-1"],
        &["r12", "s3"],
        &["1.2.3", "1.2.3-1", "1.2.3-1-1"],
        &["3.2", "3.2.1", "3.19", "3.20"],
        &["99999999999999999998", "99999999999999999999", "100000000000000000000"],
    ];
    for row in rows {
        for (i, low) in row.iter().enumerate() {
            for high in &row[i + 1..] {
                assert!(version(low) < version(high), "{low} < {high}");
                assert!(version(high) > version(low), "{high} > {low}");
            }
        }
    }
}

#[test]
fn bytes_decide_between_what_dpkg_calls_equal() {
    for (low, high) in [("1.0", "1.00"), ("1", "1-0"), ("01", "1")] {
        assert!(version(low) < version(high), "{low} < {high}");
    }
}

#[test]
fn text_and_back() {
    for (text, shown, file) in [
        ("3.2.1", "3.2.1", "3.2.1"),
        ("1:2.0-3~x+y", "1:2.0-3~x+y", "1%3a2.0-3~x+y"),
        ("0:1", "1", "1"),
        ("r12", "r12", "r12"),
    ] {
        let version = version(text);
        assert_eq!(version.to_string(), shown);
        assert_eq!(shown.parse().as_ref(), Ok(&version));
        assert_eq!(version.file_name(), file);
        assert_eq!(Version::from_file_name(file), Ok(version));
    }
}

/// In a file name the colon takes three bytes, which made the longest versions with an epoch ones
/// that could be added and not be seen.
#[test]
fn the_longest_version_with_an_epoch_has_a_file_name() {
    for len in [VERSION_LEN_MAX - 2, VERSION_LEN_MAX - 1, VERSION_LEN_MAX] {
        let version = version(&alloc::format!("1:{}", "9".repeat(len - 2)));
        assert_eq!(Version::from_file_name(&version.file_name()), Ok(version));
    }
    let long = alloc::format!("1%3a{}", "9".repeat(VERSION_LEN_MAX - 1));
    assert!(Version::from_file_name(&long).is_err());
}

#[test]
fn other_texts_are_refused() {
    let long = "1".repeat(VERSION_LEN_MAX + 1);
    for text in [
        "",
        ".1",
        "-1",
        "~1",
        "1-",
        "1/2",
        "../x",
        "1 2",
        "1\n",
        "1_2",
        ":1",
        "a:1",
        "-1:1",
        "+1:1",
        "1:",
        "4294967296:1",
        "1:2:3",
        "1\u{e9}",
        "1@2",
        "1,2",
        &long,
    ] {
        assert!(text.parse::<Version>().is_err(), "{text:?}");
        assert!(text.parse::<VersionPrefix>().is_err(), "{text:?}");
    }
    for text in ["1:2", "0%3a2", "01%3a2", "1%3A2", "%3a2", "1%3a", "1%3a2%3a3"] {
        assert!(Version::from_file_name(text).is_err(), "{text:?}");
    }
}

#[test]
fn prefixes() {
    for (prefix, text, matches, early) in [
        ("3.2", "3.2", true, false),
        ("3.2", "3.2.1", true, false),
        ("3.2", "3.2-1", true, false),
        ("3.2", "3.2+git", true, false),
        ("3.2", "3.2~rc1", false, true),
        ("3.2", "3.20", false, false),
        ("3.2", "3.2a", false, false),
        ("3.2", "3", false, false),
        ("3.2", "13.2", false, false),
        ("3.2", "1:3.2.1", true, false),
        ("1:3.2", "1:3.2.1", true, false),
        ("1:3.2", "3.2.1", false, false),
        ("0:3.2", "3.2.1", true, false),
        ("0:3.2", "1:3.2.1", false, false),
    ] {
        let parsed: VersionPrefix = prefix.parse().unwrap();
        assert_eq!(parsed.to_string(), prefix);
        assert_eq!(parsed.matches(&version(text)), matches, "{prefix} {text}");
        assert_eq!(parsed.matches_early(&version(text)), early, "{prefix} {text}");
    }
    for word in ["latest", "prev"] {
        assert!(word.parse::<VersionPrefix>().is_err());
    }
}

#[test]
fn ranges() {
    for (range, inside, outside) in [
        ("*", "0~", None),
        ("3.2", "3.2.9", Some("3.20")),
        ("=3.2.1", "3.2.1", Some("3.2.1-1")),
        (">=1.2", "1.2", Some("1.2~rc1")),
        ("<2", "2~rc1", Some("2")),
        (">=1.2,<2", "1.9", Some("2")),
    ] {
        let parsed: VersionRange = range.parse().unwrap();
        assert_eq!(parsed.to_string(), range);
        assert!(parsed.contains(&version(inside)), "{range} {inside}");
        if let Some(outside) = outside {
            assert!(!parsed.contains(&version(outside)), "{range} {outside}");
        }
    }
    for text in ["", ">1", ">=", "<", "=", ">=1,2", ">=1,<2,<3", "<2,>=1", "**"] {
        assert!(text.parse::<VersionRange>().is_err(), "{text:?}");
    }
}

#[test]
fn an_error_names_the_text_but_not_all_of_it() {
    let error = "x/".repeat(200).parse::<Version>().unwrap_err();
    assert_eq!(error.text.len(), 64);
    let error: String = "1/2".parse::<Version>().unwrap_err().to_string();
    assert!(error.starts_with("\"1/2\" is not a valid version: "), "{error}");
}
