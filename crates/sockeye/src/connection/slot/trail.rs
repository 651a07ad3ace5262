//! What goes with an event for those who watch: its span, and when it came.
//! Does not know how an event is handled.

use std::time::Instant;

use tracing::Span;

use crate::metrics;
use crate::socket::Socket;

/// Tells how long an event took when it is dropped.
pub(super) struct Trail {
    begun: Option<Instant>,
    span: Span,
}

impl Default for Trail {
    /// Nobody watches.
    fn default() -> Self {
        Self { begun: None, span: Span::none() }
    }
}

impl Trail {
    #[inline]
    pub(super) fn begin(socket: &Socket, event: &str) -> Self {
        let span = tracing::debug_span!(
            "event",
            namespace = socket.namespace().name(),
            socket = %socket.id(),
            event
        );
        Self { begun: metrics::clock(), span }
    }

    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// For one that has to wait; most of the time nobody watches, and there is nothing to keep.
    pub(super) fn boxed(self) -> Option<Box<Self>> {
        (self.begun.is_some() || !self.span.is_disabled()).then(|| Box::new(self))
    }
}

impl Drop for Trail {
    #[inline]
    fn drop(&mut self) {
        if let Some(begun) = self.begun {
            metrics::event_handled(begun);
        }
    }
}
