//! A body, received into memory of the caller's choice.

use super::{
    Lease,
    connection::{Broken, Patience, Rest},
};
use crate::{
    attempt::Watch,
    error::{Error, ErrorKind, Result},
};

/// Bytes that take about as long to receive as a new connection takes to open.
const FINISH_LIMIT: usize = 64 << 10;

/// Received at a time into a body that is collected: a page of a listing is a few of them.
const COLLECT_PIECE: usize = 64 << 10;

/// A body that is received into memory of the caller's choice.
///
/// Its connection is used again once the whole body has been received. If the body is dropped before, it is closed.
#[derive(Debug)]
pub struct Body {
    /// Absent once the body has been received whole, or its connection broke.
    lease: Option<Lease>,
    rest: Rest,
    patience: Patience,
    /// Who looks on until the body has been received, or is given up.
    watch: Option<Box<Watch>>,
}

impl Body {
    pub(super) fn new(lease: Lease, rest: Rest, patience: Patience) -> Self {
        let mut body = Self { lease: Some(lease), rest, patience, watch: None };
        body.release_if_done();
        body
    }

    /// Lets someone look on until it ends.
    pub(crate) fn watch(&mut self, watch: Box<Watch>) {
        // Without a lease it ends at once.
        self.watch = self.lease.is_some().then_some(watch);
    }

    /// Whether its end shows even if its length was not announced.
    pub(crate) fn is_chunked(&self) -> bool {
        matches!(self.rest, Rest::Chunk(_))
    }

    /// Closes the connection without receiving the rest.
    pub(crate) fn abandon(&mut self) {
        self.lease = None;
    }

    /// Receives until `buffer` is full or the body ends; returns the number of bytes received.
    pub async fn read_into(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.receive(&mut buffer[filled..]).await? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    /// Receives the whole body, which may have at most `limit` bytes.
    pub async fn collect(mut self, limit: usize) -> Result<Vec<u8>> {
        let mut collected = Vec::new();
        loop {
            let filled = collected.len();
            collected.resize(filled + COLLECT_PIECE, 0);
            let count = self.receive(&mut collected[filled..]).await?;
            collected.truncate(filled + count);
            if count == 0 {
                return Ok(collected);
            }
            if collected.len() > limit {
                let message = format!("the body is longer than the {limit} bytes expected at most");
                return Err(ErrorKind::InvalidReply(message).into());
            }
        }
    }

    /// Receives and forgets what is left of a body that is expected to be empty, so that its connection is free again.
    /// If more is left than is worth receiving, the connection is closed instead.
    pub async fn finish(self) -> Result<()> {
        if self.lease.is_none() {
            return Ok(());
        }
        // Boxed, because it is rare and would make each object's future larger.
        Box::pin(self.forget()).await
    }

    async fn forget(mut self) -> Result<()> {
        let mut received = 0;
        let mut forgotten = [0; 1 << 10];
        while self.lease.is_some() && received < FINISH_LIMIT {
            received += self.receive(&mut forgotten).await?;
        }
        Ok(())
    }

    /// Waits for the next bytes; 0 at the end of the body.
    async fn receive(&mut self, target: &mut [u8]) -> Result<usize> {
        let Some(lease) = &mut self.lease else { return Ok(0) };
        match self.rest.receive(&mut lease.connection, target, self.patience).await {
            Ok(count) => {
                if let Some(watch) = &mut self.watch {
                    watch.received(count);
                }
                self.release_if_done();
                Ok(count)
            }
            Err(broken) => {
                self.lease = None;
                let error = Error::new(self.failure(broken));
                if let Some(mut watch) = self.watch.take() {
                    watch.failed(&error);
                }
                Err(error)
            }
        }
    }

    fn failure(&self, broken: Broken) -> ErrorKind {
        match broken {
            Broken::Silent => {
                let seconds = self.patience.read_timeout.as_secs_f64();
                ErrorKind::Timeout(format!("no bytes of the body arrived for {seconds:.1} s"))
            }
            Broken::Late => {
                let seconds = self.patience.total_timeout.as_secs_f64();
                ErrorKind::Timeout(format!("the body was not complete when total_timeout ({seconds:.1} s) was over"))
            }
            Broken::Lost { cause, .. } => {
                ErrorKind::Transport(format!("the connection broke while the body was received: {cause}"))
            }
            Broken::NotHttp(what) => {
                ErrorKind::Transport(format!("the connection broke while the body was received: {what}"))
            }
        }
    }

    fn release_if_done(&mut self) {
        if self.rest == Rest::Nothing
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
            self.watch = None;
        }
    }
}
