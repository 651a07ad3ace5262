//! The page, from the binary itself, under a strict Content-Security-Policy.
//! Does not know what the page does.

use std::borrow::Cow;

use axum::body::{Body, Bytes};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Response, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "web/static"]
struct Assets;

/// Nothing inline, nothing from elsewhere, and no text that becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // A new binary brings new files under the same names; the entity tag says whether it has.
    (header::CACHE_CONTROL, "no-cache"),
];

/// A file of the page.
pub(crate) async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let path = match uri.path() {
        "/" => "index.html",
        path => path.trim_start_matches('/'),
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "There is nothing to do here.");
    }
    match Assets::get(path) {
        Some(file) => serve(path, file, &headers),
        None => plain(StatusCode::NOT_FOUND, "There is nothing here."),
    }
}

fn serve(path: &str, file: EmbeddedFile, request: &HeaderMap) -> Response<Body> {
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(file.metadata.sha256_hash()));
    // RFC 9110 §13.1.2: a list of tags, weak ones too, or any.
    let known = request.get_all(header::IF_NONE_MATCH).iter().any(|line| {
        let mut tags = line.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag)
    });
    let mut response = if known {
        answer(StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        let body = match file.data {
            Cow::Borrowed(embedded) => Bytes::from_static(embedded),
            Cow::Owned(read) => read.into(),
        };
        answer(StatusCode::OK, body)
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let tag = HeaderValue::try_from(tag).expect("base64 is visible ASCII");
    response.headers_mut().insert(header::ETAG, tag);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = answer(status, Bytes::from_static(text.as_bytes()));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn answer(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(headers);
    response
}
