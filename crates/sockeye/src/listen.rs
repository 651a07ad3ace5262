//! A TCP listener as a Socket.IO server wants it.

use std::io;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, ToSocketAddrs, lookup_host};

/// The connections that may wait to be accepted: clients come back all at once after a restart.
const BACKLOG: i32 = 4096;

/// Binds a listener whose connections send small packets at once (`TCP_NODELAY`, set on the
/// listener and inherited by what it accepts), with room for 4,096 waiting connections.
///
/// # Errors
/// The address cannot be resolved or bound.
pub async fn listen(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the address has no socket address");
    for address in lookup_host(address).await? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
