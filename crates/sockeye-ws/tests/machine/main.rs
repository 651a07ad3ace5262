//! The WebSocket machine seen from outside, in one binary.
//! Knows nothing of its inside; what needs that is tested beside the code.

mod deflate;
mod deflate_properties;
mod foreign;
mod fragments;
mod hardening;
mod inflate;
mod items;
mod model;
mod negotiation;
mod pair;
mod prepared;
mod properties;
mod reference;
mod room;
mod streaming;
mod strict;
mod support;
