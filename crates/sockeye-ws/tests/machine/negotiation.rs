//! permessage-deflate negotiated (RFC 7692 §5, §7.1): what a server answers to which offer, and
//! which answers a client takes. Does not compress anything.

use sockeye_ws::deflate::{Agreed, Options, ParameterError, WindowBits};
use sockeye_ws::handshake::client::ResponseError;
use sockeye_ws::handshake::server::HandshakeError;

use crate::support::*;

const SERVER_NO: &str = "server_no_context_takeover";
const CLIENT_NO: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// The answer without the extension's name.
fn answer(offer: &str, options: Options) -> Option<String> {
    let agreed = answer_to(&[&format!("permessage-deflate{offer}")], options).unwrap()?;
    Some(agreed.to_string().strip_prefix("permessage-deflate").expect("the name").to_owned())
}

fn verify_one(options: Options, parameters: &str) -> Result<Agreed, ParameterError> {
    match verify(&[options], &[&format!("permessage-deflate{parameters}")]) {
        Ok(agreed) => Ok(agreed.expect("an answer")),
        Err(ResponseError::Deflate(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn e4_server_acceptance_the_defaults() {
    // What browsers and `ws` offer.
    let both = format!("; {SERVER_NO}; {CLIENT_NO}");
    assert_eq!(answer("; client_max_window_bits", Options::default()), Some(both.clone()));
    assert_eq!(answer("", Options::default()), Some(both));
    assert_eq!(answer("; client_max_window_bits", takeover()), Some(String::new()));
    assert_eq!(answer_to(&[], Options::default()), Ok(None));
}

#[test]
fn e4_server_acceptance_what_is_asked_for_is_granted() {
    for flag in [SERVER_NO, CLIENT_NO] {
        assert_eq!(answer(&format!("; {flag}"), takeover()), Some(format!("; {flag}")));
    }
    for (offered, own, answered) in [
        (Some(10), 15, Some(10)),
        (Some(10), 12, Some(10)),
        (Some(12), 10, Some(10)),
        (Some(15), 15, Some(15)),
        (Some(9), 15, Some(9)),
        (None, 12, Some(12)),
        (None, 15, None),
    ] {
        let offer = offered.map_or(String::new(), |bits| format!("; {SERVER_BITS}={bits}"));
        let options = Options { server_max_window_bits: bits(own), ..takeover() };
        let expected = answered.map_or(String::new(), |bits| format!("; {SERVER_BITS}={bits}"));
        assert_eq!(answer(&offer, options), Some(expected), "{offered:?} with {own}");
    }
}

#[test]
fn e4_server_acceptance_client_windows() {
    for (offered, own, answered) in [
        ("; client_max_window_bits", 15, Some("")),
        ("; client_max_window_bits", 10, Some("; client_max_window_bits=10")),
        ("; client_max_window_bits=12", 15, Some("; client_max_window_bits=12")),
        ("; client_max_window_bits=12", 10, Some("; client_max_window_bits=10")),
        ("; client_max_window_bits=8", 10, Some("; client_max_window_bits=8")),
        ("; client_max_window_bits=15", 15, Some("")),
        ("", 15, Some("")),
        // A client that cannot be told.
        ("", 10, None),
    ] {
        let options = Options { client_max_window_bits: bits(own), ..takeover() };
        assert_eq!(answer(offered, options).as_deref(), answered, "{offered:?} with {own}");
    }
}

#[test]
fn a_window_of_256_bytes_is_declined_where_we_would_compress() {
    assert_eq!(answer("; server_max_window_bits=8", Options::default()), None);
    let own = Options { server_max_window_bits: bits(8), ..takeover() };
    assert_eq!(answer("", own), None);
    // The next offer may do.
    let offers = "permessage-deflate; server_max_window_bits=8, permessage-deflate";
    assert_eq!(
        answer_to(&[offers], takeover()).unwrap().unwrap().to_string(),
        "permessage-deflate"
    );
}

#[test]
fn e4_server_acceptance_the_first_acceptable_offer_in_order() {
    let options = Options { client_max_window_bits: bits(10), ..takeover() };
    for values in [
        &["permessage-deflate, permessage-deflate; client_max_window_bits; \
             server_max_window_bits=9"][..],
        &[
            "permessage-bzip2, permessage-deflate; x",
            "permessage-deflate; server_max_window_bits=9; \
           client_max_window_bits",
            "permessage-deflate; client_max_window_bits",
        ],
    ] {
        let expected = "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10";
        assert_eq!(answer_to(values, options).unwrap().unwrap().to_string(), expected);
    }
}

#[test]
fn e4_param_validation_an_invalid_offer_is_declined_not_refused() {
    for offer in [
        "; unknown",
        "; constructor",
        "; __proto__=1",
        "; server_no_context_takeover=true",
        "; client_no_context_takeover=\"1\"",
        "; server_no_context_takeover; server_no_context_takeover",
        "; client_no_context_takeover; client_no_context_takeover",
        "; server_max_window_bits",
        "; server_max_window_bits=7",
        "; server_max_window_bits=16",
        "; server_max_window_bits=010",
        "; server_max_window_bits=+10",
        "; server_max_window_bits=1e1",
        "; server_max_window_bits=10; server_max_window_bits=10",
        "; client_max_window_bits=7",
        "; client_max_window_bits=x",
        "; client_max_window_bits; client_max_window_bits=10",
        "; Server_no_context_takeover",
    ] {
        assert_eq!(answer(offer, Options::default()), None, "{offer:?}");
    }
    // A quoted value is what it holds.
    let quoted = answer("; server_max_window_bits=\"1\\0\"", takeover());
    assert_eq!(quoted.as_deref(), Some("; server_max_window_bits=10"));
}

#[test]
fn e4_header_grammar_is_what_fails_a_handshake() {
    for value in ["permessage-deflate;", "permessage-deflate; a b", "permessage-deflate,", ""] {
        let refused = Err(HandshakeError::Extensions);
        assert_eq!(answer_to(&[value], Options::default()), refused, "{value:?}");
    }
}

#[test]
fn what_a_client_offers() {
    let nothing = "permessage-deflate; client_max_window_bits";
    assert_eq!(offer_of(takeover()), nothing);
    let limited = Options {
        server_max_window_bits: bits(9),
        client_max_window_bits: bits(8),
        ..Options::default()
    };
    let everything =
        format!("permessage-deflate; {SERVER_NO}; {CLIENT_NO}; {SERVER_BITS}=9; {CLIENT_BITS}=8");
    assert_eq!(offer_of(limited), everything);
    let two = String::from_utf8(request(&[limited, takeover()]).encode().unwrap()).unwrap();
    assert!(two.contains(&format!("\r\nSec-WebSocket-Extensions: {everything}, {nothing}\r\n")));
    let none = String::from_utf8(request(&[]).encode().unwrap()).unwrap();
    assert!(!none.contains("Extensions"));
}

#[test]
fn e4_client_acceptance_what_counts() {
    let agreed = verify_one(takeover(), "").unwrap();
    assert!(!agreed.server_no_context_takeover() && !agreed.client_no_context_takeover());
    assert_eq!(agreed.server_max_window_bits(), WindowBits::MAX);
    assert_eq!(agreed.client_max_window_bits(), WindowBits::MAX);

    // The server may ask for more than was offered.
    let all = format!("; {SERVER_NO}; {CLIENT_NO}; {SERVER_BITS}=9; {CLIENT_BITS}=10");
    let agreed = verify_one(takeover(), &all).unwrap();
    assert!(agreed.server_no_context_takeover() && agreed.client_no_context_takeover());
    assert_eq!(agreed.server_max_window_bits(), bits(9));
    assert_eq!(agreed.client_max_window_bits(), bits(10));

    // What we offered about ourselves we do, whether or not the server repeats it.
    let options = Options {
        client_no_context_takeover: true,
        client_max_window_bits: bits(11),
        ..takeover()
    };
    let agreed = verify_one(options, "").unwrap();
    assert!(agreed.client_no_context_takeover());
    assert_eq!(agreed.client_max_window_bits(), bits(11));

    // A server that declines everything.
    assert_eq!(verify(&[Options::default()], &[]), Ok(None));
}

#[test]
fn e4_client_acceptance_what_is_refused() {
    use ParameterError::*;
    let ten = Options {
        server_max_window_bits: bits(10),
        client_max_window_bits: bits(10),
        ..takeover()
    };
    let accepted = "; server_max_window_bits=10";
    assert!(verify_one(ten, accepted).is_ok());
    for (options, answer, error) in [
        (takeover(), "; x".to_owned(), Unknown("x".to_owned())),
        (takeover(), "; __proto__=1".to_owned(), Unknown("__proto__".to_owned())),
        (takeover(), format!("; {SERVER_NO}=1"), Value(SERVER_NO)),
        (takeover(), format!("; {CLIENT_NO}; {CLIENT_NO}"), Repeated(CLIENT_NO)),
        (takeover(), format!("; {SERVER_BITS}=9; {SERVER_BITS}=9"), Repeated(SERVER_BITS)),
        (takeover(), format!("; {SERVER_BITS}"), Value(SERVER_BITS)),
        (takeover(), format!("; {SERVER_BITS}=7"), Value(SERVER_BITS)),
        (takeover(), format!("; {CLIENT_BITS}"), Value(CLIENT_BITS)),
        (takeover(), format!("; {CLIENT_BITS}=16"), Value(CLIENT_BITS)),
        (ten, format!("{accepted}; {CLIENT_BITS}=11"), TooLarge(CLIENT_BITS)),
        (ten, format!("; {SERVER_BITS}=11"), TooLarge(SERVER_BITS)),
        (ten, String::new(), Missing(SERVER_BITS)),
        (Options::default(), format!("; {CLIENT_NO}"), Missing(SERVER_NO)),
    ] {
        assert_eq!(verify_one(options, &answer), Err(error.clone()), "{answer}");
        let named = match &error {
            Unknown(name) => name,
            Value(name) | Repeated(name) | TooLarge(name) | Missing(name) => *name,
            other => panic!("{other}"),
        };
        let message = ResponseError::from(error.clone()).to_string();
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn e4_client_acceptance_other_extensions() {
    let offers = [takeover()];
    let unknown = Err(ResponseError::UnknownExtension("permessage-bzip2".to_owned()));
    assert_eq!(verify(&offers, &["permessage-bzip2"]), unknown);
    assert_eq!(verify(&offers, &["permessage-deflate, permessage-bzip2"]), unknown);
    let repeated = Err(ResponseError::RepeatedExtension);
    assert_eq!(verify(&offers, &["permessage-deflate, permessage-deflate"]), repeated);
    assert_eq!(verify(&offers, &["permessage-deflate", "permessage-deflate"]), repeated);
    assert_eq!(verify(&offers, &["permessage-deflate;"]), Err(ResponseError::Extensions));
    let unasked = Err(ResponseError::UnaskedExtension);
    assert_eq!(verify(&[], &["permessage-deflate"]), unasked);
}

#[test]
fn an_answer_may_be_to_a_later_offer() {
    let offers = [Options::default(), takeover()];
    let agreed = verify(&offers, &["permessage-deflate; server_max_window_bits=12"]).unwrap();
    let agreed = agreed.expect("an answer");
    assert!(!agreed.client_no_context_takeover());
    assert_eq!(agreed.server_max_window_bits(), bits(12));
    // If it is to none, the error is about the preferred one.
    let strict = Options { server_max_window_bits: bits(10), ..Options::default() };
    let error = verify(&[strict, strict], &["permessage-deflate"]);
    assert_eq!(error, Err(ParameterError::Missing(SERVER_NO).into()));
}

/// Whatever the two sides' options are, they agree on the same or on nothing.
#[test]
fn both_sides_come_to_the_same() {
    let mut all = Vec::new();
    for flags in 0..4 {
        for server_bits in [8, 9, 12, 15] {
            for client_bits in [8, 9, 12, 15] {
                all.push(Options {
                    server_no_context_takeover: flags & 1 != 0,
                    client_no_context_takeover: flags & 2 != 0,
                    server_max_window_bits: bits(server_bits),
                    client_max_window_bits: bits(client_bits),
                    ..Options::default()
                });
            }
        }
    }
    for client in &all {
        for server in &all {
            let limit = |of: fn(&Options) -> WindowBits| of(client).min(of(server));
            let Some((for_client, for_server)) = agree(*client, *server) else {
                assert_eq!(limit(|options| options.server_max_window_bits), WindowBits::MIN);
                continue;
            };
            let either = |of: fn(&Options) -> bool| of(client) || of(server);
            for agreed in [for_client, for_server] {
                let server_bits = limit(|options| options.server_max_window_bits);
                assert_eq!(agreed.server_max_window_bits(), server_bits);
                let client_bits = limit(|options| options.client_max_window_bits);
                assert_eq!(agreed.client_max_window_bits(), client_bits);
                let server_no = either(|options| options.server_no_context_takeover);
                assert_eq!(agreed.server_no_context_takeover(), server_no);
                let client_no = either(|options| options.client_no_context_takeover);
                assert_eq!(agreed.client_no_context_takeover(), client_no);
            }
        }
    }
}
