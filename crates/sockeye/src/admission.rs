//! How many sessions there are, in all, by address and on their way; a place is taken before a
//! handshake is answered and given back when its connection has ended.
//! Does not know requests or connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::address::block;
use crate::config::Config;
use crate::server::Server;

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    counts: Mutex<Counts>,
    is_unknown_reported: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    handshakes: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Connections,
    Handshakes,
    Address,
}

impl Admission {
    /// Whether all places have been given back.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.lock().connections == 0
    }

    fn take(&self, limits: &Config, block: Option<IpAddr>) -> Result<(), Full> {
        let mut counts = self.counts.lock();
        if counts.connections >= limits.connections_max {
            return Err(Full::Connections);
        }
        if counts.handshakes >= limits.handshakes_max {
            return Err(Full::Handshakes);
        }
        if let (Some(block), Some(max)) = (block, limits.connections_per_address_max) {
            let count = counts.by_address.entry(block).or_default();
            if *count >= max {
                return Err(Full::Address);
            }
            *count += 1;
        }
        counts.connections += 1;
        counts.handshakes += 1;
        Ok(())
    }

    fn end_handshake(&self) {
        self.counts.lock().handshakes -= 1;
    }

    fn give_back(&self, block: Option<IpAddr>) {
        let mut counts = self.counts.lock();
        counts.connections -= 1;
        if let Some(block) = block
            && let Some(count) = counts.by_address.get_mut(&block)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&block);
            }
        }
    }

    /// A limit that never applies is worth a word, once.
    fn report_unknown(&self) {
        if !self.is_unknown_reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "connections are to be limited by address, but this request's address is not \
                 known: serve with connect info, or insert PeerAddr"
            );
        }
    }
}

/// A place for one session; given back when dropped.
pub(crate) struct Place {
    server: Server,
    /// `None` where addresses are not counted, or this one is not known.
    block: Option<Box<IpAddr>>,
    is_in_handshake: bool,
}

impl Place {
    /// Takes a place. `address` is asked for only where it counts.
    pub(crate) fn take(
        server: &Server,
        address: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<Self, Full> {
        let limits = server.config();
        let is_counted = limits.connections_per_address_max.is_some();
        let block = is_counted.then(address).flatten().map(block);
        if is_counted && block.is_none() {
            server.admission().report_unknown();
        }
        server.admission().take(limits, block)?;
        Ok(Self { server: server.clone(), block: block.map(Box::new), is_in_handshake: true })
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The session is open.
    pub(crate) fn open(&mut self) {
        if std::mem::take(&mut self.is_in_handshake) {
            self.server.admission().end_handshake();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open();
        self.server.admission().give_back(self.block.take().map(|block| *block));
        self.server.connection_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(server: &Server, address: Option<&str>) -> Result<Place, Full> {
        Place::take(server, || address.map(|address| address.parse().expect("an address")))
    }

    #[test]
    fn places_by_address_come_back_and_leave_nothing() {
        let io = Server::builder().connections_per_address_max(2).build();
        let first = place(&io, Some("1.1.1.1"));
        let second = place(&io, Some("1.1.1.1"));
        assert_eq!(place(&io, Some("1.1.1.1")).err(), Some(Full::Address));
        let others = [place(&io, Some("2.2.2.2")), place(&io, None), place(&io, None)];
        assert!(others.iter().all(Result::is_ok));
        drop(first);
        let third = place(&io, Some("1.1.1.1"));
        assert!(third.is_ok());
        drop((second, third, others));
        let counts = io.admission().counts.lock();
        assert_eq!((counts.connections, counts.handshakes, counts.by_address.len()), (0, 0, 0));
    }

    #[test]
    fn a_handshake_counts_until_it_is_over() {
        let io = Server::builder().handshakes_max(1).connections_max(2).build();
        let mut first = place(&io, None).ok();
        assert_eq!(place(&io, None).err(), Some(Full::Handshakes));
        first.as_mut().map(Place::open).expect("a place");
        let second = place(&io, None);
        assert!(second.is_ok());
        assert_eq!(place(&io, None).err(), Some(Full::Connections));
        drop((first, second));
        let counts = io.admission().counts.lock();
        assert_eq!((counts.connections, counts.handshakes), (0, 0));
    }
}
