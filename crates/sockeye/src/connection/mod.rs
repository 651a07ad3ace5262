//! A connection: what owns its life from the handshake to the last hook.
//! Does not know HTTP; requests reach it as commands.

mod asked;
mod peer;
mod slot;
mod sockets;
mod task;
mod transport;

pub(crate) use asked::{Asked, Leaving};
pub(crate) use peer::{Command, GetAnswer, Peer, PostAnswer};
pub(crate) use task::{Connection, Opening};
pub(crate) use transport::Transport;
