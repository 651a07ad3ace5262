//! The settings: flags, environment and a TOML file, in this order of precedence.
//! Does not know what they are for beyond what `--help` tells.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, FromArgMatches, Parser};

/// A chat server: accounts, rooms, history and a web page in one binary.
///
/// Every setting can be a flag, an environment variable, or a key of the TOML file that --config
/// names (the flag's name without dashes in front); a flag wins over the environment, and that
/// over the file.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// TOML file with settings
    #[arg(long, env = "SOCKEYE_CHAT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "SOCKEYE_CHAT_LISTEN", default_value = "127.0.0.1:3001")]
    pub listen: SocketAddr,
    /// Folder of all data; made if it is missing
    #[arg(long, env = "SOCKEYE_CHAT_DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Origins of other pages that may connect, separated by commas
    #[arg(long, env = "SOCKEYE_CHAT_CORS_ORIGINS", value_delimiter = ',', default_value = "")]
    pub cors_origins: Vec<String>,
    /// Lifetime of an access token, in seconds
    #[arg(long, env = "SOCKEYE_CHAT_ACCESS_TOKEN_SECONDS", default_value_t = 900)]
    pub access_token_seconds: u64,
    /// Lifetime of a sign-in that is not used, in seconds (30 days)
    #[arg(long, env = "SOCKEYE_CHAT_REFRESH_TOKEN_SECONDS", default_value_t = 2_592_000)]
    pub refresh_token_seconds: u64,
    /// Send the sign-in cookie over HTTPS only; set it behind a proxy that ends TLS
    #[arg(long, env = "SOCKEYE_CHAT_COOKIE_SECURE", default_value_t = false,
          action = clap::ArgAction::Set)]
    pub cookie_secure: bool,
    /// Sign-in attempts per minute, for each name and for each address
    #[arg(long, env = "SOCKEYE_CHAT_SIGN_INS_PER_MINUTE", default_value_t = 30)]
    pub sign_ins_per_minute: u32,
    /// Longest message, in characters
    #[arg(long, env = "SOCKEYE_CHAT_TEXT_CHARACTERS_MAX", default_value_t = 4000)]
    pub text_characters_max: usize,
    /// Longest name of a room, in characters
    #[arg(long, env = "SOCKEYE_CHAT_ROOM_CHARACTERS_MAX", default_value_t = 64)]
    pub room_characters_max: usize,
    /// Rooms that one connection may be in
    #[arg(long, env = "SOCKEYE_CHAT_ROOMS_MAX", default_value_t = 50)]
    pub rooms_max: usize,
    /// Messages per second and user, with a burst of five times that
    #[arg(long, env = "SOCKEYE_CHAT_MESSAGES_PER_SECOND", default_value_t = 20)]
    pub messages_per_second: u32,
    /// Messages of history that a joiner gets
    #[arg(long, env = "SOCKEYE_CHAT_HISTORY_MESSAGES", default_value_t = 50)]
    pub history_messages: usize,
    /// Time in which a lost connection's rooms can be restored, in seconds
    #[arg(long, env = "SOCKEYE_CHAT_RESTORE_SECONDS", default_value_t = 300)]
    pub restore_seconds: u64,
    /// Time that clients and handlers have when the server ends, in seconds
    #[arg(long, env = "SOCKEYE_CHAT_SHUTDOWN_SECONDS", default_value_t = 10)]
    pub shutdown_seconds: u64,
    /// Secret of the access tokens, at least 32 bytes; without one it is made and kept in the
    /// data folder
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,
}

impl Config {
    /// Reads the program's arguments, environment and file.
    ///
    /// # Errors
    /// A wrong value is named, with where it stands and what was expected. `--help` comes out as
    /// an error too, as clap has it.
    pub fn load(args: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let args: Vec<OsString> = args.into_iter().collect();
        let mut command = Self::command();
        if let Some(path) = config_path(&args) {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read the settings file {}", path.display()))?;
            let table: toml::Table =
                text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
            for (key, value) in table {
                let id = key.replace('-', "_");
                let known = command.get_arguments().any(|arg| arg.get_id() == id.as_str());
                if !known || id == "config" {
                    bail!("{}: there is no setting `{key}`; --help tells them", path.display());
                }
                // What the file says is the default that a flag or variable overrides; clap then
                // checks it like any other value.
                command = command.mut_arg(id, |arg| arg.default_value(plain(&value)));
            }
        }
        Ok(Self::from_arg_matches(&command.try_get_matches_from(args)?)?)
    }
}

fn config_path(args: &[OsString]) -> Option<PathBuf> {
    let mut words = args.iter().filter_map(|arg| arg.to_str());
    while let Some(word) = words.next() {
        match word.strip_prefix("--config") {
            Some("") => return words.next().map(PathBuf::from),
            Some(rest) if rest.starts_with('=') => return Some(PathBuf::from(&rest[1..])),
            _ => {}
        }
    }
    std::env::var_os("SOCKEYE_CHAT_CONFIG").map(PathBuf::from)
}

fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(args: &[&str]) -> Result<Config> {
        let words = std::iter::once("sockeye-chat").chain(args.iter().copied());
        Config::load(words.map(OsString::from))
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = std::env::temp_dir().join(format!("sockeye-chat-{}.toml", std::process::id()));
        std::fs::write(&file, "rooms-max = 7\nlisten = \"127.0.0.1:1\"\n").expect("written");
        let path = file.to_string_lossy().into_owned();
        let config = load(&["--config", &path, "--listen", "127.0.0.1:2"]).expect("settings");
        assert_eq!((config.rooms_max, config.listen.port()), (7, 2));
        std::fs::write(&file, "rooms-mx = 7\n").expect("written");
        let error = load(&["--config", &path]).expect_err("an unknown key");
        assert!(error.to_string().contains("`rooms-mx`"), "{error}");
        std::fs::remove_file(file).expect("removed");
    }

    #[test]
    fn a_wrong_value_is_named() {
        let error = load(&["--rooms-max", "many"]).expect_err("not a number").to_string();
        assert!(error.contains("many") && error.contains("--rooms-max"), "{error}");
    }
}
