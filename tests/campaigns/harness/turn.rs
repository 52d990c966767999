//! A campaign at work: it is given its cases one by one, and says what came of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::ledger::{Ledger, Record};
use crate::harness::options::Options;

/// One promise, tried very often.
#[derive(Debug)]
pub(crate) struct Campaign {
    /// As on the command line.
    pub(crate) name: &'static str,
    /// As in the table.
    pub(crate) what: &'static str,
    /// What is counted, in the plural.
    pub(crate) unit: &'static str,
    /// How many of them one case is.
    pub(crate) per_case: u64,
    /// How many the short form tries.
    pub(crate) short: u64,
    /// How many the long form tries.
    pub(crate) long: u64,
    /// Asks the turn for cases until there are no more.
    pub(crate) run: fn(&mut Turn<'_>),
}

/// One case: everything in it comes from the dice.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) number: u64,
    pub(crate) dice: Dice,
}

/// A small generator of pseudo-random numbers (`splitmix64`).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Below `sides`, which is not 0.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.bits() % sides
    }

    /// The place of one of so many.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.roll(len as u64)).expect("below a usize")
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }
}

/// A campaign at work.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    campaign: &'a Campaign,
    ledger: &'a mut Ledger,
    record: Record,
    /// The case in hand.
    current: Option<u64>,
    /// The number after the last case.
    end: u64,
    /// When what is not in the record yet began.
    since: Instant,
    /// Only the case of this number, whatever was done.
    only: Option<u64>,
    played: bool,
    is_long: bool,
    /// Where counters of this run stood when they were last looked at.
    counted: BTreeMap<&'static str, u64>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(campaign: &'a Campaign, options: &Options, ledger: &'a mut Ledger) -> Self {
        let mut record = ledger.record(campaign.name).cloned().unwrap_or_default();
        record.skipped = None;
        let units = options.units.unwrap_or(match options.long {
            true => campaign.long,
            false => campaign.short,
        });
        let end = match options.case {
            Some(number) => number + 1,
            None => units.div_ceil(campaign.per_case),
        };
        let (current, since, only) = (None, Instant::now(), options.case);
        println!("{}: from case {} to {end}", campaign.name, only.unwrap_or(record.done));
        Self {
            campaign,
            ledger,
            record,
            current,
            end,
            since,
            only,
            played: false,
            is_long: options.long,
            counted: BTreeMap::new(),
        }
    }

    /// Whether this is the long form.
    pub(crate) fn is_long(&self) -> bool {
        self.is_long
    }

    /// Forgets what an earlier part of the run did, where that cannot be built on.
    pub(crate) fn begin_anew(&mut self) {
        let finished = self.record.done >= self.end;
        if !finished {
            self.record = Record::default();
        }
    }

    /// The next case; the one before it has ended well. `None`: that was all.
    pub(crate) fn next(&mut self) -> Option<Case> {
        if let Some(number) = self.current.take()
            && self.only.is_none()
        {
            self.record.done = number + 1;
            self.record.seconds += self.since.elapsed().as_secs_f64();
            self.since = Instant::now();
            self.ledger.take(self.campaign.name, &self.record, false);
        }
        let number = match self.only {
            Some(_) if self.played => return None,
            Some(number) => number,
            None => self.record.done,
        };
        self.played = true;
        if number >= self.end || !self.record.violations.is_empty() {
            return None;
        }
        self.current = Some(number);
        let name = self
            .campaign
            .name
            .bytes()
            .fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut dice = Dice::new(self.ledger.seed() ^ name.rotate_left(32));
        let first = dice.bits();
        Some(Case { number, dice: Dice::new(first ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d)) })
    }

    /// Adds to what is counted beside the cases.
    pub(crate) fn count(&mut self, what: &str, more: u64) {
        if more > 0 {
            *self.record.counts.entry(what.to_owned()).or_default() += more;
        }
    }

    /// The same for a counter that began at 0 with this run, and only ever rises.
    pub(crate) fn count_up_to(&mut self, what: &'static str, now: u64) {
        let before = self.counted.insert(what, now).unwrap_or(0);
        self.count(what, now.saturating_sub(before));
    }

    /// Keeps the highest of what is measured.
    pub(crate) fn peak(&mut self, what: &str, value: u64) {
        let kept = self.record.counts.entry(what.to_owned()).or_default();
        *kept = value.max(*kept);
    }

    /// Adds to what is timed.
    pub(crate) fn time(&mut self, what: &str, time: Duration) {
        self.record.times.entry(what.to_owned()).or_default().add(time);
    }

    /// The campaign cannot run here.
    pub(crate) fn skip(&mut self, reason: &str) {
        println!("SKIPPED campaign {}: {reason}", self.campaign.name);
        self.record.skipped = Some(reason.to_owned());
    }

    /// What must not happen has happened: the campaign ends.
    pub(crate) fn violation(&mut self, words: &str) {
        let (name, seed) = (self.campaign.name, self.ledger.seed());
        let again = match self.current {
            Some(number) => format!("--seed {seed} --case {number} {name}"),
            None => format!("--seed {seed} {name}"),
        };
        eprintln!("VIOLATION in {name}: {words}\nagain: cargo test --test campaigns -- {again}");
        self.record.violations.push(format!("{words} ({again})"));
    }

    /// Nothing more comes.
    pub(crate) fn end(mut self) {
        self.record.seconds += self.since.elapsed().as_secs_f64();
        // A case that is played again is not counted again.
        if self.only.is_some() {
            self.record.done = u64::from(self.record.violations.is_empty());
        }
        self.ledger.take(self.campaign.name, &self.record, true);
    }
}
