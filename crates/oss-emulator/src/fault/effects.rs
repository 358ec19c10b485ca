//! The effects of all faults together on one request.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, StatusCode, header as standard};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::time::format_http_date;

use super::action::Position;
use super::body::{AnswerBody, Spoiler};
use super::draw::Draw;
use super::line::{Ending, Line, Pace};
use super::rule::FaultRule;
use crate::response::{Response, ServiceError, set};

/// The code of a throttled request, if the rule has no `error`.
const THROTTLED: &str = "TotalQpsLimitExceeded";

/// The effects of all faults together on one request. Delays add up, and the lowest rate counts. If two faults set the same
/// effect, the first one wins.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// The faults that act.
    pub(crate) faults: Vec<u64>,
    pub(crate) delay: Duration,
    pub(crate) pace: Option<Arc<Pace>>,
    lose_reply: bool,
    refusal: Option<Refusal>,
    ending: Option<(Position, Ending)>,
    flip: Option<Position>,
    wrong_crc: bool,
    /// In seconds.
    clock_skew: Option<f64>,
}

#[derive(Debug, Clone)]
struct Refusal {
    code: ErrorCode,
    status: Option<u16>,
    delay_time: Option<Duration>,
}

impl Effects {
    /// Adds what a rule does. `shared` is its rate for all requests together.
    pub(super) fn add(&mut self, fault: u64, rule: &FaultRule, shared: Option<&Arc<Pace>>, draw: &mut Draw) {
        self.faults.push(fault);
        if let Some(delay) = rule.delay {
            self.delay += delay.sample(draw);
        }
        let own = rule.bandwidth.map(|rate| Arc::new(Pace::new(rate)));
        for pace in own.into_iter().chain(shared.cloned()) {
            if self.pace.as_ref().is_none_or(|slowest| pace.bytes_per_second() < slowest.bytes_per_second()) {
                self.pace = Some(pace);
            }
        }
        self.refusal = self.refusal.take().or_else(|| refusal(rule));
        self.ending = self.ending.or_else(|| ending(rule));
        self.flip = self.flip.or(rule.flip);
        self.wrong_crc |= rule.wrong_crc;
        self.lose_reply |= rule.lose_reply;
        self.clock_skew = self.clock_skew.or(rule.clock_skew);
    }

    /// The time by the clock that the request is judged by.
    pub(crate) fn now(&self) -> SystemTime {
        self.clock_skew.map_or_else(SystemTime::now, skewed)
    }

    /// How the request ends before it is executed, if a fault ends it there.
    pub(crate) fn ending_before(&self) -> Option<Ending> {
        match self.ending {
            Some((Position::Before, ending)) => Some(ending),
            _ => None,
        }
    }

    /// The refusal, if the request is refused.
    pub(crate) fn refusal(&self) -> Option<ServiceError> {
        let refusal = self.refusal.as_ref()?;
        let error = ServiceError::new(refusal.code.clone());
        Some(match refusal.delay_time {
            None => error,
            Some(time) => error.with_header(header::QOS_DELAY_TIME, HeaderValue::from(time.as_millis() as u64)),
        })
    }

    /// The status of the refusal, if the rule sets one.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.refusal.as_ref()?.status?).ok()
    }

    /// Changes the headers of the answer.
    pub(crate) fn change_headers(&self, response: &mut Response) {
        if let Some(seconds) = self.clock_skew {
            set(response, standard::DATE, format_http_date(skewed(seconds)));
        }
        if !self.wrong_crc {
            return;
        }
        let crc64 = response.headers().get(header::HASH_CRC64ECMA).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(crc64) = crc64 {
            let crc64: u64 = crc64;
            set(response, header::HASH_CRC64ECMA, (crc64 ^ 1).to_string());
        }
    }

    /// How the request ends without an answer, if a fault ends it there. An answer without a body has no middle.
    pub(crate) fn ending_instead(&self, size: u64) -> Option<Ending> {
        if self.lose_reply {
            return Some(Ending::Reset);
        }
        self.ending.filter(|_| size == 0).map(|(_, ending)| ending)
    }

    /// Spoils a body of `size` bytes.
    pub(crate) fn spoil(&self, body: &mut AnswerBody, size: u64, line: &Arc<Line>) {
        let ending = self.ending.and_then(|(position, ending)| Some((position.within(size)?, ending)));
        let flip = self.flip.and_then(|position| position.within(size));
        if ending.is_some() || flip.is_some() {
            body.spoil(Spoiler { line: Arc::clone(line), ending, flip, sent: 0 });
        }
    }
}

fn refusal(rule: &FaultRule) -> Option<Refusal> {
    if rule.expired_token {
        return Some(Refusal { code: ErrorCode::SecurityTokenExpired, status: None, delay_time: None });
    }
    let code = rule.error.as_deref();
    match (rule.throttle, code) {
        (None, None) => None,
        (None, Some(code)) => Some(Refusal { code: ErrorCode::from(code), status: rule.status, delay_time: None }),
        (Some(seconds), code) => Some(Refusal {
            code: ErrorCode::from(code.unwrap_or(THROTTLED)),
            status: Some(rule.status.unwrap_or(503)),
            delay_time: Some(Duration::from_secs_f64(seconds)),
        }),
    }
}

fn ending(rule: &FaultRule) -> Option<(Position, Ending)> {
    let reset = rule.reset.map(|position| (position, Ending::Reset));
    let close = rule.truncate.map(|position| (position, Ending::Close));
    let stall = rule.stall.map(|position| (position, Ending::Stall));
    reset.or(close).or(stall)
}

/// The time of a clock that is `seconds` ahead. The limits of rules ensure that this time exists.
fn skewed(seconds: f64) -> SystemTime {
    let now = SystemTime::now();
    let distance = Duration::from_secs_f64(seconds.abs());
    if seconds < 0.0 { now - distance } else { now + distance }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::action::Delay;
    use crate::response::empty;

    fn together(rules: &[FaultRule]) -> Effects {
        let mut effects = Effects::default();
        for (number, rule) in rules.iter().enumerate() {
            effects.add(number as u64, rule, None, &mut Draw::new(0));
        }
        effects
    }

    #[test]
    fn delays_add_up_and_the_lowest_rate_counts() {
        let slow = FaultRule { delay: Some(Delay::Fixed(0.5)), bandwidth: Some(100.0), ..FaultRule::default() };
        let slower = FaultRule { delay: Some(Delay::Fixed(0.25)), bandwidth: Some(10.0), ..FaultRule::default() };
        let effects = together(&[slow.clone(), slower, slow]);
        assert_eq!(effects.delay, Duration::from_millis(1250));
        assert!((effects.pace.unwrap().bytes_per_second() - 10.0).abs() < f64::EPSILON);
        assert_eq!(effects.faults, [0, 1, 2]);
    }

    #[test]
    fn the_first_refusal_and_the_first_ending_count() {
        let error = |code: &str| FaultRule { error: Some(code.to_owned()), ..FaultRule::default() };
        let stall = FaultRule { stall: Some(Position::Middle), ..FaultRule::default() };
        let reset = FaultRule { reset: Some(Position::Before), ..FaultRule::default() };
        let effects = together(&[error("InternalError"), stall, error("AccessDenied"), reset]);
        assert_eq!(effects.refusal().unwrap().code(), &ErrorCode::InternalError);
        assert_eq!(effects.ending_instead(0), Some(Ending::Stall));
        assert_eq!((effects.ending_before(), effects.ending_instead(1)), (None, None));
    }

    #[test]
    fn a_wrong_checksum_is_another_number_and_none_stays_none() {
        let rule = FaultRule { wrong_crc: true, ..FaultRule::default() };
        let effects = together(&[rule]);
        let mut response = empty(StatusCode::OK);
        effects.change_headers(&mut response);
        assert!(response.headers().is_empty());
        set(&mut response, header::HASH_CRC64ECMA, u64::MAX.to_string());
        effects.change_headers(&mut response);
        assert_eq!(response.headers()[header::HASH_CRC64ECMA], (u64::MAX - 1).to_string());
    }

    #[test]
    fn clocks_go_both_ways() {
        for seconds in [3600.0, -3600.0] {
            let effects = together(&[FaultRule { clock_skew: Some(seconds), ..FaultRule::default() }]);
            let now = SystemTime::now();
            let apart = match effects.now().duration_since(now) {
                Ok(ahead) => ahead.as_secs_f64(),
                Err(behind) => -behind.duration().as_secs_f64(),
            };
            assert!((apart - seconds).abs() < 5.0, "{apart}");
        }
    }
}
