//! A cluster's messages, written for each of Node's adapters on Redis and read again: they are the
//! same, and so are the bytes of what is written of them then.

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::json;
use serde_json::value::RawValue;
use sockeye::cluster::{
    BroadcastFlags, BroadcastOptions, ClusterBody, ClusterEvent, ClusterMessage, NodeId, RequestId,
    SocketDetails,
};
use sockeye::{OwnedArgs, RoomName, SocketId};
use sockeye_fuzz::cluster::shown;
use sockeye_fuzz::values::Value;
use sockeye_redis::wire::classic::Writer;
use sockeye_redis::wire::{classic, sharded, streams};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    sender: &'a str,
    namespace: &'a str,
    to: Option<&'a str>,
    kind: Kind,
    request: Option<&'a str>,
    options: Options<'a>,
    rooms: Vec<&'a str>,
    values: Vec<Value<'a>>,
    flag: bool,
    number: u16,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Broadcast,
    ClientCount,
    Ack,
    Join,
    Leave,
    Disconnect,
    Fetch,
    FetchResponse,
    ServerSideEmit,
    ServerSideEmitResponse,
}

#[derive(Arbitrary, Debug)]
struct Options<'a> {
    rooms: Vec<&'a str>,
    except: Vec<&'a str>,
    volatile: bool,
    compress: bool,
    timeout: Option<u16>,
    conflate: Option<&'a str>,
    direct: bool,
}

/// Deeper arguments are refused when they are read.
const DEPTH_MAX: usize = 90;

fuzz_target!(|input: Input<'_>| -> Corpus {
    let Some(message) = input.message() else { return Corpus::Reject };
    let to = input.to.map(NodeId::new);
    let channels = classic::Channels::new("socket.io", &message.namespace);
    for writer in [Writer::Adapter { specific: input.flag }, Writer::Emitter] {
        let write = |message: &ClusterMessage| {
            classic::encode(message, to.as_ref(), &channels, writer).expect("it has its place")
        };
        let written = write(&message);
        let read = classic::decode(&written.channel, &written.payload, &channels);
        let read = read.expect("it was written just now");
        let mut expected = without_flags(message.clone());
        // Answers do not say who speaks, nor do an emitter's requests.
        expected.sender = expected.sender.filter(|_| read.sender.is_some());
        assert_eq!(shown(&read), shown(&expected));
        assert_eq!(write(&read).payload, written.payload);
    }
    let channels = sharded::Channels::new("socket.io", &message.namespace, Default::default());
    let written = sharded::encode(&message, to.as_ref(), &channels).expect("it has its place");
    let read = sharded::decode(&written.payload, &message.namespace).expect("written just now");
    assert_eq!(shown(&read), shown(&message));
    let again = sharded::encode(&read, to.as_ref(), &channels).expect("it was read");
    assert_eq!(again, written);
    if streams::is_ephemeral(&message.body) {
        let written = streams::encode(&message, to.as_ref(), "socket.io").expect("its place");
        let read = streams::decode(&written.payload).expect("it was written just now");
        assert_eq!(shown(&read), shown(&message));
    } else {
        let written = streams::encode_entry(&message).expect("it has its place");
        let read = streams::decode_entry(&written).expect("it was written just now");
        assert_eq!(shown(&read), shown(&message));
    }
    Corpus::Keep
});

/// As the classic adapter has it: requests that send nothing to clients have no flags.
fn without_flags(mut message: ClusterMessage) -> ClusterMessage {
    match &mut message.body {
        ClusterBody::SocketsJoin { options, .. }
        | ClusterBody::SocketsLeave { options, .. }
        | ClusterBody::DisconnectSockets { options, .. }
        | ClusterBody::FetchSockets { options, .. } => options.flags = BroadcastFlags::default(),
        _ => {}
    }
    message
}

impl Input<'_> {
    fn message(&self) -> Option<ClusterMessage> {
        if self.namespace.contains(',') {
            // It ends a namespace on the clients' wire.
            return None;
        }
        let namespace: Arc<str> = format!("/{}", self.namespace).into();
        let mut attachments = Vec::new();
        let mut values = Vec::new();
        for value in &self.values {
            if value.depth()? > DEPTH_MAX {
                return None;
            }
            values.push(value.json(&mut attachments));
        }
        let raw =
            |value: serde_json::Value| RawValue::from_string(value.to_string()).expect("JSON");
        // One argument, with the binary data that is in it.
        let answer = || match self.values.first() {
            Some(first) => {
                let mut own = Vec::new();
                let json = raw(first.json(&mut own));
                OwnedArgs::one(&json, own)
            }
            None => OwnedArgs::default(),
        };
        let request = self.request.map(RequestId::new);
        let asked = RequestId::new(self.request.unwrap_or("request"));
        let options = self.options.broadcast();
        let rooms: Vec<RoomName> = self.rooms.iter().map(|&room| room.into()).collect();
        let named = || {
            let name = json!(self.rooms.first().unwrap_or(&"event"));
            raw(std::iter::once(name).chain(values.iter().cloned()).collect())
        };
        let body = match self.kind {
            Kind::Broadcast => {
                // A reserved name is none that a client may have.
                let event = ClusterEvent::new(&namespace, &named(), &attachments).ok()?;
                ClusterBody::Broadcast { event, options, request }
            }
            Kind::ClientCount => {
                ClusterBody::BroadcastClientCount { request: asked, count: self.number.into() }
            }
            Kind::Ack => {
                let answer = answer();
                ClusterBody::BroadcastAck { request: asked, socket: None, answer }
            }
            Kind::Join => ClusterBody::SocketsJoin { options, rooms },
            Kind::Leave => ClusterBody::SocketsLeave { options, rooms },
            Kind::Disconnect => ClusterBody::DisconnectSockets { options, close: self.flag },
            Kind::Fetch => ClusterBody::FetchSockets { request: asked, options },
            Kind::FetchResponse => {
                let details = |number: u8| SocketDetails {
                    id: SocketId::from_entropy([number; 15]),
                    handshake: raw(json!({ "query": self.namespace })),
                    rooms: rooms.clone(),
                    data: answer(),
                };
                let sockets = (0..self.number % 3).map(|number| details(number as u8)).collect();
                ClusterBody::FetchSocketsResponse { request: asked, sockets }
            }
            Kind::ServerSideEmit => {
                let event = OwnedArgs::list(&named(), attachments)?;
                ClusterBody::ServerSideEmit { event, request }
            }
            Kind::ServerSideEmitResponse => {
                let answer = answer();
                ClusterBody::ServerSideEmitResponse { request: asked, answer }
            }
        };
        let sender = NodeId::new(if self.sender.is_empty() { "node" } else { self.sender });
        Some(ClusterMessage { sender: Some(sender), namespace, body })
    }
}

impl Options<'_> {
    fn broadcast(&self) -> BroadcastOptions {
        let names = |rooms: &[&str]| rooms.iter().map(|&room| room.into()).collect();
        BroadcastOptions {
            rooms: names(&self.rooms),
            except: names(&self.except),
            flags: BroadcastFlags {
                volatile: self.volatile,
                compress: self.compress,
                timeout: self.timeout.map(|ms| Duration::from_millis(ms.into())),
                conflate: self.conflate.map(Arc::from),
                direct: self.direct,
            },
        }
    }
}
