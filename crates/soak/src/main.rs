//! A soak: clients that count, over a network that fails, against a server whose promises are
//! checked. `run` says what they are.
#![expect(clippy::print_stdout, reason = "a program whose report is read")]

mod client;
mod line;
mod overflow;
mod proxy;
mod random;
mod run;
mod server;

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Clients over a network that fails, against a server that must lose nothing it promised.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    load: Load,
}

#[derive(Subcommand)]
enum Command {
    /// Only serves; the soak starts it.
    #[command(hide = true)]
    Serve {
        /// The time between two events of a room, in milliseconds.
        #[arg(long)]
        tick_ms: u64,
        #[arg(long)]
        rooms: usize,
    },
}

#[derive(clap::Args, Clone)]
struct Load {
    /// How many clients there are.
    #[arg(long, default_value_t = 5_000)]
    clients: usize,
    /// For how long the network fails.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// The time between two events of a room, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    tick_ms: u64,
    /// The time between two events of a client, in milliseconds, on average.
    #[arg(long, default_value_t = 4_000)]
    emit_ms: u64,
    /// The time for which a connection does well before the network fails it, in milliseconds, on
    /// average.
    #[arg(long, default_value_t = 20_000)]
    calm_ms: u64,
    /// Where randomness begins: the same seed makes the same faults, if not at the same instants.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Load {
    /// A hundred clients share a room.
    fn rooms(&self) -> usize {
        self.clients.div_ceil(100)
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    match args.command {
        Some(Command::Serve { tick_ms, rooms }) => {
            server::serve(Duration::from_millis(tick_ms), rooms).await
        }
        None => run::run(&args.load).await,
    }
}
