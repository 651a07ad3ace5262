//! Starts the chat server and ends it.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use sockeye_chat::{App, Config, Metrics};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let config = match Config::load(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => match error.downcast::<clap::Error>() {
            // Help and version come this way too.
            Ok(usage) => usage.exit(),
            Err(error) => fail(&error),
        },
    };
    if let Err(error) = run(config) {
        fail(&error);
    }
}

#[expect(clippy::print_stderr, reason = "the terminal is where it was started from")]
fn fail(error: &anyhow::Error) -> ! {
    eprintln!("sockeye-chat: {error:#}");
    std::process::exit(1)
}

#[tokio::main]
async fn run(config: Config) -> Result<()> {
    // Journals and files keep what they get: colours are for who looks on.
    let is_coloured = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (filter, wrong) = log_filter();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_coloured)
        .with_writer(std::io::stderr)
        .init();
    if let Some(error) = wrong {
        tracing::warn!("RUST_LOG is passed over: {error}");
    }
    let grace = Duration::from_secs(config.shutdown_seconds);
    let over = Duration::from_secs(config.drain_seconds);
    let (wanted, admin) = (config.listen, config.admin_listen);
    let metrics = admin.map(|_| Metrics::install()).transpose()?;
    let app = App::open(config).await?;
    let io = app.server();
    let sweeper = app.clone();
    tokio::spawn(async move { sweeper.sweep().await });
    app.until_ready().await;
    let listener =
        sockeye::listen(wanted).await.with_context(|| format!("cannot listen on {wanted}"))?;
    let admin = match admin.zip(metrics) {
        Some((wanted, metrics)) => {
            let listener = tokio::net::TcpListener::bind(wanted).await;
            Some((listener.with_context(|| format!("cannot listen on {wanted}"))?, metrics))
        }
        None => None,
    };
    // Who has read where it is may end it.
    let mut signals = Signals::new()?;
    // Nobody has to read it.
    let _ = writeln!(std::io::stdout(), "The chat is at http://{}", listener.local_addr()?);
    if let Some((listener, metrics)) = admin {
        let address = listener.local_addr()?;
        let _ = writeln!(std::io::stdout(), "Metrics are at http://{address}/metrics");
        let router = sockeye_chat::admin_router(&app, &io, metrics);
        // Until the process ends: who drains it wants to look on.
        tokio::spawn(axum::serve(listener, router).into_future());
    }
    let service = io.wrap(app.router(&io));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = sockeye::serve(listener, service).with_graceful_shutdown(async {
        // Dropped, it means the same.
        let _ = stopped.await;
    });
    let serving = tokio::spawn(server.into_future());
    signals.next().await;
    app.drain();
    let drain = async {
        // HTTP answers meanwhile: a load balancer learns that the server is not ready.
        io.drain(over, grace).await;
        let _ = stop.send(());
        serving.await
    };
    tokio::select! {
        ended = tokio::time::timeout(over + grace, drain) => {
            // Who is not done now is cut off.
            let ended = ended.map_or(Ok(()), |ended| Ok(ended??));
            app.close().await;
            ended
        }
        // Whoever asks twice does not want to wait.
        () = signals.next() => Ok(()),
    }
}

/// What RUST_LOG says, or what is wrong with it; empty, it counts as not set.
fn log_filter() -> (EnvFilter, Option<impl std::fmt::Display>) {
    let words = std::env::var("RUST_LOG").unwrap_or_default();
    let words = if words.is_empty() { "info" } else { &words };
    match EnvFilter::try_new(words) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    }
}

/// The signals that ask for the end; one that comes between two waits is not lost.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
