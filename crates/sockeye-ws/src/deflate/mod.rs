//! permessage-deflate (RFC 7692): its options, what two sides agree on about it, and the
//! compression of payloads. Does not know frames or HTTP: `handshake` carries what is negotiated
//! here, and `connection` decides what is compressed.

mod compressor;
mod deflater;
mod inflating;
mod negotiation;
mod options;
mod pool;
mod window;

pub use compressor::Compressor;
pub use negotiation::{Agreed, ParameterError};
pub use options::{Options, WindowBits};

pub(crate) use deflater::{Deflater, Settings};
pub(crate) use inflating::Inflating;
pub(crate) use negotiation::{NAME, Offer, offers_value, verify_answer};
pub(crate) use pool::{return_deflater, take_deflater};
pub(crate) use window::Window;
