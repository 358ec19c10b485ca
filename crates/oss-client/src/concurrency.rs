//! How many requests to keep in flight: more while more brings more, fewer when the service asks for it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::sync::lock;

/// A round is measured over at least this long: shorter ones measure the scheduler.
const ROUND: Duration = Duration::from_millis(30);

/// The first step up. At 35 ms to the first byte, 24 requests reach 512 in three steps of two rounds, a quarter of a
/// second.
const FIRST_GROWTH: f64 = 3.0;

/// The smallest step up. A step stays only if the rate grew by more than the step's square root: without queueing it
/// would have grown by all of it; a smaller step would drown in noise.
const LEAST_GROWTH: f64 = 1.3;

/// A step is kept only if a request takes at most this multiple of its time in the quickest rounds. The rest of a
/// larger limit waits in queues, where its buffers leave the processor's cache and its memory is fresh.
const MOST_QUEUEING: f64 = 2.0;

/// Rounds to wait after a step that did not pay: at first the smaller number, doubled with each failure up to the
/// larger. One round that something else disturbed must not hold a stream back for seconds.
const FIRST_PATIENCE: u32 = 2;
const PATIENCE: u32 = 50;

/// Fewest requests in flight however often the service asks for fewer.
const FLOOR: usize = 4;

/// The number of requests that the streams of one pool keep in flight, steered by the throughput it brings.
#[derive(Debug)]
pub(crate) struct Concurrency {
    limit: AtomicUsize,
    max: AtomicUsize,
    /// Requests in flight, of all streams.
    in_flight: AtomicUsize,
    /// Streams that have any.
    streams: AtomicUsize,
    /// Streams that have less than their share, and wait until others have fewer.
    waiting: AtomicUsize,
    /// Whether the service has asked for fewer.
    overloaded: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    round: Option<Round>,
    /// The factor of the next step up.
    growth: f64,
    /// Limit and rate before the last step up, until it is judged.
    trial: Option<(usize, f64)>,
    /// Seconds that a request took in the quickest round.
    quickest: f64,
    /// The next round is not judged: the additional requests are only being sent in it.
    settling: bool,
    /// Rounds since the last step, and the rounds to wait before the next.
    rested: u32,
    patience: u32,
    /// Attempts in a row that did not pay.
    failures: u32,
    /// The service has asked for fewer in this round.
    backed_off: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            round: None,
            growth: FIRST_GROWTH,
            trial: None,
            quickest: f64::INFINITY,
            // The first round is slow, since it opens connections. Compared with it, any step would seem
            // to pay.
            settling: true,
            rested: 0,
            patience: 0,
            failures: 0,
            backed_off: false,
        }
    }
}

#[derive(Debug)]
struct Round {
    start: Instant,
    completed: usize,
    hungry: bool,
}

impl Round {
    fn beginning(now: Instant) -> Self {
        Self { start: now, completed: 0, hungry: false }
    }
}

impl Concurrency {
    /// Starts at `start` and grows to at most `max`.
    pub(crate) fn new(start: usize, max: usize) -> Self {
        let max = max.max(1);
        Self {
            limit: AtomicUsize::new(start.clamp(1, max)),
            max: AtomicUsize::new(max),
            in_flight: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            overloaded: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Another client shares it: the larger settings hold. Each stream keeps to its own client's besides.
    pub(crate) fn join(&self, start: usize, max: usize) {
        let max = max.max(1);
        self.max.fetch_max(max, Ordering::Relaxed);
        if !self.overloaded.load(Ordering::Relaxed) {
            self.limit.fetch_max(start.clamp(1, max), Ordering::Relaxed);
        }
    }

    /// Most requests to have in flight now.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Most requests of a batch, for all of which the caller waits: the ceiling, unless the service has asked for
    /// fewer.
    pub(crate) fn burst(&self) -> usize {
        if self.overloaded.load(Ordering::Relaxed) { self.limit() } else { self.max.load(Ordering::Relaxed) }
    }

    /// Notes that the first requests are sent: the first round begins now, and is over when they come back.
    pub(crate) fn begin(&self, now: Instant) {
        lock(&self.state).round.get_or_insert_with(|| Round::beginning(now));
    }

    /// Records finished requests. `hungry`: all that are allowed were in flight and the reader still had to wait.
    pub(crate) fn completed(&self, count: usize, hungry: bool, now: Instant) {
        let mut state = lock(&self.state);
        let round = state.round.get_or_insert_with(|| Round::beginning(now));
        round.completed += count;
        round.hungry |= hungry;
        let elapsed = now.duration_since(round.start);
        if elapsed < ROUND || round.completed < self.limit() {
            return;
        }
        let rate = round.completed as f64 / elapsed.as_secs_f64();
        let hungry = round.hungry;
        state.round = Some(Round::beginning(now));
        self.end_round(&mut state, rate, hungry);
    }

    fn end_round(&self, state: &mut State, rate: f64, hungry: bool) {
        state.backed_off = false;
        if std::mem::take(&mut state.settling) {
            return;
        }
        let limit = self.limit();
        // All requests in flight complete in the time that one of them takes.
        let taken = limit as f64 / rate;
        let queueing = taken > state.quickest * MOST_QUEUEING;
        state.quickest = state.quickest.min(taken);
        if let Some((limit_before, rate_before)) = state.trial.take() {
            let pays = rate >= rate_before * (limit as f64 / limit_before as f64).sqrt();
            if !pays || queueing {
                self.limit.store(limit_before, Ordering::Relaxed);
                // The requests above the limit complete in the next round.
                state.settling = true;
                state.rested = 0;
                state.growth = state.growth.sqrt().max(LEAST_GROWTH);
                if pays {
                    // Perhaps the service has become slower; the next attempt is compared with how it is now.
                    state.quickest = limit_before as f64 / rate_before;
                    state.patience = FIRST_PATIENCE;
                } else {
                    state.patience = (FIRST_PATIENCE << state.failures.min(4)).min(PATIENCE);
                    state.failures += 1;
                }
                return;
            }
            (state.failures, state.patience) = (0, 0);
        }
        if state.rested < state.patience {
            state.rested += 1;
            return;
        }
        let next = ((limit as f64 * state.growth).ceil() as usize).min(self.max.load(Ordering::Relaxed));
        if hungry && next > limit {
            state.trial = Some((limit, rate));
            state.settling = true;
            state.rested = 0;
            self.limit.store(next, Ordering::Relaxed);
        }
    }

    /// The service is overloaded: halves the number of requests and stays there for a while.
    pub(crate) fn back_off(&self) {
        self.overloaded.store(true, Ordering::Relaxed);
        let mut state = lock(&self.state);
        // One overload answers many requests in flight; it counts once.
        if !state.backed_off {
            let limit = self.limit();
            self.limit.store((limit / 2).max(FLOOR.min(limit)), Ordering::Relaxed);
        }
        *state = State { growth: LEAST_GROWTH, patience: PATIENCE, backed_off: true, ..State::default() };
    }
}

/// Whether a stream may send one more request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaySend {
    Yes,
    /// Not before others have fewer in flight, or the limit has grown.
    NotNow,
    /// The stream's own setting allows no more.
    OwnLimit,
}

/// The requests of one stream among those that share a limit.
///
/// It may always have one. The streams that have any share the limit evenly. What one does not use, another may,
/// until a stream waits that has less than its share.
#[derive(Debug)]
pub(crate) struct StreamRequests {
    concurrency: Arc<Concurrency>,
    own: usize,
    most: usize,
    waits: bool,
}

impl StreamRequests {
    /// A stream of a client that allows `most` requests.
    pub(crate) fn new(concurrency: Arc<Concurrency>, most: usize) -> Self {
        Self { concurrency, own: 0, most: most.max(1), waits: false }
    }

    /// Notes how many requests the stream has in flight.
    pub(crate) fn in_flight(&mut self, own: usize) {
        let all = &self.concurrency;
        let before = std::mem::replace(&mut self.own, own);
        if own >= before {
            all.in_flight.fetch_add(own - before, Ordering::Relaxed);
        } else {
            all.in_flight.fetch_sub(before - own, Ordering::Relaxed);
        }
        match (before, own) {
            (0, 1..) => all.streams.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => all.streams.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Whether one more may be sent while all streams together may have `limit` in flight.
    pub(crate) fn may_send(&mut self, limit: usize) -> MaySend {
        let all = &self.concurrency;
        let share = (limit / all.streams.load(Ordering::Relaxed).max(1)).max(1);
        let others_wait = all.waiting.load(Ordering::Relaxed) > usize::from(self.waits);
        let entitled = self.own < share;
        let answer = if self.own == 0 {
            MaySend::Yes
        } else if self.own >= self.most {
            MaySend::OwnLimit
        } else if all.in_flight.load(Ordering::Relaxed) < limit && (entitled || !others_wait) {
            MaySend::Yes
        } else {
            MaySend::NotNow
        };
        // It asks again when one of its own requests is done.
        self.wait(answer == MaySend::NotNow && entitled);
        answer
    }

    fn wait(&mut self, waits: bool) {
        if std::mem::replace(&mut self.waits, waits) != waits {
            let waiting = &self.concurrency.waiting;
            if waits {
                waiting.fetch_add(1, Ordering::Relaxed)
            } else {
                waiting.fetch_sub(1, Ordering::Relaxed)
            };
        }
    }
}

impl Drop for StreamRequests {
    fn drop(&mut self) {
        self.in_flight(0);
        self.wait(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service with `latency` per request that serves at most `capacity` requests a second.
    fn simulate(concurrency: &Concurrency, latency: Duration, capacity: f64, rounds: usize) -> usize {
        let mut now = Instant::now();
        concurrency.completed(0, true, now);
        for _ in 0..rounds {
            let limit = concurrency.limit();
            let rate = (limit as f64 / latency.as_secs_f64()).min(capacity);
            let count = limit.max((rate * ROUND.as_secs_f64()).ceil() as usize);
            now += Duration::from_secs_f64(count as f64 / rate);
            concurrency.completed(count, true, now);
        }
        concurrency.limit()
    }

    #[test]
    fn grows_to_the_ceiling_where_latency_rules() {
        let concurrency = Concurrency::new(24, 512);
        assert_eq!(simulate(&concurrency, Duration::from_millis(35), 1e9, 20), 512);
    }

    #[test]
    fn stops_growing_where_more_brings_nothing() {
        let concurrency = Concurrency::new(24, 512);
        // 10,000 a second at 5 ms: 50 in flight suffice.
        let limit = simulate(&concurrency, Duration::from_millis(5), 10_000.0, 40);
        assert!((50..=81).contains(&limit), "{limit}");
    }

    #[test]
    fn a_disturbed_round_holds_it_back_for_a_few_rounds_only() {
        let concurrency = Concurrency::new(24, 512);
        let mut now = Instant::now();
        concurrency.completed(0, true, now);
        for round in 0..30 {
            let disturbance = if round == 2 { 5 } else { 1 };
            now += Duration::from_millis(35) * disturbance;
            concurrency.completed(concurrency.limit(), true, now);
        }
        assert_eq!(concurrency.limit(), 512);
    }

    #[test]
    fn does_not_grow_while_the_reader_is_slower() {
        let concurrency = Concurrency::new(24, 512);
        let mut now = Instant::now();
        for _ in 0..100 {
            now += ROUND;
            concurrency.completed(1000, false, now);
        }
        assert_eq!(concurrency.limit(), 24);
    }

    #[test]
    fn rates_that_only_grow_with_time_are_no_reason_for_more() {
        let concurrency = Concurrency::new(24, 512);
        let mut now = Instant::now();
        for round in 1..100 {
            now += ROUND;
            concurrency.completed(100 * round, true, now);
        }
        assert!(concurrency.limit() <= 72, "{}", concurrency.limit());
    }

    #[test]
    fn a_slow_first_round_makes_no_step_seem_to_pay() {
        let concurrency = Concurrency::new(24, 512);
        let mut now = Instant::now();
        concurrency.begin(now);
        for round in 0..100 {
            now += ROUND;
            concurrency.completed(if round == 0 { 100 } else { 1000 }, true, now);
        }
        assert!(concurrency.limit() <= 32, "{}", concurrency.limit());
    }

    #[test]
    fn the_first_round_is_over_when_the_first_requests_are() {
        let concurrency = Concurrency::new(24, 512);
        let mut now = Instant::now();
        concurrency.begin(now);
        for _ in 0..2 {
            now += Duration::from_millis(35);
            concurrency.completed(24, true, now);
        }
        assert_eq!(concurrency.limit(), 72);
    }

    #[test]
    fn grows_again_after_the_service_has_become_slower() {
        let concurrency = Concurrency::new(24, 512);
        simulate(&concurrency, Duration::from_millis(10), 2400.0, 20);
        assert_eq!(simulate(&concurrency, Duration::from_millis(100), 1e9, 200), 512);
    }

    /// Lets streams send as they may, in turn, until none may; then requests of each complete and it goes on.
    fn share(limit: usize, wanted: &[usize], rounds: usize) -> Vec<usize> {
        let concurrency = Arc::new(Concurrency::new(limit, limit));
        let mut streams: Vec<_> =
            wanted.iter().map(|_| StreamRequests::new(Arc::clone(&concurrency), usize::MAX)).collect();
        for _ in 0..rounds {
            for (stream, wanted) in streams.iter_mut().zip(wanted) {
                stream.in_flight(stream.own.saturating_sub(stream.own.div_ceil(2)));
                while stream.own < *wanted && stream.may_send(limit) == MaySend::Yes {
                    stream.in_flight(stream.own + 1);
                }
            }
            let all: usize = streams.iter().map(|stream| stream.own).sum();
            // Each may have one beside those that fill the limit.
            assert!(all < limit + streams.len(), "{all} requests");
        }
        streams.iter().map(|stream| stream.own).collect()
    }

    #[test]
    fn one_stream_has_the_whole_limit() {
        assert_eq!(share(24, &[1000], 3), [24]);
    }

    #[test]
    fn streams_that_want_more_than_there_is_share_evenly() {
        assert_eq!(share(24, &[1000, 1000, 1000], 20), [8, 8, 8]);
    }

    #[test]
    fn what_a_stream_does_not_use_goes_to_the_others() {
        let shares = share(24, &[1000, 2], 20);
        assert!(shares[0] >= 20 && shares[1] >= 1, "{shares:?}");
    }

    #[test]
    fn every_stream_has_one_however_many_there_are() {
        assert_eq!(share(24, &[1000; 60], 20), [1; 60]);
    }

    #[test]
    fn a_stream_that_ends_returns_its_requests() {
        let concurrency = Arc::new(Concurrency::new(4, 4));
        let mut one = StreamRequests::new(Arc::clone(&concurrency), 3);
        let mut other = StreamRequests::new(Arc::clone(&concurrency), 1000);
        one.in_flight(3);
        assert_eq!(one.may_send(4), MaySend::OwnLimit);
        other.in_flight(1);
        assert_eq!(other.may_send(4), MaySend::NotNow);
        drop(one);
        assert_eq!(other.may_send(4), MaySend::Yes);
        drop(other);
        assert_eq!(concurrency.in_flight.load(Ordering::Relaxed), 0);
        assert_eq!(concurrency.streams.load(Ordering::Relaxed), 0);
        assert_eq!(concurrency.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn backs_off_once_per_overload() {
        let concurrency = Concurrency::new(256, 512);
        for _ in 0..100 {
            concurrency.back_off();
        }
        assert_eq!(concurrency.limit(), 128);
    }

    #[test]
    fn a_batch_is_in_flight_as_a_whole_until_the_service_asks_for_less() {
        let concurrency = Concurrency::new(24, 512);
        assert_eq!(concurrency.burst(), 512);
        concurrency.back_off();
        assert_eq!(concurrency.burst(), 12);
    }

    #[test]
    fn a_configured_single_request_stays_single_under_overload() {
        let concurrency = Concurrency::new(1, 1);
        concurrency.back_off();
        assert_eq!(concurrency.limit(), 1);
    }
}
