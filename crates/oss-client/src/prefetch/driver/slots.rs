//! The objects of a stream between their requests and their delivery.

use std::collections::{BTreeSet, VecDeque};

use crate::{catalogue::Entry, prefetch::Item};

/// One object between its request and its delivery.
pub(super) enum Slot {
    /// Requested; so many bytes are reserved for it.
    InFlight(usize),
    /// To be requested again, now that its size is known.
    Deferred(Entry),
    /// A member of an archive, to be requested with its neighbours.
    Grouped,
    /// Finished, and to be handed over.
    Done(Item),
    /// Handed over before those in front of it.
    Gone,
}

/// A slot for each object that was taken from the sequence and not handed over yet, in order.
#[derive(Default)]
pub(super) struct Slots {
    slots: VecDeque<Slot>,
    /// Position in the stream of the first slot.
    first: u64,
    /// Positions of the objects that have arrived since the last were handed over; used only for arrival order.
    arrived: Vec<u64>,
    /// Positions of the objects to be requested again.
    deferred: BTreeSet<u64>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Position in the stream of the first slot.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Adds a slot at the end; returns its position.
    pub(super) fn push(&mut self) -> u64 {
        self.slots.push_back(Slot::InFlight(0));
        self.first + self.slots.len() as u64 - 1
    }

    pub(super) fn get(&self, position: u64) -> Option<&Slot> {
        self.slots.get((position - self.first) as usize)
    }

    pub(super) fn set(&mut self, position: u64, slot: Slot) {
        match &slot {
            Slot::Done(_) => self.arrived.push(position),
            Slot::Deferred(_) => {
                self.deferred.insert(position);
            }
            _ => {}
        }
        if let Some(place) = self.slots.get_mut((position - self.first) as usize) {
            *place = slot;
        }
    }

    /// Position of the first object to be requested again.
    pub(super) fn first_deferred(&self) -> Option<u64> {
        self.deferred.first().copied()
    }

    /// Takes an object that is to be requested again.
    pub(super) fn take_deferred(&mut self, position: u64) -> Option<Entry> {
        self.deferred.remove(&position);
        let slot = self.slots.get_mut((position - self.first) as usize)?;
        match std::mem::replace(slot, Slot::InFlight(0)) {
            Slot::Deferred(entry) => Some(entry),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Takes the finished objects before the first unfinished one; `None` if there are none.
    pub(super) fn take_front(&mut self) -> Option<impl Iterator<Item = Item>> {
        self.arrived.clear();
        let done = self.slots.iter().take_while(|slot| matches!(slot, Slot::Done(_))).count();
        self.first += done as u64;
        (done > 0).then(|| {
            self.slots.drain(..done).filter_map(|slot| match slot {
                Slot::Done(item) => Some(item),
                _ => None,
            })
        })
    }

    /// Takes all finished objects, in the order in which they arrived.
    pub(super) fn take_arrived(&mut self) -> Vec<Item> {
        let (slots, first) = (&mut self.slots, self.first);
        let items = (self.arrived.drain(..))
            .filter_map(|position| match std::mem::replace(slots.get_mut((position - first) as usize)?, Slot::Gone) {
                Slot::Done(item) => Some(item),
                _ => None,
            })
            .collect();
        while let Some(Slot::Gone) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        items
    }
}
