//! The negotiation of permessage-deflate with any header and any options: what is agreed follows
//! RFC 7692, read naively here, and two sides that have agreed read each other's messages.

#![no_main]

use std::time::Instant;

use arbitrary::Arbitrary;
use libfuzzer_sys::{Corpus, fuzz_target};
use sockeye_fuzz::{handshake, trim};
use sockeye_ws::deflate::{Agreed, Options, WindowBits};
use sockeye_ws::handshake::client::Request;
use sockeye_ws::handshake::head::{HeadLimits, HeadReader};
use sockeye_ws::handshake::{Url, server};
use sockeye_ws::{Connection, Event, Limits, MessageRef, Role};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    server: Wish,
    /// The client's offers, the preferred one first.
    client: [Wish; 2],
    /// What stands in the header, for both sides.
    header: &'a str,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
struct Wish {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_bits: u8,
    client_bits: u8,
}

impl Wish {
    fn options(self) -> Options {
        let bits = |number| WindowBits::new(8 + number % 8).expect("8 to 15");
        Options {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: bits(self.server_bits),
            client_max_window_bits: bits(self.client_bits),
            threshold_bytes: 0,
            ..Options::default()
        }
    }
}

fuzz_target!(|input: Input<'_>| -> Corpus {
    // As an HTTP parser hands values out (RFC 9110 §5.5).
    if input.header.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Corpus::Reject;
    }
    let (server, client) = (input.server.options(), input.client.map(Wish::options));
    check_offers(input.header, &server);
    check_answer(input.header, &client);
    check_agreement(&server, &client, input.header);
    Corpus::Keep
});

/// The parameters of an offer or an answer; in an offer `client_max_window_bits` may be without
/// its value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<Option<u8>>,
}

impl Parameters {
    /// Each entry of the list; `None` for another extension, and for parameters that are none.
    fn read(list: &str) -> Vec<Option<Self>> {
        list.split(',').map(Self::read_one).collect()
    }

    fn read_one(entry: &str) -> Option<Self> {
        let mut parts = entry.split(';').map(trim_text);
        let name = parts.next();
        let mut read = Self::default();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (trim_text(name), Some(unquote(trim_text(value)))),
                None => (part, None),
            };
            let bits = value.as_deref().map(|value| bits(value).ok_or(())).transpose().ok()?;
            let is_repeated = match name {
                "server_no_context_takeover" if value.is_none() => {
                    std::mem::replace(&mut read.server_no_context_takeover, true)
                }
                "client_no_context_takeover" if value.is_none() => {
                    std::mem::replace(&mut read.client_no_context_takeover, true)
                }
                "server_max_window_bits" => read.server_bits.replace(bits?).is_some(),
                "client_max_window_bits" => read.client_bits.replace(bits).is_some(),
                _ => return None,
            };
            if is_repeated {
                return None;
            }
        }
        (name == Some("permessage-deflate")).then_some(read)
    }

    /// RFC 7692 §7.1: whether a server may answer this offer so.
    fn allows(&self, answer: &Self) -> bool {
        let server_bits = match (self.server_bits, answer.server_bits) {
            (Some(offered), Some(answered)) => answered <= offered,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let client_bits = match (self.client_bits, answer.client_bits) {
            (_, None) => true,
            (None, Some(_)) | (_, Some(None)) => false,
            (Some(offered), Some(Some(answered))) => answered <= offered.unwrap_or(15),
        };
        let server_takeover = answer.server_no_context_takeover || !self.server_no_context_takeover;
        server_bits && client_bits && server_takeover
    }
}

/// RFC 7692 §7.1.2.1: "a decimal integer value without leading zeroes between 8 to 15".
fn bits(value: &str) -> Option<u8> {
    (8..=15).find(|bits| bits.to_string() == value)
}

fn trim_text(text: &str) -> &str {
    str::from_utf8(trim(text.as_bytes())).expect("whitespace is ASCII")
}

/// A quoted token without its quotes and backslashes, of which a token has none.
fn unquote(value: &str) -> String {
    value.replace(['"', '\\'], "")
}

/// A server's side: the answer is one that the RFC and its own options allow.
fn check_offers(header: &str, options: &Options) {
    let values = [header.as_bytes()];
    let Ok(mut accept) = handshake::request("sec-websocket-extensions", &values) else { return };
    let offers = Parameters::read(header);
    let Some(agreed) = accept.negotiate_deflate(options) else {
        let open = Parameters { client_bits: Some(None), ..Parameters::default() };
        let can_compress = options.server_max_window_bits > WindowBits::MIN;
        assert!(!can_compress || !offers.contains(&Some(open)), "an offer that leaves all open");
        return;
    };
    let answer = Parameters::read_one(&agreed.to_string()).expect("its own answer");
    assert!(offers.iter().flatten().any(|offer| offer.allows(&answer)), "{answer:?}");
    check_own(&agreed, options);
    assert!(agreed.server_max_window_bits() > WindowBits::MIN, "there is no compressor for it");
}

/// What is agreed is no more than one side wants.
fn check_own(agreed: &Agreed, own: &Options) {
    assert!(agreed.client_max_window_bits() <= own.client_max_window_bits);
    assert!(agreed.server_max_window_bits() <= own.server_max_window_bits);
    assert!(agreed.server_no_context_takeover() || !own.server_no_context_takeover);
    assert!(agreed.client_no_context_takeover() || !own.client_no_context_takeover);
}

/// A client's side: an answer that it takes is one that the RFC allows to one of its offers.
fn check_answer(header: &str, offers: &[Options]) {
    let client = client(offers);
    let response = client.verify_response(101, |name| {
        let value: &[u8] = match name {
            "upgrade" => b"websocket",
            "connection" => b"upgrade",
            "sec-websocket-accept" => b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "sec-websocket-extensions" => header.as_bytes(),
            _ => return None.into_iter(),
        };
        Some(value).into_iter()
    });
    let Ok(response) = response else { return };
    let agreed = response.deflate.expect("the header is there");
    let [Some(answer)] = Parameters::read(header)[..] else { panic!("{header:?}") };
    let limited = |bits: WindowBits| (bits < WindowBits::MAX).then_some(bits.get());
    let fits = offers.iter().any(|own| {
        let offer = Parameters {
            server_no_context_takeover: own.server_no_context_takeover,
            client_no_context_takeover: own.client_no_context_takeover,
            server_bits: limited(own.server_max_window_bits),
            client_bits: Some(limited(own.client_max_window_bits)),
        };
        if offer.allows(&answer) {
            check_own(&agreed, own);
        }
        offer.allows(&answer)
    });
    assert!(fits, "{answer:?} was not offered");
}

fn client(offers: &[Options]) -> Request {
    let url = Url::parse("ws://localhost").expect("a URL");
    let client = Request::new(url, *b"the sample nonce");
    offers.iter().fold(client, |client, options| client.deflate(*options))
}

/// Both sides, by way of a request and its response.
fn check_agreement(server: &Options, offers: &[Options], text: &str) {
    let client = client(offers);
    let request = head(client.encode().expect("a request"));
    let request = request.request().expect("a request");
    let all = |name| request.headers.all(name);
    let mut accept = server::verify(request.method, request.version, all).expect("a handshake");
    let at_server = accept.negotiate_deflate(server);
    let response = head(accept.response(None, &[]).expect("a response"));
    let response = response.response().expect("a response");
    let all = |name| response.headers.all(name);
    let at_client = client.verify_response(response.status, all).expect("an answer to it").deflate;
    let (Some(at_server), Some(at_client)) = (at_server, at_client) else {
        return assert_eq!(at_server.is_some(), at_client.is_some());
    };
    assert_eq!(at_server.server_max_window_bits(), at_client.server_max_window_bits());
    assert_eq!(at_server.server_no_context_takeover(), at_client.server_no_context_takeover());
    // What the client offered for itself is a hint, which it keeps to.
    assert!(at_client.client_max_window_bits() <= at_server.client_max_window_bits());
    let client_takeover = !at_client.client_no_context_takeover();
    assert!(!client_takeover || !at_server.client_no_context_takeover());
    check_messages(at_server, at_client, text);
}

fn head(bytes: Vec<u8>) -> HeadReader {
    let mut reader = HeadReader::new(HeadLimits::default());
    assert_eq!(reader.push(&bytes), Ok(Some(bytes.len())));
    reader
}

/// Each side reads what the other sends, with what came before as its context.
fn check_messages(at_server: Agreed, at_client: Agreed, text: &str) {
    let connection =
        |role, agreed| Connection::new(role, Limits::default()).with_deflate(Some(agreed));
    let mut server = connection(Role::Server, at_server);
    let mut client = connection(Role::Client, at_client);
    for _ in 0..2 {
        let message = MessageRef::Text(text);
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        server.encode(&mut to_client, message).expect("open");
        client.encode_masked(&mut to_server, message, [1, 2, 3, 4]).expect("open");
        for (side, mut bytes) in [(&mut client, to_client), (&mut server, to_server)] {
            let events: Vec<_> = side.handle_input(&mut bytes, Instant::now()).collect();
            assert_eq!(events, [Event::Text(text.into())]);
        }
    }
}
