//! What waits to be published, bounded in bytes, and what is delivered when it has been.
//! Does not know buses; the driver takes batches and says what became of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::bus::{Envelope, Offsets};
use super::gate::{Gate, Passed};
use super::log::LogOffset;
use super::message::{BroadcastOptions, ClusterBody};
use crate::sequence::Sequence;

/// The messages of one batch.
const BATCH_LEN_MAX: usize = 256;
/// What a message counts for beside its text: the type and what it owns.
const MESSAGE_BYTES: usize = 256;

/// Delivers a broadcast to this node's own sockets, with its offset if it has one.
pub(crate) type Delivery = Box<dyn FnOnce(Option<LogOffset>) + Send>;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    bytes_max: usize,
    changed: Notify,
    /// A batch has been settled.
    settled: Notify,
    /// Deliveries whose time has come.
    due: Sequence<(Delivery, Option<LogOffset>)>,
    pub(super) published: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// The items of the batch under way, without what is being published.
    under_way: Vec<UnderWay>,
    /// What has been published and waits until the log has been read so far.
    gate: Gate,
    /// How many batches have been taken and settled.
    batches_taken: u64,
    batches_settled: u64,
    /// Of all items, those under way and at the gate too.
    bytes: usize,
    is_closed: bool,
}

struct Item {
    envelope: Option<Envelope>,
    delivery: Option<Waiting>,
    bytes: usize,
}

/// What is delivered later, in which namespace.
type Waiting = (Arc<str>, Delivery);

struct UnderWay {
    /// Its place in the batch.
    at: usize,
    delivery: Option<Waiting>,
    bytes: usize,
}

/// What has been taken to be published; [`Queue::settle`] must follow.
pub(super) struct Batch {
    pub(super) envelopes: Vec<Envelope>,
    /// Which item each of them belongs to.
    items: Vec<usize>,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Adds a message, and what is delivered behind it; false if it does not fit. Then the
    /// deliveries that waited are done now, in their order, and their messages are still
    /// published.
    pub(super) fn push(&self, envelope: Option<Envelope>, delivery: Option<Waiting>) -> bool {
        let bytes = envelope.as_ref().map_or(0, |envelope| bytes(&envelope.message.body));
        let mut state = self.state.lock();
        // One message always fits.
        let fits = !state.is_closed
            && (state.bytes + bytes <= self.bytes_max || state.bytes == 0 || envelope.is_none());
        if fits {
            state.bytes += bytes;
            state.items.push_back(Item { envelope, delivery, bytes });
            drop(state);
            self.changed.notify_one();
            return true;
        }
        let passed = state.gate.pass_all();
        self.pass(&mut state, passed);
        let State { items, under_way, .. } = &mut *state;
        let under_way = under_way.iter_mut().map(|item| &mut item.delivery);
        let waiting = under_way.chain(items.iter_mut().map(|item| &mut item.delivery));
        let now = waiting.filter_map(Option::take).chain(delivery);
        now.for_each(|(_, delivery)| self.due.add((delivery, None)));
        drop(state);
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.deliver();
        false
    }

    /// The next messages to publish; `None` when the queue is closed and empty.
    pub(super) async fn next_batch(&self) -> Option<Batch> {
        loop {
            // Made before the look, so that nothing is missed between the two.
            let changed = self.changed.notified();
            match self.take_batch() {
                Some(batch) if batch.envelopes.is_empty() => self.settle(&batch, Vec::new(), 0),
                Some(batch) => return Some(batch),
                None if self.is_closed() => return None,
                None => changed.await,
            }
        }
    }

    fn take_batch(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        let count = state.items.len().min(BATCH_LEN_MAX);
        if count == 0 {
            return None;
        }
        let mut batch = Batch { envelopes: Vec::new(), items: Vec::new() };
        state.batches_taken += 1;
        let State { items, under_way, .. } = &mut *state;
        for (at, item) in items.drain(..count).enumerate() {
            under_way.push(UnderWay { at, delivery: item.delivery, bytes: item.bytes });
            if let Some(envelope) = item.envelope {
                batch.envelopes.push(envelope);
                batch.items.push(at);
            }
        }
        Some(batch)
    }

    /// A batch has been published, but for `failed` of its messages: what waited for it is
    /// delivered.
    pub(super) fn settle(&self, batch: &Batch, offsets: Offsets, failed: usize) {
        let published = batch.envelopes.len().saturating_sub(failed);
        self.published.fetch_add(published as u64, Ordering::Relaxed);
        self.failed.fetch_add(failed as u64, Ordering::Relaxed);
        let mut offsets = offsets.into_iter();
        let mut next = offsets.next();
        let mut state = self.state.lock();
        state.batches_settled += 1;
        for UnderWay { at, delivery, bytes } in std::mem::take(&mut state.under_way) {
            // Offsets come in the order of the batch.
            let place = |(place, _): &(usize, LogOffset)| batch.items.get(*place) == Some(&at);
            let offset = if next.as_ref().is_some_and(place) {
                std::mem::replace(&mut next, offsets.next()).map(|(_, offset)| offset)
            } else {
                None
            };
            let Some((namespace, delivery)) = delivery else {
                state.bytes -= bytes;
                continue;
            };
            let passed = state.gate.add(namespace, delivery, offset, bytes);
            self.pass(&mut state, passed);
        }
        drop(state);
        self.settled.notify_waiters();
        self.deliver();
    }

    fn pass(&self, state: &mut State, passed: impl IntoIterator<Item = Passed>) {
        for Passed { delivery, offset, bytes } in passed {
            state.bytes -= bytes;
            self.due.add((delivery, offset));
        }
    }

    fn deliver(&self) {
        self.due.run(|(delivery, offset)| delivery(offset));
    }

    /// Whether the log is read now: what is in it is delivered when it has been read.
    pub(super) fn set_reading(&self, is_reading: bool) {
        let mut state = self.state.lock();
        let is_reading = is_reading && !state.is_closed;
        let passed = state.gate.set_reading(is_reading);
        self.pass(&mut state, passed);
        drop(state);
        self.deliver();
    }

    /// Some of what stands in the log up to here will never be read: nothing waits for that.
    pub(super) fn skip_to(&self, until: LogOffset) {
        let mut state = self.state.lock();
        let passed = state.gate.skip_to(until);
        self.pass(&mut state, passed);
        drop(state);
        self.deliver();
    }

    pub(super) fn is_reading(&self) -> bool {
        self.state.lock().gate.is_reading()
    }

    /// The log of a namespace has been read up to an entry of this node: it is delivered, and what
    /// came before it. False if it has been delivered before, without its offset.
    pub(super) async fn deliver_to(&self, namespace: &str, offset: LogOffset) -> bool {
        let taken = self.state.lock().batches_taken;
        loop {
            // Made before the look, so that nothing is missed between the two.
            let settled = self.settled.notified();
            {
                let mut state = self.state.lock();
                if let Some(passed) = state.gate.read_to(namespace, offset) {
                    self.pass(&mut state, passed);
                    break;
                }
                // Read before it was known where it stands: the batch that it is in is under way.
                if state.batches_settled >= taken {
                    return false;
                }
            }
            settled.await;
        }
        let (tell, is_done) = oneshot::channel();
        let told = move |_| {
            // Nobody waits where the reading has been given up.
            let _ = tell.send(());
        };
        self.due.add((Box::new(told), None));
        self.deliver();
        // Another thread may be at it. What others have appended comes behind.
        is_done.await.is_ok()
    }

    /// Nothing is added any more; what waits is still published.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        // A bus that is closed may never read what waits.
        self.set_reading(false);
        self.changed.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

/// About what a message takes while it waits.
fn bytes(body: &ClusterBody) -> usize {
    let names = |options: &BroadcastOptions| -> usize {
        options.rooms.iter().chain(&options.except).map(|room| room.len()).sum()
    };
    let args = |args: &sockeye_proto::socket::OwnedArgs| {
        args.raw().len() + args.attachments().iter().map(|bytes| bytes.len()).sum::<usize>()
    };
    let session = |session: &super::ClusterSession| {
        let rooms: usize = session.rooms.iter().map(|room| room.len()).sum();
        let more = session.more.as_ref().map_or(0, |more| more.get().len());
        rooms + more + args(&session.data)
    };
    MESSAGE_BYTES
        + match body {
            ClusterBody::Broadcast { event, options, .. } => {
                let attachments: usize = event.attachments().map(<[u8]>::len).sum();
                event.json().len() + attachments + names(options)
            }
            ClusterBody::BroadcastAck { answer, .. }
            | ClusterBody::ServerSideEmitResponse { answer, .. } => args(answer),
            ClusterBody::ServerSideEmit { event, .. } => args(event),
            ClusterBody::FetchSocketsResponse { sockets, .. } => {
                let one = |socket: &super::SocketDetails| {
                    let rooms: usize = socket.rooms.iter().map(|room| room.len()).sum();
                    MESSAGE_BYTES + socket.handshake.get().len() + rooms + args(&socket.data)
                };
                sockets.iter().map(one).sum()
            }
            ClusterBody::SocketsJoin { options, rooms }
            | ClusterBody::SocketsLeave { options, rooms } => {
                names(options) + rooms.iter().map(|room| room.len()).sum::<usize>()
            }
            ClusterBody::Forward(forward) => forward.body_len(),
            ClusterBody::KeepSession(kept) => session(&kept.session),
            ClusterBody::EnterSession(live) => session(&live.session),
            ClusterBody::DisconnectSockets { options, .. }
            | ClusterBody::FetchSockets { options, .. } => names(options),
            ClusterBody::ListRoomsResponse { rooms, .. } => {
                rooms.iter().map(|room| room.len()).sum()
            }
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::super::message::ClusterMessage;
    use super::*;

    fn envelope() -> Option<Envelope> {
        let message =
            ClusterMessage { sender: None, namespace: "/".into(), body: ClusterBody::Heartbeat };
        Some(Envelope { to: None, message })
    }

    /// What was delivered, in its order.
    #[derive(Clone, Default)]
    struct Delivered(Arc<Mutex<Vec<String>>>);

    impl Delivered {
        fn by(&self, name: &'static str) -> Option<Waiting> {
            let all = self.0.clone();
            let delivery: Delivery = Box::new(move |offset| {
                let offset = offset.map_or("-".into(), |offset| offset.to_string());
                all.lock().push(format!("{name}@{offset}"));
            });
            Some(("/".into(), delivery))
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock())
        }
    }

    fn at(number: u64) -> LogOffset {
        LogOffset::new(number, 0)
    }

    #[tokio::test]
    async fn what_is_published_is_delivered_in_its_order_when_it_has_been_read() {
        let (queue, done) = (Queue::new(1 << 20), Delivered::default());
        queue.set_reading(true);
        assert!(queue.push(envelope(), None));
        assert!(queue.push(envelope(), done.by("first")));
        assert!(queue.push(None, done.by("local")));
        assert!(queue.push(envelope(), done.by("second")));
        let batch = queue.next_batch().await.expect("it is open");
        assert_eq!(batch.envelopes.len(), 3);
        assert!(queue.push(envelope(), done.by("third")));
        // It is read before it is known where it stands.
        let read = async {
            assert!(queue.deliver_to("/", at(1)).await);
            assert_eq!(done.take(), ["first@1-0", "local@-"]);
        };
        let settle = async {
            assert!(done.take().is_empty());
            queue.settle(&batch, vec![(1, at(1)), (2, at(2))], 0);
        };
        tokio::join!(read, settle);
        assert!(!queue.deliver_to("/other", at(2)).await);
        assert!(!queue.deliver_to("/", at(1)).await, "it has been delivered");
        assert!(queue.deliver_to("/", at(2)).await);
        assert_eq!(done.take(), ["second@2-0"]);
        queue.close();
        assert!(!queue.push(envelope(), done.by("late")));
        assert_eq!(done.take(), ["third@-", "late@-"], "delivery goes on, and in its order");
        let batch = queue.next_batch().await.expect("what waits is still published");
        queue.settle(&batch, vec![], 1);
        assert!(queue.next_batch().await.is_none());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = [&queue.published, &queue.failed, &queue.dropped].map(count);
        assert_eq!((counts, queue.bytes()), ([3, 1, 1], 0));
        assert!(done.take().is_empty());
    }

    #[tokio::test]
    async fn nothing_waits_for_a_log_that_nobody_reads() {
        let (queue, done) = (Queue::new(1 << 20), Delivered::default());
        queue.set_reading(true);
        assert!(queue.push(envelope(), done.by("a")));
        assert!(queue.push(None, done.by("b")));
        let batch = queue.next_batch().await.expect("it is open");
        queue.settle(&batch, vec![(0, at(1))], 0);
        assert!(done.take().is_empty() && queue.bytes() > 0);
        queue.set_reading(false);
        assert_eq!((done.take(), queue.bytes()), (vec!["a@-".into(), "b@-".into()], 0));
        assert!(queue.push(envelope(), done.by("c")));
        let batch = queue.next_batch().await.expect("it is open");
        queue.settle(&batch, vec![(0, at(2))], 0);
        assert_eq!(done.take(), ["c@-"]);
        queue.set_reading(true);
        assert!(!queue.deliver_to("/", at(1)).await && !queue.deliver_to("/", at(2)).await);
    }

    #[tokio::test]
    async fn nothing_waits_for_what_the_log_has_lost() {
        let (queue, done) = (Queue::new(1 << 20), Delivered::default());
        queue.set_reading(true);
        let publish = async |name, offset| {
            assert!(queue.push(envelope(), done.by(name)));
            let batch = queue.next_batch().await.expect("it is open");
            queue.settle(&batch, vec![(0, at(offset))], 0);
        };
        publish("a", 1).await;
        assert!(queue.push(None, done.by("local")));
        publish("b", 3).await;
        assert!(done.take().is_empty());
        queue.skip_to(at(2));
        assert_eq!(done.take(), ["a@-", "local@-"]);
        // It was published before, and is known to be only now.
        queue.skip_to(at(6));
        publish("c", 5).await;
        assert_eq!(done.take(), ["b@-", "c@-"]);
        publish("d", 7).await;
        assert!(done.take().is_empty());
        assert!(queue.deliver_to("/", at(7)).await);
        assert_eq!((done.take(), queue.bytes()), (vec!["d@7-0".into()], 0));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_and_delivered_here() {
        let (queue, done) = (Queue::new(3 * MESSAGE_BYTES), Delivered::default());
        queue.set_reading(true);
        assert!(queue.push(envelope(), done.by("waits")));
        let batch = queue.next_batch().await.expect("it is open");
        queue.settle(&batch, vec![(0, at(1))], 0);
        assert!(queue.push(envelope(), done.by("a")));
        let batch = queue.next_batch().await.expect("it is open");
        assert!(queue.push(envelope(), done.by("b")));
        assert!(!queue.push(envelope(), done.by("c")));
        assert_eq!(done.take(), ["waits@-", "a@-", "b@-", "c@-"]);
        queue.settle(&batch, vec![(0, at(2))], 0);
        assert!(queue.push(envelope(), done.by("d")));
        let batch = queue.next_batch().await.expect("it is open");
        queue.settle(&batch, vec![(0, at(3)), (1, at(4))], 0);
        assert!(queue.deliver_to("/", at(4)).await);
        assert_eq!((done.take(), queue.bytes()), (vec!["d@4-0".into()], 0));
    }
}
