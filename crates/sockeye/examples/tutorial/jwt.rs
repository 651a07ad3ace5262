//! A middleware that lets in who has a token (JWT), and ends what an expired one has begun.

use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::Query;
use axum::routing::post;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sockeye::{Auth, ConnectError, Extension, HandlerError, Reply, Server, Socket};

/// A real one comes from the environment, and is random.
const SECRET: &[u8] = b"only an example, and no secret at all";

#[derive(Clone, Serialize, Deserialize)]
struct Claims {
    sub: String,
    /// When the token ends, in seconds since 1970.
    exp: u64,
}

#[derive(Deserialize)]
struct SignIn {
    name: String,
    seconds: u64,
}

#[derive(Default, Deserialize)]
struct Credentials {
    #[serde(default)]
    token: String,
}

pub(crate) fn app() -> Router {
    let io = Server::default();
    io.middleware(authenticate);
    io.event_middleware(is_still_good);
    io.on("whoami", async |Extension(claims): Extension<Claims>| Reply(claims.sub));
    Router::new().route("/token", post(token)).layer(io.layer())
}

/// `POST /token?name=anna&seconds=60`; a real one would want a password.
async fn token(Query(user): Query<SignIn>) -> String {
    let claims = Claims { sub: user.name, exp: now() + user.seconds };
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET))
        .expect("it can be signed")
}

/// Who is refused gets a `connect_error` with this message and these data.
async fn authenticate(
    socket: Socket,
    Auth(credentials): Auth<Credentials>,
) -> Result<(), ConnectError> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = 0;
    let key = DecodingKey::from_secret(SECRET);
    match decode::<Claims>(&credentials.token, &key, &validation) {
        Ok(token) => {
            // For the handlers of this socket.
            socket.data().insert(token.claims);
            Ok(())
        }
        Err(error) => {
            let expired = matches!(error.kind(), ErrorKind::ExpiredSignature);
            let code = if expired { "expired_token" } else { "invalid_token" };
            Err(ConnectError::new("unauthorized").with_data(&json!({ "code": code })))
        }
    }
}

/// A token is checked when its socket connects, and may end while it is connected.
async fn is_still_good(Extension(claims): Extension<Claims>) -> Result<(), HandlerError> {
    if claims.exp > now() {
        return Ok(());
    }
    Err(HandlerError::new("expired_token", "Connect again, with a new token."))
}

fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
    since.as_secs()
}
