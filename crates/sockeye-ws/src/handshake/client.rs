//! The client's side of the opening handshake (RFC 6455 §4.1): a request built, its response
//! verified. Does not connect, follow redirects or time out, and takes the nonce from outside.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::head::HeadError;
use super::{BuildError, Url, Version, accept_key, list, single};
use super::{write_extra_headers, write_header};

/// A request for a WebSocket connection, and what its response is held against.
#[derive(Clone, Debug)]
pub struct Request {
    url: Url,
    key: String,
    version: Version,
    origin: Option<String>,
    protocols: Vec<String>,
    headers: Vec<(String, String)>,
}

/// Why a response does not begin a WebSocket connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The head itself is bad.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Another status than 101; the server refused, redirects, or is no WebSocket server.
    #[error("the server answered with status {0} instead of 101")]
    Status(u16),
    /// `Upgrade` is not `websocket`, or `Connection` does not name it.
    #[error("the server's Upgrade header is missing or invalid")]
    Upgrade,
    /// `Sec-WebSocket-Accept` does not fit the key that was sent.
    #[error("the server's Sec-WebSocket-Accept header is missing or wrong")]
    Accept,
    /// A subprotocol although none was offered.
    #[error("the server chose a subprotocol although none was offered")]
    UnaskedProtocol,
    /// A subprotocol that was not among those offered.
    #[error("the server chose a subprotocol that was not offered")]
    UnknownProtocol,
    /// No subprotocol although some were offered.
    #[error("the server chose none of the offered subprotocols")]
    MissingProtocol,
    /// An extension although none was offered.
    #[error("the server chose an extension although none was offered")]
    UnaskedExtension,
}

impl Request {
    /// A request to `url`. `nonce` is random and new for each request (RFC 6455 §4.1).
    pub fn new(url: Url, nonce: [u8; 16]) -> Self {
        Self {
            url,
            key: STANDARD.encode(nonce),
            version: Version::default(),
            origin: None,
            protocols: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Speaks another version than 13.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Names the origin, as a browser would. Default: none.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Offers a subprotocol; the preferred one first. The server must then choose one.
    #[must_use]
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocols.push(protocol.into());
        self
    }

    /// Adds a header. An `Authorization` replaces the one that stands in the URL.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The whole request.
    ///
    /// # Errors
    ///
    /// [`BuildError`] for subprotocols and headers that cannot be sent.
    pub fn encode(&self) -> Result<Vec<u8>, BuildError> {
        let mut out = Vec::with_capacity(256);
        for part in ["GET ", self.url.target(), " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        write_header(&mut out, "Host", &self.url.host_header())?;
        write_header(&mut out, "Connection", "Upgrade")?;
        write_header(&mut out, "Upgrade", "websocket")?;
        write_header(&mut out, "Sec-WebSocket-Version", self.version.as_str())?;
        write_header(&mut out, "Sec-WebSocket-Key", &self.key)?;
        if let Some(origin) = &self.origin {
            write_header(&mut out, self.version.origin_header(), origin)?;
        }
        if !self.protocols.is_empty() {
            for (index, protocol) in self.protocols.iter().enumerate() {
                let twice = self.protocols[..index].contains(protocol);
                if twice || !list::is_token(protocol.as_bytes()) {
                    return Err(BuildError::Protocol(protocol.clone()));
                }
            }
            write_header(&mut out, "Sec-WebSocket-Protocol", &self.protocols.join(","))?;
        }
        let has_authorization =
            self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Authorization"));
        if let Some(authorization) = self.url.authorization()
            && !has_authorization
        {
            write_header(&mut out, "Authorization", authorization)?;
        }
        let headers = self.headers.iter().map(|(name, value)| (&name[..], &value[..]));
        write_extra_headers(&mut out, headers)?;
        out.extend_from_slice(b"\r\n");
        Ok(out)
    }

    /// Verifies the head of the response and returns the subprotocol it names. `header` yields the
    /// values of all headers of a name (which it is given in lower case).
    ///
    /// # Errors
    ///
    /// The first rule that is broken, in this order: status, upgrade, accept key, subprotocol,
    /// extensions.
    pub fn verify<'a, I>(
        &self,
        status: u16,
        header: impl Fn(&'static str) -> I,
    ) -> Result<Option<&str>, ResponseError>
    where
        I: Iterator<Item = &'a [u8]>,
    {
        if status != 101 {
            return Err(ResponseError::Status(status));
        }
        let upgrade = list::contains(header("upgrade"), "websocket");
        if !upgrade || !list::contains(header("connection"), "upgrade") {
            return Err(ResponseError::Upgrade);
        }
        if single(header("sec-websocket-accept")) != Some(&accept_key(self.key.as_bytes())) {
            return Err(ResponseError::Accept);
        }
        let protocol = self.verify_protocol(header("sec-websocket-protocol"))?;
        if header("sec-websocket-extensions").next().is_some() {
            return Err(ResponseError::UnaskedExtension);
        }
        Ok(protocol)
    }

    fn verify_protocol<'a>(
        &self,
        values: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<&str>, ResponseError> {
        let mut values = values.peekable();
        match (values.peek().is_some(), self.protocols.is_empty()) {
            (false, true) => Ok(None),
            (false, false) => Err(ResponseError::MissingProtocol),
            (true, true) => Err(ResponseError::UnaskedProtocol),
            (true, false) => {
                let chosen = single(values);
                let mut offered = self.protocols.iter();
                let protocol = offered.find(|offer| Some(offer.as_bytes()) == chosen);
                protocol.map(|name| Some(&name[..])).ok_or(ResponseError::UnknownProtocol)
            }
        }
    }
}
