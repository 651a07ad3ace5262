//! The request that opened a connection, kept in one small piece of memory.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use http::request;

/// The request that opened a connection: Socket.IO's `socket.handshake`. All sockets of the
/// connection share it; it stays as it was, whatever requests follow.
pub struct Handshake {
    /// `path?query`, a line break, then `name: value` lines: a header map would own ten times the
    /// memory for as long as the client is connected.
    text: Box<str>,
    address: Option<SocketAddr>,
    /// Where it is not the peer's.
    client: Option<Box<IpAddr>>,
    time: SystemTime,
    is_cross_origin: bool,
}

impl Handshake {
    pub(crate) fn new(
        parts: &request::Parts,
        address: Option<SocketAddr>,
        client: Option<IpAddr>,
        is_cross_origin: bool,
    ) -> Self {
        let mut text = String::with_capacity(512);
        text.push_str(parts.uri.path_and_query().map_or("", |target| target.as_str()));
        for (name, value) in &parts.headers {
            // A value that is not text cannot be shown as text; nobody can ask for it.
            if let Ok(value) = value.to_str() {
                text.extend(["\n", name.as_str(), ": ", value]);
            }
        }
        let time = SystemTime::now();
        // A copy, as long as the text is: what is cut off a larger piece may stay allocated.
        let text = Box::from(&*text);
        Self { text, address, client: client.map(Box::new), time, is_cross_origin }
    }

    /// What the stream tells where the request did not.
    pub(crate) fn complete(&mut self, address: Option<SocketAddr>) {
        self.address = self.address.or(address);
    }

    /// The path and query of the request.
    pub fn url(&self) -> &str {
        self.text.lines().next().unwrap_or("")
    }

    /// The query, without the `?`.
    pub fn query(&self) -> &str {
        self.url().split_once('?').map_or("", |(_, query)| query)
    }

    /// The value of a query parameter, percent-decoded; of several the last.
    pub fn query_value(&self, name: &str) -> Option<String> {
        let pairs = sockeye_proto::engine::query_pairs(self.query());
        pairs.filter(|(have, _)| have == name).last().map(|(_, value)| value.into_owned())
    }

    /// The value of a header (names in any case); of several with one name the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers whose values are text, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().skip(1).filter_map(|line| line.split_once(": "))
    }

    /// The peer's address, where the service was told it (axum: serve with
    /// `into_make_service_with_connect_info::<SocketAddr>()`; else the extension
    /// [`PeerAddr`](crate::PeerAddr)) or could ask the socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The client's address as [`ClientAddress`](crate::ClientAddress) finds it; without that
    /// option the peer's.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.client.as_deref().copied().or_else(|| self.address.map(|address| address.ip()))
    }

    /// When the request came.
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// Whether a page of another origin made the request (Socket.IO's `xdomain`).
    pub fn is_cross_origin(&self) -> bool {
        self.is_cross_origin
    }
}

impl fmt::Debug for Handshake {
    /// Headers and query may hold secrets: they are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("address", &self.address)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_query_are_found_again() {
        let (parts, ()) = http::Request::get("/socket.io/?EIO=4&token=a%20b&token=c")
            .header("User-Agent", "test")
            .header("X-Colon", "a: b")
            .body(())
            .expect("a valid request")
            .into_parts();
        let handshake = Handshake::new(&parts, None, None, false);
        assert_eq!(handshake.url(), "/socket.io/?EIO=4&token=a%20b&token=c");
        assert_eq!(handshake.query_value("token").as_deref(), Some("c"));
        assert_eq!(handshake.header("user-AGENT"), Some("test"));
        assert_eq!(handshake.header("x-colon"), Some("a: b"));
        assert_eq!(handshake.header("cookie"), None);
    }
}
