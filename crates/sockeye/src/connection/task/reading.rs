//! The reading side of a connection's task: bytes to frames to packets to sockets.
//! Does not write, but for what the WebSocket machine owes its peer.

use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Instant;

use sockeye_proto::engine::payload::PayloadError;
use sockeye_proto::engine::{self, CloseReason, Message, Packet, PacketError, Revision};
use sockeye_proto::socket::{EncodedPacket, Incoming, connect_of_v3};
use sockeye_ws::Event;
use sockeye_ws::connection::{READ_BYTES_MAX, READ_START};

use super::{Connection, Core};

/// A peer that never stops sending gives way to others after so many reads, or after as many bytes
/// as they can bring.
const READS_PER_TURN_MAX: usize = 16;

thread_local! {
    /// Shared by all connections of a thread: an idle connection has no read buffer.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(Box::default());
}

impl Connection {
    pub(super) fn read(&mut self, now: Instant, cx: &mut Context<'_>) {
        let mut buffer = READ_BUFFER.take();
        if buffer.is_empty() {
            buffer = vec![0; READ_START + READ_BYTES_MAX].into_boxed_slice();
        }
        self.read_probe(&mut buffer[READ_START..], now, cx);
        self.read_transport(&mut buffer[READ_START..], now, cx);
        READ_BUFFER.replace(buffer);
    }

    fn read_transport(&mut self, buffer: &mut [u8], now: Instant, cx: &mut Context<'_>) {
        let mut left = READS_PER_TURN_MAX * READ_BYTES_MAX;
        while left > 0 {
            let paused = self.is_paused(now);
            self.core.session.set_paused(paused, now);
            let Some(transport) = &mut self.transport else { return };
            if paused {
                return;
            }
            let filled = transport.poll_fill(cx);
            let is_filled = filled.is_some();
            let count = match filled.unwrap_or_else(|| transport.poll_read(cx, buffer)) {
                Poll::Pending => return,
                Poll::Ready(Ok(count)) if count > 0 => count,
                Poll::Ready(_) => {
                    transport.machine.handle_eof();
                    self.core.handle_transport_lost();
                    self.lose_transport();
                    return;
                }
            };
            left = left.saturating_sub(count.max(READ_BYTES_MAX));
            let (packets, bytes) = if is_filled {
                let event = transport.machine.handle_filled(now);
                let packets = event.is_some().into();
                if let Some(event) = event {
                    self.core.handle_event(event, now, cx);
                }
                (packets, count)
            } else {
                self.handle_input(&mut buffer[..count], now, cx)
            };
            self.charge(packets, bytes.max(count), now);
            self.answer_transport();
        }
        cx.waker().wake_by_ref();
    }

    /// Handles what a read brought: how many events, and how many bytes they were inflated to.
    fn handle_input(
        &mut self,
        input: &mut [u8],
        now: Instant,
        cx: &mut Context<'_>,
    ) -> (usize, usize) {
        let Some(transport) = &mut self.transport else { return (0, 0) };
        let inflates = transport.inflates();
        let (mut packets, mut bytes) = (0, 0);
        let mut events = transport.machine.handle_input(input, now);
        for event in events.by_ref() {
            packets += 1;
            // Of a message that is not compressed each read has been counted as it came.
            bytes += if inflates { payload_len(&event) } else { 0 };
            self.core.handle_event(event, now, cx);
            // A read holds few events unless they are compressed.
            if inflates && self.core.sockets.is_full() {
                break;
            }
        }
        let rest = events.into_rest();
        if !rest.is_empty() {
            transport.put_back(rest);
        }
        (packets, bytes)
    }

    /// Sends the pongs and the close frame that the WebSocket machine owes. While the socket takes
    /// nothing they stay in the machine, which bounds them.
    pub(super) fn answer_transport(&mut self) {
        let Some(transport) = &mut self.transport else { return };
        let outbox = self.core.peer.outbox();
        if (transport.machine.is_closed() || !outbox.is_blocked())
            && let Some(frames) = transport.machine.poll_transmit()
        {
            self.core.peer.push(EncodedPacket::frames(frames), false);
        }
    }

    fn read_probe(&mut self, buffer: &mut [u8], now: Instant, cx: &mut Context<'_>) {
        for _ in 0..READS_PER_TURN_MAX {
            let Some(probe) = &mut self.probe else { return };
            let count = match probe.poll_read(cx, buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(count)) if count > 0 => count,
                Poll::Ready(_) => {
                    self.core.session.handle_probe_closed();
                    self.run_outputs(now, cx);
                    self.probe = None;
                    return;
                }
            };
            let mut packets = 0;
            let mut events = probe.machine.handle_input(&mut buffer[..count], now);
            for event in events.by_ref() {
                packets += 1;
                self.core.handle_probe_event(event, now);
                if self.core.session.transport() == engine::Transport::WebSocket {
                    break;
                }
            }
            // Behind the `5` the packets are the session's: read as all of them are.
            let rest = events.into_rest();
            let bytes = count - rest.len();
            if !rest.is_empty() {
                probe.put_back(rest);
            }
            self.charge(packets, bytes, now);
            self.run_outputs(now, cx);
        }
        cx.waker().wake_by_ref();
    }
}

/// How long a message is.
fn payload_len(event: &Event<'_>) -> usize {
    match event {
        Event::Text(text) => text.len(),
        Event::Binary(data) => data.len(),
        Event::Ping(_) | Event::Pong(_) | Event::Closed(_) => 0,
    }
}

impl Core {
    fn handle_event(&mut self, event: Event<'_>, now: Instant, cx: &mut Context<'_>) {
        match event {
            Event::Text(text) => self.handle_read(self.session.read_text(&text), now, cx),
            Event::Binary(data) => self.handle_read(self.session.read_binary(data), now, cx),
            Event::Ping(_) | Event::Pong(_) => {}
            Event::Closed(closed) => match closed.error {
                Some(error) => {
                    self.peer.describe(error.to_string());
                    let error = CloseReason::TransportError;
                    self.session.handle_transport_closed(error, "a WebSocket rule was broken");
                }
                None => self.handle_transport_lost(),
            },
        }
    }

    fn handle_probe_event(&mut self, event: Event<'_>, now: Instant) {
        match event {
            Event::Text(text) => self.handle_probe_read(self.session.read_text(&text), now),
            Event::Binary(data) => self.handle_probe_read(self.session.read_binary(data), now),
            Event::Ping(_) | Event::Pong(_) => {}
            Event::Closed(_) => self.session.handle_probe_closed(),
        }
    }

    fn handle_probe_read(&mut self, read: Result<Packet<'_>, PacketError>, now: Instant) {
        match read {
            Ok(packet) => self.session.handle_probe_packet(packet, now),
            Err(_) => self.session.handle_probe_closed(),
        }
    }

    fn handle_read(
        &mut self,
        read: Result<Packet<'_>, PacketError>,
        now: Instant,
        cx: &mut Context<'_>,
    ) {
        match read {
            Ok(packet) => self.handle_packet(packet, now, cx),
            Err(_) => self.session.handle_malformed(now),
        }
    }

    /// Handles the packets of a POST; how many they were.
    pub(super) fn handle_payload<'a>(
        &mut self,
        packets: impl Iterator<Item = Result<Packet<'a>, PayloadError>>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> usize {
        let mut count = 0;
        for packet in packets {
            count += 1;
            match packet {
                Ok(packet) => self.handle_packet(packet, now, cx),
                // The packets before it have been handled, and the POST is answered.
                Err(_) => self.session.handle_malformed(now),
            }
        }
        count
    }

    pub(super) fn handle_packet(&mut self, packet: Packet<'_>, now: Instant, cx: &mut Context<'_>) {
        if let Packet::Pong(_) = packet {
            self.peer.pong();
        }
        let Some(message) = self.session.handle_packet(packet, now) else { return };
        let mut joins = false;
        let is_v3 = self.session.revision() == Revision::V3;
        let connect = match &message {
            Message::Text(text) if is_v3 => connect_of_v3(text),
            _ => None,
        };
        let mut message = connect.map_or(message, |connect| Message::Text(connect.into()));
        match self.sockets.parser().handle(&mut self.multiplexer, &mut message) {
            Ok(Some(incoming)) => {
                joins = matches!(incoming, Incoming::Connect { .. });
                self.sockets.handle(incoming, cx);
            }
            Ok(None) => {}
            Err(violation) => {
                tracing::debug!(%violation, "the client broke the protocol");
                self.peer.describe(violation.to_string());
                self.session.handle_close(true, now);
            }
        }
        self.multiplexer.handle_packet_done();
        // A client that need not wait for a middleware may have sent events right behind.
        if joins && self.sockets.poll(&mut self.multiplexer, cx) {
            self.has_joined = true;
        }
    }

    pub(super) fn handle_transport_lost(&mut self) {
        self.session.handle_transport_closed(CloseReason::TransportClose, "the stream ended");
    }
}
