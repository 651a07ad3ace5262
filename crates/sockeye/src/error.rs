//! What can go wrong, by who is at fault: the caller ([`EmitError`], [`AckError`]), a handler or
//! its arguments ([`HandlerError`]), a connection that is refused ([`ConnectError`]).

use std::fmt::Display;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sockeye_proto::socket::{ArgError, EncodeError};

/// An `emit` did not send.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// The event's name is reserved or its arguments cannot be written as JSON.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The socket is disconnected.
    #[error("the socket is disconnected")]
    Disconnected,
    /// Too many bytes wait for a slow client already, and the policy is
    /// [`OutboxPolicy::Refuse`](crate::OutboxPolicy::Refuse).
    #[error("the socket's outbox is full")]
    OutboxFull,
}

/// An acknowledgement did not come, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AckError {
    /// The event was not sent.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// No answer in time. A later one is dropped.
    #[error("operation has timed out")]
    Timeout,
    /// The socket disconnected before it answered.
    #[error("socket has been disconnected")]
    Disconnected,
    /// A node of the cluster did not say in time whom it asked, or could not be asked.
    #[error("a node of the cluster did not answer")]
    Node,
    /// The answer is not of the expected type.
    #[error("the acknowledgement could not be read: {0}")]
    Data(String),
}

/// A connection to a namespace is refused. The client gets a `connect_error` whose error has this
/// `message` and `data`.
#[derive(Debug)]
pub struct ConnectError {
    message: String,
    data: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct ConnectErrorWire<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

impl ConnectError {
    /// Refuses with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// Adds what the client finds as `err.data`. What cannot be written as JSON is left out.
    #[must_use]
    pub fn with_data(mut self, data: &impl Serialize) -> Self {
        self.data = to_raw_value(data).ok();
        self
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The packet's JSON: `{"message":…,"data":…}`.
    pub(crate) fn to_json(&self) -> String {
        let wire = ConnectErrorWire { message: &self.message, data: self.data.as_deref() };
        serde_json::to_string(&wire).expect("a string and valid JSON can be written as JSON")
    }

    /// The packet's JSON for clients of Socket.IO 2: the data, or the message where there is none.
    pub(crate) fn to_json_v3(&self) -> String {
        match &self.data {
            Some(data) => data.get().to_owned(),
            None => serde_json::to_string(&self.message).expect("a string can be written as JSON"),
        }
    }
}

impl From<&str> for ConnectError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for ConnectError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// A handler failed: it returned an error, an argument was not what it takes, or it panicked.
///
/// If the client asked for an acknowledgement, it gets
/// `{"status":"error","code":…,"message":…}` (with `"data"` where there is some). The hook of
/// [`Server::on_error`](crate::Server::on_error) sees every one.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HandlerError {
    code: String,
    message: String,
    data: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct HandlerErrorWire<'a> {
    status: &'static str,
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

impl HandlerError {
    /// An error with a code for programs and a message for people.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), data: None }
    }

    /// Adds `data` to the acknowledgement. What cannot be written as JSON is left out.
    #[must_use]
    pub fn with_data(mut self, data: &impl Serialize) -> Self {
        self.data = to_raw_value(data).ok();
        self
    }

    /// The code. The server's own are `bad_arguments`, `internal` (a panic) and `unanswerable`
    /// (the handler's result cannot be written as JSON).
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn panicked() -> Self {
        Self::new("internal", "the handler failed")
    }

    pub(crate) fn unanswerable(error: &EncodeError) -> Self {
        Self::new("unanswerable", format!("the answer cannot be sent: {error}"))
    }

    /// The acknowledgement's arguments.
    pub(crate) fn to_json(&self) -> String {
        let wire = HandlerErrorWire {
            status: "error",
            code: &self.code,
            message: &self.message,
            data: self.data.as_deref(),
        };
        serde_json::to_string(&wire).expect("strings and valid JSON can be written as JSON")
    }
}

impl From<EmitError> for HandlerError {
    fn from(error: EmitError) -> Self {
        Self::new("emit_failed", error.to_string())
    }
}

impl From<AckError> for HandlerError {
    fn from(error: AckError) -> Self {
        Self::new("ack_failed", error.to_string())
    }
}

impl From<ArgError> for HandlerError {
    fn from(error: ArgError) -> Self {
        Rejection::of(&error).into()
    }
}

impl From<Rejection> for HandlerError {
    fn from(rejection: Rejection) -> Self {
        Self::new("bad_arguments", rejection.message)
    }
}

/// How many characters are said of an argument that is not what was expected.
const READER_CHARS_MAX: usize = 200;

/// An extractor could not make its value out of an event.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    message: String,
}

impl Rejection {
    /// Says what was expected.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// What a reader of JSON says, cut short: it repeats what it did not expect, however long.
    pub(crate) fn of(error: &impl Display) -> Self {
        let mut message = error.to_string();
        if let Some((end, _)) = message.char_indices().nth(READER_CHARS_MAX) {
            message.truncate(end);
            message.push('…');
        }
        Self { message }
    }
}

impl From<Rejection> for ConnectError {
    fn from(rejection: Rejection) -> Self {
        Self::new(rejection.message)
    }
}
