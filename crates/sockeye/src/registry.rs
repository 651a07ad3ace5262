//! The namespaces of one server by name, and how clients make dynamic ones.
//! Does not know connections; each says when it enters a namespace and when it has left.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::namespace::Namespace;
use crate::parent::{NamespaceRequest, ParentNamespace};

type Hook = Arc<dyn Fn(&Namespace) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Registry {
    names: RwLock<Names>,
    parents: RwLock<Vec<ParentNamespace>>,
    on_new: RwLock<Option<Hook>>,
}

#[derive(Default)]
struct Names {
    entries: HashMap<Arc<str>, Entry>,
    /// How many of them clients have made.
    dynamic: usize,
}

struct Entry {
    namespace: Namespace,
    parent: Option<ParentNamespace>,
    /// A client made it: it goes with its last one.
    is_dynamic: bool,
    /// The sockets in it, those among them that a middleware has not let in yet.
    users: AtomicUsize,
}

impl Entry {
    fn new(namespace: Namespace, parent: Option<ParentNamespace>, is_dynamic: bool) -> Self {
        Self { namespace, parent, is_dynamic, users: AtomicUsize::new(0) }
    }

    fn enter(&self) -> Namespace {
        self.users.fetch_add(1, Ordering::Relaxed);
        self.namespace.clone()
    }
}

impl Registry {
    pub(crate) fn set_hook(&self, hook: impl Fn(&Namespace) + Send + Sync + 'static) {
        *self.on_new.write() = Some(Arc::new(hook));
    }

    pub(crate) fn add_parent(&self, parent: ParentNamespace) {
        self.parents.write().push(parent);
    }

    pub(crate) fn parents_len(&self) -> usize {
        self.parents.read().len()
    }

    pub(crate) fn namespaces(&self) -> Vec<Namespace> {
        self.names.read().entries.values().map(|entry| entry.namespace.clone()).collect()
    }

    /// The namespace of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Namespace> {
        self.names.read().entries.get(name).map(|entry| entry.namespace.clone())
    }

    /// The namespace of this name; made by `make`, or as a child of the first parent whose pattern
    /// takes the name.
    pub(crate) fn of(&self, name: &str, make: impl FnOnce(Arc<str>) -> Namespace) -> Namespace {
        let parents = self.parents.read().clone();
        let parent = parents.into_iter().find(|parent| parent.has_pattern_for(name));
        let name: Arc<str> = name.into();
        let made = {
            let Names { entries, dynamic } = &mut *self.names.write();
            match entries.entry(name.clone()) {
                hash_map::Entry::Occupied(mut entry) => {
                    // The application has named it: it stays.
                    *dynamic -= usize::from(std::mem::take(&mut entry.get_mut().is_dynamic));
                    return entry.get().namespace.clone();
                }
                hash_map::Entry::Vacant(entry) => {
                    let namespace = match &parent {
                        Some(parent) => parent.make(name),
                        None => make(name),
                    };
                    entry.insert(Entry::new(namespace.clone(), parent, false));
                    namespace.subscribe();
                    namespace
                }
            }
        };
        self.tell(&made);
        made
    }

    /// A socket wants to be in a namespace; it is, until [`leave`](Self::leave).
    pub(crate) fn enter(&self, name: &str) -> Option<Namespace> {
        self.names.read().entries.get(name).map(Entry::enter)
    }

    /// As [`enter`](Self::enter), for a name that does not exist: the first parent that lets it
    /// be makes it, unless there are `dynamic_max` that clients have made.
    pub(crate) async fn enter_new(
        &self,
        request: NamespaceRequest,
        dynamic_max: usize,
    ) -> Option<Namespace> {
        let parents = self.parents.read().clone();
        for parent in parents {
            if parent.matches(&request).await {
                return self.enter_child(request.name(), &parent, dynamic_max);
            }
        }
        None
    }

    fn enter_child(&self, name: &str, parent: &ParentNamespace, max: usize) -> Option<Namespace> {
        let mut names = self.names.write();
        // Another client, or the application, may have made it meanwhile.
        if let Some(entry) = names.entries.get(name) {
            return Some(entry.enter());
        }
        if names.dynamic >= max {
            return None;
        }
        names.dynamic += 1;
        let name: Arc<str> = name.into();
        let entry = Entry::new(parent.make(name.clone()), Some(parent.clone()), true);
        let namespace = entry.enter();
        names.entries.insert(name, entry);
        // Under the lock: whoever removes it unsubscribes later.
        namespace.subscribe();
        drop(names);
        self.tell(&namespace);
        Some(namespace)
    }

    /// A socket is gone from a namespace. With `cleanup` one that a client had made goes with the
    /// last: not while another is still being let in, which would be left with a namespace that no
    /// broadcast reaches (as happens in Node).
    pub(crate) fn leave(&self, name: &str, cleanup: bool) {
        let is_last = {
            let names = self.names.read();
            let Some(entry) = names.entries.get(name) else { return };
            entry.users.fetch_sub(1, Ordering::Relaxed) == 1 && entry.is_dynamic
        };
        if is_last && cleanup {
            self.remove_unused(name);
        }
    }

    /// Removes a namespace that clients made and nobody is in, nor may come back to with the
    /// socket that it had.
    pub(crate) fn remove_unused(&self, name: &str) {
        let mut names = self.names.write();
        let is_unused = |entry: &Entry| {
            let recovery = entry.namespace.recovery();
            entry.users.load(Ordering::Relaxed) == 0
                && !recovery.is_some_and(|recovery| recovery.has_sessions())
        };
        if names.entries.get(name).is_some_and(|entry| entry.is_dynamic && is_unused(entry))
            && let Some(entry) = names.entries.remove(name)
        {
            names.dynamic -= 1;
            entry.namespace.unsubscribe();
            if let Some(parent) = entry.parent {
                parent.forget(name);
            }
        }
    }

    fn tell(&self, namespace: &Namespace) {
        let hook = self.on_new.read().clone();
        if let Some(hook) = hook {
            hook(namespace);
        }
    }
}
