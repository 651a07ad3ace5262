//! The task of one connection. It alone reads; it owns the session and the sockets' handlers, and
//! with them the connection's life. Does not know HTTP or the sockets' namespaces.
//!
//! A turn has five steps: commands, reading, sockets, time, writing. Nothing in it waits.

mod reading;
mod writing;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sockeye_proto::SessionId;
use sockeye_proto::engine::{self, CloseReason, Message, Output, Packet, RateLimit, Session};
use sockeye_proto::engine::{Revision, payload, payload_v3};
use sockeye_proto::socket::{EncodedPacket, Multiplexer};
use tokio::sync::oneshot;
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

use super::peer::{Command, GetAnswer, Peer, PostAnswer};
use super::sockets::Sockets;
use super::transport::Transport;
use crate::admission::Place;
use crate::gather::Turn;
use crate::handshake::Handshake;
use crate::metrics;
use crate::outbox::{Encoding, Exit, Outbox, Payload};

/// What a connection begins with.
pub(crate) struct Opening {
    pub(crate) place: Place,
    pub(crate) id: SessionId,
    pub(crate) handshake: Arc<Handshake>,
    /// The WebSocket, or `None` for long-polling.
    pub(crate) transport: Option<Box<Transport>>,
    /// What the client takes.
    pub(crate) encoding: Encoding,
}

pub(crate) struct Connection {
    core: Core,
    place: Place,
    id: SessionId,
    /// As what the server counts it.
    counted: engine::Transport,
    stage: Stage,
    transport: Option<Box<Transport>>,
    probe: Option<Box<Transport>>,
    get: Option<oneshot::Sender<GetAnswer>>,
    post: Option<oneshot::Sender<PostAnswer>>,
    /// Its packets have been handled; its answer waits for the client to be read on.
    is_post_handled: bool,
    /// Where the rates of what comes are limited.
    rate: Option<Box<RateLimit>>,
    /// The first namespace must be joined by then.
    connect_deadline: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// What the timer is set to.
    armed: Instant,
}

/// What an incoming packet changes.
struct Core {
    peer: Arc<Peer>,
    session: Session,
    multiplexer: Multiplexer,
    sockets: Sockets,
    /// A namespace has been joined: what `connect_deadline` waits for.
    has_joined: bool,
}

enum Stage {
    Open,
    /// The session has ended: handlers finish, the WebSocket closes, both at the latest then.
    Ending {
        deadline: Instant,
    },
    Ended,
}

impl Connection {
    /// Registers the session and makes its task's future, which the caller spawns. `None` if
    /// another session has the id.
    pub(crate) fn open(opening: Opening) -> Option<(Arc<Peer>, Self)> {
        let Opening { mut place, id, handshake, mut transport, encoding } = opening;
        place.open();
        let server = place.server().clone();
        let config = server.config();
        let (exit, kind) = match &mut transport {
            Some(transport) => (transport.exit(), engine::Transport::WebSocket),
            None => (Exit::polling(encoding), engine::Transport::Polling),
        };
        let outbox = Outbox::new(exit, config.outbox_bytes_max, config.outbox_policy);
        let mut peer = Peer::new(outbox);
        if config.recovery.is_some() {
            peer = peer.with_heartbeat(tokio::time::Instant::now());
        }
        let peer = Arc::new(peer);
        let now = now();
        let open = engine::Open {
            sid: &id,
            upgrades: config.upgrades(kind),
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            max_payload: config.http_buffer_bytes_max,
        };
        peer.push(EncodedPacket::engine(&open.to_packet()), false);
        if let Some(text) = &config.initial_packet {
            let message = Message::Text(text.as_str().into());
            peer.push(EncodedPacket::engine(&Packet::Message(message)), false);
        }
        if !server.register(id, &peer, kind) {
            return None;
        }
        let revision = encoding.revision();
        let mut sockets = Sockets::new(server.clone(), peer.clone(), handshake, revision);
        let session = Session::new(kind, config.timing(), now).of_revision(revision, now);
        let mut multiplexer = Multiplexer::new(config.multiplexer_limits());
        if revision == Revision::V3 {
            // These clients are in `/` without asking.
            multiplexer.handle_joining("/");
            sockets.join_unasked(&id);
        }
        let connect_deadline = now + config.connect_timeout;
        let rates = config.rates;
        let rate = (!rates.are_unlimited()).then(|| Box::new(RateLimit::new(rates, now)));
        let connection = Self {
            core: Core { peer: peer.clone(), session, multiplexer, sockets, has_joined: false },
            id,
            counted: kind,
            stage: Stage::Open,
            transport,
            probe: None,
            get: None,
            post: None,
            is_post_handled: false,
            rate,
            connect_deadline: Some(connect_deadline),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: now,
            place,
        };
        Some((peer, connection))
    }

    fn run_commands(&mut self, now: Instant, cx: &mut Context<'_>) {
        for command in self.core.peer.take_commands() {
            match command {
                // What comes for a session that has just ended gets no answer of it, as after it.
                Command::Get(_) | Command::Post(_) | Command::WholePost { .. }
                    if !matches!(self.stage, Stage::Open) => {}
                Command::Get(answer) => self.handle_get(answer, now),
                Command::GetAborted => self.core.session.handle_get_aborted(),
                Command::GetLost => self.core.session.handle_get_lost(),
                Command::Release => self.release_get(now),
                Command::Post(answer) => {
                    self.handle_post(answer);
                }
                Command::WholePost { answer, body, is_binary } => {
                    if self.handle_post(answer) {
                        self.handle_post_body(&body, is_binary, now, cx);
                    }
                }
                Command::PostBody { body, is_binary } => {
                    self.handle_post_body(&body, is_binary, now, cx);
                }
                Command::PostAborted { gone } => {
                    self.post = None;
                    self.is_post_handled = false;
                    if gone {
                        self.core.session.handle_post_aborted();
                    } else {
                        self.core.session.handle_post_done();
                    }
                }
                Command::PostRefused => {
                    let error = CloseReason::TransportError;
                    self.core.session.handle_transport_closed(error, "invalid content");
                }
                Command::Upgrade(transport) => self.handle_upgrade(transport, now),
                Command::Disconnect { id, close } => {
                    let Core { session, multiplexer, sockets, .. } = &mut self.core;
                    sockets.disconnect(&id, multiplexer);
                    if close {
                        sockets.disconnect_all(multiplexer);
                        session.handle_close(false, now);
                    }
                }
                Command::Close(reason) => {
                    self.core.sockets.end_all(reason);
                    self.core.session.handle_close(false, now);
                }
            }
            self.run_outputs(now, cx);
        }
    }

    fn handle_get(&mut self, answer: oneshot::Sender<GetAnswer>, now: Instant) {
        if self.core.session.handle_get(now) {
            self.core.peer.outbox().set_get_waiting(true);
            self.get = Some(answer);
        } else {
            // The client may be gone already.
            let _ = answer.send(GetAnswer::Refused);
        }
    }

    /// Whether it has begun.
    fn handle_post(&mut self, answer: oneshot::Sender<PostAnswer>) -> bool {
        let has_begun = self.core.session.handle_post();
        if has_begun {
            self.post = Some(answer);
        } else {
            let _ = answer.send(PostAnswer::Refused);
        }
        has_begun
    }

    fn handle_post_body(
        &mut self,
        body: &Bytes,
        is_binary: bool,
        now: Instant,
        cx: &mut Context<'_>,
    ) {
        if self.post.is_none() {
            return;
        }
        let packets = match self.core.session.revision() {
            Revision::V4 => self.core.handle_payload(payload::decode(body), now, cx),
            Revision::V3 if is_binary => {
                self.core.handle_payload(payload_v3::decode_binary(body), now, cx)
            }
            Revision::V3 => self.core.handle_payload(payload_v3::decode(body), now, cx),
        };
        self.charge(packets, body.len(), now);
        self.is_post_handled = true;
        self.finish_post(now);
    }

    /// Answers a POST whose packets have been handled, unless the client is to wait before it
    /// sends more: another POST before that is an overlap.
    fn finish_post(&mut self, now: Instant) {
        if self.is_post_handled && !self.is_paused(now) {
            self.core.session.handle_post_done();
            self.answer_post(PostAnswer::Handled);
        }
    }

    fn charge(&mut self, packets: usize, bytes: usize, now: Instant) {
        metrics::received(packets, bytes);
        if let Some(rate) = &mut self.rate {
            rate.charge(packets, bytes, now);
        }
    }

    fn answer_post(&mut self, with: PostAnswer) {
        self.is_post_handled = false;
        if let Some(answer) = self.post.take() {
            let _ = answer.send(with);
        }
    }

    fn handle_upgrade(&mut self, mut transport: Box<Transport>, now: Instant) {
        if self.core.session.handle_upgrade_request(now) {
            self.probe = Some(transport);
        } else if let Some(frames) = transport.start_close(now) {
            // One attempt: a fresh socket takes a close frame, or it is gone.
            transport.unsent().extend_from_slice(&frames);
            let _ = transport.poll_write(&mut Context::from_waker(std::task::Waker::noop()));
        }
    }

    /// Too many events wait for handlers, or too much has come: nothing is read until they have
    /// gone on, or it is due.
    fn is_paused(&self, now: Instant) -> bool {
        self.core.sockets.is_full() || self.ready_at(now).is_some()
    }

    /// When more may come from a client that was too fast.
    fn ready_at(&self, now: Instant) -> Option<Instant> {
        self.rate.as_ref().and_then(|rate| rate.ready_at(now))
    }

    /// Does what the session asks for.
    fn run_outputs(&mut self, now: Instant, cx: &mut Context<'_>) {
        while let Some(output) = self.core.session.poll_output() {
            match output {
                Output::SendPing => {
                    self.core.peer.ping(tokio::time::Instant::now());
                    self.push(&Packet::Ping("".into()));
                }
                Output::SendPong => self.push(&Packet::Pong("".into())),
                Output::ReleasePoll => self.release_get(now),
                Output::ProbeReply => {
                    if let Some(probe) = &mut self.probe {
                        let reply = EncodedPacket::engine(&Packet::Pong("probe".into()));
                        probe.unsent().extend_from_slice(reply.wire());
                    }
                }
                Output::ProbeFailed => self.close_probe(now, cx),
                Output::Upgraded => {
                    if let Some(answer) = self.get.take() {
                        // A client that has gone needs no answer.
                        let noop = Payload::noop(self.core.session.revision());
                        let _ = answer.send(GetAnswer::Payload(noop));
                        self.core.session.handle_get_answered(now);
                    }
                    self.place.server().register_upgrade();
                    self.counted = engine::Transport::WebSocket;
                    self.transport = self.probe.take();
                    if let Some(transport) = &mut self.transport {
                        self.core.peer.outbox().relink(transport.exit());
                    }
                    self.core.sockets.report_upgrade();
                }
                Output::Closed => {
                    self.begin_end(now);
                    // The sockets may have had their part of this turn.
                    cx.waker().wake_by_ref();
                }
            }
        }
    }

    fn push(&self, packet: &Packet<'_>) {
        self.core.peer.push(EncodedPacket::engine(packet), false);
    }

    /// Answers a waiting GET with a noop, or with what waits.
    fn release_get(&mut self, now: Instant) {
        if self.get.is_some() {
            if self.core.peer.outbox().is_empty() {
                self.push(&Packet::Noop);
            }
            self.answer_get(now);
        }
    }

    fn answer_get(&mut self, now: Instant) {
        if self.get.is_none() {
            return;
        }
        if let Some(payload) = self.core.peer.outbox().take_payload()
            && let Some(answer) = self.get.take()
        {
            self.core.peer.outbox().set_get_waiting(false);
            // Of a client that has gone the abort is on its way, and finds the GET open.
            if answer.send(GetAnswer::Payload(payload)).is_ok() {
                self.core.session.handle_get_answered(now);
            }
            self.core.peer.notify_drained();
        }
    }

    /// The probing WebSocket is closed as far as that goes at once; the session lives on.
    fn close_probe(&mut self, now: Instant, cx: &mut Context<'_>) {
        if let Some(mut probe) = self.probe.take()
            && let Some(frames) = probe.start_close(now)
        {
            probe.unsent().extend_from_slice(&frames);
            let _ = probe.poll_write(cx);
        }
    }

    /// The session has ended: sockets end, requests are answered, the WebSocket begins to close.
    fn begin_end(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Open) {
            return;
        }
        let ended = (CloseReason::ForcedClose, "closed by the server");
        let (reason, description) = self.core.session.closed().unwrap_or(ended);
        self.core.peer.describe(description);
        self.stage = Stage::Ending { deadline: now + self.place.server().config().close_timeout };
        self.place.server().unregister(&self.id, self.counted, reason);
        self.core.sockets.end_all(reason.into());
        self.probe = None;
        self.answer_post(PostAnswer::Refused);
        let peer = self.core.peer.clone();
        let outbox = peer.outbox();
        if let Some(transport) = &mut self.transport {
            let frames = transport.start_close(now).map(EncodedPacket::frames);
            outbox.end(frames, reason == CloseReason::PingTimeout);
        } else {
            // The client that said close itself is told nothing more than that its GET is over.
            let by_client = reason == CloseReason::TransportClose;
            let last = if by_client { Packet::Noop } else { Packet::Close };
            outbox.end(Some(EncodedPacket::engine(&last)), false);
            self.answer_get(now);
            outbox.close();
        }
    }

    fn lose_transport(&mut self) {
        self.transport = None;
        self.core.peer.outbox().close();
        self.core.peer.notify_drained();
    }

    fn poll_time(&mut self, now: Instant, cx: &mut Context<'_>) {
        while let Some(deadline) = self.next_deadline(now) {
            if deadline <= now {
                self.handle_timeout(now, cx);
                continue;
            }
            if deadline != self.armed {
                self.armed = deadline;
                self.timer.as_mut().reset(deadline.into());
            } else if !self.timer.is_elapsed() {
                // It knows whom to wake: a task has one waker.
                return;
            }
            // A turn that has used its budget up would leave the timer without anybody to wake.
            if pin!(unconstrained(&mut self.timer)).poll(cx).is_pending() {
                return;
            }
            // The timer's clock has passed the deadline since this turn began.
            self.armed = now;
            cx.waker().wake_by_ref();
            return;
        }
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let machine = self.transport.as_ref().and_then(|t| t.machine.poll_timeout());
        let stage = match self.stage {
            Stage::Ending { deadline } => Some(deadline),
            _ => None,
        };
        let session = self.core.session.poll_timeout();
        let ready = self.ready_at(now);
        [session, machine, stage, self.connect_deadline, ready].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant, cx: &mut Context<'_>) {
        if self.connect_deadline.is_some_and(|deadline| deadline <= now) {
            self.connect_deadline = None;
            self.core.peer.describe("no namespace was joined in time");
            self.core.session.handle_close(true, now);
        }
        if self.core.session.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.core.session.handle_timeout(now);
        }
        if let Some(transport) = &mut self.transport
            && transport.machine.handle_timeout(now).is_some()
        {
            self.core.handle_transport_lost();
            self.lose_transport();
        }
        if matches!(self.stage, Stage::Ending { deadline } if deadline <= now) {
            self.lose_transport();
            self.core.sockets.abandon_all();
            self.stage = Stage::Ended;
        }
        self.run_outputs(now, cx);
    }

    /// Whether everything that this connection held is gone.
    fn poll_ended(&mut self) -> bool {
        if let Stage::Ending { .. } = self.stage {
            let outbox = self.core.peer.outbox();
            let closed = match &self.transport {
                Some(transport) => transport.machine.is_closed() && outbox.is_empty(),
                None => true,
            };
            if closed {
                self.lose_transport();
            }
            if closed && self.core.sockets.is_empty() {
                self.stage = Stage::Ended;
            }
        }
        matches!(self.stage, Stage::Ended)
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        let peer = me.core.peer.clone();
        peer.waker().register(cx.waker());
        let _turn = Turn::begin(&peer);
        // Its beginning alone: who knows a session's id can act as the client.
        let _span = tracing::debug_span!("connection", session = ?me.id).entered();
        let now = now();
        me.run_commands(now, cx);
        me.read(now, cx);
        me.run_outputs(now, cx);
        let Core { sockets, multiplexer, .. } = &mut me.core;
        me.core.has_joined |= sockets.poll(multiplexer, cx);
        if me.core.has_joined {
            me.connect_deadline = None;
        }
        me.finish_post(now);
        me.finish_close(now, cx);
        me.poll_time(now, cx);
        me.write(now, cx);
        if me.core.session.is_paused() && !me.is_paused(now) {
            // Nobody waits for the stream: what held the reading up has gone in this turn.
            cx.waker().wake_by_ref();
        }
        if me.poll_ended() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Connection {
    /// A close that was asked for is carried out: over WebSocket at once, as the close frame
    /// leaves behind what waits; over long-polling with a GET of its own, as the official client
    /// handles a close packet before the messages of the same payload.
    fn finish_close(&mut self, now: Instant, cx: &mut Context<'_>) {
        if !self.core.session.is_closing() {
            return;
        }
        if self.transport.is_none() {
            self.answer_get(now);
        }
        if self.transport.is_some() || self.get.is_some() {
            self.core.session.handle_flushed(now);
            self.run_outputs(now, cx);
        }
    }
}

impl Drop for Connection {
    /// Also when the runtime ends under it.
    fn drop(&mut self) {
        self.place.server().unregister(&self.id, self.counted, CloseReason::ForcedClose);
        self.core.sockets.abandon_all();
        self.core.peer.outbox().close();
        self.core.peer.notify_drained();
        drop(self.core.peer.waker().take());
        self.core.peer.close_mailbox();
    }
}

/// The runtime's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
