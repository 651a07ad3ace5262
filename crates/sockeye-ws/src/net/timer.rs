//! The clock of a connection: one timer that exists only while a deadline does, and the heartbeat.
//! Does not know what is done about a deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::{self, Sleep};

use super::options::KeepAlive;
use crate::connection::Connection;
use crate::deadline;

/// The time, by the clock of the runtime: a test may have stopped it.
pub(super) fn now() -> Instant {
    time::Instant::now().into_std()
}

/// The time that `machine` holds its deadline against. Most have none, and reading the clock would
/// be a twentieth of the cost of a message that came with others: they get a time that has passed.
pub(super) fn now_for(machine: &Connection) -> Instant {
    static PASSED: LazyLock<Instant> = LazyLock::new(Instant::now);
    if machine.poll_timeout().is_some() { now() } else { *PASSED }
}

#[derive(Debug, Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// The time, once it is `deadline`.
    pub(super) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<Instant> {
        let deadline = time::Instant::from_std(deadline);
        let sleep = self.0.get_or_insert_with(|| Box::pin(time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(now().max(deadline.into_std()))
    }

    /// [`poll`](Self::poll) for who shares the timer with another, whose earlier deadline stays.
    /// Ready also when that one has passed; it is not kept then.
    pub(super) fn poll_beside(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<Instant> {
        let others = self.0.as_ref().map(|sleep| sleep.deadline().into_std());
        let others = others.filter(|others| *others < deadline);
        let now = ready!(self.poll(others.unwrap_or(deadline), cx));
        self.stop();
        Poll::Ready(now)
    }

    pub(super) fn stop(&mut self) {
        self.0 = None;
    }
}

/// Whether the peer has been heard of lately.
#[derive(Debug)]
pub(super) struct Heartbeat {
    options: KeepAlive,
    heard_at: Instant,
    /// When a ping was sent, if nothing has been heard since; while it waits to be written, when
    /// something before it last was.
    pinged_at: Option<Instant>,
    /// How many bytes wait to be written, up to the ping's last one.
    unwritten_bytes: usize,
    /// Since when the stream has taken nothing, if something waits to be written.
    blocked_since: Option<Instant>,
}

/// What is to be done at a heartbeat's deadline.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Nothing: the peer was heard of meanwhile.
    Calm,
    Ping,
    Lost,
}

impl Heartbeat {
    pub(super) fn new(options: KeepAlive, now: Instant) -> Self {
        Self { options, heard_at: now, pinged_at: None, unwritten_bytes: 0, blocked_since: None }
    }

    pub(super) fn hear(&mut self, now: Instant) {
        self.heard_at = now;
        self.pinged_at = None;
        self.unwritten_bytes = 0;
    }

    /// The ping waits to be written, as the last of so many bytes.
    pub(super) fn queue_ping(&mut self, bytes: usize) {
        self.unwritten_bytes = bytes;
    }

    /// So many bytes have been written. A peer that takes them, however slowly, cannot have
    /// answered a ping that stands behind them.
    pub(super) fn write(&mut self, bytes: usize) {
        if bytes > 0 {
            self.blocked_since = None;
        }
        if bytes > 0 && self.unwritten_bytes > 0 {
            self.unwritten_bytes = self.unwritten_bytes.saturating_sub(bytes);
            self.pinged_at = Some(now());
        }
    }

    /// The stream takes no more, or has taken all.
    pub(super) fn block(&mut self, is_blocked: bool) {
        if is_blocked {
            self.blocked_since.get_or_insert_with(now);
        } else {
            self.blocked_since = None;
        }
    }

    /// When a peer is given up that takes nothing, whatever it sends meanwhile.
    pub(super) fn blocked_deadline(&self) -> Option<Instant> {
        let KeepAlive { interval, timeout } = self.options;
        let since = self.blocked_since?;
        Some(deadline::after(since, interval.saturating_add(timeout)))
    }

    pub(super) fn deadline(&self) -> Instant {
        let beat = self.beat_deadline();
        self.blocked_deadline().map_or(beat, |blocked| blocked.min(beat))
    }

    fn beat_deadline(&self) -> Instant {
        match self.pinged_at {
            Some(pinged_at) => deadline::after(pinged_at, self.options.timeout),
            None => deadline::after(self.heard_at, self.options.interval),
        }
    }

    pub(super) fn beat(&mut self, now: Instant) -> Pulse {
        if self.blocked_deadline().is_some_and(|blocked| now >= blocked) {
            return Pulse::Lost;
        }
        if now < self.beat_deadline() {
            return Pulse::Calm;
        }
        if self.pinged_at.is_some() {
            return Pulse::Lost;
        }
        self.pinged_at = Some(now);
        Pulse::Ping
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_ping_after_silence_and_an_end_after_more() {
        let start = now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let options =
            KeepAlive { interval: Duration::from_secs(20), timeout: Duration::from_secs(5) };
        let mut heartbeat = Heartbeat::new(options, start);
        heartbeat.hear(at(10));
        assert_eq!(heartbeat.beat(at(20)), Pulse::Calm);
        assert_eq!(heartbeat.deadline(), at(30));
        assert_eq!(heartbeat.beat(at(30)), Pulse::Ping);
        assert_eq!(heartbeat.deadline(), at(35));
        heartbeat.hear(at(34));
        assert_eq!(heartbeat.beat(at(35)), Pulse::Calm);
        assert_eq!(heartbeat.beat(at(54)), Pulse::Ping);
        assert_eq!(heartbeat.beat(at(58)), Pulse::Calm);
        assert_eq!(heartbeat.beat(at(59)), Pulse::Lost);
    }
}
