//! The socket that connections come to.

use std::io;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

/// Connections that may wait to be accepted. A client that goes from few requests in flight to hundreds opens as many at
/// once, and one that finds no place tries again only after a second. Linux allows 4096 by default.
const BACKLOG: u32 = 4096;

/// Listens on the first of the addresses of a name that can be listened on.
pub(crate) async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut refused = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A server that has just ended leaves connections behind that would keep its port.
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}
