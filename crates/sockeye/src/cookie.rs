//! The cookie that a session's first response may set, for load balancers to be sticky by.
//! Does not know when it is sent.

use std::time::{Duration, SystemTime};

use cookie::Cookie;
use http::header::HeaderValue;
use sockeye_proto::SessionId;

/// The cookie with the session's id, for [`ServerBuilder::cookie`](crate::ServerBuilder::cookie).
///
/// ```
/// # use sockeye::{SameSite, Server, SessionCookie};
/// let cookie = SessionCookie::new("io").secure(true).same_site(Some(SameSite::Strict));
/// let io = Server::builder().cookie(cookie).build();
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SessionCookie {
    name: String,
    path: Option<String>,
    domain: Option<String>,
    max_age: Option<Duration>,
    expires: Option<SystemTime>,
    http_only: bool,
    secure: bool,
    partitioned: bool,
    same_site: Option<SameSite>,
    priority: Option<CookiePriority>,
}

/// With which requests of other sites' pages a browser sends a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// With none.
    Strict,
    /// When a link is followed.
    Lax,
    /// With all; browsers then want `Secure`, which is added.
    None,
}

/// Which cookies Chromium drops first when there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookiePriority {
    /// These.
    Low,
    /// Then these.
    Medium,
    /// These last.
    High,
}

impl Default for SessionCookie {
    /// `io`.
    fn default() -> Self {
        Self::new("io")
    }
}

macro_rules! attributes {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        })*
    };
}

impl SessionCookie {
    /// A cookie of this name, for every path of the host (`/`), not to be seen by scripts
    /// (`HttpOnly`), `SameSite=Lax`, for as long as the browser runs.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            path: Some("/".to_owned()),
            domain: None,
            max_age: None,
            expires: None,
            http_only: true,
            secure: false,
            partitioned: false,
            same_site: Some(SameSite::Lax),
            priority: None,
        }
    }

    /// The path below which it is sent; `None` leaves that to the browser, which takes the folder
    /// of the request. Default: `/`.
    pub fn path(mut self, path: Option<&str>) -> Self {
        self.path = path.map(str::to_owned);
        self
    }

    /// The host whose subdomains it is sent to, too. Default: none, so only the host that set it.
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.to_owned());
        self
    }

    /// How long a browser keeps it. Default: until the browser is closed.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Until when a browser keeps it; [`max_age`](Self::max_age) comes before it. Default: until
    /// the browser is closed.
    pub fn expires(mut self, expires: SystemTime) -> Self {
        self.expires = Some(expires);
        self
    }

    attributes! {
        /// Whether scripts of the page cannot see it. Default: true.
        http_only: bool;
        /// Whether it is sent over TLS only. Default: false.
        secure: bool;
        /// Whether each site that embeds the page has a cookie of its own (CHIPS); `Secure` is
        /// added. Default: false.
        partitioned: bool;
        /// With which requests of other sites' pages it is sent; `None` leaves that to the
        /// browser. Default: [`SameSite::Lax`].
        same_site: Option<SameSite>;
        /// Which cookies go first when there are too many. Default: the browser's.
        priority: Option<CookiePriority>;
    }

    fn to_cookie(&self) -> Cookie<'_> {
        let mut cookie = Cookie::build((&*self.name, ""));
        if let Some(path) = &self.path {
            cookie = cookie.path(&**path);
        }
        if let Some(domain) = &self.domain {
            cookie = cookie.domain(&**domain);
        }
        // Beyond what can be written, for as long as can be.
        if let Some(age) = self.max_age {
            cookie = cookie.max_age(age.try_into().unwrap_or(cookie::time::Duration::MAX));
        }
        if let Some(expires) = self.expires {
            cookie = cookie.expires(cookie::time::OffsetDateTime::from(expires));
        }
        if let Some(same_site) = self.same_site {
            cookie = cookie.same_site(match same_site {
                SameSite::Strict => cookie::SameSite::Strict,
                SameSite::Lax => cookie::SameSite::Lax,
                SameSite::None => cookie::SameSite::None,
            });
        }
        // An attribute that is set to false would keep the others from adding it.
        if self.secure {
            cookie = cookie.secure(true);
        }
        cookie.http_only(self.http_only).partitioned(self.partitioned).build()
    }
}

/// A cookie but for its value.
#[derive(Clone, Debug)]
pub(crate) struct CookieHeader {
    /// `name=`
    name: String,
    /// `; Path=/…`
    attributes: String,
}

impl CookieHeader {
    /// # Panics
    /// If the name is no token, or the path or the domain has a semicolon, a control character or
    /// one that is not ASCII.
    pub(crate) fn new(cookie: &SessionCookie) -> Self {
        let is_value = |text: &String| {
            text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';' || byte == b' ')
        };
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert!(
            !cookie.name.is_empty() && cookie.name.bytes().all(token),
            "a cookie's name is a token of RFC 9110, and {:?} is none",
            cookie.name
        );
        assert!(
            cookie.path.iter().chain(&cookie.domain).all(is_value),
            "a cookie's path and domain are visible ASCII without semicolons"
        );
        let name = format!("{}=", cookie.name);
        let text = cookie.to_cookie().to_string();
        let mut attributes = text[name.len()..].to_owned();
        attributes.push_str(match cookie.priority {
            None => "",
            Some(CookiePriority::Low) => "; Priority=Low",
            Some(CookiePriority::Medium) => "; Priority=Medium",
            Some(CookiePriority::High) => "; Priority=High",
        });
        Self { name, attributes }
    }

    /// The value of `Set-Cookie`.
    pub(crate) fn header(&self, id: &SessionId) -> HeaderValue {
        let value = format!("{}{}{}", self.name, id.as_str(), self.attributes);
        HeaderValue::from_str(&value).expect("its parts are visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cookie: &SessionCookie) -> String {
        let id = SessionId::from_entropy([0; 15]);
        let value = CookieHeader::new(cookie).header(&id);
        value.to_str().expect("visible ASCII").replace("AAAAAAAAAAAAAAAAAAAA", "ID")
    }

    #[test]
    fn h27_defaults() {
        assert_eq!(header(&SessionCookie::default()), "io=ID; HttpOnly; SameSite=Lax; Path=/");
    }

    #[test]
    fn every_attribute() {
        let bare = SessionCookie::new("sid").path(None).http_only(false).same_site(None);
        assert_eq!(header(&bare), "sid=ID");
        for (cookie, expected) in [
            (bare.clone().path(Some("/a")), "; Path=/a"),
            (bare.clone().domain("example.com"), "; Domain=example.com"),
            (bare.clone().max_age(Duration::from_secs(90)), "; Max-Age=90"),
            (
                bare.clone().expires(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)),
                "; Expires=Sun, 06 Nov 1994 08:49:37 GMT",
            ),
            (bare.clone().http_only(true), "; HttpOnly"),
            (bare.clone().secure(true), "; Secure"),
            (bare.clone().partitioned(true), "; Partitioned; Secure"),
            (bare.clone().same_site(Some(SameSite::Strict)), "; SameSite=Strict"),
            (bare.clone().same_site(Some(SameSite::None)), "; SameSite=None; Secure"),
            (bare.clone().priority(Some(CookiePriority::High)), "; Priority=High"),
        ] {
            assert_eq!(header(&cookie), format!("sid=ID{expected}"));
        }
    }

    #[test]
    #[should_panic(expected = "is none")]
    fn a_name_is_a_token() {
        CookieHeader::new(&SessionCookie::new("a b"));
    }

    #[test]
    #[should_panic(expected = "without semicolons")]
    fn a_path_ends_no_attribute() {
        CookieHeader::new(&SessionCookie::new("a").path(Some("/; Secure")));
    }
}
