//! The ends of a writer: publishing, and taking back.

use std::sync::Arc;

use pyo3::{
    exceptions::{PyBaseException, PyException},
    prelude::*,
};

use crate::{
    error,
    handled::tell_unpublished,
    process::ForkGuard,
    wait::block_on,
    writer::PyWriter,
    writer_state::{Progress, State},
};

pyo3::import_exception!(io, UnsupportedOperation);

/// Whether an exception of the block may be a consequence of an earlier error of this writer. Exceptions of this
/// package are not, and neither are `KeyboardInterrupt` and the like, which are not errors.
pub(crate) fn is_consequence(py: Python<'_>, raised: &Bound<'_, PyAny>) -> bool {
    raised.is_instance_of::<PyException>() && !error::is_of_our_tree(py, &PyErr::from_value(raised.clone()))
}

/// The caller must know the exception of the block: an abort that failed is a note on it.
pub(crate) fn note_unaborted(py: Python<'_>, aborted: PyResult<()>, raised: &Bound<'_, PyAny>) -> PyResult<()> {
    match aborted {
        Err(second) if error::is_of_our_tree(py, &second) => {
            let text = format!("the unfinished upload could not be aborted, its parts remain: {}", second.value(py));
            raised.call_method1("add_note", (text,)).map(drop)
        }
        aborted => aborted,
    }
}

/// torch.save hides that `seek` was refused behind an error about a position. What was refused is a note on it.
pub(crate) fn note_unsupported(py: Python<'_>, raised: &Bound<'_, PyAny>) -> PyResult<()> {
    let context = raised.getattr("__context__")?;
    let is_refusal = |error: &Bound<'_, PyAny>| error.is_instance_of::<UnsupportedOperation>();
    if is_refusal(&context) && !is_refusal(raised) && is_consequence(py, raised) {
        raised.call_method1("add_note", (context.str()?,))?;
    }
    Ok(())
}

impl PyWriter {
    /// Sends the rest and publishes.
    pub(crate) fn finish(&self, py: Python<'_>, state: &mut State) -> PyResult<()> {
        let published = self.advance(py, state, |mut upload| async move {
            match upload.finish().await {
                Ok(published) => Ok(published),
                Err(error) => Err(upload.give_up(error).await),
            }
        })?;
        state.end(Progress::Published(published));
        Ok(())
    }

    pub(crate) fn take_back(&self, py: Python<'_>, state: &mut State) -> PyResult<()> {
        let unfinished = match &state.progress {
            Progress::Open(unfinished) => unfinished.get(py, "writer")?,
            Progress::Failed(_) => {
                state.end(Progress::Aborted);
                return Ok(());
            }
            Progress::Published(_) | Progress::Aborted => return Ok(()),
        };
        let upload = Arc::clone(unfinished.upload());
        let reactor = self.reactor_client.reactor(py)?;
        let aborted = block_on(py, reactor, async move { upload.lock().await.abort().await });
        state.end(Progress::Aborted);
        aborted
    }

    /// Aborts because of an exception, or because what wrote to it was lost, and says so.
    pub(crate) fn abandon(
        &self,
        py: Python<'_>,
        mut state: ForkGuard<'_, State>,
        reason: Option<Bound<'_, PyBaseException>>,
    ) -> PyResult<()> {
        let aborted = self.take_back(py, &mut state);
        drop(state);
        match &reason {
            Some(reason) => note_unaborted(py, aborted, reason)?,
            None => aborted?,
        }
        tell_unpublished(py, &self.uri, reason.as_ref())
    }
}
