//! What one socket or one namespace has been told to call: listeners by event name, catch-alls,
//! middlewares of events, hooks. Knows neither; whoever calls something brings the socket along.

use std::borrow::Cow;
use std::sync::Arc;

use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::erased::{EventHandler, HookHandler, Listener};
use crate::outgoing::OutgoingHandler;

/// Mostly one.
pub(crate) type HookHandlers = SmallVec<[Arc<dyn HookHandler>; 1]>;

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Connection,
    Disconnecting,
    Disconnect,
}

impl Hook {
    /// What the error hook calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Disconnecting => "disconnecting",
            Self::Disconnect => "disconnect",
        }
    }
}

/// The lists, made with the first entry: namespaces have some too, and most sockets are idle.
#[derive(Default)]
pub(crate) struct Handlers(RwLock<Option<Box<Lists>>>);

/// Everything in the order in which it was added.
#[derive(Clone, Default)]
pub(crate) struct Lists {
    /// Few are expected, so a look-up walks the list. Several may have one name.
    events: Vec<(Cow<'static, str>, Arc<dyn EventHandler>)>,
    hooks: Vec<(Hook, Arc<dyn HookHandler>)>,
    rare: Option<Box<Rare>>,
}

/// What few have.
#[derive(Clone, Default)]
struct Rare {
    observers: Vec<Arc<dyn EventHandler>>,
    middlewares: Vec<Arc<dyn EventHandler>>,
    outgoing: Vec<Arc<OutgoingHandler>>,
}

impl Handlers {
    /// A copy of the lists, of the same handlers.
    pub(crate) fn duplicate(&self) -> Self {
        Self(RwLock::new(self.0.read().clone()))
    }

    pub(crate) fn add(&self, add: impl FnOnce(&mut Lists)) {
        add(self.0.write().get_or_insert_default());
    }

    /// `None` if there has never been anything.
    pub(crate) fn take_off<R>(&self, take_off: impl FnOnce(&mut Lists) -> R) -> Option<R> {
        self.0.write().as_deref_mut().map(take_off)
    }

    /// `None` if there has never been anything.
    #[inline]
    pub(crate) fn read<R>(&self, read: impl FnOnce(&Lists) -> R) -> Option<R> {
        self.0.read().as_deref().map(read)
    }

    /// Takes all of it away.
    pub(crate) fn take(&self) -> Option<Box<Lists>> {
        self.0.write().take()
    }
}

impl Lists {
    pub(crate) fn add_event(&mut self, name: Cow<'static, str>, handler: Arc<dyn EventHandler>) {
        self.events.push((name, handler));
    }

    pub(crate) fn add_hook(&mut self, hook: Hook, handler: Arc<dyn HookHandler>) {
        // A list grows to four at once, and most have one.
        self.hooks.reserve_exact(1);
        self.hooks.push((hook, handler));
    }

    pub(crate) fn add_observer(&mut self, handler: Arc<dyn EventHandler>, first: bool) {
        add(&mut self.rare().observers, handler, first);
    }

    pub(crate) fn add_middleware(&mut self, handler: Arc<dyn EventHandler>) {
        self.rare().middlewares.push(handler);
    }

    pub(crate) fn add_outgoing(&mut self, handler: Arc<OutgoingHandler>, first: bool) {
        add(&mut self.rare().outgoing, handler, first);
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Takes one off, whatever it is.
    pub(crate) fn remove(&mut self, listener: &Listener) -> Option<Removed> {
        let event = self.events.iter().position(|(_, handler)| listener.is(handler));
        if let Some(at) = event {
            return Some(Removed::Event(self.events.remove(at).1));
        }
        let hook = self.hooks.iter().position(|(_, handler)| listener.is(handler));
        if let Some(at) = hook {
            return Some(Removed::Hook(self.hooks.remove(at).1));
        }
        let rare = self.rare.as_deref_mut()?;
        for list in [&mut rare.observers, &mut rare.middlewares] {
            if let Some(at) = list.iter().position(|handler| listener.is(handler)) {
                return Some(Removed::Event(list.remove(at)));
            }
        }
        let outgoing = rare.outgoing.iter().position(|handler| listener.is(handler));
        outgoing.map(|at| Removed::Outgoing(rare.outgoing.remove(at)))
    }

    /// Takes off a listener; `None` if somebody else has.
    pub(crate) fn claim(&mut self, listener: &Arc<dyn EventHandler>) -> Option<Removed> {
        let at = self.events.iter().position(|(_, handler)| Arc::ptr_eq(handler, listener))?;
        Some(Removed::Event(self.events.remove(at).1))
    }

    /// Takes off the listeners of an event; of all events, if none is named.
    pub(crate) fn remove_events(&mut self, name: Option<&str>) -> Vec<Removed> {
        let named = |have: &str| name.is_none_or(|name| name == have);
        let removed = self.events.extract_if(.., |(have, _)| named(have));
        removed.map(|(_, handler)| Removed::Event(handler)).collect()
    }

    /// Takes off the catch-alls of incoming events.
    pub(crate) fn remove_observers(&mut self) -> Vec<Removed> {
        let Some(rare) = &mut self.rare else { return Vec::new() };
        rare.observers.drain(..).map(Removed::Event).collect()
    }

    /// Takes off the catch-alls of outgoing events.
    pub(crate) fn remove_outgoing(&mut self) -> Vec<Removed> {
        let Some(rare) = &mut self.rare else { return Vec::new() };
        rare.outgoing.drain(..).map(Removed::Outgoing).collect()
    }

    /// Adds the listeners of an event to `steps`.
    #[inline]
    pub(crate) fn find(&self, name: &str, steps: &mut Steps) {
        if let Some(rare) = self.rare.as_deref() {
            steps.others_before |= !rare.observers.is_empty() || !rare.middlewares.is_empty();
        }
        for (have, handler) in &self.events {
            if have == name {
                steps.push(handler.clone());
            }
        }
    }

    /// Adds what sees events before their listeners do.
    pub(crate) fn find_others(&self, others: &mut Others) {
        if let Some(rare) = self.rare.as_deref() {
            others.observers.extend_from_slice(&rare.observers);
            others.middlewares.extend_from_slice(&rare.middlewares);
        }
    }

    pub(crate) fn find_hooks(&self, hook: Hook, found: &mut HookHandlers) {
        let named = self.hooks.iter().filter(|(have, _)| *have == hook);
        found.extend(named.map(|(_, handler)| handler.clone()));
    }

    pub(crate) fn has_outgoing(&self) -> bool {
        self.rare.as_deref().is_some_and(|rare| !rare.outgoing.is_empty())
    }

    pub(crate) fn outgoing(&self) -> Vec<Arc<OutgoingHandler>> {
        self.rare.as_deref().map_or_else(Vec::new, |rare| rare.outgoing.clone())
    }

    /// The names that are listened to, each once.
    pub(crate) fn event_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in &self.events {
            if !names.iter().any(|have| have == name) {
                names.push(name.clone().into_owned());
            }
        }
        names
    }

    pub(crate) fn listener_count(&self, name: &str) -> usize {
        self.events.iter().filter(|(have, _)| have == name).count()
    }
}

fn add<T>(list: &mut Vec<T>, handler: T, first: bool) {
    let at = if first { 0 } else { list.len() };
    list.insert(at, handler);
}

/// A handler that was taken off, to be dropped where no lock is held.
#[expect(dead_code, reason = "it is there to be dropped")]
pub(crate) enum Removed {
    Event(Arc<dyn EventHandler>),
    Hook(Arc<dyn HookHandler>),
    Outgoing(Arc<OutgoingHandler>),
}

/// Catch-alls and middlewares.
#[derive(Default)]
pub(crate) struct Others {
    observers: Vec<Arc<dyn EventHandler>>,
    middlewares: Vec<Arc<dyn EventHandler>>,
}

/// What an event goes through next, in order. Mostly one listener, which is found without an
/// allocation.
#[derive(Default)]
pub(crate) struct Steps {
    first: Option<Arc<dyn EventHandler>>,
    more: Vec<Arc<dyn EventHandler>>,
    /// There are catch-alls or middlewares, which these are not.
    pub(crate) others_before: bool,
    /// The listeners are looked up when these are done.
    pub(crate) listeners_follow: bool,
}

impl From<Others> for Steps {
    /// Catch-alls, then middlewares, then the listeners that there are when those are done.
    fn from(Others { observers: mut more, mut middlewares }: Others) -> Self {
        more.append(&mut middlewares);
        Self { first: None, more, others_before: false, listeners_follow: true }
    }
}

impl Steps {
    #[inline]
    fn push(&mut self, handler: Arc<dyn EventHandler>) {
        if self.first.is_none() && self.more.is_empty() {
            self.first = Some(handler);
        } else {
            self.more.push(handler);
        }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Option<Arc<dyn EventHandler>> {
        self.first.take().or_else(|| (!self.more.is_empty()).then(|| self.more.remove(0)))
    }

    /// Makes what was the next one the next one again.
    pub(crate) fn put_back(&mut self, handler: Arc<dyn EventHandler>) {
        self.first = Some(handler);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty() && !self.listeners_follow
    }
}
