//! What the parts of the chat share, and the router that joins them.
//! Does not know what the parts do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use sockeye::{Cors, Server};

use crate::accounts::{self, Accounts};
use crate::chat::{self, Presence};
use crate::config::Config;
use crate::limits::Limiter;
use crate::store::Store;
use crate::tokens::{Tokens, now_ms};
use crate::web;

/// A handle to everything.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts.
pub struct Parts {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) tokens: Tokens,
    pub(crate) accounts: Accounts,
    pub(crate) presence: Presence,
    pub(crate) messages: Limiter,
    is_draining: AtomicBool,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Opens the data folder.
    ///
    /// # Errors
    /// The folder or something in it cannot be used.
    pub fn open(config: Config) -> Result<Self> {
        std::fs::create_dir_all(&config.data_dir)?;
        let rate = f64::from(config.messages_per_second);
        let secret = config.jwt_secret.as_deref();
        Ok(Self(Arc::new(Parts {
            store: Store::open(&config.data_dir, now_ms())?,
            tokens: Tokens::new(secret, &config.data_dir, config.access_token_seconds)?,
            accounts: Accounts::new(config.sign_ins_per_minute)?,
            presence: Presence::default(),
            messages: Limiter::new(rate, rate * 5.0),
            is_draining: AtomicBool::new(false),
            config,
        })))
    }

    /// The Socket.IO server with the chat's events.
    pub fn server(&self) -> Server {
        let origins = self.config.cors_origins.iter().filter(|origin| !origin.is_empty());
        let io = Server::builder()
            .cors(Cors::origins(origins.cloned()).credentials(true))
            .rooms_max(self.config.rooms_max)
            .state(self.clone())
            .build();
        chat::attach(&io);
        io
    }

    /// HTTP: accounts, health, the page, and Socket.IO in front.
    pub fn router(&self, io: &Server) -> Router {
        Router::new()
            .merge(accounts::routes())
            .route("/healthz", get(async || "ok"))
            .route("/readyz", get(readyz))
            .fallback(web::page)
            .with_state(self.clone())
            .layer(io.layer())
    }

    /// From now on the server is not ready for more.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }
}

async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    if app.is_draining.load(Ordering::Acquire) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if app.store.is_well() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer")
    }
}
