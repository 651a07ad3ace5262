//! What catch-alls of outgoing events see. Does not know how it is sent.

use sockeye_proto::socket::{ArgsCursor, EncodedPacket, Name, OwnedArgs};

use crate::socket::Socket;

/// Sees each event before it is sent to a socket.
pub(crate) type OutgoingHandler = dyn Fn(&Socket, &Outgoing<'_>) + Send + Sync;

/// An event on its way to a client, as [`Socket::on_any_outgoing`] shows it.
///
/// Its arguments can be read as types, as those of an incoming event: binary data is there itself,
/// not its placeholder.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    name: &'a str,
    args: &'a OwnedArgs,
}

impl Outgoing<'_> {
    /// The event's name; of a number its digits.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Its arguments as JSON, with the binary attachments beside it.
    pub fn raw_args(&self) -> &OwnedArgs {
        self.args
    }

    /// Reads its arguments one by one, or all together.
    pub fn args(&self) -> ArgsCursor<'_> {
        self.args.cursor()
    }
}

/// What `tell` needs to show one event to many; made only where somebody looks.
pub(crate) struct Shown {
    name: String,
    args: OwnedArgs,
}

impl Shown {
    pub(crate) fn new(name: &Name<'_>, packet: &EncodedPacket) -> Self {
        Self { name: name.to_string(), args: packet.event_args().unwrap_or_default() }
    }

    /// Of an event that another node has sent.
    pub(crate) fn of(packet: &EncodedPacket) -> Option<Self> {
        Some(Self { name: packet.event_name()?.into_owned(), args: packet.event_args()? })
    }

    pub(crate) fn outgoing(&self) -> Outgoing<'_> {
        Outgoing { name: &self.name, args: &self.args }
    }
}
