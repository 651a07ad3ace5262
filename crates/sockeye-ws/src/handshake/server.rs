//! The server's side of the opening handshake (RFC 6455 §4.2): a request verified and answered.
//! Does not decide whom to let in or which subprotocol to speak; that is the application's.

use super::head::HeadError;
use super::{BuildError, HttpVersion, Version, accept_key, list, single};
use super::{write_extra_headers, write_header};
use crate::deflate::{self, Agreed, Offer};

/// A request that is a WebSocket handshake, and what answering it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept<'a> {
    /// The value of the response's `Sec-WebSocket-Accept`, in ASCII.
    pub key: [u8; 28],
    /// The version the client speaks.
    pub version: Version,
    /// The subprotocols the client offers, the preferred one first. The response names one of them
    /// or none.
    pub protocols: Vec<&'a str>,
    /// The client's valid offers of permessage-deflate, the preferred one first.
    offers: Vec<Offer>,
    /// What the response answers to them.
    deflate: Option<Agreed>,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The head itself is bad: 400 or 431.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Another method than GET: 405.
    #[error("a WebSocket handshake is a GET request")]
    Method,
    /// HTTP/1.0: 400.
    #[error("a WebSocket handshake needs HTTP/1.1")]
    HttpVersion,
    /// `Host` is missing or there twice: 400.
    #[error("the Host header is missing or there twice")]
    Host,
    /// An ordinary request that does not ask for an upgrade: 426.
    #[error("only WebSocket connections are served here")]
    UpgradeRequired,
    /// An upgrade to something else: 400.
    #[error("the Upgrade header does not ask for websocket")]
    Upgrade,
    /// `Sec-WebSocket-Key` is not 16 bytes in base64, is missing or there twice: 400.
    #[error("the Sec-WebSocket-Key header is missing or invalid")]
    Key,
    /// `Sec-WebSocket-Version` is neither 13 nor 8: 400, with a list of both.
    #[error("the Sec-WebSocket-Version header is missing or names an unsupported version")]
    Version,
    /// `Sec-WebSocket-Protocol` is not a list of different tokens: 400.
    #[error("the Sec-WebSocket-Protocol header is invalid")]
    Protocol,
    /// `Sec-WebSocket-Extensions` does not follow its grammar: 400.
    #[error("the Sec-WebSocket-Extensions header is invalid")]
    Extensions,
}

impl HandshakeError {
    /// The HTTP status of the response. Its body is the error's text.
    pub fn status(self) -> u16 {
        match self {
            Self::Head(error) => error.status(),
            Self::Method => 405,
            Self::UpgradeRequired => 426,
            _ => 400,
        }
    }

    /// A header the response must have: what would have been accepted.
    pub fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Method => Some(("Allow", "GET")),
            Self::UpgradeRequired => Some(("Upgrade", "websocket")),
            // RFC 6455 §4.4: the server "MUST respond with […] |Sec-WebSocket-Version| header
            // field(s)" that name the versions it is willing to use.
            Self::Version => Some(("Sec-WebSocket-Version", "13, 8")),
            _ => None,
        }
    }

    /// The whole response, after which the connection is closed.
    pub fn response(self) -> Vec<u8> {
        let status = match self.status() {
            405 => "405 Method Not Allowed",
            426 => "426 Upgrade Required",
            431 => "431 Request Header Fields Too Large",
            _ => "400 Bad Request",
        };
        let connection = match self {
            // RFC 9110 §7.8: who sends Upgrade also names it in Connection.
            Self::UpgradeRequired => "close, Upgrade",
            _ => "close",
        };
        let header = match self.header() {
            Some((name, value)) => format!("{name}: {value}\r\n"),
            None => String::new(),
        };
        // `ws` says text/html. It is a sentence without markup, which no browser must take for any.
        let body = self.to_string();
        format!(
            "HTTP/1.1 {status}\r\nConnection: {connection}\r\n{header}\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{body}",
            length = body.len(),
        )
        .into_bytes()
    }
}

/// Verifies the head of a request. `header` yields the values of all headers of a name (which it
/// is given in lower case).
///
/// For HTTP/1.x only: in HTTP/2 a WebSocket begins otherwise (RFC 8441).
///
/// # Errors
///
/// The first rule that is broken, in this order: method, HTTP version, host, upgrade, key, version,
/// subprotocols, extensions.
///
/// # Example
///
/// With the `http` crate: `verify(method.as_str(), version, |name|
/// headers.get_all(name).iter().map(HeaderValue::as_bytes))`.
pub fn verify<'a, I>(
    method: &str,
    version: HttpVersion,
    header: impl Fn(&'static str) -> I,
) -> Result<Accept<'a>, HandshakeError>
where
    I: Iterator<Item = &'a [u8]>,
{
    if method != "GET" {
        return Err(HandshakeError::Method);
    }
    if version != HttpVersion::Http11 {
        return Err(HandshakeError::HttpVersion);
    }
    // RFC 9112 §3.2: a server "MUST respond with a 400 (Bad Request) status code to any HTTP/1.1
    // request message that lacks a Host header field and to any request message that contains more
    // than one Host header field line". Not every HTTP library does.
    if header("host").count() != 1 {
        return Err(HandshakeError::Host);
    }
    // RFC 9110 §7.8: an Upgrade header counts only if Connection names it.
    if header("upgrade").next().is_none() || !list::contains(header("connection"), "upgrade") {
        return Err(HandshakeError::UpgradeRequired);
    }
    if !list::contains(header("upgrade"), "websocket") {
        return Err(HandshakeError::Upgrade);
    }
    let key = single(header("sec-websocket-key")).filter(|key| is_key(key));
    let key = accept_key(key.ok_or(HandshakeError::Key)?);
    let version = match single(header("sec-websocket-version")) {
        Some(b"13") => Version::V13,
        Some(b"8") => Version::V8,
        _ => return Err(HandshakeError::Version),
    };
    let protocols =
        list::protocols(header("sec-websocket-protocol")).map_err(|_| HandshakeError::Protocol)?;
    let offers = offers(header("sec-websocket-extensions"))?;
    Ok(Accept { key, version, protocols, offers, deflate: None })
}

/// The valid offers of permessage-deflate.
fn offers<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Offer>, HandshakeError> {
    let mut offers = Vec::new();
    for value in values {
        // RFC 6455 §9.1: what does not follow the grammar fails the handshake. Extensions that are
        // merely unknown are declined by leaving them out of the response.
        let extensions = list::extensions(value).map_err(|_| HandshakeError::Extensions)?;
        let deflate = extensions.iter().filter(|extension| extension.name == deflate::NAME);
        // RFC 7692 §7: a server declines an offer whose parameters it does not know or that are
        // invalid. `ws` fails the handshake with 400 there; the client is served uncompressed here.
        offers.extend(deflate.filter_map(|extension| Offer::parse(extension.parameters()).ok()));
    }
    Ok(offers)
}

impl Accept<'_> {
    /// Accepts the first of the client's offers of permessage-deflate that these options can meet;
    /// the [`response`](Self::response) then says so. `None`: there is none, and messages go
    /// uncompressed, where `ws` would fail the handshake.
    ///
    /// Give what is agreed to [`Connection`](crate::Connection). A
    /// response that is built elsewhere needs it as the header `Sec-WebSocket-Extensions`.
    ///
    /// ```
    /// use sockeye_ws::deflate;
    /// # use sockeye_ws::handshake::{HttpVersion, server};
    /// # let headers = [
    /// #     ("host", "localhost"), ("upgrade", "websocket"), ("connection", "upgrade"),
    /// #     ("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    /// #     ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    /// # ];
    /// # let header = |name| {
    /// #     headers.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value.as_bytes())
    /// # };
    /// let mut accept = server::verify("GET", HttpVersion::Http11, header)?;
    /// let agreed = accept.negotiate_deflate(&deflate::Options::default()).expect("an offer");
    /// assert_eq!(
    ///     agreed.to_string(),
    ///     "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    /// );
    /// # Ok::<(), sockeye_ws::handshake::server::HandshakeError>(())
    /// ```
    pub fn negotiate_deflate(&mut self, options: &deflate::Options) -> Option<Agreed> {
        self.deflate = self.offers.iter().find_map(|offer| offer.accept(options));
        self.deflate
    }

    /// The response that makes the connection a WebSocket. `protocol` is one of
    /// [`protocols`](Self::protocols); `headers` are added.
    ///
    /// # Errors
    ///
    /// [`BuildError`] for a subprotocol that was not offered or a header that cannot be sent.
    pub fn response(
        &self,
        protocol: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Result<Vec<u8>, BuildError> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
        out.extend_from_slice(b"Sec-WebSocket-Accept: ");
        out.extend_from_slice(&self.key);
        out.extend_from_slice(b"\r\n");
        if let Some(protocol) = protocol {
            if !self.protocols.contains(&protocol) {
                return Err(BuildError::Protocol(protocol.to_owned()));
            }
            write_header(&mut out, "Sec-WebSocket-Protocol", protocol)?;
        }
        if let Some(agreed) = self.deflate {
            write_header(&mut out, "Sec-WebSocket-Extensions", &agreed.to_string())?;
        }
        write_extra_headers(&mut out, headers.iter().copied())?;
        out.extend_from_slice(b"\r\n");
        Ok(out)
    }
}

/// Whether this has the form of 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(digit) && key[22..] == *b"=="
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request of RFC 6455 §1.2.
    const HEADERS: [(&str, &str); 7] = [
        ("host", "server.example.com"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("origin", "http://example.com"),
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-version", "13"),
    ];

    fn verify_headers<'a>(headers: &[(&str, &'a str)]) -> Result<Accept<'a>, HandshakeError> {
        verify("GET", HttpVersion::Http11, |name| {
            let all = headers.iter().filter(move |(own, _)| *own == name);
            all.map(|(_, value)| value.as_bytes())
        })
    }

    /// The request with one header replaced; `None` leaves it out.
    fn with<'a>(name: &str, value: Option<&'a str>) -> Result<Accept<'a>, HandshakeError> {
        let mut headers = HEADERS.to_vec();
        headers.retain(|(own, _)| *own != name);
        headers.extend(value.map(|value| (name, value)));
        verify_headers(&headers)
    }

    #[test]
    fn the_example_of_rfc_6455_section_1_2() {
        let accept = verify_headers(&HEADERS).unwrap();
        assert_eq!(&accept.key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept.version, Version::V13);
        assert_eq!(accept.protocols, ["chat", "superchat"]);
        let response = accept.response(Some("chat"), &[("X-Node", "1")]).unwrap();
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
            Sec-WebSocket-Protocol: chat\r\nX-Node: 1\r\n\r\n";
        assert_eq!(str::from_utf8(&response), Ok(expected));
        assert_eq!(
            accept.response(Some("other"), &[]),
            Err(BuildError::Protocol("other".to_owned()))
        );
    }

    #[test]
    fn what_is_accepted() {
        for (name, value) in [
            ("upgrade", Some("WebSocket")),
            ("connection", Some("keep-alive, upgrade")),
            ("sec-websocket-version", Some("8")),
            ("sec-websocket-protocol", None),
            ("sec-websocket-extensions", Some("permessage-deflate; client_max_window_bits")),
            ("sec-websocket-key", Some("+/+/+/+/+/+/+/+/+/+/+w==")),
        ] {
            assert!(with(name, value).is_ok(), "{name}: {value:?}");
        }
        assert_eq!(with("sec-websocket-version", Some("8")).unwrap().version, Version::V8);
    }

    #[test]
    fn what_is_refused() {
        use HandshakeError::*;
        for (name, value, error, status) in [
            ("host", None, Host, 400),
            ("upgrade", None, UpgradeRequired, 426),
            ("connection", None, UpgradeRequired, 426),
            ("connection", Some("close"), UpgradeRequired, 426),
            ("upgrade", Some("h2c"), Upgrade, 400),
            ("sec-websocket-key", None, Key, 400),
            ("sec-websocket-key", Some(""), Key, 400),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ="), Key, 400),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZSE="), Key, 400),
            ("sec-websocket-key", Some("dGhlIHNhbXBs_SBub25jZQ=="), Key, 400),
            ("sec-websocket-version", None, Version, 400),
            ("sec-websocket-version", Some("12"), Version, 400),
            ("sec-websocket-version", Some("13, 8"), Version, 400),
            ("sec-websocket-protocol", Some("chat, chat"), Protocol, 400),
            ("sec-websocket-protocol", Some("chat;"), Protocol, 400),
            ("sec-websocket-extensions", Some("deflate;"), Extensions, 400),
        ] {
            assert_eq!(with(name, value), Err(error), "{name}: {value:?}");
            assert_eq!(error.status(), status, "{name}: {value:?}");
        }
        // What is there twice is not there.
        for (name, value, error) in
            [("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==", Key), ("host", "other", Host)]
        {
            let twice = [&HEADERS[..], &[(name, value)]].concat();
            assert_eq!(verify_headers(&twice), Err(error));
        }
    }

    #[test]
    fn the_method_is_looked_at_first() {
        let none = |_| std::iter::empty();
        let refused = |method, version| verify(method, version, none).unwrap_err();
        assert_eq!(refused("POST", HttpVersion::Http10), HandshakeError::Method);
        assert_eq!(refused("get", HttpVersion::Http11), HandshakeError::Method);
        assert_eq!(refused("GET", HttpVersion::Http10), HandshakeError::HttpVersion);
        assert_eq!(refused("GET", HttpVersion::Http11), HandshakeError::Host);
    }

    #[test]
    fn refusals_as_responses() {
        for (error, status_line, header) in [
            (HandshakeError::Method, "405 Method Not Allowed", "Allow: GET"),
            (HandshakeError::UpgradeRequired, "426 Upgrade Required", "Upgrade: websocket"),
            (HandshakeError::Version, "400 Bad Request", "Sec-WebSocket-Version: 13, 8"),
            (HandshakeError::Key, "400 Bad Request", "Connection: close"),
            (HeadError::TooLong.into(), "431 Request Header Fields Too Large", "Connection: close"),
        ] {
            let response = String::from_utf8(error.response()).unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            let mut lines = head.lines();
            assert_eq!(lines.next(), Some(&*format!("HTTP/1.1 {status_line}")));
            let lines: Vec<_> = lines.collect();
            assert!(lines.contains(&header), "{lines:?}");
            assert!(lines.contains(&"Content-Type: text/plain; charset=utf-8"), "{lines:?}");
            assert!(lines.contains(&&*format!("Content-Length: {}", body.len())), "{lines:?}");
            assert_eq!(body, error.to_string());
        }
    }
}
