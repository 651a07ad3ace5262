//! Peer: fastwebsockets with its FragmentCollector and simdutf8 (a default feature), not scheduled
//! cooperatively, as in its example. It has no sink: to broadcast is to write a frame each.
use std::{cell::RefCell, rc::Rc};

use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocket,
    WebSocketError, WebSocketWrite,
};
use peer_ws::{Channels, MESSAGE_BYTES_MAX, Upgraded, env, serve};
use tokio::{
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::Mutex,
    task::unconstrained,
};

type Reader = FragmentCollectorRead<OwnedReadHalf>;
type Writer = Rc<Mutex<WebSocketWrite<OwnedWriteHalf>>>;
/// Opcode and payload, shared by all receivers.
type Message = (OpCode, Rc<[u8]>);

fn main() {
    let all = Rc::new(RefCell::new(Vec::<Writer>::new()));
    let channels = Rc::new(Channels::<Message>::default());
    let through_channels = env("HUB", "channel");
    serve(false, move |upgraded: Upgraded| {
        let (all, channels) = (all.clone(), channels.clone());
        async move {
            let mut connection = WebSocket::after_handshake(upgraded.stream, Role::Server);
            connection.set_max_message_size(MESSAGE_BYTES_MAX);
            // An error ends the connection.
            let _ = match upgraded.broadcast {
                false => unconstrained(echo(connection)).await,
                true if through_channels => unconstrained(relay(connection, &channels)).await,
                true => unconstrained(broadcast(connection, &all)).await,
            };
        }
    });
}

async fn echo(connection: WebSocket<tokio::net::TcpStream>) -> Result<(), WebSocketError> {
    let mut connection = FragmentCollector::new(connection);
    loop {
        let frame = connection.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => connection.write_frame(frame).await?,
            _ => {}
        }
    }
}

fn split(connection: WebSocket<tokio::net::TcpStream>) -> (Reader, Writer) {
    let (reader, writer) = connection.split(tokio::net::TcpStream::into_split);
    (FragmentCollectorRead::new(reader), Rc::new(Mutex::new(writer)))
}

/// The next message that is text or binary; an error when there is none.
async fn next(reader: &mut Reader, writer: &Writer) -> Result<Message, WebSocketError> {
    loop {
        let mut answer = |frame| async { writer.lock().await.write_frame(frame).await };
        let frame = reader.read_frame(&mut answer).await?;
        match frame.opcode {
            OpCode::Close => return Err(WebSocketError::ConnectionClosed),
            OpCode::Text | OpCode::Binary => return Ok((frame.opcode, frame.payload[..].into())),
            _ => {}
        }
    }
}

fn frame((opcode, payload): &Message) -> Frame<'_> {
    Frame::new(true, *opcode, None, Payload::Borrowed(payload))
}

async fn broadcast(
    connection: WebSocket<tokio::net::TcpStream>,
    all: &RefCell<Vec<Writer>>,
) -> Result<(), WebSocketError> {
    let (mut reader, writer) = split(connection);
    all.borrow_mut().push(writer.clone());
    while let Ok(message) = next(&mut reader, &writer).await {
        let receivers = all.borrow().clone();
        for receiver in receivers {
            // Who has gone is found out by its own task.
            let _ = receiver.lock().await.write_frame(frame(&message)).await;
        }
    }
    all.borrow_mut().retain(|other| !Rc::ptr_eq(other, &writer));
    Ok(())
}

async fn relay(
    connection: WebSocket<tokio::net::TcpStream>,
    channels: &Channels<Message>,
) -> Result<(), WebSocketError> {
    let (mut reader, writer) = split(connection);
    let mut unsent = channels.join();
    let read = async {
        while let Ok(message) = next(&mut reader, &writer).await {
            channels.send(&message);
        }
    };
    let write = async {
        while let Some(message) = unsent.next().await {
            if writer.lock().await.write_frame(frame(&message)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = read => {}, () = write => {} }
    Ok(())
}
