//! What clients of Socket.IO 2 say otherwise: a CONNECT identifies the client by a query behind the
//! namespace's name. Does not know which client does.

use std::collections::BTreeMap;

use super::packet::kind;
use crate::engine::query_pairs;

/// A CONNECT of such a client (`0/admin?token=x,`) as later ones would send it
/// (`0/admin,{"token":"x"}`). `None`: it is another packet, or has no query, and is the same.
///
/// Of several values with one name the last counts.
///
/// ```
/// use sockeye_proto::socket::connect_of_v3;
///
/// let packet = connect_of_v3("0/admin?token=a%20b&x=1,");
/// assert_eq!(packet.as_deref(), Some(r#"0/admin,{"token":"a b","x":"1"}"#));
/// assert_eq!(connect_of_v3("0/admin,"), None);
/// assert_eq!(connect_of_v3(r#"2/admin?,["event"]"#), None);
/// ```
pub fn connect_of_v3(text: &str) -> Option<String> {
    let namespace = text.strip_prefix(char::from(kind::CONNECT))?;
    let namespace = namespace.split_once(',').map_or(namespace, |(namespace, _)| namespace);
    let (name, query) = namespace.split_once('?').filter(|_| namespace.starts_with('/'))?;
    let pairs: BTreeMap<_, _> = query_pairs(query).collect();
    let auth = serde_json::to_string(&pairs).expect("a map of texts can be written as JSON");
    Some(format!("{}{name},{auth}", char::from(kind::CONNECT)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{Incoming, Multiplexer, MultiplexerLimits};

    #[test]
    fn a6_a_query_becomes_what_identifies_the_client() {
        for (text, expected) in [
            ("0/?token=1", r#"0/,{"token":"1"}"#),
            ("0/a?x=1&x=2,", r#"0/a,{"x":"2"}"#),
            ("0/a?,", "0/a,{}"),
            ("0/a?__proto__=\"&b,", r#"0/a,{"__proto__":"\"","b":""}"#),
        ] {
            assert_eq!(connect_of_v3(text).as_deref(), Some(expected), "{text}");
            let mut multiplexer = Multiplexer::new(MultiplexerLimits::default());
            let incoming = multiplexer.handle_text(expected).expect("legal").expect("a CONNECT");
            assert!(matches!(incoming, Incoming::Connect { auth: Some(_), .. }), "{incoming:?}");
        }
        for same in ["0", "0/", "0/a,", "0x?a=1", "1/a?x=1,", "", "0{\"a\":\"/?\"}"] {
            assert_eq!(connect_of_v3(same), None, "{same}");
        }
    }
}
