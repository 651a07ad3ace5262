//! What Node's packages write, captured anew by each run (`tests/cluster/vectors.mjs`): each
//! message is understood, and written by us it is the same, byte for byte.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sockeye::cluster::{ClusterBody, ClusterMessage, NodeId};
use sockeye::{Binary, RoomName};
use sockeye_redis::wire::streams::Entry;
use sockeye_redis::wire::{Publication, classic, sharded, streams};

#[derive(Debug, Deserialize)]
struct Vector {
    name: String,
    #[serde(default)]
    channel: String,
    payload: Option<String>,
    entry: Option<EntryRead>,
    #[serde(default)]
    streams: Vec<(String, u32, String)>,
}

#[derive(Debug, Deserialize)]
struct EntryRead {
    uid: String,
    nsp: String,
    r#type: String,
    data: Option<String>,
}

fn captured() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cluster");
    let node = Command::new("node").arg("vectors.mjs").current_dir(folder).output();
    let node = node.expect("Node.js is installed");
    let errors = String::from_utf8_lossy(&node.stderr);
    assert!(node.status.success(), "is `npm ci` done in tests/cluster?\n{errors}");
    serde_json::from_slice(&node.stdout).expect("JSON")
}

/// What came of one vector.
struct Read {
    message: ClusterMessage,
    /// The same, written by us; the entry of a stream as JSON.
    again: Publication,
    theirs: Publication,
}

fn read(vector: &Vector) -> Read {
    let (writer, _) = vector.name.split_once(' ').expect("a writer and what it writes");
    let namespace: Arc<str> =
        if vector.name.ends_with("namespace") { "/other" } else { "/" }.into();
    let payload = vector.payload.as_deref().map(|payload| STANDARD.decode(payload));
    let payload = payload.transpose().expect("base64").unwrap_or_default();
    let theirs = Publication { channel: vector.channel.clone(), payload };
    // An answer is for the node that asked.
    let to = vector.channel.contains("asker1").then(|| NodeId::new("asker1"));
    let name = &vector.name;
    match (writer, &vector.entry) {
        ("classic" | "emitter", None) => {
            let is_specific = vector.name == "classic specific";
            let key = if is_specific { "key" } else { "socket.io" };
            let channels = classic::Channels::new(key, &namespace);
            let message = classic::decode(&theirs.channel, &theirs.payload, &channels);
            let message = message.unwrap_or_else(|error| panic!("{name}: {error}"));
            let writer = match writer {
                "emitter" => classic::Writer::Emitter,
                _ => classic::Writer::Adapter { specific: is_specific },
            };
            let again = classic::encode(&message, to.as_ref(), &channels, writer);
            Read { message, again: again.expect("it is written"), theirs }
        }
        ("streams", None) => {
            let message = streams::decode(&theirs.payload);
            let message = message.unwrap_or_else(|error| panic!("{name}: {error}"));
            let again = streams::encode(&message, to.as_ref(), "socket.io");
            Read { message, again: again.expect("it is written"), theirs }
        }
        ("streams", Some(EntryRead { uid, nsp, r#type, data })) => {
            let entry = Entry {
                uid: uid.clone(),
                nsp: nsp.clone(),
                kind: r#type.clone(),
                data: data.clone(),
            };
            let message = streams::decode_entry(&entry);
            let message = message.unwrap_or_else(|error| panic!("{name}: {error}"));
            let as_publication = |entry: &Entry| {
                let channel = streams::stream_of("socket.io", 1, &entry.nsp);
                Publication { channel, payload: format!("{entry:?}").into_bytes() }
            };
            let again = streams::encode_entry(&message).expect("it is written");
            assert!(!streams::is_ephemeral(&message.body), "{name}");
            let (again, theirs) = (as_publication(&again), as_publication(&entry));
            Read { message, again, theirs }
        }
        (mode, None) => {
            let mode = match mode {
                "static" => sharded::SubscriptionMode::Static,
                "dynamic-private" => sharded::SubscriptionMode::DynamicPrivate,
                _ => sharded::SubscriptionMode::Dynamic,
            };
            let channels = sharded::Channels::new("socket.io", &namespace, mode);
            let message = sharded::decode(&theirs.payload, &namespace);
            let message = message.unwrap_or_else(|error| panic!("{name}: {error}"));
            let again = sharded::encode(&message, to.as_ref(), &channels);
            Read { message, again: again.expect("it is written"), theirs }
        }
        (other, Some(_)) => panic!("{other} has no stream"),
    }
}

#[test]
fn what_node_writes_is_understood_and_written_the_same() {
    let vectors = captured();
    let mut kinds = HashSet::new();
    for vector in vectors.iter().filter(|vector| vector.streams.is_empty()) {
        let Read { message, again, theirs } = read(vector);
        check(vector, &message);
        kinds.insert(std::mem::discriminant(&message.body));
        let name = &vector.name;
        assert_eq!(again.channel, theirs.channel, "{name}");
        // A room named by a number is named by its digits here.
        let is_other = name.ends_with("number");
        let (ours, theirs) = (again.payload.escape_ascii(), theirs.payload.escape_ascii());
        assert_eq!(ours.to_string() == theirs.to_string(), !is_other, "{name}\n{ours}\n{theirs}");
    }
    assert!(vectors.len() > 100, "{} vectors", vectors.len());
    assert_eq!(kinds.len(), 11, "every kind that Node writes");
}

/// What the messages mean.
fn check(vector: &Vector, message: &ClusterMessage) {
    let (writer, what) = vector.name.split_once(' ').expect("a writer and what it writes");
    let is_anonymous = match writer {
        "classic" => vector.channel.contains("response"),
        "emitter" => vector.channel.contains("request") && !what.contains("servers"),
        _ => false,
    };
    assert_eq!(message.sender.is_none(), is_anonymous, "{}", vector.name);
    match (what, &message.body) {
        ("binary", ClusterBody::Broadcast { event, request: None, .. }) => {
            let json = concat!(
                r#"["binary",{"_placeholder":true,"num":0},"#,
                r#"{"deep":[{"_placeholder":true,"num":1}]}]"#
            );
            assert_eq!(event.json(), json);
            assert!(event.attachments().eq([[0, 1, 255], [0, 1, 255]]));
        }
        ("values", ClusterBody::Broadcast { event, .. }) => {
            let json = "[\"values\",null,true,-1,1.5,1099511627776,\"\\u0000é😀\u{2028}\",\
                        [],{},{\"a\":[null,1]}]";
            assert_eq!(event.json(), json);
        }
        ("number", ClusterBody::Broadcast { options, .. }) => {
            assert_eq!(*options.rooms, [RoomName::from("7")]);
        }
        ("rooms", ClusterBody::Broadcast { options, .. }) => {
            assert_eq!(*options.rooms, [RoomName::from("a"), RoomName::from("b")]);
            assert_eq!(*options.except, [RoomName::from("c")]);
        }
        ("volatile", ClusterBody::Broadcast { options, .. }) => {
            assert!(options.flags.volatile && !options.flags.compress);
        }
        ("ask", ClusterBody::Broadcast { options, request: Some(_), .. }) => {
            assert_eq!(options.flags.timeout, Some(Duration::from_millis(1500)));
        }
        ("binary sockets", ClusterBody::FetchSocketsResponse { sockets, .. }) => {
            assert_eq!(sockets[0].rooms.len(), 2);
            if writer != "classic" {
                let data: BTreeMap<String, Binary> = sockets[0].data.cursor().next().expect("data");
                assert_eq!(&*data["own"], [0, 1, 255]);
            }
        }
        ("count, binary ack", ClusterBody::BroadcastAck { answer, .. }) => {
            let answer: BTreeMap<String, Binary> = answer.cursor().next().expect("an object");
            assert_eq!(&*answer["bytes"], [0, 1, 255]);
        }
        ("count, ack", ClusterBody::BroadcastAck { answer, .. }) => {
            assert_eq!(answer.raw(), "\"yes\"", "one argument travels");
        }
        ("count, no ack" | "nothing", ClusterBody::BroadcastAck { answer, .. }) => {
            // The streams adapter writes `undefined` as nil, and so do its readers have it.
            assert_eq!(answer.raw(), if writer == "streams" { "null" } else { "" });
        }
        ("binary" | "values" | "number" | "rooms" | "volatile" | "ask", body) => {
            panic!("{}: {body:?}", vector.name);
        }
        _ => {}
    }
}

#[test]
fn namespaces_have_the_streams_that_node_writes_to() {
    let vectors = captured();
    let named = vectors.iter().find(|vector| !vector.streams.is_empty()).expect("streams");
    for (namespace, count, stream) in &named.streams {
        assert_eq!(streams::stream_of("socket.io", *count, namespace), *stream);
        assert!(streams::stream_names("socket.io", *count).contains(stream), "{stream} is read");
    }
    assert!(named.streams.iter().any(|(_, _, stream)| stream.contains("--")), "Node's bug");
}
