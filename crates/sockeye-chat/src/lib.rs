//! The chat server: accounts, rooms, history and a web page in one binary.

mod accounts;
mod admin;
mod app;
mod chat;
mod config;
mod limits;
mod passwords;
mod presence;
mod refusal;
mod rooms;
mod store;
mod tokens;
mod web;

pub use admin::{Metrics, router as admin_router};
pub use app::App;
pub use config::Config;
