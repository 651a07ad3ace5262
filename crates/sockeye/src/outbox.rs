//! The writing side of a connection: what waits to be sent, and the way it leaves.
//! Does not know what the packets mean, nor namespaces and rooms.
//!
//! Whoever emits pushes under a small lock. What is pushed in one turn of the event loop is
//! gathered and leaves in one write (see [`crate::gather`]). An outbox holds a buffer only while
//! packets wait.

mod encoding;
mod payload;
#[cfg(test)]
mod tests;
mod writing;

use std::io;

use parking_lot::Mutex;
use smallvec::SmallVec;
use sockeye_proto::engine::{Revision, Transport};
use sockeye_proto::socket::EncodedPacket;
use tokio::net::tcp::OwnedWriteHalf;

pub(crate) use self::encoding::Encoding;
use self::encoding::{Deflate, Encoder};
pub(crate) use self::payload::Payload;
use self::writing::{GATHER_BYTES_MAX, write_some};
use crate::config::OutboxPolicy;
use crate::conflation::{Key, Places};
use crate::metrics::{self, Dropped};

/// What a packet's place among those that wait may cost: a list grows by doubling.
const PLACE_BYTES: usize = 2 * size_of::<EncodedPacket>();

/// How packets leave.
pub(crate) enum Link {
    /// Long-polling: packets wait until a GET takes them. `get` says whether one waits.
    Polling { get: bool },
    /// Whoever has the bytes writes them to the socket.
    Direct(OwnedWriteHalf),
    /// A stream that only the connection's task can write (TLS, a foreign one).
    Task,
    /// Nothing leaves any more.
    Closed,
}

/// The way out.
pub(crate) struct Exit {
    pub(crate) link: Link,
    pub(crate) encoding: Encoding,
    /// What must leave first.
    pub(crate) owed: Vec<u8>,
}

impl Exit {
    /// By answers to GETs.
    pub(crate) fn polling(encoding: Encoding) -> Self {
        Self { link: Link::Polling { get: false }, encoding, owed: Vec::new() }
    }
}

/// What a packet is worth to its emitter.
#[derive(Clone, Debug, Default)]
pub(crate) enum Way {
    /// It is sent, however long that takes.
    #[default]
    Always,
    /// It is sent only if the peer can take it now.
    Volatile,
    /// It replaces one of the same key that waits.
    Latest(Key),
}

/// What became of a pushed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits, and something is already on its way to send it.
    Queued,
    /// It waits; the outbox must be listed for the flush of this turn.
    First,
    /// It waits; the connection's task must be woken to send it.
    WakeTask,
    /// Volatile, and the peer cannot take it now.
    Dropped,
    /// Refused by [`OutboxPolicy::Refuse`].
    Full,
    /// [`OutboxPolicy::Disconnect`]: the connection must go. Its task must be woken.
    Overflowed,
    /// The connection is gone.
    Closed,
}

/// What a flush left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing waits.
    Empty,
    /// The socket takes no more; the connection's task must wait for it.
    Blocked,
    /// The connection's own task must do it.
    WakeTask,
    /// The socket is broken; the task must see to it.
    Broken,
    /// [`OutboxPolicy::Disconnect`]: the peer is too slow.
    Overflowed,
}

pub(crate) struct Outbox {
    state: Mutex<State>,
    bytes_max: usize,
}

struct State {
    link: Link,
    waiting: SmallVec<[EncodedPacket; 2]>,
    /// How many bytes are under way: of `waiting[0]`, or with [`Link::Task`] in the task's hands.
    taken: usize,
    /// What all of `waiting` holds, and what is in the task's hands.
    bytes: usize,
    /// A flush is on its way: listed on a thread, or the task is woken.
    scheduled: bool,
    /// The socket took less than it was given.
    blocked: bool,
    overflowed: bool,
    broken: bool,
    /// The connection is ending: what waits still leaves, nothing is added.
    ended: bool,
    /// Never changed; beside the flags it takes no room.
    policy: OutboxPolicy,
    /// What few have.
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    /// Which of `waiting` may be replaced.
    places: Option<Box<Places>>,
    /// Where packets do not leave as they are.
    encoder: Encoder,
}

impl Outbox {
    pub(crate) fn new(exit: Exit, bytes_max: usize, policy: OutboxPolicy) -> Self {
        let Exit { link, encoding, .. } = exit;
        let state = State {
            link,
            waiting: SmallVec::new(),
            taken: 0,
            bytes: 0,
            scheduled: false,
            blocked: false,
            overflowed: false,
            broken: false,
            ended: false,
            policy,
            rare: Rare::with(encoding),
        };
        Self { state: Mutex::new(state), bytes_max }
    }

    /// Adds a packet. `in_turn` says that the caller is the connection's own task, which flushes
    /// when its turn ends.
    pub(crate) fn push(&self, packet: EncodedPacket, volatile: bool, in_turn: bool) -> Pushed {
        let mut state = self.state.lock();
        if state.ended {
            return Pushed::Closed;
        }
        if volatile && !state.is_writable() {
            metrics::dropped(1, Dropped::Volatile);
            return Pushed::Dropped;
        }
        self.add(&mut state, packet, in_turn)
    }

    /// As [`push`](Self::push); but if a packet with the same key waits, of which nothing has
    /// left, this one takes its place.
    pub(crate) fn push_latest(&self, packet: EncodedPacket, key: &Key, in_turn: bool) -> Pushed {
        let mut state = self.state.lock();
        if state.ended {
            return Pushed::Closed;
        }
        if let Some(at) = state.replaceable(key)
            && state.policy == OutboxPolicy::DropOldest
        {
            let more = cost(&packet).saturating_sub(cost(&state.waiting[at]));
            let dropped = state.drop_oldest(self.bytes_max, more);
            metrics::dropped(dropped, Dropped::Oldest);
        }
        if let Some(at) = state.replaceable(key) {
            let bytes = state.bytes - cost(&state.waiting[at]) + cost(&packet);
            // One that grows beyond the limit is judged as any other.
            if bytes <= self.bytes_max || state.waiting.len() == 1 {
                state.bytes = bytes;
                state.waiting[at] = packet;
                metrics::dropped(1, Dropped::Replaced);
                return Pushed::Queued;
            }
        }
        let pushed = self.add(&mut state, packet, in_turn);
        if matches!(pushed, Pushed::Queued | Pushed::First | Pushed::WakeTask) {
            let last = state.waiting.len() - 1;
            let places = &mut state.rare.get_or_insert_default().places;
            places.get_or_insert_with(|| Box::new(Places::new())).set(key.clone(), last);
        }
        pushed
    }

    fn add(&self, state: &mut State, packet: EncodedPacket, in_turn: bool) -> Pushed {
        let bytes = cost(&packet);
        // One packet always fits, however large: its own size is bounded elsewhere.
        if state.bytes + bytes > self.bytes_max && !state.waiting.is_empty() {
            match state.policy {
                OutboxPolicy::Refuse => {
                    metrics::dropped(1, Dropped::Refused);
                    return Pushed::Full;
                }
                OutboxPolicy::DropOldest => {
                    let dropped = state.drop_oldest(self.bytes_max, bytes);
                    metrics::dropped(dropped, Dropped::Oldest);
                }
                OutboxPolicy::Disconnect => {
                    metrics::dropped(1, Dropped::Overflow);
                    let told = std::mem::replace(&mut state.overflowed, true);
                    return if told { Pushed::Closed } else { Pushed::Overflowed };
                }
            }
        }
        state.bytes += bytes;
        state.waiting.push(packet);
        if in_turn || state.scheduled || state.blocked {
            return Pushed::Queued;
        }
        match state.link {
            Link::Polling { get: false } => Pushed::Queued,
            Link::Direct(_) => {
                state.scheduled = true;
                Pushed::First
            }
            _ => {
                state.scheduled = true;
                Pushed::WakeTask
            }
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&self) -> Flushed {
        let mut state = self.state.lock();
        state.scheduled = false;
        if state.broken {
            return Flushed::Broken;
        }
        if state.overflowed {
            return Flushed::Overflowed;
        }
        match state.link {
            // Also where nothing waits here: the task may have bytes that its stream has not taken.
            _ if state.blocked => Flushed::Blocked,
            _ if state.waiting.is_empty() => Flushed::Empty,
            Link::Direct(_) => state.write_directly(),
            Link::Polling { get: false } => Flushed::Empty,
            Link::Closed => Flushed::Empty,
            Link::Polling { get: true } | Link::Task => Flushed::WakeTask,
        }
    }

    /// The socket takes bytes again: goes on writing.
    pub(crate) fn unblock(&self) -> Flushed {
        let mut state = self.state.lock();
        state.blocked = false;
        if matches!(state.link, Link::Task) {
            state.bytes -= std::mem::take(&mut state.taken);
        }
        drop(state);
        self.flush()
    }

    /// Runs `write` on the socket of a [`Link::Direct`] (to ask for readiness).
    pub(crate) fn with_socket<R>(&self, run: impl FnOnce(&OwnedWriteHalf) -> R) -> Option<R> {
        match &self.state.lock().link {
            Link::Direct(socket) => Some(run(socket)),
            _ => None,
        }
    }

    /// [`Link::Task`]: copies what waits into `out`, for the task to write. Until
    /// [`unblock`](Self::unblock) the stream counts as busy.
    pub(crate) fn take_wire(&self, out: &mut Vec<u8>) {
        let mut state = self.state.lock();
        state.blocked = true;
        state.seal(usize::MAX);
        let begin = out.len();
        for packet in &state.waiting {
            out.extend_from_slice(form(state.encoder(), packet));
        }
        metrics::sent(state.waiting.len(), out.len() - begin);
        state.forget_waiting();
        state.taken = state.bytes;
    }

    /// [`Link::Polling`]: the body of a GET's answer, or `None` if nothing waits.
    pub(crate) fn take_payload(&self) -> Option<Payload> {
        let mut state = self.state.lock();
        state.scheduled = false;
        if state.waiting.is_empty() {
            return None;
        }
        let payload = Payload::of(&state.waiting, state.encoder());
        metrics::sent(state.waiting.len(), payload.body.len());
        state.clear();
        Some(payload)
    }

    /// Says whether a GET waits, which makes the polling transport writable.
    pub(crate) fn set_get_waiting(&self, waiting: bool) {
        if let Link::Polling { get } = &mut self.state.lock().link {
            *get = waiting;
        }
    }

    /// Changes the way out, from long-polling: what waits leaves by the new one, behind `owed`.
    pub(crate) fn relink(&self, exit: Exit) {
        let Exit { link, encoding, owed } = exit;
        let mut state = self.state.lock();
        if matches!(state.link, Link::Closed) {
            return;
        }
        state.link = link;
        match &mut state.rare {
            Some(rare) => rare.encoder = Encoder::new(encoding),
            rare => *rare = Rare::with(encoding),
        }
        if !owed.is_empty() {
            let owed = EncodedPacket::frames(owed);
            state.bytes += cost(&owed);
            state.waiting.insert(0, owed);
            if let Some(places) = state.places() {
                places.retreat();
            }
        }
    }

    /// The connection is ending: nothing more is taken, `last` leaves behind what waits. With
    /// `discard` what waits is dropped, but for a packet of which a part has left.
    pub(crate) fn end(&self, last: Option<EncodedPacket>, discard: bool) {
        let mut state = self.state.lock();
        state.ended = true;
        if discard {
            state.drop_oldest(0, 0);
        }
        if let Some(last) = last {
            state.bytes += cost(&last);
            state.waiting.push(last);
        }
    }

    /// Frees what waits. The socket's writing half goes with it.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.clear();
        state.ended = true;
        state.overflowed = false;
        state.broken = false;
        state.blocked = false;
        state.link = Link::Closed;
        state.rare = None;
    }

    pub(crate) fn is_polling(&self) -> bool {
        matches!(self.state.lock().link, Link::Polling { .. })
    }

    /// Which revision of Engine.IO the client speaks.
    pub(crate) fn revision(&self) -> Revision {
        self.spoken().1
    }

    /// How the client speaks, and in which revision of Engine.IO.
    pub(crate) fn spoken(&self) -> (Transport, Revision) {
        let state = self.state.lock();
        let transport = match state.link {
            Link::Polling { .. } => Transport::Polling,
            _ => Transport::WebSocket,
        };
        let revision = match state.encoder() {
            Some(Encoder::V3 { .. }) => Revision::V3,
            _ => Revision::V4,
        };
        (transport, revision)
    }

    /// Whether everything has left.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.waiting.is_empty() && !state.blocked
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.state.lock().blocked
    }

    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

impl Rare {
    fn with(encoding: Encoding) -> Option<Box<Self>> {
        let encoder = Encoder::new(encoding);
        (!encoder.is_plain()).then(|| Box::new(Self { places: None, encoder }))
    }
}

impl State {
    /// Node's sense of a volatile packet: it goes only if the transport could take it this
    /// instant, so nothing may be waiting before it.
    fn is_writable(&self) -> bool {
        let open = match self.link {
            Link::Polling { get } => get,
            Link::Direct(_) | Link::Task => !self.blocked,
            Link::Closed => false,
        };
        open && self.waiting.is_empty()
    }

    /// Returns how many are dropped.
    fn drop_oldest(&mut self, bytes_max: usize, needed: usize) -> usize {
        let first = self.leaving();
        let mut end = first;
        while end < self.waiting.len() && self.bytes + needed > bytes_max {
            self.bytes -= cost(&self.waiting[end]);
            end += 1;
        }
        self.remove(first, end);
        end - first
    }

    /// Where a packet with this key waits that can still be replaced.
    fn replaceable(&self, key: &Key) -> Option<usize> {
        let at = self.rare.as_ref()?.places.as_ref()?.index(key)?;
        (self.leaving()..self.waiting.len()).contains(&at).then_some(at)
    }

    /// How many packets must leave as they are: a part of the first has left, or what comes behind
    /// them refers to them.
    fn leaving(&self) -> usize {
        let is_under_way = self.taken > 0 && matches!(self.link, Link::Direct(_));
        let sealed = self.encoder().and_then(Encoder::deflate).map_or(0, Deflate::sealed);
        sealed.max(usize::from(is_under_way))
    }

    /// What stands from `first` to before `end` has left or is dropped.
    fn remove(&mut self, first: usize, end: usize) {
        self.waiting.drain(first..end);
        let Some(rare) = &mut self.rare else { return };
        if let Some(deflate) = rare.encoder.deflate_mut().filter(|_| first == 0) {
            deflate.advance(end);
        }
        if let Some(places) = &mut rare.places {
            places.advance(end - first);
        }
    }

    fn clear(&mut self) {
        self.forget_waiting();
        self.taken = 0;
        self.bytes = 0;
    }

    /// Frees the packets that wait.
    fn forget_waiting(&mut self) {
        self.waiting = SmallVec::new();
        let Some(rare) = &mut self.rare else { return };
        rare.places = None;
        match &mut rare.encoder {
            Encoder::Deflate(deflate) => deflate.advance(usize::MAX),
            Encoder::V3 { .. } => {}
            Encoder::Plain => self.rare = None,
        }
    }

    fn places(&mut self) -> Option<&mut Places> {
        self.rare.as_mut()?.places.as_deref_mut()
    }

    #[inline]
    fn encoder(&self) -> Option<&Encoder> {
        self.rare.as_ref().map(|rare| &rare.encoder)
    }

    /// Gives the next packets their final form, about `len_max` bytes of them.
    fn seal(&mut self, len_max: usize) {
        let encoder = self.rare.as_mut().map(|rare| &mut rare.encoder);
        if let Some(deflate) = encoder.and_then(Encoder::deflate_mut) {
            deflate.seal(&mut self.waiting, &mut self.bytes, len_max);
        }
    }

    fn write_directly(&mut self) -> Flushed {
        while !self.waiting.is_empty() {
            self.seal(GATHER_BYTES_MAX);
            let Link::Direct(socket) = &self.link else { return Flushed::Empty };
            let (given, wrote) = write_some(socket, &self.waiting, self.taken, self.encoder());
            match wrote {
                Ok(count) => {
                    self.advance(count);
                    if count < given {
                        self.blocked = true;
                        return Flushed::Blocked;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Flushed::Blocked;
                }
                Err(_) => {
                    self.broken = true;
                    self.clear();
                    return Flushed::Broken;
                }
            }
        }
        Flushed::Empty
    }

    /// The socket has taken `count` more bytes.
    fn advance(&mut self, count: usize) {
        self.taken += count;
        let mut done = 0;
        // What has not been offered to the socket is not compressed for this.
        while self.taken > 0 && done < self.waiting.len() {
            let packet = &self.waiting[done];
            let len = form(self.encoder(), packet).len();
            if self.taken < len {
                break;
            }
            self.taken -= len;
            self.bytes -= cost(packet);
            done += 1;
        }
        metrics::sent(done, count);
        if done == self.waiting.len() {
            self.clear();
        } else {
            self.remove(0, done);
        }
    }
}

/// What a packet holds while it waits.
#[inline]
pub(crate) fn cost(packet: &EncodedPacket) -> usize {
    packet.held_bytes() + PLACE_BYTES
}

/// The frames that a packet leaves as.
#[inline]
fn form<'p>(encoder: Option<&Encoder>, packet: &'p EncodedPacket) -> &'p [u8] {
    match encoder {
        None => packet.wire(),
        Some(encoder) => encoder.form(packet),
    }
}
