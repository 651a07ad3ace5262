//! The sockets of one connection, by namespace: what Socket.IO packets do to them.
//! Does not know transports; packets come read, answers go to the outbox.

use std::sync::Arc;
use std::task::{Context, Poll};

use sockeye_proto::engine::Revision;
use sockeye_proto::socket::{EncodedPacket, Incoming, Multiplexer, Parser};
use sockeye_proto::{SessionId, SocketId};

use super::peer::Peer;
use super::slot::{Slot, Step};
use crate::error::{ConnectError, HandlerError};
use crate::handler::BoxFuture;
use crate::handshake::Handshake;
use crate::metrics;
use crate::namespace::Namespace;
use crate::panics;
use crate::parent::NamespaceRequest;
use crate::reason::DisconnectReason;
use crate::recovery::{Claim, Restored};
use crate::server::Server;
use crate::socket::Socket;

pub(super) struct Sockets {
    server: Server,
    peer: Arc<Peer>,
    handshake: Arc<Handshake>,
    revision: Revision,
    slots: Vec<Slot>,
    /// CONNECTs to namespaces that there are not (yet).
    wishes: Vec<Wish>,
}

/// A CONNECT that cannot be answered at once.
struct Wish {
    name: String,
    auth: Option<String>,
    waits: Waits,
}

/// What it waits for.
enum Waits {
    /// A namespace that a rule may let be; `None` where no rule could.
    Namespace(Option<BoxFuture<Option<Namespace>>>),
    /// The socket that the client had before in this namespace, which has been entered.
    Session(Namespace, BoxFuture<Option<Restored>>),
}

impl Sockets {
    pub(super) fn new(
        server: Server,
        peer: Arc<Peer>,
        handshake: Arc<Handshake>,
        revision: Revision,
    ) -> Self {
        Self { server, peer, handshake, revision, slots: Vec::new(), wishes: Vec::new() }
    }

    /// A client of Engine.IO 3 is in `/` at once. The id that it knows its socket by is the
    /// session's.
    pub(super) fn join_unasked(&mut self, session: &SessionId) {
        let id = SocketId::parse(session.as_str()).expect("ids are of one form");
        let namespace = self.server.enter("/").expect("there is always `/`");
        let socket = self.new_socket_as(id, namespace, None);
        self.add(socket);
    }

    pub(super) fn parser(&self) -> &Parser {
        &self.server.config().parser
    }

    pub(super) fn handle(&mut self, incoming: Incoming<'_>, cx: &mut Context<'_>) {
        match incoming {
            Incoming::Event { namespace, id, event } => {
                if let Some(slot) = self.slot(namespace) {
                    slot.handle_event(&event.name, &event.args, id, cx);
                }
            }
            Incoming::Ack { namespace, id, args } => {
                if let Some(slot) = self.slot(namespace) {
                    slot.socket.acknowledge(id, args.into_owned());
                }
            }
            Incoming::Connect { namespace, auth } => self.connect(namespace, auth),
            Incoming::Disconnect { namespace } => {
                if let Some(slot) = self.slot(namespace) {
                    slot.end(DisconnectReason::ClientNamespaceDisconnect);
                }
            }
        }
    }

    fn connect(&mut self, name: &str, auth: Option<&str>) {
        if let Some(namespace) = self.server.enter(name) {
            return self.open(namespace, auth);
        }
        let request = NamespaceRequest::new(name, auth, self.handshake.clone());
        let making = self.server.enter_new(request).map(|making| Box::pin(making) as BoxFuture<_>);
        let (name, auth) = (name.to_owned(), auth.map(str::to_owned));
        self.wishes.push(Wish { name, auth, waits: Waits::Namespace(making) });
    }

    /// The namespace is there, and has been entered.
    fn open(&mut self, namespace: Namespace, auth: Option<&str>) {
        // Clients of Engine.IO 3 know nothing of it.
        let recovery = namespace.recovery().filter(|_| self.revision == Revision::V4);
        let restoring = recovery.and_then(|recovery| Some(recovery.restore(Claim::read(auth)?)));
        if let Some(restoring) = restoring {
            let (name, auth) = (namespace.name().to_owned(), auth.map(str::to_owned));
            self.wishes.push(Wish { name, auth, waits: Waits::Session(namespace, restoring) });
        } else {
            let socket = self.new_socket(namespace, auth);
            self.add(socket);
        }
    }

    fn new_socket(&self, namespace: Namespace, auth: Option<&str>) -> Socket {
        self.new_socket_as(self.server.new_socket_id(), namespace, auth)
    }

    fn new_socket_as(&self, id: SocketId, namespace: Namespace, auth: Option<&str>) -> Socket {
        Socket::new(id, namespace, self.peer.clone(), self.handshake.clone(), auth)
    }

    fn add(&mut self, socket: Socket) {
        // A list grows to four at once, and most clients join one namespace.
        self.slots.reserve_exact(1);
        self.slots.push(Slot::new(socket));
    }

    /// Goes on with the CONNECTs that wait for something.
    fn poll_wishes(&mut self, multiplexer: &mut Multiplexer, cx: &mut Context<'_>) {
        let mut at = 0;
        while at < self.wishes.len() {
            match &mut self.wishes[at].waits {
                Waits::Namespace(making) => {
                    // A predicate that panics lets nothing be.
                    let made = making.as_mut().map_or(Ok(Poll::Ready(None)), |making| {
                        panics::catch(|| making.as_mut().poll(cx))
                    });
                    let Poll::Ready(made) = made.unwrap_or(Poll::Ready(None)) else {
                        at += 1;
                        continue;
                    };
                    let Wish { name, auth, .. } = self.wishes.remove(at);
                    match made {
                        Some(namespace) => self.open(namespace, auth.as_deref()),
                        None => {
                            // In one form for clients of both revisions, as in Node.
                            let error = ConnectError::new("Invalid namespace");
                            let refusal = EncodedPacket::connect_error(&name, &error.to_json());
                            self.peer.push(refusal, false);
                            multiplexer.handle_connect_refused(&name);
                        }
                    }
                }
                Waits::Session(namespace, restoring) => {
                    let Poll::Ready(restored) = restoring.as_mut().poll(cx) else {
                        at += 1;
                        continue;
                    };
                    let namespace = namespace.clone();
                    let Wish { auth, .. } = self.wishes.remove(at);
                    let socket = self.take_up(namespace, restored, auth.as_deref());
                    self.add(socket);
                }
            }
        }
        if self.wishes.is_empty() {
            self.wishes = Vec::new();
        }
    }

    /// A socket that goes on with an earlier one, if that could be had.
    fn take_up(
        &self,
        namespace: Namespace,
        restored: Option<Restored>,
        auth: Option<&str>,
    ) -> Socket {
        let Some(restored) = restored else { return self.new_socket(namespace, auth) };
        let (peer, handshake) = (self.peer.clone(), self.handshake.clone());
        Socket::restored(restored, namespace, peer, handshake, auth)
    }

    fn refuse(&self, namespace: &str, error: &ConnectError) {
        let json = match self.revision {
            Revision::V4 => error.to_json(),
            Revision::V3 => error.to_json_v3(),
        };
        self.peer.tell(self.parser(), EncodedPacket::connect_error(namespace, &json));
    }

    fn forget_wishes(&mut self) {
        for wish in std::mem::take(&mut self.wishes) {
            if let Waits::Session(namespace, _) = wish.waits {
                self.server.leave(&namespace);
            }
        }
    }

    /// The live socket of a namespace; an earlier one may still be ending.
    fn slot(&mut self, namespace: &str) -> Option<&mut Slot> {
        self.slots
            .iter_mut()
            .find(|slot| !slot.is_ending() && slot.socket.namespace().name() == namespace)
    }

    /// Goes on with every middleware and handler that can go on. Returns whether a socket was
    /// admitted.
    pub(super) fn poll(&mut self, multiplexer: &mut Multiplexer, cx: &mut Context<'_>) -> bool {
        if !self.wishes.is_empty() {
            self.poll_wishes(multiplexer, cx);
        }
        let mut admitted = false;
        let mut at = 0;
        while at < self.slots.len() {
            let slot = &mut self.slots[at];
            match slot.poll(cx) {
                Step::Idle => at += 1,
                Step::Admitted => admitted |= self.admit(at, multiplexer),
                Step::Refused(error) => {
                    metrics::socket_refused();
                    let socket = slot.socket.clone();
                    let name = socket.namespace().name();
                    self.refuse(name, &error);
                    multiplexer.handle_connect_refused(name);
                    socket.refuse();
                    self.remove(at);
                }
                Step::Gone => self.remove(at),
            }
        }
        admitted
    }

    /// The middlewares have let a socket in. Returns whether it is.
    fn admit(&mut self, at: usize, multiplexer: &mut Multiplexer) -> bool {
        let slot = &mut self.slots[at];
        let is_admitted = slot.socket.admit();
        if is_admitted {
            let namespace = slot.socket.namespace();
            multiplexer.handle_connect_accepted(namespace.name());
            namespace.insert(&slot.socket);
            self.server.sweep(namespace);
            slot.open();
        } else {
            // It cannot be recovered any more: another one goes through the middlewares.
            let old = slot.socket.clone();
            old.refuse();
            let socket = self.new_socket(old.namespace().clone(), old.auth_json());
            self.slots[at] = Slot::new(socket);
        }
        is_admitted
    }

    fn remove(&mut self, at: usize) {
        let slot = self.slots.remove(at);
        self.server.leave(slot.socket.namespace());
    }

    /// The application disconnects one socket.
    pub(super) fn disconnect(&mut self, id: &SocketId, multiplexer: &mut Multiplexer) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.socket.id() == *id) {
            multiplexer.handle_disconnect(slot.socket.namespace().name());
            slot.end(DisconnectReason::ServerNamespaceDisconnect);
        }
    }

    /// The application disconnects all of them; each client socket is told.
    pub(super) fn disconnect_all(&mut self, multiplexer: &mut Multiplexer) {
        for slot in self.slots.iter_mut().filter(|slot| !slot.is_ending()) {
            let name = slot.socket.namespace().name();
            if !slot.is_admitting() {
                self.peer.tell(&self.server.config().parser, EncodedPacket::disconnect(name));
            }
            multiplexer.handle_disconnect(name);
            slot.end(DisconnectReason::ServerNamespaceDisconnect);
        }
    }

    /// The connection ends.
    pub(super) fn end_all(&mut self, reason: DisconnectReason) {
        self.forget_wishes();
        self.slots.iter_mut().for_each(|slot| slot.end(reason));
    }

    /// The connection is dropped: nothing more runs, and nothing is left behind.
    pub(super) fn abandon_all(&mut self) {
        self.forget_wishes();
        for mut slot in self.slots.drain(..) {
            slot.abandon();
            self.server.leave(slot.socket.namespace());
        }
    }

    /// The connection goes on over WebSocket.
    pub(super) fn report_upgrade(&self) {
        let Some(hook) = &self.server.config().hooks.upgrade else { return };
        for Slot { socket, .. } in self.slots.iter().filter(|slot| slot.socket.is_connected()) {
            if panics::catch(|| hook(socket)).is_err() {
                socket.namespace().report(socket, "upgrade", &HandlerError::panicked());
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether too many events wait, or too much.
    pub(super) fn is_full(&self) -> bool {
        let config = self.server.config();
        self.slots.iter().any(|slot| slot.waiting() >= config.events_waiting_max)
            || self.waiting_bytes() >= config.events_waiting_bytes_max
    }

    fn waiting_bytes(&self) -> usize {
        self.slots.iter().map(Slot::waiting_bytes).sum()
    }
}
