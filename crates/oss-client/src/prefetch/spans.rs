//! Members of archives: those that lie close together come with one request.

use std::ops::Range;

use futures_util::future::BoxFuture;

use super::Entry;
use crate::{
    buffer::PooledBuffer,
    client::Client,
    coalesce::{Located, coalesce},
    error::{Error, ErrorKind, Result, too_large},
    ops::{
        get::{FetchedObject, Part},
        head::ObjectMeta,
    },
};

/// Most bytes of a gap between two members that is read and dropped: so many cost a processor half of what another
/// request does (docs/decisions/archives.md). Headers and padding are 512 to 2,048 bytes a member.
const LARGEST_GAP: u64 = 32 << 10;

/// Most bytes of one request: enough that the request itself costs next to nothing, few enough that several are in
/// flight and that the first member arrives soon.
const LARGEST_REQUEST: u64 = 8 << 20;

/// Share of the budget that one request may hold.
const REQUEST_SHARE: u64 = 16;

/// A member, and its position in the stream.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) position: u64,
    pub(super) entry: Entry,
    offset: u64,
    size: u64,
}

impl Member {
    /// The member, if the entry lies in an archive; otherwise the entry.
    pub(super) fn of(position: u64, entry: Entry) -> std::result::Result<Self, Entry> {
        match (&entry.span, entry.size) {
            (Some(span), Some(size)) => Ok(Self { position, offset: span.offset, size, entry }),
            _ => Err(entry),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    fn end(&self) -> u64 {
        self.offset.saturating_add(self.size)
    }

    fn place(&self) -> (&str, &str, Option<&str>) {
        let archive = self.entry.span.as_ref().map_or("", |span| &*span.archive);
        (&self.entry.bucket, archive, self.entry.etag.as_deref())
    }
}

impl Located for Member {
    fn range(&self) -> Range<u64> {
        self.offset..self.end()
    }

    fn is_beside(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

/// Members that one request fetches, in the order of the archive.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) members: Vec<Member>,
}

impl Run {
    /// Position of the first of its members that the reader gets.
    pub(super) fn first(&self) -> u64 {
        self.members.iter().map(|member| member.position).min().unwrap_or_default()
    }

    /// Bytes of its members.
    pub(super) fn bytes(&self) -> u64 {
        self.members.iter().map(|member| member.size).sum()
    }
}

/// Puts members that lie close together into runs, and returns these in the order in which the reader needs them.
pub(super) fn runs(mut members: Vec<Member>, budget: usize) -> Vec<Run> {
    let largest = LARGEST_REQUEST.min(budget as u64 / REQUEST_SHARE);
    members.sort_by(|one, other| (one.place(), one.offset).cmp(&(other.place(), other.offset)));
    let runs = coalesce(members, LARGEST_GAP, largest);
    let mut runs: Vec<_> = runs.into_iter().map(|members| Run { members }).collect();
    runs.sort_by_key(Run::first);
    runs
}

/// What became of a member.
pub(super) type Fetched = (u64, Entry, Result<FetchedObject>);

/// Fetches a run with one request.
pub(super) fn fetch(client: Client, run: Run) -> BoxFuture<'static, Vec<Fetched>> {
    Box::pin(async move {
        match fetch_parts(&client, &run).await {
            Ok((etag, buffers)) => (run.members.into_iter().zip(buffers))
                .map(|(member, bytes)| {
                    let meta = ObjectMeta::of_part(member.size, etag.as_str());
                    (member.position, member.entry, Ok(FetchedObject { meta, bytes: Some(bytes) }))
                })
                .collect(),
            Err(error) => (run.members.into_iter())
                .map(|member| {
                    let error = error.clone().about(&member.entry.bucket, &member.entry.key);
                    (member.position, member.entry, Err(error))
                })
                .collect(),
        }
    })
}

async fn fetch_parts(client: &Client, run: &Run) -> Result<(String, Vec<PooledBuffer>)> {
    let Some(first) = run.members.first() else { return Ok((String::new(), Vec::new())) };
    let (bucket, archive, etag) = first.place();
    let etag = match etag {
        Some(etag) => etag.to_owned(),
        None => client.head(bucket, archive).await?.etag,
    };
    let mut buffers = Vec::with_capacity(run.members.len());
    for member in &run.members {
        let buffer = usize::try_from(member.size).ok().and_then(|size| client.buffers().take(size));
        buffers.push(buffer.ok_or_else(|| too_large(member.size))?);
    }
    let mut parts = Vec::with_capacity(2 * run.members.len());
    let mut at = first.offset;
    for (member, buffer) in run.members.iter().zip(&mut buffers) {
        parts.push(Part::Skip((member.offset - at) as usize));
        parts.push(Part::Keep(buffer));
        at = member.end();
    }
    match client.get_scattered(bucket, archive, &etag, first.offset, &mut parts).await {
        Ok(_) => Ok((etag, buffers)),
        Err(error) => Err(explained(error, archive)),
    }
}

/// Members have no version of their own: an error about the archive is an error about them.
fn explained(error: Error, archive: &str) -> Error {
    match error.kind() {
        ErrorKind::Changed(_) => Error::new(ErrorKind::Changed(format!(
            "the archive {archive} was replaced while it was being read; read it from the start, with its new index"
        ))),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::Span;

    fn member(position: u64, archive: &str, offset: u64, size: u64) -> Member {
        let span = Some(Span { archive: archive.into(), offset });
        let entry = Entry { size: Some(size), span, ..Entry::named("bucket", format!("{archive}/{position}")) };
        Member::of(position, entry).unwrap()
    }

    fn positions(runs: &[Run]) -> Vec<Vec<u64>> {
        runs.iter().map(|run| run.members.iter().map(|member| member.position).collect()).collect()
    }

    #[test]
    fn neighbours_come_together_whatever_their_order() {
        let members = vec![
            member(0, "a", 2048, 100),
            member(1, "b", 512, 100),
            member(2, "a", 512, 1000),
            member(3, "a", 512 + 1000 + (64 << 10), 10),
            member(4, "a", 2560, 0),
        ];
        assert_eq!(positions(&runs(members, 1 << 30)), [vec![2, 0, 4], vec![1], vec![3]]);
    }

    #[test]
    fn a_request_is_bounded() {
        let members = (0..100).map(|index| member(index, "a", index << 20, 1 << 20)).collect();
        let runs = runs(members, 64 << 20);
        assert!(runs.iter().all(|run| run.bytes() == 4 << 20));
        assert_eq!(runs.len(), 25);
    }

    proptest! {
        #[test]
        fn every_member_is_in_one_run_and_runs_are_contiguous(
            places in prop::collection::vec((0_u64..3, 0_u64..200_000, 0_u64..50_000), 0..60),
        ) {
            let count = places.len() as u64;
            let members = places.into_iter().zip(0..);
            let members = members.map(|((archive, offset, size), position)| member(position, &archive.to_string(), offset, size));
            let runs = runs(members.collect(), 1 << 24);
            let mut seen: Vec<u64> = positions(&runs).concat();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..count));
            prop_assert!(runs.is_sorted_by_key(Run::first));
            for run in &runs {
                for pair in run.members.windows(2) {
                    let gap = pair[1].offset.checked_sub(pair[0].end());
                    prop_assert!(gap.is_some_and(|gap| gap <= LARGEST_GAP) && pair[0].place() == pair[1].place());
                }
            }
        }
    }
}
