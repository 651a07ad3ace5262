//! What is published to a room's channel: `number last kind body`, for typing `0 0 t node user`.
//! Does not know who hears it.

use crate::rooms::Event;
use crate::store::rows::read;

/// Something that a room is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// In the order of the numbers.
    Numbered {
        /// Its number.
        number: u64,
        /// That of what the room was told before; 0 where nobody was there.
        last: u64,
        event: Event,
    },
    /// Somebody types.
    Typing { node: String, username: String },
}

pub(super) fn typing(node: &str, username: &str) -> String {
    format!("0 0 t {node} {username}")
}

/// `None` where it is nothing of ours.
pub(super) fn parse(payload: &[u8]) -> Option<Published> {
    let text = std::str::from_utf8(payload).ok()?;
    let mut parts = text.splitn(4, ' ');
    let number = parts.next()?.parse().ok()?;
    let last = parts.next()?.parse().ok()?;
    let (kind, body) = (parts.next()?, parts.next()?);
    let event = match kind {
        "m" => Event::Message(read(body.as_bytes()).ok()?),
        "j" => Event::Joined(body.to_owned()),
        "l" => Event::Left(body.to_owned()),
        "t" => {
            let (node, username) = body.split_once(' ')?;
            let (node, username) = (node.to_owned(), username.to_owned());
            return Some(Published::Typing { node, username });
        }
        _ => return None,
    };
    Some(Published::Numbered { number, last, event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Message;

    #[test]
    fn what_is_published_is_read_and_what_is_foreign_is_not() {
        let joined = Event::Joined("ann".into());
        let expected = Published::Numbered { number: 7, last: 5, event: joined };
        assert_eq!(parse(b"7 5 j ann"), Some(expected));
        let json = r#"{"id":"8","timestamp":1,"username":"ann","text":"a b","room":"c d"}"#;
        let message = Message {
            id: 8,
            username: "ann".into(),
            text: "a b".into(),
            room: "c d".into(),
            timestamp: 1,
        };
        let event = Event::Message(message);
        let expected = Published::Numbered { number: 8, last: 7, event };
        assert_eq!(parse(format!("8 7 m {json}").as_bytes()), Some(expected));
        let expected = Published::Typing { node: "n".into(), username: "ann".into() };
        assert_eq!(parse(typing("n", "ann").as_bytes()), Some(expected));
        for foreign in ["", "7", "7 5 j", "x 5 j ann", "7 5 x ann", "8 7 m {}", "0 0 t ann"] {
            assert_eq!(parse(foreign.as_bytes()), None, "{foreign}");
        }
        assert_eq!(parse(b"7 5 j \xff"), None);
    }
}
