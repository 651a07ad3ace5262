//! The server behind hyper: over streams in memory, on a clock that moves only when nothing else
//! can, and over loopback. `conformance/` drives it with the official client.

mod broadcast_acks;
mod deadlines;
mod delivery;
mod dynamic_namespaces;
mod handlers;
mod interleavings;
mod limits;
mod shutdown;
mod support;
