//! Values by their type: a socket's data, a server's state.

use std::any::{Any, TypeId};

use parking_lot::RwLock;

/// A value of each type, shared by everyone who holds the socket (or the server).
///
/// Few types are expected: a look-up walks the list, and an empty one owns no memory.
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

    /// Runs `read` on the value of type `T`. It must not use these extensions again.
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
        assert_eq!(data.remove::<u32>(), Some(2));
        assert_eq!(data.get::<u32>(), None);
    }
}
