//! Which requests meet which fault, and which of them come again.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::counters::Counters;
use crate::fault::Fault;
use crate::kind::{Kind, content_range};

/// Failed requests that are remembered to tell whether they are sent again.
const MAX_FAILED: usize = 10_000;

/// Which requests meet which fault: of a kind, from the `first` on every `every`-th, `count` of them.
#[derive(Debug)]
pub struct Rule {
    fault: Fault,
    kind: Kind,
    /// Counts from 1.
    first: u64,
    every: u64,
    /// `None` has no end.
    count: Option<u64>,
    /// Requests of the kind since the rule was made or rewound.
    seen: AtomicU64,
}

/// The kinds of requests that rules name.
const RULE_KINDS: [(&str, Kind); 3] =
    [("index", Kind::GetIndex), ("data", Kind::GetData), ("metadata", Kind::GetMetadata)];

impl Rule {
    /// Reads a query such as `fault=slow-down&kind=data&first=2&count=3`. `kind` is `data`, the numbers are 1 unless
    /// given; a `count` of 0 has no end.
    ///
    /// # Errors
    /// One line that says what is wrong.
    pub fn parse(query: &str) -> Result<Self, String> {
        let (mut fault, mut kind, mut first, mut every, mut count) = (None, Kind::GetData, 1, 1, 1);
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "fault" => fault = Fault::ALL.into_iter().find(|fault| fault.name() == value),
                "kind" => kind = named_kind(value)?,
                "first" => first = number(name, value, 1)?,
                "every" => every = number(name, value, 1)?,
                "count" => count = number(name, value, 0)?,
                _ => return Err(format!("a rule has no {name}")),
            }
        }
        let fault = fault.ok_or_else(|| format!("fault must be one of {}", Fault::ALL.map(Fault::name).join(", ")))?;
        Ok(Self { fault, kind, first, every, count: (count > 0).then_some(count), seen: AtomicU64::new(0) })
    }

    /// Whether the next request of this kind is meant.
    fn hits(&self, kind: Kind) -> bool {
        if kind != self.kind {
            return false;
        }
        let number = self.seen.fetch_add(1, Relaxed) + 1;
        let Some(after) = number.checked_sub(self.first) else { return false };
        after.is_multiple_of(self.every) && self.count.is_none_or(|count| after / self.every < count)
    }

    fn json(&self) -> Value {
        let kind = RULE_KINDS.iter().find(|(_, kind)| *kind == self.kind).map(|(name, _)| name);
        json!({"fault": self.fault.name(), "kind": kind, "first": self.first, "every": self.every,
            "count": self.count.unwrap_or(0)})
    }
}

fn named_kind(name: &str) -> Result<Kind, String> {
    let found = RULE_KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    found.ok_or_else(|| "kind must be index, data or metadata".into())
}

fn number(name: &str, text: &str, least: u64) -> Result<u64, String> {
    let value = text.parse().ok().filter(|value| *value >= least);
    value.ok_or_else(|| format!("{name} must be a whole number, {least} or more"))
}

/// The rules in force, and what came of them.
pub struct Faults {
    is_on: AtomicBool,
    rules: Mutex<Vec<Rule>>,
    /// Requests that failed and were not sent again yet.
    failed: Mutex<Vec<Asked>>,
    counters: Arc<Counters>,
}

/// The bytes of an object that a request asked for.
#[derive(Debug)]
pub struct Asked {
    path: String,
    range: Range<u64>,
}

impl Asked {
    pub fn of(path: String, answer: &HeaderMap) -> Self {
        let range = content_range(answer).map_or(0..u64::MAX, |(start, end, _)| start..end);
        Self { path, range }
    }

    /// Whether this may be the other one sent again: a client that has a part of a body asks for the rest only.
    fn repeats(&self, other: &Self) -> bool {
        self.path == other.path && self.range.start < other.range.end && other.range.start < self.range.end
    }
}

impl Faults {
    pub fn new(counters: Arc<Counters>) -> Self {
        let (is_on, rules, failed) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Self { is_on, rules, failed, counters }
    }

    /// Whether there are rules at all.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Adds a rule. The first rule that means a request decides.
    pub fn add(&self, rule: Rule) {
        self.rules.lock().push(rule);
        self.is_on.store(true, Relaxed);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.is_on.store(false, Relaxed);
        self.rules.lock().clear();
        self.failed.lock().clear();
    }

    /// Lets every rule count from its first request again, and forgets what failed before.
    pub fn rewind(&self) {
        self.rules.lock().iter().for_each(|rule| rule.seen.store(0, Relaxed));
        self.failed.lock().clear();
    }

    pub fn json(&self) -> Value {
        let rules: Vec<Value> = self.rules.lock().iter().map(Rule::json).collect();
        json!({ "rules": rules })
    }

    fn next(&self, kind: Kind) -> Option<Fault> {
        // Every rule counts every request, so that one does not shift another.
        let rules = self.rules.lock();
        let hits: Vec<Fault> = rules.iter().filter(|rule| rule.hits(kind)).map(|rule| rule.fault).collect();
        hits.first().copied()
    }

    /// Decides on an answer, and counts the fault and whether the request had failed before.
    pub fn judge(&self, asked: Asked, kind: Kind) -> Option<Fault> {
        let mut failed = self.failed.lock();
        if let Some(before) = failed.iter().position(|before| asked.repeats(before)) {
            failed.swap_remove(before);
            self.counters.request_repeated();
        }
        let fault = self.next(kind)?;
        self.counters.fault_injected(fault);
        if fault.is_failure() && failed.len() < MAX_FAILED {
            failed.push(asked);
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(query: &str) -> Rule {
        Rule::parse(query).unwrap()
    }

    fn hits(rule: &Rule, count: u64) -> Vec<u64> {
        (1..=count).filter(|_| rule.hits(Kind::GetData)).collect()
    }

    #[test]
    fn a_rule_means_the_requests_it_names() {
        assert_eq!(hits(&rule("fault=reset"), 5), [1]);
        assert_eq!(hits(&rule("fault=reset&first=2&count=3"), 9), [2, 3, 4]);
        assert_eq!(hits(&rule("fault=reset&first=2&every=3&count=2"), 20), [2, 5]);
        assert_eq!(hits(&rule("fault=reset&every=4&count=0"), 10), [1, 5, 9]);
        assert!(!rule("fault=reset&kind=index").hits(Kind::GetData));
        assert!(rule("fault=reset&kind=index").hits(Kind::GetIndex));
    }

    #[test]
    fn nonsense_is_refused() {
        for query in ["", "fault=none", "fault=reset&kind=put", "fault=reset&first=0", "fault=reset&every=x", "a=1"] {
            assert!(Rule::parse(query).is_err(), "{query}");
        }
    }

    fn asked(path: &str, range: Range<u64>) -> Asked {
        Asked { path: path.into(), range }
    }

    #[test]
    fn a_request_sent_again_is_counted_once_per_failure() {
        let counters = Arc::new(Counters::default());
        let faults = Faults::new(counters.clone());
        faults.add(rule("fault=reset-body&count=2"));
        let ask = |path, range| faults.judge(asked(path, range), Kind::GetData);
        assert_eq!(ask("a", 0..100), Some(Fault::ResetBody));
        assert_eq!(ask("a", 50..100), Some(Fault::ResetBody), "the rest of the first");
        for (path, range) in [("b", 50..100), ("a", 100..200), ("a", 75..100), ("a", 75..100)] {
            assert_eq!(ask(path, range), None);
        }
        let since = counters.since_start();
        assert_eq!((&since["faults"], &since["retries"]), (&json!(2), &json!(2)));
        assert_eq!(since["faults_by_name"], json!({"reset-body": 2}));
        faults.rewind();
        assert_eq!(faults.judge(asked("a", 0..100), Kind::GetData), Some(Fault::ResetBody));
        assert_eq!(counters.since_start()["retries"], 2, "what failed before the rewind is forgotten");
    }
}
