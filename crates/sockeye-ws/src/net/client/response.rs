//! The body of a response that is no 101, as much of it as may be kept.
//! Does not know what the response means.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// The body, as far as it arrives within `time_max` and is not longer than `bytes_max`. `early`
/// came with the head.
pub(super) async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    early: Vec<u8>,
    headers: &HeaderMap,
    bytes_max: usize,
    time_max: Duration,
) -> Bytes {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let is_chunked = headers.get(TRANSFER_ENCODING).is_some_and(|value| value == "chunked");
    // What frames the chunks takes room too.
    let wanted = if is_chunked { bytes_max.saturating_mul(2) } else { bytes_max };
    let wanted = length.unwrap_or(wanted).min(wanted);
    let mut raw = early;
    let read = async {
        let room = wanted.saturating_sub(raw.len()) as u64;
        // A failing stream ends the body too.
        let _ = stream.take(room).read_to_end(&mut raw).await;
    };
    let _ = timeout(time_max, read).await;
    let mut body = if is_chunked { dechunk(&raw) } else { raw };
    body.truncate(length.unwrap_or(bytes_max).min(bytes_max));
    body.into()
}

/// RFC 9112 §7.1: what has arrived of the chunks' data.
fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(raw)
        && size > 0
    {
        let rest = &raw[start..];
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let chunk = &rest[..size.min(rest.len())];
        data.extend_from_slice(chunk);
        raw = rest.get(chunk.len() + 2..).unwrap_or_default();
    }
    data
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn bodies_by_length_in_chunks_and_to_the_end() {
        let length = (CONTENT_LENGTH, "5");
        let chunked = (TRANSFER_ENCODING, "chunked");
        for (header, raw, bytes_max, body) in [
            (Some(&length), "Hello and more", 100, "Hello"),
            (Some(&length), "Hello", 3, "Hel"),
            (Some(&length), "Hel", 100, "Hel"),
            (Some(&chunked), "3;x=y\r\nHel\r\n2\r\nlo\r\n0\r\n\r\n", 100, "Hello"),
            (Some(&chunked), "3\r\nHel\r\nFFFFFFFFFFFFFFFF\r\nlo", 100, "Hello"),
            (Some(&chunked), "nonsense", 100, ""),
            (None, "Hello", 100, "Hello"),
            (None, "Hello", 4, "Hell"),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(
                header.map(|(name, value)| (name.clone(), HeaderValue::from_static(value))),
            );
            for early in 0..raw.len() {
                let (early, mut later) = raw.as_bytes().split_at(early);
                let early_body = early.to_vec();
                let read =
                    read_body(&mut later, early_body, &headers, bytes_max, Duration::MAX).await;
                assert_eq!(read, body, "{raw:?} of which {early:?} came early");
            }
        }
    }
}
