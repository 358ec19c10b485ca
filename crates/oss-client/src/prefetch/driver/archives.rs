//! Members of archives: many are taken at once and grouped, so that one request fetches those that lie close
//! together.

use std::collections::VecDeque;

use futures_util::{FutureExt as _, stream::FuturesUnordered};

use super::{Admitted, Driver, FetchFuture, FetchedEntry, MOST_OBJECTS, Slot};
use crate::{
    error::{Error, ErrorKind},
    prefetch::{
        Item, Outcome,
        queue::Load,
        spans::{self, Member, MemberRun},
    },
};

/// Share of the budget for grouped members. The next group also fits while one is delivered.
const HORIZON_SHARE: u64 = 2;

/// Runs that begin in this last share of a group wait for the next group, which may hold the rest of their chunk. Of a
/// shuffled chunk, the grouped part lies scattered, and so does the rest. A half, so that a chunk of up to half a group
/// is read whole.
const WAITING_SHARE: u64 = 2;

/// Members that were taken from the sequence and are not requested yet.
#[derive(Default)]
pub(super) struct Archives {
    /// Runs to be requested, in the order of their first positions.
    runs: VecDeque<MemberRun>,
    /// Members that wait to be grouped with those that come next.
    waiting: Vec<Member>,
}

impl Driver {
    /// Whether members of archives are next: grouped already, or to be taken.
    pub(super) fn members_are_next(&mut self) -> bool {
        !self.archives.runs.is_empty() || self.next_is_member() || self.release_waiting()
    }

    /// Requests the next run, or groups the next members if there is none.
    pub(super) fn admit_members(&mut self, in_flight: &mut FuturesUnordered<FetchFuture>, load: Load) -> Admitted {
        if self.archives.runs.is_empty() { self.group_members(load) } else { self.admit_run(in_flight, load) }
    }

    fn next_is_member(&mut self) -> bool {
        self.end.is_ok() && self.sequence.peek().is_some_and(|next| next.span.is_some())
    }

    /// Takes the next members from the sequence, as many as half the budget holds, and groups them into runs. So
    /// members also come together if they lie further apart in the stream than in the archive.
    fn group_members(&mut self, load: Load) -> Admitted {
        let is_full = |load: Load| self.slots.len() + load.items > MOST_OBJECTS / 2;
        if is_full(load) {
            match self.queue.load_before_waiting() {
                None => return Admitted::Abandoned,
                Some(load) if is_full(load) => return Admitted::NoRoom,
                Some(_) => {}
            }
        }
        let most = self.budget.bytes() as u64 / HORIZON_SHARE;
        let mut members = std::mem::take(&mut self.archives.waiting);
        let mut bytes: u64 = members.iter().map(Member::size).sum();
        while members.len() < MOST_OBJECTS / 2
            && let Some(next) = self.sequence.peek().filter(|next| next.span.is_some())
            && (members.is_empty() || bytes + next.size.unwrap_or_default() <= most)
            && let Some(entry) = self.sequence.pop()
        {
            let position = self.slots.push();
            match Member::of(position, entry) {
                Ok(member) if member.size() > self.large as u64 => {
                    let item = Item { entry: member.entry, outcome: Ok(Outcome::Large(None)) };
                    self.slots.set(position, Slot::Done(item));
                }
                Ok(member) => {
                    bytes += member.size();
                    self.slots.set(position, Slot::Grouped);
                    members.push(member);
                }
                Err(entry) => {
                    let text = "a member of an archive needs a size; make the index again".to_owned();
                    let error = Error::from(ErrorKind::Config(text)).on(Some(&entry.bucket), Some(&entry.key));
                    self.slots.set(position, Slot::Done(Item { entry, outcome: Err(error) }));
                }
            }
        }
        let positions = members.iter().map(|member| member.position);
        let span = positions.clone().min().zip(positions.max());
        let mut runs = spans::runs(members, self.budget.bytes());
        if let Some((first, last)) = span
            && self.more_may_come()
        {
            let wait_from = last + 1 - (last + 1 - first) / WAITING_SHARE;
            let kept = runs.partition_point(|run| run.first() < wait_from);
            self.archives.waiting.extend(runs.drain(kept..).flat_map(|run| run.members));
        }
        self.archives.runs.extend(runs);
        Admitted::Yes
    }

    /// Whether members of archives follow, as far as is known.
    fn more_may_come(&mut self) -> bool {
        self.end.is_ok() && !self.sequence.is_exhausted() && self.sequence.peek().is_none_or(|next| next.span.is_some())
    }

    /// Groups the members that wait for others, once none can come; returns whether there are any.
    fn release_waiting(&mut self) -> bool {
        if self.archives.waiting.is_empty() || self.more_may_come() {
            return false;
        }
        let waiting = std::mem::take(&mut self.archives.waiting);
        self.archives.runs.extend(spans::runs(waiting, self.budget.bytes()));
        true
    }

    fn admit_run(&mut self, in_flight: &mut FuturesUnordered<FetchFuture>, load: Load) -> Admitted {
        let Some(run) = self.archives.runs.front() else { return Admitted::Yes };
        let (bytes, next) = (run.bytes() as usize, run.first() == self.slots.first());
        // All others wait for the next one, so it may start when the reader has taken everything that is ready.
        let fits = |load: Load| {
            let forced = next && load.items == 0;
            if forced {
                self.budget.reserve(bytes);
            }
            forced || self.budget.try_reserve(bytes)
        };
        if !fits(load) {
            self.budget.wake_when_returned();
            match self.queue.load_before_waiting() {
                None => return Admitted::Abandoned,
                Some(load) if !fits(load) => return Admitted::NoRoom,
                Some(_) => {}
            }
        }
        if let Some(run) = self.archives.runs.pop_front() {
            for member in &run.members {
                self.slots.set(member.position, Slot::InFlight(member.size() as usize));
            }
            let fetched = spans::fetch(self.client.clone(), run);
            in_flight.push(fetched.map(FetchedEntry::Many).boxed());
        }
        Admitted::Yes
    }
}
