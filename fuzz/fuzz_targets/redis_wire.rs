//! Bytes as they may come from Redis, for each of Node's adapters: a message or an error, in memory
//! that the bytes bound; and what is a message is the same when it is written and read again. The
//! first byte says how they come.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sockeye::cluster::{ClusterBody, ClusterMessage};
use sockeye_fuzz::cluster::{UNREADABLE, shown};
use sockeye_fuzz::heap::measure;
use sockeye_redis::wire::classic::Writer;
use sockeye_redis::wire::streams::Entry;
use sockeye_redis::wire::{WireError, classic, sharded, streams};

/// The namespace of every message that is read.
const NAMESPACE: &str = "/";

/// What a byte may become: `[[],…` are lists of their own, and lists grow by doubling.
const BYTES_PER_BYTE: u64 = 256;
const BYTES_BESIDE: u64 = 16 << 10;

/// A way that messages come by.
#[derive(Clone, Copy, Debug)]
enum Way {
    Classic(&'static str),
    Sharded,
    Streams,
    Entry(u8),
}

fuzz_target!(|input: &[u8]| {
    let Some((&way, payload)) = input.split_first() else { return };
    let way = match way % 20 {
        0 => Way::Classic("socket.io#/#"),
        1 => Way::Classic("socket.io#/#room#"),
        2 => Way::Classic("socket.io-request#/#"),
        3 => Way::Classic("socket.io-response#/#"),
        4 => Way::Classic("socket.io-response#/#node#"),
        5 => Way::Sharded,
        6 => Way::Streams,
        kind => Way::Entry(kind - 6),
    };
    let mut read = None;
    let heap = measure(|| read = way.read(payload).ok());
    let most = payload.len() as u64 * BYTES_PER_BYTE + BYTES_BESIDE;
    assert!(heap.most <= most, "{heap:?} for {} bytes by {way:?}", payload.len());
    let Some(message) = read else { return };
    let first = shown(&message);
    // What cannot be read cannot be compared, and binary data beside a socket's own (in what is
    // told of its handshake) is left out.
    let text = first.to_string();
    if text.contains(UNREADABLE) || text.contains("_placeholder") {
        return;
    }
    let Some(again) = way.there_and_back(&message) else { return };
    assert_eq!(shown(&again), first, "by {way:?}");
});

impl Way {
    fn read(self, payload: &[u8]) -> Result<ClusterMessage, WireError> {
        match self {
            Self::Classic(channel) => classic::decode(channel, payload, &channels()),
            Self::Sharded => sharded::decode(payload, &NAMESPACE.into()),
            Self::Streams => streams::decode(payload),
            Self::Entry(kind) => {
                let data = str::from_utf8(payload).ok().map(str::to_owned);
                let (uid, nsp) = ("node".to_owned(), NAMESPACE.to_owned());
                streams::decode_entry(&Entry { uid, nsp, kind: kind.to_string(), data })
            }
        }
    }

    /// `None`: it is an answer that does not say what it has none of.
    fn there_and_back(self, message: &ClusterMessage) -> Option<ClusterMessage> {
        if let ClusterBody::ListSocketsResponse { sockets, .. } = &message.body
            && sockets.is_empty()
        {
            return None;
        }
        let again = match self {
            Self::Classic(_) => {
                let writer = Writer::Adapter { specific: false };
                let written = classic::encode(message, None, &channels(), writer);
                let written = written.expect("it was read");
                classic::decode(&written.channel, &written.payload, &channels())
            }
            Self::Sharded => {
                let channels = sharded::Channels::new(
                    "socket.io",
                    NAMESPACE,
                    sharded::SubscriptionMode::Static,
                );
                let written = sharded::encode(message, None, &channels).expect("it was read");
                sharded::decode(&written.payload, &message.namespace)
            }
            Self::Streams => {
                let written = streams::encode(message, None, "socket.io").expect("it was read");
                streams::decode(&written.payload)
            }
            Self::Entry(_) => {
                streams::decode_entry(&streams::encode_entry(message).expect("it was read"))
            }
        };
        Some(again.expect("it was written just now"))
    }
}

fn channels() -> classic::Channels {
    classic::Channels::new("socket.io", &Arc::from(NAMESPACE))
}
