//! The order of a dataset, for Python.

use oss_client::order::{Even, Order as Formula, Shuffle};
use pyo3::{exceptions::PyIndexError, prelude::*};

use crate::error;

/// The order formula with all its numbers.
#[pyclass(frozen, name = "Order", module = "osstorchconnector._native")]
#[derive(Debug)]
pub(crate) struct PyOrder {
    formula: Formula,
}

/// What the argument `shuffle` may be. A bool is asked for first, since it is an int too.
#[derive(FromPyObject)]
pub(crate) enum ShuffleArgument {
    Full(bool),
    Blocks(u64),
}

impl PyOrder {
    pub(crate) fn formula(&self) -> Formula {
        self.formula
    }
}

#[pymethods]
impl PyOrder {
    #[new]
    #[pyo3(
        signature = (
            *, seed = 0, epoch = 0, shuffle = ShuffleArgument::Full(false), start = 0, rank = 0, world = 1, batch_size = 1,
            even = "pad", worker = 0, workers = 1, skip = 0, chunks = false
        ),
        text_signature = "(*, seed=0, epoch=0, shuffle=False, start=0, rank=0, world=1, batch_size=1, even='pad', worker=0, \
                          workers=1, skip=0, chunks=False)"
    )]
    #[expect(clippy::too_many_arguments, reason = "the numbers of the formula, by name")]
    fn new(
        py: Python<'_>,
        seed: u64,
        epoch: u64,
        shuffle: ShuffleArgument,
        start: u64,
        rank: u64,
        world: u64,
        batch_size: u64,
        even: &str,
        worker: u64,
        workers: u64,
        skip: u64,
        chunks: bool,
    ) -> PyResult<Self> {
        let shuffle = match shuffle {
            ShuffleArgument::Full(_) if chunks => {
                return Err(error::config(py, "chunks need a number of entries as shuffle"));
            }
            ShuffleArgument::Full(true) => Shuffle::Full,
            ShuffleArgument::Full(false) => Shuffle::No,
            ShuffleArgument::Blocks(0) => return Err(error::config(py, "a block to shuffle holds at least 1 entry")),
            ShuffleArgument::Blocks(size) if chunks => Shuffle::Chunks(size),
            ShuffleArgument::Blocks(size) => Shuffle::Blocks(size),
        };
        let even = match even {
            "pad" => Even::Pad,
            "drop" => Even::Drop,
            "none" => Even::None,
            other => return Err(error::config(py, format!("even must be 'pad', 'drop' or 'none', not {other:?}"))),
        };
        for (name, index, count) in [("rank", rank, world), ("worker", worker, workers)] {
            if index >= count {
                return Err(error::config(py, format!("{name} {index} is not one of {count}, which count from 0")));
            }
        }
        // Products of these stay far below 2**64.
        let most = 1 << 30;
        for (name, value) in [("batch_size", batch_size), ("world", world), ("workers", workers)] {
            if !(1..=most).contains(&value) {
                return Err(error::config(py, format!("{name} must be 1 to {most}, not {value}")));
            }
        }
        for (name, value) in [("start", start), ("skip", skip)] {
            if value >= 1 << 62 {
                return Err(error::config(py, format!("{name} must be below 2**62, not {value}")));
            }
        }
        let formula = Formula { seed, epoch, shuffle, start, rank, world, batch_size, even, worker, workers, skip };
        Ok(Self { formula })
    }

    fn length(&self, count: u64) -> u64 {
        self.formula.length(count)
    }

    fn entry(&self, position: u64, count: u64) -> PyResult<u64> {
        let length = self.formula.length(count);
        if position >= length {
            return Err(PyIndexError::new_err(format!("position {position} is out of range for {length} positions")));
        }
        Ok(self.formula.entry(position, count))
    }

    fn __repr__(&self) -> String {
        let Formula { seed, epoch, shuffle, start, rank, world, batch_size, even, worker, workers, skip } =
            self.formula;
        let shuffle = match shuffle {
            Shuffle::No => "False".to_owned(),
            Shuffle::Full => "True".to_owned(),
            Shuffle::Blocks(size) => size.to_string(),
            Shuffle::Chunks(size) => format!("{size}, chunks=True"),
        };
        let even = match even {
            Even::Pad => "pad",
            Even::Drop => "drop",
            Even::None => "none",
        };
        format!(
            "Order(seed={seed}, epoch={epoch}, shuffle={shuffle}, start={start}, rank={rank}, world={world}, \
             batch_size={batch_size}, even='{even}', worker={worker}, workers={workers}, skip={skip})"
        )
    }
}
