//! The rooms that one socket is in. Does not know who else is in them.

use std::ops::Deref;
use std::sync::LazyLock;

use indexmap::IndexSet;

use crate::rooms::RoomName;

static NONE: LazyLock<IndexSet<RoomName>> = LazyLock::new(IndexSet::new);

/// A set of rooms; most sockets are in none but their own, and then it is small.
#[derive(Debug, Default)]
pub(super) struct JoinedRooms(Option<Box<IndexSet<RoomName>>>);

impl JoinedRooms {
    pub(super) fn insert(&mut self, room: RoomName) {
        self.0.get_or_insert_default().insert(room);
    }

    pub(super) fn remove(&mut self, room: &RoomName) {
        if let Some(rooms) = &mut self.0 {
            rooms.swap_remove(room);
        }
        self.0.take_if(|rooms| rooms.is_empty());
    }

    /// All of them, which it forgets.
    pub(super) fn take(&mut self) -> IndexSet<RoomName> {
        self.0.take().map_or_else(IndexSet::new, |rooms| *rooms)
    }
}

impl Deref for JoinedRooms {
    type Target = IndexSet<RoomName>;

    fn deref(&self) -> &IndexSet<RoomName> {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl From<IndexSet<RoomName>> for JoinedRooms {
    fn from(rooms: IndexSet<RoomName>) -> Self {
        Self((!rooms.is_empty()).then(|| Box::new(rooms)))
    }
}
