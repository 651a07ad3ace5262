//! The handlers of one socket or one namespace, by event name.
//! Knows neither; whoever calls a handler brings the socket along.

use std::borrow::Cow;
use std::sync::Arc;

use crate::extract::{OnConnect, OnDisconnect, OnEvent};
use crate::handler::{ConnectHandler, Erased, EventHandler, Handler, IntoReply};

/// An empty one owns no memory: an idle socket has many of those.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    /// Few names are expected, so a look-up walks the list.
    events: Vec<(Cow<'static, str>, Arc<dyn EventHandler>)>,
    connection: Option<Arc<dyn ConnectHandler>>,
    disconnecting: Option<Arc<dyn ConnectHandler>>,
    disconnect: Option<Arc<dyn ConnectHandler>>,
}

impl Handlers {
    pub(crate) fn on<H, M>(&mut self, name: Cow<'static, str>, handler: H)
    where
        H: Handler<OnEvent, M>,
        H::Output: IntoReply,
        M: 'static,
    {
        let handler: Arc<dyn EventHandler> = Arc::new(Erased::<H, M>::new(handler));
        match self.events.iter_mut().find(|(have, _)| *have == name) {
            Some((_, slot)) => *slot = handler,
            None => self.events.push((name, handler)),
        }
    }

    pub(crate) fn on_connection<H, M>(&mut self, handler: H)
    where
        H: Handler<OnConnect, M, Output = ()>,
        M: 'static,
    {
        self.connection = Some(Arc::new(Erased::<H, (OnConnect, M)>::new(handler)));
    }

    pub(crate) fn on_disconnecting<H, M>(&mut self, handler: H)
    where
        H: Handler<OnDisconnect, M, Output = ()>,
        M: 'static,
    {
        self.disconnecting = Some(Arc::new(Erased::<H, (OnDisconnect, M)>::new(handler)));
    }

    pub(crate) fn on_disconnect<H, M>(&mut self, handler: H)
    where
        H: Handler<OnDisconnect, M, Output = ()>,
        M: 'static,
    {
        self.disconnect = Some(Arc::new(Erased::<H, (OnDisconnect, M)>::new(handler)));
    }

    pub(crate) fn event(&self, name: &str) -> Option<Arc<dyn EventHandler>> {
        self.events.iter().find(|(have, _)| have == name).map(|(_, handler)| handler.clone())
    }

    pub(crate) fn connection(&self) -> Option<Arc<dyn ConnectHandler>> {
        self.connection.clone()
    }

    pub(crate) fn disconnecting(&self) -> Option<Arc<dyn ConnectHandler>> {
        self.disconnecting.clone()
    }

    pub(crate) fn disconnect(&self) -> Option<Arc<dyn ConnectHandler>> {
        self.disconnect.clone()
    }
}
