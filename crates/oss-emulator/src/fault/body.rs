//! The body of an answer while it is sent. Faults can change it or cut it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::line::{Ending, Line};
use crate::body::ResponseBody;
use crate::record::InFlight;

/// The body of an answer. The request counts as in flight until its body has been handed to the connection.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    content: ResponseBody,
    spoiler: Option<Box<Spoiler>>,
    _in_flight: Option<InFlight>,
}

/// The faults of a body while it is sent.
#[derive(Debug)]
pub(crate) struct Spoiler {
    pub(crate) line: Arc<Line>,
    /// The number of bytes after which the body ends.
    pub(crate) ending: Option<(u64, Ending)>,
    /// The number of the byte in which one bit is changed.
    pub(crate) flip: Option<u64>,
    /// Bytes handed over.
    pub(crate) sent: u64,
}

impl AnswerBody {
    pub(crate) fn new(content: ResponseBody, in_flight: Option<InFlight>) -> Self {
        Self { content, spoiler: None, _in_flight: in_flight }
    }

    pub(crate) fn spoil(&mut self, spoiler: Spoiler) {
        self.spoiler = Some(Box::new(spoiler));
    }
}

impl Spoiler {
    /// The frame as it is sent; `None` if the body ends before it.
    fn pass(&mut self, mut bytes: Bytes) -> Bytes {
        if let Some((at, _)) = self.ending {
            bytes.truncate((at - self.sent).min(bytes.len() as u64) as usize);
        }
        if let Some(index) = self.flip.and_then(|at| at.checked_sub(self.sent))
            && index < bytes.len() as u64
        {
            let mut changed = bytes.to_vec();
            changed[index as usize] ^= 1;
            bytes = changed.into();
        }
        self.sent += bytes.len() as u64;
        bytes
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let Some(spoiler) = &mut this.spoiler else { return Pin::new(&mut this.content).poll_frame(context) };
        if let Some((at, ending)) = spoiler.ending
            && at == spoiler.sent
        {
            spoiler.line.end(ending);
            return Poll::Pending;
        }
        let Some(frame) = ready!(Pin::new(&mut this.content).poll_frame(context)) else { return Poll::Ready(None) };
        Poll::Ready(Some(frame.map(|frame| frame.map_data(|bytes| spoiler.pass(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream() && self.spoiler.as_ref().is_none_or(|spoiler| spoiler.ending.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoiler(ending: Option<u64>, flip: Option<u64>) -> Spoiler {
        let ending = ending.map(|at| (at, Ending::Reset));
        Spoiler { line: Arc::default(), ending, flip, sent: 0 }
    }

    fn passed(mut spoiler: Spoiler, frames: &[&'static [u8]]) -> Vec<Bytes> {
        frames.iter().map(|frame| spoiler.pass(Bytes::from_static(frame))).collect()
    }

    #[test]
    fn one_bit_of_one_byte_changes_in_whichever_frame_it_is() {
        assert_eq!(passed(spoiler(None, Some(0)), &[b"abc", b"def"]), [&b"`bc"[..], b"def"]);
        assert_eq!(passed(spoiler(None, Some(3)), &[b"abc", b"def"]), [&b"abc"[..], b"eef"]);
        assert_eq!(passed(spoiler(None, Some(5)), &[b"abc", b"def"]), [&b"abc"[..], b"deg"]);
    }

    #[test]
    fn nothing_passes_the_end() {
        assert_eq!(passed(spoiler(Some(4), Some(4)), &[b"abc", b"def"]), [&b"abc"[..], b"d"]);
        assert_eq!(passed(spoiler(Some(0), None), &[b"abc"]), [&b""[..]]);
    }
}
