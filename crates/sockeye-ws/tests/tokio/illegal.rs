//! A peer's protocol test over real loopback, of servers and clients, plain and compressed: every
//! illegal frame gets the code that RFC 6455 gives, the application is told the same, and what is
//! legal goes on. (`machine/strict` has the errors behind the codes.)

use sockeye_ws::handshake::accept_key;
use sockeye_ws::net::{Client, Error, Fault, Message, Server, WebSocket};
use sockeye_ws::{CloseCode, Limits, Role, deflate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

const RSV1: u8 = 0x40;
const LIMITS: Limits = Limits {
    message_bytes_max: 100_000,
    streamed_bytes_max: 100_000,
    fragments_max: 100,
    pending_pongs_max: 10,
    close_timeout: std::time::Duration::from_secs(10),
};

/// What is tested: a side, and whether it compresses.
#[derive(Clone, Copy, Debug)]
struct Side {
    role: Role,
    deflate: bool,
}

fn sides() -> impl Iterator<Item = Side> {
    let both = [Role::Server, Role::Client].into_iter();
    both.flat_map(|role| [false, true].map(|deflate| Side { role, deflate }))
}

impl Side {
    /// A frame as its peer has to send it.
    fn frame(self, first: u8, payload: &[u8]) -> Vec<u8> {
        match self.role {
            Role::Server => masked(first, payload),
            Role::Client => plain(first, payload),
        }
    }

    /// The header of such a frame with its length in eight bytes.
    fn head(self, first: u8, payload_len: u64) -> Vec<u8> {
        let bit = if self.role == Role::Server { 0x80 } else { 0 };
        let key: &[u8] = if self.role == Role::Server { &[1, 2, 3, 4] } else { &[] };
        [&[first, bit | 127][..], &payload_len.to_be_bytes(), key].concat()
    }

    /// A connection of this side, and its raw peer, after a handshake.
    async fn connect(self) -> (WebSocket<TcpStream>, TcpStream) {
        let (near, mut far) = loopback().await;
        let options = self.deflate.then(deflate::Options::default);
        let websocket = match self.role {
            Role::Server => {
                let builder = Server::builder().limits(LIMITS);
                let builder = options.into_iter().fold(builder, |b, options| b.deflate(options));
                write(&mut far, request(self.deflate).as_bytes()).await;
                let websocket = builder.build().accept(near).await.unwrap();
                read_response(&mut far).await;
                websocket
            }
            Role::Client => {
                let client = Client::new("ws://localhost/").limits(LIMITS);
                let client = options.into_iter().fold(client, |c, options| c.deflate(options));
                let near = std::sync::Mutex::new(Some(near));
                let open = |_| {
                    let near = near.lock().unwrap().take().expect("it connects once");
                    async { Ok(near) }
                };
                let (websocket, ()) = tokio::join!(client.connect_over(open), answer(&mut far));
                websocket.unwrap()
            }
        };
        (websocket, far)
    }

    /// Sends `bytes` and a close frame with 1000 behind them. The code of the side's own close
    /// frame, which nothing may follow, and what its application has been told.
    async fn run(self, bytes: &[u8]) -> (u16, Vec<Result<Message, Error>>) {
        let (mut websocket, mut far) = self.connect().await;
        let bytes = [bytes, &self.frame(FIN_CLOSE, b"\x03\xE8")].concat();
        let application = async {
            let mut told = Vec::new();
            while let Some(item) = websocket.next().await {
                told.push(item);
            }
            told
        };
        let peer = async {
            write(&mut far, &bytes).await;
            let payload = loop {
                let (first, payload) = self.read_frame(&mut far).await;
                if first == FIN_CLOSE {
                    break payload;
                }
            };
            if self.role == Role::Server {
                assert_ended(&mut far).await;
            }
            far.shutdown().await.unwrap();
            u16::from_be_bytes(payload.try_into().expect("a code and no reason"))
        };
        let (told, code) = tokio::join!(application, peer);
        (code, told)
    }

    /// The next frame that the side sends.
    async fn read_frame(self, far: &mut TcpStream) -> (u8, Vec<u8>) {
        if self.role == Role::Server {
            return read_frame(far).await.unwrap();
        }
        let mut head = [0; 6];
        far.read_exact(&mut head).await.unwrap();
        let [first, length, key @ ..] = head;
        assert!((0x80..0x80 + 126).contains(&length), "a masked frame, and a short one");
        let mut payload = vec![0; usize::from(length & 0x7F)];
        far.read_exact(&mut payload).await.unwrap();
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        (first, payload)
    }

    /// `code` is what RFC 6455 gives for these frames; 1000, that of the close frame behind them,
    /// if they are legal.
    async fn expect(self, name: &str, bytes: &[u8], code: u16) {
        let (got, told) = self.run(bytes).await;
        assert_eq!(got, code, "{name}, {self:?}");
        match told.last().expect("how it ended") {
            Ok(Message::Close(Some(frame))) => assert_eq!((frame.code.0, code), (1000, 1000)),
            Err(error) => {
                assert_eq!(error.close_code(), Some(CloseCode(code)), "{name}, {self:?}");
                assert_eq!(error.fault(), Fault::Peer, "{name}, {self:?}");
            }
            other => panic!("{name}, {self:?}: {other:?}"),
        }
    }
}

fn request(deflate: bool) -> String {
    let offer = if deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    )
}

/// A raw server's side of the handshake.
async fn answer(far: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(far.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let line = |name| head.lines().find_map(|line| line.strip_prefix(name));
    let key = accept_key(line("Sec-WebSocket-Key: ").unwrap().as_bytes());
    let extensions = line("Sec-WebSocket-Extensions: ").map_or(String::new(), |_| {
        let contexts = "server_no_context_takeover; client_no_context_takeover";
        format!("Sec-WebSocket-Extensions: permessage-deflate; {contexts}\r\n")
    });
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{extensions}\r\n",
        str::from_utf8(&key).unwrap()
    );
    write(far, response.as_bytes()).await;
}

/// What RFC 6455 §5.2, §5.4, §5.5 and RFC 7692 §6 say of a frame that begins with this byte.
fn is_legal(first: u8, side: Side, in_message: bool) -> bool {
    let (fin, rsv, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0F);
    let begins_message = matches!(opcode, 1 | 2);
    let is_control = matches!(opcode, 8..=10);
    let rsv_is_legal = rsv == 0 || (rsv == RSV1 && side.deflate && begins_message);
    let stands_where_it_may = match opcode {
        0 => in_message,
        1 | 2 => !in_message,
        _ => true,
    };
    (opcode <= 2 || is_control) && rsv_is_legal && stands_where_it_may && (fin || !is_control)
}

#[tokio::test]
async fn every_first_byte_of_a_frame() {
    for side in sides() {
        for in_message in [false, true] {
            let begun = if in_message { side.frame(0x01, b"begun") } else { Vec::new() };
            for first in 0..=255_u8 {
                let payload: &[u8] = match (first & 0x0F, first & RSV1) {
                    (8, _) => b"\x03\xE8",
                    // An empty message, compressed.
                    (_, RSV1) => b"\0",
                    _ => b"",
                };
                let code = if is_legal(first, side, in_message) { 1000 } else { 1002 };
                let bytes = [&begun[..], &side.frame(first, payload)].concat();
                side.expect(&format!("{first:#04X}"), &bytes, code).await;
            }
        }
    }
}

#[tokio::test]
async fn masks_and_lengths() {
    for side in sides() {
        let other = match side.role {
            Role::Server => plain(FIN_TEXT, b"x"),
            Role::Client => masked(FIN_TEXT, b"x"),
        };
        side.expect("masked by the wrong side", &other, 1002).await;
        for opcode in [0x8, 0x9, 0xA] {
            let close: &[u8] = if opcode == 0x8 { b"\x03\xE8" } else { b"" };
            let longest = [close, &vec![b'x'; 125 - close.len()]].concat();
            side.expect("125 bytes", &side.frame(0x80 | opcode, &longest), 1000).await;
            for len in [126, 127, 65_535, 65_536] {
                let bytes = side.frame(0x80 | opcode, &vec![b'x'; len]);
                side.expect(&format!("control of {len} bytes"), &bytes, 1002).await;
            }
            // A length in another form than the shortest is not for control frames.
            side.expect("two bytes of length", &side.head(0x80 | opcode, 0), 1002).await;
        }
        for len in [100_001, 1 << 31, (1 << 53) - 1, 1 << 53, 1 << 63, u64::MAX] {
            let bytes = side.head(FIN_BINARY, len);
            side.expect(&format!("a declared length of {len}"), &bytes, 1009).await;
        }
        let part = side.frame(0x02, &[7; 50_000]);
        let over = [&part[..], &side.frame(0x00, &[7; 50_000]), &side.frame(0x80, b"x")].concat();
        side.expect("one byte too much over three fragments", &over, 1009).await;
        let limit = [&part[..], &side.frame(0x80, &[7; 50_000])].concat();
        side.expect("as much as may be", &limit, 1000).await;
        let fragments = |count: usize| {
            let rest = side.frame(0x00, b"").repeat(count - 2);
            [side.frame(0x01, b""), rest, side.frame(0x80, b"")].concat()
        };
        side.expect("as many fragments as may be", &fragments(100), 1000).await;
        side.expect("one fragment too many", &fragments(101), 1008).await;
    }
}

#[tokio::test]
async fn texts_that_are_no_utf_8() {
    let bad: [&[u8]; 16] = [
        b"\x80",                     // a lone continuation byte
        b"\xBF\xBF",                 // two of them
        b"\xC2",                     // cut off
        b"\xE2\x82",                 // the same
        b"\xF0\x9F\x90",             // the same
        b"\xC0\xAF",                 // overlong
        b"\xC1\xBF",                 // the same
        b"\xE0\x80\xAF",             // the same
        b"\xE0\x9F\xBF",             // the same
        b"\xF0\x8F\xBF\xBF",         // the same
        b"\xED\xA0\x80",             // a surrogate
        b"\xED\xBF\xBF",             // the last of them
        b"\xF4\x90\x80\x80",         // above U+10FFFF
        b"\xF8\x88\x80\x80\x80",     // five bytes
        b"\xFC\x84\x80\x80\x80\x80", // six bytes
        b"\xFE\xFF",                 // never in UTF-8
    ];
    let good: [&[u8]; 4] =
        [b"\0", "ߒࠀ\u{D7FF}\u{E000}\u{FFFF}𐀀\u{10FFFF}".as_bytes(), b"\xEF\xBF\xBE", b""];
    for side in sides() {
        for (texts, code) in [(&bad[..], 1007), (&good[..], 1000)] {
            for text in texts {
                let name = format!("{text:02X?}");
                let long = [&[b'x'; 1000], *text].concat();
                let mut forms = vec![side.frame(FIN_TEXT, text), side.frame(FIN_TEXT, &long)];
                // Cut within the characters, with a ping between, and across fragments that end
                // where it could still become good.
                for cut in 0..=text.len() {
                    let (begin, end) = text.split_at(cut);
                    let parts =
                        [side.frame(0x01, begin), side.frame(FIN_PING, b""), side.frame(0x80, end)];
                    forms.push(parts.concat());
                }
                for bytes in forms {
                    side.expect(&name, &bytes, code).await;
                }
                let reason = [b"\x03\xE8", *text].concat();
                side.expect(&name, &side.frame(FIN_CLOSE, &reason), code).await;
                // What is no text may be anything.
                side.expect(&name, &side.frame(FIN_BINARY, text), 1000).await;
            }
        }
    }
}

#[tokio::test]
async fn close_codes_and_what_stands_for_none() {
    let legal = [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    let applications = [3000, 3001, 3999, 4000, 4999];
    let illegal = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999];
    let too_large = [5000, 9999, 10_000, 32_768, 65_535_u16];
    for side in sides() {
        side.expect("one byte", &side.frame(FIN_CLOSE, b"\x03"), 1002).await;
        for code in illegal.into_iter().chain(too_large) {
            let bytes = side.frame(FIN_CLOSE, &code.to_be_bytes());
            side.expect(&code.to_string(), &bytes, 1002).await;
        }
        for code in legal.into_iter().chain(applications) {
            let payload = [&code.to_be_bytes()[..], "weil es so ist – 🐟".as_bytes()].concat();
            let (echoed, told) = side.run(&side.frame(FIN_CLOSE, &payload)).await;
            assert_eq!(echoed, code);
            let Ok(Message::Close(Some(frame))) = &told[0] else { panic!("{told:?}") };
            assert_eq!((frame.code.0, &*frame.reason), (code, "weil es so ist – 🐟"));
        }
        // Behind a close frame nothing counts, however wrong.
        let behind = [side.frame(FIN_CLOSE, b"\x03\xE9"), side.frame(0x83, b"")].concat();
        assert_eq!(side.run(&behind).await.0, 1001);
    }
}

#[tokio::test]
async fn compressed_messages_that_are_none() {
    // "Hello" (RFC 7692 §7.2.3.1).
    const HELLO: &[u8] = &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
    // A stored block with a byte that is no UTF-8.
    const NO_TEXT: &[u8] = &[0x00, 0x01, 0x00, 0xFE, 0xFF, 0xFF, 0x00];

    for side in sides().filter(|side| side.deflate) {
        for (name, payload, as_text, as_binary) in [
            ("Hello", HELLO, 1000, 1000),
            ("no UTF-8", NO_TEXT, 1007, 1000),
            ("a reserved kind of block", b"\x07\xFF\xFF", 1007, 1007),
            ("a distance beyond the beginning", b"\x02\x04\x00", 1007, 1007),
            ("a stored block whose lengths differ", b"\x00\x01\x00\x01\x00x", 1007, 1007),
        ] {
            for (opcode, code) in [(FIN_TEXT, as_text), (FIN_BINARY, as_binary)] {
                side.expect(name, &side.frame(opcode | RSV1, payload), code).await;
                // The same in fragments, of which only the first says that it is compressed.
                let (begin, end) = payload.split_at(2);
                let first = side.frame((opcode | RSV1) & !0x80, begin);
                let parts = [&first[..], &side.frame(FIN_PING, b"x"), &side.frame(0x80, end)];
                side.expect(name, &parts.concat(), code).await;
            }
        }
        let begun = side.frame(0x01 | RSV1, &HELLO[..2]);
        let marked = [&begun[..], &side.frame(0x80 | RSV1, &HELLO[2..])].concat();
        side.expect("RSV1 on a continuation", &marked, 1002).await;
        // 100,001 bytes of the letter a, in few.
        let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut bomb, &[b'a'; 100_001]).unwrap();
        let bomb = side.frame(FIN_TEXT | RSV1, &bomb.finish().unwrap());
        side.expect("a bomb", &bomb, 1009).await;
    }
}
