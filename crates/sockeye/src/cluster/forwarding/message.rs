//! What nodes say to each other of requests for sessions that live elsewhere, and its bytes.
//! Does not know who waits for what.
//!
//! ```text
//! relaying node                                   node of the session
//!   Here  ───────────────── each interval ────────────►  (and the other way round)
//!   Get, Post ────────────────────────────────────────►  the session's task
//!                 ◄──────────────────── Answer, by number
//!   Aborted, GetAborted (the client has gone), Release (answer now) ►
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use sockeye_proto::SessionId;
use sockeye_proto::engine::{BadRequest, RequestError, Revision, Transport};

use crate::outbox::Payload;

/// What a node says to another one of the requests of clients whose sessions live on one of them
/// ([`ServerBuilder::forward_requests`](crate::ServerBuilder::forward_requests)). To a bus it is
/// bytes; only Sockeye's nodes read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward(pub(crate) Said);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// "I am here", to all; where `is_new`, they answer with the same.
    Here { is_new: bool },
    /// "I am going."
    Leave,
    /// A request for a session of the node that is spoken to. Its answer has the same number.
    Request { number: u64, session: SessionId, revision: Revision, request: Forwarded },
    /// The client went away in the middle of a POST.
    Broken { session: SessionId },
    /// The client has gone before the answer to its POST came.
    Aborted { number: u64 },
    /// The client has gone before the answer to its GET came; where there was one, it is lost.
    GetAborted { number: u64, session: SessionId },
    /// Nobody can wait for the GET any longer, though its client is still there.
    Release { number: u64 },
    /// What a request is answered with.
    Answer { number: u64, answer: Answer },
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    Get,
    Post { body: Bytes, is_binary: bool },
}

/// What the session says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A GET's 200.
    Payload(Payload),
    /// A POST's 200.
    Handled,
    /// 400 without a word.
    BadRequest,
    /// The request does not fit the session, or there is none.
    Refused(RequestError),
}

/// The first byte of each.
mod kind {
    pub(super) const HERE: u8 = 1;
    pub(super) const NEW: u8 = 2;
    pub(super) const LEAVE: u8 = 3;
    pub(super) const GET: u8 = 4;
    pub(super) const POST: u8 = 5;
    pub(super) const POST_BINARY: u8 = 6;
    pub(super) const BROKEN: u8 = 7;
    pub(super) const ABORTED: u8 = 8;
    pub(super) const RELEASE: u8 = 9;
    pub(super) const PAYLOAD: u8 = 10;
    pub(super) const HANDLED: u8 = 11;
    pub(super) const BAD_REQUEST: u8 = 12;
    pub(super) const REFUSED: u8 = 13;
    pub(super) const GET_ABORTED: u8 = 14;
}

/// A payload may be compressed.
const COMPRESSIBLE: u8 = 1;
/// A payload is no text.
const BINARY: u8 = 2;
const ID_LEN: usize = 20;
/// What all beside the body takes at the most.
const HEAD_LEN_MAX: usize = 1 + 8 + ID_LEN + 1;

impl Forward {
    /// Its bytes: the kind, the number (64 bits, big-endian), the session's id, the revision, and
    /// what is in the request or the answer, as far as the kind has them.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD_LEN_MAX + self.body_len());
        match &self.0 {
            Said::Here { is_new: false } => out.put_u8(kind::HERE),
            Said::Here { is_new: true } => out.put_u8(kind::NEW),
            Said::Leave => out.put_u8(kind::LEAVE),
            Said::Request { number, session, revision, request } => {
                let (kind, body) = match request {
                    Forwarded::Get => (kind::GET, None),
                    Forwarded::Post { body, is_binary: false } => (kind::POST, Some(body)),
                    Forwarded::Post { body, is_binary: true } => (kind::POST_BINARY, Some(body)),
                };
                put(&mut out, kind, *number);
                out.put_slice(session.as_str().as_bytes());
                out.put_u8(revision.number());
                out.extend_from_slice(body.map_or(&[], |body| body));
            }
            Said::Broken { session } => {
                out.put_u8(kind::BROKEN);
                out.put_slice(session.as_str().as_bytes());
            }
            Said::Aborted { number } => put(&mut out, kind::ABORTED, *number),
            Said::GetAborted { number, session } => {
                put(&mut out, kind::GET_ABORTED, *number);
                out.put_slice(session.as_str().as_bytes());
            }
            Said::Release { number } => put(&mut out, kind::RELEASE, *number),
            Said::Answer { number, answer } => match answer {
                Answer::Payload(Payload { body, may_be_compressed, is_binary }) => {
                    put(&mut out, kind::PAYLOAD, *number);
                    let compressible = u8::from(*may_be_compressed) * COMPRESSIBLE;
                    out.put_u8(compressible | (u8::from(*is_binary) * BINARY));
                    out.extend_from_slice(body);
                }
                Answer::Handled => put(&mut out, kind::HANDLED, *number),
                Answer::BadRequest => put(&mut out, kind::BAD_REQUEST, *number),
                Answer::Refused(error) => {
                    put(&mut out, kind::REFUSED, *number);
                    out.put_slice(&refusal(*error));
                }
            },
        }
        out.freeze()
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if it is something else. A body shares
    /// the bytes.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        let said = match *kind {
            kind::HERE => Said::Here { is_new: false },
            kind::NEW => Said::Here { is_new: true },
            kind::LEAVE => Said::Leave,
            kind::BROKEN => Said::Broken { session: take_session(&mut rest)? },
            kind::ABORTED => Said::Aborted { number: take_number(&mut rest)? },
            kind::GET_ABORTED => {
                let number = take_number(&mut rest)?;
                Said::GetAborted { number, session: take_session(&mut rest)? }
            }
            kind::RELEASE => Said::Release { number: take_number(&mut rest)? },
            kind::GET | kind::POST | kind::POST_BINARY => {
                let number = take_number(&mut rest)?;
                let session = take_session(&mut rest)?;
                let revision = revision(take(&mut rest)?)?;
                let request = if *kind == kind::GET {
                    Forwarded::Get
                } else {
                    let body = bytes.slice_ref(std::mem::take(&mut rest));
                    Forwarded::Post { body, is_binary: *kind == kind::POST_BINARY }
                };
                Said::Request { number, session, revision, request }
            }
            kind @ kind::PAYLOAD..=kind::REFUSED => {
                let number = take_number(&mut rest)?;
                let answer = match kind {
                    kind::HANDLED => Answer::Handled,
                    kind::BAD_REQUEST => Answer::BadRequest,
                    kind::REFUSED => Answer::Refused(refused(take(&mut rest)?, take(&mut rest)?)?),
                    _ => {
                        let flags = take(&mut rest)?;
                        let body = bytes.slice_ref(std::mem::take(&mut rest));
                        let (compressible, binary) = (flags & COMPRESSIBLE, flags & BINARY);
                        Answer::Payload(Payload {
                            body,
                            may_be_compressed: compressible != 0,
                            is_binary: binary != 0,
                        })
                    }
                };
                Said::Answer { number, answer }
            }
            _ => return None,
        };
        rest.is_empty().then_some(Self(said))
    }

    /// The bytes of what a client sent or gets.
    pub(crate) fn body_len(&self) -> usize {
        match &self.0 {
            Said::Request { request: Forwarded::Post { body, .. }, .. }
            | Said::Answer { answer: Answer::Payload(Payload { body, .. }), .. } => body.len(),
            _ => 0,
        }
    }
}

fn put(out: &mut BytesMut, kind: u8, number: u64) {
    out.put_u8(kind);
    out.put_u64(number);
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    rest.split_off_first().copied()
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u64::from_be_bytes(*number))
}

fn take_session(rest: &mut &[u8]) -> Option<SessionId> {
    let (id, behind) = rest.split_at_checked(ID_LEN)?;
    *rest = behind;
    SessionId::parse(std::str::from_utf8(id).ok()?)
}

fn revision(number: u8) -> Option<Revision> {
    [Revision::V3, Revision::V4].into_iter().find(|revision| revision.number() == number)
}

/// An error that a session can have for a request, and what it says of the session.
fn refusal(error: RequestError) -> [u8; 2] {
    match error {
        RequestError::BadRequest(BadRequest::TransportMismatch(Transport::WebSocket)) => [2, 0],
        RequestError::BadRequest(BadRequest::TransportMismatch(Transport::Polling)) => [3, 0],
        RequestError::BadRequest(BadRequest::ProtocolMismatch(revision)) => [4, revision.number()],
        // No other comes from a session.
        _ => [1, 0],
    }
}

fn refused(error: u8, of: u8) -> Option<RequestError> {
    let bad = match (error, of) {
        (1, 0) => return Some(RequestError::SessionUnknown),
        (2, 0) => BadRequest::TransportMismatch(Transport::WebSocket),
        (3, 0) => BadRequest::TransportMismatch(Transport::Polling),
        (4, number) => BadRequest::ProtocolMismatch(revision(number)?),
        _ => return None,
    };
    Some(RequestError::BadRequest(bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Said> {
        let (number, session) = (u64::MAX - 7, SessionId::from_entropy([9; 15]));
        let payload = |may_be_compressed, is_binary| {
            let body = Bytes::from_static(b"42[\"a\"]\x1e2");
            Answer::Payload(Payload { body, may_be_compressed, is_binary })
        };
        let errors = [
            RequestError::SessionUnknown,
            RequestError::BadRequest(BadRequest::TransportMismatch(Transport::WebSocket)),
            RequestError::BadRequest(BadRequest::TransportMismatch(Transport::Polling)),
            RequestError::BadRequest(BadRequest::ProtocolMismatch(Revision::V3)),
            RequestError::BadRequest(BadRequest::ProtocolMismatch(Revision::V4)),
        ];
        let body = Bytes::from_static(b"4hello");
        let requests = [
            Forwarded::Get,
            Forwarded::Post { body: body.clone(), is_binary: false },
            Forwarded::Post { body, is_binary: true },
            Forwarded::Post { body: Bytes::new(), is_binary: false },
        ];
        let answers = [payload(true, false), payload(false, true), Answer::Handled];
        let answers = answers.into_iter().chain([Answer::BadRequest]);
        let answers = answers.chain(errors.map(Answer::Refused));
        let mut all: Vec<_> = answers.map(|answer| Said::Answer { number, answer }).collect();
        for (request, revision) in requests.into_iter().zip([Revision::V3, Revision::V4].repeat(2))
        {
            all.push(Said::Request { number, session, revision, request });
        }
        all.extend([
            Said::Here { is_new: false },
            Said::Here { is_new: true },
            Said::Leave,
            Said::Broken { session },
            Said::Aborted { number },
            Said::GetAborted { number, session },
            Said::Release { number },
        ]);
        all
    }

    #[test]
    fn what_is_written_is_read() {
        for said in all() {
            let forward = Forward(said);
            assert_eq!(Forward::decode(&forward.encode()), Some(forward));
        }
    }

    #[test]
    fn what_is_cut_or_longer_is_nothing_else() {
        for said in all() {
            let forward = Forward(said);
            let bytes = forward.encode();
            let head = bytes.len() - forward.body_len();
            for len in 0..head {
                assert_eq!(Forward::decode(&bytes.slice(..len)), None, "{forward:?} cut at {len}");
            }
            // What may have a body is longer by it.
            let has_body = matches!(
                forward.0,
                Said::Request { request: Forwarded::Post { .. }, .. }
                    | Said::Answer { answer: Answer::Payload(_), .. }
            );
            let longer = Bytes::from([&bytes[..], b"!"].concat());
            assert_eq!(Forward::decode(&longer).is_some(), has_body, "{forward:?}");
        }
        for byte in [0, 15, b'{', 255] {
            assert_eq!(Forward::decode(&Bytes::from(vec![byte; 40])), None);
        }
    }
}
