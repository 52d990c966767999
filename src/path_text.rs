//! A path in a JSON document of ours: a text where it is UTF-8, as nearly all are, and else its
//! bytes as a list of numbers, so that nothing is lost. For `#[serde(with = "path_text")]`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Words<T, B> {
    Text(T),
    Bytes(B),
}

pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes = path.as_os_str().as_bytes();
    match path.to_str() {
        Some(text) => Words::<_, &[u8]>::Text(text),
        None => Words::Bytes(bytes),
    }
    .serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    Ok(match Words::<String, Vec<u8>>::deserialize(from)? {
        Words::Text(text) => text.into(),
        Words::Bytes(bytes) => OsString::from_vec(bytes).into(),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Document {
        #[serde(with = "super")]
        place: PathBuf,
    }

    #[test]
    fn any_path_and_back() {
        for (path, json) in [
            (&b"/dyn"[..], r#"{"place":"/dyn"}"#),
            (b"/a \"b\"\n", r#"{"place":"/a \"b\"\n"}"#),
            (b"/\xff", r#"{"place":[47,255]}"#),
        ] {
            let document = Document { place: OsStr::from_bytes(path).into() };
            assert_eq!(serde_json::to_string(&document).unwrap(), json);
            assert_eq!(serde_json::from_str::<Document>(json).unwrap(), document);
        }
    }
}
