//! The bytes of an object: blocks in memory or slices of files, shared rather than copied.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};

use super::budget::{Budget, Share};
use super::directory::Directory;
use super::pages::{Filling, Pages};

/// Size of the blocks that a body is gathered in. A GET writes each block in one piece, so they should be large, and a hop to
/// the blocking pool should move enough bytes to be worth it; yet a body of a few bytes more than a block should not take
/// much more memory. Smaller bodies become one block of their own size.
///
/// The frames that the connection delivers are copied rather than kept: a kept frame takes its whole read buffer out of use,
/// and filling fresh buffers all the time costs several times the copy.
pub(super) const BLOCK: usize = 1024 * 1024;

/// How much of a file is read at a time: large enough that the hop to the blocking pool (some 10 µs) is small beside the
/// read, small enough that a thousand responses in flight fit in memory.
pub(crate) const READ_CHUNK: usize = 256 * 1024;

/// A file of the directory store. It is removed once no object, part or response refers to it.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// Set when the store closes: what is still referred to then must stay.
    pub(super) closing: Arc<AtomicBool>,
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        // A file that cannot be removed is found unreferenced, and removed, at the next start.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a file that is no longer referred to");
        }
    }
}

/// A run of bytes.
#[derive(Debug, Clone)]
pub(crate) enum Segment {
    Memory(Bytes),
    File { file: Arc<DataFile>, offset: u64, length: u64 },
}

impl Segment {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// The bytes of an object or a part, in order.
#[derive(Debug, Clone)]
pub(crate) struct Content(Segments);

/// Most objects are one segment, which then needs no memory beside that of the object.
#[derive(Debug, Clone)]
enum Segments {
    One(Segment),
    Many(Arc<[Segment]>),
}

impl Default for Content {
    fn default() -> Self {
        Self(Segments::One(Segment::Memory(Bytes::new())))
    }
}

impl Content {
    pub(crate) fn new(mut segments: Vec<Segment>) -> Self {
        match (segments.pop(), segments.is_empty()) {
            (None, _) => Self::default(),
            (Some(segment), true) => Self(Segments::One(segment)),
            (Some(segment), false) => {
                segments.push(segment);
                Self(Segments::Many(segments.into()))
            }
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.segments().iter().map(Segment::len).sum()
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        match &self.0 {
            Segments::One(segment) => slice::from_ref(segment),
            Segments::Many(segments) => segments,
        }
    }

    /// The same bytes followed by those of `other`.
    pub(crate) fn followed_by(&self, other: &Self) -> Self {
        Self::new(self.segments().iter().chain(other.segments()).filter(|segment| segment.len() > 0).cloned().collect())
    }

    /// `length` bytes from `start` on, or fewer if the content ends before.
    pub(crate) fn slice(&self, start: u64, length: u64) -> Self {
        let mut skip = start;
        let mut left = length;
        let mut segments = Vec::new();
        for segment in self.segments() {
            if left == 0 {
                break;
            }
            if skip >= segment.len() {
                skip -= segment.len();
                continue;
            }
            let take = left.min(segment.len() - skip);
            segments.push(match segment {
                Segment::Memory(bytes) => Segment::Memory(bytes.slice(skip as usize..(skip + take) as usize)),
                Segment::File { file, offset, .. } => {
                    Segment::File { file: Arc::clone(file), offset: offset + skip, length: take }
                }
            });
            skip = 0;
            left -= take;
        }
        Self::new(segments)
    }

    /// The segments as a queue for a reader.
    pub(crate) fn into_queue(self) -> VecDeque<Segment> {
        match self.0 {
            Segments::One(segment) => VecDeque::from([segment]),
            Segments::Many(segments) => segments.iter().cloned().collect(),
        }
    }
}

/// Reads up to [`READ_CHUNK`] bytes, opening the file unless it is already open. Runs on the blocking pool.
pub(crate) fn read_chunk(
    file: &DataFile,
    open: Option<Arc<File>>,
    offset: u64,
    length: u64,
) -> io::Result<(Arc<File>, Bytes)> {
    let open = match open {
        Some(open) => open,
        None => Arc::new(File::open(&file.path)?),
    };
    let mut buffer = vec![0; length.min(READ_CHUNK as u64) as usize];
    open.read_exact_at(&mut buffer, offset)?;
    Ok((open, buffer.into()))
}

/// Gathers a body as it arrives.
#[derive(Debug)]
pub(crate) struct ContentWriter {
    target: Target,
    pending: BytesMut,
    /// Bytes still to come, if the client said how many there are.
    expected: Option<u64>,
}

#[derive(Debug)]
enum Target {
    Memory {
        segments: Vec<Segment>,
        size: u64,
        share: Option<Arc<Share>>,
        /// The block being filled, if the size announced is that of a block or more.
        filling: Option<Filling>,
        pages: Arc<Pages>,
    },
    Directory {
        directory: Arc<Directory>,
        file: Option<super::directory::DataWriter>,
        size: u64,
    },
}

impl ContentWriter {
    /// `expected` is the announced size, which decides how memory is laid out and nothing else.
    pub(super) fn new(
        directory: Option<Arc<Directory>>,
        budget: Option<&Arc<Budget>>,
        pages: &Arc<Pages>,
        expected: Option<u64>,
    ) -> Self {
        let target = match directory {
            None => Target::Memory {
                segments: Vec::new(),
                size: 0,
                share: budget.map(Budget::share),
                filling: None,
                pages: Arc::clone(pages),
            },
            Some(directory) => Target::Directory { directory, file: None, size: 0 },
        };
        Self { target, pending: BytesMut::new(), expected }
    }

    pub(crate) async fn write(&mut self, mut frame: &[u8]) -> io::Result<()> {
        if let Target::Memory { size, share: Some(share), .. } = &mut self.target {
            // Of a body whose size was announced, all at once: what will not fit is refused before it is sent.
            let to_come = self.expected.unwrap_or(0).max(frame.len() as u64);
            share.cover(*size + to_come)?;
            *size += frame.len() as u64;
        }
        while !frame.is_empty() {
            if let Target::Memory { segments, share, filling, pages, .. } = &mut self.target
                && (filling.is_some() || self.expected.is_some_and(|expected| expected >= BLOCK as u64))
            {
                let mut block = match filling.take() {
                    Some(block) => block,
                    None => pages.block()?,
                };
                let later = block.fill(frame);
                let written = (frame.len() - later.len()) as u64;
                self.expected = self.expected.map(|expected| expected.saturating_sub(written));
                frame = later;
                if block.is_full() {
                    segments.push(Segment::Memory(shared(block.into_bytes(), share.as_ref())));
                } else {
                    *filling = Some(block);
                }
                continue;
            }
            if self.pending.capacity() == 0
                && let Some(expected) = self.expected
            {
                self.pending.reserve(expected.min(BLOCK as u64) as usize);
            }
            let (now, later) = frame.split_at(frame.len().min(BLOCK - self.pending.len()));
            self.pending.extend_from_slice(now);
            self.expected = self.expected.map(|expected| expected.saturating_sub(now.len() as u64));
            frame = later;
            if self.pending.len() == BLOCK {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Memory { segments, share, .. } => {
                segments.push(Segment::Memory(shared(fitting(std::mem::take(&mut self.pending)), share.as_ref())));
                Ok(())
            }
            Target::Directory { directory, file, size } => {
                let block = std::mem::take(&mut self.pending);
                *size += block.len() as u64;
                let directory = Arc::clone(directory);
                let open = file.take();
                let (writer, mut block) = blocking(move || {
                    let mut writer = match open {
                        Some(writer) => writer,
                        None => directory.create_data()?,
                    };
                    writer.write(&block)?;
                    Ok((writer, block))
                })
                .await?;
                *file = Some(writer);
                block.clear();
                self.pending = block;
                Ok(())
            }
        }
    }

    pub(crate) async fn finish(mut self) -> io::Result<Content> {
        match self.target {
            Target::Memory { mut segments, share, filling, .. } => {
                if let Some(block) = filling {
                    segments.push(Segment::Memory(shared(block.into_bytes(), share.as_ref())));
                }
                if !self.pending.is_empty() {
                    segments.push(Segment::Memory(shared(fitting(self.pending), share.as_ref())));
                }
                Ok(Content::new(segments))
            }
            Target::Directory { directory, file, size } => {
                let block = std::mem::take(&mut self.pending);
                let size = size + block.len() as u64;
                if size == 0 {
                    return Ok(Content::default());
                }
                let file = blocking(move || {
                    let mut writer = match file {
                        Some(writer) => writer,
                        None => directory.create_data()?,
                    };
                    writer.write(&block)?;
                    writer.finish()
                })
                .await?;
                Ok(Content::new(vec![Segment::File { file, offset: 0, length: size }]))
            }
        }
    }
}

/// The bytes in as much memory as they need. A body whose size was not announced was gathered in a buffer that doubled as it
/// grew; half of that could stay unused for as long as the object.
fn fitting(block: BytesMut) -> Bytes {
    if block.capacity() - block.len() > block.len() / 8 { Bytes::copy_from_slice(&block) } else { block.freeze() }
}

fn shared(block: Bytes, share: Option<&Arc<Share>>) -> Bytes {
    match share {
        None => block,
        Some(share) => share.block(block),
    }
}

/// Runs file work on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(parts: &[&'static str]) -> Content {
        Content::new(parts.iter().map(|part| Segment::Memory(Bytes::from_static(part.as_bytes()))).collect())
    }

    fn text(content: &Content) -> String {
        content
            .segments()
            .iter()
            .map(|segment| match segment {
                Segment::Memory(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                Segment::File { .. } => panic!("memory only"),
            })
            .collect()
    }

    #[test]
    fn every_slice_equals_the_slice_of_the_whole() {
        let content = memory(&["abc", "d", "", "efghi"]);
        let whole = "abcdefghi";
        for start in 0..=whole.len() {
            for length in 0..=whole.len() + 2 {
                let end = (start + length).min(whole.len());
                let slice = content.slice(start as u64, length as u64);
                assert_eq!(text(&slice), whole[start..end], "{start} {length}");
                assert_eq!(slice.size(), (end - start) as u64);
            }
        }
    }

    #[tokio::test]
    async fn bodies_are_gathered_in_blocks() {
        for (size, expected, blocks) in [
            (0, Some(0), vec![0]),
            (6, Some(6), vec![6]),
            (6, None, vec![6]),
            (BLOCK, Some(BLOCK as u64), vec![BLOCK]),
            (2 * BLOCK + 1, Some(2 * BLOCK as u64 + 1), vec![BLOCK, BLOCK, 1]),
            (2 * BLOCK + 1, Some(BLOCK as u64), vec![BLOCK, BLOCK, 1]),
            (BLOCK + 1, Some(3 * BLOCK as u64), vec![BLOCK, 1]),
            (2 * BLOCK + 1, None, vec![BLOCK, BLOCK, 1]),
        ] {
            let body: Vec<u8> = (0..size).map(|at| (at * 31 + at / 251) as u8).collect();
            let mut writer = ContentWriter::new(None, None, &Pages::new(false), expected);
            for frame in body.chunks(BLOCK / 3) {
                writer.write(frame).await.unwrap();
            }
            let content = writer.finish().await.unwrap();
            assert_eq!(content.segments().iter().map(|segment| segment.len() as usize).collect::<Vec<_>>(), blocks);
            let gathered: Vec<u8> = content
                .segments()
                .iter()
                .flat_map(|segment| match segment {
                    Segment::Memory(bytes) => bytes.to_vec(),
                    Segment::File { .. } => panic!("memory only"),
                })
                .collect();
            assert!(gathered == body, "{size} {expected:?}");
        }
    }
}
