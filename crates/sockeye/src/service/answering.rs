//! What a request asks for, and its answer. Does not know packets; a session's requests go to its
//! connection's task.
//!
//! Nearly all requests are GETs and POSTs of sessions that are here. What their answers depend on
//! is taken out of their heads at once ([`Asker`]): a head that is kept keeps the buffer that it
//! was read into, and a GET may wait long.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body::Body;
use sockeye_proto::engine::{Query, RequestError, RequestView, SessionView, Verified, verify};
use sockeye_proto::engine::{Revision, Transport};

use super::client_files::{ClientFiles, File};
use super::polling::Client;
use super::refusal::Refused;
use super::{Answer, forwarding, opening, plain, polling, websocket};
use crate::address::{PeerAddr, peer_address};
use crate::config::Config;
use crate::connection::Peer;
use crate::cors::Verdict;
use crate::handshake::Handshake;
use crate::metrics;
use crate::outbox::Encoding;
use crate::server::Server;

/// An answer that is being made.
pub(super) enum OwnFuture {
    Get(polling::Get),
    Boxed(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl OwnFuture {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        match self {
            Self::Get(get) => get.poll(cx),
            Self::Boxed(answer) => answer.as_mut().poll(cx),
        }
    }
}

/// Begins to answer a request. `peer` is who made it, where the request does not tell.
pub(super) fn begin<B>(
    server: &Server,
    mut request: Request<B>,
    peer: Option<SocketAddr>,
) -> OwnFuture
where
    B: Body + Send + Unpin + 'static,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let head = Head::of(request.headers());
    let verdict = server.config().cors.judge(head.origin, request.headers());
    let wants = wants(server, &request, &head, &verdict);
    let client = Client::of(server.config(), request.headers(), head.agent, head.has_codings);
    let (is_upgrade, is_binary) = (head.is_upgrade, head.is_binary);
    let origin = if let Verdict::Allowed(origin) = verdict { Some(origin) } else { None };
    let is_polling = matches!(wants, Ok(Wants::Polling(_)));
    if let Some(peer) = peer.filter(|_| !is_polling || server.config().hooks.see_requests()) {
        request.extensions_mut().insert(PeerAddr(peer));
    }
    if let Ok(Wants::Polling(session)) = &wants {
        if request.method() == Method::GET {
            let (asker, _) = Asker::of(server, client, origin, request);
            return OwnFuture::Get(polling::get(session, asker));
        }
        if request.method() == Method::POST {
            let (asker, body) = Asker::of(server, client, origin, request);
            let answer = polling::post(session.clone(), asker, body, is_binary);
            return OwnFuture::Boxed(Box::pin(answer));
        }
    }
    let (parts, body) = request.into_parts();
    let checked = Checked { server: server.clone(), parts, client, is_upgrade, is_binary, origin };
    OwnFuture::Boxed(Box::pin(checked.answer(wants, body)))
}

/// What is looked at in the head of every request, found in one pass: of headers that are there
/// several times the first.
#[derive(Default)]
struct Head<'a> {
    origin: Option<&'a HeaderValue>,
    agent: Option<&'a HeaderValue>,
    /// The client says which codings it takes.
    has_codings: bool,
    /// It asks to become a WebSocket.
    is_upgrade: bool,
    /// Its body is said to be no text.
    is_binary: bool,
}

impl<'a> Head<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let (mut head, mut upgrade, mut content_type) = (Self::default(), None, None);
        for (name, value) in headers {
            if *name == header::ORIGIN {
                head.origin = head.origin.or(Some(value));
            } else if *name == header::USER_AGENT {
                head.agent = head.agent.or(Some(value));
            } else if *name == header::ACCEPT_ENCODING {
                head.has_codings = true;
            } else if *name == header::UPGRADE {
                upgrade = upgrade.or(Some(value));
            } else if *name == header::CONTENT_TYPE {
                content_type = content_type.or(Some(value));
            }
        }
        head.is_upgrade =
            upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        head.is_binary = content_type.is_some_and(polling::is_binary);
        head
    }
}

/// What a request asks for.
enum Wants {
    /// To know what a page of another origin may do.
    Preflight,
    /// One of the client's files.
    File,
    /// To open a session.
    Handshake(Transport, Revision),
    /// Something of a session.
    Polling(Arc<Peer>),
    /// To go on with a session over WebSocket.
    Upgrade(Arc<Peer>),
}

fn wants<B>(
    server: &Server,
    request: &Request<B>,
    head: &Head<'_>,
    verdict: &Verdict,
) -> Result<Wants, Refused> {
    match verdict {
        // Checked on every request, also where a session is named: a page of another origin must
        // not speak for a session whose id has leaked.
        Verdict::Denied => return Err(Refused::CrossOrigin),
        Verdict::Allowed(_) if request.method() == Method::OPTIONS => return Ok(Wants::Preflight),
        _ => {}
    }
    if !head.is_upgrade && file(server.config(), request.uri().path()).is_some() {
        return Ok(Wants::File);
    }
    let query = Query::parse(request.uri().query().unwrap_or(""));
    let view = RequestView {
        query: &query,
        method: request.method().as_str(),
        origin: head.origin.map(HeaderValue::as_bytes),
        is_upgrade: head.is_upgrade,
        transports: &server.config().transports,
    };
    let mut session = None;
    let verified = verify(&view, |id| {
        let (transport, revision) = session.insert(server.session(id)?).outbox().spoken();
        Some(SessionView { transport, revision })
    })?;
    match (verified, session) {
        (Verified::Handshake(transport, revision), _) => Ok(Wants::Handshake(transport, revision)),
        (Verified::Session(_, Transport::Polling), Some(session)) => Ok(Wants::Polling(session)),
        (Verified::Session(_, Transport::WebSocket), Some(session)) => Ok(Wants::Upgrade(session)),
        (Verified::Session(..), None) => Err(RequestError::SessionUnknown.into()),
    }
}

/// One of the client's files, if they are served and it is asked for.
fn file<'c>(config: &'c Config, path: &str) -> Option<(&'c ClientFiles, &'c File)> {
    let files = config.client_files.as_ref()?;
    Some((files, files.file(path.strip_prefix(&*config.path)?)?))
}

/// What an answer takes of its request, where the request itself is not kept.
pub(super) struct Asker {
    server: Server,
    pub(super) client: Client,
    /// The page's, where it is another one and allowed.
    origin: Option<HeaderValue>,
    /// The request's own, emptied: their room is the answer's.
    headers: HeaderMap,
    /// Kept where a hook may look at it.
    request: Option<Box<Parts>>,
}

impl Asker {
    /// What it takes, and the request's body.
    fn of<B>(
        server: &Server,
        client: Client,
        origin: Option<HeaderValue>,
        mut request: Request<B>,
    ) -> (Self, B) {
        let (headers, request, body) = if server.config().hooks.see_requests() {
            let (parts, body) = request.into_parts();
            (HeaderMap::new(), Some(Box::new(parts)), body)
        } else {
            let mut headers = std::mem::take(request.headers_mut());
            headers.clear();
            (headers, None, request.into_body())
        };
        (Self { server: server.clone(), client, origin, headers, request }, body)
    }

    pub(super) fn config(&self) -> &Config {
        self.server.config()
    }

    /// Room for the answer's headers.
    pub(super) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.headers)
    }

    pub(super) fn finish(&self, answered: Result<Answer, Refused>) -> Answer {
        let request = self.request.as_deref();
        let mut answer = finish(&self.server, self.origin.as_ref(), request, false, answered);
        if let Some(request) = request {
            run_headers_hooks(&self.server, request, false, &mut answer);
        }
        answer
    }
}

/// A request, and what is known of it.
pub(super) struct Checked {
    pub(super) server: Server,
    pub(super) parts: Parts,
    pub(super) client: Client,
    pub(super) is_upgrade: bool,
    pub(super) is_binary: bool,
    /// The page's, where it is another one and allowed.
    origin: Option<HeaderValue>,
}

impl Checked {
    async fn answer<B>(mut self, wants: Result<Wants, Refused>, body: B) -> Answer
    where
        B: Body + Send + Unpin,
        B::Data: Buf + Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let is_initial = matches!(wants, Ok(Wants::Handshake(..)));
        // They are no affair of the hooks.
        let is_for_file = matches!(wants, Ok(Wants::File));
        let answered = match (wants, self.server.forwarding()) {
            (Ok(wants), _) => self.serve(wants).await,
            (Err(Refused::Request(RequestError::SessionUnknown)), Some(forwarding)) => {
                forwarding::answer(&self, forwarding, body).await
            }
            (Err(refused), _) => Err(refused),
        };
        let Self { server, parts, is_upgrade, origin, .. } = &self;
        let mut answer = finish(server, origin.as_ref(), Some(parts), *is_upgrade, answered);
        if !is_for_file {
            run_headers_hooks(server, parts, is_initial, &mut answer);
        }
        answer
    }

    async fn serve(&mut self, wants: Wants) -> Result<Answer, Refused> {
        match wants {
            Wants::Preflight => Ok(self.preflight()),
            Wants::File => match file(self.config(), self.parts.uri.path()) {
                Some((files, file)) => Ok(files.answer(file, &self.parts).await),
                None => Ok(plain(StatusCode::NOT_FOUND, "")),
            },
            Wants::Handshake(transport, revision) => {
                let admitted = opening::admit(self, revision).await?;
                match transport {
                    Transport::Polling => polling::open(self, admitted).await,
                    Transport::WebSocket => websocket::open(self, admitted),
                }
            }
            Wants::Upgrade(session) => websocket::upgrade(self, session),
            // Node's answer to a method that a session does not have.
            Wants::Polling(_) => Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, "")),
        }
    }

    pub(super) fn config(&self) -> &Config {
        self.server.config()
    }

    /// What a client of this revision takes, as far as its query says.
    pub(super) fn encoding(&self, revision: Revision) -> Encoding {
        match revision {
            Revision::V4 => Encoding::Plain,
            Revision::V3 => {
                let base64 = Query::parse(self.parts.uri.query().unwrap_or("")).b64;
                Encoding::V3 { base64, agreed: None }
            }
        }
    }

    /// What the session's sockets will know of this request.
    pub(super) fn handshake(&self) -> Handshake {
        let from = &self.config().client_address;
        let client = if from.is_peer() { None } else { from.of(&self.parts) };
        Handshake::new(&self.parts, peer_address(&self.parts), client, self.origin.is_some())
    }

    fn preflight(&self) -> Answer {
        let mut answer = plain(StatusCode::NO_CONTENT, "");
        self.config().cors.write_preflight_headers(&self.parts.headers, answer.headers_mut());
        answer
    }
}

/// Turns a refusal into its answer, which the application is told of; says what a page of another
/// origin may read.
fn finish(
    server: &Server,
    origin: Option<&HeaderValue>,
    request: Option<&Parts>,
    is_upgrade: bool,
    answered: Result<Answer, Refused>,
) -> Answer {
    let config = server.config();
    let mut answer = answered.unwrap_or_else(|refused| {
        metrics::request_refused(refused.name());
        if let (Some(hook), Some(request)) = (&config.hooks.connection_error, request) {
            refused.report(&**hook, request);
        }
        refused.answer(is_upgrade)
    });
    if let Some(origin) = origin {
        config.cors.write_headers(origin, answer.headers_mut());
    }
    answer
}

fn run_headers_hooks(server: &Server, request: &Parts, is_initial: bool, answer: &mut Answer) {
    let hooks = &server.config().hooks;
    if !matches!(answer.status(), StatusCode::OK | StatusCode::SWITCHING_PROTOCOLS) {
        return;
    }
    if let Some(hook) = hooks.initial_headers.as_ref().filter(|_| is_initial) {
        hook(answer.headers_mut(), request);
    }
    if let Some(hook) = &hooks.headers {
        hook(answer.headers_mut(), request);
    }
}
