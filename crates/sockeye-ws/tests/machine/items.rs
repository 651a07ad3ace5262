//! What properties are about: messages, what was agreed, and the frames another implementation
//! makes of them. Asserts nothing.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_ws::deflate::Options;
use sockeye_ws::{Event, MessageRef, Role};

use crate::foreign::ForeignSender;
use crate::support::*;

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) text: bool,
    pub(crate) payload: Vec<u8>,
    pub(crate) compressed: bool,
    pub(crate) cuts: Vec<Index>,
}

impl Item {
    pub(crate) fn event(&self) -> Event<'static> {
        match self.text {
            true => Event::Text(String::from_utf8(self.payload.clone()).unwrap().into()),
            false => Event::Binary(self.payload.clone().into()),
        }
    }

    pub(crate) fn message(&self) -> MessageRef<'_> {
        match self.text {
            true => MessageRef::Text(str::from_utf8(&self.payload).unwrap()),
            false => MessageRef::Binary(&self.payload),
        }
    }
}

/// Messages that repeat themselves, and some that do not.
pub(crate) fn item() -> impl Strategy<Value = Item> {
    let payload = prop_oneof![
        ("[a-cä€🐟]{0,12}", 0..60_usize).prop_map(|(text, count)| (true, text.repeat(count))),
        ("\\PC{0,200}", Just(1)).prop_map(|(text, count)| (true, text.repeat(count))),
    ]
    .prop_map(|(text, payload)| (text, payload.into_bytes()));
    let binary = (vec(any::<u8>(), 0..300), 0..3_usize)
        .prop_map(|(bytes, count)| (false, bytes.repeat(count)));
    let cuts = vec(any::<Index>(), 0..4);
    (prop_oneof![payload, binary], any::<bool>(), cuts)
        .prop_map(|((text, payload), compressed, cuts)| Item { text, payload, compressed, cuts })
}

pub(crate) fn options() -> impl Strategy<Value = Options> {
    (any::<(bool, bool)>(), 8..=15_u8, 8..=15_u8, 1..=9_u8, 1..=9_u8, 0..4_usize).prop_map(
        |((server_no, client_no), server_bits, client_bits, level, mem_level, threshold)| Options {
            server_no_context_takeover: server_no,
            client_no_context_takeover: client_no,
            server_max_window_bits: bits(server_bits),
            client_max_window_bits: bits(client_bits),
            level,
            mem_level,
            threshold_bytes: [0, 10, 100, 1024][threshold],
        },
    )
}

pub(crate) fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

/// The frames of the items as another implementation compresses them, and their events. Behind each
/// fragment but the last stands a ping.
pub(crate) fn frames(
    role: Role,
    items: &[Item],
    sender: &mut ForeignSender,
) -> (Vec<u8>, Vec<Event<'static>>) {
    let mut bytes = Vec::new();
    let mut events = Vec::new();
    for item in items {
        let (rsv, payload) = match item.compressed {
            true => (RSV1, sender.compress(&item.payload)),
            false => (0, item.payload.clone()),
        };
        let first = rsv | if item.text { TEXT } else { BINARY };
        let parts = split(&payload, &item.cuts);
        push_fragments(role, first, &parts, &mut bytes, &mut events);
        events.push(item.event());
    }
    (bytes, events)
}
