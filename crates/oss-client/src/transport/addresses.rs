//! The addresses of a name: all are tried, a slow one delays the others by a moment only, and one that failed is tried
//! last for a while.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};

use crate::{descriptors::Descriptors, sync::lock};

/// How long an address is tried before the next one is tried beside it: what RFC 8305 section 8 recommends.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long an address that failed is tried last: a server that restarts is back by then, and one connection in this
/// time finds out.
const AVOIDED: Duration = Duration::from_secs(30);

/// Connects to names, which may have many addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    failed: Mutex<Vec<(SocketAddr, Instant)>>,
    /// Connections so far: each begins with another address, so that they spread.
    turn: AtomicUsize,
}

impl Addresses {
    /// Connects to one of the addresses that a name has now.
    pub(super) async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let found = lookup_host((host, port)).await;
        let found = found.map_err(|error| {
            let exhausted = Descriptors::exhausted(&error);
            if exhausted { error } else { io::Error::other(format!("its name cannot be resolved ({error})")) }
        })?;
        let found = found.collect();
        self.race(self.in_order(found)).await
    }

    /// Addresses that failed lately at the end, IPv6 and IPv4 in turn (RFC 8305 section 4).
    fn in_order(&self, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if found.len() < 2 {
            return found;
        }
        // The resolver has sorted them; its first one says which family to prefer.
        let prefers_v6 = found[0].is_ipv6();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut family = |v6: bool| {
            let mut members: Vec<_> = found.extract_if(.., |address| address.is_ipv6() == v6).collect();
            let by = turn % members.len().max(1);
            members.rotate_left(by);
            members.into_iter()
        };
        let (mut first, mut second) = (family(prefers_v6), family(!prefers_v6));
        let mut ordered = Vec::new();
        loop {
            match (first.next(), second.next()) {
                (None, None) => break,
                (one, other) => ordered.extend(one.into_iter().chain(other)),
            }
        }
        let mut failed = lock(&self.failed);
        failed.retain(|(_, since)| since.elapsed() < AVOIDED);
        ordered.sort_by_key(|address| failed.iter().any(|(avoided, _)| avoided == address));
        ordered
    }

    async fn race(&self, addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
        if let [only] = addresses[..] {
            return TcpStream::connect(only).await;
        }
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut begun = Vec::new();
        let mut attempts = FuturesUnordered::new();
        let mut left = addresses.into_iter();
        loop {
            if let Some(address) = left.next() {
                begun.push(address);
                attempts.push(async move { (address, TcpStream::connect(address).await) });
            }
            let next =
                if left.len() > 0 { timeout(HEAD_START, attempts.next()).await } else { Ok(attempts.next().await) };
            match next {
                Ok(Some((address, Ok(stream)))) => {
                    // Those that began before it had a longer time, and did not answer.
                    begun.iter().take_while(|earlier| **earlier != address).for_each(|earlier| self.avoid(*earlier));
                    return Ok(stream);
                }
                Ok(Some((address, Err(error)))) => {
                    self.avoid(address);
                    failure = error;
                }
                Ok(None) => return Err(failure),
                // Slow, so the next one begins beside it.
                Err(_) => {}
            }
        }
    }

    fn avoid(&self, address: SocketAddr) {
        let mut failed = lock(&self.failed);
        failed.retain(|(other, _)| *other != address);
        failed.push((address, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_connections_begin_with_other_addresses() {
        let found = addresses(&["[::1]:1", "[::2]:1", "1.1.1.1:1", "1.1.1.2:1"]);
        let known = Addresses::default();
        assert_eq!(known.in_order(found.clone()), addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1"]));
        assert_eq!(known.in_order(found.clone()), addresses(&["[::2]:1", "1.1.1.2:1", "[::1]:1", "1.1.1.1:1"]));
        known.avoid(found[0]);
        assert_eq!(known.in_order(found.clone()).last(), Some(&found[0]));
    }

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_at_once_and_is_tried_last_afterwards() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let known = Addresses::default();
        let began = Instant::now();
        let stream = known.race(vec![closed, open]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert!(began.elapsed() < HEAD_START);
        assert_eq!(lock(&known.failed)[0].0, closed);
    }

    /// An address that never answers: the queue of its connections is full.
    async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        (address, listener, waiting)
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_delays_the_next_by_a_moment() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let (dead, _listener, _waiting) = silent().await;
        let known = Addresses::default();
        let began = Instant::now();
        let stream = known.race(vec![dead, open]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert!((HEAD_START..Duration::from_secs(5)).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert_eq!(known.in_order(vec![dead, open]), [open, dead]);
    }

    #[tokio::test]
    async fn the_last_failure_is_reported_if_no_address_answers() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = Addresses::default().race(vec![closed, other]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = Addresses::default().race(Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "the name has no address");
    }
}
