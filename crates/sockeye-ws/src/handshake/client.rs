//! The client's side of the opening handshake (RFC 6455 §4.1): a request built, its response
//! verified. Does not connect, follow redirects or time out, and takes the nonce from outside.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::head::HeadError;
use super::{BuildError, Url, Version, accept_key, list, single};
use super::{write_extra_headers, write_header};
use crate::deflate::{self, Agreed, ParameterError};

/// A request for a WebSocket connection, and what its response is held against.
#[derive(Clone, Debug)]
pub struct Request {
    url: Url,
    key: String,
    version: Version,
    origin: Option<String>,
    protocols: Vec<String>,
    deflate: Vec<deflate::Options>,
    headers: Vec<(String, String)>,
}

/// What a server chose.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response<'r> {
    /// The subprotocol.
    pub protocol: Option<&'r str>,
    /// What counts for compression, if the server accepted it. For
    /// [`Connection`](crate::Connection).
    pub deflate: Option<Agreed>,
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
    /// `Sec-WebSocket-Extensions` does not follow its grammar.
    #[error("the server's Sec-WebSocket-Extensions header is invalid")]
    Extensions,
    /// An extension that was not offered. Holds its name.
    #[error("the server chose the extension {0:?}, which was not offered")]
    UnknownExtension(String),
    /// More than one extension, where only one kind was offered.
    #[error("the server chose permessage-deflate twice")]
    RepeatedExtension,
    /// An answer to permessage-deflate that is none to what was offered.
    #[error("the server's answer to permessage-deflate is invalid: {0}")]
    Deflate(#[from] ParameterError),
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
            deflate: Vec::new(),
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

    /// Offers permessage-deflate; called again, another set of options for a server that does not
    /// accept the ones before. Default: no compression.
    #[must_use]
    pub fn deflate(mut self, options: deflate::Options) -> Self {
        self.deflate.push(options);
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
        if !self.deflate.is_empty() {
            let offers = deflate::offers_value(&self.deflate);
            write_header(&mut out, "Sec-WebSocket-Extensions", &offers)?;
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

    /// Verifies the head of the response and returns the subprotocol it names: the
    /// [`response`](Self::verify_response) of a server to which no compression was offered.
    ///
    /// # Errors
    ///
    /// As [`verify_response`](Self::verify_response).
    pub fn verify<'a, I>(
        &self,
        status: u16,
        header: impl Fn(&'static str) -> I,
    ) -> Result<Option<&str>, ResponseError>
    where
        I: Iterator<Item = &'a [u8]>,
    {
        self.verify_response(status, header).map(|response| response.protocol)
    }

    /// Verifies the head of the response and returns what the server chose. `header` yields the
    /// values of all headers of a name (which it is given in lower case).
    ///
    /// # Errors
    ///
    /// The first rule that is broken, in this order: status, upgrade, accept key, subprotocol,
    /// extensions.
    pub fn verify_response<'a, I>(
        &self,
        status: u16,
        header: impl Fn(&'static str) -> I,
    ) -> Result<Response<'_>, ResponseError>
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
        let deflate = self.verify_extensions(header("sec-websocket-extensions"))?;
        Ok(Response { protocol, deflate })
    }

    /// RFC 6455 §9.1: a client fails the connection if the server chose what was not offered.
    fn verify_extensions<'a>(
        &self,
        values: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<Agreed>, ResponseError> {
        let mut agreed = None;
        for value in values {
            let (preferred, others) =
                self.deflate.split_first().ok_or(ResponseError::UnaskedExtension)?;
            let chosen = list::extensions(value).map_err(|_| ResponseError::Extensions)?;
            for extension in &chosen {
                if extension.name != deflate::NAME {
                    return Err(ResponseError::UnknownExtension(extension.name.to_owned()));
                }
                let answer = deflate::verify_answer(extension.parameters(), preferred, others)?;
                if agreed.replace(answer).is_some() {
                    return Err(ResponseError::RepeatedExtension);
                }
            }
        }
        Ok(agreed)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 6455 §1.3.
    const NONCE: [u8; 16] = *b"the sample nonce";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn request(url: &str) -> Request {
        Request::new(Url::parse(url).unwrap(), NONCE)
    }

    fn text(request: &Request) -> String {
        String::from_utf8(request.encode().unwrap()).unwrap()
    }

    fn verify<'r>(
        request: &'r Request,
        headers: &[(&str, &str)],
    ) -> Result<Option<&'r str>, ResponseError> {
        request.verify(101, |name| {
            let all = headers.iter().filter(move |(own, _)| *own == name);
            all.map(|(_, value)| value.as_bytes())
        })
    }

    #[test]
    fn a_plain_request() {
        let expected = "GET /chat?x=1 HTTP/1.1\r\nHost: example.com:3000\r\n\
            Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert_eq!(text(&request("ws://example.com:3000/chat?x=1")), expected);
    }

    #[test]
    fn a_request_with_everything() {
        let request = request("wss://user:p%40ss@example.com/")
            .origin("https://example.com")
            .protocol("v2")
            .protocol("v1")
            .header("Cookie", "a=b");
        let text = text(&request);
        for line in [
            "Host: example.com",
            "Origin: https://example.com",
            "Sec-WebSocket-Protocol: v2,v1",
            "Authorization: Basic dXNlcjpwQHNz",
            "Cookie: a=b",
        ] {
            assert!(text.lines().any(|own| own == line), "{line} in {text}");
        }
        let older = request.version(Version::V8).header("authorization", "Bearer x");
        let older = String::from_utf8(older.encode().unwrap()).unwrap();
        assert!(older.contains("\r\nSec-WebSocket-Origin: https://example.com\r\n"));
        assert!(older.contains("\r\nSec-WebSocket-Version: 8\r\n"));
        assert!(!older.contains("Basic"));
    }

    #[test]
    fn what_cannot_be_sent() {
        let base = || request("ws://localhost");
        for bad in ["", "a b", "a,b", "a\r\nb"] {
            let refused = Err(BuildError::Protocol(bad.to_owned()));
            assert_eq!(base().protocol(bad).encode(), refused);
        }
        let twice = base().protocol("a").protocol("a").encode();
        assert_eq!(twice, Err(BuildError::Protocol("a".to_owned())));
        let injected = base().origin("http://x\r\nX: y").encode();
        assert_eq!(injected, Err(BuildError::Header("Origin".to_owned())));
        let own = base().header("Sec-WebSocket-Key", "x").encode();
        assert_eq!(own, Err(BuildError::Header("Sec-WebSocket-Key".to_owned())));
    }

    #[test]
    fn responses() {
        use ResponseError::*;
        let good =
            [("upgrade", "WebSocket"), ("connection", "Upgrade"), ("sec-websocket-accept", ACCEPT)];
        let plain = request("ws://localhost");
        assert_eq!(verify(&plain, &good), Ok(None));
        assert_eq!(verify(&plain, &good[1..]), Err(Upgrade));
        assert_eq!(verify(&plain, &[good[0], good[2]]), Err(Upgrade));
        assert_eq!(verify(&plain, &good[..2]), Err(Accept));
        let wrong = ("sec-websocket-accept", "s3pplmbitxaq9kygzzhzrbk+xoo=");
        assert_eq!(verify(&plain, &[good[0], good[1], wrong]), Err(Accept));
        assert_eq!(plain.verify(403, |_| std::iter::empty()), Err(Status(403)));

        let and = |name, value| [&good[..], &[(name, value)]].concat();
        let protocol = |value| and("sec-websocket-protocol", value);
        assert_eq!(verify(&plain, &protocol("v1")), Err(UnaskedProtocol));
        let extension = and("sec-websocket-extensions", "permessage-deflate");
        assert_eq!(verify(&plain, &extension), Err(UnaskedExtension));

        let asking = request("ws://localhost").protocol("v2").protocol("v1");
        assert_eq!(verify(&asking, &protocol("v1")), Ok(Some("v1")));
        for unknown in ["v3", "V1", "", "v2, v1"] {
            assert_eq!(verify(&asking, &protocol(unknown)), Err(UnknownProtocol), "{unknown:?}");
        }
        assert_eq!(verify(&asking, &good), Err(MissingProtocol));
    }
}
