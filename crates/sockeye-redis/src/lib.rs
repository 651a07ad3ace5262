//! Socket.IO servers that are one to their clients by way of Redis, those of Node.js among them.
//! Does not know what the messages of a cluster do; [`sockeye::cluster`] does.
//!
//! * [`ClassicBus`], [`ShardedBus`] and [`StreamsBus`] are what [`ServerBuilder::cluster`] takes:
//!   the counterparts of Node's adapters, which may stand beside them in one cluster.
//! * [`RedisEmitter`] speaks to a cluster from a process that serves no sockets.
//! * [`wire`]: the messages as bytes, exactly as Node's adapters and emitters have them.
//!
//! # When Redis is away
//!
//! Each server goes on serving its own clients. [`Server::cluster_health`] says that it is deaf and
//! counts what could not be published; nothing is sent again later. When Redis is back everything
//! that is wanted is subscribed to anew, and the node counts as hearing only when a message to
//! itself has come back through Redis, as it does every five seconds from then on.
//!
//! Redis may be one server, a cluster, or what sentinels watch, with TLS by the features
//! `aws-lc-rs` and `ring`: [`Redis`] tells the URLs. A slot that moves and a primary that fails are
//! followed.
//!
//! [`ServerBuilder::cluster`]: sockeye::ServerBuilder::cluster
//! [`Server::cluster_health`]: sockeye::Server::cluster_health

/// The examples of the document for who comes from Node's server.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/migrating-from-node.md")]
mod migrating_from_node {}

mod asking;
mod classic;
mod commands;
mod emitter;
mod line;
mod redis;
mod sharded;
mod slots;
mod streams;
mod subscriber;
pub mod wire;

pub use self::classic::{ClassicBus, ClassicOptions};
pub use self::emitter::{EmitterBroadcast, EmitterError, RedisEmitter};
pub use self::redis::Redis;
#[cfg(feature = "rustls")]
pub use self::redis::Tls;
pub use self::sharded::{ShardedBus, ShardedOptions, SubscriptionMode};
pub use self::streams::{StreamsBus, StreamsOptions};
