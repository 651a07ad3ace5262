//! What the parts of the chat share, and the router that joins them.
//! Does not know what the parts do.

use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use sockeye::{Cors, Server};

use crate::accounts::{self, Accounts};
use crate::chat;
use crate::config::Config;
use crate::limits::Limiter;
use crate::rooms::Rooms;
use crate::store::Store;
use crate::tokens::{Tokens, now_ms};
use crate::web;

const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// A handle to everything.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts.
pub struct Parts {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) tokens: Tokens,
    pub(crate) accounts: Accounts,
    pub(crate) rooms: Rooms,
    pub(crate) messages: Limiter,
    pub(crate) events: Limiter,
    is_draining: AtomicBool,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Opens the data folder, which is made for its owner alone if it is missing.
    ///
    /// # Errors
    /// The folder or something in it cannot be used.
    pub fn open(config: Config) -> Result<Self> {
        let folder = config.data_dir.display();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.data_dir)
            .with_context(|| format!("cannot make the data folder {folder}"))?;
        let limiter = |what, rate: u32| Limiter::new(what, f64::from(rate), f64::from(rate) * 5.0);
        let secret = config.jwt_secret.as_deref();
        Ok(Self(Arc::new(Parts {
            tokens: Tokens::new(secret, &config.data_dir, config.access_token_seconds)?,
            store: Store::open(&config.data_dir, now_ms())?,
            accounts: Accounts::new(config.sign_ins_per_minute)?,
            rooms: Rooms::default(),
            messages: limiter("messages", config.messages_per_second),
            events: limiter("events", config.events_per_second),
            is_draining: AtomicBool::new(false),
            config,
        })))
    }

    /// The Socket.IO server with the chat's events.
    pub fn server(&self) -> Server {
        let io = Server::builder()
            .cors(Cors::origins(&self.config.cors_origins).credentials(true))
            .rooms_max(self.config.rooms_max)
            .metrics(self.config.admin_listen.is_some())
            .state(self.clone())
            .build();
        chat::attach(&io);
        io
    }

    /// HTTP: accounts, health, the page, and Socket.IO in front.
    pub fn router(&self, io: &Server) -> Router {
        Router::new()
            .merge(accounts::routes())
            .fallback(web::page)
            .with_state(self.clone())
            .merge(self.health())
            .layer(io.layer())
    }

    /// Whether the process lives, and whether it is ready for work.
    pub(crate) fn health(&self) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok"))
            .route("/readyz", get(readyz))
            .with_state(self.clone())
    }

    /// Removes what has expired, once a minute for ever.
    pub async fn sweep(&self) {
        let mut minutes = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            minutes.tick().await;
            let swept = self.store.sweep(self.restorable_since(), now_ms() / 1000).await;
            if let Err(error) = swept {
                tracing::error!(error = format!("{error:#}"), "nothing was swept");
            }
        }
    }

    /// Sessions that ended before then, in milliseconds since 1970, are not restored.
    pub(crate) fn restorable_since(&self) -> u64 {
        now_ms().saturating_sub(self.config.restore_seconds * 1000)
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
        (StatusCode::SERVICE_UNAVAILABLE, "the store is out of order")
    }
}
