//! The core's events, as records of Python's `logging`.

use std::{
    fmt::{self, Write},
    sync::atomic::{AtomicU8, Ordering},
};

use pyo3::prelude::*;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::visit::visit;

/// Least severe level that is forwarded: 1 error, 2 warning, 3 info, 4 debug.
static LEVEL: AtomicU8 = AtomicU8::new(2);

/// Name of the logger that receives the records.
pub(crate) const LOGGER: &str = "osstorchconnector.native";

/// Forwards events; spans are not used.
struct PythonLog;

fn severity(level: Level) -> (u8, u8) {
    match level {
        Level::ERROR => (1, 40),
        Level::WARN => (2, 30),
        Level::INFO => (3, 20),
        _ => (4, 10),
    }
}

impl Subscriber for PythonLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("oss_") && severity(*metadata.level()).0 <= LEVEL.load(Ordering::Relaxed)
    }

    fn new_span(&self, _attributes: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let (_, python_level) = severity(*event.metadata().level());
        // While the interpreter shuts down, nobody reads the log.
        let _ = visit(|py| -> PyResult<()> {
            let logger = py.import("logging")?.call_method1("getLogger", (LOGGER,))?;
            logger.call_method1("log", (python_level, "%s", text.line()))?;
            Ok(())
        });
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn line(&self) -> String {
        format!("{}{}", self.message, self.fields)
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

/// Forwards events to Python from now on.
pub(crate) fn install() {
    // A second interpreter of the process finds the subscriber in place.
    let _ = tracing::subscriber::set_global_default(PythonLog);
}

/// Sets the least severe level that the core reports, as a number of Python's `logging`.
#[pyfunction]
pub(crate) fn set_log_level(level: u8) {
    let level = match level {
        0..=10 => 4,
        11..=20 => 3,
        21..=30 => 2,
        _ => 1,
    };
    LEVEL.store(level, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}
