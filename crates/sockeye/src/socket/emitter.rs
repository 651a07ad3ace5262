//! Emits to one socket with options, and the acknowledgements that they wait for.
//! Does not know how packets travel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use sockeye_proto::socket::{EmitArgs, EncodedPacket, Name, OwnedArgs, ToName, UnfinishedEvent};
use tokio::sync::oneshot;

use super::Socket;
use crate::cluster::{BroadcastFlags, BroadcastOptions, ClusterBody, ClusterEvent, Link};
use crate::conflation::Key;
use crate::error::{AckError, EmitError};
use crate::metrics;
use crate::outbox::Way;
use crate::outgoing::Shown;
use crate::recovery::{Reach, Recovery};
use crate::rooms::RoomName;

/// An emit to one socket, with options; see [`Socket::timeout`], [`Socket::volatile`],
/// [`Socket::conflate`] and [`Socket::compress`].
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `emit`"]
pub struct Emitter<'a> {
    socket: &'a Socket,
    way: Way,
    timeout: Option<Duration>,
    compress: bool,
}

impl<'a> Emitter<'a> {
    pub(super) fn of(socket: &'a Socket) -> Self {
        Self { socket, way: Way::Always, timeout: None, compress: true }
    }

    /// Waits for the acknowledgement for at most `timeout`: see [`Socket::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes it volatile: see [`Socket::volatile`].
    pub fn volatile(mut self) -> Self {
        self.way = Way::Volatile;
        self
    }

    /// Whether it may be compressed: see [`Socket::compress`].
    pub fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    /// Makes it replace what waits under the same key: see [`Socket::conflate`].
    pub fn conflate(mut self, key: impl Into<Arc<str>>) -> Self {
        let namespace = self.socket.0.namespace.name_shared();
        self.way = Way::Latest(Key { namespace, key: key.into() });
        self
    }

    /// Sends an event; see [`Socket::emit`].
    ///
    /// # Errors
    /// As [`Socket::emit`]. A volatile event that is dropped is no error, nor one that is replaced
    /// later.
    pub fn emit(self, event: impl ToName, args: impl EmitArgs) -> Result<(), EmitError> {
        let event = event.to_name();
        if let Some(recovery) = self.socket.0.namespace.recovery() {
            return self.emit_recoverable(recovery, &event, &args);
        }
        let packet = self.encode(None, &event, &args)?;
        self.socket.push_by(packet, &self.way)
    }

    /// As [`emit`](Self::emit), where what the client misses is kept.
    fn emit_recoverable(
        &self,
        recovery: &Recovery,
        name: &Name<'_>,
        args: &impl EmitArgs,
    ) -> Result<(), EmitError> {
        let socket = self.socket;
        if socket.is_disconnected() {
            return Err(EmitError::Disconnected);
        }
        let namespace = &socket.0.namespace;
        if let Some((link, _)) = namespace.shared_recovery()
            && socket.is_connected()
        {
            return self.emit_logged(link, name, args);
        }
        let event = UnfinishedEvent::new(namespace.name(), name, args)?;
        let event = if self.compress { event } else { event.without_compression() };
        if namespace.has_outgoing() {
            socket.show(&Shown::new(name, &event.clone().finish()));
        }
        // What is emitted in a middleware comes before the client has a socket to recover.
        if !matches!(self.way, Way::Always) || !socket.is_connected() {
            return socket.push_by(event.finish_without_offset(), &self.way);
        }
        recovery.record(Reach::Socket(socket.id()), |offset| {
            let packet = namespace.config().parser.encode(event.finish_with_offset(offset))?;
            socket.push(packet.clone())?;
            Ok(packet)
        })
    }

    /// As [`emit`](Self::emit), where the cluster's log keeps what clients miss: all nodes are
    /// told, and the client is behind the log.
    fn emit_logged(
        &self,
        link: &Link,
        name: &Name<'_>,
        args: &impl EmitArgs,
    ) -> Result<(), EmitError> {
        let (socket, namespace) = (self.socket.clone(), &self.socket.0.namespace);
        let packet = self.encode(None, name, args)?;
        if !matches!(self.way, Way::Always) {
            let (packet, way) = (UnfinishedEvent::again(&packet), self.way.clone());
            let packet = packet.finish_without_offset();
            let deliver = move |_| socket.deliver(packet, &way);
            link.then(&namespace.name_shared(), Box::new(deliver));
            return Ok(());
        }
        let id = socket.id();
        let flags =
            BroadcastFlags { compress: self.compress, direct: true, ..BroadcastFlags::default() };
        let rooms = vec![RoomName::from(id.as_str())];
        let options = BroadcastOptions { rooms, flags, ..BroadcastOptions::default() };
        let event = ClusterEvent::of(packet.clone());
        let body = ClusterBody::Broadcast { event, options, request: None };
        let deliver = move |offset| {
            socket.0.namespace.deliver_to_socket(&packet, id, offset);
        };
        link.say_then(&namespace.name_shared(), body, Box::new(deliver));
        Ok(())
    }

    /// Sends the event `message`; see [`emit`](Self::emit).
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn send(self, args: impl EmitArgs) -> Result<(), EmitError> {
        self.emit("message", args)
    }

    /// Sends an event and waits for its acknowledgement; see [`Socket::emit_with_ack`]. What
    /// shall be answered is sent in any case, neither volatile nor conflated.
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    ///
    /// # Cancel safety
    /// Dropped, it forgets the acknowledgement; the event has been sent.
    pub async fn emit_with_ack<T: DeserializeOwned>(
        self,
        event: impl ToName,
        args: impl EmitArgs,
    ) -> Result<T, AckError> {
        let answer = self.emit_with_ack_args(event, args).await?;
        answer.cursor().next().map_err(|error| AckError::Data(error.to_string()))
    }

    /// As [`emit_with_ack`](Self::emit_with_ack), with all arguments of the answer.
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    ///
    /// # Cancel safety
    /// Dropped, it forgets the acknowledgement; the event has been sent.
    pub async fn emit_with_ack_args(
        self,
        event: impl ToName,
        args: impl EmitArgs,
    ) -> Result<OwnedArgs, AckError> {
        let default = self.socket.0.namespace.config().ack_timeout;
        let pending = self.request(&event.to_name(), &args)?;
        drop(args);
        pending.answer(self.timeout.unwrap_or(default)).await
    }

    /// Emits with an acknowledgement, which is waited for before the packet is there.
    fn request(&self, event: &Name<'_>, args: &impl EmitArgs) -> Result<PendingAck, EmitError> {
        let id = self.socket.0.namespace.next_ack_id();
        let packet = self.encode(Some(id), event, args)?;
        let (answer, waiting) = oneshot::channel();
        self.socket.0.acks.lock().insert(id, answer);
        let sent = metrics::clock();
        let pending = PendingAck { socket: self.socket.clone(), id, waiting, sent };
        let connected = self.socket.0.namespace.shared_recovery();
        match connected.filter(|_| self.socket.is_connected()) {
            Some((link, _)) => {
                let socket = self.socket.clone();
                let deliver = move |_| socket.deliver(packet, &Way::Always);
                link.then(&self.socket.0.namespace.name_shared(), Box::new(deliver));
            }
            None => self.socket.push(packet)?,
        }
        Ok(pending)
    }

    /// Makes the packet, and shows it to those who look.
    fn encode(
        &self,
        id: Option<u64>,
        event: &Name<'_>,
        args: &impl EmitArgs,
    ) -> Result<EncodedPacket, EmitError> {
        // Whoever goes on emitting to a client that has gone must not pay for the encoding.
        if self.socket.is_disconnected() {
            return Err(EmitError::Disconnected);
        }
        let namespace = &self.socket.0.namespace;
        let packet = EncodedPacket::event(namespace.name(), id, event, args)?;
        if namespace.has_outgoing() {
            self.socket.show(&Shown::new(event, &packet));
        }
        Ok(if self.compress { packet } else { packet.without_compression() })
    }
}

/// Forgets an acknowledgement that nobody waits for any more.
struct PendingAck {
    socket: Socket,
    id: u64,
    waiting: oneshot::Receiver<OwnedArgs>,
    sent: Option<Instant>,
}

impl PendingAck {
    async fn answer(mut self, limit: Duration) -> Result<OwnedArgs, AckError> {
        match tokio::time::timeout(limit, &mut self.waiting).await {
            Ok(Ok(answer)) => {
                metrics::acknowledged(self.sent);
                Ok(answer)
            }
            Ok(Err(_)) => {
                metrics::ack_failed(metrics::Ack::Disconnected);
                Err(AckError::Disconnected)
            }
            Err(_) => {
                metrics::ack_failed(metrics::Ack::Timeout);
                Err(AckError::Timeout)
            }
        }
    }
}

impl Drop for PendingAck {
    fn drop(&mut self) {
        self.socket.0.acks.lock().remove(&self.id);
    }
}
