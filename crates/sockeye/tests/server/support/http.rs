//! Single HTTP requests, each over a connection of its own. Does not know sessions.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::Host;

/// A request's answer, whatever its status; `None` if the server cut the connection.
///
/// # Cancel safety
/// Dropped, the client has gone away from the request.
pub(crate) async fn send(host: &Host, request: Request<String>) -> Option<Response<Bytes>> {
    let stream = TokioIo::new(host.connect().await);
    let (mut sender, connection) = http1::handshake(stream).await.ok()?;
    let answer = async {
        let (parts, body) =
            sender.send_request(request.map(Full::<Bytes>::from)).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Response::from_parts(parts, body))
    };
    // The connection goes when this future does.
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

/// The answer to a GET below the server's path, with these headers.
pub(crate) async fn get(host: &Host, query: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
    let mut request = Request::get(format!("/socket.io/?{query}")).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(String::new()).expect("a valid request");
    send(host, request).await.expect("the request is answered")
}

/// The answer to a WebSocket handshake, with these headers. Behind a 101 the stream is dropped.
pub(crate) async fn upgrade(host: &Host, query: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
    let handshake = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    get(host, query, &[&handshake, headers].concat()).await
}

pub(crate) fn text(answer: &Response<Bytes>) -> &str {
    std::str::from_utf8(answer.body()).expect("UTF-8")
}

pub(crate) fn header<'a>(answer: &'a Response<Bytes>, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().expect("visible ASCII"))
}
