//! Long-polling over HTTP: GETs and POSTs become commands to the connection's task.
//! Does not know packets.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use http_body::Body;
use http_body_util::BodyExt;
use sockeye_proto::engine::{RequestError, Revision};
use tokio::sync::oneshot;

use super::compression::compress;
use super::opening::{Admitted, id_in_use};
use super::refusal::Refused;
use super::{Answer, Checked, plain};
use crate::connection::{Command, Connection, GetAnswer, Opening, Peer, PostAnswer};
use crate::outbox::Payload;

/// The content type of binary payloads, which only Engine.IO 3 has.
const BINARY: &str = "application/octet-stream";
/// How long a body that is too long is read on.
const PASS_OVER_TIME_MAX: Duration = Duration::from_secs(1);

/// Opens a session; its first GET is this request.
pub(super) async fn open(checked: &Checked, admitted: Admitted) -> Result<Answer, Refused> {
    let Admitted { place, id, revision } = admitted;
    let handshake = Arc::new(checked.handshake());
    let encoding = checked.encoding(revision);
    let opening = Opening { place, id, handshake, transport: None, encoding };
    let (peer, connection) = Connection::open(opening).ok_or_else(id_in_use)?;
    tokio::spawn(connection);
    let mut answer = get(checked, &peer).await?;
    if let Some(cookie) = &checked.config().cookie {
        answer.headers_mut().append(header::SET_COOKIE, cookie.header(&id));
    }
    Ok(answer)
}

pub(super) async fn get(checked: &Checked, peer: &Arc<Peer>) -> Result<Answer, Refused> {
    let (answer, waiting) = oneshot::channel();
    peer.command(Command::Get(answer));
    let aborted = Abort { armed: Some(peer), command: || Command::GetAborted };
    let answer = waiting.await;
    aborted.disarm();
    match answer {
        Ok(GetAnswer::Payload(payload)) => Ok(answer_payload(checked, payload).await),
        Ok(GetAnswer::Refused) => Ok(plain(StatusCode::BAD_REQUEST, "")),
        // The session ended before it took the request.
        Err(_) => Err(RequestError::SessionUnknown.into()),
    }
}

async fn answer_payload(checked: &Checked, payload: Payload) -> Answer {
    let Payload { body, may_be_compressed, is_binary } = payload;
    let content_type = if is_binary { BINARY } else { "text/plain; charset=UTF-8" };
    let request = &checked.parts.headers;
    let options = checked.config().http_compression.as_ref().filter(|_| may_be_compressed);
    let Some((coding, compressed)) = compress(options, request, &body).await else {
        return ok(request, content_type, body);
    };
    let mut answer = ok(request, content_type, compressed);
    let coding = HeaderValue::from_static(coding.as_str());
    answer.headers_mut().insert(header::CONTENT_ENCODING, coding);
    answer
}

pub(super) async fn post<B>(
    checked: &Checked,
    peer: &Arc<Peer>,
    mut body: B,
) -> Result<Answer, Refused>
where
    B: Body + Send + Unpin,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let content_type = checked.parts.headers.get(header::CONTENT_TYPE);
    let is_binary = content_type.is_some_and(|kind| kind.as_bytes().starts_with(BINARY.as_bytes()));
    if is_binary && peer.outbox().revision() == Revision::V4 {
        // CVE-2026-59725: a binary body is no payload of this revision; it must be answered.
        peer.command(Command::PostRefused);
        return Ok(plain(StatusCode::BAD_REQUEST, ""));
    }
    let (answer, mut waiting) = oneshot::channel();
    peer.command(Command::Post(answer));
    let aborted = Abort { armed: Some(peer), command: || Command::PostAborted { gone: true } };
    let bytes_max = checked.server.config().http_buffer_bytes_max;
    let read = tokio::select! {
        biased;
        read = read(&mut body, bytes_max) => read,
        // Another POST is open, or the session has ended: the body does not matter any more.
        _ = &mut waiting => {
            aborted.disarm();
            return Ok(plain(StatusCode::BAD_REQUEST, ""));
        }
    };
    let payload = match read {
        Ok(payload) => payload,
        Err(ReadError::TooLong) => {
            aborted.disarm();
            peer.command(Command::PostAborted { gone: false });
            pass_over(&mut body, bytes_max).await;
            return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, ""));
        }
        // Dropping `aborted` says so.
        Err(ReadError::Broken) => return Ok(plain(StatusCode::BAD_REQUEST, "")),
    };
    peer.command(Command::PostBody { body: payload, is_binary });
    let answer = waiting.await;
    aborted.disarm();
    Ok(match answer {
        Ok(PostAnswer::Handled) => ok(&checked.parts.headers, "text/html", "ok"),
        Ok(PostAnswer::Refused) | Err(_) => plain(StatusCode::BAD_REQUEST, ""),
    })
}

enum ReadError {
    TooLong,
    Broken,
}

/// Reads a body of at most `bytes_max`, counted as it comes.
async fn read<B>(body: &mut B, bytes_max: usize) -> Result<Bytes, ReadError>
where
    B: Body + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(ReadError::TooLong);
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ReadError::Broken)?;
        let Ok(mut data) = frame.into_data() else { continue };
        if whole.len() + data.remaining() > bytes_max {
            return Err(ReadError::TooLong);
        }
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data.copy_to_bytes(data.remaining()));
        }
        whole.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(whole.freeze())
}

/// Reads on for a while: a client that is still sending when its connection is closed does not
/// get to see the answer.
async fn pass_over<B>(body: &mut B, bytes_max: usize)
where
    B: Body + Unpin,
{
    let reading = async {
        let mut bytes = 0;
        while bytes <= bytes_max
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Buf::remaining);
        }
    };
    // However much of it has come by then.
    let _ = tokio::time::timeout(PASS_OVER_TIME_MAX, reading).await;
}

fn ok(request: &HeaderMap, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = plain(StatusCode::OK, body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if request.get(header::USER_AGENT).is_some_and(is_internet_explorer) {
        // Its filter takes some payloads for an attack.
        headers.insert(header::X_XSS_PROTECTION, HeaderValue::from_static("0"));
    }
    answer
}

fn is_internet_explorer(agent: &HeaderValue) -> bool {
    agent.to_str().is_ok_and(|agent| agent.contains(";MSIE") || agent.contains("Trident/"))
}

/// Tells the task that a request was dropped before its answer: the client has gone.
struct Abort<'a> {
    armed: Option<&'a Arc<Peer>>,
    command: fn() -> Command,
}

impl Abort<'_> {
    fn disarm(mut self) {
        self.armed = None;
    }
}

impl Drop for Abort<'_> {
    fn drop(&mut self) {
        if let Some(peer) = self.armed.take() {
            peer.command((self.command)());
        }
    }
}
