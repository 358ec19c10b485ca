//! The connections that a process may have: up to half of the files that it may open, and fewer if the program needs
//! them.

use std::{
    fmt, io,
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};
use tokio::{net::TcpStream, sync::Semaphore};

use crate::sync::lock;

/// Connections have at most this part of the files that a process may open. Of the usual 1,024, half are as many as
/// `max_concurrency` allows.
const FOR_CONNECTIONS: u64 = 2;

/// Files that a program has besides: 60 datasets that begin at the same time have two each, and its interpreter, loggers
/// and libraries fifty. If the limit is so low that nothing is left, connections have a third.
const FOR_PROGRAM: u64 = 170;
const AT_LEAST: u64 = 3;

/// If no more than this part of the files can still be opened, or no more than so many, connections become fewer. While
/// it is listed, a dataset has two open files.
const SCARCE: u64 = 8;
const SCARCE_FILES: u64 = 64;

/// Connections that a process may always try to have. With one, each request would wait for the one before it.
const FLOOR: usize = 4;

/// If files are scarce, a quarter of the connections gives way. One new connection in many notices it, so not more than
/// once in this time.
const STEP: Duration = Duration::from_millis(100);

/// How long after that more are tried again, an eighth at a time: the program may have closed its files.
const RECOVERY: Duration = Duration::from_secs(1);

/// How long a request waits that got no descriptor, while other requests have connections that end. They take
/// milliseconds.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// Most connections if there is no limit of files: more than any process has.
const UNLIMITED: u64 = 1 << 20;

/// Closes idle connections, so that others can be opened.
pub(crate) trait Idle: Send + Sync {
    /// Closes one; returns whether there was one.
    fn close_one(&self) -> bool;
}

/// Who has a connection, in one process.
pub(crate) struct Descriptors {
    /// One permit for each request that may have a connection, in the order of asking.
    requests: Semaphore,
    /// Connections, the idle ones included.
    open: AtomicUsize,
    idle: Mutex<Vec<Weak<dyn Idle>>>,
    limit: Mutex<Limit>,
    /// Whether the limit is below what the system allows, or permits are still to be taken away.
    restrained: AtomicBool,
    warned: AtomicBool,
}

/// How many requests may have a connection.
struct Limit {
    /// What the system said.
    files: u64,
    now: usize,
    /// Permits that are taken away when they are returned.
    excess: usize,
    changed: Instant,
}

/// The right of one request to have a connection.
pub(crate) struct Permit(Arc<Descriptors>);

impl Permit {
    /// Whether the connection of this request stays open when the request has ended.
    pub(crate) fn keeps_connection(&self) -> bool {
        let descriptors = &self.0;
        !descriptors.restrained.load(Ordering::Relaxed)
            || descriptors.open.load(Ordering::Relaxed) <= lock(&descriptors.limit).now
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.restrained.load(Ordering::Relaxed) {
            self.0.returned();
        } else {
            self.0.requests.add_permits(1);
        }
    }
}

/// One of the connections of a process.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Descriptors>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Files that this process may open.
fn most_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED).min(UNLIMITED)
}

fn scarce_of(files: u64) -> u64 {
    (files / SCARCE).max(SCARCE_FILES.min(files / FOR_CONNECTIONS))
}

fn most_connections(files: u64) -> usize {
    let most = (files / FOR_CONNECTIONS).min(files.saturating_sub(FOR_PROGRAM)).max(files / AT_LEAST);
    usize::try_from(most).unwrap_or(usize::MAX).max(FLOOR)
}

impl Default for Descriptors {
    fn default() -> Self {
        let files = most_files();
        let now = most_connections(files);
        Self {
            requests: Semaphore::new(now),
            open: AtomicUsize::new(0),
            idle: Mutex::default(),
            limit: Mutex::new(Limit { files, now, excess: 0, changed: Instant::now() }),
            restrained: AtomicBool::new(false),
            warned: AtomicBool::new(false),
        }
    }
}

impl fmt::Debug for Descriptors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Descriptors").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Descriptors {
    /// Makes known idle connections that may be closed.
    pub(crate) fn register(&self, idle: Weak<dyn Idle>) {
        let mut all = lock(&self.idle);
        all.retain(|idle| idle.strong_count() > 0);
        all.push(idle);
    }

    /// The permit of one more request, if it need not wait.
    pub(crate) fn try_permit(self: &Arc<Self>) -> Option<Permit> {
        self.requests.try_acquire().ok()?.forget();
        Some(Permit(Arc::clone(self)))
    }

    /// Waits until one more request may have a connection.
    pub(crate) async fn permit(self: &Arc<Self>) -> Permit {
        if !self.warned.swap(true, Ordering::Relaxed) {
            let limit = lock(&self.limit);
            tracing::warn!(
                "this process may open {} files, so at most {} requests have a connection at the same time, and others \
                 wait; raise the limit (ulimit -n) if that is too slow",
                limit.files,
                limit.now
            );
        }
        match self.requests.acquire().await {
            Ok(permit) => permit.forget(),
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
        Permit(Arc::clone(self))
    }

    /// Connections, the idle ones included.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a new connection. If there are too many, or few files can be opened, others make room for it.
    pub(crate) fn opened(self: &Arc<Self>, stream: &TcpStream) -> Counted {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let files = most_files();
        let mut limit = lock(&self.limit);
        if limit.files != files {
            limit.files = files;
            self.change(&mut limit, most_connections(files));
        }
        let most = limit.now;
        drop(limit);
        // A new descriptor has the lowest free number, so all lower ones are in use.
        let in_use = u64::try_from(stream.as_raw_fd()).unwrap_or_default();
        let scarce = in_use >= files - scarce_of(files);
        let made_room = (scarce || open > most) && self.close_idle();
        if scarce && !made_room {
            self.reduce();
        }
        Counted(Arc::clone(self))
    }

    /// Whether no connection could be opened because there is no descriptor.
    pub(crate) fn exhausted(error: &io::Error) -> bool {
        matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
    }

    /// After such a failure: makes room, and returns whether waiting can help, because there are other connections.
    pub(crate) fn make_room(&self) -> bool {
        if !self.close_idle() {
            self.reduce();
        }
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Closes the idle connection of anybody; returns whether there was one.
    fn close_idle(&self) -> bool {
        let all: Vec<_> = lock(&self.idle).iter().filter_map(Weak::upgrade).collect();
        all.iter().any(|idle| idle.close_one())
    }

    /// A quarter of the connections gives way.
    fn reduce(&self) {
        let mut limit = lock(&self.limit);
        if limit.changed.elapsed() < STEP && self.restrained.load(Ordering::Relaxed) {
            return;
        }
        let open = self.open.load(Ordering::Relaxed).min(limit.now);
        self.change(&mut limit, (open - open / 4).max(FLOOR));
    }

    /// A request has ended while there are restraints.
    fn returned(&self) {
        let mut limit = lock(&self.limit);
        if limit.excess > 0 {
            limit.excess -= 1;
        } else {
            self.requests.add_permits(1);
        }
        let most = most_connections(limit.files);
        if limit.now < most && limit.changed.elapsed() >= RECOVERY {
            let more = (limit.now / 8).max(1);
            let next = (limit.now + more).min(most);
            self.change(&mut limit, next);
        }
    }

    fn change(&self, limit: &mut Limit, next: usize) {
        if next > limit.now {
            let more = next - limit.now;
            let kept = limit.excess.min(more);
            limit.excess -= kept;
            self.requests.add_permits(more - kept);
        } else {
            let fewer = limit.now - next;
            limit.excess += fewer - self.requests.forget_permits(fewer);
        }
        limit.now = next;
        limit.changed = Instant::now();
        let restrained = limit.excess > 0 || next < most_connections(limit.files);
        self.restrained.store(restrained, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_files(files: u64) -> Arc<Descriptors> {
        let descriptors = Descriptors::default();
        let mut limit = lock(&descriptors.limit);
        limit.files = files;
        descriptors.change(&mut limit, most_connections(files));
        drop(limit);
        Arc::new(descriptors)
    }

    fn take_all(descriptors: &Arc<Descriptors>) -> Vec<Permit> {
        std::iter::from_fn(|| descriptors.try_permit()).collect()
    }

    #[test]
    fn connections_have_half_of_the_files_or_what_a_program_leaves() {
        for (files, connections) in [(1024, 512), (340, 170), (256, 86), (128, 42), (4, FLOOR)] {
            assert_eq!(take_all(&with_files(files)).len(), connections, "{files}");
        }
    }

    #[test]
    fn scarce_files_take_permits_away_as_requests_end_and_give_them_back_in_time() {
        let descriptors = with_files(1024);
        let mut held = take_all(&descriptors);
        descriptors.open.store(512, Ordering::Relaxed);
        descriptors.reduce();
        // Another connection that notices the same.
        descriptors.reduce();
        held.truncate(384);
        assert!(descriptors.try_permit().is_none());
        held.truncate(383);
        let last = descriptors.try_permit();
        assert!(last.is_some());
        assert!(descriptors.try_permit().is_none());
        lock(&descriptors.limit).changed -= RECOVERY;
        drop(last);
        held.extend(take_all(&descriptors));
        assert_eq!(held.len(), 384 + 48);
        for _ in 0..10 {
            lock(&descriptors.limit).changed -= RECOVERY;
            held.pop();
            held.extend(take_all(&descriptors));
        }
        assert_eq!(held.len(), 512);
        assert!(!descriptors.restrained.load(Ordering::Relaxed));
    }

    #[test]
    fn connections_close_with_their_requests_if_there_are_too_many() {
        let descriptors = with_files(1024);
        let held = take_all(&descriptors);
        descriptors.open.store(512, Ordering::Relaxed);
        assert!(held[0].keeps_connection());
        descriptors.reduce();
        assert!(!held[0].keeps_connection());
        descriptors.open.store(384, Ordering::Relaxed);
        assert!(held[0].keeps_connection());
    }

    #[test]
    fn the_floor_stays_however_often_files_are_scarce() {
        let descriptors = with_files(64);
        for _ in 0..20 {
            lock(&descriptors.limit).changed -= STEP;
            descriptors.reduce();
        }
        assert_eq!(take_all(&descriptors).len(), FLOOR);
    }
}
