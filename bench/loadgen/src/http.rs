//! Just enough of HTTP/1.1 to see where a response ends and what its head says.
//! Does not know connections, nor what a body means.

/// A whole HTTP response: (status 200, body start, body end, length). A chunked body must be one
/// chunk (the servers measured send it so).
pub fn response(b: &[u8]) -> Option<(bool, usize, usize, usize)> {
    let head = find(b, b"\r\n\r\n")? + 4;
    let ok = b.starts_with(b"HTTP/1.1 200");
    let low = b[..head].to_ascii_lowercase();
    if let Some(p) = find(&low, b"content-length:") {
        let n = low[p + 15..]
            .trim_ascii_start()
            .iter()
            .take_while(|c| c.is_ascii_digit())
            .fold(0, |a, &c| a * 10 + (c - b'0') as usize);
        if b.len() < head + n {
            return None;
        }
        return Some((ok, head, head + n, head + n));
    }
    if find(&low, b"chunked").is_some() {
        let eol = find(&b[head..], b"\r\n")? + head;
        let n = usize::from_str_radix(std::str::from_utf8(&b[head..eol]).ok()?.trim(), 16).ok()?;
        let from = eol + 2;
        let end = from + n + 2 + 5;
        if b.len() < end {
            return None;
        }
        return Some((ok, from, from + n, end));
    }
    Some((ok, head, head, head))
}

pub fn find(b: &[u8], pat: &[u8]) -> Option<usize> {
    b.windows(pat.len()).position(|w| w == pat)
}
