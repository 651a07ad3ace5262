//! One socket of a connection, from its CONNECT to its end: the middlewares, then handlers one
//! after the other. Does not know packets or transports; the connection's task polls it.
//!
//! ```text
//!              admitted                 end()                     hooks done
//!  Admitting ───────────► Open ───────────────────► Ending ──────────────────► gone
//!      │ refused, or end()                                                       ▲
//!      └─────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A handler is polled in the connection's own task, at once and without a spawn; while it waits,
//! further events wait behind it.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use sockeye_proto::socket::{ArgsCursor, OwnedArgs};

use crate::error::{ConnectError, HandlerError};
use crate::extract::Parts;
use crate::handler::{AckTarget, BoxFuture, Call};
use crate::handlers::Handlers;
use crate::reason::DisconnectReason;
use crate::socket::Socket;

pub(super) struct Slot {
    pub(super) socket: Socket,
    stage: Stage,
    running: Option<Running>,
    waiting: VecDeque<Job>,
}

enum Stage {
    Admitting(BoxFuture<Result<(), ConnectError>>),
    Open,
    Ending,
}

/// What the task polls now.
enum Running {
    Hook(BoxFuture<()>),
    Event { call: Call, name: String },
}

/// What comes after it.
enum Job {
    Connection,
    Event { name: String, args: OwnedArgs, id: Option<u64> },
    Disconnecting(DisconnectReason),
    Leave,
    Disconnect(DisconnectReason),
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
        let stage = match socket.namespace().admission(&socket) {
            Some(admission) => Stage::Admitting(Box::pin(admission)),
            None => Stage::Admitting(Box::pin(std::future::ready(Ok(())))),
        };
        Self { socket, stage, running: None, waiting: VecDeque::new() }
    }

    pub(super) fn is_admitting(&self) -> bool {
        matches!(self.stage, Stage::Admitting(_))
    }

    pub(super) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending)
    }

    /// How many events wait behind the handler that runs.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
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
        args: &sockeye_proto::socket::Args<'_>,
        id: Option<u64>,
        cx: &mut Context<'_>,
    ) {
        if !self.socket.is_connected() {
            // The server has disconnected it this instant.
        } else if self.running.is_some() || !self.waiting.is_empty() {
            let args = args.to_owned_args();
            self.waiting.push_back(Job::Event { name: name.to_owned(), args, id });
        } else {
            self.run_event(name, args.cursor(), id, cx);
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
            self.socket.refuse();
            return;
        }
        self.socket.end();
        self.socket.forget_acks();
        if by_server {
            self.waiting.retain(|job| matches!(job, Job::Connection));
        }
        self.waiting.push_back(Job::Disconnecting(reason));
        self.waiting.push_back(Job::Leave);
        self.waiting.push_back(Job::Disconnect(reason));
    }

    /// Goes on with the middlewares or the handlers as far as they go without waiting.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Step {
        if let Stage::Admitting(admission) = &mut self.stage {
            let polled = catch_panic(|| admission.as_mut().poll(cx));
            return match polled {
                Ok(Poll::Pending) => Step::Idle,
                Ok(Poll::Ready(Ok(()))) => Step::Admitted,
                Ok(Poll::Ready(Err(error))) => Step::Refused(error),
                Err(()) => {
                    self.report("middleware", &HandlerError::panicked());
                    Step::Refused(ConnectError::new("Internal server error"))
                }
            };
        }
        loop {
            self.poll_running(cx);
            if self.running.is_some() {
                return Step::Idle;
            }
            match self.waiting.pop_front() {
                Some(job) => self.start(job, cx),
                None if self.is_ending() => return Step::Gone,
                None => {
                    // An idle socket keeps no queue.
                    self.waiting = VecDeque::new();
                    return Step::Idle;
                }
            }
        }
    }

    /// Ends without waiting for handlers: their futures are dropped, the hooks that are left are
    /// not run.
    pub(super) fn abandon(&mut self) {
        self.running = None;
        self.waiting.clear();
        self.stage = Stage::Ending;
        self.socket.refuse();
        self.leave();
        self.socket.forget_handlers();
    }

    fn start(&mut self, job: Job, cx: &mut Context<'_>) {
        match job {
            Job::Connection => {
                let handler = self.socket.namespace().handlers().read().connection();
                let parts = &mut Parts::connect(&self.socket);
                self.running =
                    handler.and_then(|h| hook(&self.socket, "connection", || h.call(parts)));
            }
            // The server has disconnected it this instant, perhaps in the handler before.
            Job::Event { .. } if !self.is_ending() && !self.socket.is_connected() => {}
            Job::Event { name, args, id } => self.run_event(&name, args.cursor(), id, cx),
            Job::Disconnecting(reason) => {
                let own = self.socket.own_handler(Handlers::disconnecting);
                let shared = || self.socket.namespace().handlers().read().disconnecting();
                let parts = &mut Parts::disconnect(&self.socket, reason);
                self.running = own
                    .or_else(shared)
                    .and_then(|h| hook(&self.socket, "disconnecting", || h.call(parts)));
            }
            Job::Leave => self.leave(),
            Job::Disconnect(reason) => {
                let own = self.socket.own_handler(Handlers::disconnect);
                let shared = || self.socket.namespace().handlers().read().disconnect();
                let parts = &mut Parts::disconnect(&self.socket, reason);
                self.running = own
                    .or_else(shared)
                    .and_then(|h| hook(&self.socket, "disconnect", || h.call(parts)));
                self.socket.forget_handlers();
            }
        }
    }

    fn leave(&mut self) {
        self.socket.leave_all();
        self.socket.namespace().remove(&self.socket.id());
    }

    fn run_event(
        &mut self,
        name: &str,
        args: ArgsCursor<'_>,
        id: Option<u64>,
        cx: &mut Context<'_>,
    ) {
        let Some(handler) = self.socket.handler(name) else {
            tracing::debug!(socket = %self.socket.id(), event = name, "nobody listens");
            return;
        };
        let namespace = self.socket.namespace();
        let target = id.map(|id| AckTarget { namespace: namespace.name_shared(), id });
        let mut parts = Parts::event(&self.socket, name, args, target.clone());
        match catch_panic(|| handler.call(&mut parts)) {
            Ok(Ok(call)) => self.poll_event(name, call, cx),
            Ok(Err(rejection)) => self.fail(name, target.as_ref(), &rejection.into()),
            Err(()) => self.fail(name, target.as_ref(), &HandlerError::panicked()),
        }
    }

    fn poll_event(&mut self, name: &str, mut call: Call, cx: &mut Context<'_>) {
        match catch_panic(|| call.future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => {
                self.running = Some(Running::Event { call, name: name.to_owned() });
            }
            Ok(Poll::Ready(Ok(None))) => {}
            Ok(Poll::Ready(Ok(Some(reply)))) => {
                // A client that has gone needs no answer.
                let _ = self.socket.push(reply, false);
            }
            Ok(Poll::Ready(Err(error))) => self.fail(name, call.target.as_ref(), &error),
            Err(()) => self.fail(name, call.target.as_ref(), &HandlerError::panicked()),
        }
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) {
        match self.running.take() {
            None => {}
            Some(Running::Hook(mut future)) => match catch_panic(|| future.as_mut().poll(cx)) {
                Ok(Poll::Pending) => self.running = Some(Running::Hook(future)),
                Ok(Poll::Ready(())) => {}
                Err(()) => self.report("connection", &HandlerError::panicked()),
            },
            Some(Running::Event { call, name }) => self.poll_event(&name, call, cx),
        }
    }

    /// Tells the client, if it asked, and the error hook.
    fn fail(&self, event: &str, target: Option<&AckTarget>, error: &HandlerError) {
        if let Some(target) = target {
            let _ = self.socket.push(target.refuse(error), false);
        }
        self.report(event, error);
    }

    fn report(&self, event: &str, error: &HandlerError) {
        self.socket.namespace().report(&self.socket, event, error);
    }
}

/// Starts a hook; one whose extractors fail is reported and passed over.
fn hook(
    socket: &Socket,
    event: &str,
    call: impl FnOnce() -> Result<BoxFuture<()>, crate::error::Rejection>,
) -> Option<Running> {
    let error = match catch_panic(call) {
        Ok(Ok(future)) => return Some(Running::Hook(future)),
        Ok(Err(rejection)) => rejection.into(),
        Err(()) => HandlerError::panicked(),
    };
    socket.namespace().report(socket, event, &error);
    None
}

/// A panic in a handler ends that handler and nothing else. What it holds is dropped with it, so
/// nothing broken is seen again.
pub(super) fn catch_panic<R>(run: impl FnOnce() -> R) -> Result<R, ()> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|_| ())
}
