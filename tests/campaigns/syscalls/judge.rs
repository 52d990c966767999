//! Whether dynfs may answer what it answered: in each field, and in its errno, as the plain
//! directory or as the image. Where these two agree there is only one right answer.

use super::answer::{Answer, Fields, brief};
use super::call::Call;
use super::known::{KNOWN, Known, is_of_the_disk};

/// The answers of all sides to one call.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) plain: Option<Answer>,
    pub(super) image: Option<Answer>,
    pub(super) dynfs: Answer,
    /// How often a walk that mounts had disturbed was repeated.
    pub(super) again: u64,
}

/// What came of a comparison.
#[derive(Debug)]
pub(super) enum Verdict {
    Right,
    /// Different, for these reasons.
    Known(Vec<&'static Known>),
    Wrong(String),
}

impl Answers {
    /// Whether all sides say the same.
    pub(super) fn agree(&self) -> bool {
        self.others().all(|other| *other == self.dynfs)
    }

    /// Whether plain directory and image say different things.
    pub(super) fn others_differ(&self) -> bool {
        self.plain.is_some() && self.image.is_some() && self.plain != self.image
    }

    /// Whether all sides have done it, or none has.
    pub(super) fn same_end(&self) -> bool {
        self.others().all(|other| other.is_ok() == self.dynfs.is_ok())
    }

    fn others(&self) -> impl Iterator<Item = &Answer> {
        self.plain.iter().chain(&self.image)
    }

    pub(super) fn judge(&self, call: &Call) -> Verdict {
        let mut known = Vec::new();
        let no_image = self.image.is_none() && self.plain.is_some();
        let mut differences = self.differences(call);
        differences.retain(|field| !(no_image && is_of_the_disk(call, field)));
        for field in differences {
            let Some(reason) = KNOWN.iter().find(|known| known.covers(call, field, self)) else {
                return Verdict::Wrong(self.words(call, field));
            };
            known.push(reason);
        }
        if known.is_empty() { Verdict::Right } else { Verdict::Known(known) }
    }

    /// The names of the fields that are like nobody's; `errno` for the end of the call as a whole.
    fn differences(&self, call: &Call) -> Vec<&'static str> {
        if self.others().next().is_none() {
            // Only asked to see that it fails.
            let idle = matches!(call, Call::Change(ask) if ask.is_idle());
            return if self.dynfs.is_ok() && !idle { vec!["errno"] } else { Vec::new() };
        }
        match &self.dynfs {
            Err(errno) => {
                let same = self.others().any(|other| other.as_ref().err() == Some(errno));
                if same { Vec::new() } else { vec!["errno"] }
            }
            Ok(fields) => {
                let done: Vec<&Fields> = self.others().filter_map(|o| o.as_ref().ok()).collect();
                if done.is_empty() {
                    return vec!["errno"];
                }
                let others = |name: &str| done.iter().map(|other| other.get(name)).collect();
                let mut differences = Vec::new();
                for (name, value) in fields.iter() {
                    let others: Vec<_> = others(name);
                    if !value.is_like(&others) {
                        differences.push(*name);
                    }
                }
                differences
            }
        }
    }

    fn words(&self, call: &Call, field: &str) -> String {
        let say = |answer: &Option<Answer>| answer.as_ref().map_or("not asked".into(), brief);
        format!(
            "{field} of {call:?}\n  plain directory: {}\n  EROFS: {}\n  dynfs: {}",
            say(&self.plain),
            say(&self.image),
            brief(&self.dynfs)
        )
    }
}
