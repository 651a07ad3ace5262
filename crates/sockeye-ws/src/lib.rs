//! WebSocket (RFC 6455) as a pure state machine.
