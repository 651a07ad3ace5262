//! The compressed frames of a packet (permessage-deflate), made once for all that can take them.
//! Does not know connections, only what each has agreed to.

use std::ops::Range;
use std::sync::OnceLock;

use sockeye_ws::MessageRef;
use sockeye_ws::deflate::{Agreed, Compressor};
use sockeye_ws::frame::{Opcode, write_header};

use super::EncodedPacket;

/// The smallest window that there is a compressor for.
const WINDOW_BITS_MIN: u8 = 9;

/// For each window, from that of 512 bytes on, the frames as they go to a client that remembers so
/// much; `None` if compression makes nothing shorter.
pub(super) type Deflated = [OnceLock<Option<Box<[u8]>>>; 7];

impl EncodedPacket {
    /// All WebSocket frames of it for a client that has `agreed` to permessage-deflate: each
    /// message compressed by itself, where it is long enough and becomes shorter by it.
    ///
    /// They are made when the first client needs them. They are the same for all in whose windows
    /// the messages fit, and for each smaller window there is one more form; level, memory level
    /// and threshold are those of the first client.
    ///
    /// On a connection with a context of the server's, [`seal`](Self::seal) comes before.
    #[inline]
    pub fn wire_for(&self, agreed: Option<&Agreed>) -> &[u8] {
        match agreed {
            Some(agreed) => self.compressed(agreed).unwrap_or(self.wire()),
            None => self.wire(),
        }
    }

    /// What goes in its place on a connection with a context of the server's: itself, as
    /// [`wire_for`](Self::wire_for) has it, where it goes to many or must not be compressed, or
    /// else the frames that `compressor` makes of it. They must leave in the order in which they
    /// are sealed.
    #[must_use]
    pub fn seal(&self, compressor: &mut Compressor, agreed: &Agreed) -> Self {
        if self.0.compress && !self.0.for_many {
            let mut frames = Vec::new();
            self.messages().for_each(|message| compressor.encode(&mut frames, message));
            return Self::frames(frames);
        }
        if self.compressed(agreed).is_some() {
            compressor.forget();
        }
        self.clone()
    }

    fn compressed(&self, agreed: &Agreed) -> Option<&[u8]> {
        // No message is longer than all frames.
        if !self.0.compress || self.wire().len() < agreed.threshold_bytes() {
            return None;
        }
        let attachments = self.0.attachments.iter().map(Range::len);
        let longest = attachments.fold(self.0.text.len(), usize::max);
        let compress = || compress(agreed, self.messages());
        form_for(agreed, longest, || &self.0.forms().deflated, compress)
    }

    /// The WebSocket messages that it consists of.
    fn messages(&self) -> impl Iterator<Item = MessageRef<'_>> {
        let text = &self.0.wire[self.0.text.clone()];
        let text = std::str::from_utf8(text).expect("a packet's text is UTF-8");
        let text = (!text.is_empty()).then_some(MessageRef::Text(text));
        text.into_iter().chain(self.attachments().map(MessageRef::Binary))
    }
}

/// The form for whoever has `agreed` to this, of messages of which the longest is so long.
pub(super) fn form_for<'d>(
    agreed: &Agreed,
    longest: usize,
    forms: impl FnOnce() -> &'d Deflated,
    compress: impl FnOnce() -> Option<Box<[u8]>>,
) -> Option<&'d [u8]> {
    if longest < agreed.threshold_bytes() {
        return None;
    }
    let index = agreed.window_alone(longest).get().checked_sub(WINDOW_BITS_MIN)?;
    forms()[usize::from(index)].get_or_init(compress).as_deref()
}

/// The frames of messages; `None` if compression makes none of them shorter.
pub(super) fn compress<'m>(
    agreed: &Agreed,
    messages: impl Iterator<Item = MessageRef<'m>>,
) -> Option<Box<[u8]>> {
    let mut frames = Vec::new();
    let mut compressed = false;
    for message in messages {
        if agreed.encode_alone(&mut frames, message) {
            compressed = true;
            continue;
        }
        let (opcode, payload) = match message {
            MessageRef::Text(text) => (Opcode::Text, text.as_bytes()),
            MessageRef::Binary(data) | MessageRef::Ping(data) | MessageRef::Pong(data) => {
                (Opcode::Binary, data)
            }
        };
        write_header(&mut frames, opcode, payload.len());
        frames.extend_from_slice(payload);
    }
    compressed.then(|| frames.into_boxed_slice())
}

/// What is agreed with a client that offers everything.
#[cfg(test)]
pub(super) fn agreed(options: &sockeye_ws::deflate::Options) -> Agreed {
    use sockeye_ws::handshake::{HttpVersion, server};

    let headers = [
        ("host", "localhost"),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ];
    let header = |name| {
        headers.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value.as_bytes())
    };
    let mut accept = server::verify("GET", HttpVersion::Http11, header).expect("a handshake");
    accept.negotiate_deflate(options).expect("the offer can be met")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use sockeye_ws::deflate::{Options, WindowBits};
    use sockeye_ws::{Connection, Event, Limits, Role};

    use super::*;
    use crate::socket::Binary;

    fn bits(bits: u8) -> WindowBits {
        WindowBits::new(bits).expect("8 to 15")
    }

    fn client(agreed: Agreed) -> Connection {
        Connection::new(Role::Client, Limits::default()).with_deflate(Some(agreed))
    }

    /// What a client makes of the frames: the Engine.IO text, and how many bytes follow in all.
    fn read(client: &mut Connection, frames: &[u8]) -> (String, usize) {
        let (mut texts, mut data) = (String::new(), 0);
        for event in client.handle_input(&mut frames.to_vec(), Instant::now()) {
            match event {
                Event::Text(text) => texts.push_str(&text),
                Event::Binary(binary) => data += binary.len(),
                other => panic!("{other:?}"),
            }
        }
        (texts, data)
    }

    fn packet(fill: usize, binary: usize) -> EncodedPacket {
        let text: String = (0..fill).map(|at| char::from(b'a' + (at * at % 23) as u8)).collect();
        let data = (binary > 0).then(|| Binary::from(vec![7; binary]));
        EncodedPacket::event("/", None, "e", &(text, data)).expect("JSON")
    }

    #[test]
    fn one_form_serves_all_in_whose_windows_the_messages_fit() {
        let packet = packet(3000, 2000);
        let small = agreed(&Options { server_max_window_bits: bits(12), ..Options::default() });
        let smaller = agreed(&Options { server_max_window_bits: bits(10), ..Options::default() });
        let large = agreed(&Options::default());
        let form = packet.wire_for(Some(&large));
        assert!(form.len() < packet.wire().len() / 3, "{} bytes", form.len());
        assert_eq!(form.as_ptr(), packet.wire_for(Some(&small)).as_ptr());
        assert_eq!(form.as_ptr(), packet.clone().wire_for(Some(&large)).as_ptr());
        assert_ne!(form.as_ptr(), packet.wire_for(Some(&smaller)).as_ptr());
        assert_eq!(packet.wire_for(None).as_ptr(), packet.wire().as_ptr());
        for agreed in [small, smaller, large] {
            let (text, data) = read(&mut client(agreed), packet.wire_for(Some(&agreed)));
            assert_eq!((&text[1..], data), (packet.text(), 2000));
        }
    }

    #[test]
    fn what_is_short_or_no_shorter_or_told_not_to_goes_as_it_is() {
        let agreed = agreed(&Options::default());
        let mut state = 1_u64;
        let random = std::iter::repeat_with(|| {
            // Marsaglia's xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        });
        let random: Vec<u8> = random.take(4000).collect();
        let noise = EncodedPacket::event("/", None, "e", &Binary::from(random)).expect("JSON");
        for packet in
            [packet(900, 0), packet(900, 900), noise, packet(2000, 0).without_compression()]
        {
            assert_eq!(packet.wire_for(Some(&agreed)).as_ptr(), packet.wire().as_ptr());
        }
        // Only what is long enough is compressed.
        let packet = packet(100, 2000);
        let form = packet.wire_for(Some(&agreed));
        assert!(
            form.len() < 300 && form.starts_with(&packet.wire()[..100]),
            "{} bytes",
            form.len()
        );
        assert_eq!(read(&mut client(agreed), form), (format!("4{}", packet.text()), 2000));
    }

    #[test]
    fn own_packets_and_shared_ones_alternate_on_a_connection_with_a_context() {
        for window in [9, 12, 15] {
            let options = Options {
                server_no_context_takeover: false,
                server_max_window_bits: bits(window),
                ..Options::default()
            };
            let agreed = agreed(&options);
            let mut compressor = Compressor::new(&agreed).expect("a context");
            let mut client = client(agreed);
            let (mut sent, mut plain) = (0, 0);
            for round in 0..200 {
                let packet = match round % 5 {
                    0 => packet(1500 + round, 0).for_many(),
                    1 => packet(10, 0).for_many(),
                    2 => packet(40, 2000).without_compression(),
                    3 => packet(round, 100),
                    _ => packet(300, 0),
                };
                let sealed = packet.seal(&mut compressor, &agreed);
                let frames = sealed.wire_for(Some(&agreed));
                let (text, _) = read(&mut client, frames);
                assert_eq!(&text[1..], packet.text(), "window {window}, round {round}");
                if round % 5 == 4 {
                    sent += frames.len();
                    plain += packet.wire().len();
                }
            }
            // What refers to the packet before costs next to nothing.
            assert!(window == 9 || sent < plain / 3, "{sent} of {plain}");
        }
    }

    #[test]
    fn a_packet_holds_what_it_says() {
        assert!(size_of::<super::super::Inner>() <= 72, "{}", size_of::<super::super::Inner>());
        let packet = packet(10, 10);
        let agreed = agreed(&Options::default());
        let before = packet.held_bytes();
        let _ = packet.wire_for(Some(&agreed));
        assert_eq!(packet.held_bytes(), before);
        assert_eq!(before, 16 + size_of::<super::super::Inner>() + packet.wire().len() + 16);
    }
}
