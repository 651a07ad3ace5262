//! Long-polling over HTTP: GETs and POSTs become commands to the connection's task.
//! Does not know packets.

use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use http_body::Body;
use http_body_util::BodyExt;
use sockeye_proto::engine::{RequestError, Revision};
use tokio::sync::oneshot;

use super::answering::{Asker, Checked};
use super::compression::{Coding, compress};
use super::opening::{Admitted, id_in_use};
use super::refusal::Refused;
use super::{Answer, plain};
use crate::config::Config;
use crate::connection::{
    Asked, Command, Connection, GetAnswer, Leaving, Opening, Peer, PostAnswer,
};
use crate::outbox::Payload;

/// The content type of binary payloads, which only Engine.IO 3 has.
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
/// What Node calls the `ok` of a POST.
const OK: HeaderValue = HeaderValue::from_static("text/html");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
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
    let mut asked = Asked::get(peer);
    let mut answer = match poll_fn(|cx| asked.poll_answer(cx)).await {
        (Some(GetAnswer::Payload(payload)), peer) => {
            let leaving = Leaving::of(peer);
            let answer = checked.client.payload(checked.config(), payload).await;
            leaving.end();
            answer
        }
        (Some(GetAnswer::Refused), _) => plain(StatusCode::BAD_REQUEST, ""),
        (None, _) => return Err(RequestError::SessionUnknown.into()),
    };
    if let Some(cookie) = &checked.config().cookie {
        answer.headers_mut().append(header::SET_COOKIE, cookie.header(&id));
    }
    Ok(answer)
}

/// Begins a GET of a session, which waits for packets.
pub(super) fn get(session: &Arc<Peer>, asker: Asker) -> Get {
    Get::Waiting(Asked::get(session.clone()), Some(asker))
}

/// A GET that is being answered.
pub(super) enum Get {
    /// For packets; there is an asker until it is answered.
    Waiting(Asked<GetAnswer>, Option<Asker>),
    Compressing(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Get {
    /// Not to be called again when it was ready.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        if let Self::Waiting(asked, asker) = self {
            let (answer, peer) = ready!(asked.poll_answer(cx));
            let mut asker = asker.take().expect("it was not ready before");
            let answered = match answer {
                Some(GetAnswer::Payload(payload)) => {
                    if asker.client.coding_of(asker.config(), &payload).is_none() {
                        let headers = asker.take_headers();
                        Ok(asker.client.ok(headers, payload.content_type(), payload.body))
                    } else {
                        let leaving = Leaving::of(peer);
                        *self = Self::Compressing(Box::pin(async move {
                            let answer = asker.client.payload(asker.config(), payload).await;
                            leaving.end();
                            asker.finish(Ok(answer))
                        }));
                        return self.poll(cx);
                    }
                }
                Some(GetAnswer::Refused) => Ok(plain(StatusCode::BAD_REQUEST, "")),
                None => Err(RequestError::SessionUnknown.into()),
            };
            return Poll::Ready(asker.finish(answered));
        }
        match self {
            Self::Compressing(answer) => answer.as_mut().poll(cx),
            Self::Waiting(..) => Poll::Pending,
        }
    }
}

/// What a client takes, by its request.
#[derive(Clone, Copy)]
pub(super) struct Client {
    coding: Option<Coding>,
    is_internet_explorer: bool,
}

impl Client {
    /// `agent` is what the request says of it, `has_codings` whether it says which it takes.
    pub(super) fn of(
        config: &Config,
        request: &HeaderMap,
        agent: Option<&HeaderValue>,
        has_codings: bool,
    ) -> Self {
        let coding = config.http_compression.filter(|_| has_codings);
        let coding = coding.and_then(|_| Coding::accepted(request));
        Self { coding, is_internet_explorer: agent.is_some_and(is_internet_explorer) }
    }

    /// How a payload is to be compressed, and at which level.
    fn coding_of(self, config: &Config, payload: &Payload) -> Option<(Coding, u8)> {
        let options = config.http_compression.filter(|_| payload.may_be_compressed)?;
        let is_worth_it = payload.body.len() >= options.threshold_bytes;
        Some((self.coding.filter(|_| is_worth_it)?, options.level))
    }

    /// The 200 of a GET.
    pub(super) async fn payload(self, config: &Config, payload: Payload) -> Answer {
        let coding = self.coding_of(config, &payload);
        let content_type = payload.content_type();
        let compressed = match coding {
            Some((coding, level)) => compress(coding, level, &payload.body).await,
            None => None,
        };
        let (Some((coding, _)), Some(compressed)) = (coding, compressed) else {
            return self.ok(HeaderMap::new(), content_type, payload.body);
        };
        let mut answer = self.ok(HeaderMap::new(), content_type, compressed);
        let coding = HeaderValue::from_static(coding.as_str());
        answer.headers_mut().insert(header::CONTENT_ENCODING, coding);
        answer
    }

    /// The 200 of a POST.
    pub(super) fn handled(self, headers: HeaderMap) -> Answer {
        self.ok(headers, OK, "ok")
    }

    /// A 200; `headers` is room for its headers.
    fn ok(self, headers: HeaderMap, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
        let mut answer = plain(StatusCode::OK, body);
        *answer.headers_mut() = headers;
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        if self.is_internet_explorer {
            // Its filter takes some payloads for an attack.
            headers.insert(header::X_XSS_PROTECTION, HeaderValue::from_static("0"));
        }
        answer
    }
}

impl Payload {
    fn content_type(&self) -> HeaderValue {
        if self.is_binary { BINARY } else { TEXT }
    }
}

/// Answers a POST of a session.
///
/// # Cancel safety
/// Dropped, its client has gone.
pub(super) async fn post<B>(
    session: Arc<Peer>,
    mut asker: Asker,
    body: B,
    is_binary: bool,
) -> Answer
where
    B: Body + Send + Unpin,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let bytes_max = asker.config().http_buffer_bytes_max;
    let answered = match handle_post(&session, bytes_max, body, is_binary).await {
        Ok(StatusCode::OK) => Ok(asker.client.handled(asker.take_headers())),
        Ok(refused) => Ok(plain(refused, "")),
        Err(error) => Err(error.into()),
    };
    asker.finish(answered)
}

async fn handle_post<B>(
    peer: &Arc<Peer>,
    bytes_max: usize,
    mut body: B,
    is_binary: bool,
) -> Result<StatusCode, RequestError>
where
    B: Body + Send + Unpin,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if is_binary && peer.outbox().revision() == Revision::V4 {
        // CVE-2026-59725: a binary body is no payload of this revision; it must be answered.
        peer.command(Command::PostRefused);
        return Ok(StatusCode::BAD_REQUEST);
    }
    let (aborted, mut waiting);
    let read = {
        let mut reading = pin!(read(&mut body, bytes_max, |_| true));
        let first = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await;
        if let Poll::Ready(Ok(body)) = first {
            // It came together with its head, as nearly all do.
            return status_of(Asked::post(peer.clone(), body, is_binary).answer().await);
        }
        let answer;
        (answer, waiting) = oneshot::channel();
        peer.command(Command::Post(answer));
        aborted = Abort(Some(peer));
        match first {
            Poll::Ready(read) => read,
            Poll::Pending => tokio::select! {
                biased;
                read = reading => read,
                // Another POST is open, or the session has ended: the body does not matter any
                // more.
                answer = &mut waiting => {
                    aborted.disarm();
                    return status_of(answer.ok());
                }
            },
        }
    };
    let payload = match read {
        Ok(payload) => payload,
        Err(ReadError::TooLong) => {
            aborted.disarm();
            peer.command(Command::PostAborted { gone: false });
            pass_over(&mut body, bytes_max).await;
            return Ok(StatusCode::PAYLOAD_TOO_LARGE);
        }
        // Dropping `aborted` says so.
        Err(ReadError::Broken | ReadError::NoRoom) => return Ok(StatusCode::BAD_REQUEST),
    };
    peer.command(Command::PostBody { body: payload, is_binary });
    let answer = waiting.await;
    aborted.disarm();
    status_of(answer.ok())
}

/// There is no answer where the session had ended before it took the POST.
fn status_of(answer: Option<PostAnswer>) -> Result<StatusCode, RequestError> {
    match answer {
        Some(PostAnswer::Handled) => Ok(StatusCode::OK),
        Some(PostAnswer::Refused) => Ok(StatusCode::BAD_REQUEST),
        None => Err(RequestError::SessionUnknown),
    }
}

/// Whether a POST's payload is no text.
pub(super) fn is_binary(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().starts_with(BINARY.as_bytes())
}

pub(super) enum ReadError {
    TooLong,
    Broken,
    NoRoom,
}

/// Reads a body of at most `bytes_max`, counted as it comes; `take` says whether there is room for
/// so many more.
pub(super) async fn read<B>(
    body: &mut B,
    bytes_max: usize,
    mut take: impl FnMut(usize) -> bool,
) -> Result<Bytes, ReadError>
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
        if !take(data.remaining()) {
            return Err(ReadError::NoRoom);
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
pub(super) async fn pass_over<B>(body: &mut B, bytes_max: usize)
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

fn is_internet_explorer(agent: &HeaderValue) -> bool {
    agent.to_str().is_ok_and(|agent| agent.contains(";MSIE") || agent.contains("Trident/"))
}

/// Tells the task that a POST was dropped before its answer: the client has gone.
struct Abort<'a>(Option<&'a Arc<Peer>>);

impl Abort<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Abort<'_> {
    fn drop(&mut self) {
        if let Some(peer) = self.0.take() {
            peer.command(Command::PostAborted { gone: true });
        }
    }
}
