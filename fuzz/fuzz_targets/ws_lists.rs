//! The lists of `Sec-WebSocket-Protocol` and `Sec-WebSocket-Extensions`: what is accepted follows
//! the grammar, read naively here, and a long list takes no more time than it has bytes.

#![no_main]

use std::io::Write;

use arbitrary::Arbitrary;
use libfuzzer_sys::{Corpus, fuzz_target};
use sockeye_fuzz::handshake::request;
use sockeye_fuzz::trim;
use sockeye_ws::handshake::server::HandshakeError;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_protocol: bool,
    /// `L`: the value is repeated, to see what time that takes.
    long: u8,
    /// A line for each header.
    lines: &'a [u8],
}

const PROTOCOL: &str = "sec-websocket-protocol";
const EXTENSIONS: &str = "sec-websocket-extensions";

/// The work on so many bytes takes milliseconds, unless it is quadratic: then it runs into the time
/// that libFuzzer is given for one input.
const LONG_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|input: Input<'_>| -> Corpus {
    // As an HTTP parser hands values out (RFC 9110 §5.5).
    let is_control = |byte: &u8| matches!(byte, 0..=8 | 11..32 | 127);
    if input.lines.iter().any(is_control) {
        return Corpus::Reject;
    }
    let values: Vec<_> = input.lines.split(|byte| *byte == b'\n').map(trim).collect();
    if input.is_protocol {
        check_protocols(&values)
    } else {
        check_extensions(&values)
    }

    if input.long == b'L' {
        let mut long = Vec::new();
        for index in 0..LONG_BYTES_MAX / (input.lines.len() + 6) {
            // Numbered, so that names differ.
            long.extend_from_slice(input.lines);
            write!(long, "{index},").expect("memory can be written to");
        }
        let values: Vec<_> = long.split(|byte| *byte == b'\n').collect();
        let _ = request(if input.is_protocol { PROTOCOL } else { EXTENSIONS }, &values);
        // Not one to go on from: the short ones find more, and are a thousand times as fast.
        return Corpus::Reject;
    }
    Corpus::Keep
});

fn check_protocols(values: &[&[u8]]) {
    let entries: Vec<_> =
        values.iter().flat_map(|value| value.split(|byte| *byte == b',')).map(trim).collect();
    let twice = |(index, entry): (usize, &&[u8])| entries[..index].contains(entry);
    let is_legal =
        entries.iter().all(|entry| is_token(entry)) && !entries.iter().enumerate().any(twice);
    match protocols(values) {
        Ok(accepted) => {
            assert!(is_legal);
            let printed = accepted.join(", ");
            assert_eq!(printed.as_bytes(), entries.join(&b", "[..]));
            assert_eq!(protocols(&[printed.as_bytes()]), Ok(accepted));
        }
        Err(error) => {
            assert_eq!(error, HandshakeError::Protocol);
            assert!(!is_legal);
        }
    }
}

fn check_extensions(values: &[&[u8]]) {
    let is_legal = values.iter().all(|value| value.split(|byte| *byte == b',').all(is_extension));
    match extensions(values) {
        Ok(()) => {
            assert!(is_legal);
            // Several lines are one list (RFC 9110 §5.3).
            assert_eq!(extensions(&[&values.join(&b","[..])]), Ok(()));
        }
        Err(error) => {
            assert_eq!(error, HandshakeError::Extensions);
            assert!(!is_legal);
        }
    }
}

/// RFC 6455 §9.1. Separators need not be looked for in quotes: a quoted value is a token too.
fn is_extension(extension: &[u8]) -> bool {
    let mut parts = extension.split(|byte| *byte == b';').map(trim);
    let name = parts.next().unwrap_or_default();
    is_token(name)
        && parts.all(|parameter| match parameter.iter().position(|byte| *byte == b'=') {
            None => is_token(parameter),
            Some(equals) => {
                let value = trim(&parameter[equals + 1..]);
                is_token(trim(&parameter[..equals])) && (is_token(value) || is_quoted_token(value))
            }
        })
}

fn is_quoted_token(value: &[u8]) -> bool {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return false;
    };
    let mut token = Vec::new();
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        token.push(if byte == b'\\' { *bytes.next().unwrap_or(&b' ') } else { byte });
    }
    is_token(&token)
}

/// RFC 9110 §5.6.2, by what a token is not.
fn is_token(bytes: &[u8]) -> bool {
    let is_separator = |byte| b"()<>@,;:\\\"/[]?={} \t".contains(byte);
    !bytes.is_empty() && bytes.iter().all(|byte| (0x21..0x7f).contains(byte) && !is_separator(byte))
}

fn protocols<'v>(values: &[&'v [u8]]) -> Result<Vec<&'v str>, HandshakeError> {
    request(PROTOCOL, values).map(|accept| accept.protocols)
}

fn extensions(values: &[&[u8]]) -> Result<(), HandshakeError> {
    request(EXTENSIONS, values).map(drop)
}
