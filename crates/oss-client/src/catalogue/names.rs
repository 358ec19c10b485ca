//! Names that many rows share: buckets and archives, numbered in the order of their first use.

use std::{collections::HashMap, sync::Arc};

/// The names of a catalogue that is being written.
#[derive(Debug, Default)]
pub(super) struct Names {
    list: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Names {
    /// Continues after names that have numbers already.
    pub(super) fn after(known: &[Arc<str>]) -> Self {
        let numbers = known.iter().cloned().zip(0..).collect();
        Self { list: known.to_vec(), numbers }
    }

    /// The number of a name; a new name gets the next one.
    pub(super) fn number(&mut self, name: &str) -> u32 {
        // Most rows have the bucket and the archive of the row before.
        if let Some(last) = self.list.last()
            && **last == *name
        {
            return self.list.len() as u32 - 1;
        }
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let name: Arc<str> = name.into();
        let number = self.list.len() as u32;
        self.list.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    pub(super) fn list(&self) -> &[Arc<str>] {
        &self.list
    }
}
