//! Socket.IO server for Rust.
