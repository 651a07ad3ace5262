//! HTTP/1.1 heads off a raw connection: collected, bounded and parsed.
//! Does not know what a WebSocket needs in them; that is `server` and `client`.

use std::fmt;

use memchr::memmem;

use super::HttpVersion;

/// How much head a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bounds the whole head in bytes, the empty line included. More is refused with 431.
    /// Default: 16 KiB.
    pub bytes_max: usize,
    /// Bounds the header lines. More are refused with 431. Default: 100.
    pub headers_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes_max: 16 << 10, headers_max: 100 }
    }
}

/// Why a head was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Longer than [`HeadLimits::bytes_max`].
    #[error("the head is longer than the limit")]
    TooLong,
    /// More lines than [`HeadLimits::headers_max`].
    #[error("the head has more headers than the limit")]
    TooManyHeaders,
    /// Not HTTP/1.x.
    #[error("the head is not HTTP/1.1")]
    Malformed,
}

impl HeadError {
    /// The status a server answers it with.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLong | Self::TooManyHeaders => 431,
            Self::Malformed => 400,
        }
    }
}

/// Collects a head that arrives in parts. It is parsed once, when it is complete: however small
/// the parts, the work grows only with the length.
#[derive(Debug)]
pub struct HeadReader {
    bytes: Vec<u8>,
    limits: HeadLimits,
}

impl HeadReader {
    /// A reader that has read nothing.
    pub fn new(limits: HeadLimits) -> Self {
        Self { bytes: Vec::new(), limits }
    }

    /// Takes what one read returned. `Some(n)`: the head is complete and its last byte was the
    /// `n`th of `input`; what follows belongs to the connection.
    ///
    /// # Errors
    ///
    /// [`HeadError::TooLong`].
    pub fn push(&mut self, input: &[u8]) -> Result<Option<usize>, HeadError> {
        const END: &[u8] = b"\r\n\r\n";

        let before = self.bytes.len();
        let room = self.limits.bytes_max.saturating_sub(before).min(input.len());
        self.bytes.extend_from_slice(&input[..room]);
        // The end may have begun in the last read.
        let from = before.saturating_sub(END.len() - 1);
        if let Some(index) = memmem::find(&self.bytes[from..], END) {
            let len = from + index + END.len();
            self.bytes.truncate(len);
            return Ok(Some(len - before));
        }
        if room < input.len() { Err(HeadError::TooLong) } else { Ok(None) }
    }

    /// The complete head as a request's.
    ///
    /// # Errors
    ///
    /// [`HeadError::Malformed`] or [`HeadError::TooManyHeaders`].
    pub fn request(&self) -> Result<RequestHead<'_>, HeadError> {
        let mut headers = vec![httparse::EMPTY_HEADER; self.limits.headers_max];
        let mut request = httparse::Request::new(&mut headers);
        self.check(request.parse(&self.bytes))?;
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(HeadError::Malformed);
        };
        let version = if minor == 0 { HttpVersion::Http10 } else { HttpVersion::Http11 };
        let count = request.headers.len();
        Ok(RequestHead { method, target, version, headers: Headers::new(headers, count) })
    }

    /// The complete head as a response's.
    ///
    /// # Errors
    ///
    /// [`HeadError::Malformed`] or [`HeadError::TooManyHeaders`].
    pub fn response(&self) -> Result<ResponseHead<'_>, HeadError> {
        let mut headers = vec![httparse::EMPTY_HEADER; self.limits.headers_max];
        let mut response = httparse::Response::new(&mut headers);
        self.check(response.parse(&self.bytes))?;
        let status = response.code.ok_or(HeadError::Malformed)?;
        let count = response.headers.len();
        Ok(ResponseHead { status, headers: Headers::new(headers, count) })
    }

    /// Whether the parser agrees with us on where the head ends.
    fn check(&self, parsed: httparse::Result<usize>) -> Result<(), HeadError> {
        match parsed {
            Ok(httparse::Status::Complete(len)) if len == self.bytes.len() => Ok(()),
            Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooManyHeaders),
            _ => Err(HeadError::Malformed),
        }
    }
}

/// A request's head.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// The method, in its case.
    pub method: &'a str,
    /// The request target, usually a path with a query.
    pub target: &'a str,
    /// The version of HTTP.
    pub version: HttpVersion,
    /// The headers.
    pub headers: Headers<'a>,
}

/// A response's head.
#[derive(Debug)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Headers<'a>,
}

/// The headers of a head, in order.
pub struct Headers<'a>(Vec<httparse::Header<'a>>);

impl<'a> Headers<'a> {
    fn new(mut headers: Vec<httparse::Header<'a>>, count: usize) -> Self {
        headers.truncate(count);
        Self(headers)
    }

    /// The values of all headers of this name, in whatever case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.0.iter().map(|header| (header.name, header.value))
    }
}

impl fmt::Debug for Headers<'_> {
    /// Names only: values may be secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(head: &str) -> HeadReader {
        let mut reader = HeadReader::new(HeadLimits::default());
        assert_eq!(reader.push(head.as_bytes()), Ok(Some(head.len())), "{head:?}");
        reader
    }

    #[test]
    fn requests() {
        let reader = reader("GET /a?b HTTP/1.0\r\nHost:x\r\nX-Twice: 1 \r\nx-twice:\t2\r\n\r\n");
        let head = reader.request().unwrap();
        assert_eq!((head.method, head.target), ("GET", "/a?b"));
        assert_eq!(head.version, HttpVersion::Http10);
        assert_eq!(head.headers.all("x-Twice").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.headers.all("missing").count(), 0);
        assert_eq!(head.headers.iter().next(), Some(("Host", &b"x"[..])));
        assert_eq!(format!("{:?}", head.headers), r#"["Host", "X-Twice", "x-twice"]"#);
    }

    #[test]
    fn responses() {
        let reader = reader("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
        let head = reader.response().unwrap();
        assert_eq!(head.status, 101);
        assert_eq!(head.headers.all("upgrade").next(), Some(&b"websocket"[..]));
    }

    #[test]
    fn a_head_ends_where_its_empty_line_does_however_it_is_cut() {
        let bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbehind";
        let head_len = bytes.len() - 6;
        for middle in 0..bytes.len() {
            let (first, second) = bytes.split_at(middle);
            let mut reader = HeadReader::new(HeadLimits::default());
            match reader.push(first).unwrap() {
                Some(consumed) => assert_eq!(consumed, head_len),
                None => assert_eq!(reader.push(second), Ok(Some(head_len - middle))),
            }
            assert!(reader.request().is_ok());
        }
    }

    #[test]
    fn the_limits_are_exact() {
        let head = "GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\n\r\n";
        let read = |bytes_max, headers_max| {
            let mut reader = HeadReader::new(HeadLimits { bytes_max, headers_max });
            reader.push(head.as_bytes())?;
            reader.request().map(|head| head.headers.iter().count())
        };
        assert_eq!(read(head.len(), 2), Ok(2));
        assert_eq!(read(head.len() - 1, 2), Err(HeadError::TooLong));
        assert_eq!(read(head.len(), 1), Err(HeadError::TooManyHeaders));
    }

    #[test]
    fn heads_that_are_none() {
        for head in [
            "\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
            // The parser would end this head at its first empty line, before ours.
            "GET / HTTP/1.1\nHost: x\n\nX: y\r\n\r\n",
        ] {
            assert_eq!(reader(head).request().unwrap_err(), HeadError::Malformed, "{head:?}");
        }
        let response = reader("HTTP/1.1 OK\r\n\r\n");
        assert_eq!(response.response().unwrap_err(), HeadError::Malformed);
        let unread = HeadReader::new(HeadLimits::default());
        assert_eq!(unread.request().unwrap_err(), HeadError::Malformed);
    }
}
