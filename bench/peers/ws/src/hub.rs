//! Two ways to send a message to all, each library's messages being cheap to clone.
//!
//! `Hub`: whoever has the message writes it into all connections, one after the other.
//! `Channels`: a queue for each connection, whose task writes; more wake-ups, but a slow receiver
//! delays nobody.
use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures_util::{Sink, SinkExt, Stream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::Library;

/// The connections themselves: on one thread their readers and the hub take turns.
pub struct Hub<L: Library>(RefCell<Vec<Rc<RefCell<L::Connection>>>>);

impl<L: Library> Default for Hub<L> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

struct Reader<C>(Rc<RefCell<C>>);

impl<C: Stream + Unpin> Stream for Reader<C> {
    type Item = C::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<C::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}

impl<L: Library> Hub<L> {
    pub async fn join(&self, connection: L::Connection) {
        let connection = Rc::new(RefCell::new(connection));
        self.0.borrow_mut().push(Rc::clone(&connection));
        let mut reader = Reader(Rc::clone(&connection));
        while let Some(batch) = crate::next_batch::<L, _>(&mut reader).await {
            let batch: Vec<_> = batch.collect();
            let all = self.0.borrow().clone();
            for other in all {
                // Who has gone is found out by its own task.
                let _ = send_all(&other, &batch).await;
            }
        }
        self.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, &connection));
    }
}

async fn send_all<M: Clone, C: Sink<M> + Unpin>(
    to: &RefCell<C>,
    batch: &[M],
) -> Result<(), C::Error> {
    for message in batch {
        poll_fn(|cx| to.borrow_mut().poll_ready_unpin(cx)).await?;
        to.borrow_mut().start_send_unpin(message.clone())?;
    }
    poll_fn(|cx| to.borrow_mut().poll_flush_unpin(cx)).await
}

/// A queue for each connection.
pub struct Channels<M>(RefCell<Vec<UnboundedSender<M>>>);

impl<M> Default for Channels<M> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

/// What others have sent and this connection's peer has not got yet.
pub struct Unsent<M>(UnboundedReceiver<M>);

impl<M: Clone> Channels<M> {
    pub fn join(&self) -> Unsent<M> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.borrow_mut().push(sender);
        Unsent(receiver)
    }

    pub fn send(&self, message: &M) {
        self.0.borrow_mut().retain(|to| to.send(message.clone()).is_ok());
    }

    /// Reads from `connection` what goes to all, and writes to it what comes from all.
    pub async fn run<L: Library<Message = M>>(&self, mut connection: L::Connection) {
        let mut unsent = self.join();
        loop {
            tokio::select! {
                batch = crate::next_batch::<L, _>(&mut connection) => match batch {
                    Some(batch) => batch.for_each(|message| self.send(&message)),
                    None => return,
                },
                Some(message) = unsent.next() => {
                    let mut waiting = Some(message);
                    while let Some(message) = waiting {
                        if connection.feed(message).await.is_err() {
                            return;
                        }
                        waiting = unsent.try_next();
                    }
                    if connection.flush().await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

impl<M> Unsent<M> {
    pub async fn next(&mut self) -> Option<M> {
        self.0.recv().await
    }

    pub fn try_next(&mut self) -> Option<M> {
        self.0.try_recv().ok()
    }
}
