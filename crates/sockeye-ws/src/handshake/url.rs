//! The address of a WebSocket server (RFC 6455 §3).
//! Does not resolve or connect; names must be ASCII (an international one in its `xn--` form).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A `ws`, `wss`, `http` or `https` URL, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    host: String,
    port: u16,
    target: String,
    authorization: Option<String>,
}

/// Why a URL cannot be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not `ws:`, `wss:`, `http:` or `https:`, or without `//`.
    #[error("the URL must begin with ws://, wss://, http:// or https://")]
    Scheme,
    /// A fragment, which RFC 6455 §3 forbids.
    #[error("the URL of a WebSocket has no fragment")]
    Fragment,
    /// No host, or one with characters that a host cannot have.
    #[error("the URL's host is missing or invalid")]
    Host,
    /// A port that is not a number from 1 to 65535.
    #[error("the URL's port is invalid")]
    Port,
    /// Control characters, spaces or non-ASCII characters that are not percent-encoded.
    #[error("the URL has characters that must be percent-encoded")]
    Character,
    /// A user or password whose percent-encoding is wrong.
    #[error("the URL's user or password is invalid")]
    UserInfo,
}

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    ///
    /// [`UrlError`] says what is wrong with it.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(UrlError::Scheme),
        };
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_len);
        let (userinfo, address) = match authority.rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo), address),
            None => (None, authority),
        };
        let (host, port) = split_address(address)?;
        Ok(Self {
            secure,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(if secure { 443 } else { 80 }),
            target: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            authorization: userinfo.map(basic_authorization).transpose()?,
        })
    }

    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The name or address to connect to; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// The port to connect to. Default: 80, encrypted 443.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of the `Host` header, with the port if it is not the default.
    pub fn host_header(&self) -> String {
        match (self.secure, self.port) {
            (false, 80) | (true, 443) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// Host and port, the latter also where it is the default: what a proxy is asked for.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The URL that a redirect's `Location` names, which may be relative to this one. The
    /// credentials go along only where [`may_know_secrets_of`](Self::may_know_secrets_of) allows;
    /// a fragment is dropped.
    ///
    /// # Errors
    ///
    /// [`UrlError`] says what is wrong with the new URL.
    pub fn redirect(&self, location: &str) -> Result<Self, UrlError> {
        let (location, _) = location.split_once('#').unwrap_or((location, ""));
        let scheme = if self.secure { "wss" } else { "ws" };
        let is_absolute = location.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme));
        let mut url = if is_absolute {
            Self::parse(location)?
        } else if location.starts_with("//") {
            Self::parse(&format!("{scheme}:{location}"))?
        } else {
            let target = resolve(&self.target, location);
            Self::parse(&format!("{scheme}://{}{target}", self.authority()))?
        };
        if url.authorization.is_none() && url.may_know_secrets_of(self) {
            url.authorization.clone_from(&self.authorization);
        }
        Ok(url)
    }

    /// Whether what was meant for `other` (credentials, cookies) may be sent here: the same host
    /// and port, and not unencrypted where `other` was encrypted.
    pub fn may_know_secrets_of(&self, other: &Self) -> bool {
        let is_same_host = self.host == other.host && self.port == other.port;
        is_same_host && (self.secure || !other.secure)
    }

    /// The value of the `Authorization` header that user and password ask for.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }
}

impl fmt::Debug for Url {
    /// Without the credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(formatter, "{scheme}://{}:{}{}", self.host, self.port, self.target)
    }
}

/// RFC 3986 §3.1; what is none may be a path whose query holds a URL.
fn is_scheme(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// RFC 3986 §5.2: a reference without an authority, relative to a path and query.
fn resolve(base: &str, reference: &str) -> String {
    let (base_path, base_query) = base.split_once('?').unwrap_or((base, ""));
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    if path.is_empty() {
        let query = query.unwrap_or(base_query);
        return if query.is_empty() { base_path.into() } else { format!("{base_path}?{query}") };
    }
    let folder = match path.starts_with('/') {
        true => "",
        false => base_path.rsplit_once('/').map_or("", |(folder, _)| folder),
    };
    let mut segments: Vec<&str> = Vec::new();
    let whole = format!("{folder}/{}", path.trim_start_matches('/'));
    for segment in whole.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut target = format!("/{}", segments.join("/"));
    if (whole.ends_with("/.") || whole.ends_with("/..")) && !target.ends_with('/') {
        target.push('/');
    }
    match query {
        Some(query) => format!("{target}?{query}"),
        None => target,
    }
}

fn split_address(address: &str) -> Result<(&str, Option<u16>), UrlError> {
    // The colons of an IPv6 address stand before its closing bracket.
    let host_len = match address.find(']') {
        Some(bracket) => bracket + 1,
        None => address.find(':').unwrap_or(address.len()),
    };
    let (host, port) = address.split_at(host_len);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_name_byte),
    };
    if !is_host {
        return Err(UrlError::Host);
    }
    let port = match port.strip_prefix(':') {
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = digits.parse().ok().filter(|port| *port != 0);
            Some(port.ok_or(UrlError::Port)?)
        }
        Some(_) => return Err(UrlError::Port),
        None if port.is_empty() => None,
        None => return Err(UrlError::Host),
    };
    Ok((host, port))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// RFC 7617: user and password, percent-decoded, in base64.
fn basic_authorization(userinfo: &str) -> Result<String, UrlError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let mut credentials = percent_decode(user)?;
    credentials.push(b':');
    credentials.extend(percent_decode(password)?);
    Ok(format!("Basic {}", STANDARD.encode(credentials)))
}

fn percent_decode(text: &str) -> Result<Vec<u8>, UrlError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(UrlError::UserInfo) };
        decoded.push((high << 4 | low) as u8);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_taken_apart() {
        for (url, secure, host, port, target, host_header) in [
            ("ws://localhost", false, "localhost", 80, "/", "localhost"),
            ("WSS://Example.COM/a/b?c=d", true, "example.com", 443, "/a/b?c=d", "example.com"),
            ("http://127.0.0.1:3001/", false, "127.0.0.1", 3001, "/", "127.0.0.1:3001"),
            ("https://[::1]:443?x", true, "::1", 443, "/?x", "[::1]"),
            ("ws://host:/p", false, "host", 80, "/p", "host"),
            ("ws://h:443/@:8", false, "h", 443, "/@:8", "h:443"),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!((parsed.is_secure(), parsed.host(), parsed.port()), (secure, host, port));
            assert_eq!((parsed.target(), parsed.host_header()), (target, host_header.to_owned()));
            assert_eq!(parsed.authorization(), None);
        }
    }

    #[test]
    fn credentials() {
        let authorization = |url| Url::parse(url).unwrap().authorization().map(str::to_owned);
        let basic = |text| Some(format!("Basic {}", STANDARD.encode(text)));
        assert_eq!(authorization("ws://user@host"), basic("user:"));
        assert_eq!(authorization("ws://a:b:c@host"), basic("a:b:c"));
        assert_eq!(authorization("ws://%C3%A9:%3a@host"), basic("é::"));
        let url = Url::parse("ws://user:secret@host/").unwrap();
        assert_eq!(format!("{url:?}"), "ws://host:80/");
    }

    #[test]
    fn redirects_are_resolved_as_rfc_3986_section_5_4_says() {
        let base = Url::parse("ws://a/b/c/d;p?q").unwrap();
        for (location, url) in [
            ("wss://g/h", "wss://g:443/h"),
            ("https://g", "wss://g:443/"),
            ("//g:1/h", "ws://g:1/h"),
            ("g", "ws://a:80/b/c/g"),
            ("./g", "ws://a:80/b/c/g"),
            ("g/", "ws://a:80/b/c/g/"),
            ("/g", "ws://a:80/g"),
            ("?y", "ws://a:80/b/c/d;p?y"),
            ("g?y", "ws://a:80/b/c/g?y"),
            ("g?y/../x", "ws://a:80/b/c/g?y/../x"),
            ("g#s", "ws://a:80/b/c/g"),
            ("/g?to=http://h/", "ws://a:80/g?to=http://h/"),
            ("", "ws://a:80/b/c/d;p?q"),
            (".", "ws://a:80/b/c/"),
            ("..", "ws://a:80/b/"),
            ("../g", "ws://a:80/b/g"),
            ("../../../g", "ws://a:80/g"),
            ("/./g", "ws://a:80/g"),
            ("g/./h/../i", "ws://a:80/b/c/g/i"),
        ] {
            assert_eq!(format!("{:?}", base.redirect(location).unwrap()), url, "{location:?}");
        }
        assert_eq!(base.redirect("ftp://g"), Err(UrlError::Scheme));
        assert_eq!(base.redirect("/a b"), Err(UrlError::Character));
    }

    #[test]
    fn redirects_keep_credentials_only_for_the_same_server() {
        let kept = |from: &str, location| {
            let from = Url::parse(from).unwrap();
            from.redirect(location).unwrap().authorization == from.authorization
        };
        assert!(kept("ws://u:p@host/a", "/b"));
        assert!(kept("ws://u:p@host:443/a", "wss://host/a"));
        assert!(kept("ws://u:p@HOST/a", "http://host:80/b"));
        assert!(!kept("ws://u:p@host/a", "ws://other/a"));
        assert!(!kept("ws://u:p@host/a", "ws://host:81/a"));
        assert!(!kept("ws://u:p@host/a", "//sub.host/a"));
        assert!(!kept("wss://u:p@host:80/a", "ws://host:80/a"));
        assert!(!kept("ws://u:p@host/a", "ws://other:x@host/a"));
    }

    #[test]
    fn urls_that_are_refused() {
        for (url, error) in [
            ("localhost", UrlError::Scheme),
            ("ftp://localhost", UrlError::Scheme),
            ("ws:localhost", UrlError::Scheme),
            ("ws://localhost/#top", UrlError::Fragment),
            ("ws://localhost#", UrlError::Fragment),
            ("ws://", UrlError::Host),
            ("ws:///path", UrlError::Host),
            ("ws://:80", UrlError::Host),
            ("ws://[::1", UrlError::Host),
            ("ws://[nonsense]", UrlError::Host),
            ("ws://[::1]x", UrlError::Host),
            ("ws://a\\b", UrlError::Host),
            ("ws://host:0", UrlError::Port),
            ("ws://host:65536", UrlError::Port),
            ("ws://host:+80", UrlError::Port),
            ("ws://host/a b", UrlError::Character),
            ("ws://host/a\r\nX: y", UrlError::Character),
            ("ws://hößt/", UrlError::Character),
            ("ws://%4@host", UrlError::UserInfo),
            ("ws://%zz@host", UrlError::UserInfo),
        ] {
            assert_eq!(Url::parse(url), Err(error), "{url:?}");
        }
    }
}
