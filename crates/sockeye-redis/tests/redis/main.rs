//! Redis and Node's own packages, as they are. `cargo xtask test` installs both; by hand:
//! `apt-get install redis-server`, and `npm ci` in `tests/cluster`.

mod access;
mod buses;
mod cluster;
mod emitter;
mod failures;
mod live_sessions;
mod migration;
mod nodes;
mod refused;
mod sentinel;
mod server;
mod slow;
mod unconcerned;
mod vectors;
