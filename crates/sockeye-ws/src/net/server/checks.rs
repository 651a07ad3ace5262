//! Whom a server lets in: the rules of RFC 6455, then those of the application.
//! Does not know whether the request came off a stream of ours or by way of hyper.

use http::header::{HOST, HeaderMap, HeaderValue};
use http::{Request, StatusCode, Version as HttpVersionName};

use super::{AcceptError, Config, Refusal, Server};
use crate::connection::{Connection, Role};
use crate::handshake::HttpVersion;
use crate::handshake::server::{Accept, verify};

/// A request that is let in: the response it gets, and the connection that begins with it.
#[derive(Debug)]
pub(super) struct Admitted {
    /// The whole 101.
    pub(super) response: Vec<u8>,
    pub(super) connection: Connection,
    pub(super) protocol: Option<String>,
}

impl Server {
    /// Whether the request itself is a WebSocket handshake.
    pub(super) fn verify(request: &Request<()>) -> Result<Accept<'_>, AcceptError> {
        let version = match request.version() {
            HttpVersionName::HTTP_11 => HttpVersion::Http11,
            _ => HttpVersion::Http10,
        };
        let headers = request.headers();
        let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let accept = verify(request.method().as_str(), version, values)?;
        // RFC 6455 §4.2.1: "A |Host| header field containing the server's authority".
        if headers.get_all(HOST).iter().count() != 1 {
            let why = "the Host header is missing or there twice";
            return Err(Refusal::new(StatusCode::BAD_REQUEST).body(why).into());
        }
        Ok(accept)
    }

    /// All checks, in this order: the handshake, the server's closing, path, origin, the
    /// application's own; then the subprotocol, compression, and the response.
    pub(super) async fn admit(&self, request: &Request<()>) -> Result<Admitted, AcceptError> {
        let mut accept = Self::verify(request)?;
        if self.is_closing() {
            let why = "the server is closing";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE).body(why).into());
        }
        let config = self.config();
        check_path(config, request)?;
        check_origin(config, request, accept.version.origin_header())?;
        if let Some(verify) = &config.verify {
            verify(request).await?;
        }
        let protocol = choose_protocol(config, request, &accept.protocols);
        let mut headers = HeaderMap::new();
        if let Some(add) = &config.response_headers {
            add(request, &mut headers);
        }
        let agreed = config.deflate.and_then(|options| accept.negotiate_deflate(&options));
        Ok(Admitted {
            response: respond(&accept, protocol.as_deref(), &headers)?,
            connection: Connection::new(Role::Server, config.limits).with_deflate(agreed),
            protocol,
        })
    }
}

fn check_path(config: &Config, request: &Request<()>) -> Result<(), Refusal> {
    match &config.path {
        Some(path) if *path != request.uri().path() => {
            Err(Refusal::new(StatusCode::BAD_REQUEST).body("no WebSocket is served at this path"))
        }
        _ => Ok(()),
    }
}

fn check_origin(config: &Config, request: &Request<()>, header: &str) -> Result<(), Refusal> {
    let Some(allows) = &config.origin else { return Ok(()) };
    let mut origins = request.headers().get_all(header).iter();
    let is_allowed = match (origins.next(), origins.next()) {
        (None, _) => allows(None),
        // A header that is no text, or there twice, names no origin that could be allowed.
        (Some(origin), None) => origin.to_str().is_ok_and(|origin| allows(Some(origin))),
        (Some(_), Some(_)) => false,
    };
    if is_allowed { Ok(()) } else { Err(Refusal::forbidden().body("the origin is not allowed")) }
}

fn choose_protocol(config: &Config, request: &Request<()>, offered: &[&str]) -> Option<String> {
    if let Some(choose) = &config.choose_protocol {
        return choose(offered, request);
    }
    let spoken = offered.iter().find(|offer| config.protocols.iter().any(|own| own == *offer));
    spoken.map(|protocol| (*protocol).to_owned())
}

fn respond(
    accept: &Accept<'_>,
    protocol: Option<&str>,
    headers: &HeaderMap,
) -> Result<Vec<u8>, AcceptError> {
    let mut lines = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        // What is no text cannot be sent; the builder names the header in its error.
        lines.push((name.as_str(), value.to_str().unwrap_or("\0")));
    }
    Ok(accept.response(protocol, &lines)?)
}
