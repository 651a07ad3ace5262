//! Values by their type: a socket's data, a server's state.
//! Does not know whose they are.

use std::any::{Any, TypeId};

use parking_lot::RwLock;

/// A value of each type, shared by everyone who holds the socket (or the server): Node's
/// `socket.data`, with a name for each value that the compiler knows.
///
/// ```
/// use sockeye::Socket;
///
/// #[derive(Clone, Default)]
/// struct Cart(Vec<String>);
///
/// fn add(socket: &Socket, item: String) -> usize {
///     socket.data().update_or_default(|Cart(items)| {
///         items.push(item);
///         items.len()
///     })
/// }
/// ```
///
/// The functions given to [`with`](Self::with), [`update`](Self::update) and their like run under
/// a lock of this socket's: they must be short, and must not use the same extensions again, which
/// would wait for ever.
///
/// Few types are expected: a look-up walks the list, and an empty one owns no memory. The values
/// go with the socket.
#[derive(Default)]
pub struct Extensions {
    values: RwLock<Vec<(TypeId, Box<dyn Any + Send + Sync>)>>,
}

impl Extensions {
    /// Sets the value of its type and returns the one that was there.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) -> Option<T> {
        let value: Box<dyn Any + Send + Sync> = Box::new(value);
        let mut values = self.values.write();
        let id = TypeId::of::<T>();
        let old = match values.iter_mut().find(|(have, _)| *have == id) {
            Some((_, slot)) => std::mem::replace(slot, value),
            None => {
                values.push((id, value));
                return None;
            }
        };
        old.downcast().ok().map(|old| *old)
    }

    /// A clone of the value of type `T`.
    pub fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.with(T::clone)
    }

    /// Whether there is a value of type `T`.
    pub fn contains<T: 'static>(&self) -> bool {
        self.with(|_: &T| ()).is_some()
    }

    /// A clone of the value of type `T`, which `make` makes if there is none.
    pub fn get_or_insert_with<T>(&self, make: impl FnOnce() -> T) -> T
    where
        T: Clone + Send + Sync + 'static,
    {
        self.entry(make, |value| value.clone())
    }

    /// Changes the value of type `T`; `None` if there is none.
    pub fn update<T: 'static, R>(&self, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut values = self.values.write();
        let (_, value) = values.iter_mut().find(|(id, _)| *id == TypeId::of::<T>())?;
        value.downcast_mut().map(change)
    }

    /// Changes the value of type `T`, which is its default if there is none yet.
    pub fn update_or_default<T, R>(&self, change: impl FnOnce(&mut T) -> R) -> R
    where
        T: Default + Send + Sync + 'static,
    {
        self.entry(T::default, change)
    }

    /// Takes all of them away.
    pub(crate) fn take(&self) -> Self {
        Self { values: RwLock::new(std::mem::take(&mut *self.values.write())) }
    }

    fn entry<T, R>(&self, make: impl FnOnce() -> T, change: impl FnOnce(&mut T) -> R) -> R
    where
        T: Send + Sync + 'static,
    {
        let mut values = self.values.write();
        let id = TypeId::of::<T>();
        let at = values.iter().position(|(have, _)| *have == id).unwrap_or_else(|| {
            values.push((id, Box::new(make())));
            values.len() - 1
        });
        change(values[at].1.downcast_mut().expect("it stands under its own type"))
    }

    /// Runs `read` on the value of type `T`; `None` if there is none.
    pub fn with<T: 'static, R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        let values = self.values.read();
        let (_, value) = values.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        value.downcast_ref().map(read)
    }

    /// Takes the value of type `T` away.
    pub fn remove<T: 'static>(&self) -> Option<T> {
        let mut values = self.values.write();
        let at = values.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
        values.swap_remove(at).1.downcast().ok().map(|value| *value)
    }
}

impl std::fmt::Debug for Extensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Extensions({} values)", self.values.read().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_for_each_type() {
        let data = Extensions::default();
        assert_eq!(data.insert(1_u32), None);
        assert_eq!(data.insert("name".to_owned()), None);
        assert_eq!(data.insert(2_u32), Some(1));
        assert_eq!(data.get::<u32>(), Some(2));
        assert_eq!(data.with(|name: &String| name.len()), Some(4));
        assert_eq!(data.update(|number: &mut u32| std::mem::replace(number, 3)), Some(2));
        assert_eq!(data.get_or_insert_with(|| 4_u32), 3);
        assert_eq!(data.remove::<u32>(), Some(3));
        assert!(!data.contains::<u32>());
        assert_eq!(data.update(|number: &mut u32| *number), None);
        assert_eq!(data.get_or_insert_with(|| 4_u32), 4);
        assert_eq!(data.update_or_default(|list: &mut Vec<u8>| list.len()), 0);
        assert!(data.contains::<Vec<u8>>());
        assert_eq!(data.remove::<u32>(), Some(4));
        assert_eq!(data.get::<u32>(), None);
    }
}
