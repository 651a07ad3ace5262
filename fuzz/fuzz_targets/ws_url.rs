//! URLs of WebSocket servers: what is accepted is taken apart without loss, shows no credentials,
//! and makes a request that a server accepts, for that host and that target and no other.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use sockeye_ws::handshake::client::Request;
use sockeye_ws::handshake::head::{HeadLimits, HeadReader};
use sockeye_ws::handshake::{Url, server};

fuzz_target!(|text: &str| {
    let Ok(url) = Url::parse(text) else { return };
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(url.port() != 0 && !url.host().is_empty());
    assert!(url.target().starts_with('/') && !url.target().contains('#'));
    check_authority(text, &url);

    let scheme = if url.is_secure() { "wss" } else { "ws" };
    let plain = format!("{scheme}://{}{}", url.host_header(), url.target());
    let again = Url::parse(&plain).expect("its own parts are a URL");
    let parts = |url: &Url| (url.is_secure(), url.host().to_owned(), url.port());
    assert_eq!((parts(&again), again.target()), (parts(&url), url.target()));
    assert_eq!(again.authorization(), None);
    // The credentials are not printed.
    assert_eq!(format!("{again:?}"), format!("{url:?}"));
    if let Some(authorization) = url.authorization() {
        let basic = authorization.strip_prefix("Basic ").expect("RFC 7617");
        let credentials = STANDARD.decode(basic).expect("base64");
        assert!(credentials.contains(&b':'));
        assert!(text.contains('@'));
    }

    let request = Request::new(url.clone(), *b"the sample nonce").encode().expect("a request");
    let mut reader = HeadReader::new(HeadLimits { bytes_max: 1 << 20, headers_max: 10 });
    assert_eq!(reader.push(&request), Ok(Some(request.len())));
    let head = reader.request().expect("a request");
    assert_eq!(head.target, url.target());
    let one = |name| head.headers.all(name).next();
    assert_eq!(one("Host"), Some(url.host_header().as_bytes()));
    assert_eq!(one("Authorization"), url.authorization().map(str::as_bytes));
    assert!(server::verify(head.method, head.version, |name| head.headers.all(name)).is_ok());
});

/// Nothing of the text is lost: `scheme://[userinfo@]host[:[port]]` and the target.
fn check_authority(text: &str, url: &Url) {
    let target = url.target();
    let before = text.strip_suffix(target).or_else(|| text.strip_suffix(&target[1..]));
    let (_, authority) = before.expect("the target").split_once("://").expect("a scheme");
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let address = address.to_ascii_lowercase();
    let port = [url.host().to_owned(), format!("[{}]", url.host())]
        .iter()
        .find_map(|host| address.strip_prefix(&**host))
        .expect("the host");
    let default = if url.is_secure() { 443 } else { 80 };
    match port.strip_prefix(':') {
        Some("") => assert_eq!(url.port(), default),
        Some(digits) => assert_eq!(digits.parse(), Ok(url.port())),
        None => assert_eq!((port, url.port()), ("", default)),
    }
}
