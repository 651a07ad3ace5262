//! A Socket.IO tutorial. Each page is a file that shows one thing, whole, and makes an application.
//!
//! `cargo run --example tutorial -- rooms` serves a page on port 3000; a second argument is another
//! address. The clients' side of each page is in `tests/examples/`.
#![expect(clippy::print_stdout, reason = "programs that are watched as they run")]

mod broadcasts;
mod compression;
mod events;
mod jwt;
mod namespaces;
mod rooms;
mod sessions;
mod setup;

use axum::Router;

type Page = (&'static str, fn() -> Router);

/// The pages, in the order in which to read them.
const PAGES: [Page; 8] = [
    ("setup", setup::app),
    ("events", events::app),
    ("rooms", rooms::app),
    ("broadcasts", broadcasts::app),
    ("namespaces", namespaces::app),
    ("jwt", jwt::app),
    ("sessions", sessions::app),
    ("compression", compression::app),
];

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let Some((_, app)) = PAGES.iter().find(|(page, _)| *page == name) else {
        println!("Name a page: {}", PAGES.map(|(page, _)| page).join(", "));
        return Ok(());
    };
    let address = args.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = sockeye::listen(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app()).await
}
