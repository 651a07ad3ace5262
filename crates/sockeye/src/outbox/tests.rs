//! What an outbox holds, drops, replaces and hands out.
//! Does not know sockets: packets wait as for long-polling.

use super::*;

fn packet(size: usize) -> EncodedPacket {
    EncodedPacket::event_raw("/", None, "e", &format!("\"{}\"", "x".repeat(size)), &[])
}

fn polling(bytes_max: usize, policy: OutboxPolicy) -> Outbox {
    Outbox::new(Exit::polling(Encoding::Plain), bytes_max, policy)
}

#[test]
fn an_idle_outbox_is_small() {
    assert!(size_of::<Outbox>() <= 96, "{} bytes", size_of::<Outbox>());
}

#[test]
fn volatile_goes_only_when_a_get_waits_and_nothing_is_before_it() {
    let outbox = polling(1000, OutboxPolicy::Disconnect);
    assert_eq!(outbox.push(packet(1), true, false), Pushed::Dropped);
    outbox.set_get_waiting(true);
    assert_eq!(outbox.push(packet(1), true, false), Pushed::WakeTask);
    assert_eq!(outbox.push(packet(1), true, false), Pushed::Dropped, "two in a row");
    assert_eq!(outbox.push(packet(1), false, false), Pushed::Queued);
}

#[test]
fn a_full_outbox_follows_its_policy() {
    let refuse = polling(450, OutboxPolicy::Refuse);
    assert_eq!(refuse.push(packet(200), false, false), Pushed::Queued);
    assert_eq!(refuse.push(packet(100), false, false), Pushed::Full);

    let disconnect = polling(450, OutboxPolicy::Disconnect);
    disconnect.push(packet(200), false, false);
    assert_eq!(disconnect.push(packet(100), false, false), Pushed::Overflowed);
    assert_eq!(disconnect.flush(), Flushed::Overflowed);

    let drop_oldest = polling(450, OutboxPolicy::DropOldest);
    drop_oldest.push(packet(200), false, false);
    assert_eq!(drop_oldest.push(packet(100), false, false), Pushed::Queued);
    let body = body(&drop_oldest);
    assert!(body.len() < 150, "only the newer packet is left: {} bytes", body.len());
}

fn key(text: &str) -> Key {
    Key { namespace: "/".into(), key: text.into() }
}

fn numbered(number: u32) -> EncodedPacket {
    EncodedPacket::event_raw("/", None, "e", &number.to_string(), &[])
}

fn body(outbox: &Outbox) -> String {
    let body = outbox.take_payload().map_or_else(Vec::new, |payload| payload.body);
    String::from_utf8(body).expect("text").replace('\x1e', " ")
}

#[test]
fn the_latest_of_a_key_takes_the_place_of_the_one_that_waits() {
    let outbox = polling(1000, OutboxPolicy::Disconnect);
    outbox.push_latest(numbered(1), &key("a"), false);
    outbox.push(numbered(2), false, false);
    outbox.push_latest(numbered(3), &key("b"), false);
    let bytes = outbox.bytes();
    assert_eq!(outbox.push_latest(numbered(4), &key("a"), false), Pushed::Queued);
    assert_eq!(outbox.push_latest(numbered(555), &key("b"), false), Pushed::Queued);
    assert_eq!(outbox.bytes(), bytes + 2);
    assert_eq!(body(&outbox), r#"42["e",4] 42["e",2] 42["e",555]"#);
    // What has left is not replaced.
    outbox.push_latest(numbered(6), &key("a"), false);
    assert_eq!(body(&outbox), r#"42["e",6]"#);
    assert_eq!(outbox.bytes(), 0);
}

#[test]
fn the_latest_is_bounded_as_any_other() {
    let outbox = polling(450, OutboxPolicy::Refuse);
    outbox.push_latest(packet(20), &key("a"), false);
    outbox.push(packet(100), false, false);
    assert_eq!(outbox.push_latest(packet(150), &key("a"), false), Pushed::Full);
    assert_eq!(outbox.push_latest(packet(90), &key("a"), false), Pushed::Queued);

    let outbox = polling(600, OutboxPolicy::DropOldest);
    outbox.push(packet(100), false, false);
    outbox.push_latest(numbered(1), &key("a"), false);
    outbox.push_latest(packet(100), &key("b"), false);
    // The first goes, and with it the places of the others.
    outbox.push(packet(100), false, false);
    outbox.push_latest(numbered(2), &key("a"), false);
    outbox.push_latest(numbered(3), &key("b"), false);
    let all = body(&outbox);
    assert!(all.starts_with(r#"42["e",2] 42["e",3] 42["e","x"#), "{all}");

    // One that grows makes room for itself, and does not come twice.
    outbox.push(packet(100), false, false);
    outbox.push_latest(packet(20), &key("a"), false);
    outbox.push(packet(50), false, false);
    outbox.push_latest(packet(120), &key("a"), false);
    let lens: Vec<usize> = body(&outbox).split(' ').map(str::len).collect();
    assert_eq!(lens, [130, 60]);
}

#[test]
fn a_changed_way_out_keeps_places() {
    let outbox = polling(1000, OutboxPolicy::Disconnect);
    outbox.push_latest(numbered(1), &key("a"), false);
    outbox.relink(Exit { link: Link::Task, encoding: Encoding::Plain, owed: b"owed".to_vec() });
    assert_eq!(outbox.push_latest(numbered(2), &key("a"), false), Pushed::Queued);
    let mut wire = Vec::new();
    outbox.take_wire(&mut wire);
    assert!(wire.starts_with(b"owed") && wire.ends_with(br#"42["e",2]"#), "{wire:?}");
    // It is in the task's hands now.
    outbox.push_latest(numbered(3), &key("a"), false);
    wire.clear();
    outbox.take_wire(&mut wire);
    assert!(wire.ends_with(br#"42["e",3]"#), "{wire:?}");
}

#[test]
fn one_packet_fits_however_large() {
    let outbox = polling(10, OutboxPolicy::Disconnect);
    assert_eq!(outbox.push(packet(5000), false, false), Pushed::Queued);
}

#[test]
fn a_closed_outbox_holds_nothing() {
    let outbox = polling(1000, OutboxPolicy::Disconnect);
    outbox.push(packet(10), false, false);
    outbox.close();
    assert_eq!(outbox.bytes(), 0);
    assert_eq!(outbox.push(packet(1), false, false), Pushed::Closed);
}

#[test]
fn a_payload_joins_packets_with_the_separator() {
    let outbox = polling(1000, OutboxPolicy::Disconnect);
    outbox.push(EncodedPacket::event_raw("/", None, "a", "1", &[]), false, false);
    outbox.push(EncodedPacket::event_raw("/", None, "b", "", &[]), false, false);
    assert_eq!(outbox.take_payload().expect("two packets").body, b"42[\"a\",1]\x1e42[\"b\"]");
    assert_eq!(outbox.take_payload(), None);
}

#[test]
fn what_counts_is_what_is_held_and_not_what_is_sent() {
    let outbox = polling(10_000, OutboxPolicy::Refuse);
    let ack = || EncodedPacket::ack_raw("/", 1, "", &[]);
    assert_eq!(ack().wire().len(), 7);
    let count = (0..10_000).take_while(|_| outbox.push(ack(), false, false) == Pushed::Queued);
    let count = count.count();
    assert_eq!(count, 10_000 / (ack().held_bytes() + 16));
    assert_eq!(outbox.bytes(), count * (ack().held_bytes() + 16));
}

#[test]
fn a_payload_is_left_as_it_is_if_all_in_it_shall_be() {
    let outbox = polling(1000, OutboxPolicy::Disconnect);
    outbox.push(numbered(1).without_compression(), false, false);
    outbox.push(numbered(2).without_compression(), false, false);
    assert!(!outbox.take_payload().expect("two packets").may_be_compressed);
    outbox.push(numbered(1), false, false);
    outbox.push(numbered(2).without_compression(), false, false);
    assert!(outbox.take_payload().expect("two packets").may_be_compressed);
}
