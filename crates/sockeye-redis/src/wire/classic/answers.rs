//! Answers: JSON, and MessagePack where a client's acknowledgement is in it.
//! Does not know requests.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sockeye::cluster::{ClusterBody, RequestId};
use sockeye::{OwnedArgs, SocketId};

use super::kind;
use crate::wire::fields::{self, Names, Room, SocketRead};
use crate::wire::{Text, UnwritableError, WireError, msgpack, raw};

#[derive(Serialize)]
struct ResponseWritten<'a, S> {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<u64>,
    #[serde(rename = "requestId")]
    request: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sockets: Option<Vec<S>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<Names<'a>>,
    #[serde(rename = "clientCount", skip_serializing_if = "Option::is_none")]
    client_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<&'a RawValue>,
}

pub(super) fn is_answer(body: &ClusterBody) -> bool {
    matches!(
        body,
        ClusterBody::BroadcastClientCount { .. }
            | ClusterBody::BroadcastAck { .. }
            | ClusterBody::FetchSocketsResponse { .. }
            | ClusterBody::ServerSideEmitResponse { .. }
            | ClusterBody::ListRoomsResponse { .. }
            | ClusterBody::ListSocketsResponse { .. }
            | ClusterBody::ChangeSocketResponse { .. }
    )
}

pub(super) fn encode(body: &ClusterBody) -> Result<Vec<u8>, UnwritableError> {
    let empty = |request| ResponseWritten::<()> {
        r#type: None,
        request,
        sockets: None,
        rooms: None,
        client_count: None,
        data: None,
        packet: None,
    };
    match body {
        ClusterBody::BroadcastClientCount { request, count } => {
            let written = ResponseWritten {
                r#type: Some(kind::CLIENT_COUNT),
                client_count: Some(*count),
                ..empty(request.as_str())
            };
            Ok(serde_json::to_vec(&written)?)
        }
        ClusterBody::BroadcastAck { request, answer, .. } => {
            let written = ResponseWritten {
                r#type: Some(kind::ACK),
                packet: first(answer.raw())?,
                ..empty(request.as_str())
            };
            Ok(msgpack(&serde_json::to_string(&written)?, answer.attachments())?)
        }
        ClusterBody::ServerSideEmitResponse { request, answer } => {
            let data = fields::inline(answer.raw(), answer.attachments())?;
            let written = ResponseWritten {
                r#type: Some(kind::SERVER_SIDE_EMIT),
                data: first(&data)?,
                ..empty(request.as_str())
            };
            Ok(serde_json::to_vec(&written)?)
        }
        ClusterBody::ListRoomsResponse { request, rooms } => {
            let written = ResponseWritten { rooms: Some(Names(rooms)), ..empty(request.as_str()) };
            Ok(serde_json::to_vec(&written)?)
        }
        ClusterBody::FetchSocketsResponse { request, sockets } => {
            Ok(with_sockets(request, fields::sockets_inline(sockets)?)?)
        }
        ClusterBody::ListSocketsResponse { request, sockets } => {
            let ids = sockets.iter().map(|id| id.as_str()).collect();
            Ok(with_sockets(request, ids)?)
        }
        ClusterBody::ChangeSocketResponse { request } => {
            Ok(serde_json::to_vec(&empty(request.as_str()))?)
        }
        _ => Err(UnwritableError::Kind),
    }
}

fn with_sockets<S: Serialize>(
    request: &RequestId,
    sockets: Vec<S>,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&ResponseWritten {
        r#type: None,
        request: request.as_str(),
        sockets: Some(sockets),
        rooms: None,
        client_count: None,
        data: None,
        packet: None,
    })
}

/// An argument, if there is one: Node's `undefined` is left out.
fn first(json: &str) -> Result<Option<&RawValue>, serde_json::Error> {
    if json.is_empty() { Ok(None) } else { raw(json).map(Some) }
}

#[derive(Deserialize)]
struct ResponseRead<'a> {
    #[serde(default)]
    r#type: Option<u64>,
    #[serde(rename = "requestId")]
    request: String,
    #[serde(borrow, default)]
    sockets: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    rooms: Option<Vec<Room>>,
    #[serde(rename = "clientCount", default)]
    client_count: Option<usize>,
    #[serde(borrow, default, deserialize_with = "fields::present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "fields::present")]
    packet: Option<&'a RawValue>,
}

pub(super) fn decode(text: &Text<'_>) -> Result<ClusterBody, WireError> {
    let read: ResponseRead<'_> = text.parse()?;
    let request = RequestId::new(read.request);
    let argument = |json: Option<&RawValue>| {
        json.map_or_else(OwnedArgs::default, |json| fields::one(json, &text.attachments))
    };
    match (read.r#type, read.sockets, read.rooms) {
        (Some(kind::CLIENT_COUNT), ..) => {
            let count = read.client_count.ok_or(WireError::Missing("a client count"))?;
            Ok(ClusterBody::BroadcastClientCount { request, count })
        }
        (Some(kind::ACK), ..) => {
            let answer = argument(read.packet);
            Ok(ClusterBody::BroadcastAck { request, socket: None, answer })
        }
        (Some(kind::SERVER_SIDE_EMIT), ..) => {
            Ok(ClusterBody::ServerSideEmitResponse { request, answer: argument(read.data) })
        }
        (Some(other), ..) => Err(WireError::UnknownType(other)),
        (None, Some(sockets), _) => decode_sockets(request, &sockets, &text.attachments),
        (None, None, Some(rooms)) => {
            Ok(ClusterBody::ListRoomsResponse { request, rooms: fields::names(rooms) })
        }
        (None, None, None) => Ok(ClusterBody::ChangeSocketResponse { request }),
    }
}

/// Sockets, or their ids alone; which of the two nobody says of none.
fn decode_sockets(
    request: RequestId,
    sockets: &[&RawValue],
    attachments: &[Bytes],
) -> Result<ClusterBody, WireError> {
    if sockets.first().is_some_and(|first| first.get().starts_with('"')) {
        let parse = |json: &&RawValue| {
            let id: String = serde_json::from_str(json.get())?;
            SocketId::parse(&id).ok_or(WireError::Missing("the id of a socket"))
        };
        let sockets = sockets.iter().map(parse).collect::<Result<_, WireError>>()?;
        return Ok(ClusterBody::ListSocketsResponse { request, sockets });
    }
    let read = |json: &&RawValue| {
        serde_json::from_str::<SocketRead<'_>>(json.get())?.into_details(attachments)
    };
    let sockets = sockets.iter().map(read).collect::<Result<_, WireError>>()?;
    Ok(ClusterBody::FetchSocketsResponse { request, sockets })
}
