//! An Engine.IO session: heartbeat, upgrade, and its end, over whichever transport.
//! Does not know bytes, sockets or what waits to be sent; the driver does what
//! [`Session::poll_output`] says.
//!
//! ```text
//!   ┌────────┐ handle_close(false) ┌─────────┐ handle_flushed, close_timeout
//!   │  Open  ├────────────────────►│ Closing ├──────────────┐
//!   └───┬────┘                     └────┬────┘              ▼
//!       │ transport lost, ping timeout, │              ┌────────┐
//!       └─ broken rule, `1`, discard ───┴─────────────►│ Closed │
//!                                                      └────────┘
//!   Upgrade, while Open:
//!   Idle ──request──► Opened ──`2probe`──► Probing ──`5`──► Done
//!    ▲                  │                    │
//!    └── another packet, close, upgrade_timeout
//! ```

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Transport;
use super::packet::{Message, Packet, PacketError};
use super::request::Revision;

/// While a WebSocket probes, a waiting GET is answered so often, so that the client can pause its
/// polling.
const RELEASE_INTERVAL: Duration = Duration::from_millis(100);

/// Why a session has ended, in the official strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// `transport error`
    TransportError,
    /// `transport close`
    TransportClose,
    /// `forced close`
    ForcedClose,
    /// `ping timeout`
    PingTimeout,
    /// `parse error`
    ParseError,
}

impl CloseReason {
    /// The official string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransportError => "transport error",
            Self::TransportClose => "transport close",
            Self::ForcedClose => "forced close",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
        }
    }
}

/// A session's times.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the opening, or a pong, to the next ping.
    pub ping_interval: Duration,
    /// From a ping to the pong.
    pub ping_timeout: Duration,
    /// From an upgrade's request to its `5`.
    pub upgrade_timeout: Duration,
    /// From the wish to close to a GET that takes the close packet.
    pub close_timeout: Duration,
}

/// What the driver must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a ping over the session's transport.
    SendPing,
    /// Revision 3: answer the client's ping over the session's transport.
    SendPong,
    /// Answer a waiting GET, with a noop if nothing waits to be sent.
    ReleasePoll,
    /// Send `3probe` over the probing WebSocket.
    ProbeReply,
    /// Close the probing WebSocket; the session goes on.
    ProbeFailed,
    /// The probing WebSocket is the session's transport now.
    Upgraded,
    /// The session has ended: the last output.
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    Closing { deadline: Instant },
    Closed { reason: CloseReason, detail: &'static str },
}

#[derive(Clone, Copy, Debug)]
enum Heartbeat {
    /// The next ping is due then.
    Ping { at: Instant },
    /// A pong (in revision 3 the client's ping) is due by then; `extended` once by another packet.
    Pong { by: Instant, extended: bool },
}

#[derive(Debug)]
enum Upgrade {
    Idle,
    Under(Box<Probe>),
    Done,
}

/// An upgrade that is under way; apart, since most of the time there is none.
#[derive(Clone, Copy, Debug)]
struct Probe {
    deadline: Instant,
    /// When a waiting GET is answered; `None` before the WebSocket has said `2probe`.
    release: Option<Instant>,
}

/// The machine; see the [module](self).
#[derive(Debug)]
pub struct Session {
    /// The same for all sessions of a server.
    timing: Arc<Timing>,
    state: State,
    heartbeat: Heartbeat,
    upgrade: Upgrade,
    transport: Transport,
    revision: Revision,
    has_get: bool,
    has_post: bool,
    is_paused: bool,
    /// An idle session owns no queue.
    #[expect(clippy::box_collection, reason = "it is rarely there, and then smaller by 24 bytes")]
    outputs: Option<Box<VecDeque<Output>>>,
}

impl Session {
    /// A session that has just been opened.
    pub fn new(transport: Transport, timing: impl Into<Arc<Timing>>, now: Instant) -> Self {
        let timing = timing.into();
        Self {
            state: State::Open,
            heartbeat: Heartbeat::Ping { at: now + timing.ping_interval },
            timing,
            upgrade: Upgrade::Idle,
            transport,
            revision: Revision::V4,
            has_get: false,
            has_post: false,
            is_paused: false,
            outputs: None,
        }
    }

    /// A session, just opened, with a client of another revision. In revision 3 it is the client
    /// that sends pings, and nothing else shows that it lives.
    #[must_use]
    pub fn of_revision(mut self, revision: Revision, now: Instant) -> Self {
        self.revision = revision;
        if revision == Revision::V3 {
            self.expect_ping(now);
        }
        self
    }

    /// Which revision the client speaks.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Reads a WebSocket message of text.
    ///
    /// # Errors
    /// It is no packet of the client's revision.
    #[inline]
    pub fn read_text<'a>(&self, text: &'a str) -> Result<Packet<'a>, PacketError> {
        match self.revision {
            Revision::V4 => Packet::from_text(text),
            Revision::V3 => Packet::from_text_v3(text),
        }
    }

    /// Reads a binary WebSocket message.
    ///
    /// # Errors
    /// As [`read_text`](Self::read_text).
    #[inline]
    pub fn read_binary<'a>(&self, data: Cow<'a, [u8]>) -> Result<Packet<'a>, PacketError> {
        match self.revision {
            Revision::V4 => Ok(Packet::from_binary(data)),
            Revision::V3 => Packet::from_binary_v3(data),
        }
    }

    /// What carries the session now.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether a close has been asked for and waits to be delivered.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// Why the session has ended, if it has.
    pub fn closed(&self) -> Option<(CloseReason, &'static str)> {
        match self.state {
            State::Closed { reason, detail } => Some((reason, detail)),
            _ => None,
        }
    }

    /// Whether a POST is open.
    pub fn is_posting(&self) -> bool {
        self.has_post
    }

    /// What the driver must do next.
    #[inline]
    pub fn poll_output(&mut self) -> Option<Output> {
        let outputs = self.outputs.as_mut()?;
        let output = outputs.pop_front();
        if outputs.is_empty() {
            self.outputs = None;
        }
        output
    }

    /// A packet came over the session's transport. Hands a message back.
    #[inline]
    pub fn handle_packet<'a>(&mut self, packet: Packet<'a>, now: Instant) -> Option<Message<'a>> {
        if !matches!(self.state, State::Open) {
            return None;
        }
        match packet {
            Packet::Message(message) => {
                self.extend(now);
                return Some(message);
            }
            Packet::Ping(_) if self.revision == Revision::V3 => {
                self.expect_ping(now);
                self.output(Output::SendPong);
            }
            Packet::Pong(_) if self.revision == Revision::V4 => {
                self.heartbeat = Heartbeat::Ping { at: now + self.timing.ping_interval };
            }
            Packet::Ping(_) | Packet::Pong(_) => {
                self.end(CloseReason::TransportError, "invalid heartbeat direction");
            }
            Packet::Close if self.transport == Transport::Polling => {
                self.end(CloseReason::TransportClose, "the client closed the session");
            }
            // A WebSocket is closed by its own close frame.
            Packet::Close | Packet::Open(_) | Packet::Upgrade | Packet::Noop => self.extend(now),
        }
        None
    }

    /// Something came that is no packet.
    pub fn handle_malformed(&mut self, _now: Instant) {
        self.end(CloseReason::ParseError, "a packet could not be read");
    }

    /// The session's transport is gone.
    pub fn handle_transport_closed(&mut self, reason: CloseReason, detail: &'static str) {
        self.end(reason, detail);
    }

    /// A GET came. False: another one is open, which ends the session.
    pub fn handle_get(&mut self, _now: Instant) -> bool {
        self.may_request() && {
            let overlap = std::mem::replace(&mut self.has_get, true);
            if overlap {
                self.end(CloseReason::TransportError, "overlap from client");
            }
            !overlap
        }
    }

    /// The GET has been answered.
    pub fn handle_get_answered(&mut self, _now: Instant) {
        self.has_get = false;
    }

    /// The client of an unanswered GET has gone.
    pub fn handle_get_aborted(&mut self) {
        if std::mem::take(&mut self.has_get) {
            self.handle_get_lost();
        }
    }

    /// The client of a GET that had been answered went before it got the answer.
    pub fn handle_get_lost(&mut self) {
        if self.transport == Transport::Polling {
            self.end(CloseReason::TransportError, "poll connection closed prematurely");
        }
    }

    /// A POST has begun. False: another one is open, which ends the session.
    pub fn handle_post(&mut self) -> bool {
        self.may_request() && {
            let overlap = std::mem::replace(&mut self.has_post, true);
            if overlap {
                self.end(CloseReason::TransportError, "data request overlap from client");
            }
            !overlap
        }
    }

    /// The POST's packets have been handled.
    pub fn handle_post_done(&mut self) {
        self.has_post = false;
    }

    /// The client of an unfinished POST has gone.
    pub fn handle_post_aborted(&mut self) {
        if std::mem::take(&mut self.has_post) && self.transport == Transport::Polling {
            self.end(CloseReason::TransportError, "data request connection closed prematurely");
        }
    }

    /// A WebSocket for this session is open. False: it is not wanted, and must be closed.
    pub fn handle_upgrade_request(&mut self, now: Instant) -> bool {
        let wanted = matches!((&self.state, &self.upgrade), (State::Open, Upgrade::Idle))
            && self.transport == Transport::Polling;
        if wanted {
            let deadline = now + self.timing.upgrade_timeout;
            self.upgrade = Upgrade::Under(Box::new(Probe { deadline, release: None }));
        }
        wanted
    }

    /// A packet came over the probing WebSocket.
    pub fn handle_probe_packet(&mut self, packet: Packet<'_>, now: Instant) {
        let is_closed = self.is_closed();
        let Upgrade::Under(probe) = &mut self.upgrade else { return };
        match (probe.release, packet) {
            (None, Packet::Ping(data)) if data == "probe" => {
                probe.release = Some(now + RELEASE_INTERVAL);
                self.output(Output::ProbeReply);
            }
            (Some(_), Packet::Upgrade) if !is_closed => {
                self.upgrade = Upgrade::Done;
                self.transport = Transport::WebSocket;
                // A pong may have been on its way over the old transport.
                if self.revision == Revision::V3 {
                    self.expect_ping(now);
                } else if let Heartbeat::Pong { .. } = self.heartbeat {
                    self.heartbeat = Heartbeat::Ping { at: now + self.timing.ping_interval };
                }
                self.output(Output::Upgraded);
            }
            _ => self.handle_probe_closed(),
        }
    }

    /// The probing WebSocket is gone, or said what it must not.
    pub fn handle_probe_closed(&mut self) {
        if matches!(self.upgrade, Upgrade::Under(_)) {
            self.upgrade = Upgrade::Idle;
            self.output(Output::ProbeFailed);
        }
    }

    /// The application ends the session. Unless it discards what waits, that is delivered first:
    /// until [`handle_flushed`](Self::handle_flushed) says so, for at most
    /// [`Timing::close_timeout`].
    pub fn handle_close(&mut self, discard: bool, now: Instant) {
        if discard {
            self.end(CloseReason::ForcedClose, "closed by the server");
        } else if matches!(self.state, State::Open) {
            self.state = State::Closing { deadline: now + self.timing.close_timeout };
        }
    }

    /// What waited for a closing session is delivered.
    pub fn handle_flushed(&mut self, _now: Instant) {
        if self.is_closing() {
            self.end(CloseReason::ForcedClose, "closed by the server");
        }
    }

    /// While the driver does not read, the pong it may have in its hands cannot be missed.
    pub fn set_paused(&mut self, paused: bool, now: Instant) {
        if std::mem::replace(&mut self.is_paused, paused)
            && !paused
            && let Heartbeat::Pong { by, .. } = &mut self.heartbeat
        {
            *by = now + self.timing.ping_timeout;
            if self.revision == Revision::V3 {
                self.expect_ping(now);
            }
        }
    }

    /// Whether the driver does not read, as it said last.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[inline]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Closed { .. } => return None,
            State::Closing { deadline } => return Some(deadline),
            State::Open => {}
        }
        let heartbeat = match self.heartbeat {
            Heartbeat::Ping { at } => Some(at),
            Heartbeat::Pong { by, .. } => (!self.is_paused).then_some(by),
        };
        let upgrade = match &self.upgrade {
            Upgrade::Idle | Upgrade::Done => None,
            Upgrade::Under(probe) => {
                Some(probe.release.map_or(probe.deadline, |release| release.min(probe.deadline)))
            }
        };
        heartbeat.into_iter().chain(upgrade).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Closed { .. } => return,
            State::Closing { deadline } => {
                if deadline <= now {
                    self.end(CloseReason::ForcedClose, "closed by the server");
                }
                return;
            }
            State::Open => {}
        }
        match &mut self.upgrade {
            Upgrade::Under(probe) if probe.deadline <= now => self.handle_probe_closed(),
            Upgrade::Under(probe) if probe.release.is_some_and(|release| release <= now) => {
                probe.release = Some(now + RELEASE_INTERVAL);
                if self.has_get {
                    self.output(Output::ReleasePoll);
                }
            }
            _ => {}
        }
        match self.heartbeat {
            Heartbeat::Ping { at } if at <= now => {
                let by = now + self.timing.ping_timeout;
                self.heartbeat = Heartbeat::Pong { by, extended: false };
                self.output(Output::SendPing);
            }
            Heartbeat::Pong { by, .. } if by <= now && !self.is_paused => {
                let missed = match self.revision {
                    Revision::V4 => "no pong in time",
                    Revision::V3 => "no ping in time",
                };
                self.end(CloseReason::PingTimeout, missed);
            }
            _ => {}
        }
    }

    /// The first packet that comes in place of the pong shows life, and gives it as long again.
    #[inline]
    fn extend(&mut self, now: Instant) {
        if let Heartbeat::Pong { by, extended: extended @ false } = &mut self.heartbeat {
            *extended = true;
            *by = now + self.timing.ping_timeout;
        }
    }

    /// The next ping of a client that sends them is due in an interval, and may be as late as a
    /// pong. No other packet extends that.
    fn expect_ping(&mut self, now: Instant) {
        let by = now + self.timing.ping_interval + self.timing.ping_timeout;
        self.heartbeat = Heartbeat::Pong { by, extended: true };
    }

    fn output(&mut self, output: Output) {
        self.outputs.get_or_insert_default().push_back(output);
    }

    fn may_request(&self) -> bool {
        self.transport == Transport::Polling && !self.is_closed()
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    fn end(&mut self, reason: CloseReason, detail: &'static str) {
        if !self.is_closed() {
            self.state = State::Closed { reason, detail };
            self.handle_probe_closed();
            self.output(Output::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn session(transport: Transport, now: Instant) -> Session {
        let timing = Timing {
            ping_interval: INTERVAL,
            ping_timeout: TIMEOUT,
            upgrade_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(30),
        };
        Session::new(transport, timing, now).of_revision(Revision::V3, now)
    }

    fn outputs(session: &mut Session) -> Vec<Output> {
        std::iter::from_fn(|| session.poll_output()).collect()
    }

    #[test]
    fn a6_in_revision_3_only_pings_show_that_a_client_lives() {
        let start = Instant::now();
        let mut session = session(Transport::WebSocket, start);
        assert_eq!(session.poll_timeout(), Some(start + INTERVAL + TIMEOUT));
        let later = start + INTERVAL;
        let message = Packet::Message(Message::Text("2[]".into()));
        assert!(session.handle_packet(message, later).is_some());
        assert_eq!(session.poll_timeout(), Some(start + INTERVAL + TIMEOUT));
        session.handle_packet(Packet::Ping("".into()), later);
        assert_eq!(outputs(&mut session), [Output::SendPong]);
        assert_eq!(session.poll_timeout(), Some(later + INTERVAL + TIMEOUT));
        session.handle_timeout(later + INTERVAL + TIMEOUT);
        assert_eq!(outputs(&mut session), [Output::Closed]);
        assert_eq!(session.closed(), Some((CloseReason::PingTimeout, "no ping in time")));
    }

    #[test]
    fn h24_in_revision_3_a_pong_goes_the_wrong_way() {
        let now = Instant::now();
        let mut session = session(Transport::Polling, now);
        session.handle_packet(Packet::Pong("".into()), now);
        let wrong = "invalid heartbeat direction";
        assert_eq!(session.closed(), Some((CloseReason::TransportError, wrong)));
    }

    #[test]
    fn a7_an_upgrade_in_revision_3_gives_the_client_as_long_again() {
        let start = Instant::now();
        let mut session = session(Transport::Polling, start);
        let later = start + INTERVAL;
        assert!(session.handle_upgrade_request(later));
        session.handle_probe_packet(Packet::Ping("probe".into()), later);
        session.handle_probe_packet(Packet::Upgrade, later);
        assert_eq!(outputs(&mut session), [Output::ProbeReply, Output::Upgraded]);
        assert_eq!(session.poll_timeout(), Some(later + INTERVAL + TIMEOUT));
        // What is not read cannot be missed.
        session.set_paused(true, later);
        assert_eq!(session.poll_timeout(), None);
        session.set_paused(false, later + 2 * INTERVAL);
        assert_eq!(session.poll_timeout(), Some(later + 3 * INTERVAL + TIMEOUT));
    }
}
