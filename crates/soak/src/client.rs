//! A client that counts: it numbers what it sends until each number is acknowledged, and checks the
//! numbers of what it gets. Does not know that the network fails on purpose.
//!
//! It reads packets by itself and not with `sockeye-proto`: what both sides misread alike would not
//! be found.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::line::{Incoming, Line, Way};
use crate::random::Random;
use crate::server::PING;

/// What may wait for its acknowledgement.
const UNANSWERED_MAX: usize = 8;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(20);
const BACKOFF_MAX_MS: u64 = 1_000;
const HISTORY_MAX: usize = 5;

/// What all clients share.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) connections: AtomicU64,
    /// Of these, those that began with long-polling.
    pub(crate) polling: AtomicU64,
    pub(crate) upgrades: AtomicU64,
    pub(crate) recovered: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) ticks: AtomicU64,
    pub(crate) connected: AtomicUsize,
    pub(crate) violations: std::sync::Mutex<Vec<String>>,
}

/// What clients are told to do.
#[derive(Clone, Debug, Default)]
pub(crate) enum Phase {
    #[default]
    Load,
    /// Nothing new is sent.
    Settle,
    /// Each room's last number: whoever has it, and all answers, is done.
    Finish(Arc<Vec<u64>>),
}

pub(crate) struct Counting {
    pub(crate) number: u64,
    pub(crate) address: SocketAddr,
    pub(crate) way: Way,
    pub(crate) emit_interval: Duration,
    pub(crate) tally: Arc<Tally>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) random: Random,
    pub(crate) state: State,
}

/// What outlives a connection.
#[derive(Default)]
pub(crate) struct State {
    /// The last number that was sent.
    sent: u64,
    /// Those that are not acknowledged.
    unanswered: VecDeque<u64>,
    /// The last number of the room; `None` before the server has said where it begins.
    last_tick: Option<u64>,
    /// From which the server knows the socket again, and what it has.
    recovery_id: Option<String>,
    offset: Option<String>,
    /// How it came by them, for whoever looks for what went wrong.
    history: VecDeque<String>,
}

/// What was heard.
enum Heard {
    Nothing,
    Joined,
}

impl Counting {
    /// Lives until it is done; the last number that was acknowledged, and the last that was sent.
    pub(crate) async fn live(mut self) -> (u64, u64) {
        while !self.is_done() {
            if let Err(error) = self.connect().await {
                self.note(&error.to_string());
                sleep(Duration::from_millis(self.random.below(BACKOFF_MAX_MS))).await;
            }
        }
        let sent = self.state.sent;
        (self.state.unanswered.front().map_or(sent, |first| first - 1), sent)
    }

    /// One connection. An error is the network's.
    async fn connect(&mut self) -> Result<()> {
        let (mut line, open) = Line::open(self.address, self.way, PATIENCE).await?;
        if !open.starts_with("0{") {
            self.violation(&format!("the handshake was {open}"));
        }
        let mut auth = json!({ "client": self.number });
        if let (Some(id), Some(auth)) = (&self.state.recovery_id, auth.as_object_mut()) {
            auth.insert("pid".into(), json!(id));
            // As the official client: without an event there is no offset.
            auth.insert("offset".into(), json!(self.state.offset));
        }
        line.send(format!("40{auth}")).await?;
        let joined = async {
            loop {
                if let Incoming::Packet(packet) = line.next().await?
                    && let Heard::Joined = self.hear(&packet, &mut line).await?
                {
                    return Ok::<_, anyhow::Error>(());
                }
            }
        };
        timeout(PATIENCE, joined).await??;
        self.tally.connections.fetch_add(1, Ordering::Relaxed);
        let is_polling = u64::from(self.way != Way::WebSocket);
        self.tally.polling.fetch_add(is_polling, Ordering::Relaxed);
        self.tally.connected.fetch_add(1, Ordering::Relaxed);
        let ended = self.talk(&mut line).await;
        self.tally.connected.fetch_sub(1, Ordering::Relaxed);
        ended?;
        // Done.
        line.send("41".into()).await?;
        line.close(PATIENCE).await
    }

    /// Sends again what nobody has acknowledged, and goes on until it is done.
    async fn talk(&mut self, line: &mut Line) -> Result<()> {
        for number in self.state.unanswered.clone() {
            line.send(count(number)).await?;
        }
        // The official client does it at once; here it comes at any time among the packets.
        let mut upgrade = (self.way == Way::Upgrade)
            .then(|| Instant::now() + self.random.around(self.emit_interval / 2));
        let mut next_emit = Instant::now() + self.random.around(self.emit_interval);
        let mut silence = Instant::now() + 2 * PING;
        let mut phase = self.phase.clone();
        while !self.is_done() {
            tokio::select! {
                incoming = line.next() => {
                    silence = Instant::now() + 2 * PING;
                    match incoming? {
                        Incoming::Packet(packet) => {
                            self.hear(&packet, line).await?;
                        }
                        Incoming::Ready(websocket) => {
                            line.switch(websocket).await?;
                            self.tally.upgrades.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                () = sleep_until(upgrade.unwrap_or(silence)), if upgrade.is_some() => {
                    upgrade = None;
                    line.upgrade(PATIENCE);
                }
                () = sleep_until(next_emit) => {
                    next_emit = Instant::now() + self.random.around(self.emit_interval);
                    self.emit(line).await?;
                }
                () = sleep_until(silence) => bail!("the server is silent"),
                changed = phase.changed() => changed?,
            }
        }
        Ok(())
    }

    async fn emit(&mut self, line: &mut Line) -> Result<()> {
        let is_load = matches!(*self.phase.borrow(), Phase::Load);
        if is_load && self.state.unanswered.len() < UNANSWERED_MAX {
            self.state.sent += 1;
            self.state.unanswered.push_back(self.state.sent);
            line.send(count(self.state.sent)).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, packet: &str, line: &mut Line) -> Result<Heard> {
        if packet == "2" {
            line.send("3".into()).await?;
        } else if let Some(event) = packet.strip_prefix("42") {
            self.hear_event(serde_json::from_str(event).context("an event is a list")?);
        } else if let Some(answer) = packet.strip_prefix("43") {
            self.hear_answer(answer);
        } else if let Some(connect) = packet.strip_prefix("40") {
            self.join(serde_json::from_str(connect).context("CONNECT has an object")?);
            return Ok(Heard::Joined);
        } else {
            self.violation(&format!("the server sent {packet}"));
        }
        Ok(Heard::Nothing)
    }

    fn join(&mut self, connect: Value) {
        let id = connect["pid"].as_str().map(str::to_owned);
        let is_recovered = id.is_some() && id == self.state.recovery_id;
        self.note(if is_recovered { "recovered" } else { "new" });
        if is_recovered {
            self.tally.recovered.fetch_add(1, Ordering::Relaxed);
        } else {
            self.state.last_tick = None;
            self.state.offset = None;
        }
        self.state.recovery_id = id;
    }

    fn hear_event(&mut self, args: Vec<Value>) {
        // As the official client: a last argument that is text is the offset.
        if let Some(offset) = args.last().and_then(Value::as_str) {
            self.state.offset = Some(offset.to_owned());
        }
        match args[0].as_str() {
            Some("hello") => {
                if let Some(last) = self.state.last_tick {
                    self.violation(&format!("was greeted again behind {last}"));
                }
                self.state.last_tick = args[1].as_u64();
            }
            Some("tick") => {
                let tick = args[2].as_u64();
                if tick.is_none() || tick != self.state.last_tick.map(|last| last + 1) {
                    let last = self.state.last_tick;
                    let offset = args.last();
                    self.violation(&format!("event {tick:?} {offset:?} came behind {last:?}"));
                }
                self.state.last_tick = tick;
                self.tally.ticks.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.violation(&format!("unknown event {args:?}")),
        }
    }

    /// Answers come in the order of what they answer.
    fn hear_answer(&mut self, answer: &str) {
        let first = self.state.unanswered.front().copied();
        let expected = first.map(|number| format!("{number}[{number}]"));
        if expected.as_deref() == Some(answer) {
            self.state.unanswered.pop_front();
            self.tally.acknowledged.fetch_add(1, Ordering::Relaxed);
        } else {
            self.violation(&format!("the answer {answer} came, not {expected:?}"));
        }
    }

    fn is_done(&self) -> bool {
        let Phase::Finish(rooms) = &*self.phase.borrow() else { return false };
        let last = rooms[self.number as usize % rooms.len()];
        self.state.unanswered.is_empty() && self.state.last_tick == Some(last)
    }

    fn note(&mut self, what: &str) {
        let State { last_tick, offset, history, .. } = &mut self.state;
        history.push_back(format!("{what} at {last_tick:?}, {offset:?}"));
        if history.len() > HISTORY_MAX {
            history.pop_front();
        }
    }

    fn violation(&self, what: &str) {
        let mut violations = self.tally.violations.lock().expect("no holder panics");
        let history = &self.state.history;
        violations.push(format!("client {}: {what}; before: {history:?}", self.number));
    }
}

fn count(number: u64) -> String {
    format!("42{number}[\"count\",{number}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Counting {
        let (_, phase) = watch::channel(Phase::Load);
        Counting {
            number: 7,
            address: ([127, 0, 0, 1], 0).into(),
            way: Way::WebSocket,
            emit_interval: Duration::from_secs(1),
            tally: Arc::default(),
            phase,
            random: Random::new(1, 1),
            state: State::default(),
        }
    }

    fn violations(packets: &[Value]) -> usize {
        let mut client = client();
        for packet in packets {
            match packet {
                Value::Object(_) => client.join(packet.clone()),
                Value::String(answer) => client.hear_answer(answer),
                Value::Number(number) => {
                    client.state.sent = number.as_u64().expect("a number that was sent");
                    client.state.unanswered.push_back(client.state.sent);
                }
                event => client.hear_event(event.as_array().expect("an event").clone()),
            }
        }
        client.tally.violations.lock().expect("no holder panics").len()
    }

    #[test]
    fn a_promise_that_is_broken_is_found() {
        let joined = |id: &str| json!({ "sid": "s", "pid": id });
        let hello = |last: u64| json!(["hello", last, "epoch-1"]);
        let tick = |number: u64| json!(["tick", "fill", number, "epoch-2"]);
        let kept = [joined("a"), hello(4), tick(5), joined("a"), tick(6), joined("b"), hello(9)];
        assert_eq!(violations(&kept), 0);
        assert_eq!(violations(&[json!(1), json!(2), json!("1[1]"), json!("2[2]")]), 0);
        for (what, packets) in [
            ("lost", vec![joined("a"), hello(4), tick(6)]),
            ("twice", vec![joined("a"), hello(4), tick(5), tick(5)]),
            ("out of order", vec![joined("a"), hello(4), tick(5), tick(4)]),
            ("lost over a recovery", vec![joined("a"), hello(4), joined("a"), tick(6)]),
            ("twice over a recovery", vec![joined("a"), hello(4), tick(5), joined("a"), tick(5)]),
            ("before the beginning", vec![joined("a"), tick(1)]),
            ("recovered and greeted", vec![joined("a"), hello(4), joined("a"), hello(5)]),
            ("not what was asked", vec![json!(1), json!("1[2]")]),
            ("an answer out of order", vec![json!(1), json!(2), json!("2[2]")]),
            ("an answer twice", vec![json!(1), json!("1[1]"), json!("1[1]")]),
        ] {
            assert_eq!(violations(&packets), 1, "{what}");
        }
    }
}
