//! Memory for the blocks of large bodies.
//!
//! The first write to each page of fresh memory is a fault, and faults cost a server that keeps what it receives more than
//! receiving it. So fresh blocks are made ready in one call of the kernel, and some of those that are given back are kept.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};
use parking_lot::Mutex;

use super::content::BLOCK;

/// Most blocks kept: 256 MiB, what is overwritten in a row by tests and benchmarks, and little beside the memory of a machine
/// that holds such objects.
const MOST_KEPT: usize = 256;

/// Blocks that were given back.
#[derive(Debug)]
pub(super) struct Pages {
    free: Mutex<Vec<MmapMut>>,
    most: usize,
}

impl Pages {
    /// With a limit on memory none are kept, so that the limit covers all there is.
    pub(super) fn new(limited: bool) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), most: if limited { 0 } else { MOST_KEPT } })
    }

    /// A block to fill.
    pub(super) fn block(self: &Arc<Self>) -> io::Result<Filling> {
        let kept = self.free.lock().pop();
        let memory = match kept {
            Some(memory) => memory,
            None => MmapOptions::new().len(BLOCK).populate().map_anon()?,
        };
        Ok(Filling { block: Block { memory: Some(memory), pages: Arc::clone(self) }, filled: 0 })
    }
}

#[derive(Debug)]
struct Block {
    /// Kept until it is dropped.
    memory: Option<MmapMut>,
    pages: Arc<Pages>,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut free = self.pages.free.lock();
        if free.len() < self.pages.most {
            free.extend(self.memory.take());
        }
    }
}

/// A block on its way to be full.
#[derive(Debug)]
pub(super) struct Filling {
    block: Block,
    filled: usize,
}

impl Filling {
    /// Copies the start of `bytes` and returns what did not fit.
    pub(super) fn fill<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
        if let Some(memory) = &mut self.block.memory {
            memory[self.filled..][..now.len()].copy_from_slice(now);
        }
        self.filled += now.len();
        later
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled == BLOCK
    }

    /// The bytes written. The block is given back once nothing refers to them.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.block).slice(..self.filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pages: &Arc<Pages>, byte: u8, length: usize) -> Bytes {
        let mut filling = pages.block().unwrap();
        assert!(filling.fill(&vec![byte; length]).is_empty());
        filling.into_bytes()
    }

    #[test]
    fn a_block_is_used_again_once_nothing_refers_to_it() {
        let pages = Pages::new(false);
        let first = filled(&pages, 1, BLOCK);
        let part = first.slice(5..6);
        let place = first.as_ptr();
        drop(first);
        let second = filled(&pages, 2, 10);
        assert_ne!(second.as_ptr(), place);
        assert_eq!(part, [1][..]);
        drop(part);
        let third = filled(&pages, 3, 20);
        assert_eq!((third.as_ptr(), &third[..]), (place, &[3; 20][..]));
        assert_eq!(second, [2; 10][..]);
    }

    #[test]
    fn few_blocks_are_kept_and_none_under_a_limit() {
        for (limited, most) in [(false, MOST_KEPT), (true, 0)] {
            let pages = Pages::new(limited);
            let blocks: Vec<_> = (0..MOST_KEPT + 2).map(|_| pages.block().unwrap()).collect();
            drop(blocks);
            assert_eq!(pages.free.lock().len(), most);
        }
    }

    #[test]
    fn bytes_that_do_not_fit_come_back() {
        let mut filling = Pages::new(true).block().unwrap();
        assert!(filling.fill(&vec![1; BLOCK - 2]).is_empty());
        assert!(!filling.is_full());
        assert_eq!(filling.fill(&[2, 3, 4]), [4]);
        assert!(filling.is_full());
        assert_eq!(filling.into_bytes()[BLOCK - 3..], [1, 2, 3]);
    }
}
