//! The writing side of a connection: what waits to be sent, and the way it leaves.
//! Does not know what the packets mean, nor namespaces and rooms.
//!
//! Whoever emits pushes under a small lock. What is pushed in one turn of the event loop is
//! gathered and leaves in one write (see [`crate::gather`]). An outbox holds a buffer only while
//! packets wait.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io::{self, IoSlice};

use parking_lot::Mutex;
use smallvec::SmallVec;
use sockeye_proto::socket::EncodedPacket;
use tokio::net::tcp::OwnedWriteHalf;

use crate::config::OutboxPolicy;
use crate::conflation::{Key, Places};

/// Packets up to this many bytes in all are copied together, so that one plain `write` takes
/// them; larger ones are handed to the kernel where they are.
const GATHER_BYTES_MAX: usize = 64 * 1024;
/// How many pieces one vectored write names.
const SLICES_MAX: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

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
    /// All bytes of `waiting`, and those in the task's hands.
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
    /// Which of `waiting` may be replaced; rare.
    places: Option<Box<Places>>,
}

impl Outbox {
    pub(crate) fn new(link: Link, bytes_max: usize, policy: OutboxPolicy) -> Self {
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
            places: None,
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
            let more = packet.wire().len().saturating_sub(state.waiting[at].wire().len());
            state.drop_oldest(self.bytes_max, more);
        }
        if let Some(at) = state.replaceable(key) {
            let bytes = state.bytes - state.waiting[at].wire().len() + packet.wire().len();
            // One that grows beyond the limit is judged as any other.
            if bytes <= self.bytes_max || state.waiting.len() == 1 {
                state.bytes = bytes;
                state.waiting[at] = packet;
                return Pushed::Queued;
            }
        }
        let pushed = self.add(&mut state, packet, in_turn);
        if matches!(pushed, Pushed::Queued | Pushed::First | Pushed::WakeTask) {
            let last = state.waiting.len() - 1;
            state.places.get_or_insert_with(|| Box::new(Places::new())).set(key.clone(), last);
        }
        pushed
    }

    fn add(&self, state: &mut State, packet: EncodedPacket, in_turn: bool) -> Pushed {
        let bytes = packet.wire().len();
        // One packet always fits, however large: its own size is bounded elsewhere.
        if state.bytes + bytes > self.bytes_max && !state.waiting.is_empty() {
            match state.policy {
                OutboxPolicy::Refuse => return Pushed::Full,
                OutboxPolicy::DropOldest => state.drop_oldest(self.bytes_max, bytes),
                OutboxPolicy::Disconnect => {
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
        for packet in &state.waiting {
            out.extend_from_slice(packet.wire());
        }
        state.waiting = SmallVec::new();
        state.places = None;
        state.taken = state.bytes;
    }

    /// [`Link::Polling`]: the body of a GET's answer, or `None` if nothing waits.
    pub(crate) fn take_payload(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        state.scheduled = false;
        let len: usize = state.waiting.iter().map(|packet| packet.payload_len() + 1).sum();
        if len == 0 {
            return None;
        }
        let mut body = Vec::with_capacity(len);
        for packet in &state.waiting {
            if !body.is_empty() {
                body.push(sockeye_proto::engine::payload::SEPARATOR);
            }
            packet.write_payload(&mut body);
        }
        state.clear();
        Some(body)
    }

    /// Says whether a GET waits, which makes the polling transport writable.
    pub(crate) fn set_get_waiting(&self, waiting: bool) {
        if let Link::Polling { get } = &mut self.state.lock().link {
            *get = waiting;
        }
    }

    /// Changes the way out, from long-polling: what waits leaves by the new one, behind `owed`.
    pub(crate) fn relink(&self, link: Link, owed: Vec<u8>) {
        let mut state = self.state.lock();
        if matches!(state.link, Link::Closed) {
            return;
        }
        state.link = link;
        if !owed.is_empty() {
            state.bytes += owed.len();
            state.waiting.insert(0, EncodedPacket::frames(owed));
            if let Some(places) = &mut state.places {
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
            state.bytes += last.wire().len();
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
    }

    pub(crate) fn is_polling(&self) -> bool {
        matches!(self.state.lock().link, Link::Polling { .. })
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

    fn drop_oldest(&mut self, bytes_max: usize, needed: usize) {
        let first = usize::from(self.taken > 0 && matches!(self.link, Link::Direct(_)));
        let mut end = first;
        while end < self.waiting.len() && self.bytes + needed > bytes_max {
            self.bytes -= self.waiting[end].wire().len();
            end += 1;
        }
        self.remove(first, end);
    }

    /// Where a packet with this key waits that can still be replaced.
    fn replaceable(&self, key: &Key) -> Option<usize> {
        let at = self.places.as_ref()?.index(key)?;
        let is_leaving = at == 0 && self.taken > 0 && matches!(self.link, Link::Direct(_));
        (at < self.waiting.len() && !is_leaving).then_some(at)
    }

    /// What stands from `first` to before `end` has left or is dropped.
    fn remove(&mut self, first: usize, end: usize) {
        self.waiting.drain(first..end);
        if let Some(places) = &mut self.places {
            places.advance(end - first);
        }
    }

    fn clear(&mut self) {
        self.waiting = SmallVec::new();
        self.places = None;
        self.taken = 0;
        self.bytes = 0;
    }

    fn write_directly(&mut self) -> Flushed {
        while !self.waiting.is_empty() {
            let Link::Direct(socket) = &self.link else { return Flushed::Empty };
            let (given, wrote) = write_some(socket, &self.waiting, self.taken);
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
        while done < self.waiting.len() && self.taken >= self.waiting[done].wire().len() {
            let len = self.waiting[done].wire().len();
            self.taken -= len;
            self.bytes -= len;
            done += 1;
        }
        if done == self.waiting.len() {
            self.clear();
        } else {
            self.remove(0, done);
        }
    }
}

/// One write of as much as is sensible; how many bytes were offered, and how many were taken.
fn write_some(
    socket: &OwnedWriteHalf,
    waiting: &[EncodedPacket],
    taken: usize,
) -> (usize, io::Result<usize>) {
    let first = &waiting[0].wire()[taken..];
    if waiting.len() == 1 {
        return (first.len(), socket.try_write(first));
    }
    if first.len() + waiting[1].wire().len() > GATHER_BYTES_MAX {
        let mut slices: SmallVec<[IoSlice<'_>; SLICES_MAX]> = SmallVec::new();
        slices.push(IoSlice::new(first));
        slices.extend(waiting[1..].iter().take(SLICES_MAX - 1).map(|p| IoSlice::new(p.wire())));
        let given = slices.iter().map(|slice| slice.len()).sum();
        return (given, socket.try_write_vectored(&slices));
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.extend_from_slice(first);
        for packet in &waiting[1..] {
            if scratch.len() + packet.wire().len() > GATHER_BYTES_MAX {
                break;
            }
            scratch.extend_from_slice(packet.wire());
        }
        (scratch.len(), socket.try_write(scratch))
    })
}
