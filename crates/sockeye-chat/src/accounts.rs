//! Accounts over HTTP: register, sign in, refresh, sign out.
//! Does not know rooms or sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::limits::Limiter;
use crate::passwords::{hash_password, is_password, prepare};
use crate::store::{SignIn, User};
use crate::tokens::{hash, now_ms, random};

const COOKIE: &str = "sockeye_refresh";
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Each hash takes 19 MiB and tens of milliseconds of a core.
const HASHES_AT_ONCE: usize = 2;
const HASHES_WAITING_MAX: usize = 64;

/// What signing in needs beyond the store.
pub(crate) struct Accounts {
    hashing: Arc<Semaphore>,
    sign_ins: Limiter,
    /// Checked where a name does not exist, so that it takes as long as where it does.
    nobody: String,
}

impl Accounts {
    /// # Errors
    /// No randomness.
    pub(crate) fn new(sign_ins_per_minute: u32) -> Result<Self> {
        let rate = f64::from(sign_ins_per_minute);
        Ok(Self {
            hashing: Arc::new(Semaphore::new(HASHES_WAITING_MAX)),
            sign_ins: Limiter::new("sign_ins", rate / 60.0, rate),
            nobody: hash_password(&random()?)?,
        })
    }

    /// What a password is checked against, also where there is no such user.
    fn hash_of<'a>(&'a self, user: Option<&'a User>) -> &'a str {
        user.map_or(&self.nobody, |user| &user.hash)
    }
}

/// The routes below `/api`.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/register", post(register))
        .route("/api/login", post(login))
        .route("/api/refresh", post(refresh))
        .route("/api/logout", post(logout))
        .route("/api", any(unknown))
        .route("/api/", any(unknown))
        .route("/api/{*path}", any(unknown))
        .method_not_allowed_fallback(other_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// An answer that is not a success.
pub(crate) struct ErrorResponse {
    status: StatusCode,
    code: &'static str,
    message: String,
    fields: Option<Value>,
    retry_after: Option<Duration>,
}

impl ErrorResponse {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), fields: None, retry_after: None }
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(fields) = self.fields {
            error["fields"] = fields;
        }
        let mut response = (self.status, Json(json!({ "error": error }))).into_response();
        if let Some(after) = self.retry_after {
            let seconds = HeaderValue::from(after.as_secs() + 1);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<anyhow::Error> for ErrorResponse {
    fn from(error: anyhow::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed.")
    }
}

impl From<JsonRejection> for ErrorResponse {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), "bad_request", rejection.body_text())
    }
}

/// What is missing or no text is empty here: the form's checks say what they expect.
struct Credentials {
    username: String,
    password: String,
}

impl Credentials {
    fn read(body: Body) -> Result<Self, ErrorResponse> {
        let Json(form) = body?;
        let text = |field: &str| form[field].as_str().unwrap_or_default().to_owned();
        Ok(Self { username: text("username"), password: text("password") })
    }
}

type Body = Result<Json<Value>, JsonRejection>;

async fn register(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorResponse> {
    let Credentials { username, password } = Credentials::read(body)?;
    let password = prepare(&password);
    check_form(&username, &password)?;
    admit(&app, &username, client(&app.config.trusted_proxies, peer.ip(), &headers)).await?;
    let hash = hashing(&app, move || hash_password(&password)).await?;
    let user = User { id: random()?[..20].to_owned(), username, hash };
    if !app.store.add_user(user.clone()).await? {
        let taken = "This name is taken.";
        return Err(ErrorResponse::new(StatusCode::CONFLICT, "name_taken", taken));
    }
    sign_in(&app, &user, StatusCode::CREATED).await
}

async fn login(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorResponse> {
    let Credentials { username, password } = Credentials::read(body)?;
    check_filled(&username, &password)?;
    admit(&app, &username, client(&app.config.trusted_proxies, peer.ip(), &headers)).await?;
    let user = app.store.user(&username).await?;
    let hash = app.accounts.hash_of(user.as_ref()).to_owned();
    let good = hashing(&app, move || Ok(is_password(&password, &hash))).await?;
    match user {
        Some(user) if good => sign_in(&app, &user, StatusCode::OK).await,
        _ => {
            let wrong = "The name or the password is wrong.";
            Err(ErrorResponse::new(StatusCode::UNAUTHORIZED, "wrong_credentials", wrong))
        }
    }
}

/// Gives a new access token for the cookie's refresh token, and a new one of those. An older
/// refresh token ends the sign-in: someone else has used it.
async fn refresh(State(app): State<App>, headers: HeaderMap) -> Result<Response, ErrorResponse> {
    let ended = || ErrorResponse::new(StatusCode::UNAUTHORIZED, "signed_out", "Please sign in.");
    let (id, secret) = cookie(&headers).ok_or_else(ended)?;
    let fresh = random()?;
    let new = new_sign_in(&app, "", &fresh);
    let rotated = app.store.rotate(id.clone(), hash(&secret), new, now_ms() / 1000).await?;
    let username = rotated.ok_or_else(ended)?;
    let user = app.store.user(&username).await?.ok_or_else(ended)?;
    answer(&app, &user, StatusCode::OK, &format!("{id}.{fresh}"))
}

async fn logout(State(app): State<App>, headers: HeaderMap) -> Result<Response, ErrorResponse> {
    if let Some((id, _)) = cookie(&headers) {
        app.store.end_sign_in(id).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&app, &mut response, "", 0)?;
    Ok(response)
}

async fn unknown() -> ErrorResponse {
    let message = "There is nothing here.";
    ErrorResponse::new(StatusCode::NOT_FOUND, "not_found", message)
}

async fn other_method() -> ErrorResponse {
    let message = "This takes POST alone.";
    ErrorResponse::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

fn check_form(username: &str, password: &str) -> Result<(), ErrorResponse> {
    let mut fields = serde_json::Map::new();
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    // ASCII only: names that look alike but are not must not exist.
    let is_sized = (3..=32).contains(&username.len()) && username.chars().all(valid);
    // Nobody can be called by marks alone.
    if !is_sized || !username.contains(|c: char| c.is_ascii_alphanumeric()) {
        let message = "A name has 3 to 32 letters, digits, dots, dashes or underscores, and at \
            least one letter or digit.";
        fields.insert("username".into(), message.into());
    }
    if !(8..=128).contains(&password.chars().count()) {
        fields.insert("password".into(), "A password has 8 to 128 characters.".into());
    }
    refuse_fields(fields)
}

/// A sign-in with something left out is no guess at a password.
fn check_filled(username: &str, password: &str) -> Result<(), ErrorResponse> {
    let mut fields = serde_json::Map::new();
    if username.is_empty() {
        fields.insert("username".into(), "Please give a name.".into());
    }
    if password.is_empty() {
        fields.insert("password".into(), "Please give a password.".into());
    }
    refuse_fields(fields)
}

fn refuse_fields(fields: serde_json::Map<String, Value>) -> Result<(), ErrorResponse> {
    if fields.is_empty() {
        return Ok(());
    }
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let mut response = ErrorResponse::new(status, "invalid", "Please check what you typed.");
    response.fields = Some(fields.into());
    Err(response)
}

/// Holds an attempt against the limits of its address and of its name. An address that is over
/// its limit takes nothing from the names that it tries.
async fn admit(app: &App, username: &str, address: IpAddr) -> Result<(), ErrorResponse> {
    let sign_ins = &app.accounts.sign_ins;
    // Whoever has one IPv6 address has the 2^64 beside it.
    let network = match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{:x?}", &address.segments()[..4]),
    };
    let mut admitted = sign_ins.admit(&app.store, &format!("address {network}")).await?;
    if admitted.is_ok() {
        // A hash, as a name that is tried may be long.
        let name = format!("name {}", hash(&username.to_lowercase()));
        admitted = sign_ins.admit(&app.store, &name).await?;
    }
    admitted.map_err(|wait| {
        let message = "Too many attempts; please wait a moment.";
        let mut response = ErrorResponse::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message);
        response.retry_after = Some(wait);
        response
    })
}

/// Whom a request comes from: the peer, or, where that is a trusted proxy, the last address of
/// `X-Forwarded-For` that is not one. Those before it the client may have made up.
fn client(trusted: &[IpAddr], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let trusted = |address: IpAddr| trusted.contains(&address.to_canonical());
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let mut client = peer;
    for address in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !trusted(client) {
            break;
        }
        let Ok(address) = address.trim().parse() else { break };
        client = address;
    }
    client
}

async fn sign_in(app: &App, user: &User, status: StatusCode) -> Result<Response, ErrorResponse> {
    let (id, secret) = (random()?[..20].to_owned(), random()?);
    let new = new_sign_in(app, &user.username, &secret);
    app.store.add_sign_in(id.clone(), new, now_ms() / 1000).await?;
    answer(app, user, status, &format!("{id}.{secret}"))
}

fn new_sign_in(app: &App, username: &str, secret: &str) -> SignIn {
    let expires_at = now_ms() / 1000 + app.config.refresh_token_seconds;
    SignIn { username: username.to_owned(), token_hash: hash(secret), expires_at }
}

fn answer(
    app: &App,
    user: &User,
    status: StatusCode,
    token: &str,
) -> Result<Response, ErrorResponse> {
    let (access_token, expires_at) = app.tokens.issue(&user.id, &user.username)?;
    let body = json!({
        "accessToken": access_token,
        "expiresAt": expires_at * 1000,
        "user": { "id": user.id, "username": user.username },
    });
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set_cookie(app, &mut response, token, app.config.refresh_token_seconds)?;
    Ok(response)
}

/// `SameSite=Strict` keeps other sites' pages from using the cookie; it goes to `/api` alone.
fn set_cookie(app: &App, response: &mut Response, token: &str, seconds: u64) -> Result<()> {
    let secure = if app.config.cookie_secure { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE}={token}; Path=/api; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
    );
    response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_str(&cookie)?);
    Ok(())
}

/// The refresh token's sign-in and secret.
fn cookie(headers: &HeaderMap) -> Option<(String, String)> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';').map(str::trim));
    let token = pairs.find_map(|pair| pair.strip_prefix(COOKIE)?.strip_prefix('='))?;
    let (id, secret) = token.split_once('.')?;
    Some((id.to_owned(), secret.to_owned()))
}

/// Runs a hash off the async threads, a few at once; when too many wait it says so.
async fn hashing<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, ErrorResponse> {
    let Ok(place) = app.accounts.hashing.clone().try_acquire_owned() else {
        let message = "The server is busy; please try again.";
        let mut response = ErrorResponse::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
        response.retry_after = Some(Duration::from_secs(1));
        return Err(response);
    };
    static CORES: Semaphore = Semaphore::const_new(HASHES_AT_ONCE);
    let core = CORES.acquire().await.map_err(|error| anyhow!(error))?;
    // The work goes on when the client has gone, and so it keeps its place.
    let done = tokio::task::spawn_blocking(move || {
        let _held = (place, core);
        work()
    });
    done.await.map_err(|error| anyhow!(error))?.map_err(ErrorResponse::from)
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHash;
    use axum::body;
    use axum::http::Request;
    use tower_service::Service;

    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_name_that_is_not_given_any_more_still_signs_in() {
        let folder = std::env::temp_dir().join(format!("sockeye-marks-{}", std::process::id()));
        let data = format!("--data-dir={}", folder.display());
        let config = Config::load(["sockeye-chat", &data].map(Into::into)).expect("settings");
        let app = App::open(config).await.expect("an app");
        let hash = hash_password("a long password").expect("hashed");
        let user = User { id: "1".into(), username: "...".into(), hash };
        assert!(app.store.add_user(user).await.expect("written"));
        let mut router = app.router(&app.server());
        let mut statuses = Vec::new();
        for path in ["/api/login", "/api/register"] {
            let form = json!({ "username": "...", "password": "a long password" });
            let request = Request::post(path)
                .header(header::CONTENT_TYPE, "application/json")
                .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))))
                .body(body::Body::from(form.to_string()));
            let answer = router.call(request.expect("a request")).await.expect("an answer");
            statuses.push(answer.status().as_u16());
        }
        assert_eq!(statuses, [200, 422]);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn an_unknown_name_costs_what_a_known_one_does() {
        let accounts = Accounts::new(30).expect("randomness");
        let hash = hash_password("a long password").expect("hashed");
        let user = User { id: "1".into(), username: "ann".into(), hash: hash.clone() };
        let cost = |hash: &str| {
            let hash = PasswordHash::new(hash).expect("a hash");
            (hash.algorithm.to_string(), hash.params.to_string())
        };
        assert_eq!(accounts.hash_of(Some(&user)), hash);
        assert_eq!(cost(accounts.hash_of(None)), cost(&hash));
        assert!(is_password("a long password", &hash) && !is_password("another", &hash));
        assert!(!is_password("a long password", accounts.hash_of(None)));
    }

    #[test]
    fn only_a_trusted_proxy_says_whom_it_speaks_for() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let of = |peer: &str, lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            client(&[ip("10.0.0.1"), ip("10.0.0.2")], ip(peer), &headers).to_string()
        };
        assert_eq!(of("192.0.2.1", &["192.0.2.9"]), "192.0.2.1", "a client that makes it up");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["192.0.2.8, 192.0.2.9"]), "192.0.2.9");
        assert_eq!(of("::ffff:10.0.0.1", &["192.0.2.9"]), "192.0.2.9");
        assert_eq!(of("10.0.0.1", &["192.0.2.8", "192.0.2.9, 10.0.0.2"]), "192.0.2.9");
        assert_eq!(of("10.0.0.1", &["192.0.2.9, nonsense"]), "10.0.0.1");
    }
}
