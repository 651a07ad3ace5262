//! Heads of requests and responses, byte by byte: in whatever reads they come they mean the same;
//! what is accepted has all that RFC 6455 §4 asks for, and both sides agree on the answer.

#![no_main]

use arbitrary::Arbitrary;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use libfuzzer_sys::fuzz_target;
use sockeye_fuzz::{chunks, heap, trim};
use sockeye_ws::handshake::client::Request;
use sockeye_ws::handshake::head::{HeadError, HeadLimits, HeadReader, Headers};
use sockeye_ws::handshake::{Url, accept_key, server};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_request: bool,
    sizes: [u8; 6],
    bytes: &'a [u8],
}

const LIMITS: HeadLimits = HeadLimits { bytes_max: 600, headers_max: 12 };

fuzz_target!(|input: Input<'_>| {
    let read_whole = read(&[input.bytes]);
    let single: Vec<_> = input.bytes.chunks(1).collect();
    for chunks in [chunks(input.bytes, &input.sizes), single] {
        let read = read(&chunks);
        assert_eq!(read.as_ref().map(|(_, len)| *len), read_whole.as_ref().map(|(_, len)| *len));
    }
    let Ok((reader, Some(len))) = read_whole else { return };
    let text = &input.bytes[..len];
    assert!(text.ends_with(b"\r\n\r\n") && len <= LIMITS.bytes_max);
    if input.is_request { check_request(&reader, text) } else { check_response(&reader, text) }
});

/// Reads until the head is complete: how long it is.
fn read(chunks: &[&[u8]]) -> Result<(HeadReader, Option<usize>), HeadError> {
    let mut reader = HeadReader::new(LIMITS);
    let (mut before, mut held) = (0, 0);
    for chunk in chunks {
        let mut pushed = Ok(None);
        let heap = heap::measure(|| pushed = reader.push(chunk));
        held += heap.held;
        // The buffer doubles as it fills.
        assert!(held <= 2 * LIMITS.bytes_max as i64, "{held} bytes are held");
        if let Some(len) = pushed? {
            return Ok((reader, Some(before + len)));
        }
        before += chunk.len();
    }
    Ok((reader, None))
}

/// RFC 6455 §4.2.1, read off the text itself.
fn check_request(reader: &HeadReader, text: &[u8]) {
    let Ok(head) = reader.request() else { return };
    let fields = Fields::new(text, &head.headers);
    let accept = match server::verify(head.method, head.version, |name| head.headers.all(name)) {
        Ok(accept) => accept,
        Err(error) => return assert!(matches!(error.status(), 400 | 405 | 426)),
    };
    let mut line = fields.first.split(|byte| *byte == b' ');
    assert_eq!(line.next(), Some(&b"GET"[..]));
    assert_eq!(line.next(), Some(head.target.as_bytes()));
    assert_eq!(line.next(), Some(&b"HTTP/1.1"[..]));
    assert_eq!(line.next(), None);
    assert_eq!(fields.all("Host").len(), 1);
    assert!(fields.has_token("Upgrade", "websocket"));
    assert!(fields.has_token("Connection", "upgrade"));
    let [key] = fields.all("Sec-WebSocket-Key")[..] else { panic!("one key") };
    let [version] = fields.all("Sec-WebSocket-Version")[..] else { panic!("one version") };
    assert!(matches!(version, b"13" | b"8"), "8 is a draft that is served too");
    assert_eq!(accept.key, accept_key(key));
    let offered = fields.tokens("Sec-WebSocket-Protocol");
    let protocols: Vec<_> = accept.protocols.iter().map(|name| name.as_bytes()).collect();
    assert_eq!(protocols, offered);

    // RFC 6455 §4.2.1: "a base64-encoded […] value that, when decoded, is 16 bytes in length".
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    let nonce = GeneralPurpose::new(&STANDARD, config).decode(key).expect("base64");
    let nonce: [u8; 16] = nonce.try_into().expect("16 bytes");
    let mut client = Request::new(Url::parse("ws://localhost").expect("a URL"), nonce);
    for name in &accept.protocols {
        client = client.protocol(*name);
    }
    let chosen = accept.protocols.last().copied();
    let response = accept.response(chosen, &[]).expect("it was offered");
    let Ok((reader, Some(_))) = read(&[&response]) else { return };
    let head = reader.response().expect("a response");
    let agreed = client.verify(head.status, |name| head.headers.all(name));
    // A key that is not in its canonical form is answered as it came, not as it was decoded.
    if base64::engine::general_purpose::STANDARD.encode(nonce).as_bytes() == key {
        assert_eq!(agreed, Ok(chosen));
    }
}

/// RFC 6455 §4.1, for a request with the key of §1.3 that offers two subprotocols.
fn check_response(reader: &HeadReader, text: &[u8]) {
    let Ok(head) = reader.response() else { return };
    let fields = Fields::new(text, &head.headers);
    let client = Request::new(Url::parse("ws://localhost").expect("a URL"), *b"the sample nonce");
    let client = client.protocol("chat").protocol("superchat");
    let Ok(protocol) = client.verify(head.status, |name| head.headers.all(name)) else { return };
    assert!(fields.first.starts_with(b"HTTP/1.1 101") || fields.first.starts_with(b"HTTP/1.0 101"));
    assert!(fields.has_token("Upgrade", "websocket"));
    assert!(fields.has_token("Connection", "upgrade"));
    assert_eq!(fields.all("Sec-WebSocket-Accept"), [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    assert!(matches!(protocol, Some("chat" | "superchat")));
    let protocol = protocol.unwrap_or_default().as_bytes();
    assert_eq!(fields.all("Sec-WebSocket-Protocol"), [protocol]);
    assert!(fields.all("Sec-WebSocket-Extensions").is_empty());
}

/// A head, taken apart without an HTTP parser.
struct Fields<'t> {
    first: &'t [u8],
    lines: Vec<(&'t [u8], &'t [u8])>,
}

impl<'t> Fields<'t> {
    /// `headers` are what the parser found in `text`.
    fn new(text: &'t [u8], headers: &Headers<'_>) -> Self {
        let lines = text.split(|byte| *byte == b'\n');
        let mut lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        // RFC 9112 §2.2: empty lines before the first are passed over.
        let first = lines.find(|line| !line.is_empty()).expect("a first line");
        let lines: Vec<_> = lines
            .take_while(|line| !line.is_empty())
            .map(|line| {
                let colon = line.iter().position(|byte| *byte == b':').expect("a header");
                (&line[..colon], trim(&line[colon + 1..]))
            })
            .collect();
        let parsed = headers.iter().map(|(name, value)| (name.as_bytes(), value));
        assert_eq!(parsed.collect::<Vec<_>>(), lines);
        Self { first, lines }
    }

    fn all(&self, name: &str) -> Vec<&'t [u8]> {
        let is_own = |own: &[u8]| own.eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(|(own, _)| is_own(own)).map(|(_, value)| *value).collect()
    }

    fn tokens(&self, name: &str) -> Vec<&'t [u8]> {
        let values = self.all(name).into_iter();
        values.flat_map(|value| value.split(|byte| *byte == b',')).map(trim).collect()
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).iter().any(|own| own.eq_ignore_ascii_case(token.as_bytes()))
    }
}
