//! The chat server: accounts, rooms, history and a web page in one binary.

mod accounts;
mod app;
mod chat;
mod config;
mod limits;
mod presence;
mod refusal;
mod rooms;
mod store;
mod tokens;
mod web;

pub use app::App;
pub use config::Config;
