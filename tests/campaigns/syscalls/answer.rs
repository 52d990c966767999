//! What a system call answered: an errno, or named fields that are compared one by one.

use std::collections::BTreeSet;

use rustix::io::{Errno, Result};

/// What a system call answered.
pub(super) type Answer = Result<Fields>;

/// What a successful call gave, in an order that is always the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    Bytes(Vec<u8>),
    /// Things of which each is there or not, on its own.
    Set(BTreeSet<String>),
    /// A step of the call that failed where others did not.
    Failed(Errno),
}

impl Fields {
    pub(super) fn one(name: &'static str, value: impl Into<Value>) -> Self {
        Self::default().and(name, value)
    }

    pub(super) fn and(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.0.iter()
    }
}

/// A call that gives nothing but that it was done.
pub(super) fn done(result: Result<()>) -> Answer {
    result.map(|()| Fields::default())
}

/// A call that gives one thing.
pub(super) fn gives<T: Into<Value>>(name: &'static str, result: Result<T>) -> Answer {
    result.map(|value| Fields::one(name, value))
}

/// In words, cut where it gets long.
pub(super) fn brief(answer: &Answer) -> String {
    match answer {
        Err(errno) => format!("{errno:?}"),
        Ok(fields) => {
            let fields = fields.iter().map(|(name, value)| match value {
                Value::Number(number) => format!("{name} {number}"),
                Value::Failed(errno) => format!("{name} {errno:?}"),
                Value::Set(set) => format!("{name} {set:?}"),
                Value::Bytes(bytes) => {
                    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
                    format!("{name} {} bytes ({:016x}) {start:?}", bytes.len(), sum(bytes))
                }
            });
            format!("ok: {}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Tells long answers from each other.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum: u64, byte| sum.wrapping_mul(1_099).wrapping_add(u64::from(*byte)))
}

impl Value {
    /// Whether it is what one of the others is; of a set each member, and what all of them have.
    pub(super) fn is_like(&self, others: &[Option<&Self>]) -> bool {
        let Self::Set(own) = self else { return others.contains(&Some(self)) };
        let sets: Vec<&BTreeSet<String>> = others
            .iter()
            .filter_map(|other| match other {
                Some(Self::Set(set)) => Some(set),
                _ => None,
            })
            .collect();
        let anybody_has = |member: &String| sets.iter().any(|set| set.contains(member));
        let mut of_all = sets.iter().flat_map(|set| set.iter());
        let is_ours =
            |member: &String| own.contains(member) || !sets.iter().all(|set| set.contains(member));
        !sets.is_empty() && own.iter().all(anybody_has) && of_all.all(is_ours)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number.cast_signed())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Number(truth.into())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Number(0)
    }
}

impl<T: Into<Value>> From<Result<T>> for Value {
    fn from(result: Result<T>) -> Self {
        match result {
            Ok(value) => value.into(),
            Err(errno) => Self::Failed(errno),
        }
    }
}

impl From<BTreeSet<String>> for Value {
    fn from(set: BTreeSet<String>) -> Self {
        Self::Set(set)
    }
}
