//! Why connections end: the official reason, and the description beside it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use sockeye::{CloseDescription, Data, DisconnectReason, Server, ServerBuilder, State, Transport};
use tokio::sync::mpsc;
use tower_service::Service;

use crate::support::{Host, Polling, Record, WebSocket, http as raw};
use crate::support::{only_socket, until, until_empty};

type End = (DisconnectReason, Option<String>);

struct Watched {
    host: Host,
    ends: mpsc::UnboundedReceiver<End>,
}

impl Watched {
    fn new(builder: ServerBuilder) -> Self {
        let (sender, ends) = mpsc::unbounded_channel::<End>();
        let io = builder.state(sender).build();
        type Ends = mpsc::UnboundedSender<End>;
        io.on_disconnect(
            async |State(ends): State<Ends>, reason, CloseDescription(why): CloseDescription| {
                ends.send((reason, why)).expect("the test waits");
            },
        );
        Self { host: Host::in_memory(io), ends }
    }

    async fn expect(&mut self, reason: DisconnectReason, why: impl Into<Option<&'static str>>) {
        let (have, description) = self.ends.recv().await.expect("the hook runs");
        assert_eq!((have, description.as_deref()), (reason, why.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a7_of_websocket_connections() {
    use DisconnectReason::*;
    let mut server = Watched::new(Server::builder().max_http_buffer_size(1000));
    for (packet, reason, why) in [
        ("2", TransportError, "invalid heartbeat direction"),
        ("x", ParseError, "a packet could not be read"),
        ("42[\"disconnect\"]", ForcedClose, "reserved event name"),
        ("40", ForcedClose, "the namespace is joined already"),
        (&format!("4{}", "x".repeat(1000)), TransportError, "message is longer than the limit"),
    ] {
        let mut client = WebSocket::join(&server.host).await;
        client.send(packet).await;
        server.expect(reason, why).await;
    }
    drop(WebSocket::join(&server.host).await);
    server.expect(TransportClose, "the stream ended").await;
    let _silent = WebSocket::join(&server.host).await;
    server.expect(PingTimeout, "no pong in time").await;
    until_empty(&server.host.io).await;
}

#[tokio::test(start_paused = true)]
async fn a5_of_long_polling_connections() {
    use DisconnectReason::*;
    let mut server = Watched::new(Server::builder());
    let host = server.host.clone();

    let client = Polling::join(&host).await;
    tokio::spawn({
        let client = client.clone();
        async move { client.get().await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(client.get().await, Err(StatusCode::BAD_REQUEST));
    server.expect(TransportError, "overlap from client").await;

    let client = Polling::join(&host).await;
    let gone = tokio::time::timeout(Duration::from_secs(1), client.get()).await;
    assert!(gone.is_err(), "nothing was to be told");
    server.expect(TransportError, "poll connection closed prematurely").await;

    let client = Polling::join(&host).await;
    let binary = Request::post(format!("/socket.io/?EIO=4&transport=polling&sid={}", client.sid))
        .header("host", "localhost")
        .header("content-type", "application/octet-stream")
        .body("4".to_owned())
        .expect("a valid request");
    let answer = raw::send(&host, binary).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    server.expect(TransportError, "invalid content").await;

    let client = Polling::join(&host).await;
    assert_eq!(client.post("1").await, StatusCode::OK);
    server.expect(TransportClose, "the client closed the session").await;
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn of_sockets_that_end_alone_nothing_is_described() {
    use DisconnectReason::*;
    let mut server = Watched::new(Server::builder());
    let host = server.host.clone();
    let mut client = WebSocket::join(&host).await;
    client.send("41").await;
    server.expect(ClientNamespaceDisconnect, None).await;
    drop(client);
    let _client = WebSocket::join(&host).await;
    only_socket(&host.io).disconnect(false);
    server.expect(ServerNamespaceDisconnect, None).await;
    let _other = WebSocket::join(&host).await;
    host.io.shutdown(Duration::ZERO).await;
    server.expect(ServerShuttingDown, None).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_told_of_as_such() {
    let mut server = Watched::new(Server::builder().outbox_bytes_max(10_000));
    for websocket in [true, false] {
        let _polling = if websocket { None } else { Some(Polling::join(&server.host).await) };
        let _websocket = if websocket { Some(WebSocket::join(&server.host).await) } else { None };
        let socket = only_socket(&server.host.io);
        while socket.emit("n", "x".repeat(1000)).is_ok() {
            tokio::task::yield_now().await;
        }
        server.expect(DisconnectReason::ForcedClose, "the outbox is full").await;
        until_empty(&server.host.io).await;
    }
}

/// A GET that its client goes away from when it has been answered, and before that has left.
#[tokio::test(start_paused = true)]
async fn what_is_lost_with_an_answer_is_not_missed_unnoticed() {
    let host = Host::in_memory(Server::default());
    let client = Polling::join(&host).await;
    let uri = format!("/socket.io/?EIO=4&transport=polling&sid={}", client.sid);
    let request = Request::get(uri).body(Full::<Bytes>::default()).expect("a request");
    let mut get = Box::pin(host.io.service().call(request));
    let begun = poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_ready())).await;
    assert!(!begun, "nothing is to be sent");
    only_socket(&host.io).emit("lost", ()).expect("it is connected");
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(get);
    assert_eq!(client.get().await, Err(StatusCode::BAD_REQUEST));
    until_empty(&host.io).await;
}

/// The same while it is being compressed.
#[tokio::test(start_paused = true)]
async fn what_is_lost_while_it_is_compressed_is_not_missed_unnoticed() {
    let host = Host::in_memory(Server::default());
    let client = Polling::join(&host).await;
    let uri = format!("/socket.io/?EIO=4&transport=polling&sid={}", client.sid);
    let request = Request::get(uri).header("accept-encoding", "gzip");
    let request = request.body(Full::<Bytes>::default()).expect("a request");
    let mut get = Box::pin(host.io.service().call(request));
    let begun = poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_ready())).await;
    assert!(!begun, "nothing is to be sent");
    only_socket(&host.io).emit("lost", "x".repeat(200_000)).expect("it is connected");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let done = poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_ready())).await;
    assert!(!done, "it is compressed piece by piece");
    drop(get);
    assert_eq!(client.get().await, Err(StatusCode::BAD_REQUEST));
    until_empty(&host.io).await;
}

/// Requests that were on their way when their session ended are told what those behind them are.
#[tokio::test(start_paused = true)]
async fn who_comes_a_moment_late_is_told_that_there_is_no_session() {
    for has_handler_under_way in [false, true] {
        let host = Host::in_memory(Server::default());
        host.io.on("wait", async || tokio::time::sleep(Duration::from_secs(5)).await);
        let client = Polling::join(&host).await;
        if has_handler_under_way {
            assert_eq!(client.post(r#"42["wait"]"#).await, StatusCode::OK);
        }
        let uri = format!("/socket.io/?EIO=4&transport=polling&sid={}", client.sid);
        let request = |method, body: &'static str| {
            let request = Request::builder().method(method).uri(&uri);
            let request = request.body(Full::<Bytes>::from(body));
            host.io.service().call(request.expect("a request"))
        };
        // They have been looked at, and have asked nothing yet.
        let late = [request("POST", "3"), request("POST", r#"42["wait"]"#)];
        only_socket(&host.io).disconnect(true);
        client.get().await.expect("the goodbye");
        until("the session has ended", || host.io.session_count() == 0).await;
        for late in late.into_iter().chain([request("POST", "3"), request("GET", "")]) {
            let answer = late.await.expect("answered");
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(body, r#"{"code":1,"message":"Session ID unknown"}"#);
        }
        until_empty(&host.io).await;
    }
}

/// A body that comes when its test says so.
struct Late(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Late {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

/// A POST is half read when its session goes over to WebSocket, and another one comes beside it.
#[tokio::test(start_paused = true)]
async fn a_post_behind_an_upgrade_takes_nothing_from_one_before() {
    let host = Host::in_memory(Server::default());
    let heard = Record::default();
    let into = heard.clone();
    host.io.on("say", move |Data(text): Data<String>| {
        into.add(&text);
        std::future::ready(())
    });
    let client = Polling::join(&host).await;
    let post = || Request::post(format!("/socket.io/?EIO=4&transport=polling&sid={}", client.sid));
    let (first_body, late) = mpsc::unbounded_channel();
    let request = post().body(Late(late)).expect("a request");
    let mut first = Box::pin(host.io.service().call(request));
    let done = poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_ready())).await;
    assert!(!done, "its body has not come");
    first_body.send(Bytes::from_static(b"42[\"say\",")).expect("it is read");
    // It has been looked at, and not begun.
    let second = post().body(Full::<Bytes>::from(r#"42["say","second"]"#)).expect("a request");
    let second = host.io.service().call(second);
    let mut socket = WebSocket::open(&host, &client.sid).await.expect("101");
    socket.send("2probe").await;
    assert_eq!(socket.next().await.as_deref(), Some("3probe"));
    socket.send("5").await;
    let over = || host.io.session_count_over(Transport::WebSocket);
    until("the session is over WebSocket", || over() == 1).await;
    assert_eq!(second.await.expect("answered").status(), StatusCode::BAD_REQUEST);
    first_body.send(Bytes::from_static(b"\"first\"]")).expect("it is read");
    drop(first_body);
    assert_eq!(first.await.expect("answered").status(), StatusCode::OK);
    socket.send(r#"42["say","third"]"#).await;
    until("all is heard", || heard.all().len() == 2).await;
    assert_eq!(heard.all(), ["first", "third"]);
}
