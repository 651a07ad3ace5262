//! permessage-deflate (RFC 7692): its options, and what two sides agree on about it.
//! Does not know frames or HTTP; `handshake` carries what is negotiated here.

mod negotiation;
mod options;

pub use negotiation::{Agreed, ParameterError};
pub use options::{Options, WindowBits};

pub(crate) use negotiation::{NAME, Offer, offers_value, verify_answer};
