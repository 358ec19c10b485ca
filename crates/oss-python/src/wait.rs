//! Waiting for the I/O threads without holding the interpreter, and without ignoring signals.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use oss_client::{Error, Result, metrics::waiting, sync::lock};
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::{error, runtime::Reactor};

/// How often a waiting thread looks for signals: Ctrl-C feels immediate, and ten wake-ups a second cost nothing.
pub(crate) const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Wakes a thread that waits for any of several tasks.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_all();
    }

    /// Whether a task has ended since this was asked before.
    pub(crate) fn has_rung(&self) -> bool {
        std::mem::take(&mut *lock(&self.rung))
    }

    /// Waits until a task ends, at most `patience`.
    pub(crate) fn wait(&self, patience: Duration) {
        let rung = lock(&self.rung);
        if !*rung {
            waiting(|| drop(self.changed.wait_timeout(rung, patience)));
        }
    }
}

/// The outcome of a task.
struct Outcome<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    bell: Option<Arc<Bell>>,
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
            drop(state);
            if let Some(bell) = &self.bell {
                bell.ring();
            }
        }
    }

    /// Waits until the task is over, at most `patience`.
    fn wait(&self, patience: Duration) -> bool {
        let mut state = lock(&self.state);
        if matches!(*state, State::Running) {
            let (woken, _) = waiting(|| self.changed.wait_timeout(state, patience));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        !matches!(*state, State::Running)
    }
}

/// Announces that a task is gone, after everything else of it was dropped.
struct Acknowledge<T>(Arc<Outcome<T>>);

impl<T> Drop for Acknowledge<T> {
    fn drop(&mut self) {
        self.0.set(State::Dropped);
    }
}

/// A task that announces when nothing of it can touch memory any more. Fields drop in order: the task, then the
/// announcement.
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

/// A future that runs on an I/O thread and may hold memory lent by this thread, which must wait for it: see
/// [`Started::end`].
#[must_use]
pub(crate) struct Started<T> {
    outcome: Arc<Outcome<T>>,
    task: AbortHandle,
}

/// Runs a future on an I/O thread.
pub(crate) fn start<T: Send + 'static>(
    reactor: &Reactor,
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Started<T> {
    start_with(reactor, future, None)
}

/// [`start`], with a bell that rings when nothing of the future is left.
pub(crate) fn start_ringing<T: Send + 'static>(
    reactor: &Reactor,
    future: impl Future<Output = Result<T>> + Send + 'static,
    bell: Arc<Bell>,
) -> Started<T> {
    start_with(reactor, future, Some(bell))
}

fn start_with<T: Send + 'static>(
    reactor: &Reactor,
    future: impl Future<Output = Result<T>> + Send + 'static,
    bell: Option<Arc<Bell>>,
) -> Started<T> {
    let outcome = Arc::new(Outcome { state: Mutex::new(State::Running), changed: Condvar::new(), bell });
    let task = Task { future: Some(Box::pin(future)), acknowledge: Acknowledge(Arc::clone(&outcome)) };
    let task = reactor.handle.spawn(task).abort_handle();
    Started { outcome, task }
}

impl<T: Send> Started<T> {
    /// Waits, detached from the interpreter, until the future is done. A signal whose handler raises leaves it running.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        self.watch(py, || Ok(()))
    }

    /// The same, and calls `look` from time to time. If `look` fails, the future is left running as well.
    fn watch(&self, py: Python<'_>, look: impl Fn() -> PyResult<()>) -> PyResult<()> {
        while !py.detach(|| self.outcome.wait(SIGNAL_INTERVAL)) {
            py.check_signals()?;
            look()?;
        }
        Ok(())
    }

    /// Whether nothing of the future is left.
    pub(crate) fn is_over(&self) -> bool {
        !matches!(*lock(&self.outcome.state), State::Running)
    }

    pub(crate) fn cancel(&self) {
        self.task.abort();
    }

    /// Waits until nothing of the future is left.
    pub(crate) fn end(&self, py: Python<'_>) {
        py.detach(|| while !self.outcome.wait(SIGNAL_INTERVAL) {});
    }

    pub(crate) fn take(self, py: Python<'_>) -> PyResult<T> {
        let state = std::mem::replace(&mut *lock(&self.outcome.state), State::Taken);
        match state {
            State::Done(result) => result.map_err(|cause| error::to_python(py, &cause)),
            State::Running | State::Dropped | State::Taken => {
                let text = "the I/O thread stopped before the request was done".to_owned();
                Err(error::to_python(py, &Error::new(oss_client::ErrorKind::Cancelled(text))))
            }
        }
    }
}

/// Waits for all of them, and returns the first error in their order.
///
/// If `before` is an error, or a signal's handler raises one, they are cancelled. Returns in any case only when each is
/// done or dropped: memory lent to them is free again.
pub(crate) fn finish<T: Send>(py: Python<'_>, started: Vec<Started<T>>, before: PyResult<()>) -> PyResult<()> {
    let waited = before.and_then(|()| started.iter().try_for_each(|one| one.wait(py)));
    if waited.is_err() {
        started.iter().for_each(Started::cancel);
    }
    for one in &started {
        one.end(py);
    }
    waited?;
    started.into_iter().try_for_each(|one| one.take(py).map(|_| ()))
}

/// Runs a future on an I/O thread and waits for it, detached from the interpreter.
///
/// Returns, also on Ctrl-C, only when the future is done or dropped: memory lent to it is free again.
pub(crate) fn block_on<T: Send + 'static>(
    py: Python<'_>,
    reactor: &Reactor,
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> PyResult<T> {
    block_on_watched(py, reactor, future, || Ok(()))
}

/// [`block_on`] that calls `look` ten times a second. If `look` fails, the future is cancelled.
pub(crate) fn block_on_watched<T: Send + 'static>(
    py: Python<'_>,
    reactor: &Reactor,
    future: impl Future<Output = Result<T>> + Send + 'static,
    look: impl Fn() -> PyResult<()>,
) -> PyResult<T> {
    let started = start(reactor, future);
    if let Err(signal) = started.watch(py, look) {
        started.cancel();
        started.end(py);
        return Err(signal);
    }
    started.take(py)
}
