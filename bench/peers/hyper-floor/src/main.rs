//! The floor of HTTP long-polling on hyper: its HTTP/1 connection on one thread, and behind it as
//! little as the load generator's polling clients can be answered with. It keeps the contract for
//! `echo` over long-polling alone, checks next to nothing and knows no ping, no limit, no end of a
//! session: it is a yardstick, not a server.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Default)]
struct Session {
    waiting: Vec<u8>,
    get: Option<Waker>,
}

thread_local! {
    static SESSIONS: RefCell<Vec<Session>> = RefCell::default();
}

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve())
}

async fn serve() -> std::io::Result<()> {
    let listener = listen()?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(async move {
            let io = TokioIo::new(stream);
            http1::Builder::new().serve_connection(io, service_fn(answer)).await
        });
    }
}

fn listen() -> std::io::Result<TcpListener> {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(3000);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let sid = request.uri().query().and_then(|query| query.split_once("&sid="));
    let sid: Option<usize> = sid.and_then(|(_, sid)| sid.parse().ok());
    Ok(match sid {
        None => open(),
        Some(sid) if request.method() == Method::GET => {
            ok("text/plain; charset=UTF-8", get(sid).await.into())
        }
        Some(sid) => {
            if let Ok(body) = request.into_body().collect().await {
                post(sid, &body.to_bytes());
            }
            ok("text/html", Bytes::from_static(b"ok"))
        }
    })
}

fn ok(content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn open() -> Response<Full<Bytes>> {
    let sid = SESSIONS.with_borrow_mut(|sessions| {
        sessions.push(Session::default());
        sessions.len() - 1
    });
    let open = format!(
        "0{{\"sid\":\"{sid:020}\",\"upgrades\":[],\"pingInterval\":25000,\
         \"pingTimeout\":20000,\"maxPayload\":100000000}}"
    );
    ok("text/plain; charset=UTF-8", open.into())
}

async fn get(sid: usize) -> Vec<u8> {
    poll_fn(|cx| {
        SESSIONS.with_borrow_mut(|sessions| {
            let Some(session) = sessions.get_mut(sid) else { return Poll::Ready(Vec::new()) };
            if session.waiting.is_empty() {
                session.get = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(std::mem::take(&mut session.waiting))
        })
    })
    .await
}

fn post(sid: usize, body: &[u8]) {
    SESSIONS.with_borrow_mut(|sessions| {
        let Some(session) = sessions.get_mut(sid) else { return };
        for packet in body.split(|&byte| byte == 0x1e) {
            reply(packet, &mut session.waiting);
        }
        if !session.waiting.is_empty()
            && let Some(get) = session.get.take()
        {
            get.wake();
        }
    });
}

fn reply(packet: &[u8], out: &mut Vec<u8>) {
    let Some(message) = packet.strip_prefix(b"4") else { return };
    if !out.is_empty() {
        out.push(0x1e);
    }
    if message.starts_with(b"0") {
        out.extend_from_slice(b"40{\"sid\":\"00000000000000000000\"}");
    } else if let Some(event) = message.strip_prefix(b"2") {
        let id_len = event.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (id, event) = event.split_at(id_len);
        let args = event.strip_prefix(b"[\"echo\",").unwrap_or(b"]");
        out.extend_from_slice(b"43");
        out.extend_from_slice(id);
        out.push(b'[');
        out.extend_from_slice(args);
    }
}
