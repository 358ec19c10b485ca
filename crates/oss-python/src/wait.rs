//! Waiting for the I/O threads without holding the interpreter, and without ignoring signals.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use oss_client::{Error, Result, sync::lock};
use pyo3::prelude::*;

use crate::{error, runtime::Reactor};

/// How often a waiting thread looks for signals: Ctrl-C feels immediate, and ten wake-ups a second cost nothing.
pub(crate) const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Where the outcome of a task appears.
struct Outcome<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

enum State<T> {
    Running,
    Done(Result<T>),
    /// Dropped before it was done; nothing of it is left.
    Dropped,
    Taken,
}

impl<T> Outcome<T> {
    fn set(&self, outcome: State<T>) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Running) {
            *state = outcome;
            self.changed.notify_all();
        }
    }

    /// Waits until the task is over, at most `patience`.
    fn wait(&self, patience: Duration) -> bool {
        let mut state = lock(&self.state);
        if matches!(*state, State::Running) {
            let waited = self.changed.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        !matches!(*state, State::Running)
    }
}

/// Announces, last of all, that a task is gone.
struct Acknowledge<T>(Arc<Outcome<T>>);

impl<T> Drop for Acknowledge<T> {
    fn drop(&mut self) {
        self.0.set(State::Dropped);
    }
}

/// A task that says when nothing of it can touch memory any more. Fields drop in order: the task, then the announcement.
struct Task<F, T> {
    future: Option<Pin<Box<F>>>,
    acknowledge: Acknowledge<T>,
}

impl<F: Future<Output = Result<T>>, T> Future for Task<F, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else { return Poll::Ready(()) };
        let Poll::Ready(result) = future.as_mut().poll(context) else { return Poll::Pending };
        self.future = None;
        self.acknowledge.0.set(State::Done(result));
        Poll::Ready(())
    }
}

/// Runs a future on an I/O thread and waits for it, detached from the interpreter.
///
/// Returns, also on Ctrl-C, only when the future is done or dropped: memory lent to it is free again.
pub(crate) fn block_on<T: Send + 'static>(
    py: Python<'_>,
    reactor: &Reactor,
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> PyResult<T> {
    let outcome = Arc::new(Outcome { state: Mutex::new(State::Running), changed: Condvar::new() });
    let task = Task { future: Some(Box::pin(future)), acknowledge: Acknowledge(Arc::clone(&outcome)) };
    let running = reactor.handle.spawn(task);
    while !py.detach(|| outcome.wait(SIGNAL_INTERVAL)) {
        if let Err(signal) = py.check_signals() {
            running.abort();
            py.detach(|| while !outcome.wait(SIGNAL_INTERVAL) {});
            return Err(signal);
        }
    }
    let state = std::mem::replace(&mut *lock(&outcome.state), State::Taken);
    match state {
        State::Done(result) => result.map_err(|cause| error::to_python(py, &cause)),
        State::Running | State::Dropped | State::Taken => {
            let text = "the I/O thread stopped before the request was done".to_owned();
            Err(error::to_python(py, &Error::new(oss_client::ErrorKind::Cancelled(text))))
        }
    }
}
