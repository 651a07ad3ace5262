//! Speaks to a cluster from a process that serves no sockets: a job, a worker, a script.
//! Does not hear anything.

use std::sync::Arc;

use redis::{Pipeline, RedisError};
use sockeye::cluster::{BroadcastOptions, ClusterBody, ClusterEvent, ClusterMessage, NodeId};
use sockeye::{EmitArgs, EncodeError, IntoRooms, OwnedArgs, RoomName, ToName};
use sockeye_proto::socket::{ArgsWriter, Name};

use crate::commands::Commands;
use crate::redis::Redis;
use crate::streams::{StreamsOptions, add_entry};
use crate::wire::UnwritableError;
use crate::wire::classic::{Channels, Writer, encode};

/// Emits to the clients of all servers of a cluster. Made by [`classic`](Self::classic) for servers
/// with the classic adapter, as Node's `@socket.io/redis-emitter` is, or by
/// [`streams`](Self::streams); the sharded adapter has none. A clone is a handle to the same.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sockeye_redis::{Redis, RedisEmitter};
///
/// let emitter = RedisEmitter::classic(Redis::open("redis://127.0.0.1/")?, "socket.io");
/// emitter.to("news").emit("headline", "rain").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RedisEmitter {
    way: Way,
    namespace: Arc<str>,
}

#[derive(Clone, Debug)]
enum Way {
    Classic { commands: Arc<Commands>, key: Arc<str> },
    Streams { commands: Arc<Commands>, options: Arc<StreamsOptions> },
}

/// An emitter could not emit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitterError {
    /// The event's name is reserved, or its arguments cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The message cannot be written.
    #[error(transparent)]
    Unwritable(#[from] UnwritableError),
    /// Redis could not be reached, or refused. The message may have been sent all the same where
    /// the connection was lost; nothing is sent again.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Node's streams adapter carries this through pub/sub only, which an emitter does not write
    /// to.
    #[error("an emitter on streams cannot speak to servers")]
    Unsupported,
}

impl RedisEmitter {
    /// To servers with the classic adapter; `key` is theirs, by default `socket.io`.
    pub fn classic(redis: Redis, key: &str) -> Self {
        let commands = Arc::new(Commands::new(redis));
        Self { way: Way::Classic { commands, key: key.into() }, namespace: "/".into() }
    }

    /// To servers with the streams adapter; of the options, those of the stream matter.
    pub fn streams(redis: Redis, options: StreamsOptions) -> Self {
        let commands = Arc::new(Commands::new(redis));
        let options = Arc::new(options);
        Self { way: Way::Streams { commands, options }, namespace: "/".into() }
    }

    /// To a namespace; the slash in front may be left out.
    pub fn of(&self, namespace: &str) -> Self {
        let slash = if namespace.starts_with('/') { "" } else { "/" };
        Self { way: self.way.clone(), namespace: format!("{slash}{namespace}").into() }
    }

    /// To everyone in the namespace.
    pub fn broadcast(&self) -> EmitterBroadcast {
        EmitterBroadcast { emitter: self.clone(), options: BroadcastOptions::default() }
    }

    /// To everyone in the rooms. A socket's id is the name of a room with that socket in it.
    pub fn to(&self, rooms: impl IntoRooms) -> EmitterBroadcast {
        self.broadcast().to(rooms)
    }

    /// To everyone but those in the rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> EmitterBroadcast {
        self.broadcast().except(rooms)
    }

    /// Sends an event to everyone in the namespace.
    ///
    /// # Errors
    /// As [`EmitterBroadcast::emit`].
    ///
    /// # Cancel safety
    /// The event may or may not be sent.
    pub async fn emit(&self, event: impl ToName, args: impl EmitArgs) -> Result<(), EmitterError> {
        self.broadcast().emit(event, args).await
    }

    /// Sends an event to the servers themselves, with the classic adapter.
    ///
    /// # Errors
    /// As [`EmitterBroadcast::emit`]; [`EmitterError::Unsupported`] on streams.
    ///
    /// # Cancel safety
    /// The event may or may not be sent.
    pub async fn server_side_emit(
        &self,
        event: impl ToName,
        args: impl EmitArgs,
    ) -> Result<(), EmitterError> {
        if matches!(self.way, Way::Streams { .. }) {
            return Err(EmitterError::Unsupported);
        }
        let event = OwnedArgs::write(&Named(event.to_name(), &args))?;
        drop(args);
        self.send(ClusterBody::ServerSideEmit { event, request: None }).await
    }

    async fn send(&self, body: ClusterBody) -> Result<(), EmitterError> {
        let sender = Some(NodeId::new(NodeId::EMITTER));
        let message = ClusterMessage { sender, namespace: self.namespace.clone(), body };
        let mut pipeline = Pipeline::new();
        let commands = match &self.way {
            Way::Classic { commands, key } => {
                let channels = Channels::new(key, &self.namespace);
                let publication = encode(&message, None, &channels, Writer::Emitter)?;
                pipeline.cmd("PUBLISH").arg(publication.channel).arg(publication.payload);
                commands
            }
            Way::Streams { commands, options } => {
                add_entry(&message, options, &mut pipeline)?;
                commands
            }
        };
        commands.run(&pipeline).await?;
        Ok(())
    }
}

/// A name, and arguments behind it.
struct Named<'a, A>(Name<'a>, &'a A);

impl<A: EmitArgs> EmitArgs for Named<'_, A> {
    fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        out.name(&self.0);
        self.1.write(out)
    }
}

/// Whom an emitter's messages reach; every method but the last ones returns a changed one.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before it is told what"]
pub struct EmitterBroadcast {
    emitter: RedisEmitter,
    options: BroadcastOptions,
}

impl EmitterBroadcast {
    /// Adds rooms: it reaches the members of any of its rooms.
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        rooms.each(|room| self.options.rooms.push(room));
        self
    }

    /// Leaves out the members of these rooms.
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        rooms.each(|room| self.options.except.push(room));
        self
    }

    /// Passes over every client that cannot take the event the instant it comes.
    pub fn volatile(mut self) -> Self {
        self.options.flags.volatile = true;
        self
    }

    /// Whether servers may compress the event for clients that agreed to it. Default: true.
    pub fn compress(mut self, compress: bool) -> Self {
        self.options.flags.compress = compress;
        self
    }

    /// Sends an event. It is encoded once.
    ///
    /// # Errors
    /// The event cannot be written, or Redis not be reached. That nobody hears is no error.
    ///
    /// # Cancel safety
    /// The event may or may not be sent.
    pub async fn emit(&self, event: impl ToName, args: impl EmitArgs) -> Result<(), EmitterError> {
        let event = ClusterEvent::encode(&self.emitter.namespace, event, &args)?;
        drop(args);
        let options = self.options.clone();
        self.emitter.send(ClusterBody::Broadcast { event, options, request: None }).await
    }

    /// Makes every socket that it reaches join rooms.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    ///
    /// # Cancel safety
    /// It may or may not be sent.
    pub async fn sockets_join(&self, rooms: impl IntoRooms) -> Result<(), EmitterError> {
        let (options, rooms) = (self.options.clone(), names(rooms));
        self.emitter.send(ClusterBody::SocketsJoin { options, rooms }).await
    }

    /// Makes every socket that it reaches leave rooms.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    ///
    /// # Cancel safety
    /// It may or may not be sent.
    pub async fn sockets_leave(&self, rooms: impl IntoRooms) -> Result<(), EmitterError> {
        let (options, rooms) = (self.options.clone(), names(rooms));
        self.emitter.send(ClusterBody::SocketsLeave { options, rooms }).await
    }

    /// Disconnects every socket that it reaches; with `close` the connections beneath, too.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    ///
    /// # Cancel safety
    /// It may or may not be sent.
    pub async fn disconnect_sockets(&self, close: bool) -> Result<(), EmitterError> {
        let options = self.options.clone();
        self.emitter.send(ClusterBody::DisconnectSockets { options, close }).await
    }
}

fn names(rooms: impl IntoRooms) -> Vec<RoomName> {
    let mut names = Vec::new();
    rooms.each(|room| names.push(room));
    names
}
