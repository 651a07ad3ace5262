//! Requests for sessions of other nodes: what this node sees to, and what it hands on.
//! Does not know how; the cluster does.

use std::error::Error;

use bytes::Buf;
use http::{HeaderMap, Method, StatusCode};
use http_body::Body;
use sockeye_proto::SessionId;
use sockeye_proto::engine::{BadRequest, Query, RequestError, Transport};

use super::answering::Checked;
use super::polling::{self, ReadError};
use super::refusal::Refused;
use super::{Answer, plain};
use crate::cluster::{self, Forwarded, Forwarding, NotForwarded};

impl From<NotForwarded> for Refused {
    fn from(why: NotForwarded) -> Self {
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        match why {
            NotForwarded::Unknown => RequestError::SessionUnknown.into(),
            NotForwarded::Busy => Self::Unavailable(busy, "too many forwarded requests"),
            NotForwarded::Failed => {
                Self::Unavailable(busy, "the node of the session cannot be reached")
            }
        }
    }
}

/// Answers a request for a session that this node does not know.
pub(super) async fn answer<B>(
    checked: &Checked,
    forwarding: &std::sync::Arc<Forwarding>,
    mut body: B,
) -> Result<Answer, Refused>
where
    B: Body + Send + Unpin,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let query = Query::parse(checked.parts.uri.query().unwrap_or(""));
    let session = query.sid.as_deref().and_then(SessionId::parse);
    let session = session.ok_or(RequestError::SessionUnknown)?;
    let mut request = forwarding.begin()?;
    let owners = request.owners(&session).await?;
    if checked.is_upgrade {
        // A WebSocket is not carried over the bus. The status lets a balancer try the next node.
        let elsewhere = "the session is on another node";
        return Err(Refused::Unavailable(StatusCode::NOT_FOUND, elsewhere));
    }
    if query.transport.as_deref().and_then(Transport::parse) != Some(Transport::Polling) {
        let mismatch = BadRequest::TransportMismatch(Transport::Polling);
        return Err(RequestError::BadRequest(mismatch).into());
    }
    let (is_get, config) = (checked.parts.method == Method::GET, checked.config());
    let forwarded = if is_get {
        Forwarded::Get
    } else if checked.parts.method == Method::POST {
        let is_binary = checked.is_binary;
        let bytes_max = config.http_buffer_bytes_max;
        request.hold(&owners, session);
        let read = polling::read(&mut body, bytes_max, |bytes| request.take_bytes(bytes)).await;
        if matches!(read, Err(ReadError::Broken)) {
            // Dropping the request says so.
            return Ok(plain(StatusCode::BAD_REQUEST, ""));
        }
        request.let_go();
        match read {
            Ok(body) => Forwarded::Post { body, is_binary },
            Err(ReadError::TooLong) => {
                polling::pass_over(&mut body, bytes_max).await;
                return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, ""));
            }
            Err(_) => return Err(NotForwarded::Busy.into()),
        }
    } else {
        // As for a session of this node.
        return Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, ""));
    };
    // By then a client that waits is given up by its session; a POST is answered sooner.
    let patience = if is_get { config.ping_interval } else { std::time::Duration::ZERO };
    let limit = patience + config.ping_timeout;
    let answer = request.ask(&owners, session, query.revision(), forwarded, limit).await?;
    let client = checked.client;
    Ok(match answer {
        cluster::ForwardedAnswer::Payload(payload) => {
            request.hold(&owners, session);
            let answer = client.payload(config, payload).await;
            request.let_go();
            answer
        }
        cluster::ForwardedAnswer::Handled => client.handled(HeaderMap::new()),
        cluster::ForwardedAnswer::BadRequest => plain(StatusCode::BAD_REQUEST, ""),
        cluster::ForwardedAnswer::Refused(error) => return Err(error.into()),
    })
}
