//! `on` and its like: the same methods for a socket, a namespace, a parent of namespaces and the
//! server. Does not know when what they add runs.

use std::marker::PhantomData;
use std::sync::Arc;

use sockeye_proto::socket::{Name, ToName};

use crate::erased::{
    Erased, Hooking, Judging, Listener, Listening, ListeningConcurrently, ListeningOnce, Observing,
    RoleOf,
};
use crate::extract::{OnDisconnect, OnEvent};
use crate::handler::Handler;
use crate::handlers::{Handlers, Hook, Lists};
use crate::namespace::Namespace;
use crate::outgoing::Outgoing;
use crate::parent::ParentNamespace;
use crate::reply::{IntoReply, IntoVerdict};
use crate::server::Server;
use crate::socket::Socket;

/// What has handlers.
pub(crate) trait Listens {
    fn handlers(&self) -> &Handlers;

    /// The lists may change; `false` if nothing in them can be called any more.
    fn may_change(&self) -> bool {
        true
    }

    /// The lists have changed; whether there were catch-alls of outgoing events, and are.
    fn changed(&self, had_outgoing: bool, has_outgoing: bool);

    fn add(&self, change: impl FnOnce(&mut Lists)) {
        self.handlers().add(|lists| {
            if self.may_change() {
                self.track(lists, change);
            }
        });
    }

    /// `change` returns what it takes off: a handler may hold anything, so it is dropped where no
    /// lock is held.
    fn take_off<R>(&self, change: impl FnOnce(&mut Lists) -> R) -> Option<R> {
        self.handlers().take_off(|lists| self.track(lists, change))
    }

    fn track<R>(&self, lists: &mut Lists, change: impl FnOnce(&mut Lists) -> R) -> R {
        let had_outgoing = lists.has_outgoing();
        let result = change(lists);
        self.changed(had_outgoing, lists.has_outgoing());
        result
    }

    fn add_event<H, M, R>(&self, name: Name<'static>, role: R, handler: H) -> Listener
    where
        H: Handler<OnEvent, M>,
        R: RoleOf<H::Output> + Send + Sync + 'static,
        M: 'static,
    {
        self.add_handler(role, handler, |lists, handler| {
            lists.add_event(name.into_text(), handler);
        })
    }

    fn add_handler<H, M, R>(
        &self,
        role: R,
        handler: H,
        add: impl FnOnce(&mut Lists, Arc<Erased<H, M, R>>),
    ) -> Listener
    where
        H: Send + Sync + 'static,
        R: Send + Sync + 'static,
        M: 'static,
    {
        let handler = Arc::new(Erased::new(role, handler));
        let listener = Listener::of(&handler);
        self.add(|lists| add(lists, handler));
        listener
    }

    fn add_hook<H, M>(&self, hook: Hook, handler: H) -> Listener
    where
        H: Handler<OnDisconnect, M, Output = ()>,
        M: 'static,
    {
        let role = Hooking::<OnDisconnect>(PhantomData);
        self.add_handler(role, handler, |lists, handler| lists.add_hook(hook, handler))
    }

    fn add_outgoing(
        &self,
        listener: impl Fn(&Socket, &Outgoing<'_>) + Send + Sync + 'static,
        first: bool,
    ) -> Listener {
        let handler = Arc::new(listener);
        let listener = Listener::of(&handler);
        self.add(|lists| lists.add_outgoing(handler, first));
        listener
    }
}

impl Listens for ParentNamespace {
    fn handlers(&self) -> &Handlers {
        self.template().handlers()
    }

    fn changed(&self, had_outgoing: bool, has_outgoing: bool) {
        self.template().changed(had_outgoing, has_outgoing);
    }
}

impl Listens for Server {
    fn handlers(&self) -> &Handlers {
        self.root().handlers()
    }

    fn changed(&self, had_outgoing: bool, has_outgoing: bool) {
        self.root().changed(had_outgoing, has_outgoing);
    }
}

macro_rules! listening {
    ($type:ty, $whose:literal) => {
        /// # Listening
        impl $type {
            #[doc = concat!("Listens to an event of ", $whose, ".")]
            ///
            /// An event may have several listeners. They run one after the other, in the order in
            /// which they were added, those of the namespace before those of the socket; each
            /// begins when the one before is done, and one that fails keeps no other from the
            /// event. The next event of the same socket waits for all of them. Who answers the
            /// acknowledgement is said at [`IntoReply`].
            ///
            /// A number and its digits are one name: `7`, `"7"`.
            pub fn on<H, M>(&self, event: impl Into<Name<'static>>, handler: H) -> Listener
            where
                H: Handler<OnEvent, M>,
                H::Output: IntoReply,
                M: 'static,
            {
                self.add_event(event.into(), Listening, handler)
            }

            /// As [`on`](Self::on), for one event: the listener is taken off when it begins.
            pub fn once<H, M>(&self, event: impl Into<Name<'static>>, handler: H) -> Listener
            where
                H: Handler<OnEvent, M>,
                H::Output: IntoReply,
                M: 'static,
            {
                self.add_event(event.into(), ListeningOnce, handler)
            }

            /// As [`on`](Self::on), for a handler that may run for several events of one socket at
            /// a time: for at most `limit` of them (0 is 1).
            ///
            /// Events begin in the order in which they came, and may end in another; further
            /// listeners and the next events do not wait. While `limit` of them run, the next
            /// one waits, and with it all that came behind. The acknowledgement is this
            /// handler's: what it returns answers, also if that is nothing.
            ///
            /// All of them are polled by the connection's task: what computes for long belongs
            /// into [`tokio::task::spawn_blocking`].
            pub fn on_concurrent<H, M>(
                &self,
                event: impl Into<Name<'static>>,
                limit: usize,
                handler: H,
            ) -> Listener
            where
                H: Handler<OnEvent, M>,
                H::Output: IntoReply,
                M: 'static,
            {
                self.add_event(event.into(), ListeningConcurrently::at_most(limit), handler)
            }

            /// Takes off all listeners of an event and returns how many there were. An event that
            /// is being handled still reaches those that it had when it came to them.
            pub fn off(&self, event: impl ToName) -> usize {
                let name = event.to_name().into_text();
                self.take_off(|lists| lists.remove_events(Some(&name))).map_or(0, |all| all.len())
            }

            /// Takes off what was added, whatever it is: a listener, a catch-all, a middleware of
            /// events, a hook. Returns whether it was there.
            pub fn off_listener(&self, listener: &Listener) -> bool {
                self.take_off(|lists| lists.remove(listener)).flatten().is_some()
            }

            /// Takes off all listeners of all events and returns how many there were. Catch-alls,
            /// middlewares and hooks stay.
            pub fn off_all(&self) -> usize {
                self.take_off(|lists| lists.remove_events(None)).map_or(0, |all| all.len())
            }

            /// The names of the events with listeners that were added here, each once.
            pub fn event_names(&self) -> Vec<String> {
                self.handlers().read(Lists::event_names).unwrap_or_default()
            }

            /// How many listeners of an event were added here.
            pub fn listener_count(&self, event: impl ToName) -> usize {
                let name = event.to_name().into_text();
                self.handlers().read(|lists| lists.listener_count(&name)).unwrap_or(0)
            }

            #[doc = concat!("Sees every event of ", $whose, " that comes, before its middlewares")]
            /// and listeners, also where nobody listens. Catch-alls run in the order in which they
            /// were added, those of the namespace first.
            ///
            /// [`EventName`](crate::EventName) and [`RawArgs`](crate::RawArgs) show the event. One
            /// that takes [`Ack`](crate::Ack) takes the acknowledgement away from the listeners;
            /// one that fails is reported and keeps nobody from the event.
            pub fn on_any<H, M>(&self, handler: H) -> Listener
            where
                H: Handler<OnEvent, M, Output = ()>,
                M: 'static,
            {
                self.add_handler(Observing, handler, |l, handler| l.add_observer(handler, false))
            }

            /// As [`on_any`](Self::on_any), before those that are there.
            pub fn prepend_any<H, M>(&self, handler: H) -> Listener
            where
                H: Handler<OnEvent, M, Output = ()>,
                M: 'static,
            {
                self.add_handler(Observing, handler, |l, handler| l.add_observer(handler, true))
            }

            /// Takes off all catch-alls of incoming events and returns how many there were.
            pub fn off_any(&self) -> usize {
                self.take_off(Lists::remove_observers).map_or(0, |all| all.len())
            }

            #[doc = concat!("Sees every event that is sent to ", $whose, ", broadcasts among")]
            /// them, before it is sent: also a volatile one that is then dropped. Acknowledgements
            /// are no events.
            ///
            /// It runs where the event is emitted, once for each socket that it is for, those of
            /// the namespace first; it should be quick. While anyone in the namespace has one, a
            /// broadcast looks for it at each of its receivers; while nobody has, it costs
            /// nothing. A panic is reported to the error hook and keeps nothing from being sent.
            pub fn on_any_outgoing(
                &self,
                listener: impl Fn(&Socket, &Outgoing<'_>) + Send + Sync + 'static,
            ) -> Listener {
                self.add_outgoing(listener, false)
            }

            /// As [`on_any_outgoing`](Self::on_any_outgoing), before those that are there.
            pub fn prepend_any_outgoing(
                &self,
                listener: impl Fn(&Socket, &Outgoing<'_>) + Send + Sync + 'static,
            ) -> Listener {
                self.add_outgoing(listener, true)
            }

            /// Takes off all catch-alls of outgoing events and returns how many there were.
            pub fn off_any_outgoing(&self) -> usize {
                self.take_off(Lists::remove_outgoing).map_or(0, |all| all.len())
            }

            #[doc = concat!("Judges every event of ", $whose, " before its listeners: Node's")]
            /// `socket.use`. Middlewares run in the order in which they were added, those of the
            /// namespace first; each begins when the one before is done.
            ///
            /// The first that returns an error (or whose extractors do, or that panics) ends the
            /// event: no listener hears it, the acknowledgement is answered with the error, and
            /// the error hook sees it.
            pub fn event_middleware<H, M>(&self, middleware: H) -> Listener
            where
                H: Handler<OnEvent, M>,
                H::Output: IntoVerdict,
                M: 'static,
            {
                self.add_handler(Judging, middleware, |lists, handler| {
                    lists.add_middleware(handler);
                })
            }

            #[doc = concat!("Runs when ", $whose, " is being disconnected and still in its rooms")]
            /// (Node's `disconnecting`), after the events that came before. Several run one after
            /// the other in the order in which they were added, those of the namespace first.
            pub fn on_disconnecting<H, M>(&self, handler: H) -> Listener
            where
                H: Handler<OnDisconnect, M, Output = ()>,
                M: 'static,
            {
                self.add_hook(Hook::Disconnecting, handler)
            }

            #[doc = concat!("Runs when ", $whose, " is disconnected and out of its rooms.")]
            /// Several run as with [`on_disconnecting`](Self::on_disconnecting).
            pub fn on_disconnect<H, M>(&self, handler: H) -> Listener
            where
                H: Handler<OnDisconnect, M, Output = ()>,
                M: 'static,
            {
                self.add_hook(Hook::Disconnect, handler)
            }
        }
    };
}

listening!(Socket, "this socket");
listening!(Namespace, "a socket in this namespace");
listening!(ParentNamespace, "a socket in a child that is made from now on");
listening!(Server, "a socket in `/`");

#[cfg(test)]
mod tests {
    use sockeye_proto::SocketId;

    use super::*;
    use crate::config::OutboxPolicy;
    use crate::connection::Peer;
    use crate::handshake::Handshake;
    use crate::outbox::{Encoding, Exit, Outbox};

    fn socket(namespace: Namespace) -> Socket {
        let id = SocketId::from_entropy([1; 15]);
        let outbox = Outbox::new(Exit::polling(Encoding::Plain), 1000, OutboxPolicy::Refuse);
        let (parts, ()) = http::Request::new(()).into_parts();
        let handshake = Arc::new(Handshake::new(&parts, None, None, false));
        Socket::new(id, namespace, Arc::new(Peer::new(outbox)), handshake, None)
    }

    #[test]
    fn nobody_looks_at_outgoing_events_when_the_last_who_did_has_gone() {
        let io = Server::default();
        let root = io.root();
        let (first, second) = (socket(root.clone()), socket(root.clone()));
        assert!(!root.has_outgoing());
        let one = first.on_any_outgoing(|_, _| {});
        first.on_any_outgoing(|_, _| {});
        second.on_any_outgoing(|_, _| {});
        io.on_any_outgoing(|_, _| {});
        assert!(first.off_listener(&one));
        assert_eq!((first.off_any_outgoing(), io.off_any_outgoing()), (1, 1));
        assert!(root.has_outgoing());
        second.forget_handlers();
        assert!(!root.has_outgoing());
        second.on_any_outgoing(|_, _| {});
        assert!(!root.has_outgoing(), "it has gone");
    }

    #[test]
    fn children_look_as_their_parent_does() {
        let parent = Server::default().of_pattern("/{name}").expect("a pattern");
        parent.on_any_outgoing(|_, _| {});
        assert!(parent.make("/a".into()).has_outgoing());
        parent.off_any_outgoing();
        let child = parent.make("/b".into());
        assert!(!child.has_outgoing());
        child.on_any_outgoing(|_, _| {});
        assert!(child.has_outgoing());
    }
}
