//! The sockets of one connection, by namespace: what Socket.IO packets do to them.
//! Does not know transports; packets come read, answers go to the outbox.

use std::sync::Arc;
use std::task::{Context, Poll};

use sockeye_proto::SocketId;
use sockeye_proto::socket::{EncodedPacket, Incoming, Multiplexer, Parser};

use super::peer::Peer;
use super::slot::{Slot, Step};
use crate::error::{ConnectError, HandlerError};
use crate::handler::BoxFuture;
use crate::handshake::Handshake;
use crate::namespace::Namespace;
use crate::panics;
use crate::parent::NamespaceRequest;
use crate::reason::DisconnectReason;
use crate::server::Server;
use crate::socket::Socket;

pub(super) struct Sockets {
    server: Server,
    peer: Arc<Peer>,
    handshake: Arc<Handshake>,
    slots: Vec<Slot>,
    /// CONNECTs to namespaces that there are not (yet).
    wishes: Vec<Wish>,
}

/// A CONNECT to a namespace that a rule may let be.
struct Wish {
    name: String,
    auth: Option<String>,
    /// `None` where no rule could.
    making: Option<BoxFuture<Option<Namespace>>>,
}

impl Sockets {
    pub(super) fn new(server: Server, peer: Arc<Peer>, handshake: Arc<Handshake>) -> Self {
        Self { server, peer, handshake, slots: Vec::new(), wishes: Vec::new() }
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
                self.wishes.retain(|wish| wish.name != namespace);
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
        self.wishes.push(Wish { name, auth, making });
    }

    /// The namespace is there, and has been entered.
    fn open(&mut self, namespace: Namespace, auth: Option<&str>) {
        let id = self.server.new_socket_id();
        let handshake = self.handshake.clone();
        let socket = Socket::new(id, namespace, self.peer.clone(), handshake, auth);
        // A list grows to four at once, and most clients join one namespace.
        self.slots.reserve_exact(1);
        self.slots.push(Slot::new(socket));
    }

    /// Goes on with the namespaces that clients wish for.
    fn poll_wishes(&mut self, multiplexer: &mut Multiplexer, cx: &mut Context<'_>) {
        let mut at = 0;
        while at < self.wishes.len() {
            let making = self.wishes[at].making.as_mut();
            // A predicate that panics lets nothing be.
            let made = making
                .map_or(Ok(Poll::Ready(None)), |making| panics::catch(|| making.as_mut().poll(cx)));
            let Poll::Ready(made) = made.unwrap_or(Poll::Ready(None)) else {
                at += 1;
                continue;
            };
            let Wish { name, auth, .. } = self.wishes.remove(at);
            match made {
                Some(namespace) => self.open(namespace, auth.as_deref()),
                None => {
                    let error = ConnectError::new("Invalid namespace");
                    let refusal = EncodedPacket::connect_error(&name, &error.to_json());
                    self.peer.tell(self.parser(), refusal);
                    multiplexer.handle_connect_refused(&name);
                }
            }
        }
        if self.wishes.is_empty() {
            self.wishes = Vec::new();
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
                Step::Admitted => {
                    admitted = true;
                    multiplexer.handle_connect_accepted(slot.socket.namespace().name());
                    admit(slot, &self.peer, &self.server.config().parser);
                }
                Step::Refused(error) => {
                    let name = slot.socket.namespace().name();
                    let refusal = EncodedPacket::connect_error(name, &error.to_json());
                    self.peer.tell(&self.server.config().parser, refusal);
                    multiplexer.handle_connect_refused(name);
                    slot.socket.refuse();
                    self.remove(at);
                }
                Step::Gone => self.remove(at),
            }
        }
        admitted
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
        self.wishes = Vec::new();
        self.slots.iter_mut().for_each(|slot| slot.end(reason));
    }

    /// The connection is dropped: nothing more runs, and nothing is left behind.
    pub(super) fn abandon_all(&mut self) {
        self.wishes = Vec::new();
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

    /// The longest queue of waiting events.
    pub(super) fn waiting_max(&self) -> usize {
        self.slots.iter().map(Slot::waiting).max().unwrap_or(0)
    }
}

/// The CONNECT packet goes first: what is broadcast from now on comes behind it.
fn admit(slot: &mut Slot, peer: &Arc<Peer>, parser: &Parser) {
    let socket = &slot.socket;
    let json = format!("{{\"sid\":\"{}\"}}", socket.id());
    peer.tell(parser, EncodedPacket::connect(socket.namespace().name(), &json));
    socket.admit();
    socket.namespace().insert(socket);
    slot.open();
}
