//! Whose a request is: the peer's address, or what the proxies in front say of it.
//! Does not know what is counted by it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderValue;
use http::request::Parts;

/// The peer's address, as a request extension: insert it where nothing else tells the service
/// ([`Handshake::address`](crate::Handshake::address)).
#[derive(Clone, Copy, Debug)]
pub struct PeerAddr(pub SocketAddr);

/// How the address of a client is found: what
/// [`connections_per_address_max`](crate::ServerBuilder::connections_per_address_max) counts by,
/// and [`Handshake::client_ip`](crate::Handshake::client_ip) tells.
#[derive(Clone, Default)]
pub struct ClientAddress(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    Peer,
    ForwardedFor {
        proxies: usize,
    },
    Own(Arc<Find>),
}

type Find = dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync;

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Peer => f.write_str("Peer"),
            Source::ForwardedFor { proxies } => write!(f, "ForwardedFor({proxies})"),
            Source::Own(_) => f.write_str("Own"),
        }
    }
}

impl ClientAddress {
    /// The peer's own address: right where clients connect directly. Behind a proxy it is the
    /// proxy's.
    pub fn peer() -> Self {
        Self(Source::Peer)
    }

    /// What the outermost of so many proxies wrote into `X-Forwarded-For`: the entry `proxies`
    /// from the end, as each proxy appends whom it was asked by. A client can write entries before
    /// those, never behind. No address is known where there are fewer entries.
    pub fn forwarded_for(proxies: usize) -> Self {
        Self(if proxies == 0 { Source::Peer } else { Source::ForwardedFor { proxies } })
    }

    /// What `find` says. It must not trust what a client can write.
    pub fn with(find: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        Self(Source::Own(Arc::new(find)))
    }

    /// Whether it is the peer's own.
    pub(crate) fn is_peer(&self) -> bool {
        matches!(self.0, Source::Peer)
    }

    pub(crate) fn of(&self, request: &Parts) -> Option<IpAddr> {
        match &self.0 {
            Source::Peer => peer_address(request).map(|address| address.ip()),
            Source::ForwardedFor { proxies } => forwarded_for(&request.headers, *proxies),
            Source::Own(find) => find(request),
        }
    }
}

/// The peer's address, where the request tells it.
pub(crate) fn peer_address(request: &Parts) -> Option<SocketAddr> {
    let own = request.extensions.get::<PeerAddr>().map(|address| address.0);
    #[cfg(feature = "axum")]
    let own = own.or_else(|| {
        let info = request.extensions.get::<axum::extract::ConnectInfo<SocketAddr>>();
        info.map(|info| info.0)
    });
    own
}

fn forwarded_for(headers: &HeaderMap, proxies: usize) -> Option<IpAddr> {
    // Several headers are one list; a proxy may append to any of them, so the last counts.
    let lists = headers.get_all("x-forwarded-for").iter().rev();
    let entries = lists.filter_map(|list| HeaderValue::to_str(list).ok());
    let entry = entries.flat_map(|list| list.rsplit(',')).nth(proxies - 1)?.trim();
    let bare = || entry.strip_prefix('[')?.split_once(']')?.0.parse().ok();
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    entry.parse().ok().or_else(with_port).or_else(bare)
}

/// What counts as one address: an IPv4 address, or the /64 that an IPv6 address is in, since that
/// is what one customer has all of.
pub(crate) fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lists: &[&str]) -> Parts {
        let mut request = http::Request::get("/");
        for list in lists {
            request = request.header("x-forwarded-for", *list);
        }
        request.body(()).expect("a valid request").into_parts().0
    }

    #[test]
    fn the_entry_so_many_from_the_end_counts() {
        for (lists, proxies, expected) in [
            (&["1.1.1.1, 2.2.2.2, 3.3.3.3"][..], 1, Some("3.3.3.3")),
            (&["1.1.1.1, 2.2.2.2, 3.3.3.3"], 2, Some("2.2.2.2")),
            (&["1.1.1.1", "2.2.2.2,3.3.3.3"], 3, Some("1.1.1.1")),
            (&["1.1.1.1"], 2, None),
            (&[], 1, None),
            (&["spoofed, 1.1.1.1"], 1, Some("1.1.1.1")),
            (&["1.1.1.1, unknown"], 1, None),
            (&["1.1.1.1:4711"], 1, Some("1.1.1.1")),
            (&["2001:db8::1"], 1, Some("2001:db8::1")),
            (&["[2001:db8::1]:4711"], 1, Some("2001:db8::1")),
            (&["[2001:db8::1]"], 1, Some("2001:db8::1")),
        ] {
            let expected = expected.map(|address| address.parse().expect("an address"));
            let found = ClientAddress::forwarded_for(proxies).of(&request(lists));
            assert_eq!(found, expected, "{lists:?} behind {proxies}");
        }
    }

    #[test]
    fn without_proxies_the_peer_counts_whatever_the_header_says() {
        let mut request = request(&["1.1.1.1"]);
        let peer: SocketAddr = "9.9.9.9:1".parse().expect("an address");
        request.extensions.insert(PeerAddr(peer));
        for from in [ClientAddress::peer(), ClientAddress::forwarded_for(0)] {
            assert_eq!(from.of(&request), Some(peer.ip()));
        }
    }

    #[test]
    fn what_is_one_customer_s_counts_as_one() {
        let block = |text: &str| block(text.parse().expect("an address"));
        assert_eq!(block("2001:db8:1:2:3::4"), block("2001:db8:1:2:ffff::"));
        assert_ne!(block("2001:db8:1:2::"), block("2001:db8:1:3::"));
        assert_eq!(block("::ffff:1.2.3.4"), block("1.2.3.4"));
        assert_ne!(block("1.2.3.4"), block("1.2.3.5"));
    }
}
