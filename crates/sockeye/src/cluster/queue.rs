//! What waits to be published, bounded in bytes, and what is delivered when it has been.
//! Does not know buses; the driver takes batches and says what became of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::bus::{Envelope, Offsets};
use super::message::{BroadcastOptions, ClusterBody};
use crate::sequence::Sequence;

/// The messages of one batch.
const BATCH_LEN_MAX: usize = 256;
/// What a message counts for beside its text: the type and what it owns.
const MESSAGE_BYTES: usize = 256;

/// Delivers a broadcast to this node's own sockets, with its offset if it has one.
pub(crate) type Delivery = Box<dyn FnOnce(Option<&str>) + Send>;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    bytes_max: usize,
    changed: Notify,
    /// Deliveries whose time has come.
    due: Sequence<(Delivery, Option<Arc<str>>)>,
    pub(super) published: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// The items of the batch under way, without what is being published.
    under_way: Vec<(usize, Option<Delivery>)>,
    /// Of all items, those under way too.
    bytes: usize,
    is_closed: bool,
}

struct Item {
    envelope: Option<Envelope>,
    delivery: Option<Delivery>,
    bytes: usize,
}

/// What has been taken to be published; [`Queue::settle`] must follow.
pub(super) struct Batch {
    pub(super) envelopes: Vec<Envelope>,
    /// Which item each of them belongs to.
    items: Vec<usize>,
    bytes: usize,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Adds a message, and what is delivered behind it; false if it does not fit. Then the
    /// deliveries that waited are done now, in their order, and their messages are still
    /// published.
    pub(super) fn push(&self, envelope: Option<Envelope>, delivery: Option<Delivery>) -> bool {
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
        let State { items, under_way, .. } = &mut *state;
        let under_way = under_way.iter_mut().map(|(_, delivery)| delivery);
        let waiting = under_way.chain(items.iter_mut().map(|item| &mut item.delivery));
        let now = waiting.filter_map(Option::take).chain(delivery);
        now.for_each(|delivery| self.due.add((delivery, None)));
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
                Some(batch) if batch.envelopes.is_empty() => self.settle(&batch, Ok(Vec::new())),
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
        let mut batch = Batch { envelopes: Vec::new(), items: Vec::new(), bytes: 0 };
        let State { items, under_way, .. } = &mut *state;
        for (at, item) in items.drain(..count).enumerate() {
            batch.bytes += item.bytes;
            under_way.push((at, item.delivery));
            if let Some(envelope) = item.envelope {
                batch.envelopes.push(envelope);
                batch.items.push(at);
            }
        }
        Some(batch)
    }

    /// A batch has been published, or not: what waited for it is delivered.
    pub(super) fn settle(&self, batch: &Batch, outcome: Result<Offsets, ()>) {
        let count = batch.envelopes.len() as u64;
        let counter = if outcome.is_ok() { &self.published } else { &self.failed };
        counter.fetch_add(count, Ordering::Relaxed);
        let mut offsets = outcome.unwrap_or_default().into_iter();
        let mut next = offsets.next();
        let mut state = self.state.lock();
        state.bytes -= batch.bytes;
        for (item, delivery) in state.under_way.drain(..) {
            // Offsets come in the order of the batch.
            let place = |(place, _): &(usize, Arc<str>)| batch.items.get(*place) == Some(&item);
            let offset = if next.as_ref().is_some_and(place) {
                std::mem::replace(&mut next, offsets.next()).map(|(_, offset)| offset)
            } else {
                None
            };
            if let Some(delivery) = delivery {
                self.due.add((delivery, offset));
            }
        }
        drop(state);
        self.deliver();
    }

    fn deliver(&self) {
        self.due.run(|(delivery, offset)| delivery(offset.as_deref()));
    }

    /// Nothing is added any more; what waits is still published.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
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
        fn by(&self, name: &'static str) -> Option<Delivery> {
            let all = self.0.clone();
            let delivery: Delivery = Box::new(move |offset| {
                all.lock().push(format!("{name}@{}", offset.unwrap_or("-")))
            });
            Some(delivery)
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock())
        }
    }

    #[tokio::test]
    async fn what_is_published_is_delivered_in_its_order_with_its_offset() {
        let (queue, done) = (Queue::new(1 << 20), Delivered::default());
        assert!(queue.push(envelope(), None));
        assert!(queue.push(envelope(), done.by("first")));
        assert!(queue.push(None, done.by("local")));
        assert!(queue.push(envelope(), done.by("second")));
        let batch = queue.next_batch().await.expect("it is open");
        assert_eq!(batch.envelopes.len(), 3);
        assert!(queue.push(envelope(), done.by("third")));
        assert!(done.take().is_empty());
        queue.settle(&batch, Ok(vec![(1, "1-0".into()), (2, "2-0".into())]));
        assert_eq!(done.take(), ["first@1-0", "local@-", "second@2-0"]);
        queue.close();
        assert!(!queue.push(envelope(), done.by("late")));
        assert_eq!(done.take(), ["third@-", "late@-"], "delivery goes on, and in its order");
        let batch = queue.next_batch().await.expect("what waits is still published");
        queue.settle(&batch, Err(()));
        assert!(queue.next_batch().await.is_none());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = [&queue.published, &queue.failed, &queue.dropped].map(count);
        assert_eq!((counts, queue.bytes()), ([3, 1, 1], 0));
        assert!(done.take().is_empty());
    }

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_and_delivered_here() {
        let (queue, done) = (Queue::new(2 * MESSAGE_BYTES), Delivered::default());
        assert!(queue.push(envelope(), done.by("a")));
        let batch = queue.next_batch().await.expect("it is open");
        assert!(queue.push(envelope(), done.by("b")));
        assert!(!queue.push(envelope(), done.by("c")));
        assert_eq!(done.take(), ["a@-", "b@-", "c@-"]);
        queue.settle(&batch, Ok(vec![(0, "1-0".into())]));
        assert!(queue.push(envelope(), done.by("d")));
        let batch = queue.next_batch().await.expect("it is open");
        queue.settle(&batch, Ok(vec![(0, "2-0".into()), (1, "3-0".into())]));
        assert_eq!(done.take(), ["d@3-0"]);
    }
}
