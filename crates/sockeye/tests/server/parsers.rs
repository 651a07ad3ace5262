//! Other parsers than JSON: handlers see the same. `conformance/` has the official client with the
//! official MessagePack parser.

use std::sync::Arc;

use sockeye::parser::{Message, MultiplexerLimits, Packet, PacketKind, PacketParser, Violation};
use sockeye::{Binary, Data, EncodeError, HandlerError, Parser, Server, Socket};

use crate::support::{Host, WebSocket, until_empty};

fn server(parser: Parser) -> Server {
    let io = Server::builder().parser(parser).build();
    io.on("echo", async |socket: Socket, Data(text): Data<String>, Data(data): Data<Binary>| {
        socket.broadcast().emit("heard", (&text, &data))?;
        Ok::<_, HandlerError>((text, data))
    });
    io
}

/// Opens a session; the open packet is Engine.IO's, whatever the parser.
async fn open(host: &Host) -> WebSocket {
    let mut client = WebSocket::open(host, "").await.expect("the handshake is accepted");
    let open = client.next().await.expect("the open packet");
    assert!(open.starts_with("0{"), "{open}");
    client
}

#[tokio::test(start_paused = true)]
async fn a_message_pack_packet_is_one_binary_message() {
    let host = Host::in_memory(server(Parser::MessagePack));
    let mut clients = [open(&host).await, open(&host).await];
    for client in &mut clients {
        client.send_binary(b"\x82\xa4type\x00\xa3nsp\xa1/").await;
        let connect = client.next_binary().await.expect("the CONNECT is answered");
        let expected = b"\x83\xa4type\x00\xa4data\x81\xa3sid\xb4";
        assert!(connect.starts_with(expected) && connect.ends_with(b"\xa3nsp\xa1/"));
    }
    let [one, other] = &mut clients;
    let event = b"\x84\xa4type\x02\xa4data\x93\xa4echo\xa2hi\xc4\x02\x00\xff\xa2id\x05\xa3nsp\xa1/";
    one.send_binary(event).await;
    let ack = b"\x84\xa4type\x03\xa4data\x91\x92\xa2hi\xc4\x02\x00\xff\xa2id\x05\xa3nsp\xa1/";
    assert_eq!(one.next_binary().await.as_deref(), Some(&ack[..]));
    let heard = b"\x83\xa4type\x02\xa4data\x93\xa5heard\xa2hi\xc4\x02\x00\xff\xa3nsp\xa1/";
    assert_eq!(other.next_binary().await.as_deref(), Some(&heard[..]));

    one.send_binary(b"\x82\xa4type\x00\xa3nsp\xa5/none").await;
    let refusal = b"\x83\xa4type\x04\xa4data\x81\xa7message\xb1Invalid namespace\xa3nsp\xa5/none";
    assert_eq!(one.next_binary().await.as_deref(), Some(&refusal[..]));

    host.io.broadcast().disconnect_sockets(false);
    for client in &mut clients {
        let bye = b"\x82\xa4type\x01\xa3nsp\xa1/";
        assert_eq!(client.next_binary().await.as_deref(), Some(&bye[..]));
    }
    drop(clients);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_with_another_parser_is_closed() {
    for (parser, is_text) in [(Parser::MessagePack, true), (Parser::Json, false)] {
        let host = Host::in_memory(server(parser));
        let mut client = open(&host).await;
        if is_text {
            client.send("40").await;
        } else {
            client.send_binary(b"\x82\xa4type\x00\xa3nsp\xa1/").await;
        }
        assert_eq!(client.next().await, None);
        until_empty(&host.io).await;
    }
}

/// A text message: kind, id, namespace and JSON, with bars between. Nothing binary.
#[derive(Debug)]
struct Bars;

impl PacketParser for Bars {
    fn decode(
        &self,
        message: Message<'_>,
        _: MultiplexerLimits,
    ) -> Result<Packet<'static>, Violation> {
        let Message::Text(text) = message else { return Err(Violation::WrongParser) };
        let parts: Vec<_> = text.splitn(4, '|').collect();
        let [kind, id, namespace, json] = parts[..] else { return Err(Violation::InvalidPayload) };
        let kind = match kind {
            "connect" => PacketKind::Connect,
            "event" => PacketKind::Event,
            _ => return Err(Violation::UnknownType),
        };
        Ok(Packet {
            kind,
            namespace: namespace.to_owned().into(),
            id: id.parse().ok(),
            json: json.to_owned().into(),
            attachments: Vec::new(),
        })
    }

    fn encode(&self, packet: &Packet<'_>) -> Result<Message<'static>, EncodeError> {
        let Packet { kind, namespace, id, json, attachments } = packet;
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        let count = attachments.len();
        Ok(Message::Text(format!("{kind:?}|{id}|{namespace}|{json}|{count}").into()))
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_brings_its_own() {
    let io = server(Parser::Custom(Arc::new(Bars)));
    io.on("add", async |Data(a): Data<i64>, Data(b): Data<i64>| Ok::<_, HandlerError>(a + b));
    let host = Host::in_memory(io);
    let mut client = open(&host).await;
    client.send("4connect||/|").await;
    let connect = client.next().await.expect("the CONNECT is answered");
    assert!(connect.starts_with("4Connect||/|{\"sid\":"), "{connect}");
    client.send("4event|7|/|[\"add\",1,2]").await;
    assert_eq!(client.next().await.as_deref(), Some("4Ack|7|/|[3]|0"));
    host.io.emit("all", Binary::from(vec![1])).expect("it can be written");
    let event = r#"4Event||/|["all",{"_placeholder":true,"num":0}]|1"#;
    assert_eq!(client.next().await.as_deref(), Some(event));
    // What it reads is checked as JSON is.
    client.send("4event||/|[\"connect\"]").await;
    assert_eq!(client.next().await, None);
    until_empty(&host.io).await;
}
