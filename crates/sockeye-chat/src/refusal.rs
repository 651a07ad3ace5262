//! What a client is told whose event was not done.
//! Does not know why it was not.

use std::time::Duration;

use serde_json::{Value, json};
use sockeye::{EmitError, HandlerError};

/// The code of a failure that is the server's own.
pub(crate) const INTERNAL: &str = "internal";
pub(crate) const FAILED: &str = "The server failed.";

/// The acknowledgement `{"status":"error","code","message"}`, with `"data"` where there is some.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
    data: Option<Value>,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(crate) fn too_fast(wait: Duration) -> Self {
        let message = "Too much at once; please wait a moment.";
        let data = json!({ "retryAfterMs": retry_after_ms(wait) });
        Self { data: Some(data), ..Self::new("too_fast", message) }
    }

    pub(crate) fn too_many_rooms(max: usize) -> Self {
        Self::new("too_many_rooms", format!("You are in {max} rooms already."))
    }

    /// The client learns that the server failed, the log why.
    pub(crate) fn internal(error: anyhow::Error) -> Self {
        tracing::error!(error = format!("{error:#}"), "the store failed");
        Self::new(INTERNAL, FAILED)
    }

    /// For whom acknowledges by hand.
    pub(crate) fn to_ack(&self) -> Value {
        let mut ack = json!({ "status": "error", "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            ack["data"] = data.clone();
        }
        ack
    }
}

/// In milliseconds, rounded up: who waits so long is let in.
pub(crate) fn retry_after_ms(wait: Duration) -> u128 {
    wait.as_micros().div_ceil(1000)
}

impl From<EmitError> for Refusal {
    /// The client has gone, and hears nothing of this either.
    fn from(error: EmitError) -> Self {
        Self::new("gone", error.to_string())
    }
}

impl From<Refusal> for HandlerError {
    fn from(refusal: Refusal) -> Self {
        let error = Self::new(refusal.code, refusal.message);
        match refusal.data {
            Some(data) => error.with_data(&data),
            None => error,
        }
    }
}
