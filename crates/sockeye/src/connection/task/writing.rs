//! The writing side of a connection's task: what the outbox could not write by itself.
//! Does not read.

use std::task::{Context, Poll};
use std::time::Instant;

use sockeye_proto::engine::CloseReason;

use super::{Connection, Stage};
use crate::outbox::Flushed;

impl Connection {
    pub(super) fn write(&mut self, now: Instant, cx: &mut Context<'_>) {
        if let Some(probe) = &mut self.probe
            && let Poll::Ready(Err(_)) = probe.poll_answer(cx)
        {
            self.core.session.handle_probe_closed();
            self.run_outputs(now, cx);
        }
        loop {
            match self.core.peer.write() {
                Flushed::Empty => return,
                Flushed::WakeTask if self.transport.is_none() => return self.answer_get(now),
                Flushed::WakeTask => {
                    let Some(transport) = &mut self.transport else { return };
                    self.core.peer.outbox().take_wire(transport.unsent());
                    if !self.write_boxed(cx) {
                        return;
                    }
                }
                Flushed::Blocked => {
                    if !self.poll_writable(cx) {
                        return;
                    }
                    // Perhaps nothing more comes behind which it would leave.
                    self.answer_transport();
                }
                Flushed::Broken | Flushed::Overflowed => {
                    if matches!(self.stage, Stage::Open) {
                        self.handle_unwritable(now, cx);
                    } else {
                        self.lose_transport();
                    }
                    return;
                }
            }
        }
    }

    /// The socket is broken, or its peer so slow that it must go.
    fn handle_unwritable(&mut self, now: Instant, cx: &mut Context<'_>) {
        if self.core.peer.outbox().flush() == Flushed::Broken {
            self.core.handle_transport_lost();
        } else {
            let slow = "the outbox is full";
            self.core.session.handle_transport_closed(CloseReason::ForcedClose, slow);
        }
        // A peer that takes nothing takes no close frame.
        self.lose_transport();
        self.run_outputs(now, cx);
    }

    /// Whether to go on flushing.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> bool {
        let outbox = self.core.peer.outbox();
        let ready = outbox.with_socket(|socket| socket.as_ref().poll_write_ready(cx));
        match ready {
            Some(Poll::Pending) => false,
            Some(Poll::Ready(_)) => {
                outbox.unblock();
                self.core.peer.notify_drained();
                true
            }
            None => self.write_boxed(cx),
        }
    }

    fn write_boxed(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(transport) = &mut self.transport else { return false };
        match transport.poll_write(cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => {
                self.core.peer.outbox().unblock();
                self.core.peer.notify_drained();
                true
            }
            Poll::Ready(Err(_)) => {
                self.core.handle_transport_lost();
                self.lose_transport();
                cx.waker().wake_by_ref();
                false
            }
        }
    }
}
