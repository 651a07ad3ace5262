//! The tokio side seen from outside, over memory and over real loopback, in one binary.
//! Knows nothing of its inside; what needs that is tested beside the code.

mod abuse;
mod cancel;
mod chaos;
mod client;
mod deflate;
mod durations;
mod examples;
mod illegal;
mod keep_alive;
mod parts;
mod server;
mod split;
mod stream;
mod support;
mod tls;
mod tracing;
mod tungstenite;
mod upgrade;
