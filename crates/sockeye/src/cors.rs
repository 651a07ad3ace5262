//! Cross-origin rules: who may talk to the server from a page of another origin, and the response
//! headers that tell a browser so. Knows requests only as headers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Which origins may connect. **Everything cross-origin is denied by default**, on every request
/// and every upgrade: WebSocket handshakes are not subject to the browser's own cross-origin
/// check, so an open default would let any page act with its visitor's cookies (CVE-2020-28481).
///
/// A request without an `Origin` header (a native client, another server) and one whose origin
/// is the server's own host and port are not cross-origin and always pass.
///
/// ```
/// use sockeye::Cors;
/// let cors = Cors::origins(["https://app.example.com"]).credentials(true);
/// let staging = Cors::matching(|origin| origin.ends_with(".staging.example.com"));
/// ```
#[derive(Clone)]
pub struct Cors {
    origins: Origins,
    methods: HeaderValue,
    /// `None`: what the preflight asks for.
    allowed_headers: Option<HeaderValue>,
    exposed_headers: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
}

#[derive(Clone)]
enum Origins {
    Listed(Vec<String>),
    Any,
    Matching(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

/// What the rules say of one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not a cross-origin request: no headers to add.
    SameOrigin,
    /// Cross-origin and allowed: the response carries the headers of [`Cors::write_headers`].
    Allowed(HeaderValue),
    Denied,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Origins::Listed(Vec::new()),
            methods: HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"),
            allowed_headers: None,
            exposed_headers: None,
            max_age: None,
            credentials: false,
        }
    }
}

impl fmt::Debug for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: &dyn fmt::Debug = match &self.origins {
            Origins::Listed(list) => list,
            Origins::Any => &"any",
            Origins::Matching(_) => &"matching a predicate",
        };
        f.debug_struct("Cors")
            .field("origins", origins)
            .field("methods", &self.methods)
            .field("allowed_headers", &self.allowed_headers)
            .field("exposed_headers", &self.exposed_headers)
            .field("max_age", &self.max_age)
            .field("credentials", &self.credentials)
            .finish()
    }
}

impl Cors {
    /// Allows one origin, written as a browser sends it: `https://app.example.com`.
    pub fn origin(origin: impl Into<String>) -> Self {
        Self::origins([origin])
    }

    /// Allows the listed origins.
    pub fn origins(origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let listed = origins.into_iter().map(|o| o.into().to_ascii_lowercase()).collect();
        Self { origins: Origins::Listed(listed), ..Self::default() }
    }

    /// Allows every origin. Right for a public feed; wrong where cookies identify the visitor.
    pub fn any() -> Self {
        Self { origins: Origins::Any, ..Self::default() }
    }

    /// Allows the origins for which `allows` says so.
    pub fn matching(allows: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { origins: Origins::Matching(Arc::new(allows)), ..Self::default() }
    }

    /// Whether the browser may send cookies and show the response to the page
    /// (`Access-Control-Allow-Credentials`). Default: false.
    #[must_use]
    pub fn credentials(mut self, credentials: bool) -> Self {
        self.credentials = credentials;
        self
    }

    /// The methods that a preflight allows. Default: `GET,HEAD,PUT,PATCH,POST,DELETE`.
    ///
    /// # Panics
    /// If a method is not visible ASCII.
    #[must_use]
    pub fn methods(mut self, methods: &[&str]) -> Self {
        self.methods = list(methods);
        self
    }

    /// The request headers that a page may set. Default: whichever the preflight asks for.
    ///
    /// # Panics
    /// If a name is not visible ASCII.
    #[must_use]
    pub fn allowed_headers(mut self, names: &[&str]) -> Self {
        self.allowed_headers = Some(list(names));
        self
    }

    /// The response headers that a page may read beyond the common ones, such as those of
    /// [`ServerBuilder::headers`](crate::ServerBuilder::headers). Default: none.
    ///
    /// # Panics
    /// If a name is not visible ASCII.
    #[must_use]
    pub fn exposed_headers(mut self, names: &[&str]) -> Self {
        self.exposed_headers = Some(list(names));
        self
    }

    /// How long a browser remembers a preflight's answer, in whole seconds. Default: the browser's
    /// own 5 seconds.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age.as_secs().into());
        self
    }

    #[cfg(test)]
    fn check(&self, headers: &HeaderMap) -> Verdict {
        self.judge(headers.get(header::ORIGIN), headers)
    }

    /// `origin` is what the headers say of it.
    #[inline]
    pub(crate) fn judge(&self, origin: Option<&HeaderValue>, headers: &HeaderMap) -> Verdict {
        origin.map_or(Verdict::SameOrigin, |origin| self.judge_page(origin, headers))
    }

    fn judge_page(&self, origin: &HeaderValue, headers: &HeaderMap) -> Verdict {
        let Ok(text) = origin.to_str() else { return Verdict::Denied };
        if is_same_origin(text, headers.get(header::HOST)) {
            return Verdict::SameOrigin;
        }
        let allowed = match &self.origins {
            Origins::Any => true,
            Origins::Listed(list) => list.iter().any(|o| o.eq_ignore_ascii_case(text)),
            Origins::Matching(allows) => allows(text),
        };
        if !allowed {
            return Verdict::Denied;
        }
        // With credentials a browser refuses `*`; the origin itself is then the only answer.
        let any = matches!(self.origins, Origins::Any) && !self.credentials;
        Verdict::Allowed(if any { HeaderValue::from_static("*") } else { origin.clone() })
    }

    /// The headers of every answer to an allowed cross-origin request.
    pub(crate) fn write_headers(&self, allowed: &HeaderValue, out: &mut HeaderMap) {
        out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
        if allowed != "*" {
            out.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            out.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let Some(names) = &self.exposed_headers {
            out.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
        }
    }

    /// The further headers of the answer to a preflight.
    pub(crate) fn write_preflight_headers(&self, request: &HeaderMap, out: &mut HeaderMap) {
        out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        if let Some(max_age) = &self.max_age {
            out.insert(header::ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        if let Some(names) = &self.allowed_headers {
            out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            return;
        }
        const REQUESTED: HeaderName = header::ACCESS_CONTROL_REQUEST_HEADERS;
        if let Some(requested) = request.get(REQUESTED) {
            out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
        }
        out.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
}

fn list(tokens: &[&str]) -> HeaderValue {
    HeaderValue::from_str(&tokens.join(",")).expect("tokens are visible ASCII characters")
}

/// The scheme is not compared: behind a proxy that ends TLS the server does not know its own.
fn is_same_origin(origin: &str, host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|h| h.to_str().ok()) else { return false };
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let plain = |a: &str| a.strip_suffix(default_port).unwrap_or(a).to_ascii_lowercase();
    plain(authority) == plain(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("chat.example.com:3001"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).expect("a header value"));
        }
        headers
    }

    #[test]
    fn cross_origin_is_denied_unless_allowed() {
        let cors = Cors::default();
        assert_eq!(cors.check(&request(None)), Verdict::SameOrigin);
        let own = request(Some("http://chat.example.com:3001"));
        assert_eq!(cors.check(&own), Verdict::SameOrigin);
        for other in [
            "http://chat.example.com",
            "http://evil.example.com:3001",
            "null",
            "http://chat.example.com:3001.evil.example",
        ] {
            assert_eq!(cors.check(&request(Some(other))), Verdict::Denied, "{other}");
        }
    }

    #[test]
    fn a_listed_origin_is_named_in_the_answer() {
        let cors = Cors::origin("https://app.example.com").credentials(true);
        let Verdict::Allowed(origin) = cors.check(&request(Some("https://app.example.com"))) else {
            panic!("the origin is listed");
        };
        let mut out = HeaderMap::new();
        cors.write_headers(&origin, &mut out);
        assert_eq!(out["access-control-allow-origin"], "https://app.example.com");
        assert_eq!(out["access-control-allow-credentials"], "true");
        assert_eq!(out["vary"], "Origin");
    }

    #[test]
    fn a4_what_a_preflight_allows() {
        let mut asked = request(Some("https://app.example.com"));
        asked.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("x-own"));
        let mut out = HeaderMap::new();
        Cors::any().write_preflight_headers(&asked, &mut out);
        assert_eq!(out["access-control-allow-methods"], "GET,HEAD,PUT,PATCH,POST,DELETE");
        assert_eq!(out["access-control-allow-headers"], "x-own");
        assert_eq!(out["vary"], "Access-Control-Request-Headers");
        assert!(!out.contains_key("access-control-max-age"));

        let cors = Cors::any()
            .methods(&["GET", "POST"])
            .allowed_headers(&["x-token", "content-type"])
            .exposed_headers(&["x-each"])
            .max_age(Duration::from_secs(600));
        let mut out = HeaderMap::new();
        cors.write_preflight_headers(&asked, &mut out);
        assert_eq!(out["access-control-allow-methods"], "GET,POST");
        assert_eq!(out["access-control-allow-headers"], "x-token,content-type");
        assert_eq!(out["access-control-max-age"], "600");
        assert!(!out.contains_key("vary"), "the answer is the same whatever is asked for");
        let mut out = HeaderMap::new();
        cors.write_headers(&HeaderValue::from_static("*"), &mut out);
        assert_eq!(out["access-control-expose-headers"], "x-each");
    }

    #[test]
    fn any_origin_is_a_star_only_without_credentials() {
        let page = request(Some("https://app.example.com"));
        assert_eq!(Cors::any().check(&page), Verdict::Allowed(HeaderValue::from_static("*")));
        let named = HeaderValue::from_static("https://app.example.com");
        assert_eq!(Cors::any().credentials(true).check(&page), Verdict::Allowed(named));
    }

    #[test]
    fn the_default_port_may_be_written_or_left_out() {
        let host = HeaderValue::from_static("example.com");
        assert!(is_same_origin("https://example.com:443", Some(&host)));
        assert!(is_same_origin("http://example.com", Some(&host)));
        assert!(!is_same_origin("http://example.com:443", Some(&host)));
    }
}
