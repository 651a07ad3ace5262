//! Engine.IO and Socket.IO seen from outside, as properties, in one binary.
//! Knows nothing of the inside; spec vectors are tested beside the code.

mod lengths;
mod msgpack;
mod packet;
mod payload;
mod reader;
mod values;
