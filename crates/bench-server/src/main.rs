//! The server that the load generator measures.
fn main() {}
