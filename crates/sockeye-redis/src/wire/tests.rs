//! What no adapter writes, what older ones wrote, and what only we write. What they write now is
//! captured from them in `tests/redis/vectors.rs`.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye::cluster::{
    BroadcastFlags, BroadcastOptions, Forward, RequestId, SocketChange, SocketDetails,
};
use sockeye::{Binary, OwnedArgs, SocketId};

use super::classic::Writer;
use super::*;
use sockeye::cluster::{
    ClusterBody, ClusterEvent, ClusterMessage, ClusterSession, NodeId, RecoveryId,
};

fn root() -> Arc<str> {
    "/".into()
}

fn room(name: &str) -> sockeye::RoomName {
    name.into()
}

fn classic_channels() -> classic::Channels {
    classic::Channels::new("socket.io", &root())
}

fn message(body: ClusterBody) -> ClusterMessage {
    ClusterMessage { sender: Some(NodeId::new("me")), namespace: root(), body }
}

fn request(json: &str) -> Result<ClusterMessage, WireError> {
    classic::decode("socket.io-request#/#", json.as_bytes(), &classic_channels())
}

#[test]
fn older_requests_name_one_socket_and_one_room() {
    let id = SocketId::from_entropy([0; 15]);
    let changed = |rest: &str| {
        let json = format!(r#"{{"uid":"u","requestId":"r",{rest},"sid":"{id}"}}"#);
        let read = request(&json).expect("a request");
        // Ours are the same, but for the order of the keys.
        let writer = Writer::Adapter { specific: false };
        let again = classic::encode(&read, None, &classic_channels(), writer).expect("written");
        let again = classic::decode(&again.channel, &again.payload, &classic_channels());
        let again = again.expect("a request");
        assert_eq!(format!("{again:?}"), format!("{read:?}"));
        match read.body {
            ClusterBody::ChangeSocket { request, socket, change } => {
                assert_eq!((request, socket), (RequestId::new("r"), id));
                change
            }
            other => panic!("{other:?} changes no socket"),
        }
    };
    assert_eq!(changed(r#""type":2,"room":"a""#), SocketChange::Join(room("a")));
    assert_eq!(changed(r#""type":3,"room":7"#), SocketChange::Leave(room("7")));
    assert_eq!(changed(r#""type":4,"close":true"#), SocketChange::Disconnect { close: true });
    assert!(request(r#"{"requestId":"r","type":2,"sid":"short","room":"a"}"#).is_err());
    let done = message(ClusterBody::ChangeSocketResponse { request: RequestId::new("r") });
    let writer = Writer::Adapter { specific: true };
    let done = classic::encode(&done, Some(&NodeId::new("u")), &classic_channels(), writer);
    let done = done.expect("written");
    assert_eq!(done.channel, "socket.io-response#/#u#");
    assert_eq!(done.payload, br#"{"requestId":"r"}"#);
    // Without any socket it would be about all of them.
    for kind in 2..=5 {
        let error = request(&format!(r#"{{"requestId":"r","type":{kind}}}"#));
        assert!(matches!(error, Err(WireError::Missing("options"))), "{kind}");
    }
}

#[test]
fn null_is_an_answer() {
    let ack = OwnedArgs::write(&serde_json::Value::Null).expect("JSON");
    let request = RequestId::new("r");
    let bodies = [
        ClusterBody::BroadcastAck { request: request.clone(), socket: None, answer: ack.clone() },
        ClusterBody::ServerSideEmitResponse { request, answer: ack },
    ];
    let channels = classic_channels();
    for body in bodies {
        let (written, writer) = (message(body), Writer::Adapter { specific: false });
        let by_classic = classic::encode(&written, None, &channels, writer).expect("written");
        let by_streams = streams::encode(&written, None, "socket.io").expect("written");
        for read in [
            classic::decode(&by_classic.channel, &by_classic.payload, &channels),
            streams::decode(&by_streams.payload),
        ] {
            match read.expect("an answer").body {
                ClusterBody::BroadcastAck { answer, .. }
                | ClusterBody::ServerSideEmitResponse { answer, .. } => {
                    assert_eq!(answer.raw(), "null");
                }
                other => panic!("{other:?} is no answer"),
            }
        }
    }
}

#[test]
fn requests_of_the_classic_adapter_that_we_do_not_make_are_understood() {
    let body = request(r#"{"uid":"u","requestId":"r","type":0,"rooms":["a",1]}"#);
    let ClusterBody::ListSockets { rooms, .. } = body.expect("a request").body else {
        panic!("it asks for sockets");
    };
    assert_eq!(*rooms, [room("a"), room("1")]);
    let id = SocketId::from_entropy([0; 15]);
    let body = ClusterBody::ListSocketsResponse { request: RequestId::new("r"), sockets: vec![id] };
    let written = classic::encode(
        &message(body),
        None,
        &classic_channels(),
        Writer::Adapter { specific: false },
    );
    let written = written.expect("it is written");
    let json = format!(r#"{{"requestId":"r","sockets":["{id}"]}}"#);
    assert_eq!(written.payload, json.into_bytes());
    let read = classic::decode(&written.channel, &written.payload, &classic_channels());
    assert!(matches!(
        read.expect("an answer").body,
        ClusterBody::ListSocketsResponse { sockets, .. } if *sockets == [id]
    ));
}

#[test]
fn foreign_and_broken_messages_are_errors() {
    for json in [
        "",
        "{",
        "{}",
        "[]",
        "{\"type\":99,\"uid\":\"u\"}",
        "{\"type\":\"2\"}",
        "{\"type\":-1}",
        r#"{"uid":"u","type":1}"#,
        r#"{"uid":"u","type":6}"#,
        r#"{"uid":"u","type":6,"data":{}}"#,
        r#"{"uid":"u","type":6,"data":[]}"#,
        r#"{"uid":"u","type":2,"opts":{"rooms":[null]},"rooms":[]}"#,
        r#"{"uid":"u","type":7,"requestId":"r","opts":{},"packet":{"data":["e"],"nsp":"/a"}}"#,
        r#"{"uid":"u","type":7,"requestId":"r","opts":{},"packet":{"data":["connect"]}}"#,
        r#"{"uid":"u","type":7,"requestId":"r","opts":{},"packet":{"data":[{}]}}"#,
    ] {
        assert!(request(json).is_err(), "{json}");
    }
    for json in [
        "{}",
        r#"{"requestId":"r","type":7}"#,
        r#"{"requestId":"r","sockets":[{}]}"#,
        r#"{"requestId":"r","sockets":["short"]}"#,
    ] {
        let read = classic::decode("socket.io-response#/#", json.as_bytes(), &classic_channels());
        assert!(read.is_err(), "{json}");
    }
    for payload in [
        &b""[..],
        b"{}",
        b"\x93\xa1u\x80\x80",
        b"\x92\xa1u\x80",
        b"\xc1",
        b"\x93\xa1u\x83\xa4type\x02\xa4data\x91\xa1e\xa3nsp\xa2/b\x80",
    ] {
        let read = classic::decode("socket.io#/#", payload, &classic_channels());
        assert!(read.is_err(), "{payload:?}");
    }
    let foreign = classic::decode("other", b"{}", &classic_channels());
    assert!(matches!(foreign, Err(WireError::Json(_) | WireError::Channel)));
    for json in [
        "{}",
        r#"{"type":3,"nsp":"/","uid":"u"}"#,
        r#"{"type":14,"nsp":"/"}"#,
        r#"{"type":3,"nsp":"/b","uid":"u","data":{"packet":{"type":2,"data":["e"]},"opts":{}}}"#,
        r#"{"type":3,"nsp":"/","uid":"u","data":{"packet":{"type":2,"data":["e"]}}}"#,
        r#"{"type":8,"nsp":"/","uid":"u","data":{"requestId":"r"}}"#,
        r#"{"type":11,"nsp":"/","uid":"u","data":{"requestId":"r","clientCount":-1}}"#,
    ] {
        assert!(sharded::decode(json.as_bytes(), &root()).is_err(), "{json}");
    }
    for (kind, data) in
        [("", None), ("3", None), ("x", Some("{}")), ("3", Some("%%")), ("3", Some("kA=="))]
    {
        let entry = streams::Entry {
            uid: "u".into(),
            nsp: "/".into(),
            kind: kind.into(),
            data: data.map(str::to_owned),
        };
        assert!(streams::decode_entry(&entry).is_err(), "{entry:?}");
    }
}

#[test]
fn h76_rooms_that_are_numbers_are_rooms_of_that_text() {
    let payload = [
        &b"\x93\xa1u\x83\xa4type\x02\xa4data\x91\xa1e\xa3nsp\xa1/"[..],
        b"\x82\xa5rooms\x93\x01\xcd\x01\x2c\xa1a\xa6except\x91\xff",
    ]
    .concat();
    let read = classic::decode("socket.io#/#", &payload, &classic_channels());
    let ClusterBody::Broadcast { options, .. } = read.expect("a broadcast").body else {
        panic!("a broadcast")
    };
    assert_eq!(*options.rooms, [room("1"), room("300"), room("a")]);
    assert_eq!(*options.except, [room("-1")]);
    assert_eq!(classic_channels().room("socket.io#/#7#"), Some(Some("7")));
}

#[test]
fn h79_the_first_byte_tells_json_from_message_pack() {
    let channels = sharded::Channels::new("socket.io", "/", sharded::SubscriptionMode::Static);
    for (binary, is_json) in [(None, true), (Some(Binary::from(vec![b'{'])), false)] {
        let event = ClusterEvent::encode("/", "e", &("{", binary)).expect("JSON");
        let options = BroadcastOptions::default();
        let body = ClusterBody::Broadcast { event, options, request: None };
        let written = sharded::encode(&message(body), None, &channels).expect("it is written");
        assert_eq!(written.payload[0] == b'{', is_json);
        let read = sharded::decode(&written.payload, &root()).expect("a broadcast");
        let ClusterBody::Broadcast { event, .. } = read.body else { panic!("a broadcast") };
        assert_eq!(event.attachments().len(), usize::from(!is_json));
    }
}

#[test]
fn h77_patterns_stand_for_one_namespace() {
    let channels = classic::Channels::new("socket.io", &"/a*[b]?".into());
    assert_eq!(channels.pattern(), r"socket.io#/a\*\[b\]\?#*");
    let channels = classic_channels();
    assert_eq!(channels.room("socket.io#/#"), Some(None));
    assert_eq!(channels.room("socket.io#/#a#b#"), Some(Some("a#b")));
    assert_eq!(channels.room("socket.io#/#a"), None);
    assert_eq!(channels.room("socket.io#/other#a#"), None);
}

#[test]
fn binary_data_in_json_is_written_as_node_does() {
    let event = OwnedArgs::write(&("hello", Binary::from(vec![0, 1, 255]))).expect("JSON");
    let body = ClusterBody::ServerSideEmit { event, request: None };
    let written = classic::encode(
        &message(body),
        None,
        &classic_channels(),
        Writer::Adapter { specific: false },
    );
    let json = r#"{"uid":"me","type":6,"data":["hello",{"type":"Buffer","data":[0,1,255]}]}"#;
    assert_eq!(written.expect("it is written").payload, json.as_bytes());
}

#[test]
fn sockets_with_binary_data_keep_their_own() {
    let details = |number: u8| SocketDetails {
        id: SocketId::from_entropy([number; 15]),
        handshake: RawValue::from_string("{}".to_owned()).expect("JSON"),
        rooms: vec!["a".into()],
        data: OwnedArgs::write(&vec![Binary::from(vec![number; 3]), vec![number].into()])
            .expect("JSON"),
    };
    let sockets = vec![details(1), details(2)];
    let body = ClusterBody::FetchSocketsResponse { request: RequestId::new("r"), sockets };
    let channels = sharded::Channels::new("socket.io", "/", sharded::SubscriptionMode::Static);
    let written = sharded::encode(&message(body), None, &channels).expect("it is written");
    let read = sharded::decode(&written.payload, &root()).expect("an answer");
    let ClusterBody::FetchSocketsResponse { sockets, .. } = read.body else { panic!("sockets") };
    for (socket, number) in sockets.iter().zip([1, 2]) {
        let data: Vec<Binary> = socket.data.cursor().next().expect("binary data");
        assert_eq!(data, [vec![number; 3].into(), vec![number].into()]);
    }
}

#[test]
fn what_only_we_say_is_passed_over_by_node() {
    let flags =
        BroadcastFlags { conflate: Some("key".into()), direct: true, ..BroadcastFlags::default() };
    let options = BroadcastOptions { flags, ..BroadcastOptions::default() };
    let event = ClusterEvent::encode("/", "e", &1).expect("JSON");
    let body = ClusterBody::Broadcast { event, options: options.clone(), request: None };
    let channels = sharded::Channels::new("socket.io", "/", sharded::SubscriptionMode::Static);
    let written = sharded::encode(&message(body), None, &channels).expect("it is written");
    let json = concat!(
        r#"{"type":3,"data":{"packet":{"type":2,"data":["e",1]},"opts":{"rooms":[],"#,
        r#""except":[],"flags":{"conflate":"key","direct":true}}},"uid":"me","nsp":"/"}"#
    );
    assert_eq!(written.payload, json.as_bytes());
    let read = sharded::decode(&written.payload, &root()).expect("a broadcast");
    let ClusterBody::Broadcast { options: came, .. } = read.body else { panic!("a broadcast") };
    assert_eq!(came, options);
}

#[test]
fn a_session_is_read_as_it_was_written() {
    let data = OwnedArgs::write(&serde_json::json!({ "user": "ann" })).expect("JSON");
    let bytes = OwnedArgs::write(&Binary::from(vec![1, 2, 3])).expect("JSON");
    for (data, more) in [(data, None), (bytes, Some(r#"{"from":"1-0"}"#))] {
        let more = more.map(|more| RawValue::from_string(more.to_owned()).expect("JSON"));
        let session = ClusterSession {
            socket: SocketId::from_entropy([1; 15]),
            id: RecoveryId::from_entropy([2; 15]),
            rooms: vec![room("a"), room("é")],
            data,
            more,
        };
        let text = sessions::encode_session(&session).expect("it can be written");
        let read = sessions::decode_session(&text).expect("it is one");
        assert_eq!((read.socket, read.id, read.rooms), (session.socket, session.id, session.rooms));
        assert_eq!(read.data.raw(), session.data.raw());
        assert_eq!(read.data.attachments(), session.data.attachments());
        let json = |more: Option<Box<RawValue>>| more.map(|more| more.get().to_owned());
        assert_eq!(json(read.more), json(session.more));
    }
    for text in ["", "nonsense", "!", "gA=="] {
        assert!(sessions::decode_session(text).is_err(), "{text}");
    }
}

#[test]
fn h80_a_room_that_looks_like_a_sockets_has_no_channel() {
    use sharded::SubscriptionMode::{Dynamic, DynamicPrivate, Static};
    for (mode, room, expected) in [
        (Static, "a", false),
        (Dynamic, "a", true),
        (Dynamic, "abcdefghijklmnopqrst", false),
        // As JavaScript counts.
        (Dynamic, "😀😀😀😀😀😀😀😀😀😀", false),
        (DynamicPrivate, "abcdefghijklmnopqrst", true),
    ] {
        let channels = sharded::Channels::new("socket.io", "/", mode);
        assert_eq!(channels.publishes_to_room(room), expected, "{mode:?} {room}");
    }
}

#[test]
fn what_is_forwarded_is_heard_by_one_node_and_no_message_of_node_s() {
    let said = Forward::decode(&Bytes::from_static(&[1])).expect("somebody is here");
    let (channels, to) = (classic_channels(), NodeId::new("there"));
    let written = message(ClusterBody::Forward(said.clone()));
    let is_said = |read: ClusterMessage| {
        assert_eq!((read.sender, &*read.namespace), (Some(NodeId::new("me")), "/"));
        matches!(read.body, ClusterBody::Forward(read) if read == said)
    };
    for specific in [false, true] {
        let writer = Writer::Adapter { specific };
        for (to, channel) in
            [(None, "socket.io-request#/#"), (Some(&to), "socket.io-response#/#there#")]
        {
            let bytes = classic::encode(&written, to, &channels, writer).expect("written");
            assert_eq!(bytes.channel, channel);
            assert!(is_said(classic::decode(channel, &bytes.payload, &channels).expect("read")));
        }
    }
    let sharded_channels =
        sharded::Channels::new("socket.io", "/", sharded::SubscriptionMode::Static);
    for (to, channel) in [(None, "socket.io#/#"), (Some(&to), "socket.io#/#there#")] {
        let bytes = sharded::encode(&written, to, &sharded_channels).expect("written");
        assert_eq!(bytes.channel, channel);
        assert!(is_said(sharded::decode(&bytes.payload, &root()).expect("read")));
        let bytes = streams::encode(&written, to, "socket.io").expect("written");
        assert_eq!(bytes.channel, channel);
        assert!(is_said(streams::decode(&bytes.payload).expect("read")));
    }
    assert!(streams::is_ephemeral(&written.body));
}

/// A message of some kind as bytes, with a part of it replaced.
fn broken() -> impl Strategy<Value = Vec<u8>> {
    let seeds = [
        &br#"{"uid":"u","requestId":"r","type":5,"opts":{"rooms":["a"],"except":[]}}"#[..],
        br#"{"requestId":"r","sockets":[{"id":"a","handshake":{},"rooms":[],"data":{}}]}"#,
        br#"{"type":3,"data":{"packet":{"type":2,"data":["e"]},"opts":{}},"uid":"u","nsp":"/"}"#,
        b"\x93\xa1u\x83\xa4type\x02\xa4data\x92\xa1e\xc4\x01x\xa3nsp\xa1/\x80",
    ];
    let noise = vec(any::<u8>(), 0..6);
    (0..seeds.len(), any::<[Index; 2]>(), noise).prop_map(move |(seed, ends, noise)| {
        let mut bytes = seeds[seed].to_vec();
        let mut ends = ends.map(|end| end.index(bytes.len() + 1));
        ends.sort_unstable();
        bytes.splice(ends[0]..ends[1], noise);
        bytes
    })
}

proptest! {
    #[test]
    fn whatever_comes_is_a_message_or_an_error(bytes in broken()) {
        let channels = classic_channels();
        let (request, response) = ("socket.io-request#/#", "socket.io-response#/#");
        for channel in ["socket.io#/#", "socket.io#/#a#", request, response, ""] {
            let read = classic::decode(channel, &bytes, &channels);
            if let Ok(read) = read {
                classic::encode(&read, None, &channels, Writer::Emitter).expect("it is written");
            }
        }
        if let Ok(read) = sharded::decode(&bytes, &root()) {
            streams::encode(&read, None, "socket.io").expect("it is written");
        }
        let _ = streams::decode(&bytes);
        let data = String::from_utf8_lossy(&bytes).into_owned();
        let entry = streams::Entry { kind: "3".into(), data: Some(data), ..Default::default() };
        let _ = streams::decode_entry(&entry);
    }
}
