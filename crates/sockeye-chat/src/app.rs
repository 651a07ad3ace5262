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
use sockeye_redis::{ShardedBus, ShardedOptions, SubscriptionMode};

use crate::accounts::{self, Accounts};
use crate::chat;
use crate::config::Config;
use crate::limits::Limiter;
use crate::rooms::Rooms;
use crate::store::{Embedded, Redis, Store};
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
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) messages: Limiter,
    pub(crate) events: Limiter,
    /// What requests are forwarded over. Nothing else is: what happens in rooms the store tells.
    bus: Option<ShardedBus>,
    is_draining: AtomicBool,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Opens the data folder, which is made for its owner alone if it is missing; or Redis.
    ///
    /// # Errors
    /// The folder or something in it cannot be used; or Redis cannot.
    pub async fn open(config: Config) -> Result<Self> {
        let (store, tokens) = match &config.redis {
            Some(url) => open_redis(url, &config).await?,
            None => open_folder(&config)?,
        };
        let bus = config.forward_requests.then(|| open_bus(&config)).transpose()?;
        let limiter = |what, rate: u32| Limiter::new(what, f64::from(rate), f64::from(rate) * 5.0);
        Ok(Self(Arc::new(Parts {
            tokens,
            store,
            accounts: Accounts::new(config.sign_ins_per_minute)?,
            rooms: Arc::new(Rooms::new(config.history_messages)),
            messages: limiter("messages", config.messages_per_second),
            events: limiter("events", config.events_per_second),
            bus,
            is_draining: AtomicBool::new(false),
            config,
        })))
    }

    /// The Socket.IO server with the chat's events. With Redis, it is to be called once and within
    /// a tokio runtime.
    pub fn server(&self) -> Server {
        let mut builder = Server::builder();
        if let Some(bus) = &self.bus {
            builder = builder.cluster(bus.clone()).forward_requests(true);
        }
        let io = builder
            .cors(Cors::origins(&self.config.cors_origins).credentials(true))
            .rooms_max(self.config.rooms_max)
            .metrics(self.config.admin_listen.is_some())
            .state(self.clone())
            .build();
        chat::attach(&io);
        if let Store::Redis(redis) = &self.store {
            redis.start(self.rooms.clone(), io.of("/"));
        }
        io
    }

    /// HTTP: accounts, health, and the page. Socket.IO goes in front ([`Server::wrap`]).
    pub fn router(&self, io: &Server) -> Router {
        Router::new()
            .merge(accounts::routes())
            .fallback(web::page)
            .with_state(self.clone())
            .merge(self.health(io))
    }

    /// Whether the process lives, and whether it is ready for work.
    pub(crate) fn health(&self, io: &Server) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok"))
            .route("/readyz", get(readyz))
            .with_state((self.clone(), io.clone()))
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

    /// Returns when there is something to serve from: with Redis, when this node hears the others.
    pub async fn until_ready(&self) {
        if let Store::Redis(redis) = &self.store {
            redis.until_well().await;
        }
        if let Some(bus) = &self.bus {
            bus.settled().await;
        }
    }

    /// To be called at the end: what is left here of a chat of many processes goes.
    pub async fn close(&self) {
        if let Store::Redis(redis) = &self.store
            && let Err(error) = redis.depart().await
        {
            tracing::error!(error = format!("{error:#}"), "users leave when the lease has run out");
        }
    }

    /// From now on the server is not ready for more.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }
}

fn open_folder(config: &Config) -> Result<(Store, Tokens)> {
    let folder = config.data_dir.display();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .with_context(|| format!("cannot make the data folder {folder}"))?;
    let secret = config.jwt_secret.as_deref();
    let tokens = Tokens::new(secret, &config.data_dir, config.access_token_seconds)?;
    Ok((Store::Embedded(Embedded::open(&config.data_dir, now_ms())?), tokens))
}

async fn open_redis(url: &str, config: &Config) -> Result<(Store, Tokens)> {
    let redis = Redis::open(url, config).await?;
    let secret = match &config.jwt_secret {
        Some(secret) => secret.clone(),
        None => redis.secret().await.context("there is no secret in Redis")?,
    };
    let tokens = Tokens::under(&secret, config.access_token_seconds)?;
    Ok((Store::Redis(Arc::new(redis)), tokens))
}

/// Static: rooms need no channels of their own, since no broadcast passes here.
fn open_bus(config: &Config) -> Result<ShardedBus> {
    let url = config.redis.as_deref().context("requests are forwarded by way of Redis")?;
    let options = ShardedOptions {
        channel_prefix: format!("{}requests", config.redis_prefix),
        subscription_mode: SubscriptionMode::Static,
    };
    Ok(ShardedBus::with_options(sockeye_redis::Redis::open(url)?, options))
}

async fn readyz(State((app, io)): State<(App, Server)>) -> (StatusCode, &'static str) {
    if app.is_draining.load(Ordering::Acquire) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if io.cluster_health().is_some_and(|link| link.is_deaf) {
        (StatusCode::SERVICE_UNAVAILABLE, "the other nodes are not heard")
    } else if app.store.is_well() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the store is out of order")
    }
}
