//! The way through an HTTP proxy: `CONNECT` (RFC 9110 §9.3.6).
//! Does not know what is spoken through the tunnel. The proxy's credentials go to the proxy only.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{ConnectError, ProxyError};
use crate::handshake::head::HeadLimits;
use crate::handshake::{Url, UrlError};
use crate::net::head::{HeadFailure, read_head};

/// A TCP stream that leads to the server of `target`.
pub(super) async fn open(
    proxy: &Result<Url, UrlError>,
    target: &Url,
    limits: HeadLimits,
) -> Result<TcpStream, ConnectError> {
    let proxy = proxy.as_ref().ok().filter(|proxy| !proxy.is_secure());
    let proxy = proxy.ok_or(ConnectError::Proxy(ProxyError::Url))?;
    let mut stream = TcpStream::connect((proxy.host(), proxy.port())).await?;
    stream.write_all(request(proxy, target).as_bytes()).await?;

    let read = read_head(&mut stream, limits).await;
    let (reader, early) = read.map_err(|failure| match failure {
        HeadFailure::Io(error) => ConnectError::Io(error),
        HeadFailure::Head(_) | HeadFailure::End => ConnectError::Proxy(ProxyError::Answer),
    })?;
    let head = reader.response().map_err(|_| ConnectError::Proxy(ProxyError::Answer))?;
    match head.status {
        // The server speaks only when it is spoken to: what came already is not its own.
        200..300 if early.is_empty() => Ok(stream),
        200..300 => Err(ConnectError::Proxy(ProxyError::Answer)),
        status => Err(ConnectError::Proxy(ProxyError::Status(status))),
    }
}

fn request(proxy: &Url, target: &Url) -> String {
    let authority = target.authority();
    let authorization = match proxy.authorization() {
        Some(authorization) => format!("Proxy-Authorization: {authorization}\r\n"),
        None => String::new(),
    };
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{authorization}\r\n")
}
