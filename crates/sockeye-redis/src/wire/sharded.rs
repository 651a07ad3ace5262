//! The sharded adapter's messages (`createShardedAdapter`, Redis 7): one channel for each
//! namespace, one for each node and, with dynamic subscriptions, one for each room. Does not know
//! connections.

use std::sync::Arc;

use sockeye::RoomName;
use sockeye::cluster::{ClusterBody, ClusterMessage, NodeId};

use super::numbered::{self, Body};
use super::{Publication, Text, UnwritableError, WireError};

/// Which rooms have channels of their own: Node's `subscriptionMode`. All servers of a cluster
/// need the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubscriptionMode {
    /// None: every node hears every broadcast.
    Static,
    /// Those that are not a socket's own; see [`Channels::publishes_to_room`]. Nodes without a
    /// member are not woken.
    #[default]
    Dynamic,
    /// All, sockets' own rooms too: twice as many subscriptions as sockets, but what is for one
    /// socket wakes one node.
    DynamicPrivate,
}

/// The channels of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    common: String,
    mode: SubscriptionMode,
}

/// The length of a socket's id.
const SOCKET_ID_LEN: usize = 20;

impl Channels {
    /// Those under a prefix, Node's option `channelPrefix`; its default is `socket.io`.
    pub fn new(prefix: &str, namespace: &str, mode: SubscriptionMode) -> Self {
        Self { common: format!("{prefix}#{namespace}#"), mode }
    }

    /// What every node hears.
    pub fn common(&self) -> &str {
        &self.common
    }

    /// What one node hears: answers.
    pub fn node(&self, node: &NodeId) -> String {
        format!("{}{node}#", self.common)
    }

    /// What nodes with members of a room hear.
    pub fn room(&self, room: &str) -> String {
        format!("{}{room}#", self.common)
    }

    /// Whether a broadcast to this room alone goes to the room's channel. With
    /// [`SubscriptionMode::Dynamic`] this is told by the length of the name, as Node does: a room
    /// whose name has 20 UTF-16 units counts as a socket's own.
    pub fn publishes_to_room(&self, room: &str) -> bool {
        match self.mode {
            SubscriptionMode::Static => false,
            SubscriptionMode::Dynamic => room.encode_utf16().count() != SOCKET_ID_LEN,
            SubscriptionMode::DynamicPrivate => true,
        }
    }

    fn of(&self, message: &ClusterMessage, to: Option<&NodeId>) -> String {
        match (&message.body, to) {
            (_, Some(to)) => self.node(to),
            (ClusterBody::Broadcast { options, request: None, .. }, None) => {
                match &options.rooms[..] {
                    [room] if self.publishes_to_room(room) => self.room(room),
                    _ => self.common.clone(),
                }
            }
            _ => self.common.clone(),
        }
    }
}

/// Writes a message for its channel, or for one node's.
///
/// # Errors
/// A message that only the classic adapter has.
pub fn encode(
    message: &ClusterMessage,
    to: Option<&NodeId>,
    channels: &Channels,
) -> Result<Publication, UnwritableError> {
    let payload = Body::of(&message.body)?.write(message, false)?;
    Ok(Publication { channel: channels.of(message, to), payload })
}

/// Reads what came on one of the channels of a namespace.
///
/// # Errors
/// It is no message of a sharded adapter, or one about another namespace.
pub fn decode(payload: &[u8], namespace: &Arc<str>) -> Result<ClusterMessage, WireError> {
    let message = decode_wanted(payload, namespace, |_, _| true)?;
    Ok(message.expect("all are wanted"))
}

/// As [`decode`], but a broadcast that `wants` does not want, by its sender and its rooms, is not
/// read further: `None`. The rest of it may be broken.
///
/// # Errors
/// As [`decode`].
pub fn decode_wanted(
    payload: &[u8],
    namespace: &Arc<str>,
    wants: impl FnOnce(&str, &[RoomName]) -> bool,
) -> Result<Option<ClusterMessage>, WireError> {
    let message = numbered::read_wanted(&Text::read(payload)?, wants)?;
    if message.as_ref().is_some_and(|message| message.namespace != *namespace) {
        return Err(WireError::Namespace);
    }
    Ok(message)
}
