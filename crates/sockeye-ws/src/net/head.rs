//! Reads the head of a request or a response off a stream, and hands back what came behind it.
//! Does not know which of the two it is, nor how long it may take.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, ReadBuf};

use super::incoming::with_scratch;
use crate::handshake::head::{HeadError, HeadLimits, HeadReader, Headers};

/// Why there is no head.
#[derive(Debug)]
pub(super) enum HeadFailure {
    Head(HeadError),
    /// The stream ended before.
    End,
    Io(io::Error),
}

/// Reads a whole head. The bytes are those that came with its end and belong to what follows.
pub(super) async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut S,
    limits: HeadLimits,
) -> Result<(HeadReader, Vec<u8>), HeadFailure> {
    let mut reader = HeadReader::new(limits);
    let early = poll_fn(|cx| {
        with_scratch(|scratch| {
            loop {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))
                    .map_err(HeadFailure::Io)?;
                let input = buffer.filled();
                if input.is_empty() {
                    return Poll::Ready(Err(HeadFailure::End));
                }
                if let Some(len) = reader.push(input).map_err(HeadFailure::Head)? {
                    return Poll::Ready(Ok(input[len..].to_vec()));
                }
            }
        })
    })
    .await?;
    Ok((reader, early))
}

/// Headers in the types of the `http` crate, which hold each against HTTP's grammar.
pub(super) fn header_map(headers: &Headers<'_>) -> Result<HeaderMap, HeadError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeadError::Malformed)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| HeadError::Malformed)?;
        map.try_append(name, value).map_err(|_| HeadError::TooManyHeaders)?;
    }
    Ok(map)
}
