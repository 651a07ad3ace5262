//! Properties of Socket.IO packets: whatever way a packet takes it arrives as it was sent, and
//! whatever else arrives breaks nothing but itself.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_proto::engine::payload::SEPARATOR;
use sockeye_proto::socket::{EncodedPacket, Incoming, Violation};

use crate::reader::*;
use crate::values::{Sent, sent};

/// A packet's messages as they are.
fn messages(packet: &EncodedPacket) -> Vec<Message> {
    let attachments = packet.attachments().map(|data| Message::Binary(data.to_vec()));
    std::iter::once(Message::Text(packet.text().to_owned())).chain(attachments).collect()
}

fn joined_for(packets: &[Sent]) -> sockeye_proto::socket::Multiplexer {
    joined(packets.iter().map(Sent::namespace))
}

/// A message that is one of the packets' with a part of it replaced, or something else altogether.
fn broken() -> impl Strategy<Value = Message> {
    let noise = prop_oneof![".{0,8}", "[0-6/,\\[\\]{}\":0-9-]{0,8}"];
    let mutated = (sent(), any::<[Index; 2]>(), noise.clone()).prop_map(|(sent, ends, noise)| {
        let text: Vec<_> = sent.encode().text().chars().collect();
        let mut ends = ends.map(|end| end.index(text.len() + 1));
        ends.sort_unstable();
        let (before, behind) = (&text[..ends[0]], &text[ends[1]..]);
        before.iter().copied().chain(noise.chars()).chain(behind.iter().copied()).collect()
    });
    prop_oneof![
        4 => mutated.prop_map(Message::Text),
        2 => noise.prop_map(Message::Text),
        2 => sent().prop_map(|sent| messages(&sent.encode()).swap_remove(0)),
        2 => vec(any::<u8>(), 0..8).prop_map(Message::Binary),
    ]
}

proptest! {
    #[test]
    fn packets_arrive_over_websocket(
        packets in vec(sent(), 1..5),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let mut wire = Vec::new();
        for packet in &packets {
            wire.extend_from_slice(packet.encode().wire());
        }
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        ends.push(wire.len());
        ends.sort_unstable();
        let mut start = 0;
        let chunks = ends.into_iter().map(|end| &wire[std::mem::replace(&mut start, end)..end]);

        let arrived = self::packets(&mut joined_for(&packets), &from_frames(chunks));
        prop_assert_eq!(arrived, packets);
    }

    #[test]
    fn packets_arrive_over_long_polling(
        packets in vec(sent(), 1..5),
        cut in any::<Index>(),
    ) {
        let mut body = Vec::new();
        for packet in packets.iter().map(Sent::encode) {
            if !body.is_empty() {
                body.push(SEPARATOR);
            }
            let start = body.len();
            packet.write_payload(&mut body);
            prop_assert_eq!(body.len() - start, packet.payload_len());
        }
        // Two payloads: a packet's attachments may come with a later one than its text.
        let separators: Vec<_> = (0..body.len()).filter(|&at| body[at] == SEPARATOR).collect();
        let arrived = if separators.is_empty() {
            from_payload(&body)
        } else {
            let cut = *cut.get(&separators);
            [from_payload(&body[..cut]), from_payload(&body[cut + 1..])].concat()
        };
        let arrived = self::packets(&mut joined_for(&packets), &arrived);
        prop_assert_eq!(arrived, packets);
    }

    #[test]
    fn arguments_are_passed_on_as_they_came(packet in sent()) {
        let mut multiplexer = joined_for(std::slice::from_ref(&packet));
        let mut last = None;
        for message in messages(&packet.encode()) {
            let incoming = match message {
                Message::Text(text) => multiplexer.handle_text(text.leak()),
                Message::Binary(data) => multiplexer.handle_binary(data.into()),
            };
            last = match incoming.expect("a legal packet") {
                Some(Incoming::Event { namespace, id, event }) => {
                    let args = event.args.to_owned_args();
                    let raw = EncodedPacket::event_raw(
                        namespace, id, &event.name, args.raw(), args.attachments(),
                    );
                    let emitted = EncodedPacket::event(namespace, id, &event.name, &args);
                    prop_assert!(emitted.expect("JSON").wire() == raw.wire());
                    Some(raw)
                }
                Some(Incoming::Ack { namespace, id, args }) => {
                    Some(EncodedPacket::ack_raw(namespace, id, args.raw(), args.attachments()))
                }
                Some(other) => panic!("neither event nor acknowledgement: {other:?}"),
                None => None,
            };
        }
        let last = last.expect("the packet became whole");
        prop_assert_eq!(messages(&last), messages(&packet.encode()));
    }

    #[test]
    fn a_violation_leaves_nothing_of_the_packet_behind(
        noise in vec(broken(), 1..8),
        good in sent(),
    ) {
        let mut multiplexer = joined(["/", "/admin"]);
        for message in &noise {
            if handle(&mut multiplexer, message).is_err() {
                let stray = handle(&mut multiplexer, &Message::Binary(Vec::new()));
                prop_assert_eq!(stray, Err(Violation::StrayBinary));
                join(&mut multiplexer, good.namespace());
                let arrived = packets(&mut multiplexer, &messages(&good.encode()));
                prop_assert_eq!(arrived, vec![good.clone()]);
            }
        }
    }

    #[test]
    fn a_disconnect_amid_a_packet_leaves_nothing_of_it_behind(
        packet in sent(),
        good in sent(),
        place in any::<Index>(),
    ) {
        let mut multiplexer = joined([packet.namespace()]);
        let whole = messages(&packet.encode());
        let (before, behind) = whole.split_at(place.index(whole.len()));
        prop_assert_eq!(packets(&mut multiplexer, before), vec![]);
        multiplexer.handle_disconnect(packet.namespace());
        // The client has not heard of it yet: the rest is passed over.
        prop_assert_eq!(packets(&mut multiplexer, behind), vec![]);
        let stray = handle(&mut multiplexer, &Message::Binary(Vec::new()));
        prop_assert_eq!(stray, Err(Violation::StrayBinary));

        join(&mut multiplexer, good.namespace());
        let arrived = packets(&mut multiplexer, &messages(&good.encode()));
        prop_assert_eq!(arrived, vec![good]);
    }
}
