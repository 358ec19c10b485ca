//! `osstorchconnector._native`: the border between Python and the core.
//!
//! Each function converts, leaves the interpreter, lets an I/O thread do the work, and converts back. No logic lives
//! here beyond that, and no other crate knows Python.

#![expect(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "arguments and receivers are as Python passes them"
)]

mod buffer;
mod checksum;
mod client;
mod config;
mod credentials;
mod data_object;
mod emulator;
mod error;
mod handled;
mod listing_file;
mod listing_task;
mod log;
mod metrics;
mod object_listing;
mod object_pages;
mod object_stream;
mod object_table;
mod order;
mod oss_reader;
mod pickle;
mod prefix_to_list;
mod process;
mod range_fetcher;
mod ranged;
mod reactor_client;
mod runtime;
mod stream_protocol;
mod trace;
mod unfinished;
mod uri;
mod visit;
mod wait;
mod writer;
mod writer_ending;
mod writer_state;

/// The native core.
#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::{
        checksum::{crc64, crc64_combine},
        client::PyClient,
        config::infer_region,
        data_object::{PyDataObject, data_object_from_bytes, new_data_object},
        emulator::run_emulator,
        listing_file::PyListingFile,
        log::set_log_level,
        metrics::{Stopwatch, counts, waited_here},
        object_listing::PyObjectListing,
        object_pages::PyObjectPages,
        object_stream::PyObjectStream,
        object_table::PyObjectTable,
        order::PyOrder,
        oss_reader::PyOssReader,
        pickle::pickle_problem,
        prefix_to_list::PyPrefixToList,
        range_fetcher::{PyFetchedRange, PyRangeFetcher},
        stream_protocol::replaces_cause,
        trace::{PyTrace, swap_trace},
        unfinished::end_uploads,
        uri::parse_uri,
        writer::PyWriter,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        oss_protocol::crc64::prepare();
        crate::log::install();
        crate::process::watch_forks(module)?;
        crate::visit::watch_end(module)?;
        module.add("__version__", oss_client::version())?;
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        module.add("build_profile", profile)
    }
}
