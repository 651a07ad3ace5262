//! The way of one event: past the catch-alls, through the middlewares, to the listeners.
//! Does not know the socket's life; the slot says when an event may begin.
//!
//! Each step is polled at once. An event is copied out of the buffer that it came in only if a
//! step waits while others are behind it.

use std::sync::Arc;
use std::task::{Context, Poll};

use sockeye_proto::socket::{Args, ArgsCursor, EncodedPacket, OwnedArgs};
use tracing::Span;

use super::trail::Trail;
use super::{Running, Slot};
use crate::erased::{EventHandler, Outcome, Role};
use crate::error::HandlerError;
use crate::extract::Parts;
use crate::handler::BoxFuture;
use crate::handlers::Steps;
use crate::panics::{self, Panicked};

/// An event on its way.
pub(super) struct Event<'a> {
    text: Text<'a>,
    /// The acknowledgement that nobody has answered or taken.
    unanswered: Option<u64>,
    /// A listener has heard it.
    is_heard: bool,
    trail: Trail,
}

enum Text<'a> {
    Borrowed(&'a str, &'a Args<'a>),
    Owned(Box<str>, OwnedArgs),
}

/// A step that waits.
pub(super) struct Waiting {
    /// `None`: it must not begin yet, as so many of it run as may.
    future: Option<BoxFuture<Outcome>>,
    role: Role,
    event: Box<str>,
    unanswered: Option<u64>,
    /// `None`: it is the last step, a listener.
    rest: Option<Box<Rest>>,
    trail: Option<Box<Trail>>,
}

/// What is behind a step that waits.
struct Rest {
    args: OwnedArgs,
    is_heard: bool,
    steps: Steps,
}

/// The concurrent listeners that wait.
#[derive(Default)]
pub(super) struct Background(Vec<Concurrent>);

struct Concurrent {
    handler: Arc<dyn EventHandler>,
    future: BoxFuture<Outcome>,
    event: Box<str>,
    unanswered: Option<u64>,
}

impl<'a> Event<'a> {
    pub(super) fn borrowed(
        name: &'a str,
        args: &'a Args<'a>,
        id: Option<u64>,
        trail: Trail,
    ) -> Self {
        Self { text: Text::Borrowed(name, args), unanswered: id, is_heard: false, trail }
    }

    /// One that has waited.
    pub(super) fn owned(name: Box<str>, args: OwnedArgs, id: Option<u64>, trail: Trail) -> Self {
        Self { text: Text::Owned(name, args), unanswered: id, is_heard: false, trail }
    }

    fn name(&self) -> &str {
        match &self.text {
            Text::Borrowed(name, _) => name,
            Text::Owned(name, _) => name,
        }
    }

    fn args(&self) -> ArgsCursor<'_> {
        match &self.text {
            Text::Borrowed(_, args) => args.cursor(),
            Text::Owned(_, args) => args.cursor(),
        }
    }

    /// One of its steps waits, `steps` are behind it.
    fn wait(self, role: Role, future: Option<BoxFuture<Outcome>>, steps: Steps) -> Waiting {
        let Self { text, unanswered, is_heard, trail } = self;
        let is_last = steps.is_empty();
        let (event, args) = match text {
            Text::Borrowed(name, args) => (name.into(), (!is_last).then(|| args.to_owned_args())),
            Text::Owned(name, args) => (name, (!is_last).then_some(args)),
        };
        let rest = args.map(|args| Box::new(Rest { args, is_heard, steps }));
        Waiting { future, role, event, unanswered, rest, trail: trail.boxed() }
    }
}

impl Waiting {
    /// The server has disconnected the socket: nothing comes behind this step.
    pub(super) fn be_the_last(&mut self) {
        self.rest = None;
        self.unanswered = None;
    }
}

impl Slot {
    /// Takes an event through its steps, as far as they go without waiting.
    pub(super) fn run_event(&mut self, event: Event<'_>, cx: &mut Context<'_>) {
        let steps = self.socket.steps(event.name());
        self.go_on(event, steps, cx);
    }

    fn go_on(&mut self, mut event: Event<'_>, mut steps: Steps, cx: &mut Context<'_>) {
        let span = event.trail.span();
        let _entered = span.enter();
        loop {
            let Some(handler) = steps.next() else {
                if !steps.listeners_follow {
                    return self.finish(&event);
                }
                steps = self.socket.listeners(event.name());
                continue;
            };
            // A step before may have disconnected it.
            if !self.takes_events() {
                return;
            }
            let role = handler.role();
            if let Role::Concurrent(limit) = role {
                if self.background_count(&handler) >= limit as usize {
                    steps.put_back(handler);
                    self.running = Some(Running::Event(Box::new(event.wait(role, None, steps))));
                    return;
                }
                event.is_heard = true;
                self.run_concurrently(handler, &mut event, cx);
                continue;
            }
            // Another socket's event may have been first.
            if role == Role::Once && !self.socket.claim(&handler) {
                continue;
            }
            event.is_heard |= role.is_listener();
            let outcome = match self.begin(&*handler, &mut event, cx) {
                Ok(outcome) => outcome,
                Err(future) => {
                    let waiting = event.wait(role, Some(future), steps);
                    self.running = Some(Running::Event(Box::new(waiting)));
                    return;
                }
            };
            let mut unanswered = event.unanswered;
            if !self.settle(role, event.name(), &mut unanswered, outcome) {
                return;
            }
            event.unanswered = unanswered;
        }
    }

    /// Goes on with an event of which a step has waited.
    pub(super) fn go_on_with(&mut self, mut waiting: Box<Waiting>, cx: &mut Context<'_>) {
        let span = waiting.trail.as_deref().map_or(Span::none(), Trail::span);
        let _entered = span.enter();
        let mut outcome = None;
        if let Some(future) = &mut waiting.future {
            let Poll::Ready(ready) = poll(future, cx) else {
                self.running = Some(Running::Event(waiting));
                return;
            };
            outcome = Some(ready);
        }
        let Waiting { future, role, event, mut unanswered, rest, trail } = *waiting;
        let has_begun = outcome.is_some();
        if let Some(outcome) = outcome {
            panics::discard(future);
            if !self.settle(role, &event, &mut unanswered, outcome) {
                return;
            }
        }
        let Some(rest) = rest else {
            return self.answer_nothing(unanswered);
        };
        let Rest { args, is_heard, steps } = *rest;
        let is_heard = is_heard || (has_begun && role.is_listener());
        let text = Text::Owned(event, args);
        let trail = trail.map_or_else(Trail::default, |trail| *trail);
        self.go_on(Event { text, unanswered, is_heard, trail }, steps, cx);
    }

    /// Starts a step. The error is its future, which waits.
    #[inline]
    fn begin(
        &self,
        handler: &dyn EventHandler,
        event: &mut Event<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, BoxFuture<Outcome>> {
        let mut parts = Parts::event(&self.socket, event.name(), event.args(), event.unanswered);
        let (mut has_begun, mut outcome) = (false, None);
        let waiting = panics::catch(|| {
            let mut future = match handler.call(&mut parts) {
                Ok(future) => future,
                Err(rejection) => {
                    outcome = Some(Err(Box::new(rejection.into())));
                    return None;
                }
            };
            has_begun = true;
            match future.as_mut().poll(cx) {
                Poll::Pending => return Some(future),
                Poll::Ready(ready) => outcome = Some(ready),
            }
            None
        });
        if has_begun {
            // It may have taken the acknowledgement to answer it itself.
            event.unanswered = parts.ack();
        }
        match (waiting, outcome) {
            (Ok(Some(future)), _) => Err(future),
            (Err(Panicked), Some(outcome)) => {
                panics::warn_of_drop();
                Ok(outcome)
            }
            (_, outcome) => Ok(outcome.unwrap_or_else(panicked)),
        }
    }

    /// Starts a concurrent listener, which takes the acknowledgement along.
    fn run_concurrently(
        &mut self,
        handler: Arc<dyn EventHandler>,
        event: &mut Event<'_>,
        cx: &mut Context<'_>,
    ) {
        let begun = self.begin(&*handler, event, cx);
        let mut unanswered = event.unanswered.take();
        match begun {
            Ok(outcome) => {
                self.settle(handler.role(), event.name(), &mut unanswered, outcome);
                self.answer_nothing(unanswered);
            }
            Err(future) => {
                let event = event.name().into();
                let concurrent = Concurrent { handler, future, event, unanswered };
                self.background.get_or_insert_default().0.push(concurrent);
            }
        }
    }

    fn background_count(&self, handler: &Arc<dyn EventHandler>) -> usize {
        let all = self.background.as_deref().map_or(&[][..], |background| &background.0);
        all.iter().filter(|one| Arc::ptr_eq(&one.handler, handler)).count()
    }

    pub(super) fn poll_background(&mut self, cx: &mut Context<'_>) {
        let Some(mut background) = self.background.take() else { return };
        let mut at = 0;
        while let Some(one) = background.0.get_mut(at) {
            let Poll::Ready(outcome) = poll(&mut one.future, cx) else {
                at += 1;
                continue;
            };
            let Concurrent { handler, future, event, mut unanswered } = background.0.remove(at);
            panics::discard(future);
            self.settle(handler.role(), &event, &mut unanswered, outcome);
            self.answer_nothing(unanswered);
        }
        self.background = Some(background).filter(|background| !background.0.is_empty());
    }

    /// Sends a step's answer, or tells of its failure. Returns whether the event goes on.
    fn settle(
        &self,
        role: Role,
        event: &str,
        unanswered: &mut Option<u64>,
        outcome: Outcome,
    ) -> bool {
        let error = match outcome {
            Ok(None) => return true,
            Ok(Some(reply)) => {
                *unanswered = None;
                // A client that has gone needs no answer.
                let _ = self.socket.push(reply);
                return true;
            }
            Err(error) => error,
        };
        // What a catch-all does is not the client's affair.
        if role != Role::Observer
            && let Some(id) = unanswered.take()
        {
            let namespace = self.socket.namespace().name();
            let refusal = EncodedPacket::ack_raw(namespace, id, &error.to_json(), &[]);
            let _ = self.socket.push(refusal);
        }
        self.report(event, &error);
        role != Role::Middleware
    }

    fn finish(&self, event: &Event<'_>) {
        if event.is_heard {
            self.answer_nothing(event.unanswered);
        } else {
            tracing::debug!(socket = %self.socket.id(), event = event.name(), "nobody listens");
        }
    }

    /// The listeners are done and have said nothing: an acknowledgement without arguments.
    fn answer_nothing(&self, unanswered: Option<u64>) {
        if let Some(id) = unanswered {
            let namespace = self.socket.namespace().name();
            let _ = self.socket.push(EncodedPacket::ack_raw(namespace, id, "", &[]));
        }
    }
}

/// Polls a step; a panic is its failure.
fn poll(future: &mut BoxFuture<Outcome>, cx: &mut Context<'_>) -> Poll<Outcome> {
    panics::catch(|| future.as_mut().poll(cx)).unwrap_or_else(|Panicked| Poll::Ready(panicked()))
}

fn panicked() -> Outcome {
    Err(Box::new(HandlerError::panicked()))
}
