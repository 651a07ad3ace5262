//! A session under any script of inputs, a letter each (`act` tells them): it does only what is
//! legal then, ends once and for a reason that the input explains, and no later than it must.
//! Scripts that begin with `v` are about clients of revision 3.

#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sockeye_proto::engine::Transport;
use sockeye_proto::engine::{CloseReason, Message, Output, Packet, Revision, Session, Timing};

const PING_INTERVAL: Duration = Duration::from_millis(300);
const PING_TIMEOUT: Duration = Duration::from_millis(200);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(150);

/// While a WebSocket probes, the session wants to be woken every 100 ms for at most 250; and once
/// for each of ping, pong and closing.
const WAKES_MAX: usize = 8;

fuzz_target!(|script: &[u8]| {
    let (revision, script) = match script {
        [b'v', rest @ ..] => (Revision::V3, rest),
        _ => (Revision::V4, script),
    };
    let (transport, script) = match script {
        [b'w', rest @ ..] => (Transport::WebSocket, rest),
        _ => (Transport::Polling, script),
    };
    let mut driver = Driver::new(transport, revision);
    for &letter in script {
        if driver.act(letter) {
            driver.run_outputs(letter);
            driver.check();
        }
    }
    driver.check_end();
});

/// What a driver knows of its session.
struct Driver {
    session: Session,
    /// What the session began with.
    transport: Transport,
    now: Instant,
    /// A probing WebSocket is open.
    has_probe: bool,
    has_get: bool,
    has_post: bool,
    is_closing: bool,
    upgraded: bool,
    closed: Option<CloseReason>,
    /// A ping waits for its pong: for so long, and once more if another packet comes in its place.
    pong_by: Option<Instant>,
    is_paused: bool,
    /// What the next ping is counted from.
    alive_at: Instant,
}

impl Driver {
    fn new(transport: Transport, revision: Revision) -> Self {
        let timing = Timing {
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
            upgrade_timeout: Duration::from_millis(250),
            close_timeout: CLOSE_TIMEOUT,
        };
        let now = Instant::now();
        Self {
            session: Session::new(transport, timing, now).of_revision(revision, now),
            transport,
            now,
            has_probe: false,
            has_get: false,
            has_post: false,
            is_closing: false,
            upgraded: false,
            closed: None,
            pong_by: (revision == Revision::V3).then_some(now + PING_INTERVAL + PING_TIMEOUT),
            is_paused: false,
            alive_at: now,
        }
    }

    /// One input. False: the letter is none.
    fn act(&mut self, letter: u8) -> bool {
        let now = self.now;
        match letter {
            // Packets over the session's transport, by their type; something that is none.
            b'0' => self.packet(Packet::Open("{}".into())),
            b'1' => self.packet(Packet::Close),
            b'2' => self.packet(Packet::Ping("".into())),
            b'3' => self.packet(Packet::Pong("".into())),
            b'4' => self.packet(Packet::Message(Message::Text("2[]".into()))),
            b'5' => self.packet(Packet::Upgrade),
            b'6' => self.packet(Packet::Noop),
            b'x' => self.session.handle_malformed(now),
            // Get: comes, is answered, aborted. Post: comes, is done, aborted.
            b'g' => self.get(),
            b'a' => {
                self.has_get = false;
                self.session.handle_get_answered(now);
            }
            b'A' => {
                self.has_get = false;
                self.session.handle_get_aborted();
            }
            b'p' => self.post(),
            b'd' => {
                self.has_post = false;
                self.session.handle_post_done();
            }
            b'D' => {
                self.has_post = false;
                self.session.handle_post_aborted();
            }
            // Another WebSocket; over it `2probe`, `5`, something else, its end.
            b'u' => self.upgrade(),
            b'P' => self.session.handle_probe_packet(Packet::Ping("probe".into()), now),
            b'U' => self.session.handle_probe_packet(Packet::Upgrade, now),
            b'N' => self.session.handle_probe_packet(Packet::Noop, now),
            b'C' => self.session.handle_probe_closed(),
            // The transport is lost, or broken.
            b't' => self.session.handle_transport_closed(CloseReason::TransportClose, "lost"),
            b'e' => self.session.handle_transport_closed(CloseReason::TransportError, "broken"),
            // The application closes, also at once; what waited is flushed.
            b'c' | b'k' => {
                self.session.handle_close(letter == b'k', now);
                self.is_closing |= self.closed.is_none();
            }
            b'f' => self.session.handle_flushed(now),
            // Reading pauses and goes on.
            b's' => self.pause(true),
            b'r' => self.pause(false),
            // Time: a little, until something is due, and much too late.
            b',' => self.sleep(Duration::from_millis(50)),
            b'.' => {
                let until = self.session.poll_timeout().unwrap_or(now);
                self.sleep(until.saturating_duration_since(now));
            }
            b'~' => self.sleep(4 * (PING_INTERVAL + PING_TIMEOUT)),
            _ => return false,
        }
        true
    }

    fn packet(&mut self, packet: Packet<'_>) {
        let is_open = self.closed.is_none() && !self.is_closing;
        let is_message = matches!(packet, Packet::Message(_));
        match packet {
            Packet::Pong(_) if is_open && !self.is_v3() => {
                self.pong_by = None;
                self.alive_at = self.now;
            }
            Packet::Ping(_) if is_open && self.is_v3() => self.expect_ping(),
            _ => {}
        }
        let message = self.session.handle_packet(packet, self.now);
        assert_eq!(message.is_some(), is_open && is_message);
    }

    fn get(&mut self) {
        let may = self.is_polling() && !self.has_get;
        assert_eq!(self.session.handle_get(self.now), may);
        self.has_get |= may;
    }

    fn post(&mut self) {
        let may = self.is_polling() && !self.has_post;
        assert_eq!(self.session.handle_post(), may);
        self.has_post |= may;
    }

    fn upgrade(&mut self) {
        let may = self.is_polling() && !self.is_closing && !self.has_probe;
        assert_eq!(self.session.handle_upgrade_request(self.now), may);
        self.has_probe |= may;
    }

    fn pause(&mut self, pause: bool) {
        if std::mem::replace(&mut self.is_paused, pause) && !pause && self.pong_by.is_some() {
            self.pong_by = Some(self.now + 2 * PING_TIMEOUT);
            if self.is_v3() {
                self.expect_ping();
            }
        }
        self.session.set_paused(pause, self.now);
    }

    fn sleep(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
        let next = self.session.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "what was due has been done");
    }

    fn is_v3(&self) -> bool {
        self.session.revision() == Revision::V3
    }

    fn expect_ping(&mut self) {
        self.pong_by = Some(self.now + PING_INTERVAL + PING_TIMEOUT);
    }

    fn is_polling(&self) -> bool {
        self.closed.is_none() && self.session.transport() == Transport::Polling
    }

    /// Does what the session asks for, if it may ask for it.
    fn run_outputs(&mut self, letter: u8) {
        let is_time = matches!(letter, b',' | b'.' | b'~');
        while let Some(output) = self.session.poll_output() {
            assert_eq!(self.closed, None, "{output:?} comes behind Closed");
            match output {
                Output::SendPing => {
                    assert!(is_time && !self.is_closing && self.pong_by.is_none());
                    assert!(!self.is_v3());
                    assert!(self.now >= self.alive_at + PING_INTERVAL);
                    self.pong_by = Some(self.now + 2 * PING_TIMEOUT);
                }
                Output::SendPong => assert!(letter == b'2' && self.is_v3()),
                Output::ReleasePoll => assert!(is_time && self.has_get && self.has_probe),
                Output::ProbeReply => assert!(letter == b'P' && self.has_probe),
                Output::ProbeFailed => assert!(std::mem::take(&mut self.has_probe)),
                Output::Upgraded => {
                    assert!(letter == b'U' && std::mem::take(&mut self.has_probe));
                    assert!(!std::mem::replace(&mut self.upgraded, true));
                    if self.is_v3() {
                        self.expect_ping();
                    } else if self.pong_by.take().is_some() {
                        self.alive_at = self.now;
                    }
                }
                Output::Closed => {
                    assert!(!self.has_probe, "it was told to go first");
                    let (reason, _) = self.session.closed().expect("a reason");
                    assert!(
                        self.explains(letter, reason),
                        "{} explains no {reason:?}",
                        letter as char
                    );
                    self.closed = Some(reason);
                }
            }
        }
    }

    /// Whether the input is one that ends a session for this reason.
    fn explains(&self, letter: u8, reason: CloseReason) -> bool {
        match reason {
            CloseReason::PingTimeout => {
                matches!(letter, b',' | b'.' | b'~') && self.pong_by.is_some() && !self.is_closing
            }
            CloseReason::ParseError => letter == b'x',
            CloseReason::TransportClose => {
                letter == b't' || letter == b'1' && self.session.transport() == Transport::Polling
            }
            CloseReason::TransportError => {
                letter == b'e'
                    || letter == if self.is_v3() { b'3' } else { b'2' }
                    || b"gpAD".contains(&letter) && self.session.transport() == Transport::Polling
            }
            CloseReason::ForcedClose => b"kf,.~".contains(&letter) && self.is_closing,
        }
    }

    /// What is true at any time.
    fn check(&self) {
        let closed = self.session.closed().map(|(reason, _)| reason);
        assert_eq!(closed, self.closed);
        assert_eq!(self.session.is_closing(), closed.is_none() && self.is_closing);
        assert_eq!(self.session.is_posting(), self.has_post);
        let transport = if self.upgraded { Transport::WebSocket } else { self.transport };
        assert_eq!(self.session.transport(), transport);
        if closed.is_some() {
            assert_eq!(self.session.poll_timeout(), None);
        } else if !self.is_closing && !self.is_paused {
            assert!(self.pong_by.is_none_or(|by| self.now < by), "a pong is waited for too long");
        }
    }

    /// A peer that says nothing more is given up in time.
    fn check_end(mut self) {
        self.act(b'r');
        let latest = self.now + (PING_INTERVAL + PING_TIMEOUT).max(CLOSE_TIMEOUT);
        for _ in 0..WAKES_MAX {
            self.act(b'.');
            self.run_outputs(b'.');
            self.check();
        }
        assert!(self.closed.is_some() && self.now <= latest);
    }
}
