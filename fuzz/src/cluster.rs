//! A cluster's message as one JSON value, for two of them to be compared: what is the same to who
//! receives it is the same here, however its text was written. Does not know any wire.

use bytes::Bytes;
use serde_json::{Value, json};
use sockeye::OwnedArgs;
use sockeye::cluster::{
    BroadcastFlags, BroadcastOptions, ClusterBody, ClusterEvent, ClusterMessage, SocketChange,
    SocketDetails,
};

/// The message.
pub fn shown(message: &ClusterMessage) -> Value {
    let sender = message.sender.as_ref().map(ToString::to_string);
    json!({ "sender": sender, "namespace": &*message.namespace, "body": body(&message.body) })
}

fn body(body: &ClusterBody) -> Value {
    match body {
        ClusterBody::InitialHeartbeat => json!("initial heartbeat"),
        ClusterBody::Heartbeat => json!("heartbeat"),
        ClusterBody::Leave => json!("leave"),
        ClusterBody::Broadcast { event, options: to, request } => {
            let request = request.as_ref().map(ToString::to_string);
            json!({ "broadcast": list(event), "to": options(to), "request": request })
        }
        ClusterBody::BroadcastClientCount { request, count } => {
            json!({ "count": count, "request": request.to_string() })
        }
        ClusterBody::BroadcastAck { request, socket, answer } => {
            let socket = socket.as_ref().map(ToString::to_string);
            json!({ "ack": args(answer), "socket": socket, "request": request.to_string() })
        }
        ClusterBody::SocketsJoin { options: to, rooms } => {
            json!({ "join": names(rooms), "to": options(to) })
        }
        ClusterBody::SocketsLeave { options: to, rooms } => {
            json!({ "leave": names(rooms), "to": options(to) })
        }
        ClusterBody::DisconnectSockets { options: to, close } => {
            json!({ "disconnect": close, "to": options(to) })
        }
        ClusterBody::FetchSockets { request, options: to } => {
            json!({ "fetch": request.to_string(), "to": options(to) })
        }
        ClusterBody::FetchSocketsResponse { request, sockets } => {
            let sockets: Vec<_> = sockets.iter().map(socket).collect();
            json!({ "sockets": sockets, "request": request.to_string() })
        }
        ClusterBody::ServerSideEmit { event, request } => {
            let request = request.as_ref().map(ToString::to_string);
            json!({ "event": args(event), "request": request })
        }
        ClusterBody::ServerSideEmitResponse { request, answer } => {
            json!({ "answer": args(answer), "request": request.to_string() })
        }
        ClusterBody::ListRooms { request } => json!({ "list rooms": request.to_string() }),
        ClusterBody::ListRoomsResponse { request, rooms } => {
            json!({ "rooms": names(rooms), "request": request.to_string() })
        }
        ClusterBody::ListSockets { request, rooms } => {
            json!({ "list sockets": names(rooms), "request": request.to_string() })
        }
        ClusterBody::ListSocketsResponse { request, sockets } => {
            let ids: Vec<_> = sockets.iter().map(ToString::to_string).collect();
            // Of none, nobody says what they are.
            json!({ "sockets": ids, "request": request.to_string() })
        }
        ClusterBody::ChangeSocket { request, socket, change } => {
            let change = match change {
                SocketChange::Join(room) => json!({ "join": &**room }),
                SocketChange::Leave(room) => json!({ "leave": &**room }),
                SocketChange::Disconnect { close } => json!({ "disconnect": close }),
            };
            json!({ "change": change, "of": socket.as_str(), "request": request.to_string() })
        }
        // Of a log's, which has a wire of its own.
        ClusterBody::KeepSession(session) => json!({ "keep": format!("{session:?}") }),
        ClusterBody::EnterSession(session) => json!({ "enter": format!("{session:?}") }),
        ClusterBody::ForgetSession(session) => json!({ "forget": format!("{session:?}") }),
        ClusterBody::ChangeSocketResponse { request } => json!({ "done": request.to_string() }),
        ClusterBody::Forward(forward) => json!({ "forward": *forward.encode() }),
    }
}

fn options(options: &BroadcastOptions) -> Value {
    let BroadcastOptions { rooms, except, flags } = options;
    let BroadcastFlags { volatile, compress, timeout, conflate, direct } = flags;
    // On the wire it is a double; up to here that has every millisecond.
    let timeout = timeout.map(|timeout| timeout.as_millis().min(1_000_000_000) as u64);
    json!([names(rooms), names(except), volatile, compress, timeout, conflate.as_deref(), direct])
}

fn names(rooms: &[sockeye::RoomName]) -> Vec<&str> {
    rooms.iter().map(|room| &**room).collect()
}

fn list(event: &ClusterEvent) -> Value {
    let attachments: Vec<_> = event.attachments().map(Bytes::copy_from_slice).collect();
    value(event.json(), &attachments)
}

fn args(args: &OwnedArgs) -> Value {
    value(&format!("[{}]", args.raw()), args.attachments())
}

fn socket(details: &SocketDetails) -> Value {
    let SocketDetails { id, handshake, rooms, data } = details;
    // None is an empty object, as in Node.
    let data = if data.raw().is_empty() { json!([{}]) } else { args(data) };
    json!([id.as_str(), value(handshake.get(), &[]), names(rooms), data])
}

/// Stands for JSON that is well-formed, and that nobody can read as a value: half a surrogate pair,
/// a number without end, lists in lists without end.
pub const UNREADABLE: &str = "(unreadable)";

/// JSON with its binary data as Node's `JSON.stringify` writes it.
fn value(json: &str, attachments: &[Bytes]) -> Value {
    match serde_json::from_str(json) {
        Ok(value) => with_binary(value, attachments),
        Err(_) => UNREADABLE.into(),
    }
}

fn with_binary(value: Value, attachments: &[Bytes]) -> Value {
    match value {
        Value::Array(list) => {
            list.into_iter().map(|value| with_binary(value, attachments)).collect()
        }
        Value::Object(map) => {
            let num = map.get("num").and_then(Value::as_u64).filter(|_| map.len() == 2);
            let num = num.filter(|_| map.get("_placeholder") == Some(&Value::Bool(true)));
            match num.and_then(|num| attachments.get(num as usize)) {
                Some(data) => {
                    let data: Vec<_> = data.iter().map(|byte| f64::from(*byte)).collect();
                    json!({ "type": "Buffer", "data": data })
                }
                None => {
                    let entry = |(key, value)| (key, with_binary(value, attachments));
                    Value::Object(map.into_iter().map(entry).collect())
                }
            }
        }
        // JavaScript has one kind of numbers.
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        other => other,
    }
}
