//! One socket of a connection, from its CONNECT to its end: the middlewares, then its events and
//! hooks one after the other. Does not know packets or transports; the connection's task polls it.
//!
//! ```text
//!              admitted                 end()                     hooks done
//!  Admitting ───────────► Open ───────────────────► Ending ──────────────────► gone
//!      │ refused, or end()                                                       ▲
//!      └─────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A handler is polled in the connection's own task, at once and without a spawn; while it waits,
//! further events wait behind it. Only concurrent listeners go on in the background.

mod dispatch;
mod trail;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sockeye_proto::socket::{Args, OwnedArgs};

use self::dispatch::{Background, Event, Waiting};
use self::trail::Trail;
use crate::erased::HookHandler;
use crate::error::{ConnectError, HandlerError};
use crate::extract::Parts;
use crate::handler::BoxFuture;
use crate::handlers::Hook;
use crate::panics::{self, Panicked};
use crate::reason::DisconnectReason;
use crate::socket::Socket;

pub(super) struct Slot {
    pub(super) socket: Socket,
    stage: Stage,
    running: Option<Running>,
    /// Concurrent listeners that wait; rare.
    background: Option<Box<Background>>,
    waiting: VecDeque<Job>,
    /// What the events among them hold.
    waiting_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The middlewares are what runs.
    Admitting,
    Open,
    Ending,
}

/// What the task polls now.
enum Running {
    Admission(BoxFuture<Result<(), ConnectError>>),
    Hook(Hook, BoxFuture<()>),
    Event(Box<Waiting>),
}

/// What comes after it.
enum Job {
    Connection,
    Event {
        name: Box<str>,
        args: OwnedArgs,
        id: Option<u64>,
        trail: Option<Box<Trail>>,
    },
    Disconnecting(DisconnectReason),
    Leave,
    Disconnect(DisconnectReason),
    /// One of the hooks that the job before has found.
    Hook(Hook, Option<DisconnectReason>, Arc<dyn HookHandler>),
    Forget,
}

/// What a slot's poll comes to.
pub(super) enum Step {
    /// The middlewares let the socket in.
    Admitted,
    Refused(ConnectError),
    /// Nothing to do until something happens.
    Idle,
    /// The socket has ended and its handlers are done.
    Gone,
}

impl Slot {
    /// A socket that wants to connect.
    pub(super) fn new(socket: Socket) -> Self {
        let recovery = socket.namespace().recovery();
        let skips = recovery.is_some_and(|recovery| recovery.skips_middlewares());
        let admission = match skips && socket.recovered() {
            true => None,
            false => socket.namespace().admission(&socket),
        };
        let running = admission.map(|admission| Running::Admission(Box::pin(admission)));
        let stage = Stage::Admitting;
        let waiting = VecDeque::new();
        Self { socket, stage, running, background: None, waiting, waiting_bytes: 0 }
    }

    pub(super) fn is_admitting(&self) -> bool {
        self.stage == Stage::Admitting
    }

    pub(super) fn is_ending(&self) -> bool {
        self.stage == Stage::Ending
    }

    /// How many events wait behind the handler that runs.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many bytes they hold.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The client has been told: `connection` comes before every event.
    pub(super) fn open(&mut self) {
        self.stage = Stage::Open;
        self.waiting.push_front(Job::Connection);
    }

    /// An event came. It is handled at once if nothing is before it.
    pub(super) fn handle_event(
        &mut self,
        name: &str,
        args: &Args<'_>,
        id: Option<u64>,
        cx: &mut Context<'_>,
    ) {
        let trail = Trail::begin(&self.socket, name);
        if !self.socket.is_connected() {
            // The server has disconnected it this instant.
        } else if self.running.is_some() || !self.waiting.is_empty() {
            let args = args.to_owned_args();
            let event = Job::Event { name: name.into(), args, id, trail: trail.boxed() };
            self.waiting_bytes += event.bytes();
            self.waiting.push_back(event);
        } else {
            self.run_event(Event::borrowed(name, args, id, trail), cx);
        }
    }

    /// The socket ends. Events that came before are still handled, unless the server itself
    /// disconnected it; then the hooks run.
    pub(super) fn end(&mut self, reason: DisconnectReason) {
        if self.is_ending() {
            return;
        }
        let by_server = reason == DisconnectReason::ServerNamespaceDisconnect;
        let was_admitting = self.is_admitting();
        self.stage = Stage::Ending;
        if was_admitting {
            panics::discard(self.running.take());
            self.socket.refuse();
            return;
        }
        // One that the application has disconnected this instant stays so.
        if self.socket.end() && reason.is_recoverable() {
            self.socket.begin_session();
        }
        self.socket.forget_acks();
        if by_server {
            self.waiting.retain(|job| matches!(job, Job::Connection | Job::Hook(..)));
            self.waiting_bytes = 0;
            if let Some(Running::Event(waiting)) = &mut self.running {
                waiting.be_the_last();
            }
        }
        self.waiting.push_back(Job::Disconnecting(reason));
        self.waiting.push_back(Job::Leave);
        self.waiting.push_back(Job::Disconnect(reason));
        self.waiting.push_back(Job::Forget);
    }

    /// Goes on with the middlewares or the handlers as far as they go without waiting.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Step {
        if self.is_admitting() {
            return self.poll_admission(cx);
        }
        self.poll_background(cx);
        loop {
            self.poll_running(cx);
            if self.running.is_some() {
                return Step::Idle;
            }
            // What came before the end is done before it.
            if self.background.is_some() && matches!(self.waiting.front(), Some(job) if job.ends())
            {
                return Step::Idle;
            }
            match self.waiting.pop_front() {
                Some(job) => {
                    self.waiting_bytes -= job.bytes();
                    self.start(job, cx);
                }
                None if self.is_ending() => return Step::Gone,
                None => {
                    // An idle socket keeps no queue.
                    self.waiting = VecDeque::new();
                    return Step::Idle;
                }
            }
        }
    }

    fn poll_admission(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(Running::Admission(mut admission)) = self.running.take() else {
            return Step::Admitted;
        };
        let step = match panics::catch(|| admission.as_mut().poll(cx)) {
            Ok(Poll::Pending) => {
                self.running = Some(Running::Admission(admission));
                return Step::Idle;
            }
            Ok(Poll::Ready(Ok(()))) => Step::Admitted,
            Ok(Poll::Ready(Err(error))) => Step::Refused(error),
            Err(Panicked) => {
                self.report("middleware", &HandlerError::panicked());
                Step::Refused(ConnectError::new("Internal server error"))
            }
        };
        panics::discard(admission);
        step
    }

    /// Ends without waiting for handlers: their futures are dropped, the hooks that are left are
    /// not run.
    pub(super) fn abandon(&mut self) {
        panics::discard((self.running.take(), self.background.take()));
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.stage = Stage::Ending;
        self.socket.refuse();
        self.leave();
        self.socket.keep_session();
    }

    fn start(&mut self, job: Job, cx: &mut Context<'_>) {
        match job {
            // The server has disconnected it this instant, perhaps in the handler before.
            Job::Event { .. } if !self.takes_events() => {}
            Job::Event { name, args, id, trail } => {
                let trail = trail.map_or_else(Trail::default, |trail| *trail);
                self.run_event(Event::owned(name, args, id, trail), cx);
            }
            Job::Connection => self.find_hooks(Hook::Connection, None),
            Job::Disconnecting(reason) => self.find_hooks(Hook::Disconnecting, Some(reason)),
            Job::Leave => self.leave(),
            Job::Disconnect(reason) => self.find_hooks(Hook::Disconnect, Some(reason)),
            Job::Hook(hook, reason, handler) => self.start_hook(hook, reason, &*handler),
            Job::Forget => {
                self.socket.forget_handlers();
                self.socket.keep_session();
            }
        }
    }

    /// Whether events are handled: also those that came before the client's disconnect.
    fn takes_events(&self) -> bool {
        self.is_ending() || self.socket.is_connected()
    }

    fn leave(&mut self) {
        self.socket.leave_all();
        self.socket.namespace().remove(&self.socket.id());
    }

    /// The hooks that there are now run next.
    fn find_hooks(&mut self, hook: Hook, reason: Option<DisconnectReason>) {
        let mut found = self.socket.hooks(hook).into_iter();
        let first = found.next();
        for handler in found.rev() {
            self.waiting.push_front(Job::Hook(hook, reason, handler));
        }
        if let Some(handler) = first {
            self.start_hook(hook, reason, &*handler);
        }
    }

    /// One whose extractors fail is reported and passed over.
    fn start_hook(
        &mut self,
        hook: Hook,
        reason: Option<DisconnectReason>,
        handler: &dyn HookHandler,
    ) {
        let parts = &mut Parts::hook(&self.socket, hook, reason);
        let error = match panics::catch(|| handler.call(parts)) {
            Ok(Ok(future)) => {
                self.running = Some(Running::Hook(hook, future));
                return;
            }
            Ok(Err(rejection)) => rejection.into(),
            Err(Panicked) => HandlerError::panicked(),
        };
        self.report(hook.name(), &error);
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) {
        match self.running.take() {
            // Only before it is open.
            None | Some(Running::Admission(_)) => {}
            Some(Running::Hook(hook, mut future)) => {
                match panics::catch(|| future.as_mut().poll(cx)) {
                    Ok(Poll::Pending) => {
                        self.running = Some(Running::Hook(hook, future));
                        return;
                    }
                    Ok(Poll::Ready(())) => {}
                    Err(Panicked) => self.report(hook.name(), &HandlerError::panicked()),
                }
                panics::discard(future);
            }
            Some(Running::Event(waiting)) => self.go_on_with(waiting, cx),
        }
    }

    fn report(&self, event: &str, error: &HandlerError) {
        self.socket.namespace().report(&self.socket, event, error);
    }
}

impl Job {
    /// Whether it begins the socket's end.
    fn ends(&self) -> bool {
        matches!(self, Self::Disconnecting(_))
    }

    /// What an event holds.
    fn bytes(&self) -> usize {
        match self {
            Self::Event { name, args, .. } => {
                let attachments: usize = args.attachments().iter().map(Bytes::len).sum();
                size_of::<Self>() + name.len() + args.raw().len() + attachments
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_slot_is_small() {
        assert!(size_of::<Slot>() <= 96, "{} bytes", size_of::<Slot>());
    }
}
