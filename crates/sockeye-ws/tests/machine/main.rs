//! The WebSocket machine seen from outside, in one binary.
//! Knows nothing of its inside; what needs that is tested beside the code.

mod hardening;
mod negotiation;
mod pair;
mod properties;
mod strict;
mod support;
