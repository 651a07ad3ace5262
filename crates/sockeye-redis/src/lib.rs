//! Socket.IO servers that are one to their clients by way of Redis, those of Node.js among them.
//! Does not know what the messages of a cluster do; [`sockeye::cluster`] does.
//!
//! * [`wire`]: the messages as bytes, exactly as Node's adapters and emitters have them.

pub mod wire;
