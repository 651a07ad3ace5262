//! The server behind hyper: over streams in memory, on a clock that moves only when nothing else
//! can, and over loopback. `conformance/` drives it with the official client.

mod broadcast_acks;
mod catch_alls;
mod compile_errors;
mod compression;
mod conflation;
mod deadlines;
mod delivery;
mod dynamic_namespaces;
mod ends;
mod extractors;
mod forwarding;
mod handlers;
mod handshakes;
mod hooks;
mod interleavings;
mod lifecycle;
mod limits;
mod listeners;
mod metrics;
mod namespaces;
mod older_clients;
mod parsers;
mod rates;
mod recovered_histories;
mod recovery;
mod recovery_limits;
mod recovery_way_back;
mod room_events;
mod serving;
mod shutdown;
mod support;
mod wakeups;
