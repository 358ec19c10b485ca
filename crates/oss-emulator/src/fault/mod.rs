//! Faults: rules, and the requests that they act on.

mod action;
mod body;
mod draw;
mod effects;
mod line;

mod rule;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, header as standard};
use parking_lot::Mutex;
use serde::Serialize;

pub use action::{Delay, Position};
pub(crate) use body::AnswerBody;
pub(crate) use effects::Effects;
pub(crate) use line::{Ending, Line, Pace, Wire};
pub use rule::{FaultRule, FaultRuleError};

use crate::request::Target;
use crate::route::Operation;
use draw::{Draw, mix};

/// The faults of a running emulator. Clones share them, and changes count from the next request on.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether there are faults. If not, a request does not look further.
    any: AtomicBool,
    faults: Mutex<Vec<Arc<Fault>>>,
    last: Mutex<u64>,
}

#[derive(Debug)]
struct Fault {
    id: u64,
    rule: FaultRule,
    shared_pace: Option<Arc<Pace>>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    met: u64,
    acted: u64,
    /// How often each request came, for rules with a probability.
    asked: HashMap<u64, u64>,
}

/// A fault and how often it acted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FaultStatus {
    /// The number that [`Faults::add`] returned.
    pub id: u64,
    /// The rule.
    pub rule: FaultRule,
    /// Requests whose operation, bucket and key matched.
    pub met: u64,
    /// Requests that the fault acted on.
    pub acted: u64,
}

impl Faults {
    /// Adds a fault and returns its number.
    pub fn add(&self, rule: FaultRule) -> Result<u64, FaultRuleError> {
        rule.check()?;
        let shared_pace = rule.shared_bandwidth.map(|rate| Arc::new(Pace::new(rate)));
        let id = {
            let mut last = self.inner.last.lock();
            *last += 1;
            *last
        };
        let mut faults = self.inner.faults.lock();
        faults.push(Arc::new(Fault { id, rule, shared_pace, counts: Mutex::default() }));
        self.inner.any.store(true, Ordering::Release);
        Ok(id)
    }

    /// Removes a fault, and returns whether it existed. Its effects on requests in progress remain.
    pub fn remove(&self, id: u64) -> bool {
        let mut faults = self.inner.faults.lock();
        let before = faults.len();
        faults.retain(|fault| fault.id != id);
        self.inner.any.store(!faults.is_empty(), Ordering::Release);
        faults.len() < before
    }

    /// Removes all faults.
    pub fn clear(&self) {
        let mut faults = self.inner.faults.lock();
        faults.clear();
        self.inner.any.store(false, Ordering::Release);
    }

    /// The faults in the order they were added.
    pub fn list(&self) -> Vec<FaultStatus> {
        let faults = self.inner.faults.lock();
        let status = |fault: &Arc<Fault>| {
            let counts = fault.counts.lock();
            FaultStatus { id: fault.id, rule: fault.rule.clone(), met: counts.met, acted: counts.acted }
        };
        faults.iter().map(status).collect()
    }

    /// Returns the effects of all faults on a request.
    pub(crate) fn meet(&self, operation: Operation, target: &Target, headers: &HeaderMap) -> Effects {
        let mut effects = Effects::default();
        if !self.inner.any.load(Ordering::Acquire) {
            return effects;
        }
        let faults = self.inner.faults.lock().clone();
        let (bucket, key) = (target.bucket.as_deref(), target.key.as_deref());
        for fault in faults.iter().filter(|fault| fault.rule.matches(operation, bucket, key)) {
            let identity = || {
                let range = headers.get(standard::RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
                let part = target.query.get("partNumber").unwrap_or_default();
                let names = [operation.as_str(), bucket.unwrap_or_default(), key.unwrap_or_default(), range, part];
                mix(fault.rule.seed, &names)
            };
            if let Some(mut draw) = fault.meet(identity) {
                effects.add(fault.id, &fault.rule, fault.shared_pace.as_ref(), &mut draw);
            }
        }
        effects
    }
}

impl Fault {
    /// Counts a request. Returns the random numbers for it if the fault acts on it.
    fn meet(&self, identity: impl Fn() -> u64) -> Option<Draw> {
        let mut counts = self.counts.lock();
        counts.met += 1;
        let mut draw = Draw::new(0);
        if self.rule.probability.is_some() || self.rule.delay.is_some() {
            let identity = identity();
            let asked = counts.asked.entry(identity).or_default();
            *asked += 1;
            draw = Draw::new(mix(identity, &[&asked.to_string()]));
        }
        let chosen = (self.rule.nth.is_empty() || self.rule.nth.contains(&counts.met))
            && self.rule.every.is_none_or(|every| counts.met.is_multiple_of(every))
            && self.rule.probability.is_none_or(|probability| draw.fraction() < probability)
            && self.rule.times.is_none_or(|times| counts.acted < times);
        if chosen {
            counts.acted += 1;
        }
        chosen.then_some(draw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(key: &str) -> Target {
        let request = http::Request::builder().uri(format!("/bucket/{key}")).header("host", "127.0.0.1");
        Target::parse(&request.body(()).unwrap().into_parts().0, None).unwrap()
    }

    fn acts(faults: &Faults, key: &str) -> bool {
        !faults.meet(Operation::GetObject, &target(key), &HeaderMap::new()).faults.is_empty()
    }

    fn rule(json: &str) -> FaultRule {
        FaultRule::parse_list(json).unwrap().remove(0)
    }

    fn pattern(json: &str, requests: usize) -> Vec<usize> {
        let faults = Faults::default();
        faults.add(rule(json)).unwrap();
        (1..=requests).filter(|_| acts(&faults, "key")).collect()
    }

    #[test]
    fn nth_every_and_times_choose() {
        assert_eq!(pattern(r#"{"error": "InternalError"}"#, 3), [1, 2, 3]);
        assert_eq!(pattern(r#"{"error": "InternalError", "nth": 2}"#, 5), [2]);
        assert_eq!(pattern(r#"{"error": "InternalError", "nth": [1, 4]}"#, 5), [1, 4]);
        assert_eq!(pattern(r#"{"error": "InternalError", "every": 3}"#, 9), [3, 6, 9]);
        assert_eq!(pattern(r#"{"error": "InternalError", "times": 2}"#, 5), [1, 2]);
        assert_eq!(pattern(r#"{"error": "InternalError", "every": 2, "times": 2}"#, 9), [2, 4]);
        assert_eq!(pattern(r#"{"error": "InternalError", "times": 0}"#, 2), [0; 0]);
    }

    #[test]
    fn a_seed_repeats_whatever_the_order() {
        let keys: Vec<String> = (0..1000).map(|number| format!("key-{number}")).collect();
        let failing = |seed: u64, keys: &[String]| {
            let faults = Faults::default();
            let json = format!(r#"{{"error": "InternalError", "probability": 0.2, "seed": {seed}}}"#);
            faults.add(rule(&json)).unwrap();
            let mut failing: Vec<String> = keys.iter().filter(|key| acts(&faults, key)).cloned().collect();
            failing.sort();
            failing
        };
        let reversed: Vec<String> = keys.iter().rev().cloned().collect();
        let first = failing(1, &keys);
        assert!((150..250).contains(&first.len()), "{}", first.len());
        assert_eq!(first, failing(1, &reversed));
        assert_ne!(first, failing(2, &keys));
    }

    #[test]
    fn a_second_attempt_draws_again() {
        let acted = pattern(r#"{"error": "InternalError", "probability": 0.5}"#, 1000);
        assert!((430..570).contains(&acted.len()), "{}", acted.len());
    }

    #[test]
    fn faults_come_and_go() {
        let faults = Faults::default();
        let first = faults.add(rule(r#"{"error": "InternalError", "key": "a*"}"#)).unwrap();
        let second = faults.add(rule(r#"{"delay": 0}"#)).unwrap();
        assert!(faults.add(FaultRule::default()).is_err());
        let effects = faults.meet(Operation::GetObject, &target("abc"), &HeaderMap::new());
        assert_eq!(effects.faults, [first, second]);
        assert!(acts(&faults, "xyz"));
        let counts: Vec<_> = faults.list().iter().map(|status| (status.id, status.met, status.acted)).collect();
        assert_eq!(counts, [(first, 1, 1), (second, 2, 2)]);
        assert!(faults.remove(second));
        assert!(!faults.remove(second));
        assert!(!acts(&faults, "xyz"));
        faults.clear();
        assert!(!acts(&faults, "abc"));
        assert_eq!(faults.list(), []);
    }
}
