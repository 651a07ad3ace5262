//! What a bus with a log gives beyond carrying messages: where broadcasts stand, what has been
//! broadcast, and a place for sessions that all nodes see. Does not know any bus.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sockeye_proto::socket::OwnedArgs;
use sockeye_proto::{RecoveryId, SocketId};

use super::bus::{BusError, BusFuture};
use super::message::ClusterMessage;
use crate::rooms::RoomName;

/// Where an entry stands in a log: two numbers, of which the first counts more. Clients get it as
/// text `<first>-<second>`, which is the id of an entry of a Redis stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogOffset {
    first: u64,
    second: u64,
}

impl LogOffset {
    /// Behind every entry.
    pub(crate) const MAX: Self = Self::new(u64::MAX, u64::MAX);

    /// An offset of these numbers.
    pub const fn new(first: u64, second: u64) -> Self {
        Self { first, second }
    }

    /// Reads its text.
    ///
    /// ```
    /// use sockeye::cluster::LogOffset;
    ///
    /// let offset = LogOffset::parse("1795425201508-2").expect("two numbers");
    /// assert!(offset > LogOffset::new(1_795_425_201_508, 1));
    /// assert_eq!(offset.to_string(), "1795425201508-2");
    /// assert_eq!(LogOffset::parse("+1-2"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
            are_digits.then(|| digits.parse().ok()).flatten()
        };
        let (first, second) = text.split_once('-')?;
        Some(Self { first: number(first)?, second: number(second)? })
    }

    /// The second number, of logs whose first is always the same.
    pub(crate) fn second(self) -> u64 {
        self.second
    }
}

impl fmt::Display for LogOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.second)
    }
}

impl Serialize for LogOffset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogOffset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("it is no offset"))
    }
}

/// The log of a bus, which outlives nodes. With it connection state recovery goes from node to
/// node: every node reads the log in its order, and a client says up to where it has it.
///
/// A bus that has one
/// * returns from [`publish`](super::ClusterBus::publish) the offset of each message that it has
///   appended to the log: broadcasts without a request at the least;
/// * gives the node what others have appended by
///   [`receive_logged`](super::ClusterNode::receive_logged), and tells it of its own entries by
///   [`deliver_logged`](super::ClusterNode::deliver_logged): all of them in the log's order;
/// * says by [`set_reading_log`](super::ClusterNode::set_reading_log) whether it reads, and by
///   [`skip_log`](super::ClusterNode::skip_log) that something will never be read;
/// * keeps the sessions that it is given as [`KeepSession`](super::ClusterBody::KeepSession).
pub trait ClusterLog: Send + Sync + 'static {
    /// Up to where the log of a namespace has been read: the node has been given everything up to
    /// here. `None` before it is known where reading begins. It must not block.
    fn position(&self, namespace: &str) -> Option<LogOffset>;

    /// Reads the broadcasts of a namespace that stand behind `after`, up to and with `until`, in
    /// their order; other messages may come, too. It ends early where `take` returns false.
    ///
    /// Returns whether `take` was given all of them: false where it has returned false, or where
    /// the log may have lost something behind `after`.
    ///
    /// # Errors
    /// The log cannot be read.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    fn read<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        after: LogOffset,
        until: LogOffset,
        take: &'a mut TakeLogged<'_>,
    ) -> BusFuture<'a, Result<bool, BusError>>;

    /// Takes a session away; of several that ask for it, on whichever nodes, one gets it. `None`
    /// if there is none.
    ///
    /// # Errors
    /// It cannot be known. The session may be gone.
    ///
    /// # Cancel safety
    /// Dropped, it may have taken the session away.
    fn take_session<'a>(
        &'a self,
        id: &'a RecoveryId,
    ) -> BusFuture<'a, Result<Option<ClusterSession>, BusError>>;

    /// For how long a node must not have been heard of before the sessions of its sockets, which
    /// live for all that it has said, can be taken away: where the bus keeps those, too, so that a
    /// node may be killed. Then it
    /// * enters them as it is given them by [`EnterSession`](super::ClusterBody::EnterSession), and
    ///   lets them go by [`ForgetSession`](super::ClusterBody::ForgetSession) and
    ///   [`KeepSession`](super::ClusterBody::KeepSession);
    /// * gives one away by [`take_session`](Self::take_session) only if its node is gone, as far as
    ///   anyone can know; should that be there after all, it is told by
    ///   [`end_taken`](super::ClusterNode::end_taken);
    /// * asks by [`enter_sessions`](super::ClusterNode::enter_sessions) for what it has lost, or is
    ///   to be told anew.
    ///
    /// A [`take_session`](Self::take_session) may take so much longer. Default: `None`, they are
    /// not kept, which costs nothing.
    fn live_session_lease(&self) -> Option<Duration> {
        None
    }
}

/// Is given an entry; whether it wants more.
pub type TakeLogged<'a> = dyn FnMut(LogOffset, ClusterMessage) -> bool + Send + 'a;

/// What is left of a socket that ended and may be taken up again, on whichever node (Node's
/// `Session`).
#[derive(Clone, Debug)]
pub struct ClusterSession {
    /// The socket's id.
    pub socket: SocketId,
    /// The private id that the client takes it up by.
    pub id: RecoveryId,
    /// Its rooms, the one of its own id among them if it was in that.
    pub rooms: Vec<RoomName>,
    /// Its data (Node's `socket.data`): one argument, `{}` where none has been set.
    pub data: OwnedArgs,
    /// What Sockeye's nodes tell each other beyond what Node's know: JSON, to be kept as it is.
    pub more: Option<Box<RawValue>>,
}

/// A session to be kept; see [`ClusterBody::KeepSession`](super::ClusterBody::KeepSession).
#[derive(Clone, Debug)]
pub struct KeptSession {
    /// The session.
    pub session: ClusterSession,
    /// For how long.
    pub time: Duration,
}

/// The session of a socket that lives; see
/// [`ClusterBody::EnterSession`](super::ClusterBody::EnterSession).
#[derive(Clone, Debug)]
pub struct LiveSession {
    /// As it would be if the socket ended now.
    pub session: ClusterSession,
    /// The first of this socket: whatever is there under its private id is over.
    pub is_first: bool,
    /// For how long it is kept when its node is gone.
    pub time: Duration,
}
